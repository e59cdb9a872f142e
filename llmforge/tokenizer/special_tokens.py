"""The control symbols of our own vocabularies, at fixed ids in front of the 256 bytes.

They are put in by id and never made out of text: a person who types `<|user|>` gets the pieces of those letters.
"""

from __future__ import annotations

UNK, BOS, EOS, PAD = "<unk>", "<s>", "</s>", "<pad>"
SYSTEM, USER, ASSISTANT, TOOL, END = "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"

CONTROL = (UNK, BOS, EOS, PAD, SYSTEM, USER, ASSISTANT, TOOL, END)
IDS = {name: number for number, name in enumerate(CONTROL)}
ROLES = {"system": IDS[SYSTEM], "user": IDS[USER], "assistant": IDS[ASSISTANT], "tool": IDS[TOOL]}
BYTES = 256
