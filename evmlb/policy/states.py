"""What a node is now, in one word: the same on pages, in metrics and in the log.

The first that applies, as with the reasons beside it (:mod:`evmlb.policy.selection`): what keeps it out by its polls,
its rate limit, its failing requests; then its place. So exactly one is true of a node at any moment.
"""

from __future__ import annotations

import enum

from evmlb.policy.ranking import Candidate, ObstacleKind


class NodeState(enum.Enum):
    """The word, as labels and pages have it."""

    SERVING = "serving"  # in the tier that answers
    RESERVE = "reserve"  # asked when the serving tier has failed a request
    STANDBY = "standby"  # well, but its role does not serve now
    BEHIND = "behind"  # more blocks than its role may be
    LIMITED = "limited"  # held off, as it says that it is asked too often
    EJECTED = "ejected"  # requests fail there
    SYNCING = "syncing"
    WRONG_CHAIN = "wrong_chain"  # by its chain id
    OTHER_BLOCKS = "other_blocks"  # of the same chain id
    UNCONFIRMED = "unconfirmed"  # its head is beyond what can be believed
    UNREACHABLE = "unreachable"  # polls fail, or are too long ago
    UNKNOWN = "unknown"  # not asked yet, or its chain id cannot be judged


_OF_OBSTACLES = {
    ObstacleKind.NOT_POLLED: NodeState.UNKNOWN,
    ObstacleKind.POLLS_FAIL: NodeState.UNREACHABLE,
    ObstacleKind.STALE: NodeState.UNREACHABLE,
    ObstacleKind.CHAIN_UNKNOWN: NodeState.UNKNOWN,
    ObstacleKind.CHAIN_DISPUTED: NodeState.UNKNOWN,
    ObstacleKind.WRONG_CHAIN: NodeState.WRONG_CHAIN,
    ObstacleKind.OTHER_BLOCKS: NodeState.OTHER_BLOCKS,
    ObstacleKind.HEAD_REFUTED: NodeState.UNCONFIRMED,
    ObstacleKind.SYNCING: NodeState.SYNCING,
}


def state_of(candidate: Candidate, *, serves: bool, reserve: bool, limit_blocks: int) -> NodeState:
    """The word for a node that selection knows as ``candidate``; ``limit_blocks``: how far its role may be behind.

    A node that is asked because nothing else is left serves, whatever else is true of it.
    """
    if serves or reserve:
        return NodeState.SERVING if serves else NodeState.RESERVE
    if candidate.obstacle is not None:
        return _OF_OBSTACLES[candidate.obstacle.kind]
    if candidate.limited is not None:
        return NodeState.LIMITED
    if candidate.ejected is not None:
        return NodeState.EJECTED
    return NodeState.BEHIND if candidate.lag_blocks > limit_blocks else NodeState.STANDBY
