"""What one pipe takes of its node's limits: ``max_concurrency`` and ``requests_per_second`` count calls, however they
come.

A message that asks is one call under way until a message comes back that is no event. Which answer belongs to which is
not looked at: all of them count the same. What is not answered counts no longer than a request may take.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from evmlb.network import Node


class Vacated(Protocol):
    """Hears that a node has room for one call more."""

    def __call__(self, node: Node) -> None:
        """It does."""
        ...


class Load:
    """The calls of one pipe at its node. ``patience_seconds``: so long one counts that is not answered."""

    __slots__ = ("_node", "_patience", "_since", "_vacated")

    def __init__(self, node: Node, patience_seconds: float, vacated: Vacated) -> None:
        self._node = node
        self._patience = patience_seconds
        self._vacated = vacated
        self._since: deque[float] = deque()  # of the calls under way, the oldest first

    def __len__(self) -> int:
        return len(self._since)

    def take(self, now: float, *, is_answered: bool) -> bool:
        """Whether the node has room for one call more; it counts from now on, one that ``is_answered`` until it is."""
        node = self._node
        if not node.has_room(now):
            return False
        if node.bucket is not None:
            node.bucket.take(now)
        if is_answered:
            node.in_flight += 1
            self._since.append(now)
        return True

    def answered(self, count: int) -> None:
        """So many answers came."""
        for _ in range(min(count, len(self._since))):
            self._since.popleft()
            self._vacated(self._node)

    def expire(self, now: float) -> None:
        """Whatever was asked too long ago is not waited for."""
        while self._since and now - self._since[0] > self._patience:
            self.answered(1)

    def release(self) -> None:
        """The pipe has ended."""
        self.answered(len(self._since))
