"""What is found, in several spellings of each kind, and what only looks like it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from llmforge.cleaning.pii.find import find
from llmforge.cleaning.pii.key_formats import key_patterns
from llmforge.cleaning.pii.match import PATTERN_KINDS
from llmforge.cleaning.pii.national_id_forms import id_forms

REGIONS = ["US", "GB", "DE", "FR", "IN", "AU"]
HARD_NEGATIVES = [
    line
    for line in (Path(__file__).parent / "hard_negatives.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("# ")
]
# Bodies are put behind their beginnings here, so that no scanner takes this file for a leak.
B62 = "q7Zk2Vt9Xw4Lm8Rb3Yc6Nd5Hf1Jg0PsQaTuWvExZyBkDiFoGlChMjKnSpUrRe" * 6
HEX = "3f9a1c7e5b2d8046af1b9c3d7e5f2a8064c1d9b3e7f5a20819c4d6b8e0f2a317" * 2
UPPER = "Q7ZK2VT9XW4LM8RB3YC6ND5HF1JG0PSQATUWVEXZYBKDIFOGLCHMJKNSPURRE" * 3
KEYS = {
    "AKIA": UPPER[:16],
    "ASIA": UPPER[:16],
    "ABSK": B62[:120],
    "AIza": B62[:35],
    "GOCSPX-": B62[:28],
    "ya29.": B62[:80],
    "dop_v1_": HEX[:64],
    "doo_v1_": HEX[:64],
    "dor_v1_": HEX[:64],
    "HRKU-": B62[:40],
    "FlyV1 ": "fm2_" + B62[:90],
    "pscale_": "tkn_" + B62[:43],
    "sbp_": HEX[:40],
    "sb_secret_": B62[:31],
    "dapi": HEX[:32],
    "hvs.": B62[:90],
    "hvb.": B62[:140],
    "tskey-": f"auth-{B62[:16]}-{B62[:32]}",
    "dp.": "pt." + B62[:43],
    "ghp_": B62[:36],
    "gho_": B62[:36],
    "ghu_": B62[:36],
    "ghs_": B62[:36],
    "ghr_": B62[:76],
    "github_pat_": B62[:22] + "_" + B62[:59],
    "glpat-": B62[:20],
    "glrt-": B62[:20],
    "gldt-": B62[:20],
    "npm_": B62[:36],
    "pypi-": B62[:160],
    "rubygems_": HEX[:48],
    "dckr_": "pat_" + B62[:27],
    "ATATT3": B62[:180],
    "sk-ant-": "api03-" + B62[:93],
    "sk-or-": "v1-" + HEX[:64],
    "sk-": "proj-" + B62[:150],
    "hf_": B62[:34],
    "api_org_": B62[:34],
    "gsk_": B62[:52],
    "xai-": B62[:80],
    "pplx-": B62[:48],
    "r8_": B62[:37],
    "tgp_v1_": B62[:43],
    "nvapi-": B62[:64],
    "pcsk_": B62[:5] + "_" + B62[:63],
    "lsv2_": f"pt_{HEX[:32]}_{HEX[:10]}",
    "wandb_v1_": B62[:77],
    "xox": f"b-123456789012-123456789012-{B62[:24]}",
    "xapp-": f"1-A0B1C2D3E4F-1234567890123-{HEX[:64]}",
    "hooks.slack.com/": f"services/T0123ABCD/B0123ABCD/{B62[:24]}",
    "sk_live_": B62[:24],
    "sk_test_": B62[:24],
    "rk_live_": B62[:24],
    "whsec_": B62[:32],
    "sq0": "atp-" + B62[:22],
    "shp": "at_" + HEX[:32],
    "SG.": B62[:22] + "." + B62[:43],
    "SK": HEX[:32],
    "key-": HEX[:32],
    "lin_api_": B62[:40],
    "ntn_": B62[:46],
    "figd_": B62[:40],
    "PMAK-": HEX[:24] + "-" + HEX[:34],
    "NRAK-": UPPER[:27],
    "glsa_": B62[:32] + "_" + HEX[:8],
    "sntry": "u_" + B62[:64],
    "dt0c01.": UPPER[:24] + "." + UPPER[:64],
    "eyJ": "hbGciOiJIUzI1NiJ9" + ".eyJ" + B62[:40] + "." + B62[:43],
    "AGE-SECRET-KEY-1": UPPER[:58],
}
KEYS_MARKED_INSIDE = {
    "Q~": B62[:3] + "8Q~" + B62[:34],
    ".atlasv1.": B62[:14] + ".atlasv1." + B62[:65],
    "-us": HEX[:32] + "-us12",
    ":AA": "1234567890:AA" + B62[:33],
}
PEM = "-----BEGIN {0}PRIVATE KEY-----{1}" + "{1}".join([B62[:64], B62[3:67], B62[:20] + "=="])
PEM = PEM + "{1}-----END {0}PRIVATE KEY-----"

FOUND = [
    ("email", "Write to [jane.doe@acme-widgets.com] today."),
    ("email", "[a+b_c%d@sub.domain.co.uk]!"),
    ("email", "<[J.O'Neil@Acme-Widgets.COM]>,"),
    ("email", "mailto:[info@mueller.de]"),
    ("email", "from [jane@acme-widgets.\n  com] she"),
    ("email", "https://acme.org/leave?user=[jane%40gmail.com]&list=3"),
    ("email", "the login [Jane.Doe%40Gmail.com], as the log has it"),
    ("email", "/u/[jane%2Bnews%40mail.acme.co.uk]/edit"),
    ("email", "next=%252Fin%253Fuser%253D[jane%2540gmail.com]%2526cc%253D[bob%252Dx%2540gmx.de]%2526x=1"),
    ("email", "next=%2Fin%3Fuser%3D[jane%40gmail.com]%26cc%3D[bob%40gmx.de]%26x=1"),
    ("ip", "The host at [81.2.69.142] answered."),
    ("ip", "http://[81.2.69.142]:8080/"),
    ("ip", "It is [2a00:1450:4001:81b::200e] now"),
    ("ip", "[2A00:1450:4001:081B:0000:0000:0000:200E]"),
    ("mac", "wlan0 [3c:22:fb:9a:1d:07] up"),
    ("mac", "MAC [3C-22-FB-9A-1D-07]."),
    ("mac", "arp [3c22.fb9a.1d07]"),
    ("mac", "hwaddr [12:34:56:78:90:12]"),
    ("card", "paid with [4539 1488 0343 6467] in May"),
    ("card", "[5500-0000-0000-0004]"),
    ("card", "[4111 1111 1111 1111]"),
    ("card", "[4111111111111111]"),
    ("card", "[5555555555554444], [4000 0000 0000 0002]"),
    ("card", "Amex [3782 822463 10005] 12/27"),
    ("card", "[4539 1488 0343 6467] 12/27"),
    ("card", "Diners [30569309025904]"),
    ("card", "JCB [3530111333300000]"),
    ("card", "old card [4222222222222]"),
    ("iban", "IBAN [DE89 3704 0044 0532 0130 00] please"),
    ("iban", "[DE89370400440532013000]"),
    ("iban", "to [GB82 WEST 1234 5698 7654 32]."),
    ("iban", "IBAN:[FR14 2004 1010 0505 0001 3M02 606] BIC"),
    ("iban", "[NL91ABNA0417164300] ING"),
    ("iban", "[DE89 3704 0044\n0532 0130 00] at"),
    ("card", "[4539 1488\n0343 6467] at"),
    ("phone", "[+49 30\n901820] at"),
    ("iban", "my iban is [gb82west12345698765432]"),
    ("iban", "[NO93 8601 1117 947]"),
    ("crypto", "[1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa]"),
    ("crypto", "send to [3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy]."),
    ("crypto", "[bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq]"),
    ("crypto", "[bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr]"),
    ("crypto", "[0xde709f2102306220921060314715629080e2fb77]"),
    ("crypto", "[0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed]"),
    ("crypto", "Tron [TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t]"),
    ("crypto", "XRP [rDTXLQ7ZKZVKz33zJbHjgVShjsBnqMBhmN]"),
    ("national_id", "SSN [123-45-6789]"),
    ("national_id", "he gave [536-22-8726]."),
    ("national_id", "social security number [536 22 8726]"),
    ("national_id", "my SSN is [536228726]"),
    ("national_id", "ssn=[536-22-8726]&x=1"),
    ("national_id", "SSN #[536-22-8726]"),
    ("national_id", '{"ssn": "[536-22-8726]"}'),
    ("national_id", "ITIN [912-78-1234]"),
    ("national_id", "PESEL [44051401359]"),
    ("national_id", "codice fiscale [RCCMNL83S18D969H]"),
    ("national_id", "NHS number [943 476 5870]"),
    ("national_id", "NINO [AB 12 34 56 C]"),
    ("national_id", "National Insurance number: [AB123456C]"),
    ("national_id", "SIN [123-456-782]"),
    ("national_id", "TFN: [123 456 782]"),
    ("national_id", "BSN [111222333]"),
    ("national_id", "Steuer-ID [36574261809]"),
    ("national_id", "fødselsnummer [15108695088]"),
    ("national_id", "[2 95 10 99 126 111 93]"),
    ("national_id", "NIR [295109912611193]"),
    ("national_id", "DNI [54362315K]"),
    ("national_id", "NIE: [X2482300W]"),
    ("national_id", "[BOXW310820HNERXN09]"),
    ("national_id", "[360426199101010071]"),
    ("national_id", "[971013-9019902]"),
    ("national_id", "Aadhaar [2341 2341 2346]"),
    ("national_id", "PAN: [ACUPA7085R]"),
    ("national_id", "South African ID [7503305044089]"),
    ("national_id", "CNP [1630615123457]"),
    ("national_id", "[1-2345-45678-78-1]"),
    ("national_id", "TC kimlik [17291716060]"),
    ("national_id", "AHV [756.9217.0769.85]"),
    ("national_id", "[710319/2745]"),
    ("national_id", "CUIT [20-05536168-2]"),
    ("national_id", "[85.07.30-033.28]"),
    ("national_id", "personnummer [880320-0016]"),
    ("national_id", "[131052-308T]"),
    ("national_id", "CPF [390.533.447-05]"),
    ("national_id", "RUT [12.345.678-5]"),
    ("national_id", "PPS [6433435F]"),
    ("phone", "Call [+49 30 901820] at noon"),
    ("phone", "Phone: [(212) 736-5000]."),
    ("phone", "[212-736-5000] or [212.736.5001]"),
    ("phone", "tel. [020 7946 0958]"),
    ("phone", "[+44 (0)20 7946 0958]"),
    ("phone", "[+33 1 42 68 53 00]"),
    ("phone", "[0049 30 901820 11]"),
    ("phone", "fax: [9885 1152]"),
    ("phone", "[61 51 81] office"),
    ("phone", "You can call [73 448 266]"),
    ("phone", "call us at [33 93 31]"),
    ("phone", "text me on [612 34 56 78] please"),
    ("phone", "[+1-203-305-2492x5662] fax"),
    ("phone", "[+91 98765 43210]"),
    ("password", 'password = "[hunter2]"'),
    ("password", "DB_PASSWORD=[s3cr3t!Pass]"),
    ("password", '{"password": "[correct!horse]"}'),
    ("password", "pwd: '[Tr0ub4dor&3]'"),
    ("password", "my password is [hunter22], do not tell"),
    ("password", "<password>[kx9!mmQ2]</password>"),
    ("password", "mysql --password [kx9mmQ2zz]"),
    ("password", "passwd=[kx9mmQ2zz]&user=3"),
    ("password", f"aws_secret_access_key = [{B62[:40]}]"),
    ("password", f'api_key: "[{HEX[:32]}]"'),
    ("password", f"CLIENT_SECRET=[{B62[:30]}]"),
    ("password", f"Authorization: Bearer [{B62[:50]}]"),
    ("password", "Authorization: Basic [" + "QWxhZGRpbjpvcGVuIHNlc2FtZTEy" + "]"),
    ("password", f"AccountKey=[{B62[:60]}]"),
    ("password", "postgres://[bob:pw4Db]@db.acme.com/x"),
    ("password", "https://[bob:pw4Db]@10.0.0.7:80/x"),
    *(("key", f"x = [{mark}{body}] ;") for mark, body in KEYS.items()),
    *(("key", f"x [{key}] ;") for key in KEYS_MARKED_INSIDE.values()),
    ("key", f"[{PEM.format('RSA ', chr(10))}]\n"),
    ("key", f"[{PEM.format('', chr(10))}]"),
    ("key", f'"[{PEM.format("EC ", chr(92) + "n")}]"'),
]


def split(marked: str) -> tuple[str, list[str]]:
    """The text, and what stands in its brackets."""
    pieces = marked.replace("]", "[").split("[")
    return "".join(pieces), pieces[1::2]


@pytest.mark.parametrize(("kind", "marked"), FOUND)
def test_finds(kind: str, marked: str) -> None:
    text, written = split(marked)
    found = [(match.kind, text[match.start : match.end]) for match in find(text, PATTERN_KINDS, REGIONS)]
    assert found == [(kind, piece) for piece in written]


@pytest.mark.parametrize("text", HARD_NEGATIVES)
def test_leaves_what_only_looks_like_it(text: str) -> None:
    assert find(text, PATTERN_KINDS, REGIONS) == []


def test_there_are_hard_negatives_enough() -> None:
    assert len(set(HARD_NEGATIVES)) >= 200


def test_every_key_format_has_a_sample() -> None:
    assert {mark for mark, _, _ in key_patterns()} == set(KEYS) | set(KEYS_MARKED_INSIDE)


def test_only_the_kinds_asked_for() -> None:
    text = "jane@acme-widgets.com, 81.2.69.142, SSN 536-22-8726, 4539 1488 0343 6467"
    for kind in ("email", "ip", "national_id", "card"):
        assert [match.kind for match in find(text, {kind}, REGIONS)] == [kind]  # type: ignore[arg-type]


def test_a_check_never_raises() -> None:
    random = Random(7)
    letters = {"0": "0123456789", "A": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    for shape, rows in id_forms().items():
        for _ in range(300):
            number = "".join(random.choice(letters.get(mark, mark)) for mark in shape.decode())
            assert all(row.check(number) in (True, False) for row in rows)
