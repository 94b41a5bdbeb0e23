"""From an event of twisted.logger to a record, and from a record to lines.

The levels are the original's, and WARNING, made of twisted.logger's:

=================  =======  ==========================================================
critical, error    ERROR    requests are refused, or somebody must mend something
warn               WARNING  worth knowing, but the service goes on: no error
info               INFO     who serves, and why; of the libraries: DEBUG
debug              DEBUG    each head, each suspicion
debug, trace=True  TRACE    shows client addresses
=================  =======  ==========================================================
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from twisted.logger import LogEvent, formatEvent
from twisted.logger import LogLevel as TwistedLevel
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str

from evmlb.config.schema import LogLevel
from evmlb.texts import shown

MAX_FIELD_ITEMS = 64
_MAX_JSON_INTEGER = 2**53
_RANKS = {level: rank for rank, level in enumerate(LogLevel)}
_LEVELS = {
    TwistedLevel.critical: LogLevel.ERROR,
    TwistedLevel.error: LogLevel.ERROR,
    TwistedLevel.warn: LogLevel.WARNING,
    TwistedLevel.info: LogLevel.INFO,
    TwistedLevel.debug: LogLevel.DEBUG,
}
_HOSTS = ("twisted.", "txaio", "autobahn", "log_legacy")
"""What the libraries have to say at INFO ("Site starting on 9101") is of interest to those who work on evmlb."""
_OLD_FIELDS = ("failure", "format", "isError", "logLevel", "message", "system", "why")
_OWN_FIELDS = ("time", "level", "text", "logger", "suppressed", "traceback")
_NOT_FIELDS = frozenset((*_OLD_FIELDS, *_OWN_FIELDS, "trace"))
"""Fields of the old logging system, and names that a JSON line has its own values for."""


@dataclass(frozen=True, slots=True)
class Record:
    """One event, fit to be written: ``text`` and ``traceback`` are safe to show.

    ``key``: of each key one record is written per time; None: always. ``state``: what the record tells of; a later
    record of the same state makes this one outdated.
    """

    time: float
    level: LogLevel
    text: str
    logger: str
    fields: Mapping[str, Any]
    traceback: tuple[str, ...]
    key: Hashable
    state: Hashable


def rank(level: LogLevel) -> int:
    """0 for the gravest."""
    return _RANKS[level]


def level_of(event: LogEvent) -> LogLevel:
    """The original's level of an event. One without a level is info, as it is for Twisted."""
    if event.get("log_level") is TwistedLevel.debug and event.get("trace"):
        return LogLevel.TRACE
    if event.get("log_level") is TwistedLevel.info and event.get("log_namespace", "").startswith(_HOSTS):
        return LogLevel.DEBUG
    return _LEVELS.get(event.get("log_level"), LogLevel.INFO)


def record_of(event: LogEvent) -> Record | None:
    """The record of an event; None when it says nothing."""
    failure = event.get("log_failure")
    text = formatEvent(event)
    if isinstance(failure, Failure):
        text = text or failure.getErrorMessage()
    elif not text:
        return None
    key = event.get("log_key")
    if key is None and isinstance(failure, Failure):
        key = _failure_key(event, failure)
    return Record(
        time=event.get("log_time", 0.0),
        level=level_of(event),
        text=shown(text),
        logger=shown(safe_str(event.get("log_namespace", "")), 200),
        fields={name: _plain(value) for name, value in event.items() if _is_field(name)},
        traceback=_traceback(failure) if isinstance(failure, Failure) else (),
        key=key,
        state=event.get("log_state", key),
    )


def _failure_key(event: LogEvent, failure: Failure) -> Hashable:
    """Failures raised at one place and told of at one place are alike: one that every request meets fills no disk."""
    frame = failure.frames[-1][:3] if failure.frames else ()
    return ("failure", event.get("log_namespace"), event.get("log_format"), failure.type, *frame)


def _traceback(failure: Failure) -> tuple[str, ...]:
    return tuple(shown(line) for line in failure.getTraceback().splitlines())


def _is_field(name: object) -> bool:
    return isinstance(name, str) and name.isidentifier() and not name.startswith("log_") and name not in _NOT_FIELDS


def _plain(value: object) -> Any:
    """The value as JSON may hold it."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, int):
        return value if abs(value) <= _MAX_JSON_INTEGER else str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value[:MAX_FIELD_ITEMS]]
    return shown(safe_str(value))


Form = Callable[[Record, int], str]
"""Makes lines, each with its end, of a record and the number of records like it that were not written."""


def as_text(record: Record, suppressed: int) -> str:
    """``2026/11/25 14:03:07 [INFO] text``, in local time; the lines of a traceback follow in the same form."""
    head = f"{time.strftime('%Y/%m/%d %H:%M:%S', time.localtime(record.time))} [{record.level.value}]"
    lines = [f"{head} {record.text}{_suppressed_words(suppressed)}\n"]
    lines += [f"{head} | {line}\n" for line in record.traceback]
    return "".join(lines)


def _suppressed_words(count: int) -> str:
    return f" ({count} more like this suppressed)" if count else ""


def as_json(record: Record, suppressed: int) -> str:
    """One object on one line; the time is UTC."""
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.level.value,
        "text": record.text,
        "logger": record.logger,
        **record.fields,
    }
    if suppressed:
        line["suppressed"] = suppressed
    if record.traceback:
        line["traceback"] = "\n".join(record.traceback)
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE).decode()


FORMS: Mapping[str, Form] = {"text": as_text, "json": as_json}
"""By the name that ``log_format`` has in the configuration."""
