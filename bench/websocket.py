"""``make bench-websocket``: calls and subscriptions over WebSocket, beside HAProxy. README.md says what and why.

    make bench-websocket ARGS="--quick"               a first impression in a minute
    make bench-websocket ARGS="--only calls,heads"    some of it
    make bench-websocket ARGS="--write"               all of it, written to bench/WEBSOCKET.md

A missed target is reported and does not fail the run: this is no test.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from statistics import median
from types import FrameType

import ws_fanout
from load import busy, cpu_us, middle, p50_us, p99_us, rate
from parts import HERE, PartFailed, missing_programs
from report import COLUMNS, Part, Row, as_text, at_most, compared, errors_row, machine
from ws_parts import SocketBench, call_directly, take_turns

CONNECTIONS = 64
CALL_US, AIM_US, ROUND_TRIP = 40.0, 28.0, 2.5
MOST_SECONDS = 900
QUIET_LOAD = 0.5
RESULTS = HERE / "WEBSOCKET.md"


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure. ``heads`` are pushed in each round."""

    rounds: int = 5
    seconds: float = 4.0
    heads: int = 20
    subscribers: int = 5000


QUICK = Plan(rounds=1, seconds=2.0, heads=12)


def calls(bench: SocketBench, plan: Plan) -> Part:
    """As many calls as 64 connections can make."""
    with bench.upstream() as upstream, bench.pipe(upstream) as haproxy, bench.evmlb_before(None) as evmlb:
        loads = take_turns((haproxy, evmlb), CONNECTIONS, plan.seconds, plan.rounds)
    ours, theirs = loads["evmlb"], loads["HAProxy"]
    used = middle(ours, cpu_us)
    cpu = compared("CPU per call", ours, theirs, cpu_us, ".1f", " us")
    return Part(
        "Calls: 64 connections, each with one call at a time",
        "evmlb balances each call over two nginx by HTTP; HAProxy passes bytes on to a node with WebSocket, which "
        "answers at once. Where a balancer is not busy above 0.95 the load's core was the limit: then CPU per call "
        "says what it can do.",
        (
            compared("calls/s", ours, theirs, rate, ",.0f"),
            replace(cpu, target=f"<= {CALL_US:g} us", verdict=at_most(used, CALL_US)),
            Row("the same, what is aimed at", f"{used:.1f} us", "", "", f"<= {AIM_US:g} us", at_most(used, AIM_US)),
            compared("busy share of its core", ours, theirs, busy, ".2f"),
            compared("p50", ours, theirs, p50_us, ",.0f", " us"),
            compared("p99", ours, theirs, p99_us, ",.0f", " us"),
            errors_row(ours, theirs),
        ),
    )


def latency(bench: SocketBench, plan: Plan) -> Part:
    """The round trip of a lone call."""
    seconds = max(1.0, plan.seconds / 2)
    with bench.upstream() as upstream, bench.pipe(upstream) as haproxy, bench.evmlb_before(upstream) as evmlb:
        loads = take_turns((haproxy, evmlb), 1, seconds, plan.rounds)
        direct = median(call_directly(upstream, seconds) for _ in range(plan.rounds))
    ours, theirs = loads["evmlb"], loads["HAProxy"]
    times = middle(ours, p50_us) / middle(theirs, p50_us)
    row = compared("p50 of the round trip", ours, theirs, p50_us, ".0f", " us")
    return Part(
        "Latency: one connection",
        f"Both before the same node, which answers in {direct:.0f} us when it is asked directly by WebSocket; evmlb "
        "asks it by HTTP. Client and node share a core, and a balancer's core has to be woken twice for each call.",
        (
            replace(row, target=f"<= {ROUND_TRIP:g} x HAProxy", verdict=at_most(times, ROUND_TRIP)),
            compared("p99 of the round trip", ours, theirs, p99_us, ".0f", " us"),
            compared("CPU per call", ours, theirs, cpu_us, ".1f", " us"),
            errors_row(ours, theirs),
        ),
    )


def heads(bench: SocketBench, plan: Plan) -> Part:
    """Heads to many."""
    return ws_fanout.heads(bench, plan.rounds, plan.heads, plan.subscribers)


def logs(bench: SocketBench, plan: Plan) -> Part:
    """Many filters."""
    return ws_fanout.logs(bench, plan.rounds)


MEASUREMENTS: dict[str, Callable[[SocketBench, Plan], Part]] = {
    "calls": calls,
    "latency": latency,
    "heads": heads,
    "logs": logs,
}


def main(arguments: Sequence[str]) -> int:
    """0: measured, whatever came out; 1: something could not be measured; 2: something is missing."""
    options = _options(arguments)
    missing = missing_programs()
    if missing:
        names = " ".join(missing)
        print(f"bench: not installed: {names}. On Debian and Ubuntu: apt-get install {names}", file=sys.stderr)
        return 2
    _end_in_time()
    began, load = time.monotonic(), os.getloadavg()[0]
    if load > QUIET_LOAD:
        print("bench: this machine is or was just busy; figures will scatter", file=sys.stderr)
    try:
        with SocketBench() as bench:
            parts = [_measured(name, bench, options.plan) for name in options.only]
    except PartFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    minutes = (time.monotonic() - began) / 60
    print(as_text(parts), end="")
    print(f"\n{minutes:.1f} minutes")
    if options.write:
        RESULTS.write_text(_page(parts, " ".join(arguments), minutes, load))
    return 1 if any(not part.rows for part in parts) else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/websocket.py", description="Measure evmlb's WebSockets.")
    parser.add_argument("--quick", action="store_true", help="one short round each")
    parser.add_argument("--only", default="", help=f"some of {','.join(MEASUREMENTS)}")
    parser.add_argument("--rounds", type=int, default=0, help="how many rounds the medians are of")
    parser.add_argument("--subscribers", type=int, default=0, help="how many in the largest fan-out; default: 5,000")
    parser.add_argument("--write", action="store_true", help="write bench/WEBSOCKET.md")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",") if options.only else list(MEASUREMENTS)
    unknown = [name for name in options.only if name not in MEASUREMENTS]
    if unknown:
        parser.error(f"there is no measurement {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    plan = QUICK if options.quick else Plan()
    plan = replace(plan, rounds=options.rounds) if options.rounds > 0 else plan
    options.plan = replace(plan, subscribers=options.subscribers) if options.subscribers > 0 else plan
    return options


def _measured(name: str, bench: SocketBench, plan: Plan) -> Part:
    print(f"measuring {name} ...", file=sys.stderr, flush=True)
    try:
        return MEASUREMENTS[name](bench, plan)
    except PartFailed as error:
        print(f"bench: {name}: {error}", file=sys.stderr)
        return Part(f"{name}: could not be measured", "", ())


def _end_in_time() -> None:
    """Whatever ends this early, also ends what it started."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(f"bench: ended by {signal.Signals(number).name}")

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, end)
    signal.alarm(MOST_SECONDS)


_INTRODUCTION = """# WebSocket results

Written by `make bench-websocket`; do not edit. [README.md](README.md#websocket) says what is measured and how.

Absolute figures belong to this machine. What carries over to yours is the column *ratio*: evmlb's figure divided by
HAProxy's, in the same run. Figures are medians over rounds, the lowest and highest in brackets.
"""

_REPEAT = """## How to repeat

    make bench-websocket{arguments}

On a machine that does nothing else. This run took {minutes:.1f} minutes; `--quick` takes one, its figures scatter more.
"""


def _page(parts: Sequence[Part], arguments: str, minutes: float, load: float) -> str:
    """For the repository. ``load``: the machine's load average when it began."""
    lines = [_INTRODUCTION, "## Machine\n", f"- date: {date.today().isoformat()}"]
    lines += [*(f"- {name}: {value}" for name, value in machine().items() if name != "wrk")]
    words = "quiet" if load <= QUIET_LOAD else "busy with other things: absolute figures are too high, and scatter"
    lines += [f"- load before the run: {load:.1f}, {words}", ""]
    for part in parts:
        lines += [f"## {part.title}\n", _line(COLUMNS), "| --- " * len(COLUMNS) + "|"]
        lines += [*(_line(row.cells) for row in part.rows), "", part.note, ""]
    lines.append(_REPEAT.format(arguments=f' ARGS="{arguments}"' if arguments else "", minutes=minutes))
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
