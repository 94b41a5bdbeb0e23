"""Rows, and how they are shown: a table for a terminal, a page for the repository."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

from load import Figure, Load, middle, span
from parts import program

COLUMNS = ("what", "evmlb", "HAProxy", "ratio", "target", "")
MET, MISSED = "met", "missed"
_PACKAGES = ("Twisted", "uvloop", "httptools", "msgspec", "orjson", "prometheus-client")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``verdict`` is empty where there is no target."""

    what: str
    evmlb: str
    haproxy: str = ""
    ratio: str = ""
    target: str = ""
    verdict: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.what, self.evmlb, self.haproxy, self.ratio, self.target, self.verdict)


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one measurement, and a sentence or two on how to read them."""

    title: str
    note: str
    rows: tuple[Row, ...]


def at_most(value: float, limit: float) -> str:
    """The verdict on something that should be small."""
    return MET if value <= limit else MISSED


def at_least(value: float, limit: float) -> str:
    """The verdict on something that should be large."""
    return MET if value >= limit else MISSED


def ratio(value: float, other: float) -> str:
    """How many times as much as the other."""
    return f"{value / other:.2f}" if other else "-"


def between(loads: Sequence[Load], figure: Figure, form: str, unit: str = "") -> str:
    """The median over rounds, with the lowest and the highest."""
    low, high = span(loads, figure)
    text = f"{format(middle(loads, figure), form)}{unit}"
    return f"{text} ({format(low, form)} to {format(high, form)})" if len(loads) > 1 else text


def compared(what: str, ours: Sequence[Load], theirs: Sequence[Load], figure: Figure, form: str, unit: str = "") -> Row:
    """A row of evmlb's rounds beside HAProxy's, still without a target."""
    return Row(
        what,
        between(ours, figure, form, unit),
        between(theirs, figure, form, unit),
        ratio(middle(ours, figure), middle(theirs, figure)),
    )


def errors_row(loads: Iterable[Load], others: Iterable[Load] = ()) -> Row:
    """Answers that failed: there should be none."""
    errors, theirs = sum(load.errors for load in loads), sum(load.errors for load in others)
    return Row("failed answers", str(errors), str(theirs), "", "0", at_most(errors, 0))


def as_text(parts: Sequence[Part]) -> str:
    """For a terminal."""
    lines: list[str] = []
    for part in parts:
        table = [COLUMNS, *(row.cells for row in part.rows)]
        widths = [max(len(cells[column]) for cells in table) for column in range(len(COLUMNS))]
        lines += ["", part.title]
        for cells in table:
            padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            lines.append(("  " + "  ".join(padded)).rstrip())
        if part.note:
            lines.append(f"  ({part.note})")
    return "\n".join(lines) + "\n"


def as_markdown(parts: Sequence[Part], arguments: str, minutes: float) -> str:
    """For the repository."""
    lines = [_INTRODUCTION, "## Machine\n", *_machine_lines(), ""]
    for part in parts:
        lines += [f"## {part.title}\n", _markdown_row(COLUMNS), "| --- " * len(COLUMNS) + "|"]
        lines += [_markdown_row(row.cells) for row in part.rows]
        lines += ["", *([part.note, ""] if part.note else [])]
    lines.append(_REPEAT.format(arguments=f' ARGS="{arguments}"' if arguments else "", minutes=minutes))
    return "\n".join(lines)


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


_INTRODUCTION = """# Benchmark results

Written by `make bench`; do not edit. [README.md](README.md) says what is measured and how.

Absolute figures belong to this machine. What carries over to yours is the column *ratio*: evmlb's figure divided by
HAProxy's, both taken in turns in the same run. Figures are medians over rounds, the lowest and highest in brackets.
"""

_REPEAT = """## How to repeat

    make bench{arguments}

On a machine that does nothing else, with nginx, HAProxy and wrk installed. This run took {minutes:.1f} minutes;
`--quick` takes one and a half, its figures scatter more.
"""


def _machine_lines() -> list[str]:
    lines = [f"- {name}: {value}" for name, value in machine().items()]
    return [f"- date: {date.today().isoformat()}", *lines]


def machine() -> dict[str, str]:
    """What the figures were taken on, without anything that names the machine."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores, the balancer alone on one",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": ", ".join(f"{package} {_version(package)}" for package in _PACKAGES),
        "HAProxy": _told("haproxy", "-v", r"version (\S+)"),
        "nginx": _told("nginx", "-v", r"nginx/(\S+)"),
        "wrk": _told("wrk", "-v", r"wrk (\S+)"),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except ImportError:
        return "not installed"


def _told(name: str, option: str, pattern: str) -> str:
    done = subprocess.run([str(program(name)), option], capture_output=True, text=True, timeout=10)
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else "unknown"
