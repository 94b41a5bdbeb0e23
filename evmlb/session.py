"""What one client connection has seen."""

from __future__ import annotations


class Session:
    """What one client connection has seen, so that it is not shown an older state of the chain.

    ``height``: the largest block number it was told. ``writer`` is the name of the node that took its last
    transaction; that node is asked for the connection's nonce and its pending state until ``writer_until``.
    """

    __slots__ = ("height", "writer", "writer_until")

    def __init__(self) -> None:
        self.height = 0
        self.writer = ""
        self.writer_until = 0.0
