"""Whether the process that a configuration runs is alive."""

from __future__ import annotations

import io
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.parse import parse_config
from evmlb.health import admin_url, main_health
from tests.support import free_port

NETWORKS = "networks:\n  - {name: net, local_endpoints: ['http://127.0.0.1:1']}\n"


class HealthTests(SynchronousTestCase):
    def test_where(self) -> None:
        """It is asked where the configuration puts the admin port."""
        for text, url in (
            ("", "http://127.0.0.1:9101"),
            ("metrics_port: 9200", "http://127.0.0.1:9200"),
            ("admin_listen: ['tcp:9300']", "http://127.0.0.1:9300"),
            ("admin_listen: ['tcp:9300:interface=10.0.0.5']", "http://10.0.0.5:9300"),
            ("admin_listen: ['tcp:port=9300:interface=0.0.0.0:backlog=5']", "http://127.0.0.1:9300"),
            ("admin_listen: ['tcp6:9300']", "http://127.0.0.1:9300"),
            (r"admin_listen: ['tcp6:9300:interface=\:\:1']", "http://[::1]:9300"),
            ("admin_listen: ['unix:/run/a', 'tcp:9400']", "http://127.0.0.1:9400"),
            ("admin_listen: ['unix:/run/a']", None),
        ):
            self.assertEqual(admin_url(parse_config(f"{text}\n{NETWORKS}", {})), url, text)

    def test_not_alive(self) -> None:
        """Nobody there, or a file that cannot be used, is status 1, in words."""
        path = self.mktemp()
        for text, words in ((f"metrics_port: {free_port()}\n{NETWORKS}", "/livez"), ("[", "YAML")):
            Path(path).write_text(text)
            err = io.StringIO()
            self.assertEqual(main_health(path, io.StringIO(), err), 1)
            self.assertIn(words, err.getvalue())
