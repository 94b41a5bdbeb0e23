"""A client's messages on a pipe: whole, in any pieces, and what breaks the rules."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.bridge.sieve import Breach, Message, Sieve
from tests.bridge.support import KEY, close_payload, frame
from tests.support import run_property

MOST = 1000


def fed(data: bytes, size: int = 1 << 20) -> list[bytes | Message | Breach]:
    sieve, steps = Sieve(MOST), []
    for start in range(0, len(data), size):
        steps += sieve.feed(data[start : start + size])
    return steps


class SieveTests(SynchronousTestCase):
    def test_any_pieces(self) -> None:
        """Messages of any fragments, control frames between them: all come out, in their order, whatever the pieces."""
        parts = st.lists(st.binary(max_size=150), min_size=1, max_size=4)

        @given(st.lists(st.tuples(parts, st.booleans()), max_size=4), st.integers(1, 300))
        def check(messages: list[tuple[list[bytes], bool]], size: int) -> None:
            data, expected = b"", []
            for payloads, pinged in messages:
                frames = [
                    frame(payload, 0 if place else 2, fin=place == len(payloads) - 1)
                    for place, payload in enumerate(payloads)
                ]
                ping = frame(b"?", 9)
                if pinged:
                    expected.append(ping)
                    data += b"".join(frames[:-1]) + ping + frames[-1]
                else:
                    data += b"".join(frames)
                expected.append(Message(b"".join(frames), b"".join(payloads)))  # type: ignore[arg-type]
            self.assertEqual(fed(data, size), expected)

        run_property(check)

    def test_held(self) -> None:
        """What is held is counted, and nothing is between two messages."""
        sieve = Sieve(MOST)
        data = frame(b"x" * 500, fin=False) + frame(b"y" * 400, 0)
        sieve.feed(data[:-1])
        self.assertEqual((sieve.held_bytes, sieve.messages), (len(data) - 1 + 500, 0))
        sieve.feed(data[-1:])
        self.assertEqual((sieve.held_bytes, sieve.messages), (0, 1))

    def test_breaches(self) -> None:
        """What RFC 6455 forbids a client is a breach, once, and nothing after it comes through."""
        begun = frame(b"x", fin=False)
        for code, data in (
            (1002, frame(b"x", key=None)),
            (1002, frame(b"x", rsv=4)),
            (1002, frame(b"x", rsv=1)),
            (1002, frame(b"x", 3)),
            (1002, frame(b"x", 11)),
            (1002, frame(b"x", 9, fin=False)),
            (1002, frame(b"x" * 126, 9)),
            (1002, frame(b"x", 0)),
            (1002, begun + frame(b"y")),
            (1009, frame(b"x" * (MOST + 1))),
            (1009, frame(b"x" * MOST, fin=False) + frame(b"y", 0)),
            (1009, frame(b"", 1, size=b"\x7f" + b"\xff" * 8)),
            (1009, begun + frame(b"", 0, fin=False) * MOST),
        ):
            for size in (1, 1 << 20):
                steps = fed(data + frame(b"more") + frame(close_payload(1000), 8), size)
                [breach] = steps
                assert isinstance(breach, Breach), steps
                self.assertEqual(breach.code, code)

    def test_broken_holds_nothing(self) -> None:
        """After a breach nothing is kept of what comes."""
        sieve = Sieve(MOST)
        sieve.feed(frame(b"x", key=None))
        for _ in range(10):
            self.assertEqual(sieve.feed(b"z" * 10_000), [])
        self.assertEqual(sieve.held_bytes, 0)

    def test_any_bytes(self) -> None:
        """Whatever comes, what is held stays bounded, and no message is longer than it may be."""

        @given(st.lists(st.binary(max_size=60), max_size=20))
        def check(pieces: list[bytes]) -> None:
            sieve = Sieve(20)
            for piece in pieces:
                for step in sieve.feed(piece):
                    if isinstance(step, Message):
                        self.assertLessEqual(len(step.payload), 20)
                self.assertLess(sieve.held_bytes, 20 + 40 + 40 + 200)

        run_property(check)

    def test_close(self) -> None:
        """A close frame passes like any control frame, in the middle of a message, too."""
        self.assertEqual(fed(frame(b"x", fin=False) + frame(b"", 8)), [frame(b"", 8)])
        self.assertEqual(len(KEY), 4)
