"""Personal data in the other fields of a row and in its id: the stand-ins of the text, and nothing else is touched."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmforge.cleaning.pii.anonymize import Anonymize, AnonymizeSettings
from llmforge.cleaning.pii.fields import Fields, HiddenFields
from llmforge.corpus.document import BadRow, Document

KEY = b"k" * 32
MAIL = "jane.doe@acme-widgets.com"


def hide(metadata: dict[str, Any], identity: str = "a.jsonl#1", id_key: str | None = None, **more: Any) -> HiddenFields:
    place = {"file": "a.jsonl", "row": 1}
    fields = Fields(Anonymize(AnonymizeSettings(**more), KEY))
    found = fields(Document(identity, "", "s", {**place, **metadata}), id_key)
    assert {name: found.metadata.pop(name) for name in place} == place
    return found


def stand_in(text: str) -> str:
    return Anonymize(AnonymizeSettings(), KEY).hide(text)


def test_fields_get_the_stand_ins_of_the_text_at_any_depth() -> None:
    found = hide(
        {"author": MAIL, "more": [{"to": [f"<{MAIL}>", 3, None]}], "url": "https://bob:hunter2pass@host.org/x"}
    )
    assert found.metadata["author"] == stand_in(MAIL) != MAIL
    assert found.metadata["more"] == [{"to": [f"<{stand_in(MAIL)}>", 3, None]}]
    assert found.metadata["url"] == stand_in("https://bob:hunter2pass@host.org/x")
    assert found.counts == {"email": 2, "password": 1}
    assert {one.stand_in for one in found.sealed} >= {stand_in(MAIL)}


@pytest.mark.parametrize(
    ("name", "value"), [("password", "hunter2pass"), ("nhs_number", "943 476 5870"), ("mobile", "07700900123")]
)
def test_the_name_of_a_field_says_what_its_value_is(name: str, value: str) -> None:
    assert stand_in(value) == value  # alone it could be anything
    found = hide({name: value})
    assert list(found.metadata) == [name] and found.metadata[name] != value
    assert not hide(dict(found.metadata)).counts  # a second pass finds nothing


def test_what_is_no_personal_data_stays_as_it_is() -> None:
    metadata = {
        "time": "2023-05-01T12:00:00Z",
        "views": "12345678",
        "number": 12125550187,
        "score": 0.5,
        "isbn": "978-3-16-148410-0",
        "digest": "sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ",
        "record": "<urn:uuid:6a1f2b3c-1b2a-4c3d-9e8f-001122334455>",
        "url": "https://site.org/2023/05/01/article/2125550187",
        "version": "1.2.3.4",
        "nothing": None,
        "yes": True,
        "file_": "a.txt",
    }
    found = hide(metadata)
    assert json.dumps(found.metadata) == json.dumps(metadata) and not found.counts and not found.sealed


def test_names_of_fields_are_looked_at_too_and_none_is_lost() -> None:
    found = hide({MAIL: 1, "inner": {MAIL: 2, "joe@acme.org": 3, "<EMAIL>": 4}}, action="mask")
    assert found.metadata == {"<EMAIL>": 1, "inner": {"<EMAIL>": 2, "<EMAIL>~2": 3, "<EMAIL>~3": 4}}


def test_an_own_id_is_hidden_and_one_of_file_and_row_is_not() -> None:
    found = hide({"id": MAIL}, MAIL, "id")
    assert found.id == found.metadata["id"] == stand_in(MAIL) and found.counts == {"email": 1}
    assert hide({"id": ""}, "a.jsonl#1", "id").id == "a.jsonl#1"
    assert hide({"id": 4539148803436467}, "4539148803436467", "id").id == "4539148803436467"
    assert hide({"file_": MAIL}, MAIL, "file").id == stand_in(MAIL)


def test_where_documents_are_dropped_fields_are_masked() -> None:
    assert hide({"author": MAIL}, action="drop_document").metadata == {"author": "<EMAIL>"}


def test_a_refused_row_tells_no_first_row_of_a_table_without_header() -> None:
    fields = Fields(Anonymize(AnonymizeSettings(), KEY))
    row = BadRow("a.csv:2", f"it has no text in field 'text' (other fields: {MAIL}, name)", 7)
    assert fields.refused(row).reason == f"it has no text in field 'text' (other fields: {stand_in(MAIL)}, name)"
    assert fields.refused(row).where == row.where and fields.refused(row).size == 7
    plain = BadRow("a.csv:3", "it is not text", 1)
    assert fields.refused(plain) is plain
