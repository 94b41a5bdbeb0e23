"""The admin port: metrics, probes, and what is known of every node."""
