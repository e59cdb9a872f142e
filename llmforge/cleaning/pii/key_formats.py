"""The formats of keys and tokens as their issuers write them: a fixed beginning, and what follows.

Sources: the issuers' documentation and GitHub's list of secret scanning patterns, as of 2026. Formats without a mark
of their own (32 hexadecimal figures and nothing else) are only found in assignments, see passwords.py.
"""

from __future__ import annotations

import re
from functools import cache

_W = "A-Za-z0-9"
_FORMATS: tuple[tuple[str, str], ...] = (
    # Clouds and hosts
    ("AKIA", r"AKIA[0-9A-Z]{16}"),  # AWS access key
    ("ASIA", r"ASIA[0-9A-Z]{16}"),  # AWS temporary access key
    ("ABSK", rf"ABSK[{_W}+/]{{100,280}}={{0,2}}"),  # AWS Bedrock
    ("AIza", rf"AIza[{_W}_\-]{{35}}"),  # Google
    ("GOCSPX-", rf"GOCSPX-[{_W}_\-]{{28}}"),
    ("ya29.", rf"ya29\.[{_W}_\-]{{30,400}}"),
    ("Q~", rf"[{_W}_\-.~]{{3}}[78]Q~[{_W}_\-.~]{{31,34}}"),  # Azure client secret; the mark stands inside
    ("dop_v1_", r"do[opr]_v1_[a-f0-9]{64}"),  # DigitalOcean
    ("doo_v1_", r"doo_v1_[a-f0-9]{64}"),
    ("dor_v1_", r"dor_v1_[a-f0-9]{64}"),
    ("HRKU-", rf"HRKU-[{_W}_\-]{{36,60}}"),  # Heroku
    ("FlyV1 ", rf"FlyV1 fm[12]_[{_W}+/=,_]{{40,1500}}"),
    ("pscale_", rf"pscale_(?:tkn|pw|oauth)_[{_W}=._\-]{{32,64}}"),  # PlanetScale
    ("sbp_", r"sbp_[a-f0-9]{40}"),  # Supabase
    ("sb_secret_", rf"sb_secret_[{_W}_\-]{{20,64}}"),
    ("dapi", r"dapi[a-f0-9]{32}(?:-[0-9])?"),  # Databricks
    (".atlasv1.", rf"[{_W}]{{14}}\.atlasv1\.[{_W}=_\-]{{60,70}}"),  # Terraform; the mark stands inside
    ("hvs.", rf"hvs\.[{_W}_\-]{{24,180}}"),  # HashiCorp Vault
    ("hvb.", rf"hvb\.[{_W}_\-]{{100,300}}"),
    ("tskey-", rf"tskey-[a-z]{{2,12}}-[{_W}]{{8,24}}-[{_W}]{{16,64}}"),  # Tailscale
    ("dp.", rf"dp\.(?:pt|st|ct|scim|audit)\.(?:[a-z0-9_\-]{{2,35}}\.)?[{_W}]{{40,44}}"),  # Doppler
    # Code and packages
    ("ghp_", rf"ghp_[{_W}]{{36,255}}"),  # GitHub
    ("gho_", rf"gho_[{_W}]{{36,255}}"),
    ("ghu_", rf"ghu_[{_W}]{{36,255}}"),
    ("ghs_", rf"ghs_[{_W}]{{36,255}}"),
    ("ghr_", rf"ghr_[{_W}]{{36,255}}"),
    ("github_pat_", rf"github_pat_[{_W}_]{{60,255}}"),
    ("glpat-", rf"glpat-[{_W}_\-]{{20,64}}(?:\.[0-9a-z]{{2}}\.[0-9a-z]{{9}})?"),  # GitLab
    ("glrt-", rf"glrt-[{_W}_\-]{{20,64}}"),
    ("gldt-", rf"gldt-[{_W}_\-]{{20,64}}"),
    ("npm_", rf"npm_[{_W}]{{36}}"),
    ("pypi-", rf"pypi-[{_W}_\-]{{80,250}}"),
    ("rubygems_", r"rubygems_[a-f0-9]{48}"),
    ("dckr_", rf"dckr_(?:pat|oat)_[{_W}_\-]{{27,40}}"),  # Docker
    ("ATATT3", rf"ATATT3[{_W}_\-=]{{60,250}}"),  # Atlassian
    # Models
    ("sk-ant-", rf"sk-ant-[{_W}_\-]{{32,200}}"),  # Anthropic
    ("sk-or-", r"sk-or-(?:v1-)?[a-f0-9]{64}"),  # OpenRouter
    ("sk-", rf"sk-(?:proj-|svcacct-|admin-)?(?=[{_W}_\-]{{0,200}}[0-9])[{_W}_\-]{{32,200}}"),  # OpenAI, DeepSeek
    ("hf_", rf"hf_[{_W}]{{34,64}}"),  # Hugging Face
    ("api_org_", rf"api_org_[{_W}]{{34}}"),
    ("gsk_", rf"gsk_[{_W}]{{48,60}}"),  # Groq
    ("xai-", rf"xai-[{_W}_]{{70,90}}"),  # xAI
    ("pplx-", rf"pplx-[{_W}]{{40,64}}"),  # Perplexity
    ("r8_", rf"r8_[{_W}]{{37,40}}"),  # Replicate
    ("tgp_v1_", rf"tgp_v1_[{_W}_\-]{{40,60}}"),  # Together
    ("nvapi-", rf"nvapi-[{_W}_\-]{{60,70}}"),  # NVIDIA
    ("pcsk_", rf"pcsk_[{_W}]{{5,6}}_[{_W}]{{60,70}}"),  # Pinecone
    ("lsv2_", r"lsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}"),  # LangSmith
    ("wandb_v1_", rf"wandb_v1_[{_W}_]{{60,90}}"),  # Weights & Biases
    # Messages, payments, offices
    ("xox", rf"xox[abeoprs]-[{_W}\-]{{20,250}}"),  # Slack
    ("xapp-", rf"xapp-[0-9]-[{_W}]{{8,16}}-[0-9]{{8,16}}-[a-f0-9]{{32,80}}"),
    ("hooks.slack.com/", rf"hooks\.slack\.com/(?:services|workflows)/[{_W}/]{{40,80}}"),
    ("sk_live_", rf"sk_live_[{_W}]{{20,247}}"),  # Stripe
    ("sk_test_", rf"sk_test_[{_W}]{{20,247}}"),
    ("rk_live_", rf"rk_live_[{_W}]{{20,247}}"),
    ("whsec_", rf"whsec_[{_W}+/=]{{32,64}}"),
    ("sq0", rf"sq0(?:atp|csp|idp)-[{_W}_\-]{{22,43}}"),  # Square
    ("shp", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),  # Shopify
    ("SG.", rf"SG\.[{_W}_\-]{{16,32}}\.[{_W}_\-]{{32,64}}"),  # SendGrid
    ("SK", r"SK[0-9a-f]{32}"),  # Twilio
    ("key-", r"key-[0-9a-f]{32}"),  # Mailgun
    ("-us", r"[0-9a-f]{32}-us[0-9]{1,2}"),  # Mailchimp; the mark stands inside
    (":AA", rf"[0-9]{{8,10}}:AA[{_W}_\-]{{32,33}}"),  # Telegram; the mark stands inside
    ("lin_api_", rf"lin_api_[{_W}]{{40}}"),  # Linear
    ("ntn_", rf"ntn_[{_W}]{{40,50}}"),  # Notion
    ("figd_", rf"figd_[{_W}_\-]{{40}}"),  # Figma
    ("PMAK-", r"PMAK-[a-f0-9]{24}-[a-f0-9]{34}"),  # Postman
    ("NRAK-", r"NRAK-[A-Z0-9]{27}"),  # New Relic
    ("glsa_", rf"glsa_[{_W}]{{32}}_[a-f0-9]{{8}}"),  # Grafana
    ("sntry", rf"sntry[su]_[{_W}+/=_]{{60,300}}"),  # Sentry
    ("dt0c01.", r"dt0c01\.[A-Z0-9]{24}\.[A-Z0-9]{64}"),  # Dynatrace
    # Tokens of a standard
    ("eyJ", rf"eyJ[{_W}_\-]{{10,4000}}\.eyJ[{_W}_\-]{{2,8000}}\.[{_W}_\-]{{10,2000}}"),  # JSON Web Token, RFC 7519
    ("AGE-SECRET-KEY-1", r"AGE-SECRET-KEY-1[A-Z0-9]{58}"),
)
_INSIDE = {"Q~": 4, ".atlasv1.": 14, "-us": 32, ":AA": 10}  # how far before the mark a key may begin
_GAPPED = {"Q~", "ABSK", "FlyV1 ", "whsec_", "sntry"}  # may have no twenty characters without a sign in between
REACH = 48  # the mark of every other format begins at most so far before its first twenty characters without one

KeyPattern = tuple[str, int, re.Pattern[str]]  # mark, characters before it at most, the whole key


@cache
def key_patterns() -> tuple[KeyPattern, ...]:
    """Every format."""
    edge = r"(?<![A-Za-z0-9_\-])"
    return tuple(
        (mark, _INSIDE.get(mark, 0), re.compile(rf"{edge}(?:{pattern})(?![A-Za-z0-9_\-])", re.ASCII))
        for mark, pattern in _FORMATS
    )


@cache
def near_patterns() -> tuple[KeyPattern, ...]:
    """The formats that are found beside a long token."""
    return tuple(row for row in key_patterns() if row[0] not in _GAPPED)


@cache
def gapped_patterns() -> tuple[KeyPattern, ...]:
    """The formats that are looked for everywhere."""
    return tuple(row for row in key_patterns() if row[0] in _GAPPED)


def beginning(written: str) -> str:
    """The fixed beginning of a key, kept in its stand-in; "" for formats whose mark stands inside."""
    marks = [mark for mark, _ in _FORMATS if mark not in _INSIDE and written.startswith(mark)]
    return max(marks, key=len, default="")
