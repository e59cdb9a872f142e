"""Secrets in a text that carry their issuer's mark: API keys and tokens, and private keys whole, header to footer.

Each kind is looked for by a fixed beginning first, which costs next to nothing where there is none. A key that has
EXAMPLE in it is one of a manual, or one of our own stand-ins, and is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmforge.cleaning.pii.match import Match

STAND_IN = "EXAMPLE"
_BODY = r"(?![A-Za-z0-9_\-])"
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (start, re.compile(r"(?<![A-Za-z0-9_\-])" + pattern + _BODY, re.ASCII))
    for start, pattern in (
        ("AKIA", r"AKIA[0-9A-Z]{16}"),  # AWS access key
        ("ASIA", r"ASIA[0-9A-Z]{16}"),  # AWS temporary access key
        ("ghp_", r"ghp_[A-Za-z0-9]{36,255}"),  # GitHub, personal
        ("gho_", r"gho_[A-Za-z0-9]{36,255}"),
        ("ghu_", r"ghu_[A-Za-z0-9]{36,255}"),
        ("ghs_", r"ghs_[A-Za-z0-9]{36,255}"),
        ("ghr_", r"ghr_[A-Za-z0-9]{36,255}"),
        ("github_pat_", r"github_pat_[A-Za-z0-9_]{60,255}"),
        ("glpat-", r"glpat-[A-Za-z0-9_\-]{20,64}"),  # GitLab
        ("xox", r"xox[abeoprs]-[A-Za-z0-9\-]{20,250}"),  # Slack
        ("AIza", r"AIza[A-Za-z0-9_\-]{35}"),  # Google
        ("sk_live_", r"sk_live_[A-Za-z0-9]{20,247}"),  # Stripe
        ("rk_live_", r"rk_live_[A-Za-z0-9]{20,247}"),
        ("sk-ant-", r"sk-ant-[A-Za-z0-9_\-]{32,200}"),  # Anthropic
        ("sk-", r"sk-(?:proj-|svcacct-)?(?=[A-Za-z0-9_\-]{0,200}[0-9])[A-Za-z0-9_\-]{40,200}"),  # OpenAI
        ("hf_", r"hf_[A-Za-z0-9]{34,64}"),  # Hugging Face
        ("npm_", r"npm_[A-Za-z0-9]{36}"),
        ("pypi-", r"pypi-[A-Za-z0-9_\-]{80,250}"),
        ("SG.", r"SG\.[A-Za-z0-9_\-]{16,32}\.[A-Za-z0-9_\-]{32,64}"),  # SendGrid
        ("eyJ", r"eyJ[A-Za-z0-9_\-]{10,4000}\.eyJ[A-Za-z0-9_\-]{10,4000}\.[A-Za-z0-9_\-]{10,2000}"),  # JSON Web Token
    )
)
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?)-----")
_MAX_PEM = 20_000
_PEM_BODY = re.compile(r"(?:\s{0,4}[A-Za-z0-9+/=]{16,})*")
_BASE64 = re.compile(r"[A-Za-z0-9+/=]{24}")


def find_api_keys(text: str) -> Iterator[Match]:
    """Keys, tokens and private keys of a text, by kind."""
    for start, pattern in _PATTERNS:
        at = text.find(start)
        while at >= 0:
            found = pattern.match(text, at)
            if found is not None and STAND_IN not in found.group():
                yield Match(found.start(), found.end(), "key", found.group())
            at = text.find(start, at + len(start))
    if "PRIVATE KEY" in text:
        yield from _private_keys(text)


def _private_keys(text: str) -> Iterator[Match]:
    free = 0
    for found in _PEM.finditer(text):
        if found.start() < free:
            continue
        footer = f"-----END {found.group(1)}-----"
        end = text.find(footer, found.end(), found.end() + _MAX_PEM)
        if end < 0:
            # No footer: what looks like the key's body goes all the same, rather than the header alone.
            body = _PEM_BODY.match(text, found.end(), found.end() + _MAX_PEM)
            end, footer = (body.end() if body is not None else found.end()), ""
        free = end + len(footer)
        inner = text[found.end() : end]
        if STAND_IN not in inner and _BASE64.search(inner):
            yield Match(found.start(), free, "key", "".join(text[found.start() : end].split()))
