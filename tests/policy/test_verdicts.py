"""What the end of an attempt means: retry elsewhere and blame, apart."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.errors import Fault
from evmlb.jsonrpc import Answer, AnswerKind
from evmlb.methods import MethodClass
from evmlb.policy.verdicts import (
    ANSWER,
    NULL_ELSEWHERE,
    RULES,
    Verdict,
    judge_answer,
    judge_error,
    judge_fault,
    judge_status,
)
from tests.support import run_property

# The texts are those that nodes and providers really send.
ERRORS = {
    "reverted": [
        (3, "execution reverted: ERC20: transfer amount exceeds balance"),
        (-32000, "execution reverted"),
        (-32015, "VM execution error. revert"),
        (-32603, "VM Exception while processing transaction: revert"),
        (-32000, "invalid opcode: opcode 0xfe not defined"),
        (-32000, "out of gas"),
    ],
    "transaction refused": [
        (-32000, "insufficient funds for gas * price + value"),
        (-32000, "nonce too low: next nonce 5, tx nonce 4"),
        (-32000, "already known"),
        (-32010, "AlreadyKnown: already imported"),
        (-32000, "replacement transaction underpriced"),
        (-32000, "intrinsic gas too low"),
    ],
    "filter unknown": [(-32000, "filter not found")],
    "range too large": [
        (-32005, "query returned more than 10000 results"),
        (-32000, "block range is too wide"),
        (-32602, "eth_getLogs is limited to a 10,000 range"),
        (-32600, "Block range limit exceeded"),
    ],
    "rate limited": [
        (-32005, "daily request count exceeded, request rate limited"),
        (429, "slow down"),
        (-32029, "Too many requests"),
        (-32000, "Your app has exceeded its compute units per second capacity"),
        (-32097, "quota exceeded"),
    ],
    "unauthorized": [(-32000, "invalid api key"), (-32600, "Must be authenticated!"), (-32001, "Unauthorized")],
    "data missing": [
        (-32000, "missing trie node 3f0 (path ) state 0x3f0 is not available"),
        (-32000, "header not found"),
        (-32001, "Unknown block"),
        (-32000, "block not found"),
        (-32000, "historical state abc is not available"),
        (4444, "pruned history unavailable"),
        (-32002, "No state available for block 0x1"),
        (-32000, "distance to target block exceeds maximum proof window"),
    ],
    "unsupported": [
        (-32601, "the method debug_x does not exist/is not available"),
        (-32004, "whatever"),
        (-32000, "Method eth_x not supported"),
        (-32000, "rpc method is not whitelisted"),
        (-32600, "Unsupported method: trace_block"),
    ],
    "the client's": [(-32602, "invalid argument 0: hex string of odd length"), (-32600, "x"), (-32700, "parse")],
    "node timed out": [(-32000, "execution timeout: timed out"), (-32603, "context deadline exceeded")],
    "node's inside": [(-32603, "Internal error"), (-32603, "")],
    "anything else": [(-32000, "something nobody has seen"), (0, ""), (12345, "odd")],
}
WANTED = {  # retry, blame, informative, not executed
    "reverted": (False, False, False, False),
    "transaction refused": (False, False, False, False),
    "filter unknown": (False, False, False, False),
    "range too large": (True, False, True, True),
    "rate limited": (True, True, False, True),
    "unauthorized": (True, True, False, True),
    "data missing": (True, False, True, True),
    "unsupported": (True, False, True, True),
    "the client's": (False, False, False, False),
    "node timed out": (True, False, True, False),
    "node's inside": (True, True, True, False),
    "anything else": (True, False, True, False),
}


def columns(verdict: Verdict) -> tuple[bool, bool, bool, bool]:
    return (verdict.retry, verdict.blame, verdict.informative, verdict.not_executed)


class ErrorTests(SynchronousTestCase):
    def test_texts(self) -> None:
        """The errors of real nodes get the verdict of their kind."""
        for name, errors in ERRORS.items():
            for code, message in errors:
                verdict, rule = judge_error(code, message)
                self.assertEqual((rule, columns(verdict)), (name, WANTED[name]), (code, message))

    def test_every_rule(self) -> None:
        """Every rule of the table has an error that shows it, and the last matches everything."""
        self.assertEqual({rule.name for rule in RULES}, set(ERRORS))
        self.assertTrue(RULES[-1].matches(-1, ""))

    def test_case(self) -> None:
        """Messages are read without regard to case."""
        self.assertEqual(judge_error(-32000, "HEADER NOT FOUND")[1], "data missing")

    def test_anything(self) -> None:
        """Every code and message has a verdict."""

        @given(st.integers(), st.text())
        def check(code: int, message: str) -> None:
            verdict, _ = judge_error(code, message)
            self.assertTrue(verdict.fault is not None or verdict is ANSWER)

        run_property(check)


class AnswerTests(SynchronousTestCase):
    def test_results(self) -> None:
        """A result, and a null, is the client's, whatever the status."""
        for kind in (AnswerKind.RESULT, AnswerKind.NULL):
            for status in (200, 404, 500):
                self.assertIs(judge_answer(status, Answer(kind)), ANSWER)

    def test_statuses(self) -> None:
        """A body that is no JSON-RPC is judged by its status."""
        garbage = Answer(AnswerKind.GARBAGE)
        for status, fault, retry, blame, not_executed in (
            (200, Fault.GARBAGE, True, True, False),
            (301, Fault.HTTP_ERROR, True, True, False),
            (400, Fault.REJECTED, True, False, True),
            (401, Fault.UNAUTHORIZED, True, True, True),
            (402, Fault.RATE_LIMITED, True, True, True),
            (403, Fault.UNAUTHORIZED, True, True, True),
            (404, Fault.HTTP_ERROR, True, True, True),
            (413, Fault.REJECTED, True, False, True),
            (415, Fault.REJECTED, True, False, True),
            (422, Fault.REJECTED, True, False, True),
            (429, Fault.RATE_LIMITED, True, True, True),
            (500, Fault.HTTP_ERROR, True, True, False),
            (502, Fault.HTTP_ERROR, True, True, False),
            (503, Fault.HTTP_ERROR, True, True, False),
            (504, Fault.HTTP_ERROR, True, True, False),
            (599, Fault.HTTP_ERROR, True, True, False),
        ):
            verdict = judge_answer(status, garbage)
            self.assertEqual(
                (verdict.fault, verdict.retry, verdict.blame, verdict.not_executed),
                (fault, retry, blame, not_executed),
                status,
            )

    def test_members(self) -> None:
        """A batch of errors fails only when all of them are the node's; it blames only when all of them do."""

        def judge(*codes: int) -> Verdict:
            errors = tuple(Answer(AnswerKind.ERROR, code, "x") for code in codes)
            return judge_answer(200, Answer(AnswerKind.ERROR, codes[0], "x", errors=errors))

        self.assertEqual(columns(judge(-32603, -32603)), (True, True, True, False))
        self.assertEqual(columns(judge(-32603, -32601)), (True, False, True, False))
        self.assertEqual(columns(judge(-32005, -32005)), (True, True, False, True))
        self.assertEqual(columns(judge(-32005, -32603)), (True, True, True, False))
        self.assertIs(judge(-32603, -32602, -32603), ANSWER)
        self.assertEqual(judge(-32603), judge_error(-32603, "x")[0])

    def test_opaque(self) -> None:
        """For what is not JSON-RPC only gateway errors and limits are tried elsewhere, and nobody is blamed."""
        for status in (200, 204, 301, 400, 404, 500, 501):
            self.assertIs(judge_status(status), ANSWER)
        for status in (429, 502, 503, 504):
            self.assertEqual((judge_status(status).retry, judge_status(status).blame), (True, False))


class FaultTests(SynchronousTestCase):
    def test_transport(self) -> None:
        """Transport faults blame and are tried elsewhere; unsafe calls only if nothing can have been received."""
        for fault in (Fault.UNREACHABLE, Fault.DISCONNECTED, Fault.GARBAGE, Fault.STALLED, Fault.TIMED_OUT):
            verdict = judge_fault(fault, MethodClass.FAST)
            self.assertEqual((verdict.retry, verdict.blame), (True, True))
            self.assertTrue(verdict.permits_retry(MethodClass.SLOW))
            self.assertEqual(verdict.permits_retry(MethodClass.UNSAFE), fault is Fault.UNREACHABLE)
            self.assertTrue(judge_fault(fault, MethodClass.UNSAFE, sent=False).permits_retry(MethodClass.UNSAFE))

    def test_slow_timeout(self) -> None:
        """A slow call's timeout is neither repeated nor blamed; its other faults are."""
        verdict = judge_fault(Fault.TIMED_OUT, MethodClass.SLOW)
        self.assertEqual((verdict.fault, verdict.retry, verdict.blame), (Fault.TIMED_OUT, False, False))
        self.assertTrue(judge_fault(Fault.STALLED, MethodClass.SLOW).blame)

    def test_null(self) -> None:
        """A doubted null is asked elsewhere without blame, and is worth showing."""
        self.assertEqual(columns(NULL_ELSEWHERE), (True, False, True, False))
