"""Heads to thousands of subscribers, and logs to thousands of filters."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from statistics import median

from load import Load
from parts import PartFailed, Process, Target
from report import Part, Row, at_most, between, ratio
from ws_chain import FILTERS, LOGS, SHAPES, Chain, deliveries, filters
from ws_parts import NODES, Crowd, SocketBench, Upstream, descriptors, waited

from evmlb.policy.logfilter import read_filter, read_logs
from evmlb.policy.logindex import LogIndex

HEAD_SECONDS = 0.25
BESIDE = 1000
"""So many subscribers where HAProxy has as many connections to the nodes."""
EVENT_US, LAST_MS, SUBSCRIBER_KIB, MATCHING_MS = 15.0, 100.0, 25.0, 50.0
_WARM_HEADS = 4
_SETTLE_SECONDS = 1.0
_PATIENCE_SECONDS = 10.0
_CALLING_SECONDS = 4.0


@dataclass(slots=True)
class Fan:
    """What came of pushing heads through a balancer. ``loads``: a round each, its answers are events.

    ``longest_call``: in seconds, of a client that made one call after the other meanwhile.
    ``written`` and ``read``: seconds from each push to when its last event was written to a client, and read there.
    ``alone``: as ``written``, without the time in which the balancer's core did something else.
    """

    process: Process
    kib_each: float = 0.0
    loads: list[Load] = field(default_factory=list)
    longest_call: float = 0.0
    written: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    read: list[float] = field(default_factory=list)
    lost: int = 0
    _came: int = 0

    def push(self, crowd: Crowd, upstream: Upstream, count: int) -> int:
        """Push one head; the events that came of it, when all have come. What did not come is noted as lost."""
        waited_before = waited(self.process)
        number, at = upstream.head()
        came, written, read = crowd.seen(number, count, _PATIENCE_SECONDS)
        if not came:
            raise PartFailed(f"nobody was told of block {number}: {crowd.rest()}")
        self._came += came
        self.lost += abs(count - came)
        self.written.append(written - at)
        self.alone.append(written - at - (waited(self.process) - waited_before))
        self.read.append(read - at)
        return came

    def push_in_step(self, crowd: Crowd, upstream: Upstream, count: int, heads_each: int) -> int:
        """Push heads at their pace; the events that came of them."""
        began, events = time.monotonic(), 0
        for place in range(1, heads_each + 1):
            events += self.push(crowd, upstream, count)
            time.sleep(max(0.0, began + place * HEAD_SECONDS - time.monotonic()))
        return events

    def look_for_faults(self, crowd: Crowd) -> None:
        """At the end: whatever went wrong, or came later than the last event of its block, or again."""
        self.lost += sum(crowd.rest().values()) + abs(crowd.total() - self._came)

    def forget(self) -> None:
        """What was until now was for warming up."""
        self.written.clear()
        self.alone.clear()
        self.read.clear()


def heads(bench: SocketBench, rounds: int, heads_each: int, most: int) -> Part:
    """Heads to 1,000 beside HAProxy, and to as many as shall be served."""
    count, few = min(most, int(descriptors() * 0.3)), min(BESIDE, int(descriptors() * 0.2))
    with ExitStack() as stack:
        upstream = stack.enter_context(bench.upstream())
        with bench.pipe(upstream) as haproxy:
            theirs = _fan_out(bench, haproxy, upstream, few, rounds, heads_each)
        with bench.evmlb_before(upstream) as evmlb:
            upstream.wait_for_subscribers(NODES)
            ours = _fan_out(bench, evmlb, upstream, few, rounds, heads_each)
        with bench.evmlb_before(upstream) as evmlb:
            upstream.wait_for_subscribers(NODES)
            many = _fan_out(bench, evmlb, upstream, count, rounds, heads_each)
    return Part(
        "Fan-out: newHeads, a head each 250 ms",
        "For HAProxy each client has a connection and a subscription of its own at the node, which does the work of "
        "fan-out; evmlb has one at each of two nodes. CPU is all that the process used, polling and the time between "
        "heads included, divided by the events that came. Times are from before the node's first push; what is written "
        "has arrived at the client's socket, as its kernel says in steps of some ms, and the clients, all in one "
        "process, take longer to read. Waiting for the core is what other programs on it caused. The next head comes "
        "when all have read the one before. Memory is counted after heads were delivered; the first fifth of the "
        "clients is left out, as it uses up what was free in the process.",
        (*_beside_rows(ours, theirs, few), *_target_rows(many, count)),
    )


def _beside_rows(ours: Fan, theirs: Fan, count: int) -> list[Row]:
    before = f"{count:,}: "
    return [
        _row(f"{before}CPU per event", _event_us(ours), _event_us(theirs), "us"),
        _row(f"{before}last event written after the push, median", _ms(ours.written), _ms(theirs.written), "ms"),
        _row(f"{before}last event written, slowest head", _worst(ours.written), _worst(theirs.written), "ms"),
        _row(f"{before}the same, without waiting for the core", _worst(ours.alone), _worst(theirs.alone), "ms"),
        _row(f"{before}last event read, median", _ms(ours.read), _ms(theirs.read), "ms"),
        _row(f"{before}resident per subscriber", ours.kib_each, theirs.kib_each, "KiB"),
        Row(f"{before}events lost, twice or out of order", str(ours.lost), str(theirs.lost), "", "0", _none(ours.lost)),
    ]


def _target_rows(fan: Fan, count: int) -> list[Row]:
    before = f"{count:,}: "
    us, slowest = _event_us(fan), _worst(fan.written)
    each = between(fan.loads, lambda load: load.cpu_seconds / load.answers * 1e6, ".1f", " us")
    return [
        Row(f"{before}CPU per event", each, "", "", f"<= {EVENT_US:g} us", at_most(us, EVENT_US)),
        Row(f"{before}last event written after the push, median", f"{_ms(fan.written):.1f} ms"),
        Row(
            f"{before}last event written, slowest head",
            f"{slowest:.1f} ms",
            "",
            "",
            f"<= {LAST_MS:g} ms",
            at_most(slowest, LAST_MS),
        ),
        Row(f"{before}the same, without waiting for the core", f"{_worst(fan.alone):.1f} ms"),
        Row(f"{before}last event read, median", f"{_ms(fan.read):.1f} ms"),
        Row(
            f"{before}resident per subscriber",
            f"{fan.kib_each:.1f} KiB",
            "",
            "",
            f"<= {SUBSCRIBER_KIB:g} KiB",
            at_most(fan.kib_each, SUBSCRIBER_KIB),
        ),
        Row(f"{before}events lost, twice or out of order", str(fan.lost), "", "", "0", _none(fan.lost)),
    ]


def _row(what: str, ours: float, theirs: float, unit: str) -> Row:
    return Row(what, f"{ours:.1f} {unit}", f"{theirs:.1f} {unit}", ratio(ours, theirs))


def _none(count: int) -> str:
    return at_most(count, 0)


def _event_us(fan: Fan) -> float:
    return median(load.cpu_seconds / load.answers for load in fan.loads) * 1e6


def _ms(seconds: Sequence[float]) -> float:
    return median(seconds) * 1000


def _worst(seconds: Sequence[float]) -> float:
    return max(seconds) * 1000


def _fan_out(bench: SocketBench, target: Target, upstream: Upstream, count: int, rounds: int, heads_each: int) -> Fan:
    fan, first = Fan(target.process), count // 5
    with bench.crowd(target) as crowd:
        crowd.subscribe(f"more {first}", first)
        fan.push_in_step(crowd, upstream, first, _WARM_HEADS)
        time.sleep(_SETTLE_SECONDS)
        before = target.process.memory()
        crowd.subscribe(f"more {count - first}", count)
        fan.push_in_step(crowd, upstream, count, _WARM_HEADS)
        time.sleep(_SETTLE_SECONDS)
        fan.kib_each = (target.process.memory() - before) / (count - first) / 1024
        fan.forget()
        for _ in range(rounds):
            began, cpu = time.monotonic(), target.process.cpu_seconds()
            events = fan.push_in_step(crowd, upstream, count, heads_each)
            seconds = time.monotonic() - began
            fan.loads.append(Load(seconds, events, 0.0, 0.0, 0, target.process.cpu_seconds() - cpu))
        fan.look_for_faults(crowd)
        target.process.check()
    return fan


def logs(bench: SocketBench, rounds: int) -> Part:
    """2,000 filters against blocks of 1,000 logs, through evmlb and in memory."""
    rows = [row for shape in SHAPES for row in _log_rows(bench, shape, rounds)]
    return Part(
        f"Log filters: {FILTERS:,} distinct ones, blocks of {LOGS:,} logs",
        "Times are from before the node's push of the head, as above: evmlb asks the node "
        "for the block's logs meanwhile, an answer of 0.6 MB, whose senders and receivers are new each time. The "
        "call is a lone client's, which makes one after the other while such blocks come. Matching "
        "alone is measured in memory, in another process.",
        tuple(rows),
    )


def _log_rows(bench: SocketBench, shape: str, rounds: int) -> list[Row]:
    fan, cpu, lost = _told(bench, shape, rounds)
    reading, matching = _in_memory(shape)
    before = f"{deliveries(shape):,} deliveries a block: "
    return [
        Row(f"{before}last log written after the head, median", f"{median(fan.written) * 1000:.0f} ms"),
        Row(f"{before}the same, without waiting for the core", f"{median(fan.alone) * 1000:.0f} ms"),
        Row(f"{before}last log read, median", f"{median(fan.read) * 1000:.0f} ms"),
        Row(f"{before}CPU per block", f"{cpu * 1000:.1f} ms"),
        Row(f"{before}longest wait of a call meanwhile", f"{fan.longest_call * 1000:.0f} ms"),
        Row(f"{before}reading the logs alone", f"{reading * 1000:.1f} ms"),
        Row(
            f"{before}matching alone",
            f"{matching * 1000:.1f} ms",
            "",
            "",
            f"<= {MATCHING_MS:g} ms",
            at_most(matching * 1000, MATCHING_MS),
        ),
        Row(f"{before}logs lost, twice or out of order", str(lost), "", "", "0", _none(lost)),
    ]


def _told(bench: SocketBench, shape: str, rounds: int) -> tuple[Fan, float, int]:
    """When the last logs came, CPU seconds per block, and what was lost."""
    count = deliveries(shape)
    blocks, more = max(3, 2 * rounds), int(_CALLING_SECONDS / 2 / HEAD_SECONDS)
    with ExitStack() as stack:
        upstream = stack.enter_context(bench.upstream(shape))
        upstream.prepare(1 + blocks + more)
        evmlb = stack.enter_context(bench.evmlb_before(upstream))
        upstream.wait_for_subscribers(NODES)
        fan = Fan(evmlb.process)
        crowd = stack.enter_context(bench.crowd(evmlb))
        crowd.subscribe(f"logs {shape}", FILTERS)
        time.sleep(_SETTLE_SECONDS)
        fan.push_in_step(crowd, upstream, count, 1)
        fan.forget()
        before = evmlb.process.cpu_seconds()
        fan.push_in_step(crowd, upstream, count, blocks)
        cpu = (evmlb.process.cpu_seconds() - before) / blocks
        timed = replace(
            fan, written=fan.written[:], alone=fan.alone[:], read=fan.read[:]
        )  # what comes now is held up by calls
        with bench.caller(evmlb, _CALLING_SECONDS) as caller:
            fan.push_in_step(crowd, upstream, count, more)
            timed.longest_call = json.loads(caller.hear())["longest_us"] / 1e6
        fan.look_for_faults(crowd)
        return timed, cpu, fan.lost


def _in_memory(shape: str) -> tuple[float, float]:
    """Seconds for reading one block's logs, and for finding who wants them: of both the best of some."""
    index: LogIndex[int] = LogIndex()
    for key, value in enumerate(filters(shape)):
        index.add(read_filter(value), key)
    chain = Chain(shape)
    reading = matching = 1e9
    for _ in range(5):
        raw = chain.logs(chain.advance()["hash"])
        began = time.perf_counter()
        found = read_logs(raw)
        read = time.perf_counter()
        assert found is not None
        told = sum(len(each.keys) * len(each.logs) for each in index.find(found))
        matching = min(matching, time.perf_counter() - read)
        reading = min(reading, read - began)
        if told != deliveries(shape):
            raise PartFailed(f"{told} deliveries in memory instead of {deliveries(shape)}")
    return reading, matching
