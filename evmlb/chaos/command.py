"""``evmlb chaos``: simulated runs, one per seed; one that violates an invariant is told so that it can be replayed."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TextIO

from twisted.logger import globalLogBeginner

from evmlb.chaos.scenario import draw_scenario
from evmlb.chaos.simulation import Outcome, simulate
from evmlb.config.faults import ConfigError
from evmlb.config.load import load
from evmlb.config.schema import Config

MANY_RUNS = 200
"""So many without a seed."""
TOLD_VIOLATIONS = 5
"""So many of one run are told: those that follow from the first are seldom of interest."""
TOLD_IN_FULL = 3
"""So many failing runs are told with the end of their trace; of more there is the first violation."""


@dataclass
class Sum:
    """What some runs came to. ``digest`` is the same whenever each of them went the same way."""

    runs: int = 0
    questions: int = 0
    virtual_seconds: float = 0.0
    failing: list[Outcome] = field(default_factory=list)
    _digests: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count a run."""
        self.runs += 1
        self.questions += outcome.questions
        self.virtual_seconds += outcome.virtual_seconds
        self._digests.append(outcome.digest)
        if outcome.violations:
            self.failing.append(outcome)

    @property
    def digest(self) -> str:
        """Of the traces of all runs, in their order."""
        return hashlib.sha256("".join(self._digests).encode()).hexdigest()[:16]


def explore(seeds: Iterable[int], config: Config | None, fail: Callable[[Outcome], None]) -> Sum:
    """Run seeds; ``fail`` hears of each run that violates an invariant."""
    total = Sum()
    for seed in seeds:
        outcome = simulate(draw_scenario(seed, config))
        total.add(outcome)
        if outcome.violations:
            fail(outcome)
    return total


def report(outcome: Outcome, config_path: str | None, *, trace: bool = True) -> str:
    """A failing run in words: seed, what was violated, how it came to that, how to see it again."""
    seed = outcome.scenario.seed
    lines = [f"seed {seed}, {outcome.scenario}, violates:"]
    if trace:
        lines += [f"  {violation}" for violation in outcome.violations[:TOLD_VIOLATIONS]]
        if len(outcome.violations) > TOLD_VIOLATIONS:
            lines.append(f"  and {len(outcome.violations) - TOLD_VIOLATIONS} more")
        lines += ["before it happened:", *outcome.last]
    else:
        lines += [f"  {outcome.violations[0]}"]
    given = f" --config {shlex.quote(config_path)}" if config_path else ""
    return "\n".join((*lines, f"replay it: evmlb chaos --seed {seed}{given}", ""))


def main_chaos(seed: int | None, runs: int | None, config_path: str | None, out: TextIO, err: TextIO) -> int:
    """What ``evmlb chaos`` does; the exit status: 0 when every invariant held, 1 otherwise.

    With a seed it is one run, unless told otherwise; without one it is ``MANY_RUNS`` from seed 0 on.
    """
    config = None
    if config_path is not None:
        try:
            config = load(config_path)[0]
        except ConfigError as error:
            err.write(f"{error}\n")
            return 1
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    count = runs if runs is not None else MANY_RUNS if seed is None else 1
    first = seed or 0
    told: list[int] = []

    def fail(outcome: Outcome) -> None:
        told.append(outcome.scenario.seed)
        out.write(report(outcome, config_path, trace=len(told) <= TOLD_IN_FULL) + "\n")
        out.flush()

    total = explore(range(first, first + count), config, fail)
    out.write(f"{_summary(total)}\n")
    return 1 if total.failing else 0


def _summary(total: Sum) -> str:
    runs = "1 run" if total.runs == 1 else f"{total.runs} runs"
    begin = f"{runs}, {total.questions} requests, {total.virtual_seconds:.0f} virtual seconds, digest {total.digest}"
    if not total.failing:
        return f"{begin}: every invariant held"
    seeds = ", ".join(str(outcome.scenario.seed) for outcome in total.failing)
    return f"{begin}: {len(total.failing)} violated invariants; seeds {seeds}"
