"""The keys of ``cors``, ``gzip`` and ``websocket`` at the top of the file: what clients of a kind may do, or get."""

from __future__ import annotations

from evmlb.config import tree
from evmlb.config.reading import Key, Place, each, read_section, scalar
from evmlb.config.schema import CorsConfig, GzipConfig, WebSocketConfig
from evmlb.config.values import boolean, duration, header_names_line, origin, size, whole, word_of

_MANY = 10_000_000

CORS_KEYS: dict[str, Key] = {
    "origins": Key("origins", each(scalar(origin))),
    "methods": Key("methods", scalar(header_names_line)),
    "headers": Key("headers", scalar(header_names_line)),
    "max_age": Key("max_age_seconds", scalar(duration(0.0))),
}
"""The keys below ``cors``."""


def read_cors(place: Place) -> CorsConfig:
    """The value of ``cors``."""
    if not isinstance(place.node, tree.Mapping):
        scalar(word_of("pass"))(place)
        return CorsConfig()
    section = read_section(place, CORS_KEYS, {})
    if "origins" not in section.places or section.at("origins").is_empty_list:
        section.at("origins").fault("expected at least one origin; cors: pass leaves the answers to the nodes")
    return CorsConfig(**section.fields(CORS_KEYS))


GZIP_KEYS: dict[str, Key] = {
    "enabled": Key("enabled", scalar(boolean)),
    "min_size": Key("min_bytes", scalar(size(4 * 1024, 2**30))),  # smaller ones are not even asked about
    "level": Key("level", scalar(whole(1, 9))),
    "threads": Key("threads", scalar(whole(1, 16))),
}
"""The keys below ``gzip``."""


def read_gzip(place: Place) -> GzipConfig:
    """The value of ``gzip``; in place of a mapping the value of ``enabled`` alone will do."""
    if isinstance(place.node, tree.Scalar):
        return GzipConfig(enabled=scalar(boolean)(place))
    section = read_section(place, GZIP_KEYS, {})
    if section.places and "enabled" not in section.places:
        place.warn("has no effect: nothing is compressed without enabled: true")
    return GzipConfig(**section.fields(GZIP_KEYS))


WEBSOCKET_KEYS: dict[str, Key] = {
    "max_connections": Key("max_connections", scalar(whole(1, _MANY))),
    "max_connections_per_address": Key("max_connections_per_address", scalar(whole(0, _MANY))),
    "max_message_size": Key("max_message_bytes", scalar(size(1024, 2**30))),
    "max_subscriptions": Key("max_subscriptions", scalar(whole(0, _MANY))),
    "max_subscription_memory": Key("max_subscription_memory_bytes", scalar(size(1024))),
    "max_outstanding_calls": Key("max_outstanding_calls", scalar(whole(1, _MANY))),
    "max_queue": Key("max_queue_bytes", scalar(size(64 * 1024, 2**30))),
    "ping_interval": Key("ping_interval_seconds", scalar(duration(0.0))),
    "ping_timeout": Key("ping_timeout_seconds", scalar(duration(1.0, "1s"))),  # connections are looked at once a second
    "idle_timeout": Key("idle_timeout_seconds", scalar(duration(0.0))),
    "allowed_origins": Key("allowed_origins", each(scalar(origin))),
    "compression": Key("compression", scalar(boolean)),
}
"""The keys below ``websocket``."""


def read_websocket(place: Place) -> WebSocketConfig:
    """The value of ``websocket``."""
    return WebSocketConfig(**read_section(place, WEBSOCKET_KEYS, {}).fields(WEBSOCKET_KEYS))
