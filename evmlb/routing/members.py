"""The members of a batch's answer, each judged by itself.

A batch whose answer is plainly good in every member costs one look. Else each member gets the verdict that it would
have by itself: its error by the table, with its own method and class; its null as doubted as any. What is the client's
is settled, what another node may do better is left (:mod:`.batches`), and the verdict on the attempt is what those on
the failed members come to (:mod:`evmlb.policy.merging`). An error that stands in place of the array is one of the whole
batch.

An unsafe member that failed is left only if it surely was not carried out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from evmlb.errors import Fault
from evmlb.interfaces import AnswerHead
from evmlb.jsonrpc import Answer, AnswerKind, BatchAnswer, Call, members_of, read_batch_answer
from evmlb.methods import UNSAFE
from evmlb.network import Network
from evmlb.policy.blocks import named_block
from evmlb.policy.echoes import Echoes
from evmlb.policy.members import MAX_MEMBERS_READ
from evmlb.policy.merging import merged, worth
from evmlb.policy.missing import may_be_elsewhere
from evmlb.policy.nulls import is_doubtful
from evmlb.policy.verdicts import ANSWER, NULL_ELSEWHERE, Verdict, Verdicts
from evmlb.routing.attempts import Attempt
from evmlb.routing.batches import Batch
from evmlb.routing.effort import batch_in, batch_of, effort_of, made_effort

MAX_JUDGED = 32
"""So many different errors of one answer are looked up in the table. Others are taken for unknown ones."""
_NOT_LOOKED_UP = Verdict(Fault.RPC_ERROR, retry=True, informative=True)


class MemberJudge:
    """Weighs the answers to batches. ``of_whole`` gives the verdict on an answer that is no array of answers."""

    def __init__(
        self,
        network: Network,
        verdicts: Verdicts,
        of_whole: Callable[[Attempt, AnswerHead, Answer, bytes], Verdict],
    ) -> None:
        self._network = network
        self._verdicts = verdicts
        self._of_whole = of_whole

    def judge(self, attempt: Attempt, call: Call, head: AnswerHead, body: bytes) -> Verdict:
        """The verdict on the answer to a batch; what became of its members is kept with the exchange."""
        batch = batch_in(attempt.exchange)
        ids = [member.id for member in call.members or () if member.id] if batch is None else batch.ids
        read = read_batch_answer(body, ids)
        if read.whole.kind is not AnswerKind.RESULT:
            return self._judge_whole(attempt, head, read, body)
        if read.members:
            return self._judge_each(attempt, call, head, read)
        if batch is not None:
            for place, answer in zip(batch.asked, members_of(body), strict=True):
                batch.settle(place, answer)
        return ANSWER

    def _judge_whole(self, attempt: Attempt, head: AnswerHead, read: BatchAnswer, body: bytes) -> Verdict:
        verdict = self._of_whole(attempt, head, read.whole, body)
        batch = batch_of(attempt.exchange) if read.error else None
        if batch is not None and (verdict.informative or verdict.fault is None):
            batch.offer_all(worth(verdict), read.error)
        return verdict

    def _judge_each(self, attempt: Attempt, call: Call, head: AnswerHead, read: BatchAnswer) -> Verdict:
        exchange = attempt.exchange
        batch = batch_in(exchange) or Batch(call, exchange.body)
        verdict_on = _Lookups(self._verdicts, attempt, head)
        batch.lacking.clear()
        failed: list[Verdict] = []
        rule = ""
        for each in read.members:
            place = batch.asked[each.place]
            member = batch.members[place]
            verdict = self._judge_member(attempt, batch, place, each.answer, verdict_on)
            if verdict.unsupported:
                batch.lacking.add(member.method)
            if not verdict.permits_retry(member.klass is not UNSAFE):
                rule = rule or verdict.rule
                batch.settle(place, each.raw)
            elif not batch.is_settled(place):  # by another node, asked for the same
                failed.append(verdict)
                if verdict.informative:
                    batch.offer(place, worth(verdict), each.raw)
        if failed or read.is_mended:
            effort_of(exchange).batch = batch
        if not failed:
            return Verdict(rule=rule) if rule else ANSWER
        # what is left may go on, whatever else was in the batch
        return replace(merged(failed), not_executed=True) if exchange.klass is UNSAFE else merged(failed)

    def _judge_member(
        self, attempt: Attempt, batch: Batch, place: int, answer: Answer, verdict_on: _Lookups
    ) -> Verdict:
        member, node, network = batch.members[place], attempt.node, self._network
        if answer.kind is AnswerKind.RESULT:
            return ANSWER
        if answer.kind is AnswerKind.NULL:
            return NULL_ELSEWHERE if self._is_doubted(attempt, batch, place) else ANSWER
        verdict = verdict_on.error(answer, member)
        if (
            not verdict.not_there_yet
            or place >= MAX_MEMBERS_READ
            or may_be_elsewhere(
                member.method, member.params, network.chainhead, node.head, new_blocks=network.new_blocks
            )
        ):
            return verdict
        return Verdict(rule=verdict.rule)

    def _is_doubted(self, attempt: Attempt, batch: Batch, place: int) -> bool:
        """A null is doubted as that of a call by itself is: once, or until all have said so twice."""
        member = batch.members[place]
        effort = made_effort(attempt.exchange)
        paused = effort is not None and effort.paused
        if paused or (place in batch.doubted and named_block(member.method, member.params) is None):
            return False
        if not is_doubtful(member.method, member.params, self._network.chainhead, attempt.node.head):
            return False
        batch.doubted.add(place)
        return True


class _Lookups:
    """The verdicts on the errors of one answer: those that say the same of the same method are looked up once."""

    def __init__(self, verdicts: Verdicts, attempt: Attempt, head: AnswerHead) -> None:
        exchange = attempt.exchange
        self._verdicts = verdicts
        self._provider = attempt.node.provider
        self._status = head.status
        self._retry_after = bool(head.value(b"retry-after"))
        self._echoes = Echoes(exchange.call, exchange.target + exchange.headers)
        self._known: dict[tuple[int, str, str], Verdict] = {}

    def error(self, answer: Answer, member: Call) -> Verdict:
        """The verdict on a member's error."""
        said = (answer.code, answer.message, member.method)
        verdict = self._known.get(said)
        if verdict is None and len(self._known) >= MAX_JUDGED:
            return _NOT_LOOKED_UP
        if verdict is None:
            verdict = self._known[said] = self._verdicts.judge_error(
                answer.code,
                answer.message,
                status=self._status,
                method=member.method,
                klass=member.klass,
                provider=self._provider,
                retry_after=self._retry_after,
                echoes=self._echoes,
            )
        return verdict
