"""Tools of the build; each runs with the standard library alone."""
