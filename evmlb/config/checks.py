"""What cannot be together, or has no effect together: rules over more than one key."""

from __future__ import annotations

from collections.abc import Iterable

from evmlb.config.reading import Place, Section
from evmlb.config.schema import Config, Criterion, HealthCheckType, NetworkConfig, NodeConfig, Role
from evmlb.urls import Endpoint


def check_listeners(config: Config, section: Section) -> None:
    """Ports and listening endpoints."""
    for port, listen in (("port", "listen"), ("metrics_port", "admin_listen")):
        if {port, listen} <= section.values.keys() and section.values[listen]:
            section.at(port).warn(f"has no effect, because {listen} replaces it")
    if config.port and config.port == config.metrics_port and not config.listen and not config.admin_listen:
        section.at("metrics_port").fault("expected another port than that of `port`")
    if config.limits.max_request_memory_bytes < config.limits.max_body_bytes:
        section.at("max_request_memory").fault("expected at least max_body_size, or no such body could ever be read")


def check_unique(places: Iterable[tuple[object, Place]], what: str) -> None:
    """No value may be there twice; the second is the fault."""
    seen: dict[object, Place] = {}
    for value, place in places:
        if value in seen:
            place.fault(f"expected another {what}: this one is at {seen[value].path} already")
        else:
            seen[value] = place


def check_network(network: NetworkConfig, section: Section) -> None:
    """One network as a whole, its nodes apart."""
    _check_timeouts(network, section)
    _check_fallback(network, section)
    _check_load(network, section)
    _check_broadcast(network, section)
    _check_aliases(section)
    _check_bounds(network, section)
    _check_priorities(network, section)
    _check_health_check(network, section)


def _check_timeouts(network: NetworkConfig, section: Section) -> None:
    if network.request_timeout_seconds < network.rpc_timeout_seconds:
        section.at("request_timeout").fault("expected at least rpc_timeout: a request has one attempt or more")
    if network.slow_request_timeout_seconds < network.slow_timeout_seconds:
        section.at("slow_request_timeout").fault("expected at least slow_timeout: a request has one attempt or more")


def _check_fallback(network: NetworkConfig, section: Section) -> None:
    has_fallback = any(node.role is Role.FALLBACK for node in network.nodes)
    if section.values.get("switch_to_fallback_enabled") and not has_fallback:
        section.at("switch_to_fallback_enabled").warn("has no effect: the network has no fallback nodes")
    if section.values.get("switch_to_fallback_block_threshold") and not network.switch_to_fallback_enabled:
        section.at("switch_to_fallback_block_threshold").warn(
            "has no effect, because switching to fallback nodes is disabled"
        )


def _check_load(network: NetworkConfig, section: Section) -> None:
    tracked = [n for n in network.nodes if n.role is Role.LOCAL and n.prometheus_endpoint is not None]
    if network.use_load_tracker and not tracked:
        section.at("use_load_tracker").warn("has no effect: no local node has a prometheus_endpoint")
    if tracked and not network.use_load_tracker:
        section.place.warn("prometheus_endpoint has no effect without use_load_tracker: true")
    if Criterion.LOAD in network.load_balance_priority and not network.use_load_tracker:
        section.at("load_balance_priority").warn("load has no effect without use_load_tracker: true")


def _check_broadcast(network: NetworkConfig, section: Section) -> None:
    if network.broadcast_transactions > len(network.nodes):
        section.at("broadcast_transactions").warn(
            f"has no effect beyond the number of the network's nodes, {len(network.nodes)}"
        )


def _check_aliases(section: Section) -> None:
    if {"rate_limit", "rate_limit_recovery"} <= section.places.keys():
        section.at("rate_limit_recovery").fault("expected no rate_limit beside it: both are names of one section")


def _check_bounds(network: NetworkConfig, section: Section) -> None:
    """The upper of two bounds is by default never below the lower, so it is the one to blame."""
    hedge, breaker, limit = network.hedge, network.circuit_breaker, network.rate_limit
    if hedge.max_delay_seconds < hedge.min_delay_seconds:
        _below(section, "hedge").at("max_delay").fault("expected at least min_delay")
    if hedge.heavy_max_delay_seconds < hedge.min_delay_seconds:
        _below(section, "hedge").at("heavy_max_delay").fault("expected at least min_delay")
    if breaker.max_timeout_seconds < breaker.timeout_seconds:
        _below(section, "circuit_breaker").at("max_timeout").fault("expected at least timeout")
    if limit.max_backoff_seconds < limit.initial_backoff_seconds:
        name = "rate_limit_recovery" if "rate_limit_recovery" in section.values else "rate_limit"
        _below(section, name).at("max_backoff").fault("expected at least initial_backoff")


def _below(section: Section, key: str) -> Section:
    """The section of a network under a key; an empty one when it is not given."""
    found: Section = section.values.get(key, Section(section.place))
    return found


def _check_priorities(network: NetworkConfig, section: Section) -> None:
    queue = network.priority_queue
    if set(queue.fasttrack_methods) & set(queue.highprio_methods):
        _below(section, "priority_queue").at("highprio_methods").warn(
            "a method is also in fasttrack_methods: here it has no effect"
        )


def _check_health_check(network: NetworkConfig, section: Section) -> None:
    check, below = network.health_check, _below(section, "health_check")
    type_is_known = "type" in below.values or "type" not in below.places
    is_custom = check.type is HealthCheckType.CUSTOM
    if is_custom and "request" not in below.places:
        below.at("type").fault("expected the key request beside it: what a custom check sends")
    if type_is_known and not is_custom and "request" in below.places:
        below.at("request").fault("expected type: custom beside it: no other check sends a request of its own")
    if check.combined_with_circuit_breaker and not network.circuit_breaker.enabled:
        below.at("combined_with_circuit_breaker").fault("expected a circuit_breaker that is enabled")


def check_node(node: NodeConfig, section: Section) -> None:
    """One node as a whole."""
    endpoints = [e for e in (node.endpoint, node.ws_endpoint, node.prometheus_endpoint) if e is not None]
    if node.ca_file is not None and not any(endpoint.is_tls for endpoint in endpoints):
        section.at("ca_file").fault("expected an https:// or wss:// endpoint beside it: plain ones have no certificate")
    if node.endpoint.authorization and any(name.lower() == "authorization" for name, _ in node.headers):
        section.at("headers").fault(
            "expected no Authorization here: the user information in rpc_endpoint makes that header already"
        )
    if node.prometheus_endpoint is not None and node.role is not Role.LOCAL:
        section.at("prometheus_endpoint").warn("has no effect: load is read for local nodes only")


def identity(endpoint: Endpoint) -> tuple[object, ...]:
    """What makes two endpoints the same one; an absent path is ``/``."""
    return (
        endpoint.scheme,
        endpoint.host,
        endpoint.port,
        endpoint.path or "/",
        endpoint.query,
        endpoint.authorization,
    )
