"""Bytes: HTTP/1.1 framing (:mod:`.http1`), and Twisted protocols on the loop's own transports
(:mod:`.transport`, :mod:`.reactor`, :mod:`.listening`, :mod:`.connecting`).
"""
