"""What kind of thing a node's body is: recognised by how it begins, scanned only when it begins unusually."""

from __future__ import annotations

import enum

import msgspec
import orjson
from msgspec import Raw

from evmlb.jsonrpc.calls import Call
from evmlb.jsonrpc.scan import Unreadable, scan_members

_decode_anything = msgspec.json.Decoder(Raw).decode


class AnswerKind(enum.Enum):
    """What a node's body is."""

    RESULT = "result"
    NULL = "null"
    ERROR = "error"
    GARBAGE = "garbage"


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The outside of an answer. ``code`` and ``message`` are the error's, ``why`` says what makes it garbage.

    ``errors`` are the members' own, where every member of a batch failed.
    """

    kind: AnswerKind
    code: int = 0
    message: str = ""
    why: str = ""
    errors: tuple[Answer, ...] = ()


_RESULT = Answer(AnswerKind.RESULT)
_NULL = Answer(AnswerKind.NULL)
SMALL_ANSWER_BYTES = 4096
"""Answers up to this size are scanned to their end; larger ones until the member that decides."""


def is_plain_result(first: bytes, last: bytes, call_id: bytes) -> bool:
    """Whether a body, given by its first and last part, is surely a good answer to ``call_id`` that is not null.

    The two orders of members that nodes use (geth, Erigon, Reth, Besu and anvil write the id before the result,
    Nethermind after it). A small one is read to its end, so that none that was cut off passes; of a larger one the
    length that HTTP gave is believed. False means only that :func:`read_answer` must look.
    """
    if first is last and len(first) <= SMALL_ANSWER_BYTES and not _is_json(first):
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
    return first.startswith(opening) and not first.startswith(b"n", len(opening))


def read_answer(body: bytes, call_id: bytes, *, complete: bool = True, to_the_end: bool = False) -> Answer:
    """Say what an answer to ``call_id`` is, without parsing its result.

    ``body`` may be the beginning of a longer answer (``complete=False``): then what decides must be in it.
    ``to_the_end``: read a large one to its end too, because nothing else tells whether that is its end.
    """
    small = complete and (to_the_end or len(body) <= SMALL_ANSWER_BYTES)
    if small and not _is_json(body):
        return _garbage("not JSON")
    decided: Answer | None = None
    seen_id = False
    try:
        for key, start, end in scan_members(body):
            if key == b'"id"':
                seen_id = body[start:end] != b"null" or call_id == b"null"  # null is an id only errors may have
                if end < 0 or (seen_id and not _same_id(body[start:end], call_id)):
                    return _garbage("the id is not the one asked with")
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
    """Equal as bytes, or as values: a node may write 1.0 for 1, or escape a string otherwise."""
    if raw == call_id:
        return True
    try:
        return bool(orjson.loads(raw) == orjson.loads(call_id))
    except ValueError:
        return False


_decode_batch_answer = msgspec.json.Decoder(list[Raw]).decode


def read_batch_answer(body: bytes, call: Call) -> Answer:
    """Say what the answer to a batch is: a result when any member succeeded, an error when none did.

    Such an error is the first member's, with those of all in ``errors``. An object instead of an array is the array's
    own error.
    """
    if body.lstrip(b" \t\r\n")[:1] == b"{":
        answer = read_answer(body, b"null")
        return answer if answer.kind is AnswerKind.ERROR else _garbage("an object answers a batch")
    try:
        raws = _decode_batch_answer(body)
    except (ValueError, RecursionError):
        return _garbage("not a JSON array")
    asked = {member.id for member in call.members or () if member.id}
    if len(raws) != sum(1 for member in call.members or () if member.id):
        return _garbage("the batch's answer has another number of members")
    errors: list[Answer] = []
    for raw in raws:
        answer = _member_answer(bytes(raw), asked)
        if answer.kind is not AnswerKind.ERROR:
            return answer if answer.kind is AnswerKind.GARBAGE else _RESULT
        errors.append(answer)
    if not errors:
        return _RESULT
    return Answer(AnswerKind.ERROR, errors[0].code, errors[0].message, errors=tuple(errors))


def _member_answer(raw: bytes, asked: set[bytes]) -> Answer:
    decided: Answer | None = None
    is_known = False
    try:
        for key, start, end in scan_members(raw):
            if key == b'"id"':
                is_known = raw[start:end] in asked or any(_same_id(raw[start:end], each) for each in asked)
            elif key in (b'"result"', b'"error"'):
                decided = _stronger(decided, _member(key, raw, start, end))
    except Unreadable:
        return _garbage("a member of the batch's answer is not an object")
    if decided is None:
        return _garbage("a member of the batch's answer has neither result nor error")
    if not is_known and decided.kind is not AnswerKind.ERROR:
        return _garbage("a member of the batch's answer has an id that was not asked with")
    return decided
