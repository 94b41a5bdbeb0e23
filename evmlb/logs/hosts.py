"""Our lines in the place of the host's, and only once.

``twistd`` and ``twist`` (``python -m twisted``) each begin the logging themselves, after the options are parsed, with
an observer of their own. A second one beside it would say everything twice. So ours is put where the host looks for
the observer to use, while the options are parsed:

* ``twistd`` takes a dotted name by ``--logger``: unless one is given, it is ``evmlb.logs.installed``;
* ``twist`` keeps a factory of observers among its options: it becomes ours.

The configuration says what a line looks like and which are written; the host's options say where they go. Without
any of them that is stderr, as the original had it.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import MutableMapping
from typing import IO, Any, cast

from twisted.logger import LogLevel, globalLogBeginner
from twisted.python.logfile import LogFile

from evmlb.config.schema import Config
from evmlb.logs.observer import LogObserver, make_observer

Host = MutableMapping[str, Any]
"""The options of ``twistd`` or ``twist``."""


class _Installation:
    """What was asked for, until the host asks for it. There is one logging system per process, so there is one."""

    def __init__(self) -> None:
        self.config = Config(networks=())
        self.host: Host | None = None
        self.observers: list[LogObserver] = []

    def observer(self, file: IO[Any]) -> LogObserver:
        """Make an observer, and remember to sweep and to flush it."""
        observer = make_observer(self.config, file)
        self.observers.append(observer)
        atexit.register(observer.flush)
        return observer


_installation = _Installation()


def install(config: Config, host: Host | None = None) -> None:
    """Have the configuration's lines written, by whoever runs us.

    ``host``: the options of ``twistd`` or ``twist``: ``self.parent`` in ``postOptions`` of our own, which is the time
    to call this (later, ``twistd`` has looked already). Without a host the logging begins here and now, on stderr.
    """
    _installation.config, _installation.host = config, host
    if host is None:
        globalLogBeginner.beginLoggingTo([_installation.observer(sys.stderr)], redirectStandardIO=False)
    elif "fileLogObserverFactory" in host:
        _give_to_twist(host)
    elif not host.get("logger") and not host.get("syslog"):
        host["logger"] = "evmlb.logs.installed"


def _give_to_twist(host: Host) -> None:
    """``twist`` cannot tell ``--log-file=-`` and ``--log-level=info`` from its defaults; so these mean ours."""
    host["fileLogObserverFactory"] = _installation.observer
    if host["logFile"] is sys.stdout:
        host["logFile"] = sys.stderr
    if host["logLevel"] is LogLevel.info:
        host["logLevel"] = LogLevel.debug


def installed() -> LogObserver:
    """The observer that was asked for: what ``twistd --logger=evmlb.logs.installed`` calls."""
    return _installation.observer(_twistd_file(_installation.host or {}))


def _twistd_file(host: Host) -> IO[Any]:
    """Where ``twistd`` would write: but to stderr where it would take stdout for want of an option."""
    name, in_front = host.get("logfile") or "", host.get("nodaemon", True)
    if name == "-" and not in_front:
        sys.exit("Daemons cannot log to stdout, exiting!")
    if name == "-":
        return sys.stdout
    if in_front and not name:
        return sys.stderr
    return _rotating(name or "twistd.log")


class _RotatingFile(LogFile):
    """A log file that can be asked to begin anew; it does so before it is written to again."""

    _asked = False

    def ask(self, *_signal: object) -> None:
        """Rotate before the next line."""
        self._asked = True

    def shouldRotate(self) -> bool:
        """Whether it was asked, or is too large."""
        return self._asked or bool(super().shouldRotate())

    def rotate(self) -> None:
        """Begin anew; a file that somebody has moved away is only opened again."""
        self._asked = False
        if os.path.exists(self.path):
            super().rotate()
        else:
            self.reopen()


def _rotating(name: str) -> IO[Any]:
    """A file that SIGUSR1 begins anew, as ``twistd``'s own is."""
    file: Any = _RotatingFile.fromFullPath(name)
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, file.ask)
    return cast(IO[Any], file)


def reopen() -> list[str]:
    """Open the log files of ``twist`` anew, by the names that they were opened with; the names.

    The descriptor stays the same, so whoever holds the file writes to the new one.
    """
    names = []
    for observer in _installation.observers:
        name = getattr(observer.file, "name", None)
        if isinstance(name, str) and not name.startswith("<"):  # "<stderr>": not opened by a name
            observer.file.flush()
            descriptor = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            os.dup2(descriptor, observer.file.fileno(), inheritable=False)
            os.close(descriptor)
            names.append(name)
    return names


def sweep() -> None:
    """Write what was held back long enough; to be called about once a second."""
    for observer in _installation.observers:
        observer.sweep()
