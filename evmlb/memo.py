"""What was worked out before, kept for as many bytes as may be: what clients and nodes send decides how many entries
that is, so entries say nothing of memory.
"""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

ENTRY_BYTES = 200
"""What an entry takes beside its key and value, about."""


class Memo(dict[K, V]):
    """A dictionary to look things up in, filled by :meth:`keep`. It is emptied when full: what is common comes again.

    ``max_bytes``: of all entries; ``max_entry_bytes``: a larger one is not kept.
    """

    __slots__ = ("_bytes", "_max_bytes", "_max_entry_bytes")

    def __init__(self, max_bytes: int, max_entry_bytes: int) -> None:
        super().__init__()
        self._bytes = 0
        self._max_bytes = max_bytes
        self._max_entry_bytes = max_entry_bytes

    def keep(self, key: K, value: V, size: int) -> None:
        """Keep an entry of so many bytes, key and value together, unless it is too large."""
        if size > self._max_entry_bytes or key in self:
            return
        if self._bytes + size + ENTRY_BYTES > self._max_bytes:
            self.clear()
            self._bytes = 0
        self._bytes += size + ENTRY_BYTES
        self[key] = value
