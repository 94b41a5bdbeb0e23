"""Topics that are not made from the view: passed to nodes, under ids of ours, and taken up elsewhere when one is lost.

``newPendingTransactions`` is asked of every node, as each sees transactions of its own; each is told once. All others
(``syncing``, and what only some nodes know) are asked of one node, the first of the order that has WebSocket and takes
them. When that is lost, or may not serve any more, the next one is asked: events may have been missed meanwhile, which
is counted and said.

Subscribers of the same topic with the same parameters share what is asked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from evmlb.jsonrpc import Unreadable, decoder
from evmlb.subscribing.fanout import FanOut, Subscription
from evmlb.subscribing.feeds import Feed
from evmlb.subscribing.params import PENDING

_log = Logger(namespace="evmlb.subscribing")

REMEMBERED = 50_000
"""So many pending transactions are remembered, to tell each once."""
MOST_KEY_BYTES = 128
ANSWER_SECONDS = 5.0
"""A node that has not taken a subscription after this time does not take it."""
REFUSED_SECONDS = 30.0
"""A node that refused is asked again after this time, if nobody else feeds the topic."""
MOST_EVENTS = 10_000
"""While so many events wait to be written, further ones are dropped, which is counted as a gap."""
_METHOD_NOT_FOUND = -32601
_HASH_CHARACTERS = len("0x") + 64


class Refused(Exception):
    """No node takes the subscription; ``code`` and ``message`` are for the client."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Relay:
    """One topic with its parameters: who is asked, and who is told.

    ``params`` are those of ``eth_subscribe``, decoded. ``feeds`` gives those that may be asked, best first.
    ``gap_possible`` is called when events may have been missed.
    """

    def __init__(
        self,
        network: str,
        params: list[Any],
        feeds: Callable[[], Sequence[Feed]],
        fanout: FanOut,
        reactor: Any,
        now: Callable[[], float],
        gap_possible: Callable[[], None],
    ) -> None:
        self._network = network
        self._params = params
        self._topic = str(params[0])
        self._feeds = feeds
        self._fanout = fanout
        self._reactor = reactor
        self._now = now
        self._gap_possible = gap_possible
        self._takes_all = self._topic == PENDING
        self._asked: dict[Feed, Deferred[Any]] = {}
        self._fed_by: dict[Feed, Any] = {}
        self._refusals: dict[Feed, tuple[Refused, float]] = {}
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._waiting: list[Deferred[None]] = []
        self._is_dropping = False
        self.subscriptions: dict[bytes, Subscription] = {}

    @property
    def is_wanted(self) -> bool:
        """Whether anybody is subscribed, or about to be."""
        return bool(self.subscriptions or self._waiting)

    def ready(self) -> Deferred[None]:
        """Fires when a node feeds the topic, fails with :class:`Refused` when none takes it."""
        mine: Deferred[None] = Deferred(self._waiting_no_more)
        self._waiting.append(mine)
        if self._fed_by:
            self._tell_waiting(None)
        else:
            self._refusals.clear()
            self.look()
        return mine

    def stop(self) -> None:
        """Nobody is subscribed any more."""
        for feed in tuple(self._fed_by):
            self._fed_by.pop(feed).unsubscribe()
        asked, self._asked = self._asked, {}
        for asking in asked.values():
            asking.cancel()

    # which nodes

    def look(self) -> None:
        """The nodes or their connections changed, or time has passed: ask those that should be asked and are not."""
        eligible = self._feeds()
        if not self._takes_all:
            self._leave_all_but(eligible)
        for feed in [feed for feed in self._refusals if self._now() - self._refusals[feed][1] >= REFUSED_SECONDS]:
            del self._refusals[feed]
        for feed in eligible:
            is_tried = feed in self._fed_by or feed in self._asked or feed in self._refusals
            if not is_tried and (self._takes_all or not (self._fed_by or self._asked)):
                self._ask(feed)
        if not self._fed_by and not self._asked:
            self._tell_waiting(self._refusal())

    def _leave_all_but(self, eligible: Sequence[Feed]) -> None:
        """Leave a node that may not serve any more, if another one may."""
        for feed in [feed for feed in self._fed_by if feed not in eligible] if eligible else ():
            self._fed_by.pop(feed).unsubscribe()
            self._note_gap(f"{feed.node.name} may not serve")

    def came(self, feed: Feed) -> None:
        """A node's connection stands."""
        self._refusals.pop(feed, None)
        self.look()

    def lost(self, feed: Feed) -> None:
        """A node's connection is gone, and what it fed with it."""
        self._refusals.pop(feed, None)
        if self._fed_by.pop(feed, None) is not None and not self._fed_by:
            self._note_gap(f"{feed.node.name} was lost")
        self.look()

    def _note_gap(self, why: str) -> None:
        if not self.subscriptions:
            return
        self._gap_possible()
        text = "{network}: events of {topic} may have been missed: {why}"
        _log.info(text, network=self._network, topic=self._topic[:40], why=why)

    # asking

    def _ask(self, feed: Feed) -> None:
        asking = feed.subscribe(self._params, partial(self._tell, feed))
        self._asked[feed] = asking
        asking.addTimeout(ANSWER_SECONDS, self._reactor)
        asking.addCallbacks(self._agreed, self._refused, callbackArgs=(feed, asking), errbackArgs=(feed, asking))

    def _agreed(self, handle: Any, feed: Feed, asking: Deferred[Any]) -> None:
        if self._asked.get(feed) is not asking:
            handle.unsubscribe()
            return
        del self._asked[feed]
        self._fed_by[feed] = handle
        self._tell_waiting(None)

    def _refused(self, failure: Failure, feed: Feed, asking: Deferred[Any]) -> None:
        if self._asked.get(feed) is asking:
            del self._asked[feed]
            self._refusals[feed] = _refusal_of(failure), self._now()
            self.look()

    def _refusal(self) -> Refused:
        """Why nobody feeds the topic: the node's words that came last, else ours."""
        words = f"no node of this network offers {self._topic[:40]} by WebSocket"
        return [Refused(_METHOD_NOT_FOUND, words), *(refusal for refusal, _ in self._refusals.values())][-1]

    def _tell_waiting(self, refusal: Refused | None) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None) if refusal is None else each.errback(refusal)

    def _waiting_no_more(self, mine: Deferred[None]) -> None:
        if mine in self._waiting:
            self._waiting.remove(mine)

    # events

    def _tell(self, feed: Feed, result: bytes) -> None:
        if feed not in self._fed_by or (self._takes_all and self._is_known(result)):
            return
        if self._fanout.backlog(self._topic) < MOST_EVENTS:
            self._is_dropping = False
            self._fanout.tell(self._topic, tuple(self.subscriptions.values()), result)
        elif not self._is_dropping:
            self._is_dropping = True
            self._note_gap("there are more than can be written")

    def _is_known(self, result: bytes) -> bool:
        """Whether a pending transaction was told before; another node tells it too."""
        key = result[:MOST_KEY_BYTES].lower() if result[:1] == b'"' else _hash_of(result)
        if key in self._seen:
            return True
        self._seen[key] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return False


def _refusal_of(failure: Failure) -> Refused:
    """What a node said: its own code and words, where it gave any."""
    code, message = getattr(failure.value, "code", None), getattr(failure.value, "message", None)
    if isinstance(code, int) and isinstance(message, str):
        return Refused(code, message)
    if failure.check(defer.TimeoutError):
        return Refused(-32000, "the node did not answer in time")
    return Refused(-32000, "the node was lost")


class _Transaction(msgspec.Struct, gc=False):
    hash: str


_read_transaction = decoder(_Transaction)


def _hash_of(result: bytes) -> bytes:
    """What a whole transaction is told apart by."""
    try:
        found = _read_transaction(result).hash
    except Unreadable:
        found = ""
    return found.lower().encode() if len(found) == _HASH_CHARACTERS else result[:MOST_KEY_BYTES]
