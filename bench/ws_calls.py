"""Calls over WebSocket: connections that send the next call when the answer came. A process of its own, one per round.

It writes ``begin`` when it begins, and at the end a line of JSON: ``seconds``, ``answers``, ``errors`` (answers that
are not the right one, and connections that were lost), and p50, p99 and the longest round trip in microseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from array import array
from typing import Any

import uvloop
from ws_wire import Client, frame, masked

ANSWER = b'{"jsonrpc":"2.0","id":1,"result":"0x1234567"}'
_ANSWER_FRAME = frame(ANSWER)
_CALLS = 4096
"""So many calls there are, each with parameters of its own."""
_OPEN_SECONDS = 10.0


class Counts:
    """What the connections share."""

    def __init__(self) -> None:
        rng = random.Random(1)
        self.calls = [masked(_call(rng)) for _ in range(_CALLS)]
        self.times = array("d")  # of round trips, in seconds
        self.opened = 0
        self.errors = 0
        self.is_over = False


def _call(rng: random.Random) -> bytes:
    account = f"0x{rng.getrandbits(160):040x}"
    return b'{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["%b","latest"]}' % account.encode()


class Caller(Client):
    """One connection."""

    def __init__(self, path: str, counts: Counts, place: int) -> None:
        super().__init__(path)
        self._counts = counts
        self._next = place * 61
        self._sent_at = 0.0
        self._is_open = False

    def opened(self) -> None:
        self._is_open = True
        self._counts.opened += 1

    def ask(self) -> None:
        """Send the next call."""
        self._next = (self._next + 1) % _CALLS
        self._sent_at = time.perf_counter()
        self.transport.write(self._counts.calls[self._next])

    def data_received(self, data: bytes) -> None:
        if self._is_open and data == _ANSWER_FRAME:
            self._answered()
        else:
            super().data_received(data)

    def message(self, text: bytes) -> None:
        if text != ANSWER:
            self._counts.errors += 1
        self._answered()

    def _answered(self) -> None:
        counts = self._counts
        if not counts.is_over:
            counts.times.append(time.perf_counter() - self._sent_at)
            self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._counts.errors += not self._counts.is_over


async def _run(options: argparse.Namespace) -> dict[str, Any]:
    counts = Counts()
    loop = asyncio.get_running_loop()
    callers = []
    for place in range(options.connections):
        _, caller = await loop.create_connection(
            lambda place=place: Caller(options.path, counts, place),  # type: ignore[misc]
            "127.0.0.1",
            options.port,
        )
        callers.append(caller)
    until = time.monotonic() + _OPEN_SECONDS
    while counts.opened < options.connections and time.monotonic() < until:
        await asyncio.sleep(0.01)
    if counts.opened < options.connections:
        raise SystemExit(f"{counts.opened} of {options.connections} connections were opened")
    print("begin", flush=True)
    began = time.perf_counter()
    for caller in callers:
        caller.ask()
    await asyncio.sleep(options.seconds)
    counts.is_over = True
    seconds = time.perf_counter() - began
    times = sorted(counts.times)
    for caller in callers:
        caller.transport.close()
    return {
        "seconds": seconds,
        "answers": len(times),
        "errors": counts.errors,
        "p50_us": times[len(times) // 2] * 1e6 if times else 0.0,
        "p99_us": times[len(times) * 99 // 100] * 1e6 if times else 0.0,
        "longest_us": times[-1] * 1e6 if times else 0.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/ws_calls.py", description="Calls over WebSocket.")
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=4.0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(_run(parser.parse_args()))), flush=True)


if __name__ == "__main__":
    main()
