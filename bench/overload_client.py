"""The clients of the overload benchmark: they do not wait for each other, as the clients of the world do not.

Requests are sent at random moments (a Poisson process) at a given mean rate, however many are still unanswered: each
takes a connection that is idle, or a new one. Only when as many as allowed are waiting is a request not sent; those are
counted. Writes "ready" when it begins, and at its end what :mod:`fault_client` writes, with ``not_sent`` in the last
line.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import resource
import sys
import time

import uvloop
from asking import FAILED, Ask, Asked, Client, asker

MOST_WAITING = 4000
_DESCRIPTORS = 8192


class Crowd:
    """All clients together."""

    def __init__(self, address: str, port: int, ask: Ask) -> None:
        self._address = address
        self._port = port
        self._ask = ask
        self._idle: list[Client] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self.asked: list[Asked] = []
        self.not_sent = 0

    def send(self) -> None:
        """Send one, whoever else waits."""
        if len(self._under_way) >= MOST_WAITING:
            self.not_sent += 1
            return
        client = self._idle.pop() if self._idle else Client(self._port, self._address)
        task = asyncio.create_task(self._ask_on(client))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _ask_on(self, client: Client) -> None:
        one = await client.ask(self._ask())
        self.asked.append(one)
        if one.outcome == FAILED and not one.status:
            client.close()
        self._idle.append(client)

    async def finish(self) -> None:
        """Wait for those who wait."""
        await asyncio.gather(*self._under_way)
        for client in self._idle:
            client.close()


async def _run(options: argparse.Namespace) -> Crowd:
    crowd = Crowd(options.address, options.port, asker(0, "read"))
    rng = random.Random(1)
    print("ready", flush=True)
    due = time.monotonic()
    until = due + options.seconds
    while due < until:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        crowd.send()
        due += rng.expovariate(options.rate)
    await crowd.finish()
    return crowd


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/overload_client.py", description="Clients that ask at a given rate.")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=float, required=True, help="requests per second")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, _DESCRIPTORS), hard))
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        crowd = runner.run(_run(options))
    for one in crowd.asked:
        sys.stdout.write(json.dumps(one) + "\n")
    sys.stdout.write(json.dumps({"not_sent": crowd.not_sent}) + "\n")


if __name__ == "__main__":
    main()
