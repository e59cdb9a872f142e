"""The README.md of a model folder: what it is, how to use it, how it was made; strings only."""

from __future__ import annotations

from llmforge.model.config import ModelConfig

_HEAD = """---
library_name: transformers
pipeline_tag: text-generation
tags:
- llmforge
---

# {name}

A language model of {parameters:,} parameters, trained with llmforge.

## Use

```
llmforge chat --model THIS_FOLDER
```

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
model = AutoModelForCausalLM.from_pretrained("THIS_FOLDER")
```

## Shape

| key | value |
|---|---|
"""
_SHAPE = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "max_position_embeddings",
    "tie_word_embeddings",
    "qk_norm",
)


def model_card(config: ModelConfig, facts: dict[str, object]) -> str:
    """A card in Markdown with the metadata head that model hubs read; `facts["name"]` is its title when given."""
    name = str(facts.get("name") or "A model made with llmforge")
    lines = [f"| {key} | {_cell(getattr(config, key))} |" for key in _SHAPE]
    told = [f"| {key} | {_cell(value)} |" for key, value in _flat(facts) if key != "name"]
    made = ["", "## How it was made", "", "| fact | value |", "|---|---|", *told] if told else []
    return (
        _HEAD.format(name=" ".join(name.split()), parameters=config.num_parameters) + "\n".join([*lines, *made]) + "\n"
    )


def _flat(facts: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for key, value in facts.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows


def _cell(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())
