"""Every kind of fault that an attempt may end with, in every kind of request: none is forgotten, nobody waits."""

from __future__ import annotations

from evmlb.errors import Fault
from evmlb.policy.verdicts import OUT_OF_TIME, judge_fault
from tests.routing.support import RoutingTestCase

UNSENT = (Fault.UNSUPPORTED, Fault.REJECTED)


class EveryFaultTests(RoutingTestCase):
    def _cases(self) -> list[tuple[Fault, bytes]]:
        return [(fault, method) for fault in Fault for method in (b"", b"GET", b"PUT", b"OPTIONS", b"POST")]

    def test_elsewhere(self) -> None:
        """A fault at the first node, with nothing sent, is answered well by the second, whatever was asked."""
        for fault, opaque in self._cases():
            world = self.make("a b")
            client = world.submit(opaque=opaque, body=b"x" if opaque else None)
            world.last("a").fail(fault, "it is so", sent=False)
            self.assertEqual(world.sends, "ab", (fault, opaque))
            world.last("b").result()
            self.assertEqual(client.said, ["answer"], (fault, opaque))
            world.check_idle(self)

    def test_nobody_left(self) -> None:
        """A fault at every node ends in an answer of ours, at once: no client waits for a time-out."""
        for fault, opaque in self._cases():
            world = self.make("a", rpc_retries=0)
            client = world.submit(opaque=opaque, body=b"x" if opaque else None)
            while not client.said:
                world.last("a").fail(fault, "it is so", sent=False)
            self.assertGreaterEqual(client.said[0][0], 400, (fault, opaque))
            world.check_idle(self)

    def test_verdicts(self) -> None:
        """Each has a verdict of its own name, sent or not, and permits a retry of what was surely not received."""
        for fault in Fault:
            for sent in (False, True):
                self.assertIs(judge_fault(fault, 0, sent=sent).fault, fault)  # type: ignore[arg-type]
            self.assertTrue(judge_fault(fault, 0, sent=False).permits_retry(False))  # type: ignore[arg-type]
        self.assertIs(OUT_OF_TIME.fault, Fault.TIMED_OUT)


class NotCarriedTests(RoutingTestCase):
    """Requests that the way to a node, its WebSocket, cannot carry."""

    def test_nobody_is_blamed(self) -> None:
        """The node stays as it was: in the order, not suspect, its breaker without a failure."""
        for fault in UNSENT:
            world = self.make("a b")
            world.submit()
            world.last("a").fail(fault, "not over a WebSocket", sent=False)
            self.assertEqual((world.order, world.blames), ("ab", []))
            self.assertFalse(world.nodes["a"].suspect)

    def test_refused(self) -> None:
        """When no node can be sent it, the client is told which it was: too large, or no request for a WebSocket."""
        for faults, status, code in (
            ((Fault.UNSUPPORTED, Fault.UNSUPPORTED), 501, -32601),
            ((Fault.REJECTED, Fault.REJECTED), 413, -32600),
            ((Fault.UNSUPPORTED, Fault.REJECTED), 413, -32600),
        ):
            world = self.make("a b")
            client = world.submit()
            for name, fault in zip("ab", faults, strict=True):
                world.last(name).fail(fault, "not over a WebSocket", sent=False)
            self.assertRefused(client, status, code)


class BrokenTests(RoutingTestCase):
    """Something breaks here, between a node's answer and the client."""

    def test_while_it_is_judged(self) -> None:
        """The attempt ends as garbage, and the next node is asked."""
        world = self.make("a b")
        client = world.submit()
        world.last("a").fail(Fault.GARBAGE, "its answer could not be passed on", sent=True)
        world.last("b").result()
        self.assertEqual((client.said, world.sends), (["answer"], "ab"))

    def test_when_it_was_over(self) -> None:
        """An attempt that has ended already ends nothing twice: the client's connection is cut."""
        world = self.make("a b")
        client = world.submit()

        def breaking(*_: object) -> None:
            raise ValueError

        client.answer = breaking  # type: ignore[method-assign]
        sent = world.last("a")
        self.assertRaises(ValueError, sent.result)
        sent.fail(Fault.GARBAGE, "its answer could not be passed on", sent=True)
        self.assertEqual((client.said, world.sends), (["abort"], "a"))
        world.check_idle(self)
