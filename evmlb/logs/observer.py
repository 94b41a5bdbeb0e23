"""The observer that writes lines to a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import IO, Any

from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from evmlb.config.schema import Config, LogLevel
from evmlb.logs.limit import RateLimit
from evmlb.logs.records import FORMS, Form, Record, level_of, rank, record_of


@implementer(ILogObserver)
class LogObserver:
    """Writes events of a level and graver ones to a file that takes text.

    What the rate limit holds back is written with the next event, by :meth:`sweep`, or by :meth:`flush`.
    """

    def __init__(
        self, file: IO[Any], form: Form, level: LogLevel, rate_limit_seconds: float, now: Callable[[], float]
    ) -> None:
        self.file = file
        self._form = form
        self._rank = rank(level)
        self._limit: RateLimit[Record] = RateLimit(rate_limit_seconds)
        self._now = now

    def __call__(self, event: LogEvent) -> None:
        """Write an event, hold it back, or leave it: nothing is formatted below the level."""
        if rank(level_of(event)) > self._rank:
            return
        record = record_of(event)
        if record is None:
            return
        now = self._now()
        if record.key is None:
            written = [(record, 0)]
        else:
            written = self._limit.offer(record, record.key, record.state, rank(record.level), now)
        self._write((*self._limit.due(now), *written))

    def sweep(self) -> None:
        """Write what was held back long enough. To be called about once a second, for when nothing else happens."""
        self._write(self._limit.due(self._now()))

    def flush(self) -> None:
        """Write everything that is held back, at the end."""
        self._write(self._limit.flush())

    def _write(self, records: Iterable[tuple[Record, int]]) -> None:
        lines = "".join(self._form(record, suppressed) for record, suppressed in records)
        if lines:
            _write_text(self.file, lines)


def _write_text(file: IO[Any], text: str) -> None:
    """Write, whatever characters the file's encoding has."""
    try:
        file.write(text)
    except UnicodeEncodeError:
        file.write(text.encode("ascii", "backslashreplace").decode())
    file.flush()


def make_observer(config: Config, file: IO[Any], now: Callable[[], float] = time.monotonic) -> LogObserver:
    """The observer that a configuration asks for."""
    return LogObserver(file, FORMS[config.log_format], config.log_level, config.log_rate_limit_seconds, now)
