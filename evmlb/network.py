"""One network's nodes together: facts in, order out, events out.

Every fact goes the same way: to the node it is about, to the heads, then :meth:`Network._settle` makes of each node
concerned the :class:`~evmlb.policy.ranking.Candidate` that selection may know. Only if one of these differs from what
it was is the order computed anew, and swapped whole: requests read whichever they hold.

An order that says the same as before is swapped silently (its reasons may differ); :class:`~evmlb.events.OrderChanged`
is for another tier or sequence. The other events are made where a node's or the network's state flips, and say so
once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import ceil

from evmlb.config.schema import NetworkConfig, Role
from evmlb.events import (
    ChainheadMoved,
    ChainIdDisputed,
    Events,
    NodeHeadDoubted,
    NodeTimeAhead,
    OrderChanged,
)
from evmlb.node import Node, Poll
from evmlb.policy.chain_id import ChainVerdict, judge_chain_ids
from evmlb.policy.forks import Forks
from evmlb.policy.heads import CLOCK_SKEW_SECONDS, Heads, is_proof, seconds_ahead
from evmlb.policy.recent import RecentBlocks
from evmlb.policy.selection import select
from evmlb.policy.states import NodeState, state_of

__all__ = ["Network", "Node", "Order", "Place", "Poll"]

OVERDUE_SECONDS = 5.0
"""Trials are taken from real traffic, but only of calls that cost little when they fail. Where there are none for so
long, good polls count in their place: or a node would never come back to clients that send nothing else."""


@dataclass(frozen=True, slots=True)
class Place:
    """One node's place in the order and why. ``rank`` 0 is the first asked; ``None``: it may not serve.

    ``reason`` is one plain clause, ``state`` the word for it.
    """

    node: Node
    rank: int | None
    reason: str
    state: NodeState = NodeState.UNKNOWN


@dataclass(frozen=True, slots=True)
class Order:
    """Who serves a network, first first: an immutable snapshot that requests only read.

    ``serving`` is the serving tier, ``reserve`` the eligible tiers behind it, ``candidates`` both: what a request
    tries in turn. ``ties``: how many leading nodes of ``serving`` tie, at least 1 when any serve. ``degraded``: none is
    in range, these are the nearest. ``panic``: these are ejected nodes, as nothing else is left. ``refusal``: why
    there are no candidates, in words for a client; ``rate_limited``: because each node said not to be asked now.
    ``last_resort``: the ejected ones, and those held off by a guess of ours, for a request that all candidates have
    failed. ``places``: one per node, as configured.
    """

    serving: tuple[Node, ...]
    reserve: tuple[Node, ...]
    candidates: tuple[Node, ...]
    ties: int
    tier: Role | None
    degraded: bool
    refusal: str | None
    places: tuple[Place, ...]
    panic: bool = False
    rate_limited: bool = False
    last_resort: tuple[Node, ...] = ()


class Network:
    """One network. All methods take ``now`` in seconds, which must not run backwards, and return what changed.

    ``top`` is the chainhead, 0 while there is none: a plain attribute, as each request compares its node with it.
    ``recent``: the blocks that clients were told of.
    """

    def __init__(self, config: NetworkConfig, now: float, rng: random.Random | None = None) -> None:
        self.config = config
        self.name = config.name
        self.nodes = tuple(Node(node, config, index, rng) for index, node in enumerate(config.nodes))
        self.top = 0
        self.recent = RecentBlocks()
        self.started = False
        self.rounds_complete = False
        self._heads = Heads(
            config.network_block_diff,
            config.block_time_seconds,
            now,
            horizon_seconds=max((node.interval_seconds for node in self.nodes), default=1.0),
        )
        self._forks = Forks(config.network_block_diff)
        self._verdict = ChainVerdict(config.chain_id)
        self._told_dispute: tuple[int, ...] = ()
        self._told_chainhead: int | None = None
        self._told_order = False
        self._told_doubts: frozenset[int] = frozenset()
        self._basis: tuple[ChainVerdict, frozenset[int], frozenset[int]] = (self._verdict, frozenset(), frozenset())
        self._ejected: tuple[Node, ...] = ()
        self._preferred = next((role for role in Role if any(n.role is role for n in self.nodes)), None)
        self._selection = select([node.candidate for node in self.nodes], config, {})
        self.order = self._new_order()

    # questions

    @property
    def chainhead(self) -> int | None:
        """The agreed head; ``None`` while no node's head counts."""
        return self._heads.number

    @property
    def chainhead_since(self) -> float:
        """When the chainhead took its present value."""
        return self._heads.since

    @property
    def chain_id(self) -> int | None:
        """The chain id that nodes must serve: configured, or the majority's; ``None`` while unknown or disputed."""
        return self._verdict.expected

    @property
    def block_time_seconds(self) -> float | None:
        """The configured or learnt time between blocks."""
        return self._heads.block_time_seconds

    @property
    def new_blocks(self) -> int:
        """How many blocks the chain may have gone on by since the nodes told of its head."""
        block_time = self.block_time_seconds
        told_every = min((node.interval_seconds for node in self.order.candidates), default=0.0)
        return int(told_every / block_time) if block_time else 0

    def wants_confirmation(self, node: Node) -> int | None:
        """A doubted block number: the node's next poll also asks for that block, and shows its hash and time."""
        return self._heads.doubted(node.index)

    def checkpoint(self, now: float) -> int | None:
        """The number of the block whose hash a node's next poll should bring; ``None``: there is nobody to compare."""
        return self._forks.height(self.chainhead, now) if len(self.nodes) > 1 else None

    def due_trial(self, now: float) -> Node | None:
        """An ejected node that should get one trial request now."""
        if not self._ejected:
            return None
        eligible = self._selection.eligible
        return next((n for n in self._ejected if n.index in eligible and n.breaker.due(now)), None)

    def rate_limited_for_seconds(self, now: float) -> float:
        """How long until the first of the nodes that hold themselves off may be asked again; 0 when none does."""
        return min((n.limit.seconds_left(now) for n in self.nodes if n.limit.limited), default=0.0)

    def begin_trial(self, node: Node, now: float) -> None:
        """The one trial request was sent; its outcome comes as a success or failure, or is not waited for."""
        node.trials += 1
        node.breaker.begin(now)

    # facts in

    def observe_poll(self, node: Node, poll: Poll, now: float) -> Events:
        """A poll of the node was answered."""
        known_id = node.chain_id
        node.observe_poll(poll, now)
        if node.breaker.overdue_seconds(now) >= OVERDUE_SECONDS:
            self.begin_trial(node, now)
            node.record_success(now, last_resort=False)
        if node.chain_id != known_id:
            self._judge_chain(node, now)
        if node.stands_on(self.chain_id):
            self._report(node, poll, now)
            self.started = self.started or node.role is self._preferred
        else:
            self._withdraw(node, now)
        self._note_round()
        return self._clock_events(node, poll) + self._settle(node, now)

    def observe_poll_failure(self, node: Node, reason: str, now: float, *, final: bool) -> Events:
        """A try of a poll failed: the node is suspect. ``final``: all its tries have, which counts against it."""
        node.observe_poll_failure(reason, now, final=final)
        if final:
            self._note_round()
            if not node.healthy:
                self._withdraw(node, now)
        return self._settle(node, now)

    def observe_checkpoint(self, node: Node, height: int, block_hash: str, now: float) -> Events:
        """The node has this block at the height of :meth:`checkpoint`: is it the block that the others have?"""
        if not self._forks.report(node.index, node.role, height, block_hash):
            return ()
        for each in self.nodes:
            each.other_block_at = self._forks.strays.get(each.index)
            if each.other_block_at is None:
                self._rejoin(each, now)
            else:
                self._withdraw(each, now)
        return self._settle(None, now)

    def observe_load(self, node: Node, load: float | None, now: float) -> Events:
        """The load of the node's machine was read; ``None``: it could not be."""
        node.load = load
        return self._settle(node, now)

    def observe_details(self, node: Node, client_version: str | None, peer_count: int | None, now: float) -> Events:
        """What is rarely asked. ``None``: not known; what was known before stays."""
        if client_version is not None:
            node.learn_version(client_version)
        if peer_count is not None:
            node.peer_count = peer_count
        return ()

    def observe_head(self, node: Node, number: int, now: float) -> Events:
        """An answer passing by showed that the node has this block: the chainhead may rise, lags do not change."""
        node.reached = max(node.reached, number)
        before = self.chainhead
        self._heads.hear(node.index, number, now)
        return () if self.chainhead == before else self._settle(node, now)

    def observe_push(self, node: Node, number: int, now: float) -> Events:
        """The node pushed a head over its WebSocket."""
        node.pushed_at = now
        return self.observe_head(node, number, now)

    def record_failure(
        self,
        node: Node,
        reason: str,
        now: float,
        *,
        proven: bool,
        unreachable: bool = False,
        unsafe: bool = False,
        by_error: bool = False,
        sent_at: float | None = None,
    ) -> Events:
        """An attempt failed and blames the node.

        ``proven``: nothing about the request can have been the cause. ``unreachable``: there was no connection.
        ``unsafe``: the call may go nowhere else, so no other node will prove anything. ``by_error``: the node answered
        with an error, as it may to some calls only. ``sent_at``: when the attempt began, so that what was sent before
        a change of state counts for nothing after it.
        """
        node.record_failure(
            reason,
            now,
            proven=proven,
            unreachable=unreachable,
            unsafe=unsafe,
            by_error=by_error,
            sent_at=sent_at,
            may_open=self._may_eject(node),
        )
        return self._settle(node, now)

    def _may_eject(self, node: Node) -> bool:
        """Whether one node more may be out by its requests: at most a share of those that polls speak well of."""
        if node.ejected:
            return True
        others = [n for n in self.nodes if n.reachable or n is node]
        out = sum(n.ejected for n in others)
        return out + 1 <= max(1, ceil(len(others) * self.config.circuit_breaker.max_ejected_percent / 100))

    def record_success(
        self, node: Node, now: float, *, sent_at: float | None = None, method: str | None = None
    ) -> Events:
        """An attempt succeeded, of a call of this method where it was one; only needed while ``node.troubled``."""
        shown = node.suspect or node.ejected
        node.record_success(now, last_resort=self.order.panic, sent_at=sent_at, method=method)
        return self._settle(node, now) if shown else ()

    def suspect(self, node: Node, reason: str, now: float) -> Events:
        """An attempt ended in a way that makes the node be asked last, and no more than that."""
        node.suspect_of(reason)
        return self._settle(node, now)

    def record_loss(
        self,
        node: Node,
        method: str,
        elapsed_seconds: float,
        now: float,
        *,
        is_light: bool,
        is_hopeless: bool = False,
    ) -> Events:
        """Another node answered first, though this one was asked ``elapsed_seconds`` ago.

        ``is_light``: what every node answers at once. ``is_hopeless``: the other needed far less time.
        """
        node.record_loss(method, elapsed_seconds, now, is_light=is_light, is_hopeless=is_hopeless)
        return self._settle(node, now)

    def record_silence(self, node: Node, now: float) -> Events:
        """The node owes an answer for long, and no other node was asked that could show whether it should."""
        node.record_silence(now)
        return self._settle(node, now)

    def record_unsupported(self, node: Node, method: str, now: float) -> Events:
        """The node said that it does not have a method."""
        node.record_unsupported(method, now)
        return ()

    def record_limited(self, node: Node, retry_after_seconds: float | None, now: float, words: str = "") -> Events:
        """The node said in ``words`` that it is asked too often; ``retry_after_seconds``: for how long, if it did."""
        if node.limit.record_limited(now, retry_after_seconds):
            node.limit_words = words
        self._note_round()
        return self._settle(node, now)

    def observe_probe(self, node: Node, good: bool, retry_after_seconds: float | None, now: float) -> Events:
        """A node that is held off was asked whether it still is."""
        node.limit.record_probe(now, good, retry_after_seconds)
        return self._settle(node, now)

    def expire(self, now: float) -> Events:
        """Let time pass: observations run out, doubts are outlived. Called about once a second."""
        for node in self.nodes:
            node.expire(now)
            ends_at = node.observation_ends_at()
            if ends_at is not None and now > ends_at and not node.stale:
                node.stale = True
                self._withdraw(node, now)
        self._heads.expire(now)
        return self._settle(None, now)

    # inside

    def _report(self, node: Node, poll: Poll, now: float) -> None:
        proven = is_proof(poll.block_hash, poll.block_timestamp, poll.unix_time)
        self._heads.report(node.index, poll.number, now, started_at=poll.started_at, proven=proven)
        self._note_chainhead(node, now)

    def _note_chainhead(self, node: Node, now: float) -> None:
        node.chainhead_at_answer = self.chainhead
        node.settled_chainhead_at_answer = self._heads.known_at(now - node.interval_seconds)

    def _withdraw(self, node: Node, now: float) -> None:
        self._heads.forget(node.index, now)
        node.chainhead_at_answer = node.settled_chainhead_at_answer = None

    def _judge_chain(self, asked: Node, now: float) -> None:
        """Count the votes again; ``asked``, whose vote is new, is about to report or withdraw by itself."""
        votes = [(n.role, n.chain_id) for n in self.nodes if n.has_vote and n.chain_id is not None]
        verdict = judge_chain_ids(self.config.chain_id, votes)
        if verdict == self._verdict:
            return
        self._verdict = verdict
        others = [n for n in self.nodes if n is not asked]
        for node in others:
            if not node.stands_on(verdict.expected):
                self._withdraw(node, now)
        for node in others:
            self._rejoin(node, now)

    def _rejoin(self, node: Node, now: float) -> None:
        """Let the last answer of a node count that now turns out to be on the right chain."""
        if node.head is None or not node.healthy or self._heads.reports(node.index):
            return
        if node.stands_on(self.chain_id):
            self._heads.report(node.index, node.head, now, started_at=now)
            self._note_chainhead(node, now)
            self.started = self.started or node.role is self._preferred

    def _note_round(self) -> None:
        if not self.rounds_complete:
            self.rounds_complete = all(node.last_poll_at is not None or node.limit.limited for node in self.nodes)

    def _settle(self, node: Node | None, now: float) -> Events:
        """Draw the conclusions of a fact about ``node`` (``None``: about any)."""
        shaken = self._shake()
        events = self._network_events()
        changed = shaken
        for concerned in self.nodes if node is None or shaken else (node,):
            candidate = concerned.candidate_for(
                self.chainhead, self.chain_id, refuted=self._heads.refuted(concerned.index)
            )
            if candidate != concerned.candidate:
                changed = True
                events += concerned.adopt(candidate, self.name, self.chain_id)
        if changed:
            events += self._reorder(now)
        return events + self._first_round_events(now)

    def _first_round_events(self, now: float) -> Events:
        """Tell once when all nodes have been asked and nobody serves: that an order never came is no change of it."""
        if self._told_order or not self.rounds_complete:
            return ()
        self._told_order = True
        reason = self._why_nobody(now)
        return () if self.order.candidates else (OrderChanged(network=self.name, tier=None, nodes=(), reason=reason),)

    def _shake(self) -> bool:
        """Say whether something changed that other nodes stand on too: a chainhead that only rises moves no lag."""
        number, told = self.chainhead, self._told_chainhead
        basis = (self._verdict, self._heads.refutations, frozenset(self._forks.strays))
        fell = told is not None and (number is None or number < told)
        if fell:
            for node in self.nodes:
                node.lower_chainhead(number)
        changed, self._basis = basis != self._basis, basis
        return fell or changed

    def _network_events(self) -> Events:
        return (*self._doubt_events(), *self._chainhead_events(), *self._dispute_events())

    def _doubt_events(self) -> Events:
        doubts, told = self._heads.doubts, self._told_doubts
        if doubts == told:
            return ()
        self._told_doubts = doubts
        return tuple(
            NodeHeadDoubted(network=self.name, node=n.name, number=n.head, chainhead=self.chainhead)
            for n in self.nodes
            if n.index in doubts - told and n.head is not None
        )

    def _clock_events(self, node: Node, poll: Poll) -> Events:
        """A block that is not due yet by our clock is told once, until one of the node's is."""
        if poll.block_timestamp is None or poll.unix_time is None:
            return ()
        seconds = seconds_ahead(poll.block_timestamp, poll.unix_time)
        is_ahead = seconds > CLOCK_SKEW_SECONDS
        told, node.time_ahead = node.time_ahead, is_ahead
        return (NodeTimeAhead(network=self.name, node=node.name, seconds=seconds),) if is_ahead and not told else ()

    def _chainhead_events(self) -> Events:
        number, told = self.chainhead, self._told_chainhead
        if number == told:
            return ()
        self.top = number or 0
        self._told_chainhead = number
        return (ChainheadMoved(network=self.name, number=number, previous=told),)

    def _dispute_events(self) -> Events:
        """A dispute is told when all nodes have had their say: while they start, every first vote may be a tie."""
        disputed = self._verdict.disputed if self.rounds_complete else ()
        if disputed == self._told_dispute:
            return ()
        self._told_dispute = disputed
        return (ChainIdDisputed(network=self.name, chain_ids=disputed),) if disputed else ()

    def _reorder(self, now: float) -> Events:
        before = self.order
        candidates = [node.candidate for node in self.nodes]
        self._selection = select(candidates, self.config, self._selection.paths, dispute=self._dispute())
        self._ejected = tuple(node for node in self.nodes if node.ejected)
        order = self.order = self._new_order()
        if (order.candidates, order.tier, order.degraded) == (before.candidates, before.tier, before.degraded):
            return ()
        self._told_order = True
        is_sequence = (
            set(order.candidates) == set(before.candidates)
            and set(order.serving) == set(before.serving)
            and (order.tier, order.degraded) == (before.tier, before.degraded)
        )
        first = order.candidates[0] if order.candidates else None
        return (
            OrderChanged(
                network=self.name,
                tier=order.tier,
                nodes=tuple(node.name for node in order.candidates),
                reason=order.places[first.index].reason if first is not None else self._why_nobody(now),
                degraded=order.degraded,
                reordered=is_sequence,
            ),
        )

    def _why_nobody(self, now: float) -> str:
        """Why nobody serves, for operators: a reason of each node, with its figures."""
        if self._verdict.disputed:
            return self._dispute() or ""
        return "; ".join(f"{place.node.name} {_told(place, now)}" for place in self.order.places)

    def _place(self, node: Node, rank: int | None) -> Place:
        index, selection = node.index, self._selection
        state = state_of(
            node.candidate,
            serves=index in selection.serving,
            reserve=index in selection.reserve,
            limit_blocks=node.limit_blocks,
        )
        return Place(node, rank, selection.reasons[index], state)

    def _dispute(self) -> str | None:
        if not self._verdict.disputed:
            return None
        ids = ", ".join(map(str, self._verdict.disputed))
        return f"its nodes do not agree on the chain id ({ids}), and chain_id is not configured"

    def _new_order(self) -> Order:
        selection = self._selection
        nodes = self.nodes
        serving = tuple(nodes[i] for i in selection.serving)
        reserve = tuple(nodes[i] for i in selection.reserve)
        ranks = {index: place for place, index in enumerate((*selection.serving, *selection.reserve))}
        places = tuple(self._place(node, ranks.get(node.index)) for node in nodes)
        return Order(
            serving=serving,
            reserve=reserve,
            candidates=serving + reserve,
            ties=selection.ties,
            tier=selection.tier,
            degraded=selection.degraded,
            refusal=selection.refusal,
            places=places,
            panic=selection.panic,
            rate_limited=selection.rate_limited,
            last_resort=tuple(nodes[i] for i in selection.last_resort if i not in ranks),
        )


def _told(place: Place, now: float) -> str:
    """A node's reason, with the time that is left where it is held off."""
    if place.state is not NodeState.LIMITED:
        return place.reason
    left = f"limited, {place.node.limit.seconds_left(now):.0f} s left"
    return f"{left} ({place.node.limit_words})" if place.node.limit_words else left
