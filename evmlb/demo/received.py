"""What a demo node was asked."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class ReceivedRequest:
    """One HTTP request as the node got it; header names are in lower case.

    A message on a WebSocket is one too: its method is ``WEBSOCKET``.
    """

    method: str = ""
    target: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    keep: bool = True

    def header(self, name: str) -> str | None:
        """The value of the first header of this name (in lower case), or ``None``."""
        return next((value for key, value in self.headers if key == name), None)
