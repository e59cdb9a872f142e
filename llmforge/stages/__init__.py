"""One file a command: its config class on top, then preview, inputs_fingerprint and run."""
