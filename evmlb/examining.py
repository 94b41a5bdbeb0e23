"""What one round asks of a node, and what ``health_check`` demands of the answers.

``eth_blockNumber`` is asked every time, of every node whatever the kind of its health check, since selection goes by
it; ``eth_chainId`` before any head counts, and each minute; the hash of one block every 15 s, by which nodes are
compared (:mod:`evmlb.policy.forks`); ``eth_syncing`` every 15 s, and every time while the node says yes; client version
and peers rarely, for people.

``health_check`` demands more, in the same round: ``eth_syncing`` false every time (``syncing``), the right status in
answer to a request of the user's (``custom``), enough peers, a number close to the chainhead. A node that answers, but
not as demanded, raises :class:`CheckFailed`; one that does not answer well, :class:`~evmlb.question.AskFailed`. Many
providers have no ``eth_syncing`` and no ``net_peerCount``: a node that says so passes, and ``skip_checks`` spares it
even the question.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import Deferred

from evmlb.chain import Syncing, parse_quantity, parse_syncing
from evmlb.config.schema import Check, CustomCheck, HealthCheckType
from evmlb.errors import Fault
from evmlb.events import Events
from evmlb.interfaces import Upstream
from evmlb.network import Network
from evmlb.node import Node, Poll
from evmlb.question import AskFailed, ask, request

SYNCING_SECONDS = 15.0
PEERS_SECONDS = 15.0
"""How often peers are asked for where some are demanded; every time while there are too few."""
CHAIN_ID_SECONDS = 60.0
OUT_CHAIN_ID_SECONDS = 15.0
"""How often the chain id is asked for; the second, of a node that is out because of it: it may have been repaired."""
CHECKPOINT_SECONDS = 15.0
METERED_CHECKPOINT_SECONDS = 60.0
"""How often nodes are compared by the hash of a block."""
DETAILS_SECONDS = 300.0
METHOD_NOT_FOUND = -32601
HASH_CHARACTERS = len("0x") + 64
_UNSUPPORTED_TEXTS = (
    "method not found",
    "method does not exist",
    "is not available",
    "not supported",
    "unknown method",
)
"""By these (aetherlay's) an error says that the node does not have the method, whatever its code."""
_OUR_HEADERS = frozenset(("host", "content-length", "transfer-encoding", "accept-encoding", "connection"))


class CheckFailed(Exception):
    """The node answered, but not as ``health_check`` demands; the text says how, in words."""


class Examination:
    """The questions to one node. ``try_seconds`` is how long one try of a round may take.

    ``unix_time`` is the wall clock, needed only to tell whether a block's timestamp lies in the future.
    """

    def __init__(
        self,
        reactor: Any,
        network: Network,
        node: Node,
        upstream: Upstream,
        publish: Callable[[Events], None],
        now: Callable[[], float],
        unix_time: Callable[[], float],
    ) -> None:
        self._reactor = reactor
        self._network = network
        self._node = node
        self._upstream = upstream
        self._losses = upstream.losses
        self._publish = publish
        self._now = now
        self._unix_time = unix_time
        self._demands = network.config.health_check
        longest = min(network.config.rpc_timeout_seconds, max(1.0, node.interval_seconds))
        self.try_seconds = self._demands.timeout_seconds or longest
        self._asked_at: dict[str, float] = {}
        self._chain_id: int | None = None  # said in this round
        self._syncing: Syncing | None = None  # said last
        self._lacks_peers = False  # said last

    def begin_round(self) -> None:
        """Forget what was said in the tries of the round before."""
        self._chain_id = None

    @property
    def details_due(self) -> bool:
        """Whether :meth:`ask_details` should be called."""
        return self._due("details", DETAILS_SECONDS)

    async def examine(self) -> Poll:
        """One try of a round: ask all that is due; raise what is wrong."""
        await self._check_chain_id()
        await self._check_syncing()
        await self._check_peers()
        await self._check_request()
        due = self._block_due()
        poll = await self.ask_head()
        self._check_lag(poll.number, due)
        block_hash, timestamp = await self._confirmation()
        if timestamp is None:
            return poll
        return replace(poll, block_hash=block_hash, block_timestamp=timestamp, unix_time=self._unix_time())

    async def ask_head(self) -> Poll:
        """Ask the block number alone."""
        started_at = self._now()
        number = self._number(await self._ask("eth_blockNumber"), "eth_blockNumber")
        return Poll(
            number=number,
            latency_seconds=self._now() - started_at,
            started_at=started_at,
            chain_id=self._chain_id,
            syncing=self._syncing,
        )

    async def _check_chain_id(self) -> None:
        checks = self._node.config.check_chain_id and not self._skips(Check.CHAIN_ID)
        wanted = self._node.chain_id_wanted and self._chain_id is None
        if self._losses != self._upstream.losses:
            # it closed a connection, as a restart does: it may have come back as a node of another chain
            self._losses = self._upstream.losses
            wanted = True
        seconds = CHAIN_ID_SECONDS if self._node.stands_on(self._network.chain_id) else OUT_CHAIN_ID_SECONDS
        if checks and (wanted or self._due("chain_id", min(seconds, CHAIN_ID_SECONDS))):
            self._chain_id = self._number(await self._ask("eth_chainId"), "eth_chainId")
            self._asked_at["chain_id"] = self._now()

    async def _check_syncing(self) -> None:
        demanded = self._demands.type is HealthCheckType.SYNCING
        due = demanded or self._syncing is not None or self._due("syncing", SYNCING_SECONDS)
        if not due or self._skips(Check.SYNCING):
            return
        result = await self._ask_syncing(demanded)
        self._syncing = parse_syncing(result)
        self._asked_at["syncing"] = self._now()
        if demanded and result is not False:
            to_go = "" if self._syncing is None else f": {self._syncing.distance_blocks} blocks to go"
            raise CheckFailed(f"eth_syncing does not say false{to_go}")

    async def _ask_syncing(self, demanded: bool) -> object:
        """What ``eth_syncing`` says; a node that does not have it (many providers) counts as done.

        Where it is not ``demanded``, so does one that answers any other error.
        """
        try:
            return await self._ask("eth_syncing")
        except AskFailed as error:
            if error.fault is Fault.RPC_ERROR and (not demanded or _is_unsupported(error)):
                return False
            raise

    async def _check_peers(self) -> None:
        """Enough peers, where some are demanded; a node that does not tell them passes."""
        least = self._demands.min_peers
        due = self._lacks_peers or self._due("peers", PEERS_SECONDS)
        if not least or not due or self._skips(Check.PEER_COUNT):
            return
        self._asked_at["peers"] = self._now()
        peers = parse_quantity(await self._optional("net_peerCount", self.try_seconds / 2))
        self._publish(self._network.observe_details(self._node, None, peers, self._now()))
        self._lacks_peers = peers is not None and peers < least
        if self._lacks_peers:
            raise CheckFailed(f"it has {peers} peers, and {least} are demanded")

    async def _check_request(self) -> None:
        """The user's request; its answer counts by the status alone."""
        if self._demands.type is not HealthCheckType.CUSTOM:
            return
        check = self._demands.request
        answer = await request(
            self._upstream,
            check.body.encode(),
            method=check.method.encode(),
            target=b"?",  # the node's own; not b"", which always says that the content is JSON
            headers=_lines(check),
        )
        if answer.status == check.status_code:
            return
        if answer.status == 429:
            retry_after = answer.value(b"retry-after")
            raise AskFailed(Fault.RATE_LIMITED, "HTTP 429 to the custom check", retry_after=retry_after)
        raise CheckFailed(f"HTTP {answer.status} to the custom check, which demands {check.status_code}")

    def _block_due(self) -> int | None:
        """The block that an answer from now on is measured by; ``None`` where there is nothing to measure by.

        It is the chainhead, as far as another node has it: nobody is behind what it said itself before a reorg. While
        it is younger than the interval it is the block before: by one that is still on its way to the nodes, a small
        tolerance would make the slower of two good nodes come and go with every block.
        """
        network = self._network
        others = [n.head for n in network.nodes if n is not self._node and n.reachable and n.head is not None]
        if network.chainhead is None or not others:
            return None
        young = self._now() - network.chainhead_since < self._node.interval_seconds
        return min(network.chainhead - young, max(others))

    def _check_lag(self, number: int, due: int | None) -> None:
        tolerance = self._demands.tolerance_blocks
        if tolerance is not None and due is not None and due - number > tolerance:
            raise CheckFailed(f"it is {due - number} blocks behind, and {tolerance} are tolerated")

    async def _confirmation(self) -> tuple[str | None, int | None]:
        """Hash and timestamp of the block that the network doubts, if it doubts one of this node."""
        doubted = self._network.wants_confirmation(self._node)
        if doubted is None:
            return None, None
        # the head must not be lost for it
        block = await self._optional("eth_getBlockByNumber", self.try_seconds / 2, [hex(doubted), False])
        if not isinstance(block, dict) or not isinstance(block.get("hash"), str):
            return None, None
        return block["hash"], parse_quantity(block.get("timestamp"))

    @property
    def checkpoint_due(self) -> bool:
        """Whether :meth:`ask_checkpoint` should be called."""
        seconds = METERED_CHECKPOINT_SECONDS if self._node.config.metered else CHECKPOINT_SECONDS
        is_due = self._due("checkpoint", seconds) and not self._skips(Check.BLOCK_HASH)
        return is_due and self._network.checkpoint(self._now()) is not None

    async def ask_checkpoint(self) -> None:
        """The hash of the block by which nodes are compared; a node that does not have it says nothing."""
        self._asked_at["checkpoint"] = self._now()
        height = self._network.checkpoint(self._now())
        if height is None:
            return
        block = await self._optional("eth_getBlockByNumber", self.try_seconds, [hex(height), False])
        block_hash = block.get("hash") if isinstance(block, dict) else None
        if isinstance(block_hash, str) and len(block_hash) == HASH_CHARACTERS:
            self._publish(self._network.observe_checkpoint(self._node, height, block_hash, self._now()))

    async def ask_details(self) -> None:
        """Client version and peers, for people: their failure means nothing."""
        self._asked_at["details"] = self._now()
        version = peers = None
        if not self._skips(Check.CLIENT_VERSION):
            version = await self._optional("web3_clientVersion", self.try_seconds)
        if not self._skips(Check.PEER_COUNT) and not self._demands.min_peers:
            peers = parse_quantity(await self._optional("net_peerCount", self.try_seconds))
        words = version[:200] if isinstance(version, str) else None
        self._publish(self._network.observe_details(self._node, words, peers, self._now()))

    async def _optional(self, method: str, seconds: float, params: object = ()) -> object:
        """The result, or ``None`` where there is none in time."""
        try:
            return await self._ask(method, params).addTimeout(seconds, self._reactor)
        except (AskFailed, defer.TimeoutError):
            return None

    def _ask(self, method: str, params: object = ()) -> Deferred[object]:
        return ask(self._upstream, method, params)

    def _skips(self, check: Check) -> bool:
        return check in self._node.config.skip_checks

    def _due(self, what: str, seconds: float) -> bool:
        return self._now() - self._asked_at.get(what, -math.inf) >= seconds

    def _number(self, result: object, method: str) -> int:
        number = parse_quantity(result)
        if number is None:
            raise AskFailed(Fault.GARBAGE, f"{method} answered something that is no number")
        return number


def _is_unsupported(error: AskFailed) -> bool:
    return error.code == METHOD_NOT_FOUND or any(text in error.message.lower() for text in _UNSUPPORTED_TEXTS)


def _lines(check: CustomCheck) -> bytes:
    """The header lines of the user's request, without those that only the connection can know."""
    lines = (f"{name}: {value}\r\n" for name, value in check.headers if name.lower() not in _OUR_HEADERS)
    return "".join(lines).encode()
