"""Telephone numbers in a text: by their international form, by a national form that phonenumbers finds valid, or by a
word beside them ("phone", "fax", "call").

Dates, ranges, social security numbers, ISBNs, versions and columns of figures are not taken. A number whose national
part begins with 00 belongs to nobody: our stand-ins are such numbers, and are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from llmforge.cleaning.pii.match import Match

_LONG_STAND_IN, _SHORT_STAND_IN = "000", "00"
_CLEAR_DIGITS = 8  # grouped like thousands, and still a number to call
_MAX_BARE = 10  # a number of more figures that begins with 00 has an international prefix
MIN_DIGITS, MAX_DIGITS = 7, 15  # E.164 allows 15
_SEPARATORS = " \\t\u00a0.\\-/()\u2010-\u2015"
_NUMBER = re.compile(
    r"(?<![\w+/\-$€£#%])(?<![0-9][.,:])(?:\+[ ]?\(?[1-9]|\(?[0-9])"
    rf"[0-9{_SEPARATORS}]{{3,24}}(?:\n[0-9{_SEPARATORS}]{{1,14}})?"
)
_EXTENSION = re.compile(r"[ ,;]{0,2}(?:[xX]|[eE]xt\.?|[eE]xtension)[ ]?[0-9]{1,6}(?![\w])")
_NAMED_BEFORE = re.compile(
    r"\b(?:tel|telephone|telefon|phone|phones|fax|mobile|mob|cell|cellphone|whatsapp|sms|hotline|dial|handy|ph|"
    r"landline|voicemail)\b[^\d\n$€£]{0,14}\n?[^\d\n$€£]{0,6}$",
    re.IGNORECASE,
)
_CALLED_BEFORE = re.compile(
    r"\b(?:call|called|calling|calls|reach|answering|ring|ringing|contact|text me|texted|texting|message me)\b"
    r"[^\d\n]{0,20}$",
    re.IGNORECASE,
)
_CALL_RIGHT_BEFORE = re.compile(
    r"\b(?:call|calling|ring|reach|text)(?: (?:me|us|him|her|them))?(?: (?:at|on))?:? $", re.IGNORECASE
)
_NAMED_AFTER = re.compile(r"[ \-,(\\]{0,3}(?:office|fax|mobile|cell|home|work|tel|phone|landline)\b", re.IGNORECASE)
_OTHER_BEFORE = re.compile(
    r"\b(?:isbn|issn|doi|pmid|orcid|rfc|cas|upc|ean|sku|isrc|imei|iccid|catalog(?:ue)?|ticket|parts?|p/n|serial|model|"
    r"invoice|batch|lot)\b[^\n]{0,12}$",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(?:1[5-9]|20)[0-9]{2}([\-/. ])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12][0-9]|3[01])(?![0-9])"
    r"|(?:0?[1-9]|[12][0-9]|3[01])([\-/.])(?:0?[1-9]|[12][0-9]|3[01])\2(?:1[5-9]|20)?[0-9]{2}(?![0-9.\-/])"
    r"|(?:1[0-9]|20)[0-9]{2}[ ]?[\-/\u2010-\u2015][ ]?(?:1[0-9]|20)[0-9]{2}(?![0-9])"
)
_SOCIAL_SECURITY = re.compile(r"[0-9]{3}-[0-9]{2}-[0-9]{4}")
_IPV4 = re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}")
_THOUSANDS = re.compile(r"[0-9]{1,3}(?:([. \u00a0])[0-9]{3})(?:\1[0-9]{3})*")
_UUID_AFTER = re.compile(r"-(?=[a-f]*[0-9])[0-9a-f]{4}\b")
_PART_NUMBER = re.compile(r"[0-9]+-[0-9]{4,}-[0-9]{1,2}")
_PAIRS = re.compile(r"[0-9]{2} [0-9]{2} [0-9]{2}")
_DECIMAL = re.compile(r"\+ ?[0-9]+\.[0-9]+")
_ZIP = re.compile(r"[0-9]{5}-[0-9]{4}")
_STATE_BEFORE = re.compile(r"\b[A-Z]{2}[\s,#*/]{1,8}$")
_AMERICAN = re.compile(r"(?:\+?1[\-. ]|001-)?(?:\([0-9]{3}\) ?|[0-9]{3}([\-.]))[0-9]{3}[\-.][0-9]{4}")
_AREA_CODE = re.compile(r"(?:\+|00|1)[0-9 .\-]{0,6}\([0-9]{1,5}\)[^(]*$|\([^(]*$")  # nothing else is in parentheses
_ROW_BEFORE = re.compile(r"[0-9][\s,;|]{1,3}$")
_ROW_AFTER = re.compile(r"[\s,;|]{1,2}[0-9]")
_CONTEXT = 36
_SLACK = 64  # a number that begins in a run of figures ends within so many characters behind the run
_AMERICAN_REGIONS = ("US", "CA")


def find_telephones(text: str, first: int, last: int, regions: Sequence[str]) -> Iterator[Match]:
    """Telephone numbers that begin in text[first:last]; `regions` are those whose national forms are known."""
    limit = min(last + _SLACK, len(text))
    found = _NUMBER.search(text, first, limit)
    while found is not None and found.start() < last:
        match = _first_accepted(text, found.start(), found.group(), regions)
        if match is not None:
            yield match
        # A candidate that was refused may hide a number behind its first line or its first gap.
        after = match.end if match is not None else _next_start(found)
        found = _NUMBER.search(text, after, limit)


def _next_start(found: re.Match[str]) -> int:
    gap = re.search(r"\n|  |\t", found.group())
    return found.start() + gap.end() if gap is not None else found.end()


def _first_accepted(text: str, start: int, candidate: str, regions: Sequence[str]) -> Match | None:
    """The first line alone, then both lines, each without what follows a gap of two spaces."""
    lines = candidate.split("\n")
    pieces = [lines[0]] if len(lines) == 1 else [lines[0], candidate]
    for piece in pieces:
        piece = _trimmed(re.split(r"[ \t\u00a0]{2,}|\t|--|\.\.|//", piece)[0])
        end = start + len(piece)
        if end < len(text) and (text[end].isalnum() or text[end] == "_") and not _EXTENSION.match(text, end):
            continue
        if _is_telephone(text, start, end, regions):
            extension = _EXTENSION.match(text, end)
            return Match(start, extension.end() if extension else end, "phone", national_part(piece)[1])
    return None


def _trimmed(piece: str) -> str:
    while piece and not piece[-1].isdigit():
        piece = piece[:-1]
    return piece


def digits_of(text: str) -> str:
    """The digits of a text in order."""
    return "".join(character for character in text if "0" <= character <= "9")


def national_part(piece: str) -> tuple[str, str]:
    """(what stands before, the national number), both as digits: country code or trunk zero, then the rest."""
    digits = digits_of(piece)
    if piece.startswith("+"):
        return _split_country(digits, "")
    if digits.startswith("00") and len(digits) > _MAX_BARE:
        return _split_country(digits[2:], "00")
    if len(digits) == 11 and digits[0] == "1":
        return "1", digits[1:]
    if digits.startswith("0"):
        return "0", digits[1:]
    return "", digits


def stand_in_mark(before: str, national: str) -> str:
    """The zeros that a stand-in's national part begins with: as few as leave no doubt that it is one."""
    return _SHORT_STAND_IN if before or len(national) <= _MAX_BARE else _LONG_STAND_IN


def _is_stand_in(piece: str, digits: str) -> bool:
    if not piece.startswith("+") and digits.startswith(_SHORT_STAND_IN):
        if len(digits) <= _MAX_BARE or digits.startswith(_LONG_STAND_IN):
            return True
    before, national = national_part(piece)
    return bool(before) and national.startswith(_SHORT_STAND_IN)


def _split_country(digits: str, before: str) -> tuple[str, str]:
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    for length in (1, 2, 3):
        if int(digits[:length] or "0") in COUNTRY_CODE_TO_REGION_CODE:
            return before + digits[:length], digits[length:]
    return before + digits[:1], digits[1:]


def _is_telephone(text: str, start: int, end: int, regions: Sequence[str]) -> bool:
    piece = text[start:end]
    digits = digits_of(piece)
    short = len(digits) == MIN_DIGITS - 1 and _PAIRS.fullmatch(piece) is not None
    if not (short or MIN_DIGITS <= len(digits) <= MAX_DIGITS) or len(set(digits)) < 3:
        return False
    if _DATE.match(piece) or _SOCIAL_SECURITY.fullmatch(piece) or _IPV4.fullmatch(piece):
        return False
    if "(" in piece[1:] and not _AREA_CODE.match(piece):
        return False
    if _is_stand_in(piece, digits):
        return False
    before, after = text[max(0, start - _CONTEXT) : start], text[end : end + 24]
    if (
        _UUID_AFTER.match(after)
        or _OTHER_BEFORE.search(before)
        or (after[:1] in tuple(".,:") and after[1:2].isdigit())
        or after[:1] == "%"
    ):
        return False
    separated = len(digits) < len(piece.strip("()"))
    extended = _EXTENSION.match(after) is not None
    if _NAMED_BEFORE.search(before) or _NAMED_AFTER.match(after):
        return True
    if _CALL_RIGHT_BEFORE.search(before) and " " in piece and not piece.endswith("000"):
        return short or len(digits) >= _CLEAR_DIGITS
    if short:
        return False
    if separated and (extended or _CALLED_BEFORE.search(before)):
        return not _THOUSANDS.fullmatch(piece)
    if _CALLED_BEFORE.search(before) and digits[0] == "0" and len(digits) >= 9:
        return True
    return _valid_alone(piece, digits, before, after, regions)


def _valid_alone(piece: str, digits: str, before: str, after: str, regions: Sequence[str]) -> bool:
    """Without a word beside it: a form that numbers are written in, and valid in its country's plan."""
    if piece.startswith("+"):
        return not _DECIMAL.fullmatch(piece) and _is_valid(piece, None)
    if _ZIP.fullmatch(piece) and _STATE_BEFORE.search(before):
        return False
    if _ROW_BEFORE.search(before) or _ROW_AFTER.match(after):
        return False
    if _AMERICAN.fullmatch(piece):
        return any(_is_valid(digits, region) for region in regions if region in _AMERICAN_REGIONS)
    if "\n" in piece or not re.search(r"[ \-/()]", piece) or min(map(len, re.findall(r"[0-9]+", piece))) < 2:
        return False
    if _PART_NUMBER.fullmatch(piece):
        return False
    if digits.startswith("00"):
        return _is_valid("+" + digits[2:], None)
    if not digits.startswith("0") or len(digits) < 9:
        return False
    return any(_is_valid(digits, region) for region in regions if region not in _AMERICAN_REGIONS)


def _is_valid(number: str, region: str | None) -> bool:
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number.replace("\n", " "), region)
    except phonenumbers.NumberParseException:
        return False
    return bool(phonenumbers.is_valid_number(parsed))
