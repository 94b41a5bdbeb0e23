"""A node's facts for a person to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evmlb.node.node import Node


def facts_of(node: Node, now: float) -> dict[str, Any]:
    """Everything known, for a person to read: JSON-able, times as ages in seconds, the URL masked."""
    obstacle = node.candidate.obstacle
    return {
        "name": node.name,
        "role": node.role.value,
        "endpoint": node.config.endpoint.masked,
        "weight": node.weight,
        "in_flight": node.in_flight,
        "capacity": node.capacity,
        "head": node.head,
        "lag_blocks": node.lag_blocks,
        "head_age_seconds": _age(node.head_changed_at, now),
        "latency_seconds": node.latency_seconds,
        "load": node.load,
        "reachable": node.reachable,
        "healthy": node.healthy,
        "obstacle": None if obstacle is None else obstacle.reason,
        "suspect": node.suspect,
        "suspicion": node.health.suspicion,
        "ejected": node.ejected,
        "ejection": node.breaker.reason if node.ejected else None,
        "breaker": node.breaker.state.value,
        "next_trial_in_seconds": node.breaker.due_in_seconds(now),
        "rate_limited": node.limit.limited,
        "rate_limited_for_seconds": round(node.limit.seconds_left(now), 3) if node.limit.limited else None,
        "unsupported_methods": sorted(node.avoidance.unsupported),
        "silent_methods": node.avoidance.silent_methods(now),
        "provider": node.provider,
        "syncing_distance_blocks": None if node.syncing is None else node.syncing.distance_blocks,
        "chain_id": node.chain_id,
        "other_block_at": node.other_block_at,
        "client_version": node.client_version,
        "peer_count": node.peer_count,
        "last_poll_age_seconds": _age(node.last_poll_at, now),
        "last_good_poll_age_seconds": _age(node.last_good_poll_at, now),
    }


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else round(max(0.0, now - at), 3)
