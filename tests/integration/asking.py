"""Asking real ports, with the standard library and blocking: what parts and tests need of a client."""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def wait_until(condition: Callable[[], bool], timeout_seconds: float, what: str) -> None:
    """Wait, looking 20 times a second; :class:`AssertionError` that says what was waited for when it takes longer."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_seconds} s for {what}")
        time.sleep(0.05)


def rpc(url: str, method: str, *params: Any, timeout_seconds: float = 10.0) -> Any:
    """The result of a JSON-RPC call; :class:`AssertionError` for an error, :class:`OSError` for no answer."""
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = json.loads(post(url, json.dumps(call).encode(), timeout_seconds=timeout_seconds)[1])
    if "error" in answer:
        raise AssertionError(f"{method}: {answer['error']}")
    return answer["result"]


def post(
    url: str, body: bytes, headers: Mapping[str, str] | None = None, *, timeout_seconds: float = 10.0
) -> tuple[int, bytes]:
    """Status and body of a POST, whatever the status."""
    json_type = {"Content-Type": "application/json"}
    return _exchange(urllib.request.Request(url, body, {**json_type, **(headers or {})}), timeout_seconds)


def get(url: str, *, timeout_seconds: float = 10.0) -> tuple[int, bytes]:
    """Status and body of a GET, whatever the status."""
    return _exchange(urllib.request.Request(url), timeout_seconds)


def _exchange(request: urllib.request.Request, timeout_seconds: float) -> tuple[int, bytes]:
    try:
        with _opener.open(request, timeout=timeout_seconds) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error


def is_open(port: int) -> bool:
    """Whether the loopback port takes a connection."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
