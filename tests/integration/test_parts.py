"""The real parts themselves: what the other integration tests rely on."""

import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import parts

SERVER = """
import http.server, signal, sys, yaml
port = yaml.safe_load(open(sys.argv[2]))["metrics_port"]
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.HTTPServer(("127.0.0.1", port), Page).serve_forever()
"""


class AnvilTests(SynchronousTestCase):
    def anvils(self, count: int) -> list[parts.Anvil]:
        anvils = parts.chain_of_anvils(count)
        for anvil in anvils:
            self.addCleanup(anvil.clean)
        return anvils

    def test_in_step(self) -> None:
        """Anvils mined in step have the same blocks."""
        anvils = self.anvils(2)
        parts.mine_all(anvils, 3)
        blocks = [anvil.rpc("eth_getBlockByNumber", "0x3", False) for anvil in anvils]
        self.assertEqual(blocks[0]["hash"], blocks[1]["hash"])

    def test_killed_and_restarted(self) -> None:
        """A killed anvil refuses connections; restarted, it is on the same port with an empty chain."""
        [anvil] = self.anvils(1)
        anvil.mine(2)
        anvil.kill()
        self.assertFalse(parts.is_open(anvil.port))
        anvil.restart()
        self.assertEqual(anvil.block_number(), 0)

    def test_frozen(self) -> None:
        """A frozen anvil takes connections and does not answer until it goes on."""
        [anvil] = self.anvils(1)
        anvil.freeze()
        self.assertTrue(parts.is_open(anvil.port))
        self.assertRaises(OSError, parts.rpc, anvil.url, "eth_blockNumber", timeout_seconds=0.3)
        anvil.thaw()
        self.assertEqual(anvil.block_number(), 0)

    def test_stopped(self) -> None:
        """An anvil ends when it is asked to."""
        [anvil] = self.anvils(1)
        anvil.stop()
        self.assertFalse(parts.is_open(anvil.port))


class NodeExporterTests(SynchronousTestCase):
    def test_page(self) -> None:
        """The page has the load that was set last, and every scrape is counted."""
        exporter = parts.NodeExporter()
        exporter.start()
        self.addCleanup(exporter.stop)
        exporter.load = 3.5
        self.assertIn(b"\nnode_load1 3.5\n", parts.get(exporter.url)[1])
        self.assertEqual(exporter.scrapes, 1)


class EvmlbProcessTests(SynchronousTestCase):
    def process(self, program: str) -> parts.EvmlbProcess:
        process = parts.EvmlbProcess(parts.with_ports(""), command=(sys.executable, "-c", program))
        self.addCleanup(process.clean)
        return process

    def test_until_ready(self) -> None:
        """A process is waited for until it is ready, and ends properly when asked to."""
        process = self.process(SERVER)
        process.start()
        self.assertIn("/readyz", process.end())

    def test_broken_start(self) -> None:
        """A process that ends at its start fails the test with its words."""
        process = self.process("raise SystemExit('no such file')")
        error = self.assertRaises(parts.StartFailed, process.start)
        self.assertIn("no such file", str(error))

    def test_traceback(self) -> None:
        """A process that writes a traceback does not end properly."""
        process = self.process("import sys; print('Traceback', file=sys.stderr, flush=True)\n" + SERVER)
        process.start()
        self.assertRaises(AssertionError, process.end)
