"""What happened, in the past tense: the third shape of the seam (facts in, decision out, events out).

Policy, nodes and networks return tuples of these; logs and metrics are their sinks. An event is made on a change,
never on a repetition.
"""

from __future__ import annotations

from dataclasses import dataclass

from evmlb.config.schema import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEvent:
    """Something happened to one node."""

    network: str
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWentDown(NodeEvent):
    """The node takes no more ordinary requests; ``reason`` says why in words."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStaysDown(NodeEvent):
    """The node is still out, for another reason than was told before."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCameUp(NodeEvent):
    """The node may serve again."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeBecameSuspect(NodeEvent):
    """One thing went wrong: the node is asked last in its tier until it proves itself."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFellBehind(NodeEvent):
    """The node's lag grew beyond its block diff."""

    lag_blocks: int
    limit_blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCaughtUp(NodeEvent):
    """The node is within its block diff again."""

    lag_blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRateLimited(NodeEvent):
    """The node says that it is asked too often, and is held off.

    ``told``: it said itself for how long. ``seconds``: until it is asked again. ``words``: what it said.
    """

    told: bool
    seconds: float = 0.0
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLimitLifted(NodeEvent):
    """The node answered a probe: it takes requests again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeHeadDoubted(NodeEvent):
    """The node reported a head that time does not allow; it does not count until it is confirmed."""

    number: int
    chainhead: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTimeAhead(NodeEvent):
    """A block of the node has a time that our clock has not reached: either of the two clocks is off."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOnWrongChain(NodeEvent):
    """The node serves another chain than its network and is out until that changes."""

    chain_id: int
    expected: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainheadMoved:
    """The network's agreed head changed. ``number`` None: no report is left that carries one."""

    network: str
    number: int | None
    previous: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainIdDisputed:
    """No majority of nodes agrees on a chain id, and none is configured: the network is refused."""

    network: str
    chain_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChanged:
    """Who serves, or in what order, changed. ``tier`` None: nobody serves, and ``reason`` says why of each node.

    ``reordered``: the same nodes in the same tiers, in another sequence.
    """

    network: str
    tier: Role | None
    nodes: tuple[str, ...]
    reason: str
    degraded: bool = False
    reordered: bool = False


Event = (
    NodeWentDown
    | NodeStaysDown
    | NodeCameUp
    | NodeBecameSuspect
    | NodeFellBehind
    | NodeCaughtUp
    | NodeRateLimited
    | NodeLimitLifted
    | NodeHeadDoubted
    | NodeTimeAhead
    | NodeOnWrongChain
    | ChainheadMoved
    | ChainIdDisputed
    | OrderChanged
)
"""Any event a network can return."""

Events = tuple[Event, ...]
"""What an observation returns, in the order in which it happened."""
