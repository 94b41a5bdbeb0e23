"""What came back, weighed with the exchange it belongs to.

:mod:`evmlb.policy.verdicts` knows what a status, an error code, a fault means. Here is what it takes to ask it, and
what one exchange adds to its answer:

* an answer is read as far as a verdict needs: that to a batch member by member (:mod:`.members`), a large one by its
  beginning only;
* what an error repeats of the request is no witness against the node (:mod:`evmlb.policy.echoes`);
* a null is doubted once, at the first node asked (:mod:`evmlb.policy.nulls`);
* what is not there is looked for elsewhere only if somebody can have it (:mod:`evmlb.policy.missing`);
* a fault that a path, a query or a header of the client's can bring about does not blame;
* time that is up is the node's doing only while the request itself had time left;
* when nobody is left to ask, the client is told the most informative answer (:mod:`evmlb.policy.merging`), else what
  all the verdicts amount to.

Nothing here is on the way of a plain good answer. Verdicts come out; acting on them is the router's.
"""

from __future__ import annotations

from dataclasses import replace

from evmlb.errors import BAD_UPSTREAM, DEADLINE, NOT_CARRIED, NOT_TAKEN, RATE_LIMITED, Fault, Refusal
from evmlb.exchange import Exchange
from evmlb.interfaces import AnswerHead
from evmlb.jsonrpc import Answer, AnswerKind, Call, begins_plain_result, read_answer
from evmlb.network import Network
from evmlb.policy.blocks import named_block
from evmlb.policy.echoes import Echoes
from evmlb.policy.merging import worth
from evmlb.policy.missing import may_be_elsewhere
from evmlb.policy.nulls import is_doubtful
from evmlb.policy.ratelimit import parse_retry_after
from evmlb.policy.verdicts import ANSWER, NULL_ELSEWHERE, OUT_OF_TIME, Blame, Verdict, Verdicts, judge_fault
from evmlb.routing.attempts import SHORT, WAITING, Attempt
from evmlb.routing.effort import batch_in, effort_of, made_effort
from evmlb.routing.members import MemberJudge
from evmlb.texts import words_of

_SHOWN_CHARACTERS = 200
_TEXT_BYTES = 1000
"""So much of a body that is no JSON-RPC is looked at for what it says."""
_OF_THE_TARGET = frozenset((Fault.HTTP_ERROR, Fault.GARBAGE, Fault.UNAUTHORIZED))
"""What a path, a query or a header of the client's can bring about at a node that is well."""
_NEVER_SENT = {Fault.REJECTED: NOT_TAKEN, Fault.UNSUPPORTED: NOT_CARRIED}
"""What the client is told when the way to every node was no way for its request."""
_GARBAGE = Answer(AnswerKind.GARBAGE)


class Judge:
    """Weighs the answers of one network's nodes by the table of ``verdicts``."""

    def __init__(self, network: Network, verdicts: Verdicts) -> None:
        self._network = network
        self._verdicts = verdicts
        self._members = MemberJudge(network, verdicts, self._of_body)

    def whole(self, attempt: Attempt, head: AnswerHead, parts: list[bytes]) -> Verdict:
        """The verdict on a whole answer."""
        verdict = self._judge_answer(attempt, head, parts)
        exchange = attempt.exchange
        if verdict.blame and (exchange.target or exchange.headers) and verdict.fault in _OF_THE_TARGET:
            return replace(verdict, blame=Blame.NONE)
        return verdict

    def _judge_answer(self, attempt: Attempt, head: AnswerHead, parts: list[bytes]) -> Verdict:
        call = attempt.exchange.call
        if call is None:
            return self._verdicts.judge_status(head.status) if attempt.repeatable else ANSWER
        if head.is_encoded:
            return self._of_body(attempt, head, _GARBAGE, b"")
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        if not _is_owed_answer(attempt.exchange, call) and head.status in (200, 202, 204) and not body.strip():
            return ANSWER
        if call.members is not None:
            return self._members.judge(attempt, call, head, body)
        answer = read_answer(body, call.id or b"null")
        if answer.kind is AnswerKind.NULL:
            return self._judge_null(attempt, call)
        return self._weigh(attempt, call, self._of_body(attempt, head, answer, body))

    def _weigh(self, attempt: Attempt, call: Call, verdict: Verdict) -> Verdict:
        """What nobody can have is the client's affair: it is not looked for at every node."""
        network = self._network
        if not verdict.not_there_yet or may_be_elsewhere(
            call.method, call.params, network.chainhead, attempt.node.head, new_blocks=network.new_blocks
        ):
            return verdict
        return Verdict(rule=verdict.rule)

    def _of_body(self, attempt: Attempt, head: AnswerHead, answer: Answer, body: bytes) -> Verdict:
        exchange = attempt.exchange
        return self._verdicts.judge_answer(
            200 if head.is_encoded else head.status,
            answer,
            text=body[:_TEXT_BYTES].decode("utf-8", "replace") if answer.kind is AnswerKind.GARBAGE else "",
            method=exchange.call.method if exchange.call is not None else "",
            klass=exchange.klass,
            provider=attempt.node.provider,
            retry_after=bool(head.value(b"retry-after")),
            echoes=Echoes(exchange.call, exchange.target + exchange.headers),
        )

    def _judge_null(self, attempt: Attempt, call: Call) -> Verdict:
        """A null is doubted once; where a block is named that was announced, until all have said so twice."""
        doubtful = is_doubtful(call.method, call.params, self._network.chainhead, attempt.node.head)
        return NULL_ELSEWHERE if doubtful and _is_due(attempt.exchange) else ANSWER

    def beginning(self, attempt: Attempt, head: AnswerHead, parts: list[bytes]) -> Verdict:
        """The verdict on an answer too large to be held, by what there is of it."""
        call = attempt.exchange.call
        if call is None or head.is_encoded:
            return self.whole(attempt, head, parts)
        if head.status == 200 and begins_plain_result(parts[0], call.id):
            return ANSWER
        beginning = b"".join(parts)
        if call.members is not None and beginning.lstrip(b" \t\r\n")[:1] == b"[":
            return ANSWER if head.status == 200 else self._of_body(attempt, head, _GARBAGE, b"")
        answer = read_answer(beginning, call.id or b"null", complete=False)
        return self._of_body(attempt, head, answer, beginning)


def detail_of(attempt: Attempt, head: AnswerHead, parts: list[bytes]) -> str:
    """What was wrong with an answer, in words for the log and the pages of operators."""
    if head.is_encoded:
        return "compressed without being asked to"
    call, body = attempt.exchange.call, b"".join(parts)
    batch = batch_in(attempt.exchange)
    if call is not None and batch is not None:
        return f"HTTP {head.status}, {len(batch.left)} of {len(call.members or ())} calls not answered"
    if call is None:
        return f"HTTP {head.status}"
    status = "" if head.status == 200 else f"HTTP {head.status}: "
    answer = read_answer(body, call.id or b"null")
    if answer.kind is AnswerKind.ERROR:
        return f"{status}error {answer.code}: {answer.message[:_SHOWN_CHARACTERS]}"
    if status or call.members is not None:
        said = words_of(body) if answer.kind is AnswerKind.GARBAGE else ""
        return f"HTTP {head.status}: {said}" if said else f"HTTP {head.status}"
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
    """Keep the answer that tells the client most; of equal ones the first."""
    exchange = attempt.exchange
    effort = effort_of(exchange)
    if effort.batch is not None:
        tells = effort.batch.tells
    else:
        is_better = effort.saved is None or worth(effort.saved[1]) < worth(verdict)
        tells = verdict.informative and exchange.call is not None and is_better
    if tells and b"".join(parts).lstrip(b" \t\r\n")[:1] in (b"{", b"["):
        effort.saved = (attempt, verdict, head, parts)


def retry_after_of(head: AnswerHead, unix_time: float) -> float | None:
    """When a limited node wants to be asked again, in seconds; None when it does not say, or not readably."""
    value = head.value(b"retry-after")
    return parse_retry_after(value, unix_time) if value else None


def refusal_of(exchange: Exchange, now: float) -> Refusal:
    """What the client is told when every attempt failed and no answer was saved."""
    effort = effort_of(exchange)
    faults = {verdict.fault for verdict in effort.verdicts}
    if faults == {Fault.RATE_LIMITED}:
        return RATE_LIMITED.after(effort.retry_after_seconds)
    if faults and faults <= _NEVER_SENT.keys():
        return next(refusal for fault, refusal in _NEVER_SENT.items() if fault in faults)
    if now >= exchange.deadline or faults & {Fault.TIMED_OUT, Fault.STALLED}:
        return DEADLINE
    return BAD_UPSTREAM


def _is_owed_answer(exchange: Exchange, call: Call) -> bool:
    """Whether the node owes anything but an empty answer: not where it is sent notifications only."""
    batch = batch_in(exchange)
    return call.expects_answer if batch is None else bool(batch.asked)


def _is_due(exchange: Exchange) -> bool:
    """Whether a null is doubted: for the first time, or again because it names a block that was announced."""
    call, effort = exchange.call, made_effort(exchange)
    if call is None or (effort is not None and effort.paused):
        return False
    if effort is None or all(verdict is not NULL_ELSEWHERE for verdict in effort.verdicts):
        return True
    return named_block(call.method, call.params) is not None
