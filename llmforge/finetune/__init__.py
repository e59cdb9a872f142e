"""Conversations into batches for the same trainer that pre-trains: rows, rendering, packing, loading."""
