"""JSON-RPC with one node over one connection: who asked what, and who is subscribed to what.

Calls travel under ids of ours, any number at a time. An answer goes to who asked; an event to its subscription. What
belongs to nobody is counted, never an error by itself:

* answers to calls that were given up, or that nobody asked;
* events that come before the answer that names their subscription (some nodes are that fast): kept while any
  ``eth_subscribe`` is unanswered, ``MAX_EARLY_EVENTS`` of them, then given to it;
* events of any other subscription: it is unsubscribed from, once.

A node that goes on with such events, or sends what is no JSON-RPC, has lost its right to be listened to:
:class:`~evmlb.upstream.messages.Garbage` is raised, and the connection is to be closed.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from evmlb.upstream.messages import (
    MAX_CALL_BYTES,
    CutCall,
    Event,
    Garbage,
    Message,
    number_of,
    own_call,
    read_error,
    read_event,
    read_message,
)

MAX_OUTSTANDING_CALLS = 4096
MAX_OUTSTANDING_BYTES = 64 * 1024 * 1024
"""Of calls that were written and not answered; more must wait."""
MAX_EARLY_EVENTS = 256
MAX_STRAY_EVENTS = 10_000
"""So many events of unknown subscriptions end a connection."""
MAX_KEPT_IDS = 256

_log = Logger(namespace="evmlb.upstream")


class CallRefused(Exception):
    """The node answered with a JSON-RPC error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class SocketLost(Exception):
    """There is no connection, or it ended before the answer. ``sent`` False: the node surely got nothing."""

    def __init__(self, words: str, *, sent: bool) -> None:
        super().__init__(words)
        self.sent = sent


@dataclass(slots=True)
class SocketStats:
    """Counts since the start, for all connections that share it.

    ``connects``: handshakes done. ``failures``: attempts in vain. ``losses``: connections that the node or the network
    ended, ``silences`` and ``garbage`` of those because nothing, or nonsense, came.
    """

    connects: int = 0
    failures: int = 0
    losses: int = 0
    silences: int = 0
    garbage: int = 0
    messages_in: int = 0
    messages_out: int = 0
    late_answers: int = 0  # to calls that were given up
    unknown_answers: int = 0
    unknown_events: int = 0


class Asker(Protocol):
    """Who waits for the answer to a call; one of the two is called, once."""

    def answered(self, call_id: int, message: Message, data: bytes) -> None:
        """The answer; ``data`` is all of it, with our id."""
        ...

    def lost(self, words: str) -> None:
        """The connection ended first."""
        ...


class Subscription:
    """One subscription at one node, for as long as the connection stands.

    ``callback`` is given each result, as bytes of JSON. ``heard_at`` is when the last one came, or when it began.
    """

    __slots__ = ("_callback", "_conversation", "heard_at", "id", "is_live", "namespace", "params")

    def __init__(self, conversation: Conversation, new: _Subscribing, subscription_id: bytes, now: float) -> None:
        self._conversation = conversation
        self._callback = new.callback
        self.params = new.params
        self.namespace = new.namespace
        self.id = subscription_id
        self.heard_at = now
        self.is_live = True

    def unsubscribe(self) -> None:
        """End it: the callback is not called again. No-op when the connection is gone."""
        if self.is_live:
            self.is_live = False
            self._conversation.leave(self)

    def take(self, result: bytes, now: float) -> None:
        """Hand an event on."""
        self.heard_at = now
        if self.is_live:
            with _log.failuresHandled("while an event was being taken"):
                self._callback(result)


class Conversation:
    """See the module's head. ``write`` sends one message."""

    def __init__(self, write: Callable[[bytes], None], now: Callable[[], float], stats: SocketStats) -> None:
        self._write = write
        self._now = now
        self._stats = stats
        self._count = 0
        self._askers: dict[int, tuple[Asker, int]] = {}
        self._given_up: dict[int, None] = {}
        self._subscribing = 0
        self._subscriptions: dict[bytes, Subscription] = {}
        self._early: deque[tuple[bytes, str, bytes]] = deque()
        self._left: dict[bytes, None] = {}
        self._strays = 0
        self._bytes = 0
        self._ended: str | None = None

    @property
    def outstanding(self) -> int:
        """Calls that wait for their answers."""
        return len(self._askers)

    @property
    def has_room(self) -> bool:
        """Whether another call may be asked now."""
        return len(self._askers) < MAX_OUTSTANDING_CALLS and self._bytes < MAX_OUTSTANDING_BYTES

    @property
    def subscriptions(self) -> Sequence[Subscription]:
        """Those that live."""
        return tuple(self._subscriptions.values())

    # asking

    def ask(self, call: CutCall, asker: Asker) -> int:
        """Send a call under an id of ours, and return the id. Raises :class:`SocketLost` when it is over.

        It is for the caller to see that there is room: a batch may take more than there is.
        """
        if self._ended is not None:
            raise SocketLost(self._ended, sent=False)
        self._count += 1
        self._askers[self._count] = asker, call.size
        self._bytes += call.size
        self.tell(b"%b%d%b" % (call.before, self._count, call.after))
        return self._count

    def tell(self, message: bytes) -> None:
        """Send what has no answer."""
        self._stats.messages_out += 1
        self._write(message)

    def give_up(self, call_id: int) -> None:
        """Nobody waits for this answer any more."""
        if self._take_asker(call_id) is not None:
            _remember(self._given_up, call_id, MAX_OUTSTANDING_CALLS)

    def call(self, method: str, params: object) -> Deferred[bytes]:
        """Ask; fires with the result as bytes of JSON, fails with :class:`CallRefused` or :class:`SocketLost`.

        It has no time-out: cancel it, by ``addTimeout`` for instance.
        """
        asker = _Calling(self)
        try:
            asker.id = self._ask_ours(own_call(method, params), asker)
        except SocketLost as lost:
            return fail(lost)
        return asker.answer

    def _ask_ours(self, call: CutCall, asker: Asker) -> int:
        if not self.has_room or call.size > MAX_CALL_BYTES:
            raise SocketLost("too much is under way, or the call is too large", sent=False)
        return self.ask(call, asker)

    def subscribe(
        self, params: Sequence[object], callback: Callable[[bytes], None], namespace: str = "eth"
    ) -> Deferred[Subscription]:
        """Subscribe; ``params`` begin with the topic. Ends as :meth:`call` does.

        The Deferred fires before the first event. If it is cancelled, and the node does subscribe, that is undone.
        """
        asker = _Subscribing(self, params, callback, namespace)
        try:
            self._ask_ours(own_call(f"{namespace}_subscribe", params), asker)
        except SocketLost as lost:
            return fail(lost)
        self._subscribing += 1
        return asker.answer

    def leave(self, subscription: Subscription) -> None:
        """Tell the node that no one listens any more."""
        self._subscriptions.pop(subscription.id, None)
        self._unsubscribe(subscription.id, subscription.namespace)

    def _unsubscribe(self, subscription_id: bytes, namespace: str) -> None:
        if self._ended is None and self.has_room:
            _remember(self._left, subscription_id, MAX_KEPT_IDS)
            self.ask(own_call(f"{namespace}_unsubscribe", [orjson.Fragment(subscription_id)]), _NOBODY)

    # hearing

    def received(self, data: bytes) -> None:
        """Take a node's message. Raises :class:`Garbage`."""
        self._stats.messages_in += 1
        message = read_message(data)
        if message.method:
            self._take_event(message)
        elif message.id and (message.result or message.error):
            self._take_answer(message, data)
        else:
            raise Garbage("a message is neither answer nor event")

    def _take_answer(self, message: Message, data: bytes) -> None:
        call_id = number_of(message.id)
        asker = self._take_asker(call_id)
        if asker is not None:
            self._give(asker, call_id, message, data)
        elif call_id in self._given_up:
            del self._given_up[call_id]
            self._stats.late_answers += 1
        else:
            self._stats.unknown_answers += 1

    def _give(self, asker: Asker, call_id: int, message: Message, data: bytes) -> None:
        """Hand an answer to who asked. If it cannot be taken, its asker is told that there is none."""
        try:
            asker.answered(call_id, message, data)
        except Garbage as garbage:
            asker.lost(str(garbage))
            raise
        except Exception:
            _log.failure("an answer could not be taken")
            asker.lost("its answer could not be taken")

    def _take_asker(self, call_id: int) -> Asker | None:
        asker, size = self._askers.pop(call_id, (None, 0))
        self._bytes -= size
        return asker

    def _take_event(self, message: Message) -> None:
        event: Event = read_event(message)
        key, result = bytes(event.subscription), bytes(event.result)
        subscription = self._subscriptions.get(key)
        if subscription is not None:
            subscription.take(result, self._now())
        elif self._subscribing and key not in self._left:
            self._early.append((key, message.method, result))
            if len(self._early) > MAX_EARLY_EVENTS:
                self._early.popleft()
                self._stats.unknown_events += 1  # not unsubscribed from: the answer may still name it
        else:
            self._take_stray(key, message.method)

    def _take_stray(self, subscription_id: bytes, method: str) -> None:
        self._stats.unknown_events += 1
        self._strays += 1
        if self._strays > MAX_STRAY_EVENTS:
            raise Garbage("events of subscriptions that nobody has")
        namespace = method.partition("_")[0]
        if subscription_id not in self._left and _NAME.fullmatch(subscription_id) and _NAMESPACE.fullmatch(namespace):
            self._unsubscribe(subscription_id, namespace)

    # subscribing

    def subscribed(self, new: _Subscribing, subscription_id: bytes) -> Subscription:
        """The node took a subscription."""
        if subscription_id in self._subscriptions:
            raise Garbage("two subscriptions have one id")
        self._left.pop(subscription_id, None)
        made = self._subscriptions[subscription_id] = Subscription(self, new, subscription_id, self._now())
        return made

    def give_early(self, to: Subscription | None) -> None:
        """One ``eth_subscribe`` less is unanswered: hand out the events that came before its answer."""
        self._subscribing -= 1
        early, self._early = self._early, deque()
        for key, method, result in early:
            if to is not None and key == to.id:
                to.take(result, self._now())
            elif self._subscribing:
                self._early.append((key, method, result))
            else:
                self._take_stray(key, method)

    def end(self, words: str) -> None:
        """The connection is gone: who still waits is told so."""
        self._ended = words
        askers, self._askers = self._askers, {}
        for subscription in self._subscriptions.values():
            subscription.is_live = False
        self._subscriptions.clear()
        self._early.clear()
        for asker, _ in askers.values():
            asker.lost(words)


class _Calling:
    """Waits for the answer to a call of our own."""

    def __init__(self, conversation: Conversation) -> None:
        self.id = 0
        self.answer: Deferred[bytes] = Deferred(lambda _: conversation.give_up(self.id))

    def answered(self, call_id: int, message: Message, data: bytes) -> None:
        error = read_error(message)
        if error is None:
            self.answer.callback(bytes(message.result))
        else:
            self.answer.errback(CallRefused(*error))

    def lost(self, words: str) -> None:
        self.answer.errback(SocketLost(words, sent=True))


class _Subscribing:
    """Waits for the id of a subscription, even when nobody wants it any more: it has to be undone then."""

    def __init__(
        self, conversation: Conversation, params: Sequence[object], callback: Callable[[bytes], None], namespace: str
    ) -> None:
        self._conversation = conversation
        self._is_wanted = True
        self.params = params
        self.callback = callback
        self.namespace = namespace
        self.answer: Deferred[Subscription] = Deferred(self._cancelled)

    def _cancelled(self, _: object) -> None:
        self._is_wanted = False

    def answered(self, call_id: int, message: Message, data: bytes) -> None:
        error, named = read_error(message), bytes(message.result)
        if error is not None or not _NAME.fullmatch(named):
            self._fail(CallRefused(*(error or (0, "the node named no subscription"))))
            return
        made = self._conversation.subscribed(self, named)
        if self._is_wanted:
            self.answer.callback(made)
        else:
            made.unsubscribe()
        self._conversation.give_early(made)

    def lost(self, words: str) -> None:
        self._fail(SocketLost(words, sent=True))

    def _fail(self, why: Exception) -> None:
        self._conversation.give_early(None)
        if self._is_wanted:
            self.answer.errback(why)


class _Nobody:
    """Waits for nothing."""

    def answered(self, call_id: int, message: Message, data: bytes) -> None:
        pass

    def lost(self, words: str) -> None:
        pass


_NOBODY = _Nobody()
_NAME = re.compile(rb'"[^"\\]{1,200}"|[0-9]{1,30}')
_NAMESPACE = re.compile("[a-z0-9]{1,32}")


def _remember(kept: dict[Any, None], key: Any, most: int) -> None:
    """Keep a key, and at ``most`` so many: the oldest goes."""
    kept[key] = None
    if len(kept) > most:
        del kept[next(iter(kept))]
