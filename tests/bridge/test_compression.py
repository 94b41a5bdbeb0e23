"""permessage-deflate (RFC 7692), where it is allowed and offered."""

from __future__ import annotations

import zlib

from twisted.trial.unittest import SynchronousTestCase

from tests.bridge.support import BridgeWorld, HubSpy, call, frame, request

OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
TAIL = b"\x00\x00\xff\xff"


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


class Compression(SynchronousTestCase):
    def setUp(self) -> None:
        self.hub = HubSpy()
        self.world = BridgeWorld("a", hub=self.hub, websocket={"compression": True, "max_message_bytes": 2000})
        self.guest = self.world.open(OFFER)
        self.unpacker = zlib.decompressobj(wbits=-15)

    def inflated(self) -> bytes:
        """The one compressed message that came."""
        [(first, payload)] = self.guest.frames()
        self.assertEqual(first, 0xC1)
        return self.unpacker.decompress(payload + TAIL)

    def test_negotiated(self) -> None:
        """Accepted where it is offered, and nowhere else."""
        for lines, accepted in (((OFFER,), True), ((), False), ((b"Sec-WebSocket-Extensions: x-other",), False)):
            guest = self.world.visit()
            guest.send(request(*lines))
            self.assertIs(b"Sec-WebSocket-Extensions: permessage-deflate" in guest.take(), accepted)

    def test_both_ways(self) -> None:
        """Compressed calls are read, plain ones too; answers are compressed, one after another."""
        self.guest.send(frame(deflated(call()), rsv=4))
        self.guest.say(call(call_id=b"2"))
        self.assertEqual([request.body for request in self.world.spies["a"].sent], [call(), call(call_id=b"2")])
        for place, call_id in enumerate((b"1", b"2")):
            self.world.spies["a"].sent[place].result(request_id=call_id)
            self.assertEqual(self.inflated(), b'{"jsonrpc":"2.0","id":%b,"result":"0x1"}' % call_id)

    def test_larger_than_messages_may_be(self) -> None:
        """The limit is one on what clients send: a longer answer is sent, plain."""
        self.guest.say(call())
        self.world.spies["a"].last.result(b'"%b"' % (b"x" * 3000))
        self.assertEqual(len(self.guest.answers()[0]["result"]), 3000)

    def test_events(self) -> None:
        """Events are framed once for all their subscribers, and so are not compressed."""
        self.guest.say(call("eth_subscribe"))
        self.inflated()
        self.hub.subscribers[0].notify(b"a", b"b", b"c")
        self.assertEqual(self.guest.texts(), [b"abc"])

    def test_bomb(self) -> None:
        """What unpacks to more than a message may have is refused, as one that is too large: 1009."""
        self.guest.send(frame(deflated(b"x" * 1_000_000), rsv=4))
        self.assertEqual((self.guest.closed[0], self.guest.state), (1009, "half"))

    def test_garbage(self) -> None:
        """What cannot be unpacked is 1007."""
        self.guest.send(frame(b"\xff\xff\xff", rsv=4))
        self.assertEqual(self.guest.closed[0], 1007)

    def test_slow(self) -> None:
        """A client that does not read is closed, compression or not."""
        self.world.limit(max_queue_bytes=1)
        self.guest.transport.room = 10
        self.guest.say(call())
        self.world.spies["a"].last.result()
        self.inflated()
        self.guest.socket.send_text(b"x")
        self.assertEqual(self.guest.closed[0], 1013)
