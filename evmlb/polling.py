"""Asking the nodes how they are: one loop per node, and one more for its load.

A round asks ``eth_blockNumber`` every time; ``eth_chainId`` before any head counts, and again now and then;
``eth_syncing`` every 15 s, and every time while the node says yes; client version and peers rarely. All of it goes
through the same client as requests do, so that latency means what clients feel.

One try ends after min(``rpc_timeout``, max(1 s, interval)). The first failed try of a round already makes the node
suspect; the rest of ``rpc_retries`` decide. A loop never ends by a failure, and never overlaps itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import orjson
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from evmlb.chain import Syncing, parse_quantity, parse_syncing
from evmlb.config.schema import NetworkConfig
from evmlb.errors import Fault
from evmlb.events import Events
from evmlb.interfaces import AnswerHead, Flight, Upstream
from evmlb.jsonrpc import call_body
from evmlb.network import Network
from evmlb.node import Node, Poll

SYNCING_SECONDS = 15.0
CHAIN_ID_SECONDS = 300.0
DETAILS_SECONDS = 300.0
LOAD_SECONDS = 5.0
BACK_OFF_SECONDS = 0.25
SPREAD_SECONDS = 1.0
"""The first polls are spread over this time, or over the interval if that is shorter; the first node's is at once."""
MAX_ANSWER_BYTES = 4 * 1024 * 1024
_QUESTION_ID = 1


_FAULT_OF_STATUS = {
    200: Fault.GARBAGE,
    401: Fault.UNAUTHORIZED,
    403: Fault.UNAUTHORIZED,
    429: Fault.RATE_LIMITED,
}


class AskFailed(Exception):
    """A question of ours was not answered well. ``fault`` says how, the text says it in words."""

    def __init__(self, fault: Fault, words: str) -> None:
        super().__init__(f"{fault.value}: {words}")
        self.fault = fault


class _Question:
    """A sink that turns one answer into a Deferred."""

    repeatable = True

    def __init__(self, upstream: Upstream) -> None:
        self.flight: Flight | None = None
        self._upstream = upstream
        self._head: AnswerHead | None = None  # of a large answer
        self._parts: list[bytes] = []
        self._size = 0
        self.answer: Deferred[object] = Deferred(lambda _: upstream.cancel(self))

    def answered(self, head: AnswerHead, parts: list[bytes]) -> None:
        """Read the answer."""
        try:
            body = orjson.loads(b"".join(parts))
        except ValueError:
            body = None
        if not isinstance(body, dict) or ("result" not in body and "error" not in body):
            fault = _FAULT_OF_STATUS.get(head.status, Fault.HTTP_ERROR)
            self._fail(fault, f"HTTP {head.status} without a JSON-RPC answer")
        elif body.get("error") is not None:
            self._fail(Fault.RPC_ERROR, _words(body["error"]))
        elif body.get("id") not in (_QUESTION_ID, None):
            self._fail(Fault.GARBAGE, "the id is not the one asked with")
        elif not self.answer.called:
            self.answer.callback(body.get("result"))

    def began(self, head: AnswerHead, parts: list[bytes]) -> None:
        """A large answer: a block with very many transactions may be one."""
        self._head, self._parts = head, []
        for part in parts:
            self.streamed(part)

    def streamed(self, data: bytes) -> None:
        """Collect it, up to a bound."""
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAX_ANSWER_BYTES and not self.answer.called:
            self._upstream.cancel(self)
            self._fail(Fault.GARBAGE, "the answer is too large")

    def ended(self) -> None:
        """Read it."""
        if self._head is not None:
            self.answered(self._head, self._parts)

    def progressed(self) -> None:
        """The try's own time-out counts, nothing else."""

    def failed(self, fault: Fault, detail: str, sent: bool) -> None:
        """There is no answer."""
        self._fail(fault, detail)

    def _fail(self, fault: Fault, words: str) -> None:
        if not self.answer.called:
            self.answer.errback(AskFailed(fault, words))


def _words(error: object) -> str:
    if isinstance(error, dict):
        return f"error {error.get('code')}: {str(error.get('message'))[:200]}"
    return f"error: {str(error)[:200]}"


def ask(upstream: Upstream, method: str, params: object = ()) -> Deferred[object]:
    """Ask a node; fires with the result, or fails with :class:`AskFailed`. Cancelling it ends the upstream work."""
    question = _Question(upstream)
    upstream.send(question, call_body(method, params, _QUESTION_ID))
    return question.answer


class LoadSource(Protocol):
    """Where a node's load comes from."""

    def fetch(self) -> Deferred[float]:
        """Fire with the load, or fail; cancellable."""
        ...


class NodePoller:
    """The polling of one node.

    ``unix_time`` is the wall clock, needed only to tell whether a block's timestamp lies in the future.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        network: Network,
        node: Node,
        upstream: Upstream,
        publish: Callable[[Events], None],
        now: Callable[[], float],
        unix_time: Callable[[], float],
        load_source: LoadSource | None = None,
    ) -> None:
        self._reactor = reactor
        self._network = network
        self._node = node
        self._upstream = upstream
        self._losses = upstream.losses
        self._publish = publish
        self._now = now
        self._unix_time = unix_time
        self._load_source = load_source
        config: NetworkConfig = network.config
        self.interval_seconds = config.poll_interval_seconds(node.role)
        self._try_seconds = min(config.rpc_timeout_seconds, max(1.0, self.interval_seconds))
        self._tries = max(1, config.rpc_retries)
        self._loops: list[tuple[LoopingCall, float]] = []
        self._starting: list[Any] = []
        self._under_way: dict[str, Deferred[Any]] = {}
        self._asked_at: dict[str, float] = {}
        self._chain_id: int | None = None  # said in this round
        self._syncing: Syncing | None = None  # said last
        self.outcomes: Counter[str] = Counter()
        """How often polls ended how: ``ok``, ``load_error``, or the value of a fault."""

    def start(self, delay_seconds: float) -> None:
        """Begin after a while, so that nodes are not polled in step."""
        self._add_loop(self._round, self.interval_seconds, delay_seconds)
        if self._load_source is not None:
            self._add_loop(self._load_round, max(LOAD_SECONDS, self.interval_seconds), delay_seconds)

    def _add_loop(self, function: Callable[[], Any], interval: float, delay_seconds: float) -> None:
        loop = LoopingCall(function)
        loop.clock = self._reactor
        self._starting.append(self._reactor.callLater(delay_seconds, self._begin, loop, interval))

    def _begin(self, loop: LoopingCall, interval: float) -> None:
        self._loops.append((loop, interval))
        loop.start(interval).addErrback(lambda failure: self.log.failure("polling of a node ended", failure))

    def stop(self) -> None:
        """Poll no more; what is under way is given up."""
        for delayed in self._starting:
            if delayed.active():
                delayed.cancel()
        for loop, _ in self._loops:
            if loop.running:
                loop.stop()
        for under_way in tuple(self._under_way.values()):
            under_way.cancel()

    # one round

    def _round(self) -> Deferred[None]:
        return self._watch("poll", self._poll())

    def _watch(self, what: str, coroutine: Coroutine[Any, Any, None]) -> Deferred[None]:
        """Run something that ``stop`` gives up, and that ends no loop whatever goes wrong."""
        running = self._under_way[what] = Deferred.fromCoroutine(coroutine)
        return running.addErrback(self._survive)

    def _survive(self, failure: Any) -> None:
        """Whatever went wrong in a round, the next one comes; being stopped is nothing wrong."""
        if not failure.check(defer.CancelledError):
            self.log.failure("a poll of {node} went wrong", failure, node=self._node.name)

    async def _poll(self) -> None:
        self._chain_id = None
        for left in range(self._tries - 1, -1, -1):
            try:
                poll = await self._try()
            except (AskFailed, defer.TimeoutError) as error:
                self._note_failure(error, final=left == 0)
                if left:
                    await deferLater(self._reactor, BACK_OFF_SECONDS)
            else:
                self.outcomes["ok"] += 1
                self._publish(self._network.observe_poll(self._node, poll, self._now()))
                if self._due("details", DETAILS_SECONDS):
                    self._watch("details", self._ask_details())  # beside the loop: nothing waits for it
                return

    def _note_failure(self, error: Exception, *, final: bool) -> None:
        timed_out = isinstance(error, defer.TimeoutError)
        fault = error.fault if isinstance(error, AskFailed) else Fault.TIMED_OUT
        words = f"no answer to a poll within {self._try_seconds:g} s" if timed_out else str(error)
        self.outcomes[fault.value] += 1
        self._publish(self._network.observe_poll_failure(self._node, words, self._now(), final=final))

    def _try(self) -> Deferred[Poll]:
        return Deferred.fromCoroutine(self._ask_all()).addTimeout(self._try_seconds, self._reactor)

    async def _ask_all(self) -> Poll:
        checks = self._node.config.check_chain_id
        wanted = self._node.chain_id_wanted and self._chain_id is None
        if self._losses != self._upstream.losses:
            # it closed a connection, as a restart does: it may have come back as a node of another chain
            self._losses = self._upstream.losses
            wanted = checks
        if wanted or (checks and self._due("chain_id", CHAIN_ID_SECONDS)):
            self._chain_id = self._number(await self._ask("eth_chainId"), "eth_chainId")
            self._asked_at["chain_id"] = self._now()
        if self._syncing is not None or self._due("syncing", SYNCING_SECONDS):
            self._syncing = await self._ask_syncing()
            self._asked_at["syncing"] = self._now()
        started_at = self._now()
        number = self._number(await self._ask("eth_blockNumber"), "eth_blockNumber")
        latency = self._now() - started_at
        block_hash, timestamp = await self._confirmation()
        return Poll(
            number=number,
            latency_seconds=latency,
            started_at=started_at,
            chain_id=self._chain_id,
            syncing=self._syncing,
            block_hash=block_hash,
            block_timestamp=timestamp,
            unix_time=None if timestamp is None else self._unix_time(),
        )

    async def _ask_syncing(self) -> Syncing | None:
        """What ``eth_syncing`` says; a node that does not answer it (many providers) counts as done."""
        try:
            return parse_syncing(await self._ask("eth_syncing"))
        except AskFailed as error:
            if error.fault is not Fault.RPC_ERROR:
                raise
            return None

    async def _confirmation(self) -> tuple[str | None, int | None]:
        """Hash and timestamp of the block that the network doubts, if it doubts one of this node."""
        doubted = self._network.wants_confirmation(self._node)
        if doubted is None:
            return None, None
        try:
            asking = self._ask("eth_getBlockByNumber", [hex(doubted), False])
            block = await asking.addTimeout(self._try_seconds / 2, self._reactor)  # the head must not be lost for it
        except (AskFailed, defer.TimeoutError):
            return None, None
        if not isinstance(block, dict) or not isinstance(block.get("hash"), str):
            return None, None
        return block["hash"], parse_quantity(block.get("timestamp"))

    async def _ask_details(self) -> None:
        """Client version and peers, for people: their failure means nothing."""
        self._asked_at["details"] = self._now()
        version = await self._optional("web3_clientVersion")
        peers = parse_quantity(await self._optional("net_peerCount"))
        words = version[:200] if isinstance(version, str) else None
        self._publish(self._network.observe_details(self._node, words, peers, self._now()))

    async def _optional(self, method: str) -> object:
        try:
            return await self._ask(method).addTimeout(self._try_seconds, self._reactor)
        except (AskFailed, defer.TimeoutError):
            return None

    def _ask(self, method: str, params: object = ()) -> Deferred[object]:
        return ask(self._upstream, method, params)

    def _due(self, what: str, seconds: float) -> bool:
        return self._now() - self._asked_at.get(what, float("-inf")) >= seconds

    def _number(self, result: object, method: str) -> int:
        number = parse_quantity(result)
        if number is None:
            raise AskFailed(Fault.GARBAGE, f"{method} answered something that is no number")
        return number

    # load

    def _load_round(self) -> Deferred[None]:
        return self._watch("load", self._ask_load())

    async def _ask_load(self) -> None:
        if self._load_source is None:
            return
        try:
            load: float | None = await self._load_source.fetch().addTimeout(self._try_seconds, self._reactor)
        except defer.CancelledError:
            raise
        except Exception as error:
            # whatever an exporter does must not end the loop; a load that is unknown sorts last
            self.log.debug("load of {node}: {error}", node=self._node.name, error=error)
            self.outcomes["load_error"] += 1
            load = None
        self._publish(self._network.observe_load(self._node, load, self._now()))


def spread(pollers: list[NodePoller]) -> None:
    """Start the pollers of one network, the first at once, the others spread out."""
    for place, poller in enumerate(pollers):
        window = min(SPREAD_SECONDS, poller.interval_seconds)
        poller.start(window * place / len(pollers) if place else 0.0)
