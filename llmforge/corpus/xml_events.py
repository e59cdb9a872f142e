"""XML of foreign files (EPUB, DOCX) to a stream of events, without a tree and without entities.

Entity declarations are refused, which is what "billion laughs" and external entities need (CWE-776, CWE-611); nothing
is fetched. Parts are read from the zip with a limit, since a few bytes can unpack to gigabytes.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable
from xml.parsers import expat

from llmforge.corpus.compressed import Readable, open_bytes

MAX_FILE_BYTES = 256 << 20
MAX_PART_BYTES = 64 << 20
MAX_PARTS_BYTES = 512 << 20
MAX_PARTS = 20_000

OnStart = Callable[[str, dict[str, str]], None]
OnEnd = Callable[[str], None]
OnText = Callable[[str], None]


class UnreadableError(ValueError):
    """Why a book or office file gives no text; completes "rejected because"."""


def parse_xml(data: bytes, on_start: OnStart, on_end: OnEnd, on_text: OnText) -> None:
    """Calls back for each element (local name, attributes by local name) and text.

    Raises:
        UnreadableError: the XML is not well formed or declares entities.
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
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise UnreadableError(f"its XML is damaged ({error})") from None


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
