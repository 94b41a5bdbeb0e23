"""What can be configured: names, units, defaults. No reading, no checking.

Every duration is a float in seconds and says so in its name; the file writes them as Go does (``250ms``, ``1h30m``).
The comments on the right give the key of the file where its name is another.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from evmlb.urls import Endpoint

MIB = 1024 * 1024


class Role(enum.Enum):
    """The tier of a node in the order of selection."""

    LOCAL = "local"
    MONITORING = "monitoring"
    FALLBACK = "fallback"


class Criterion(enum.Enum):
    """One entry of ``load_balance_priority``."""

    LATENCY = "latency"
    LOAD = "load"
    CHAINHEAD = "chainhead"


class Strategy(enum.Enum):
    """How requests are spread over the nodes of the serving tier."""

    BEST = "best"
    SHARED = "shared"
    WEIGHT_ROUND_ROBIN = "weight-round-robin"
    LEAST_LOAD = "least-load"
    FAILOVER_PRIORITY = "failover-priority"


class WhenNoneInRange(enum.Enum):
    """What is served when no node is within its block diff."""

    REFUSE = "refuse"
    NEAREST = "nearest"


class LogLevel(enum.Enum):
    """The original's levels; TRACE shows client addresses."""

    ERROR = "ERROR"
    INFO = "INFO"
    DEBUG = "DEBUG"
    TRACE = "TRACE"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """One node of one network. ``name`` is unique in its network; it defaults to host and port of the endpoint."""

    name: str
    role: Role
    endpoint: Endpoint  # rpc_endpoint
    prometheus_endpoint: Endpoint | None = None
    ws_endpoint: Endpoint | None = None
    weight: int = 1
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # values are secrets
    max_concurrency: int = 512
    ca_file: str | None = None
    check_chain_id: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """One chain served at one path."""

    name: str
    nodes: tuple[NodeConfig, ...]
    load_balance_priority: tuple[Criterion, ...] = (Criterion.CHAINHEAD, Criterion.LATENCY)
    strategy: Strategy = Strategy.BEST
    load_period_minutes: int = 1  # load_period
    use_load_tracker: bool = False
    local_poll_interval_seconds: float = 1.0
    monitoring_poll_interval_seconds: float = 5.0  # fallback nodes too
    rpc_timeout_seconds: float = 5.0
    rpc_retries: int = 2
    slow_timeout_seconds: float = 300.0
    request_timeout_seconds: float = 60.0
    slow_request_timeout_seconds: float = 600.0
    stream_idle_timeout_seconds: float = 30.0
    network_block_diff: int = 5
    fallback_block_diff: int = 5  # defaults to network_block_diff
    switch_to_fallback_enabled: bool = False  # defaults to: there are fallback nodes
    switch_to_fallback_block_threshold: int = 5  # defaults to network_block_diff
    monitoring_nodes_serve: bool = True
    when_none_in_range: WhenNoneInRange = WhenNoneInRange.REFUSE
    chain_id: int | None = None
    block_time_seconds: float | None = None

    def poll_interval_seconds(self, role: Role) -> float:
        """How often a node of this role is polled."""
        return self.local_poll_interval_seconds if role is Role.LOCAL else self.monitoring_poll_interval_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class CorsConfig:
    """Own CORS answers. ``origins`` empty: the node's Access-Control-* headers are passed on (``cors: pass``)."""

    origins: tuple[str, ...] = ()
    methods: str = "GET, POST, OPTIONS"
    headers: str = "Accept, Authorization, Content-Type, Origin, X-Requested-With"
    max_age_seconds: float = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """Bounds on what a client may make us hold. ``max_connections`` None: 40 % of the descriptor limit."""

    max_body_bytes: int = 32 * MIB  # max_body_size
    max_request_memory_bytes: int = 256 * MIB  # max_request_memory
    max_header_bytes: int = 64 * 1024  # max_header_size
    max_connections: int | None = None
    client_idle_timeout_seconds: float = 75.0
    request_read_timeout_seconds: float = 30.0
    failover_buffer_bytes: int = 256 * 1024  # failover_buffer
    upstream_idle_timeout_seconds: float = 50.0  # upstream_idle


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything. ``port`` and ``metrics_port`` 0: any free port (tests)."""

    networks: tuple[NetworkConfig, ...]
    port: int = 8080
    metrics_port: int = 9101
    listen: tuple[str, ...] = ()  # endpoint strings; when given, they replace `port`
    admin_listen: tuple[str, ...] = ()  # when given, they replace `metrics_port`
    log_level: LogLevel = LogLevel.INFO
    log_format: str = "text"  # or "json"
    log_rate_limit_seconds: float = 10.0
    shutdown_delay_seconds: float = 0.0
    shutdown_grace_seconds: float = 8.0
    trusted_proxies: tuple[str, ...] = (
        "127.0.0.0/8",
        "::1/128",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
    forward_headers: tuple[str, ...] = ()
    answer_headers: bool = True  # X-Evmlb-*
    error_status: int | None = None  # 200: own errors travel with this status
    cors: CorsConfig = CorsConfig()
    limits: LimitsConfig = LimitsConfig()
