"""One request's way through the nodes: who is asked, who is blamed, what the client is told."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.logger import Logger, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import Role, Strategy, WhenNoneInRange
from evmlb.errors import Fault
from evmlb.methods import MethodClass
from evmlb.routing import waiting
from evmlb.routing.attempts import STREAMING
from tests.routing.support import JSON_500, RESULT, Client, RoutingTestCase, World, call_body
from tests.support import FakeHead, Sent, node_config, run_property


class HappyTests(RoutingTestCase):
    def test_answer_passes(self) -> None:
        """The first of the order is asked once, and its bytes go to the client as they came."""
        world = self.make("a b")
        client = world.submit()
        self.assertEqual(world.last("a").body, call_body("eth_getBalance"))
        world.last("a").result()
        self.assertEqual((client.said, client.body, client.node), (["answer"], RESULT, "a"))
        self.assertEqual((world.sends, world.blames), ("a", []))
        self.assertEqual(world.router.stats.answered[0], [1, 0, 0, 0])
        self.assertEqual((world.router.stats.requests, world.router.stats.by_client), (1, {"10.0.0.9": 1}))
        world.check_idle(self)

    def test_answer_before_return(self) -> None:
        """An upstream may answer before its ``send`` returns."""
        world = self.make("a")
        world.spies["a"].script.append(Sent.result)
        self.assertEqual(world.submit().said, ["answer"])
        world.check_idle(self)

    def test_forwarded_for_local_only(self) -> None:
        """X-Forwarded-For goes to local nodes and to no others."""
        world = self.make("a", fallback="f", switch_to_fallback_enabled=True)
        world.submit()
        world.last("a").fail()
        self.assertEqual(world.last("a").headers, b"X-Forwarded-For: 10.0.0.9\r\n")
        self.assertEqual(world.last("f").headers, b"")

    def test_null_result_of_other_methods(self) -> None:
        """A null where nothing says that there should be something is an answer like any other."""
        world = self.make("a b")
        client = world.submit("eth_getStorageAt")
        world.last("a").result(b"null")
        self.assertEqual((client.said, world.sends), (["answer"], "a"))

    def test_client_error_passes(self) -> None:
        """An error that is the client's own is an answer: nobody else is asked, nobody blamed."""
        world = self.make("a b")
        for code, message in ((3, "execution reverted"), (-32602, "bad params"), (-32000, "nonce too low")):
            client = world.submit("eth_call")
            world.last("a").error(code, message)
            self.assertEqual(client.said, ["answer"], message)
        self.assertEqual((world.sends, world.blames), ("aaa", []))

    def test_learns_head(self) -> None:
        """A block number passing by raises the chainhead."""
        world = self.make("a b")
        world.submit("eth_blockNumber")
        world.last("a").result(b'"0x65"')
        self.assertEqual(world.network.chainhead, 101)

    def test_chooser(self) -> None:
        """With the strategy shared, equal nodes take turns."""
        world = self.make("a b", strategy=Strategy.SHARED)
        for _ in range(4):
            world.submit()
        self.assertEqual(sorted(world.sends), ["a", "a", "b", "b"])

    def test_chooser_slow(self) -> None:
        """Slow and unsafe calls are shared too."""
        world = self.make("a b", strategy=Strategy.SHARED)
        for _ in range(2):
            world.submit("eth_call")
            world.submit("eth_sendTransaction")
        self.assertEqual(sorted(world.sends), ["a", "a", "b", "b"])

    def test_degraded(self) -> None:
        """Answers of nodes out of range are marked as such."""
        world = self.make(
            "a",
            monitoring="m",
            when_none_in_range=WhenNoneInRange.NEAREST,
            monitoring_nodes_serve=False,
            block_time_seconds=1.0,
        )
        world.clock.advance(8)
        world.poll("m", number=107)
        world.poll("a")
        client = world.submit()
        world.last("a").result()
        assert client.exchange is not None
        self.assertTrue(client.exchange.degraded)


class RetryTests(RoutingTestCase):
    def check_retry(self, fail: Any, *, blamed: bool, klass: str = "eth_getBalance") -> None:
        """``a`` fails, ``b`` answers; ``a`` is suspect if blamed, and counted against once proven."""
        world = self.make("a b")
        client = world.submit(klass)
        fail(world.last("a"))
        self.assertEqual((world.sends, client.said), ("ab", []))
        self.assertEqual(world.order, "ba" if blamed else "ab")
        world.last("b").result()
        self.assertEqual((client.said, client.node), (["answer"], "b"))
        self.assertEqual(world.router.stats.failovers, 1)
        assert client.exchange is not None
        self.assertEqual(client.exchange.attempts, 2)
        self.assertEqual([name for name, proven in world.blames if proven], ["a"] if blamed else [])
        world.check_idle(self)

    def test_debug(self) -> None:
        """Where it is asked for, each attempt that ends badly is told to the log, with the reason."""
        world = self.make("a b")
        world.router._failing.debug = Logger()
        world.submit()
        with capturedLogs() as captured:
            world.last("a").fail(Fault.DISCONNECTED, "gone")
        self.assertEqual(
            [formatEvent(event) for event in captured],
            ["net: a did not answer eth_getBalance: disconnected: gone"],
        )

    def test_transport_faults(self) -> None:
        """A node that cannot be reached, resets or answers garbage is passed over and blamed."""
        for fault in (Fault.UNREACHABLE, Fault.DISCONNECTED, Fault.GARBAGE):
            self.check_retry(lambda sent, fault=fault: sent.fail(fault), blamed=True)

    def test_statuses_that_blame(self) -> None:
        """So are statuses without a JSON-RPC body, 401 and 403 among them."""
        for status in (500, 502, 503, 504, 301, 401, 403, 404):
            self.check_retry(lambda sent, status=status: sent.answer(b"<html>", status), blamed=True)

    def test_statuses_that_do_not(self) -> None:
        """400, 413, 415 and 422 are tried elsewhere, and blame nobody."""
        for status in (400, 413, 415, 422):
            self.check_retry(lambda sent, status=status: sent.answer(b"no", status), blamed=False)

    def test_garbage(self) -> None:
        """Bodies that are no answer to this call are passed over, and blamed."""
        bodies = (
            b"",
            b"<html>",
            b"[]",
            b"{}",
            b'{"jsonrpc":"2.0","id":2,"result":"0x1"}',
            b'{"jsonrpc":"2.0","id":"1","result":"0x1"}',
            b'{"jsonrpc":"2.0","id":1,"result":"0x1"',
            b'{"jsonrpc":"2.0","result":"0x1"}',
            b'"\xff"',
            b"[" * 2000,
        )
        for body in bodies:
            self.check_retry(lambda sent, body=body: sent.answer(body), blamed=True)

    def test_compressed(self) -> None:
        """A compressed body, which nobody asked for, is garbage."""
        self.check_retry(lambda s: s.sink.answered(FakeHead(is_encoded=True), [b"\x1f\x8b..."]), blamed=True)

    def test_rpc_errors(self) -> None:
        """An internal error blames; missing data and unknown methods do not; all are tried elsewhere."""
        self.check_retry(lambda sent: sent.error(-32603, "internal error"), blamed=True)
        for code, message in (
            (-32000, "missing trie node abc"),
            (-32000, "header not found"),
            (-32601, "the method does not exist"),
            (-32000, "something odd"),
        ):
            self.check_retry(lambda sent, code=code, message=message: sent.error(code, message), blamed=False)

    def test_body_over_status(self) -> None:
        """A body that is a JSON-RPC answer is judged by itself, whatever the status."""
        world = self.make("a b")
        client = world.submit()
        world.last("a").answer(RESULT, 500)
        self.assertEqual((client.said, world.sends, world.blames), (["answer"], "a", []))

    def test_slow_and_unsafe_error(self) -> None:
        """A slow call is tried elsewhere like a fast one."""
        self.check_retry(lambda sent: sent.fail(Fault.DISCONNECTED), blamed=True, klass="eth_getLogs")

    def test_timeout(self) -> None:
        """A fast call without a first byte in ``rpc_timeout`` is cancelled, tried elsewhere, and blamed."""
        world = self.make("a b", rpc_timeout_seconds=2.0)
        client = world.submit()
        world.pass_time(1.9)
        self.assertEqual(world.sends, "a")
        world.pass_time(0.2)
        self.assertEqual(world.events, [("a", "send"), ("a", "cancel"), ("b", "send")])
        world.last("b").result()
        self.assertEqual((client.said, world.blames), (["answer"], [("a", False), ("a", True)]))
        world.check_idle(self)

    def test_next_request_avoids(self) -> None:
        """The next request avoids a node that failed, before its next poll."""
        world = self.make("a b")
        world.submit()
        world.last("a").fail(Fault.DISCONNECTED)
        world.submit()
        self.assertEqual(world.sends, "abb")

    def test_success_readmits(self) -> None:
        """One good answer ends the suspicion."""
        world = self.make("a")
        world.submit()
        world.last("a").error(-32603)
        self.assertTrue(world.nodes["a"].suspect)
        world.submit()
        world.last("a").result()
        self.assertFalse(world.nodes["a"].suspect)

    def test_all_of_serving_and_one_of_next(self) -> None:
        """Each node of the serving tier and one of the next is tried, though ``rpc_retries`` is less."""
        world = self.make("a b c d", fallback="f g", rpc_retries=1, switch_to_fallback_enabled=True)
        client = world.submit()
        for name in "abcdf":
            world.last(name).fail(Fault.GARBAGE)
        self.assertEqual(world.sends, "abcdf")
        self.assertRefused(client, 502, -32013)

    def test_no_more_than_configured(self) -> None:
        """With more nodes in reserve, 1 + ``rpc_retries`` bounds the attempts."""
        world = self.make("a", fallback="f g h", rpc_retries=2, switch_to_fallback_enabled=True)
        client = world.submit()
        for name in "afg":
            world.last(name).fail(Fault.GARBAGE)
        self.assertEqual(world.sends, "afg")
        self.assertRefused(client, 502, -32013)

    def test_same_node_again(self) -> None:
        """A lone node that could not be reached is asked again after a pause, as often as configured."""
        world = self.make("a", rpc_retries=2)
        client = world.submit()
        world.last("a").fail()
        self.assertEqual((world.sends, client.said), ("a", []))
        world.pass_time(0.11)
        world.last("a").fail()
        world.pass_time(0.15)
        self.assertEqual(world.sends, "aa")
        world.pass_time(0.1)
        world.last("a").fail()
        self.assertEqual(world.sends, "aaa")
        self.assertRefused(client, 502, -32013)
        world.check_idle(self)

    def test_same_node_succeeds(self) -> None:
        """A node that answers when asked again has proven nothing against itself."""
        world = self.make("a")
        client = world.submit()
        world.last("a").fail(Fault.DISCONNECTED)
        world.pass_time(0.11)
        world.last("a").result()
        self.assertEqual((client.said, world.blames), (["answer"], [("a", False)]))
        self.assertFalse(world.nodes["a"].suspect)

    def test_no_time_to_ask_again(self) -> None:
        """When the time is up before a lone node can be asked again, that is 504."""
        world = self.make("a", request_timeout_seconds=0.05)
        client = world.submit()
        world.last("a").fail()
        world.pass_time(0.2)
        self.assertRefused(client, 504, -32015)
        self.assertEqual(world.sends, "a")
        world.check_idle(self)

    def test_one_request_proves_once(self) -> None:
        """One request, however often it failed at a node, counts once against it."""
        world = self.make("a", fallback="f", rpc_retries=3)
        client = world.submit()
        world.last("a").fail(Fault.DISCONNECTED)
        world.pass_time(0.11)
        world.publish(world.network.observe_poll_failure(world.nodes["a"], "x", world.clock.seconds(), final=True))
        world.publish(world.network.observe_poll_failure(world.nodes["a"], "x", world.clock.seconds(), final=True))
        world.last("a").fail(Fault.DISCONNECTED)
        self.assertEqual(world.sends, "aaf")
        world.last("f").result()
        self.assertEqual(client.said, ["answer"])
        self.assertEqual([blame for blame in world.blames if blame[1]], [("a", True)])

    def test_odd_request_takes_no_node(self) -> None:
        """A request that fails everywhere, however often it is sent, leaves every node in service."""
        world = self.make("a b", rpc_retries=1)
        for _ in range(10):
            world.submit()
            for _ in range(2):
                world.last(world.sends[-1]).fail(Fault.DISCONNECTED)
        self.assertFalse(any(proven for _, proven in world.blames))
        self.assertEqual(sorted(world.order), ["a", "b"])
        self.assertFalse(world.nodes["a"].ejected or world.nodes["b"].ejected)

    def test_odd_path_blames_nobody(self) -> None:
        """What a path or query of the client's brings about at one node is no reason to avoid it."""
        for status, body in ((404, b"not found"), (401, b"who?"), (200, b"<html>")):
            world = self.make("a b")
            for _ in range(5):
                client = world.submit(target=b"/odd?key=x")
                world.last("a").answer(body, status)
                world.last("b").result()
                self.assertEqual(client.said, ["answer"])
            self.assertEqual((world.blames, world.order), ([], "ab"), status)

    def test_ejection_and_trial(self) -> None:
        """Two proven failures take a node out; a second later one request, and only one, tries it again."""
        world = self.make("a b")
        for _ in range(2):
            world.poll("a")
            world.submit()
            world.last("a").fail(Fault.DISCONNECTED)
            world.last("b").result()
        self.assertEqual((world.nodes["a"].ejected, world.order), (True, "b"))
        world.events.clear()
        world.submit()
        world.pass_time(1.01)
        world.poll()
        clients = [world.submit() for _ in range(3)]
        self.assertEqual(world.sends, "babb")
        world.last("a").result()
        self.assertEqual((clients[0].said, world.order), (["answer"], "ab"))

    def test_failed_trial_falls_over(self) -> None:
        """A trial that fails costs its request a failover, and the node twice the time."""
        world = self.make("a b")
        for _ in range(2):
            world.poll("a")
            world.submit()
            world.last("a").fail(Fault.DISCONNECTED)
            world.last("b").result()
        world.pass_time(1.01)
        world.poll()
        client = world.submit()
        world.last("a").fail(Fault.DISCONNECTED)
        world.last("b").result()
        self.assertEqual(client.said, ["answer"])
        world.events.clear()
        world.pass_time(1.5)
        world.poll()
        world.submit()
        self.assertEqual(world.sends, "b")
        world.pass_time(0.6)
        world.poll()
        world.submit()
        self.assertEqual(world.sends, "ba")

    def test_no_trial_with_unsafe(self) -> None:
        """Slow and unsafe calls are no trials, a batch of fast ones is."""
        world = self.make("a b")
        for _ in range(2):
            world.poll("a")
            world.submit()
            world.last("a").fail(Fault.DISCONNECTED)
            world.last("b").result()
        world.pass_time(1.01)
        world.poll()
        world.events.clear()
        world.submit("eth_call")
        world.submit("eth_sendTransaction")
        world.submit(body=b"[" + call_body("eth_chainId") + b"]")
        self.assertEqual(world.sends, "bba")


class SlowTests(RoutingTestCase):
    def test_timeout(self) -> None:
        """A slow call that gets no byte in ``slow_timeout`` is not repeated, blames nobody, and ends in 504."""
        world = self.make("a b", slow_timeout_seconds=20.0)
        client = world.submit("eth_getLogs")
        world.pass_time(19, 1)
        self.assertEqual(client.said, [])
        world.pass_time(2, 1)
        self.assertRefused(client, 504, -32015)
        self.assertEqual((world.sends, world.blames), ("a", []))
        world.check_idle(self)

    def test_stalled_answer(self) -> None:
        """An answer that began and stands still for 30 s is tried elsewhere, and blames."""
        world = self.make("a b")
        client = world.submit("eth_getLogs")
        world.last("a").sink.progressed()
        world.pass_time(29, 1)
        world.last("a").sink.progressed()
        world.pass_time(29, 1)
        self.assertEqual(world.sends, "a")
        world.pass_time(2, 1)
        self.assertEqual(world.sends, "ab")
        world.last("b").result()
        self.assertEqual((client.said, world.blames), (["answer"], [("a", False), ("a", True)]))

    def test_whole_time_blames_nobody(self) -> None:
        """A node whose time was cut short by the request's own is not blamed."""
        world = self.make("a b", rpc_timeout_seconds=4.0, request_timeout_seconds=6.0)
        client = world.submit()
        world.pass_time(6.1, 0.1)
        self.assertRefused(client, 504, -32015)
        self.assertEqual((world.sends, world.blames), ("ab", [("a", False)]))

    def test_short_request_timeout(self) -> None:
        """With a ``request_timeout`` below ``rpc_timeout`` a node that lets it pass is blamed all the same."""
        world = self.make("a b", rpc_timeout_seconds=5.0, request_timeout_seconds=2.0)
        client = world.submit()
        world.pass_time(2.1, 0.1)
        self.assertRefused(client, 504, -32015)
        self.assertEqual(world.blames, [("a", False)])


class UnsafeTests(RoutingTestCase):
    def check(self, fail: Any, expected: str) -> Client:
        world = self.make("a b")
        client = world.submit("eth_sendTransaction")
        self.assertFalse(world.last("a").sink.repeatable)
        fail(world.last("a"))
        self.assertEqual(world.sends, expected)
        return client

    def test_surely_not_received(self) -> None:
        """An unsafe call goes elsewhere when the node surely did not get or carry out the first."""
        self.check(lambda s: s.fail(), "ab")
        self.check(lambda s: s.fail(Fault.DISCONNECTED, sent=False), "ab")
        self.check(lambda s: s.answer(b"slow down", 429), "ab")
        self.check(lambda s: s.answer(b"who?", 401), "ab")
        self.check(lambda s: s.error(-32601, "method not found"), "ab")

    def test_perhaps_received(self) -> None:
        """It is never sent twice when the node may have carried it out."""
        for fail in (
            lambda s: s.fail(Fault.DISCONNECTED),
            lambda s: s.fail(Fault.GARBAGE),
            lambda s: s.answer(b"<html>"),
            lambda s: s.answer(b"<html>", 502),
        ):
            self.assertRefused(self.check(fail, "a"), 502, -32013)

    def test_error_passes(self) -> None:
        """An error of the node is the answer then, though it blames."""
        client = self.check(lambda s: s.error(-32603, "boom"), "a")
        self.assertEqual(client.said, ["answer"])
        self.assertIn(b"boom", client.body)

    def test_timeout(self) -> None:
        """Nor is it sent again after a timeout, which blames."""
        client = self.check(lambda s: self.world.pass_time(5.1), "a")
        self.assertRefused(client, 504, -32015)
        self.assertEqual(self.world.blames, [("a", False)])

    def test_batch_with_an_unsafe_member(self) -> None:
        """A batch is as unsafe as its strictest member: that is not sent again, the others are."""
        world = self.make("a b")
        sending = call_body("eth_sendTransaction", request_id=b"2")
        client = world.submit(body=b"[" + call_body("eth_chainId") + b"," + sending + b"]")
        world.last("a").fail(Fault.DISCONNECTED)
        self.assertEqual((world.sends, world.last("b").body), ("ab", b"[" + call_body("eth_chainId") + b"]"))
        world.last("b").answer(b"[" + RESULT + b"]")
        first, second = json.loads(client.body)
        self.assertEqual((first, second["id"], second["error"]["code"]), (json.loads(RESULT), 2, -32013))
        world.check_idle(self)

    def test_batch_of_unsafe_members(self) -> None:
        """One that has nothing else is not sent again at all."""
        world = self.make("a b")
        client = world.submit(body=b"[" + call_body("eth_sendTransaction") + b"]")
        world.last("a").fail(Fault.DISCONNECTED)
        self.assertEqual(world.sends, "a")
        self.assertRefused(client, 502, -32013)


class CommitTests(RoutingTestCase):
    BEGINNING = b'{"jsonrpc":"2.0","id":1,"result":["'

    def test_streams(self) -> None:
        """An answer larger than what is held is streamed from its beginning."""
        world = self.make("a b")
        client = world.submit()
        world.last("a").begin(self.BEGINNING)
        world.last("a").sink.streamed(b'x"]}')
        world.last("a").sink.ended()
        self.assertEqual((client.said, client.body), (["begin", "finish"], self.BEGINNING + b'x"]}'))
        world.check_idle(self)

    def test_death_after_commit(self) -> None:
        """A node that dies behind the commit point costs the client its connection, is blamed and counted."""
        world = self.make("a b")
        client = world.submit()
        world.last("a").begin(self.BEGINNING)
        world.last("a").fail(Fault.DISCONNECTED)
        self.assertEqual((client.said, world.sends), (["begin", "abort"], "a"))
        self.assertEqual(world.blames, [("a", False)])
        self.assertEqual(world.router.stats.failed[0, MethodClass.FAST, "disconnected"], 1)
        world.check_idle(self)

    def test_stall_after_commit(self) -> None:
        """So does one that stands still for 30 s."""
        world = self.make("a b")
        client = world.submit()
        world.last("a").begin(self.BEGINNING)
        world.pass_time(30.1, 0.1)
        self.assertEqual((client.said, world.blames), (["begin", "abort"], [("a", False)]))
        self.assertIn(("a", "cancel"), world.events)
        world.check_idle(self)

    def test_bad_beginning(self) -> None:
        """A beginning that is no good answer is judged before it is committed."""
        for head in (b"<html>" * 10, b'{"jsonrpc":"2.0","id":7,"result":[', b"\x00" * 100):
            world = self.make("a b")
            client = world.submit()
            world.last("a").begin(head)
            self.assertEqual((world.sends, world.events[1]), ("ab", ("a", "cancel")))
            world.last("b").result()
            self.assertEqual(client.said, ["answer"])
            world.check_idle(self)

    def test_large_informative_error(self) -> None:
        """A very large error is passed on when there is nobody else to ask."""
        world = self.make("a")
        client = world.submit()
        world.last("a").begin(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"odd","data":"')
        self.assertEqual(client.said, ["begin"])

    def test_opaque_post(self) -> None:
        """A foreign answer to a foreign POST streams whatever its status."""
        world = self.make("a b")
        client = world.submit(opaque=b"POST", body=b"query", target=b"/graphql")
        world.last("a").begin(b"<html>", status=503)
        self.assertEqual(client.said, ["begin"])

    def test_client_does_not_read(self) -> None:
        """Time in which the client does not read counts against nobody; reading goes on when it does."""
        world = self.make("a b", request_timeout_seconds=100.0)
        client = world.submit()
        assert client.exchange is not None
        world.last("a").begin(self.BEGINNING)
        world.router.pause(client.exchange)
        world.last("a").sink.progressed()  # what was read already
        world.pass_time(60, 1)
        self.assertEqual(client.said, ["begin"])
        world.router.resume(client.exchange)
        self.assertEqual([e for e in world.events if e[1] in ("pause", "resume")], [("a", "pause"), ("a", "resume")])
        world.pass_time(29, 1)
        self.assertEqual(client.said, ["begin"])
        world.pass_time(2, 1)
        self.assertEqual((client.said, world.blames), (["begin", "abort"], [("a", False)]))

    def test_whole_time_of_a_slow_reader(self) -> None:
        """A client that reads too slowly for the whole request's time is cut off, and its node is not blamed."""
        world = self.make("a b")
        client = world.submit()
        assert client.exchange is not None
        world.last("a").begin(self.BEGINNING)
        world.router.pause(client.exchange)
        world.pass_time(61, 1)
        self.assertEqual((client.said, world.blames), (["begin", "abort"], []))
        world.check_idle(self)

    def test_pause_before_commit(self) -> None:
        """Before the answer is the client's, its pace is no reason to stop reading."""
        world = self.make("a b")
        client = world.submit()
        assert client.exchange is not None
        world.router.pause(client.exchange)
        world.router.resume(client.exchange)
        self.assertEqual(world.events, [("a", "send")])


class AllFailTests(RoutingTestCase):
    def fail_all(self, *fails: Any, **config: Any) -> Client:
        world = self.make("abcdef"[: len(fails)].replace("", " ").strip(), rpc_retries=0, **config)
        client = world.submit()
        for fail in fails:
            fail(world.last(world.sends[-1]))
        return client

    def test_first_informative_error(self) -> None:
        """The first informative error of a node goes to the client verbatim."""
        client = self.fail_all(
            lambda s: s.fail(Fault.DISCONNECTED),
            lambda s: s.error(-32000, "missing trie node"),
            lambda s: s.error(-32603, "boom"),
        )
        self.assertEqual((client.said, client.node), (["answer"], "b"))
        self.assertEqual(client.body, b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"missing trie node"}}')

    def test_rate_limited(self) -> None:
        """Only 429s: 429 with the smallest Retry-After."""
        limited = [lambda s, n=n: s.answer(b"", 429, ((b"retry-after", n),)) for n in (b"30", b"7", b"12")]
        client = self.fail_all(*limited)
        self.assertRefused(client, 429, -32005)
        self.assertEqual(client.refusal.retry_after_seconds, 7)

    def test_rate_limited_in_the_body(self) -> None:
        """A limit told as JSON-RPC counts the same; one without a time means a second."""
        client = self.fail_all(
            lambda s: s.error(-32005, "request rate exceeded"), lambda s: s.error(-32000, "rate limit exceeded")
        )
        self.assertRefused(client, 429, -32005)
        self.assertEqual(client.refusal.retry_after_seconds, 1)

    def test_mixed(self) -> None:
        """Limits and dead nodes together are 502, in whichever order they come."""
        dead, limited = (lambda s: s.fail(Fault.GARBAGE)), (lambda s: s.answer(b"", 429))
        self.assertRefused(self.fail_all(dead, limited), 502, -32013)
        self.assertRefused(self.fail_all(limited, dead), 502, -32013)

    def test_odd_retry_after(self) -> None:
        """A Retry-After that cannot be read is none; one of a year is an hour."""
        for value, seconds in ((b"soon", 1), (b"-1", 1), (b"99999999999", 1), (b"\xb2", 1), (b"31536000", 3600)):
            client = self.fail_all(lambda s, value=value: s.answer(b"", 429, ((b"retry-after", value),)))
            self.assertEqual(client.refusal.retry_after_seconds, seconds, value)

    def test_deadline(self) -> None:
        """Time that is up is 504, also when another node was dead."""
        timeout = lambda s: self.world.pass_time(5.1, 0.1)  # noqa: E731
        self.assertRefused(self.fail_all(timeout, lambda s: s.fail(Fault.GARBAGE)), 504, -32015)
        self.assertRefused(self.fail_all(lambda s: s.fail(Fault.GARBAGE), timeout), 504, -32015)

    def test_transport_faults(self) -> None:
        """Only transport faults or garbage: 502."""
        client = self.fail_all(lambda s: s.fail(Fault.DISCONNECTED), lambda s: s.answer(b"<html>", 500))
        self.assertRefused(client, 502, -32013)

    def test_nobody_eligible(self) -> None:
        """Nobody eligible: 503 at once, in the original's words, with the reason."""
        world = self.make("a", fallback="f", ready=False)
        world.pass_time(3.1, 0.1)
        client = world.submit()
        self.assertRefused(client, 503, -32011)
        self.assertTrue(client.said[0][2].startswith("No valid endpoint available for network net"))
        world.check_idle(self)

    def test_uncounted(self) -> None:
        """A request that no node was asked about is not counted as proxied."""
        world = self.make("a", ready=False)
        world.pass_time(3.1, 0.1)
        world.submit()
        self.assertEqual((world.router.stats.requests, world.router.stats.refusals[503]), (0, 1))


class NullTests(RoutingTestCase):
    PARAMS = b'["0x64",false]'

    def test_asked_once_elsewhere(self) -> None:
        """A null block that the chainhead has reached is asked once elsewhere, and nobody is blamed."""
        world = self.make("a b c")
        client = world.submit("eth_getBlockByNumber", self.PARAMS)
        world.last("a").result(b"null")
        self.assertEqual((world.sends, client.said), ("ab", []))
        world.last("b").result(b'{"number":"0x64"}')
        self.assertEqual((client.node, world.blames, world.order), ("b", [], "abc"))

    def test_null_twice(self) -> None:
        """What was announced is asked of all nodes; after a pause, a null is believed."""
        world = self.make("a b c")
        client = world.submit("eth_getBlockByNumber", self.PARAMS)
        for name in "abc":
            world.last(name).result(b"null")
        self.assertEqual((world.sends, client.said), ("abc", []))
        world.pass_time(0.55)
        self.assertEqual((world.sends, client.said), ("abca", []))
        world.last("a").result(b"null")
        self.assertEqual((client.said, client.node), (["answer"], "a"))
        world.check_idle(self)

    def test_there_after_a_pause(self) -> None:
        """The block comes a moment later."""
        world = self.make("a", block_time_seconds=12.0)
        client = world.submit("eth_getBlockByNumber", self.PARAMS)
        world.last("a").result(b"null")
        world.pass_time(1.95)
        self.assertEqual(world.sends, "a")
        world.pass_time(0.1)
        world.last("a").result(b'{"number":"0x64"}')
        self.assertIn(b"0x64", client.body)
        self.assertEqual((world.sends, world.blames), ("aa", []))

    def test_elsewhere_fails(self) -> None:
        """When nobody else can say, the null is the answer."""
        world = self.make("a b", rpc_retries=0)
        client = world.submit("eth_getBlockByNumber", self.PARAMS)
        world.last("a").result(b"null")
        world.last("b").fail(Fault.DISCONNECTED)
        world.pass_time(0.55)
        world.last("a").fail(Fault.DISCONNECTED)
        world.last("b").fail(Fault.DISCONNECTED)
        self.assertEqual((client.said, client.node), (["answer"], "a"))
        self.assertIn(b"null", client.body)

    def test_nobody_else(self) -> None:
        """A lone node's null for what was not announced is the answer at once."""
        world = self.make("a")
        client = world.submit("eth_getBlockByNumber", b'["0x65",false]')
        world.last("a").result(b"null")
        self.assertEqual((client.said, world.sends), (["answer"], "a"))
        world.check_idle(self)

    def test_beyond_the_head(self) -> None:
        """A null for a block beyond the chainhead is right."""
        world = self.make("a b")
        client = world.submit("eth_getBlockByNumber", b'["0x65",false]')
        world.last("a").result(b"null")
        self.assertEqual((client.said, world.sends), (["answer"], "a"))


class FilterTests(RoutingTestCase):
    def with_filter(self, **config: Any) -> World:
        """A world where ``b`` holds the filter 0xf, and ``a`` is first of the order again."""
        world = self.make("a b", **config)
        world.submit()
        world.last("a").fail(Fault.DISCONNECTED)
        world.last("b").result()
        world.submit("eth_newFilter", b"[{}]")
        world.last("b").result(b'"0xf"')
        world.poll("a")
        self.assertEqual(world.order, "ab")
        world.events.clear()
        world.blames.clear()
        return world

    def test_keeps_to_its_node(self) -> None:
        """Uses of a filter go to the node that made it, and so does the making of new ones."""
        world = self.with_filter()
        for method, params in (
            ("eth_getFilterChanges", b'["0xf"]'),
            ("eth_getFilterLogs", b'["0xf"]'),
            ("eth_newBlockFilter", b"[]"),
            ("eth_uninstallFilter", b'["0xf"]'),
            ("eth_getBalance", b'["0xf"]'),
            ("eth_getFilterChanges", b'["0xe"]'),
            ("eth_getFilterChanges", b"[{}]"),
        ):
            world.submit(method, params)
        self.assertEqual(world.sends, "bbbbaaa")

    def test_batch(self) -> None:
        """A batch that uses a filter goes there too, and filters made in a batch are learnt."""
        world = self.with_filter()
        world.submit(body=b"[" + call_body("eth_chainId") + b"," + call_body("eth_getFilterLogs", b'["0xf"]') + b"]")
        self.assertEqual(world.sends, "b")
        world = self.make("a b")
        world.submit(body=b"[" + call_body("eth_newFilter", b"[{}]", b'"x"') + b"]")
        world.last("a").answer(b'[{"jsonrpc":"2.0","id":"x","result":"0x7"}]')
        self.assertEqual(world.router.filters.holder(b"0x7", 0.0), world.nodes["a"])

    def test_odd_ids(self) -> None:
        """A filter's id that makes no sense is none, in answers and in requests."""
        world = self.make("a b")
        for result in (b"null", b"7", b"[]"):
            world.submit("eth_newFilter", b"[{}]")
            world.last("a").result(result)
        self.assertEqual(len(world.router.filters), 0)
        world = self.with_filter()
        for params in (b"{}", b"[]", b"[null]", b'[["0xf"]]', b"null"):
            world.submit("eth_getFilterChanges", params)
        self.assertEqual(world.sends, "aaaaa")

    def test_uninstalled(self) -> None:
        """A filter that was uninstalled is forgotten; one that the node did not remove is not."""
        world = self.with_filter()
        world.submit("eth_uninstallFilter", b'["0xf"]')
        world.last("b").result(b"false")
        self.assertEqual(len(world.router.filters), 1)
        world.submit("eth_uninstallFilter", b'["0xf"]')
        world.last("b").result(b"true")
        self.assertEqual(len(world.router.filters), 0)

    def test_not_asked_elsewhere(self) -> None:
        """While the holder may serve, nobody else is asked: another's filter of that id is another client's."""
        world = self.with_filter(rpc_retries=1)
        client = world.submit("eth_getFilterLogs", b'["0xf"]')
        world.last("b").fail(Fault.DISCONNECTED)
        world.pass_time(0.11)
        self.assertEqual(world.sends, "bb")
        world.last("b").fail(Fault.DISCONNECTED)
        self.assertRefused(client, 502, -32013)
        self.assertEqual(world.sends, "bb")
        world.check_idle(self)

    def test_holder_full(self) -> None:
        """A use waits for a holder that is full, while others pass it by."""
        world = self.with_filter(
            nodes=(node_config("a"), node_config("b", max_concurrency=1)),
        )
        first = world.submit("eth_getFilterChanges", b'["0xf"]')
        second = world.submit("eth_getFilterChanges", b'["0xf"]')
        third = world.submit()
        self.assertEqual((world.sends, world.router.stats.queued), ("ba", 1))
        world.last("b").result(b"[]")
        world.pass_time(0.01)
        self.assertEqual(world.sends, "bab")
        world.last("b").result(b"[]")
        world.last("a").result()
        self.assertEqual([first.said, second.said, third.said], [["answer"]] * 3)
        world.pass_time(0.05)
        world.check_idle(self)

    def test_holder_gone(self) -> None:
        """When the holder may not serve, another node says that it does not know the filter."""
        world = self.with_filter()
        for _ in range(2):
            world.publish(world.network.observe_poll_failure(world.nodes["b"], "x", world.clock.seconds(), final=True))
        client = world.submit("eth_getFilterChanges", b'["0xf"]')
        world.last("a").error(-32000, "filter not found")
        self.assertEqual((world.sends, client.said), ("a", ["answer"]))


class ClientGoneTests(RoutingTestCase):
    def test_cancels(self) -> None:
        """When the client leaves, upstream work ends and nobody is blamed."""
        world = self.make("a b")
        client = world.submit()
        world.leave(client)
        self.assertEqual((world.events, world.blames), ([("a", "send"), ("a", "cancel")], []))
        self.assertEqual((client.said, world.router.stats.failed[0, MethodClass.FAST, "client_left"]), ([], 1))
        world.check_idle(self)

    def test_while_pausing(self) -> None:
        """A client that leaves before a node is asked again takes the timer with it."""
        world = self.make("a")
        client = world.submit()
        world.last("a").fail()
        world.leave(client)
        world.pass_time(1)
        self.assertEqual(world.sends, "a")
        self.assertEqual(world.clock.getDelayedCalls(), [])
        world.check_idle(self)

    def test_while_waiting(self) -> None:
        """A client that leaves the queue leaves no trace."""
        world = self.make("a", ready=False)
        client = world.submit()
        world.leave(client)
        world.check_idle(self)
        world.poll()
        self.assertEqual(world.sends, "")
        world.pass_time(0.05)
        self.assertEqual(world.clock.getDelayedCalls(), [])


class CapacityTests(RoutingTestCase):
    def small(self, *capacities: int, **config: Any) -> World:
        nodes = tuple(
            node_config(name, max_concurrency=capacity) for name, capacity in zip("abc", capacities, strict=False)
        )
        return self.make(nodes=nodes, **config)

    def test_next_in_order(self) -> None:
        """A full node's requests go to the next in the order."""
        world = self.small(1, 2)
        for _ in range(3):
            world.submit()
        self.assertEqual(world.sends, "abb")

    def test_queue(self) -> None:
        """When all are full, requests wait, and are served first come first served."""
        world = self.small(1)
        clients = [world.submit(params=b"[%d]" % number) for number in range(4)]
        self.assertEqual((world.sends, world.router.stats.queued), ("a", 3))
        for number, client in enumerate(clients):
            self.assertIn(b"[%d]" % number, world.last("a").body)
            world.last("a").result()
            self.assertEqual(client.said, ["answer"])
            world.clock.advance(0)
        world.check_idle(self)

    def test_no_overtaking(self) -> None:
        """A request that comes when a node has just got room waits behind those that waited longer."""
        world = self.small(1)
        world.submit()
        waiting = world.submit(params=b"[2]")
        world.last("a").result()
        late = world.submit(params=b"[3]")
        world.clock.advance(0)
        self.assertIn(b"[2]", world.last("a").body)
        world.last("a").result()
        world.clock.advance(0)
        world.last("a").result()
        self.assertEqual((waiting.said, late.said), (["answer"], ["answer"]))

    def test_deadline(self) -> None:
        """Who waits until the deadline gets 504."""
        world = self.small(1, request_timeout_seconds=4.0, rpc_timeout_seconds=30.0)
        world.submit("eth_call")
        client = world.submit()
        world.pass_time(4.1, 0.1)
        self.assertRefused(client, 504, -32015)
        self.assertEqual(world.sends, "a")

    def test_short_time_left(self) -> None:
        """A node that got what waited with hardly any time left is not blamed for not making it."""
        world = self.small(1, request_timeout_seconds=4.0, queue_timeout_seconds=60.0)
        world.submit("eth_call")
        client = world.submit()
        world.pass_time(3.9, 0.1)
        world.last("a").result()
        world.pass_time(0.3)
        self.assertRefused(client, 504, -32015)
        self.assertEqual((world.sends, world.blames), ("aa", []))

    def test_retry_waits_for_a_full_node(self) -> None:
        """A request whose next node is full waits for it rather than fail; others go on."""
        world = self.small(5, 1)
        world.submit()
        world.last("a").fail(Fault.GARBAGE)  # the first now holds b, which is first of the order
        client = world.submit()
        self.assertEqual(world.sends, "aba")
        world.last("a").fail(Fault.GARBAGE)
        self.assertEqual((client.said, world.sends, world.router.stats.queued), ([], "aba", 1))
        world.last("b").result()
        world.clock.advance(0)
        self.assertEqual(world.sends, "abab")
        world.last("b").result()
        self.assertEqual(client.said, ["answer"])
        world.check_idle(self)

    def test_trial_when_all_are_full(self) -> None:
        """A node that is due to be tried again is, also while requests queue for the others."""
        world = self.small(5, 1)
        for _ in range(2):
            world.poll("a")
            world.submit()
            world.last("a").fail(Fault.DISCONNECTED)
            world.last("b").result()
        self.assertEqual(world.order, "b")
        world.events.clear()
        world.submit()
        world.submit()
        self.assertEqual(world.sends, "b")
        world.pass_time(1.01)
        world.submit()
        self.assertEqual(world.sends, "ba")

    def test_too_many(self) -> None:
        """The queue is bounded."""
        self.patch(waiting, "MAX_QUEUED", 2)
        world = self.small(1)
        clients = [world.submit() for _ in range(4)]
        self.assertRefused(clients[3], 503, -32011)
        self.assertEqual(world.router.stats.queued, 2)

    def test_nodes_vanish(self) -> None:
        """Those who wait are refused when nobody may serve any more."""
        world = self.small(1)
        world.submit()
        client = world.submit()
        for _ in range(2):
            world.publish(world.network.observe_poll_failure(world.nodes["a"], "x", world.clock.seconds(), final=True))
        self.assertRefused(client, 503, -32011)


class FirstPollTests(RoutingTestCase):
    def test_waits_for_the_first_poll(self) -> None:
        """Before a node of the preferred role has answered, requests wait."""
        world = self.make("a", fallback="f", ready=False, switch_to_fallback_enabled=True)
        clients = [world.submit(), world.submit("eth_call"), world.submit("eth_sendTransaction")]
        world.poll("f")
        self.assertEqual(world.sends, "")
        world.pass_time(0.5)
        world.poll("a")
        self.assertEqual((world.sends, [client.said for client in clients]), ("aaa", [[], [], []]))

    def test_three_seconds(self) -> None:
        """They wait for 3 s and no longer, then take whoever serves."""
        world = self.make("a", fallback="f", ready=False, switch_to_fallback_enabled=True)
        world.submit()
        world.poll("f")
        world.pass_time(2.9, 0.1)
        self.assertEqual(world.sends, "")
        world.pass_time(0.2, 0.1)
        self.assertEqual(world.sends, "f")

    def test_nobody_in_three_seconds(self) -> None:
        """With nobody there they are refused then."""
        world = self.make("a", ready=False)
        client = world.submit()
        world.pass_time(3.1, 0.1)
        self.assertRefused(client, 503, -32011)
        world.check_idle(self)


class OpaqueTests(RoutingTestCase):
    def test_passes(self) -> None:
        """What is not JSON-RPC passes with method, target and body, whatever its status."""
        world = self.make("a b")
        client = world.submit(opaque=b"GET", body=b"", target=b"/x?y=1")
        sent = world.last("a")
        self.assertEqual((sent.method, sent.target), (b"GET", b"/x?y=1"))
        sent.answer(b"nothing", 404)
        self.assertEqual((client.said, client.head.status, world.blames), (["answer"], 404, []))

    def test_gateway_errors(self) -> None:
        """A GET that meets a gateway's error is tried elsewhere; a foreign POST is passed its answer."""
        world = self.make("a b")
        world.submit(opaque=b"GET", body=b"")
        world.last("a").answer(b"", 503)
        self.assertEqual((world.sends, world.blames), ("ab", []))
        client = world.submit(opaque=b"POST", body=b"x")
        world.last("a").answer(b"", 503)
        self.assertEqual(client.said, ["answer"])


class SweepTests(RoutingTestCase):
    def test_timer_survives(self) -> None:
        """An error while deadlines are looked at does not stop the looking."""
        world = self.make("a b")
        client = world.submit()
        sweep, world.deadlines.sweep = world.deadlines.sweep, lambda: 1 / 0  # type: ignore[method-assign,assignment]
        self.assertRaises(ZeroDivisionError, world.clock.advance, 0.01)
        world.deadlines.sweep = sweep  # type: ignore[method-assign]
        world.pass_time(5.1)
        self.assertEqual(world.sends, "ab")
        world.last("b").result()
        self.assertEqual(client.said, ["answer"])

    def test_timer_ends(self) -> None:
        """Nothing ticks while nothing is in flight."""
        world = self.make("a")
        world.submit()
        world.last("a").result()
        world.pass_time(0.05)
        self.assertEqual(world.clock.getDelayedCalls(), [])


METHODS = (
    ("eth_getBalance", b"[]"),
    ("eth_call", b"[]"),
    ("eth_sendTransaction", b"[]"),
    ("eth_getBlockByNumber", b'["0x1",false]'),
    ("eth_newFilter", b"[{}]"),
    ("eth_getFilterLogs", b'["0xf"]'),
    ("eth_getFilterChanges", b'["0xf"]'),
)
BODIES = (
    RESULT,
    JSON_500,
    b'{"jsonrpc":"2.0","id":1,"result":null}',
    b'{"jsonrpc":"2.0","id":1,"result":"0xf"}',
    b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"header not found"}}',
    b"<html>",
    b"",
)


class Scripts(RuleBasedStateMachine):
    """Random scripts of requests, outcomes, time and clients that leave: whatever happens, nothing leaks."""

    def __init__(self) -> None:
        super().__init__()
        nodes = (
            node_config("a", max_concurrency=1),
            node_config("b", max_concurrency=1),
            node_config("f", Role.FALLBACK, max_concurrency=1),
        )
        self.world = World(nodes=nodes, rpc_retries=2, switch_to_fallback_enabled=True, request_timeout_seconds=12.0)
        self.clients: list[Client] = []
        self.gone: list[Client] = []
        self.outcomes = 0

    @property
    def open(self) -> list[Client]:
        return [client for client in self.clients if not client.ended and client not in self.gone]

    def pick(self, place: int) -> Sent:
        attempts = list(self.world.deadlines.watched)
        attempt = attempts[place % len(attempts)]
        return next(sent for spy in self.world.spies.values() for sent in spy.sent if sent.sink is attempt)

    @rule(method=st.sampled_from(METHODS), batched=st.booleans())
    def submit(self, method: tuple[str, bytes], batched: bool) -> None:
        body = call_body(*method)
        self.clients.append(self.world.submit(body=b"[" + body + b"]" if batched else body))

    @precondition(lambda self: self.world.deadlines.watched)
    @rule(place=st.integers(0, 9), body=st.sampled_from(BODIES), status=st.sampled_from((200, 200, 429, 400, 502)))
    def answer(self, place: int, body: bytes, status: int) -> None:
        sent = self.pick(place)
        if sent.sink.stage < STREAMING:
            self.outcomes += 1
            sent.answer(b"[" + body + b"]" if sent.body[:1] == b"[" else body, status)

    @precondition(lambda self: self.world.deadlines.watched)
    @rule(place=st.integers(0, 9), fault=st.sampled_from((Fault.UNREACHABLE, Fault.DISCONNECTED, Fault.GARBAGE)))
    def fail(self, place: int, fault: Fault) -> None:
        self.outcomes += 1
        self.pick(place).fail(fault)

    @precondition(lambda self: self.world.deadlines.watched)
    @rule(place=st.integers(0, 9), good=st.booleans())
    def begin(self, place: int, good: bool) -> None:
        sent = self.pick(place)
        if sent.sink.stage < STREAMING:
            sent.begin(CommitTests.BEGINNING if good else b"<html>")

    @precondition(lambda self: self.world.deadlines.watched)
    @rule(place=st.integers(0, 9), end=st.booleans())
    def stream(self, place: int, end: bool) -> None:
        sent = self.pick(place)
        if sent.sink.stage >= STREAMING:
            sent.sink.streamed(b"x")
            if end:
                self.outcomes += 1
                sent.sink.ended()
            else:
                sent.sink.progressed()
        else:
            sent.sink.progressed()

    @precondition(lambda self: self.open)
    @rule(place=st.integers(0, 9))
    def leave(self, place: int) -> None:
        client = self.open[place % len(self.open)]
        self.gone.append(client)
        self.world.leave(client)

    @precondition(lambda self: self.open)
    @rule(place=st.integers(0, 9), pause=st.booleans())
    def pace(self, place: int, pause: bool) -> None:
        exchange = self.open[place % len(self.open)].exchange
        assert exchange is not None
        (self.world.router.pause if pause else self.world.router.resume)(exchange)

    @rule(name=st.sampled_from("abf"), good=st.booleans())
    def poll(self, name: str, good: bool) -> None:
        if good:
            self.world.poll(name)
        else:
            world = self.world
            now = world.clock.seconds()
            world.publish(world.network.observe_poll_failure(world.nodes[name], "x", now, final=True))

    @rule(seconds=st.sampled_from((0.0, 0.02, 0.2, 1.1, 5.1)))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @invariant()
    def counts_agree(self) -> None:
        world = self.world
        attempts = [attempt.node for attempt in world.deadlines.watched]
        for node in world.nodes.values():
            assert node.in_flight == attempts.count(node), (node.name, node.in_flight)
            assert node.in_flight <= node.capacity
        assert world.router.stats.in_flight == len(self.open)
        for client in self.gone:
            assert not client.ended

    def teardown(self) -> None:
        world = self.world
        for _ in range(1400):  # past every deadline, however it was paused
            if not self.open and not world.clock.getDelayedCalls():
                break
            world.clock.advance(0.5)
        assert not self.open, [client.said for client in self.clients]
        assert not world.deadlines.watched
        assert not world.router.stats.in_flight
        assert not world.router.stats.queued
        assert not any(node.in_flight for node in world.nodes.values())
        assert world.clock.getDelayedCalls() == []
        cancels = sum(what == "cancel" for _, what in world.events)
        assert len(world.sends) == self.outcomes + cancels, "a sending neither ended nor was cancelled"


class LeakTests(SynchronousTestCase):
    def test_random_scripts(self) -> None:
        """Whatever happens in whatever order, each exchange ends once and nothing is left behind."""
        run_property(
            lambda: run_state_machine_as_test(  # type: ignore[no-untyped-call]
                Scripts,
                settings=settings(
                    max_examples=250,
                    stateful_step_count=50,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        )
