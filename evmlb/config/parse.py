"""From text to :class:`~evmlb.config.schema.Config`: everything checked, every fault at once, nothing read.

What this module knows itself is how the parts come together: which nodes a network has and how they are called, and
the defaults that depend on other keys. The keys are :mod:`.fields`, their values :mod:`.values`, the rules over more
than one key :mod:`.checks`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from evmlb.config import tree
from evmlb.config.checks import check_listeners, check_network, check_node, check_unique, identity
from evmlb.config.faults import ConfigError, Fault
from evmlb.config.fields import (
    ELSEWHERE_THAN_FILE,
    FILE_KEYS,
    LIMIT_KEYS,
    NETWORK_KEYS,
    NODE_KEYS,
    NODE_LISTS,
    SECTIONS,
    TOP_KEYS,
)
from evmlb.config.reading import Place, Reading, Section, Wrong, read_section
from evmlb.config.schema import (
    BreakerConfig,
    Check,
    Config,
    HealthCheckConfig,
    HedgeConfig,
    LimitsConfig,
    NetworkConfig,
    NodeConfig,
    PriorityQueueConfig,
    RateLimitConfig,
    RetryBudgetConfig,
    Role,
)
from evmlb.config.values import parse_duration, parse_size
from evmlb.urls import Endpoint

__all__ = ["ConfigError", "Fault", "parse", "parse_config", "parse_duration", "parse_size"]

FREE_PREFIX = "x-"
"""Keys at the top that begin so are ours to ignore: a place for anchors (``x-defaults: &defaults``)."""


def parse_config(text: str, environ: Mapping[str, str]) -> Config:
    """The configuration in ``text``, ``${VAR}`` taken from ``environ``; raises :class:`ConfigError` with all faults."""
    return parse(text, environ)[0]


def parse(text: str, environ: Mapping[str, str]) -> tuple[Config, tuple[Fault, ...]]:
    """As :func:`parse_config`, with the warnings: unknown keys where they are allowed, and what has no effect."""
    reading = Reading(environ)
    try:
        root = Place(reading, "", tree.parse_tree(text) or tree.Mapping(1))
        config = _config(Place(reading, "", tree.Mapping(1)) if root.is_empty else root)
    except tree.TreeError as error:
        raise ConfigError((Fault("", error.line, str(error)),)) from None
    except Wrong as wrong:
        raise ConfigError((Fault("", 1, f"{wrong}, with networks among them"),)) from None
    if reading.faults:
        raise ConfigError(_by_line(reading.faults))
    return config, _by_line(reading.warnings)


def _by_line(faults: list[Fault]) -> tuple[Fault, ...]:
    return tuple(sorted(dict.fromkeys(faults), key=lambda fault: fault.line or 0))


def _config(root: Place) -> Config:
    section = read_section(root, FILE_KEYS, ELSEWHERE_THAN_FILE, FREE_PREFIX)
    reading = root.reading
    (reading.warnings if section.values.get("unknown_keys") == "warn" else reading.faults).extend(reading.unknown)
    networks: tuple[Section, ...] = section.values.get("networks", ())
    if section.at("networks").is_empty_list or "networks" not in section.places:
        section.at("networks").fault("expected at least one network under the key networks")
    check_unique(((n.values["name"], n.at("name")) for n in networks if "name" in n.values), "name")
    config = Config(
        networks=tuple(_network(n) for n in networks),
        limits=LimitsConfig(**section.fields(LIMIT_KEYS)),
        **section.fields(TOP_KEYS),
    )
    check_listeners(config, section)
    return config


def _network(section: Section) -> NetworkConfig:
    drafts = [(role, node) for key, role in NODE_LISTS.items() for node in section.values.get(key, ())]
    if all(section.places[key].is_empty_list for key in NODE_LISTS if key in section.places):
        section.place.fault("expected at least one node, under local_nodes, monitoring_nodes or fallback_nodes")
    usable = [(role, node) for role, node in drafts if "rpc_endpoint" in node.values]
    _check_nodes_differ([node for _, node in usable])
    names = _names([node for _, node in usable])
    nodes = tuple(_node(role, node, name) for (role, node), name in zip(usable, names, strict=True))
    given = {key: _filled(key, value) for key, value in section.values.items() if key not in NODE_LISTS}
    network = NetworkConfig(**_with_derived(Section(section.place, given).fields(NETWORK_KEYS), nodes))
    check_network(network, section)
    return network


def _check_nodes_differ(nodes: list[Section]) -> None:
    check_unique(((identity(n.values["rpc_endpoint"]), n.at("rpc_endpoint")) for n in nodes), "endpoint")
    check_unique(((n.values["name"], n.at("name")) for n in nodes if "name" in n.values), "name")


def _names(nodes: list[Section]) -> list[str]:
    """A unique name for each: as given, or host and port of the endpoint, with -2, -3, ... where that is taken."""
    taken = {node.values["name"] for node in nodes if "name" in node.values}
    free: dict[str, Iterator[str]] = {}
    names = []
    for node in nodes:
        name = node.values.get("name")
        if name is None:
            plain = _plain_name(node.values["rpc_endpoint"])
            name = next(n for n in free.setdefault(plain, _numbered(plain)) if n not in taken)
        names.append(name)
    return names


def _plain_name(endpoint: Endpoint) -> str:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}"


def _numbered(plain: str) -> Iterator[str]:
    yield plain
    yield from (f"{plain}-{n}" for n in itertools.count(2))


def _node(role: Role, section: Section, name: str) -> NodeConfig:
    given = section.fields(NODE_KEYS)
    if Check.CHAIN_ID in given.get("skip_checks", ()):
        given["check_chain_id"] = False
    node = NodeConfig(**{**given, "role": role, "name": name})
    check_node(node, section)
    return node


def _filled(key: str, value: Any) -> Any:
    """A section as its dataclass; any other value as it is."""
    return _SECTION_CONFIGS[key](**value.fields(SECTIONS[key])) if key in SECTIONS else value


def _hedge(**given: Any) -> HedgeConfig:
    base = HedgeConfig(**given)
    low = base.min_delay_seconds
    longest, heavy_longest = max(low, base.max_delay_seconds), max(low, base.heavy_max_delay_seconds)
    drawn = {
        "max_delay_seconds": longest,
        "first_delay_seconds": min(max(base.first_delay_seconds, low), longest),
        "heavy_max_delay_seconds": heavy_longest,
        "heavy_first_delay_seconds": min(max(base.heavy_first_delay_seconds, low), heavy_longest),
    }
    return HedgeConfig(**{**drawn, **given})


def _breaker(**given: Any) -> BreakerConfig:
    base = BreakerConfig(**given)
    return BreakerConfig(**{"max_timeout_seconds": max(base.timeout_seconds, base.max_timeout_seconds), **given})


def _rate_limit(**given: Any) -> RateLimitConfig:
    base = RateLimitConfig(**given)
    longest = max(base.initial_backoff_seconds, base.max_backoff_seconds)
    return RateLimitConfig(**{"max_backoff_seconds": longest, **given})


_SECTION_CONFIGS: dict[str, Callable[..., Any]] = {
    "hedge": _hedge,
    "retry_budget": RetryBudgetConfig,
    "circuit_breaker": _breaker,
    "rate_limit": _rate_limit,
    "rate_limit_recovery": _rate_limit,
    "priority_queue": PriorityQueueConfig,
    "health_check": HealthCheckConfig,
}


def _with_derived(given: dict[str, Any], nodes: tuple[NodeConfig, ...]) -> dict[str, Any]:
    """The given fields and the defaults that depend on others."""
    base = NetworkConfig(**{"name": "", "nodes": nodes, **given})
    request = max(base.request_timeout_seconds, base.rpc_timeout_seconds)
    slow_request = max(base.slow_request_timeout_seconds, base.slow_timeout_seconds, request)
    return {
        "name": "",
        "nodes": nodes,
        "fallback_block_diff": base.network_block_diff,
        # 0, the original's, would hand traffic to a paid node for being one block late
        "switch_to_fallback_block_threshold": base.network_block_diff,
        "switch_to_fallback_enabled": any(node.role is Role.FALLBACK for node in nodes),
        # The original's rpc_timeout bounds only polls, so its files may have any: they still load.
        "request_timeout_seconds": request,
        "slow_request_timeout_seconds": slow_request,
        **given,
    }
