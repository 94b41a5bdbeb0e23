"""A loop in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

TURN_SECONDS = 1e-5


class TurningClock(Clock):
    """A clock on which a call for at once comes in the next turn, as on a reactor, and not in the same."""

    def callLater(self, when: float, what: Any, *a: Any, **kw: Any) -> Any:
        return super().callLater(max(when, TURN_SECONDS / 2), what, *a, **kw)

    def turn(self, times: int = 1) -> None:
        """Let the loop go round."""
        self.pump([TURN_SECONDS] * times)
