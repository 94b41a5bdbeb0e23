"""In what order the nodes of one tier are asked.

Theory. Criteria apply in turn, as ``load_balance_priority`` has them. A criterion cuts the nodes into *levels*: the
first level is every node within tolerance of the best, the next one every other node within tolerance of the best of
those, and so on. The next criterion orders the nodes inside a level; those that no criterion parts *tie*, and stay as
configured.

=========  ==================================================================  =========================
criterion  figure (less is better)                                             tolerance
=========  ==================================================================  =========================
latency    moving average of polls, seconds                                    20 % of the best, or 2 ms
load       of the machine, as node-exporter says it; unknown sorts last        0.1
chainhead  blocks behind, leaving out blocks younger than one poll interval    1 block
=========  ==================================================================  =========================

A node stays in the level it was in until its figure is beyond 1.5 times the tolerance, so noise moves nobody. Chainhead
is the last criterion where the list does not name it, and always the first among fallback nodes.

Suspect nodes come after all others of the tier, ordered among themselves by the same rules: when all are suspect the
order is as if none were. What a node's place follows from is said in one clause beside it.

With the ``failover-priority`` strategy the weight decides instead: highest first, equal ones as configured.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from evmlb.config.schema import Criterion, NetworkConfig, Role, Strategy

STAY = 1.5
"""How many tolerances away a node may be and still stay in the level that it was in."""

LATENCY_FRACTION = 0.2
LATENCY_SECONDS = 0.002
LOAD_TOLERANCE = 0.1
CHAINHEAD_BLOCKS = 1


class ObstacleKind(enum.Enum):
    """What keeps a node from serving, in words that a client may read."""

    NOT_POLLED = "not polled yet"
    POLLS_FAIL = "polls fail"
    STALE = "no recent answer"
    CHAIN_UNKNOWN = "chain id not known yet"
    CHAIN_DISPUTED = "chain id disputed"
    WRONG_CHAIN = "wrong chain"
    OTHER_BLOCKS = "other blocks"
    HEAD_REFUTED = "unconfirmed head"
    SYNCING = "syncing"


class Hold(enum.Enum):
    """Why a rate-limited node is held off."""

    TOLD = "told"  # it said until when: it is not asked before
    GUESSED = "guessed"  # it did not say: it is asked when nobody else is left


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a node may not serve. ``reason`` says it in all detail, for the operator."""

    kind: ObstacleKind
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What selection may know of one node. Equal candidates get equal places.

    ``obstacle`` is why the node may not serve whatever its head, or ``None``: then it is reachable, on the right
    chain, and not syncing. ``ejected`` and ``suspicion`` are reasons, or ``None``; ``limited`` says that
    its rate limit holds it off. ``lag_blocks`` is the whole lag; ``behind_blocks`` is the same, but 0 while only blocks
    younger than one poll interval are missing. ``head`` is given where the lag is beyond the block diff, else ``None``:
    a new block alone changes nothing.
    """

    index: int
    name: str
    role: Role
    weight: int = 1
    obstacle: Obstacle | None = None
    ejected: str | None = None
    limited: Hold | None = None
    suspicion: str | None = None
    head: int | None = None
    lag_blocks: int = 0
    behind_blocks: int = 0
    latency_seconds: float | None = None
    load: float | None = None


Path = tuple[int, ...]
"""The level a node had in each criterion, outermost first."""

Paths = Mapping[int, Path]
"""The paths of a whole network by node index: what the next ranking needs to know of the last one."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One node's place in its tier: the nodes that tie share a ``path``; ``reason`` is one clause."""

    candidate: Candidate
    path: Path
    reason: str


def criteria_of(config: NetworkConfig, role: Role) -> tuple[Criterion, ...]:
    """The criteria of a tier, in the order in which they apply."""
    named = tuple(dict.fromkeys(config.load_balance_priority))
    if role is Role.FALLBACK:
        return (Criterion.CHAINHEAD, *(c for c in named if c is not Criterion.CHAINHEAD))
    return named if Criterion.CHAINHEAD in named else (*named, Criterion.CHAINHEAD)


def rank(tier: Sequence[Candidate], config: NetworkConfig, last: Paths) -> tuple[Ranked, ...]:
    """Order the nodes of one tier, first first. They are given as configured; all have the same role."""
    clear = [c for c in tier if c.suspicion is None]
    doubtful = [c for c in tier if c.suspicion is not None]
    ranked = _rank_alike(clear, config, last)
    return (*ranked, *(_suspect(r) for r in _rank_alike(doubtful, config, last)))


def leading_ties(ranked: Sequence[Ranked]) -> int:
    """How many of the first nodes tie with the very first."""
    if not ranked:
        return 0
    first = ranked[0]
    same = (r.path == first.path and _is_suspect(r) == _is_suspect(first) for r in ranked)
    return next((n for n, tied in enumerate(same) if not tied), len(ranked))


def _is_suspect(ranked: Ranked) -> bool:
    return ranked.candidate.suspicion is not None


def _suspect(ranked: Ranked) -> Ranked:
    return Ranked(ranked.candidate, ranked.path, f"suspect ({ranked.candidate.suspicion}): last in its tier")


def _rank_alike(nodes: list[Candidate], config: NetworkConfig, last: Paths) -> list[Ranked]:
    if not nodes:
        return []
    if config.strategy is Strategy.FAILOVER_PRIORITY:
        return _by_weight(nodes)
    ranked: list[Ranked] = []
    _descend(nodes, criteria_of(config, nodes[0].role), (), last, "the only good one of its tier", ranked)
    return ranked


def _by_weight(nodes: list[Candidate]) -> list[Ranked]:
    ordered = sorted(nodes, key=lambda c: -c.weight)
    return [Ranked(c, (place,), f"weight {c.weight}") for place, c in enumerate(ordered)]


def _descend(
    nodes: list[Candidate], criteria: tuple[Criterion, ...], path: Path, last: Paths, why: str, out: list[Ranked]
) -> None:
    """Append ``nodes``, which share ``path``, in order. ``why`` is the clause of what parted them from others."""
    if len(nodes) == 1 or not criteria:
        out.extend(_tied(nodes, path + (0,) * len(criteria), why))
        return
    levels = _levels(nodes, criteria[0], path, last)
    for number, level in enumerate(levels):
        clause = why if len(levels) == 1 else _parted(level, criteria[0], levels[0][0])
        _descend(level, criteria[1:], (*path, number), last, clause, out)


def _tied(nodes: list[Candidate], path: Path, why: str) -> Iterable[Ranked]:
    first = nodes[0]
    yield Ranked(first, path, why if len(nodes) == 1 else f"{_tie_head(why)}{_others(len(nodes) - 1)}, listed first")
    for node in nodes[1:]:
        yield Ranked(node, path, f"ties with {first.name}")


def _tie_head(why: str) -> str:
    return "ties with " if why.startswith("the only") else f"{why}, ties with "


def _others(count: int) -> str:
    return "another" if count == 1 else f"{count} others"


def _levels(nodes: list[Candidate], criterion: Criterion, path: Path, last: Paths) -> list[list[Candidate]]:
    """Cut into levels, best first; inside a level the nodes stay as configured."""
    figures = sorted((_figure(c, criterion), c.index, c) for c in nodes)
    levels: list[list[Candidate]] = []
    while figures:
        best = figures[0][0]
        tolerance = _tolerance(criterion, best)
        home = (*path, len(levels))
        depth = len(home)
        limit, far = best + tolerance, best + STAY * tolerance
        level: list[Candidate] = []
        rest: list[tuple[float, int, Candidate]] = []
        for entry in figures:
            figure, index, candidate = entry
            stays = figure <= limit or (figure <= far and last.get(index, ())[:depth] == home)
            if stays:
                level.append(candidate)
            else:
                rest.append(entry)
        levels.append(sorted(level, key=_index))
        figures = rest
    return levels


def _index(candidate: Candidate) -> int:
    return candidate.index


def _figure(candidate: Candidate, criterion: Criterion) -> float:
    if criterion is Criterion.CHAINHEAD:
        return candidate.behind_blocks
    figure = candidate.latency_seconds if criterion is Criterion.LATENCY else candidate.load
    return inf if figure is None else figure


def _tolerance(criterion: Criterion, best: float) -> float:
    if criterion is Criterion.CHAINHEAD:
        return CHAINHEAD_BLOCKS
    if criterion is Criterion.LOAD:
        return LOAD_TOLERANCE
    return max(LATENCY_SECONDS, LATENCY_FRACTION * best)


def _parted(level: list[Candidate], criterion: Criterion, best: Candidate) -> str:
    said = _said(level[0], criterion)
    return f"best: {said}" if level[0] is best else f"{said}, the best {_said(best, criterion, bare=True)}"


def _said(candidate: Candidate, criterion: Criterion, *, bare: bool = False) -> str:
    figure = _figure(candidate, criterion)
    if criterion is Criterion.CHAINHEAD:
        blocks = "1 block" if figure == 1 else f"{int(figure)} blocks"
        return str(int(figure)) if bare else f"{blocks} behind"
    word = "" if bare else f"{criterion.value} "
    if figure == inf:
        return f"{word}unknown"
    return f"{word}{figure * 1000:.3g} ms" if criterion is Criterion.LATENCY else f"{word}{figure:.2f}"
