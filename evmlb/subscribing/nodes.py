"""Asking the nodes of a network on our own account: who is asked, in what order, and that one answers.

Questions about a block go first to the nodes that have reached it: others may not have it yet. They go past routing, as
the answer must be one of a certain block, not of whichever node is first. A node that does not answer soon is joined by
the next one: subscribers wait for these answers, and a node that has just frozen is still in the order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from evmlb.interfaces import Upstream
from evmlb.network import Network
from evmlb.node import Node
from evmlb.question import AskFailed, ask

ASK_SECONDS = 5.0
"""How long one node is given for one question."""
HEDGE_SECONDS = 0.5
"""After so long the next node is asked too; sooner where there is little time in all."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0
"""When all have been asked in vain, so long until they are asked again; doubled each time."""

_log = Logger(namespace="evmlb.subscribing")

Read = Callable[[object], Any]
"""Makes something of a result; None if it is no answer."""


class Nodes:
    """The nodes of one network, for questions of ours."""

    def __init__(self, network: Network, upstreams: Sequence[Upstream], reactor: Any) -> None:
        self._network = network
        self._upstreams = tuple(upstreams)
        self.reactor = reactor

    def ask(self, node: Node, method: str, params: object) -> Deferred[object]:
        """Ask one node; fails with :class:`AskFailed` or ``TimeoutError``."""
        return ask(self._upstreams[node.index], method, params).addTimeout(ASK_SECONDS, self.reactor)

    def ask_any(
        self, block: int, method: str, params: object, read: Read, *, within: float | None = None
    ) -> Deferred[Any]:
        """Ask the nodes in turn until ``read`` makes something of an answer.

        ``block``: those that have reached this one come first. ``within``: go on asking for so many seconds, else each
        is asked once. Fires with what was made, or with None when there is nothing; never fails. Cancelling it ends
        all questions under way.
        """
        return _InTurn(self, block, (method, params), read, within).answer

    def in_turn(self, block: int) -> list[Node]:
        """The nodes to ask about a block, first first."""
        return sorted(self._network.order.candidates, key=lambda node: node.reached < block)


class _InTurn:
    """One question to one node after the other; with ``within``, again and again."""

    def __init__(
        self, nodes: Nodes, block: int, question: tuple[str, object], read: Read, within: float | None
    ) -> None:
        self._nodes = nodes
        self._block = block
        self._question = question
        self._read = read
        self._repeats = within is not None
        self._hedge = HEDGE_SECONDS if within is None else min(HEDGE_SECONDS, within / 8)
        self._pause = FIRST_PAUSE_SECONDS
        self._left = deque(nodes.in_turn(block))
        self._under_way: dict[Node, Deferred[Any]] = {}
        self._timer: Any = None
        self._is_over = False
        self.answer: Deferred[Any] = Deferred(lambda _: self._end())
        self._end_timer = nodes.reactor.callLater(within, self._fire, None) if within is not None else None
        self._go_on()

    def _go_on(self) -> None:
        """Ask the next node; after the last one, begin anew or end."""
        _stop(self._timer)
        if self._left:
            node = self._left.popleft()
            if self._left or self._repeats:
                self._timer = self._nodes.reactor.callLater(self._hedge, self._go_on)
            self._ask(node)
        elif self._repeats:
            self._left.extend(node for node in self._nodes.in_turn(self._block) if node not in self._under_way)
            self._timer = self._nodes.reactor.callLater(self._pause, self._go_on)
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        elif not self._under_way:
            self._fire(None)

    def _ask(self, node: Node) -> None:
        asking = self._under_way[node] = self._nodes.ask(node, *self._question)
        asking.addCallback(self._read)
        asking.addBoth(self._heard, node)

    def _heard(self, found: Any, node: Node) -> None:
        if self._is_over:
            return
        del self._under_way[node]
        if isinstance(found, Failure):
            if not found.check(AskFailed, defer.TimeoutError, TimeoutError):
                _log.failure("an answer could not be read", found)
            found = None
        if found is None:
            self._go_on()
        else:
            self._fire(found)

    def _fire(self, found: Any) -> None:
        self._end()
        self.answer.callback(found)

    def _end(self) -> None:
        self._is_over = True
        _stop(self._timer)
        _stop(self._end_timer)
        for asking in self._under_way.values():
            asking.cancel()


def _stop(timer: Any) -> None:
    if timer is not None and timer.active():
        timer.cancel()


def as_json(result: object) -> bytes | None:
    """A result as JSON again; None for one that is nested too deeply."""
    try:
        return orjson.dumps(result)
    except TypeError:  # orjson's own error is one
        return None
