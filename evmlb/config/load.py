"""The only reader of files: the configuration itself, and a look at the certificates it names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TextIO

from evmlb.config.parse import ConfigError, Fault, parse
from evmlb.config.schema import Config, Role

MAX_FILE_BYTES = 4 * 1024 * 1024
"""A larger file is refused: thousands of networks fit, and whatever else was named by mistake does not."""


def load_config(path: str, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration in the file at ``path``.

    Raises :class:`ConfigError`, its ``file`` set to ``path`` as given, for every fault of the text and for a file
    that is missing, unreadable, too large or not UTF-8.
    """
    return load(path, environ)[0]


def load(path: str, environ: Mapping[str, str] = os.environ) -> tuple[Config, tuple[Fault, ...]]:
    """As :func:`load_config`, with the warnings."""
    try:
        config, warnings = parse(_read(path), environ)
        _check_ca_files(config)
    except ConfigError as error:
        raise ConfigError(error.faults, path) from None
    return config, warnings


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a path cannot have a zero byte"
        raise _file_fault(f"the file cannot be read: {reason}") from None
    if len(data) > MAX_FILE_BYTES:
        raise _file_fault(f"the file has more than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _file_fault("the file is not UTF-8 text", line) from None


def _file_fault(message: str, line: int | None = None) -> ConfigError:
    return ConfigError((Fault("", line, message),))


def _check_ca_files(config: Config) -> None:
    faults = []
    for i, network in enumerate(config.networks):
        for role in Role:
            for j, node in enumerate(n for n in network.nodes if n.role is role):
                if node.ca_file is not None and not _is_readable(node.ca_file):
                    path = f"networks[{i}].{role.value}_nodes[{j}].ca_file"
                    faults.append(Fault(path, None, "expected the path of a file that can be read"))
    if faults:
        raise ConfigError(tuple(faults))


def _is_readable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.R_OK)


def main_check(path: str, out: TextIO, err: TextIO, environ: Mapping[str, str] = os.environ) -> int:
    """What ``evmlb check FILE`` does: say to ``out`` what the file holds, or to ``err`` every fault; 0 or 1.

    Warnings go to ``err`` and do not change the status.
    """
    try:
        config, warnings = load(path, environ)
    except ConfigError as error:
        err.write(f"{error}\n")
        return 1
    for warning in warnings:
        err.write(f"{warning.located(path)} (warning)\n")
    nodes = sum(len(network.nodes) for network in config.networks)
    out.write(f"{path}: ok: {_count(len(config.networks), 'network')}, {_count(nodes, 'node')}\n")
    return 0


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
