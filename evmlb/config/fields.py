"""Every key of the file: the field of the schema it fills, and how its value is read.

These tables are the whole of the file's language. The reference page and the shipped example are tested against them.
"""

from __future__ import annotations

from evmlb.config import tree
from evmlb.config.reading import Key, Place, Section, Wrong, attempt, each, read_section, scalar
from evmlb.config.schema import CorsConfig, Criterion, LogLevel, Role, Strategy, WhenNoneInRange
from evmlb.config.values import (
    Unexpected,
    boolean,
    duration,
    error_status,
    file_path,
    header_name,
    header_names_line,
    header_value,
    ip_range,
    listen,
    load_period,
    node_name,
    one_of,
    origin,
    prometheus_endpoint,
    rpc_endpoint,
    segment,
    size,
    whole,
    word_of,
    ws_endpoint,
)

_MAX_PORT = 65535
_MANY = 1_000_000
_MAX_BLOCKS = 2**53

_yes_no = scalar(boolean)
_port = scalar(whole(0, _MAX_PORT))
_blocks = scalar(whole(0, _MAX_BLOCKS))
_interval = scalar(duration(0.05, "50ms"))  # shorter ones would make a poll the node's main work
_timeout = scalar(duration(0.01, "10ms"))  # deadlines are swept every 10 ms
_delay = scalar(duration(0.0))


def _headers(place: Place) -> tuple[tuple[str, str], ...]:
    read = [(name, found, attempt(scalar(header_value, show=False), found)) for name, found in place.entries().items()]
    headers: dict[str, tuple[str, str]] = {}
    for name, found, values in read:
        try:
            header_name(name)
        except Unexpected as error:
            found.fault(error.expected)
            continue
        if name.lower() in headers:
            found.fault("this header is there already, in another case")
        for value in values:
            headers[name.lower()] = (name, value)
    return tuple(headers.values())


def _load_period(place: Place) -> int:
    minutes, exact = scalar(load_period)(place)
    if not exact:
        place.warn(
            "node-exporter has averages over 1, 5 and 15 minutes, and any other number is read as seconds: "
            f"the nearest average is used, as if {minutes} were written"
        )
    return minutes


def _priority(place: Place) -> tuple[Criterion, ...]:
    criteria = each(scalar(one_of(Criterion)))(place)
    once = tuple(dict.fromkeys(criteria))
    if len(once) < len(criteria):
        place.warn("a criterion is named twice: the second has no effect")
    return once


NODE_KEYS: dict[str, Key] = {
    "rpc_endpoint": Key("endpoint", scalar(rpc_endpoint, show=False)),
    "prometheus_endpoint": Key("prometheus_endpoint", scalar(prometheus_endpoint, show=False)),
    "ws_endpoint": Key("ws_endpoint", scalar(ws_endpoint, show=False)),
    "name": Key("name", scalar(node_name)),
    "weight": Key("weight", scalar(whole(1, _MANY))),
    "headers": Key("headers", _headers),
    "max_concurrency": Key("max_concurrency", scalar(whole(1, _MANY))),
    "ca_file": Key("ca_file", scalar(file_path, show=False)),
    "check_chain_id": Key("check_chain_id", _yes_no),
}
"""The keys of one item of ``local_nodes``, ``monitoring_nodes`` or ``fallback_nodes``."""


def _node(place: Place) -> Section:
    if not isinstance(place.node, tree.Mapping):
        raise Wrong("expected a node: write rpc_endpoint: and its URL")
    section = read_section(place, NODE_KEYS, _ELSEWHERE_THAN_NODE)
    if "rpc_endpoint" not in section.places:
        place.fault("expected the key rpc_endpoint with the node's URL")
    return section


def _older_node(place: Place) -> Section:
    endpoint = NODE_KEYS["rpc_endpoint"].read(place)
    return Section(place, {"rpc_endpoint": endpoint}, {"rpc_endpoint": place})


NODE_LISTS: dict[str, Role] = {f"{role.value}_{suffix}": role for suffix in ("nodes", "endpoints") for role in Role}
"""The role of the nodes under each key. Those with ``_endpoints`` are the original's older ones: lists of URLs."""

_NODE_LIST_KEYS = {name: Key("nodes", each(_node if name.endswith("_nodes") else _older_node)) for name in NODE_LISTS}

NETWORK_KEYS: dict[str, Key] = {
    "name": Key("name", scalar(segment)),
    **_NODE_LIST_KEYS,
    "load_balance_priority": Key("load_balance_priority", _priority),
    "strategy": Key("strategy", scalar(one_of(Strategy))),
    "load_period": Key("load_period_minutes", _load_period),
    "use_load_tracker": Key("use_load_tracker", _yes_no),
    "local_poll_interval": Key("local_poll_interval_seconds", _interval),
    "monitoring_poll_interval": Key("monitoring_poll_interval_seconds", _interval),
    "rpc_timeout": Key("rpc_timeout_seconds", _timeout),
    "rpc_retries": Key("rpc_retries", scalar(whole(0, 100))),
    "slow_timeout": Key("slow_timeout_seconds", _timeout),
    "request_timeout": Key("request_timeout_seconds", _timeout),
    "slow_request_timeout": Key("slow_request_timeout_seconds", _timeout),
    "stream_idle_timeout": Key("stream_idle_timeout_seconds", _timeout),
    "network_block_diff": Key("network_block_diff", _blocks),
    "fallback_block_diff": Key("fallback_block_diff", _blocks),
    "switch_to_fallback_enabled": Key("switch_to_fallback_enabled", _yes_no),
    "switch_to_fallback_block_threshold": Key("switch_to_fallback_block_threshold", _blocks),
    "monitoring_nodes_serve": Key("monitoring_nodes_serve", _yes_no),
    "when_none_in_range": Key("when_none_in_range", scalar(one_of(WhenNoneInRange))),
    "chain_id": Key("chain_id", scalar(whole(1, 2**63 - 1))),
    "block_time": Key("block_time_seconds", scalar(duration(0.001, "1ms"))),
}
"""The keys of one item of ``networks``."""

CORS_KEYS: dict[str, Key] = {
    "origins": Key("origins", each(scalar(origin))),
    "methods": Key("methods", scalar(header_names_line)),
    "headers": Key("headers", scalar(header_names_line)),
    "max_age": Key("max_age_seconds", _delay),
}
"""The keys below ``cors``."""


def _cors(place: Place) -> CorsConfig:
    if not isinstance(place.node, tree.Mapping):
        scalar(word_of("pass"))(place)
        return CorsConfig()
    section = read_section(place, CORS_KEYS, {})
    if "origins" not in section.places or section.at("origins").is_empty_list:
        section.at("origins").fault("expected at least one origin; cors: pass leaves the answers to the nodes")
    return CorsConfig(**section.fields(CORS_KEYS))


LIMIT_KEYS: dict[str, Key] = {
    "max_body_size": Key("max_body_bytes", scalar(size(1024))),
    "max_request_memory": Key("max_request_memory_bytes", scalar(size(1024))),
    "max_header_size": Key("max_header_bytes", scalar(size(1024, 2**24))),
    "max_connections": Key("max_connections", scalar(whole(1, 10 * _MANY))),
    "client_idle_timeout": Key("client_idle_timeout_seconds", _timeout),
    "request_read_timeout": Key("request_read_timeout_seconds", _timeout),
    "failover_buffer": Key("failover_buffer_bytes", scalar(size(0, 2**30))),
    "upstream_idle": Key("upstream_idle_timeout_seconds", _timeout),
}
"""Keys at the top of the file that fill ``Config.limits``."""

TOP_KEYS: dict[str, Key] = {
    "port": Key("port", _port),
    "metrics_port": Key("metrics_port", _port),
    "listen": Key("listen", each(scalar(listen))),
    "admin_listen": Key("admin_listen", each(scalar(listen))),
    "log_level": Key("log_level", scalar(one_of(LogLevel))),
    "log_format": Key("log_format", scalar(word_of("text", "json"))),
    "log_rate_limit": Key("log_rate_limit_seconds", _delay),
    "shutdown_delay": Key("shutdown_delay_seconds", _delay),
    "shutdown_grace": Key("shutdown_grace_seconds", _delay),
    "trusted_proxies": Key("trusted_proxies", each(scalar(ip_range))),
    "forward_headers": Key("forward_headers", each(scalar(header_name))),
    "answer_headers": Key("answer_headers", _yes_no),
    "error_status": Key("error_status", scalar(error_status)),
    "cors": Key("cors", _cors),
}
"""Keys at the top of the file that fill ``Config`` itself; ``networks`` and ``unknown_keys`` stand apart."""


def read_network(place: Place) -> Section:
    """One item of ``networks``; its nodes are sections under the keys of ``NODE_LISTS``."""
    if not isinstance(place.node, tree.Mapping):
        raise Wrong("expected a network: write name: and local_nodes:")
    section = read_section(place, NETWORK_KEYS, _ELSEWHERE_THAN_NETWORK)
    if "name" not in section.places:
        place.fault("expected the key name: the first segment of the network's path")
    return section


UNKNOWN_KEYS = scalar(word_of("error", "warn"))

FILE_KEYS: dict[str, Key] = {
    **TOP_KEYS,
    **LIMIT_KEYS,
    "unknown_keys": Key("", UNKNOWN_KEYS),
    "networks": Key("networks", each(read_network)),
}
"""Every key at the top of the file."""


def _belong(keys: dict[str, Key], where: str) -> dict[str, str]:
    return dict.fromkeys(keys, where)


_OF_FILE = _belong(FILE_KEYS, "at the top of the file")
_OF_NETWORK = _belong(NETWORK_KEYS, "in an item of networks")
_OF_NODE = _belong(NODE_KEYS, "in an item of local_nodes, monitoring_nodes or fallback_nodes")

ELSEWHERE_THAN_FILE = _OF_NODE | _OF_NETWORK
"""For a key that is unknown at the top: where it belongs."""

_ELSEWHERE_THAN_NETWORK = _OF_NODE | _OF_FILE
_ELSEWHERE_THAN_NODE = _OF_FILE | _OF_NETWORK
