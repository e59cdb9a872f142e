"""The headers of a tar file, read with more care than the standard library takes."""

from __future__ import annotations

import tarfile

MAX_HEADER_BYTES = 1 << 20  # of a tar member's long name or its own attributes
_LONG_HEADERS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


class CarefulHeader(tarfile.TarInfo):
    """tarfile holds the body of a long header in memory, whatever size it declares, and ends where one is damaged."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> CarefulHeader:
        """A header of its 512 bytes; raises ReadError where it is damaged or asks for too much."""
        try:
            found = super().frombuf(buf, encoding, errors)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            # tarfile takes a damaged header behind the first member for the archive's end.
            raise tarfile.ReadError(str(error)) from None
        if found.type in _LONG_HEADERS and found.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {found.size} bytes")
        return found
