"""What a bench's numbers were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """The processor's name, its CPUs, Python's version, and the machine's load before anything ran."""
    cpus = Path("/proc/cpuinfo")
    names = [line for line in cpus.read_text().splitlines() if "model name" in line] if cpus.exists() else []
    model = names[0].split(":")[1].strip() if names else platform.processor()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"cpu": model, "cpus": os.cpu_count(), "python": platform.python_version(), "load_at_start": load}
