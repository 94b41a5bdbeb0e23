"""What happened in a run, in order: the evidence when an invariant is violated, and the proof of a replay."""

from __future__ import annotations

import hashlib
from collections.abc import Callable


class Trace:
    """Lines with their times. ``now`` is the run's clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._events: list[tuple[float, str]] = []
        self._marked: int | None = None

    def say(self, words: str) -> None:
        """Something happened."""
        self._events.append((self._now(), words))

    def mark(self) -> None:
        """What happened until now, when this is called first, is what :meth:`last` is asked for."""
        if self._marked is None:
            self._marked = len(self._events)

    def last(self, count: int) -> list[str]:
        """The newest lines up to the mark, or of all; oldest first."""
        return [_line(*event) for event in self._events[: self._marked][-count:]]

    def digest(self) -> str:
        """A short digest of all of it: two runs with the same digest went the same way."""
        lines = "\n".join(_line(*event) for event in self._events)
        return hashlib.sha256(lines.encode()).hexdigest()[:16]


def _line(at: float, words: str) -> str:
    return f"{at:10.4f}  {words}"
