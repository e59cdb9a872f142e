"""What stands in the place of personal data: steady, keyed, nobody's, and put back by the key's owner alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llmforge.cleaning.pii.anonymize import Anonymize, AnonymizeSettings
from llmforge.cleaning.pii.find import find
from llmforge.cleaning.pii.match import KINDS, PATTERN_KINDS, Sealed
from llmforge.cleaning.pii.pseudonyms import MASKS
from llmforge.cleaning.pii.vault import Vault, reveal, write_vault
from llmforge.cleaning.verdict import Drop, Keep, Rewrite
from llmforge.errors import DamagedError, DataError, MachineError

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
SAMPLES = {
    "key": "AKIA" + "IOSFODNN7ABCDEFG",
    "password": "password = 'Tr0ub4dor&3'",
    "email": "Jane.Doe@acme-widgets.com",
    "mac": "3c:22:fb:9a:1d:07",
    "ip": "81.2.69.142",
    "iban": "DE89 3704 0044 0532 0130 00",
    "crypto": "0xde709f2102306220921060314715629080e2fb77",
    "card": "4539 1488 0343 6467",
    "national_id": "SSN 536-22-8726",
    "phone": "+49 30 901820",
}
SPELLINGS = [
    *SAMPLES.values(),
    "jane.doe@acme-widgets.com",
    "JANE@acme.com",
    "x@acme.org.",
    "user%3Djane.doe%40acme-widgets.com",
    "Jane%2Bx%40acme.org",
    "Jane%252Bx%2540acme.org",
    "2a00:1450:4001:81b::200e",
    "2A00:1450:4001:081B:0000:0000:0000:200E",
    "3C-22-FB-9A-1D-07",
    "3C-22-fb-9A-1D-07",
    "GB82WEST12345698765432",
    "gb82west12345698765432",
    "You can call 73 448 266",
    "call us at 33 93 31",
    "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    "0xDE709F2102306220921060314715629080E2FB77",
    "5500-0000-0000-0004",
    "3782 822463 10005",
    "codice fiscale RCCMNL83S18D969H",
    "NHS 943 476 5870",
    "390.533.447-05",
    "NINO AB 12 34 56 C",
    "(212) 736-5000 x12",
    "tel. 020 7946 0958",
    "0049 30 901820 11",
    "https://bob:pw4Db@db.acme.com/x",
    "Authorization: Bearer abcDEF123456ghiJKL7890",
    "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEF\n" * 3 + "-----END PRIVATE KEY-----",
]
BETWEEN = ["\n", " ", " and ", "-", "(", "0", "1.", "\u2028", "x", ":", "/", "12 ", "é", "<", '"', "@", "\ud800"]


def anonymize(text: str, key: bytes = KEY) -> Rewrite:
    verdict = Anonymize(AnonymizeSettings(), key)(text)
    assert isinstance(verdict, Rewrite)
    return verdict


def test_every_pattern_kind_has_a_sample() -> None:
    assert set(SAMPLES) == set(PATTERN_KINDS) and set(MASKS) == set(KINDS)


@pytest.mark.parametrize("kind", SAMPLES)
def test_stand_ins_are_keyed_steady_and_nobodys(kind: str) -> None:
    text = SAMPLES[kind]
    first = anonymize(text)
    assert first.counts == {kind: 1} and first.text != text
    assert anonymize(f"again: {text} \n {text}").text.count(first.text) == 2
    assert anonymize(text, OTHER_KEY).text != first.text
    assert Anonymize(AnonymizeSettings(), KEY)(first.text) == Keep()


@pytest.mark.parametrize("text", ["4539 1488 0343 6467", "+49 30 901820", "SSN 536-22-8726", "3C-22-FB-9A-1D-07",
                                  "DE89 3704 0044 0532 0130 00", "codice fiscale RCCMNL83S18D969H"])  # fmt: skip
def test_a_stand_in_has_the_form_of_the_original(text: str) -> None:
    def form(text: str) -> str:
        return "".join("0" if letter.isdigit() else letter if not letter.isalnum() else "A" for letter in text)

    made = anonymize(text).text
    # A figure of a hexadecimal address may become a letter; the gaps stay where they are.
    assert len(made) == len(text) and (form(made) == form(text) or "-FB-" in text)
    assert [place for place in range(len(text)) if not text[place].isalnum()] == [
        place for place in range(len(made)) if not made[place].isalnum()
    ]


def test_one_address_in_two_spellings_has_one_stand_in_but_for_its_case() -> None:
    lower, upper = anonymize("jane@acme-widgets.com"), anonymize("Jane@ACME-Widgets.com")
    assert lower.text == lower.text.lower() == upper.text.lower() and lower.text != upper.text


def test_an_address_in_a_url_has_the_stand_in_of_the_plain_one_in_its_own_form() -> None:
    plain = anonymize("jane+news@gmail.com").text
    assert anonymize("?to=jane+news%40gmail.com&x").text == f"?to={plain.replace('@', '%40')}&x"
    encoded = anonymize("?to=jane%2Bnews%40gmail.com&x").text
    assert encoded.lower() == f"?to={plain.replace('@', '%40')}&x" and encoded != encoded.lower()
    twice = anonymize("?u=%2Fto%253Djane+news%2540gmail.com%2526x").text
    assert twice == f"?u=%2Fto%253D{plain.replace('@', '%2540')}%2526x"


def test_mask_and_drop() -> None:
    masked = Anonymize(AnonymizeSettings(action="mask"), None)("Write to jane@acme-widgets.com")
    assert masked == Rewrite("Write to <EMAIL>", {"email": 1})
    step = Anonymize(AnonymizeSettings(action="drop_document"), None)
    dropped = step("Write to jane@acme-widgets.com")
    assert isinstance(dropped, Drop) and "1 email" in dropped.because
    assert step.hide("Write to jane@acme-widgets.com") == "Write to <EMAIL>"
    assert step.hidden("nothing") == Keep()


def test_nothing_is_sealed_when_nothing_may_be_put_back() -> None:
    verdict = Anonymize(AnonymizeSettings(reversible=False), KEY)("Write to jane@acme-widgets.com")
    assert isinstance(verdict, Rewrite) and verdict.sealed == () and "example" in verdict.text


@given(st.lists(st.sampled_from(SPELLINGS + BETWEEN), max_size=10))
@settings(deadline=None, max_examples=150)
def test_a_second_pass_finds_nothing(parts: list[str]) -> None:
    for action in ("pseudonymize", "mask"):
        step = Anonymize(AnonymizeSettings(action=action), KEY)  # type: ignore[arg-type]
        first = step("".join(parts))
        if isinstance(first, Rewrite):
            assert step(first.text) == Keep()


@given(st.lists(st.sampled_from(SPELLINGS + BETWEEN), max_size=10))
@settings(deadline=None, max_examples=150)
def test_the_key_gives_the_text_back(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    text = "".join(parts)
    verdict = Anonymize(AnonymizeSettings(), KEY)(text)
    if isinstance(verdict, Rewrite):
        path = tmp_path_factory.getbasetemp() / "one.vault"
        write_vault(path, verdict.sealed)
        assert verdict.text != text and reveal(path, KEY, verdict.text) == text
        with pytest.raises(DataError, match="does not open this vault"):
            reveal(path, OTHER_KEY, verdict.text)


@given(st.text(alphabet="0123456789 -+().:@/=abcXYZ\n\u00c0\u00b2\u0661\U0001f600\ud800", max_size=120))
@settings(deadline=None, max_examples=200)
def test_any_text_has_a_verdict_and_comes_to_rest(text: str) -> None:
    step = Anonymize(AnonymizeSettings(), KEY)
    first = step(text)
    if isinstance(first, Rewrite):
        assert step(first.text) == Keep()


def test_a_vault_is_the_same_in_any_order_and_holds_nothing_in_clear(tmp_path: Path) -> None:
    entries = [entry for text in SPELLINGS for entry in anonymize(text).sealed]
    count = write_vault(tmp_path / "a", entries)
    assert write_vault(tmp_path / "b", [*reversed(entries), *entries]) == count == len(set(entries))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert b"acme" not in (tmp_path / "a").read_bytes() and b"4539" not in (tmp_path / "a").read_bytes()


def test_a_vault_that_was_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vault"
    write_vault(path, [*anonymize("jane@acme.com").sealed, *anonymize("joe@acme.com").sealed])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1], lines[2].replace('"email"', '"phone"')]))
    with pytest.raises(DamagedError, match="was changed"):
        Vault(path, KEY)
    for name in Sealed._fields:
        changed = {**json.loads(lines[1]), name: 3}
        path.write_text("\n".join([lines[0], json.dumps(changed)]))
        with pytest.raises(DamagedError, match="no vault"):
            Vault(path, KEY)
    path.write_text("no vault")
    with pytest.raises(DamagedError, match="no vault"):
        Vault(path, KEY)
    with pytest.raises(DataError, match="cannot be read"):
        Vault(tmp_path / "none", KEY)


def test_two_originals_of_one_stand_in_are_both_told(tmp_path: Path) -> None:
    from llmforge.cleaning.pii.vault import Sealer

    sealer = Sealer(KEY)
    entries = [sealer.seal("phone", "(000) 123-4567", number) for number in ("(212) 736-5001", "(212) 736-5000")]
    write_vault(tmp_path / "vault", entries)
    assert reveal(tmp_path / "vault", KEY, "Call (000) 123-4567!") == "Call {(212) 736-5000|(212) 736-5001}!"
    write_vault(tmp_path / "empty", [])
    assert reveal(tmp_path / "empty", KEY, "Call (000) 123-4567!") == "Call (000) 123-4567!"


def test_stand_ins_of_many_numbers_hardly_meet() -> None:
    step = Anonymize(AnonymizeSettings(), KEY)
    emails = " ".join(f"user{number}@acme.com" for number in range(3000))
    verdict = step(emails)
    assert isinstance(verdict, Rewrite) and len(set(verdict.text.split())) == len(set(verdict.sealed)) == 3000


def _seconds(text: str) -> float:
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        find(text, PATTERN_KINDS, AnonymizeSettings().phone_regions)
        best = min(best, time.process_time() - started)
    return best


@pytest.mark.parametrize(
    "piece",
    ["a", "1", "1 ", "12-", "0 0\n", "@", "a@", "a.", "a@a.", "%40", "%2540", "a%41%40", "a%40a.",
     "AB12", "ab:cd:", "::1", "password=", "key-", "sk-",
     "://a:", "secret: x", "-----BEGIN PRIVATE KEY-----\n", "eyJ", "+1 (", "x9", "1.2.3.4 ", "(1) ", "1234 5678 "],
)  # fmt: skip
def test_time_grows_with_the_text_only(piece: str) -> None:
    find("warm +49 30 901820 SSN 123-45-6789 DE89370400440532013000", PATTERN_KINDS, ["DE"])
    small, large = (piece * (size // len(piece)) + "!" for size in (20_000, 80_000))
    # Four times the text: 4 when linear, 16 when quadratic; a millisecond is below what a clock tells apart.
    assert _seconds(large) < 9 * max(_seconds(small), 1e-3)


class FakeRecogniser:
    """Knows one name."""

    def __call__(self, text: str) -> list[tuple[int, int]]:
        return [(at, at + 8) for at in range(len(text)) if text.startswith("Jane Doe", at)]


NAMES = AnonymizeSettings(kinds=[*KINDS], names_model="some-pipeline")


def test_names_by_a_recogniser(tmp_path: Path) -> None:
    step = Anonymize(NAMES, KEY, FakeRecogniser())
    text = "Jane Doe (jane@acme.com) met Jane Doe."
    verdict = step(text)
    assert isinstance(verdict, Rewrite) and verdict.counts == {"email": 1, "name": 2}
    first, second = verdict.text.split(" (")[0], verdict.text.split(" met ")[1].rstrip(".")
    assert first == second and first.startswith("Person_")
    assert step(verdict.text) == Keep()
    write_vault(tmp_path / "vault", verdict.sealed)
    assert reveal(tmp_path / "vault", KEY, verdict.text) == text


def test_names_and_their_model_go_together() -> None:
    with pytest.raises(ValidationError, match="go together"):
        AnonymizeSettings(kinds=["name"])
    with pytest.raises(ValidationError, match="go together"):
        AnonymizeSettings(names_model="x")


def test_a_missing_recogniser_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MachineError, match="needs spaCy"):
        Anonymize(NAMES, KEY)


def test_names_by_spacy(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy", reason="the extra names is not installed")
    pipeline = spacy.blank("en")
    pipeline.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Jane Doe"}])
    pipeline.to_disk(tmp_path / "pipeline")
    settings = AnonymizeSettings(kinds=["name"], names_model=str(tmp_path / "pipeline"))
    verdict = Anonymize(settings, KEY)("It was Jane Doe.")
    assert isinstance(verdict, Rewrite) and verdict.text.startswith("It was Person_")
    with pytest.raises(MachineError, match="no spaCy pipeline"):
        Anonymize(AnonymizeSettings(kinds=["name"], names_model=str(tmp_path / "none")), KEY)


def test_nothing_heavy_loads_before_it_is_needed() -> None:
    program = (
        "import sys, llmforge.cleaning.pii.anonymize as a; a.AnonymizeSettings();"
        "print(sorted({'cryptography', 'stdnum', 'phonenumbers', 'spacy', 'numpy', 'torch'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_sealed_original_is_a_plain_triple() -> None:
    (entry,) = anonymize("jane@acme-widgets.com").sealed
    assert isinstance(entry, Sealed) and entry.kind == "email" and "jane" not in entry.sealed
