"""The JSON Schema of a pipeline file: each step's body by its command's own schema, in which no key is required."""

from __future__ import annotations

import json
from typing import Any

from llmforge.stages import table
from llmforge.stages.pipeline import STEPS, RunConfig

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def pipeline_schema() -> str:
    """JSON Schema text for editors."""
    body: dict[str, Any] = {"$schema": _DIALECT, **RunConfig.model_json_schema()}
    definitions: dict[str, Any] = {}
    patterns: dict[str, Any] = {}
    for word, command in STEPS.items():
        schema = table.stage(command).schema.model_json_schema(ref_template=f"#/$defs/{word}.{{model}}")
        definitions |= {f"{word}.{name}": inner for name, inner in schema.pop("$defs", {}).items()}
        # The file that `config` names, and `<output_dir>/<step>`, give what is left out here.
        schema.pop("required", None)
        schema["properties"]["config"] = {"type": "string", "description": "a YAML file with the step's config"}
        definitions[word] = schema
        patterns[f"^{word}(-.*)?$"] = {"anyOf": [{"$ref": f"#/$defs/{word}"}, {"type": "null"}]}
    item = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": False}
    body["properties"]["steps"]["items"] = {**item, "patternProperties": patterns}
    body["$defs"] = definitions
    return json.dumps(body, indent=2) + "\n"
