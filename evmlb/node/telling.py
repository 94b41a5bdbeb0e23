"""What changed of a node, as events: each change is told once."""

from __future__ import annotations

from typing import Protocol

from evmlb.events import (
    Events,
    NodeBecameSuspect,
    NodeCameUp,
    NodeCaughtUp,
    NodeFellBehind,
    NodeLimitLifted,
    NodeOnWrongChain,
    NodeRateLimited,
    NodeStaysDown,
    NodeWentDown,
)
from evmlb.policy.ranking import Candidate, ObstacleKind
from evmlb.policy.ratelimit import RateLimit


class Node(Protocol):
    """What is told of a node."""

    candidate: Candidate
    chain_id: int | None
    limit: RateLimit
    limit_blocks: int
    limit_words: str
    name: str


class Telling:
    """What events have said of one node last, and what they say next."""

    __slots__ = ("_is_behind", "_reason", "_was_limited", "_was_usable")

    def __init__(self) -> None:
        self._was_usable: bool | None = None
        self._was_limited = False
        self._is_behind = False
        self._reason = ""  # for which it is out, without figures

    def changes(self, node: Node, before: Candidate, network: str, expected: int | None) -> Events:
        """What flipped since selection knew the node as ``before``. ``expected``: the network's chain id."""
        return (
            *self._limit_events(node, network),
            *self._suspicion_events(node, before, network),
            *self._use_events(node, before, network, expected),
            *self._lag_events(node, network),
        )

    def _limit_events(self, node: Node, network: str) -> Events:
        limited = node.limit.limited
        if limited == self._was_limited:
            return ()
        self._was_limited = limited
        if limited:
            return (
                NodeRateLimited(
                    network=network,
                    node=node.name,
                    told=node.limit.explicit,
                    seconds=node.limit.pause_seconds,
                    words=node.limit_words,
                ),
            )
        return (NodeLimitLifted(network=network, node=node.name),)

    def _suspicion_events(self, node: Node, before: Candidate, network: str) -> Events:
        reason = node.candidate.suspicion
        if reason is None or before.suspicion is not None or not self._was_usable:
            return ()
        return (NodeBecameSuspect(network=network, node=node.name, reason=reason),)

    def _use_events(self, node: Node, before: Candidate, network: str, expected: int | None) -> Events:
        obstacle, ejected = node.candidate.obstacle, node.candidate.ejected
        kind = None if obstacle is None else obstacle.kind
        if kind in _NOT_THE_NODE_S:
            return ()
        usable = obstacle is None and ejected is None
        was, self._was_usable = self._was_usable, usable
        if kind is ObstacleKind.WRONG_CHAIN and node.chain_id is not None:
            known = before.obstacle is not None and before.obstacle.kind is kind and was is not None
            told = NodeOnWrongChain(network=network, node=node.name, chain_id=node.chain_id, expected=expected)
            return () if known else (told,)
        reason = obstacle.reason if obstacle is not None else f"ejected, requests fail: {ejected}"
        if usable == was:
            return () if usable else self._another_reason(node, network, reason)
        self._reason = _gist(reason)
        if usable:
            return (NodeCameUp(network=network, node=node.name, reason=_came_up(before, first=was is None)),)
        return (NodeWentDown(network=network, node=node.name, reason=reason),)

    def _another_reason(self, node: Node, network: str, reason: str) -> Events:
        """What keeps a node out may change while it is out: that is told, but not each new figure in it."""
        told, self._reason = self._reason, _gist(reason)
        if self._reason == told:
            return ()
        return (NodeStaysDown(network=network, node=node.name, reason=reason),)

    def _lag_events(self, node: Node, network: str) -> Events:
        lag, obstacle = node.candidate.lag_blocks, node.candidate.obstacle
        behind = lag > node.limit_blocks
        if behind == self._is_behind or (obstacle is not None and obstacle.kind is not ObstacleKind.SYNCING):
            return ()
        self._is_behind = behind
        if behind:
            return (NodeFellBehind(network=network, node=node.name, lag_blocks=lag, limit_blocks=node.limit_blocks),)
        return (NodeCaughtUp(network=network, node=node.name, lag_blocks=lag),)


_NOT_THE_NODE_S = frozenset({ObstacleKind.NOT_POLLED, ObstacleKind.CHAIN_UNKNOWN, ObstacleKind.CHAIN_DISPUTED})
"""Obstacles that say nothing of the node yet, or that the network tells of: no event of the node's."""

_OUTLIVED = {
    ObstacleKind.POLLS_FAIL: "answers polls again",
    ObstacleKind.STALE: "answers polls again",
    ObstacleKind.WRONG_CHAIN: "serves the right chain",
    ObstacleKind.OTHER_BLOCKS: "has the same blocks again",
    ObstacleKind.HEAD_REFUTED: "its head is confirmed",
    ObstacleKind.SYNCING: "has done syncing",
}


def _gist(reason: str) -> str:
    """A reason without its figures; that of a node whose first poll failed is the same when the next ones do."""
    reason = reason.replace("its first poll failed", "polls fail", 1)
    return "".join(character for character in reason if not character.isdigit())


def _came_up(before: Candidate, *, first: bool) -> str:
    if first:
        return "answers polls"
    if before.obstacle is None:
        return "a trial request was answered"
    return _OUTLIVED.get(before.obstacle.kind, "answers polls")
