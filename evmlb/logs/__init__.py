r"""What is written about what happens: one event, one line, no secret in it.

Text lines have the original's form, ``2026/11/25 14:03:07 [INFO] text``; JSON lines are objects.

    event -> record (level, text, fields) -> limit (now, later, or as a number) -> line -> file

Whatever a text holds, control characters in it are escaped and URLs masked (:mod:`evmlb.texts`).
"""

from evmlb.logs.events import EventLog
from evmlb.logs.hosts import install, installed, reopen, sweep
from evmlb.logs.observer import LogObserver, make_observer

__all__ = ["EventLog", "LogObserver", "install", "installed", "make_observer", "reopen", "sweep"]
