"""The request of a WebSocket handshake that goes to a node, and the answer where none takes it. No I/O."""

from __future__ import annotations

import base64
import binascii
import http
from typing import TYPE_CHECKING

from evmlb.bridge.offers import Malformed, accepted
from evmlb.bridge.search import Headers
from evmlb.errors import INVALID_REQUEST, Refusal
from evmlb.interfaces import Upgrade
from evmlb.jsonrpc import error_body

if TYPE_CHECKING:
    from evmlb.wire.http1 import RequestHead

OWN_PATHS = (b"", b"/ws", b"/ws/")
"""Paths behind the network's name that mean the network itself, and add nothing to a node's path."""
KEY = b"sec-websocket-key"
_HANDSHAKE = (KEY, b"sec-websocket-version", b"sec-websocket-protocol")
"""No extensions: what a client says has to be read before a node sees it."""
_VERSION = b"sec-websocket-version"
_OTHER_VERSION = Refusal(
    400, INVALID_REQUEST.code, "WebSocket is spoken in version 13", lines=b"Sec-WebSocket-Version: 13\r\n"
)
"""RFC 6455, 4.4: a server that does not speak the client's version names those that it does."""
_BAD_OFFER = INVALID_REQUEST.saying("Sec-WebSocket-Extensions is malformed (RFC 6455, 9.1)")
_NO_GET = Refusal(405, -32600, "a WebSocket handshake is a GET")
_OLD_HTTP = Refusal(505, -32600, "a WebSocket handshake needs HTTP/1.1")


def refused_handshake(head: RequestHead) -> Refusal | None:
    """Why a request is no WebSocket handshake (RFC 6455, 4.2.1); None when it is one. No node needs to be asked."""
    keys = [value for name, value in head.headers if name == KEY]
    if head.method != b"GET":
        return _NO_GET
    if not head.http11:
        return _OLD_HTTP
    if head.value(_VERSION) != b"13":
        return _OTHER_VERSION
    if not _are_offers(head.value(b"sec-websocket-extensions")):
        return _BAD_OFFER
    if len(keys) != 1 or not _is_nonce(keys[0]):
        return INVALID_REQUEST.saying("a WebSocket handshake has one Sec-WebSocket-Key of 16 bytes in Base64")
    return None


def _are_offers(header: bytes) -> bool:
    try:
        accepted(header)
    except Malformed:
        return False
    return True


def _is_nonce(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def extra_of(head: RequestHead) -> bytes:
    """Path and query of a client's that go behind the node's own."""
    return (b"" if head.extra in OWN_PATHS else head.extra) + head.query


def headers_of(upgrade: Upgrade) -> Headers:
    """Headers of a client's for any node: those of the handshake, and what is configured to be passed on."""
    own = tuple(header for header in upgrade.head.headers if header[0] in _HANDSHAKE)
    return own + tuple(pair for pair in pairs(upgrade.headers) if not pair[0].startswith(b"sec-websocket-"))


def pairs(lines: bytes) -> Headers:
    """Header lines as pairs of name, in lower case, and value."""
    split = (line.partition(b":") for line in lines.split(b"\r\n") if line)
    return tuple((name.lower(), value.strip()) for name, _, value in split)


def answer(refusal: Refusal, status: int) -> bytes:
    """An answer of our own, as any request of a client of JSON-RPC gets it."""
    body = error_body(None, refusal.code, refusal.message)
    lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}", "Content-Type: application/json"]
    if refusal.retry_after_seconds is not None:
        lines.append(f"Retry-After: {refusal.retry_after_seconds}")
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body
