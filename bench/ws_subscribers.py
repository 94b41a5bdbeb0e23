"""Clients that are subscribed: thousands of connections in a process of its own, told by lines.

    more N             connect so many more, each subscribed to newHeads
    logs SHAPE         subscribe to the logs of a shape's filters, ten on each of 200 connections
    seen NUMBER N S    wait until N events of this block have come, S seconds at most
    total              how many events have come in all
    rest               what went wrong in all

``more`` and ``logs`` are answered when all is subscribed, by the number of subscriptions. ``seen`` is answered by
``count``, by when the last event was ``read`` here and when it was ``written``, in seconds of the monotonic clock. The
latter is what the kernel says of the sockets (tcp(7), TCP_INFO), in its steps of some milliseconds: on loopback bytes
arrive when they are written, however far behind this process is with reading them. It ends when its standard input
does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import struct
import sys
import time
from typing import Any

import orjson
import uvloop
from ws_chain import filters
from ws_wire import Client, masked

AT_ONCE = 64
"""So many connections are made at the same time."""
SUBSCRIBE_SECONDS = 60.0
FILTERS_EACH = 10
_LAST_DATA = struct.Struct("52xI")
"""Where a ``struct tcp_info`` has the milliseconds since data came last."""
_BLOCK = re.compile(rb'"(?:blockN|n)umber":"0x([0-9a-f]+)"')


class Seen:
    """The events of one block."""

    __slots__ = ("count", "read")

    def __init__(self) -> None:
        self.count = 0
        self.read = 0.0


class Counts:
    """What the connections share."""

    def __init__(self) -> None:
        self.subscribed = 0
        self.lost = 0
        self.strange = 0  # messages that are neither an event nor a subscription's id
        self.disorder = 0  # events of an earlier block than the one before, or heads that came again
        self.blocks: dict[int, Seen] = {}


class Subscriber(Client):
    """One connection, with its subscriptions."""

    def __init__(self, path: str, counts: Counts, wishes: list[list[Any]]) -> None:
        super().__init__(path)
        self._counts = counts
        self._wishes = wishes
        self._heads = wishes[0][0] == "newHeads"
        self._number = 0

    def opened(self) -> None:
        for key, params in enumerate(self._wishes):
            call = {"jsonrpc": "2.0", "id": key, "method": "eth_subscribe", "params": params}
            self.transport.write(masked(orjson.dumps(call)))

    def message(self, text: bytes) -> None:
        found = _BLOCK.search(text)
        if found is None:
            self._answered(text)
            return
        now = time.monotonic()
        counts, number = self._counts, int(found[1], 16)
        if number < self._number + self._heads:
            counts.disorder += 1
        self._number = number
        seen = counts.blocks.get(number)
        if seen is None:
            seen = counts.blocks[number] = Seen()
        seen.count += 1
        seen.read = now

    def _answered(self, text: bytes) -> None:
        if b'"result":"0x' in text:
            self._counts.subscribed += 1
        else:
            self._counts.strange += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._counts.lost += 1


class Crowd:
    """All connections, and what is done with them."""

    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._path = path
        self._counts = Counts()
        self._wanted = 0
        self._sockets: list[socket.socket] = []

    async def obey(self, line: str) -> str:
        """Carry out a line of the standard input; the answer to it."""
        match line.split():
            case ["more", number]:
                return await self._connect([[["newHeads"]]] * int(number))
            case ["logs", shape]:
                wishes = [["logs", one] for one in filters(shape)]
                return await self._connect(
                    [wishes[start : start + FILTERS_EACH] for start in range(0, len(wishes), FILTERS_EACH)]
                )
            case ["seen", number, count, seconds]:
                return await self._seen(int(number), int(count), float(seconds))
            case ["total"]:
                return str(sum(seen.count for seen in self._counts.blocks.values()))
        return json.dumps({name: getattr(self._counts, name) for name in ("lost", "strange", "disorder")})

    async def _connect(self, wishes: list[list[list[Any]]]) -> str:
        until = time.monotonic() + SUBSCRIBE_SECONDS
        for start in range(0, len(wishes), AT_ONCE):
            some = wishes[start : start + AT_ONCE]
            self._wanted += sum(map(len, some))
            await asyncio.gather(*map(self._connect_one, some))
            while self._counts.subscribed < self._wanted and time.monotonic() < until:
                await asyncio.sleep(0.002)
        return str(self._counts.subscribed)

    async def _connect_one(self, wishes: list[list[Any]]) -> None:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        self._sockets.append(sock)
        await loop.sock_connect(sock, ("127.0.0.1", self._port))
        await loop.create_connection(lambda: Subscriber(self._path, self._counts, wishes), sock=sock)

    async def _seen(self, number: int, count: int, seconds: float) -> str:
        until = time.monotonic() + seconds
        while True:
            seen = self._counts.blocks.get(number) or Seen()
            if seen.count >= count or time.monotonic() >= until:
                return json.dumps({"count": seen.count, "read": seen.read, "written": self._last_data()})
            await asyncio.sleep(0.002)

    def _last_data(self) -> float:
        """When the last bytes came to any of the sockets."""
        size, unpack = _LAST_DATA.size, _LAST_DATA.unpack
        return max(
            time.monotonic() - unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size))[0] / 1000
            for sock in self._sockets
        )


async def _run(options: argparse.Namespace) -> None:
    crowd = Crowd(options.port, options.path)
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print("ready", flush=True)
    while line := await orders.readline():
        print(await crowd.obey(line.decode().strip()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/ws_subscribers.py", description="Clients that are subscribed.")
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
