"""``make bench-overload``: what is served when three times as much is asked as the nodes can do.

Two nodes, each with ``max_concurrency: 8`` and 20 ms per request. What they can do is measured first, by eight clients
at each of them without a balancer. Then requests come in at three times that rate, whether earlier ones were answered
or not. README.md in this folder says more. Ends with 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asking import Asked
from chain import GOOD
from fault_parts import Node, Scene, asked_and_rest
from fault_table import text_rows
from faults import end_in_time
from parts import ROOT, PartFailed
from report import at_least, at_most

CONCURRENCY = 8
SERVICE_MS = 20.0
TIMES = 3.0
WARM_SECONDS = 6.0
"""Longer than ``queue_timeout``: only then is a queue as long as it gets."""
P99_SECONDS = 1.0
"""Twice the tenth of ``queue_timeout`` that may be waited in a queue that stays."""
TITLES = ("what", "measured", "target", "")
_MOST_SECONDS = 120
_REST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Overload:
    """What happened in the time that counts. Rates are per second; ``asked`` were sent in that time."""

    capacity: float
    seconds: float
    asked: Sequence[Asked]
    served_rate: float
    cpu_share: float
    most_busy: int
    not_sent: int


def main(arguments: Sequence[str]) -> int:
    """0: all met; 1: something was missed; 2: it could not be measured."""
    parser = argparse.ArgumentParser(prog="bench/overload.py", description="Three times what the nodes can do.")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout whose evmlb is measured; default: this")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long it is measured")
    options = parser.parse_args(arguments)
    end_in_time(_MOST_SECONDS + int(options.seconds))
    more = f"        max_concurrency: {CONCURRENCY}\n"
    try:
        with Scene(options.tree.resolve(), ("local", "local"), latency_ms=SERVICE_MS, more=more) as scene:
            rows = _rows(_measured(scene, options.seconds))
    except PartFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print("\n".join(text_rows([TITLES, *rows])))
    return 1 if any(row[-1] == "missed" for row in rows) else 0


def _measured(scene: Scene, seconds: float) -> Overload:
    capacity = _capacity(scene, scene.nodes, 3.0)
    rate = TIMES * capacity
    where = ["127.0.0.1", str(scene.balancer.port)]
    client = scene.client(
        "overload_client.py", *where, "--rate", f"{rate:.1f}", "--seconds", str(WARM_SECONDS + seconds)
    )
    client.hear()
    time.sleep(WARM_SECONDS)
    process = scene.balancer.child
    began, cpu = time.monotonic(), process.cpu_seconds()
    time.sleep(seconds)
    ended, cpu = time.monotonic(), process.cpu_seconds() - cpu
    asked, rest = asked_and_rest(client.read_all(_REST_SECONDS))
    process.check()
    served = sum(one.outcome == GOOD and began <= one.ended < ended for one in asked)
    return Overload(
        capacity,
        ended - began,
        [one for one in asked if began <= one.sent < ended],
        served / (ended - began),
        cpu / (ended - began),
        max(node.tally()["most_busy"] for node in scene.nodes),
        int(rest["not_sent"]),
    )


def _capacity(scene: Scene, nodes: Sequence[Node], seconds: float) -> float:
    """What all nodes together answer per second when each is always asked as much at one time as it may be."""
    how = ("--clients", str(CONCURRENCY), "--seconds", str(seconds))
    clients = [scene.client("fault_client.py", node.address, str(node.port), *how) for node in nodes]
    for client in clients:
        client.hear()
    answered = [len(asked_and_rest(client.read_all(seconds + _REST_SECONDS))[0]) for client in clients]
    return sum(answered) / seconds


def _rows(seen: Overload) -> list[tuple[str, str, str, str]]:
    served = sorted(one.seconds for one in seen.asked if one.outcome == GOOD)
    if not served:
        raise PartFailed("nothing was served")
    p99 = served[len(served) * 99 // 100]
    shed = [one for one in seen.asked if one.status == 503]
    silent = sum(not one.retry_after for one in shed)
    other = len(seen.asked) - len(served) - len(shed)
    slowest = max((one.seconds for one in shed), default=0.0)
    share = seen.served_rate / seen.capacity
    offered = len(seen.asked) / seen.seconds
    return [
        ("capacity, measured at the nodes", f"{seen.capacity:.0f}/s", "", ""),
        ("asked", f"{offered:.0f}/s", "", ""),
        ("served", f"{seen.served_rate:.0f}/s, {share:.0%} of capacity", "90 %", at_least(share, 0.9)),
        ("p50 of what is served", f"{served[len(served) // 2] * 1000:.0f} ms", "", ""),
        ("p99 of what is served", f"{p99 * 1000:.0f} ms", f"{P99_SECONDS * 1000:.0f} ms", at_most(p99, P99_SECONDS)),
        ("shed with 503", f"{len(shed)}, {len(shed) / len(seen.asked):.0%} of the requests", "", ""),
        ("of those without Retry-After", str(silent), "0", at_most(silent, 0)),
        ("longest wait for a 503", f"{slowest * 1000:.0f} ms", "", ""),
        ("wrong or failed otherwise", str(other), "0", at_most(other, 0)),
        ("not sent, too many waited", str(seen.not_sent), "0", at_most(seen.not_sent, 0)),
        ("most under way at a node", str(seen.most_busy), str(CONCURRENCY), at_most(seen.most_busy, CONCURRENCY)),
        ("evmlb's share of a core", f"{seen.cpu_share:.0%}", "50 %", at_most(seen.cpu_share, 0.5)),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
