"""Shapes that are known to work, by name; torch-free. The vocabulary and the context come from the data.

    name         layers  width  heads  kv  head  MLP     weights beside embedding and head
    tiny              2     64      2   2    32    192       0.1M   for tests and first tries
    quickstart        4    256      4   4    64    704       3.2M   minutes on two CPU cores
    laptop            6    384      6   6    64   1024      10.6M   an hour on a laptop
    small             8    512      8   4    64   1408      23.6M   a night on a laptop, minutes on a GPU
    124m             12    768     12  12    64   2048      84.9M   the size of GPT-2
    350m             24   1024     16  16    64   2816     308.3M   the size of GPT-2 medium
    1.3b             24   2048     16  16   128   5504      1.21B   the size of GPT-3 XL
    8b               32   4096     32   8   128  14336      6.98B   the size of Llama 3 8B

A test holds this table against the code. `shape_of_depth` makes a shape of one number, on the same line as these:
depths 4, 6 and 12 are quickstart, laptop and 124m.
"""

from __future__ import annotations

from typing import TypedDict


class Shape(TypedDict, total=False):
    """Those keys of a model's config that make its size."""

    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    rope_theta: float


HEAD_DIM = 64
# Where a GPU's attention likes heads of 128 better and there are still enough of them.
_WIDE_HEAD_DIM, _WIDE_FROM = 128, 1024
_WIDTH_A_LAYER = 64


def mlp_size(width: int) -> int:
    """The inner width of a SwiGLU: 8/3 of the width, rounded up to a multiple of 64 (https://arxiv.org/abs/2002.05202).

    Three such matrices have as many weights as the two of a plain MLP of four times the width.
    """
    return -(-width * 8 // 3 // 64) * 64


def shape_of_depth(depth: int) -> Shape:
    """The shape with `depth` layers: 64 of width a layer, heads of 64 (of 128 from width 1,024 on), as many for keys.

    A fixed ratio of width to depth is nanochat's rule (its `--depth`); loss depends little on it within a factor of
    several (https://arxiv.org/abs/2001.08361, figure 5).
    """
    width = _WIDTH_A_LAYER * depth
    head_dim = _WIDE_HEAD_DIM if width >= _WIDE_FROM and width % _WIDE_HEAD_DIM == 0 else HEAD_DIM
    heads = width // head_dim
    return _shape(depth, width, heads, heads, head_dim, mlp_size(width))


def _shape(layers: int, width: int, heads: int, groups: int, head_dim: int, mlp: int) -> Shape:
    return Shape(
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        head_dim=head_dim,
        intermediate_size=mlp,
    )


PRESETS: dict[str, Shape] = {
    "tiny": _shape(2, 64, 2, 2, 32, 192),
    "quickstart": _shape(4, 256, 4, 4, 64, 704),
    "laptop": _shape(6, 384, 6, 6, 64, 1024),
    "small": _shape(8, 512, 8, 4, 64, 1408),
    "124m": _shape(12, 768, 12, 12, 64, 2048),
    "350m": _shape(24, 1024, 16, 16, 64, 2816),
    "1.3b": _shape(24, 2048, 16, 16, 128, 5504),
    "8b": {**_shape(32, 4096, 32, 8, 128, 14336), "rope_theta": 500_000.0},
}
