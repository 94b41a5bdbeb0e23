"""The programs that a benchmark needs, started on loopback and stopped again.

    wrk -> balancer under test (HAProxy or evmlb) -> nginx, the static node

The balancer has the first core to itself; wrk, nginx and this harness share the others.
"""

from __future__ import annotations

import http.client
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from string import Template
from types import TracebackType

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PROGRAMS = ("nginx", "haproxy", "wrk")
"""Named as their Debian packages."""
MAX_NODES = 64
SMALL = '{"jsonrpc":"2.0","id":1,"result":"0x1234567"}'
"""What the static node answers to anything small, polls included: it is a head and a chain id."""
SIZES = {"1k": (201, 1000), "100k": (202, 100_000), "10M": (203, 10_000_000)}
"""Length of the request's body and of the answer's."""
START_SECONDS = 20.0
STOP_SECONDS = 12.0
_DESCRIPTORS = 32768
_LEASH = ("setpriv", "--pdeathsig", "TERM")
"""Ends what was started even when the harness is killed and cannot."""
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))


class PartFailed(Exception):
    """A program did not do what it was started for; says what, and what the program wrote last."""


def program(name: str) -> str | None:
    """Where a program is; None when it is not installed."""
    return shutil.which(name, path=_PATH)


def missing_programs() -> list[str]:
    """Those of ``PROGRAMS`` that are not installed."""
    return [name for name in PROGRAMS if program(name) is None]


class Process:
    """A program that was started, pinned to cores, its output kept in a file."""

    def __init__(self, name: str, command: Sequence[str], cores: set[int], log: Path) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                [*_LEASH, "taskset", "-c", ",".join(map(str, sorted(cores))), *command],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.pid = self._popen.pid  # setpriv and taskset replace themselves by the program

    def failure(self, words: str) -> PartFailed:
        """The error to raise, with the end of the output."""
        output = self._log.read_text(errors="replace")[-2000:]
        return PartFailed(f"{self.name} {words}\n{output}".rstrip())

    def check(self) -> None:
        """Raise unless it runs."""
        status = self._popen.poll()
        if status is not None:
            raise self.failure(f"ended with status {status}")

    def cpu_seconds(self) -> float:
        """User and system time so far, as in ``/proc/PID/stat`` but in nanoseconds (clock_getcpuclockid(3))."""
        return time.clock_gettime((~self.pid << 3) | 2)

    def memory(self) -> int:
        """Resident bytes now."""
        return self._kib("smaps_rollup", "Rss:") * 1024

    def peak_memory(self) -> int:
        """Resident bytes at most, since the start or the last ``forget_peak``."""
        return self._kib("status", "VmHWM:") * 1024

    def forget_peak(self) -> None:
        """Begin a new peak."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _kib(self, file: str, field: str) -> int:
        for line in Path(f"/proc/{self.pid}/{file}").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])
        raise PartFailed(f"the kernel does not tell {field} of {self.name}")

    def stop(self) -> None:
        """Ask it to end, then make it."""
        self._popen.terminate()
        try:
            self._popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


@dataclass(frozen=True, slots=True)
class Target:
    """Something that answers requests. ``page_port`` has its metrics; 0: it has none."""

    name: str
    process: Process
    port: int
    page_port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def wait_ready(self, networks: int = 1) -> None:
        """Return when the first and last network answer; raise :class:`PartFailed` when they do not in time."""
        deadline = time.monotonic() + START_SECONDS
        for path in {"/n0", f"/n{networks - 1}"}:
            while not answers(self.port, path):
                self.process.check()
                if time.monotonic() > deadline:
                    raise self.process.failure(f"did not answer within {START_SECONDS:g} s")
                time.sleep(0.05)


def answers(port: int, path: str) -> bool:
    """Whether a small call is answered as the static node answers it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        body = '{"jsonrpc":"2.0","id":1,"method":"eth_gasPrice","params":[]}'
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status == 200 and answer.read() == SMALL.encode()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Bench:
    """A folder, the cores, and the static node; everything started through it ends with it."""

    def __init__(self) -> None:
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise PartFailed("two cores are needed: one for the balancer, one for the load")
        self.balancer_cores, self.load_cores = {cores[0]}, set(cores[1:])
        self._stack = ExitStack()
        self._started = 0

    def __enter__(self) -> Bench:
        self._stack.__enter__()
        try:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="evmlb-bench-"))
            self.folder = Path(folder)
            os.sched_setaffinity(0, self.load_cores)
            _limit_descriptors()
            self.node = self._start_nginx()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _start_nginx(self) -> Target:
        port = free_port()
        answers_folder = self.folder / "answers"
        answers_folder.mkdir()
        for name, (_, length) in SIZES.items():
            (answers_folder / f"{name}.json").write_text(sized_answer(length))
        config = self._write(
            "nginx.conf",
            folder=self.folder,
            small=SMALL,
            sizes="\n".join(f"        {asked} {name};" for name, (asked, _) in SIZES.items()),
            listens="\n".join(f"        listen {node_address(n)}:{port};" for n in range(MAX_NODES)),
        )
        command = [str(program("nginx")), "-e", "stderr", "-p", str(self.folder), "-c", str(config)]
        node = Target("nginx", self._start("nginx", command, self.load_cores), port)
        self._stack.callback(node.process.stop)
        node.wait_ready()
        return node

    def _write(self, template: str, **values: object) -> Path:
        path = self.folder / f"{self._started}-{template}"
        path.write_text(Template((HERE / "templates" / template).read_text()).substitute(values))
        return path

    def _start(self, name: str, command: Sequence[str], cores: set[int]) -> Process:
        self._started += 1
        return Process(name, command, cores, self.folder / f"{self._started}-{name}.log")

    def haproxy(self, networks: int = 1) -> Running:
        """HAProxy with one thread: a backend of two nodes for each network."""
        port, page_port = free_port(), free_port()
        servers = "".join(f"    server s{n} {node_address(n)}:{self.node.port}\n" for n in range(2))
        config = self._write(
            "haproxy.cfg",
            port=port,
            page_port=page_port,
            choose="default_backend n0" if networks == 1 else "use_backend %[path,field(2,/)]",
            backends="".join(f"backend n{network}\n{servers}" for network in range(networks)),
        )
        command = [str(program("haproxy")), "-db", "-f", str(config)]
        process = self._start("haproxy", command, self.balancer_cores)
        return Running(Target("HAProxy", process, port, page_port), networks)

    def evmlb(self, setup: Setup | None = None) -> Running:
        """evmlb, started as its users start it."""
        setup = setup or Setup()
        port, page_port = free_port(), free_port()
        config = self.folder / f"{self._started}-evmlb.yaml"
        config.write_text(setup.yaml(port, page_port, self.node.port))
        command = [sys.executable, "-m", "twisted", *setup.twisted_options, "evmlb", "--config", str(config)]
        target = Target("evmlb", self._start("evmlb", command, self.balancer_cores), port, page_port)
        return Running(target, setup.networks)


class Running:
    """A balancer for the length of a ``with``: entered when it answers, left when it has ended."""

    def __init__(self, target: Target, networks: int) -> None:
        self._target = target
        self._networks = networks

    def __enter__(self) -> Target:
        try:
            self._target.wait_ready(self._networks)
        except BaseException:
            self._target.process.stop()
            raise
        return self._target

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._target.process.stop()


@dataclass(frozen=True, slots=True)
class Setup:
    """What evmlb is started with; everything not named here has its default."""

    networks: int = 1
    nodes: int = 2
    poll_interval: str = "1s"
    strategy: str = ""
    reactor: str = ""
    endpoint: bool = False
    """Give the client port as an endpoint string."""

    @property
    def twisted_options(self) -> list[str]:
        return [f"--reactor={self.reactor}"] if self.reactor else []

    def yaml(self, port: int, page_port: int, node_port: int) -> str:
        """The configuration file."""
        lines = [f"listen: ['tcp:{port}:interface=127.0.0.1']" if self.endpoint else f"port: {port}"]
        lines += [f"metrics_port: {page_port}", "networks:"]
        for number in range(self.networks):
            lines += [f"  - name: n{number}", f"    local_poll_interval: {self.poll_interval}"]
            if self.strategy:
                lines.append(f"    strategy: {self.strategy}")
            lines.append("    local_nodes:")
            lines += [f"      - rpc_endpoint: http://{node_address(n)}:{node_port}" for n in range(self.nodes)]
        return "\n".join(lines) + "\n"


def node_address(number: int) -> str:
    """The static node answers on many addresses, so that it can be many nodes."""
    return f"127.0.0.{number + 1}"


def sized_answer(length: int) -> str:
    """An answer with id 1 of so many bytes."""
    start, end = '{"jsonrpc":"2.0","id":1,"result":"0x', '"}'
    return start + "7" * (length - len(start) - len(end)) + end


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _limit_descriptors() -> None:
    """The same limit for everything that is started, enough for the idle connections, no more: tables grow with it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
