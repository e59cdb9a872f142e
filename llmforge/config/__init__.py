"""Loads YAML and overrides into frozen config classes; knows no schema of its own."""
