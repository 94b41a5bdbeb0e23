"""A node of a run: an HTTP server on the memory network that tells the truth unless something is wrong with it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from twisted.internet.protocol import Protocol

from evmlb.chaos.clock import VirtualClock
from evmlb.chaos.faults import ANSWERING, DOES_NOTHING, LYING, Ailment, End, Good, Reply, response
from evmlb.chaos.network import Host, MemoryNetwork, Reach, Transport
from evmlb.chaos.trace import Trace
from evmlb.chaos.truth import EXECUTING, SEND_RAW, Chain, Json, RpcError, marker_of, transaction_hash

POLL_ID = 1
"""The id of the balancer's own questions; clients of a run use others."""
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


GOSSIP_SECONDS = 0.5
"""How long it takes until all nodes know a raw transaction that one of them took."""


class Ledger:
    """Who carried out what. ``done``: the names of nodes by marker. ``taken``: raw transactions by their hashes, and
    which node took one first, when.
    """

    def __init__(self, block_seconds: float) -> None:
        self.done: dict[str, list[str]] = {}
        self.taken: dict[str, tuple[str, float]] = {}
        self._block_seconds = block_seconds

    def note(self, marker: str, node: str) -> None:
        """A node carried out the call with this marker."""
        self.done.setdefault(marker, []).append(node)

    def take(self, raw: str, node: str, now: float) -> None:
        """A node is given a raw transaction. Raises :class:`RpcError` in geth's words when it had it already."""
        first, at = self.taken.setdefault(transaction_hash(raw), (node, now))
        if now >= at + GOSSIP_SECONDS + self._block_seconds:
            raise RpcError(-32000, "nonce too low: next nonce 8, tx nonce 7")
        if now >= at + GOSSIP_SECONDS or (first == node and now > at):
            raise RpcError(-32000, "already known")

    def shows(self, transaction: str, node: str, now: float) -> Json:
        """What a node says when it is asked for a transaction by its hash."""
        first, at = self.taken.get(transaction, ("", now))
        return {"hash": transaction} if first == node or now >= at + GOSSIP_SECONDS else None

    def repeated(self) -> dict[str, list[str]]:
        """What was carried out more than once."""
        return {marker: nodes for marker, nodes in self.done.items() if len(nodes) > 1}


@dataclass(frozen=True, slots=True)
class Served:
    """How a call found a node: its head, for how long it should not have been asked any more, whether it lied."""

    head: int
    known_bad_seconds: float
    lied: bool


class ChaosNode:
    """One node. ``tell``: hears each head that it gives to a poll, lies included. ``check_status``: how it answers what
    is no JSON-RPC: a check of its health.

    ``served``: by id, how a client's call found it when it came last. ``known_bad``: since when the balancer must know
    that it should not serve, for all that it told.
    """

    def __init__(
        self,
        name: str,
        address: str,
        network: MemoryNetwork,
        chain: Chain,
        ledger: Ledger,
        trace: Trace,
        tell: Callable[[ChaosNode, int], None],
        seed: int,
        service_seconds: float,
        check_status: int,
    ) -> None:
        self.name = name
        self.ailment: Ailment | None = None
        self.served: dict[Json, Served] = {}
        self.known_bad: float | None = None
        self._lost_until = -1.0  # when it last may have lost a request that was sent to it
        self._tell = tell
        self.connections: dict[NodeConnection, None] = {}
        self._clock: VirtualClock = network.clock
        self._chain = chain
        self._ledger = ledger
        self._trace = trace
        self._rng = random.Random(seed)
        self._service_seconds = service_seconds
        self._check_status = check_status
        self._held_back: int | None = None  # the head that does not go on
        self.host: Host = network.add_host(address, self._accept)

    def _accept(self) -> NodeConnection:
        connection = NodeConnection(self)
        self.connections[connection] = None
        return connection

    def forget(self, connection: NodeConnection) -> None:
        """A connection is gone."""
        self.connections.pop(connection, None)
        self._lost_until = self._clock.rightNow

    # what befalls it

    def become(self, ailment: Ailment | None) -> None:
        """Take on an ailment in place of the last one; None: be well."""
        self._trace.say(f"{self.name} is {ailment or 'well'}")
        name = "" if ailment is None else ailment.name
        if self.host.deaf:
            self._lost_until = self._clock.rightNow
        self.ailment = ailment
        host = self.host
        host.deaf = name == "unreachable"
        host.mute = name in ("unreachable", "answers lost")
        host.reach = {"killed": Reach.REFUSED, "unreachable": Reach.SILENT}.get(name, Reach.OPEN)
        if name == "killed":
            for connection in tuple(self.connections):
                connection.transport.abortConnection()
        true_head = self._chain.head(self._clock.rightNow)
        fallen = int(ailment.amount) if ailment is not None and name == "fell back" else 0
        self._held_back = true_head - fallen if name in ("frozen", "fell back") else None

    def may_have_lost_since(self, time: float) -> bool:
        """Whether what was sent to it since then may have been lost on the way."""
        return self.host.deaf or self._lost_until >= time

    @property
    def head(self) -> int:
        """The newest block it has."""
        return self._chain.head(self._clock.rightNow) if self._held_back is None else self._held_back

    # requests

    def reply_to(self, body: bytes) -> Reply:
        """Carry a request out, or not, and say how it is answered."""
        asked = _read(body)
        if asked is None:
            return Reply(response(b"", self._check_status))
        calls = asked if isinstance(asked, list) else [asked]
        is_poll = len(calls) == 1 and calls[0].get("id") == POLL_ID
        ailment = self._strikes(is_poll)
        spoil = None if ailment is None else ANSWERING.get(ailment.name)
        executes = spoil is None or (ailment is not None and self._does_before(ailment))
        good = self._answer(calls, isinstance(asked, list), executes, is_poll)
        reply = self._well(good) if spoil is None or ailment is None else spoil(good, ailment.amount, self._rng)
        service = self._service_seconds * (0.5 + self._rng.random())
        return Reply(reply.data, reply.end, reply.late_seconds + service)

    def _strikes(self, is_poll: bool) -> Ailment | None:
        ailment = self.ailment
        if ailment is None or (is_poll and ailment.spares_polls) or ailment.share <= self._rng.random():
            return None
        return ailment

    def _does_before(self, ailment: Ailment) -> bool:
        return ailment.name not in DOES_NOTHING and self._rng.random() < 0.5

    @staticmethod
    def _well(good: Good) -> Reply:
        return Reply(response(good.body))

    def _answer(self, calls: list[Any], is_batch: bool, executes: bool, is_poll: bool) -> Good:
        answers = []
        for call in calls:
            answer = self._answer_one(call, executes, is_poll)
            if "id" in call:
                answers.append({"jsonrpc": "2.0", "id": call["id"], **answer})
        ids = [answer["id"] for answer in answers]
        if not answers:
            return Good(b"", ids, is_batch)
        return Good(orjson.dumps(answers if is_batch else answers[0]), ids, is_batch)

    def _answer_one(self, call: Any, executes: bool, is_poll: bool) -> Json:
        method, params = call["method"], call.get("params") or []
        if not is_poll:
            self.served[call.get("id")] = Served(self.head, self._known_bad_for(), self._lies)
        head, now = self.head, self._clock.rightNow
        if method == "eth_blockNumber" and self.ailment is not None and self._lies:
            head += int(self.ailment.amount)
        if method == "eth_blockNumber" and is_poll:
            self._tell(self, head)
        try:
            if method in EXECUTING and executes:
                self._execute(method, params)
            if method == "eth_getTransactionByHash":
                return {"result": self._ledger.shows(params[0], self.name, now)}
            return {"result": self._chain.answer(method, params, head)}
        except RpcError as error:
            return {"error": {"code": error.code, "message": error.message}}

    def _execute(self, method: str, params: list[Json]) -> None:
        marker = marker_of(method, params)
        self._trace.say(f"{self.name} carries out {method} {marker[:20]}")
        if method == SEND_RAW:
            self._ledger.take(marker, self.name, self._clock.rightNow)
        else:
            self._ledger.note(marker, self.name)

    @property
    def _lies(self) -> bool:
        return self.ailment is not None and self.ailment.name == LYING

    def _known_bad_for(self) -> float:
        return 0.0 if self.known_bad is None else self._clock.rightNow - self.known_bad


def _read(body: bytes) -> Any:
    """A call or a batch; None for what is neither."""
    try:
        asked = orjson.loads(body)
    except ValueError:
        return None
    calls = asked if isinstance(asked, list) else [asked]
    return asked if all(isinstance(call, dict) and "method" in call for call in calls) else None


class NodeConnection(Protocol):
    """One connection of the balancer to a node: requests in, replies out, one after the other."""

    transport: Transport

    def __init__(self, node: ChaosNode) -> None:
        self._node = node
        self._kept = b""
        self._stalled = False

    def dataReceived(self, data: bytes) -> None:
        """Answer every whole request; after one that stalls nothing is read any more."""
        self._kept += data
        while not self._stalled and not self.transport.disconnecting:
            head, blank, rest = self._kept.partition(b"\r\n\r\n")
            if not blank:
                return
            found = _LENGTH.search(head)
            length = int(found[1]) if found else 0
            if len(rest) < length:
                return
            self._kept = rest[length:]
            self._send(self._node.reply_to(rest[:length]))

    def _send(self, reply: Reply) -> None:
        self.transport.write(reply.data, reply.late_seconds)
        if reply.end is End.STALL:
            self._stalled = True
        elif reply.end is not End.KEEP:
            end = self.transport.loseConnection if reply.end is End.CLOSE else self.transport.abortConnection
            self._node._clock.callLater(reply.late_seconds, end)

    def connectionLost(self, reason: object = None) -> None:
        """The connection is gone, and what was on its way here with it."""
        self._node.forget(self)
