"""HTTP/1.1 framing, both sides, without I/O.

A message is cut at its blank line. Its head, always whole, is read by httptools (llhttp) and becomes an immutable
:class:`RequestHead` or :class:`ResponseHead`; the body behind it is counted here. That division has three gains:

* heads repeat: a client or node on a kept connection sends the same bytes again and again, so a small memo from the
  bytes of a head to its meaning replaces parsing (0.5 us against 2; ``bench/micro.py``). Equal bytes mean the same;
* nothing is ever fed to a parser beyond the message it belongs to, so pipelining, ``HEAD``, 1xx answers and upgrades
  need no parser state, and an idle connection holds no parser;
* every byte is counted, which llhttp does not do: a head has a limit, a body has a limit.

What llhttp accepts and we refuse (RFC 9112): a Transfer-Encoding other than ``chunked``, one on HTTP/1.0, no Host, two
of them, or one that is no host. What it refuses and we take: later minor versions of HTTP/1 (RFC 9110, 2.5), and in a
node's answer blanks between a header's name and its colon (RFC 9112, 5.1). Bytes above 0x7F in the value of a header
are opaque (RFC 9110, 5.5): they are compared and passed on, never decoded as a text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import httptools
import msgspec

from evmlb.memo import Memo

END_OF_HEAD: Final = b"\r\n\r\n"

CHUNKED: Final = -1
"""``length`` of a message whose body comes in chunks."""
UNTIL_CLOSE: Final = -2
"""``length`` of an answer whose body ends with the connection."""

_MEMO_HEADS = 2048
_MEMO_BYTES = 8 * 1024 * 1024
_MEMO_HEAD_BYTES = 2048


class BadMessage(Exception):
    """The peer broke the protocol. ``status`` is the hint what to answer, when the peer is a client."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


Headers = tuple[tuple[bytes, bytes], ...]
"""Names in lower case, values stripped, in the order in which they came."""


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """What a client asks, but for the body.

    ``network`` is the path's first segment, decoded; ``extra`` the cleaned path behind it; ``query`` begins with its
    question mark. ``length`` is the body's length in bytes or ``CHUNKED``. ``is_plain`` says that nothing but the
    body needs a look: a POST that comes from no browser page, no upgrade, an HTTP/1.1 connection that stays.
    """

    is_plain: bool
    method: bytes
    path: bytes
    network: str
    extra: bytes
    query: bytes
    length: int
    keep_alive: bool
    http11: bool
    expects_continue: bool
    upgrade: bytes
    is_json: bool
    origin: bytes
    forwarded_for: bytes
    is_marked: bool
    headers: Headers

    def value(self, name: bytes) -> bytes:
        """All values of a header joined by commas, empty when there is none."""
        return b", ".join(value for key, value in self.headers if key == name)


_MARKS = (b"x-evmlb-explain", b"x-fast-track", b"x-high-priority", b"high_prio")
"""Headers by which a client asks for another treatment of its request."""


class ResponseHead(msgspec.Struct, frozen=True, gc=False):
    """How a node answers, but for the body. ``length`` may be ``CHUNKED`` or ``UNTIL_CLOSE``."""

    status: int
    length: int
    keep_alive: bool
    content_type: bytes
    is_encoded: bool
    headers: Headers

    def value(self, name: bytes) -> bytes:
        """The first value of a header, empty when there is none."""
        return next((value for key, value in self.headers if key == name), b"")


class _Collector:
    """What httptools calls while it reads one head. ``fields`` joins the values of a repeated name by commas."""

    __slots__ = ("complete", "fields", "headers", "repeated", "target")

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.fields: dict[bytes, bytes] = {}
        self.repeated: set[bytes] = set()
        self.target = b""
        self.complete = False

    def on_url(self, piece: bytes) -> None:
        self.target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        name, value = name.lower(), value.strip(b" \t")
        self.headers.append((name, value))
        if name in self.fields:
            self.repeated.add(name)
            value = self.fields[name] + b", " + value
        self.fields[name] = value

    def on_headers_complete(self) -> None:
        self.complete = True


def _read(raw: bytes, parser_class: Any, mend: Callable[[bytes], bytes]) -> tuple[Any, _Collector]:
    """Read a head by llhttp; one that it refuses once more as ``mend`` makes it, if that is another one."""
    collector = _Collector()
    parser = parser_class(collector)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        mended = mend(raw)
        if mended != raw:
            return _read(mended, parser_class, lambda same: same)
        raise BadMessage(f"malformed HTTP: {error}") from None
    if not collector.complete:
        raise BadMessage("malformed HTTP: the head ends where it should go on")
    return parser, collector


_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LATER_REQUEST = re.compile(rb"\A(%b [^ \r\n]+ HTTP/1\.)[2-9]\r\n" % _TOKEN)
_LATER_ANSWER = re.compile(rb"\AHTTP/1\.[2-9] ")
_BLANK_BEFORE_COLON = re.compile(rb"(?<=\r\n)(%b)[ \t]+:" % _TOKEN)


def _as_known_request(raw: bytes) -> bytes:
    """A request of a later minor version is one of the latest that is known (RFC 9110, 2.5)."""
    return _LATER_REQUEST.sub(rb"\g<1>1\r\n", raw)


def _as_known_answer(raw: bytes) -> bytes:
    """An answer likewise; and a proxy removes blanks before a colon, which a server must not take (RFC 9112, 5.1)."""
    return _BLANK_BEFORE_COLON.sub(rb"\1:", _LATER_ANSWER.sub(b"HTTP/1.1 ", raw))


class Heads(Memo[bytes, msgspec.Struct]):
    """Heads by their bytes. One that was read takes some three times as much.

    A head is kept when it comes for the second time: those with an id of their own in every request (tracing) would
    only push the others out.
    """

    def __init__(self) -> None:
        super().__init__(_MEMO_BYTES, 4 * _MEMO_HEAD_BYTES)
        self._seen_once: set[int] = set()

    def note(self, raw: bytes, head: msgspec.Struct) -> None:
        """A head was read."""
        key = hash(raw)
        if key not in self._seen_once:
            if len(self._seen_once) >= _MEMO_HEADS:
                self._seen_once.clear()
            self._seen_once.add(key)
        else:
            self.keep(raw, head, 4 * len(raw))


request_heads: Final = Heads()
"""Request heads seen before: the hot lane looks here first, then calls :func:`read_request_head`."""
response_heads: Final = Heads()
"""The same for answers of nodes."""


def read_request_head(raw: bytes) -> RequestHead:
    """The meaning of a whole request head (to and with its blank line); raises :class:`BadMessage`."""
    known = request_heads.get(raw)
    if known is not None:
        return known  # type: ignore[return-value]
    parser, collector = _read(raw, httptools.HttpRequestParser, _as_known_request)
    version = parser.get_http_version()
    if version not in ("1.0", "1.1"):
        raise BadMessage("only HTTP/1.0 and HTTP/1.1 are spoken here", 505)
    http11 = version == "1.1"
    method, field = parser.get_method(), collector.fields.get
    path, query = _split_target(collector.target, method)
    segments = clean_path(path)
    options = _tokens(field(b"connection", b""))
    keep_alive = b"close" not in options and (http11 or b"keep-alive" in options)
    upgrade = _upgrade(options, field(b"upgrade", b"")) if options else b""
    expects = b"expect" in collector.fields and _expects_continue(field(b"expect", b""), http11)
    origin = field(b"origin", b"")
    head = RequestHead(
        is_plain=method == b"POST" and http11 and keep_alive and not upgrade and not origin,
        method=method,
        path=path,
        network=_text(segments[0]) if segments else "",
        extra=b"".join([b"/" + segment for segment in segments[1:]]),
        query=query,
        length=_request_length(collector, http11),
        keep_alive=keep_alive,
        http11=http11,
        expects_continue=expects,
        upgrade=upgrade,
        is_json=_is_json(field(b"content-type", b"")),
        origin=origin,
        forwarded_for=field(b"x-forwarded-for", b""),
        is_marked=any(name in collector.fields for name in _MARKS),
        headers=tuple(collector.headers),
    )
    request_heads.note(raw, head)
    return head


def read_response_head(raw: bytes, *, asked_with_head: bool = False) -> ResponseHead:
    """The meaning of a whole response head; raises :class:`BadMessage`. ``asked_with_head``: there is no body."""
    if not asked_with_head:
        known = response_heads.get(raw)
        if known is not None:
            return known  # type: ignore[return-value]
    parser, collector = _read(raw, httptools.HttpResponseParser, _as_known_answer)
    status, field = parser.get_status_code(), collector.fields.get
    options = _tokens(field(b"connection", b""))
    length = 0 if asked_with_head or status in (204, 304) or status < 200 else _length(collector, UNTIL_CLOSE, 400)
    stays = b"close" not in options and (parser.get_http_version() == "1.1" or b"keep-alive" in options)
    head = ResponseHead(
        status=status,
        length=length,
        keep_alive=stays and length != UNTIL_CLOSE,
        content_type=field(b"content-type", b""),
        is_encoded=field(b"content-encoding", b"").lower() not in (b"", b"identity"),
        headers=tuple(collector.headers),
    )
    if not asked_with_head:
        response_heads.note(raw, head)
    return head


def _text(segment: bytes) -> str:
    """A path segment as text, percent-decoded."""
    return (unquote_to_bytes(segment) if b"%" in segment else segment).decode("utf-8", "replace")


def _tokens(value: bytes) -> list[bytes]:
    """The members of a comma-separated list, in lower case."""
    return [token.strip(b" \t") for token in value.lower().split(b",")] if value else []


def _expects_continue(value: bytes, http11: bool) -> bool:
    expectations = [token for token in _tokens(value) if token]
    if any(token != b"100-continue" for token in expectations):
        raise BadMessage("the expectation cannot be met", 417)
    return bool(expectations) and http11


def _upgrade(options: list[bytes], value: bytes) -> bytes:
    """The protocol that the client wants to change to; only WebSocket is one to us.

    An offer of h2c is one that a server may ignore (RFC 9110, 7.8), and Java's client makes it on every POST.
    """
    return b"websocket" if b"upgrade" in options and b"websocket" in _tokens(value) else b""


_HOST = re.compile(rb"(?:\[[0-9A-Za-z:.%_~!$&'()*+,;=-]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
"""``uri-host [ ":" port ]`` (RFC 9112, 3.2; RFC 3986, 3.2.2), which may be empty."""


def _request_length(collector: _Collector, http11: bool) -> int:
    if b"host" in collector.repeated or (http11 and b"host" not in collector.fields):
        raise BadMessage("a request has exactly one Host")
    if _HOST.fullmatch(collector.fields.get(b"host", b"")) is None:
        raise BadMessage("Host is neither a name nor an address")
    length = _length(collector, 0, 501)
    if length == CHUNKED and not http11:
        raise BadMessage("HTTP/1.0 has no transfer coding")
    return length


def _length(collector: _Collector, without: int, status: int) -> int:
    """The length that the head gives, ``without`` if it gives none; llhttp has seen to Content-Length."""
    coding = collector.fields.get(b"transfer-encoding")
    if coding is not None:
        if coding.lower() != b"chunked":
            raise BadMessage("the only transfer coding understood is chunked", status)
        return CHUNKED
    length = collector.fields.get(b"content-length")
    return without if length is None else int(length)


def _is_json(content_type: bytes) -> bool:
    if content_type in (b"", b"application/json"):
        return True
    kind = content_type.partition(b";")[0].strip(b" \t").lower()
    return kind in (b"application/json", b"application/json-rpc", b"application/jsonrequest") or kind.endswith(b"+json")


_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


def _split_target(target: bytes, method: bytes) -> tuple[bytes, bytes]:
    """Path and query (with its question mark) of a request target, in origin or absolute form (RFC 9112, 3.2)."""
    if method == b"CONNECT":
        raise BadMessage("this is no forward proxy", 405)
    absolute = _ABSOLUTE.match(target) if target[:1] != b"/" else None
    if absolute is not None:
        target = target[absolute.end() :] or b"/"
    if target == b"*":
        return b"", b""
    if not target.startswith(b"/"):
        raise BadMessage("the request target is neither a path nor a URL")
    path, mark, query = target.partition(b"#")[0].partition(b"?")
    return path, mark + query


_MANY_CODINGS = 4
_HIDDEN_DOTS = re.compile(rb"(?:\A|[/\\])\.\.?(?:[\x00-\x20/\\;?#]|\Z)")


def _hides_dots(segment: bytes) -> bool:
    """Whether a server behind us could read dot segments in what is none by RFC 3986.

    Some take a backslash for a slash, some leave away what follows a semicolon or a control character, some decode once
    more, also what was encoded twice.
    """
    for _ in range(_MANY_CODINGS):
        if _HIDDEN_DOTS.search(segment):
            return True
        if b"%" not in segment:
            return False
        segment = unquote_to_bytes(segment)
    return True  # encoded that often, it means to hide something


def clean_path(path: bytes) -> list[bytes]:
    """The segments of a path without its empty first one, dot segments removed (RFC 3986, 5.2.4).

    A path can never climb above its beginning, also not by an encoded dot: what is in front of the extra path in a
    node's URL is often its key. Dot segments that only another reader would see are refused: raises
    :class:`BadMessage`. Empty segments are dropped, a trailing slash is kept as an empty last segment.
    """
    segments = path.split(b"/")[1:]
    if len(segments) == 1 and segments[0] and b"." not in path and b"%" not in path:
        return segments
    cleaned: list[bytes] = []
    for segment in segments:
        plain = segment.lower().replace(b"%2e", b".")
        if plain == b"..":
            del cleaned[-1:]
        elif plain not in (b"", b"."):
            if (b"." in plain or b"%" in plain) and _hides_dots(plain):
                raise BadMessage("the path has hidden dot segments")
            cleaned.append(segment)
    if len(cleaned) > 1 and segments[-1] == b"":
        cleaned.append(b"")
    return cleaned


_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e]*)?[ \t]*\Z")
_MAX_CHUNK_LINE_BYTES = 1024
_MAX_TRAILER_BYTES = 8192
_MANY_CHUNKS = 4096
_TINY_BYTES = 16


class ChunkedBody:
    """Takes a chunked body apart (RFC 9112, 7.1), strictly: CRLF only, sizes of at most 15 hex digits.

    Our own because a parser that is fed past the end of its message cannot say where the message ended, and because
    llhttp bounds neither chunk extensions nor trailers. Both are read and dropped here, within limits. Each chunk costs
    1.5 us, whatever its size: with ``may_be_tiny`` False, thousands that hold next to nothing are refused.
    """

    __slots__ = ("_bytes", "_chunks", "_kept", "_may_be_tiny", "_remaining", "_trailer_bytes", "done")

    def __init__(self, *, may_be_tiny: bool = True) -> None:
        self._may_be_tiny = may_be_tiny
        self._chunks = 0
        self._bytes = 0
        self._kept = b""
        self._remaining = 0  # of the chunk: data bytes; -1: its CRLF is due; -2: trailers are due
        self._trailer_bytes = 0
        self.done = False

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Return the data of ``data`` and what lies behind the end of the body (empty until ``done``)."""
        if self._kept:
            data, self._kept = self._kept + data, b""
        pieces: list[bytes] = []
        position = 0
        while not self.done:
            if self._remaining > 0:
                piece = data[position : position + self._remaining]
                if not piece:
                    return pieces, b""
                pieces.append(piece)
                position += len(piece)
                self._remaining -= len(piece)
                if self._remaining:
                    return pieces, b""
                self._remaining = -1
            end = data.find(b"\r\n", position)
            if end < 0:
                self._keep(data[position:])
                return pieces, b""
            self._line(data[position:end])
            position = end + 2
        return pieces, data[position:]

    def _keep(self, rest: bytes) -> None:
        if len(rest) > _MAX_CHUNK_LINE_BYTES or (self._remaining == -1 and rest not in (b"", b"\r")):
            raise BadMessage("malformed chunk")
        self._kept = rest

    def _line(self, line: bytes) -> None:
        if self._remaining == -1:
            if line:
                raise BadMessage("malformed chunk: its data is longer than its size")
            self._remaining = 0
        elif self._remaining == -2:
            self._trailer(line)
        else:
            match = _CHUNK_LINE.match(line) if len(line) <= _MAX_CHUNK_LINE_BYTES else None
            if match is None:
                raise BadMessage("malformed chunk size")
            size = int(match.group(1), 16)
            self._remaining = size or -2
            self._chunks += 1
            self._bytes += size
            if self._chunks > _MANY_CHUNKS and self._bytes < _TINY_BYTES * self._chunks and not self._may_be_tiny:
                raise BadMessage("the chunks are too small")

    def _trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        if self._trailer_bytes > _MAX_TRAILER_BYTES or b"\n" in line or b"\r" in line:
            raise BadMessage("malformed trailers")
        self.done = not line


STATUS_WORDS: Final = {
    200: b"OK",
    204: b"No Content",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    415: b"Unsupported Media Type",
    417: b"Expectation Failed",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}


def status_line(status: int) -> bytes:
    """The first line of an answer, with its CRLF."""
    return b"HTTP/1.1 %d %b\r\n" % (status, STATUS_WORDS.get(status, b""))
