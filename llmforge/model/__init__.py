"""One transformer that trains, scores, samples and serves; its config, caches, initialisation and adapters."""
