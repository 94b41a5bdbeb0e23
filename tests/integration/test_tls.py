"""Nodes behind TLS: verified by the system's authorities or by a ``ca_file``, and never otherwise."""

import datetime
import json
import ssl
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SynchronousTestCase

from tests.integration import asking, parts
from tests.integration.raw import RawNode

CALL = b'{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["0x0","latest"]}'


def self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    """Files of a certificate for ``name``, which is its own authority, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = folder / "cert.pem", folder / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_path, key_path


class TlsTests(SynchronousTestCase):
    def begin(self, node_settings: str, *, name: str = "localhost", reactor: str = "") -> parts.EvmlbProcess:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        certificate, key = self_signed(folder, name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        node = RawNode(tls=context)
        node.start()
        self.addCleanup(node.stop)
        settings = node_settings.format(ca_file=certificate)
        text = parts.with_ports(
            "networks:\n  - name: net\n    local_poll_interval: 250ms\n    local_nodes:\n"
            f"      - {{rpc_endpoint: 'https://localhost:{node.port}'{settings}}}\n"
        )
        command = (sys.executable, "-m", "twisted", *([f"--reactor={reactor}"] if reactor else []), "evmlb")
        evmlb = parts.EvmlbProcess(text, until="open", command=command)
        self.addCleanup(evmlb.clean)
        evmlb.start()
        return evmlb

    def ask(self, evmlb: parts.EvmlbProcess) -> tuple[int, dict[str, object]]:
        status, body = asking.post(f"{evmlb.url}/net", CALL)
        return status, json.loads(body)

    def test_trusted(self) -> None:
        """A node whose certificate the ``ca_file`` vouches for is asked, on either kind of reactor."""
        for reactor in ("", "epoll"):
            evmlb = self.begin(", ca_file: {ca_file}", reactor=reactor)
            self.assertEqual(self.ask(evmlb)[1].get("result"), "0x10", evmlb.output())
            evmlb.end()

    def test_not_trusted(self) -> None:
        """A certificate that nobody vouches for is refused: the node gets no request, and the log says why."""
        evmlb = self.begin("")
        status, answer = self.ask(evmlb)
        self.assertEqual(status, 503, answer)
        self.assertRegex(evmlb.end(), "(?i)certificate.verify.failed")

    def test_other_name(self) -> None:
        """So is one for another name."""
        evmlb = self.begin(", ca_file: {ca_file}", name="other.example")
        self.assertEqual(self.ask(evmlb)[0], 503)
        evmlb.end()
