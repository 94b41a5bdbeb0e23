"""What a run is made of, drawn from its seed.

There are five families:

=========  ====================================================================================================
sound      one node is well all the time, whatever befalls the others: then clients must not notice anything
ruin       every node may fall ill, all at once too: clients may be told so, everything else holds
crowd      as ``sound``, but nodes take few requests at a time, and clients ask many: some wait, some are refused
stop       as ``sound``, and the balancer is told to stop in the middle of it
vain       every node answers badly what clients ask, all the time: how often is it asked again?
=========  ====================================================================================================

With a configuration of a user's, its nodes are put onto the memory network under their own names, roles and settings.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, replace

from evmlb.chaos.faults import HARMLESS, IN_VAIN, Ailment, Change, draw_schedule
from evmlb.config.schema import (
    Config,
    HealthCheckConfig,
    HealthCheckType,
    HedgeConfig,
    LimitsConfig,
    LogLevel,
    NetworkConfig,
    NodeConfig,
    PriorityQueueConfig,
    RetryBudgetConfig,
    Role,
    Strategy,
)
from evmlb.urls import Endpoint, parse_endpoint

CHAIN_ID = 1337
ROOMY = 32
"""A node that takes so many requests at a time is never full, but in the family ``crowd``."""
LEAST_DIFF_BLOCKS = 2
"""With a smaller block diff even a node that is well is out of range for a moment after each block."""


class Family(enum.Enum):
    """What is at stake; see the module's head."""

    SOUND = "sound"
    RUIN = "ruin"
    CROWD = "crowd"
    STOP = "stop"
    VAIN = "vain"


_SHARES = {Family.SOUND: 12, Family.RUIN: 4, Family.CROWD: 2, Family.STOP: 2, Family.VAIN: 1}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run. ``sound_node``: the index of the node that is always well; ``stop_at``: when the balancer is told to
    stop; ``until``: when clients ask no more and all nodes are well again.
    """

    seed: int
    family: Family
    config: Config
    sound_node: int | None
    changes: tuple[Change, ...]
    block_seconds: float
    latency_seconds: float
    clients: int
    think_seconds: float
    until: float
    stop_at: float | None
    large_answers: bool

    def __str__(self) -> str:
        nodes = ", ".join(node.name for node in self.network.nodes)
        sound = "" if self.sound_node is None else f"; {self.network.nodes[self.sound_node].name} is well"
        return f"{self.family.value} ({nodes}{sound}; a block every {self.block_seconds:g} s)"

    @property
    def is_sound(self) -> bool:
        """Whether clients must not notice anything: a node is well all the time, and no setting holds nodes back."""
        if self.sound_node is None or self.family is Family.CROWD:
            return False
        network = self.network
        roomy = all(node.requests_per_second is None and node.max_concurrency >= ROOMY for node in network.nodes)
        return roomy and min(network.network_block_diff, network.fallback_block_diff) >= LEAST_DIFF_BLOCKS

    @property
    def network(self) -> NetworkConfig:
        """The one network of the run."""
        return self.config.networks[0]


def draw_scenario(seed: int, config: Config | None = None, family: Family | None = None) -> Scenario:
    """The scenario of a seed; configuration and family are drawn too unless given."""
    rng = random.Random(seed)
    family = family or rng.choices(list(_SHARES), weights=list(_SHARES.values()))[0]
    large = rng.random() < 0.3
    chosen = _draw_config(rng, family, large=large) if config is None else _in_memory(config, rng)
    nodes = chosen.networks[0].nodes
    sound = None if family in (Family.RUIN, Family.VAIN) else rng.choice(_may_serve(chosen.networks[0]))
    many = family in (Family.CROWD, Family.VAIN)
    until = rng.uniform(8.0, 12.0) if many else rng.uniform(12.0, 28.0)
    return Scenario(
        seed=seed,
        family=family,
        config=chosen,
        sound_node=sound,
        changes=tuple(
            _draw_vain_changes(rng, len(nodes), until)
            if family is Family.VAIN
            else _draw_changes(rng, chosen.networks[0], sound, until)
        ),
        block_seconds=rng.choice((0.25, 1.0, 2.0, 12.0)),
        latency_seconds=rng.choice((0.0002, 0.002, 0.02)),
        clients=rng.randrange(15, 25) if many else rng.randrange(2, 8),
        think_seconds=rng.uniform(0.2, 0.8),
        until=until,
        stop_at=rng.uniform(1.0, until) if family is Family.STOP else None,
        large_answers=large,
    )


def _may_serve(network: NetworkConfig) -> list[int]:
    """The indices of the nodes that may be left alone to serve, whatever is wrong with the others."""
    roles = {Role.LOCAL} | ({Role.MONITORING} if network.monitoring_nodes_serve else set())
    if network.switch_to_fallback_enabled:
        roles.add(Role.FALLBACK)
    indices = [index for index, node in enumerate(network.nodes) if node.role in roles]
    return indices or list(range(len(network.nodes)))


def _draw_changes(rng: random.Random, network: NetworkConfig, sound: int | None, until: float) -> list[Change]:
    """What befalls the nodes. While one has to be well, no more fall ill than a request has retries: it need not find
    the one that is well behind more of them.
    """
    changes: list[Change] = []
    others = [index for index in range(len(network.nodes)) if index != sound]
    liar = rng.choice(others) if others else None
    frail = others if sound is None else rng.sample(others, min(len(others), network.rpc_retries))
    for index in range(len(network.nodes)):
        if index in frail:
            changes += draw_schedule(rng, index, until, may_lie=index == liar)
        elif index == sound and rng.random() < 0.3:
            quirk = Ailment(rng.choice(sorted(HARMLESS)), share=rng.choice((0.1, 1.0)))
            changes.append(Change(0.0, index, quirk))
    return sorted(changes, key=lambda change: (change.at, change.node))


def _draw_vain_changes(rng: random.Random, nodes: int, until: float) -> list[Change]:
    ailments = [Ailment(rng.choice(IN_VAIN), spares_polls=True) for _ in range(nodes)]
    ill = [Change(0.0, index, ailment) for index, ailment in enumerate(ailments)]
    return ill + [Change(until, index, None) for index in range(nodes)]


_ROLES = (
    (Role.LOCAL, Role.LOCAL),
    (Role.LOCAL, Role.FALLBACK),
    (Role.LOCAL, Role.LOCAL, Role.LOCAL),
    (Role.LOCAL, Role.LOCAL, Role.FALLBACK),
    (Role.LOCAL, Role.MONITORING, Role.FALLBACK),
    (Role.LOCAL, Role.LOCAL, Role.FALLBACK, Role.FALLBACK),
)


def _draw_config(rng: random.Random, family: Family, *, large: bool) -> Config:
    roles = rng.choice(_ROLES)
    capacity = rng.randrange(1, 4) if family is Family.CROWD else 512
    least = 1.0 if family is Family.VAIN else 10.0  # of what budgets allow per second
    nodes = tuple(
        NodeConfig(
            name=f"{role.value}-{index}",
            role=role,
            endpoint=_endpoint(index),
            weight=rng.randrange(1, 4),
            max_concurrency=capacity,
            metered=role is Role.FALLBACK and rng.random() < 0.3,
        )
        for index, role in enumerate(roles)
    )
    network = NetworkConfig(
        name="net",
        nodes=nodes,
        chain_id=CHAIN_ID,
        strategy=rng.choice((Strategy.BEST, *Strategy)),
        switch_to_fallback_enabled=Role.FALLBACK in roles,
        slow_timeout_seconds=6.0,
        slow_request_timeout_seconds=20.0,
        stream_idle_timeout_seconds=rng.choice((5.0, 30.0)),
        broadcast_transactions=rng.choice((1, 1, 1, 2)),
        read_your_writes_seconds=rng.choice((0.0, 30.0)),
        hedge=HedgeConfig(budget_min_per_second=least, across_tiers=rng.random() < 0.2),
        retry_budget=RetryBudgetConfig(budget_min_per_second=least),
        health_check=HealthCheckConfig(
            type=rng.choice((HealthCheckType.BLOCK_NUMBER, HealthCheckType.SYNCING)),
            combined_with_circuit_breaker=rng.random() < 0.2,
        ),
        priority_queue=PriorityQueueConfig(enabled=family is Family.CROWD and rng.random() < 0.5),
    )
    limits = LimitsConfig(failover_buffer_bytes=4096) if large else LimitsConfig()
    return Config(networks=(network,), limits=limits, shutdown_grace_seconds=rng.choice((0.5, 8.0)))


def _endpoint(index: int) -> Endpoint:
    return parse_endpoint(f"http://10.0.0.{index + 1}:8545")


def _in_memory(config: Config, rng: random.Random) -> Config:
    """A user's configuration with the nodes of one of its networks moved onto the memory network."""
    network = rng.choice(config.networks)
    nodes = tuple(
        replace(node, endpoint=_endpoint(index), prometheus_endpoint=None, ws_endpoint=None, ca_file=None)
        for index, node in enumerate(network.nodes)
    )
    moved = replace(network, nodes=nodes, use_load_tracker=False)
    return replace(config, networks=(moved,), log_level=LogLevel.INFO, shutdown_delay_seconds=0.0)
