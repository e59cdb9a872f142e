"""PDF, EPUB and DOCX: text in reading order, facts of the file, and every file that cannot be read as a bad row."""

import io
import sys
import zipfile

import pytest

from llmforge.corpus import xml_events
from llmforge.corpus.document import BadRow
from llmforge.corpus.docx_text import read_docx
from llmforge.corpus.epub_text import read_epub
from llmforge.corpus.pdf_text import join_pages, read_pdf
from llmforge.errors import MachineError


def zipped(parts: dict[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return out.getvalue()


def only(rows):
    found = list(rows)
    assert len(found) == 1 and found[0][0] == 1
    return found[0][1]


W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" xmlns:mc="urn:mc" xmlns:wps="urn:wps"'
BODY = f"""<?xml version="1.0" encoding="UTF-8"?><w:document {W}><w:body>
<w:p><w:pPr><w:pStyle w:val="Heading1"/><w:tabs><w:tab w:val="left"/></w:tabs></w:pPr><w:r><w:t>The </w:t></w:r>
<w:r><w:t>Whale</w:t></w:r></w:p>
<w:p><w:r><w:t xml:space="preserve">Call me </w:t></w:r><w:del><w:r><w:delText>Bob</w:delText></w:r></w:del>
<w:ins><w:r><w:t>Ishmael &amp; co.</w:t></w:r></w:ins><w:r><w:br/><w:t>Some</w:t><w:tab/><w:t>years</w:t></w:r>
<w:r><w:instrText>PAGE</w:instrText></w:r></w:p>
<w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>harpoon</w:t></w:r></w:p>
<w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>boat</w:t></w:r></w:p>
<w:tbl><w:tr><w:tc><w:p><w:r><w:t>Name</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>Age</w:t></w:r></w:p></w:tc></w:tr>
<w:tr><w:tc><w:p><w:r><w:t>Ahab</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>58</w:t></w:r></w:p></w:tc></w:tr></w:tbl>
<w:p><w:r><w:t>Before </w:t><mc:AlternateContent><mc:Choice><w:p><w:r><w:t>in a box</w:t></w:r></w:p></mc:Choice>
<mc:Fallback><w:p><w:r><w:t>in a box</w:t></w:r></w:p></mc:Fallback></mc:AlternateContent><w:t>after</w:t></w:r></w:p>
</w:body></w:document>"""
CORE = """<cp:coreProperties xmlns:cp="urn:cp" xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:title>Moby  Dick</dc:title>
<dc:creator>Melville</dc:creator></cp:coreProperties>"""


def test_a_docx_gives_its_paragraphs_lists_tables_and_boxes():
    row = only(read_docx(zipped({"word/document.xml": BODY, "docProps/core.xml": CORE}), "a.docx"))
    assert row == {
        "text": "The Whale\n\nCall me Ishmael & co.\nSome\tyears\n\n- harpoon\n- boat\n\nName | Age\nAhab | 58\n\n"
        "in a box\n\nBefore after",
        "title": "Moby Dick",
        "author": "Melville",
    }


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><w:document xmlns:w="w"><w:p>&b;</w:p></w:document>'
)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"word/other.xml": BODY}, "its part word/document.xml is missing"),
        ({"word/document.xml": BODY[:-30]}, "its XML is damaged"),
        ({"word/document.xml": BOMB}, "declares entities"),
        ({"word/document.xml": "<a>" + " " * (3 << 20) + "</a>"}, "unpacks to more than 1 MiB"),
    ],
)
def test_a_docx_that_cannot_be_read_is_a_bad_row(parts, reason, monkeypatch):
    monkeypatch.setattr(xml_events, "MAX_PART_BYTES", 1 << 20)
    row = only(read_docx(zipped(parts), "a.docx"))
    assert isinstance(row, BadRow) and reason in row.reason and row.where == "a.docx:1"


CHINESE = "鲸鱼是海里的动物"


@pytest.mark.parametrize("encoding", ["gb2312", "GBK", "Big5", "Shift_JIS", "EUC-JP", "ISO-8859-1", "UTF-16"])
def test_xml_in_any_encoding_that_python_knows_is_read(encoding):
    words = {"ISO-8859-1": "Wörter", "Big5": "鯨魚"}.get(encoding, "日本" if "J" in encoding else CHINESE)
    head = f'<?xml version="1.0" encoding="{encoding}"?>'
    body = f"{head}<w:document {W}><w:p><w:r><w:t>{words}</w:t></w:r></w:p></w:document>"
    assert only(read_docx(zipped({"word/document.xml": body.encode(encoding)}), "a.docx")) == {"text": words}
    package = f"{head}{PACKAGE.replace('The Sea', words)}".encode(encoding)
    row = only(read_epub(zipped({**BOOK, "OEBPS/book.opf": package}), "a.epub"))
    assert isinstance(row, dict) and row["title"] == words and row["chapters"] == 2


@pytest.mark.parametrize("encoding", ["x-klingon", "punycode", "idna", "rot13", "hex", "utf-7"])
def test_xml_in_an_encoding_that_is_none_is_a_bad_row(encoding):
    body = f'<?xml version="1.0" encoding="{encoding}"?><w:document {W}><w:p/></w:document>'
    row = only(read_docx(zipped({"word/document.xml": body}), "a.docx"))
    assert isinstance(row, BadRow) and "its XML is damaged" in row.reason
    row = only(read_epub(zipped({**BOOK, "META-INF/container.xml": body}), "a.epub"))
    assert isinstance(row, BadRow) and "its XML is damaged" in row.reason


def test_xml_nested_a_million_deep_is_read_in_bounded_time():
    deep = f"<w:document {W}>" + "<w:x>" * 1_000_000 + "<w:p><w:r><w:t>deep</w:t></w:r></w:p>" + "</w:x>" * 1_000_000
    row = only(read_docx(zipped({"word/document.xml": deep + "</w:document>"}), "a.docx"))
    assert row == {"text": "deep"}


@pytest.mark.parametrize("reader", [read_docx, read_epub])
def test_what_is_no_zip_is_a_bad_row(reader):
    row = only(reader(b"PK\3\4 but nothing more", "a"))
    assert isinstance(row, BadRow) and "it is damaged" in row.reason


CONTAINER = '<container xmlns="urn:c"><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
PACKAGE = """<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:title>The Sea</dc:title><dc:creator>A. B.</dc:creator><dc:language>en</dc:language></metadata><manifest>
<item id="two" href="ch%202.xhtml" media-type="application/xhtml+xml"/>
<item id="one" href="text/ch1.xhtml" media-type="application/xhtml+xml"/>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="pic" href="p.jpg" media-type="image/jpeg"/></manifest>
<spine><itemref idref="nav"/><itemref idref="one"/><itemref idref="two"/><itemref idref="one"/>
<itemref idref="gone"/></spine></package>"""
BOOK = {
    "META-INF/container.xml": CONTAINER,
    "OEBPS/book.opf": PACKAGE,
    "OEBPS/text/ch1.xhtml": "<html><head><title/></head><body><a id='x'/><h1>One</h1><p>First.</p></body></html>",
    "OEBPS/ch 2.xhtml": "<html><body><p>Second <i>words</i>.</p></body></html>",
    "OEBPS/nav.xhtml": "<html><body><p>Contents</p></body></html>",
}


def test_an_epub_gives_its_chapters_in_the_spines_order():
    assert only(read_epub(zipped(BOOK), "a.epub")) == {
        "text": "One\n\nFirst.\n\nSecond words.",
        "chapters": 2,
        "title": "The Sea",
        "author": "A. B.",
        "language": "en",
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"META-INF/container.xml": "<container/>"}, "names no book"),
        ({"OEBPS/book.opf": "<package/>"}, "no chapter with text"),
        ({"META-INF/encryption.xml": "<e><EncryptionMethod Algorithm='aes'/></e>"}, "it is encrypted"),
        ({"OEBPS/book.opf": BOMB}, "declares entities"),
    ],
)
def test_an_epub_that_cannot_be_read_is_a_bad_row(change, reason):
    row = only(read_epub(zipped({**BOOK, **change}), "a.epub"))
    assert isinstance(row, BadRow) and reason in row.reason


def made_pdf(pages: list[list[str]], trailer: str = "", extra: list[str] | None = None) -> bytes:
    """A PDF of lines of Latin-1 text, by the object and cross-reference tables of ISO 32000-1."""
    count = len(pages)
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(count))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {count}/Kids[{kids}]>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    ]
    for number, lines in enumerate(pages):
        shown = "".join(f"({line}) Tj 0 -14 Td " for line in lines)
        stream = f"BT /F1 12 Tf 50 750 Td {shown}ET"
        content = 5 + 2 * number
        fonts = "<</Font<</F1 3 0 R>>>>"
        objects.append(f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Resources{fonts}/Contents {content} 0 R>>")
        objects.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream")
    objects.extend(extra or [])
    out = bytearray(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj{body}endobj\n".encode("latin-1")
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += f"trailer<</Size {len(objects) + 1}/Root 1 0 R{trailer}>>\nstartxref\n{start}\n%%EOF".encode()
    return bytes(out)


def test_a_pdf_gives_its_pages_with_divided_words_joined():
    pytest.importorskip("pypdfium2", reason="needs the extra pdf")
    pages = [["The whale was an exam-", "ple of a sea beast that", "1"], ["swam on.", "It was well-", "known.", "2"]]
    data = made_pdf(pages, trailer="/Info 8 0 R", extra=["<</Title(The Sea)/Author(A. B.)>>"])
    row = only(read_pdf(data, "a.pdf"))
    assert isinstance(row, dict)
    assert row["text"] == "The whale was an example\nof a sea beast that\nswam on.\nIt was wellknown\n."
    assert (row["pages"], row["title"], row["author"]) == (2, "The Sea", "A. B.")


def test_a_title_of_a_pdf_that_is_no_text_is_a_fact_less():
    pytest.importorskip("pypdfium2", reason="needs the extra pdf")
    data = made_pdf([["Call me Ishmael."]], "/Info 6 0 R", ["<</Title <FEFF0041D8000042>/Author(A. B.)>>"])
    assert only(read_pdf(data, "a.pdf")) == {"text": "Call me Ishmael.", "pages": 1, "author": "A. B."}


def test_pages_are_joined_by_what_they_end_in():
    assert join_pages(["One.\r\nTwo.\r\n", "Three go", "on here-\r\nafter. 12", ""]) == (
        "One.\nTwo.\n\nThree go\non hereafter\n. 12"
    )
    assert join_pages(["It is well-known.", "a\x02\r\nb", "so well-\nknown it is"]) == (
        "It is well-known.\n\nab\n\nso well-known\nit is"
    )


ENCRYPT = "<</Filter/Standard/V 1/R 2/P -4/O(" + "o" * 32 + ")/U(" + "u" * 32 + ")>>"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.4\nnothing", "it is no whole PDF"),
        (b"", "it is no whole PDF"),
        (made_pdf([[]]), "hold no text"),
        (made_pdf([["secret"]], "/Encrypt 6 0 R/ID[(a)(a)]", [ENCRYPT]), "it is encrypted"),
    ],
)
def test_a_pdf_that_cannot_be_read_is_a_bad_row(data, reason):
    pytest.importorskip("pypdfium2", reason="needs the extra pdf")
    row = only(read_pdf(data, "a.pdf"))
    assert isinstance(row, BadRow) and reason in row.reason and row.where == "a.pdf:1"


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(MachineError, match=r"a\.pdf: reading this needs the package pypdfium2; .*llmforge\[pdf\]"):
        list(read_pdf(b"", "a.pdf"))
