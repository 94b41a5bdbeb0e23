"""What a client of subscriptions knows of the chain: its events replayed, and refused where a promise is broken."""

from __future__ import annotations

from typing import Any, NamedTuple


class Head(NamedTuple):
    """A block, as newHeads tells of it."""

    number: int
    hash: str
    parent: str


class Log(NamedTuple):
    """Where a log stands."""

    number: int
    block: str
    log_index: int


class Broken(AssertionError):
    """A hole, an event told twice, or one out of order."""


class Mirror:
    """The chain and the logs that subscribers were told of: what was abandoned is gone from both.

    A head whose parent is not the last one is a reorg back to that parent, which must be known, or the parent of the
    first head. A log that is taken back must be there, and one that is told must come after the last one.
    """

    def __init__(self) -> None:
        self.heads: list[Head] = []
        self.logs: list[Log] = []
        self.heads_told = 0
        self.reorgs = 0
        self.logs_removed = 0

    @property
    def tip(self) -> str:
        """The hash of the newest block; empty before the first one."""
        return self.heads[-1].hash if self.heads else ""

    def take_head(self, head: Head) -> None:
        """A head was told; :class:`Broken` if it should not have been."""
        place = self._place_of(head)
        abandoned = self.heads[place:]
        if any(other.hash == head.hash for other in self.heads):
            raise Broken(f"head {head.number} was told twice: {head.hash}")
        if place and self.heads[place - 1].number + 1 != head.number:
            raise Broken(f"head {head.number} is said to follow {self.heads[place - 1].number}")
        self.reorgs += bool(abandoned)
        self.heads[place:] = [head]
        self.heads_told += 1

    def _place_of(self, head: Head) -> int:
        """Its index in the list of heads."""
        if not self.heads or head.parent == self.heads[0].parent:
            return 0
        for place in range(len(self.heads), 0, -1):
            if self.heads[place - 1].hash == head.parent:
                return place
        last = self.heads[-1]
        raise Broken(f"a hole: head {head.number} has a parent that was never told; the last one was {last.number}")

    def take_log(self, log: Log, is_removed: bool) -> None:
        """A log was told, or taken back; :class:`Broken` if it should not have been."""
        if is_removed:
            if log not in self.logs:
                raise Broken(f"{log} was taken back, and had not been told")
            self.logs.remove(log)
            self.logs_removed += 1
        elif self.logs and (log.number, log.log_index) <= (self.logs[-1].number, self.logs[-1].log_index):
            raise Broken(f"{log} was told twice, or too late: {self.logs[-1]} was there")
        else:
            self.logs.append(log)


def read_head(value: dict[str, Any]) -> Head:
    """A head as the clients write it."""
    return Head(value["number"], value["hash"], value["parentHash"])


def read_log(value: dict[str, Any]) -> Log:
    """A log as the clients write it."""
    return Log(value["blockNumber"], value["blockHash"], value["logIndex"])
