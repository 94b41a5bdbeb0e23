"""web3.py: its persistent WebSocketProvider and subscription manager (see ``__init__.py``). It sends binary frames."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from web3 import AsyncWeb3, WebSocketProvider
from web3.utils.subscriptions import EthSubscription, LogsSubscription, NewHeadsSubscription


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def say_head(head: Any) -> None:
    say(head={"hash": head.hash.to_0x_hex(), "number": head.number, "parentHash": head.parentHash.to_0x_hex()})


def say_log(log: Any) -> None:
    place = {"blockHash": log.blockHash.to_0x_hex(), "blockNumber": log.blockNumber, "logIndex": log.logIndex}
    say(log={**place, "removed": log.removed})


class Client:
    """Holds both subscriptions on one connection at a time."""

    def __init__(self, url: str, address: str) -> None:
        self._url = url
        self._address = address
        self._web3: Any = None
        self._listening: asyncio.Task[None] | None = None

    async def subscribe(self) -> None:
        """Connect, and subscribe as the library would have it."""
        address: Any = AsyncWeb3.to_checksum_address(self._address)
        await self._hold(NewHeadsSubscription(), LogsSubscription(address=address))

    async def resume(self, head: str, log: str) -> None:
        """Connect again, and take up where the last connection ended."""
        where = {"address": self._address}
        await self._hold(
            EthSubscription(("newHeads", {"resume": head})), EthSubscription(("logs", where, {"resume": log}))
        )

    async def _hold(self, *subscriptions: EthSubscription[Any]) -> None:
        self._web3 = AsyncWeb3(WebSocketProvider(self._url))
        await self._web3.provider.connect()
        heads, logs = [await self._web3.subscription_manager.subscribe(each) for each in subscriptions]
        say(subscribed=heads)
        say(subscribed=logs)
        self._listening = asyncio.create_task(self._listen({heads: say_head, logs: say_log}))

    async def _listen(self, sayers: dict[str, Callable[[Any], None]]) -> None:
        """Take the events from the library's queue: it has those, too, that came right behind the subscription."""
        try:
            async for message in self._web3.socket.process_subscriptions():
                sayers[message["subscription"]](message["result"])
        except Exception as error:
            say(failed=repr(error))
        else:
            say(failed="the connection was closed")

    async def end(self) -> None:
        """Unsubscribe, and stay connected."""
        manager = self._web3.subscription_manager
        say(ended=[await manager.unsubscribe(each) for each in tuple(manager.subscriptions)])

    async def leave(self) -> None:
        """Close the connection."""
        assert self._listening is not None
        self._listening.cancel()
        await self._web3.provider.disconnect()
        say(left=True)


async def main(url: str, address: str) -> None:
    """Subscribe, then do what stdin says."""
    client = Client(url, address)
    await client.subscribe()
    while line := await asyncio.to_thread(sys.stdin.readline):
        word, *rest = line.split()
        try:
            await getattr(client, word)(*rest)
        except Exception as error:
            say(failed=repr(error))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
