"""Configuration: its shape (:mod:`.schema`), its reading from a mapping (:mod:`.parse`) and from a file
(:mod:`.load`)."""
