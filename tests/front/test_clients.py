"""Who the client is, as far as the peer can be believed."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import Config
from evmlb.front import clients as clients_module
from evmlb.front.clients import MAX_HOPS, UNIX_PEER, ClientAddresses, plain_address
from evmlb.memo import ENTRY_BYTES
from tests.support import config, run_property

TRUSTED: tuple[str, ...] = config().trusted_proxies


class ClientTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clients = ClientAddresses(TRUSTED)

    def test_client(self) -> None:
        """The client is the last address that is no trusted proxy's, if the peer is one; else the peer."""
        for peer, value, client in (
            ("8.8.8.8", b"", "8.8.8.8"),
            ("8.8.8.8", b"1.2.3.4", "8.8.8.8"),
            ("10.0.0.1", b"", "10.0.0.1"),
            ("10.0.0.1", b"1.2.3.4", "1.2.3.4"),
            ("10.0.0.1", b"9.9.9.9, 1.2.3.4", "1.2.3.4"),
            ("10.0.0.1", b"1.2.3.4,10.0.0.2 , 192.168.1.1", "1.2.3.4"),
            ("10.0.0.1", b"10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("127.0.0.1", b"2001:db8::1", "2001:db8::1"),
            ("::1", b"2001:DB8:0::1", "2001:db8::1"),
            ("10.0.0.1", b"unknown", "10.0.0.1"),
            ("10.0.0.1", b"1.2.3.4, unknown", "10.0.0.1"),
            ("10.0.0.1", b"1.2.3.4:5678", "10.0.0.1"),
            ("10.0.0.1", b",", "10.0.0.1"),
            (UNIX_PEER, b"1.2.3.4", "1.2.3.4"),
        ):
            self.assertEqual(self.clients.client(peer, value), client, (peer, value))
            self.assertEqual(self.clients.client(peer, value), client)

    def test_untrusting(self) -> None:
        """Without trusted proxies nobody speaks for others, but a UNIX peer."""
        self.assertEqual(ClientAddresses(()).client("127.0.0.1", b"1.2.3.4"), "127.0.0.1")

    def test_anything(self) -> None:
        """Whatever the header says, the client is an address or the peer, and the memo stays bounded."""
        self.patch(clients_module, "_MEMO_BYTES", 10 * ENTRY_BYTES)
        self.clients = ClientAddresses(TRUSTED)

        @given(st.binary(max_size=60))
        def check(value: bytes) -> None:
            self.assertTrue(self.clients.client("10.0.0.1", value))
            self.assertLessEqual(len(self.clients._memo), 10)

        run_property(check)

    def test_memory(self) -> None:
        """What is remembered of headers is bounded by its bytes, and a long one is not remembered."""
        for number in range(20_000):
            self.clients.client("10.0.0.1", b"1.2.3.4, " * 40 + b"10.1.%d.%d" % divmod(number, 256))
        self.assertLess(len(self.clients._memo) * 360, 1024 * 1024)
        self.clients.client("10.0.0.1", b"10.0.0.1, " * 6000)
        self.assertLess(max(len(value) for _, value in self.clients._memo), 512)

    def test_many_hops(self) -> None:
        """Of a long list only the last hops are read: a header of 59 KB costs no more than a short one."""
        read: list[str] = []
        trusted = self.clients.is_trusted
        self.patch(self.clients, "is_trusted", lambda address: read.append(address) or trusted(address))
        self.assertEqual(self.clients.client("10.0.0.1", b"10.0.0.2, " * 5900 + b"10.0.0.3"), "10.0.0.2")
        self.assertLessEqual(len(read), MAX_HOPS + 1)

    def test_line(self) -> None:
        """The line sent on continues a trusted peer's, and tells nothing of a UNIX peer."""
        for peer, value, line in (
            ("8.8.8.8", b"", b"X-Forwarded-For: 8.8.8.8\r\n"),
            ("8.8.8.8", b"1.2.3.4", b"X-Forwarded-For: 8.8.8.8\r\n"),
            ("10.0.0.1", b"1.2.3.4", b"X-Forwarded-For: 1.2.3.4, 10.0.0.1\r\n"),
            (UNIX_PEER, b"", b""),
            (UNIX_PEER, b"1.2.3.4", b"X-Forwarded-For: 1.2.3.4\r\n"),
        ):
            self.assertEqual(self.clients.line(peer, value), line)

    def test_plain_address(self) -> None:
        """An IPv4 client of a dual-stack socket is called by its IPv4 address."""
        for host, plain in (("::ffff:1.2.3.4", "1.2.3.4"), ("::1", "::1"), ("::ffff:0:1", "::ffff:0:1")):
            self.assertEqual(plain_address(host), plain)

    def test_mapped_peer_is_trusted(self) -> None:
        """So a proxy that comes over such a socket is trusted as what it is."""
        self.assertTrue(self.clients.is_trusted(plain_address("::ffff:10.0.0.1")))

    def test_defaults(self) -> None:
        """By default loopback and private ranges are trusted, public addresses are not."""
        self.assertEqual(Config(networks=()).trusted_proxies, TRUSTED)
        for address in ("127.0.0.1", "10.1.1.1", "172.31.0.1", "192.168.0.1", "::1", "fd00::1", "fe80::1"):
            self.assertTrue(self.clients.is_trusted(address), address)
        for address in ("8.8.8.8", "172.32.0.1", "2001:db8::1", "nonsense"):
            self.assertFalse(self.clients.is_trusted(address), address)
