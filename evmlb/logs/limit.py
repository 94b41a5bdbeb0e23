"""Not the same again and again: one line of each key per time, and nothing lost that matters.

An item comes with a key (what it is like), a state (what it tells of) and a rank (0 is the gravest):

* the first of its key is written, and opens a window;
* within the window further ones are held back: only the newest of each *state*, the others are a number;
* one that is graver than what its key's window was opened by is written at once;
* when the window ends, what is held is written and opens the next.

So the last line that is written of a state is the last thing that happened to it, however much it flaps: what is
held is thrown away when a newer one of its state is written.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

MAX_KEYS = 1000
"""So many keys, and so many states, are known at a time; the oldest give way."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class _Window:
    ends_at: float
    rank: int


@dataclass(frozen=True, slots=True)
class _Held(Generic[Item]):
    item: Item
    suppressed: int
    key: Hashable
    rank: int
    due_at: float


class RateLimit(Generic[Item]):
    """The state of all keys. ``now`` is in seconds and must not run backwards; 0 seconds limit nothing.

    What is written comes back as pairs: the item, and how many of its state were suppressed before it.
    """

    def __init__(self, seconds: float, max_keys: int = MAX_KEYS) -> None:
        self._seconds = seconds
        self._max_keys = max_keys
        self._windows: dict[Hashable, _Window] = {}
        self._held: dict[Hashable, _Held[Item]] = {}
        self._next_due = float("inf")

    def offer(self, item: Item, key: Hashable, state: Hashable, rank: int, now: float) -> list[tuple[Item, int]]:
        """What is to be written now: the item or nothing, and what had to give way."""
        if self._seconds <= 0:
            return [(item, 0)]
        window = self._windows.get(key)
        if window is None or window.ends_at <= now or rank < window.rank:
            self._open(key, rank, now)
            outdated = self._held.pop(state, None)
            return [(item, 0 if outdated is None else outdated.suppressed + 1)]
        return self._hold(item, key, state, rank, window.ends_at)

    def _open(self, key: Hashable, rank: int, now: float) -> None:
        self._windows.pop(key, None)
        self._windows[key] = _Window(now + self._seconds, rank)
        if len(self._windows) > self._max_keys:
            self._windows.pop(next(iter(self._windows)))

    def _hold(self, item: Item, key: Hashable, state: Hashable, rank: int, due_at: float) -> list[tuple[Item, int]]:
        outdated = self._held.pop(state, None)
        self._held[state] = _Held(item, 0 if outdated is None else outdated.suppressed + 1, key, rank, due_at)
        self._next_due = min(self._next_due, due_at)
        if len(self._held) <= self._max_keys:
            return []
        oldest = self._held.pop(next(iter(self._held)))
        return [(oldest.item, oldest.suppressed)]

    def due(self, now: float) -> list[tuple[Item, int]]:
        """What was held and may be written now, oldest first."""
        if now < self._next_due:
            return []
        due = [(state, held) for state, held in self._held.items() if held.due_at <= now]
        for state, held in due:
            del self._held[state]
            self._open(held.key, held.rank, now)
        self._next_due = min((held.due_at for held in self._held.values()), default=float("inf"))
        return [(held.item, held.suppressed) for _, held in due]

    def flush(self) -> list[tuple[Item, int]]:
        """Everything that is held, at the end."""
        held = list(self._held.values())
        self._held.clear()
        self._next_due = float("inf")
        return [(each.item, each.suppressed) for each in held]
