"""What a mirror lets pass and what it refuses, as the tests of subscriptions rely on it."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.mirror import Broken, Head, Log, Mirror


def heads(text: str) -> Iterable[Head]:
    """``"3b<3a"``: block 3b, whose number and parent are in it; one with its parent each."""
    for word in text.split():
        name, parent = word.split("<")
        yield Head(int(name[0]), name, parent)


class MirrorTests(SynchronousTestCase):
    def told(self, text: str) -> Mirror:
        mirror = Mirror()
        for head in heads(text):
            mirror.take_head(head)
        return mirror

    def logs(self, *texts: str) -> Mirror:
        mirror = Mirror()
        for text in texts:
            block, index = text.lstrip("-").split(".")
            mirror.take_log(Log(int(block[0]), block, int(index)), text.startswith("-"))
        return mirror

    def test_reorg(self) -> None:
        """A head goes where its parent is; what was there is gone, and may come again."""
        mirror = self.told("2a<1a 3a<2a 4a<3a 3b<2a 4b<3b 5b<4b 3a<2a")
        self.assertEqual([head.hash for head in mirror.heads], ["2a", "3a"])
        self.assertEqual((mirror.tip, mirror.reorgs, mirror.heads_told), ("3a", 2, 7))
        self.assertEqual(self.told("2a<1a 3a<2a 2b<1a").tip, "2b")

    def test_broken_heads(self) -> None:
        """Holes, and heads told twice, are refused."""
        for text, why in (
            ("2a<1a 4a<3a", "a hole"),
            ("2a<1a 3a<2a 3a<2a", "twice"),
            ("2a<1a 3a<2a 4a<3a 3a<2a", "twice"),
            ("2a<1a 2a<1a", "twice"),
            ("2a<1a 4a<2a", "follow"),
        ):
            self.assertRaisesRegex(Broken, why, self.told, text)

    def test_logs(self) -> None:
        """Logs come in order; what is taken back may be told anew, by another block or by the same."""
        mirror = self.logs("2a.0", "2a.1", "3a.0", "-3a.0", "-2a.1", "-2a.0", "2b.0", "-2b.0", "2a.0")
        self.assertEqual(mirror.logs, [Log(2, "2a", 0)])
        self.assertEqual(mirror.logs_removed, 4)

    def test_broken_logs(self) -> None:
        """Logs told twice, out of order, over others of that height, or taken back without having been told."""
        for texts, why in (
            (("2a.0", "2a.0"), "twice"),
            (("2a.1", "2a.0"), "too late"),
            (("3a.0", "2a.0"), "too late"),
            (("2a.0", "2b.0"), "twice"),
            (("-2a.0",), "had not been told"),
            (("2a.0", "-2a.0", "-2a.0"), "had not been told"),
        ):
            self.assertRaisesRegex(Broken, why, self.logs, *texts)
