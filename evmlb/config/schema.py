"""What can be configured: names, units, defaults. No reading, no checking.

Every duration is a float in seconds and says so in its name; the file writes them as Go does (``250ms``, ``1h30m``).
The comments on the right give the key of the file where its name is another.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from evmlb.config.rules import VerdictRule
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
    """The original's levels, and WARNING; TRACE shows client addresses."""

    ERROR = "ERROR"
    WARNING = "WARNING"
    INFO = "INFO"
    DEBUG = "DEBUG"
    TRACE = "TRACE"


class HealthCheckType(enum.Enum):
    """What a poll asks beside the block number that selection needs (TyrScale's names, without the ``eth_``)."""

    BLOCK_NUMBER = "block_number"
    SYNCING = "syncing"
    CUSTOM = "custom"


class Check(enum.Enum):
    """A question of the polls that a node may be spared: many providers do not answer them."""

    CHAIN_ID = "chain_id"
    SYNCING = "syncing"
    PEER_COUNT = "peer_count"
    CLIENT_VERSION = "client_version"
    BLOCK_HASH = "block_hash"


class ExplainFor(enum.Enum):
    """Who may ask for the path of a request with ``X-Evmlb-Explain: 1``."""

    NOBODY = "nobody"
    TRUSTED = "trusted"  # clients that are within trusted_proxies, with every hop of theirs
    EVERYBODY = "everybody"


class WebSocketMode(enum.Enum):
    """What a network does with a client's WebSocket."""

    SUBSCRIPTIONS = "subscriptions"  # calls are balanced one by one, subscriptions are ours
    PASSTHROUGH = "passthrough"  # a plain pipe to one selected node
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketConfig:
    """Bounds on clients' WebSockets, all networks together."""

    max_connections: int | None = None  # None: half of the client connections in all
    max_connections_per_address: int = 0  # 0: no bound of its own
    max_message_bytes: int = 5 * MIB  # max_message_size
    max_subscriptions: int = 1000  # per connection
    max_subscription_memory_bytes: int = 128 * MIB  # max_subscription_memory: of all, log filters before all
    max_outstanding_calls: int = 1000  # per connection; more wait in the kernel
    max_queue_bytes: int = 4 * MIB  # max_queue: per connection, of what it does not read; beyond it is closed (1013)
    ping_interval_seconds: float = 30.0  # 0: no pings
    ping_timeout_seconds: float = 20.0
    idle_timeout_seconds: float = 0.0  # of a connection without subscriptions and calls; 0: none
    allowed_origins: tuple[str, ...] = ()  # beside a page's own and those of cors
    compression: bool = False  # permessage-deflate, when the client offers it


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeConfig:
    """Asking a second node when the first takes longer than usual for such calls."""

    enabled: bool = True
    across_tiers: bool = False  # also ask nodes behind the serving tier
    min_delay_seconds: float = 0.05
    max_delay_seconds: float = 2.0  # or min_delay, if that is longer
    first_delay_seconds: float = 0.3  # while the calls' own p98 is unknown; drawn between the two above
    heavy_max_delay_seconds: float = 20.0  # of logs, traces and unknown methods; or min_delay, if that is longer
    heavy_first_delay_seconds: float = 0.5  # drawn between min_delay and heavy_max_delay
    max_slow: int = 16  # requests of the slow class that are under way twice at a time
    max_hedges: int = 2  # so many more nodes for one request
    budget_percent: float = 10.0  # of all requests
    budget_min_per_second: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudgetConfig:
    """How many retries may be in vain."""

    budget_percent: float = 20.0  # of all requests
    budget_min_per_second: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """When failing requests take a node out, and how it comes back. The first five names are TyrScale's."""

    enabled: bool = True
    max_consecutive_failures: int = 2
    max_requests: int = 1  # trials at one time, and so many successes close it
    interval_seconds: float = 10.0  # the window of the failure share; 0: never cleared
    timeout_seconds: float = 1.0  # open for so long at first; doubles
    max_timeout_seconds: float = 30.0  # or timeout, if that is longer
    failure_percent: float = 50.0  # of the requests in the window
    min_requests: int = 10  # in the window, before the share counts
    max_ejected_percent: float = 50.0  # of a network's nodes, rounded up


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitConfig:
    """How a node that says it is asked too often comes back. The names are aetherlay's ``rate_limit_recovery``."""

    initial_backoff_seconds: float = 1.0
    backoff_multiplier: float = 2.0
    max_backoff_seconds: float = 60.0  # or initial_backoff, if that is longer
    max_retries: int = 0  # probes in vain before it is given up until reset_after; 0: never
    required_successes: int = 1
    reset_after_seconds: float = 86400.0
    max_retry_after_seconds: float = 3600.0  # a longer Retry-After counts as this


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityQueueConfig:
    """prio-load-balancer's three classes for requests that wait for a node."""

    enabled: bool = False
    fasttrack_per_highprio: int = 2
    fasttrack_drain_first: bool = False
    max_fasttrack: int = 0  # waiting at one time; 0: no limit of its own
    max_highprio: int = 0
    max_lowprio: int = 0
    fasttrack_methods: tuple[str, ...] = ()
    highprio_methods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomCheck:
    """The request of a ``custom`` health check."""

    method: str = "POST"
    body: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # values are secrets
    status_code: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheckConfig:
    """What polls demand of a node beyond an answer."""

    type: HealthCheckType = HealthCheckType.BLOCK_NUMBER
    tolerance_blocks: int | None = None  # behind the chainhead; None: the block diff of the role says it
    request: CustomCheck = CustomCheck()
    timeout_seconds: float | None = None  # of one try; None: min(rpc_timeout, max(1 s, interval))
    failure_threshold: int = 2  # bad polls in a row that take a node out
    success_threshold: int = 2  # good polls in a row that bring it back
    min_peers: int = 0
    combined_with_circuit_breaker: bool = False


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
    provider: str | None = None  # whose dialect of errors it speaks; None: told from its host or client version
    requests_per_second: float | None = None  # kept by us; None: no limit
    poll_interval_seconds: float | None = None  # None: its role's
    metered: bool = False  # every call costs: polled ever more slowly while it is not needed
    skip_checks: frozenset[Check] = frozenset()


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
    queue_timeout_seconds: float = 5.0
    broadcast_transactions: int = 1  # so many nodes get each raw transaction
    read_your_writes_seconds: float = 30.0
    hedge: HedgeConfig = HedgeConfig()
    retry_budget: RetryBudgetConfig = RetryBudgetConfig()
    circuit_breaker: BreakerConfig = BreakerConfig()
    rate_limit: RateLimitConfig = RateLimitConfig()
    priority_queue: PriorityQueueConfig = PriorityQueueConfig()
    health_check: HealthCheckConfig = HealthCheckConfig()
    websocket: WebSocketMode = WebSocketMode.SUBSCRIPTIONS
    allow_methods: tuple[str, ...] = ()  # patterns: of those that are for a node's operator
    pass_other_requests: bool = False  # what is no JSON-RPC by POST
    backfill_blocks: int = 1024  # so many missed blocks are fetched before subscribers are cut off
    resume_blocks: int = 256  # so many blocks back a client may resume

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
class GzipConfig:
    """Large answers compressed for clients that accept it."""

    enabled: bool = False
    min_bytes: int = 16 * 1024  # min_size
    level: int = 1  # 1 (fast) to 9 (small)
    threads: int = 2


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
    hosts: tuple[str, ...] = ()  # names under which requests are taken; empty: any
    admin_clients: tuple[str, ...] = (
        "127.0.0.0/8",
        "::1/128",
    )  # who may read the pages that tell of nodes and requests
    admin_hosts: tuple[str, ...] = ()  # by which names, beside localhost and any address
    forward_headers: tuple[str, ...] = ()
    answer_headers: bool = True  # X-Evmlb-*
    error_status: int | None = None  # 200: own errors travel with this status
    explain: ExplainFor = ExplainFor.TRUSTED
    explain_kept: int = 100  # so many failures, and so many of the slowest requests, are kept to look at
    verdicts: tuple[VerdictRule, ...] = ()  # come before the built-in ones
    cors: CorsConfig = CorsConfig()
    websocket: WebSocketConfig = WebSocketConfig()
    gzip: GzipConfig = GzipConfig()
    limits: LimitsConfig = LimitsConfig()
