"""What the requests of one column amount to, against what is demanded; and how that is shown."""

from __future__ import annotations

import os
import platform
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

from asking import FAILED, Asked
from chain import OLD, WRONG
from parts import PartFailed
from report import MET, MISSED

WAIT_SECONDS = 0.5
"""The longest that a client may wait."""
KNOWN_SECONDS = 1.2
"""So long after a node fell behind evmlb may not know: a poll interval, and the time of a poll."""
NOTICED_SECONDS = 0.05
"""So long after a process ended, evmlb may not have read yet that its connections did."""
TITLES = ("fault", "requests", "wrong", "failed", "longest wait", "p99", "faulty node got", "limit", "")
_EARLY, _IN_DOUBT = "early", "in doubt"
_PACKAGES = ("Twisted", "uvloop", "httptools", "msgspec", "orjson")


@dataclass(frozen=True, slots=True)
class Column:
    """One fault of the table. ``ask``: what clients ask meanwhile; ``slack_seconds``: what may be waited for more."""

    name: str
    fault: str
    what: str
    ask: str = "read"
    slack_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """What happened in a column. Times are of ``time.monotonic``; ``struck`` is when the fault was there in full.

    ``received`` are the markers of all nodes, ``seen`` the requests that the faulty node got while it was; None where
    that cannot be known. ``tracebacks`` are those in evmlb's log; ``stall`` is how long the clients were held up.
    """

    asked: Sequence[Asked]
    began: float
    struck: float
    received: Counter[str]
    seen: int | None
    tracebacks: int
    stall: float


@dataclass(frozen=True, slots=True)
class Figures:
    """One line of the table. ``limit_seconds`` None: nothing is demanded.

    ``early``: old answers from before evmlb could know. ``in_doubt``: failed as they must, since nobody can know
    whether the call was carried out. ``reasons`` says in words what was wrong or failed, most frequent first.
    """

    column: Column
    requests: int
    wrong: int
    early: int
    failed: int
    in_doubt: int
    longest: float
    p99: float
    seen: int | None
    tracebacks: int
    stall: float
    reasons: tuple[tuple[str, int], ...]
    limit_seconds: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether what is demanded was kept; None where nothing is."""
        if self.limit_seconds is None:
            return None
        return not (self.wrong or self.failed or self.tracebacks) and self.longest <= self.limit_seconds

    @property
    def cells(self) -> tuple[str, ...]:
        """As the titles have it."""
        limit = "" if self.limit_seconds is None else f"0, {self.limit_seconds * 1000:.0f} ms"
        return (
            self.column.what,
            str(self.requests),
            f"{self.wrong} (+{self.early} early)" if self.early else str(self.wrong),
            f"{self.failed} (+{self.in_doubt} in doubt)" if self.in_doubt else str(self.failed),
            f"{self.longest * 1000:.0f} ms",
            f"{self.p99 * 1000:.1f} ms",
            "-" if self.seen is None else str(self.seen),
            limit,
            "" if self.met is None else MET if self.met else MISSED,
        )


def figures_of(column: Column, run: Run) -> Figures:
    """Count. Raises :class:`PartFailed` where nothing was asked, or nothing of the faulty node."""
    if not run.asked or run.seen == 0:
        raise PartFailed(f"{column.name}: {'the faulty node' if run.asked else 'nobody'} was asked nothing")
    meanings = [_meaning(one, column, run) for one in run.asked]
    counts = Counter(meanings)
    twice = sum(times > 1 for times in run.received.values())
    reasons = Counter(
        one.words for one, meaning in zip(run.asked, meanings, strict=True) if meaning in (WRONG, OLD, FAILED)
    )
    waits = sorted(one.seconds for one in run.asked)
    return Figures(
        column,
        requests=len(run.asked),
        wrong=counts[WRONG] + counts[OLD] + twice,
        early=counts[_EARLY],
        failed=counts[FAILED],
        in_doubt=counts[_IN_DOUBT],
        longest=waits[-1],
        p99=waits[len(waits) * 99 // 100],
        seen=run.seen,
        tracebacks=run.tracebacks,
        stall=run.stall,
        reasons=tuple((reasons + Counter(twice * ["received twice"])).most_common()),
    )


def _meaning(one: Asked, column: Column, run: Run) -> str:
    """The outcome, or what it is where the balancer could do no better."""
    if one.outcome == OLD and column.fault == "behind" and one.sent < run.struck + KNOWN_SECONDS:
        return _EARLY
    if one.outcome == FAILED and one.marker and _may_be_received(one, column, run):
        return _IN_DOUBT
    return one.outcome


def _may_be_received(one: Asked, column: Column, run: Run) -> bool:
    """Whether a node got this call, or may have: to send it elsewhere then might do it twice."""
    was_under_way = one.sent < run.struck + NOTICED_SECONDS and one.ended > run.began
    return one.marker in run.received or (column.fault == "killed" and was_under_way)


@dataclass(frozen=True, slots=True)
class Table:
    """One arrangement of nodes: a title, a note on how to read it, and a line per column."""

    title: str
    note: str
    lines: tuple[Figures, ...]


def demanding(figures: Figures, limit_seconds: float | None) -> Figures:
    """The same, with a limit, and the slack that its column has."""
    return replace(
        figures, limit_seconds=None if limit_seconds is None else limit_seconds + figures.column.slack_seconds
    )


def as_text(table: Table) -> str:
    """For a terminal, with the reasons of what is not good below."""
    rows = text_rows([TITLES, *(line.cells for line in table.lines)])
    return "\n".join([table.title, *rows, *_remarks(table.lines)]) + "\n"


def text_rows(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with their cells below each other."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    padded = ((cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [("  " + "  ".join(cells)).rstrip() for cells in padded]


def _remarks(lines: Iterable[Figures], most: int = 4) -> list[str]:
    remarks = []
    for line in lines:
        remarks += [f"  {line.column.name}: {times} x {words[:160]}" for words, times in line.reasons[:most]]
        if line.tracebacks:
            remarks.append(f"  {line.column.name}: {line.tracebacks} tracebacks in evmlb's log")
        if line.stall > WAIT_SECONDS / 5:
            remarks.append(f"  {line.column.name}: the clients themselves were held up for {line.stall * 1000:.0f} ms")
    return remarks


def as_markdown(tables: Sequence[Table], arguments: str, minutes: float, tree: Path) -> str:
    """For the repository."""
    lines = [_INTRODUCTION, *(f"- {name}: {value}" for name, value in _facts(tree).items()), ""]
    for table in tables:
        lines += [f"## {table.title}\n", table.note, "", _markdown_row(TITLES), "| --- " * len(TITLES) + "|"]
        lines += [*(_markdown_row(line.cells) for line in table.lines), ""]
    lines.append(_REPEAT.format(arguments=arguments, minutes=minutes))
    return "\n".join(lines)


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _facts(tree: Path) -> dict[str, str]:
    """What the figures were taken on, without anything that names the machine."""
    found = re.search(r'__version__ = "([^"]+)"', (tree / "evmlb" / "__init__.py").read_text())
    return {
        "date": date.today().isoformat(),
        "evmlb": found[1] if found else "unknown",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": ", ".join(f"{package} {version(package)}" for package in _PACKAGES),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores",
    }


_INTRODUCTION = """# What clients see while a node misbehaves

Written by `make bench-faults ARGS="--write"`; do not edit. [README.md](README.md#faults) says what is done and how it
is counted.
"""

_REPEAT = """## How to repeat

    make bench-faults ARGS="{arguments}"

This run took {minutes:.1f} minutes.
"""
