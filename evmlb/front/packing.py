"""Answers compressed for clients that want it.

What may be compressed, and how, follows from the answer's size::

    size < min_bytes        plain: it fits in a few packets, and time would be lost
    size <= INLINE_BYTES    in the loop: under 1 ms at any level
    more                    in a thread; zlib works without Python's lock, so the loop goes on meanwhile
    too much is waiting     plain: when the processor is what lacks, bytes are the cheaper thing to spend

Only answers that are held as a whole come here. One that is passed on while it comes stays plain: it is under way
already, its pieces would each need a thread, and what is large is mostly asked for over a fast link.

What waits for a thread is a second copy in memory beside the answer's place in the client's connection, so it counts in
the memory for requests, in the share of its client.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

from evmlb.config.schema import GzipConfig
from evmlb.policy.shares import Charge, Shares
from evmlb.stats import FrontStats

INLINE_BYTES = 32 * 1024
"""Up to this size the loop does it: 0.3 ms at level 1, 0.9 at 9; to hand it to a thread and back costs 0.1 ms."""
MAX_WAITING_BYTES = 4 * 1024 * 1024
"""So much may wait for the threads, or be with them: what comes last waits for some 20 to 50 ms."""
VARY = b"Vary: Accept-Encoding\r\n"
"""On every answer that another client might get compressed."""
ENCODING = b"Content-Encoding: gzip\r\n"

_GZIP = 16 + zlib.MAX_WBITS  # with gzip's head and tail

Done = Callable[[list[bytes] | None], None]
"""Is given the compressed body, None when the answer is to go plain."""


class Runs(Protocol):
    """Threads: :class:`evmlb.wire.threads.Threads`."""

    def run(self, work: Callable[[], list[bytes] | None], done: Done) -> None:
        """Do the work elsewhere, then call ``done`` in the loop: with its result, None after an exception."""
        ...


class Job:
    """An answer that a thread compresses, or will."""

    __slots__ = ("_charge", "_done", "_level", "_packing", "_parts", "size")

    def __init__(self, packing: Packing, parts: Sequence[bytes], size: int, charge: Charge, done: Done) -> None:
        self._packing = packing
        self._level = packing.level
        self._parts: Sequence[bytes] = parts
        self._charge = charge
        self._done: Done | None = done
        self.size = size

    def cancel(self) -> None:
        """The client left: nothing is kept for it, and a thread that has not begun finds nothing to do."""
        self._done = None
        self._parts = ()

    def work(self) -> list[bytes] | None:
        """What the thread does."""
        parts = self._parts
        return compressed(parts, self._level) if parts else None

    def finish(self, packed: list[bytes] | None) -> None:
        """In the loop again."""
        self._charge.release()
        done, self._done = self._done, None
        self._packing.finished(self, packed if done is not None else None)
        if done is not None:
            done(packed)


class Packing:
    """Compresses answers as configured. ``memory`` is that for requests; without ``threads`` large ones go plain."""

    def __init__(self, config: GzipConfig, memory: Shares, stats: FrontStats, threads: Runs | None = None) -> None:
        self.min_bytes = config.min_bytes if config.enabled else sys.maxsize
        self.level = config.level
        self._memory = memory
        self._stats = stats
        self._threads = threads
        self._waiting_bytes = 0

    def pack(self, client: str, parts: Sequence[bytes], done: Done) -> Job | None:
        """Compress a body and call ``done``: at once, or later where there is a job, unless that is cancelled."""
        size = sum(map(len, parts))
        if size <= INLINE_BYTES:
            packed = compressed(parts, self.level)
            self._count(size, packed)
            done(packed)
            return None
        job = self._queued(client, parts, size, done)
        if job is None:
            self._stats.gzip_skipped += 1
            done(None)
        return job

    def finished(self, job: Job, packed: list[bytes] | None) -> None:
        """A thread is done with a job; ``packed`` is None when nobody wanted it any more, or it failed."""
        self._waiting_bytes -= job.size
        if packed is not None:
            self._count(job.size, packed)

    def _queued(self, client: str, parts: Sequence[bytes], size: int, done: Done) -> Job | None:
        """A job for the threads; None where too much waits. A single large one is taken in any case."""
        if self._threads is None or (self._waiting_bytes and self._waiting_bytes + size > MAX_WAITING_BYTES):
            return None
        charge = self._memory.charge(client, size)
        if charge is None:
            return None
        job = Job(self, parts, size, charge, done)
        self._waiting_bytes += size
        self._threads.run(job.work, job.finish)
        return job

    def _count(self, size: int, packed: Sequence[bytes]) -> None:
        self._stats.gzip_bytes_in += size
        self._stats.gzip_bytes_out += sum(map(len, packed))


def compressed(parts: Sequence[bytes], level: int) -> list[bytes]:
    """A body as gzip (RFC 1952), in pieces."""
    packer = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
    pieces = [packer.compress(part) for part in parts]
    return [piece for piece in (*pieces, packer.flush()) if piece]
