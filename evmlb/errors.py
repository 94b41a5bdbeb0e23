"""How things fail, and the answers of our own.

Two vocabularies: a :class:`Fault` says how one attempt at one node ended badly; a :class:`Refusal` is what a client is
told when no attempt ended well. Whether a fault blames the node or may be retried is for
:mod:`evmlb.policy.verdicts` to say, not for the fault.

The codes are the ones proxyd uses where it has one, so that clients which know them keep working.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from math import ceil


class Fault(enum.Enum):
    """How an attempt ended without an answer that could be used."""

    UNREACHABLE = "unreachable"  # no connection: nothing was sent
    DISCONNECTED = "disconnected"  # the connection ended after the request was sent, before the answer was whole
    TIMED_OUT = "timed_out"  # no first byte in time
    STALLED = "stalled"  # the answer began and then stood still
    GARBAGE = "garbage"  # not HTTP, or not JSON-RPC
    HTTP_ERROR = "http_error"  # a status that is no answer, without a JSON-RPC body
    UNAUTHORIZED = "unauthorized"  # 401, 403
    RATE_LIMITED = "rate_limited"  # 429 and its dialects
    REJECTED = "rejected"  # 400, 413, 415, 422 without a JSON-RPC body: the request's doing
    UNSUPPORTED = "unsupported"  # the node does not have the method
    MISSING_DATA = "missing_data"  # the node does not have the block or the state
    RPC_ERROR = "rpc_error"  # a JSON-RPC error that another node may not give
    NULL = "null"  # null where the chainhead says that something is


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of our own: HTTP status, JSON-RPC code, words. ``retry_after_seconds`` becomes a Retry-After.

    ``lines``: header lines of its own, each with its end.
    """

    status: int
    code: int
    message: str
    retry_after_seconds: int | None = None
    lines: bytes = b""

    def saying(self, message: str) -> Refusal:
        """The same refusal in other words."""
        return replace(self, message=message)

    def after(self, seconds: float | None) -> Refusal:
        """The same refusal with a Retry-After of whole seconds, one at least."""
        return replace(self, retry_after_seconds=max(1, ceil(seconds or 0.0)))


PARSE_ERROR = Refusal(400, -32700, "parse error: the body is not JSON")
INVALID_REQUEST = Refusal(400, -32600, "invalid request")
NO_NETWORK = Refusal(400, -32600, "Network name not specified in URL")
UNKNOWN_NETWORK = Refusal(404, -32001, "Unknown network")
METHOD_REFUSED = Refusal(
    200, -32601, "the engine_* methods belong to the consensus client and are not served by a load balancer"
)
STRANGE_ORIGIN = Refusal(403, -32600, "pages of this origin may not ask here")
STRANGE_HOST = Refusal(403, -32600, "this server is not asked under this name (Host)")
_ALLOW = b"Allow: POST, OPTIONS\r\n"  # RFC 9110, 15.5.6: every 405 has it
METHOD_NOT_ALLOWED = Refusal(405, -32600, "this HTTP method is not passed on", lines=_ALLOW)
NOT_BY_POST = Refusal(405, -32600, "JSON-RPC is asked by POST", lines=_ALLOW)
OTHER_REQUEST = Refusal(405, -32600, "JSON-RPC is asked by POST; this network passes nothing else on", lines=_ALLOW)
TOO_LARGE = Refusal(413, -32600, "request body too large")
WRONG_CONTENT_TYPE = Refusal(415, -32600, "Content-Type must be application/json in requests from a browser page")
OVER_MEMORY = Refusal(503, -32011, "too many request bodies are being held; try again", 1)
NO_NODE = Refusal(503, -32011, "No valid endpoint available")
ALL_FULL = Refusal(503, -32011, "every node is at its limit of requests", 1)
QUEUED_TOO_LONG = Refusal(503, -32011, "too many requests are waiting for a node; try again", 1)
BAD_UPSTREAM = Refusal(502, -32013, "no node gave a usable answer")
NOT_CARRIED = Refusal(
    501, -32601, "the nodes of this network have a WebSocket only: it carries JSON-RPC by POST, without path or query"
)
NOT_TAKEN = Refusal(413, -32600, "no node of this network takes a request of this size")
DEADLINE = Refusal(504, -32015, "no node answered in time")
RATE_LIMITED = Refusal(429, -32005, "every node is rate limited", 1)
NO_WEBSOCKET = Refusal(501, -32601, "WebSocket is not served on this port yet")


def refused_method(method: str) -> Refusal:
    """Why a method is not served, which is one for a node's operator or for its consensus client."""
    if method.lower().startswith("engine_"):
        return METHOD_REFUSED
    return METHOD_REFUSED.saying(f"{method[:100]} is for the operator of a node, and is not served here")
