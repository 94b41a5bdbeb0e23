"""``make bench``: what evmlb costs, beside HAProxy in the same run. README.md in this folder says what and why.

    make bench ARGS="--quick"                      a first impression in a minute and a half
    make bench ARGS="--only throughput,latency"    some of it
    make bench ARGS="--write"                      all of it, written to bench/RESULTS.md

A missed target is reported and does not fail the run: this is no test.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import FrameType

import footprint
import speed
from parts import HERE, Bench, PartFailed, missing_programs
from report import Part, as_markdown, as_text
from speed import Plan

MEASUREMENTS: dict[str, Callable[[Bench, Plan], Part]] = {
    "throughput": speed.throughput,
    "latency": speed.latency,
    "memory": footprint.memory,
    "sizes": speed.sizes,
    "growth": footprint.growth,
    "transports": speed.transports,
}
QUICK = Plan(rounds=1, seconds=2, idle_seconds=2.0, held=2000, extremes=True)
MOST_SECONDS = 1500
QUIET_LOAD = 0.5
RESULTS = HERE / "RESULTS.md"


def main(arguments: Sequence[str]) -> int:
    """0: measured, whatever came out; 1: something could not be measured; 2: something is missing."""
    options = _options(arguments)
    missing = missing_programs()
    if missing:
        names = " ".join(missing)
        print(f"bench: not installed: {names}. On Debian and Ubuntu: apt-get install {names}", file=sys.stderr)
        return 2
    if os.getloadavg()[0] > QUIET_LOAD:
        print("bench: this machine is or was just busy; figures will scatter", file=sys.stderr)
    _end_in_time()
    began = time.monotonic()
    try:
        with Bench() as bench:
            parts = [_measured(name, bench, options.plan) for name in options.only]
    except PartFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    minutes = (time.monotonic() - began) / 60
    print(as_text(parts), end="")
    print(f"\n{minutes:.1f} minutes")
    if options.write:
        RESULTS.write_text(as_markdown(parts, " ".join(arguments), minutes))
    return 1 if any(not part.rows for part in parts) else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measure evmlb beside HAProxy.")
    parser.add_argument("--quick", action="store_true", help="one short round each")
    parser.add_argument("--only", default="", help=f"some of {','.join(MEASUREMENTS)}")
    parser.add_argument("--rounds", type=int, default=0, help="how many rounds the medians are of")
    parser.add_argument("--write", action="store_true", help="write bench/RESULTS.md")
    options = parser.parse_args(arguments)
    left_out = ("transports",) if options.quick else ()
    usual = [name for name in MEASUREMENTS if name not in left_out]
    options.only = options.only.split(",") if options.only else usual
    unknown = [name for name in options.only if name not in MEASUREMENTS]
    if unknown:
        parser.error(f"there is no measurement {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    plan = QUICK if options.quick else Plan()
    options.plan = replace(plan, rounds=options.rounds) if options.rounds > 0 else plan
    return options


def _measured(name: str, bench: Bench, plan: Plan) -> Part:
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
