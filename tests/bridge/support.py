"""A client's WebSocket in memory: frames by hand, before a real front, bridge and router, with spies for the nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
from twisted.internet import error
from twisted.python.failure import Failure

from evmlb.bridge.bridge import Bridge
from evmlb.config.schema import WebSocketConfig
from evmlb.jsonrpc import Call
from evmlb.policy.pages import Origins
from tests.front.support import ClientTransport, FrontWorld
from tests.support import config

KEY = b"\x11\x22\x33\x44"
UPGRADE = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
NONCE = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="


def request(*lines: bytes, path: bytes = b"/net", first: tuple[bytes, ...] = (*UPGRADE, NONCE)) -> bytes:
    """The request of an upgrade."""
    return b"\r\n".join((b"GET %b HTTP/1.1" % path, b"Host: x", *first, *lines, b"", b""))


def frame(
    payload: bytes = b"",
    opcode: int = 1,
    *,
    fin: bool = True,
    rsv: int = 0,
    key: bytes | None = KEY,
    size: bytes | None = None,
) -> bytes:
    """One frame of a client. ``key`` None: not masked; ``size``: the length's bytes, when they shall be others."""
    length = len(payload)
    if size is None:
        if length < 126:
            size = bytes((length,))
        else:
            size = b"\x7e" + length.to_bytes(2, "big") if length < 65536 else b"\x7f" + length.to_bytes(8, "big")
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if key is None:
        return bytes((first,)) + size + payload
    masked = bytes(byte ^ key[place % 4] for place, byte in enumerate(payload))
    return bytes((first, size[0] | 0x80)) + size[1:] + key + masked


def close_payload(code: int, reason: bytes = b"") -> bytes:
    return code.to_bytes(2, "big") + reason


def call(method: str = "eth_getBalance", call_id: bytes = b"1", params: bytes = b"[]") -> bytes:
    """The body of a call; without an id when that is empty."""
    member = b'"id":%b,' % call_id if call_id else b""
    return b'{"jsonrpc":"2.0",%b"method":"%b","params":%b}' % (member, method.encode(), params)


def read_frames(data: bytes) -> list[tuple[int, bytes]]:
    """First byte and payload of each frame of a server."""
    frames = []
    while data:
        first, length, start = data[0], data[1], 2
        assert length < 128, "a server masks nothing"
        if length >= 126:
            start = 4 if length == 126 else 10
            length = int.from_bytes(data[2:start], "big")
        assert len(data) >= start + length, "the frame is cut"
        frames.append((first, data[start : start + length]))
        data = data[start + length :]
    return frames


class WebTransport(ClientTransport):
    """A transport whose protocol may change; what its client has not read is queued."""

    @property
    def protocol(self) -> Any:
        return self.lane

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self.lane = protocol

    @property
    def queued_bytes(self) -> int:
        return self.unread


class BridgeWorld(FrontWorld):
    """A front with a bridge before a routing world. ``websocket``: keys of its configuration."""

    def __init__(self, *names: str, hub: Any = None, websocket: dict[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.config = config(websocket=WebSocketConfig(**(websocket or {})), shutdown_grace_seconds=8.0)
        hubs = {} if hub is None else {"net": hub}
        self.bridge = Bridge(self.config, 100, self.front.memory, self.clock.seconds, hubs)
        self.front.upgrades = self.bridge

    def visit(self, room: int | None = None, host: str = "192.0.2.1") -> Guest:
        """A client that has not asked for anything yet."""
        lane = self.front.build(Address(host))
        assert lane is not None
        return Guest(self, lane, room)

    def open(self, *lines: bytes, path: bytes = b"/net", room: int | None = None, host: str = "192.0.2.1") -> Guest:
        """A client whose WebSocket is open."""
        guest = self.visit(room, host)
        guest.send(request(*lines, path=path))
        head = guest.take()
        assert head.startswith(b"HTTP/1.1 101 "), head
        guest.transport.read()
        return guest

    def limit(self, **settings: Any) -> None:
        """Change limits on what all connections share."""
        self.bridge.config = replace(self.bridge.config, **settings)
        self.bridge.origins = Origins(self.bridge.config.allowed_origins)


class Address:
    def __init__(self, host: str) -> None:
        self.host = host


class Guest:
    """One client connection, by HTTP first."""

    def __init__(self, world: BridgeWorld, lane: Any, room: int | None) -> None:
        self.world = world
        self.transport = WebTransport(room)
        self.transport.lane = lane
        lane.makeConnection(self.transport)

    @property
    def socket(self) -> Any:
        return self.transport.lane

    @property
    def state(self) -> str:
        return self.transport.state

    def send(self, data: bytes) -> None:
        """Bytes arrive, as far as they are read."""
        self.transport.inbox.append(data)
        self.transport.flush()

    def say(self, *messages: bytes) -> None:
        """Text messages arrive, in one piece."""
        self.send(b"".join(map(frame, messages)))

    def take(self) -> bytes:
        """The bytes that came since the last call."""
        data, self.transport.out = self.transport.out, b""
        return data

    def frames(self) -> list[tuple[int, bytes]]:
        """The frames that came since the last call."""
        return read_frames(self.take())

    def texts(self) -> list[bytes]:
        """The text messages that came since the last call; nothing else may have come."""
        frames = self.frames()
        assert all(first == 0x81 for first, _ in frames), frames
        return [payload for _, payload in frames]

    def answers(self) -> list[Any]:
        """The same, read."""
        return [orjson.loads(text) for text in self.texts()]

    @property
    def closed(self) -> tuple[int, str]:
        """Code and reason of the one frame that came, a close frame."""
        [(first, payload)] = self.frames()
        assert first == 0x88, first
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    def lose(self, reason: type[Exception] = error.ConnectionDone) -> None:
        """The connection is gone."""
        self.transport.state = "gone"
        self.socket.connectionLost(Failure(reason()))


class HubSpy:
    """A ``Subscriptions`` that notes what it hears, and answers an ``eth_subscribe`` with an id at once."""

    def __init__(self) -> None:
        self.told_height = 0
        self.events: list[Any] = []
        self.subscribers: list[Any] = []
        self.answer: Callable[[Any, Call], None] = lambda subscriber, call: subscriber.reply(call.id, b'"0xabc"')

    def subscribe(self, subscriber: Any, call: Call) -> None:
        self.events.append(("subscribe", call.id, bytes(call.params)))
        self.subscribers.append(subscriber)
        subscriber.subscriptions += 1
        self.answer(subscriber, call)

    def unsubscribe(self, subscriber: Any, subscription_id: str) -> bool:
        self.events.append(("unsubscribe", subscription_id))
        return subscription_id == "0xabc" and subscriber in self.subscribers

    def gone(self, subscriber: Any) -> None:
        self.events.append("gone")
        self.subscribers.remove(subscriber)
