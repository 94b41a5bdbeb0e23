"""What a request costs: throughput, latency, answers of many sizes, and the reactors that evmlb can run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from statistics import median

from load import Load, Shape, alternate, apply_load, busy, cpu_us, middle, p50_us, p99_us, rate
from parts import Bench, Setup, Target
from report import Part, Row, at_least, at_most, between, compared, errors_row, ratio

CONNECTIONS = 64
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure."""

    rounds: int = 5
    seconds: int = 4
    idle_seconds: float = 10.0
    held: int = 5000
    extremes: bool = False
    """Leave out what lies between the least and the most."""

    @property
    def short(self) -> int:
        """Seconds of a round that needs no more than half as long."""
        return max(1, self.seconds // 2)

    @property
    def few(self) -> int:
        """Rounds where each is long to set up."""
        return (self.rounds + 1) // 2


@contextmanager
def both(bench: Bench) -> Iterator[tuple[Target, Target]]:
    """HAProxy and evmlb beside each other; only one has load at a time, evmlb polls its nodes all the time."""
    with ExitStack() as stack:
        yield stack.enter_context(bench.haproxy()), stack.enter_context(bench.evmlb())


def throughput(bench: Bench, plan: Plan) -> Part:
    """As many small calls as 64 connections can make, then half as many."""
    with both(bench) as targets:
        full = Shape(CONNECTIONS, plan.seconds, scrape=True)
        loads = alternate(bench, targets, full, plan.rounds, warm_seconds=plan.short)
        half_rate = middle(loads["evmlb"], rate) / 2
        half = replace(full, think_ms=max(2, round(CONNECTIONS / half_rate * 1000)))
        half_loads = alternate(bench, targets, half, plan.rounds, warm_seconds=0)
        unique = replace(full, seconds=plan.short, unique_heads=True)
        unique_loads = alternate(bench, targets, unique, plan.few, warm_seconds=0)
    return Part(
        "Throughput: small calls over 64 connections",
        "Two nodes; the metrics page is asked once a second, HAProxy's statistics page likewise. Where a balancer is "
        "not busy above 0.95 the load's core was the limit, and the ratio of CPU per request says more than that of "
        "requests/s.",
        (
            *_full_rows(loads["evmlb"], loads["HAProxy"]),
            *_half_rows(half_loads["evmlb"], half_loads["HAProxy"], half.think_ms),
            compared(
                "a header that differs in each request: CPU",
                unique_loads["evmlb"],
                unique_loads["HAProxy"],
                cpu_us,
                ".1f",
                " us",
            ),
            errors_row(loads["evmlb"] + half_loads["evmlb"], loads["HAProxy"] + half_loads["HAProxy"]),
        ),
    )


def _full_rows(ours: list[Load], theirs: list[Load]) -> list[Row]:
    share = middle(ours, rate) / middle(theirs, rate)
    slow = middle(ours, p99_us) / middle(theirs, p99_us)
    row = compared("requests/s", ours, theirs, rate, ",.0f")
    cpu = compared("CPU per request", ours, theirs, cpu_us, ".1f", " us")
    p99 = compared("p99", ours, theirs, p99_us, ",.0f", " us")
    return [
        replace(row, target=">= 0.7 x HAProxy", verdict=at_least(share, 0.7)),
        replace(cpu, target="<= 25 us", verdict=at_most(middle(ours, cpu_us), 25.0)),
        compared("busy share of its core", ours, theirs, busy, ".2f"),
        compared("p50", ours, theirs, p50_us, ",.0f", " us"),
        replace(p99, target="<= 2 x HAProxy", verdict=at_most(slow, 2.0)),
    ]


def _half_rows(ours: list[Load], theirs: list[Load], think_ms: int) -> list[Row]:
    title = f"half load (a pause of {think_ms} ms): "
    return [
        compared(f"{title}requests/s", ours, theirs, rate, ",.0f"),
        compared(f"{title}p50", ours, theirs, p50_us, ",.0f", " us"),
        compared(f"{title}p99", ours, theirs, p99_us, ",.0f", " us"),
        compared(f"{title}CPU per request", ours, theirs, cpu_us, ".1f", " us"),
    ]


def latency(bench: Bench, plan: Plan) -> Part:
    """What a balancer adds to a node's own latency when there is nothing to wait for."""
    with both(bench) as targets:
        shape = Shape(connections=1, seconds=plan.short)
        loads = alternate(bench, (bench.node, *targets), shape, plan.rounds, warm_seconds=0)
    direct, ours, theirs = loads["nginx"], loads["evmlb"], loads["HAProxy"]
    added, their_added = _added(ours, direct), _added(theirs, direct)
    return Part(
        "Latency: one connection",
        f"The node itself answers in {between(direct, p50_us, '.0f', ' us')}. The targets are about what is added to "
        "that, as the median over rounds of the difference of the two p50; wrk tells whole microseconds.",
        (
            compared("p50 through the balancer", ours, theirs, p50_us, ".0f", " us"),
            Row(
                "added by the balancer",
                f"{added:.0f} us",
                f"{their_added:.0f} us",
                ratio(added, their_added),
                "<= 1.25 x HAProxy",
                at_most(added, 1.25 * their_added),
            ),
            compared("p99 through the balancer", ours, theirs, p99_us, ".0f", " us"),
            errors_row(ours, theirs),
        ),
    )


def _added(loads: list[Load], direct: list[Load]) -> float:
    return median(load.p50_us - alone.p50_us for load, alone in zip(loads, direct, strict=True))


@dataclass(frozen=True, slots=True)
class _Size:
    """Answers of one size, and what they may cost: ``limit`` times HAProxy's CPU; 0: no target."""

    name: str
    title: str
    connections: int
    limit: float


_SIZES = (_Size("1k", "1 kB", 64, 0.0), _Size("100k", "100 kB", 64, 1.6), _Size("10M", "10 MB", 16, 2.0))
STREAMS = 16
STREAM_MIB = 1.0
"""How much memory one large answer under way may take: a few buffers of 256 KiB."""


def sizes(bench: Bench, plan: Plan) -> Part:
    """Answers of 1 kB to 10 MB: CPU each, and memory while large ones stream."""
    rows: list[Row] = []
    ours: list[Load] = []
    theirs: list[Load] = []
    with both(bench) as targets:
        for size in _SIZES:
            loads = alternate(bench, targets, Shape(size.connections, plan.seconds, size.name), plan.few, 0)
            rows.append(_size_row(size, loads["evmlb"], loads["HAProxy"]))
            ours += loads["evmlb"]
            theirs += loads["HAProxy"]
    with both(bench) as (haproxy, evmlb):
        rows.append(_stream_row(_streaming(bench, evmlb, plan), _streaming(bench, haproxy, plan)))
    rows.append(errors_row(ours, theirs))
    return Part(
        "Sizes: CPU per answer",
        f"1 kB and 100 kB over 64 connections, 10 MB over {STREAMS}. Growth is the peak of resident memory minus what "
        "it was before, in fresh processes.",
        tuple(rows),
    )


def _size_row(size: _Size, ours: list[Load], theirs: list[Load]) -> Row:
    row = compared(f"{size.title} answer", ours, theirs, cpu_us, ",.1f", " us")
    if not size.limit:
        return row
    times = middle(ours, cpu_us) / middle(theirs, cpu_us)
    return replace(row, target=f"<= {size.limit:g} x HAProxy", verdict=at_most(times, size.limit))


def _streaming(bench: Bench, target: Target, plan: Plan) -> float:
    """MiB that the process grows by while 10 MB answers stream to clients that read."""
    apply_load(bench, target, Shape(STREAMS, 1))
    before = target.process.memory()
    target.process.forget_peak()
    apply_load(bench, target, Shape(STREAMS, plan.seconds, "10M"))
    return (target.process.peak_memory() - before) / MIB


def _stream_row(grown: float, theirs: float) -> Row:
    limit = STREAMS * STREAM_MIB
    return Row(
        f"growth while {STREAMS} answers of 10 MB stream",
        f"{grown:.1f} MiB",
        f"{theirs:.1f} MiB",
        "",
        f"<= {limit:g} MiB",
        at_most(grown, limit),
    )


_WAYS = {
    "uvloop, its own transports (default)": Setup(),
    "uvloop, a port given as listen: [tcp:...]": Setup(endpoint=True),
    "asyncio, its own transports (--reactor=asyncio)": Setup(reactor="asyncio"),
    "epoll, Twisted's transports (--reactor=epoll)": Setup(reactor="epoll"),
}


def transports(bench: Bench, plan: Plan) -> Part:
    """The same evmlb on other reactors, one after the other in each round."""
    loads: dict[str, list[Load]] = {way: [] for way in _WAYS}
    for _ in range(plan.few):
        for way, setup in _WAYS.items():
            with bench.evmlb(setup) as target:
                loads[way] += alternate(bench, [target], Shape(CONNECTIONS, plan.short), 1)["evmlb"]
    default = middle(next(iter(loads.values())), cpu_us)
    rows = [
        Row(
            way,
            f"{between(rounds, cpu_us, '.1f', ' us')}, {middle(rounds, rate):,.0f} requests/s",
            ratio=ratio(middle(rounds, cpu_us), default),
        )
        for way, rounds in loads.items()
    ]
    every = [load for rounds in loads.values() for load in rounds]
    return Part(
        "Transports: CPU per request on other reactors",
        "The ratio is to the first line.",
        (*rows, errors_row(every)),
    )
