"""Subscribers in processes of their own: the programs in ``clients/``, and what each was told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import SkipTest

from tests.integration.mirror import Mirror, read_head, read_log
from tests.integration.parts import ROOT, ChildProcess
from tools import parts

CLIENTS = ("ethers", "viem", "web3py")
_PACKAGE = "tests.integration.clients"


class Subscriber(ChildProcess):
    """A client that holds newHeads, and the logs of one contract; see :mod:`tests.integration.clients`.

    ``client`` is one of :data:`CLIENTS`. Raises :class:`SkipTest` where its library was not fetched (``make parts``).
    """

    stdin = subprocess.PIPE

    def __init__(self, client: str, url: str, contract: str) -> None:
        if client in parts.CLIENT_VERSIONS and not parts.has_client(client):
            raise SkipTest(f"part missing: {client} (make parts)")
        super().__init__()
        self.name = client
        self.mirror = Mirror()
        self.ids: list[str] = []
        self.ended: list[object] | None = None
        self.has_left = False
        self._url = url
        self._contract = contract
        self._read_bytes = 0

    def command(self) -> Sequence[str]:
        """The program with what it is to subscribe to."""
        script = ROOT.joinpath(*_PACKAGE.split("."), f"{self.name}.cjs")
        node = (str(parts.node_path()), str(script))
        program = node if script.exists() else (sys.executable, "-m", f"{_PACKAGE}.{self.name}")
        return (*program, self._url, self._contract)

    def environment(self) -> Mapping[str, str]:
        """Where the libraries are."""
        return {**os.environ, "PYTHONPATH": str(ROOT), "NODE_PATH": str(parts.NODE_MODULES)}

    def is_ready(self) -> bool:
        """Whether it was told of a head and of a log."""
        self.read()
        return bool(self.mirror.heads and self.mirror.logs)

    def tell(self, *words: str) -> None:
        """Tell it what to do."""
        stdin = self._started().stdin
        assert stdin is not None
        stdin.write(" ".join(words).encode() + b"\n")
        stdin.flush()

    def leave(self) -> None:
        """Let it close its connection; ``has_left`` when it has."""
        self.has_left = False
        self.tell("leave")

    def resume(self) -> None:
        """Let it connect again, and take up where it was."""
        self.tell("resume", self.mirror.tip, self.mirror.logs[-1].block)

    def read(self) -> None:
        """Take what it has written since the last time; :class:`AssertionError` for what should not have happened."""
        data = (self.folder / "output").read_bytes()
        end = data.rfind(b"\n") + 1
        new, self._read_bytes = data[self._read_bytes : end], end
        for line in new.decode().splitlines():
            try:
                self._take(json.loads(line))
            except (AssertionError, ValueError) as error:
                raise AssertionError(f"{self.name}: {error}\n{line}\n{self.output()[-1500:]}") from error
        assert self._started().poll() is None, f"{self.name} ended:\n{self.output()[-1500:]}"

    def _take(self, line: dict[str, Any]) -> None:
        match line:
            case {"head": head}:
                self.mirror.take_head(read_head(head))
            case {"log": log}:
                self.mirror.take_log(read_log(log), log["removed"])
            case {"subscribed": subscription_id}:
                self.ids.append(subscription_id)
            case {"ended": answers}:
                self.ended = answers
            case {"left": True}:
                self.has_left = True
            case _:
                raise AssertionError("this should not have happened")

    def clean(self) -> None:
        """Kill it; close its stdin as well."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
        super().clean()
