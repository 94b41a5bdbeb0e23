"""The envelope of a request, and bodies of our own.

A request's envelope is read once, by msgspec, with the id and the parameters left as the bytes they are. A batch is an
array of any values: one that is no call is answered by an error of its own, and the others are calls all the same
(JSON-RPC 2.0, section 6).

Go nodes match member names without regard to case, so ``{"method": "eth_call", "METHOD": "debug_x"}`` would be one
call for us and another for them. Duplicate and case-variant envelope members are therefore refused. What stands beside
the parameters may be ``MAX_WALKED_BYTES`` long: that much is looked at member by member, whatever the body's size.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec
import orjson
from msgspec import Raw

from evmlb.jsonrpc.reading import TooDeep, Unreadable, decoder, is_utf8, read_value
from evmlb.jsonrpc.scan import MAX_WALKED_BYTES, name_of, scan_members
from evmlb.methods import KNOWN, MethodClass, method_class

T = TypeVar("T")

PARSE_ERROR = -32700
INVALID_REQUEST = -32600

MAX_BATCH_MEMBERS = 10_000
"""More members than this in one batch are refused: a node would refuse far fewer."""
_MAX_BATCH_COMMAS = 200_000
"""A batch with more of them has too many members, or members that are no calls: it is refused before it is read."""


MAX_INVALID_MEMBERS = 1000
"""With more members than this that are no calls, a batch is refused as one: each of them costs an answer."""


class InvalidCall(Exception):
    """The body is no JSON-RPC request. ``code`` and the message are what the client is told.

    ``id`` is the request's id where that could be read (specification, section 5), else empty.
    """

    def __init__(self, code: int, message: str, call_id: bytes = b"") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.id = call_id


class Call(msgspec.Struct, frozen=True, gc=False):
    """One request as it came.

    ``id`` is the id's own bytes, empty for a notification. ``params`` are the parameters' own bytes, empty when there
    are none. For a batch, ``method`` is ``"batch"``, ``klass`` the strictest of its members and ``members`` holds
    them. A member that goes to no node is of the class ``REFUSED``; ``error`` has the code and the words of its answer,
    where they are known. A :class:`msgspec.Struct` because one is made per request: a frozen dataclass takes five times
    as long.
    """

    method: str
    klass: MethodClass
    id: bytes
    params: Raw
    members: tuple[Call, ...] | None = None
    error: tuple[int, str] | None = None

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


class _Members(msgspec.Struct, gc=False):
    """The same members whatever they are, and whatever stands beside them."""

    method: Raw = Raw()
    id: Raw = Raw()
    params: Raw = Raw()


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_read_members = decoder(_Members)
_read_batch = decoder(list[Raw])
_read_anything = decoder(Raw)
_NO_PARAMS = Raw()
_ENVELOPE_NAMES = frozenset(("jsonrpc", "id", "method", "params"))
_ID = re.compile(rb'-?[0-9][0-9.eE+-]*|"[^"]*"|null')
_LARGE_BYTES = 64 * 1024


def parse_call(body: bytes) -> Call:
    """Read the envelope of a request body; raise :class:`InvalidCall` with the code and words for the client.

    The result keeps views into ``body``.
    """
    if body[:1] != b"{":
        stripped = body.lstrip(b" \t\r\n")[:1]
        if stripped == b"[":
            return _parse_batch(body)
        if stripped != b"{":
            _refuse_text(body)
    if len(body) > _LARGE_BYTES:
        return _parse_carefully(body)  # to look twice at so much costs more than to look with care
    try:
        envelope = _decode_envelope(body)
    except (ValueError, RecursionError):
        return _parse_carefully(body)
    raw_id = bytes(envelope.id)
    if not _is_exact(body, envelope, raw_id) or not body.isascii() or (raw_id and raw_id[0] not in _PLAIN_ID_STARTS):
        return _parse_carefully(body)
    method = envelope.method
    klass = KNOWN.get(method)
    if klass is None:
        klass = method_class(_checked_method(method, raw_id))
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
        _read_anything(body)
    except Unreadable:
        raise InvalidCall(PARSE_ERROR, "parse error: the body is not JSON") from None
    raise InvalidCall(INVALID_REQUEST, "invalid request: expected an object or an array of objects")


def _parse_carefully(body: bytes) -> Call:
    """The uncommon envelope: long, with escapes, other members, odd ids, or wrong. Says exactly what is wrong."""
    members, params = _distinct_members(body)
    raw_id = members.get("id", b"")
    if raw_id and not _valid_id(raw_id):
        raise InvalidCall(INVALID_REQUEST, "invalid request: the id is neither a string, a number nor null")
    if "method" not in members:
        raise InvalidCall(INVALID_REQUEST, "invalid request: there is no method", raw_id)
    method = _checked_method(_string(members["method"]), raw_id)
    if params and bytes(memoryview(params)[:1]) not in (b"[", b"{", b"n"):
        raise InvalidCall(INVALID_REQUEST, "invalid request: params is neither an array nor an object", raw_id)
    return Call(method, method_class(method), raw_id, params)


def _checked_method(method: str, raw_id: bytes) -> str:
    if not method or len(method) > 256 or not method.isprintable():
        raise InvalidCall(INVALID_REQUEST, "invalid request: the method is not a name", raw_id)
    return method


def _distinct_members(body: bytes) -> tuple[dict[str, bytes], Raw]:
    """The envelope's members but for the parameters, by name; and these, empty where there are none.

    Refused are two names that are equal but for case where one is the envelope's, and too much beside the parameters.
    """
    params = _read(_read_members, body).params
    found: dict[str, bytes] = {}
    wrong = ""
    try:
        for key, start, end in scan_members(body, (params,)):
            name = name_of(key)
            folded = name.casefold()  # as Go does, to which U+017F is an s
            if folded in _ENVELOPE_NAMES:
                wrong = wrong or (folded if folded != name or name in found else "")
                found[name] = b"" if name == "params" else body[start:end]
    except Unreadable:
        words = f"invalid request: more than {MAX_WALKED_BYTES} bytes beside the parameters"
        raise InvalidCall(INVALID_REQUEST, words) from None
    if wrong:
        raw_id = found.get("id", b"") if wrong != "id" else b""
        words = f"invalid request: {wrong} is given twice or miswritten"
        raise InvalidCall(INVALID_REQUEST, words, raw_id if _valid_id(raw_id) else b"")
    return found, params


def _read(read: Callable[[bytes], T], body: bytes) -> T:
    """What a decoder makes of a body, in words for the client where that is nothing."""
    try:
        if not is_utf8(body):
            raise Unreadable
        return read(body)
    except TooDeep:
        raise InvalidCall(INVALID_REQUEST, "invalid request: nested too deeply") from None
    except Unreadable:
        raise InvalidCall(PARSE_ERROR, "parse error: the body is not JSON") from None


def _string(raw: bytes) -> str:
    """The text of a JSON string; the empty string for anything else."""
    try:
        value = read_value(raw)
    except Unreadable:
        return ""
    return value if isinstance(value, str) else ""


def _valid_id(raw: bytes) -> bool:
    return _ID.fullmatch(raw) is not None or (raw[:1] == b'"' and bool(_string(raw) or raw == b'""'))


def _parse_batch(body: bytes) -> Call:
    if len(body) > _MAX_BATCH_COMMAS and body.count(b",") > _MAX_BATCH_COMMAS:
        raise InvalidCall(INVALID_REQUEST, "invalid request: the batch has too many values")
    raws = _read(_read_batch, body)
    if not raws:
        raise InvalidCall(INVALID_REQUEST, "invalid request: the batch is empty")
    if len(raws) > MAX_BATCH_MEMBERS:
        raise InvalidCall(INVALID_REQUEST, f"invalid request: more than {MAX_BATCH_MEMBERS} calls in one batch")
    members = []
    invalid = 0
    for raw in raws:
        member = _parse_member(bytes(raw))
        members.append(member)
        if member.error is not None:
            invalid += 1
            if invalid > MAX_INVALID_MEMBERS:
                raise InvalidCall(INVALID_REQUEST, f"invalid request: more than {MAX_INVALID_MEMBERS} are no calls")
    return Call("batch", max(member.klass for member in members), b"", _NO_PARAMS, tuple(members))


def _parse_member(body: bytes) -> Call:
    """A member of a batch; one that is no call has an error, and its id where it has a good one."""
    try:
        if body[:1] != b"{":
            raise InvalidCall(INVALID_REQUEST, "invalid request: a member of the batch is not an object")
        return parse_call(body)
    except InvalidCall as error:
        call_id = error.id or b"null"
        return Call("", MethodClass.REFUSED, call_id, _NO_PARAMS, error=(error.code, error.message))


def may_be_a_call(body: bytes) -> bool:
    """Whether a laxer parser than ours could take a body for a call; what surely is none may be passed on as it is.

    That is whether the name of a method is in it, in any letters, or what may be an escaped one. Takes 1 ms a MiB.
    """
    if b"\\u" in body or b"\\U" in body:
        return True
    return any(
        b'"method"' in body[start : start + _PIECE_BYTES + len(b'"method')].lower()
        for start in range(0, len(body), _PIECE_BYTES)
    )


_PIECE_BYTES = 64 * 1024


def error_body(call: Call | bytes | None, code: int, message: str) -> bytes:
    """An error of our own for ``call``: an object, or for a batch an array with one error per id.

    Of a call that could not be read the id alone may be known. Without even that (None, or empty) the error's id is
    null, as the specification demands. Members of a batch that have errors of their own get those.
    """
    error = _error(code, message)
    if not isinstance(call, Call):
        return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (call or b"null", error)
    if call.members is None:
        return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (call.id or b"null", error)
    errors = ((member.id, _error(*member.error) if member.error else error) for member in call.members if member.id)
    return b"[%b]" % b",".join(b'{"jsonrpc":"2.0","id":%b,"error":%b}' % each for each in errors)


def _error(code: int, message: str) -> bytes:
    return orjson.dumps({"code": code, "message": message})


def call_body(method: str, params: object, call_id: int = 1) -> bytes:
    """The body of a call that we make ourselves."""
    return orjson.dumps({"jsonrpc": "2.0", "id": call_id, "method": method, "params": params})
