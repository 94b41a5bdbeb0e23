"""Endpoints and their masks."""

from __future__ import annotations

import base64
import string

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.urls import Endpoint, InvalidEndpoint, mask, mask_url, parse_endpoint

SECRETS = st.text(alphabet=string.ascii_letters + string.digits + "-_", min_size=16, max_size=64).filter(
    lambda s: any(c.isdigit() for c in s)
)
TOKENS = st.text(alphabet=string.ascii_letters + string.digits + "-_.~!$&'()*+,;=:%", min_size=16, max_size=64).filter(
    lambda s: any(c.isdigit() for c in s)
)
PASSWORDS = st.text(alphabet=string.ascii_letters + string.digits + "/?#:@&=%", min_size=8, max_size=30)


class Masking(SynchronousTestCase):
    def test_kinds(self) -> None:
        """User information, query values and key-like segments are masked; the rest stays readable."""
        key = "0123456789abcdef0123456789abcdef"
        cases = {
            "http://localhost:8545": "http://localhost:8545",
            "https://h/v3/" + key: f"https://h/v3/{mask(key)}",
            f"https://h/v3/{key}/": f"https://h/v3/{mask(key)}/",
            "https://h/eth-mainnet-archive/rpc": "https://h/eth-mainnet-archive/rpc",
            "https://u:p@h:1/x": f"https://{mask('u:p')}@h:1/x",
            "https://token@h": f"https://{mask('token')}@h",
            "https://h/?key=abc&b": f"https://h/?key={mask('abc')}&{mask('b')}",
            "https://h/?a=b=c": f"https://h/?a={mask('b=c')}",
            f"https://h/?{key}=1": f"https://h/?{mask(key)}={mask('1')}",
            "wss://[::1]:8546/ws": "wss://[::1]:8546/ws",
            "http://h/x#fragment": "http://h/x",
        }
        for url, masked in cases.items():
            self.assertEqual(mask_url(url), masked)

    def test_no_url(self) -> None:
        """What is no URL, or a broken one, is masked whole."""
        for text in ("", "secret", "localhost:8545", "http://", "http://[::1", "http://h:port", "//h/x", "http://h/\n"):
            self.assertEqual(mask_url(text), mask(text))

    def test_unencoded_password(self) -> None:
        """A password with a slash, a question mark or a hash sign in it is masked all the same."""
        for url in ("http://user:12/34@host/", "http://user:1?2@host/", "http://user:1#2@host/x", "http://u:1/2@h?a=b"):
            self.assertEqual(mask_url(url), mask(url))

    def test_mask_is_stable(self) -> None:
        """Equal secrets have equal masks, and a mask has four digits."""
        self.assertEqual(mask("a"), mask("a"))
        self.assertRegex(mask("a"), r"^\*\*\*[0-9a-f]{4}$")

    @given(st.text() | st.text(alphabet="htps:/@?#&=[]%.\\ \n\ud800a1", max_size=40))
    @example("\ud800")
    @example("http://\u2100")
    def test_never_raises(self, text: str) -> None:
        """Any text is masked, and the result is printable ASCII."""
        masked = mask_url(text)
        self.assertTrue(masked.isascii())
        self.assertTrue(masked.isprintable())

    @given(SECRETS, st.sampled_from(["http", "https", "ws", "wss"]))
    def test_secret_anywhere(self, secret: str, scheme: str) -> None:
        """A key is readable nowhere, wherever behind the scheme it sits, but for the host."""
        places = ("//h/{0}", "//h/v2/{0}/x", "//{0}@h", "//u:{0}@h/", "//h/?{0}", "//h/?k={0}", "//h?{0}=1", "//h/#{0}")
        for place in places:
            self.assertNotIn(secret, mask_url(f"{scheme}:{place.format(secret)}"))

    @given(TOKENS)
    def test_token_in_path(self, token: str) -> None:
        """A token of any characters that a segment may have is not readable either."""
        self.assertNotIn(token, mask_url(f"https://h/{token}/rpc"))

    @settings(max_examples=300)
    @given(PASSWORDS)
    @example("12345678/9@a")
    def test_password(self, password: str) -> None:
        """A password is not readable, encoded or not."""
        url = f"http://user:{password}@host.example/"
        masked = mask_url(url)
        for part in (password, f"user:{password}"):
            self.assertNotIn(part, masked)

    @given(st.text(alphabet=string.ascii_letters + string.digits, min_size=7))
    def test_query_value(self, value: str) -> None:
        """A query value is not readable, however short."""
        self.assertNotIn(value, mask_url(f"https://h/?a={value}&b={value}").replace("***", "*"))


class Parsing(SynchronousTestCase):
    def test_parts(self) -> None:
        """Scheme, host, port, path and query are as in the URL, with the scheme's port where none is given."""
        endpoint = parse_endpoint(" HTTPS://Node.Example/v1/x?k=1&l ")
        self.assertEqual((endpoint.scheme, endpoint.host, endpoint.port), ("https", "node.example", 443))
        self.assertEqual((endpoint.path, endpoint.query, endpoint.target), ("/v1/x", "k=1&l", "/v1/x?k=1&l"))
        self.assertEqual((endpoint.is_tls, endpoint.authorization), (True, None))
        self.assertEqual([parse_endpoint(f"{s}://h").port for s in ("http", "ws", "wss")], [80, 80, 443])

    def test_target(self) -> None:
        """The target of an empty path is a slash."""
        self.assertEqual(
            [parse_endpoint(f"http://h{x}").target for x in ("", "/", "?a", "/b")], ["/", "/", "/?a", "/b"]
        )

    def test_host_header(self) -> None:
        """The Host header has brackets around IPv6, and no port that goes without saying."""
        cases = {"http://h": "h", "http://h:80": "h", "http://h:81": "h:81", "https://h:80": "h:80"}
        cases |= {"http://[::1]:8545/": "[::1]:8545", "ws://[::1]": "[::1]"}
        for url, header in cases.items():
            self.assertEqual(parse_endpoint(url).host_header, header)

    def test_authorization(self) -> None:
        """User information becomes Basic authorization, percent-encoding undone byte by byte."""
        endpoint = parse_endpoint("http://us%40er:p%C3%A4%ff:x@h")
        expected = base64.b64encode(b"us@er:p\xc3\xa4\xff:x").decode()
        self.assertEqual(endpoint.authorization, f"Basic {expected}")

    def test_repr_is_masked(self) -> None:
        """Neither the mask nor the representation shows a secret."""
        endpoint = parse_endpoint("http://user:hunter2@h/?key=hunter2")
        self.assertNotIn("hunter2", repr(endpoint) + endpoint.masked + f"{[endpoint]}")

    def test_refused(self) -> None:
        """What cannot be asked, or would break a header or a look-up, is refused."""
        hosts = [
            "",
            ":80",
            "u@",
            "h:x",
            "h:0",
            "h:65536",
            "h:-1",
            "[::1",
            "[::1]x",
            "[x]",
            "[v1.x:y]",
            "h\n.x/",
            "h\x00",
            "h\\x",
            'h"/',
        ]
        hosts += [
            "a..b",
            ".a",
            "a,b",
            "a%20b",
            "a'b",
            "a" * 64,
            ".".join(["a" * 60] * 5),
            "u:\n@h",
            "[fe80::1%25eth0]/",
        ]
        hosts += ["bücher.example", "/x", "h/#x", "h/a b", "h/\tx", "h/\x7f", "h/?a=ü"]
        urls = ["", "h", "localhost:8545", "ftp://h", *(f"http://{host}" for host in hosts)]
        for url in urls:
            self.assertRaises(InvalidEndpoint, parse_endpoint, url)

    def test_accepted(self) -> None:
        """Names of containers, absolute names and addresses are hosts."""
        for host in ("geth_1", "geth-1.ns.svc", "node.example.", "10.0.0.1", "[2001:db8::1]", "127.1"):
            self.assertIsInstance(parse_endpoint(f"http://{host}:8545"), Endpoint)

    @given(st.text() | st.text(alphabet="http:/@?#&=[]%.\\ \n\ud800a1", max_size=40).map(lambda s: "http://" + s))
    def test_endpoint_or_refused(self, text: str) -> None:
        """Any text is an endpoint whose parts are fit for a request, or refused without being repeated."""
        try:
            endpoint = parse_endpoint(text)
        except InvalidEndpoint:
            return
        self.assertRegex(endpoint.host_header, r"^[A-Za-z0-9._:\[\]-]+$")
        self.assertRegex(endpoint.target, r"^/[!-~]*$")
        self.assertTrue(0 < endpoint.port < 65536)
        self.assertEqual(endpoint.masked, mask_url(text.strip()))

    @given(PASSWORDS)
    def test_refusal_has_no_secret(self, password: str) -> None:
        """The message of a refusal never repeats the text."""
        for url in (f"http://user:{password}@[h/", f"http://h:{password}", password):
            try:
                parse_endpoint(url)
            except InvalidEndpoint as error:
                self.assertNotIn(password, str(error))
                self.assertIsNone(error.__cause__)
