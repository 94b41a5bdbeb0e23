"""What kind of thing a node's body is: recognised by how it begins and ends, else read by a decoder.

A whole answer is read to its end, whatever its size, at the cost of C's time (0.3 ms a MiB for the common kinds); a
beginning, until what decides.
"""

from __future__ import annotations

import enum
import re

import msgspec
from msgspec import Raw

from evmlb.jsonrpc.reading import Unreadable, decoder, is_utf8, read_value
from evmlb.jsonrpc.scan import scan_members

_decode_anything = msgspec.json.Decoder(Raw).decode


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


class Outside(msgspec.Struct, gc=False):
    """The outside of one answer; what is not there is empty."""

    id: Raw = Raw()
    result: Raw = Raw()
    error: Raw = Raw()


class _ErrorObject(msgspec.Struct, gc=False):
    code: Raw = Raw()
    message: Raw = Raw()


_read_outside = decoder(Outside)
_read_error_object = decoder(_ErrorObject)
_RESULT = Answer(AnswerKind.RESULT)
_NULL = Answer(AnswerKind.NULL)
SMALL_ANSWER_BYTES = 4096
"""A plain answer up to this size is read to its end, too."""
MAX_WORDS = 1000
"""So many characters of a node's words are kept."""


def is_plain_result(first: bytes, last: bytes, call_id: bytes) -> bool:
    """Whether a body, given by its first and last part, is surely a good answer to ``call_id`` that is not null.

    The two orders of members that nodes use (geth, Erigon, Reth, Besu and anvil write the id before the result,
    Nethermind after it). A small one is read to its end, so that none that was cut off passes; of a larger one the
    length that HTTP gave is believed. False means only that :func:`read_answer` must look.
    """
    if len(first) <= SMALL_ANSWER_BYTES and (first is not last or not _is_json(first)):
        return False
    opening = b'{"jsonrpc":"2.0","id":%b,"result":' % call_id
    if first.startswith(opening):
        return not first.startswith(b"n", len(opening)) and last.endswith((b"}", b"}\n"))
    return (
        first.startswith(b'{"jsonrpc":"2.0","result":')
        and not first.startswith(b"n", 26)
        and last.endswith((b',"id":%b}' % call_id, b',"id":%b}\n' % call_id))
    )


def _is_json(body: bytes) -> bool:
    try:
        _decode_anything(body)
        if not body.isascii():
            body.decode()
    except (ValueError, RecursionError):
        return False
    return True


def begins_plain_result(first: bytes, call_id: bytes) -> bool:
    """The same for an answer of which only the beginning is known."""
    opening = b'{"jsonrpc":"2.0","id":%b,"result":' % call_id
    return first.startswith(opening) and first[len(opening) : len(opening) + 1] not in (b"n", b"")


def read_answer(body: bytes, call_id: bytes, *, complete: bool = True) -> Answer:
    """Say what an answer to ``call_id`` is, without parsing its result; never raises, whatever a node sends.

    ``body`` may be the beginning of a longer answer (``complete=False``): then what decides must be in it.
    """
    try:
        return _read_whole(body, call_id) if complete else _read_beginning(body, call_id)
    except Unreadable:
        return garbage("not a JSON-RPC answer")


def _read_whole(body: bytes, call_id: bytes) -> Answer:
    outside = _read_outside(body)
    if not is_utf8(body):  # what is skipped is not checked, and clients get it as it is
        raise Unreadable
    return _judge(outside, id_value(call_id))


def _judge(outside: Outside, asked: object) -> Answer:
    """What one answer is. A null id is one that only errors may have, unless it was asked with."""
    decided = decide(outside)
    if decided is None:
        return garbage("neither result nor error")
    given = bytes(outside.id)
    if given and given != b"null":
        return decided if id_value(given) == asked else garbage(WRONG_ID)
    if decided.kind is AnswerKind.ERROR or (given and asked == id_value(given)):
        return decided
    return garbage(WRONG_ID if given else "there is no id")


WRONG_ID = "the id is not the one asked with"


def decide(outside: Outside) -> Answer | None:
    """A result, a null or an error. An error decides over a result beside it: some nodes send a null with it."""
    if outside.error and not is_null(outside.error):  # null beside a result is the dialect of JSON-RPC 1.0
        return read_error(outside.error)
    if not outside.result:
        return None
    return _NULL if is_null(outside.result) else _RESULT


def is_null(raw: Raw) -> bool:
    """Whether a value is null."""
    return len(raw) == 4 and bytes(raw) == b"null"


def _read_beginning(body: bytes, call_id: bytes) -> Answer:
    decided: Answer | None = None
    asked = id_value(call_id)
    try:
        for key, start, end in scan_members(body):
            if key == b'"id"':
                if end < 0 or id_value(body[start:end]) != asked:
                    return garbage(WRONG_ID)
            elif key == b'"result"':
                if body[start : start + 4] != b"null":
                    return decided or _RESULT
                decided = decided or _NULL
            elif key == b'"error"' and body[start : start + 4] != b"null":
                return read_error(body[start:end] if end >= 0 else b"")
    except Unreadable:
        if decided is None:
            raise
    return decided or garbage("neither result nor error")


def read_error(raw: bytes | Raw) -> Answer:
    """What a JSON-RPC error says, in the form the specification gives it or in any other."""
    try:
        error = _read_error_object(raw)
    except Unreadable:
        return Answer(AnswerKind.ERROR, 0, _words(raw))
    code = bytes(error.code) if len(error.code) < _MAX_CODE_CHARACTERS else b""
    message = error.message
    said = _words(message) if bytes(memoryview(message)[:1]) == b'"' else ""
    return Answer(AnswerKind.ERROR, int(code) if _CODE.fullmatch(code) else 0, said)


_MAX_CODE_CHARACTERS = 20
_CODE = re.compile(rb"-?[0-9]+")
_WORDS_BYTES = 8 * MAX_WORDS
_WHOLE_CHARACTERS = re.compile(rb'"(?:[^"\\]|\\(?:u[0-9a-fA-F]{4}|[^u]))*+', re.DOTALL)


def _words(raw: bytes | Raw) -> str:
    """The beginning of a string, or of the bytes of anything else."""
    text = bytes(memoryview(raw)[:_WORDS_BYTES]).decode("utf-8", "replace")
    beginning = _WHOLE_CHARACTERS.match(text.encode())
    if beginning is None:
        return text[:MAX_WORDS]
    try:
        return str(read_value(beginning.group() + b'"'))[:MAX_WORDS]
    except Unreadable:
        return text[:MAX_WORDS]


def garbage(why: str) -> Answer:
    """What is no answer, and why."""
    return Answer(AnswerKind.GARBAGE, why=why)


def id_value(raw: bytes) -> object:
    """What an id is, however it is written: a node may write 1.0 for 1, or escape a string otherwise."""
    try:
        value = read_value(raw)
    except Unreadable:
        return raw
    return raw if isinstance(value, (bool, list, dict)) else value
