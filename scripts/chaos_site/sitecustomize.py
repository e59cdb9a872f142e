"""Puts the faults of CHAOS_SPEC into every Python process that has this folder on its PYTHONPATH."""

import json
import os
import sys

if "CHAOS_SPEC" in os.environ:
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import chaos_hooks

    chaos_hooks.install(json.loads(os.environ["CHAOS_SPEC"]))
