"""The hash of a raw transaction, by which everybody finds it again.

A node that says "already known" has the transaction, but does not say its hash: the client is owed it, so it is
computed here, from the parameter of ``eth_sendRawTransaction``.

A legacy transaction is an RLP list, a typed one (EIP-2718) its type's byte and an RLP list. The hash is the keccak-256
of these bytes, with one exception. A blob transaction is sent together with its blobs, in one of two network forms,
and hashed without them, as ``0x03 || rlp(body)``:

=========  ===================================================================
EIP-4844   ``0x03 || rlp([body, blobs, commitments, proofs])``
EIP-7594   ``0x03 || rlp([body, version, blobs, commitments, cell_proofs])``
=========  ===================================================================

Only the outer list is looked at: how many fields there are, and which of them are lists. That is enough to tell the
forms apart, takes the same time for every input, and has no depth. What is inside the fields is the node's to judge.
"""

from __future__ import annotations

from binascii import unhexlify
from typing import NamedTuple

import msgspec
from Crypto.Hash import keccak  # while serving, a late import would hold up every request for some 20 ms

from evmlb.jsonrpc import Unreadable, decoder

MAX_RAW_CHARACTERS = 4 * 1024 * 1024
"""A longer raw transaction has no hash. geth takes 128 KiB, or six blobs of 128 KiB with their proofs."""

_LEGACY_FIELDS = "........."
_TYPED_FIELDS = {  # "." is a string, "[" a list
    1: ".......[...",  # EIP-2930
    2: "........[...",  # EIP-1559
    3: "........[.[...",  # EIP-4844
    4: "........[[...",  # EIP-7702
}
_BLOB_TYPE = 3
_NETWORK_FORMS = ("[[[[", "[.[[[")
_MAX_FIELDS = max(len(fields) for fields in _TYPED_FIELDS.values())


class _Params(msgspec.Struct, array_like=True):
    """The first parameter, which has to be a string; others are passed over unread."""

    raw: str


_decode_params = decoder(_Params)


def raw_transaction_of(params: msgspec.Raw | bytes) -> str | None:
    """The first parameter, if it is a string; ``None`` otherwise, and for what is no JSON or too long. Never raises."""
    if len(params) > 2 * MAX_RAW_CHARACTERS:
        return None
    try:
        return _decode_params(params).raw
    except Unreadable:
        return None


def transaction_hash(raw: str) -> str | None:
    """The hash, ``0x`` and 64 lower-case digits, of a signed transaction as ``eth_sendRawTransaction`` takes it.

    ``None`` for what is no transaction of type 0 to 4, and for one of more than ``MAX_RAW_CHARACTERS``. Never raises.
    Takes 20 us for a transfer, up to 2 ms for six blobs.
    """
    if raw[:2] not in ("0x", "0X") or len(raw) > MAX_RAW_CHARACTERS:
        return None
    try:
        hashed = _hashed_bytes(unhexlify(raw[2:]))
    except ValueError:
        return None
    return "0x" + keccak.new(digest_bits=256, data=hashed).hexdigest()


def _hashed_bytes(encoded: bytes) -> bytes:
    """The bytes that the hash is of: all, but for the wrapping of a network form. Raises ``ValueError``."""
    kind = encoded[0] if encoded else 0
    is_legacy = kind >= _LIST
    items = _list_items(encoded, 0 if is_legacy else 1, len(encoded))
    shape = _shape(items)
    if kind == _BLOB_TYPE and shape in _NETWORK_FORMS:
        body = items[0]
        shape = _shape(_list_items(encoded, body.start, body.end))
        encoded = encoded[:1] + encoded[body.start : body.end]
    if shape != (_LEGACY_FIELDS if is_legacy else _TYPED_FIELDS.get(kind)):
        raise ValueError("not the fields of a transaction")
    return encoded


# -- RLP (Yellow Paper, appendix B), one level of it. A length has one right encoding; any other is refused, as it
# would be by a node.

_STRING, _LIST = 0x80, 0xC0
_SHORT = 55  # the longest payload whose length is in the first byte


class _Item(NamedTuple):
    """Where a string or list lies: its first byte, the first of its payload, and the end of both."""

    is_list: bool
    start: int
    payload: int
    end: int


def _shape(items: list[_Item]) -> str:
    return "".join("[" if item.is_list else "." for item in items)


def _list_items(data: bytes, start: int, end: int) -> list[_Item]:
    """The items of the list that fills ``data`` from ``start`` to ``end``, if they are no more than a transaction's."""
    whole = _item(data, start, end)
    if not whole.is_list or whole.end != end:
        raise ValueError("not one list")
    items: list[_Item] = []
    at = whole.payload
    while at < end:
        if len(items) == _MAX_FIELDS:
            raise ValueError("too many fields")
        items.append(_item(data, at, end))
        at = items[-1].end
    return items


def _item(data: bytes, start: int, limit: int) -> _Item:
    """The item at ``start``, which must end before ``limit``."""
    if start >= limit:
        raise ValueError("nothing there")
    head, payload = data[start], start + 1
    if head < _STRING:  # a byte that stands for itself
        return _Item(False, start, start, payload)
    is_list = head >= _LIST
    length = head - (_LIST if is_list else _STRING)
    if length > _SHORT:
        width = length - _SHORT
        length = int.from_bytes(data[payload : payload + width], "big")
        if length <= _SHORT or data[payload] == 0:
            raise ValueError("a length longer than need be")
        payload += width
    end = payload + length
    if end > limit:
        raise ValueError("a length beyond the end")
    if length == 1 and not is_list and data[payload] < _STRING:
        raise ValueError("a byte that would stand for itself")
    return _Item(is_list, start, payload, end)
