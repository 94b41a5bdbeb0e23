"""What is counted about requests."""

from twisted.trial.unittest import SynchronousTestCase

from evmlb.stats import DURATION_BOUNDS_SECONDS, MAX_CLIENTS, OTHER_CLIENTS, ClientSeries, NetworkStats


class NetworkStatsTests(SynchronousTestCase):
    def test_durations(self) -> None:
        """A duration falls into the first bucket whose bound it does not exceed; the last has none."""
        stats = NetworkStats(1)
        for seconds in (0.0, 0.005, 0.0051, 10.0, 10.1, 1e9):
            stats.record_request("a", seconds)
        self.assertEqual(stats.duration_counts[:2], [2, 1])
        self.assertEqual(stats.duration_counts[-2:], [1, 2])
        self.assertEqual(len(stats.duration_counts), len(DURATION_BOUNDS_SECONDS) + 1)
        self.assertEqual(stats.requests, 6)

    def test_clients_are_bounded(self) -> None:
        """So many addresses have a count of their own; the rest share one, and known ones keep theirs."""
        stats = NetworkStats(1)
        for number in range(MAX_CLIENTS + 100):
            stats.record_request(f"10.0.{number // 256}.{number % 256}", 0.1)
        stats.record_request("10.0.0.0", 0.1)
        self.assertEqual(len(stats.by_client), MAX_CLIENTS + 1)
        self.assertEqual((stats.by_client["10.0.0.0"], stats.by_client[OTHER_CLIENTS]), (2, 100))
        self.assertEqual(sum(stats.by_client.values()), stats.requests)

    def test_clients_of_all_networks(self) -> None:
        """The bound on series holds over all networks together."""
        series = ClientSeries(3)
        one, two = NetworkStats(1, series), NetworkStats(1, series)
        for client in "abcd":
            one.record_request(client, 0.1)
            two.record_request(client, 0.1)
        self.assertEqual(len(one.by_client) + len(two.by_client), 3 + 2)
        self.assertEqual(sum(one.by_client.values()), 4)

    def test_attempts(self) -> None:
        """Answered attempts are counted per node and class."""
        stats = NetworkStats(2)
        stats.answered[1][0] += 1
        self.assertEqual(stats.answered, [[0, 0, 0, 0], [1, 0, 0, 0]])
