"""Families of the whole: client connections, the event loop, the process.

Those of the process have the names and meanings that Prometheus' own client libraries give them. Its collector for
Python is not used: it lists every open descriptor by name, which takes 2 us each, and there may be tens of thousands.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

from evmlb.metrics.numbers import Numbers
from evmlb.metrics.page import Family, Row
from evmlb.metrics.reading import one


def _loop_lag(numbers: Numbers) -> Iterator[Row]:
    if numbers.loop_lag is not None:
        yield (), numbers.loop_lag.histogram


def _memory_bytes(field: int) -> Callable[[Numbers], Iterator[Row]]:
    """A size out of ``/proc/self/statm`` (proc(5)): all memory first, then what of it is resident."""

    def rows(_numbers: Numbers) -> Iterator[Row]:
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[field])
        except (OSError, ValueError, IndexError):
            return
        yield (), pages * resource.getpagesize()

    return rows


def _open_fds(_numbers: Numbers) -> Iterator[Row]:
    """Since Linux 6.2 the size of the folder says how many there are; before that it is 0, and they are counted.

    One of those counted is the listing's own.
    """
    folder = Path("/proc/self/fd")
    try:
        yield (), folder.stat().st_size or len(os.listdir(folder)) - 1
    except OSError:
        return


def _max_fds(_numbers: Numbers) -> Iterator[Row]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield (), inf if soft == resource.RLIM_INFINITY else soft


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
    Family(
        "counter",
        "evmlb_gzip_input_bytes_total",
        "Bytes of answers that were compressed, before that.",
        (),
        one(lambda numbers: numbers.front.gzip_bytes_in),
    ),
    Family(
        "counter",
        "evmlb_gzip_output_bytes_total",
        "The same afterwards.",
        (),
        one(lambda numbers: numbers.front.gzip_bytes_out),
    ),
    Family(
        "counter",
        "evmlb_gzip_skipped_total",
        "Answers that went plain because too much was waiting to be compressed.",
        (),
        one(lambda numbers: numbers.front.gzip_skipped),
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
    Family("gauge", "process_resident_memory_bytes", "Resident memory of the process.", (), _memory_bytes(1)),
    Family("gauge", "process_virtual_memory_bytes", "Virtual memory of the process.", (), _memory_bytes(0)),
    Family("gauge", "process_open_fds", "Open file descriptors of the process.", (), _open_fds),
    Family("gauge", "process_max_fds", "How many file descriptors the process may open.", (), _max_fds),
    Family(
        "gauge",
        "process_start_time_seconds",
        "When the process started, in seconds since 1970.",
        (),
        one(lambda numbers: numbers.started_at),
    ),
)
"""In the order of the page."""
