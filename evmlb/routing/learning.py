"""What answers passing by tell, and where that sends later calls.

Three things are learnt from good answers. A block number above the chainhead shows that the chain grew, before the next
poll does; and one below what this connection has seen is not passed on, unless the chainhead itself came down: it is
raised to what was seen. A block that is passed on is what its client has seen then, by number and by hash. An answer
that creates or removes a filter tells which node holds it: later uses must go there (:mod:`evmlb.policy.affinity`), and
new filters go there as well. A transaction that was taken tells where its sender's nonce and pending state are known
first.

Only small answers are read, of few methods, alone and in batches; others never come here. What cannot be read teaches
nothing: whether an answer is good was judged before.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
from msgspec import Raw

from evmlb.chain import parse_quantity
from evmlb.events import Events
from evmlb.exchange import Exchange
from evmlb.jsonrpc import Call, Unreadable, decoder, read_value
from evmlb.methods import FILTER_CREATION, FILTER_USE
from evmlb.network import Network
from evmlb.node import Node
from evmlb.policy.affinity import Filters
from evmlb.session import Session

TEACHING = frozenset(("eth_blockNumber", "eth_getBlockByNumber"))
"""Methods whose answers teach; those of unsafe methods do, too."""
SENDS = frozenset(("eth_sendRawTransaction", "eth_sendTransaction"))
_BEGINNING_BYTES = 4096
"""The number of a block is looked for in so much of it: nodes write the header before the transactions."""
_NUMBER = re.compile(rb'"number" ?: ?"(0x[0-9a-fA-F]{1,16})"')
_HASH = re.compile(rb'"hash" ?: ?"(0x[0-9a-fA-F]{64})"')
_FILTER_CHANGES = FILTER_CREATION | {"eth_uninstallFilter"}
_TELLING = TEACHING | _FILTER_CHANGES


class Learner:
    """What the answers to one network's calls taught. ``publish`` takes the network's events to their sinks."""

    def __init__(self, network: Network, now: Callable[[], float], publish: Callable[[Events], None]) -> None:
        self._network = network
        self._now = now
        self._publish = publish
        self._writes_seconds = network.config.read_your_writes_seconds
        self._nodes = {node.name: node for node in network.nodes}
        self.filters: Filters[Node] = Filters()
        self.writers_until = 0.0  # until then some connection's reads go to the node that took its transaction

    def learn(self, exchange: Exchange, node: Node, call: Call, parts: list[bytes]) -> list[bytes]:
        """What a good answer of this node tells. Returns the answer as the client gets it."""
        if call.method == "eth_blockNumber":
            return self._learn_height(exchange, node, call, parts)
        if call.method == "eth_getBlockByNumber":
            self._learn_block(exchange, node, parts[0][:_BEGINNING_BYTES])
            return parts
        if call.method in SENDS:
            self.note_writer(exchange, node)
        elif call.members is not None:
            self._learn_members(exchange, node, call.members, parts)
        elif call.method in _FILTER_CHANGES:
            self._learn_filter(node, call, _result(parts))
        return parts

    def _learn_members(self, exchange: Exchange, node: Node, members: tuple[Call, ...], parts: list[bytes]) -> None:
        """What the answers in a batch's tell, as they would alone; they are passed on as they came."""
        telling = [member for member in members if member.method in _TELLING]
        if not telling:
            return
        answers = _answers(parts)
        for member in telling:
            raw = answers.get(member.id)
            if raw is None:
                continue
            if member.method == "eth_getBlockByNumber":
                self._learn_block(exchange, node, bytes(memoryview(raw)[:_BEGINNING_BYTES]))
            elif len(raw) <= _MAX_NAME_BYTES:
                result = _value(raw)
                if member.method == "eth_blockNumber":
                    number = parse_quantity(result)
                    if number is not None:
                        self._note_told(exchange, node, number)
                else:
                    self._learn_filter(node, member, result)

    def _note_told(self, exchange: Exchange, node: Node, number: int) -> None:
        """A client is told that the chain has a block of this number, by a node that has it."""
        network = self._network
        if number > network.top:
            self._publish(network.observe_head(node, number, self._now()))
        session = _session(exchange)
        session.height = max(min(session.height, network.top), number)

    def _learn_height(self, exchange: Exchange, node: Node, call: Call, parts: list[bytes]) -> list[bytes]:
        """A connection's block number never goes down while the chainhead does not."""
        number = parse_quantity(_result(parts))
        if number is None:
            return parts
        network = self._network
        if number > network.top:
            self._publish(network.observe_head(node, number, self._now()))
        session = _session(exchange)
        floor = min(session.height, network.top)
        if number < floor:
            return [b'{"jsonrpc":"2.0","id":%b,"result":"%#x"}' % (call.id or b"null", floor)]
        session.height = number
        return parts

    def _learn_block(self, exchange: Exchange, node: Node, beginning: bytes) -> None:
        """A block is told: its number counts for this connection, and its hash for all."""
        found = _NUMBER.search(beginning)
        if found is None:
            return
        number = int(found[1], 16)
        self._note_told(exchange, node, number)
        named = _HASH.search(beginning)
        if named is not None:
            self._network.recent.record(named[1].decode().lower(), number)

    def note_writer(self, exchange: Exchange, node: Node) -> None:
        """The node took a transaction of this client's."""
        if self._writes_seconds:
            session = _session(exchange)
            session.writer = node.name
            session.writer_until = self.writers_until = self._now() + self._writes_seconds

    def writer(self, exchange: Exchange, now: float) -> Node | None:
        """The node that took this client's last transaction, while its reads go there."""
        if not self.writers_until:
            return None
        session = exchange.reply.session
        return self._nodes.get(session.writer) if session is not None and session.writer_until > now else None

    def expire(self, now: float) -> None:
        """Called about once a second: nobody's reads are bound any more."""
        if self.writers_until and now > self.writers_until:
            self.writers_until = 0.0

    def _learn_filter(self, node: Node, call: Call, result: object) -> None:
        if call.method in FILTER_CREATION and isinstance(result, str):
            self.filters.record_created(result.encode(), node, self._now())
        elif call.method == "eth_uninstallFilter" and result is True:
            self.filters.record_removed(_first_param(call))

    def holder(self, call: Call | None, now: float) -> Node | None:
        """The node that holds the filter which a call uses, or where a new one should be made."""
        if call is None or not self.filters:
            return None
        members = (call,) if call.members is None else call.members
        for member in members:
            if member.method in FILTER_USE:
                filter_id = _first_param(member)
                holder = self.filters.holder(filter_id, now) if filter_id else None
                if holder is not None:
                    return holder
        creates = any(member.method in FILTER_CREATION for member in members)
        return self.filters.latest_holder(now) if creates else None


def _session(exchange: Exchange) -> Session:
    """What the client's connection has seen, begun now if nothing was."""
    session = exchange.reply.session
    if session is None:
        session = exchange.reply.session = Session()
    return session


def may_use_filter(call: Call | None) -> bool:
    """Whether a slow call may use one: the quick look of the hot path."""
    return call is None or call.members is not None or call.method in FILTER_USE


def uses_filter(call: Call | None) -> bool:
    """Whether a call, or a member of a batch, uses a filter made before."""
    if call is None:
        return False
    if call.members is not None:
        return any(member.method in FILTER_USE for member in call.members)
    return call.method in FILTER_USE


class _Answer(msgspec.Struct, gc=False):
    id: Raw = Raw()
    result: Raw = Raw()


class _Params(msgspec.Struct, array_like=True, gc=False):
    first: Raw = Raw()


_read_answer = decoder(_Answer)
_read_answers = decoder(list[_Answer])
_read_params = decoder(_Params)
_MAX_PARAMS_BYTES = 64 * 1024
_MAX_NAME_BYTES = 200
"""Results and parameters that are longer are no ids of filters."""


def _result(parts: list[bytes]) -> object:
    """The result of a small answer."""
    try:
        return read_value(_read_answer(b"".join(parts)).result, max_bytes=_MAX_NAME_BYTES)
    except Unreadable:
        return None


def _answers(parts: list[bytes]) -> dict[bytes, Raw]:
    """The results in the answer to a batch, by the bytes of their ids."""
    try:
        answers = _read_answers(b"".join(parts))
    except Unreadable:
        return {}
    return {bytes(answer.id): answer.result for answer in answers if answer.result}


def _value(raw: Raw) -> object:
    try:
        return read_value(raw)
    except Unreadable:
        return None


def _first_param(call: Call) -> bytes:
    """The first parameter of a call if it is a short string, as bytes; empty otherwise."""
    if len(call.params) > _MAX_PARAMS_BYTES:
        return b""
    try:
        first = read_value(_read_params(call.params).first, max_bytes=_MAX_NAME_BYTES)
    except Unreadable:
        return b""
    return first.encode() if isinstance(first, str) else b""
