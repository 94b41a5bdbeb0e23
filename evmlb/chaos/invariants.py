"""What must hold in every run, and who watches it.

While a run goes on, the :class:`Observer` hears of every answer, and of every question that got none:

1. a question gets one answer, with its own ids, and nothing comes that nobody asked for. Without an answer the
   connection is cut, and only where an answer had begun, the client had left, or HTTP lets it be;
2. a result is the one that the node which gave it had to give, going by the head it had; where the question names its
   block, the only right one. Bad input and refused methods get the error that is theirs;
3. while a node is well (``sound``): a read gets a result, never an error, within :func:`wait_bound`; logs unless they
   were given all the time that ``slow_timeout`` gives. So does a call that changes something, unless
   a node got it, or may have got it;
4. while a node is well: no answer comes from a node that must be known to be too far behind, or to lie about its head.
   Known is what it told to polls itself (for a lie: three times over), ``KNOWN_SECONDS`` before it was asked; the
   chain that it is measured by is the one that the well node told at least two polls earlier.

At the end, :func:`executed_once`, :func:`within_budget` and :func:`nothing_left` look at what is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from evmlb.balancer import Balancer
from evmlb.chaos.client import Answer
from evmlb.chaos.clock import VirtualClock
from evmlb.chaos.node import ChaosNode, Ledger
from evmlb.chaos.questions import Asked, Kind, Question
from evmlb.chaos.scenario import Family, Scenario
from evmlb.chaos.trace import Trace
from evmlb.chaos.truth import Chain, Json
from evmlb.config.schema import Role
from evmlb.jsonrpc.answers import SMALL_ANSWER_BYTES
from evmlb.policy.selection import limit_of

KNOWN_SECONDS = 0.5
"""How long after a node told of it, what it told must have been drawn conclusions from. Longer than any round trip."""
ROUND_TRIP_SECONDS = 0.5
"""More than a node that is well takes, its connection and one that died under the request included."""
LIES_TO_BE_KNOWN = 3
_OF_REQUESTS = ("evmlb.routing", "evmlb.front", "evmlb.deadlines")
"""The modules whose timers belong to requests."""
_ERRORS_OF_BAD_INPUT = frozenset((-32700, -32600))


def wait_bound(scenario: Scenario, question: Question) -> float:
    """How long a read may take while a node is well, in seconds: so much per node that may be ill, and a round trip.

    A read is asked of another node of the tier when its answer is late, so it costs ``hedge.max_delay`` at most (2 s by
    default), logs ``hedge.heavy_max_delay``. One that only a node of another tier can answer waits until its time ends.
    """
    network = scenario.network
    sound = network.nodes[scenario.sound_node or 0]
    ill = len({change.node for change in scenario.changes} - {scenario.sound_node})
    in_reach = network.hedge.across_tiers or sound.role is min(
        (node.role for node in network.nodes), key=list(Role).index
    )
    is_heavy = any(call.method == "eth_getLogs" for call in question.calls)
    if network.hedge.enabled and ill <= network.hedge.max_hedges and in_reach:
        delay = network.hedge.heavy_max_delay_seconds if is_heavy else network.hedge.max_delay_seconds
        return ill * delay + ROUND_TRIP_SECONDS
    first_byte = network.rpc_timeout_seconds if question.kind is Kind.FAST else network.slow_timeout_seconds
    return ill * first_byte + ROUND_TRIP_SECONDS


class Observer:
    """Hears how questions end; keeps what was violated, in words."""

    def __init__(self, scenario: Scenario, chain: Chain, clock: VirtualClock, trace: Trace) -> None:
        self.violations: list[str] = []
        self.nodes: dict[str, ChaosNode] = {}
        self.stopped_at: float | None = None
        self._chainheads: list[tuple[float, int]] = [(0.0, 0)]  # since when which, by the balancer's own word
        self._scenario = scenario
        self._chain = chain
        self._clock = clock
        self._trace = trace
        self._sound_told: list[tuple[float, int]] = []
        self._lies: dict[str, int] = {}
        self._heights: dict[tuple[str, int], int] = {}  # told last, by client and connection
        self._is_sound = False  # whether the question at hand has to be answered as if nothing were wrong

    def violated(self, words: str) -> None:
        """Something must not have happened."""
        self._trace.say(f"VIOLATED: {words}")
        self._trace.mark()
        self.violations.append(f"at {self._clock.rightNow:.4f} s: {words}")

    def chainhead_moved(self, number: int | None) -> None:
        """The balancer's chainhead is another."""
        self._chainheads.append((self._clock.rightNow, number or 0))

    # what nodes tell to polls

    def told(self, node: ChaosNode, head: int) -> None:
        """A node gave its head to a poll."""
        scenario, now = self._scenario, self._clock.rightNow
        if scenario.sound_node is None:
            return
        config = next(each for each in scenario.network.nodes if each.name == node.name)
        sound = scenario.network.nodes[scenario.sound_node]
        if config is sound:
            self._sound_told.append((now, head))
            return
        lies = self._lies[node.name] = self._lies.get(node.name, 0) + 1 if head > self._chain.head(now) else 0
        known = self.surely_known
        behind = known is not None and known - head > limit_of(scenario.network, config.role)
        is_bad = behind or (lies >= LIES_TO_BE_KNOWN and known is not None)
        if not is_bad:
            node.known_bad = None
        elif node.known_bad is None:
            self._trace.say(f"{node.name} must be known not to serve: it told {head}, the chain is at {known}")
            node.known_bad = now

    @property
    def surely_known(self) -> int | None:
        """A block that the balancer must know of: the well node told it two polls ago, and a second and more."""
        now = self._clock.rightNow
        heads = [head for at, head in self._sound_told[-6:-2] if at < now - 1.0]
        return heads[-1] if heads else None

    # how questions end

    def answered(self, client: str, question: Question, answer: Answer) -> None:
        """An answer came."""
        self._is_sound = self._demands_all(question)
        wait = self._clock.rightNow - question.due_since
        self._trace.say(f"{client} gets {answer.status} for {question} after {wait:.4f} s")
        for fault in self._faults(client, question, answer, wait):
            self.violated(f"{client}, {question}: {fault} (HTTP {answer.status}, {answer.body[:160]!r})")

    def _demands_all(self, question: Question) -> bool:
        """Whether this question has to be answered as if nothing were wrong: the well node was known when it came."""
        if not self._scenario.is_sound or not self._sound_told:
            return False
        return question.asked_at > self._sound_told[0][0] + KNOWN_SECONDS

    def unanswered(self, client: str, question: Question, why: str, *, excused: bool) -> None:
        """No answer will come."""
        self._trace.say(f"{client} gets nothing for {question}: {why}")
        if not excused and not self._was_stopped(question):
            self.violated(f"{client}, {question}: {why} without an answer")

    def _was_stopped(self, question: Question) -> bool:
        """Whether the end of the balancer explains it: it came too late, or ran out of the grace given at the end."""
        if self.stopped_at is None:
            return False
        late = question.asked_at > self.stopped_at - 4 * self._scenario.latency_seconds
        return late or self._clock.rightNow >= self.stopped_at + self._scenario.config.shutdown_grace_seconds

    def _faults(self, client: str, question: Question, answer: Answer, wait: float) -> Iterator[str]:
        if question.kind is Kind.NOTE:
            if answer.body and self._is_sound:
                yield "a notification is answered by nothing"
            return
        is_read = len(answer.body) <= min(SMALL_ANSWER_BYTES, self._scenario.config.limits.failover_buffer_bytes)
        try:
            body = orjson.loads(answer.body)
        except ValueError:
            if is_read:
                yield "the answer is not JSON"  # a larger one is not read to its end
            return
        if question.kind in (Kind.BAD, Kind.REFUSED):
            yield from self._faults_of_own(question, body)
            return
        members = self._by_id(question, body)
        if isinstance(members, str):
            if is_read:
                yield members
            return
        for call in question.calls:
            yield from self._faults_of_call(client, question, call, members[_key(call.id)], answer)
        if self._is_sound and question.kind in (Kind.FAST, Kind.SLOW) and wait > wait_bound(self._scenario, question):
            yield f"it took {wait:.3f} s, more than {wait_bound(self._scenario, question):g} s"

    def _faults_of_own(self, question: Question, body: Json) -> Iterator[str]:
        code = _code(body)
        if question.kind is Kind.BAD and not {_code(each) for each in _members(body)} <= _ERRORS_OF_BAD_INPUT:
            yield "bad input gets the error for bad input, and each member of a batch its own"
        if question.kind is Kind.REFUSED and (code != -32601 or body.get("id") != question.calls[0].id):
            yield "a method of the consensus client's is refused"

    def _by_id(self, question: Question, body: Json) -> dict[str, Any] | str:
        """The members of an answer by their ids, or what is wrong with it as a whole."""
        answers = body if isinstance(body, list) else [body]
        if isinstance(body, list) is not question.is_batch:
            return "a batch is answered by an array, and nothing else is"
        if not all(isinstance(each, dict) and ("result" in each) is not ("error" in each) for each in answers):
            return "the answer is no JSON-RPC"
        members = {_key(each.get("id")): each for each in answers}
        if len(answers) != len(question.calls) or members.keys() != {_key(call.id) for call in question.calls}:
            return "the ids are not the ones asked with"
        return members

    def _faults_of_call(
        self, client: str, question: Question, call: Asked, member: dict[str, Any], answer: Answer
    ) -> Iterator[str]:
        if "error" in member:
            if self._is_sound and not self._is_excused(question, call):
                yield f"an error to {call.method}, while a node is well"
            return
        givers = self._givers(question, answer)
        if call.method == "eth_blockNumber":
            yield from self._faults_of_height(client, question, call, member["result"], givers)
        elif not self._is_right(question, call, member["result"], givers):
            yield f"the wrong result for {call.method} {call.params}"
        if self._is_sound and not call.pinned and not question.is_batch:
            served = ((node, node.served[call.id]) for node in givers if call.id in node.served)
            late = [node.name for node, found in served if found.known_bad_seconds > KNOWN_SECONDS]
            if late:
                yield f"{call.method} was answered by {', '.join(late)}, which must be known not to serve"

    def _is_right(self, question: Question, call: Asked, result: Json, givers: Sequence[ChaosNode]) -> bool:
        served = [node.served[call.id].head for node in givers if call.id in node.served]
        newest = self._chain.head(question.asked_at)
        heads = [newest] if call.pinned and self._is_sound else served
        return any(self._chain.answer_or_none(call.method, call.params, head) == result for head in heads)

    def _faults_of_height(
        self, client: str, question: Question, call: Asked, result: Json, givers: Sequence[ChaosNode]
    ) -> Iterator[str]:
        """A block number is the node's, or a higher one that the connection has been told before."""
        served = [node.served[call.id] for node in givers if call.id in node.served]
        if any(each.lied for each in served) or not self._is_sound:
            return  # not known to be a lie yet: that is looked at elsewhere
        number, now = int(result, 16), self._clock.rightNow
        if not any(each.head <= number <= self._chain.head(now) for each in served):
            yield "the block number is neither the node's nor one told before"
        if question.is_batch:
            return  # what is in it is not looked at
        told = self._heights.get((client, question.connection), 0)
        if number < min(told, self._lowest_chainhead(question.asked_at)):
            yield f"the block number went down from {told} to {number}, and the chainhead did not"
        self._heights[client, question.connection] = number

    def _lowest_chainhead(self, since: float) -> int:
        """The lowest that the chainhead has been since then."""
        lowest = self._chainheads[-1][1]
        for at, number in reversed(self._chainheads):
            lowest = min(lowest, number)
            if at <= since:
                break
        return lowest

    def _is_excused(self, question: Question, call: Asked) -> bool:
        """Whether an error is right while a node is well: a slow read that a node took all the time of, which is asked
        once; or a call that changes something, when a node got it, or may have.
        """
        if question.kind is Kind.SLOW:
            return self._clock.rightNow - question.asked_at >= self._scenario.network.slow_timeout_seconds
        since = question.asked_at - KNOWN_SECONDS
        got = (call.id in node.served or node.may_have_lost_since(since) for node in self.nodes.values())
        return question.kind is Kind.UNSAFE and any(got)

    def _givers(self, question: Question, answer: Answer) -> Sequence[ChaosNode]:
        """The node that gave an answer, or all of them where the answer does not say: to a batch several may have."""
        node = None if question.is_batch else self.nodes.get(answer.value("X-Evmlb-Node"))
        return tuple(self.nodes.values()) if node is None else (node,)


def _code(answer: Json) -> Json:
    """The code of an error; None for anything else."""
    error = answer.get("error") if isinstance(answer, dict) else None
    return error.get("code") if isinstance(error, dict) else None


def _members(body: Json) -> list[Json]:
    """The answers in a body."""
    return body if isinstance(body, list) and body else [body]


def _key(call_id: Json) -> str:
    return repr(call_id)


def executed_once(ledger: Ledger) -> Iterator[str]:
    """Nothing that changes something is carried out twice."""
    for marker, nodes in ledger.repeated().items():
        yield f"the call marked {marker} was carried out by {' and '.join(nodes)}"


def within_budget(balancer: Balancer, scenario: Scenario, questions: int) -> Iterator[str]:
    """Nodes are not asked more often than there are requests, and what the budgets of retries and hedges allow.

    The sum over all windows of ten seconds is bounded by their shares of all requests, and their least for the time of
    the run and one window more. Retries that cost nothing stand outside, so this is for the family ``vain`` only;
    elsewhere an attempt per node, a retry and the hedges bound what one request may cost.
    """
    stats = next(iter(balancer.networks.values())).router.stats
    attempts = sum(map(sum, stats.answered)) + sum(stats.failed.values())
    network = scenario.network
    each = max(1 + network.rpc_retries, len(network.nodes) + 1) + network.hedge.max_hedges
    allowed: float = each * questions
    if scenario.family is Family.VAIN:
        # retries have two budgets, one for errors that nodes answered with, one for all other failures
        parts = (network.retry_budget, network.retry_budget, network.hedge)
        budgets = ((part.budget_percent, part.budget_min_per_second) for part in parts)
        extra = sum(percent / 100 * questions + least * (scenario.until + 10.0) for percent, least in budgets)
        # a retry is charged when it has failed: those under way when a budget runs out are beyond it, in each window
        racing = scenario.clients * (scenario.until / 10.0 + 1)
        allowed = questions * network.broadcast_transactions + extra + racing + stats.handed_over
    if attempts > allowed:
        yield f"{attempts} attempts for {questions} requests: {allowed:.0f} are within the budgets"


def nothing_left(balancer: Balancer) -> Iterator[str]:
    """When nothing is asked any more, nothing is kept of what was."""
    deadlines = balancer.deadlines
    if deadlines.watched:
        yield f"{len(deadlines.watched)} attempts are still in the table"
    if deadlines.sweepers:
        yield "a queue is still watched"
    for name, parts in balancer.networks.items():
        stats = parts.router.stats
        if stats.in_flight or stats.queued:
            yield f"{name}: {stats.in_flight} requests in flight and {stats.queued} queued, by its statistics"
        for node, upstream in zip(parts.network.nodes, parts.upstreams, strict=True):
            if node.in_flight:
                yield f"{node.name}: {node.in_flight} requests in flight"
            if upstream._waiting:
                yield f"{node.name}: {len(upstream._waiting)} requests wait for a connection"
    for call in balancer.reactor.getDelayedCalls():
        if getattr(call.func, "__module__", "").startswith(_OF_REQUESTS):
            yield f"due: {call.func.__qualname__}"
    if balancer.front.memory.left != balancer.front.memory.total:
        yield "memory for request bodies is still reserved"
