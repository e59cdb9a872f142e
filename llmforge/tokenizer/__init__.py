"""Text to ids and back without loss, the special tokens, and the one chat renderer."""
