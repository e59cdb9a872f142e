"""The chat format of our vocabularies as a Jinja template, for every tool that reads Hugging Face folders.

A template can only give text, and transformers turns `<|end|>` in that text into the control symbol wherever it came
from. So the template puts two noncharacters (code points that Unicode keeps free for internal use) behind the first
letter of every control symbol's name that stands in a message, and tokenizer.json's normaliser takes them out again
after the control symbols were found: what a person typed stays text, and the ids are those of `chat.render`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from llmforge.tokenizer.chat_formats import ChatFormat
from llmforge.tokenizer.special_tokens import ROLES

# ESCAPE GAP disappears; ESCAPE ITSELF is a literal ESCAPE. Not neighbours, so that no list of code points holds them.
ESCAPE, ITSELF, GAP = "\ufdda", "\ufdd3", "\ufde7"


def chat_template(control: Sequence[str], form: ChatFormat) -> str:
    """The template of a chat format for a vocabulary with these control symbols."""
    escapes = [(ESCAPE, ESCAPE + ITSELF)] + [(name, name[0] + ESCAPE + GAP + name[1:]) for name in control]
    filters = "".join(f"|replace({_literal(old)}, {_literal(new)})" for old, new in escapes)
    roles = "[" + ", ".join(_literal(role) for role in ROLES) + "]"
    before, after = (_literal(part) for part in form.head.split("{role}"))
    word = "(message['role']|capitalize)" if form.capital else "message['role']"
    tail = _literal(form.tail)
    if form.other_tail != form.tail:
        tail = f"({tail} if message['role'] == 'assistant' else {_literal(form.other_tail)})"
    prompt = _literal(form.head.format(role=form.words()["assistant"]))
    return (
        "{{ bos_token }}{% for message in messages %}"
        f"{{% if message['role'] not in {roles} %}}"
        "{{ raise_exception('unknown role ' ~ message['role']) }}{% endif %}"
        f"{{{{ {before} ~ {word} ~ {after} ~ (message['content']{filters}) ~ {tail} }}}}"
        f"{{% endfor %}}{{% if add_generation_prompt %}}{{{{ {prompt} }}}}{{% endif %}}"
    )


def unescape_rules() -> list[dict[str, object]]:
    """The normalisers of tokenizer.json that undo the template's escapes."""
    return [
        {"type": "Replace", "pattern": {"String": ESCAPE + GAP}, "content": ""},
        {"type": "Replace", "pattern": {"String": ESCAPE + ITSELF}, "content": ESCAPE},
    ]


def _literal(text: str) -> str:
    return json.dumps(text)
