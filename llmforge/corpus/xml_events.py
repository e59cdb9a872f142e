"""XML of foreign files (EPUB, DOCX) to a stream of events, without a tree and without entities.

Entity declarations are refused, which is what "billion laughs" and external entities need (CWE-776, CWE-611); nothing
is fetched. Parts are read from the zip with a limit, since a few bytes can unpack to gigabytes.
"""

from __future__ import annotations

import codecs
import io
import re
import zipfile
import zlib
from collections.abc import Callable
from xml.parsers import expat

from llmforge.corpus.compressed import Readable, open_bytes
from llmforge.corpus.decoding import SUPERSETS

MAX_FILE_BYTES = 256 << 20
MAX_PART_BYTES = 64 << 20
MAX_PARTS_BYTES = 512 << 20
MAX_PARTS = 20_000
MULTI_BYTE = frozenset(
    [
        *("big5", "big5hkscs", "cp950", "gb2312", "gbk", "gb18030", "hz", "euc_kr", "cp949", "johab", "iso2022_kr"),
        *("shift_jis", "shift_jis_2004", "shift_jisx0213", "cp932", "euc_jp", "euc_jis_2004", "euc_jisx0213"),
        *("iso2022_jp", "iso2022_jp_1", "iso2022_jp_2", "iso2022_jp_3", "iso2022_jp_2004", "iso2022_jp_ext"),
    ]
)  # what expat cannot read and Python can; no other codec of Python is let near foreign bytes
_DECLARED = re.compile(rb"\A(?:\xef\xbb\xbf)?<\?xml\s[^>]*?encoding\s*=\s*[\"']([\w.:-]+)[\"']")

OnStart = Callable[[str, dict[str, str]], None]
OnEnd = Callable[[str], None]
OnText = Callable[[str], None]


class UnreadableError(ValueError):
    """Why a book or office file gives no text; completes "rejected because"."""


def parse_xml(data: bytes, on_start: OnStart, on_end: OnEnd, on_text: OnText) -> None:
    """Calls back for each element (local name, attributes by local name) and text.

    Raises:
        UnreadableError: the XML is not well formed, declares entities, or is in an encoding that nobody knows.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = lambda name, attributes: on_start(
        _local(name), {_local(key): value for key, value in attributes.items()}
    )
    parser.EndElementHandler = lambda name: on_end(_local(name))
    parser.CharacterDataHandler = on_text
    parser.EntityDeclHandler = _refuse_entity
    try:
        parser.Parse(_readable(data), True)
    except UnreadableError:
        raise
    except (expat.ExpatError, ValueError, LookupError) as error:  # the last two: of an encoding it does not know
        raise UnreadableError(f"its XML is damaged ({error})") from None


def _readable(data: bytes) -> bytes | str:
    """The XML as text where it says that it is in an encoding of several bytes a character, of which expat reads only
    UTF-8 and UTF-16.
    """
    found = _DECLARED.match(data[:1024])
    try:
        name = codecs.lookup(found.group(1).decode("ascii")).name if found else "utf-8"
    except (LookupError, ValueError):
        return data
    return data.decode(SUPERSETS.get(name, name), "replace") if name in MULTI_BYTE else data


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _refuse_entity(*_: object) -> None:
    raise UnreadableError("its XML declares entities, as XML bombs do")


class Parts:
    """The parts of a zip file, in memory one at a time."""

    def __init__(self, what: Readable, where: str) -> None:
        with open_bytes(what, where) as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        self.size = len(data)
        if self.size > MAX_FILE_BYTES:
            raise UnreadableError(f"it is larger than {MAX_FILE_BYTES >> 20} MiB")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise UnreadableError(f"it is damaged ({error})") from None
        if len(self._zip.namelist()) > MAX_PARTS:
            raise UnreadableError(f"it has more than {MAX_PARTS:,} parts")
        self._left = MAX_PARTS_BYTES

    def __contains__(self, name: str) -> bool:
        return name in self._zip.NameToInfo

    def read(self, name: str) -> bytes:
        """One part's bytes.

        Raises:
            UnreadableError: it is missing, damaged, encrypted or too large.
        """
        info = self._zip.NameToInfo.get(name)
        if info is None:
            raise UnreadableError(f"its part {name} is missing")
        if info.flag_bits & 1:
            raise UnreadableError("it is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnreadableError(f"its part {name} is packed in a way that such files are not")
        limit = min(MAX_PART_BYTES, self._left)
        try:
            with self._zip.open(info) as part:
                data = part.read(limit + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
            raise UnreadableError(f"its part {name} is damaged ({error})") from None
        if len(data) > limit:
            raise UnreadableError(f"its part {name} unpacks to more than {limit >> 20} MiB")
        self._left -= len(data)
        return data
