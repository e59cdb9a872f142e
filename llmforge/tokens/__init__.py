"""Documents as memory-mapped token shards, and batches that are a pure function of seed and step."""
