"""What one WebSocket of a demo node is subscribed to, in geth's words.

==============================  ======================================================================
topic                           what is pushed
==============================  ======================================================================
``newHeads``                    the header of each block that came, of a reorg's new ones as well
``logs`` (with a filter)        logs that fit; those of replaced blocks first, with ``removed: true``
``newPendingTransactions``      hashes of the transactions that clients sent; whole ones for ``true``
==============================  ======================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from evmlb.demo.blocks import Json
from evmlb.demo.chain import ChainView
from evmlb.demo.methods import Filter, RpcError, checked_criteria

METHODS = frozenset(("eth_subscribe", "eth_unsubscribe"))


class Subscriptions:
    """The subscriptions of one connection. ``new_id`` gives ids that no other of the node's connections has."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._kept: dict[str, Subscription] = {}

    def call(self, method: str, params: list[Any], view: ChainView) -> Any:
        """The result of ``eth_subscribe`` (an id) or ``eth_unsubscribe``; raises :class:`RpcError`."""
        if method == "eth_subscribe":
            new = _subscription(params, view)
            key = self._new_id()
            self._kept[key] = new
            return key
        if not params or self._kept.pop(str(params[0]), None) is None:
            raise RpcError(-32000, "subscription not found")
        return True

    def news(self, view: ChainView) -> Iterator[tuple[str, Any]]:
        """Ids and results of all that is new since the last call."""
        for key, subscription in list(self._kept.items()):
            for result in subscription.news(view):
                yield key, result


class Subscription:
    """How far one subscription has told; the first element of ``params`` is its topic."""

    def __init__(self, topic: str, filter_: Filter, whole: bool) -> None:
        self._topic = topic
        self._filter = filter_
        self._whole = whole

    def news(self, view: ChainView) -> list[Any]:
        """What is new since the last call, oldest first."""
        if self._topic != "newHeads":
            changes = self._filter.changes(view)
            return [_transaction(view, each) for each in changes] if self._whole else changes
        _, came = view.changes_since(self._filter.last)
        if came:
            self._filter.last = view.head
        return [{**block.header, "hash": block.hash} for block in came]


def _subscription(params: list[Any], view: ChainView) -> Subscription:
    topic = params[0] if params else None
    if topic == "newHeads":
        return Subscription(topic, Filter(view.head), False)
    if topic == "logs":
        return Subscription(topic, Filter(view.head, checked_criteria([*params[1:], {}])), False)
    if topic == "newPendingTransactions":
        return Subscription(topic, Filter(view.head, told_pending=len(view.chain.sent)), params[1:2] == [True])
    raise RpcError(-32601, f'no "{topic}" subscription in eth namespace')


def _transaction(view: ChainView, wanted: str) -> Json | str:
    """The pending transaction of this hash; the hash alone where it is mined already."""
    return next((each.to_json() for each in view.chain.pending if each.hash == wanted), wanted)
