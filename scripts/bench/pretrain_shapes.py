"""The sizes that training is measured at, and what a token of them costs; Python's own library only.

Both sides import this file, the peers' in an environment of their own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Layers L, width D, heads, row length T, rows B, vocabulary V, and the inner width of our SwiGLU.

    A GPT has 12·D² matrix weights a layer; `mlp` is what gives a gated layer as many, to within 2 %.
    """

    layers: int
    width: int
    heads: int
    length: int
    rows: int
    vocabulary: int
    mlp: int

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.rows * self.length

    @property
    def flops_per_token(self) -> float:
        """6 x matmul parameters + 12·L·D·T of a GPT of this shape: the same number for every side.

        (https://arxiv.org/abs/2204.02311, appendix B; causality is not deducted.)
        """
        matrices = self.layers * 12 * self.width**2 + self.width * self.vocabulary
        return 6 * matrices + 12 * self.layers * self.width * self.length


SHAPES = {
    "A": Shape(layers=4, width=128, heads=4, length=64, rows=12, vocabulary=65, mlp=352),
    "B": Shape(layers=6, width=384, heads=6, length=256, rows=16, vocabulary=65, mlp=1024),
    "C": Shape(layers=8, width=512, heads=8, length=512, rows=8, vocabulary=8192, mlp=1376),
}
