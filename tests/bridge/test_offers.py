"""Offers of compression: which is accepted, which is declined, and that neither ends a handshake."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.bridge.offers import Malformed, accepted
from evmlb.config.schema import WebSocketMode
from tests.bridge.support import NONCE, UPGRADE, BridgeWorld, request
from tests.front.support import read_replies
from tests.support import run_property

DEFLATE = b"permessage-deflate"
DECLINED = (
    b"",
    b"x-other",
    b"permessage-deflate; foo",
    b"permessage-deflate; foo=bar",
    b"permessage-deflate; server_max_window_bits",
    b"permessage-deflate; server_max_window_bits=8",
    b"permessage-deflate; server_max_window_bits=7",
    b"permessage-deflate; server_max_window_bits=16",
    b"permessage-deflate; server_max_window_bits=010",
    b"permessage-deflate; client_max_window_bits=7",
    b"permessage-deflate; client_max_window_bits=16",
    b"permessage-deflate; client_no_context_takeover=1",
    b"permessage-deflate; server_no_context_takeover; server_no_context_takeover",
    b"permessage-deflate; client_max_window_bits; client_max_window_bits=10",
)
ACCEPTED = {
    DEFLATE: DEFLATE,
    b"PerMessage-Deflate": DEFLATE,
    b"permessage-deflate; client_max_window_bits": b"permessage-deflate; client_max_window_bits",
    b"permessage-deflate; client_max_window_bits=8": b"permessage-deflate; client_max_window_bits",
    b'permessage-deflate ; server_max_window_bits="9"': b"permessage-deflate; server_max_window_bits=9",
    b"permessage-deflate; server_no_context_takeover; client_no_context_takeover": (
        b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    ),
    b"permessage-deflate; foo, permessage-deflate": DEFLATE,
    b"x; a=b; a=c, , permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=10": (
        b"permessage-deflate; server_max_window_bits=10"
    ),
}
MALFORMED = (
    b";",
    b"a b",
    b"permessage-deflate;",
    b"permessage-deflate; =1",
    b'a; b="c',
    b"a; b=",
    b"[::1",
    b'a; b="c d"',
)


class OfferTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        """The first acceptable offer is answered, by its defined parameters."""
        for header, answer in ACCEPTED.items():
            self.assertEqual(accepted(header), answer, header)

    def test_declined(self) -> None:
        """What RFC 7692 says must be declined is, and so is a window that zlib cannot keep to."""
        for header in DECLINED:
            self.assertEqual(accepted(header), b"", header)

    def test_malformed(self) -> None:
        """What RFC 6455's grammar does not know is no offer."""
        for header in MALFORMED:
            self.assertRaises(Malformed, accepted, header)


class HandshakeTests(SynchronousTestCase):
    def _answer(self, header: bytes, compression: bool, path: bytes = b"/net") -> tuple[int, bytes]:
        world = BridgeWorld(websocket={"compression": compression})
        guest = world.visit()
        guest.send(request(b"Sec-WebSocket-Extensions: " + header, path=path))
        [reply] = read_replies(guest.take())
        return reply.status, reply.headers.get("sec-websocket-extensions", "").encode()

    def test_declined(self) -> None:
        """A handshake is never refused for its offers: 101, without them."""
        for header in (*DECLINED, *ACCEPTED):
            self.assertEqual(self._answer(header, compression=False), (101, b""), header)
        for header in DECLINED:
            self.assertEqual(self._answer(header, compression=True), (101, b""), header)

    def test_accepted(self) -> None:
        """Where compression is allowed, the one that is accepted is answered by autobahn as well."""
        for header in ACCEPTED:
            status, answer = self._answer(header, compression=True)
            self.assertEqual((status, answer[: len(DEFLATE)]), (101, DEFLATE), header)
            self.assertNotIn(b"client_max_window_bits", answer)

    def test_malformed(self) -> None:
        """RFC 6455, 9.1: a malformed header fails the connection."""
        for header in MALFORMED:
            for compression in (False, True):
                self.assertEqual(self._answer(header, compression), (400, b""), header)

    def test_any_offers(self) -> None:
        """Any list of well-formed offers is answered by 101; what is accepted, RFC 7692 permits."""
        token = st.sampled_from(
            ["foo", "client_max_window_bits", "server_max_window_bits", "server_no_context_takeover"]
        )
        value = st.sampled_from(["", "=8", "=9", "=15", '="10"', "=x", "=08"])
        parameter = st.tuples(token, value).map("".join)
        names = st.sampled_from(["permessage-deflate", "x-webkit-deflate-frame", "PERMESSAGE-DEFLATE"])
        offer = st.tuples(names, st.lists(parameter, max_size=3)).map(lambda each: "; ".join((each[0], *each[1])))
        headers = st.lists(offer, min_size=1, max_size=3).map(", ".join)

        @given(headers, st.booleans())
        def check(header: str, compression: bool) -> None:
            status, answer = self._answer(header.encode(), compression)
            self.assertEqual((status, bool(answer)), (101, compression and bool(accepted(header.encode()))))

        run_property(check)


class VersionTests(SynchronousTestCase):
    def test_other_versions(self) -> None:
        """Who does not speak version 13 is told that it is spoken here, also where WebSockets are passed through."""
        for mode in (WebSocketMode.SUBSCRIPTIONS, WebSocketMode.PASSTHROUGH):
            for lines in ((b"Sec-WebSocket-Version: 8",), (b"Sec-WebSocket-Version: x",), (), (UPGRADE[2], UPGRADE[2])):
                world = BridgeWorld()
                world.network.config = replace(world.network.config, websocket=mode)
                world.bridge.nodes = {"net": object()}  # type: ignore[dict-item]
                guest = world.visit()
                guest.send(request(first=(*UPGRADE[:2], *lines, NONCE)))
                [reply] = read_replies(guest.take())
                self.assertEqual((reply.status, reply.headers.get("sec-websocket-version")), (400, "13"))
