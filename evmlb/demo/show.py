"""``evmlb demo``: the small world with the balancer before it, and what both do in plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from evmlb.config.schema import Config, LogLevel
from evmlb.events import (
    ChainheadMoved,
    Event,
    Events,
    NodeBecameSuspect,
    NodeCameUp,
    NodeCaughtUp,
    NodeFellBehind,
    NodeHeadDoubted,
    NodeWentDown,
    OrderChanged,
)

Say = Callable[[str], None]


def show(port: int, metrics_port: int, *, quiet_life: bool = False) -> int:
    """Run the demo until it is interrupted; the exit status."""
    from evmlb.wire.reactor import install_unless_installed

    install_unless_installed()
    from twisted.internet import reactor

    _start(reactor, port, metrics_port, _say_with_time(time.monotonic()), quiet_life)
    running: Any = reactor
    running.run()
    return 0


def _say_with_time(begun: float) -> Say:
    def say(line: str) -> None:
        print(f"{time.monotonic() - begun:7.1f}s  {line}", flush=True)

    return say


def _start(reactor: Any, port: int, metrics_port: int, say: Say, quiet_life: bool) -> None:
    from evmlb.config.parse import parse_config
    from evmlb.demo.world import DemoWorld
    from evmlb.logs import install
    from evmlb.service import make_service

    world = DemoWorld(reactor, narrate=lambda line: say(f"nodes     {line}"), schedules={} if quiet_life else None)
    world.open()
    config: Config = replace(parse_config(world.config_text(port, metrics_port), {}), log_level=LogLevel.ERROR)
    install(config)
    service = make_service(config, reactor, watch=Narrator(say).observe)
    try:
        service.privilegedStartService()
    except SystemExit as end:  # in words, as the port is taken
        raise SystemExit(f"{end}; try --port 0 --metrics-port 0") from None
    world.startService()
    service.startService()
    service.listening.addCallback(lambda ports: _introduce(ports[0], service.admin_port))
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.addSystemEventTrigger("during", "shutdown", world.stopService)


def _introduce(port: int, admin_port: int) -> None:
    print(
        f"""
evmlb balances three simulated nodes of one chain: local-1, local-2 and fallback-1.

  ask it       curl -s http://localhost:{port}/demo -H 'content-type: application/json' \\
                    -d '{{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}}'
  who serves   http://localhost:{admin_port}/nodes
  metrics      http://localhost:{admin_port}/metrics
  readiness    http://localhost:{admin_port}/readyz

local-1 misbehaves on a schedule, again and again. Below: what the nodes do, and what evmlb decides. Ctrl-C ends.
""",
        flush=True,
    )


class Narrator:
    """Tells a network's events in plain lines, a line a change."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def observe(self, events: Events) -> None:
        """Tell what happened, but for heads that move on."""
        for event in events:
            line = _tell(event)
            if line:
                self._say(f"evmlb     {line}")


def _tell(event: Event) -> str:
    match event:
        case OrderChanged(nodes=()):
            return f"nobody can serve: {event.reason}"
        case OrderChanged():
            return f"asks {', then '.join(event.nodes)} ({event.reason})"
        case NodeWentDown():
            return f"takes {event.node} out: {event.reason}"
        case NodeCameUp():
            return f"takes {event.node} in: {event.reason}"
        case NodeBecameSuspect():
            return f"asks {event.node} last: {event.reason}"
        case NodeFellBehind():
            return f"sees {event.node} {event.lag_blocks} blocks behind, more than {event.limit_blocks}"
        case NodeCaughtUp():
            return f"sees {event.node} in step again"
        case NodeHeadDoubted():
            return f"does not believe {event.node}'s head {event.number}"
        case ChainheadMoved(number=None):
            return "knows no head any more"
        case _:
            return ""
