"""Clients that hold on to what they are told. What cannot be applied is an AssertionError."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from tests.subscribing.chain import Block, Chain, is_meant

Place = tuple[str, int]  # a block's hash, and the index of a log in it


class Heads:
    """What a client of ``newHeads`` makes of it."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.blocks: list[Block] = []
        self.events: list[Block] = []

    def begin(self, seen: Block) -> None:
        """It is subscribed; ``seen`` is the last block that it knows of before."""
        self.blocks = seen.line()

    def take(self, head: dict[str, Any]) -> None:
        block = self._chain.blocks[head["hash"]]
        assert "transactions" not in head, "a head is no block"
        assert next(iter(head)) == "parentHash"
        assert block not in self.blocks, f"#{block.number} was told twice"
        assert block.parent in self.blocks, f"#{block.number} was told before its parent"
        del self.blocks[self.blocks.index(block.parent) + 1 :]
        self.blocks.append(block)
        self.events.append(block)

    def check(self, tip: Block) -> None:
        """It knows the whole chain up to its tip."""
        assert self.blocks == tip.line(), f"{_numbers(self.blocks)} instead of {_numbers(tip.line())}"


class LogsSeen:
    """What a client of ``logs`` makes of it."""

    def __init__(self, chain: Chain, wanted: dict[str, Any], *, resumed: bool) -> None:
        self._chain = chain
        self._wanted = wanted
        self._resumed = resumed
        self._old: set[Block] = set()
        self.places: list[Place] = []
        self.events: list[tuple[Place, bool]] = []

    def begin(self, seen: Block) -> None:
        """It is subscribed.

        If it resumed it knows the logs up to the block ``seen``; else it wants none of that block or its ancestors,
        unless these are abandoned and come back.
        """
        if self._resumed:
            self.places = self._of(seen.line())
        else:
            self._old = set(seen.line())

    def note_abandoned(self, block: Block) -> None:
        """The view left a block; if it comes back, it is a new one."""
        self._old.discard(block)

    def _of(self, line: list[Block]) -> list[Place]:
        return [
            (block.hash, int(log["logIndex"], 16))
            for block in line
            for log in block.logs
            if block not in self._old and is_meant(log, self._wanted)
        ]

    def take(self, log: dict[str, Any]) -> None:
        place = log["blockHash"], int(log["logIndex"], 16)
        self.events.append((place, log["removed"]))
        assert is_meant(log, self._wanted), "nobody asked for it"
        if log["removed"]:
            assert self.places, "a log was taken back that was not told"
            assert self.places[-1] == place, "a log was taken back before a later one"
            self.places.pop()
        else:
            assert place not in self.places, "a log was told twice"
            assert not self.places or self._order(self.places[-1]) < self._order(place), "a log was told too late"
            self.places.append(place)

    def _order(self, place: Place) -> tuple[int, int]:
        return self._chain.blocks[place[0]].number, place[1]

    def check(self, tip: Block) -> None:
        """It has the logs of the chain."""
        expected = self._of(tip.line())
        assert self.places == expected, f"{self._named(self.places)} instead of {self._named(expected)}"

    def _named(self, places: list[Place]) -> list[tuple[int, int]]:
        return [self._order(place) for place in places]


class Client:
    """A ``Subscriber``: notes what it is sent, and hands events to what was put under their ids in ``mirrors``."""

    def __init__(self, max_subscriptions: int = 1000, client: str = "192.0.2.1") -> None:
        self.client = client
        self.subscriptions = 0
        self.max_subscriptions = max_subscriptions
        self.is_open = True
        self.queued_bytes = 0
        self.replies: dict[bytes, Any] = {}
        self.refusals: dict[bytes, tuple[int, str]] = {}
        self.events: dict[str, list[Any]] = {}
        self.order: list[Any] = []  # of all events
        self.mirrors: dict[str, Any] = {}
        self.expected: dict[bytes, Callable[[str], None]] = {}
        self.closed: tuple[int, str] | None = None
        self.fault: AssertionError | None = None  # what was wrong with an event; the hub survives what is raised

    def reply(self, call_id: bytes, result: bytes) -> None:
        assert self.is_open, "a reply to one who is gone"
        assert call_id not in self.replies
        self.replies[call_id] = orjson.loads(result)
        self.events[self.replies[call_id]] = []
        if call_id in self.expected:
            self.expected[call_id](self.replies[call_id])

    def refuse(self, call_id: bytes, code: int, message: str) -> None:
        assert self.is_open, "a refusal to one who is gone"
        assert call_id not in self.replies
        self.refusals[call_id] = code, message

    def notify(self, prefix: bytes, subscription_id: bytes, suffix: bytes) -> None:
        try:
            self._take(orjson.loads(prefix + subscription_id + suffix))
        except AssertionError as fault:
            self.fault = self.fault or fault

    def _take(self, message: dict[str, Any]) -> None:
        assert self.is_open, "an event to one who is gone"
        assert message["method"] == "eth_subscription"
        told = message["params"]["subscription"]
        assert told in self.events, "an event came before the reply"
        self.events[told].append(message["params"]["result"])
        self.order.append(message["params"]["result"])
        if told in self.mirrors:
            self.mirrors[told].take(message["params"]["result"])

    def send_frame(self, frame: bytes) -> None:
        raise AssertionError("not used")

    def close(self, code: int, reason: str) -> None:
        assert len(reason.encode()) <= 123
        self.closed = code, reason
        self.is_open = False

    @property
    def last_id(self) -> str:
        """The id of the newest subscription."""
        return str(list(self.replies.values())[-1])


def _numbers(blocks: list[Block]) -> list[int]:
    return [block.number for block in blocks]
