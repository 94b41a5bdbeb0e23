"""Whole files: what they give, and what they are warned about."""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.clients import CORS_KEYS, WEBSOCKET_KEYS
from evmlb.config.fields import FILE_KEYS, NETWORK_KEYS, NODE_KEYS, REQUEST_KEYS, SECTIONS
from evmlb.config.load import load_config
from evmlb.config.rules import Condition, Verdict, VerdictRule
from evmlb.config.schema import (
    BreakerConfig,
    Check,
    Config,
    CorsConfig,
    Criterion,
    CustomCheck,
    ExplainFor,
    GzipConfig,
    HealthCheckConfig,
    HealthCheckType,
    HedgeConfig,
    LimitsConfig,
    LogLevel,
    NetworkConfig,
    NodeConfig,
    PriorityQueueConfig,
    RateLimitConfig,
    RetryBudgetConfig,
    Role,
    Strategy,
    WebSocketConfig,
    WebSocketMode,
    WhenNoneInRange,
)
from evmlb.errors import Fault
from evmlb.urls import parse_endpoint
from tests.config.support import NODES, SAMPLES, config, file, network, node, warnings, with_network, with_node


class OriginalFiles(SynchronousTestCase):
    def test_documented(self) -> None:
        """The original's documented keys load unchanged and mean what its README says."""
        loaded = load_config(str(SAMPLES / "documented.yaml"), {})
        ethereum, gnosis = loaded.networks
        self.assertEqual((loaded.port, loaded.metrics_port, loaded.log_level), (8080, 9101, LogLevel.INFO))
        self.assertEqual([n.role for n in ethereum.nodes], [Role.LOCAL, Role.LOCAL, Role.MONITORING, Role.FALLBACK])
        self.assertEqual(ethereum.nodes[1].prometheus_endpoint, parse_endpoint("http://geth-2:9100/metrics"))
        self.assertEqual(ethereum.load_balance_priority, (Criterion.LOAD, Criterion.LATENCY))
        self.assertEqual((ethereum.local_poll_interval_seconds, ethereum.monitoring_poll_interval_seconds), (0.5, 5400))
        self.assertEqual(
            (ethereum.rpc_timeout_seconds, ethereum.rpc_retries, ethereum.load_period_minutes), (0.25, 3, 5)
        )
        self.assertEqual((ethereum.network_block_diff, ethereum.fallback_block_diff), (2, 10))
        self.assertEqual((ethereum.switch_to_fallback_enabled, ethereum.switch_to_fallback_block_threshold), (True, 20))
        self.assertEqual((gnosis.name, gnosis.fallback_block_diff), ("gnosis", 5))

    def test_long_rpc_timeout(self) -> None:
        """The original's rpc_timeout bounds polls only, so a long one loads and draws the request timeouts with it."""
        gnosis = load_config(str(SAMPLES / "documented.yaml"), {}).networks[1]
        self.assertEqual((gnosis.rpc_timeout_seconds, gnosis.request_timeout_seconds), (120, 120))
        longer = network(with_network("rpc_timeout: 20m"))
        self.assertEqual((longer.request_timeout_seconds, longer.slow_request_timeout_seconds), (1200, 1200))

    def test_older(self) -> None:
        """The original's older keys give the same nodes as the newer ones."""
        polygon = load_config(str(SAMPLES / "older.yaml"), {}).networks[0]
        self.assertEqual(
            [(n.role, n.endpoint.host, n.endpoint.target) for n in polygon.nodes],
            [
                (Role.LOCAL, "bor-1", "/"),
                (Role.LOCAL, "bor-2", "/"),
                (Role.MONITORING, "polygon.example", "/rpc?key=s3cr3t"),
            ],
        )
        self.assertEqual((polygon.rpc_retries, polygon.switch_to_fallback_enabled), (0, False))

    def test_minimal(self) -> None:
        """The smallest file of the original's README, which the original refused, has every default."""
        loaded = load_config(str(SAMPLES / "minimal.yaml"), {})
        only = NodeConfig(name="localhost:8545", role=Role.LOCAL, endpoint=parse_endpoint("http://localhost:8545"))
        self.assertEqual(loaded, Config(networks=(NetworkConfig(name="ethereum", nodes=(only,)),)))

    def test_no_warnings(self) -> None:
        """None of the original's samples draws a warning."""
        for sample in SAMPLES.iterdir():
            self.assertEqual(warnings(sample.read_text()), [], sample.name)


EVERY_KEY = (SAMPLES.parent / "every_key.yaml").read_text()


class EveryKey(SynchronousTestCase):
    def test_top(self) -> None:
        """Every key at the top arrives in its field."""
        expected = Config(
            networks=config(EVERY_KEY).networks,
            port=1,
            metrics_port=2,
            listen=("tcp:3", "unix:/run/x"),
            admin_listen=("tcp:4",),
            log_level=LogLevel.DEBUG,
            log_format="json",
            log_rate_limit_seconds=0.0,
            shutdown_delay_seconds=1.0,
            shutdown_grace_seconds=2.0,
            trusted_proxies=("192.0.2.1/32", "2001:db8::/32"),
            hosts=("rpc.example.com", "localhost"),
            admin_clients=("10.9.0.0/16",),
            admin_hosts=("ops.example.com",),
            forward_headers=("X-Request-Id",),
            answer_headers=False,
            error_status=200,
            explain=ExplainFor.EVERYBODY,
            explain_kept=8,
            cors=CorsConfig(
                origins=("https://app.example:8443",), methods="POST", headers="A, B", max_age_seconds=60.0
            ),
            websocket=WebSocketConfig(
                max_connections=5,
                max_connections_per_address=2,
                max_message_bytes=65536,
                max_subscriptions=3,
                max_subscription_memory_bytes=4 * 2**20,
                max_outstanding_calls=4,
                max_queue_bytes=131072,
                ping_interval_seconds=5.0,
                ping_timeout_seconds=6.0,
                idle_timeout_seconds=7.0,
                allowed_origins=("https://app.example",),
                compression=True,
            ),
            gzip=GzipConfig(enabled=True, min_bytes=65536, level=6, threads=1),
            limits=LimitsConfig(
                max_body_bytes=2**20,
                max_request_memory_bytes=10**9,
                max_header_bytes=1024,
                max_connections=7,
                client_idle_timeout_seconds=0.01,
                request_read_timeout_seconds=0.02,
                failover_buffer_bytes=0,
                upstream_idle_timeout_seconds=0.03,
            ),
            verdicts=(
                VerdictRule(
                    name="busy",
                    verdict=Verdict(Fault.RATE_LIMITED, retry=True, limited=True, not_executed=True, rule="busy"),
                    conditions=(Condition(texts=("out of coffee",)),),
                ),
            ),
        )
        self.assertEqual(config(EVERY_KEY), expected)

    def test_network(self) -> None:
        """Every key of a network arrives in its field."""
        found = network(EVERY_KEY)
        expected = NetworkConfig(
            name="x",
            nodes=found.nodes,
            load_balance_priority=(Criterion.LOAD,),
            strategy=Strategy.LEAST_LOAD,
            load_period_minutes=15,
            use_load_tracker=True,
            local_poll_interval_seconds=0.1,
            monitoring_poll_interval_seconds=0.2,
            rpc_timeout_seconds=0.3,
            rpc_retries=0,
            slow_timeout_seconds=0.4,
            request_timeout_seconds=0.5,
            slow_request_timeout_seconds=0.6,
            stream_idle_timeout_seconds=0.7,
            network_block_diff=0,
            fallback_block_diff=1,
            switch_to_fallback_enabled=False,
            switch_to_fallback_block_threshold=2,
            monitoring_nodes_serve=False,
            when_none_in_range=WhenNoneInRange.NEAREST,
            chain_id=1,
            block_time_seconds=0.25,
            queue_timeout_seconds=0.0,
            broadcast_transactions=3,
            read_your_writes_seconds=0.0,
            websocket=WebSocketMode.PASSTHROUGH,
            allow_methods=("admin_peers", "debug_*"),
            pass_other_requests=True,
            backfill_blocks=9,
            resume_blocks=0,
            hedge=found.hedge,
            retry_budget=RetryBudgetConfig(budget_percent=1000.0, budget_min_per_second=1.5),
            circuit_breaker=found.circuit_breaker,
            rate_limit=found.rate_limit,
            priority_queue=found.priority_queue,
            health_check=found.health_check,
        )
        self.assertEqual(found, expected)
        intervals = [found.poll_interval_seconds(role) for role in (Role.LOCAL, Role.MONITORING, Role.FALLBACK)]
        self.assertEqual(intervals, [0.1, 0.2, 0.2])

    def test_hedge(self) -> None:
        """Every key of hedge arrives in its field."""
        expected = HedgeConfig(
            enabled=False,
            across_tiers=True,
            min_delay_seconds=0.01,
            max_delay_seconds=0.02,
            first_delay_seconds=0.03,
            heavy_max_delay_seconds=0.04,
            heavy_first_delay_seconds=0.05,
            max_slow=6,
            max_hedges=1,
            budget_percent=0.5,
            budget_min_per_second=0.0,
        )
        self.assertEqual(network(EVERY_KEY).hedge, expected)

    def test_circuit_breaker(self) -> None:
        """Every key of circuit_breaker arrives in its field, but for the name, which has none."""
        expected = BreakerConfig(
            enabled=True,
            max_consecutive_failures=3,
            max_requests=4,
            interval_seconds=0.0,
            timeout_seconds=5.0,
            max_timeout_seconds=6.0,
            failure_percent=70.0,
            min_requests=8,
            max_ejected_percent=90.0,
        )
        self.assertEqual(network(EVERY_KEY).circuit_breaker, expected)

    def test_rate_limit(self) -> None:
        """Every key of rate_limit arrives in its field, under aetherlay's name as well."""
        expected = RateLimitConfig(
            initial_backoff_seconds=300.0,
            backoff_multiplier=1.5,
            max_backoff_seconds=7200.0,
            max_retries=10,
            required_successes=2,
            reset_after_seconds=172_800.0,
            max_retry_after_seconds=60.0,
        )
        self.assertEqual(network(EVERY_KEY).rate_limit, expected)
        other = EVERY_KEY.replace("rate_limit_recovery:", "").replace("rate_limit:", "rate_limit_recovery:")
        self.assertEqual(network(other).rate_limit, expected)

    def test_priority_queue(self) -> None:
        """Every key of priority_queue arrives in its field."""
        expected = PriorityQueueConfig(
            enabled=True,
            fasttrack_per_highprio=0,
            fasttrack_drain_first=True,
            max_fasttrack=1,
            max_highprio=2,
            max_lowprio=3,
            fasttrack_methods=("eth_sendRawTransaction",),
            highprio_methods=("eth_call", "engine_newPayloadV3"),
        )
        self.assertEqual(network(EVERY_KEY).priority_queue, expected)

    def test_health_check(self) -> None:
        """Every key of health_check and of its request arrives in its field."""
        headers = (("X-Key", "k"), ("Content-Type", "text/plain"))
        expected = HealthCheckConfig(
            type=HealthCheckType.CUSTOM,
            tolerance_blocks=0,
            request=CustomCheck(method="PUT", body='{"a": 1}', headers=headers, status_code=204),
            timeout_seconds=0.04,
            failure_threshold=0,
            success_threshold=5,
            min_peers=6,
            combined_with_circuit_breaker=True,
        )
        self.assertEqual(network(EVERY_KEY).health_check, expected)

    def test_nodes(self) -> None:
        """Every key of a node arrives in its field, and every list of nodes gives its role."""
        nodes = network(EVERY_KEY).nodes
        hosts = {Role.LOCAL: ["a", "d"], Role.MONITORING: ["b", "e"], Role.FALLBACK: ["c", "f"]}
        for role, expected in hosts.items():
            self.assertEqual([n.endpoint.host for n in nodes if n.role is role], expected)
        full = NodeConfig(
            name="the node",
            role=Role.LOCAL,
            endpoint=parse_endpoint("https://a"),
            prometheus_endpoint=parse_endpoint("http://a:9100/metrics"),
            ws_endpoint=parse_endpoint("wss://a"),
            weight=2,
            headers=(("X-Api-Key", "k"),),
            max_concurrency=3,
            ca_file="ca.pem",
            check_chain_id=False,
            provider="alchemy",
            requests_per_second=2.5,
            poll_interval_seconds=0.05,
            metered=True,
            skip_checks=frozenset({Check.SYNCING, Check.PEER_COUNT, Check.CLIENT_VERSION}),
        )
        self.assertEqual(nodes[0], full)

    def test_is_complete(self) -> None:
        """The file of these tests has every key of the tables."""
        for key in (*FILE_KEYS, *NETWORK_KEYS, *NODE_KEYS, *CORS_KEYS, *REQUEST_KEYS):
            self.assertRegex(EVERY_KEY, rf"\b{key}:", key)
        websocket = EVERY_KEY.split("\nwebsocket:")[1].split("\nverdicts:")[0]
        for key in WEBSOCKET_KEYS:
            self.assertRegex(websocket, rf"\b{key}:", key)
        for name, keys in SECTIONS.items():
            lines = EVERY_KEY.split(f"    {name}:")[1].split("\n    ")  # a line, or those that are further in
            block = [lines[0], *itertools.takewhile(lambda line: line.startswith(" "), lines[1:])]
            for key in keys if name != "rate_limit_recovery" else ():
                self.assertRegex("\n".join(block), rf"\b{key}:", f"{name}.{key}")

    def test_representation_has_no_secret(self) -> None:
        """Neither headers nor endpoints show a secret when a configuration is printed."""
        text = with_node("headers: {A: hunter2}", "http://u:hunter2@a/?k=hunter2")
        self.assertNotIn("hunter2", repr(config(text)))
        text = with_network("health_check: {type: custom, request: {headers: {A: hunter2}}}")
        self.assertNotIn("hunter2", repr(config(text)))


class Meaning(SynchronousTestCase):
    def test_names(self) -> None:
        """A node is called by host and port, with a suffix where that name is taken, given names included."""
        nodes = "local_endpoints: ['http://a', 'http://a/x', 'http://[::1]:1']\nlocal_nodes:\n"
        nodes += "  - {rpc_endpoint: 'http://b', name: 'a:80'}"
        names = {n.endpoint.target + n.endpoint.host: n.name for n in network(file(network=nodes)).nodes}
        self.assertEqual(names, {"/b": "a:80", "/a": "a:80-2", "/xa": "a:80-3", "/::1": "[::1]:1"})

    def test_derived(self) -> None:
        """Diff and threshold follow network_block_diff; switching is enabled where there are fallback nodes."""
        found = network(with_network("fallback_nodes: [{rpc_endpoint: http://f}]\nnetwork_block_diff: 9"))
        self.assertEqual((found.fallback_block_diff, found.switch_to_fallback_enabled), (9, True))
        self.assertEqual(found.switch_to_fallback_block_threshold, 9)
        off = network(with_network("fallback_nodes: [{rpc_endpoint: http://f}]\nswitch_to_fallback_enabled: no"))
        self.assertIs(off.switch_to_fallback_enabled, False)

    def test_enabled_alone(self) -> None:
        """In place of a section that can be enabled, the word alone will do; all else is the default."""
        for word, value in (("true", True), ("off", False), ("'no'", False), ("On", True)):
            self.assertEqual(network(with_network(f"hedge: {word}")).hedge, HedgeConfig(enabled=value))
        self.assertIs(network(with_network("circuit_breaker: false")).circuit_breaker.enabled, False)
        self.assertIs(network(with_network("priority_queue: true")).priority_queue.enabled, True)

    def test_empty_sections(self) -> None:
        """A section without keys, or without anything, is the default."""
        for name in SECTIONS:
            for nothing in ("", "{}"):
                self.assertEqual(network(with_network(f"{name}: {nothing}")), network(file()), name)

    def test_derived_delays(self) -> None:
        """The longest hedge delay is not below the shortest, nor is the first outside both, when only one is given."""
        longer = network(with_network("hedge: {min_delay: 3s}")).hedge
        self.assertEqual((longer.max_delay_seconds, longer.first_delay_seconds), (3.0, 3.0))
        self.assertEqual((longer.heavy_max_delay_seconds, longer.heavy_first_delay_seconds), (20.0, 3.0))
        shorter = network(with_network("hedge: {max_delay: 100ms}")).hedge
        self.assertEqual((shorter.min_delay_seconds, shorter.first_delay_seconds), (0.05, 0.1))
        self.assertEqual(network(with_network("hedge: {max_delay: 50ms}")).hedge.max_delay_seconds, 0.05)

    def test_derived_maxima(self) -> None:
        """A first pause that is longer than the default maximum is its own maximum."""
        for text, longest in (("1m", 60), ("9s", 30)):
            breaker = network(with_network(f"circuit_breaker: {{timeout: {text}}}")).circuit_breaker
            self.assertEqual(breaker.max_timeout_seconds, longest)
        for text, longest in (("5m", 300), ("2s", 60)):
            limit = network(with_network(f"rate_limit: {{initial_backoff: {text}}}")).rate_limit
            self.assertEqual(limit.max_backoff_seconds, longest)

    def test_tyrscale_breaker(self) -> None:
        """The breaker of TyrScale's documented use case: failures that are never cleared, out for two minutes."""
        text = "circuit_breaker: {max_consecutive_failures: 3, max_requests: 1, interval: 0, timeout: 120000ms}"
        found = network(with_network(text)).circuit_breaker
        expected = BreakerConfig(
            max_consecutive_failures=3,
            max_requests=1,
            interval_seconds=0.0,
            timeout_seconds=120.0,
            max_timeout_seconds=120.0,
        )
        self.assertEqual(found, expected)

    def test_health_check_types(self) -> None:
        """TyrScale's names of types are understood, in any case."""
        types = {
            "block_number": HealthCheckType.BLOCK_NUMBER,
            "ETH_block_number": HealthCheckType.BLOCK_NUMBER,
            "Syncing": HealthCheckType.SYNCING,
            "eth_syncing": HealthCheckType.SYNCING,
        }
        for word, kind in types.items():
            self.assertIs(network(with_network(f"health_check: {{type: {word}}}")).health_check.type, kind)

    def test_skipped_chain_id(self) -> None:
        """Either key spares a node the question for its chain id."""
        self.assertIs(node(with_node("skip_checks: [chain_id]")).check_chain_id, False)
        self.assertIs(node(with_node("skip_checks: [chain_id]\ncheck_chain_id: true")).check_chain_id, False)
        self.assertIs(node(with_node("skip_checks: []\ncheck_chain_id: false")).check_chain_id, False)
        self.assertIs(node(with_node("skip_checks: [syncing]")).check_chain_id, True)

    def test_body_is_as_written(self) -> None:
        """The body of a check keeps its braces and blanks; variables are put in."""
        lines = """health_check: {type: custom, request: {body: ' {"k": "${K}"} '}}"""
        self.assertEqual(network(with_network(lines), {"K": "v"}).health_check.request.body, ' {"k": "v"} ')

    def test_merged_sections(self) -> None:
        """Merge keys work within a section, too; what is written beside them wins."""
        top = "x-hedge: &hedge {max_hedges: 1, min_delay: 60ms}"
        found = network(file(top, f"{NODES}\nhedge:\n  <<: *hedge\n  min_delay: 70ms")).hedge
        self.assertEqual((found.max_hedges, found.min_delay_seconds), (1, 0.07))

    def test_words_are_not_booleans(self) -> None:
        """What YAML 1.1 takes for booleans, numbers or dates is a string where a string is expected."""
        for word in ("on", "no", "137", "1e3", "0x10", "2024-01-01", "true", "1.0", "="):
            self.assertEqual(network(file().replace("name: n\n", f"name: {word}\n")).name, word)

    def test_booleans(self) -> None:
        """YAML 1.1's booleans are understood where a boolean is expected, quoted ones too."""
        for word, value in (("yes", True), ("Off", False), ("'true'", True), ("FALSE", False)):
            self.assertIs(network(with_network(f"monitoring_nodes_serve: {word}")).monitoring_nodes_serve, value)

    def test_numbers(self) -> None:
        """Numbers may be quoted, and hexadecimal as chain ids often are."""
        self.assertEqual(config(file("port: '80'")).port, 80)
        self.assertEqual(network(with_network("chain_id: 0x89")).chain_id, 137)

    def test_empty_means_default(self) -> None:
        """A key without a value, with null or with an empty text has its default."""
        for nothing in ("", "~", "null", "''", "'${E:-}'", "${E}"):
            self.assertEqual(config(file(f"port: {nothing}"), {"E": ""}), config(file()))
        self.assertIsNone(node(with_node("prometheus_endpoint: ''")).prometheus_endpoint)

    def test_environment(self) -> None:
        """Variables are put in after the YAML is read, with defaults, and $${ stands for ${ itself."""
        environ = {"KEY": "a: b # c", "EMPTY": ""}
        lines = 'headers: {A: "${KEY}", B: "x${EMPTY:-y}${NO:-}z", C: "$${KEY}", D: "$1 $ $$ {}"}'
        expected = (("A", "a: b # c"), ("B", "xyz"), ("C", "${KEY}"), ("D", "$1 $ $$ {}"))
        self.assertEqual(node(with_node(lines), environ).headers, expected)

    def test_null_from_environment(self) -> None:
        """A variable whose text looks like YAML's null is that text."""
        self.assertEqual(network(file().replace("name: n\n", "name: ${N}\n"), {"N": "null"}).name, "null")

    def test_anchors(self) -> None:
        """Anchors below a key with x-, aliases and merge keys work; what is written beside a merge wins."""
        top = "x-more-defaults-of-2024: &more {rpc_retries: 8, block_time: 12s}\n"
        top += "x-defaults: &defaults\n  rpc_retries: 7\n  chain_id: 1"
        found = network(file(top, f"{NODES}\n<<: [*defaults, *more]\nchain_id: 2"))
        self.assertEqual((found.rpc_retries, found.chain_id, found.block_time_seconds), (7, 2, 12.0))

    def test_alias(self) -> None:
        """The same list of nodes may serve two networks."""
        text = file(network="local_nodes: &nodes [{rpc_endpoint: 'http://a'}]") + "  - {name: m, local_nodes: *nodes}"
        first, second = config(text).networks
        self.assertEqual(first.nodes, second.nodes)

    def test_cors(self) -> None:
        """The key cors is the word pass or own origins."""
        self.assertEqual(config(file("cors: PASS")).cors.origins, ())
        own = config(file("cors: {origins: [https://a.example, '*'], max_age: 1h}")).cors
        self.assertEqual((own.origins, own.max_age_seconds), (("https://a.example", "*"), 3600.0))

    def test_websocket(self) -> None:
        """At the top it is limits, at a network a word, or a boolean that says whether there are any."""
        self.assertEqual(config(file("websocket: {}")).websocket, WebSocketConfig())
        self.assertEqual(
            config(file('websocket: {allowed_origins: ["*", "null"]}')).websocket.allowed_origins[1], "null"
        )
        self.assertEqual(config(file("websocket: {allowed_origins: []}")).websocket.allowed_origins, ())
        for word, mode in (("off", "off"), ("OFF", "off"), ("no", "off"), ("false", "off"), ("true", "subscriptions")):
            self.assertIs(network(with_network(f"websocket: {word}")).websocket, WebSocketMode(mode), word)

    def test_gzip(self) -> None:
        """A boolean is short for the key enabled."""
        for word, value in (("true", True), ("off", False), ("{enabled: yes}", True), ("{}", False)):
            self.assertEqual(config(file(f"gzip: {word}")).gzip, GzipConfig(enabled=value), word)
            self.assertEqual(warnings(file(f"gzip: {word}")), [])

    def test_load_period(self) -> None:
        """1, 5 and 15 are minutes; other numbers are seconds as in the original's README, the nearest average used."""
        for text, minutes in (("1", 1), ("5", 5), ("15", 15), ("300", 5), ("60", 1), ("5m", 5), ("900s", 15)):
            self.assertEqual(network(with_network(f"load_period: {text}")).load_period_minutes, minutes)
            self.assertEqual(warnings(with_network(f"load_period: {text}")), [])
        for text, minutes in (("10", 1), ("0", 1), ("400", 5), ("86400", 15)):
            self.assertEqual(network(with_network(f"load_period: {text}")).load_period_minutes, minutes)
            self.assertIn(
                "networks[0].load_period: node-exporter has", warnings(with_network(f"load_period: {text}"))[0]
            )

    def test_log_level(self) -> None:
        """The four levels, in any case."""
        self.assertIs(config(file("log_level: Trace")).log_level, LogLevel.TRACE)

    def test_explicitly_none(self) -> None:
        """An empty list is an empty list, not the default."""
        self.assertEqual(config(file("trusted_proxies: []")).trusted_proxies, ())

    def test_several_thousand_nodes(self) -> None:
        """256 networks of 64 nodes stay below the bound on values."""
        one = "  local_endpoints: [" + ", ".join(f"http://h{i}" for i in range(64)) + "]\n"
        text = "networks:\n" + "".join(f"- name: n{i}\n{one}" for i in range(256))
        self.assertEqual(sum(len(n.nodes) for n in config(text).networks), 256 * 64)


class Warned(SynchronousTestCase):
    def check(self, text: str, path: str, message: str) -> None:
        (found,) = warnings(text)
        self.assertTrue(found.startswith(f"{path}: "), found)
        self.assertIn(message, found)

    def test_load_tracker_without_exporter(self) -> None:
        """use_load_tracker has nothing to read without a prometheus_endpoint."""
        self.check(with_network("use_load_tracker: true"), "networks[0].use_load_tracker", "no local node")

    def test_exporter_without_load_tracker(self) -> None:
        """A prometheus_endpoint is not read without use_load_tracker."""
        self.check(with_node("prometheus_endpoint: http://a/m"), "networks[0]", "without use_load_tracker")

    def test_exporter_of_other_roles(self) -> None:
        """Only local nodes' load is read."""
        text = with_network("monitoring_nodes: [{rpc_endpoint: http://m, prometheus_endpoint: http://m/m}]")
        self.check(text, "networks[0].monitoring_nodes[0].prometheus_endpoint", "local nodes only")

    def test_load_criterion(self) -> None:
        """The load is no criterion where no load is read."""
        self.check(with_network("load_balance_priority: [load]"), "networks[0].load_balance_priority", "load has no")

    def test_criterion_twice(self) -> None:
        """A criterion that is named twice counts once."""
        text = with_network("load_balance_priority: [latency, chainhead, latency]")
        self.check(text, "networks[0].load_balance_priority", "named twice")
        self.assertEqual(network(text).load_balance_priority, (Criterion.LATENCY, Criterion.CHAINHEAD))

    def test_threshold_without_switch(self) -> None:
        """The threshold has no effect while switching is disabled."""
        text = with_network("switch_to_fallback_block_threshold: 3")
        self.check(text, "networks[0].switch_to_fallback_block_threshold", "disabled")

    def test_switch_without_fallback(self) -> None:
        """There is nothing to switch to without fallback nodes."""
        text = with_network("switch_to_fallback_enabled: true")
        self.check(text, "networks[0].switch_to_fallback_enabled", "no fallback nodes")

    def test_port_beside_listen(self) -> None:
        """Listening endpoints replace the ports."""
        self.check(file("port: 1\nlisten: [tcp:1]"), "port", "listen replaces it")
        self.check(file("metrics_port: 1\nadmin_listen: [tcp:1]"), "metrics_port", "admin_listen replaces it")

    def test_broadcast_beyond_nodes(self) -> None:
        """A transaction cannot go to more nodes than there are."""
        self.check(with_network("broadcast_transactions: 2"), "networks[0].broadcast_transactions", "nodes, 1")
        self.assertEqual(warnings(with_network("broadcast_transactions: 2\nlocal_endpoints: [http://b]")), [])

    def test_gzip_not_enabled(self) -> None:
        """Keys of gzip say nothing as long as nothing is compressed."""
        self.check(file("gzip: {level: 4}"), "gzip", "enabled: true")

    def test_breaker_name(self) -> None:
        """TyrScale's name of a breaker is read over."""
        text = with_network("circuit_breaker: {name: [x], max_requests: 2}")
        self.check(text, "networks[0].circuit_breaker.name", "no effect")
        self.assertEqual(network(text).circuit_breaker, BreakerConfig(max_requests=2))
        self.assertEqual(warnings(with_network("circuit_breaker: {name: }")), [])

    def test_method_in_two_classes(self) -> None:
        """A method that is fast-track cannot have high priority as well."""
        text = with_network("priority_queue: {fasttrack_methods: [a, b], highprio_methods: [b]}")
        self.check(text, "networks[0].priority_queue.highprio_methods", "also in fasttrack_methods")

    def test_unknown_keys(self) -> None:
        """unknown_keys: warn makes warnings of unknown keys at every level."""
        text = file("unknown_keys: warn\nprt: 1", "local_nodes: [{rpc_endpoint: http://a, wight: 1}]\nfoo: 1")
        self.assertEqual(
            warnings(text),
            [
                "prt: unknown key; did you mean port?",
                "networks[0].local_nodes[0].wight: unknown key; did you mean weight?",
                "networks[0].foo: unknown key",
            ],
        )
