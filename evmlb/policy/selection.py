"""Who may serve: the tiers of a network, and the words for a refusal.

Theory. L are local nodes, M monitoring, F fallback. *Reachable*: no obstacle, which is to say polls answered, right
chain, not syncing. *In range*: lag within the block diff of the role. The first case that applies decides:

=====================================================================================  =================
case                                                                                   serves
=====================================================================================  =================
some L in range; unless switching is enabled and *all* reachable L lag more than       those L
the threshold
else some M in range, and ``monitoring_nodes_serve``                                   those M
else some F in range, and switching is enabled, or no L and no M is reachable          those F
else some L in range: late, yet better than a refusal                                  those L
else ``when_none_in_range: nearest``: the reachable L or M with the highest head       those, degraded
else                                                                                   nobody: a refusal
=====================================================================================  =================

Behind the serving tier stand the other tiers that could have served, in the same order: the reserve, for failover.

What wins when two apply: an ejected node is no candidate, as if it were not there, nor is one that its rate limit holds
off. Only when all of the table, the last resort included, leaves nobody is it read again as if no node were ejected or
held off by our own guess (*panic*: better a doubtful node than a refusal). One that said itself until when it does not
want to be asked is left alone: if such nodes are all there is, the refusal is a 429. A suspect node stays in its tier,
last: :mod:`evmlb.policy.ranking`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from evmlb.config.schema import NetworkConfig, Role, WhenNoneInRange
from evmlb.policy.ranking import Candidate, Hold, Path, Paths, Ranked, leading_ties, rank

Tier = list[Candidate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Who serves, by node index, and why.

    ``serving`` and ``reserve`` are in the order in which they are asked. ``reasons`` has one clause per node of the
    network. ``eligible`` are the ejected nodes that would be asked if they were not ejected: the ones worth a trial.
    ``last_resort``: these and those that our guess holds off, for a request that all others have failed.
    ``rate_limited``: nodes there are, but each said that it must not be asked now.
    ``paths`` goes into the next :func:`select`.
    """

    serving: tuple[int, ...] = ()
    reserve: tuple[int, ...] = ()
    ties: int = 0
    tier: Role | None = None
    degraded: bool = False
    panic: bool = False
    rate_limited: bool = False
    refusal: str | None = None
    reasons: tuple[str, ...] = ()
    eligible: frozenset[int] = frozenset()
    last_resort: tuple[int, ...] = ()
    paths: Paths = field(default_factory=dict)


def limit_of(config: NetworkConfig, role: Role) -> int:
    """The lag, in blocks, that a node of this role may have."""
    return config.fallback_block_diff if role is Role.FALLBACK else config.network_block_diff


def in_range(candidate: Candidate, config: NetworkConfig) -> bool:
    """Whether the node's lag is within the block diff of its role."""
    return candidate.lag_blocks <= limit_of(config, candidate.role)


def select(
    candidates: Sequence[Candidate], config: NetworkConfig, last: Paths, *, dispute: str | None = None
) -> Selection:
    """Say who serves. ``candidates``: every node of the network, as configured. ``dispute``: why nobody may."""
    if dispute is not None:
        refusal = _refusal(config, dispute)
        return Selection(
            refusal=refusal, reasons=tuple(c.obstacle.reason if c.obstacle else dispute for c in candidates)
        )
    reachable = [c for c in candidates if c.obstacle is None]
    willing = [c for c in reachable if c.limited is not Hold.TOLD]
    trusted = [c for c in willing if c.ejected is None and c.limited is None]
    degraded, tiers = _table(trusted, config)
    panic = not tiers and len(trusted) < len(willing)
    if panic:
        degraded, tiers = _table(willing, config)
    if not tiers:
        return _nobody(candidates, reachable, config)
    ranked = [_rank_tier(tier, config, last, degraded=degraded) for tier in tiers]
    return _assemble(candidates, config, ranked, degraded=degraded, panic=panic)


def _nobody(candidates: Sequence[Candidate], reachable: Tier, config: NetworkConfig) -> Selection:
    """The refusal: in words of rate limits, if somebody would serve without them."""
    reasons = _reasons(candidates, config, {}, False)
    could = [c for tier in _table(reachable, config)[1] for c in tier]
    if could:
        refusal = _refusal(config, _all_limited(len(could), len(candidates) - len(could)))
        return Selection(refusal=refusal, reasons=reasons, rate_limited=True)
    return Selection(refusal=_refusal(config, explain(candidates, config)), reasons=reasons)


def _table(reachable: Tier, config: NetworkConfig) -> tuple[bool, list[Tier]]:
    """The tiers that may serve, serving tier first; and whether only the last resort is left."""
    tiers = [tier for tier in _tiers(reachable, config) if tier]
    if tiers or config.when_none_in_range is not WhenNoneInRange.NEAREST:
        return False, tiers
    return True, _nearest(reachable, config)


def _tiers(reachable: Tier, config: NetworkConfig) -> list[Tier]:
    local, monitoring, fallback = ([c for c in reachable if c.role is role] for role in Role)
    fit = [c for c in local if in_range(c, config)]
    others = [
        [c for c in monitoring if in_range(c, config)] if config.monitoring_nodes_serve else [],
        [c for c in fallback if in_range(c, config)] if _fallback_serves(config, local, monitoring) else [],
    ]
    return [*others, fit] if all_late(local, config) else [fit, *others]


def _fallback_serves(config: NetworkConfig, local: Tier, monitoring: Tier) -> bool:
    return config.switch_to_fallback_enabled or not (local or monitoring)


def all_late(local: Iterable[Candidate], config: NetworkConfig) -> bool:
    """Whether the threshold hands over from local nodes that may all be in range."""
    lags = [c.lag_blocks for c in local]
    return config.switch_to_fallback_enabled and bool(lags) and min(lags) > config.switch_to_fallback_block_threshold


def _nearest(reachable: Tier, config: NetworkConfig) -> list[Tier]:
    """One tier per head and role, highest head first, local before monitoring."""
    roles = (Role.LOCAL, Role.MONITORING) if config.monitoring_nodes_serve else (Role.LOCAL,)
    tiers: dict[tuple[int, int], Tier] = {}
    for candidate in reachable:
        if candidate.role in roles:
            tiers.setdefault((-(candidate.head or 0), roles.index(candidate.role)), []).append(candidate)
    return [tiers[key] for key in sorted(tiers)]


def _rank_tier(tier: Tier, config: NetworkConfig, last: Paths, *, degraded: bool) -> tuple[Ranked, ...]:
    ranked = rank(tier, config, last)
    if not degraded:
        return ranked
    return tuple(Ranked(r.candidate, r.path, _degraded_reason(r, config)) for r in ranked)


def _degraded_reason(ranked: Ranked, config: NetworkConfig) -> str:
    return f"nearest of none in range: {_distance(ranked.candidate, config)}"


def _assemble(
    candidates: Sequence[Candidate],
    config: NetworkConfig,
    ranked: list[tuple[Ranked, ...]],
    *,
    degraded: bool,
    panic: bool,
) -> Selection:
    serving, reserve = ranked[0], [r for tier in ranked[1:] for r in tier]
    tier = serving[0].candidate.role
    reasons = {r.candidate.index: r.reason for r in serving}
    reasons.update((r.candidate.index, f"in reserve behind the {tier.value} tier: {r.reason}") for r in reserve)
    return Selection(
        serving=tuple(r.candidate.index for r in serving),
        reserve=tuple(r.candidate.index for r in reserve),
        ties=leading_ties(serving),
        tier=tier,
        degraded=degraded,
        panic=panic,
        reasons=_reasons(candidates, config, reasons, panic),
        eligible=_left_out(candidates, config, lambda c: c.ejected is not None and c.limited is None),
        last_resort=tuple(sorted(_left_out(candidates, config, _may_be_a_last_resort))),
        paths={**_paths(serving), **_paths(reserve)},
    )


def _paths(ranked: Iterable[Ranked]) -> dict[int, Path]:
    return {r.candidate.index: r.path for r in ranked}


def _may_be_a_last_resort(candidate: Candidate) -> bool:
    return candidate.limited is not Hold.TOLD and (candidate.ejected is not None or candidate.limited is not None)


def _left_out(
    candidates: Sequence[Candidate], config: NetworkConfig, concerns: Callable[[Candidate], bool]
) -> frozenset[int]:
    """Those of them that would be asked if it were not for an ejection or a limit."""
    concerned = {c.index for c in candidates if c.obstacle is None and concerns(c)}
    if not concerned:
        return frozenset()
    _, tiers = _table([c for c in candidates if c.obstacle is None], config)
    return frozenset(c.index for tier in tiers for c in tier if c.index in concerned)


# the words


def _reasons(
    candidates: Sequence[Candidate], config: NetworkConfig, placed: dict[int, str], panic: bool
) -> tuple[str, ...]:
    return tuple(_reason(c, candidates, config, placed.get(c.index), panic) for c in candidates)


def _reason(
    candidate: Candidate, candidates: Sequence[Candidate], config: NetworkConfig, placed: str | None, panic: bool
) -> str:
    if candidate.obstacle is not None:
        return candidate.obstacle.reason
    if candidate.limited is Hold.TOLD:
        return "rate limited: held off for as long as it said"
    if candidate.limited is Hold.GUESSED:
        return "rate limited, asked because nothing else is left" if panic and placed else "rate limited: held off"
    if candidate.ejected is not None:
        ejected = f"ejected ({candidate.ejected})"
        return f"{ejected}, asked because nothing else is left" if panic and placed else f"{ejected}: waits for a trial"
    if placed is not None:
        return placed
    if not in_range(candidate, config):
        return _distance(candidate, config)
    if candidate.role is Role.MONITORING:
        return "monitoring nodes do not serve (monitoring_nodes_serve)"
    return "fallback nodes wait until no other node is reachable (switch_to_fallback_enabled)"


def _distance(candidate: Candidate, config: NetworkConfig) -> str:
    return f"{_blocks(candidate.lag_blocks)} behind (limit {limit_of(config, candidate.role)})"


def _blocks(count: int) -> str:
    return "1 block" if count == 1 else f"{count} blocks"


def _refusal(config: NetworkConfig, explanation: str) -> str:
    return f"No valid endpoint available for network {config.name}: {explanation}"


def explain(candidates: Sequence[Candidate], config: NetworkConfig) -> str:
    """Why nobody may serve, for a client: roles, lags and settings, no node's name."""
    clauses = [clause for role in Role if (clause := _explain_role(role, candidates, config))]
    return "; ".join(clauses) if clauses else "the network has no nodes"


def _explain_role(role: Role, candidates: Sequence[Candidate], config: NetworkConfig) -> str | None:
    tier = [c for c in candidates if c.role is role]
    if not tier:
        return None
    reachable = [c for c in tier if c.obstacle is None]
    if not reachable:
        return f"no {role.value} node is reachable{_common_obstacle(tier)}"
    lag = min(c.lag_blocks for c in reachable)
    limit = limit_of(config, role)
    if lag > limit:
        setting = "fallback_block_diff" if role is Role.FALLBACK else "network_block_diff"
        return f"the nearest {role.value} node is {_blocks(lag)} behind, {setting} allows {limit}"
    setting = "monitoring_nodes_serve" if role is Role.MONITORING else "switch_to_fallback_enabled"
    return f"a {role.value} node is in range, but {setting} is false"


def _all_limited(limited: int, others: int) -> str:
    words = "the only node that could serve is" if limited == 1 else f"the {limited} nodes that could serve are"
    rest = "" if not others else "; another one cannot serve" if others == 1 else f"; {others} others cannot serve"
    return f"{words} rate limited{rest}"


def _common_obstacle(tier: Tier) -> str:
    kinds = {c.obstacle.kind.value for c in tier if c.obstacle is not None}
    return f" ({', '.join(sorted(kinds))})"
