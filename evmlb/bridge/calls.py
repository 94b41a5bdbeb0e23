"""The calls of one WebSocket: each is a request like any other, on its own way through ``routing``.

Any number of calls is under way at one time, the same id twice among them, and each is answered when its answer is
there. A message goes out as the bytes it came as, an answer comes back as the bytes of the node. Three things differ
from HTTP:

* a connection cannot be cut for one call. So an answer that is too large to be held for a failover is not streamed but
  collected (:class:`LongAnswer`), up to a bound, and when it breaks off its call is answered by an error;
* what is sent must be UTF-8, or the client had to close the connection with all its calls;
* a notification is sent to one node at most: nobody would hear of a second sending's doubtful end.

``eth_subscribe`` and ``eth_unsubscribe`` are :mod:`.subscriber`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from evmlb import errors
from evmlb.bridge.frames import is_utf8
from evmlb.bridge.subscriber import SUBSCRIBING, Client
from evmlb.errors import Refusal
from evmlb.exchange import Exchange
from evmlb.interfaces import AnswerHead
from evmlb.jsonrpc import Call, InvalidCall, error_body, parse_call
from evmlb.methods import REFUSED, UNSAFE
from evmlb.routing import admit
from evmlb.session import Session

if TYPE_CHECKING:
    from evmlb.bridge.keeper import Keeper
    from evmlb.bridge.socket import Socket
    from evmlb.interfaces import Subscriptions, Upgrade

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""The largest answer that is sent as one message: what geth's own client takes at most."""

ACCOUNTED_BYTES = 1024
"""Messages beyond this size count against the memory for requests while their calls are under way."""

_TOO_LONG = Refusal(502, -32013, f"the answer is larger than {MAX_ANSWER_BYTES} bytes; ask over HTTP")
_OVER_MEMORY = Refusal(503, -32011, "too many large answers are being held; try again, or ask over HTTP")
_BROKEN_OFF = errors.BAD_UPSTREAM.saying("the node's answer broke off")
_NOT_UTF8 = errors.BAD_UPSTREAM.saying("the node's answer is not UTF-8")
_BATCHED = Refusal(200, errors.INVALID_REQUEST.code, "eth_subscribe and eth_unsubscribe cannot be part of a batch")


class Calls:
    """A ``Receiver`` of messages, and the ``Reply`` of the exchanges that they become."""

    __slots__ = (
        "_bridge",
        "_client",
        "_describe",
        "_exchanges",
        "_most",
        "_now",
        "_router",
        "_socket",
        "_stats",
        "_upgrade",
        "session",
    )

    def __init__(self, bridge: Keeper, socket: Socket, upgrade: Upgrade) -> None:
        self.session: Session | None = None  # what routing knows of this connection's past
        self._bridge = bridge
        self._stats = bridge.stats
        self._now = bridge.now
        self._most = bridge.config.max_outstanding_calls
        self._socket = socket
        self._upgrade = upgrade
        self._router = upgrade.router
        self._describe = upgrade.describe
        self._exchanges: set[Exchange] = set()  # under way
        self._client: Client | None = None  # once there was a subscription

    # what the socket asks

    @property
    def is_full(self) -> bool:
        """Whether as many calls are under way as may be."""
        return len(self._exchanges) >= self._most

    @property
    def owes(self) -> bool:
        """Whether a call is under way."""
        return bool(self._exchanges)

    @property
    def is_subscribed(self) -> bool:
        """Whether there are subscriptions."""
        return self._client is not None and self._client.subscriptions > 0

    def received(self, message: bytes) -> None:
        """Send a call, or a batch, on its way."""
        self._stats.messages_in += 1
        try:
            call = parse_call(message)
        except InvalidCall as error:
            self._socket.send_text(error_body(error.id, error.code, error.message))
            return
        klass = call.klass
        is_special = klass is UNSAFE or klass is REFUSED
        if is_special and call.members is None and self._is_not_for_nodes(call):
            return
        if len(message) > ACCOUNTED_BYTES and not self.reserve(len(message)):
            self._refuse(call, errors.OVER_MEMORY)
            return
        upgrade = self._upgrade
        exchange = Exchange(self, call, message, upgrade.client, self._now())
        refusal = admit(exchange, self._refusal) if is_special else None
        if refusal is not None:
            self.refuse(exchange, refusal)
            return
        exchange.forwarded_for = upgrade.forwarded_for
        exchange.headers = upgrade.headers
        if not call.id and call.members is None:
            exchange.klass = UNSAFE
        if self._describe is not None:
            self._describe(exchange)
        if self.is_subscribed:
            self._note_told()
        self._exchanges.add(exchange)
        self._stats.calls += 1
        self._router.submit(exchange)

    def _note_told(self) -> None:
        """What subscriptions told this client counts as seen: no answer to it may come from before that."""
        hub = self._hub
        if hub is not None:
            session = self.session = self.session or Session()
            session.height = max(session.height, hub.told_height)

    def _is_not_for_nodes(self, call: Call) -> bool:
        """Answer what is ours, or nobody's, to answer; False for all other calls."""
        refusal = self._router.refusal(call)
        if refusal is not None:
            self._refuse(call, refusal)
        elif call.method in SUBSCRIBING:
            if self._client is None:
                self._client = Client(self._socket, self._hub, self._bridge.config.max_subscriptions)
            self._client.take(call)
        else:
            return False
        return True

    def _refusal(self, call: Call) -> Refusal | None:
        """The same for what comes in a batch: its members that go to no node."""
        refusal: Refusal | None = self._router.refusal(call)
        return _BATCHED if call.method in SUBSCRIBING else refusal

    @property
    def _hub(self) -> Subscriptions | None:
        return self._bridge.hubs.get(self._router.network.name)

    def lost(self) -> None:
        """The connection is gone, and with it the wish for answers and events."""
        exchanges, self._exchanges = self._exchanges, set()
        for exchange in exchanges:
            self._router.cancel(exchange)
            if len(exchange.body) > ACCOUNTED_BYTES:
                self.release(len(exchange.body))
            if isinstance(exchange.reply, LongAnswer):
                exchange.reply.release()
        client, self._client = self._client, None
        if client is not None:
            client.lost()

    # what routing says

    def answer(self, exchange: Exchange, head: AnswerHead, parts: list[bytes]) -> None:
        """Send a whole answer as one message."""
        call = _call_of(exchange)
        if call.id or call.expects_answer:
            text = parts[0] if len(parts) == 1 else b"".join(parts)
            if text.isascii() or is_utf8(text):
                self._socket.send_text(text)
            else:
                self._refuse(call, _NOT_UTF8)
        self._end(exchange)

    def _end(self, exchange: Exchange) -> None:
        """A call is answered: there is room for others."""
        self._exchanges.discard(exchange)
        if len(exchange.body) > ACCOUNTED_BYTES:
            self.release(len(exchange.body))
        if len(self._exchanges) == self._most >> 1:
            self._socket.read_on()

    def begin(self, exchange: Exchange, head: AnswerHead, parts: list[bytes]) -> None:
        """Collect a large answer."""
        long = exchange.reply = LongAnswer(self, head)
        if head.length > MAX_ANSWER_BYTES:
            long.give_up(exchange, _TOO_LONG)
        else:
            for part in parts:
                long.stream(exchange, part)

    def refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        """Send an answer of our own."""
        self._refuse(_call_of(exchange), refusal)
        self._end(exchange)

    def _refuse(self, call: Call, refusal: Refusal) -> None:
        if call.expects_answer:
            self._socket.send_text(error_body(call, refusal.code, refusal.message))

    def stream(self, exchange: Exchange, data: bytes) -> None:
        """See ``Reply``; what is streamed has a reply of its own."""
        raise NotImplementedError

    def finish(self, exchange: Exchange) -> None:
        """See :meth:`stream`."""
        raise NotImplementedError

    def abort(self, exchange: Exchange) -> None:
        """Something broke here while an answer was passed on: the client must not wait for it."""
        self._socket.close(1011, "internal error")

    # for long answers

    def cancel(self, exchange: Exchange) -> None:
        """Want no more of an answer."""
        self._router.cancel(exchange)

    def reserve(self, size: int) -> bool:
        """Whether there is memory for so much more of this client's."""
        return self._bridge.memory.take(self._upgrade.client, size)

    def release(self, size: int) -> None:
        """Give it back."""
        self._bridge.memory.give_back(self._upgrade.client, size)


def _call_of(exchange: Exchange) -> Call:
    """Nothing but calls comes by WebSocket."""
    return cast(Call, exchange.call)


class LongAnswer:
    """The ``Reply`` of an exchange whose answer is collected, as it is too large to be held by the upstream."""

    __slots__ = ("_calls", "_head", "_parts", "_size")

    def __init__(self, calls: Calls, head: AnswerHead) -> None:
        self._calls = calls
        self._head = head
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def session(self) -> Session | None:
        """The connection's."""
        return self._calls.session

    @session.setter
    def session(self, session: Session | None) -> None:
        self._calls.session = session

    def stream(self, exchange: Exchange, data: bytes) -> None:
        """Keep more of it."""
        if self._size + len(data) > MAX_ANSWER_BYTES:
            self.give_up(exchange, _TOO_LONG)
        elif not self._calls.reserve(len(data)):
            self.give_up(exchange, _OVER_MEMORY)
        else:
            self._size += len(data)
            self._parts.append(data)

    def finish(self, exchange: Exchange) -> None:
        """It is whole."""
        self._calls.answer(exchange, self._head, self._parts)
        self.release()

    def abort(self, exchange: Exchange) -> None:
        """It broke off; nothing of it was sent."""
        self.refuse(exchange, _BROKEN_OFF)

    def give_up(self, exchange: Exchange, refusal: Refusal) -> None:
        """Nothing more of it is wanted."""
        self._calls.cancel(exchange)
        self.refuse(exchange, refusal)

    def refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        """Answer with an error in its place."""
        self.release()
        self._calls.refuse(exchange, refusal)

    def release(self) -> None:
        """Let go of what was collected."""
        self._calls.release(self._size)
        self._size, self._parts = 0, []

    def answer(self, exchange: Exchange, head: AnswerHead, parts: list[bytes]) -> None:
        """A whole answer in its place."""
        self.release()
        self._calls.answer(exchange, head, parts)

    def begin(self, exchange: Exchange, head: AnswerHead, parts: list[bytes]) -> None:
        """See ``Reply``: it has begun already."""
        raise NotImplementedError
