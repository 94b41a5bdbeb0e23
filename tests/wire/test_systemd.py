"""Word to systemd."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import tempfile

from twisted.trial.unittest import SynchronousTestCase

from evmlb.wire.systemd import ALIVE, READY, Systemd


class SystemdTests(SynchronousTestCase):
    def listen(self, address: str) -> socket.socket:
        """What systemd is to us."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.bind(address)
        sock.settimeout(5)
        return sock

    def test_told(self) -> None:
        """What is said comes as a datagram of lines, at a path or in the abstract space."""
        name = f"evmlb-test-{os.getpid()}"
        folder = tempfile.mkdtemp()  # the path of a socket must be short
        self.addCleanup(shutil.rmtree, folder)
        for address, variable in (
            (f"{folder}/notify", f"{folder}/notify"),
            (f"{folder}/user@7", f"{folder}/user@7"),
            (f"\0{name}", f"@{name}"),
        ):
            heard = self.listen(address)
            Systemd({"NOTIFY_SOCKET": variable}).tell(READY, ALIVE)
            self.assertEqual(heard.recv(100), b"READY=1\nWATCHDOG=1")

    def test_no_descriptor_left(self) -> None:
        """That we are alive is told also while no descriptor is left."""
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        heard = self.listen(f"{folder}/notify")
        systemd = Systemd({"NOTIFY_SOCKET": f"{folder}/notify"})
        _, most = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
        try:
            systemd.tell(ALIVE)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        self.assertEqual(heard.recv(100), b"WATCHDOG=1")

    def test_nobody(self) -> None:
        """Where nobody listens, or does not any more, nothing is said and nothing fails."""
        self.assertFalse(Systemd({}).listens)
        Systemd({}).tell(READY)
        Systemd({"NOTIFY_SOCKET": "/no/such/socket"}).tell(READY)

    def test_watchdog(self) -> None:
        """How often it must hear of us; not if that is meant for another process, or makes no sense."""
        for environ, seconds in (
            ({"WATCHDOG_USEC": "10000000"}, 10.0),
            ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "7"}, 10.0),
            ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "8"}, None),
            ({"WATCHDOG_USEC": "soon"}, None),
            ({}, None),
        ):
            self.assertEqual(Systemd(environ, pid=7).watchdog_seconds, seconds, environ)
