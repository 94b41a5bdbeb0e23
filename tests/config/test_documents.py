"""The shipped example and the reference page say what the tables and the schema say."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from evmlb.config import schema, tree
from evmlb.config.clients import CORS_KEYS, GZIP_KEYS, WEBSOCKET_KEYS
from evmlb.config.fields import (
    FILE_KEYS,
    LIMIT_KEYS,
    NETWORK_KEYS,
    NODE_KEYS,
    NODE_LISTS,
    REQUEST_KEYS,
    SECTION_ALIASES,
    SECTIONS,
    TOP_KEYS,
)
from evmlb.config.load import load_config
from evmlb.config.parse import parse
from evmlb.config.reading import Key, Place, Reading
from evmlb.config.schema import (
    Config,
    CorsConfig,
    CustomCheck,
    GzipConfig,
    HealthCheckType,
    LimitsConfig,
    NetworkConfig,
    NodeConfig,
    Role,
    WebSocketConfig,
)
from evmlb.config.values import OWN_HEADERS
from tests.config.support import ROOT, config

EXAMPLE = ROOT / "config.yaml.example"
REFERENCE = ROOT / "docs" / "reference" / "configuration.md"
MIGRATION = ROOT / "docs" / "howto" / "migrate-from-evm-loadbalancer.md"

NONE = object()


def default_of(cls: Any, field: str) -> object:
    """The schema's default, or ``NONE`` for a field that has none."""
    found = next(f for f in dataclasses.fields(cls) if f.name == field)
    return NONE if found.default is dataclasses.MISSING else found.default


def keys_of(node: tree.Node | None) -> list[str]:
    if not isinstance(node, tree.Mapping):
        raise AssertionError("no mapping")
    return [key.text for key, _ in node.entries]


def value_of(node: tree.Node | None, *path: str | int) -> tree.Node:
    for step in path:
        if isinstance(step, int) and isinstance(node, tree.Sequence):
            node = node.items[step]
        elif isinstance(node, tree.Mapping):
            node = next(value for key, value in node.entries if key.text == step)
    if node is None:
        raise AssertionError("nothing there")
    return node


class Example(SynchronousTestCase):
    def setUp(self) -> None:
        self.text = EXAMPLE.read_text()
        self.tree = tree.parse_tree(self.text)

    def test_loads(self) -> None:
        """The example loads as it is, without a warning."""
        self.assertEqual(load_config(str(EXAMPLE), {}).networks[0].name, "ethereum")
        self.assertEqual(parse(self.text, {})[1], ())

    def test_has_every_key(self) -> None:
        """Every key of the tables is there once, uncommented but for those of cors and request."""
        network = value_of(self.tree, "networks", 0)
        self.assertEqual(set(keys_of(self.tree)), set(FILE_KEYS))
        self.assertEqual(set(keys_of(network)), set(NETWORK_KEYS) - set(SECTION_ALIASES))
        self.assertEqual(set(keys_of(value_of(network, "local_nodes", 0))), set(NODE_KEYS))
        self.assertEqual(set(keys_of(value_of(self.tree, "websocket"))), set(WEBSOCKET_KEYS))
        self.assertEqual(set(keys_of(value_of(self.tree, "gzip"))), set(GZIP_KEYS))
        for name in set(SECTIONS) - set(SECTION_ALIASES):
            with_effect = {key for key, meaning in SECTIONS[name].items() if meaning.field}
            self.assertEqual(set(keys_of(value_of(network, name))), with_effect, name)

    def test_shows_the_defaults(self) -> None:
        """What it gives is what a file without those keys gets."""
        roles = {Role.LOCAL: "localhost:8545", Role.MONITORING: "monitoring", Role.FALLBACK: "fallback"}
        short = "networks:\n- name: ethereum\n"
        for role, url in roles.items():
            full = f"http://{url}" if role is Role.LOCAL else f"https://{url}.example/ethereum"
            short += f"  {role.value}_nodes: [{{rpc_endpoint: {full}}}]\n"
        self.assertEqual(config(self.text), config(short))

    def test_cors_block(self) -> None:
        """The commented block, uncommented, has every key of cors with its default."""
        block = re.findall(r"^# (cors:|  \w+:.*)$", self.text, re.MULTILINE)
        text = self.text.replace("\ncors: pass", "\n# ").replace("# cors:", "cors:")
        text = re.sub(r"^# (  \w+:.*)$", r"\1", text, flags=re.MULTILINE)
        self.assertEqual({line.split(":")[0].strip() for line in block[1:]}, set(CORS_KEYS))
        self.assertEqual(config(text).cors, CorsConfig(origins=("https://app.example",)))

    def test_request_block(self) -> None:
        """The commented request, uncommented, has every key of a request, and but for the body its default."""
        block = re.findall(r"^      # (\w+): (.*)$", self.text, re.MULTILINE)
        text = re.sub(r"^      # (\w+: .*)$", r"        \1", self.text, flags=re.MULTILINE)
        found = config(text.replace("type: block_number", "type: custom")).networks[0].health_check
        self.assertEqual({key for key, _ in block}, set(REQUEST_KEYS))
        self.assertEqual(found.request, CustomCheck(body=dict(block)["body"].strip("'")))
        self.assertIs(found.type, HealthCheckType.CUSTOM)


NETWORK = NetworkConfig(name="", nodes=())
TABLES: list[tuple[str, dict[str, Key], Any]] = [
    ("At the top", TOP_KEYS, Config),
    ("At the top", LIMIT_KEYS, LimitsConfig),
    ("A network", {k: v for k, v in NETWORK_KEYS.items() if k not in NODE_LISTS | SECTIONS}, NetworkConfig),
    ("A node", NODE_KEYS, NodeConfig),
    ("cors", CORS_KEYS, CorsConfig),
    ("websocket", WEBSOCKET_KEYS, WebSocketConfig),
    ("gzip", GZIP_KEYS, GzipConfig),
    ("request", REQUEST_KEYS, CustomCheck),
    *((name, SECTIONS[name], type(getattr(NETWORK, name))) for name in SECTIONS if name not in SECTION_ALIASES),
]

IN_WORDS = {
    "name": ("required", "host and port of `rpc_endpoint`"),
    "rpc_endpoint": ("required",),
    "origins": ("required",),
    "request": ("none",),
    "networks": ("required",),
    "fallback_block_diff": ("the value of `network_block_diff`",),
    "switch_to_fallback_block_threshold": ("the value of `network_block_diff`",),
    "switch_to_fallback_enabled": ("whether there are fallback nodes",),
}
"""Defaults that depend on the rest of the file."""
OF_THEIR_OWN = (("At the top", "gzip"), ("At the top", "websocket"))
"""Keys whose row leads to a table."""


class Reference(SynchronousTestCase):
    def rows(self, section: str) -> dict[str, str]:
        """The default by key, as the section's table has them."""
        body = REFERENCE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
        found = re.findall(r"^\| `(\w+)` \| (.*?) \| .+ \|$", body, re.MULTILINE)
        self.assertEqual(len(found), len(dict(found)), "a key has two rows")
        return dict(found)

    def test_every_key(self) -> None:
        """Every key of the tables has a row in its section, and there are no others."""
        self.assertEqual(set(self.rows("At the top")), set(FILE_KEYS))
        self.assertEqual(set(self.rows("A network")), set(NETWORK_KEYS))
        self.assertEqual(set(self.rows("A node")), set(NODE_KEYS))
        self.assertEqual(set(self.rows("cors")), set(CORS_KEYS))
        self.assertEqual(set(self.rows("websocket")), set(WEBSOCKET_KEYS))
        self.assertEqual(set(self.rows("gzip")), set(GZIP_KEYS))
        self.assertEqual(set(self.rows("request")), set(REQUEST_KEYS))
        for name in set(SECTIONS) - set(SECTION_ALIASES):
            self.assertEqual(set(self.rows(name)), set(SECTIONS[name]), name)

    def test_defaults(self) -> None:
        """Each default, read as the file would be, is the schema's."""
        for section, table, cls in TABLES:
            rows = self.rows(section)
            for name, key in table.items():
                if key.field and (section, name) not in OF_THEIR_OWN:
                    self.assert_default(name, rows[name], key, default_of(cls, key.field))

    def test_sections(self) -> None:
        """A section's row leads to its own table, and another name's to nothing."""
        for section, name in OF_THEIR_OWN:
            self.assertEqual(self.rows(section)[name], f"[its defaults](#{name})")
        rows = self.rows("A network")
        for name in SECTIONS:
            self.assertEqual(rows[name], "none" if name in SECTION_ALIASES else f"[its defaults](#{name})")

    def assert_default(self, name: str, cell: str, key: Key, default: object) -> None:
        if name in IN_WORDS:
            self.assertIn(cell, IN_WORDS[name])
        elif cell == "none":
            self.assertIn(default, (None, (), ""), name)
        else:
            root = tree.parse_tree(f"k: {cell.strip('`')}")
            value = () if cell == "`{}`" else key.read(Place(Reading({}), name, value_of(root, "k")))
            self.assertEqual(value, default, name)

    def test_smallest_file(self) -> None:
        """Every YAML block of the page is a file that loads."""
        blocks = re.findall(r"```yaml\n(.*?)```", REFERENCE.read_text(), re.DOTALL)
        self.assertEqual(len(blocks), 1)
        for block in blocks:
            config(block)

    def test_forbidden_headers(self) -> None:
        """The headers that cannot be configured are all named."""
        listed = re.search(r"Not those that evmlb sets itself: (.*?) \|", REFERENCE.read_text())
        assert listed is not None
        self.assertEqual({name.lower() for name in listed[1].split(", ")}, OWN_HEADERS)

    def test_bounds(self) -> None:
        """The bounds that the page names are those of the code."""
        page = " ".join(REFERENCE.read_text().split())
        self.assertIn(f"4 MiB, {tree.MAX_DEPTH} levels of nesting, and {tree.MAX_VALUES:,} values", page)


class Migration(SynchronousTestCase):
    def test_keys(self) -> None:
        """Every key that the page names in code is one that files may have, or another name that is known."""
        known = set().union(FILE_KEYS, NETWORK_KEYS, NODE_KEYS, CORS_KEYS, WEBSOCKET_KEYS, *SECTIONS.values())
        named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)(?::[^`]*)?`", MIGRATION.read_text()))
        self.assertEqual(named - known, {"loadbalancer_best_endpoint", "client_ip"})

    def test_defaults(self) -> None:
        """Defaults that the page names are the schema's."""
        rows = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| (\S+) \|$", MIGRATION.read_text(), re.MULTILINE))
        self.assertEqual(rows["port"], str(schema.Config(networks=()).port))
        self.assertEqual(rows["log_level"], schema.Config(networks=()).log_level.value)
        self.assertEqual(rows["network_block_diff"], str(NETWORK.network_block_diff))
