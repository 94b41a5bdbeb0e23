"""A question of our own: one answer, good or bad, as a Deferred."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from evmlb.errors import Fault
from evmlb.interfaces import AnswerHead
from evmlb.question import MAX_ANSWER_BYTES, AskFailed, ask, request
from tests.support import FakeHead, Sent, UpstreamSpy

RETRY_AFTER = ((b"retry-after", b"7"),)


class AskTests(SynchronousTestCase):
    def ask(self) -> tuple[Deferred[object], Sent]:
        upstream = UpstreamSpy()
        self.events = upstream.events
        return ask(upstream, "eth_x"), upstream.last

    def test_result(self) -> None:
        """The result is what the Deferred fires with; an error beside it of null is none."""
        answer, sent = self.ask()
        sent.answer(b'{"id":1,"error":null,"result":[1]}')
        self.assertEqual(self.successResultOf(answer), [1])

    def test_large(self) -> None:
        """A large answer is put together; one that is too large is given up."""
        answer, sent = self.ask()
        sent.begin(b'{"id":1,"result":"')
        sent.sink.progressed()
        sent.sink.streamed(b"x" * 1_000_000)
        sent.sink.streamed(b'"}')
        sent.sink.ended()
        self.assertEqual(self.successResultOf(answer), "x" * 1_000_000)
        answer, sent = self.ask()
        sent.begin(b"x" * MAX_ANSWER_BYTES)
        sent.sink.streamed(b"x")
        sent.sink.streamed(b"x")
        self.failureResultOf(answer, AskFailed)
        self.assertEqual(self.events, [("a", "send"), ("a", "cancel")])

    def test_after_the_end(self) -> None:
        """What comes after a cancellation is ignored."""
        answer, sent = self.ask()
        answer.cancel()
        self.failureResultOf(answer)
        sent.result()
        sent.fail(Fault.GARBAGE)
        sent.sink.answered(FakeHead(), [b"x"])

    def test_an_error(self) -> None:
        """What the node said is there in parts, for others to judge by."""
        answer, sent = self.ask()
        sent.error(-32000, "header not found")
        error = self.failureResultOf(answer, AskFailed).value
        self.assertEqual((error.fault, error.code, error.message), (Fault.RPC_ERROR, -32000, "header not found"))
        self.assertEqual((str(error), error.retry_after), ("rpc_error: error -32000: header not found", b""))

    def test_odd_errors(self) -> None:
        """An error of any shape is one; a code that is no number is none."""
        for body, code, message in (
            (b'"wrong"', None, "wrong"),
            (b"[1]", None, "[1]"),
            (b"{}", None, "None"),
            (b'{"code":true,"message":5}', None, "5"),
            (b'{"code":"429","message":"x"}', None, "x"),
            (b'{"code":1.5,"message":"%b"}' % (b"x" * 999), None, "x" * 200),
        ):
            answer, sent = self.ask()
            sent.answer(b'{"id":1,"error":%b}' % body)
            error = self.failureResultOf(answer, AskFailed).value
            self.assertEqual((error.fault, error.code, error.message), (Fault.RPC_ERROR, code, message))

    def test_rate_limits(self) -> None:
        """A rate limit is one, in a status or in JSON-RPC, and its Retry-After is kept."""
        error = b'{"id":1,"error":{"code":%d,"message":"x"}}'
        for status, body, code in (
            (429, b"slow down", None),
            (200, error % -32005, -32005),
            (200, error % 429, 429),
            (429, error % -32000, -32000),
        ):
            answer, sent = self.ask()
            sent.answer(body, status, RETRY_AFTER)
            failed = self.failureResultOf(answer, AskFailed).value
            self.assertEqual((failed.fault, failed.code, failed.retry_after), (Fault.RATE_LIMITED, code, b"7"))

    def test_no_answer(self) -> None:
        """Without a JSON-RPC answer the status says what is wrong."""
        for status, fault in (
            (200, Fault.GARBAGE),
            (401, Fault.UNAUTHORIZED),
            (403, Fault.UNAUTHORIZED),
            (503, Fault.HTTP_ERROR),
        ):
            answer, sent = self.ask()
            sent.answer(b"<html>", status, RETRY_AFTER)
            failed = self.failureResultOf(answer, AskFailed).value
            self.assertEqual((failed.fault, failed.retry_after, failed.code), (fault, b"7", None))

    def test_words_of_a_refusal(self) -> None:
        """What a page or a body of another form says is in the reason, short and without keys."""
        for body, words in (
            (b"", ""),
            (b"<html>", ""),
            (
                b"<html><title>403 Forbidden</title><p>User-Agent\n required</html>",
                ": 403 Forbidden User-Agent required",
            ),
            (b'{"message":"Missing Accept"}', ': {"message":"Missing Accept"}'),
            (b"no https://n.test/v2/0123456789abcdef0", ": no https://n.test/v2/***"),
            (b"no route /v2/0123456789abcdef0", ": no route /v2/***"),
            (b"x " * 9000, ": " + "x " * 80 + "... ("),
        ):
            answer, sent = self.ask()
            sent.answer(body, 403)
            failed = str(self.failureResultOf(answer, AskFailed).value)
            begin = f"unauthorized: HTTP 403 without a JSON-RPC answer{words}"
            self.assertTrue(failed.startswith(begin), failed)
            self.assertTrue(words or failed == begin, failed)

    def test_cancelling(self) -> None:
        """Cancelling ends the upstream work."""
        answer, _ = self.ask()
        answer.cancel()
        self.failureResultOf(answer)
        self.assertEqual(self.events, [("a", "send"), ("a", "cancel")])


class RequestTests(SynchronousTestCase):
    def request(self) -> tuple[Deferred[AnswerHead], Sent]:
        upstream = UpstreamSpy()
        self.events = upstream.events
        return request(upstream, b"body", method=b"PUT", target=b"?", headers=b"X: y\r\n"), upstream.last

    def test_what_is_sent(self) -> None:
        """It goes out as it is given."""
        _, sent = self.request()
        self.assertEqual((sent.body, sent.method, sent.target, sent.headers), (b"body", b"PUT", b"?", b"X: y\r\n"))

    def test_any_answer(self) -> None:
        """Any status with any body is an answer."""
        for status, body in ((200, b""), (204, b""), (404, b"<html>"), (500, b"\xff\x00")):
            answer, sent = self.request()
            sent.answer(body, status, RETRY_AFTER)
            head = self.successResultOf(answer)
            self.assertEqual((head.status, head.value(b"retry-after")), (status, b"7"))

    def test_an_answer_without_end(self) -> None:
        """Of a large answer only the beginning is waited for; the rest is not read."""
        answer, sent = self.request()
        sent.begin(b"x" * 300_000, status=202)
        self.assertEqual(self.successResultOf(answer).status, 202)
        sent.sink.streamed(b"x")
        sent.sink.progressed()
        sent.sink.ended()
        self.assertEqual(self.events, [("a", "send"), ("a", "cancel")])

    def test_failure(self) -> None:
        """Without an answer it fails, once."""
        answer, sent = self.request()
        sent.fail(Fault.GARBAGE, "the answer is not HTTP")
        error = self.failureResultOf(answer, AskFailed).value
        self.assertEqual((error.fault, error.message), (Fault.GARBAGE, "the answer is not HTTP"))
        sent.fail()
        sent.answer(b"x")
