"""What is wrong with a configuration: where, and what was expected instead.

No text of this module ever carries a secret: whoever makes a :class:`Fault` shows values through
:func:`evmlb.config.values.shown` or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, or one warning.

    ``path`` leads to the key (``networks[0].local_nodes[1].rpc_endpoint``; empty: the file as a whole), ``line``
    counts from 1 (``None``: not known), ``message`` says what was expected.
    """

    path: str
    line: int | None
    message: str

    def located(self, file: str) -> str:
        """``FILE:LINE: path: message``, the form that editors and CI systems turn into links."""
        where = file if self.line is None else f"{file}:{self.line}"
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"

    def __str__(self) -> str:
        place = self.path or "the file"
        return f"{place}: {self.message}" if self.line is None else f"line {self.line}: {place}: {self.message}"


class ConfigError(Exception):
    """The configuration cannot be used; ``faults`` are all of its faults, in the order of the file's lines.

    ``file`` is the path of the file as it was given, where there is a file. The text lists every fault, one per line.
    """

    def __init__(self, faults: tuple[Fault, ...], file: str | None = None) -> None:
        super().__init__(faults, file)
        self.faults = faults
        self.file = file

    def __str__(self) -> str:
        if self.file is None:
            return "\n".join(str(fault) for fault in self.faults)
        return "\n".join(fault.located(self.file) for fault in self.faults)
