"""What the tests of the configuration share: short ways to a file, a network, a node and their faults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from evmlb.config.parse import ConfigError, Fault, parse
from evmlb.config.schema import Config, NetworkConfig, NodeConfig

ROOT = Path(__file__).parents[2]
SAMPLES = Path(__file__).parent / "samples"

NODES = "local_nodes: [{rpc_endpoint: 'http://a'}]"


def file(top: str = "", network: str = NODES) -> str:
    """A file with one network ``n``; ``network`` are the lines of its keys, ``top`` those above."""
    lines = "".join(f"    {line}\n" for line in network.splitlines())
    return f"{top}\nnetworks:\n  - name: n\n{lines}"


def with_network(lines: str) -> str:
    """A file whose network has a node and these lines."""
    return file(network=f"{NODES}\n{lines}")


def with_node(lines: str, endpoint: str = "http://a") -> str:
    """A file whose one node has these lines beside its endpoint."""
    indented = "".join(f"\n    {line}" for line in lines.splitlines())
    return file(network=f"local_nodes:\n  - rpc_endpoint: {endpoint}{indented}")


def config(text: str, environ: Mapping[str, str] | None = None) -> Config:
    return parse(text, environ or {})[0]


def network(text: str, environ: Mapping[str, str] | None = None) -> NetworkConfig:
    return config(text, environ).networks[0]


def node(text: str, environ: Mapping[str, str] | None = None) -> NodeConfig:
    return network(text, environ).nodes[0]


def warnings(text: str) -> list[str]:
    """Path and message of every warning of a good file."""
    return [f"{w.path}: {w.message}" for w in parse(text, {})[1]]


def faults(text: str, environ: Mapping[str, str] | None = None) -> tuple[Fault, ...]:
    """All faults of a bad file."""
    try:
        parse(text, environ or {})
    except ConfigError as error:
        return error.faults
    raise AssertionError("the file has no fault")


def fault(text: str, environ: Mapping[str, str] | None = None) -> Fault:
    """The one fault of a file that has no other."""
    found = faults(text, environ)
    if len(found) != 1:
        raise AssertionError(f"{len(found)} faults: {[str(f) for f in found]}")
    return found[0]
