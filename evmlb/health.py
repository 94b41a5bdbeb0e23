"""``evmlb health``: whether the process that a configuration runs is alive, for container runtimes and scripts.

It asks ``/livez`` where the configuration puts the admin port, so it needs no port of its own to be told.
"""

from __future__ import annotations

import re
from typing import TextIO
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from evmlb.config.faults import ConfigError
from evmlb.config.load import load
from evmlb.config.schema import Config

TIMEOUT_SECONDS = 2.0
_TCP = re.compile(r"(?:tcp|tcp6):(?:port=)?(\d+)(?::.*?interface=([^:\\]*(?:\\:[^:\\]*)*))?")


def admin_url(config: Config) -> str | None:
    """Where the admin port is asked on this machine; ``None`` where it listens on no TCP port."""
    if not config.admin_listen:
        return f"http://127.0.0.1:{config.metrics_port}"
    for text in config.admin_listen:
        found = _TCP.match(text)
        if found:
            host = (found[2] or "").replace("\\:", ":")
            return f"http://{_reachable(host)}:{found[1]}"
    return None


def _reachable(host: str) -> str:
    """An address at which what listens on ``host`` is reached from here."""
    if host in ("", "0.0.0.0"):
        return "127.0.0.1"
    return f"[{'::1' if host == '::' else host}]" if ":" in host else host


def main_health(path: str, out: TextIO, err: TextIO) -> int:
    """Ask; 0 when it is alive, 1 when it is not, or when that cannot be told."""
    try:
        config, _ = load(path)
    except ConfigError as error:
        err.write(f"{error}\n")
        return 1
    url = admin_url(config)
    if url is None:
        err.write("evmlb health: admin_listen has no TCP port to ask\n")
        return 1
    try:
        with build_opener(ProxyHandler({})).open(f"{url}/livez", timeout=TIMEOUT_SECONDS) as answer:
            out.write(f"{url}/livez: {answer.status}\n")
            return 0 if answer.status == 200 else 1
    except (URLError, OSError) as error:
        err.write(f"evmlb health: {url}/livez: {error}\n")
        return 1
