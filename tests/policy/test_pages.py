"""Pages: of which origin they may ask, and under which names of the server."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.policy.pages import Hosts, Origins
from tests.support import run_property


class OriginTests(SynchronousTestCase):
    def test_same_origin(self) -> None:
        """Host and port are those that are asked; a scheme's default port may be left out on either side."""
        origins = Origins()
        for origin, host in (
            (b"http://rpc.example", b"rpc.example"),
            (b"https://rpc.example", b"rpc.example"),
            (b"https://rpc.example", b"rpc.example:443"),
            (b"http://rpc.example:80", b"rpc.example"),
            (b"http://RPC.example:8080", b"rpc.EXAMPLE:8080"),
            (b"http://127.0.0.1:8080", b"127.0.0.1:8080"),
            (b"http://[::1]:8080", b"[::1]:8080"),
        ):
            self.assertTrue(origins.permit(origin, host), (origin, host))

    def test_other_origins(self) -> None:
        """Everything else is another origin, also what only looks alike, and what is no origin at all."""
        origins = Origins()
        for origin, host in (
            (b"https://evil.example", b"rpc.example"),
            (b"http://rpc.example:8080", b"rpc.example"),
            (b"http://rpc.example", b"rpc.example:8080"),
            (b"http://rpc.example:443", b"rpc.example"),
            (b"http://rpc.example.evil", b"rpc.example"),
            (b"http://evil.example/rpc.example", b"rpc.example"),
            (b"http://rpc.example@evil", b"rpc.example"),
            (b"chrome-extension://rpc.example", b"rpc.example"),
            (b"file://", b"rpc.example"),
            (b"null", b"null"),
            (b"rpc.example", b"rpc.example"),
            (b"http://", b""),
            (b"http://a", b""),
        ):
            self.assertFalse(origins.permit(origin, host), (origin, host))

    def test_listed(self) -> None:
        """Origins that are listed may ask whatever host; * means all, and who sends no Origin is no page."""
        origins = Origins(("https://app.example",), ("null",))
        for origin, permitted in (
            (b"https://app.example", True),
            (b"null", True),
            (b"https://app.example:8443", False),
        ):
            self.assertIs(origins.permit(origin, b"x"), permitted)
        self.assertTrue(Origins().permit(b"", b"x"))
        self.assertTrue(Origins((), ("*",)).permit(b"file://", b"x"))

    def test_several_hosts(self) -> None:
        """A proxy may have changed the Host: what it was counts as well."""
        self.assertTrue(Origins().permit(b"https://rpc.example", b"evmlb:8080", b"rpc.example"))
        self.assertFalse(Origins().permit(b"https://rpc.example", b"evmlb:8080", b""))

    def test_any_bytes(self) -> None:
        """Whatever the headers say, the answer is yes or no; two that differ before the port are never the same."""

        @given(st.binary(max_size=40), st.binary(max_size=40))
        def check(origin: bytes, host: bytes) -> None:
            permitted = Origins().permit(origin, host)
            Hosts(("x",)).permit(host)
            if permitted and origin:
                name = host.rpartition(b":")[0] if host[-1:].isdigit() and b":" in host else host
                self.assertIn(name.decode("latin-1").lower(), origin.decode("latin-1").lower())

        run_property(check)


class HostTests(SynchronousTestCase):
    def test_names(self) -> None:
        """The names that are listed are taken, whatever the port and the case; others are not."""
        hosts = Hosts(("rpc.example", "localhost"))
        for host in (b"rpc.example", b"RPC.EXAMPLE:8080", b"localhost:1", b"rpc.example.", b""):
            self.assertTrue(hosts.permit(host), host)
        for host in (b"evil.example", b"rpc.example.evil", b"x:8080", b"rpc.example@evil", b"a b", b"rpc.example:port"):
            self.assertFalse(hosts.permit(host), host)

    def test_addresses(self) -> None:
        """An address is no name that could be made to resolve to another one."""
        for host in (b"127.0.0.1", b"10.0.0.1:8080", b"[::1]:8080", b"[2001:db8::1]"):
            self.assertTrue(Hosts(("rpc.example",)).permit(host), host)
        self.assertFalse(Hosts(("rpc.example",)).permit(b"127.0.0.1.evil.example"))

    def test_none(self) -> None:
        """Without a list any name will do."""
        self.assertTrue(Hosts(()).permit(b"evil.example"))
