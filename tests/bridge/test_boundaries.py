"""Where frames end: against frames that were put together by hand, in any pieces."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.bridge.boundaries import NO_CODE, FrameWatch, close_frame
from tests.bridge.support import KEY, close_payload, frame, read_frames
from tests.support import run_property

SIZES = st.sampled_from((0, 1, 2, 125, 126, 127, 300))
FRAMES = st.builds(
    lambda size, opcode, fin, rsv, key: frame(b"\x88" * size, opcode, fin=fin, rsv=rsv, key=key),
    SIZES,
    st.sampled_from((0, 1, 2, 9, 10)),
    st.booleans(),
    st.integers(0, 7),
    st.sampled_from((None, KEY)),
)


class FrameWatchTests(SynchronousTestCase):
    def test_any_pieces(self) -> None:
        """In whatever pieces frames come, it is known after each whether one is begun, and where the last one ended."""

        @given(st.lists(FRAMES, max_size=5), st.lists(st.integers(1, 9000), min_size=1), st.booleans())
        def check(frames: list[bytes], sizes: list[int], closes: bool) -> None:
            if closes:
                frames = [*frames, frame(close_payload(4001, b"bye"), 8), b"more than nothing"]
            ends, at = {0}, 0
            for each in frames[: len(frames) - closes]:
                at += len(each)
                ends.add(at)
            watch, data, place, turn = FrameWatch(), b"".join(frames), 0, 0
            while place < len(data):
                piece = data[place : place + sizes[turn % len(sizes)]]
                inside = [end for end in ends if place < end <= place + len(piece)]
                self.assertEqual(watch.feed(piece), max(inside) - place if inside else 0)
                place, turn = place + len(piece), turn + 1
                if closes and place >= at:
                    self.assertEqual((watch.close_code, watch.is_between), (4001, True))
                else:
                    self.assertEqual((watch.close_code, watch.is_between), (None, place in ends))

        run_property(check)

    def test_byte_by_byte(self) -> None:
        """Headers of every length, one byte at a time."""
        for size in (0, 125, 126, 65536):
            for key in (None, KEY):
                watch, data = FrameWatch(), frame(b"x" * size, key=key)
                found = [watch.feed(data[place : place + 1]) for place in range(len(data))]
                self.assertEqual(found, [0] * (len(data) - 1) + [1])

    def code(self, data: bytes) -> int | None:
        watch = FrameWatch()
        for place in range(len(data)):
            watch.feed(data[place : place + 1])
        return watch.close_code

    def test_close_codes(self) -> None:
        """The code of a close frame is read, whoever sent it; one that cannot be counts as a breach of the protocol."""
        for key in (None, KEY):
            for payload, code in (
                (b"", NO_CODE),
                (b"x", NO_CODE),
                (close_payload(1000), 1000),
                (close_payload(4999, b"why" * 30), 4999),
                (close_payload(999), 1002),
                (close_payload(5000), 1002),
            ):
                self.assertEqual(self.code(frame(payload, 8, key=key)), code)
        self.assertEqual(self.code(frame(close_payload(1011), 8, key=None) + frame(close_payload(1000), 8)), 1011)
        self.assertIsNone(self.code(frame(close_payload(1011), 8)[:-1]))
        watch = FrameWatch()
        self.assertEqual((watch.feed(frame(b"x", 8) + b"more"), watch.close_code), (7, NO_CODE))

    def test_messages(self) -> None:
        """In whatever pieces frames come, a message may be put in where one ends, and nowhere within another."""
        messages = st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=4)

        @given(messages, st.lists(st.integers(1, 400), min_size=1))
        def check(messages: list[tuple[int, bool]], sizes: list[int]) -> None:
            frames, ends, at = [], {0}, 0
            for count, pinged in messages:
                for part in range(count):
                    frames.append(frame(b"x" * 130, 0 if part else 1, fin=part == count - 1, key=None))
                    if pinged:
                        frames.append(frame(b"p", 9, key=None))
                    at += sum(map(len, frames[-1 - pinged :]))
                    if part == count - 1:
                        ends |= {at, at - pinged * len(frame(b"p", 9, key=None))}
            watch, data, place, turn = FrameWatch(), b"".join(frames), 0, 0
            while place < len(data):
                piece = data[place : place + sizes[turn % len(sizes)]]
                watch.feed(piece)
                inside = [end for end in ends if place <= end <= place + len(piece)]
                self.assertEqual(watch.message_end, max(inside) - place if inside else None)
                place, turn = place + len(piece), turn + 1
                self.assertEqual(watch.is_between_messages, place in ends)

        run_property(check)

    def test_answers(self) -> None:
        """Messages that are no events are counted, in any pieces, fragments and blanks."""
        answer, event = b'{"jsonrpc":"2.0","id":1,"result":"method"}', b'{"jsonrpc":"2.0","method":"eth_subscription",'
        for payload, count in (
            (answer, 1),
            (b'[{"jsonrpc":"2.0","id":1,"result":{"method":"x"}}]', 1),
            (b'{"id":1,"method":"x"}', 1),
            (b"", 1),
            (event + b'"params":{"result":%b}}' % (b"x" * 300), 0),
            (b'{ "jsonrpc": "2.0",\n  "method": "eth_subscription", "params": {}}', 0),
            (b'{"method":"eth_subscription","params":{}}', 0),
        ):
            half = len(payload) // 2
            for data in (
                frame(payload, key=None),
                frame(payload, 2, key=None),
                frame(payload[:half], fin=False, key=None)
                + frame(b"ping", 9, key=None)
                + frame(payload[half:], 0, key=None),
            ):
                for size in (1, 7, len(data)):
                    watch = FrameWatch()
                    for start in range(0, len(data), size):
                        watch.feed(data[start : start + size])
                    self.assertEqual(watch.answers, count, (payload, size))

    def test_garbage(self) -> None:
        """Whatever comes, it ends nowhere else than in what came, and costs no memory."""

        @given(st.lists(st.binary(max_size=40)))
        def check(pieces: list[bytes]) -> None:
            watch: Any = FrameWatch()
            for piece in pieces:
                self.assertTrue(0 <= watch.feed(piece) <= len(piece))
                self.assertLess(len(watch._head), 14)

        run_property(check)


class CloseFrameTests(SynchronousTestCase):
    def test_to_client(self) -> None:
        """Not masked; a reason that is too long is cut."""
        self.assertEqual(read_frames(close_frame(1001, "bye")), [(0x88, close_payload(1001, b"bye"))])
        self.assertEqual(read_frames(close_frame(1001, "x" * 200)), [(0x88, close_payload(1001, b"x" * 123))])

    def test_to_node(self) -> None:
        """Masked."""
        self.assertEqual(close_frame(1001, "bye", KEY), frame(close_payload(1001, b"bye"), 8))
