"""Logs, and the filters by which clients choose among them.

A filter is what ``eth_subscribe`` and ``eth_getLogs`` take, with geth's rules (its ``eth/filters``):

* ``address``: one or a list; absent, null or empty is any;
* ``topics``: by position; null or an empty list is any, a list is any of these, a list with a null in it is any;
* a log must have at least as many topics as the filter has positions, even where these say any.

Other members (``fromBlock``, ``blockHash``) are not read here. Many filters against many logs:
:mod:`evmlb.policy.logindex`.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Raw

from evmlb.chain import parse_quantity
from evmlb.jsonrpc import decoder
from evmlb.policy.bloom import bloom_mask
from evmlb.policy.headers import BLOOM_BYTES

MAX_TOPICS = 4
"""Positions in a filter and topics of a log: the EVM has LOG0 to LOG4."""
MAX_ADDRESSES = 1000
"""Addresses in a filter; geth's limit."""
MAX_ALTERNATIVES = 1000
"""Topics at one position; geth's limit."""
MAX_TESTED = 100
"""Of a longer list no bloom test is made: three bits of a busy block's bloom match one of so many in any case, and
their masks would cost a millisecond and 30 KB."""

_FILTER_BYTES, _VALUE_BYTES, _MASK_BYTES, _FILED_BYTES = 1500, 120, 300, 320
"""Measured: of a filter and its subscription, of each value, of its bloom mask, of its place in the index."""

_ADDRESS_BYTES, _TOPIC_BYTES = 20, 32
_HEX = re.compile(r"0[xX](?:[0-9a-fA-F]{2})*")
_MEMBERS = ("address", "topics")

Choice = frozenset[bytes] | None
"""One of these, or (``None``) any."""


class InvalidFilter(ValueError):
    """A filter that is none; the text says why, for the client."""


# -- logs


class Log(msgspec.Struct, frozen=True, gc=False):
    """One log of a block. ``raw`` is its JSON as the node wrote it; ``index`` its place among the block's logs."""

    address: bytes
    topics: tuple[bytes, ...]
    block_hash: str
    index: int
    raw: bytes

    def items(self) -> Iterator[bytes]:
        """What it puts into its block's bloom."""
        yield self.address
        yield from self.topics


class _Fields(msgspec.Struct, rename="camel"):
    address: str
    topics: list[str]
    block_hash: str
    log_index: str


_decode_list = decoder(list[Raw])
_decode_fields = decoder(_Fields)
_decode_members = decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


def read_logs(result: bytes) -> tuple[Log, ...] | None:
    """The logs of an ``eth_getLogs`` result, in its order; ``None`` if it is none. Never raises. About 3 us a log."""
    try:
        if not result.isascii():
            result.decode()
        return tuple(_read_log(bytes(raw)) for raw in _decode_list(result))
    except ValueError:  # what cannot be read is one
        return None


def _read_log(raw: bytes) -> Log:
    fields = _decode_fields(raw)
    index = parse_quantity(fields.log_index)
    if len(fields.topics) > MAX_TOPICS or index is None:
        raise ValueError("not a log")
    address = _read_hex(fields.address, _ADDRESS_BYTES, "address")
    topics = tuple(_read_hex(topic, _TOPIC_BYTES, "topic") for topic in fields.topics)
    return Log(address, topics, fields.block_hash.lower(), index, raw)


def removed(raw: bytes) -> bytes:
    """The JSON of a log, with ``"removed": true``: what is sent when the log's block was abandoned.

    ``raw`` is that of a :class:`Log`. Order and values of the others stay as they are.
    """
    return _encode(_decode_members(raw) | {"removed": Raw(b"true")})


# -- filters


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Addresses and topics to choose logs by. Filters that say the same are equal, and have the same hash."""

    addresses: Choice = None
    topics: tuple[Choice, ...] = ()
    _masks: tuple[tuple[int, ...], ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        short = (choice for choice in self.choices() if choice is not None and len(choice) <= MAX_TESTED)
        object.__setattr__(self, "_masks", tuple(tuple(map(bloom_mask, choice)) for choice in short))

    @property
    def held_bytes(self) -> int:
        """So much memory it takes, with a place in a :class:`~evmlb.policy.logindex.LogIndex`, and hardly more."""
        counts = [len(choice) for choice in self.choices() if choice is not None]
        tested = sum(count for count in counts if count <= MAX_TESTED)
        return _FILTER_BYTES + _VALUE_BYTES * sum(counts) + _MASK_BYTES * tested + _FILED_BYTES * max(counts, default=0)

    def choices(self) -> tuple[Choice, ...]:
        """The addresses, then the topics by position."""
        return (self.addresses, *self.topics)

    def matches(self, log: Log) -> bool:
        """Whether the log is one of those meant."""
        if self.addresses is not None and log.address not in self.addresses:
            return False
        if len(self.topics) > len(log.topics):
            return False
        for choice, topic in zip(self.topics, log.topics, strict=False):  # half the time of all()
            if choice is not None and topic not in choice:
                return False
        return True

    def may_match(self, bloom: bytes) -> bool:
        """Whether a block of this bloom may have such a log; so always for a block without a bloom."""
        return len(bloom) != BLOOM_BYTES or self.may_match_bits(int.from_bytes(bloom, "big"))

    def may_match_bits(self, bits: int) -> bool:
        """The same for a bloom as an integer: for many filters on one bloom. About 0.3 us."""
        for masks in self._masks:
            for mask in masks:
                if bits & mask == mask:
                    break
            else:
                return False
        return True


def read_filter(value: object) -> LogFilter:
    """The filter in a decoded parameter; an absent one (``None``) matches every log. Raises :class:`InvalidFilter`.

    At most ``MAX_ADDRESSES`` addresses, ``MAX_TOPICS`` positions and ``MAX_ALTERNATIVES`` topics in each. A member
    whose name is ``address`` or ``topics`` but for its case is refused: nodes differ in whether they read it.
    """
    if value is None:
        return LogFilter()
    if not isinstance(value, dict):
        raise InvalidFilter("the filter is not an object")
    for name in value:
        if name not in _MEMBERS and isinstance(name, str) and name.lower() in _MEMBERS:
            raise InvalidFilter(f"unknown member {name!r}, did you mean {name.lower()!r}?")
    return LogFilter(_read_addresses(value.get("address")), _read_topics(value.get("topics")))


def _read_addresses(value: object) -> Choice:
    if value is None:
        return None
    if isinstance(value, str):
        return frozenset((_read_hex(value, _ADDRESS_BYTES, "address"),))
    if not isinstance(value, list):
        raise InvalidFilter("address is neither a string nor a list")
    if len(value) > MAX_ADDRESSES:
        raise InvalidFilter(f"more than {MAX_ADDRESSES} addresses")
    return frozenset(_read_hex(item, _ADDRESS_BYTES, "address") for item in value) or None


def _read_topics(value: object) -> tuple[Choice, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidFilter("topics is not a list")
    if len(value) > MAX_TOPICS:
        raise InvalidFilter(f"more than {MAX_TOPICS} topics")
    return tuple(map(_read_choice, value))


def _read_choice(value: object) -> Choice:
    if value is None:
        return None
    if isinstance(value, str):
        return frozenset((_read_hex(value, _TOPIC_BYTES, "topic"),))
    if not isinstance(value, list):
        raise InvalidFilter("a topic is neither a string, nor a list, nor null")
    if len(value) > MAX_ALTERNATIVES:
        raise InvalidFilter(f"more than {MAX_ALTERNATIVES} topics at one position")
    topics = frozenset(_read_hex(item, _TOPIC_BYTES, "topic") for item in value if item is not None)
    return None if None in value else topics or None


def _read_hex(value: object, length: int, what: str) -> bytes:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise InvalidFilter(f"{what} is not 0x and pairs of hex digits")
    data = unhexlify(value[2:])
    if len(data) != length:
        raise InvalidFilter(f"{what} has {len(data)} bytes, not {length}")
    return data


# -- one question for many filters


def union(filters: Iterable[LogFilter]) -> dict[str, Any]:
    """``address`` and ``topics`` for an ``eth_getLogs`` that gives at least the logs that any of these filters wants.

    A position is restricted if all filters restrict it, and together to no more than nodes take. No position is there
    that says any, so the answer does not depend on how a node counts them. ``{}`` asks for all logs.
    """
    positions = [filter_.choices() for filter_ in filters]
    width = min(map(len, positions), default=0)
    choices = [_union(choices[place] for choices in positions) for place in range(width)]
    while choices and choices[-1] is None:
        choices.pop()
    addresses, topics = choices[:1], choices[1:]
    asked: dict[str, Any] = {}
    if addresses and addresses[0]:
        asked["address"] = _written(addresses[0])
    if topics:
        asked["topics"] = [None if choice is None else _written(choice) for choice in topics]
    return asked


def _union(choices: Iterable[Choice]) -> Choice:
    together: set[bytes] = set()
    for choice in choices:
        if choice is None:
            return None
        together |= choice
    return frozenset(together) if len(together) <= MAX_ALTERNATIVES else None


def _written(choice: frozenset[bytes]) -> list[str]:
    return ["0x" + item.hex() for item in sorted(choice)]
