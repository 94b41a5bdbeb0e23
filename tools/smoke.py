"""Start the demo as a newcomer does, ask it, and stop it: ``python tools/smoke.py``. Standard library only.

Passes when within 30 s a call through the balancer is answered and goes on being answered while the demo's first
node misbehaves, the metrics page has the heads of the nodes, and the demo ends within 15 s of SIGTERM without a
traceback.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0
WATCH_SECONDS = 14.0
"""Long enough to see the demo's first misfortune, ten seconds after its start."""

STOP_SECONDS = 15.0
_ENDS = (0, -signal.SIGTERM, 128 + signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGINT)
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> int:
    """Run the demo on free ports; 0 when all is well."""
    port, metrics_port = _free_ports(2)
    command = [sys.executable, "-m", "evmlb", "demo", "--port", str(port), "--metrics-port", str(metrics_port)]
    with tempfile.TemporaryFile("w+b") as output:
        demo = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            fault = _watch(demo, port, metrics_port) or _stop(demo)
        finally:
            demo.kill()
            demo.wait()
        text = _read(output)
    if fault is None and "Traceback" in text:
        fault = "the demo wrote a traceback"
    print(text[-6000:] if fault else "\n".join(text.splitlines()[:60]))
    print(f"smoke: {fault or 'well'}")
    return 1 if fault else 0


def _watch(demo: subprocess.Popen[bytes], port: int, metrics_port: int) -> str | None:
    deadline = time.monotonic() + START_SECONDS
    while (head := _head(port)) is None:
        if demo.poll() is not None:
            return f"the demo ended with status {demo.returncode}"
        if time.monotonic() > deadline:
            return f"no answer within {START_SECONDS} s"
        time.sleep(0.2)
    first, answers, failures = head, 0, 0
    deadline = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < deadline:
        head = _head(port)
        answers, failures = answers + (head is not None), failures + (head is None)
        time.sleep(0.1)
    if failures or head is None or head <= first:
        return f"{answers} calls answered, {failures} not; head {first} at first, {head} at last"
    return _metrics_fault(metrics_port)


def _metrics_fault(metrics_port: int) -> str | None:
    try:
        page = _opener.open(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5).read().decode()
    except OSError as error:
        return f"no metrics page: {error}"
    return None if "loadbalancer_node_chainhead{" in page else "the metrics page has no node's head"


def _head(port: int) -> int | None:
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/demo", call, {"Content-Type": "application/json"})
    try:
        answer: Any = json.loads(_opener.open(request, timeout=5).read())
        return int(answer["result"], 16)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _stop(demo: subprocess.Popen[bytes]) -> str | None:
    demo.terminate()
    try:
        status = demo.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        return f"the demo did not end within {STOP_SECONDS} s of SIGTERM"
    return None if status in _ENDS else f"the demo ended with status {status}"


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _read(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
