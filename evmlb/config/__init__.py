"""Configuration: its shape (``schema``), its reading from text (``parse``) and from a file (``load``)."""
