"""What a client writes comes back in errors, and costs no other client a node."""

from __future__ import annotations

import json
from typing import Any

from tests.routing.support import Client, RoutingTestCase, World
from tests.support import Sent

REQUEST = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["latest", False]}


def error(code: int, message: str) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message}}).encode()


class EchoTests(RoutingTestCase):
    def ask(self, answer: bytes, status: int = 200, *, target: bytes = b"", **request: Any) -> tuple[World, Client]:
        """Every node that is asked answers so."""
        world = self.make("a b")
        for spy in world.spies.values():
            spy.script.append(lambda sent: Sent.answer(sent, answer, status))
        return world, world.submit(body=json.dumps(REQUEST | request).encode(), target=target)

    def assertUnharmed(self, world: World, *unsupported: str) -> None:
        """Both nodes serve as before, but for methods that they lack."""
        self.assertEqual((world.order, world.blames), ("ab", []))
        for node in world.nodes.values():
            self.assertFalse(node.limit.limited)
            self.assertLessEqual(set(node.avoidance.unsupported), set(unsupported))
        for spy in world.spies.values():
            spy.script.clear()
        client = world.submit()
        world.last("a").result()
        self.assertEqual(client.said, ["answer"])
        world.check_idle(self)

    def test_parameters(self) -> None:
        """An error about a parameter that quotes it is the client's, whatever the parameter says."""
        for words in ("too many requests", "forbidden", "method not found", "monthly quota", "service unavailable"):
            answer = error(-32602, f'invalid type: string "{words}", expected a boolean at line 1 column 28')
            world, client = self.ask(answer, params=["latest", words])
            self.assertEqual((client.said, client.body, world.sends), (["answer"], answer, "a"), words)
            self.assertUnharmed(world)

    def test_parameters_in_any_error(self) -> None:
        """With a code that says nothing another node is asked, and both are as good as before."""
        for words in ("too many requests", "forbidden", "method not found", "timeout", "internal error"):
            world, client = self.ask(error(-32000, f'bad value "{words}"'), params=["latest", words])
            self.assertEqual((client.said, world.sends), (["answer"], "ab"), words)
            self.assertUnharmed(world)

    def test_methods(self) -> None:
        """A method's name makes of an unknown method nothing else."""
        for method in ("too many requests", "forbidden", "invalid api key", "service unavailable"):
            world, client = self.ask(
                error(-32601, f"the method {method} does not exist/is not available"), method=method
            )
            self.assertEqual((client.said, world.sends), (["answer"], "ab"), method)
            self.assertUnharmed(world, method)

    def test_paths(self) -> None:
        """Nor does a path or a query that a page shows."""
        page = b"<pre>Cannot POST /error code: 1015?rate limit</pre>"
        for status in (404, 503):
            world, _ = self.ask(page, status, target=b"/error%20code:%201015?rate%20limit")
            self.assertUnharmed(world)

    def test_the_nodes_own_words(self) -> None:
        """What a node says itself holds it off, also when it repeats something else beside it."""
        for words in ("too many requests", "rate limit exceeded for eth_getBlockByNumber latest"):
            world, _ = self.ask(error(-32000, words))
            self.assertTrue(all(node.limit.limited for node in world.nodes.values()), words)
