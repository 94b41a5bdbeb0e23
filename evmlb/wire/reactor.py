"""The reactor that evmlb runs on: Twisted's asyncio reactor over uvloop, or over asyncio's loop where uvloop is not.

Two faults of the plain asyncio reactor are mended here, for production and for trial alike:

* ``crash`` stopped a loop that was not running, so that the next ``run`` returned at once;
* uvloop takes over the wakeup descriptor, and SIGCHLD was lost: ``processEnded`` never came.

Installed by the plugin when no reactor is installed yet; an explicit ``-r`` is respected and everything works there,
slower. ``twistd -r evmlb`` and ``trial -r evmlb`` name it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

from twisted.internet import asyncioreactor, process
from twisted.logger import Logger

_log = Logger()


class EvmlbReactor(asyncioreactor.AsyncioSelectorReactor):
    """The asyncio reactor, able to be crashed, to run again and to hear of its children."""

    def crash(self) -> None:
        """Leave ``run`` at once; a loop that does not run is left alone."""
        loop, running = self._asyncioEventloop, self._asyncioEventloop.is_running()
        if not running:
            # the base class stops the loop, which a loop that is not running remembers for its next run
            self._asyncioEventloop = _NoLoop()  # type: ignore[assignment]
        try:
            super().crash()
        finally:
            self._asyncioEventloop = loop

    def run(self, installSignalHandlers: bool = True) -> None:
        """Run until stopped."""
        self.startRunning(installSignalHandlers=installSignalHandlers)
        if installSignalHandlers:
            self._hear_of_children()
        self._asyncioEventloop.run_forever()
        if self._justStopped:
            self._justStopped = False

    def _hear_of_children(self) -> None:
        loop = self._asyncioEventloop
        signal.signal(signal.SIGCHLD, lambda *_: loop.call_soon_threadsafe(process.reapAllProcesses))
        signal.siginterrupt(signal.SIGCHLD, False)


class _NoLoop:
    """Takes the one call that ``crash`` makes of a loop that does not run."""

    def stop(self) -> None:
        """Nothing runs, so nothing stops."""


def new_loop() -> asyncio.AbstractEventLoop:
    """Uvloop's loop where uvloop is installed, else asyncio's selector loop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.SelectorEventLoop()
    return uvloop.new_event_loop()


def install() -> None:
    """Install the reactor. Raises ``ReactorAlreadyInstalledError`` when there is one."""
    from twisted.internet.main import installReactor

    loop = new_loop()
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(log_loop_exception)
    installReactor(EvmlbReactor(loop))


def install_unless_installed() -> None:
    """Install the reactor if nothing has chosen another one yet (``-r``, an import)."""
    if "twisted.internet.reactor" not in sys.modules:
        install()


def log_loop_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report what the loop caught to Twisted's log, where trial and the operator look."""
    exception = context.get("exception")
    if exception is None:
        _log.error("event loop: {message}", message=context.get("message"))
    else:
        from twisted.python.failure import Failure

        _log.failure("event loop: {message}", Failure(exception), message=context.get("message"))


def native_loop(reactor: object) -> asyncio.AbstractEventLoop | None:
    """The loop whose own transports can carry our protocols on this reactor; None where there is none."""
    loop = getattr(reactor, "_asyncioEventloop", None)
    return loop if isinstance(loop, asyncio.AbstractEventLoop) else None
