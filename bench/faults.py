"""``make bench-faults``: what clients see while one of two nodes misbehaves. README.md in this folder says how.

    make bench-faults ARGS="--quick"                shorter, a first impression
    make bench-faults ARGS="--only hangs,killed"    some columns
    make bench-faults ARGS="--layout local"         one arrangement of nodes
    make bench-faults ARGS="--write"                all of it, written to bench/FAULTS.md

Ends with 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from chain import CALL, LOGS, TRACE, USUAL_SECONDS
from fault_parts import Child, Node, Scene, asked_and_rest
from fault_table import WAIT_SECONDS, Column, Figures, Run, Table, as_markdown, as_text, demanding, figures_of
from parts import HERE, ROOT, PartFailed

CLIENTS = 8
COLUMNS = {
    column.name: column
    for column in (
        Column("killed", "killed", "killed, started again"),
        Column("http-500", "http-500", "HTTP 500"),
        Column("http-429", "http-429", "HTTP 429"),
        Column("http-503", "http-503", "HTTP 503, Retry-After: 2"),
        Column("hangs", "hangs", "hangs: takes requests, never answers"),
        Column("stopped", "stopped", "stands still (SIGSTOP)"),
        Column("slow", "slow", "slow: 2 s per answer"),
        Column("rpc-32603", "rpc-32603", "JSON-RPC -32603"),
        Column("header-not-found", "header-not-found", "JSON-RPC -32000 header not found"),
        Column("html", "html", "200 with HTML"),
        Column("truncated", "truncated", "answers cut short"),
        Column("reset", "reset", "connection reset after the request"),
        Column("garbage", "garbage", "garbage instead of HTTP"),
        Column("behind", "behind", "100 blocks behind"),
        Column("hangs-on-calls", "hangs-on-calls", "hangs, but for polls"),
        Column("unsafe-killed", "killed", "killed; unsafe calls", "unsafe"),
        Column("unsafe-reset", "reset", "reset after the request; unsafe calls", "unsafe"),
        *(
            Column(
                f"{ask}-{fault}", fault, f"{what}; {title}", ask, 3 * USUAL_SECONDS.get(method, 0.0) if slack else 0.0
            )
            for ask, title, method, slack in (
                ("call", "eth_call", CALL, False),
                ("logs", "eth_getLogs", LOGS, True),
                ("trace", "traces", TRACE, True),
                ("batch", "batches of five", "", False),
                ("websocket", "reads over WebSocket", "", False),
                ("raw", "raw transactions", "", False),
            )
            for fault, what in (
                ("killed", "killed, started again"),
                ("hangs", "hangs"),
                ("hangs-on-calls", "hangs, but for polls"),
                ("slow", "2 s more per answer"),
                ("rpc-32603", "JSON-RPC -32603"),
            )
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Layout:
    """An arrangement: the roles of the nodes, and the longest wait that is demanded.

    No limit: nothing is demanded. ``direct``: without a balancer, the clients ask the faulty node itself.
    """

    roles: tuple[str, ...]
    title: str
    note: str
    limit: float | None = WAIT_SECONDS
    direct: bool = False


LAYOUTS = {
    "local": Layout(
        ("local", "local"),
        "Two local nodes",
        "The fault befalls the node that evmlb asks first.",
    ),
    "fallback": Layout(
        ("local", "fallback"),
        "A local node and a fallback node",
        "The fault befalls the local node. No fallback node is paid for because a local one is slow "
        "(`hedge.across_tiers: false`), but for one that is silent on several requests at a time.",
    ),
    "direct": Layout(
        ("local",),
        "Without a balancer",
        "The clients ask the faulty node itself: what the faults do to them, and that the harness sees it.",
        limit=None,
        direct=True,
    ),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Seconds before, during and after the fault."""

    before: float = 2.0
    fault: float = 3.0
    after: float = 2.0

    @property
    def seconds(self) -> float:
        return self.before + self.fault + self.after


QUICK = Plan(1.0, 2.0, 1.0)
MOST_SECONDS_OF_A_COLUMN = 60
CLIENT_SECONDS = 30.0
"""The clients get so long to come to their end, above the plan."""
RESULTS = HERE / "FAULTS.md"


def main(arguments: Sequence[str]) -> int:
    """0: all met; 1: something was missed; 2: something could not be measured."""
    options = _options(arguments)
    end_in_time(MOST_SECONDS_OF_A_COLUMN * len(options.only) * len(options.layout))
    began = time.monotonic()
    tables = []
    try:
        for name in options.layout:
            tables.append(_table(LAYOUTS[name], options))
            print(as_text(tables[-1]))
    except PartFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    minutes = (time.monotonic() - began) / 60
    if options.write:
        RESULTS.write_text(as_markdown(tables, " ".join(arguments), minutes, options.tree))
    return 1 if any(line.met is False for table in tables for line in table.lines) else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/faults.py", description="What clients see while a node misbehaves.")
    parser.add_argument("--quick", action="store_true", help="shorter")
    parser.add_argument("--only", default="", help=f"some of {','.join(COLUMNS)}")
    parser.add_argument("--layout", default="", help=f"some of {','.join(LAYOUTS)}; with --write all of them")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout whose evmlb is measured; default: this")
    parser.add_argument("--write", action="store_true", help="write bench/FAULTS.md")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",") if options.only else list(COLUMNS)
    usual = [name for name in LAYOUTS if options.write or not LAYOUTS[name].direct]
    options.layout = options.layout.split(",") if options.layout else usual
    for given, known in ((options.only, COLUMNS), (options.layout, LAYOUTS)):
        unknown = [name for name in given if name not in known]
        if unknown:
            parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
    if options.write and options.tree != ROOT:
        parser.error("what is written here is about the evmlb of this checkout: leave out --tree or --write")
    options.tree = options.tree.resolve()
    options.plan = QUICK if options.quick else Plan()
    return options


def _table(layout: Layout, options: argparse.Namespace) -> Table:
    lines = []
    for name in options.only:
        column = COLUMNS[name]
        print(f"{layout.title}: {column.what} ...", file=sys.stderr, flush=True)
        lines.append(demanding(_figures(column, layout, options.plan, options.tree), layout.limit))
    return Table(layout.title, layout.note, tuple(lines))


def _figures(column: Column, layout: Layout, plan: Plan, tree: Path) -> Figures:
    with Scene(tree, layout.roles) as scene:
        return figures_of(column, _run(scene, column, layout, plan))


def _run(scene: Scene, column: Column, layout: Layout, plan: Plan) -> Run:
    """Healthy, faulty, healthy again, with clients all the time."""
    client = _start_clients(scene, column, layout, plan)
    client.hear()
    time.sleep(plan.before)
    node = scene.preferred()
    began = time.monotonic()
    node.become(column.fault)
    struck = time.monotonic()
    time.sleep(plan.fault)
    node.recover(column.fault)
    asked, rest = asked_and_rest(client.read_all(plan.seconds + CLIENT_SECONDS))
    received = Counter(marker for each in scene.nodes for marker in each.markers())
    seen = _seen(node, column)
    if layout.direct:
        seen = seen or None  # the clients have no other to ask, and a silent one may count nothing
    return Run(asked, began, struck, received, seen, scene.balancer.tracebacks(), rest["stall"])


def _start_clients(scene: Scene, column: Column, layout: Layout, plan: Plan) -> Child:
    first = scene.nodes[0]
    address, port = (first.address, first.port) if layout.direct else ("127.0.0.1", scene.balancer.port)
    how = ["--clients", str(CLIENTS), "--seconds", str(plan.seconds), "--ask", column.ask]
    return scene.client("fault_client.py", address, str(port), *how)


def _seen(node: Node, column: Column) -> int | None:
    """How many requests of clients the node got while it was faulty; of a process that does not run nobody can know."""
    if column.fault in ("killed", "stopped"):
        return None
    seen: int = node.tally()["received"].get(column.fault, 0)
    return seen


def end_in_time(seconds: int) -> None:
    """Whatever ends this early, also ends what it started."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(f"bench: ended by {signal.Signals(number).name}")

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, end)
    signal.alarm(seconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
