"""What the end of an attempt means: may it be tried elsewhere, and is the node to blame?

Those are two separate questions. A node that has pruned the state asked for should be passed over for this request and
thought no less of; a node that answers 500 should be passed over *and* asked last. Each rule below answers both, and
two more: is the answer worth showing to the client when nothing better comes, and is it certain that the call was not
carried out, so that even a call that must not be sent twice may go elsewhere.

Rules for JSON-RPC errors are tried in order, the first that matches wins; a rule matches by code, by a pattern in the
message, or by both when it has both. The texts are those of geth, Nethermind, Erigon, Besu, Reth, anvil and hardhat.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evmlb.errors import Fault
from evmlb.jsonrpc import Answer, AnswerKind
from evmlb.methods import MethodClass


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an attempt's end means. ``fault`` None: the answer is the client's.

    ``retry``: another node may do better. ``blame``: this node should be avoided. ``informative``: better than an
    error of our own when nothing else comes. ``not_executed``: the node surely did not carry the call out.
    """

    fault: Fault | None = None
    retry: bool = False
    blame: bool = False
    informative: bool = False
    not_executed: bool = False

    def permits_retry(self, klass: MethodClass) -> bool:
        """Whether a call of this class may go to another node after this."""
        return self.retry and (klass < MethodClass.UNSAFE or self.not_executed)


ANSWER = Verdict()
"""The node's answer goes to the client as it is, be it a result or an error that is the client's own."""

_MISSING = Verdict(Fault.MISSING_DATA, retry=True, informative=True, not_executed=True)
_UNSUPPORTED = Verdict(Fault.UNSUPPORTED, retry=True, informative=True, not_executed=True)
_LIMITED = Verdict(Fault.RATE_LIMITED, retry=True, blame=True, not_executed=True)
_UNAUTHORIZED = Verdict(Fault.UNAUTHORIZED, retry=True, blame=True, not_executed=True)
_INTERNAL = Verdict(Fault.RPC_ERROR, retry=True, blame=True, informative=True)
_ELSEWHERE = Verdict(Fault.RPC_ERROR, retry=True, informative=True)
_REJECTED = Verdict(Fault.REJECTED, retry=True, informative=True, not_executed=True)
_GARBAGE = Verdict(Fault.GARBAGE, retry=True, blame=True)
_NULL = Verdict(Fault.NULL, retry=True, informative=True)


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table. No codes: any code. No pattern: any message."""

    name: str
    verdict: Verdict
    codes: frozenset[int] = frozenset()
    pattern: re.Pattern[str] | None = None

    def matches(self, code: int, message: str) -> bool:
        """Whether an error is of this kind."""
        if self.codes and code not in self.codes:
            return False
        return self.pattern is None or self.pattern.search(message) is not None


def _rule(name: str, verdict: Verdict, pattern: str = "", *codes: int) -> Rule:
    return Rule(name, verdict, frozenset(codes), re.compile(pattern, re.IGNORECASE) if pattern else None)


RULES: tuple[Rule, ...] = (
    _rule("reverted", ANSWER, "", 3),
    _rule("reverted", ANSWER, r"revert|VM exception|invalid opcode|^EVM error|stack (under|over)flow|out of gas"),
    _rule(
        "transaction refused",
        ANSWER,
        r"insufficient funds|nonce too (low|high)|already known|known transaction|already imported|underpriced"
        r"|intrinsic gas|gas limit|fee cap|max fee per gas|gas price below|invalid sender|exceeds block gas"
        r"|exceeds the configured cap|invalid transaction|transaction type not supported|rlp:|gas required exceeds",
    ),
    _rule("filter unknown", ANSWER, r"filter .*not found|unknown filter"),
    _rule(
        "range too large",
        _REJECTED,
        r"block range|range is too (large|wide)|too many (results|blocks|logs)|more than \d+ results|max results"
        r"|limited to a|response (size|is too)|query timeout exceeded",
    ),
    _rule(
        "rate limited",
        _LIMITED,
        r"rate limit|too many requests|request limit|quota|capacity (limit )?exceeded"
        r"|compute units|exceeded .*per second",
    ),
    _rule("rate limited", _LIMITED, "", -32005, 429, -32029),
    _rule("unauthorized", _UNAUTHORIZED, r"invalid api key|api key is|unauthori[sz]ed|authenticat|forbidden"),
    _rule(
        "data missing",
        _MISSING,
        r"missing trie node|header not found|header for hash not found|unknown (block|ancestor)|block.*not found"
        r"|(state|history|histor\w+).*(not|un)\s?available|pruned|no state available|cannot query unfinalized"
        r"|block (is )?out of range|beyond (current )?head|greater than latest|not currently canonical"
        r"|could not find block|resource not found|distance to target block exceeds"
        r"|transaction indexing is in progress",
    ),
    _rule("unsupported", _UNSUPPORTED, "", -32601, -32004),
    _rule(
        "unsupported",
        _UNSUPPORTED,
        r"method.*(not (found|supported|available|allowed|whitelisted|implemented|enabled)|does not exist|disabled)"
        r"|unsupported method|unknown method|not (yet )?implemented",
    ),
    _rule("the client's", ANSWER, "", -32602, -32600, -32700),
    _rule(
        "node timed out",
        Verdict(Fault.RPC_ERROR, retry=True, informative=True),
        r"timed? ?out|context (canceled|deadline)",
    ),
    _rule("node's inside", _INTERNAL, "", -32603),
    _rule("anything else", _ELSEWHERE),
)
"""The table. The last rule matches everything."""

_FAULTS: dict[Fault, Verdict] = {
    Fault.UNREACHABLE: Verdict(Fault.UNREACHABLE, retry=True, blame=True, not_executed=True),
    Fault.DISCONNECTED: Verdict(Fault.DISCONNECTED, retry=True, blame=True),
    Fault.TIMED_OUT: Verdict(Fault.TIMED_OUT, retry=True, blame=True),
    Fault.STALLED: Verdict(Fault.STALLED, retry=True, blame=True),
    Fault.GARBAGE: _GARBAGE,
}
OUT_OF_TIME = Verdict(Fault.TIMED_OUT)
"""The verdict on time that is up without anybody's fault: the whole request's, or a slow call's."""

_STATUSES: dict[int, Verdict] = {
    401: _UNAUTHORIZED,
    402: _LIMITED,
    403: _UNAUTHORIZED,
    429: _LIMITED,
    400: Verdict(Fault.REJECTED, retry=True, not_executed=True),
    404: Verdict(Fault.HTTP_ERROR, retry=True, blame=True, not_executed=True),
    405: Verdict(Fault.HTTP_ERROR, retry=True, blame=True, not_executed=True),
    413: Verdict(Fault.REJECTED, retry=True, not_executed=True),
    415: Verdict(Fault.REJECTED, retry=True, not_executed=True),
    422: Verdict(Fault.REJECTED, retry=True, not_executed=True),
}
_BAD_STATUS = Verdict(Fault.HTTP_ERROR, retry=True, blame=True)


def judge_fault(fault: Fault, klass: MethodClass, *, sent: bool = True) -> Verdict:
    """The verdict on an attempt that brought no answer.

    A slow call that runs out of time is neither repeated nor held against the node: it may simply be slow. ``sent``
    False: the node surely did not receive the request, whatever the fault.
    """
    if klass is MethodClass.SLOW and fault is Fault.TIMED_OUT:
        return OUT_OF_TIME
    verdict = _FAULTS[fault]
    return verdict if sent else replace(verdict, not_executed=True)


def judge_error(code: int, message: str) -> tuple[Verdict, str]:
    """The verdict on a JSON-RPC error, and the name of the rule that gave it."""
    for rule in RULES:
        if rule.matches(code, message):
            return rule.verdict, rule.name
    raise AssertionError("the last rule matches everything")


def judge_answer(status: int, answer: Answer) -> Verdict:
    """The verdict on a body. What is JSON-RPC is judged by its body, whatever the status says."""
    if answer.kind is AnswerKind.ERROR:
        if len(answer.errors) > 1:
            return _judge_members(answer.errors)
        return judge_error(answer.code, answer.message)[0]
    if answer.kind is not AnswerKind.GARBAGE:
        return ANSWER
    if status == 200:
        return _GARBAGE
    return _STATUSES.get(status, _BAD_STATUS)


def _judge_members(errors: Sequence[Answer]) -> Verdict:
    """The verdict on a batch of which every member failed: the node's doing only if all of them were."""
    verdicts = {judge_error(error.code, error.message)[0] for error in errors}
    if ANSWER in verdicts:
        return ANSWER
    telling = next((verdict for verdict in verdicts if verdict.informative), None) or next(iter(verdicts))
    return replace(
        telling,
        blame=all(verdict.blame for verdict in verdicts),
        not_executed=all(verdict.not_executed for verdict in verdicts),
    )


def judge_status(status: int) -> Verdict:
    """The verdict on an answer to something that is not JSON-RPC: the status is all there is to judge by.

    Blames nobody: the same node may do well what it is there for.
    """
    if status in (429, 502, 503, 504):
        return replace(_STATUSES.get(status, _BAD_STATUS), blame=False)
    return ANSWER


NULL_ELSEWHERE = _NULL
"""The verdict on a null where the chainhead says that there should be something: ask elsewhere, blame nobody."""
