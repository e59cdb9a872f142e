"""Measurements of a text, each a plain number with a name, computed together."""
