"""Raw transactions: sending one twice does no harm, as it has one hash and one nonce.

So a node's word that it has the transaction already is a success, and the client is told the hash as if it had been
first. That a nonce is too low may mean the same, after the transaction was mined: then the node is asked for it before
it is believed. Where several nodes are given a transaction, one node's refusal is not the end. Everything else that a
node says of a transaction is the client's to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred

from evmlb.deadlines import Deadlines
from evmlb.exchange import Exchange
from evmlb.interfaces import AnswerHead, Upstream
from evmlb.policy.verdicts import Verdict
from evmlb.question import ask
from evmlb.routing.attempts import Attempt
from evmlb.routing.effort import effort_of, has_rivals
from evmlb.routing.judging import detail_of
from evmlb.routing.learning import Learner
from evmlb.routing.retrying import outvoted, outward
from evmlb.transactions import raw_transaction_of, transaction_hash

if TYPE_CHECKING:
    from evmlb.routing.failing import Failing

SEND_RAW = "eth_sendRawTransaction"
LOOK_UP_SECONDS = 2.0


class Ways(Protocol):
    """How an attempt ends; the router's."""

    def win(self, attempt: Attempt) -> None:
        """Of several attempts this one has the answer."""
        ...

    def leave(self, attempt: Attempt) -> None:
        """An attempt is over: its node has room for another."""
        ...

    def finish(self, attempt: Attempt) -> None:
        """It has ended the exchange well."""
        ...


def is_raw(exchange: Exchange) -> bool:
    """Whether an exchange is one raw transaction, by itself."""
    return exchange.call is not None and exchange.call.method == SEND_RAW


class Transactions:
    """What the nodes of one network mean by their errors about raw transactions."""

    def __init__(
        self, deadlines: Deadlines, upstreams: Sequence[Upstream], learner: Learner, failing: Failing, ways: Ways
    ) -> None:
        self._reactor = deadlines.reactor
        self._upstreams = upstreams
        self._learner = learner
        self._failing = failing
        self._ways = ways
        failing.verify = self.verify

    def answered_with_error(self, attempt: Attempt, verdict: Verdict, head: AnswerHead, parts: list[bytes]) -> None:
        """A node answered with an error which is no failure of its own."""
        exchange = attempt.exchange
        if verdict.verify and not has_rivals(exchange) and self._look_up(attempt, verdict, head, parts, leaves=True):
            return
        taken = self._taken(attempt) if verdict.success else []
        if has_rivals(exchange) and not taken:
            self._failing.ended_badly(attempt, outvoted(verdict), detail_of(attempt, head, parts), (head, parts))
        else:
            self._ways.win(attempt)
            self._ways.leave(attempt)
            self._answer(attempt, head, taken or outward(exchange, verdict, parts))

    def verify(self, exchange: Exchange) -> bool:
        """Nobody took a transaction, and a node said what may mean that it has it: look, then answer."""
        saved = effort_of(exchange).saved
        if saved is None or not is_raw(exchange):
            return False
        return self._look_up(*saved, leaves=False)

    def _answer(self, attempt: Attempt, head: AnswerHead, parts: list[bytes]) -> None:
        self._ways.finish(attempt)
        attempt.exchange.reply.answer(attempt.exchange, head, parts)

    def _taken(self, attempt: Attempt) -> list[bytes]:
        """The body of the answer to a transaction that the node has; empty when its hash cannot be told."""
        exchange = attempt.exchange
        transaction = hash_of(exchange)
        if transaction is None or exchange.call is None:
            return []
        self._learner.note_writer(exchange, attempt.node)
        return [b'{"jsonrpc":"2.0","id":%b,"result":"%b"}' % (exchange.call.id or b"null", transaction.encode())]

    def _look_up(
        self, attempt: Attempt, verdict: Verdict, head: AnswerHead, parts: list[bytes], *, leaves: bool
    ) -> bool:
        """Ask the node whether it knows the transaction, then answer. False: its hash cannot be told.

        ``leaves``: the attempt ends with this; otherwise it has ended before.
        """
        exchange = attempt.exchange
        transaction = hash_of(exchange)
        if transaction is None:
            return False
        if leaves:
            self._ways.leave(attempt)
        looking: Deferred[object] = ask(self._upstreams[attempt.node.index], "eth_getTransactionByHash", [transaction])
        looking.addTimeout(LOOK_UP_SECONDS, self._reactor)
        effort = effort_of(exchange)
        effort.pending = looking

        def looked(result: object) -> None:
            if effort.pending is not looking:
                return  # the client left meanwhile
            effort.pending = None
            taken = self._taken(attempt) if isinstance(result, dict) else []
            self._answer(attempt, head, taken or outward(exchange, verdict, parts))

        looking.addCallbacks(looked, looked)
        return True


def hash_of(exchange: Exchange) -> str | None:
    """The hash of the transaction that is sent; None for one that no node could read either."""
    raw = None if exchange.call is None else raw_transaction_of(exchange.call.params)
    return None if raw is None else transaction_hash(raw)
