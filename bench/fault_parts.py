"""The processes of the fault and overload benchmarks, on loopback: nodes that misbehave, and evmlb before them.

Nothing is pinned to a core: what is looked for is what clients see, not what it costs. Everything started through a
:class:`Scene` ends with it, and by the kernel's hand when the harness itself is killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.request import urlopen

from asking import Asked
from parts import HERE, PartFailed, free_port

START_SECONDS = 20.0
STOP_SECONDS = 12.0


class Child:
    """A program: its standard output is read by us where ``talks``, everything else goes to its log."""

    def __init__(self, name: str, command: Sequence[str], log: Path, *, talks: bool = False, tree: Path = HERE) -> None:
        self.name = name
        self._log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                cwd=tree,
                env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else output,
                stderr=output,
                text=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid  # setpriv replaced itself by the program

    def failure(self, words: str) -> PartFailed:
        """The error to raise, with the end of its log."""
        return PartFailed(f"{self.name} {words}\n{self._log.read_text(errors='replace')[-2000:]}".rstrip())

    def check(self) -> None:
        """Raise unless it runs."""
        status = self._popen.poll()
        if status is not None:
            raise self.failure(f"ended with status {status}")

    def say(self, line: str) -> str:
        """Send a line; the line that answers it."""
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(f"{line}\n")
            self._popen.stdin.flush()
        except OSError as error:
            raise self.failure(f"does not listen: {error}") from None
        return self.hear()

    def hear(self) -> str:
        """The next line it writes."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            raise self.failure("said nothing more")
        return line.strip()

    def read_all(self, seconds: float) -> str:
        """Everything it writes until it ends."""
        try:
            output, _ = self._popen.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise self.failure(f"did not end within {seconds:g} s") from None
        if self._popen.returncode:
            raise self.failure(f"ended with status {self._popen.returncode}")
        return output

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._popen.send_signal(number)

    def cpu_seconds(self) -> float:
        """User and system time so far (clock_getcpuclockid(3))."""
        return time.clock_gettime((~self.pid << 3) | 2)

    def kill(self) -> None:
        """End it at once, even where it stands still; its sockets are closed when this returns."""
        self._popen.kill()
        self._popen.wait()
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                stream.close()

    def stop(self) -> None:
        """Ask it to end, then make it."""
        self._popen.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_SECONDS)
        self.kill()


class Node:
    """A node at an address of its own, so that no connection can take its port while it is away."""

    def __init__(self, number: int, folder: Path, latency_ms: float, spread: float = 0.0) -> None:
        self.address = f"127.0.0.{number + 2}"
        self.port = free_port()
        self.journal = folder / f"journal-{number}"
        self._log = folder / f"node-{number}.log"
        self._latency_ms = latency_ms
        self._spread = spread
        self.start()

    @property
    def name(self) -> str:
        """As evmlb calls it."""
        return f"{self.address}:{self.port}"

    def start(self) -> None:
        """Start it, or again; returns when it listens."""
        where = [self.address, str(self.port), "--journal", str(self.journal), "--latency-ms", str(self._latency_ms)]
        where += ["--spread", str(self._spread)]
        command = [sys.executable, str(HERE / "fault_node.py"), *where]
        self.child = Child(f"node {self.name}", command, self._log, talks=True)
        self.child.hear()

    def become(self, fault: str) -> None:
        """Misbehave from the next request on; ``killed`` and ``stopped`` are done to the process."""
        if fault == "killed":
            self.child.kill()
        elif fault == "stopped":
            self.child.signal(signal.SIGSTOP)
        elif (answer := self.child.say(f"become {fault}")) != "ok":
            raise PartFailed(answer)

    def recover(self, fault: str) -> None:
        """Be well again."""
        if fault == "killed":
            self.start()
        elif fault == "stopped":
            self.child.signal(signal.SIGCONT)
        else:
            self.become("healthy")

    def end(self) -> None:
        """End the process that there is now."""
        self.child.kill()

    def tally(self) -> dict[str, Any]:
        """The clients' requests by fault (``received``), the most under way at one time (``most_busy``)."""
        told: dict[str, Any] = json.loads(self.child.say("tally"))
        return told

    def markers(self) -> list[str]:
        """The markers of what must not be carried out twice, as often as they were received."""
        return self.journal.read_text().split()


class Balancer:
    """evmlb as its users start it, with nothing configured but its ports and the network."""

    def __init__(self, tree: Path, folder: Path, network: str) -> None:
        self.port, self._admin_port = free_port(), free_port()
        config = folder / "evmlb.yaml"
        config.write_text(
            f"listen: ['tcp:{self.port}:interface=127.0.0.1']\n"
            f"admin_listen: ['tcp:{self._admin_port}:interface=127.0.0.1']\n"
            f"networks:\n{network}"
        )
        command = [sys.executable, "-m", "evmlb", "run", "--config", str(config)]
        self._log = folder / "evmlb.log"
        self.child = Child("evmlb", command, self._log, tree=tree)

    def order(self) -> list[str]:
        """The names of the nodes in the order in which it would ask them now; empty while it does not answer."""
        try:
            with urlopen(f"http://127.0.0.1:{self._admin_port}/nodes/n0", timeout=5) as page:
                order: list[str] = json.load(page)["order"]
                return order
        except OSError:
            return []

    def total(self, name: str) -> float:
        """The sum of a metric over its series."""
        with urlopen(f"http://127.0.0.1:{self._admin_port}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    def tracebacks(self) -> int:
        """How many there are in its log."""
        return self._log.read_text(errors="replace").count("Traceback (most recent")

    def wait_for(self, nodes: int) -> None:
        """Return when it would ask so many nodes."""
        deadline = time.monotonic() + START_SECONDS
        while len(self.order()) < nodes:
            self.child.check()
            if time.monotonic() > deadline:
                raise self.child.failure(f"did not find {nodes} nodes within {START_SECONDS:g} s")
            time.sleep(0.05)


def network_of(nodes: Sequence[Node], roles: Sequence[str], more: str = "") -> str:
    """The network as YAML: each node with its role; ``more`` are lines of each node."""
    lines = ["  - name: n0\n"]
    for role in dict.fromkeys(roles):
        lines.append(f"    {role}_nodes:\n")
        mine = [node for node, its in zip(nodes, roles, strict=True) if its == role]
        lines += [f"      - rpc_endpoint: http://{node.name}\n{more}" for node in mine]
    return "".join(lines)


class Scene:
    """Nodes, one per role, and evmlb before them; ``tree`` is the checkout whose evmlb it is."""

    def __init__(
        self, tree: Path, roles: Sequence[str], *, latency_ms: float = 3.0, spread: float = 0.0, more: str = ""
    ) -> None:
        self._tree = tree
        self._roles = roles
        self._latency_ms = latency_ms
        self._spread = spread
        self._more = more
        self._stack = ExitStack()

    def __enter__(self) -> Scene:
        try:
            self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="evmlb-faults-")))
            self.nodes: list[Node] = []
            for number in range(len(self._roles)):
                node = Node(number, self.folder, self._latency_ms, self._spread)
                self._stack.callback(node.end)
                self.nodes.append(node)
            self.balancer = Balancer(self._tree, self.folder, network_of(self.nodes, self._roles, self._more))
            self._stack.callback(self.balancer.child.stop)
            self.balancer.wait_for(len(self.nodes))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def preferred(self) -> Node:
        """The node that evmlb asks first now."""
        order = self.balancer.order()
        self.balancer.child.check()
        for node in self.nodes:
            if order and node.name == order[0]:
                return node
        raise self.balancer.child.failure(f"prefers none of its nodes: {order}")

    def client(self, program: str, *arguments: str) -> Child:
        """Start a program of this folder that asks; it writes what it saw to its standard output."""
        child = Child(
            program, [sys.executable, str(HERE / program), *arguments], self.folder / "client.log", talks=True
        )
        self._stack.callback(child.kill)
        return child


def asked_and_rest(output: str) -> tuple[list[Asked], dict[str, float]]:
    """What a client wrote: its requests, and its last line."""
    *rows, last = output.splitlines()
    return [Asked(*json.loads(row)) for row in rows], json.loads(last)
