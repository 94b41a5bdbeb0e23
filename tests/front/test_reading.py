"""Requests put together from pieces: framing, limits, memory and time, without a connection."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb import errors
from evmlb.config.schema import LimitsConfig
from evmlb.errors import Refusal
from evmlb.front.reading import ACCOUNTED_BYTES, MAX_MARKS, Need, RequestReader, new_head
from tests.front.support import BALANCE, chunked, post
from tests.support import run_property

BODIES = st.sampled_from((b"", b"x", BALANCE, b"\r\n\r\n", b"0\r\n\r\n" * 3))
MESSAGES = st.one_of(
    st.tuples(BODIES, st.just(post)), st.tuples(BODIES, st.just(chunked)), st.just((b"", lambda _: b"\r\n"))
)


class Budget:
    """Memory for request bodies, a list of what was asked of it, and what is left."""

    def __init__(self, left: int = 10_000_000) -> None:
        self.left = left
        self.events: list[tuple[str, int]] = []

    def take(self, client: str, size: int) -> bool:
        self.events.append(("take", size))
        if size > self.left:
            return False
        self.left -= size
        return True

    def give_back(self, client: str, size: int) -> None:
        self.events.append(("give back", size))
        self.left += size


def bodies(reader: RequestReader, now: float = 0.0) -> list[bytes]:
    """The bodies of all requests that can be read; neither refusals nor wishes are expected."""
    found = []
    while not isinstance(read := reader.read(now), Need):
        assert not isinstance(read, Refusal), read
        found.append(read[1])
    return found


class ReaderTestCase(SynchronousTestCase):
    def make(self, memory: int = 10_000_000, **limits: Any) -> RequestReader:
        self.budget = Budget(memory)
        return RequestReader(LimitsConfig(**limits), self.budget, lambda head: "client")  # type: ignore[arg-type]

    def assertRefused(self, reader: RequestReader, refusal: Refusal | int) -> None:
        read = reader.read(0.0)
        assert isinstance(read, Refusal), read
        self.assertEqual(read if isinstance(refusal, Refusal) else read.status, refusal)


class FramingTests(ReaderTestCase):
    def test_one_after_the_other(self) -> None:
        """Each call reads one request and leaves what lies behind it."""
        reader = self.make()
        reader.feed(post(b"first") + chunked(b"second") + post(b"third"))
        for body in (b"first", b"second", b"third"):
            self.assertFalse(reader.is_empty)
            read = reader.read(0.0)
            assert isinstance(read, tuple)
            self.assertEqual((read[1], read[0].network), (body, "net"))
            self.assertIs(reader.head, read[0])
        self.assertEqual((reader.is_empty, reader.read(0.0)), (True, Need.BYTES))

    def test_every_cutting(self) -> None:
        """However the bytes are cut, the bodies are those that were sent, and nothing is kept behind the last."""

        @settings(max_examples=200, deadline=None)
        @given(st.lists(MESSAGES, max_size=5), st.lists(st.integers(1, 200), max_size=20))
        def check(messages: list[tuple[bytes, Any]], cuts: list[int]) -> None:
            rest = b"".join(build(body) for body, build in messages)
            reader, found = self.make(), []
            for cut in (*cuts, len(rest)):
                reader.feed(rest[:cut])
                rest = rest[cut:]
                found += bodies(reader)
            self.assertEqual(found, [body for body, build in messages if build in (post, chunked)])
            self.assertTrue(reader.is_empty)

        run_property(check)

    def test_empty_lines(self) -> None:
        """Empty lines before a request begin none, and none is kept."""
        reader = self.make()
        reader.feed(b"\r\n" * 1000)
        self.assertEqual(reader.read(5.0), Need.BYTES)
        self.assertEqual((reader.is_empty, reader.begun_at), (True, None))

    def test_leave(self) -> None:
        """Leave to send is wished for once, and not when the body is on its way or unwanted."""
        head, body = post(BALANCE, b"Expect: 100-continue").split(b"\r\n\r\n")
        reader = self.make()
        reader.feed(head + b"\r\n\r\n")
        self.assertEqual([reader.read(0.0), reader.read(0.0)], [Need.LEAVE, Need.BYTES])
        reader.feed(body)
        self.assertEqual(bodies(reader), [body])
        reader.feed(head + b"\r\n\r\n" + body[:1])
        self.assertEqual(reader.read(0.0), Need.BYTES)
        reader = self.make(max_body_bytes=10)
        reader.feed(head + b"\r\n\r\n")
        self.assertRefused(reader, errors.TOO_LARGE)

    def test_ahead(self) -> None:
        """Bytes that were not looked at are counted, those of a body under construction are not."""
        reader = self.make()
        reader.feed(post()[:-1])
        self.assertEqual(reader.ahead, len(post()) - 1)
        reader.read(0.0)
        self.assertEqual((reader.ahead, reader.is_empty), (0, False))


class RefusalTests(ReaderTestCase):
    def test_head_of_the_refused(self) -> None:
        """A refusal comes with the head of its own request, if that could be read, never with another's."""
        reader = self.make()
        reader.feed(post() + b"nonsense\r\n\r\n")
        self.assertIsInstance(reader.read(0.0), tuple)
        self.assertRefused(reader, 400)
        self.assertIs(reader.head, None)
        reader = self.make()
        reader.feed(b"POST /net HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
        self.assertRefused(reader, 400)
        assert reader.head is not None
        self.assertEqual(reader.head.network, "net")

    def test_head_too_long(self) -> None:
        """A head beyond its limit is 431, whole or not, and one of just the limit is read."""
        head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        for data, limit in ((head, len(head) - 1), (head[:-1], len(head) - 2)):
            reader = self.make(max_header_bytes=limit)
            reader.feed(data)
            self.assertRefused(reader, 431)
        reader = self.make(max_header_bytes=len(head))
        reader.feed(head + b"y" * 100)
        self.assertIsInstance(reader.read(0.0), tuple)

    def test_websocket(self) -> None:
        """An upgrade is refused before its body is awaited."""
        reader = self.make()
        reader.feed(post(BALANCE, b"Connection: Upgrade", b"Upgrade: websocket")[: -len(BALANCE)])
        self.assertRefused(reader, errors.NO_WEBSOCKET)

    def test_stays_half_read(self) -> None:
        """After a refusal the bytes are forgotten, but not that its client may be sending still."""
        reader = self.make(max_body_bytes=10)
        reader.feed(chunked(b"x" * 100))
        self.assertRefused(reader, errors.TOO_LARGE)
        reader.drop()
        self.assertEqual((reader.ahead, reader.begun_at, reader.is_empty), (0, 0.0, False))


class MarksTests(ReaderTestCase):
    def test_short(self) -> None:
        """A body up to the bound may be anything."""
        reader = self.make()
        reader.feed(post(b"[" * MAX_MARKS))
        self.assertEqual(len(bodies(reader)[0]), MAX_MARKS)

    def test_punctuation(self) -> None:
        """A longer one may have so many bytes of punctuation, blanks and other letters, however it comes."""
        for unit in (b"[]", b"1,", b" ", b"\\n", "\u00e9".encode()):
            body = unit * (3 * MAX_MARKS // len(unit))
            for data in (post(body), chunked(body, size=100_000)):
                reader = self.make(memory=64 * 1024 * 1024)
                for start in range(0, len(data), 1024 * 1024):
                    reader.feed(data[start : start + 1024 * 1024])
                    read = reader.read(0.0)
                    if isinstance(read, Refusal):
                        break
                assert isinstance(read, Refusal), unit
                self.assertEqual((read.status, reader.ahead), (413, 0))

    def test_data(self) -> None:
        """Of hexadecimal data, as long calls have it, there may be as much as a body may hold, in pieces or whole."""
        body = b'{"params":["0x%b"],"x":"%b"}' % (b"0a" * (2 * MAX_MARKS), b"," * (MAX_MARKS - 30))
        for size in (len(body) + 1000, 100_000, 999_983):
            reader = self.make(memory=64 * 1024 * 1024)
            data = post(body) + post(body)
            found = []
            for start in range(0, len(data), size):
                reader.feed(data[start : start + size])
                found += bodies(reader)
                reader.release()
            self.assertEqual([len(each) for each in found], [len(body)] * 2)


class MemoryTests(ReaderTestCase):
    def test_grows_with_the_body(self) -> None:
        """Memory is reserved for bytes that are there, of large bodies only, and given back once."""
        reader = self.make()
        data = post(b"x" * (ACCOUNTED_BYTES + 10))
        for at in range(0, len(data), ACCOUNTED_BYTES):
            self.assertEqual(self.budget.events, [])
            reader.feed(data[at : at + ACCOUNTED_BYTES])
            read = reader.read(0.0)
        self.assertIsInstance(read, tuple)
        self.assertEqual((self.budget.events, reader.is_empty), ([("take", ACCOUNTED_BYTES + 10)], False))
        reader.release()
        reader.release()
        self.assertEqual((self.budget.left, len(self.budget.events), reader.is_empty), (10_000_000, 2, True))

    def test_none_left(self) -> None:
        """Without memory the request is refused, and what it had is given back."""
        reader = self.make(memory=100_000)
        reader.feed(post(b"x" * 150_000)[:90_000])
        self.assertEqual(reader.read(0.0), Need.BYTES)
        reader.feed(b"x" * 50_000)
        self.assertRefused(reader, errors.OVER_MEMORY)
        reader.drop()
        reader.release()
        self.assertEqual(self.budget.left, 100_000)


class TimeTests(ReaderTestCase):
    def test_begins_with_the_first_byte(self) -> None:
        """A request's time counts from when its first byte is looked at, to its end, however it trickles."""
        reader = self.make()
        data = b"\r\n" + post()
        for at in range(len(data)):
            reader.feed(data[at : at + 1])
            read = reader.read(float(at))
            self.assertEqual(reader.begun_at, None if at < 2 or at == len(data) - 1 else 2.0)
        self.assertIsInstance(read, tuple)

    def test_each_has_its_own(self) -> None:
        """The next request's time does not begin while it only waits for its turn."""
        reader = self.make()
        reader.feed(post() + post()[:20])
        reader.read(1.0)
        self.assertIs(reader.begun_at, None)
        reader.read(9.0)
        self.assertEqual(reader.begun_at, 9.0)


class NewHeadTests(SynchronousTestCase):
    def test_what_takes_care(self) -> None:
        """A head is read on the spot when it is whole, within the limit and well formed; else it is the reader's."""
        data = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        head = new_head(data, len(data), len(data))
        assert head is not None
        self.assertEqual(head.method, b"GET")
        self.assertIs(new_head(data, len(data), len(data) - 1), None)
        self.assertIs(new_head(data[:-1], 3, 1000), None)
        self.assertIs(new_head(b"nonsense\r\n\r\n", 12, 1000), None)
