"""Telling systemd how the service does: ready, alive, stopping (sd_notify(3)).

The protocol is a datagram with lines of ``NAME=value`` to the socket that ``NOTIFY_SOCKET`` names. These few lines are
ours because the packages for it either need libsystemd's headers to be built or are no longer kept.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

READY, STOPPING, ALIVE = b"READY=1", b"STOPPING=1", b"WATCHDOG=1"


class Systemd:
    """Who started us, if it was systemd. Nothing is told where it was not, or where it does not listen any more.

    The socket is kept for as long as we run: that we are alive must be told also while no descriptor is left.
    ``watchdog_seconds``: it must hear that we are alive at least as often; ``None``: it does not watch.
    """

    def __init__(self, environ: Mapping[str, str] | None = None, pid: int | None = None) -> None:
        environ = os.environ if environ is None else environ
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address  # "@": an abstract socket
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        meant = environ.get("WATCHDOG_PID", "")
        watches = not meant or meant == str(os.getpid() if pid is None else pid)
        microseconds = environ.get("WATCHDOG_USEC", "")
        self.watchdog_seconds = int(microseconds) / 1e6 if watches and microseconds.isdigit() else None

    @property
    def listens(self) -> bool:
        """Whether there is somebody to tell."""
        return self._socket is not None

    def tell(self, *lines: bytes) -> None:
        """Say something, without waiting for anything."""
        if self._socket is not None:
            with suppress(OSError):  # to be watched is a service done to us: that it fails must not end us
                self._socket.sendto(b"\n".join(lines), self._address)
