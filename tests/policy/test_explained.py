"""The worked examples of docs/explanation/selection.md are true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import Criterion, NetworkConfig, Role, WhenNoneInRange
from evmlb.network import Network, Node, Poll
from evmlb.policy.heads import Heads
from tests.support import network_config, node_config

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "selection.md"
EXAMPLE = re.compile(r"### (.+?)\n\n```yaml\n(.*?)```\n\n(\|.*?)\n\n", re.DOTALL)
REFUSAL = re.compile(r"```text\n(.*?)\n```", re.DOTALL)


def rows(table: str) -> list[list[str]]:
    """The cells of a table without its head."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def configured(settings: str, table: list[list[str]], **more: Any) -> NetworkConfig:
    read = yaml.safe_load(settings)
    if "load_balance_priority" in read:
        read["load_balance_priority"] = tuple(map(Criterion, read["load_balance_priority"]))
    if "when_none_in_range" in read:
        read["when_none_in_range"] = WhenNoneInRange(read["when_none_in_range"])
    return network_config(*(node_config(row[0], Role(row[1])) for row in table), name="eth", **{**read, **more})


def played(config: NetworkConfig, table: list[list[str]]) -> Network:
    """Let every node report three times; all but a liar can show their blocks."""
    network = Network(config, 0.0)
    for now in (1.0, 11.0, 21.0):
        for node, row in zip(network.nodes, table, strict=True):
            network.observe_poll(node, poll_of(row, now), now)
    for node, row in zip(network.nodes, table, strict=True):
        trouble(network, node, row[4])
    return network


def poll_of(row: list[str], now: float) -> Poll:
    shown = {} if row[4] == "liar" else {"block_hash": "0xab", "block_timestamp": 1, "unix_time": 2.0}
    latency = float(row[3].removesuffix(" ms")) / 1000
    return Poll(number=int(row[2]), latency_seconds=latency, started_at=now - 0.1, chain_id=1, **shown)


def trouble(network: Network, node: Node, word: str) -> None:
    for _ in range({"suspect": 1, "ejected": 2}.get(word, 0)):
        network.record_failure(node, "reset", 21.0, proven=word == "ejected")


class SelectionPageTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """Every node of every example has the place and the reason that the page gives it."""
        examples = EXAMPLE.findall(PAGE.read_text())
        self.assertEqual(len(examples), 7)
        for title, settings, text in examples:
            table = rows(text)
            network = played(configured(settings, table), table)
            told = [(p.node.name, "-" if p.rank is None else str(p.rank + 1), p.reason) for p in network.order.places]
            self.assertEqual(told, [(row[0], row[5], row[6]) for row in table], title)

    def test_refusal(self) -> None:
        """The refusal that the page quotes is what clients get in its last example."""
        page = PAGE.read_text()
        _, settings, text = EXAMPLE.findall(page)[-1]
        table = rows(text)
        network = played(configured(settings, table, when_none_in_range=WhenNoneInRange.REFUSE), table)
        quoted = REFUSAL.search(page)
        self.assertEqual(network.order.refusal, quoted and quoted[1])

    def test_claims(self) -> None:
        """A lone claim is believed exactly as far as the page says."""
        table = PAGE.read_text().split("one that claims more:\n\n")[1].split("\n\n")[0]
        for seconds, limit in rows(table):
            for beyond in (0, 1):
                heads = Heads(5, 12.0, 0.0)
                for reporter in (0, 1):
                    heads.report(reporter, 100, 0.0, started_at=0.0)
                heads.report(2, int(limit) + beyond, float(seconds), started_at=0.0)
                self.assertEqual(heads.doubted(2) is not None, beyond == 1, seconds)
