"""What came back, weighed with the exchange it belongs to.

:mod:`evmlb.policy.verdicts` knows what a status, an error code, a fault means. Here is what it takes to ask it, and
what one exchange adds to its answer:

* an answer is read as far as a verdict needs: a batch as one unit, a large answer by its beginning only;
* a null is doubted once, at the first node asked (:mod:`evmlb.policy.nulls`);
* a fault that a path, a query or a header of the client's can bring about does not blame;
* time that is up is the node's doing only while the request itself had time left;
* when nobody is left to ask, the client is told the first informative answer, else what all the verdicts amount to.

Nothing here is on the way of a plain good answer. Verdicts come out; acting on them is the router's.
"""

from __future__ import annotations

from dataclasses import replace

from evmlb.errors import BAD_UPSTREAM, DEADLINE, RATE_LIMITED, Fault, Refusal
from evmlb.exchange import SHORT, WAITING, Attempt, Exchange
from evmlb.interfaces import AnswerHead
from evmlb.jsonrpc import Answer, AnswerKind, Call, begins_plain_result, read_answer, read_batch_answer
from evmlb.policy.nulls import is_doubtful
from evmlb.policy.verdicts import (
    ANSWER,
    NULL_ELSEWHERE,
    OUT_OF_TIME,
    Verdict,
    judge_answer,
    judge_fault,
    judge_status,
)

_WHOLE_BATCH_BYTES = 16_384
"""Batch answers up to this size are read whole; larger ones only when something about them looks like an error."""
_OF_THE_TARGET = frozenset((Fault.HTTP_ERROR, Fault.GARBAGE, Fault.UNAUTHORIZED))
"""What a path, a query or a header of the client's can bring about at a node that is well."""
_GARBAGE = Answer(AnswerKind.GARBAGE)


def judge(attempt: Attempt, head: AnswerHead, parts: list[bytes], chainhead: int | None) -> Verdict:
    """The verdict on a whole answer. ``chainhead`` is the network's, by which nulls are doubted."""
    verdict = _judge_answer(attempt, head, parts, chainhead)
    exchange = attempt.exchange
    if verdict.blame and (exchange.target or exchange.headers) and verdict.fault in _OF_THE_TARGET:
        return replace(verdict, blame=False)
    return verdict


def _judge_answer(attempt: Attempt, head: AnswerHead, parts: list[bytes], chainhead: int | None) -> Verdict:
    call = attempt.exchange.call
    if call is None:
        return judge_status(head.status) if attempt.repeatable else ANSWER
    if head.is_encoded:
        return judge_answer(200, _GARBAGE)
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    if not call.expects_answer and head.status in (200, 202, 204) and not body.strip():
        return ANSWER
    if call.members is not None:
        return _judge_batch(call, head, body)
    answer = read_answer(body, call.id or b"null", to_the_end=not head.keep_alive)
    if answer.kind is AnswerKind.NULL:
        return _judge_null(attempt, call, chainhead)
    return judge_answer(head.status, answer)


def _judge_batch(call: Call, head: AnswerHead, body: bytes) -> Verdict:
    """A batch is one unit: it failed when its array did, or when every member of it did."""
    plain = head.status == 200 and body[:1] == b"[" and b'"error"' not in body and body.rstrip().endswith(b"]")
    if plain and len(body) > _WHOLE_BATCH_BYTES:
        return ANSWER
    return judge_answer(head.status, read_batch_answer(body, call))


def _judge_null(attempt: Attempt, call: Call, chainhead: int | None) -> Verdict:
    doubtful = attempt.exchange.attempts == 1 and is_doubtful(call.method, call.params, chainhead, attempt.node.head)
    return NULL_ELSEWHERE if doubtful else ANSWER


def judge_beginning(attempt: Attempt, head: AnswerHead, parts: list[bytes], chainhead: int | None) -> Verdict:
    """The verdict on an answer too large to be held, by what there is of it."""
    call = attempt.exchange.call
    if call is None or head.is_encoded:
        return judge(attempt, head, parts, chainhead)
    if head.status == 200 and begins_plain_result(parts[0], call.id):
        return ANSWER
    beginning = b"".join(parts)
    if call.members is not None and beginning.lstrip(b" \t\r\n")[:1] == b"[":
        return ANSWER if head.status == 200 else judge_answer(head.status, _GARBAGE)
    return judge_answer(head.status, read_answer(beginning, call.id or b"null", complete=False))


def detail_of(attempt: Attempt, head: AnswerHead, parts: list[bytes]) -> str:
    """What was wrong with an answer, in words for the log and the pages of operators."""
    if head.is_encoded:
        return "compressed without being asked to"
    call, body = attempt.exchange.call, b"".join(parts)
    if call is None or call.members is not None or head.status != 200:
        return f"HTTP {head.status}"
    answer = read_answer(body, call.id or b"null", to_the_end=not head.keep_alive)
    if answer.kind is AnswerKind.ERROR:
        return f"error {answer.code}: {answer.message[:200]}"
    return answer.why or answer.kind.value


def judge_lateness(attempt: Attempt) -> tuple[Verdict, str]:
    """The verdict on an attempt whose time is up, and why: that of the whole request is nobody's fault."""
    exchange = attempt.exchange
    if attempt.stage == WAITING:
        return judge_fault(Fault.TIMED_OUT, exchange.klass), "no answer in time"
    if attempt.stage == SHORT or attempt.deadline >= exchange.deadline:
        return OUT_OF_TIME, "the request's time was up"
    return judge_fault(Fault.STALLED, exchange.klass), "the answer stood still"


def save(attempt: Attempt, verdict: Verdict, head: AnswerHead, parts: list[bytes]) -> None:
    """Keep the first answer that tells the client something, and what a limit says of when to come back."""
    exchange = attempt.exchange
    if verdict.informative and exchange.saved is None and exchange.call is not None and b"".join(parts).strip():
        is_body = parts[0].lstrip(b" \t\r\n")[:1] in (b"{", b"[")
        if is_body:
            exchange.saved = (attempt, head, parts)
    if verdict.fault is Fault.RATE_LIMITED:
        seconds = _seconds(head.value(b"retry-after"))
        if seconds is not None:
            known = exchange.retry_after_seconds
            exchange.retry_after_seconds = seconds if known is None else min(known, seconds)


def refusal_of(exchange: Exchange, now: float) -> Refusal:
    """What the client is told when every attempt failed and no answer was saved."""
    faults = {verdict.fault for verdict in exchange.verdicts}
    if faults == {Fault.RATE_LIMITED}:
        return Refusal(429, RATE_LIMITED.code, RATE_LIMITED.message, exchange.retry_after_seconds or 1)
    if now >= exchange.deadline or faults & {Fault.TIMED_OUT, Fault.STALLED}:
        return DEADLINE
    return BAD_UPSTREAM


def _seconds(value: bytes) -> int | None:
    """A Retry-After in seconds; a date is not understood and counts as none."""
    return int(value) if value.isdigit() and len(value) < 6 else None
