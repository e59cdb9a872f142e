"""llmforge: raw text in, a language model to talk to out."""
