"""Every key of the file: the field of the schema it fills, and how its value is read.

These tables are the whole of the file's language. The reference page and the shipped example are tested against them.
"""

from __future__ import annotations

from collections import Counter

from evmlb.config import tree
from evmlb.config.clients import read_cors, read_gzip, read_websocket
from evmlb.config.reading import Key, Place, Reader, Section, Table, Wrong, attempt, each, read_section, scalar
from evmlb.config.rules import read_rules
from evmlb.config.schema import (
    Check,
    Criterion,
    CustomCheck,
    ExplainFor,
    HealthCheckType,
    LogLevel,
    Role,
    Strategy,
    WebSocketMode,
    WhenNoneInRange,
)
from evmlb.config.values import (
    OWN_HEADERS,
    Unexpected,
    boolean,
    duration,
    error_status,
    file_path,
    header_name,
    header_value,
    host_name,
    http_method,
    ip_range,
    listen,
    load_period,
    method_pattern,
    node_name,
    number,
    one_of,
    prometheus_endpoint,
    provider,
    request_body,
    rpc_endpoint,
    rpc_method,
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
_count = scalar(whole(0, _MANY))
_at_least_one = scalar(whole(1, _MANY))
_percent = scalar(number(0, 100))
_methods = each(scalar(rpc_method))
_interval = scalar(duration(0.05, "50ms"))  # shorter ones would make a poll the node's main work
_timeout = scalar(duration(0.01, "10ms"))  # deadlines are swept every 10 ms
_delay = scalar(duration(0.0))


def _headers(place: Place, own: frozenset[str] = OWN_HEADERS) -> tuple[tuple[str, str], ...]:
    read = [(name, found, attempt(scalar(header_value, show=False), found)) for name, found in place.entries().items()]
    headers: dict[str, tuple[str, str]] = {}
    for name, found, values in read:
        try:
            header_name(name, own)
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


def _skip_checks(place: Place) -> frozenset[Check]:
    return frozenset(each(scalar(one_of(Check)))(place))


NODE_KEYS: dict[str, Key] = {
    "rpc_endpoint": Key("endpoint", scalar(rpc_endpoint, show=False)),
    "prometheus_endpoint": Key("prometheus_endpoint", scalar(prometheus_endpoint, show=False)),
    "ws_endpoint": Key("ws_endpoint", scalar(ws_endpoint, show=False)),
    "name": Key("name", scalar(node_name)),
    "weight": Key("weight", _at_least_one),
    "headers": Key("headers", _headers),
    "max_concurrency": Key("max_concurrency", _at_least_one),
    "ca_file": Key("ca_file", scalar(file_path, show=False)),
    "check_chain_id": Key("check_chain_id", _yes_no),
    "provider": Key("provider", scalar(provider)),
    "requests_per_second": Key("requests_per_second", scalar(number(0.001, _MANY))),
    "poll_interval": Key("poll_interval_seconds", _interval),
    "metered": Key("metered", _yes_no),
    "skip_checks": Key("skip_checks", _skip_checks),
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

RETRY_BUDGET_KEYS: dict[str, Key] = {
    "budget_percent": Key("budget_percent", scalar(number(0, 1000))),  # more than one extra sending can be wished
    "budget_min_per_second": Key("budget_min_per_second", scalar(number(0, _MANY))),
}
"""The keys below ``retry_budget``."""

HEDGE_KEYS: dict[str, Key] = {
    "enabled": Key("enabled", _yes_no),
    "across_tiers": Key("across_tiers", _yes_no),
    "min_delay": Key("min_delay_seconds", _timeout),
    "max_delay": Key("max_delay_seconds", _timeout),
    "first_delay": Key("first_delay_seconds", _timeout),
    "heavy_max_delay": Key("heavy_max_delay_seconds", _timeout),
    "heavy_first_delay": Key("heavy_first_delay_seconds", _timeout),
    "max_slow": Key("max_slow", scalar(whole(0, 10_000))),
    "max_hedges": Key("max_hedges", scalar(whole(1, 16))),
    **RETRY_BUDGET_KEYS,
}
"""The keys below ``hedge``."""


def _ignored_name(place: Place) -> None:
    place.warn("has no effect: a breaker is called after its node")


BREAKER_KEYS: dict[str, Key] = {
    "enabled": Key("enabled", _yes_no),
    "max_consecutive_failures": Key("max_consecutive_failures", _at_least_one),
    "max_requests": Key("max_requests", _at_least_one),
    "interval": Key("interval_seconds", _delay),
    "timeout": Key("timeout_seconds", _timeout),
    "max_timeout": Key("max_timeout_seconds", _timeout),
    "failure_percent": Key("failure_percent", _percent),
    "min_requests": Key("min_requests", _at_least_one),
    "max_ejected_percent": Key("max_ejected_percent", _percent),
    "name": Key("", _ignored_name),
}
"""The keys below ``circuit_breaker``; TyrScale's files have a ``name``, which TyrScale ignores, too."""

RATE_LIMIT_KEYS: dict[str, Key] = {
    "initial_backoff": Key("initial_backoff_seconds", _interval),  # what waits so long is a poll
    "backoff_multiplier": Key("backoff_multiplier", scalar(number(1, 1000))),
    "max_backoff": Key("max_backoff_seconds", _interval),
    "max_retries": Key("max_retries", _count),
    "required_successes": Key("required_successes", _at_least_one),
    "reset_after": Key("reset_after_seconds", _interval),
    "max_retry_after": Key("max_retry_after_seconds", _interval),
}
"""The keys below ``rate_limit``."""

PRIORITY_QUEUE_KEYS: dict[str, Key] = {
    "enabled": Key("enabled", _yes_no),
    "fasttrack_per_highprio": Key("fasttrack_per_highprio", _count),
    "fasttrack_drain_first": Key("fasttrack_drain_first", _yes_no),
    "max_fasttrack": Key("max_fasttrack", _count),
    "max_highprio": Key("max_highprio", _count),
    "max_lowprio": Key("max_lowprio", _count),
    "fasttrack_methods": Key("fasttrack_methods", _methods),
    "highprio_methods": Key("highprio_methods", _methods),
}
"""The keys below ``priority_queue``."""


def _request_headers(place: Place) -> tuple[tuple[str, str], ...]:
    return _headers(place, OWN_HEADERS - {"content-type"})  # a check need not be JSON


def _request_body(place: Place) -> str:
    if not isinstance(place.node, tree.Scalar):
        raise Wrong("expected a text: write JSON between single quotes, '{...}'")
    return scalar(request_body, show=False)(place)


REQUEST_KEYS: dict[str, Key] = {
    "method": Key("method", scalar(http_method)),
    "body": Key("body", _request_body),
    "headers": Key("headers", _request_headers),
    "status_code": Key("status_code", scalar(whole(100, 599))),
}
"""The keys below ``request`` of ``health_check``."""


def _request(place: Place) -> CustomCheck:
    return CustomCheck(**read_section(place, REQUEST_KEYS, {}).fields(REQUEST_KEYS))


_TYRSCALE_TYPES = {f"eth_{kind.value}": kind for kind in (HealthCheckType.BLOCK_NUMBER, HealthCheckType.SYNCING)}

HEALTH_CHECK_KEYS: dict[str, Key] = {
    "type": Key("type", scalar(one_of(HealthCheckType, _TYRSCALE_TYPES))),
    "tolerance_blocks": Key("tolerance_blocks", _blocks),
    "request": Key("request", _request),
    "timeout": Key("timeout_seconds", _timeout),
    "failure_threshold": Key("failure_threshold", scalar(whole(0, 1000))),
    "success_threshold": Key("success_threshold", scalar(whole(0, 1000))),
    "min_peers": Key("min_peers", _count),
    "combined_with_circuit_breaker": Key("combined_with_circuit_breaker", _yes_no),
}
"""The keys below ``health_check``."""

SECTIONS: dict[str, Table] = {
    "hedge": HEDGE_KEYS,
    "retry_budget": RETRY_BUDGET_KEYS,
    "circuit_breaker": BREAKER_KEYS,
    "rate_limit": RATE_LIMIT_KEYS,
    "rate_limit_recovery": RATE_LIMIT_KEYS,
    "priority_queue": PRIORITY_QUEUE_KEYS,
    "health_check": HEALTH_CHECK_KEYS,
}
"""The sections of a network: each is read as a :class:`Section`, which fills a dataclass of its own."""

SECTION_ALIASES = {"rate_limit_recovery": "rate_limit"}
"""Other projects' names of sections: this one is aetherlay's."""


def _section(keys: Table) -> Reader:
    """A reader of a section; in place of one that has ``enabled``, that key's value alone will do."""

    def read(place: Place) -> Section:
        if "enabled" in keys and isinstance(place.node, tree.Scalar):
            return Section(place, {"enabled": _yes_no(place)}, {"enabled": place})
        return read_section(place, keys, _ELSEWHERE_THAN_SECTION)

    return read


_SECTION_KEYS = {name: Key(SECTION_ALIASES.get(name, name), _section(keys)) for name, keys in SECTIONS.items()}

_WEBSOCKET_WORDS = {"true": WebSocketMode.SUBSCRIPTIONS, "no": WebSocketMode.OFF, "false": WebSocketMode.OFF}

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
    "queue_timeout": Key("queue_timeout_seconds", _delay),
    "broadcast_transactions": Key("broadcast_transactions", scalar(whole(1, 16))),
    "read_your_writes": Key("read_your_writes_seconds", _delay),
    "websocket": Key("websocket", scalar(one_of(WebSocketMode, _WEBSOCKET_WORDS))),
    "allow_methods": Key("allow_methods", each(scalar(method_pattern))),
    "pass_other_requests": Key("pass_other_requests", _yes_no),
    "backfill_blocks": Key("backfill_blocks", _at_least_one),
    "resume_blocks": Key("resume_blocks", _count),
    **_SECTION_KEYS,
}
"""The keys of one item of ``networks``."""

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
    "hosts": Key("hosts", each(scalar(host_name))),
    "admin_clients": Key("admin_clients", each(scalar(ip_range))),
    "admin_hosts": Key("admin_hosts", each(scalar(host_name))),
    "forward_headers": Key("forward_headers", each(scalar(header_name))),
    "answer_headers": Key("answer_headers", _yes_no),
    "error_status": Key("error_status", scalar(error_status)),
    "explain": Key("explain", scalar(one_of(ExplainFor))),
    "explain_kept": Key("explain_kept", scalar(whole(0, 10_000))),
    "cors": Key("cors", read_cors),
    "gzip": Key("gzip", read_gzip),
    "websocket": Key("websocket", read_websocket),
    "verdicts": Key("verdicts", read_rules),
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


def _belong_to_sections() -> dict[str, str]:
    """Those that one section alone has: ``timeout`` and its like say nothing."""
    sections = {name: keys for name, keys in SECTIONS.items() if name not in SECTION_ALIASES}
    times = Counter(key for keys in sections.values() for key in keys)
    return {
        key: f"in the section {name} of an item of networks"
        for name, keys in sections.items()
        for key in keys
        if times[key] == 1
    }


_OF_FILE = dict.fromkeys(FILE_KEYS, "at the top of the file")
_OF_NETWORK = dict.fromkeys(NETWORK_KEYS, "in an item of networks")
_OF_NODE = dict.fromkeys(NODE_KEYS, "in an item of local_nodes, monitoring_nodes or fallback_nodes")

_OF_SECTION = _belong_to_sections()

ELSEWHERE_THAN_FILE = _OF_SECTION | _OF_NODE | _OF_NETWORK
"""For a key that is unknown at the top: where it belongs."""

_ELSEWHERE_THAN_NETWORK = _OF_SECTION | _OF_NODE | _OF_FILE
_ELSEWHERE_THAN_NODE = _OF_SECTION | _OF_FILE | _OF_NETWORK
_ELSEWHERE_THAN_SECTION = _OF_FILE | _OF_NODE | _OF_NETWORK
