"""Raw transactions: sending one twice does no harm, as it has one hash and one nonce.

So a node's word that it has the transaction already is a success, and the client is told the hash as if it had been
first. That a nonce is too low may mean the same, after the transaction was mined: then the node is asked for it before
it is believed. Everything else that a node says of a transaction is the client's to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from evmlb.exchange import Attempt, Exchange
from evmlb.interfaces import Upstream
from evmlb.policy.verdicts import Verdict
from evmlb.question import ask
from evmlb.routing.learning import Learner
from evmlb.transactions import raw_transaction_of, transaction_hash

SEND_RAW = "eth_sendRawTransaction"
LOOK_UP_SECONDS = 2.0


def is_raw(exchange: Exchange) -> bool:
    """Whether an exchange is one raw transaction, by itself."""
    return exchange.call is not None and exchange.call.method == SEND_RAW


class Transactions:
    """What the nodes of one network mean by their errors about raw transactions."""

    def __init__(self, reactor: Any, upstreams: Sequence[Upstream], learner: Learner) -> None:
        self._reactor = reactor
        self._upstreams = upstreams
        self._learner = learner

    def understood(self, attempt: Attempt, verdict: Verdict, parts: list[bytes]) -> list[bytes]:
        """The body of an error about a transaction as the client gets it: a success where it is one."""
        if not verdict.success:
            return parts
        return self.taken(attempt) or parts

    def taken(self, attempt: Attempt) -> list[bytes]:
        """The body of the answer to a transaction that the node has; empty when its hash cannot be told."""
        exchange = attempt.exchange
        transaction = hash_of(exchange)
        if transaction is None or exchange.call is None:
            return []
        self._learner.note_writer(exchange, attempt.node)
        return [b'{"jsonrpc":"2.0","id":%b,"result":"%b"}' % (exchange.call.id or b"null", transaction.encode())]

    def look_up(self, attempt: Attempt) -> Deferred[bool] | None:
        """Ask whether the node knows the transaction; None when its hash cannot be told. It fires in any case."""
        transaction = hash_of(attempt.exchange)
        if transaction is None:
            return None
        asking = ask(self._upstreams[attempt.node.index], "eth_getTransactionByHash", [transaction])
        asking.addTimeout(LOOK_UP_SECONDS, self._reactor)
        return asking.addCallbacks(lambda result: isinstance(result, dict), lambda _: False)


def hash_of(exchange: Exchange) -> str | None:
    """The hash of the transaction that is sent; None for one that no node could read either."""
    raw = None if exchange.call is None else raw_transaction_of(exchange.call.params)
    return None if raw is None else transaction_hash(raw)
