"""The processes of the WebSocket benchmark: beside those of ``parts``, an EVM node, and clients."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fault_parts import Child
from load import Load
from parts import HERE, Bench, PartFailed, Process, Running, Setup, Target, free_port, node_address, program

PATH = "/n0"
NODES = 2
_UPSTREAM_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Upstream:
    """The EVM node, under its two addresses."""

    child: Child
    port: int

    def head(self) -> tuple[int, float]:
        """Make a block and push it: its number, and when that began."""
        told = json.loads(self.child.say("head"))
        return told["number"], told["at"]

    def prepare(self, blocks: int) -> None:
        """Make the logs of the next blocks."""
        self.child.say(f"prepare {blocks}")

    def subscribers(self) -> int:
        return int(self.child.say("subscribers"))

    def wait_for_subscribers(self, count: int) -> None:
        """Return when so many are subscribed."""
        until = time.monotonic() + _UPSTREAM_SECONDS
        while self.subscribers() < count:
            if time.monotonic() > until:
                raise self.child.failure(f"has {self.subscribers()} subscribers instead of {count}")
            time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Clients that are subscribed, in one process."""

    child: Child

    def subscribe(self, order: str, count: int) -> None:
        """``more N`` or ``logs SHAPE``; ``count``: how many subscriptions there are then."""
        told = self.child.say(order)
        if told != str(count):
            raise self.child.failure(f"has {told} subscriptions instead of {count}: {self.rest()}")

    def seen(self, number: int, count: int, seconds: float) -> tuple[int, float, float]:
        """How many events of this block have come, when the last one was written, and when it was read."""
        told = json.loads(self.child.say(f"seen {number} {count} {seconds}"))
        return told["count"], min(told["written"], told["read"]), told["read"]

    def total(self) -> int:
        """How many events have come in all."""
        return int(self.child.say("total"))

    def rest(self) -> dict[str, int]:
        """What went wrong in all, by its name."""
        told: dict[str, int] = json.loads(self.child.say("rest"))
        return told


@dataclass(frozen=True, slots=True)
class SocketSetup(Setup):
    """evmlb with room for many WebSockets, before EVM nodes that have WebSocket, or before nginx."""

    upstream_port: int = 0
    """0: nginx."""

    def yaml(self, port: int, page_port: int, node_port: int) -> str:
        lines = [f"port: {port}", f"metrics_port: {page_port}", f"websocket: {{max_connections: {descriptors()}}}"]
        lines += ["networks:", "  - name: n0", "    local_nodes:"]
        for number in range(NODES):
            where = f"{node_address(number)}:{self.upstream_port or node_port}"
            lines.append(f"      - rpc_endpoint: http://{where}")
            if self.upstream_port:
                lines.append(f"        ws_endpoint: ws://{where}")
        return "\n".join(lines) + "\n"


class SocketBench(Bench):
    """A :class:`Bench` with EVM nodes and WebSocket clients."""

    def __enter__(self) -> SocketBench:
        super().__enter__()
        return self

    @contextmanager
    def upstream(self, shape: str = "") -> Iterator[Upstream]:
        """The EVM node; ``shape``: which logs its blocks have."""
        port = free_port()
        addresses = [node_address(number) for number in range(NODES)]
        arguments = [str(port), *addresses, *(["--shape", shape] if shape else [])]
        with self._talking("ws_node.py", *arguments) as child:
            yield Upstream(child, port)

    @contextmanager
    def crowd(self, target: Target) -> Iterator[Crowd]:
        """Clients of a balancer."""
        with self._talking("ws_subscribers.py", str(target.port), PATH) as child:
            yield Crowd(child)

    @contextmanager
    def caller(self, target: Target, seconds: float) -> Iterator[Child]:
        """One client that makes one call after the other for so long; what came of it is its next line."""
        with self._talking(
            "ws_calls.py", str(target.port), PATH, "--connections", "1", "--seconds", f"{seconds}"
        ) as child:
            yield child

    @contextmanager
    def _talking(self, name: str, *arguments: str) -> Iterator[Child]:
        # the harness runs on the load's cores, and its children inherit that
        command = [sys.executable, str(HERE / name), *arguments]
        child = Child(name, command, self.folder / f"{name}.log", talks=True)
        try:
            child.hear()
            yield child
        finally:
            child.kill()

    def evmlb_before(self, upstream: Upstream | None) -> Running:
        """Start evmlb before the EVM nodes; None: before nginx."""
        return self.evmlb(SocketSetup(upstream_port=upstream.port if upstream else 0))

    def pipe(self, upstream: Upstream) -> Running:
        """HAProxy, for which a WebSocket is bytes that it passes on."""
        port, page_port = free_port(), free_port()
        servers = "".join(f"    server s{n} {node_address(n)}:{upstream.port}\n" for n in range(NODES))
        config = self._write(
            "haproxy.cfg",
            port=port,
            page_port=page_port,
            choose="default_backend n0",
            backends=f"backend n0\n{servers}",
        )
        command = [str(program("haproxy")), "-db", "-f", str(config)]
        process = self._start("haproxy", command, self.balancer_cores)
        return Running(Target("HAProxy", process, port, page_port), 1)


def waited(process: Process) -> float:
    """Seconds that it was ready to run and its core did something else: ``/proc/PID/schedstat``."""
    return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[1]) / 1e9


def descriptors() -> int:
    """How many files each process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def call(target: Target, connections: int, seconds: float) -> Load:
    """One round of calls over WebSocket."""
    before = target.process.cpu_seconds()
    told = _called(target.port, connections, seconds)
    cpu = target.process.cpu_seconds() - before
    target.process.check()
    return Load(told["seconds"], told["answers"], told["p50_us"], told["p99_us"], int(told["errors"]), cpu)


def call_directly(upstream: Upstream, seconds: float) -> float:
    """p50 of one connection to the EVM node, in microseconds."""
    return float(_called(upstream.port, 1, seconds)["p50_us"])


def _called(port: int, connections: int, seconds: float) -> dict[str, Any]:
    where = [sys.executable, str(HERE / "ws_calls.py"), str(port), PATH]
    command = [*where, "--connections", str(connections), "--seconds", str(seconds)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + 30)
    lines = done.stdout.splitlines()
    if done.returncode or len(lines) != 2:
        raise PartFailed(f"calls failed: {done.stdout}{done.stderr}")
    told: dict[str, Any] = json.loads(lines[1])
    if not told["answers"]:
        raise PartFailed("nothing was answered")
    return told


def take_turns(targets: Sequence[Target], connections: int, seconds: float, rounds: int) -> dict[str, list[Load]]:
    """Rounds for each target by name, in turns; one before them does not count."""
    loads: dict[str, list[Load]] = {target.name: [] for target in targets}
    for target in targets:
        call(target, connections, 1.0)
    for number in range(rounds):
        for target in targets if number % 2 == 0 else list(reversed(targets)):
            loads[target.name].append(call(target, connections, seconds))
    return loads
