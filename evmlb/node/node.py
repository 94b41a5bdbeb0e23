"""One node: what was seen of it goes in, whether it may serve comes out.

Which word wins when several things are wrong is the order of :meth:`Node.obstacle`: never polled, polls fail, answers
too old, other blocks, chain id unknown, wrong chain, head refuted, syncing. Ejection and suspicion stand beside these.
"""

from __future__ import annotations

import random

from evmlb.chain import Syncing
from evmlb.config.schema import NetworkConfig, NodeConfig, Role
from evmlb.events import Events
from evmlb.node.poll import Poll
from evmlb.node.telling import Telling
from evmlb.policy.avoidance import SILENCES, Avoidance
from evmlb.policy.breaker import Breaker
from evmlb.policy.bucket import TokenBucket
from evmlb.policy.health import Health
from evmlb.policy.latency import Latency
from evmlb.policy.ranking import Candidate, Hold, Obstacle, ObstacleKind
from evmlb.policy.ratelimit import RateLimit
from evmlb.policy.selection import limit_of
from evmlb.policy.verdicts import provider_of

HEDGE_LOSSES = 3
"""So many answers in a row that another node, asked later, gave sooner, or that did not come for long, make suspect."""
SLOW_SECONDS = 5.0
"""For so long good polls do not end that suspicion; a request that is answered does."""
UNSAFE_IN_A_ROW = 5
"""So many failed unsafe calls in a row count as proven: no other node may be asked, so nothing else will show it."""


class Node:
    """One node of one network.

    ``in_flight`` is written by routing. ``troubled`` is True while a success would change something (suspect,
    failing, ejected, losing hedges): otherwise routing need not tell. ``is_particular`` is True where not every request
    may be sent (a method is avoided, a rate is kept). ``capacity`` is in requests. ``last_poll_at`` is the end of
    the last poll, good or bad; ``last_good_poll_at`` of the last good one. ``head`` is the number that the last good
    poll gave, doubted or not; ``reached`` the highest that any answer showed. ``poll_gap_seconds``, written by polling,
    is how long the next poll may take to come. All else is written by the network only.
    """

    __slots__ = (
        "_slow_until",
        "_telling",
        "_unsafe_in_a_row",
        "avoidance",
        "breaker",
        "bucket",
        "candidate",
        "capacity",
        "chain_id",
        "chain_id_wanted",
        "chainhead_at_answer",
        "client_version",
        "config",
        "ejected",
        "head",
        "head_changed_at",
        "health",
        "hedge_losses",
        "in_flight",
        "index",
        "interval_seconds",
        "is_particular",
        "last_good_poll_at",
        "last_poll_at",
        "latency",
        "limit",
        "limit_blocks",
        "limit_words",
        "load",
        "name",
        "other_block_at",
        "peer_count",
        "poll_gap_seconds",
        "provider",
        "pushed_at",
        "reached",
        "role",
        "settled_chainhead_at_answer",
        "stale",
        "suspect",
        "syncing",
        "time_ahead",
        "trials",
        "troubled",
        "weight",
    )

    def __init__(
        self, config: NodeConfig, network: NetworkConfig, index: int, rng: random.Random | None = None
    ) -> None:
        self.config = config
        self.name = config.name
        self.role: Role = config.role
        self.index = index
        self.weight = config.weight
        self.capacity = config.max_concurrency
        self.interval_seconds = config.poll_interval_seconds or network.poll_interval_seconds(config.role)
        self.poll_gap_seconds = self.interval_seconds
        self.pushed_at: float | None = None  # when it last sent a head by itself
        self.limit_blocks = limit_of(network, config.role)
        self.in_flight = 0
        self.troubled = False
        self.suspect = False
        self.ejected = False
        self.head: int | None = None
        self.head_changed_at: float | None = None
        self.chainhead_at_answer: int | None = None
        self.settled_chainhead_at_answer: int | None = None
        self.syncing: Syncing | None = None
        self.time_ahead = False  # the last block it showed is not due yet by our clock
        self.chain_id: int | None = None
        self.chain_id_wanted = config.check_chain_id
        self.other_block_at: int | None = None  # it has another block there than the network
        self.client_version: str | None = None
        self.peer_count: int | None = None
        self.load: float | None = None
        self.last_poll_at: float | None = None
        self.last_good_poll_at: float | None = None
        self.stale = False
        self.reached = 0
        self.hedge_losses = 0
        self.trials = 0  # single requests that an ejected node was given
        self._slow_until = 0.0
        self._telling = Telling()
        self._unsafe_in_a_row = 0
        self.avoidance = Avoidance()
        self.provider = provider_of(config.endpoint.host, None, config.provider)
        checks = network.health_check
        self.health = Health(checks.failure_threshold, checks.success_threshold)
        self.latency = Latency()
        self.breaker = Breaker(network.circuit_breaker, network.rpc_timeout_seconds, rng or random.Random())
        self.limit = RateLimit(network.rate_limit)
        self.limit_words = ""  # what it said when it was held off last
        rate = config.requests_per_second
        self.bucket = None if rate is None else TokenBucket(rate)
        self.is_particular = self.bucket is not None
        self.candidate = self.candidate_for(None, None, refuted=False)

    # facts in, from the network

    def observe_poll(self, poll: Poll, now: float) -> None:
        """A poll was answered."""
        suspicion = self.health.suspicion
        self.health.observe_good()
        if suspicion is not None and now < self._slow_until:
            self.health.suspect(suspicion)  # polls are light: that they are answered says nothing of what is not
        self.latency.observe(poll.latency_seconds)
        self.stale = False
        self.last_poll_at = self.last_good_poll_at = now
        self.syncing = poll.syncing
        if poll.chain_id is not None:
            self.chain_id = poll.chain_id
            self.chain_id_wanted = False
        if self.head is not None and poll.number < self.head and poll.chain_id is None:
            self.chain_id_wanted = self.config.check_chain_id  # a reorg, or another chain
        if poll.number != self.head:
            self.head = poll.number
            self.head_changed_at = now
        self.reached = poll.number
        self._note_trouble()

    def observe_poll_failure(self, reason: str, now: float, *, final: bool) -> None:
        """A try of a poll failed; ``final``: it was the last one."""
        self.chain_id_wanted = self.config.check_chain_id  # another node may come back at this address
        if not final:
            self.suspect_of(reason)
            return
        self.last_poll_at = now
        self.health.observe_bad(reason)
        if self.health.up is False:
            self.latency.forget()
        self._note_trouble()

    def lower_chainhead(self, chainhead: int | None) -> None:
        """The chainhead came down: what it was when the node answered is taken back too, and the lag with it."""
        if chainhead is None or self.chainhead_at_answer is None:
            self.chainhead_at_answer = self.settled_chainhead_at_answer = None
            return
        self.chainhead_at_answer = min(self.chainhead_at_answer, chainhead)
        if self.settled_chainhead_at_answer is not None:
            self.settled_chainhead_at_answer = min(self.settled_chainhead_at_answer, chainhead)

    def suspect_of(self, reason: str) -> None:
        """One bad sign."""
        self.health.suspect(reason)
        self._note_trouble()

    def record_failure(
        self,
        reason: str,
        now: float,
        *,
        proven: bool,
        unreachable: bool = False,
        unsafe: bool = False,
        by_error: bool = False,
        sent_at: float | None = None,
        may_open: bool = True,
    ) -> None:
        """An attempt failed, and the node is blamed.

        ``unsafe``: the call may go nowhere else. ``by_error``: it answered with an error. ``may_open`` False: too many
        nodes are out already.
        """
        self._unsafe_in_a_row += unsafe
        proven = proven or self._unsafe_in_a_row >= UNSAFE_IN_A_ROW
        self.breaker.record_failure(
            reason,
            now,
            proven=proven,
            unreachable=unreachable,
            in_a_row=not by_error,
            sent_at=sent_at,
            may_open=may_open,
        )
        self.suspect_of(reason)

    def record_success(
        self, now: float, *, last_resort: bool, sent_at: float | None = None, method: str | None = None
    ) -> None:
        """An attempt succeeded; ``method`` where it was a call."""
        if method is not None:
            self._answered(method)
        self.breaker.record_success(now, last_resort=last_resort, sent_at=sent_at)
        self.hedge_losses = self._unsafe_in_a_row = 0
        if not self.breaker.ejected:
            self.health.trust()
        self._note_trouble()

    def record_loss(
        self, method: str, elapsed_seconds: float, now: float, *, is_light: bool, is_hopeless: bool = False
    ) -> None:
        """Another node, asked later, was faster: this one had not answered after ``elapsed_seconds``.

        ``is_light``: what every node answers at once, so that the time tells how far the node is. ``is_hopeless``: the
        other needed so little of the time that this one loss says as much as several.
        """
        average = self.latency.average_seconds
        if is_light and average is not None and elapsed_seconds > average:
            self.latency.observe(elapsed_seconds)
        self.avoidance.record_loss(method, now, times=SILENCES if is_hopeless else 1)
        self.is_particular = True
        if is_hopeless:
            self._count_loss(f"silent for {elapsed_seconds:.0f} s, and another node answered", now, HEDGE_LOSSES)
        else:
            self._count_loss(f"{HEDGE_LOSSES} times in a row another node answered first", now)

    def record_silence(self, now: float) -> None:
        """It has owed an answer for long."""
        self._count_loss(f"silent on {HEDGE_LOSSES} requests in a row", now)

    def _count_loss(self, reason: str, now: float, times: int = 1) -> None:
        self.hedge_losses += times
        if self.hedge_losses >= HEDGE_LOSSES:
            self.health.suspect(reason)
            self._slow_until = now + SLOW_SECONDS
        self._note_trouble()

    def record_late_answer(self, method: str) -> None:
        """It answered after all: slow, but not hanging."""
        self.hedge_losses = 0
        self._answered(method)
        self._note_trouble()

    def record_unsupported(self, method: str, now: float) -> None:
        """The node said that it does not have the method."""
        self.avoidance.record_unsupported(method, now)
        self.is_particular = True

    def _answered(self, method: str) -> None:
        if self.avoidance.watches:
            self.avoidance.record_answer(method)
            self.is_particular = self.bucket is not None or bool(self.avoidance)

    def expire(self, now: float) -> None:
        """Forget what is too old to go by: failures, and methods that were not there."""
        self.breaker.expire(now)
        if self.avoidance:
            self.avoidance.expire(now)
            self.is_particular = self.bucket is not None or bool(self.avoidance)
        self._note_trouble()

    def _note_trouble(self) -> None:
        self.suspect = self.health.suspicion is not None
        self.ejected = self.breaker.ejected
        in_a_row = self.hedge_losses or self._unsafe_in_a_row
        silent = self.avoidance.watches
        self.troubled = self.suspect or self.ejected or self.breaker.failing or in_a_row > 0 or silent

    def learn_version(self, client_version: str) -> None:
        """What the node calls itself, which tells whose dialect of errors it speaks."""
        self.client_version = client_version
        self.provider = provider_of(self.config.endpoint.host, client_version, self.config.provider)

    # questions

    @property
    def healthy(self) -> bool:
        """Whether polls say the node is up: neither failed too often nor too long ago."""
        return bool(self.health.up) and not self.stale

    @property
    def reachable(self) -> bool:
        """Whether nothing but its lag or an ejection could keep the node from serving."""
        return self.candidate.obstacle is None

    @property
    def latency_seconds(self) -> float | None:
        """The moving average of its polls."""
        return self.latency.average_seconds

    @property
    def lag_blocks(self) -> int | None:
        """Blocks behind the chainhead as it was known when the node answered; ``None`` before it did."""
        return None if self.chainhead_at_answer is None or self.head is None else self.candidate.lag_blocks

    @property
    def has_vote(self) -> bool:
        """Whether the node's chain id is known and asked for, so that it counts in the majority."""
        return self.config.check_chain_id and self.chain_id is not None

    def stands_on(self, expected: int | None) -> bool:
        """Whether the node's head counts: it answers for the chain that is expected."""
        if self.other_block_at is not None:
            return False
        if not self.config.check_chain_id:
            return True
        return self.chain_id is not None and self.chain_id == expected

    def has_room(self, now: float) -> bool:
        """Whether one request more may be sent to it now."""
        return self.in_flight < self.capacity and (self.bucket is None or self.bucket.is_ready(now))

    def observation_ends_at(self) -> float | None:
        """When the last good poll is too old to go by: 3 s after it, or two intervals and a second if that is more.

        That of a node which is held off, and therefore not polled, lasts until it is asked again.
        """
        if self.last_good_poll_at is None or self.limit.limited:
            return None
        interval = max(self.interval_seconds, self.poll_gap_seconds)
        return self.last_good_poll_at + max(3.0, 2 * interval + 1.0)

    def candidate_for(self, chainhead: int | None, expected: int | None, *, refuted: bool) -> Candidate:
        """What selection may know now."""
        lag, behind = self._lags()
        return Candidate(
            index=self.index,
            name=self.name,
            role=self.role,
            weight=self.weight,
            obstacle=self.obstacle(expected, lag, refuted=refuted),
            ejected=self.breaker.reason if self.ejected else None,
            limited=self._hold(),
            suspicion=self.health.suspicion,
            head=self._head_if_far(lag, chainhead),
            lag_blocks=lag,
            behind_blocks=behind,
            latency_seconds=self.latency.settled_seconds,
            load=self.load,
        )

    def _hold(self) -> Hold | None:
        if not self.limit.limited:
            return None
        return Hold.TOLD if self.limit.explicit else Hold.GUESSED

    def _head_if_far(self, lag_blocks: int, chainhead: int | None) -> int | None:
        """The head where it can matter, so that a new block by itself does not make a new candidate."""
        if self.head is None or chainhead is None or lag_blocks <= self.limit_blocks:
            return None
        return min(self.head, chainhead)

    def _lags(self) -> tuple[int, int]:
        """The lag; and the same, zero if only blocks younger than one poll interval are missing."""
        if self.head is None or self.chainhead_at_answer is None:
            return 0, 0
        lag = max(0, self.chainhead_at_answer - self.head)
        settled = self.settled_chainhead_at_answer
        return lag, 0 if settled is None or self.head >= settled else lag

    def obstacle(self, expected: int | None, lag_blocks: int, *, refuted: bool) -> Obstacle | None:
        """Why the node may not serve, whatever its lag; ``None``: it is reachable."""
        return (
            self._poll_obstacle() or self._chain_obstacle(expected) or self._head_obstacle(lag_blocks, refuted=refuted)
        )

    def _poll_obstacle(self) -> Obstacle | None:
        if self.health.up is None:
            if self.health.reason:
                return Obstacle(ObstacleKind.POLLS_FAIL, f"its first poll failed: {self.health.reason}")
            return Obstacle(ObstacleKind.NOT_POLLED, "not polled yet")
        if self.health.up is False:
            return Obstacle(ObstacleKind.POLLS_FAIL, f"polls fail: {self.health.reason}")
        return Obstacle(ObstacleKind.STALE, "its last good poll is too old") if self.stale else None

    def _chain_obstacle(self, expected: int | None) -> Obstacle | None:
        if self.stands_on(expected):
            return None
        if self.other_block_at is not None:
            return Obstacle(ObstacleKind.OTHER_BLOCKS, f"other block at height {self.other_block_at}")
        if self.chain_id is None:
            return Obstacle(ObstacleKind.CHAIN_UNKNOWN, "its chain id is not known yet")
        if expected is None:
            said = f"says chain {self.chain_id}, and the nodes do not agree"
            return Obstacle(ObstacleKind.CHAIN_DISPUTED, said)
        return Obstacle(ObstacleKind.WRONG_CHAIN, f"serves chain {self.chain_id} instead of {expected}")

    def _head_obstacle(self, lag_blocks: int, *, refuted: bool) -> Obstacle | None:
        if refuted:
            said = f"its head {self.head} is beyond what time allows, and nothing confirms it"
            return Obstacle(ObstacleKind.HEAD_REFUTED, said)
        if self.syncing is None:
            return None
        distance = max(self.syncing.distance_blocks, lag_blocks)
        if distance <= self.limit_blocks:
            return None
        return Obstacle(ObstacleKind.SYNCING, f"syncing, {distance} blocks to go (limit {self.limit_blocks})")

    # events out

    def lag_at(self, chainhead: int | None, expected: int | None) -> int | None:
        """The lag to show; of a node that does not answer any more, the distance of its last head, which grows."""
        if self.lag_blocks is not None:
            return self.lag_blocks
        if self.head is None or chainhead is None or not self.stands_on(expected):
            return None
        return max(0, chainhead - self.head)

    def adopt(self, candidate: Candidate, network: str, expected: int | None) -> Events:
        """Take a new candidate as the present one, and say what flipped by it."""
        before, self.candidate = self.candidate, candidate
        return self._telling.changes(self, before, network, expected)
