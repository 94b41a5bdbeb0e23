"""A test per fault: its path, its line where that could go wrong, and what the message says was expected."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

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
        self.check(file("log_level: debg"), "log_level", "ERROR, INFO, DEBUG, TRACE; did you mean DEBUG?", '"debg"')
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

    def test_chain_id(self) -> None:
        """A chain id is a whole number from 1 on."""
        self.check(with_network("chain_id: mainnet"), "networks[0].chain_id", "expected a whole number from 1")


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

    def test_websocket_as_rpc_endpoint(self) -> None:
        """A WebSocket URL goes into ws_endpoint, and the message says so."""
        for url in ("ws://a", "wss://a"):
            self.check(with_node("", url), f"{FIRST_NODE}.rpc_endpoint", "a WebSocket URL goes into ws_endpoint")
        self.check(file(network="local_endpoints: [ws://a]"), "networks[0].local_endpoints[0]", "goes into ws_endpoint")

    def test_other_endpoints(self) -> None:
        """The other endpoints have their schemes, too."""
        self.check(with_node("ws_endpoint: http://a"), f"{FIRST_NODE}.ws_endpoint", "expected a ws:// or wss:// URL")
        self.check(with_node("prometheus_endpoint: ws://a"), f"{FIRST_NODE}.prometheus_endpoint", "node-exporter")

    def test_weight_and_concurrency(self) -> None:
        """Weights and limits are at least 1."""
        for key in ("weight", "max_concurrency"):
            self.check(with_node(f"{key}: 0"), f"{FIRST_NODE}.{key}", "from 1 to")

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
        for text in ("[" * 100_000, "{a: " * 100_000, "- " * 5000, chain):
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
