"""A WebSocket to one node that is kept alive: for the heads and logs it pushes, and for calls about them.

:class:`NodeSocket` makes one :class:`~evmlb.upstream.link.Link` after another. In between it waits, each time twice as
long, with jitter, so that the balancers of a dead node do not come back in step; a connection that stood for a while
begins anew. Two things end a connection besides what a link sees by itself:

* a subscription to ``newHeads`` that is silent for three block times, ``MIN_SILENCE_SECONDS`` at least: the node, or
  its way to push, has died with its TCP connection intact;
* :meth:`NodeSocket.stop`.

Subscriptions end with their connection: who wants them again subscribes when ``connected`` is told.

A node without ``ws_endpoint`` may have a WebSocket beside its ``rpc_endpoint`` (anvil, Erigon and most providers do;
geth has it on a port of its own). That is tried, and where an answer says that there is none, tried again every hour.
It is said once, and nobody is blamed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from evmlb.config.schema import NodeConfig
from evmlb.upstream.conversation import SocketLost, SocketStats, Subscription
from evmlb.upstream.http import Connect
from evmlb.upstream.link import Ending, Link, Target
from evmlb.wire.sockets import connect

FIRST_WAIT_SECONDS = 0.5
MAX_WAIT_SECONDS = 30.0
GUESS_AGAIN_SECONDS = 3600.0
STEADY_SECONDS = 10.0
"""A connection that stood for so long was no failure: the next wait is short again."""
SILENT_BLOCKS = 3
MIN_SILENCE_SECONDS = 30.0

_log = Logger(namespace="evmlb.upstream")


def wait_seconds(attempts: int, draw: float) -> float:
    """How long to wait after so many ``attempts`` in vain (from 1 on); ``draw`` is random, 0 to 1.

    0.5 s, doubled each time, up to 30 s. The jitter comes after the cap, or all would be in step again at the cap.
    """
    longest = MAX_WAIT_SECONDS / 1.5
    doubled = FIRST_WAIT_SECONDS * 2.0 ** min(attempts - 1, 16)
    return min(doubled, longest) * (1.0 + draw / 2.0)


class SocketListener(Protocol):
    """Who hears of a node's WebSocket; the two take turns, ``connected`` first."""

    def connected(self, socket: NodeSocket) -> None:
        """It stands, and nothing is subscribed to."""
        ...

    def disconnected(self, socket: NodeSocket, reason: str) -> None:
        """It ended; all its subscriptions are gone, and its calls have failed."""
        ...


class NodeSocket:
    """See the module's head.

    ``block_time_seconds`` is the owner's to set. ``stats`` counts. Raises ``OSError`` or ``ssl.SSLError`` when the
    node's ``ca_file`` cannot be used.
    """

    def __init__(
        self,
        reactor: Any,
        node: NodeConfig,
        now: Callable[[], float],
        rng: random.Random,
        listener: SocketListener,
        *,
        block_time_seconds: float = 12.0,
        connect: Connect = connect,
    ) -> None:
        self.node = node
        self.block_time_seconds = block_time_seconds
        self.stats = SocketStats()
        self.target = Target(reactor, node, now)
        self._reactor = reactor
        self._now = now
        self._rng = rng
        self._listener = listener
        self._connect = connect
        self._link: Link | None = None
        self._runs = False
        self._attempts = 0
        self._opened_at = 0.0
        self._is_guess = self.target.is_guess
        self._said: str | None = None
        self._waiting: Any = None
        self._watching: Any = None

    @property
    def is_connected(self) -> bool:
        """Whether it can be asked now."""
        return self._link is not None and self._link.is_open

    @property
    def outstanding(self) -> int:
        """Calls that wait for their answers."""
        return self._link.talk.outstanding if self._link is not None else 0

    def start(self) -> None:
        """Connect, and keep connected."""
        if not self._runs:
            self._runs = True
            self._dial()

    def stop(self) -> None:
        """Close it; the listener is told if it stood. It may be started again."""
        self._runs = False
        _cancel(self._waiting)
        if self._link is not None:
            self._link.close()

    def call(self, method: str, params: object) -> Deferred[bytes]:
        """Ask; fires with the result as bytes of JSON.

        Fails with :class:`~evmlb.upstream.conversation.CallRefused` for an error of the node's, with
        :class:`~evmlb.upstream.conversation.SocketLost` without a connection. It has no time-out of its own.
        """
        link = self._link
        return link.talk.call(method, params) if link is not None and link.is_open else _no_connection()

    def subscribe(self, params: Sequence[object], callback: Callable[[bytes], None]) -> Deferred[Subscription]:
        """Subscribe; ``params`` begin with the topic, ``callback`` is given each result as bytes of JSON.

        Fires before the first result comes, and fails as :meth:`call` does.
        """
        link = self._link
        if link is None or not link.is_open:
            return _no_connection()
        return link.talk.subscribe(params, callback).addCallback(self._subscribed)

    def _subscribed(self, made: Subscription) -> Subscription:
        if _is_heads(made) and self._watching is None:
            self._watch_again(MIN_SILENCE_SECONDS)
        return made

    # the links, one after another

    def _dial(self) -> None:
        self._link = Link(self._reactor, self.target, self._now, self.stats, self, self._connect)
        self._link.begin()

    def opened(self, link: Link) -> None:
        """The link stands (called by it, as what follows)."""
        self._opened_at = self._now()
        self._is_guess = False
        if self._said is not None:
            self._said = None
            _log.info("{node}: its WebSocket is back", node=self.node.name)
        self._listener.connected(self)

    def ended(self, link: Link, ending: Ending, words: str) -> None:
        """The link is over: another is tried later."""
        self._link = None
        _cancel(self._watching)
        self._watching = None
        if link.was_open and self._now() - self._opened_at >= STEADY_SECONDS:
            self._attempts = 0
        if self._runs:
            self._waiting = self._reactor.callLater(self._wait(ending, words), self._dial)
        if link.was_open:
            self._listener.disconnected(self, words)

    def _wait(self, ending: Ending, words: str) -> float:
        """How long until the next attempt; says what has changed."""
        self._attempts += 1
        if self._is_guess:
            if ending is Ending.REFUSED:
                self._say_guessed(words)
                return GUESS_AGAIN_SECONDS
        elif self._said is None:
            self._said = words
            _log.warn("{node}: no WebSocket: {words}", node=self.node.name, words=words)
        return wait_seconds(self._attempts, self._rng.random())

    def _say_guessed(self, words: str) -> None:
        if self._said is None:
            self._said = words
            text = (
                "{node}: no WebSocket at its rpc_endpoint ({words}); its heads are polled, and ws_endpoint can name one"
            )
            _log.info(text, node=self.node.name, words=words)

    # silence

    def _watch(self) -> None:
        """Look whether heads still come, and when to look again."""
        self._watching = None
        link = self._link
        heads = [each.heard_at for each in link.talk.subscriptions if _is_heads(each)] if link is not None else []
        if link is None or not heads:
            return
        allowed = max(SILENT_BLOCKS * self.block_time_seconds, MIN_SILENCE_SECONDS)
        left = max(heads) + allowed - self._now()
        if left <= 0:
            link.end(Ending.SILENT, f"no head for {allowed:.0f} s")
        else:
            self._watch_again(left)

    def _watch_again(self, seconds: float) -> None:
        self._watching = self._reactor.callLater(seconds, self._watch)


def _is_heads(subscription: Subscription) -> bool:
    return subscription.params[0] == "newHeads"


def _cancel(call: Any) -> None:
    if call is not None and call.active():
        call.cancel()


def _no_connection() -> Deferred[Any]:
    return fail(SocketLost("there is no connection", sent=False))
