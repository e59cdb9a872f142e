"""Archives in memory for the tests of readers."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping


def tarred(files: Mapping[str, bytes]) -> bytes:
    """A tar of the files, by name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
