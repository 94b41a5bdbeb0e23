"""What compressing answers costs, and what it does to others meanwhile: ``python bench/gzip_micro.py``.

The answers are like those to eth_getLogs: transfers of one token, 150 a block. The time is that of the thread that
compresses, best of several runs, so that other programs on the machine matter little. How late the loop is meanwhile is
told by a timer of a millisecond, on the loop that evmlb runs on; there other programs do matter, so the row without
any work stands beside it.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evmlb.config.schema import GzipConfig
from evmlb.front.packing import Packing, compressed
from evmlb.policy.shares import Shares
from evmlb.stats import FrontStats
from evmlb.wire.threads import Threads

SIZES = (16_000, 32_000, 100_000, 1_000_000, 10_000_000)
LEVELS = (1, 4, 6, 9)
SECONDS = 4.0
TICK_SECONDS = 0.001
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


def main() -> None:
    """Print both tables."""
    print(f"{'bytes':>12}{'level':>7}{'times smaller':>15}{'CPU ms':>9}")
    for size in SIZES:
        body = logs(size)
        for level in LEVELS:
            packed = sum(map(len, compressed([body], level)))
            print(f"{size:12,}{level:7}{len(body) / packed:15.2f}{_milliseconds(body, level):9.2f}")
    print(f"\n{'lateness of the loop, ms':32}{'p50':>8}{'p99':>8}{'most':>8}{'MB/s':>8}")
    for size in SIZES[2:]:
        body = logs(size)
        for name, threads in (("nothing to do", None), ("in threads", 2), ("in the loop", 0)):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                late, rate = runner.run(_lateness(body, threads))
            figures = (late[len(late) // 2], late[len(late) * 99 // 100], late[-1])
            print(f"{size:12,} {name:19}" + "".join(f"{1000 * figure:8.2f}" for figure in figures) + f"{rate:8.0f}")


def logs(size: int) -> bytes:
    """An answer of about so many bytes."""
    rng = random.Random(1)
    found: list[dict[str, object]] = []
    while len(found) * 560 < size:
        found.append(_log(rng, len(found)))
    return b'{"jsonrpc":"2.0","id":1,"result":%b}' % orjson.dumps(found)


def _log(rng: random.Random, place: int) -> dict[str, object]:
    block, index = divmod(place, 150)
    return {
        "address": "0xdac17f958d2ee523a2206206994597c13d831ec7",
        "topics": [TRANSFER, *(f"0x{rng.getrandbits(160):064x}" for _ in range(2))],
        "data": f"0x{rng.getrandbits(64):064x}",
        "blockNumber": hex(19_000_000 + block),
        "transactionHash": f"0x{rng.getrandbits(256):064x}",
        "transactionIndex": hex(index // 2),
        "blockHash": f"0x{random.Random(block).getrandbits(256):064x}",
        "logIndex": hex(index),
        "removed": False,
    }


def _milliseconds(body: bytes, level: int) -> float:
    times = []
    for _ in range(3 if len(body) > 2_000_000 else 15):
        start = time.thread_time()
        compressed([body], level)
        times.append(time.thread_time() - start)
    return min(times) * 1000


class Loop:
    """As much of a reactor as threads need."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def callFromThread(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(partial(function, *arguments))


async def _lateness(body: bytes, threads: int | None) -> tuple[list[float], float]:
    """How late each tick was, sorted; and MB/s compressed. ``threads`` None: nothing is, 0: the loop does it."""
    pool = Threads(Loop(), threads or 1, "bench")
    pool.start()
    stats = FrontStats()
    packing = Packing(GzipConfig(enabled=True), Shares(2**30), stats, pool)
    until = time.monotonic() + SECONDS
    late: list[float] = []
    waiting = 0

    def done(_: object) -> None:
        nonlocal waiting
        waiting -= 1

    while (now := time.monotonic()) < until:
        if threads == 0:
            stats.gzip_bytes_in += len(body) if compressed([body], packing.level) else 0
        is_taken = True
        while threads and waiting < 2 * threads and is_taken:
            waiting += 1
            is_taken = packing.pack("client", [body], done) is not None  # else too much waits already
        await asyncio.sleep(TICK_SECONDS)
        late.append(max(0.0, time.monotonic() - now - TICK_SECONDS))
    pool.stop()
    return sorted(late), stats.gzip_bytes_in / SECONDS / 1e6


if __name__ == "__main__":
    main()
