"""Families of the whole: client connections, the event loop, the process.

Of the process only what is cheap to ask: the number of open descriptors is not, with thousands of them.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path

from evmlb.metrics.numbers import Numbers
from evmlb.metrics.page import Family, Row
from evmlb.metrics.reading import one


def _loop_lag(numbers: Numbers) -> Iterator[Row]:
    if numbers.loop_lag is not None:
        yield (), numbers.loop_lag.histogram


def _memory_bytes(_numbers: Numbers) -> Iterator[Row]:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return
    yield (), pages * resource.getpagesize()


PROCESS: tuple[Family, ...] = (
    Family(
        "gauge",
        "evmlb_client_connections",
        "Open connections of clients.",
        (),
        one(lambda numbers: numbers.front.open),
    ),
    Family(
        "counter",
        "evmlb_client_connections_accepted_total",
        "Connections of clients that were accepted.",
        (),
        one(lambda numbers: numbers.front.accepted),
    ),
    Family(
        "counter",
        "evmlb_client_connections_rejected_total",
        "Connections of clients beyond max_connections.",
        (),
        one(lambda numbers: numbers.front.rejected),
    ),
    Family(
        "counter",
        "evmlb_bad_requests_total",
        "Requests answered without a network, by HTTP status.",
        ("status",),
        lambda numbers: (((str(status),), count) for status, count in tuple(numbers.front.bad_requests.items())),
    ),
    Family("histogram", "evmlb_loop_lag_seconds", "How late timers of the event loop are.", (), _loop_lag),
    Family(
        "gauge",
        "evmlb_build_info",
        "1, with what is running.",
        ("version", "python", "twisted", "loop"),
        lambda numbers: [(numbers.build, 1)],
    ),
    Family(
        "counter",
        "process_cpu_seconds_total",
        "CPU time of the process, user and system.",
        (),
        lambda _: [((), time.process_time())],
    ),
    Family("gauge", "process_resident_memory_bytes", "Resident memory of the process.", (), _memory_bytes),
    Family(
        "gauge",
        "process_start_time_seconds",
        "When the process started, in seconds since 1970.",
        (),
        one(lambda numbers: numbers.started_at),
    ),
)
"""In the order of the page."""
