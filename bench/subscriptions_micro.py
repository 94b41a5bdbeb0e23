"""What the maker of subscriptions costs by itself: ``python bench/subscriptions_micro.py``.

In memory, on one core, without sockets: the subscribers only count. The node's answers, and all JSON, are in it. What
writing to a socket costs beside it is in ``bench/websocket_micro.py``, the whole over real connections in
``bench/run.py``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evmlb.policy.bloom import bloom_of
from tests.subscribing.chain import ADDRESSES, Block
from tests.subscribing.world import World

REPEATS = 5
SUBSCRIBERS = 5000
FILTERS = 2000
LOGS = 1000


class Counting:
    """A subscriber that counts what it is told."""

    max_subscriptions = 10**6
    queued_bytes = 0
    is_open = True

    def __init__(self) -> None:
        self.subscriptions = self.told = 0

    def reply(self, call_id: bytes, result: bytes) -> None:
        pass

    def refuse(self, call_id: bytes, code: int, message: str) -> None:
        raise AssertionError(message)

    def notify(self, prefix: bytes, subscription_id: bytes, suffix: bytes) -> None:
        self.told += 1

    def close(self, code: int, reason: str) -> None:
        raise AssertionError(reason)


def main() -> None:
    """Print the table."""
    world, clients = heads_world()
    seconds = best(lambda: tell_head(world))
    assert clients[0].told == REPEATS
    print(f"newHeads to {SUBSCRIBERS} subscribers: {seconds * 1e6 / SUBSCRIBERS:.2f} us each, {seconds * 1e3:.1f} ms")
    for title, each in (("each log for one of them", 1), ("each log for 20 of them", 20)):
        world, counting = logs_world(each)
        seconds = best(lambda w=world, n=each: tell_logs(w, n))  # type: ignore[misc]
        assert counting.told == REPEATS * LOGS * each, counting.told
        print(f"{FILTERS} filters, a block with {LOGS} logs, {title}: {seconds * 1e3:.1f} ms")


def heads_world() -> tuple[World, list[Counting]]:
    """A hub with subscribers to heads."""
    world = World("a")
    clients = [Counting() for _ in range(SUBSCRIBERS)]
    for client in clients:
        world.call(client, "newHeads")  # type: ignore[arg-type]
    return world, clients


def tell_head(world: World) -> None:
    """One head, pushed by a node, to all."""
    world.chain.mine()
    world.clock.advance(1)
    world.all_see()
    world.settle()


def logs_world(each: int) -> tuple[World, Counting]:
    """A hub with subscriptions for many filters, all distinct: holders of a token, ``each`` filters for each holder."""
    world = World("a")
    client = Counting()
    for n in range(FILTERS):
        wanted = {"topics": [[TRANSFER, topic(2 * 10**6 + n)], topic(n // each)]}
        world.call(client, "logs", wanted)  # type: ignore[arg-type]
    return world, client


def topic(n: int) -> str:
    """One topic of many."""
    return "0x" + f"{n + 1:064x}"


TRANSFER = topic(10**6)


def tell_logs(world: World, each: int) -> None:
    """A block with many logs."""
    block = world.chain.mine()
    fill(block, [topic(n % (FILTERS // each)) for n in range(LOGS)])
    world["a"].spoil = lambda method, params, result: block.logs if method == "eth_getLogs" else result
    world.clock.advance(1)
    world.all_see()
    world.settle()


def fill(block: Block, holders: list[str]) -> None:
    """Give a block logs of a token, one for each holder, and their bloom."""
    template = {"address": ADDRESSES[0], "data": "0x" + "00" * 32, "blockNumber": hex(block.number)}
    block.logs = [
        template | {"topics": [TRANSFER, holder], "blockHash": block.hash, "logIndex": hex(n), "removed": False}
        for n, holder in enumerate(holders)
    ]
    items = {bytes.fromhex(item[2:]) for item in (ADDRESSES[0], TRANSFER, *holders)}
    block.value["logsBloom"] = "0x" + bloom_of(items).hex()


def best(work: Callable[[], None]) -> float:
    """The seconds of the fastest run."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    main()
