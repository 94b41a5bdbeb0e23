"""Which node holds which filter."""

from twisted.trial.unittest import SynchronousTestCase

from evmlb.policy.affinity import IDLE_SECONDS, Filters


class FilterTests(SynchronousTestCase):
    def test_holder(self) -> None:
        """A filter is held by the node that made it last."""
        filters: Filters[str] = Filters()
        self.assertFalse(filters)
        filters.record_created(b"0x1", "a", 0.0)
        filters.record_created(b"0x2", "b", 0.0)
        self.assertEqual((filters.holder(b"0x1", 0.0), filters.holder(b"0x2", 0.0)), ("a", "b"))
        self.assertIsNone(filters.holder(b"0x3", 0.0))
        filters.record_created(b"0x1", "c", 0.0)
        self.assertEqual((filters.holder(b"0x1", 0.0), len(filters)), ("c", 2))

    def test_idle(self) -> None:
        """A filter that nobody used for ten minutes is forgotten; every use counts anew."""
        filters: Filters[str] = Filters()
        filters.record_created(b"0x1", "a", 0.0)
        filters.record_created(b"0x2", "a", 0.0)
        self.assertEqual(filters.holder(b"0x1", IDLE_SECONDS - 1), "a")
        self.assertIsNone(filters.holder(b"0x2", IDLE_SECONDS))
        self.assertEqual(filters.holder(b"0x1", 2 * IDLE_SECONDS - 2), "a")
        self.assertIsNone(filters.holder(b"0x1", 3 * IDLE_SECONDS))
        self.assertEqual(len(filters), 0)

    def test_bounded(self) -> None:
        """The least recently used filter goes when there are too many."""
        filters: Filters[str] = Filters(max_filters=2)
        for number in range(3):
            filters.record_created(b"0x%d" % number, "a", 0.0)
            filters.holder(b"0x0", 0.0)
        self.assertEqual([filters.holder(b"0x%d" % number, 0.0) for number in range(3)], ["a", None, "a"])

    def test_removed(self) -> None:
        """A filter that was uninstalled is gone; removing an unknown one is nothing."""
        filters: Filters[str] = Filters()
        filters.record_created(b"0x1", "a", 0.0)
        filters.record_removed(b"0x1")
        filters.record_removed(b"0x9")
        self.assertIsNone(filters.holder(b"0x1", 0.0))

    def test_latest_holder(self) -> None:
        """New filters belong where the one used last is."""
        filters: Filters[str] = Filters()
        self.assertIsNone(filters.latest_holder(0.0))
        filters.record_created(b"0x1", "a", 0.0)
        filters.record_created(b"0x2", "b", 0.0)
        self.assertEqual(filters.latest_holder(0.0), "b")
        filters.holder(b"0x1", 1.0)
        self.assertEqual(filters.latest_holder(1.0), "a")
        self.assertIsNone(filters.latest_holder(IDLE_SECONDS + 1))
