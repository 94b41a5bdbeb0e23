"""The envelope of a request, and bodies of our own.

A request's envelope is read once, by msgspec, with the id and the parameters left as the bytes they are.

Go nodes match member names without regard to case, so ``{"method": "eth_call", "METHOD": "debug_x"}`` would be one
call for us and another for them. Duplicate and case-variant envelope members are therefore refused.
"""

from __future__ import annotations

import re

import msgspec
import orjson
from msgspec import Raw

from evmlb.jsonrpc.scan import Unreadable, scan_members
from evmlb.methods import KNOWN, MethodClass, method_class

PARSE_ERROR = -32700
INVALID_REQUEST = -32600

MAX_BATCH_MEMBERS = 100_000
"""More members than this in one batch are refused: a node would refuse far fewer."""


class InvalidCall(Exception):
    """The body is no JSON-RPC request. ``code`` and the message are what the client is told."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Call(msgspec.Struct, frozen=True, gc=False):
    """One request as it came.

    ``id`` is the id's own bytes, empty for a notification. ``params`` are the parameters' own bytes, empty when there
    are none. For a batch, ``method`` is ``"batch"``, ``klass`` the strictest of its members and ``members`` holds
    them. A :class:`msgspec.Struct` because one is made per request: a frozen dataclass takes five times as long.
    """

    method: str
    klass: MethodClass
    id: bytes
    params: Raw
    members: tuple[Call, ...] | None = None

    @property
    def expects_answer(self) -> bool:
        """Whether anything but an empty answer is owed."""
        if self.members is None:
            return self.id != b""
        return any(member.id for member in self.members)


class _Envelope(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The common shape. Unknown members, which includes case variants, fail here and are looked at with care."""

    method: str
    id: Raw = Raw()
    params: Raw = Raw()
    jsonrpc: str = ""


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_members = msgspec.json.Decoder(list[Raw]).decode
_decode_anything = msgspec.json.Decoder(Raw).decode
_NO_PARAMS = Raw()
_ENVELOPE_NAMES = frozenset(("jsonrpc", "id", "method", "params"))
_ID = re.compile(rb'-?[0-9][0-9.eE+-]*|"[^"]*"|null')
_STRAIGHT = (b'"method"', b'"id"', b'"params"')


def parse_call(body: bytes) -> Call:
    """Read the envelope of a request body; raise :class:`InvalidCall` with the code and words for the client.

    The result keeps views into ``body``.
    """
    if body[:1] != b"{":
        stripped = body.lstrip(b" \t\r\n")
        if stripped[:1] == b"[":
            return _parse_batch(body)
        if stripped[:1] != b"{":
            _refuse_text(body)
    try:
        envelope = _decode_envelope(body)
    except (ValueError, RecursionError) as error:
        return _parse_carefully(body, error)
    raw_id = bytes(envelope.id)
    if not _is_exact(body, envelope, raw_id) or not body.isascii() or (raw_id and raw_id[0] not in _PLAIN_ID_STARTS):
        return _parse_carefully(body, None)
    method = envelope.method
    klass = KNOWN.get(method)
    if klass is None:
        klass = method_class(_checked_method(method))
    return Call(method, klass, raw_id, envelope.params)


def _is_exact(body: bytes, envelope: _Envelope, raw_id: bytes) -> bool:
    """Whether each member is there once, and nothing is escaped outside of the parameters.

    Nearly always the lengths prove it: with all four members found, a compact envelope of this size has no room for
    anything else. Otherwise the names are counted; to be counted twice for other reasons costs only a careful look.
    """
    if envelope.jsonrpc == "2.0" and raw_id:
        params = len(envelope.params)
        if params and len(body) == _COMPACT_BYTES + len(raw_id) + len(envelope.method) + params:
            return True
    return (
        body.count(b'"method"') == 1 and body.count(b'"id"') <= 1 and body.count(b'"params"') <= 1 and b"\\" not in body
    )


_COMPACT_BYTES = len(b'{"jsonrpc":"2.0","id":,"method":"","params":}')
_PLAIN_ID_STARTS = frozenset(b'0123456789-"n')


def _refuse_text(body: bytes) -> None:
    """Raise the error for a body that is neither object nor array."""
    try:
        _decode_anything(body)
    except (ValueError, RecursionError):
        raise InvalidCall(PARSE_ERROR, "parse error: the body is not JSON") from None
    raise InvalidCall(INVALID_REQUEST, "invalid request: expected an object or an array of objects")


def _parse_carefully(body: bytes, error: BaseException | None) -> Call:
    """The uncommon envelope: escapes, other members, odd ids, or plainly wrong. Says exactly what is wrong."""
    members = _distinct_members(body, error)
    if "method" not in members:
        raise InvalidCall(INVALID_REQUEST, "invalid request: there is no method")
    method = _checked_method(_string(members["method"]))
    raw_id = members.get("id", b"")
    if raw_id and not _valid_id(raw_id):
        raise InvalidCall(INVALID_REQUEST, "invalid request: the id is neither a string, a number nor null")
    params = members.get("params", b"")
    if params and params[:1] not in (b"[", b"{", b"n"):
        raise InvalidCall(INVALID_REQUEST, "invalid request: params is neither an array nor an object")
    return Call(method, method_class(method), raw_id, Raw(params) if params else _NO_PARAMS)


def _checked_method(method: str) -> str:
    if not method or len(method) > 256 or not method.isprintable():
        raise InvalidCall(INVALID_REQUEST, "invalid request: the method is not a name")
    return method


def _distinct_members(body: bytes, error: BaseException | None) -> dict[str, bytes]:
    """Top-level members by name; raises where two names are equal but for case and one is the envelope's."""
    if isinstance(error, RecursionError):
        raise InvalidCall(INVALID_REQUEST, "invalid request: nested too deeply")
    try:
        body.decode()
        _decode_anything(body)
    except RecursionError:
        raise InvalidCall(INVALID_REQUEST, "invalid request: nested too deeply") from None
    except ValueError:
        raise InvalidCall(PARSE_ERROR, "parse error: the body is not JSON") from None
    found: dict[str, bytes] = {}
    try:
        for key, start, end in scan_members(body):
            name = _string(key)
            if name.lower() in _ENVELOPE_NAMES:
                if name.lower() != name or name in found:
                    raise InvalidCall(INVALID_REQUEST, f"invalid request: {name.lower()} is given twice or miswritten")
                found[name] = bytes(body[start:end])
    except Unreadable:
        raise InvalidCall(INVALID_REQUEST, "invalid request: expected an object") from None
    return found


def _string(raw: bytes) -> str:
    """The text of a JSON string; the empty string for anything else."""
    try:
        value = orjson.loads(raw)
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""


def _valid_id(raw: bytes) -> bool:
    return _ID.fullmatch(raw) is not None or (raw[:1] == b'"' and bool(_string(raw) or raw == b'""'))


def _parse_batch(body: bytes) -> Call:
    try:
        raws = _decode_members(body)
        body.decode()
    except RecursionError:
        raise InvalidCall(INVALID_REQUEST, "invalid request: nested too deeply") from None
    except ValueError:
        raise InvalidCall(PARSE_ERROR, "parse error: the body is not JSON") from None
    if not raws:
        raise InvalidCall(INVALID_REQUEST, "invalid request: the batch is empty")
    if len(raws) > MAX_BATCH_MEMBERS:
        raise InvalidCall(INVALID_REQUEST, f"invalid request: more than {MAX_BATCH_MEMBERS} calls in one batch")
    members = tuple(_parse_member(bytes(raw)) for raw in raws)
    return Call("batch", max(member.klass for member in members), b"", _NO_PARAMS, members)


def _parse_member(body: bytes) -> Call:
    if body[:1] != b"{":
        raise InvalidCall(INVALID_REQUEST, "invalid request: a member of the batch is not an object")
    return parse_call(body)


def error_body(call: Call | None, code: int, message: str) -> bytes:
    """An error of our own for ``call``: an object, or for a batch an array with one error per id.

    Without a call (it could not be read) the id is null, as the specification demands.
    """
    error = orjson.dumps({"code": code, "message": message})
    if call is None:
        return b'{"jsonrpc":"2.0","id":null,"error":%b}' % error
    if call.members is None:
        return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (call.id or b"null", error)
    answers = (b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (member.id, error) for member in call.members if member.id)
    return b"[%b]" % b",".join(answers)


def call_body(method: str, params: object, call_id: int = 1) -> bytes:
    """The body of a call that we make ourselves."""
    return orjson.dumps({"jsonrpc": "2.0", "id": call_id, "method": method, "params": params})
