"""Signals and word to systemd, without a process of their own."""

from __future__ import annotations

import signal
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.load import load_config
from evmlb.process import SignalService, SystemdService
from evmlb.wire.systemd import ALIVE, READY, STOPPING, Systemd

FILE = "networks:\n  - {name: net, local_endpoints: ['http://127.0.0.1:1']}\n"


class Reactor:
    def callFromThread(self, function: object) -> None:
        self.function = function


class SignalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp()
        Path(self.path).write_text(FILE)
        self.reactor = Reactor()
        self.service = SignalService(self.reactor, self.path, load_config(self.path, {}))

    def said(self) -> str:
        with capturedLogs() as captured:
            self.service.check()
        [event] = captured
        return formatEvent(event)

    def test_same(self) -> None:
        """A file that did not change is what runs."""
        self.assertEqual(self.said(), f"SIGHUP: {self.path} is what runs")

    def test_changed(self) -> None:
        """One that changed wants a restart."""
        Path(self.path).write_text(f"port: 8081\n{FILE}")
        self.assertIn("differs from what runs: restart to use it", self.said())

    def test_faulty(self) -> None:
        """One that cannot be used is told with its faults, and what runs goes on."""
        for text in (f"prot: 8081\n{FILE}", "[", ""):
            Path(self.path).write_text(text)
            self.assertIn("cannot be used, what runs goes on", self.said())
        Path(self.path).unlink()
        self.assertIn("cannot be used", self.said())

    def test_taken_and_given_back(self) -> None:
        """While it runs the signals are its, and what they ask for is done by the loop."""
        before = signal.getsignal(signal.SIGHUP)
        self.service.startService()
        self.addCleanup(signal.signal, signal.SIGHUP, before)
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual(self.reactor.function, self.service.check)
        self.service.stopService()
        self.assertEqual(signal.getsignal(signal.SIGHUP), before)

    def test_others_use(self) -> None:
        """A SIGUSR1 that the host uses is left to it."""
        before = signal.signal(signal.SIGUSR1, lambda *_: None)
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        mine = signal.getsignal(signal.SIGUSR1)
        self.service.startService()
        self.assertIs(signal.getsignal(signal.SIGUSR1), mine)
        self.service.stopService()


class Told(Systemd):
    def __init__(self, watchdog_seconds: float | None) -> None:
        super().__init__({})
        self.watchdog_seconds = watchdog_seconds
        self.told: list[bytes] = []

    def tell(self, *lines: bytes) -> None:
        self.told += lines


class SystemdTests(SynchronousTestCase):
    def test_life(self) -> None:
        """It hears when clients are served, that the loop turns, and when that ends."""
        clock, systemd = Clock(), Told(9.0)
        service = SystemdService(clock, systemd)
        service.startService()
        service.ready()
        clock.advance(3.0)
        service.stopService()
        clock.advance(3.0)
        self.assertEqual(systemd.told, [ALIVE, READY, ALIVE, STOPPING, ALIVE])

    def test_unwatched(self) -> None:
        """Where it does not watch, nothing ticks."""
        clock, systemd = Clock(), Told(None)
        SystemdService(clock, systemd).startService()
        self.assertEqual((clock.getDelayedCalls(), systemd.told), ([], []))
