"""Which national identity numbers are known: the form each is written in, its check, and what must stand before it.

A form is the number's shape (shapes.py): 0 for a figure, A for a capital. Where the form alone is common among other
numbers (eleven figures in a row) a word for the number must stand before it ("PESEL", "Steuer-ID"); where the form
and its check are rare together, none need. The checks are python-stdnum's, which holds each country's rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

# Areas 000, 666 and 900 to 999, group 00 and serial 0000 are never issued (Social Security Administration, POMS
# RM 10201.035); 9xx with these groups is a taxpayer's number (ITIN).
_SSN = re.compile(r"(?!000|666|9)[0-9]{3}[\- ]?(?!00)[0-9]{2}[\- ]?(?!0000)[0-9]{4}")
_ITIN = re.compile(r"9[0-9]{2}[\- ]?(?:5[0-9]|6[0-5]|7[0-9]|8[0-8]|9[0-24-9])[\- ]?[0-9]{4}")
# National insurance number of the United Kingdom (HMRC, NIM39110): which letters begin and end one.
_NINO = re.compile(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?(?:[0-9]{2} ?){3}[A-D]")


class IdForm(NamedTuple):
    """One way to write one country's number: its check, the words for it, and whether it is known without them."""

    country: str
    check: Callable[[str], bool]
    named: re.Pattern[str]
    rare: bool


def _words(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z])(?:{words})(?![A-Za-z])[^\n]{{0,24}}\n?[^\n]{{0,8}}$", re.IGNORECASE)


def is_social_security(number: str) -> bool:
    """Whether a number of the United States can have been issued (SSN or ITIN; neither has a check figure)."""
    return bool(_SSN.fullmatch(number) or _ITIN.fullmatch(number)) and len(set(number) - {"-", " "}) > 1


def _is_nino(number: str) -> bool:
    return _NINO.fullmatch(number) is not None


@cache
def id_forms() -> dict[bytes, tuple[IdForm, ...]]:
    """The known numbers by form."""
    forms: dict[bytes, list[IdForm]] = {}
    for country, check, words, shapes in [*_checked_in_america(), *_checked_in_europe(), *_checked_in_asia()]:
        for shape in shapes.split("|"):
            # A form that ends in "!" is rare enough to need no word.
            form = IdForm(country, _never_raises(check), _words(words), shape.endswith("!"))
            forms.setdefault(shape.rstrip("!").encode(), []).append(form)
    return {shape: tuple(rows) for shape, rows in forms.items()}


def _never_raises(check: Callable[[str], bool]) -> Callable[[str], bool]:
    """A check that only says yes or no: python-stdnum 2.2 raises KeyError for a Chinese county that its table lacks."""

    def checked(number: str) -> bool:
        try:
            return bool(check(number))
        except (LookupError, ValueError):
            return False

    return checked


_Row = tuple[str, Callable[[str], bool], str, str]


def _checked_in_america() -> list[_Row]:
    from stdnum.ar import cuit
    from stdnum.br import cpf
    from stdnum.ca import sin
    from stdnum.cl import rut
    from stdnum.mx import curp

    social = r"ssn|ssns|ss#|social security|social|itin|taxpayer id"
    return [
        ("US", is_social_security, social, "000-00-0000!|000 00 0000|000000000"),
        ("CA", sin.is_valid, r"sin|social insurance", "000 000 000|000-000-000|000000000"),
        ("BR", cpf.is_valid, "cpf", "000.000.000-00!|00000000000"),
        ("AR", cuit.is_valid, "cuit|cuil", "00-00000000-0!|00000000000"),
        ("CL", rut.is_valid, "rut|run", "00.000.000-0!|00.000.000-A!|0.000.000-0!|00000000-0|00000000-A"),
        ("MX", curp.is_valid, "curp", "AAAA000000AAAAAA00!|AAAA000000AAAAAAA0!"),
    ]


def _checked_in_europe() -> list[_Row]:
    from stdnum.be import nn
    from stdnum.ch import ssn
    from stdnum.cz import rc
    from stdnum.de import idnr
    from stdnum.es import dni, nie
    from stdnum.fi import hetu
    from stdnum.fr import nir
    from stdnum.gb import nhs
    from stdnum.hr import oib
    from stdnum.ie import pps
    from stdnum.it import codicefiscale
    from stdnum.nl import bsn
    from stdnum.no import fodselsnummer
    from stdnum.pl import pesel
    from stdnum.pt import nif
    from stdnum.ro import cnp
    from stdnum.se import personnummer

    return [
        ("GB", _is_nino, "nino|ni|national insurance|insurance", "AA 00 00 00 A!|AA000000A|AA 000000 A"),
        ("GB", nhs.is_valid, "nhs", "000 000 0000|000-000-0000|0000000000"),
        ("IE", pps.is_valid, "pps|ppsn", "0000000A|0000000AA"),
        ("FR", nir.is_valid, "nir|insee|s.curit. sociale|num.ro de s.cu", "0 00 00 00 000 000 00!|000000000000000"),
        ("DE", idnr.is_valid, r"steuer\S*|idnr|tin|tax id", "00000000000|00 000 000 000"),
        ("IT", codicefiscale.is_valid, "codice fiscale|cf", "AAAAAA00A00A000A!"),
        ("ES", dni.is_valid, "dni|nif|documento", "00000000A|00000000-A|00.000.000-A"),
        ("ES", nie.is_valid, "nie|nif", "A0000000A|A-0000000-A"),
        ("PT", nif.is_valid, "nif|contribuinte", "000000000|000 000 000"),
        ("NL", bsn.is_valid, "bsn|burgerservicenummer|sofi", "000000000|0000.00.000"),
        ("BE", nn.is_valid, "rijksregister|nn|registre national|insz|niss", "00.00.00-000.00!|00000000000"),
        ("CH", ssn.is_valid, "ahv|avs", "000.0000.0000.00!|0000000000000"),
        ("PL", pesel.is_valid, "pesel", "00000000000"),
        ("CZ", rc.is_valid, "rodn. .{0,3}slo|rodne cislo|rc", "000000/0000!|0000000000"),
        ("RO", cnp.is_valid, "cnp", "0000000000000"),
        ("HR", oib.is_valid, "oib", "00000000000"),
        ("SE", personnummer.is_valid, "personnummer|personal identity", "000000-0000|00000000-0000!|000000000000"),
        ("FI", hetu.is_valid, "hetu|henkil.tunnus", "000000-000A!|000000A000A!|000000-0000!"),
        ("NO", fodselsnummer.is_valid, "f.dselsnummer|personnummer", "00000000000|000000 00000"),
    ]


def _checked_in_asia() -> list[_Row]:
    """Asia, Africa and Australia."""
    from stdnum.au import tfn
    from stdnum.cn import ric
    from stdnum.il import idnr as teudat_zehut
    from stdnum.in_ import aadhaar, pan
    from stdnum.kr import rrn
    from stdnum.th import pin
    from stdnum.tr import tckimlik
    from stdnum.za import idnr

    return [
        ("IN", aadhaar.is_valid, "aadhaar|aadhar|uid|uidai", "0000 0000 0000|0000-0000-0000|000000000000"),
        ("IN", pan.is_valid, "pan|permanent account", "AAAAA0000A"),
        ("CN", ric.is_valid, "identity|id", "000000000000000000!|00000000000000000A!"),
        ("KR", rrn.is_valid, "rrn|resident registration", "000000-0000000!"),
        ("TH", pin.is_valid, "thai id", "0-0000-00000-00-0!|0000000000000"),
        ("IL", teudat_zehut.is_valid, "teudat zehut|israeli id|identity number", "000000000"),
        ("TR", tckimlik.is_valid, r"t\.?c\.? ?kimlik|tckn|kimlik no", "00000000000"),
        ("ZA", idnr.is_valid, "south african id|sa id|rsa id|id number|identity number", "0000000000000"),
        ("AU", tfn.is_valid, "tfn|tax file", "000 000 000|000000000"),
    ]
