"""What evmlb holds and what grows: memory per connection, and cost by the number of nodes and networks."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain

from load import HeldConnections, Load, Shape, alternate, apply_load, cpu_us, middle
from parts import Bench, Running, Setup, Target
from report import Part, Row, at_most, between, compared, errors_row, ratio
from speed import CONNECTIONS, MIB, STREAM_MIB, STREAMS, Plan, both

START_MIB = 75.0
CONNECTION_KIB = 4.5
FLAT = 1.10
"""Cost counts as flat when the most is at most this times what one node, or one network, costs."""
SETTLE_SECONDS = 1.0
STILL_SECONDS = 3.0


def memory(bench: Bench, plan: Plan) -> Part:
    """Resident memory at the start, per idle client connection, and while clients do not read."""
    held = min(plan.held, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 3)
    with both(bench) as (haproxy, evmlb):
        time.sleep(SETTLE_SECONDS)
        start, their_start = evmlb.process.memory(), haproxy.process.memory()
        each, their_each = _per_connection(evmlb, held), _per_connection(haproxy, held)
    with both(bench) as (haproxy, evmlb):
        ignored, their_ignored = _ignored(bench, evmlb), _ignored(bench, haproxy)
    return Part(
        "Memory",
        "Resident memory as the kernel counts it. Each idle connection has made one request before it idles; "
        "the first fifth of them is left out of the count, as it uses up what was free in the process.",
        (
            _memory_row("at start, two nodes", start / MIB, their_start / MIB, "MiB", START_MIB),
            _memory_row(f"per idle client connection, {held:,} held", each, their_each, "KiB", CONNECTION_KIB),
            _memory_row(
                f"growth while {STREAMS} clients do not read 10 MB", ignored, their_ignored, "MiB", STREAMS * STREAM_MIB
            ),
        ),
    )


def _memory_row(what: str, ours: float, theirs: float, unit: str, limit: float) -> Row:
    cells = (f"{ours:.1f} {unit}", f"{theirs:.1f} {unit}")
    return Row(what, *cells, ratio(ours, theirs), f"<= {limit:g} {unit}", at_most(ours, limit))


def _per_connection(target: Target, count: int) -> float:
    """KiB. The first connections do not count: they use up what was free in the process since its start."""
    with HeldConnections(target.port) as held:
        held.hold(count // 5)
        time.sleep(SETTLE_SECONDS)
        before = target.process.memory()
        held.hold(count - count // 5)
        time.sleep(SETTLE_SECONDS)
        return (target.process.memory() - before) / (count - count // 5) / 1024


def _ignored(bench: Bench, target: Target) -> float:
    """MiB that the process grows by for clients that ask for much and read nothing."""
    apply_load(bench, target, Shape(STREAMS, 1))
    before = target.process.memory()
    target.process.forget_peak()
    with HeldConnections(target.port) as held:
        held.ask_and_ignore(STREAMS, "10M")
        time.sleep(STILL_SECONDS)
        return (target.process.peak_memory() - before) / MIB


_SELDOM = "60s"
"""Polling that does not show in a round."""
_BY_NODES = {
    "1 node": Setup(nodes=1, poll_interval=_SELDOM),
    "16 nodes": Setup(nodes=16, poll_interval=_SELDOM),
    "64 nodes": Setup(nodes=64, poll_interval=_SELDOM),
}
_SHARED = {"64 nodes, strategy shared": Setup(nodes=64, poll_interval=_SELDOM, strategy="shared")}
_BY_NETWORKS = {
    "1 network": Setup(networks=1, poll_interval=_SELDOM),
    "16 networks": Setup(networks=16, poll_interval=_SELDOM),
    "256 networks": Setup(networks=256, poll_interval=_SELDOM),
}


def growth(bench: Bench, plan: Plan) -> Part:
    """CPU per request with more nodes, with more networks; and what polling costs when nothing else happens."""
    setups = {**_BY_NODES, **_BY_NETWORKS, **_SHARED}
    if plan.extremes:
        setups = {name: setup for name, setup in setups.items() if not name.startswith("16 ")}
    ours: dict[str, list[Load]] = {name: [] for name in setups}
    theirs: dict[str, list[Load]] = {name: [] for name in _BY_NETWORKS if name in setups}
    for _ in range(plan.few):
        for name, setup in setups.items():
            ours[name].append(_round(bench, bench.evmlb(setup), setup.networks, plan))
            if name in theirs:
                theirs[name].append(_round(bench, bench.haproxy(setup.networks), setup.networks, plan))
    return Part(
        "Growth: CPU per request with more nodes and networks",
        "Polling every 60 s, so that it does not count; what it costs at 1 s stands below. Each network has two nodes, "
        "HAProxy a backend for each; requests go round all networks, and each network has connections of its own, "
        "which costs HAProxy, too: its figures tell how much of the growth that is.",
        (
            *_growth_rows({name: ours[name] for name in _BY_NODES if name in ours}, {}),
            *_growth_rows({name: ours[name] for name in theirs}, theirs),
            *(Row(name, between(ours[name], cpu_us, ".1f", " us")) for name in _SHARED),
            *(_polling_row(bench, nodes, plan) for nodes in (1, 64)),
            errors_row(chain.from_iterable(ours.values()), chain.from_iterable(theirs.values())),
        ),
    )


def _round(bench: Bench, running: Running, networks: int, plan: Plan) -> Load:
    with running as target:
        time.sleep(SETTLE_SECONDS)  # the first polls, spread over a second
        return alternate(bench, [target], Shape(CONNECTIONS, plan.short, networks=networks), 1)[target.name][0]


def _growth_rows(ours: Mapping[str, list[Load]], theirs: Mapping[str, list[Load]]) -> list[Row]:
    """A row each; the last has the verdict on them all."""
    rows = [
        compared(name, loads, theirs[name], cpu_us, ".1f", " us")
        if name in theirs
        else Row(name, between(loads, cpu_us, ".1f", " us"))
        for name, loads in ours.items()
    ]
    costs = [middle(loads, cpu_us) for loads in ours.values()]
    verdict = at_most(max(costs) / costs[0], FLAT)
    rows[-1] = replace(rows[-1], target=f"flat: <= {FLAT:.2f} x the first", verdict=verdict)
    return rows


def _polling_row(bench: Bench, nodes: int, plan: Plan) -> Row:
    """CPU per second of an evmlb that nobody asks."""
    with bench.evmlb(Setup(nodes=nodes)) as target:
        time.sleep(SETTLE_SECONDS)
        before, began = target.process.cpu_seconds(), time.monotonic()
        time.sleep(plan.idle_seconds)
        used = (target.process.cpu_seconds() - before) / (time.monotonic() - began)
    return Row(f"idle, {nodes} {'node' if nodes == 1 else 'nodes'} polled every second", f"{used * 1000:.1f} ms/s")
