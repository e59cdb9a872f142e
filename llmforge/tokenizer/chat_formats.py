"""Chat formats as data: what stands around the messages of a conversation in a vocabulary that llmforge trains.

own      <s><|user|>text<|end|><|assistant|>text<|end|>
chatml   <s><|im_start|>user\\ntext<|im_end|>\\n...            (Qwen, SmolLM and others)
llama3   <s><|start_header_id|>user<|end_header_id|>\\n\\ntext<|eot_id|>...
plain    <s>User: text\\nAssistant: text</s>\\n                (no control symbols of its own)

The vocabulary gets the symbols that its format needs; renderer and Jinja template are both made from these entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmforge.tokenizer.special_tokens import END, EOS, ROLES

FormatName = Literal["own", "chatml", "llama3", "plain"]


@dataclass(frozen=True)
class ChatFormat:
    """`{role}` in `head` is the role's word; `tail` ends an assistant's message, `other_tail` all others."""

    name: str
    head: str
    tail: str
    other_tail: str
    end: str  # the control symbol that ends an answer
    control: tuple[str, ...] = ()  # symbols beyond those that every vocabulary has
    capital: bool = False  # write User, not user

    def words(self) -> dict[str, str]:
        """Each role's word."""
        return {role: role.capitalize() if self.capital else role for role in ROLES}


_IM_END, _EOT = "<|im_end|>", "<|eot_id|>"
FORMATS: dict[str, ChatFormat] = {
    found.name: found
    for found in (
        ChatFormat("own", "<|{role}|>", END, END, END),
        ChatFormat(
            "chatml", "<|im_start|>{role}\n", f"{_IM_END}\n", f"{_IM_END}\n", _IM_END, ("<|im_start|>", _IM_END)
        ),
        ChatFormat(
            "llama3",
            "<|start_header_id|>{role}<|end_header_id|>\n\n",
            _EOT,
            _EOT,
            _EOT,
            ("<|start_header_id|>", "<|end_header_id|>", _EOT),
        ),
        ChatFormat("plain", "{role}: ", f"{EOS}\n", "\n", EOS, capital=True),
    )
}
