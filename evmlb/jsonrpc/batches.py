"""Arrays of answers: read as far as is needed, taken apart, and put together again (JSON-RPC 2.0, section 6).

An answer of the common kind, one good result for each id in the order of the calls, is looked through once, by msgspec:
its members' outsides are read and their results skipped. Only where something else is found is every member looked at:
which call it answers, and what it is. Members are passed on as the bytes they are.

Answers may come in any order. An id that was given twice is answered twice, and the first such answer is taken for the
first such call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Raw

from evmlb.jsonrpc.answers import Answer, AnswerKind, Outside, decide, garbage, id_value, is_null, read_error
from evmlb.jsonrpc.reading import Unreadable, decoder, is_utf8

__all__ = ["BatchAnswer", "MemberAnswer", "array_of", "error_answer", "members_of", "read_batch_answer"]


MAX_ERRORS_READ = 200
"""So many different errors of one answer are read for code and message."""


class MemberAnswer(msgspec.Struct, frozen=True, gc=False):
    """What answers one call: ``place`` is that of its id among those asked with, ``raw`` is what to pass on."""

    place: int
    answer: Answer
    raw: bytes


class BatchAnswer(msgspec.Struct, frozen=True, gc=False):
    """What answers a batch.

    ``whole`` is a result where there is an answer for each call: with ``members`` when they are not all plainly good,
    else without. It is an error where the node answers with one instead of an array, or with one for all; ``error``
    has that one's bytes. Otherwise it is garbage. ``is_mended``: not every member is as it came.
    """

    whole: Answer
    members: tuple[MemberAnswer, ...] = ()
    error: bytes = b""
    is_mended: bool = False


_read_outside = decoder(Outside)
_read_outsides = decoder(list[Outside])
_read_members = decoder(list[Raw])
_PLAIN = BatchAnswer(Answer(AnswerKind.RESULT))
_RESULT = Answer(AnswerKind.RESULT)
_ERROR = Answer(AnswerKind.ERROR)


def members_of(array: bytes) -> list[bytes]:
    """The members of an array that was read before, each as it is."""
    return [bytes(raw) for raw in _read_members(array)]


def array_of(members: Iterable[bytes]) -> bytes:
    """An array of these."""
    return b"[%b]" % b",".join(members)


def error_answer(call_id: bytes, error: bytes) -> bytes:
    """The answer to an id by an error, which is JSON."""
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (call_id, error)


def read_batch_answer(body: bytes, ids: Sequence[bytes]) -> BatchAnswer:
    """Say what answers the calls with these ids (``null`` is one, too); never raises, whatever a node sends."""
    try:
        if not is_utf8(body):  # what is skipped is not checked, and clients get it as it is
            raise Unreadable
        if body.lstrip(b" \t\r\n")[:1] == b"{":
            return _instead_of_array(_read_outside(body))
        answers = _read_outsides(body)
    except Unreadable:
        return BatchAnswer(garbage("not a JSON array of answers"))
    if _are_plain(answers, ids):
        return _PLAIN
    if len(answers) == 1 < len(ids) and _is_error(answers[0]):
        return _for_all(answers[0])  # geth's way to say that a batch is too long
    return _each(body, answers, ids)


def _are_plain(answers: list[Outside], ids: Sequence[bytes]) -> bool:
    """Whether each id has its result, in order, and none is null."""
    if len(answers) != len(ids):
        return False
    for answer, call_id in zip(answers, ids, strict=True):
        result = answer.result
        if bytes(answer.id) != call_id or answer.error or not result or is_null(result):
            return False
    return True


def _is_error(answer: Outside) -> bool:
    return len(answer.error) > 0 and not is_null(answer.error)


def _instead_of_array(answer: Outside) -> BatchAnswer:
    return _for_all(answer) if _is_error(answer) else BatchAnswer(garbage("an object answers a batch"))


def _for_all(answer: Outside) -> BatchAnswer:
    raw = bytes(answer.error)
    return BatchAnswer(read_error(raw), error=raw)


def _each(body: bytes, answers: list[Outside], ids: Sequence[bytes]) -> BatchAnswer:
    if len(answers) != len(ids):
        return BatchAnswer(garbage("the batch's answer has another number of members"))
    known: dict[bytes, Answer] = {}
    decided = [_decide(answer, known) for answer in answers]
    if None in decided:
        return BatchAnswer(garbage("a member of the batch's answer has neither result nor error"))
    places = _places([bytes(answer.id) for answer in answers], [_is_error(answer) for answer in answers], ids)
    if places is None:
        return BatchAnswer(garbage("the batch's answer has an id that was not asked with"))
    members = []
    is_mended = False
    for place, answer, kind, raw in zip(places, answers, decided, members_of(body), strict=True):
        if bytes(answer.id) in _NO_ID and ids[place] not in _NO_ID:
            raw, is_mended = error_answer(ids[place], bytes(answer.error)), True
        members.append(MemberAnswer(place, kind or _RESULT, raw))
    return BatchAnswer(_RESULT, tuple(members), is_mended=is_mended)


def _decide(answer: Outside, known: dict[bytes, Answer]) -> Answer | None:
    """What a member is. Errors are mostly the same for many members: each is read once, and of many others none."""
    if not _is_error(answer):
        return decide(answer)
    raw = bytes(answer.error)
    error = known.get(raw)
    if error is None:
        error = read_error(raw) if len(known) < MAX_ERRORS_READ else _ERROR
        known[raw] = error
    return error


_NO_ID = (b"", b"null")


def _places(given: list[bytes], are_errors: list[bool], ids: Sequence[bytes]) -> list[int] | None:
    """The place of each given id among those asked with; ``None`` if one has none.

    Equal as bytes, else as values: a node may write 1.0 for 1, or escape a string otherwise. Errors without an id, or
    with null as theirs (where a node could not read the call), answer the calls that are left. Each id is looked at
    once or twice, however many there are.
    """
    places = [-1] * len(given)
    _match(places, given, dict(enumerate(ids)))
    left = dict(enumerate(ids))
    for place in places:
        left.pop(place, None)
    if left:
        _match(places, [id_value(each) for each in given], {place: id_value(each) for place, each in left.items()})
        for place in places:
            left.pop(place, None)
        rest = iter(left)
        for i, is_error in enumerate(are_errors):
            if places[i] < 0:
                if not is_error or given[i] not in _NO_ID:
                    return None
                places[i] = next(rest)
    return places


def _match(places: list[int], given: Sequence[object], asked: dict[int, object]) -> None:
    """Give a place to each that has none yet and is equal to one that was asked with and is not taken."""
    free: dict[object, list[int]] = {}
    for place in reversed(asked):
        free.setdefault(asked[place], []).append(place)
    for i, each in enumerate(given):
        if places[i] < 0 and (equal := free.get(each)):
            places[i] = equal.pop()
