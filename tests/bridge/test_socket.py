"""The fast lane beneath autobahn: for any bytes, however cut, the same as autobahn alone."""

from __future__ import annotations

from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import INegotiated
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from tests.bridge.support import KEY, BridgeWorld, Guest, close_payload, frame, read_frames, request
from tests.front.support import ClientTransport
from tests.support import run_property

MAX_MESSAGE = 300


class Listener:
    """A receiver that keeps messages, and answers each by its length where told to."""

    is_full = False
    owes = is_subscribed = False

    def __init__(self, socket: Any, *, answers: bool = False) -> None:
        self.socket = socket
        self.messages: list[bytes] = []
        self.answers = answers

    def received(self, message: bytes) -> None:
        self.messages.append(message)
        if self.answers:
            self.socket.send_text(b"%d" % len(message))

    def lost(self) -> None:
        pass


def ours(data: list[bytes]) -> tuple[list[bytes], bytes]:
    """Messages and answers of a socket of ours that reads these pieces."""
    guest = BridgeWorld(websocket={"max_message_bytes": MAX_MESSAGE}).open()
    listener = guest.socket.receiver = Listener(guest.socket, answers=True)
    for piece in data:
        guest.send(piece)
    return listener.messages, guest.take()


class Alone(WebSocketServerProtocol):
    """Autobahn as it comes, but for what is told of a failure: its code, too."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.state == self.STATE_OPEN:
            self.messages.append(payload)
            self.sendMessage(b"%d" % len(payload))


def autobahns(data: bytes) -> tuple[list[bytes], bytes]:
    """The same of autobahn alone, to which all comes at once."""
    factory = WebSocketServerFactory(reactor=object())
    limits = {"maxFramePayloadSize": MAX_MESSAGE, "maxMessagePayloadSize": MAX_MESSAGE}
    factory.setProtocolOptions(failByDrop=False, openHandshakeTimeout=0, closeHandshakeTimeout=0, **limits)
    protocol = Alone()
    protocol.factory = factory
    protocol.messages = []
    protocol.connectionMade = protocol._connectionMade
    transport = ClientTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived(request())
    transport.out = b""
    protocol.dataReceived(data)
    return protocol.messages, transport.out


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Data cut at these places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True) if start < end]


def until_close(data: bytes) -> list[tuple[int, bytes]]:
    """The frames up to the first close frame; what autobahn says after it has failed does not matter."""
    frames = []
    for first, payload in read_frames(data):
        frames.append((first, payload))
        if first == 0x88:
            break
    return frames


TEXTS = (
    st.binary(max_size=12)
    | st.text(max_size=8).map(str.encode)
    | st.sampled_from([120, 126, 299, 300, 301]).map(lambda size: b"y" * size)
)
KEYS = st.sampled_from([KEY, b"\x00\x00\x00\x00", b"\xff\xfe\xfd\xfc"])
GOOD = st.one_of(
    st.builds(frame, st.text(max_size=8).map(str.encode), key=KEYS),
    st.builds(frame, st.sampled_from([125, 126, 200]).map(lambda size: b"z" * size), key=KEYS),
    st.builds(frame, st.binary(max_size=8), st.just(2), key=KEYS),
    st.builds(frame, st.binary(max_size=125), st.sampled_from([9, 10])),
    st.builds(
        lambda one, ping, two: frame(one, fin=False) + frame(ping, 9) + frame(two, 0),
        *(st.text(max_size=5).map(str.encode),) * 3,
    ),
)
ODD = st.one_of(
    st.builds(frame, TEXTS),
    st.builds(
        frame,
        TEXTS,
        st.integers(0, 15),
        fin=st.booleans(),
        rsv=st.sampled_from([0, 0, 0, 1, 4]),
        key=st.sampled_from([KEY, KEY, KEY, None]),
    ),
    st.builds(frame, st.integers(0, 65535).map(close_payload), st.just(8)),
    st.just(frame(b"x", size=b"\x7e\x00\x01")),
    st.binary(max_size=6),
)


class AsAutobahn(SynchronousTestCase):
    def check(self, data: bytes, cuts: list[int]) -> None:
        expected, said = autobahns(data)
        messages, ours_said = ours(pieces(data, cuts))
        self.assertEqual(messages, expected)
        self.assertEqual(until_close(ours_said), until_close(said))

    def test_good_frames(self) -> None:
        """Good frames in any segmentation: the same messages, pongs and answers, in the same order."""

        @given(st.lists(GOOD, max_size=8), st.lists(st.integers(0, 4000), max_size=8))
        def check(frames: list[bytes], cuts: list[int]) -> None:
            self.check(b"".join(frames), cuts)

        run_property(check)

    def test_any_frames(self) -> None:
        """Bad ones among them: the same until it fails, and the same close frame, code and reason."""

        @given(st.lists(GOOD | ODD, max_size=6), st.lists(st.integers(0, 4000), max_size=6))
        def check(frames: list[bytes], cuts: list[int]) -> None:
            self.check(b"".join(frames), cuts)

        run_property(check)

    def test_byte_by_byte(self) -> None:
        """Every byte on its own, and all at once."""
        data = b"".join(
            (
                frame(b"one"),
                frame(b"two" * 50),
                frame(b"ping", 9),
                frame(b"th", fin=False),
                frame(b"", 9),
                frame(b"ree", 0),
                frame("fünf".encode(), key=b"\x00\x00\x00\x00"),
                frame(b"six", 2),
                frame(close_payload(1000, b"bye"), 8),
                frame(b"seven"),
            )
        )
        for cuts in ([], list(range(len(data)))):
            self.check(data, cuts)
        self.assertEqual(ours([data])[0], [b"one", b"two" * 50, b"three", "fünf".encode(), b"six"])

    def test_long(self) -> None:
        """What is too long for the fast lane, or comes too slowly, goes through autobahn."""
        world = BridgeWorld()
        guest = world.open()
        listener = guest.socket.receiver = Listener(guest.socket)
        texts = [b"a" * 65535, b"b" * 65536, b"c" * 200_000, b"d" * 5000, b"e"]
        data = b"".join(map(frame, texts))
        for start in range(0, len(data), 4000):
            guest.send(data[start : start + 4000])
        self.assertEqual(listener.messages, texts)


class Cases(SynchronousTestCase):
    """As Autobahn|Testsuite has them: what fails, and how."""

    def setUp(self) -> None:
        self.world = BridgeWorld(websocket={"max_message_bytes": 1000})

    def guest(self) -> Guest:
        guest = self.world.open()
        self.listener = guest.socket.receiver = Listener(guest.socket)
        return guest

    def failing(self, *frames: bytes) -> tuple[int, str]:
        """The close frame that frames get; nothing after them is read, and our side ends."""
        guest = self.guest()
        guest.send(b"".join(frames) + frame(b"more"))
        guest.send(frame(b"and more"))
        self.assertNotIn(b"more", b"".join(self.listener.messages))
        self.assertEqual(guest.state, "half")
        return guest.closed

    def test_protocol_errors(self) -> None:
        """1002 for what is no WebSocket."""
        cases = {
            "not masked": [frame(b"x", key=None)],
            "reserved bit": [frame(b"x", rsv=1)],
            "reserved bit of compression": [frame(b"x", rsv=4)],
            "reserved bit of a ping": [frame(b"x", 9, rsv=2)],
            "reserved opcode": [frame(b"x", 3)],
            "reserved control opcode": [frame(b"x", 11)],
            "continuation of nothing": [frame(b"x", 0)],
            "text inside a message": [frame(b"x", fin=False), frame(b"y")],
            "binary inside a message": [frame(b"x", fin=False), frame(b"y", 2)],
            "fragmented ping": [frame(b"x", 9, fin=False)],
            "ping of 126 bytes": [frame(b"x" * 126, 9)],
            "length of 2 bytes for 125": [frame(b"x" * 125, size=b"\x7e\x00\x7d")],
            "length of 8 bytes for 126": [frame(b"x" * 126, size=b"\x7f\x00\x00\x00\x00\x00\x00\x00\x7e")],
            "close of 1 byte": [frame(b"x", 8)],
        }
        for name, frames in cases.items():
            code, reason = self.failing(*frames)
            self.assertEqual(code, 1002, name)
            self.assertTrue(reason, name)

    def test_close_codes(self) -> None:
        """Codes that may be sent are answered by 1000, all others are a protocol error."""
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
            guest = self.guest()
            guest.send(frame(close_payload(code, b"bye"), 8))
            self.assertEqual((guest.closed, guest.state), ((1000, ""), "closed"), code)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
            self.assertEqual(self.failing(frame(close_payload(code), 8))[0], 1002, code)

    def test_close_without_code(self) -> None:
        """A close frame needs no code."""
        guest = self.guest()
        guest.send(frame(b"", 8))
        self.assertEqual((guest.closed, guest.state), ((1000, ""), "closed"))

    def test_invalid_utf8(self) -> None:
        """1007, in whole messages, across fragments, at the end of a message, and in a reason."""
        for frames in (
            [frame(b"\xff")],
            [frame(b"x" * 200 + b"\xed\xa0\x80")],
            [frame(b"\xc3")],
            [frame(b"\xc3", fin=False), frame(b"", 0)],
            [frame(b"a", fin=False), frame(b"\x80", 0)],
            [frame(close_payload(1000, b"\xff"), 8)],
        ):
            self.assertEqual(self.failing(*frames)[0], 1007, frames)

    def test_good_utf8_across_fragments(self) -> None:
        """A character may be cut by a fragment."""
        guest = self.guest()
        guest.send(frame(b"\xe2\x82", fin=False) + frame(b"\xac", 0))
        self.assertEqual(self.listener.messages, ["€".encode()])

    def test_binary_is_any_bytes(self) -> None:
        """Binary messages are not looked at."""
        guest = self.guest()
        guest.send(frame(b"\xff\x00", 2))
        self.assertEqual(self.listener.messages, [b"\xff\x00"])

    def test_too_big(self) -> None:
        """1009: by one frame's length, by the length it only announces, by fragments, in the fast lane's range too."""
        for frames in (
            [frame(b"x" * 1001)],
            [frame(b"x" * 70_000)],
            [frame(b"x", size=b"\x7f\x00\x00\x7f\xff\xff\xff\xff\xff")],
            [frame(b"x" * 600, fin=False), frame(b"y" * 600, 0)],
        ):
            code, reason = self.failing(*frames)
            self.assertEqual(code, 1009)
            self.assertIn("1000", reason)

    def test_pings(self) -> None:
        """Pings up to 125 bytes are answered with their payload, also between fragments; pongs are not."""
        for payload in (b"", b"x", b"\x00\xff" * 62 + b"y"):
            guest = self.guest()
            guest.send(frame(b"a", fin=False) + frame(payload, 9) + frame(b"b", 0) + frame(payload, 10))
            self.assertEqual(guest.frames(), [(0x8A, payload)])
            self.assertEqual(self.listener.messages, [b"ab"])

    def test_many_fragments(self) -> None:
        """Empty fragments and many of them are one message."""
        guest = self.guest()
        guest.send(frame(b"", fin=False) + frame(b"x", 0, fin=False) * 500 + frame(b"", 0))
        self.assertEqual(self.listener.messages, [b"x" * 500])

    def test_nothing_after_our_close(self) -> None:
        """After our close frame nothing is read but the client's, and then the connection ends cleanly."""
        guest = self.guest()
        guest.socket.close(1001, "stopping")
        guest.socket.send_text(b"late")
        guest.send(frame(b"more") + frame(b"ping", 9))
        self.assertEqual((guest.closed, guest.state), ((1001, "stopping"), "open"))
        guest.send(frame(close_payload(1001), 8))
        self.assertEqual((guest.take(), guest.state, self.listener.messages), (b"", "closed", []))

    def test_tls(self) -> None:
        """Over TLS, where no side can end alone, a connection that fails is closed behind the reason."""
        guest = self.guest()
        directlyProvides(guest.transport, INegotiated)
        guest.send(frame(b"x", key=None))
        self.assertEqual((guest.closed[0], guest.state), (1002, "closed"))

    def test_pushed_while_paused(self) -> None:
        """A transport may still deliver something after it was told to pause: it is read later, in its order."""
        guest = self.guest()
        self.listener.is_full = True
        guest.send(frame(b"one") + frame(b"two"))
        guest.socket.dataReceived(frame(b"three"))
        self.assertEqual(self.listener.messages, [b"one"])
        self.listener.is_full = False
        guest.socket.read_on()
        self.assertEqual(self.listener.messages, [b"one", b"two", b"three"])

    def test_wrong_after_our_close(self) -> None:
        """Who does wrong while we wait for its close frame is cut off."""
        guest = self.guest()
        guest.socket.close()
        guest.send(frame(b"x", key=None))
        self.assertEqual(guest.state, "aborted")
