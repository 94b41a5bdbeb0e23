"""Load on a balancer, and what it cost: wrk's figures beside the balancer's own CPU time."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from types import TracebackType

from parts import HERE, SIZES, Bench, PartFailed, Target, program

SCRAPE_SECONDS = 1.0
_SMALL_CALL = b'{"jsonrpc":"2.0","id":1,"method":"eth_gasPrice","params":[]}'


@dataclass(frozen=True, slots=True)
class Shape:
    """What is asked. ``size`` is small or one of ``SIZES``; clients pause ``think_ms`` (mean) between requests."""

    connections: int = 64
    seconds: int = 4
    size: str = "small"
    networks: int = 1
    think_ms: int = 0
    scrape: bool = False
    unique_heads: bool = False
    """Each request has a header that no other has."""

    @property
    def arguments(self) -> list[str]:
        """What load.lua is told."""
        size = str(SIZES[self.size][0]) if self.size in SIZES else self.size
        return [size, str(self.networks), str(self.think_ms), "unique" if self.unique_heads else "same"]


@dataclass(frozen=True, slots=True)
class Load:
    """One round. ``answers`` counts the part of answers that a round's end cut off, too, when they are large."""

    seconds: float
    answers: float
    p50_us: float
    p99_us: float
    errors: int
    cpu_seconds: float


def apply_load(bench: Bench, target: Target, shape: Shape) -> Load:
    """One round of wrk; raises :class:`PartFailed` when nothing was answered."""
    with Scraper(target.page_port if shape.scrape else 0):
        before = target.process.cpu_seconds()
        told = _wrk(bench, target, shape)
        cpu = target.process.cpu_seconds() - before
    target.process.check()
    answers = told["requests"] if shape.size == "small" else told["bytes"] / SIZES[shape.size][1]
    if not answers:
        raise target.process.failure("answered nothing under load")
    return Load(told["seconds"], answers, told["p50_us"], told["p99_us"], int(told["errors"]), cpu)


def _wrk(bench: Bench, target: Target, shape: Shape) -> dict[str, float]:
    command = [
        str(program("wrk")),
        *("-t1", f"-c{shape.connections}", f"-d{shape.seconds}s", "--timeout", "10s"),
        *("-s", str(HERE / "load.lua"), target.url, "--", *shape.arguments),
    ]
    # the harness runs on the load's cores, and its children inherit that
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=shape.seconds + 30)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            told: dict[str, float] = json.loads(line.removeprefix("RESULT "))
            return told
    raise PartFailed(f"wrk failed: {done.stdout}{done.stderr}")


class Scraper:
    """Asks for a metrics page once a second, as a Prometheus that is in a hurry does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        if self._port:
            self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end.set()
        if self._port:
            self._thread.join(15)

    def _run(self) -> None:
        while not self._end.wait(SCRAPE_SECONDS):
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            try:
                connection.request("GET", "/metrics")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                pass  # a page that fails shows in the integration tests
            finally:
                connection.close()


class HeldConnections:
    """Client connections that stay open, one after the other made and used once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> HeldConnections:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for sock in self._sockets:
            sock.close()

    def hold(self, count: int) -> None:
        """Open so many more; each has had an answer when this returns."""
        request = http_request(_SMALL_CALL)
        for _ in range(count):
            sock = self._connect()
            sock.sendall(request)
            received = b""
            while not received.endswith(b"}"):
                piece = sock.recv(4096)
                if not piece:
                    raise PartFailed(f"connection {len(self._sockets)} was closed instead of answered")
                received += piece

    def ask_and_ignore(self, count: int, size: str) -> None:
        """Open so many more, ask for a large answer on each, and do not read it."""
        asked, _ = SIZES[size]
        for _ in range(count):
            self._connect(receive_buffer=65536).sendall(http_request(_SMALL_CALL.ljust(asked)))

    def _connect(self, receive_buffer: int = 0) -> socket.socket:
        sock = socket.socket()
        self._sockets.append(sock)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(10)
        sock.connect(("127.0.0.1", self._port))
        return sock


def http_request(body: bytes) -> bytes:
    """A POST to the first network."""
    head = b"POST /n0 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


Figure = Callable[[Load], float]
"""Something to be read off a round."""


def rate(load: Load) -> float:
    """Answers per second."""
    return load.answers / load.seconds


def cpu_us(load: Load) -> float:
    """Microseconds of the balancer's CPU time per answer."""
    return load.cpu_seconds / load.answers * 1e6


def busy(load: Load) -> float:
    """The share of its core that the balancer used."""
    return load.cpu_seconds / load.seconds


def p50_us(load: Load) -> float:
    """The latency that half of the answers keep below."""
    return load.p50_us


def p99_us(load: Load) -> float:
    """The latency that all but one in a hundred answers keep below."""
    return load.p99_us


def middle(loads: Sequence[Load], figure: Figure) -> float:
    """The median over rounds."""
    return median(map(figure, loads))


def span(loads: Sequence[Load], figure: Figure) -> tuple[float, float]:
    """The lowest and highest over rounds."""
    values = [figure(load) for load in loads]
    return min(values), max(values)


def alternate(
    bench: Bench, targets: Sequence[Target], shape: Shape, rounds: int, warm_seconds: int = 1
) -> dict[str, list[Load]]:
    """Rounds for each target by name, taken in turns, so that what disturbs the machine disturbs all of them alike."""
    loads: dict[str, list[Load]] = {target.name: [] for target in targets}
    for target in targets:
        if warm_seconds:
            apply_load(bench, target, Shape(shape.connections, warm_seconds, shape.size, shape.networks))
    for number in range(rounds):
        for target in targets if number % 2 == 0 else list(reversed(targets)):
            loads[target.name].append(apply_load(bench, target, shape))
    return loads
