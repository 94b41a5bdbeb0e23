"""Which fault a node has at which second: a small table read with a time."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from evmlb.demo.faults import HEALTHY, Fault


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps of (seconds since the start, fault), in rising order; before the first step the node is healthy.

    With ``repeat_seconds`` the whole thing begins again after that long; it must lie after the last step.
    Raises :class:`ValueError` for steps out of order.
    """

    steps: tuple[tuple[float, Fault], ...] = ()
    repeat_seconds: float | None = None

    def __post_init__(self) -> None:
        times = [seconds for seconds, _ in self.steps]
        if times != sorted(times) or any(seconds < 0 for seconds in times):
            raise ValueError("the steps of a schedule are in rising order, from 0 on")
        if self.repeat_seconds is not None and self.repeat_seconds <= max([0.0, *times]):
            raise ValueError("a schedule repeats after its last step")

    def fault_at(self, elapsed_seconds: float) -> Fault:
        """The fault that holds this long after the start."""
        if self.repeat_seconds is not None:
            elapsed_seconds %= self.repeat_seconds
        index = bisect_right([seconds for seconds, _ in self.steps], elapsed_seconds)
        return self.steps[index - 1][1] if index else HEALTHY
