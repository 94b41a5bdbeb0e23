"""Blooms: the bits, and when they are believed."""

from __future__ import annotations

from Crypto.Hash import keccak
from twisted.trial.unittest import SynchronousTestCase

from evmlb.policy.bloom import BloomTrust, bloom_mask, bloom_of


class BitsTests(SynchronousTestCase):
    def test_known(self) -> None:
        """A hundred items give the bloom whose hash geth's tests know."""
        bloom = bloom_of(b"xxxxxxxxxx data %d yyyyyyyyyyyyyy" % number for number in range(100))
        self.assertEqual(
            keccak.new(digest_bits=256, data=bloom).hexdigest(),
            "c8d3ca65cdb4874300a9e39475508f23ed6da09fdbc487f89a2dcf50b09eb263",
        )

    def test_three_bits(self) -> None:
        """An item sets three bits at most, and is in a bloom exactly if these are set."""
        bits = int.from_bytes(bloom_of((b"testtest", b"test", b"hallo", b"other")), "big")
        for item in (b"testtest", b"test", b"hallo", b"other"):
            self.assertEqual(bits & bloom_mask(item), bloom_mask(item))
            self.assertLessEqual(bloom_mask(item).bit_count(), 3)
        for item in (b"tes", b"lo"):
            self.assertNotEqual(bits & bloom_mask(item), bloom_mask(item))

    def test_nothing(self) -> None:
        """The bloom of nothing is empty."""
        self.assertEqual(bloom_of(()), bytes(256))


EMPTY, FULL = bytes(256), b"\xff" * 256
SOME = bloom_of((b"a", b"b"))


class TrustTests(SynchronousTestCase):
    def test_first(self) -> None:
        """An empty bloom is believed once the chain has shown that it fills them."""
        trust = BloomTrust()
        self.assertEqual([trust.believes(bloom) for bloom in (EMPTY, FULL, SOME, EMPTY)], [False, False, True, True])

    def test_absent(self) -> None:
        """No bloom says nothing."""
        trust = BloomTrust()
        trust.believes(SOME)
        self.assertFalse(trust.believes(b""))
        self.assertFalse(trust.promises(b""))
        self.assertFalse(trust.observe(b"", (b"a",)))

    def test_lost(self) -> None:
        """A log that its block's bloom does not have ends the trust, and is told once."""
        trust = BloomTrust()
        trust.believes(SOME)
        self.assertFalse(trust.observe(SOME, (b"a", b"b")))
        self.assertTrue(trust.observe(SOME, (b"a", b"c")))
        self.assertFalse(trust.observe(SOME, (b"c",)))
        self.assertEqual((trust.lost, trust.believes(SOME), trust.promises(SOME)), (True, False, False))

    def test_always_empty(self) -> None:
        """A chain with empty blooms is found out by its first log."""
        trust = BloomTrust()
        self.assertFalse(trust.believes(EMPTY))
        self.assertTrue(trust.observe(EMPTY, (b"a",)))

    def test_no_logs(self) -> None:
        """An empty answer shows nothing."""
        self.assertFalse(BloomTrust().observe(EMPTY, ()))

    def test_promises(self) -> None:
        """A bloom promises logs unless it is nearly full."""
        trust = BloomTrust()
        self.assertTrue(trust.promises(SOME))
        self.assertFalse(trust.promises(FULL))
