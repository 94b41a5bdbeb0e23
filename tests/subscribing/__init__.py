"""Subscriptions: the hub and its parts, against a reference chain in memory."""
