"""Whatever is in a file, the answer is a configuration or its faults, and never a secret."""

from __future__ import annotations

import re
from typing import Any

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config import tree
from evmlb.config.clients import CORS_KEYS, WEBSOCKET_KEYS
from evmlb.config.fields import FILE_KEYS, NETWORK_KEYS, NODE_KEYS, REQUEST_KEYS, SECTIONS
from evmlb.config.parse import ConfigError, parse
from evmlb.config.schema import Config
from tests.config.support import ROOT, SAMPLES

SECRET = "s3cr3tS3cr3ts3cr3t"  # long and with digits, as keys are
EXAMPLE = (ROOT / "config.yaml.example").read_text()
EVERY_KEY = (SAMPLES.parent / "every_key.yaml").read_text()
FILES = [EXAMPLE, EVERY_KEY, *(sample.read_text() for sample in SAMPLES.iterdir())]

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from([SECRET, f"http://u:{SECRET}@h/{SECRET}?k={SECRET}", f"ws://h/{SECRET}", f"{SECRET} {SECRET}"]),
    st.sampled_from(["http://a", "5s", "0", "${A}", "${S}", "${NO}", "${S:-x}", "$${", "${", "on", "latency", "pass"]),
    st.sampled_from(["1", "0.5", "99ms", "custom", "syncing", "chain_id", "everybody", "\udcff"]),
)
SECTION_KEYS = [key for keys in (*SECTIONS.values(), REQUEST_KEYS) for key in keys]
KNOWN = [*FILE_KEYS, *NETWORK_KEYS, *NODE_KEYS, *CORS_KEYS, *WEBSOCKET_KEYS, *SECTION_KEYS]
KEYS = st.sampled_from([*KNOWN, SECRET, f"http://u:{SECRET}@h", "<<", "x-a"])
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=30
)
NODES = st.lists(st.dictionaries(st.sampled_from(list(NODE_KEYS)), TREES, max_size=6) | TREES, max_size=3)
NETWORKS = st.fixed_dictionaries(
    {"name": LEAVES, "local_nodes": NODES},
    optional={
        key: TREES | st.dictionaries(st.sampled_from(list(SECTIONS[key])), TREES, max_size=6)
        if key in SECTIONS
        else TREES
        for key in NETWORK_KEYS
        if key not in ("name", "local_nodes")
    },
)
SHAPED = st.fixed_dictionaries(
    {"networks": st.lists(NETWORKS, max_size=2)},
    optional={
        **{key: TREES for key in FILE_KEYS if key != "networks"},
        "websocket": TREES | st.dictionaries(st.sampled_from(list(WEBSOCKET_KEYS)), TREES, max_size=6),
    },
)
ENVIRON = {"A": "http://b", "S": f"{SECRET}\n"}


class Fuzz(SynchronousTestCase):
    def check(self, text: str) -> None:
        """A Config or a ConfigError, its text without the secret and a line for each fault."""
        try:
            config, said = parse(text, ENVIRON)
            self.assertIsInstance(config, Config)
        except ConfigError as error:
            said = error.faults
            self.assertTrue(said)
            self.assertEqual(len(str(error).splitlines()), len(said))
        for fault in said:
            self.assertNotIn(SECRET, f"{fault.path} {fault.message}")
            self.assertNotRegex(str(fault), r"[\x00-\x1f]")

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(TREES | SHAPED)
    def test_trees(self, value: Any) -> None:
        """Any tree, those shaped like a configuration among them."""
        self.check(yaml.safe_dump(value, allow_unicode=True))

    @settings(max_examples=300, deadline=None)
    @given(st.text(max_size=60) | st.text(alphabet="ab:- \n[]{}&*!|>'\"%#?,<$", max_size=60))
    @example("\ud800")
    @example("a: !<" + SECRET + "> b")
    @example("a: |" + SECRET)
    @example(f"%TAG !a! {SECRET}\n--- !b!{SECRET} x")
    @example(f"%YAML {SECRET}\n---\n")
    @example(f"'{SECRET}': \"\\q{SECRET}\"")
    def test_texts(self, text: str) -> None:
        """Any text."""
        self.check(text)

    @settings(max_examples=300, deadline=None)
    @given(
        st.sampled_from(FILES), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), LEAVES), min_size=1, max_size=4)
    )
    def test_mutations(self, text: str, changes: list[tuple[float, int, object]]) -> None:
        """A good file with lines dropped, doubled, indented, cut or given other values."""
        for where, how, leaf in changes:
            lines = text.splitlines() or [""]
            text = "\n".join(mutated(lines, int(where * (len(lines) - 1)), how, f"{leaf}"))
        self.check(text)

    @given(st.sampled_from(FILES))
    def test_both_parsers(self, text: str) -> None:
        """The tree is the same whether libyaml is there or not."""
        fast = tree.parse_tree(text)
        self.patch(tree, "_LOADER", yaml.SafeLoader)
        self.assertEqual(tree.parse_tree(text), fast)

    @settings(max_examples=100, deadline=None)
    @given(st.text(alphabet="ab:- \n[]{}&*!|>'\"%#?,<$\x00\ud800é", max_size=60))
    @example("[" * 3000)
    @example("a: *" + SECRET)
    @example("a: !" + SECRET + "!x b")
    @example(f"%TAG !a! {SECRET}\n--- !b!{SECRET} x")
    def test_texts_without_libyaml(self, text: str) -> None:
        """Any text, read by PyYAML's own parser."""
        self.patch(tree, "_LOADER", yaml.SafeLoader)
        self.check(text)


def mutated(lines: list[str], i: int, how: int, leaf: str) -> list[str]:
    """The lines with one change at line ``i``."""
    line = lines[i]
    changed = {
        0: [],
        1: [line, line],
        2: ["  " + line],
        3: [line.lstrip()],
        4: [line[: len(line) // 2]],
        5: [re.sub(r": .*", lambda _: ": " + leaf, line)],
        6: [re.sub(r": .*", lambda _: ": [" + leaf + "]", line)],
        7: [line.replace("_", "", 1)],
        8: [re.sub(r"\w+:", lambda _: SECRET + ":", line, count=1)],
        9: [line, leaf],
    }[how]
    return lines[:i] + changed + lines[i + 1 :]
