"""Single values: durations, sizes, and how a value is shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config import values
from evmlb.config.parse import parse_duration, parse_size
from evmlb.config.values import Unexpected, did_you_mean, shown


class Durations(SynchronousTestCase):
    def test_as_go(self) -> None:
        """Every form of Go's ParseDuration that is not negative."""
        cases = {
            "250ms": 0.25,
            "0.5s": 0.5,
            ".5s": 0.5,
            "1.s": 1.0,
            "1h30m": 5400.0,
            "1.5h": 5400.0,
            "1h2m3.5s": 3723.5,
            "10µs": 1e-5,
            "10μs": 1e-5,
            "10us": 1e-5,
            "7ns": 7e-9,
            "+5s": 5.0,
            "0": 0.0,
            "-0": 0.0,
            "0s": 0.0,
            " 5s ": 5.0,
        }
        for text, seconds in cases.items():
            self.assertAlmostEqual(parse_duration(text), seconds, places=12, msg=text)
        self.assertEqual(parse_duration(0), 0.0)

    def test_refused(self) -> None:
        """What Go refuses, and what is negative or beyond a year."""
        for text in (
            "",
            "s",
            "5 s",
            "5S",
            "1h 30m",
            "h1",
            "5sec",
            "1e3s",
            "--5s",
            "-5s",
            "8761h",
            "9" * 400 + "h",
            "1,5s",
        ):
            self.assertRaises(Unexpected, parse_duration, text)

    def test_bare_number(self) -> None:
        """A number without a unit is told what to write, as text or as a number."""
        for value in ("5", 5):
            self.assertIn(": 5s or 5ms", str(self.assertRaises(ValueError, parse_duration, value)))

    def test_days(self) -> None:
        """Days are told in hours."""
        self.assertIn("write 48h", str(self.assertRaises(ValueError, parse_duration, "2d")))

    @given(st.text(alphabet="0123456789.+-hmsµun ", max_size=30))
    def test_seconds_or_refused(self, text: str) -> None:
        """Any text gives a finite number of seconds from 0 to a year, or Unexpected."""
        try:
            seconds = parse_duration(text)
        except Unexpected:
            return
        self.assertTrue(0 <= seconds <= values.YEAR_SECONDS)

    @given(st.integers(0, 8759), st.integers(0, 59), st.integers(0, 999))
    def test_sum_of_parts(self, hours: int, minutes: int, millis: int) -> None:
        """The parts add up."""
        self.assertAlmostEqual(
            parse_duration(f"{hours}h{minutes}m{millis}ms"), hours * 3600 + minutes * 60 + millis / 1000
        )


class Sizes(SynchronousTestCase):
    def test_units(self) -> None:
        """Powers of 1024 and of 1000, in any case, with or without a space; plain numbers are bytes."""
        cases = {"32MiB": 32 * 2**20, "64kib": 65536, "1GB": 10**9, "1.5KiB": 1536, "10 MB": 10**7, "7": 7, "7B": 7}
        for text, number in cases.items():
            self.assertEqual(parse_size(text), number)
        self.assertEqual(parse_size(4096), 4096)

    def test_refused(self) -> None:
        """Other letters are refused, with a guess."""
        for text in ("", "MiB", "-1", "1TB", "1e6", "32 M", "9" * 16):
            self.assertRaises(Unexpected, parse_size, text)
        self.assertIn("did you mean 64KiB?", str(self.assertRaises(ValueError, parse_size, "64k")))


class Numbers(SynchronousTestCase):
    def test_bounds(self) -> None:
        """Both bounds are within, and decimals are read exactly as Python reads them."""
        read = values.number(0.5, 10)
        for text, value in (("0.5", 0.5), ("10", 10.0), ("2.75", 2.75), ("010", 10.0)):
            self.assertEqual(read(text), value)
        for text in ("0.4999", "10.0001", "", "1e1", "-1", "+1", "nan", "inf", "1,5", "0x5", "1_0", "٣"):
            self.assertIn("from 0.5 to 10", str(self.assertRaises(Unexpected, read, text)))


class Shown(SynchronousTestCase):
    def test_harmless(self) -> None:
        """Short words, numbers and addresses are quoted."""
        for text in ("debg", "", "65536", "192.168.100.200/24", "a b", "tcp:80"):
            self.assertEqual(shown(text), f'"{text}"')

    def test_masked(self) -> None:
        """What is long, key-like or of odd characters is masked, and URLs as URLs."""
        for text in ("x" * 33, "0123456789abcdef", "p@ss", "a\nb", "ü", "abcdefghijklmno1"):
            self.assertTrue(shown(text).startswith("***"), text)
        self.assertNotIn("pass", shown("https://user:pass@host/"))
        self.assertIn("@host/", shown("https://user:pass@host/"))

    def test_did_you_mean(self) -> None:
        """The nearest word, in its own case, or nothing."""
        self.assertEqual(did_you_mean("PROT", ["port", "Other"]), "; did you mean port?")
        self.assertEqual(did_you_mean("zzz", ["port"]), "")


class Words(SynchronousTestCase):
    def test_expected_never_repeats(self) -> None:
        """Of a text that may be secret, the part of the message for secrets says nothing."""
        readers = (parse_duration, parse_size, values.ip_range, values.listen, values.header_name, values.boolean)
        for text in ("12345", "10.0.0.1/8", "99d", "32m", "expect"):
            for read in readers:
                try:
                    read(text)
                except Unexpected as error:
                    self.assertNotIn(text, error.expected.split())


class Endpoints(SynchronousTestCase):
    def test_requests(self) -> None:
        """Requests go over HTTP, or over WebSocket where a node has nothing else."""
        for scheme in ("http", "https", "ws", "wss"):
            self.assertEqual(values.rpc_endpoint(f"{scheme}://a:1").scheme, scheme)
        self.assertRaises(Unexpected, values.rpc_endpoint, "ftp://a")
