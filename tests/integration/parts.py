"""Real parts: processes on free loopback ports, started and stopped by the tests that want them.

Everything here blocks. A test that also has nodes in its own process calls these from a thread (``deferToThread``),
or those nodes could not answer meanwhile. Whatever is still running when the tests end is killed.
"""

from __future__ import annotations

import atexit
import http.server
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import SkipTest

import yaml

from evmlb.demo.exporter import CONTENT_TYPE, exporter_page
from tests.integration.asking import get, is_open, rpc, wait_until
from tests.support import free_port
from tools import parts

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 20.0
STOP_SECONDS = 15.0
GENESIS_TIMESTAMP = 1_700_000_000
EVMLB = (sys.executable, "-m", "twisted", "evmlb")
"""The balancer as the tests run it: the plugin of this checkout."""

TERMINATED = (0, -signal.SIGTERM, 128 + signal.SIGTERM)
"""How a process that was asked to end may end."""

_running: set[ChildProcess] = set()


class StartFailed(AssertionError):
    """A process ended, or did not answer in time, before it was ready; the message has the end of its output."""


class ChildProcess:
    """A process with its output in a file of a folder of its own.

    ``command`` is started by :meth:`start`, which returns once :meth:`is_ready`.
    """

    name = "process"
    stdin = subprocess.DEVNULL

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="evmlb-test-"))
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """The command line."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """The environment."""
        return os.environ

    def is_ready(self) -> bool:
        """Whether the process does its work."""
        raise NotImplementedError

    def launch(self) -> None:
        """Start the process and do not wait."""
        with open(self.folder / "output", "ab") as output:
            self.process = subprocess.Popen(
                self.command(),
                stdin=self.stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.environment(),
            )
        _running.add(self)

    def start(self) -> None:
        """Start the process and wait until it is ready; :class:`StartFailed` if that does not happen."""
        self.launch()
        try:
            wait_until(self._is_up, START_SECONDS, f"{self.name} to be ready")
        except AssertionError as error:
            output = self.output()[-3000:]
            self.kill()
            raise StartFailed(f"{error}\n{output}") from None

    def output(self) -> str:
        """What the process has written so far, both streams."""
        path = self.folder / "output"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait(self, timeout_seconds: float = STOP_SECONDS) -> int:
        """Wait for the process to end by itself; its exit status."""
        process = self._started()
        status = process.wait(timeout_seconds)
        _running.discard(self)
        return status

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), and do not wait."""
        self._started().terminate()

    def stop(self) -> int:
        """Ask it to end and wait; its exit status. Kills it when it does not end in time, which is an error."""
        self.terminate()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {STOP_SECONDS} s of SIGTERM") from None

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would. No-op when it is not running."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            _running.discard(self)

    def freeze(self) -> None:
        """Let it stand still (SIGSTOP): its port takes connections, and nothing answers.

        Returns when every thread has stopped: the signal takes effect on each a little later.
        """
        process = self._started()
        process.send_signal(signal.SIGSTOP)
        if Path("/proc/self/task").exists():
            wait_until(lambda: _is_stopped(process.pid), STOP_SECONDS, f"{self.name} to stand still")

    def thaw(self) -> None:
        """Let it go on."""
        self._started().send_signal(signal.SIGCONT)

    def clean(self) -> None:
        """Kill it and remove its folder: what a test adds as its cleanup."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _started(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise AssertionError(f"{self.name} was not started")
        return self.process

    def _is_up(self) -> bool:
        status = self._started().poll()
        if status is not None:
            raise StartFailed(f"{self.name} ended with status {status}")
        return self.is_ready()


def _is_stopped(pid: int) -> bool:
    """Whether all threads of a process are stopped (state T, the first word behind the name in parentheses)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return all(task.joinpath("stat").read_text().rpartition(")")[2].split()[0] in "Tt" for task in tasks)


class Anvil(ChildProcess):
    """A real EVM node that mines only when told, so that several started alike and told alike are one chain.

    Raises :class:`SkipTest` where anvil was not fetched (``make parts``).
    """

    name = "anvil"

    def __init__(self, port: int | None = None, *, chain_id: int = 31337, options: Sequence[str] = ()) -> None:
        if not parts.has_anvil():
            raise SkipTest("part missing: anvil (make parts)")
        super().__init__()
        self.port = free_port() if port is None else port
        self.chain_id = chain_id
        self._options = tuple(options)
        self._time = GENESIS_TIMESTAMP

    @property
    def url(self) -> str:
        """Where it is asked, over HTTP."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """Where it is asked, over WebSocket."""
        return f"ws://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        """Anvil without mining of its own, at a fixed time."""
        where = ("--host", "127.0.0.1", "--port", str(self.port), "--chain-id", str(self.chain_id))
        how = ("--no-mining", "--timestamp", str(GENESIS_TIMESTAMP), "--silent")
        return (str(parts.anvil_path()), *where, *how, *self._options)

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.rpc("eth_chainId") == hex(self.chain_id))
        except OSError:
            return False

    def rpc(self, method: str, *params: Any) -> Any:
        """The result of a call; :class:`AssertionError` for a JSON-RPC error, :class:`OSError` for no answer."""
        return rpc(self.url, method, *params)

    def mine(self, blocks: int = 1, timestamp: int | None = None) -> None:
        """Mine, one second of chain time per block, or at ``timestamp``."""
        for _ in range(blocks):
            self._time = self._time + 1 if timestamp is None else timestamp
            self.rpc("evm_mine", self._time)

    def block_number(self) -> int:
        """The number of its head."""
        return int(self.rpc("eth_blockNumber"), 16)

    def restart(self) -> None:
        """Start again on the same port after :meth:`kill` or :meth:`stop`, with an empty chain."""
        self._time = GENESIS_TIMESTAMP
        self.start()


class EvmlbProcess(ChildProcess):
    """The balancer in a process of its own, with the given configuration.

    The configuration names ``port`` and ``metrics_port`` (see :func:`with_ports`). ``until`` says when
    :meth:`start` returns: ``ready`` (``/readyz`` answers 200) or ``open`` (the ports take connections).
    """

    name = "evmlb"

    def __init__(
        self, config_text: str, *, until: str = "ready", command: Sequence[str] = EVMLB, **environ: str
    ) -> None:
        super().__init__()
        self.config_path = self.folder / "config.yaml"
        self.config_path.write_text(config_text)
        settings = yaml.safe_load(config_text)
        self.port = int(settings["port"])
        self.metrics_port = int(settings["metrics_port"])
        self._until = until
        self._command = tuple(command)
        self._environ = environ

    @property
    def url(self) -> str:
        """Where clients ask it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        """Where its metrics and probes are."""
        return f"http://127.0.0.1:{self.metrics_port}"

    def command(self) -> Sequence[str]:
        """The balancer's command line."""
        return (*self._command, "--config", str(self.config_path))

    def environment(self) -> Mapping[str, str]:
        """The tests' own, with this checkout to be imported from."""
        return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **self._environ}

    def is_ready(self) -> bool:
        """Whether it may be asked."""
        if self._until == "open":
            return is_open(self.port) and is_open(self.metrics_port)
        try:
            return get(self.admin_url + "/readyz")[0] == 200
        except OSError:
            return False

    def rpc(self, network: str, method: str, *params: Any) -> Any:
        """The result of a call through the balancer."""
        return rpc(f"{self.url}/{network}", method, *params)

    def metrics(self) -> str:
        """Its metrics page."""
        return get(self.admin_url + "/metrics")[1].decode()

    def reconfigure(self, config_text: str) -> None:
        """Replace its file. What happens then is its own affair."""
        self.config_path.write_text(config_text)

    def end(self, expected: Collection[int] = TERMINATED) -> str:
        """Ask it to end and wait; its output. :class:`AssertionError` for another exit status or a traceback."""
        status = self.stop()
        output = self.output()
        if status not in expected or "Traceback" in output:
            raise AssertionError(f"evmlb ended with status {status}:\n{output[-5000:]}")
        return output


class NodeExporter:
    """A node-exporter on a port, in a thread: the page of a machine with this load. ``delay_seconds`` slows it."""

    def __init__(self, load: float = 0.5, *, delay_seconds: float = 0.0) -> None:
        self.load = load
        self.delay_seconds = delay_seconds
        self.scrapes = 0
        exporter = self

        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                exporter.scrapes += 1
                time.sleep(exporter.delay_seconds)
                page = exporter_page(exporter.load, exporter.load, exporter.load)
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/metrics"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def chain_of_anvils(count: int) -> list[Anvil]:
    """This many anvils, started alike: one chain as long as :func:`mine_all` mines them."""
    anvils = [Anvil() for _ in range(count)]
    for anvil in anvils:
        anvil.launch()
    for anvil in anvils:
        wait_until(anvil.is_ready, START_SECONDS, "anvil to be ready")
    return anvils


def mine_all(anvils: Sequence[Anvil], blocks: int = 1) -> None:
    """Mine on each in step, so that their blocks are equal."""
    for anvil in anvils:
        anvil.mine(blocks)


def with_ports(config_text: str) -> str:
    """The configuration with ``port`` and ``metrics_port``, free ones, in front."""
    return f"port: {free_port()}\nmetrics_port: {free_port()}\n{config_text}"


@atexit.register
def _kill_the_rest() -> None:
    for child in list(_running):
        child.clean()
