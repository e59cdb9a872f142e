"""Makes of a model and prompts text: sampling, stopping, batched generation with a KV cache, and a chat session."""
