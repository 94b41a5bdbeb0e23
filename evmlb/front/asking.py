"""What a request asks for that is not the common POST: decisions without I/O.

A request ends in one of three ways, by the first rule that applies:

=============================================  =====================================================
request                                        what becomes of it
=============================================  =====================================================
no such network, ``GET /`` or ``HEAD /``       the overview
no such network                                refused
OPTIONS of a page (a preflight)                our own word, or a node is asked: see :mod:`.cors`
from a page of another origin, where they are  refused
configured
TRACE, or a call by another method than POST   refused
another method than POST                       passed on as it is where the network allows it, else refused
from a browser page, not declared as JSON      refused
body is JSON-RPC                               a call
body is surely no call, on a deeper path       passed on as it is where the network allows it (GraphQL, REST)
body is anything else                          refused
=============================================  =====================================================

What is passed on as it is comes back as it is, and a node's page may repeat the path that it was asked under, which is
often a key. So a network passes on what is no JSON-RPC only where its operator says so (``pass_other_requests``).

None of them closes the connection: the request was whole, so where the next one begins is known.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evmlb import errors
from evmlb.config.schema import WebSocketMode
from evmlb.errors import Refusal
from evmlb.jsonrpc import Call, InvalidCall, may_be_a_call, parse_call
from evmlb.wire.http1 import RequestHead

if TYPE_CHECKING:
    from evmlb.front.cors import Cors
    from evmlb.routing import Router


_MAX_ASKER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """An answer of our own that is no error: status, header lines, body."""

    status: int
    lines: bytes
    body: bytes


def without_network(overview: Callable[[], bytes], head: RequestHead) -> Refusal | Page:
    """The answer to a request whose path names no network of ours."""
    if head.network:
        return errors.UNKNOWN_NETWORK.saying(f"Unknown network: {head.network[:100]}")
    if head.method in (b"GET", b"HEAD"):
        return Page(200, b"Content-Type: application/json\r\n", overview())
    return errors.NO_NETWORK


def refused_upgrade(head: RequestHead, router: Router | None) -> Refusal | None:
    """Why a connection cannot become a WebSocket; None when it can."""
    if router is None:
        return (
            errors.UNKNOWN_NETWORK.saying(f"Unknown network: {head.network[:100]}")
            if head.network
            else errors.NO_NETWORK
        )
    if router.network.config.websocket is WebSocketMode.OFF:
        return errors.NO_WEBSOCKET.saying("WebSocket is not served for this network")
    return None


def asker(body: bytes) -> Call | bytes:
    """Whom the refusal of this body answers: the call that it is, or the id of what should have been one.

    Empty where there is none. A notification is no call here: its sender is told by the status, and an error.
    """
    if not body or len(body) > _MAX_ASKER_BYTES:
        return b""
    try:
        call = parse_call(body)
    except InvalidCall as error:
        return error.id
    return call if call.expects_answer else b""


class PassOn(enum.Enum):
    """A request goes to a node without being understood."""

    AS_IT_IS = enum.auto()
    PREFLIGHT = enum.auto()  # of the answer only what it says of pages comes back


Wish = Call | Refusal | Page | PassOn
"""What a request asks for."""


def asked(cors: Cors, head: RequestHead, body: bytes, hosts: tuple[bytes, ...], passes_others: bool) -> Wish:
    """What a request to one of our networks asks for.

    ``hosts``: by what authorities it was asked. ``passes_others``: the network takes what is no JSON-RPC, too.
    """
    if head.method == b"OPTIONS" and head.origin:
        lines = cors.of_preflight(head)
        return PassOn.PREFLIGHT if lines is None else Page(204, lines, b"")
    if not cors.permits(head.origin, *hosts):
        return errors.STRANGE_ORIGIN
    if head.method == b"TRACE":
        return errors.METHOD_NOT_ALLOWED  # it would show the client what we add for the node: keys
    if head.method != b"POST":
        if may_be_a_call(body):
            return errors.NOT_BY_POST
        return PassOn.AS_IT_IS if passes_others else errors.OTHER_REQUEST
    if head.origin and not (head.is_json and head.value(b"content-type")):
        # a page can send a body without a type as well as one of text/plain, and needs no preflight for either
        return errors.WRONG_CONTENT_TYPE
    try:
        return parse_call(body)
    except InvalidCall as error:
        return foreign(head, body, error, passes_others)


def foreign(head: RequestHead, body: bytes, error: InvalidCall, passes_others: bool) -> Refusal | PassOn:
    """What becomes of a body that is not JSON-RPC.

    What a laxer parser than ours could take for a call never is: geth reads the first value and ignores what follows,
    and matches names without regard to case. It would be a way around every rule about methods.
    """
    if passes_others and head.extra and not may_be_a_call(body):
        return PassOn.AS_IT_IS
    return Refusal(400, error.code, error.message)
