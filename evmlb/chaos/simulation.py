"""One run: everything made from a scenario, run to its end, and judged."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from evmlb.balancer import Balancer
from evmlb.chaos.client import Client
from evmlb.chaos.clock import VirtualClock
from evmlb.chaos.invariants import Observer, executed_once, nothing_left, within_budget
from evmlb.chaos.network import MemoryNetwork, Transport
from evmlb.chaos.node import ChaosNode, Ledger
from evmlb.chaos.questions import Question, Questions
from evmlb.chaos.scenario import CHAIN_ID, Scenario
from evmlb.chaos.trace import Trace
from evmlb.chaos.truth import UNIX_TIME, Chain
from evmlb.events import ChainheadMoved, Events
from evmlb.service import FrontService, NodesService, OrderedService
from evmlb.wire.http1 import request_heads, response_heads

QUIET_SECONDS = 60.0
"""How long after the last question everything must have ended, beside the time that requests may take."""
CLOSED_SECONDS = 15.0
"""How long after the end of its grace a stopped balancer may take: a connection may linger for ten."""
TOLD_EVENTS = 40
_STEP_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run. ``digest`` is the same whenever it goes the same way; ``last`` are the events before the
    first violation, or the last ones.
    """

    scenario: Scenario
    violations: tuple[str, ...]
    digest: str
    last: tuple[str, ...]
    questions: int
    virtual_seconds: float


class _Port:
    """A listening port of the balancer on the memory network."""

    def __init__(self, build: Callable[[Any], Any], network: MemoryNetwork) -> None:
        self._build = build
        self._network = network
        self._open = True

    def call(self, address: str, protocol: Any) -> Transport | None:
        """Connect a client; None when the port is closed."""
        return self._network.call(self._build, address, protocol) if self._open else None

    def getHost(self) -> object:
        """It has no number."""
        return self

    def stopListening(self) -> Deferred[None]:
        """Accept no more."""
        self._open = False
        return succeed(None)


class _MemoryFront(FrontService):
    """The front on a port in memory."""

    def __init__(self, balancer: Balancer, port: _Port) -> None:
        super().__init__(balancer)
        self._port = port

    def privilegedStartService(self) -> None:
        """Open nothing: the port is there."""
        Service.privilegedStartService(self)
        self._ports = [self._port]


@implementer(ILogObserver)
class _LogWatch:
    """Sees what the product did not expect: whatever it logs with a failure."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def __call__(self, event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None and event.get("log_level") is LogLevel.critical:
            self._observer.violated(f"the balancer did not expect this: {_told(failure)}")


def _told(failure: Failure) -> str:
    return f"{type(failure.value).__name__}: {failure.getErrorMessage()}\n{failure.getBriefTraceback()}"


class Simulation:
    """One run."""

    def __init__(self, scenario: Scenario) -> None:
        for memo in (request_heads, response_heads):
            memo.clear()  # shared by all runs of a process: what one learned must not change the next
        self.scenario = scenario
        rng = random.Random(scenario.seed ^ 0x5EED)
        self.clock = clock = VirtualClock()
        self.trace = Trace(clock.seconds)
        chain_id = scenario.network.chain_id or CHAIN_ID
        self.chain = Chain(scenario.seed, chain_id, scenario.block_seconds)
        self.network = MemoryNetwork(clock, rng.randrange(2**32), scenario.latency_seconds)
        self.ledger = Ledger(scenario.block_seconds)
        self.observer = Observer(scenario, self.chain, clock, self.trace)
        self.nodes = [self._make_node(index, rng) for index in range(len(scenario.network.nodes))]
        self.balancer = Balancer(
            scenario.config,
            clock,
            clock.seconds,
            lambda: UNIX_TIME + clock.seconds(),
            random.Random(rng.randrange(2**32)),
            self._watch,
            self.network.connect,
        )
        self.port = _Port(self.balancer.front.build, self.network)
        self.service = OrderedService()
        NodesService(self.balancer).setServiceParent(self.service)
        _MemoryFront(self.balancer, self.port).setServiceParent(self.service)
        self._questions = Questions(self.chain, rng.randrange(2**32))
        self.clients = [self._make_client(index, rng) for index in range(scenario.clients)]
        self._stopped: list[object] = []

    def _make_node(self, index: int, rng: random.Random) -> ChaosNode:
        config = self.scenario.network.nodes[index]
        node = ChaosNode(
            config.name,
            config.endpoint.host,
            self.network,
            self.chain,
            self.ledger,
            self.trace,
            self.observer.told,
            rng.randrange(2**32),
            rng.choice((0.0005, 0.005, 0.03)),
            self.scenario.network.health_check.request.status_code,
        )
        self.observer.nodes[config.name] = node
        return node

    def _make_client(self, index: int, rng: random.Random) -> Client:
        name = f"client-{index}"
        client = Client(
            name,
            self.clock,
            self.observer,
            lambda protocol: self.port.call(f"192.0.2.{index + 1}", protocol),
            lambda: self._draw(name),
            self.scenario.network.name,
            rng.randrange(2**32),
            self.scenario.until,
            self.scenario.think_seconds,
        )
        client.start(rng.uniform(0.0, 2.0))
        return client

    def _draw(self, client: str) -> Question:
        question = self._questions.draw(self.observer.surely_known, large=self.scenario.large_answers)
        self.trace.say(f"{client} asks {question}")
        return question

    def _watch(self, events: Events) -> None:
        for event in events:
            self.trace.say(f"balancer: {event}")
            if isinstance(event, ChainheadMoved):
                self.observer.chainhead_moved(event.number)

    # the run

    def run(self) -> Outcome:
        """Run it to its end."""
        watch = _LogWatch(self.observer)
        globalLogPublisher.addObserver(watch)
        try:
            self._run()
        except Exception:
            self.observer.violated(f"something broke: {_told(Failure())}")
        finally:
            globalLogPublisher.removeObserver(watch)
        return Outcome(
            self.scenario,
            tuple(self.observer.violations),
            self.trace.digest(),
            tuple(self.trace.last(TOLD_EVENTS)),
            self._questions.count,
            self.clock.seconds(),
        )

    def _run(self) -> None:
        scenario, clock = self.scenario, self.clock
        self.service.startService()
        for change in scenario.changes:
            clock.callLater(change.at, self.nodes[change.node].become, change.ailment)
        if scenario.stop_at is not None:
            clock.run_until(scenario.stop_at)
            self._stop()
        clock.run_until(scenario.until)
        if scenario.stop_at is None:
            self._run_until(self._is_quiet, self._patience())
            self._check(nothing_left(self.balancer))
            self._check(f"{client.name} still waits" for client in self.clients if client.waits)
            self._stop()
        grace = scenario.config.shutdown_grace_seconds
        if not self._run_until(lambda: bool(self._stopped), grace + CLOSED_SECONDS):
            self.observer.violated("the balancer does not stop")
        self._run_until(lambda: all(client.done for client in self.clients), scenario.until)
        clock.run_until(clock.seconds() + 1.0)  # what is on the wire arrives
        self._check(executed_once(self.ledger))
        self._check(within_budget(self.balancer, scenario, self._questions.count))
        self._check(nothing_left(self.balancer))
        self._check(self._nothing_open())

    def _patience(self) -> float:
        """How long the last question may take."""
        network = self.scenario.network
        return QUIET_SECONDS + max(network.request_timeout_seconds, network.slow_request_timeout_seconds)

    def _run_until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until something is so, or for this long."""
        ends_at = self.clock.seconds() + seconds
        while not done() and self.clock.seconds() < ends_at:
            self.clock.run_until(self.clock.seconds() + _STEP_SECONDS)
        return done()

    def _is_quiet(self) -> bool:
        return all(client.done and not client.waits for client in self.clients) and not any(nothing_left(self.balancer))

    def _stop(self) -> None:
        self.trace.say("the balancer is told to stop")
        self.observer.stopped_at = self.clock.seconds()
        self.service.stopService().addBoth(self._stopped.append)

    def _check(self, violations: Iterator[str]) -> None:
        for words in violations:
            self.observer.violated(words)

    def _nothing_open(self) -> Iterator[str]:
        """After the end nothing is open, and nothing is due."""
        for transport in self.network.ours:
            yield f"a connection to {transport.getPeer().host} is open after the end"
        for call in self.clock.calls:
            if not isinstance(getattr(call.func, "__self__", None), Transport):  # late bytes of a slow node
                yield f"due after the end: {getattr(call.func, '__qualname__', call.func)}"


def simulate(scenario: Scenario) -> Outcome:
    """Run a scenario."""
    return Simulation(scenario).run()
