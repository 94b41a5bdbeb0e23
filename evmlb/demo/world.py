"""A small world to look at: one chain, two local nodes, one fallback, and a script of misfortunes.

``DemoWorld`` knows nothing of the balancer. It gives a configuration that points at its nodes, and tells in plain
English what the nodes do; what the balancer makes of it is the balancer's to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from evmlb.demo.chain import DemoChain
from evmlb.demo.faults import HEALTHY, Fault, fault
from evmlb.demo.node import DemoNode
from evmlb.demo.schedule import Schedule

TICK_SECONDS = 0.25
"""How often the schedules are looked at."""

NETWORK = "demo"
"""The name of the network, so the first segment of its path."""

MISFORTUNES = Schedule(
    (
        (10, fault("status 500")),
        (18, HEALTHY),
        (26, fault("hang")),
        (34, HEALTHY),
        (42, fault("lag 20")),
        (52, HEALTHY),
        (60, fault("refuse")),
        (68, HEALTHY),
    ),
    repeat_seconds=76,
)
"""What befalls ``local-1`` unless told otherwise; the others stay well."""


class DemoWorld(Service):
    """The chain and its nodes, as a service.

    ``reactor`` gives sockets and time. ``schedules`` maps a node's name (``local-1``, ``local-2``, ``fallback-1``) to
    what befalls it. Every ``reorg_every_blocks`` blocks (0: never) the newest two are replaced. ``narrate`` is called
    with a sentence whenever something happens. ``start_blocks`` are there from the beginning.

    The nodes' ports are open, and :meth:`config_text` complete, from :meth:`open` on, which ``startService`` calls
    where it was not called before.
    """

    name: Any = "demo-world"
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        seed: int = 1,
        block_seconds: float = 1.0,
        reorg_every_blocks: int = 25,
        start_blocks: int = 100,
        schedules: Mapping[str, Schedule] | None = None,
        narrate: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._reactor = reactor
        self._block_seconds = block_seconds
        self._reorg_every_blocks = reorg_every_blocks
        self._schedules = {"local-1": MISFORTUNES} if schedules is None else schedules
        self._narrate = narrate
        self._begun = 0.0
        self.chain = DemoChain(seed, start=max(0, int(reactor.seconds() - start_blocks * block_seconds)))
        self._mine_history(start_blocks)
        names = ("local-1", "local-2", "fallback-1")
        self.nodes = {name: DemoNode(reactor, self.chain, name, load=0.3 + 0.1 * i) for i, name in enumerate(names)}
        self._miner = self._repeat(self._mine)
        self._stage = self._repeat(self._act)

    def open(self) -> None:
        """Open the nodes' ports, unless they are."""
        for node in self.nodes.values():
            if not node.is_listening:
                node.listen(self._reactor, node.port)

    def config_text(self, port: int = 8080, metrics_port: int = 9101) -> str:
        """A balancer's configuration for these nodes, as YAML."""
        return demo_config(self.nodes.values(), port, metrics_port)

    def startService(self) -> None:
        """Open the ports; begin to mine and to play the schedules."""
        super().startService()
        self.open()
        self._begun = self._reactor.seconds()
        self._miner.start(self._block_seconds, now=False)
        self._stage.start(TICK_SECONDS)

    def stopService(self) -> Deferred[Any]:
        """Stop mining and close every port; fires when they are closed."""
        super().stopService()
        for loop in (self._miner, self._stage):
            if loop.running:
                loop.stop()
        return gatherResults([node.stop() for node in self.nodes.values()])

    def befall(self, name: str, wrong: Fault) -> None:
        """Give a node another fault, and say so, unless it has it already. A schedule may take it away again."""
        node = self.nodes[name]
        if node.fault != wrong:
            node.become(wrong)
            self._narrate(f"{name} {'is well again' if wrong == HEALTHY else 'now ' + wrong.description}")

    def _mine_history(self, blocks: int) -> None:
        for number in range(1, blocks + 1):
            self.chain.mine(self.chain.genesis.timestamp + number * self._block_seconds)

    def _mine(self) -> None:
        now = self._reactor.seconds()
        every = self._reorg_every_blocks
        if every and self.chain.head.number % every == every - 1:
            replaced = self.chain.reorg(2, now, length=3)
            self._narrate(f"the chain replaced its blocks {replaced[0].number} and {replaced[-1].number} (a reorg)")
        else:
            self.chain.mine(now)

    def _act(self) -> None:
        elapsed = self._reactor.seconds() - self._begun
        for name, schedule in self._schedules.items():
            self.befall(name, schedule.fault_at(elapsed))

    def _repeat(self, action: Callable[[], None]) -> LoopingCall:
        def guarded() -> None:
            with self._log.failuresHandled("the demo stumbled"):
                action()

        loop = LoopingCall(guarded)
        loop.clock = self._reactor
        return loop


def demo_config(nodes: Iterable[DemoNode], port: int, metrics_port: int) -> str:
    """A configuration for nodes named after their role (``local-1``, ``fallback-1``), as YAML."""
    by_role: dict[str, list[DemoNode]] = {}
    for node in nodes:
        by_role.setdefault(node.name.partition("-")[0], []).append(node)
    lines = [f"port: {port}", f"metrics_port: {metrics_port}", "networks:", f"  - name: {NETWORK}"]
    lines += ["    local_poll_interval: 500ms", "    monitoring_poll_interval: 1s", "    rpc_timeout: 2s"]
    lines += ["    network_block_diff: 3", "    use_load_tracker: true", "    load_period: 1"]
    lines += ["    load_balance_priority: [chainhead, load, latency]"]
    for role, members in by_role.items():
        lines.append(f"    {role}_nodes:")
        for node in members:
            lines += [f"      - name: {node.name}", f"        rpc_endpoint: {node.url}"]
            lines.append(f"        ws_endpoint: {node.ws_url}")
            if role == "local":
                lines.append(f"        prometheus_endpoint: {node.url}/metrics")
    return "\n".join(lines) + "\n"
