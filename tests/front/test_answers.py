"""The heads of answers to clients."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import CorsConfig
from evmlb.errors import BAD_UPSTREAM, OVER_MEMORY
from evmlb.front import answers as answers_module
from evmlb.front.answers import Answers
from evmlb.front.cors import cors_of
from evmlb.network import Network
from evmlb.wire.http1 import read_request_head
from tests.support import FakeHead, config, network_config


def request(*lines: bytes, first: bytes = b"POST /net HTTP/1.1") -> Any:
    return read_request_head(b"\r\n".join((first, b"Host: x", *lines, b"", b"")))


class AnswersTests(SynchronousTestCase):
    def make(self, **settings: Any) -> Answers:
        configured = config(**settings)
        return Answers(configured, cors_of(configured.cors, lambda: 0.0))

    def test_common(self) -> None:
        """The common head is made once per node and type."""
        [node] = Network(network_config(), 0.0).nodes
        answers = self.make()
        head = answers.common(node.name, b"application/json")
        self.assertEqual(
            head,
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Evmlb-Node: a\r\nX-Evmlb-Attempts: 1\r\n"
            b"Content-Length: ",
        )
        self.assertIs(answers.common(node.name, b"application/json"), head)
        self.assertNotIn(b"Content-Type", answers.common(node.name, b""))

    def test_common_is_bounded(self) -> None:
        """A node that gives ever other types fills no memory."""
        self.patch(answers_module, "_MEMO_BYTES", 4000)
        [node] = Network(network_config(), 0.0).nodes
        answers = self.make()
        for number in range(50):
            self.assertIn(b"x/%d\r\n" % number, answers.common(node.name, b"x/%d" % number))
        self.assertLessEqual(len(answers._common), 20)
        self.assertIn(b"y" * 5000, answers.common(node.name, b"y" * 5000))
        self.assertNotIn((node.name, b"y" * 5000), answers._common)

    def test_head(self) -> None:
        """The uncommon head has what is uncommon, and no other header of the node's."""
        told = FakeHead(headers=((b"retry-after", b"5"), (b"set-cookie", b"x"), (b"server", b"geth")))
        head = self.make().head(request(), 200, told, "a", 3, True, False)
        self.assertEqual(
            head,
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nRetry-After: 5\r\nX-Evmlb-Node: a\r\n"
            b"X-Evmlb-Attempts: 3\r\nX-Evmlb-Degraded: true\r\nConnection: close\r\n",
        )

    def test_node_name(self) -> None:
        """A node's name that is not ASCII cannot break the head."""
        self.assertIn(b"X-Evmlb-Node: n?\r\n", self.make().head(request(), 200, FakeHead(), "nö", 1, False, True))

    def test_connection(self) -> None:
        """The Connection line is there where the version means something else by itself."""
        old = request(b"Connection: keep-alive", first=b"POST /net HTTP/1.0")
        for asked, stays, line in (
            (request(), True, b""),
            (request(), False, b"Connection: close\r\n"),
            (old, True, b"Connection: keep-alive\r\n"),
            (None, False, b"Connection: close\r\n"),
        ):
            self.assertTrue(self.make().plain(asked, 200, b"", stays).endswith(b"OK\r\n" + line))

    def test_refusal(self) -> None:
        """An answer of our own has its status, unless another one is configured for all."""
        head = self.make().refusal(request(), OVER_MEMORY, 0, True)
        self.assertEqual(
            head, b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
        )
        head = self.make(error_status=200).refusal(request(), BAD_UPSTREAM, 2, True)
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertIn(b"X-Evmlb-Attempts: 2\r\n", head)
        self.assertNotIn(b"Evmlb", self.make(answer_headers=False).refusal(request(), BAD_UPSTREAM, 2, True))

    def test_own_cors(self) -> None:
        """Our own word on CORS replaces the node's, for the origins that it is given to."""
        page = request(b"Origin: https://page")
        told = FakeHead(headers=((b"access-control-allow-origin", b"https://node"),))
        for origins, line in (
            (("https://page",), b"Access-Control-Allow-Origin: https://page\r\nVary: Origin\r\n"),
            (("*",), b"Access-Control-Allow-Origin: *\r\n"),
            (("https://other",), b""),
        ):
            answers = self.make(cors=CorsConfig(origins=origins))
            for head in (
                answers.head(page, 200, told, "a", 1, False, True),
                answers.refusal(page, BAD_UPSTREAM, 0, True),
            ):
                self.assertIn(line, head)
                self.assertNotIn(b"https://node", head)
                self.assertEqual(b"Access-Control" in head, bool(line))

    def test_preflight(self) -> None:
        """A preflight of a foreign origin is told nothing but that it depends on the origin."""
        cors = cors_of(CorsConfig(origins=("https://page",)), lambda: 0.0)
        self.assertEqual(cors.of_preflight(request(b"Origin: https://other")), b"Vary: Origin\r\n")
        self.assertIn(b"Access-Control-Max-Age: 86400\r\n", cors.of_preflight(request(b"Origin: https://page")) or b"")
