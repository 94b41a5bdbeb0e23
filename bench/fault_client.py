"""The clients of the fault benchmark: each asks one question after the other over a connection that it keeps.

Writes "ready" when it begins; at its end a line of JSON per request, in the order in which they ended, and a last one
with the longest time for which this process itself was held up: a wait below that is nobody else's doing.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time

import uvloop
from asking import FAILED, KINDS, RECONNECT_SECONDS, Ask, Asked, Client, WebSocketClient, asker

_TICK_SECONDS = 0.01


async def _ask_on(client: Client, ask: Ask, until: float, asked: list[Asked]) -> None:
    while time.monotonic() < until:
        one = await client.ask(ask())
        asked.append(one)
        if one.outcome == FAILED and not one.status:
            await asyncio.sleep(
                RECONNECT_SECONDS
            )  # where nobody listens, the clients would count how fast they can ask
    client.close()


async def _longest_stall() -> float:
    """Until cancelled: the longest time by which a tick came late."""
    longest = 0.0
    try:
        while True:
            due = time.monotonic() + _TICK_SECONDS
            await asyncio.sleep(_TICK_SECONDS)
            longest = max(longest, time.monotonic() - due)
    except asyncio.CancelledError:
        return longest


async def _run(options: argparse.Namespace) -> tuple[list[Asked], float]:
    asked: list[Asked] = []
    print("ready", flush=True)
    until = time.monotonic() + options.seconds
    stall = asyncio.create_task(_longest_stall())
    client, kind = (WebSocketClient, "read") if options.ask == "websocket" else (Client, options.ask)
    clients = (
        _ask_on(client(options.port, options.address), asker(number, kind), until, asked)
        for number in range(options.clients)
    )
    await asyncio.gather(*clients)
    stall.cancel()
    return asked, await stall


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/fault_client.py", description="Clients that ask one by one.")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=7.0)
    parser.add_argument("--ask", default="read", choices=(*KINDS, "batch", "mix", "websocket"), help="what is asked")
    options = parser.parse_args()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        asked, stall = runner.run(_run(options))
    for one in asked:
        sys.stdout.write(json.dumps(one) + "\n")
    sys.stdout.write(json.dumps({"stall": stall}) + "\n")


if __name__ == "__main__":
    main()
