"""``make bench-hedges``: what hedging costs while all nodes are well.

Two nodes answer a mix of calls as a provider's clients ask them (``asking.MIX``), each call in its own time: the
logarithm of it is normal, so that some take several times as long as usual. Counted are the requests that evmlb sent
to a second node because an answer took long; 2 % are allowed. Fault and cost are two sides of one setting: `make
bench-faults` shows what it buys.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fault_parts import Scene, asked_and_rest
from fault_table import text_rows
from faults import end_in_time
from parts import ROOT, PartFailed
from report import MET, MISSED

CLIENTS = 8
ALLOWED_PERCENT = 2.0


def main() -> int:
    """0: within the limit; 1: above it, or a request failed; 2: it could not be measured."""
    parser = argparse.ArgumentParser(prog="bench/hedges.py", description="What hedging costs while all nodes are well.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--spread", type=float, default=0.7, help="of what answers take (sigma of the logarithm)")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout whose evmlb is measured; default: this")
    options = parser.parse_args()
    end_in_time(int(options.seconds) + 60)
    try:
        return _measure(options.tree.resolve(), options.seconds, options.spread)
    except PartFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def _measure(tree: Path, seconds: float, spread: float) -> int:
    with Scene(tree, ("local", "local"), spread=spread) as scene:
        how = ["--clients", str(CLIENTS), "--seconds", str(seconds), "--ask", "mix"]
        client = scene.client("fault_client.py", "127.0.0.1", str(scene.balancer.port), *how)
        client.hear()
        asked, _ = asked_and_rest(client.read_all(seconds + 30))
        hedges, won = scene.balancer.total("evmlb_hedges_total"), scene.balancer.total("evmlb_hedges_won_total")
    bad = [one for one in asked if one.outcome != "good"]
    percent = 100 * hedges / len(asked)
    met = percent <= ALLOWED_PERCENT and not bad
    rows = [
        ("requests", str(len(asked))),
        ("not answered well", str(len(bad))),
        ("sent to a second node", f"{hedges:.0f}, {percent:.2f} % (at most {ALLOWED_PERCENT:g} %)"),
        ("of these the second was first", f"{won:.0f}"),
        ("", MET if met else MISSED),
    ]
    print("\n".join(["What hedging costs while all nodes are well", *text_rows(rows)]))
    for one in bad[:5]:
        print(f"  {one.words}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
