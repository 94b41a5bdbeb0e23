"""Which chain a network is, when its nodes do not agree.

The configured id, if there is one. Else the id that most of the local nodes serve, else (no local has said, or they
tie) the id that most of all nodes serve. If that ties too the network is *disputed*: nobody can tell which half is
wrong, and answers from the wrong chain are worse than none. Nodes that have said nothing yet do not vote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from evmlb.config.schema import Role


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """``expected`` is ``None`` while nothing is known, and when ``disputed`` names the ids that tie."""

    expected: int | None
    disputed: tuple[int, ...] = ()


def judge_chain_ids(configured: int | None, votes: Iterable[tuple[Role, int]]) -> ChainVerdict:
    """Say which chain id the network's nodes must serve. ``votes``: what each node that was asked has said."""
    if configured is not None:
        return ChainVerdict(configured)
    ballots = list(votes)
    leaders: tuple[int, ...] = ()
    for electorate in ([v for role, v in ballots if role is Role.LOCAL], [v for _, v in ballots]):
        leaders = _leaders(electorate)
        if len(leaders) == 1:
            return ChainVerdict(leaders[0])
    return ChainVerdict(None, leaders)


def _leaders(votes: list[int]) -> tuple[int, ...]:
    counted = Counter(votes)
    most = max(counted.values(), default=0)
    return tuple(sorted(chain_id for chain_id, count in counted.items() if count == most))
