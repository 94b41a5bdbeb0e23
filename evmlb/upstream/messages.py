"""What goes over a node's WebSocket: calls under ids of ours, answers, events. Bytes to values and back, no state.

==========  =========  ==================================================================================
message     direction  shape
==========  =========  ==================================================================================
call        to node    ``{"jsonrpc":"2.0","id":N,"method":...,"params":[...]}``; ``N`` counts up
answer      from node  ``{"jsonrpc":"2.0","id":N,"result":...}``, or ``"error"`` in its place
event       from node  ``{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x..","result":...}}``
==========  =========  ==================================================================================

Parameters and results stay the bytes they are. Batches are never sent: their members go out one by one.
"""

from __future__ import annotations

import msgspec
import orjson
from msgspec import Raw

from evmlb.jsonrpc import Unreadable, decoder, is_utf8, name_of, scan_members
from evmlb.jsonrpc import read_error as read_json_error

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""A message larger than this is neither sent nor taken."""
MAX_CALL_BYTES = MAX_MESSAGE_BYTES - 20
"""The same for a call without its id."""


class Garbage(Exception):
    """A node's message is none of the above; the text says why."""


class Message(msgspec.Struct, gc=False):
    """The outside of a node's message; what is not there is empty."""

    id: Raw = Raw()
    method: str = ""
    params: Raw = Raw()
    result: Raw = Raw()
    error: Raw = Raw()


class Event(msgspec.Struct, gc=False):
    """What stands in an event's ``params``: the subscription's id and the result, as bytes of JSON."""

    subscription: Raw
    result: Raw


class CutCall(msgspec.Struct, frozen=True, gc=False):
    """A call cut at its id: ``before``, the client's own ``id``, ``after``. Without an id it is all ``before``."""

    before: bytes
    id: bytes = b""
    after: bytes = b""

    @property
    def size(self) -> int:
        """Bytes, but for the id."""
        return len(self.before) + len(self.after)


class _Call(msgspec.Struct, gc=False):
    params: Raw = Raw()


_read_message = decoder(Message)
_read_event = decoder(Event)
_read_batch = decoder(list[Raw])
_read_call = decoder(_Call)
_NULL = Raw(b"null")


def read_message(data: bytes) -> Message:
    """Read a node's message; :class:`Garbage` for what is no JSON object, and for bytes that are no UTF-8."""
    try:
        if not is_utf8(data):
            raise Unreadable  # a Raw is not checked, and goes to clients as it is
        return _read_message(data)
    except Unreadable:
        raise Garbage("a message is not JSON-RPC") from None


def read_event(message: Message) -> Event:
    """The event that a message without an id is; :class:`Garbage` if it is none."""
    try:
        return _read_event(message.params or _NULL)
    except Unreadable:
        raise Garbage("a message is neither answer nor event") from None


def read_error(message: Message) -> tuple[int, str] | None:
    """Code and message of an answer's error, 0 and all of it where it is no object; None for a result."""
    raw = message.error
    if not raw or (len(raw) == 4 and bytes(raw) == b"null"):
        return None  # "error": null stands beside a result in the dialect of JSON-RPC 1.0
    error = read_json_error(raw)
    return error.code, error.message


def number_of(raw_id: Raw) -> int:
    """The id of ours that an answer has; -1 for anything that we never use."""
    text = bytes(raw_id) if len(raw_id) < 20 else b""
    return int(text) if text.isdigit() else -1


def own_call(method: str, params: object) -> CutCall:
    """A call of our own. In ``params`` an ``orjson.Fragment`` stands for JSON as it is."""
    after = b',"method":%b,"params":%b}' % (orjson.dumps(method), orjson.dumps(params))
    return CutCall(b'{"jsonrpc":"2.0","id":', b"", after)


def cut_body(body: bytes) -> list[CutCall] | CutCall:
    """A request's body, cut at its id; the members of a batch, each for itself.

    Raises :class:`evmlb.jsonrpc.Unreadable` for what ``jsonrpc.parse_call`` refuses.
    """
    if body.lstrip(b" \t\r\n")[:1] != b"[":
        return _cut_call(body)
    return [_cut_call(bytes(raw)) for raw in _read_batch(body)]


def _cut_call(body: bytes) -> CutCall:
    try:
        return _cut_at_id(body, ())
    except Unreadable:
        return _cut_at_id(body, (_read_call(body).params,))  # they are long, and the id is behind them


def _cut_at_id(body: bytes, known: tuple[Raw, ...]) -> CutCall:
    for key, start, end in scan_members(body, known):
        if name_of(key) == "id":
            if end < 0:
                raise Unreadable
            return CutCall(body[:start], body[start:end], body[end:])
    return CutCall(body)


def with_id(answer: bytes, ours: bytes, theirs: bytes, known: tuple[Raw, ...] = ()) -> bytes:
    """An answer with the client's own id in the place of ours; all else byte for byte as it came.

    geth, Erigon, Reth, Besu and anvil write the id first, Nethermind last; in others it is looked for. ``known``: the
    answer's other members, as they were read.
    """
    opening = b'{"jsonrpc":"2.0","id":%b,' % ours
    if answer.startswith(opening):
        return b"".join((b'{"jsonrpc":"2.0","id":', theirs, b",", memoryview(answer)[len(opening) :]))
    ending = b',"id":%b}' % ours
    if answer.endswith(ending):
        return b"".join((memoryview(answer)[: -len(ending)], b',"id":', theirs, b"}"))
    try:
        for key, start, end in scan_members(answer, known):
            if name_of(key) == "id" and end >= 0:
                return b"".join((memoryview(answer)[:start], theirs, memoryview(answer)[end:]))
    except Unreadable:
        pass
    raise Garbage("an answer hides its id")
