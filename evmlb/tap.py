"""What ``twistd evmlb`` takes and makes.

The configuration is read while the options are: a fault ends the program with status 1 before anything is opened, and
before a daemon leaves its terminal. The reactor is chosen here too, unless ``-r`` or an import has chosen one.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from evmlb.wire.reactor import install_unless_installed


class Options(usage.Options):
    """The options of ``twistd evmlb``."""

    optParameters = [["config", "c", "config.yaml", "The configuration file."]]  # noqa: RUF012 (Twisted's interface)
    longdesc = "Balance JSON-RPC requests over EVM nodes. See config.yaml.example for what can be configured."

    def postOptions(self) -> None:
        """Load the configuration and choose the reactor."""
        from evmlb.config.faults import ConfigError
        from evmlb.config.load import load
        from evmlb.logs import install

        try:
            self.loaded, self.warnings = load(self["config"])
        except ConfigError as error:
            # not a UsageError: how evmlb is used is not what is wrong, and twist would make another status of it
            print(error, file=sys.stderr)
            raise SystemExit(1) from None
        install(self.loaded, self.parent)
        _leave_no_pidfile(self.parent)
        install_unless_installed()


def _leave_no_pidfile(host: Any) -> None:
    """``twistd`` in front writes one too, so that a second one in the same folder would not start."""
    if host and host.get("nodaemon") and host.get("pidfile") == "twistd.pid":
        host["pidfile"] = ""


def makeService(options: Any) -> IService:
    """Make the service that the options ask for."""
    from twisted.internet import reactor

    from evmlb.process import SignalService, SystemdService
    from evmlb.service import make_service

    service = make_service(options.loaded, reactor, options.warnings)
    SignalService(reactor, options["config"], options.loaded).setServiceParent(service)
    systemd = SystemdService(reactor)
    systemd.setServiceParent(service)
    service.listening.addCallback(systemd.ready)
    return service
