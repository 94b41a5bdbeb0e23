"""``python -m evmlb.demo``: the demo's nodes without a balancer, to point anything at.

Prints a configuration for them, then what befalls them; ends with Ctrl-C. ``--quiet-life``: nothing befalls them.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from evmlb.demo.world import DemoWorld


def _say(line: str) -> None:
    print(line, flush=True)


def main(reactor: Any, *arguments: str) -> Deferred[None]:
    """Run the world until the process is stopped."""
    world = DemoWorld(reactor, narrate=_say, schedules={} if "--quiet-life" in arguments else None)
    world.startService()
    _say(world.config_text())
    reactor.addSystemEventTrigger("before", "shutdown", world.stopService)
    return Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
