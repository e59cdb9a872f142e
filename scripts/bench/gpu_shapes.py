"""The four sizes that the GPU bench trains, and what a token of them costs; Python's own library only.

Both sides import this file, the peers' in an environment of their own. The widths are those of llmforge's presets.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A Llama-shaped model, rows of T tokens, rows at once to begin with, and the share of the peak to reach."""

    layers: int
    width: int
    heads: int
    groups: int
    head_dim: int
    mlp: int
    length: int
    rows: int
    target: float
    checkpointing: str = "none"
    vocabulary: int = 50_304  # GPT-2's, padded to a multiple of 128

    @property
    def matmul_parameters(self) -> int:
        """Weights that each token is multiplied with, the head's among them."""
        attention = self.width * self.head_dim * (2 * self.heads + 2 * self.groups)
        return self.layers * (attention + 3 * self.width * self.mlp) + self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        """All matrices, the embedding's too."""
        return self.matmul_parameters + self.vocabulary * self.width

    @property
    def flops_per_token(self) -> float:
        """6 x matmul parameters + 12·L·D·T, the same for every side; causality is not deducted.

        (https://arxiv.org/abs/2204.02311, appendix B.)
        """
        return 6 * self.matmul_parameters + 12 * self.layers * self.heads * self.head_dim * self.length

    @property
    def state_bytes(self) -> int:
        """fp32 weights, gradients and AdamW's two averages: 16 bytes a parameter, before any activation."""
        return 16 * self.parameters


SHAPES = {
    "124m": Shape(12, 768, 12, 12, 64, 2048, length=1024, rows=64, target=0.45),
    "350m": Shape(24, 1024, 16, 16, 64, 2816, length=1024, rows=32, target=0.46),
    "1.3b": Shape(24, 2048, 16, 16, 128, 5504, length=2048, rows=8, target=0.55),
    "8b": Shape(32, 4096, 32, 8, 128, 14336, length=4096, rows=2, target=0.55, checkpointing="full"),
    # for a machine without a GPU: that every side runs, not how fast
    "tiny": Shape(2, 64, 2, 2, 32, 192, length=32, rows=4, target=0.0, vocabulary=512),
}
