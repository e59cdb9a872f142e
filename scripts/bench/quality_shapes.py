"""What the quality bench compares: budgets, our shipped recipes, and the peers' models; Python's own library only.

Both sides import this file, the peers' in an environment of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

# Budgets are seconds on a machine with this many bf16 matmul FLOP/s; a slower one gets more in proportion.
REFERENCE_PEAK = 820e9


@dataclass(frozen=True)
class PeerModel:
    """A GPT (nanogpt) or a Llama (transformers): layers, width, heads, row length, rows of a step, dropout, rates."""

    layers: int
    width: int
    heads: int
    length: int
    rows: int
    dropout: float
    rates: tuple[float, ...]


@dataclass(frozen=True)
class Shape:
    """One text, one budget: `recipe` is our shipped config, `peers` what each peer trains on the same text."""

    text: str
    seconds: float
    recipe: str
    peers: dict[str, PeerModel]


# What nanoGPT's README has for a CPU (4 layers of 128, rows of 64, 12 a step, no dropout); a Llama of our first
# recipe's size for transformers.
_RATES = (1e-3, 3e-3, 6e-3)
_CHARACTERS = {
    "nanogpt": PeerModel(4, 128, 4, 64, 12, 0.0, _RATES),
    "transformers": PeerModel(4, 192, 3, 128, 16, 0.0, _RATES),
}
_BOOKS = {
    "nanogpt": PeerModel(4, 256, 4, 256, 16, 0.0, (5e-4, 1e-3, 2e-3)),
    "transformers": PeerModel(4, 256, 4, 256, 16, 0.0, (5e-4, 1e-3, 2e-3)),
}
SHAPES = {
    "a60": Shape("characters", 60, "configs/pretrain/shakespeare-char.yaml", _CHARACTERS),
    "a180": Shape("characters", 180, "configs/pretrain/shakespeare-char-3min.yaml", _CHARACTERS),
    "b": Shape("books", 600, "configs/pretrain/books.yaml", _BOOKS),
}
