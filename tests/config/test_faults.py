"""A test per fault: its path, its line where that could go wrong, and what the message says was expected."""

from __future__ import annotations

import yaml
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config import tree
from evmlb.config.parse import ConfigError, parse_config
from tests.config.support import NODES, fault, faults, file, with_network, with_node

FIRST_NODE = "networks[0].local_nodes[0]"


class FaultCase(SynchronousTestCase):
    def check(self, text: str, path: str, *said: str, environ: dict[str, str] | None = None) -> None:
        """The one fault of the text is at the path, and its message has each of these parts."""
        found = fault(text, environ)
        self.assertEqual(found.path, path)
        self.assertIsNotNone(found.line)
        for part in said:
            self.assertIn(part, found.message)


class OfTheWhole(FaultCase):
    def test_all_at_once(self) -> None:
        """Every fault is told, in the order of the file's lines, one per line of the text."""
        text = "port: x\nfoo: 1\nnetworks:\n- name: a/b\n  local_nodes:\n  - rpc_endpoint: ftp://h\n  rpc_timeout: 5\n"
        error = self.assertRaises(ConfigError, parse_config, text, {})
        self.assertEqual([(f.line, f.path) for f in error.faults], [
            (1, "port"),
            (2, "foo"),
            (4, "networks[0].name"),
            (6, "networks[0].local_nodes[0].rpc_endpoint"),
            (7, "networks[0].rpc_timeout"),
        ])  # fmt: skip
        self.assertEqual(len(str(error).splitlines()), 5)
        self.assertTrue(str(error).startswith("line 1: port: expected a whole number"))

    def test_no_networks(self) -> None:
        """A file without networks is refused, whatever form nothing has."""
        for text in ("", "# nothing\n", "{}", "networks:", "networks: []", "port: 1", "---\n"):
            self.assertIn("expected at least one network", fault(text).message, text)

    def test_no_mapping(self) -> None:
        """A file that is a list or a word is refused."""
        self.check("- a", "", "expected keys and values")
        self.check("word", "", "expected keys and values")

    def test_no_list(self) -> None:
        """Networks are a list."""
        self.check("networks: {ethereum: {}}", "networks", "expected a list")

    def test_item_without_value(self) -> None:
        """A dash with nothing behind it is no network and no node."""
        self.check("networks:\n-\n", "networks[0]", "expected a network")
        self.check(file(network="local_nodes:\n  -"), FIRST_NODE, "expected a node")

    def test_unknown_key(self) -> None:
        """An unknown key is told with what was meant."""
        self.check(file("prot: 1"), "prot", "unknown key; did you mean port?")
        self.check(with_network("local_poll_intervall: 1s"), "networks[0].local_poll_intervall", "local_poll_interval?")
        self.check(with_node("rpc_url: x"), f"{FIRST_NODE}.rpc_url", "unknown key")
        self.check(file("cors: {origins: ['*'], header: x}"), "cors.header", "did you mean headers?")

    def test_key_elsewhere(self) -> None:
        """A known key in the wrong mapping is told where it belongs."""
        self.check(file("rpc_timeout: 5s"), "rpc_timeout", "it belongs in an item of networks")
        self.check(with_network("port: 5"), "networks[0].port", "it belongs at the top of the file")
        self.check(with_node("rpc_timeout: 5s"), f"{FIRST_NODE}.rpc_timeout", "it belongs in an item of networks")

        self.check(file("min_delay: 1s"), "min_delay", "it belongs in the section hedge of an item of networks")
        self.check(with_network("max_requests: 1"), "networks[0].max_requests", "in the section circuit_breaker")
        self.check(with_network("timeout: 5s"), "networks[0].timeout", "did you mean rpc_timeout?")
        self.check(with_network("hedge: {rpc_timeout: 5s}"), "networks[0].hedge.rpc_timeout", "an item of networks")
        self.check(file("hedge: true"), "hedge", "it belongs in an item of networks")

    def test_not_yet(self) -> None:
        """Keys of later versions are unknown."""
        for key in ("workers: 2", "store: redis"):
            self.assertIn("unknown key", fault(file(key)).message)

    def test_unknown_keys_word(self) -> None:
        """unknown_keys itself is checked, and other faults stay faults under warn."""
        self.check(file("unknown_keys: wran"), "unknown_keys", "did you mean warn?")
        self.check(file("unknown_keys: warn\nprt: 1\nport: x"), "port", "expected")

    def test_duplicate_key(self) -> None:
        """A key that is there twice is refused at every level, with the line of the second."""
        self.assertEqual(fault("port: 1\n" + file("port: 2")).line, 2)
        self.check("port: 1\n" + file("port: 2"), "port", "there already, near line 1")
        self.check(with_network("chain_id: 1\nchain_id: 1"), "networks[0].chain_id", "there already")
        self.check(with_node("headers: {a: b, a: c}"), f"{FIRST_NODE}.headers.a", "there already")

    def test_wrong_shape(self) -> None:
        """A list or mapping where one value is expected, and the reverse."""
        self.check(file("port: [1]"), "port", "expected a single value")
        self.check(with_network("load_balance_priority: latency"), "networks[0].load_balance_priority", "a list")
        self.check(file(network="local_nodes: http://a"), "networks[0].local_nodes", "expected a list")
        self.check(file(network="local_nodes: [http://a]"), FIRST_NODE, "write rpc_endpoint:")
        self.check(file(network="local_endpoints: [{a: b}]"), "networks[0].local_endpoints[0]", "a single value")


class OfValues(FaultCase):
    def test_port(self) -> None:
        """A port is a whole number up to 65535."""
        for text in ("x", "-1", "65536", "80.5", "080", "8_0", "1:30", "true", "9" * 30):
            self.check(file(f"port: {text}"), "port", "expected a whole number from 0 to 65535")

    def test_log(self) -> None:
        """Levels and formats are words."""
        self.check(
            file("log_level: debg"), "log_level", "ERROR, WARNING, INFO, DEBUG, TRACE; did you mean DEBUG?", '"debg"'
        )
        self.check(file("log_format: xml"), "log_format", "expected one of text, json")

    def test_bare_number_as_duration(self) -> None:
        """A number without a unit is refused with what to write."""
        self.check(with_network("rpc_timeout: 5"), "networks[0].rpc_timeout", "with its unit (ms, s, m, h): 5s or 5ms")

    def test_durations(self) -> None:
        """Poll intervals are at least 50 ms, timeouts 10 ms, and nothing is negative."""
        for key in ("local_poll_interval", "monitoring_poll_interval"):
            for text in ("0", "0s", "49ms"):
                self.check(with_network(f"{key}: {text}"), f"networks[0].{key}", "at least 50ms")
        for key in ("rpc_timeout", "stream_idle_timeout", "slow_timeout"):
            self.check(with_network(f"{key}: 0s"), f"networks[0].{key}", "at least 10ms")
        self.check(with_network("block_time: 0"), "networks[0].block_time", "at least 1ms")
        self.check(file("shutdown_grace: -1s"), "shutdown_grace", "not negative")

    def test_rpc_retries(self) -> None:
        """Retries are not negative."""
        self.check(with_network("rpc_retries: -1"), "networks[0].rpc_retries", "from 0 to 100", '"-1"')

    def test_blocks(self) -> None:
        """Block diffs are whole numbers from 0 on."""
        for key in ("network_block_diff", "fallback_block_diff", "switch_to_fallback_block_threshold"):
            self.assertEqual(fault(with_network(f"{key}: -1")).path, f"networks[0].{key}")

    def test_load_period(self) -> None:
        """A load period is a number or a duration."""
        self.check(with_network("load_period: soon"), "networks[0].load_period", "expected 1, 5 or 15")
        self.check(with_network("load_period: -5"), "networks[0].load_period", "expected 1, 5 or 15")

    def test_words(self) -> None:
        """Criteria, strategies and the like are words of a list."""
        path = "networks[0].load_balance_priority[1]"
        self.check(with_network("load_balance_priority: [load, latncy]"), path, "did you mean latency?")
        self.check(with_network("strategy: least_load"), "networks[0].strategy", "did you mean least-load?")
        self.check(with_network("when_none_in_range: x"), "networks[0].when_none_in_range", "refuse, nearest")
        self.check(with_network("use_load_tracker: maybe"), "networks[0].use_load_tracker", "true or false")

    def test_sizes(self) -> None:
        """Sizes have units of bytes, and bounds."""
        self.check(file("max_body_size: 32m"), "max_body_size", "did you mean 32MiB?")
        self.check(file("max_body_size: 1"), "max_body_size", "expected a size from 1024")

    def test_error_status(self) -> None:
        """Only 200 can be chosen."""
        self.check(file("error_status: 500"), "error_status", "expected 200")

    def test_trusted_proxies(self) -> None:
        """Ranges are addresses with a prefix and no bits beyond it."""
        self.check(file("trusted_proxies: [10.0.0.0/33]"), "trusted_proxies[0]", "expected a range")
        self.check(file("trusted_proxies: ['::1', 10.0.0.1/8]"), "trusted_proxies[1]", "did you mean 10.0.0.0/8?")

    def test_listen(self) -> None:
        """Listening endpoints are strings of Twisted's form."""
        self.check(file("listen: [8080]"), "listen[0]", "did you mean tcp:8080?")
        self.check(file("admin_listen: ['']"), "admin_listen[0]", "expected a value")
        self.check(file("listen: [null]"), "listen[0]", "expected a value")

    def test_cors(self) -> None:
        """Own answers need origins without a path."""
        self.check(file("cors: own"), "cors", "expected one of pass")
        self.check(file("cors: {max_age: 1h}"), "cors", "expected at least one origin")
        self.check(file("cors: {origins: [https://a/b]}"), "cors.origins[0]", "expected an origin such as")
        self.check(file('cors: {origins: ["*"], methods: "GET\\r\\nX: y"}'), "cors.methods", "separated by commas")

    def test_websocket(self) -> None:
        """Limits are bounded, durations have units, and a network says a word."""
        for key, text, said in (
            ("max_connections", "0", "from 1 to"),
            ("max_connections_per_address", "-1", "from 0 to"),
            ("max_message_size", "1KB", "from 1024 to"),
            ("max_outstanding_calls", "0", "from 1 to"),
            ("max_queue", "1KiB", "from 65536 to"),
            ("ping_interval", "30", "30s or 30ms"),
            ("ping_timeout", "999ms", "at least 1s"),
            ("idle_timeout", "-1s", "not negative"),
            ("compression", "maybe", "true or false"),
            ("pinginterval", "1s", "did you mean ping_interval?"),
        ):
            self.check(file(f"websocket: {{{key}: {text}}}"), f"websocket.{key}", said)
        self.check(file("websocket: {allowed_origins: [https://a/]}"), "websocket.allowed_origins[0]", "an origin such")
        self.check(file("websocket: off"), "websocket", "keys and values")
        self.check(with_network("websocket: passthru"), "networks[0].websocket", "did you mean passthrough?")
        self.check(with_network("backfill_blocks: 0"), "networks[0].backfill_blocks", "from 1 to")

    def test_chain_id(self) -> None:
        """A chain id is a whole number from 1 on."""
        self.check(with_network("chain_id: mainnet"), "networks[0].chain_id", "expected a whole number from 1")

    def test_explain(self) -> None:
        """Who may ask is a word; what is kept is bounded."""
        self.check(file("explain: everbody"), "explain", "nobody, trusted, everybody; did you mean everybody?")
        for text in ("-1", "10001", "x"):
            self.check(file(f"explain_kept: {text}"), "explain_kept", "from 0 to 10000")


class OfSections(FaultCase):
    def bad(self, section: str, key: str, *texts: str, said: str) -> None:
        """Each of the texts as the key's value is refused, at the key, with what was expected."""
        for text in texts:
            self.check(with_network(f"{section}: {{{key}: {text}}}"), f"networks[0].{section}.{key}", said)

    def test_shape(self) -> None:
        """A section is keys and values, or a boolean where it can be enabled."""
        for name in ("hedge", "circuit_breaker", "priority_queue"):
            self.check(with_network(f"{name}: maybe"), f"networks[0].{name}", "true or false")
            self.check(with_network(f"{name}: [true]"), f"networks[0].{name}", "keys and values")
            self.bad(name, "enabled", "maybe", "[]", "5", said="expected")
        for name in ("retry_budget", "rate_limit", "rate_limit_recovery", "health_check"):
            self.check(with_network(f"{name}: true"), f"networks[0].{name}", "keys and values")

    def test_unknown_key(self) -> None:
        """An unknown key of a section is told with what was meant."""
        self.check(with_network("hedge: {mindelay: 1s}"), "networks[0].hedge.mindelay", "did you mean min_delay?")
        text = with_network("health_check: {request: {statuscode: 200}, type: custom}")
        self.check(text, "networks[0].health_check.request.statuscode", "did you mean status_code?")

    def test_bare_numbers_as_durations(self) -> None:
        """Other projects' milliseconds and seconds are refused with what to write, as everywhere."""
        self.bad("circuit_breaker", "interval", "120000", said="120000s or 120000ms")
        self.bad("rate_limit_recovery", "initial_backoff", "300", said="300s or 300ms")

    def test_timeouts(self) -> None:
        """What waits for a node has at least 10 ms, and pauses between polls 50 ms."""
        for section, keys in (
            ("hedge", ("min_delay", "max_delay", "first_delay")),
            ("circuit_breaker", ("timeout", "max_timeout")),
            ("health_check", ("timeout",)),
        ):
            for key in keys:
                self.bad(section, key, "0", "9ms", said="at least 10ms")
        for key in ("initial_backoff", "max_backoff", "reset_after", "max_retry_after"):
            self.bad("rate_limit", key, "0s", "49ms", said="at least 50ms")
        self.check(with_node("poll_interval: 49ms"), f"{FIRST_NODE}.poll_interval", "at least 50ms")

    def test_delays(self) -> None:
        """Delays that may be 0 are not negative."""
        for key in ("queue_timeout", "read_your_writes"):
            self.check(with_network(f"{key}: -1s"), f"networks[0].{key}", "not negative")
            self.check(with_network(f"{key}: 30"), f"networks[0].{key}", "30s or 30ms")
        self.bad("circuit_breaker", "interval", "-1s", said="not negative")

    def test_percentages(self) -> None:
        """Shares are at most 100 %, budgets at most 1000 %."""
        for key in ("failure_percent", "max_ejected_percent"):
            self.bad("circuit_breaker", key, "-1", "100.1", "10%", "1e1", ".5", ".nan", said="from 0 to 100")
        for section in ("hedge", "retry_budget"):
            self.bad(section, "budget_percent", "-0.1", "1000.5", ".inf", said="from 0 to 1000")
            self.bad(section, "budget_min_per_second", "-1", "1000001", "many", said="from 0 to 1000000")

    def test_counts(self) -> None:
        """Counts are whole numbers, most of them from 1 on."""
        self.check(with_network("broadcast_transactions: 0"), "networks[0].broadcast_transactions", "from 1 to 16")
        self.check(with_network("broadcast_transactions: 17"), "networks[0].broadcast_transactions", "from 1 to 16")
        self.bad("hedge", "max_hedges", "0", "17", "1.5", said="from 1 to 16")
        for key in ("max_consecutive_failures", "max_requests", "min_requests"):
            self.bad("circuit_breaker", key, "0", "-1", "1.5", said="from 1 to")
        self.bad("rate_limit", "required_successes", "0", said="from 1 to")
        self.bad("rate_limit", "max_retries", "-1", said="from 0 to")
        for key in ("fasttrack_per_highprio", "max_fasttrack", "max_highprio", "max_lowprio"):
            self.bad("priority_queue", key, "-1", "x", said="from 0 to")
        for key in ("tolerance_blocks", "failure_threshold", "success_threshold", "min_peers"):
            self.bad("health_check", key, "-1", "2.5", said="from 0 to")

    def test_backoff_multiplier(self) -> None:
        """A pause never shrinks."""
        self.bad("rate_limit", "backoff_multiplier", "0.9", "0", "-2", "1001", said="from 1 to 1000")

    def test_priority_methods(self) -> None:
        """Methods are a list of names."""
        self.bad("priority_queue", "fasttrack_methods", "eth_call", said="expected a list")
        text = with_network("priority_queue: {highprio_methods: [eth_call, 'eth call', eth_*]}")
        path = "networks[0].priority_queue.highprio_methods"
        self.assertEqual([f.path for f in faults(text)], [f"{path}[1]", f"{path}[2]"])

    def test_health_check_type(self) -> None:
        """Only the two types that TyrScale calls so may begin with eth_."""
        self.bad("health_check", "type", "eth_custom", "peers", said="expected one of block_number, syncing, custom")

    def test_request(self) -> None:
        """The request of a check is one that can be sent."""
        path = "networks[0].health_check.request"

        def of(request: str) -> str:
            return with_network(f"health_check: {{type: custom, request: {request}}}")

        self.check(of("POST"), path, "keys and values")
        self.check(of("{method: FETCH}"), f"{path}.method", "a method of HTTP")
        self.check(of('{method: "GET\\r\\nX: y"}'), f"{path}.method", "a method of HTTP")
        self.check(of("{body: {jsonrpc: '2.0'}}"), f"{path}.body", "JSON between single quotes")
        self.check(of('{body: "${E}"}'), f"{path}.body", "in UTF-8", environ={"E": "\udcff"})
        for status in ("99", "600", "OK"):
            self.check(of(f"{{status_code: {status}}}"), f"{path}.status_code", "from 100 to 599")
        self.check(of("{headers: {Host: x}}"), f"{path}.headers.Host", "set by evmlb itself")
        self.check(of('{headers: {A: "b\\nc"}}'), f"{path}.headers.A", "value of a header")

    def test_secrets(self) -> None:
        """Neither the headers nor the body of a check are repeated in a fault."""
        lines = 'health_check: {type: custom, request: {headers: {A: "hunter2\\n"}, body: "${E}"}}'
        for found in faults(with_network(lines), {"E": "hunter2\udcff"}):
            self.assertNotIn("hunter2", str(found))


class OfNetworksAndNodes(FaultCase):
    def test_names(self) -> None:
        """A network's name is one segment of a path, as it stands in a URL."""
        for name in ("a/b", "a b", "..", ".", "ü", "a?b", "a%20b", "a#b", "x" * 101, '"a\\nb"'):
            text = file().replace("name: n\n", f"name: {name}\n")
            self.check(text, "networks[0].name", "that can stand in a URL's path")

    def test_without_name(self) -> None:
        """A network needs a name; YAML's null is none."""
        self.check(f"networks:\n- {NODES}\n", "networks[0]", "expected the key name")
        self.check(file().replace("name: n\n", "name: null\n"), "networks[0]", "expected the key name")

    def test_names_twice(self) -> None:
        """Two networks of one name are refused."""
        text = file() + f"  - name: n\n    {NODES}"
        self.check(text, "networks[1].name", "this one is at networks[0].name already")

    def test_without_nodes(self) -> None:
        """A network needs a node; empty lists have none."""
        for nodes in ("chain_id: 1", "local_nodes:", "local_nodes: []\nfallback_endpoints: []"):
            self.check(file(network=nodes), "networks[0]", "expected at least one node")

    def test_without_endpoint(self) -> None:
        """A node needs an endpoint."""
        self.check(file(network="local_nodes: [{weight: 1}]"), FIRST_NODE, "expected the key rpc_endpoint")

    def test_node_names(self) -> None:
        """A node's name is printable, unique where it is given, and no URL."""
        for name in ('"a\\nb"', "http://a/b", '" a"', "ü", "x" * 101):
            self.check(with_node(f"name: {name}"), f"{FIRST_NODE}.name", "printable ASCII characters")
        text = with_network("fallback_nodes: [{rpc_endpoint: http://b, name: x}, {rpc_endpoint: http://c, name: x}]")
        self.check(text, "networks[0].fallback_nodes[1].name", "networks[0].fallback_nodes[0].name already")

    def test_endpoint_twice(self) -> None:
        """One endpoint twice in a network is refused, in whatever role and however it is written."""
        for again in ("http://a", "http://a/", "http://A:80", "${E}"):
            text = with_network(f"fallback_endpoints: ['{again}']")
            self.check(
                text,
                "networks[0].fallback_endpoints[0]",
                f"{FIRST_NODE}.rpc_endpoint already",
                environ={"E": "http://a"},
            )

    def test_endpoints(self) -> None:
        """An endpoint that cannot be asked is refused."""
        for url in ("localhost:8545", "ftp://a", "http://", "http://a:x", "http://a:0", "http://a/#f", "'http://a b'"):
            self.check(with_node("", url), f"{FIRST_NODE}.rpc_endpoint", "expected a URL")

    def test_other_endpoints(self) -> None:
        """The other endpoints have their schemes, too."""
        self.check(with_node("ws_endpoint: http://a"), f"{FIRST_NODE}.ws_endpoint", "expected a ws:// or wss:// URL")
        self.check(with_node("prometheus_endpoint: ws://a"), f"{FIRST_NODE}.prometheus_endpoint", "node-exporter")

    def test_weight_and_concurrency(self) -> None:
        """Weights and limits are at least 1."""
        for key in ("weight", "max_concurrency"):
            self.check(with_node(f"{key}: 0"), f"{FIRST_NODE}.{key}", "from 1 to")

    def test_provider(self) -> None:
        """A provider is called by its short name."""
        for name in ("https://alchemy.com", "'a b'", "-a", "x" * 65):
            self.check(with_node(f"provider: {name}"), f"{FIRST_NODE}.provider", "short name of a provider")

    def test_requests_per_second(self) -> None:
        """A rate is a number above 0."""
        for text in ("0", "-1", "0.0009", "1000001", "1/s", ".inf"):
            self.check(with_node(f"requests_per_second: {text}"), f"{FIRST_NODE}.requests_per_second", "from 0.001 to")

    def test_metered(self) -> None:
        """Whether calls cost is a boolean."""
        self.check(with_node("metered: 0.1"), f"{FIRST_NODE}.metered", "true or false")

    def test_skip_checks(self) -> None:
        """What is skipped is a list of words."""
        self.check(with_node("skip_checks: syncing"), f"{FIRST_NODE}.skip_checks", "expected a list")
        text = with_node("skip_checks: [syncing, chainid]")
        self.check(text, f"{FIRST_NODE}.skip_checks[1]", "did you mean chain_id?")

    def test_header_names(self) -> None:
        """A header's name is a token, and none that evmlb sets itself."""
        self.check(with_node('headers: {"a b": c}'), f'{FIRST_NODE}.headers."a b"', "the name of a header")
        for name in ("Host", "content-length", "Transfer-Encoding", "Connection", "expect", "Upgrade"):
            self.check(with_node(f"headers: {{{name}: x}}"), f"{FIRST_NODE}.headers.{name}", "set by evmlb itself")
            self.check(file(f"forward_headers: [{name}]"), "forward_headers[0]", "set by evmlb itself")
        self.check(with_node("headers: {A: x, a: y}"), f"{FIRST_NODE}.headers.a", "in another case")
        self.check(with_node("headers: [a]"), f"{FIRST_NODE}.headers", "expected keys and values")

    def test_header_values(self) -> None:
        """A header's value is one printable line."""
        for value in ('"a\\r\\nb"', '"a\\nb"', '"a\\0b"', "ü", "${E}", "''", "null"):
            text = with_node(f"headers: {{A: {value!s}}}" if value != "${E}" else 'headers: {A: "${E}"}')
            self.check(text, f"{FIRST_NODE}.headers.A", "expected", environ={"E": "a\nb"})

    def test_authorization_twice(self) -> None:
        """User information in the URL makes the Authorization header; a second one is refused."""
        text = with_node("headers: {authorization: x}", "http://u:p@a")
        self.check(text, f"{FIRST_NODE}.headers", "no Authorization here")

    def test_ca_file(self) -> None:
        """A plain endpoint has no certificate to check."""
        self.check(with_node("ca_file: ca.pem"), f"{FIRST_NODE}.ca_file", "expected an https://")
        self.check(with_node('ca_file: "a\\0b"', "https://a"), f"{FIRST_NODE}.ca_file", "the path of a file")


class OfCombinations(FaultCase):
    def test_timeouts(self) -> None:
        """A whole request has at least the time of one attempt."""
        text = with_network("rpc_timeout: 10s\nrequest_timeout: 9s")
        self.check(text, "networks[0].request_timeout", "at least rpc_timeout")
        text = with_network("slow_request_timeout: 4m")
        self.check(text, "networks[0].slow_request_timeout", "at least slow_timeout")

    def test_bounds(self) -> None:
        """The upper of two bounds is not below the lower, be that given or the default."""
        self.check(with_network("hedge: {min_delay: 2s, max_delay: 1s}"), "networks[0].hedge.max_delay", "min_delay")
        self.check(with_network("hedge: {max_delay: 40ms}"), "networks[0].hedge.max_delay", "at least min_delay")
        for text in ("timeout: 9s, max_timeout: 8s", "max_timeout: 999ms"):
            path = "networks[0].circuit_breaker.max_timeout"
            self.check(with_network(f"circuit_breaker: {{{text}}}"), path, "at least timeout")
        for name in ("rate_limit", "rate_limit_recovery"):
            for text in ("initial_backoff: 2s, max_backoff: 1s", "max_backoff: 999ms"):
                path = f"networks[0].{name}.max_backoff"
                self.check(with_network(f"{name}: {{{text}}}"), path, "at least initial_backoff")

    def test_both_names(self) -> None:
        """A section has one of its names only."""
        for both in ("rate_limit: {}\nrate_limit_recovery: {}", "rate_limit_recovery: {}\nrate_limit: {}"):
            self.check(with_network(both), "networks[0].rate_limit_recovery", "no rate_limit beside it")

    def test_custom_check(self) -> None:
        """A custom check and a request belong together."""
        path = "networks[0].health_check"
        self.check(with_network("health_check: {type: custom}"), f"{path}.type", "the key request beside it")
        for other in ("type: syncing, ", ""):
            text = with_network(f"health_check: {{{other}request: {{method: GET}}}}")
            self.check(text, f"{path}.request", "type: custom beside it")
        self.check(with_network("health_check: {type: costum, request: {}}"), f"{path}.type", "did you mean custom?")

    def test_combined_without_breaker(self) -> None:
        """Polls cannot count in a breaker that is disabled."""
        for breaker in ("circuit_breaker: off", "circuit_breaker: {enabled: false}"):
            text = with_network(f"{breaker}\nhealth_check: {{combined_with_circuit_breaker: true}}")
            self.check(text, "networks[0].health_check.combined_with_circuit_breaker", "a circuit_breaker that")

    def test_ports(self) -> None:
        """Both ports cannot be one, but two free ones can."""
        self.check(file("port: 80\nmetrics_port: 80"), "metrics_port", "another port")
        self.assertEqual(parse_config(file("port: 0\nmetrics_port: 0"), {}).port, 0)

    def test_memory(self) -> None:
        """The largest body must fit into the memory for bodies."""
        self.check(file("max_body_size: 1GiB"), "", "at least max_body_size")
        self.check(file("max_request_memory: 1MiB"), "max_request_memory", "at least max_body_size")


class OfYaml(FaultCase):
    def test_broken(self) -> None:
        """What is no YAML is refused with its line."""
        self.assertEqual(fault("port: 1\nfoo: [\n").line, 3)
        for text in ("a: b: c", "\ta: b", "%FOO", "'", "a: 'x", "x\x00", "\ud800", "? [a]\n: b", "{a: b"):
            self.check(text, "")

    def test_tags(self) -> None:
        """Tags make no objects and are refused, but for YAML's own simple ones."""
        for tag in ("!x", "!!python/object/apply:os.system", "!!binary", "!!set"):
            self.check(f"port: {tag} 1", "", "a tag")
        self.assertEqual(parse_config(file("port: !!int '1'\nlog_level: ! INFO"), {}).port, 1)

    def test_second_document(self) -> None:
        """One file has one document."""
        self.check(file() + "\n---\na: b", "", "a second document")

    def test_aliases(self) -> None:
        """An alias needs an anchor that is complete."""
        self.check("a: *b", "", "without its anchor")
        self.check("a: &a [*a]", "", "inside what it stands for")

    def test_merge(self) -> None:
        """Only mappings can be merged."""
        self.check(with_network("<<: 3"), "networks[0]", "behind <<")

    def test_billion_laughs(self) -> None:
        """Aliases that double are refused before they are written out."""
        lines = "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30))
        self.check("a0: &a0 [x]\n" + lines, "", "more than 200,000 values")
        merges = "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 30))
        self.check("a0: &a0 {k: x}\n" + merges, "", "more than")

    def test_depth(self) -> None:
        """Deep nesting is refused, by brackets, dashes or aliases, and never a RecursionError."""
        chain = "a0: &a0 {k: 1}\n" + "".join(f"a{i}: &a{i} {{<<: *a{i - 1}}}\n" for i in range(1, 2000))
        for text in ("[" * 100_000, "{a: " * 100_000, "- " * 5000, chain, "[" * 33, "a:\n  b: [x,\n" + "[{" * 600):
            self.check(text, "", "more than 32 levels")

    def test_depth_by_any_parser(self) -> None:
        """So it is with the parser that is written in Python, which reads less far ahead and has no limit."""
        self.patch(tree, "_LOADER", yaml.SafeLoader)
        for text in ("[" * 33, "[" * 2000, "{a: " * 2000, "- " * 500):
            self.check(text, "", "more than 32 levels")


class OfTheEnvironment(FaultCase):
    def test_unset(self) -> None:
        """A variable that is not set is told by name, with the way to give a default."""
        self.check(file("port: ${PORT}"), "port", "variable PORT is not set; ${PORT:-...}")

    def test_malformed(self) -> None:
        """What begins like a variable and is none is refused, with the escape."""
        for text in ("${", "${1A}", "${A", "${A:-${B}}", "${A-b}", "${}"):
            self.check(file(f"log_level: '{text}'"), "log_level", "write $${", environ={"A": "x", "B": "y"})

    def test_never_shown(self) -> None:
        """What a variable holds is in no fault, however wrong it is."""
        keys = ["port", "log_level", "log_rate_limit", "max_body_size", "listen", "trusted_proxies", "forward_headers"]
        for value in ("hunter2", "12345", "10.0.0.1/8", "5d", "32m", "host", "a b"):
            top = "".join(f"{k}: {'[$X]' if k[-1] in 'ns' or k[:3] == 'tru' else '$X'}\n" for k in keys)
            for found in faults(file(top.replace("$X", '"${X}"')), {"X": value}):
                self.assertNotIn(value, str(found))

    def test_secrets_in_the_file(self) -> None:
        """Neither endpoints nor headers nor anything like a key is repeated in a fault."""
        secret = "aB3dE5gH7jK9mN1pQ3"
        lines = f"""local_nodes:
  - rpc_endpoint: ws://user:{secret}@a/{secret}?k={secret}
    ws_endpoint: http://{secret}@a
    prometheus_endpoint: ftp://a/{secret}
    headers: {{{secret}: x, "X {secret}": y, A: "{secret}\\n"}}
    name: https://a/{secret}
    weight: {secret}
    {secret}: {secret}
    "https://a/{secret}": x
  - https://a/{secret}
strategy: {secret}"""
        found = faults(file(f"port: {secret}\nlisten: [{secret}]\nlog_level: https://u:{secret}@h/", lines))
        self.assertGreater(len(found), 10)
        self.assertNotIn(secret, "\n".join(map(str, found)))
        for text in (
            f"a: *{secret}",
            f"a: !{secret} b",
            f"a: !{secret}!x b",
            f"&{secret} &{secret}",
            f"%{secret}\n---",
        ):
            self.assertNotIn(secret, str(fault(text)))
