"""Measurements of a text, each a plain number, computed together."""
