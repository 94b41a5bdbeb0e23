"""JSON-RPC 2.0 as a balancer needs it: the envelope of a request, the kind of an answer, bodies of our own.

Nothing here parses parameters or results. A request's envelope is read once, by msgspec, with the id and the
parameters left as the bytes they are; an answer is recognised by how it begins, and only when it begins unusually is
it scanned, top-level member by member (https://www.jsonrpc.org/specification).

Go nodes match member names without regard to case, so ``{"method": "eth_call", "METHOD": "debug_x"}`` would be one
call for us and another for them. Duplicate and case-variant envelope members are therefore refused.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator

import msgspec
import orjson
from msgspec import Raw

from evmlb.methods import KNOWN, MethodClass, method_class

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601

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
    if (
        body.count(b'"method"') != 1
        or body.count(b'"id"') > 1
        or body.count(b'"params"') > 1
        or not body.isascii()
        or b"\\" in body
        or (raw_id and raw_id[0] not in _PLAIN_ID_STARTS)
    ):
        return _parse_carefully(body, None)
    method = envelope.method
    klass = KNOWN.get(method)
    if klass is None:
        klass = method_class(_checked_method(method))
    return Call(method, klass, raw_id, envelope.params)


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


# --- scanning -------------------------------------------------------------------------------------------------------


class Unreadable(Exception):
    """The text ends, or goes wrong, before the scan is done."""


_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_KEY = re.compile(rb"[ \t\r\n]*(" + _STRING + rb")[ \t\r\n]*:[ \t\r\n]*", re.DOTALL)
_SCALAR = re.compile(_STRING + rb"|-?[0-9][0-9eE+.\-]*|true|false|null", re.DOTALL)
_NESTING = re.compile(_STRING + rb'|["\[\]{}]', re.DOTALL)
_COMMA = re.compile(rb"[ \t\r\n]*([,}])")
_OPEN = re.compile(rb"[ \t\r\n]*\{[ \t\r\n]*")


def scan_members(text: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield ``(quoted name, start, end)`` of each top-level member of the object that ``text`` begins with.

    ``text`` may be the beginning of a longer answer: members are yielded as long as they are whole, and a last member
    whose value is an unfinished array or object is yielded with ``end`` -1. Raises :class:`Unreadable` where the
    text ends or is no object. Values are skipped, not validated.
    """
    opening = _OPEN.match(text)
    if opening is None:
        raise Unreadable
    position = opening.end()
    if text[position : position + 1] == b"}":
        return
    while True:
        key = _KEY.match(text, position)
        if key is None:
            raise Unreadable
        start = key.end()
        end = _skip_value(text, start)
        yield key.group(1), start, end
        comma = _COMMA.match(text, end) if end >= 0 else None
        if comma is None:
            raise Unreadable
        if comma.group(1) == b"}":
            return
        position = comma.end()


def _skip_value(text: bytes, start: int) -> int:
    """Where the value at ``start`` ends; -1 when the text ends first."""
    if text[start : start + 1] not in (b"{", b"["):
        scalar = _SCALAR.match(text, start)
        return -1 if scalar is None or scalar.end() == len(text) else scalar.end()
    depth = 0
    for token in _NESTING.finditer(text, start):
        mark = token.group()
        if mark in (b"{", b"["):
            depth += 1
        elif mark in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                return token.end()
        elif mark == b'"':
            return -1  # a string that does not end
    return -1


# --- answers --------------------------------------------------------------------------------------------------------


class AnswerKind(enum.Enum):
    """What a node's body is."""

    RESULT = "result"
    NULL = "null"
    ERROR = "error"
    GARBAGE = "garbage"


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The outside of an answer. ``code`` and ``message`` are the error's, ``why`` says what makes it garbage."""

    kind: AnswerKind
    code: int = 0
    message: str = ""
    why: str = ""


_RESULT = Answer(AnswerKind.RESULT)
_NULL = Answer(AnswerKind.NULL)
SMALL_ANSWER_BYTES = 4096
"""Answers up to this size are scanned to their end; larger ones until the member that decides."""


def is_plain_result(first: bytes, last: bytes, call_id: bytes) -> bool:
    """Whether a body, given by its first and last part, is surely a good answer to ``call_id`` that is not null.

    The two orders of members that nodes use (geth, Erigon, Reth, Besu and anvil write the id before the result,
    Nethermind after it). False means only that :func:`read_answer` must look.
    """
    opening = b'{"jsonrpc":"2.0","id":%b,"result":' % call_id
    if first.startswith(opening):
        return not first.startswith(b"n", len(opening)) and last.endswith((b"}", b"}\n"))
    return (
        first.startswith(b'{"jsonrpc":"2.0","result":')
        and not first.startswith(b"n", 26)
        and last.endswith((b',"id":%b}' % call_id, b',"id":%b}\n' % call_id))
    )


def begins_plain_result(first: bytes, call_id: bytes) -> bool:
    """The same for an answer of which only the beginning is known."""
    opening = b'{"jsonrpc":"2.0","id":%b,"result":' % call_id
    return first.startswith(opening) and not first.startswith(b"n", len(opening))


def read_answer(body: bytes, call_id: bytes, *, complete: bool = True) -> Answer:
    """Say what an answer to ``call_id`` is, without parsing its result.

    ``body`` may be the beginning of a longer answer (``complete=False``): then what decides must be in it.
    """
    small = complete and len(body) <= SMALL_ANSWER_BYTES
    if small:
        try:
            _decode_anything(body)
        except (ValueError, RecursionError):
            return _garbage("not JSON")
    decided: Answer | None = None
    seen_id = False
    try:
        for key, start, end in scan_members(body):
            if key == b'"id"':
                if end < 0 or not _same_id(body[start:end], call_id):
                    return _garbage("the id is not the one asked with")
                seen_id = True
            elif key in (b'"result"', b'"error"'):
                decided = _stronger(decided, _member(key, body, start, end))
            if decided is not None and not small and (seen_id or end < 0 or len(body) > SMALL_ANSWER_BYTES):
                return decided
    except Unreadable:
        if decided is None:
            return _garbage("not a JSON-RPC answer")
        if small:
            return _garbage("the answer does not end")
    if decided is None:
        return _garbage("neither result nor error")
    if small and not seen_id and decided.kind is not AnswerKind.ERROR:
        return _garbage("there is no id")
    return decided


def _stronger(before: Answer | None, now: Answer | None) -> Answer | None:
    """An error decides over a result beside it (some nodes send ``"result": null`` with an error)."""
    if before is None or (now is not None and now.kind is AnswerKind.ERROR):
        return now
    return before


def _member(key: bytes, body: bytes, start: int, end: int) -> Answer | None:
    value = body[start : start + 4]
    if key == b'"result"':
        return _NULL if value == b"null" else _RESULT
    if value == b"null":
        return None  # "error": null stands beside a result in the dialect of JSON-RPC 1.0
    return _error(body[start:end] if end >= 0 else b"")


def _error(raw: bytes) -> Answer:
    try:
        error = orjson.loads(raw)
    except ValueError:
        return Answer(AnswerKind.ERROR)
    if not isinstance(error, dict):
        return Answer(AnswerKind.ERROR, 0, str(error)[:1000])
    code, message = error.get("code"), error.get("message")
    return Answer(
        AnswerKind.ERROR,
        code if isinstance(code, int) and not isinstance(code, bool) else 0,
        message[:1000] if isinstance(message, str) else "",
    )


def _garbage(why: str) -> Answer:
    return Answer(AnswerKind.GARBAGE, why=why)


def _same_id(raw: bytes, call_id: bytes) -> bool:
    """Equal as bytes, or as values: a node may write 1.0 for 1, or escape a string otherwise.

    A null id stands for an id the node could not read, which only an error may have.
    """
    if raw == call_id or raw == b"null":
        return True
    try:
        return bool(orjson.loads(raw) == orjson.loads(call_id))
    except ValueError:
        return False


_decode_batch_answer = msgspec.json.Decoder(list[Raw]).decode


def read_batch_answer(body: bytes, call: Call) -> Answer:
    """Say what the answer to a batch is: a result when any member succeeded, an error when none did.

    The error is the first member's. An object instead of an array is the array's own error.
    """
    if body.lstrip(b" \t\r\n")[:1] == b"{":
        answer = read_answer(body, b"null")
        return answer if answer.kind is AnswerKind.ERROR else _garbage("an object answers a batch")
    try:
        raws = _decode_batch_answer(body)
    except (ValueError, RecursionError):
        return _garbage("not a JSON array")
    if len(raws) != sum(1 for member in call.members or () if member.id):
        return _garbage("the batch's answer has another number of members")
    first_error: Answer | None = None
    for raw in raws:
        answer = _member_answer(bytes(raw))
        if answer.kind is not AnswerKind.ERROR:
            return answer if answer.kind is AnswerKind.GARBAGE else _RESULT
        first_error = first_error or answer
    return first_error or _RESULT


def _member_answer(raw: bytes) -> Answer:
    decided: Answer | None = None
    try:
        for key, start, end in scan_members(raw):
            if key in (b'"result"', b'"error"'):
                decided = _stronger(decided, _member(key, raw, start, end))
    except Unreadable:
        return _garbage("a member of the batch's answer is not an object")
    return decided or _garbage("a member of the batch's answer has neither result nor error")


# --- our own bodies -------------------------------------------------------------------------------------------------


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
