"""Accept-Encoding, and what it says of gzip."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.front.encodings import MAX_BYTES, accepts_gzip
from tests.support import run_property

ACCEPTED = (
    "gzip",
    "GZip",
    "x-gzip",
    "gzip, deflate, br",  # fetch of browsers and of Node
    "deflate, gzip;q=1.0, *;q=0.5",  # the example of RFC 9110, 12.5.3
    "compress;q=0.5, gzip;q=1.0",
    "gzip;q=1.0, identity; q=0.5, *;q=0",
    "*",
    "*;q=0.001",
    "identity;q=0, *",
    "identity;q=0,gzip;q=0.1",
    "gzip;q=0.5,identity;q=0.5",
    " \tgzip \t; \tq=1.000 , ",
    ",,gzip;Q=1.",
    "br;q=2, gzip",
)
REFUSED = (
    "",
    "identity",
    "deflate, br, zstd",
    "gzip;q=0",
    "gzip;q=0.000, *",
    "*;q=0",
    "gzip;q=0.4, identity;q=0.5",
    "gzip;q=0.5, *",  # plain is one of the others, and preferred
    "gzip;q=2",
    "gzip;q=",
    "gzip;q=-1",
    "gzip;q=0.5555",
    "gzip;q=1.001",
    "gzip;level=9",
    "gzip;q=1;q=0",
    "gzip q=1",
    "gzip, x-gzip;q=0",
    "gzip\x00",
    "gzipped",
    '"gzip"',
)

weights = st.integers(0, 1000)
codings = st.sampled_from(["gzip", "x-gzip", "identity", "*", "br", "deflate", "zstd"])


def wanted(items: list[tuple[str, int]]) -> bool:
    """What the RFC says, in thousandths, over a list of pairs: the oracle."""

    def weight(*names: str) -> int:
        said = [thousandths for name, thousandths in items if name in names]
        others = [thousandths for name, thousandths in items if name == "*"]
        return min(said or others or [0])

    return 0 < weight("gzip", "x-gzip") >= weight("identity")


class AcceptsGzip(SynchronousTestCase):
    def test_accepted(self) -> None:
        """The header names gzip, or everything, and does not like plain better."""
        for value in ACCEPTED:
            self.assertTrue(accepts_gzip(value.encode()), value)

    def test_refused(self) -> None:
        """Nothing is said of gzip, or it is excluded, or in a way that is none."""
        for value in REFUSED:
            self.assertFalse(accepts_gzip(value.encode()), value)

    def test_too_long(self) -> None:
        """Ten thousand weights are not read."""
        self.assertTrue(accepts_gzip(b"gzip".rjust(MAX_BYTES)))
        self.assertFalse(accepts_gzip(b"gzip".rjust(MAX_BYTES + 1)))
        self.assertFalse(accepts_gzip(b"gzip;q=0.5," * 10_000 + b"gzip"))

    def test_like_the_rfc(self) -> None:
        """Whatever codings a well-formed header names, with whatever weights."""

        @given(st.lists(st.tuples(codings, weights), max_size=8))
        def check(items: list[tuple[str, int]]) -> None:
            header = ", ".join(f"{name};q={thousandths / 1000:.3f}" for name, thousandths in items)
            self.assertIs(accepts_gzip(header.encode()), wanted(items), header)

        run_property(check)

    def test_anything(self) -> None:
        """Any bytes have an answer."""

        @given(st.lists(st.binary(max_size=6) | st.sampled_from([b"gzip", b";", b",", b"q=", b"*", b"0.", b" "])))
        def check(pieces: list[bytes]) -> None:
            self.assertIn(accepts_gzip(b"".join(pieces)), (True, False))

        run_property(check)
