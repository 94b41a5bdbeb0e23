"""One client as the maker of its subscriptions sees it, and the two methods that are for it.

The hub of a network makes the events; here is what it has of one client. A client's calls for subscriptions are
answered by the hub; that a connection ended, it hears once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from evmlb.bridge.frames import text_header
from evmlb.interfaces import Subscriptions
from evmlb.jsonrpc import Call, Unreadable, read_value

if TYPE_CHECKING:
    from evmlb.bridge.socket import Socket

SUBSCRIBING = frozenset(("eth_subscribe", "eth_unsubscribe"))
_METHOD_NOT_FOUND = -32601
_INVALID_PARAMS = -32602
_SERVER_ERROR = -32000
_MAX_ID_BYTES = 1024


class Client:
    """A ``Subscriber``."""

    __slots__ = ("_hub", "_socket", "client", "max_subscriptions", "subscriptions")

    def __init__(self, socket: Socket, hub: Subscriptions | None, max_subscriptions: int) -> None:
        self._socket = socket
        self._hub = hub
        self.client = socket.upgrade.client
        self.subscriptions = 0
        self.max_subscriptions = max_subscriptions

    def take(self, call: Call) -> None:
        """See to an ``eth_subscribe`` or ``eth_unsubscribe``. Without an id nobody would know what came of it."""
        if not call.id:
            return
        if self._hub is None:
            self.refuse(call.id, _METHOD_NOT_FOUND, "subscriptions are not served for this network")
        elif call.method == "eth_subscribe":
            self._hub.subscribe(self, call)
        else:
            self._unsubscribe(self._hub, call)

    def _unsubscribe(self, hub: Subscriptions, call: Call) -> None:
        subscription_id = _only_text(bytes(call.params))
        if subscription_id is None:
            self.refuse(call.id, _INVALID_PARAMS, "invalid params: expected the id of a subscription")
        elif hub.unsubscribe(self, subscription_id):
            self.reply(call.id, b"true")
        else:
            self.refuse(call.id, _SERVER_ERROR, "subscription not found")

    def lost(self) -> None:
        """The connection ended."""
        if self._hub is not None:
            self._hub.gone(self)

    # what the hub does

    @property
    def is_open(self) -> bool:
        """Whether what is sent may still arrive."""
        return self._socket.can_send

    @property
    def queued_bytes(self) -> int:
        """Bytes that the client has not read, as far as they are held here."""
        return self._socket.queued_bytes

    def reply(self, call_id: bytes, result: bytes) -> None:
        """Answer a call by its result."""
        if call_id:
            self._socket.send_text(b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (call_id, result))

    def refuse(self, call_id: bytes, code: int, message: str) -> None:
        """Answer a call by an error."""
        if call_id:
            error = orjson.dumps({"code": code, "message": message})
            self._socket.send_text(b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (call_id, error))

    def notify(self, prefix: bytes, subscription_id: bytes, suffix: bytes) -> None:
        """Send one text message made of three parts."""
        header = text_header(len(prefix) + len(subscription_id) + len(suffix))
        self._socket.send_frame(b"".join((header, prefix, subscription_id, suffix)))

    def send_frame(self, frame: bytes) -> None:
        """Send a whole frame, made once for many."""
        self._socket.send_frame(frame)

    def close(self, code: int, reason: str) -> None:
        """Close the connection."""
        self._socket.close(code, reason)


def _only_text(params: bytes) -> str | None:
    """The string in a list of one string, else None."""
    try:
        match read_value(params or b"null", max_bytes=_MAX_ID_BYTES):
            case [str(text)]:
                return text
    except Unreadable:
        pass
    return None
