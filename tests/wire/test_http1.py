"""HTTP/1.1 framing: what heads mean, what is refused, and chunks in every cutting."""

from itertools import pairwise

import httptools
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.wire import http1
from evmlb.wire.http1 import (
    CHUNKED,
    UNTIL_CLOSE,
    BadMessage,
    ChunkedBody,
    clean_path,
    read_request_head,
    read_response_head,
)


def request(*lines: bytes, first: bytes = b"POST /mainnet HTTP/1.1", host: bytes = b"Host: x") -> bytes:
    return b"\r\n".join((first, *((host,) if host else ()), *lines, b"", b""))


def response(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join((first, *lines, b"", b""))


HOSTS = (b"", b"x", b"x:", b"x:8545", b"a_b.example", b"10.0.0.1:1", b"[::1]:80", b"[fe80::1%25eth0]", b"caf%C3%A9")
NO_HOSTS = (
    b"a b@/c",
    b"a b",
    b"a@b",
    b"a/b",
    b"a?b",
    b"a#b",
    b"caf\xc3\xa9",
    b"[::1",
    b"::1",
    b"a:b",
    b"a:1:2",
    b"<a>",
)
NAMES = (b"X", b"Cookie", b"Connection")


class RequestHeadTests(SynchronousTestCase):
    def test_common(self) -> None:
        """A common POST is plain: network, length and keep-alive are read from its head."""
        head = read_request_head(request(b"Content-Type: application/json", b"Content-Length: 12"))
        self.assertEqual(
            (head.is_plain, head.network, head.extra, head.query, head.length, head.keep_alive),
            (True, "mainnet", b"", b"", 12, True),
        )

    def test_memo(self) -> None:
        """From the second time on equal bytes give the very same head; the memo stays bounded whatever comes."""
        raw = request(b"X-Memo: again")
        first, second, third = (read_request_head(raw) for _ in range(3))
        self.assertEqual(first, second)
        self.assertIs(second, third)
        for number in range(6000):
            for _ in range(2):
                read_request_head(request(b"X-Memo: %d%b" % (number, b"m" * 1000)))
        self.assertLessEqual(sum(map(len, http1.request_heads)), http1._MEMO_BYTES // 4)

    def test_extra_path_and_query(self) -> None:
        """Behind the network come the extra path and the query, each as it was sent."""
        head = read_request_head(request(first=b"POST /main%6eet/a/b%20c/?x=1&y HTTP/1.1"))
        self.assertEqual((head.network, head.extra, head.query), ("mainnet", b"/a/b%20c/", b"?x=1&y"))

    def test_absolute_target(self) -> None:
        """A target in absolute form means its path."""
        head = read_request_head(request(first=b"GET http://other/mainnet/x HTTP/1.1"))
        self.assertEqual((head.network, head.extra), ("mainnet", b"/x"))

    def test_not_plain(self) -> None:
        """Another method, an old version, a page's Origin, a closing connection and an upgrade are looked at."""
        for raw in (
            request(first=b"GET /mainnet HTTP/1.1"),
            request(first=b"POST /mainnet HTTP/1.0"),
            request(b"Origin: https://page"),
            request(b"Connection: close"),
            request(b"Connection: Upgrade", b"Upgrade: websocket"),
        ):
            self.assertFalse(read_request_head(raw).is_plain, raw)

    def test_h2c_offer(self) -> None:
        """An offer of h2c is one to be ignored, with the body kept."""
        head = read_request_head(
            request(
                b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA", b"Content-Length: 3"
            )
        )
        self.assertEqual((head.upgrade, head.length, head.is_plain), (b"", 3, True))

    def test_keep_alive(self) -> None:
        """HTTP/1.1 stays unless told otherwise, HTTP/1.0 goes unless told otherwise."""
        for first, line, expected in (
            (b"POST / HTTP/1.1", b"X: y", True),
            (b"POST / HTTP/1.1", b"Connection: keep-alive, close", False),
            (b"POST / HTTP/1.0", b"X: y", False),
            (b"POST / HTTP/1.0", b"Connection: Keep-Alive", True),
        ):
            self.assertEqual(read_request_head(request(line, first=first)).keep_alive, expected, (first, line))

    def test_refused(self) -> None:
        """What is ambiguous or not understood is refused with a fitting status."""
        for status, raw in (
            (400, request(host=b"")),
            (400, request(b"Host: y")),
            (400, request(b"Content-Length: 1", b"Content-Length: 2")),
            (400, request(b"Content-Length: 1", b"Transfer-Encoding: chunked")),
            (400, request(b"Content-Length: -1")),
            (400, request(b"Content-Length: +1")),
            (400, request(b"Content-Length: 99999999999999999999999")),
            (501, request(b"Transfer-Encoding: gzip, chunked")),
            (400, request(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0")),
            (400, request(b"caf\xc3\xa9: X")),
            (400, request(first=b"POST /caf\xc3\xa9 HTTP/1.1")),
            (400, request(b"X: y", first=b"POST / HTTP/1.10")),
            (505, request(b"X: y", first=b"POST / HTTP/2.0")),
            *((400, request(host=b"Host: " + host)) for host in NO_HOSTS),
            (400, request(b"X : y")),
            (400, request(b" folded")),
            (400, request(b"X: a\x00b")),
            (400, request(b"X: a\nY: b")),
            (417, request(b"Expect: something")),
            (405, b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n"),
            (400, b"GARBAGE\r\n\r\n"),
            (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[:18]),
            (400, request(first=b"POST mainnet HTTP/1.1")),
        ):
            with self.assertRaises(BadMessage) as caught:
                read_request_head(raw)
            self.assertEqual(caught.exception.status, status, (raw, caught.exception.reason))

    def test_hosts(self) -> None:
        """A Host is a name or an address, with or without a port, or empty (RFC 9112, 3.2)."""
        for host in HOSTS:
            self.assertEqual(read_request_head(request(host=b"Host: " + host)).value(b"host"), host)

    def test_later_version(self) -> None:
        """A later minor version is the latest that is known (RFC 9110, 2.5), and whatever was refused still is."""
        for version in (b"1.2", b"1.9"):
            head = read_request_head(request(b"X: y", first=b"POST /mainnet HTTP/%b" % version))
            self.assertEqual((head.is_plain, head.network, head.http11), (True, "mainnet", True))
            self.assertRaises(BadMessage, read_request_head, request(b"X : y", first=b"POST / HTTP/%b" % version))
            self.assertRaises(BadMessage, read_request_head, request(host=b"", first=b"POST / HTTP/%b" % version))

    @settings(max_examples=200)
    @given(st.lists(st.integers(0x80, 0xFF), min_size=1, max_size=20), st.sampled_from(NAMES))
    def test_opaque_values(self, letters: list[int], name: bytes) -> None:
        """Bytes above 0x7F in a value are opaque (RFC 9110, 5.5), of both sides: nothing is made of them."""
        value = bytes(letters)
        head = read_request_head(request(b"%b: %b" % (name, value)))
        self.assertEqual((head.value(name.lower()), head.is_plain), (value, True))
        answer = read_response_head(response(b"%b: %b" % (name, value), first=b"HTTP/1.1 200 " + value))
        self.assertEqual((answer.value(name.lower()), answer.status), (value, 200))

    def test_expect_continue(self) -> None:
        """The one expectation is understood, in HTTP/1.1 only."""
        self.assertTrue(read_request_head(request(b"Expect: 100-Continue")).expects_continue)
        self.assertFalse(read_request_head(request(b"Expect: 100-continue", first=b"POST / HTTP/1.0")).expects_continue)

    @settings(max_examples=300)
    @given(st.binary(max_size=200))
    def test_fuzz(self, noise: bytes) -> None:
        """Any bytes give a head or a BadMessage, nothing else."""
        for raw in (noise + b"\r\n\r\n", request(noise), request(first=b"POST " + noise + b" HTTP/1.1")):
            try:
                head = read_request_head(raw)
            except BadMessage:
                continue
            self.assertIsInstance(head.network, str)


class CleanPathTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """Dot segments are resolved and never climb above the beginning, however they are written."""
        for path, expected in (
            (b"/", []),
            (b"/a", [b"a"]),
            (b"/a/", [b"a"]),
            (b"//a//b", [b"a", b"b"]),
            (b"/a/b/", [b"a", b"b", b""]),
            (b"/a/./b/../c", [b"a", b"c"]),
            (b"/../../a", [b"a"]),
            (b"/a/%2e%2E/b", [b"b"]),
            (b"/a/.%2e/%2e/b", [b"b"]),
        ):
            self.assertEqual(clean_path(path), expected, path)

    @given(st.lists(st.sampled_from([b"a", b"..", b".", b"", b"%2e%2e", b".%2E", b"b c"]), max_size=12))
    def test_never_climbs(self, segments: list[bytes]) -> None:
        """No dot segment is left in any path."""
        cleaned = clean_path(b"/" + b"/".join(segments))
        for segment in cleaned:
            self.assertNotIn(segment.lower().replace(b"%2e", b"."), (b".", b".."))


class ResponseHeadTests(SynchronousTestCase):
    def test_lengths(self) -> None:
        """A length is given, or the body is chunked, or it lasts until the connection ends, or there is none."""
        for raw, length in (
            (response(b"Content-Length: 5"), 5),
            (response(b"Transfer-Encoding: chunked"), CHUNKED),
            (response(), UNTIL_CLOSE),
            (response(first=b"HTTP/1.1 204 No Content"), 0),
            (response(b"Content-Length: 5", first=b"HTTP/1.1 304 Not Modified"), 0),
            (response(first=b"HTTP/1.1 103 Early Hints"), 0),
        ):
            self.assertEqual(read_response_head(raw).length, length, raw)

    def test_head_request(self) -> None:
        """An answer to HEAD has no body, and does not teach the memo that."""
        raw = response(b"Content-Length: 7", b"X-Only: here")
        self.assertEqual(read_response_head(raw, asked_with_head=True).length, 0)
        self.assertEqual(read_response_head(raw).length, 7)

    def test_encoding(self) -> None:
        """A compressed body is noticed."""
        self.assertTrue(read_response_head(response(b"Content-Encoding: gzip")).is_encoded)
        self.assertFalse(read_response_head(response(b"Content-Encoding: identity")).is_encoded)

    def test_blank_before_colon(self) -> None:
        """Blanks before a colon are removed from an answer (RFC 9112, 5.1), but from nothing that is folded."""
        for line in (b"Content-Length : 41", b"Content-Length \t: 41", b"X  : y\r\nContent-Length : 41"):
            for first in (b"HTTP/1.1 200 OK", b"HTTP/1.2 200 OK"):
                head = read_response_head(response(line, first=first))
                self.assertEqual((head.length, head.keep_alive), (41, True))
        for line in (b"X: y\r\n Content-Length : 41", b"Content Length: 41", b" : 41", b"Content-Length\x0b: 41"):
            self.assertRaises(BadMessage, read_response_head, response(line))
        self.assertRaises(BadMessage, read_response_head, response(b"Content-Length: 1", b"Content-Length : 2"))

    def test_later_version(self) -> None:
        """An answer of a later minor version is one of HTTP/1.1 (RFC 9110, 2.5)."""
        head = read_response_head(response(b"Content-Length: 3", first=b"HTTP/1.2 200 OK"))
        self.assertEqual((head.status, head.length, head.keep_alive), (200, 3, True))

    def test_until_close_does_not_stay(self) -> None:
        """A connection whose end is the body's end is not kept."""
        self.assertFalse(read_response_head(response()).keep_alive)

    def test_refused(self) -> None:
        """Nonsense is refused."""
        for raw in (
            b"hello\r\n\r\n",
            response(b"Transfer-Encoding: br"),
            response(b"Content-Length: 1", b"Content-Length: 2"),
            response(b"Content-Length: 1", b"Transfer-Encoding: chunked"),
        ):
            with self.assertRaises(BadMessage):
                read_response_head(raw)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """``data`` in pieces, cut at ``places``."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def feed(pieces: list[bytes]) -> tuple[bytes, bytes, bool]:
    """All data, the rest behind the end, and whether the end came."""
    body, data, rest = ChunkedBody(), b"", b""
    for piece in pieces:
        if body.done:
            rest += piece
        else:
            parts, rest = body.feed(piece)
            data += b"".join(parts)
    return data, rest, body.done


class _Collected:
    def __init__(self) -> None:
        self.data = b""
        self.done = False

    def on_body(self, piece: bytes) -> None:
        self.data += piece

    def on_message_complete(self) -> None:
        self.done = True


CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


class ChunkedBodyTests(SynchronousTestCase):
    def test_simple(self) -> None:
        """Chunks are joined, extensions and trailers dropped, and what follows is given back."""
        data = b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: z\r\n\r\nNEXT"
        self.assertEqual(feed([data]), (b"abcdefg", b"NEXT", True))

    @given(
        st.lists(st.binary(min_size=1, max_size=40), max_size=6),
        st.lists(st.integers(0, 1000), max_size=12),
        st.binary(max_size=10),
    )
    def test_every_cutting(self, chunks: list[bytes], places: list[int], rest: bytes) -> None:
        """However the bytes are cut, the data and the rest are the same as all at once, and as llhttp sees them."""
        encoded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        expected = (b"".join(chunks), rest, True)
        self.assertEqual(feed([encoded + rest]), expected)
        self.assertEqual(feed(cut(encoded + rest, places)), expected)
        self.assertEqual(feed([bytes([byte]) for byte in encoded + rest]), expected)
        collected = _Collected()
        httptools.HttpRequestParser(collected).feed_data(CHUNKED_HEAD + encoded)
        self.assertEqual((collected.data, collected.done), (expected[0], True))

    def test_refused(self) -> None:
        """What is not exactly a chunk is refused."""
        for data in (
            b"g\r\n",
            b"-1\r\n",
            b"0x3\r\nabc\r\n",
            b"3\r\nabcd\r\n",
            b"\r\n",
            b"f" * 16 + b"\r\n",
            b"3;" + b"x" * 2000 + b"\r\n",
            b"3" + b" " * 3000,
            b"0\r\n" + b"T: x\r\n" * 3000,
            b"3\nabc\n0\n\n" + b"x" * 2000,
        ):
            with self.assertRaises(BadMessage, msg=data[:20]):
                feed([data])

    @settings(max_examples=300)
    @given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
    def test_fuzz(self, noise: bytes, places: list[int]) -> None:
        """Any bytes give data or a BadMessage; what is complete to us is so to llhttp, with the same data."""
        try:
            data, rest, done = feed(cut(noise, places))
        except BadMessage:
            return
        if done:
            collected = _Collected()
            httptools.HttpRequestParser(collected).feed_data(CHUNKED_HEAD + noise[: len(noise) - len(rest)])
            self.assertEqual((collected.data, collected.done), (data, True))
