"""What the process owes to the system that it runs on: signals, and word to systemd.

=======  =========================================================================================================
signal   what follows
=======  =========================================================================================================
SIGTERM  the service stops in order (Twisted's own doing, as is SIGINT)
SIGHUP   the configuration file is read and checked, and the log says what is wrong with it, or that it differs from
         what runs; nothing changes before a restart
SIGUSR1  log files are opened anew, for whoever rotates them
=======  =========================================================================================================

The handlers only take note; what they ask for is done by the loop.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from evmlb.config.faults import ConfigError
from evmlb.config.load import load
from evmlb.config.schema import Config
from evmlb.logs import reopen
from evmlb.wire.systemd import ALIVE, READY, STOPPING, Systemd

_log = Logger(namespace="evmlb")
_Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


class SignalService(Service):
    """Answers SIGHUP and SIGUSR1 while it runs. ``path``: the file that ``config`` was read from."""

    def __init__(self, reactor: Any, path: str, config: Config) -> None:
        self._reactor = reactor
        self._path = path
        self._config = config
        self._before: dict[int, _Handler] = {}

    def startService(self) -> None:
        """Take the signals, but for a SIGUSR1 that the host has a use for."""
        super().startService()
        self._take(signal.SIGHUP, self.check)
        if not signal.getsignal(signal.SIGUSR1):
            self._take(signal.SIGUSR1, self.reopen)

    def stopService(self) -> None:
        """Give them back."""
        super().stopService()
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, handler)

    def _take(self, number: int, act: Callable[[], None]) -> None:
        self._before[number] = signal.signal(number, lambda *_: self._reactor.callFromThread(act))

    def check(self) -> None:
        """Say what a restart would do with the file as it is now."""
        try:
            config, _ = load(self._path)
        except ConfigError as error:
            _log.error("SIGHUP: {path} cannot be used, what runs goes on: {faults}", path=self._path, faults=error)
            return
        if config == self._config:
            _log.info("SIGHUP: {path} is what runs", path=self._path)
        else:
            _log.warn("SIGHUP: {path} is good and differs from what runs: restart to use it", path=self._path)

    def reopen(self) -> None:
        """Open the log files anew."""
        files = reopen()
        _log.info(
            "SIGUSR1: {what}", what=f"opened {', '.join(files)} anew" if files else "there is no log file to open"
        )


class SystemdService(Service):
    """Tells systemd when clients are served, that the loop turns, and when that ends."""

    def __init__(self, reactor: Any, systemd: Systemd | None = None) -> None:
        self._systemd = Systemd() if systemd is None else systemd
        self._ticking = LoopingCall(self._systemd.tell, ALIVE)
        self._ticking.clock = reactor

    def startService(self) -> None:
        """Begin to show that the loop turns: three times as often as must be, at least."""
        super().startService()
        seconds = self._systemd.watchdog_seconds
        if seconds:
            self._ticking.start(seconds / 3)

    def ready(self, _: object = None) -> None:
        """Clients are served."""
        self._systemd.tell(READY)

    def stopService(self) -> None:
        """No new clients from now on; what is under way ends. The loop goes on to be watched."""
        super().stopService()
        self._systemd.tell(STOPPING)
