"""The page of all keys: ``.venv/bin/python -m hvae_core.runs.keys > docs/configuration.md``."""

from __future__ import annotations

from typing import Any

import yaml

from hvae_core.runs.config import Config

COMMAND = ".venv/bin/python -m hvae_core.runs.keys > docs/configuration.md"
STARTS = {  # the key that each group of them starts with
    "name": "Run",
    "dataset": "Data",
    "model": "Model",
    "betas": "Grid",
    "epochs": "Training",
    "generated_samples": "Evaluation",
    "blocks": "Batch",
}
WORDS = {"boolean": "`true`, `false`", "null": "`null`", "string": "text"}
REFERENCES = {"BetaRange": "`{low, high, points}`", "FixedTotal": "`{total, shares}`"}
LIMITS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "up to"}
TOP = f"""\
# Configuration

<!-- Made of hvae_core/runs/config.py by {COMMAND} -->

The keys of a run stand in its [profile](profiles.md), a YAML file, and \
`./run_all.sh PROFILE --set key=value` changes them for one run. \
In notebooks 00 and 10, `changes = {{...}}` does the same. \
A key is given once, and text is taken as it is written: `name=010` is no number.

| key | allowed | default | meaning |
|---|---|---|---|
"""


def page() -> str:
    """The page in Markdown: one table, a row a key."""
    schema = Config.model_json_schema()["properties"]
    rows = []
    for key, field in Config.model_fields.items():
        if key in STARTS:
            rows.append(f"| **{STARTS[key]}** ||||")
        meaning = " ".join((field.description or "").split())
        rows.append(f"| `{key}` | {allowed(schema[key])} | `{plain(schema[key]['default'])}` | {meaning} |")
    return TOP + "\n".join(rows) + "\n"


def allowed(schema: dict[str, Any], s: str = "") -> str:
    """What a JSON schema allows, in words; in the plural with an ``s``.

    Example:
        >>> allowed({"type": "array", "items": {"type": "integer", "minimum": 1}})
        'list of integers from 1'
    """
    if "anyOf" in schema:
        choices = " or ".join(allowed(choice, s) for choice in schema["anyOf"])
        return f"({choices})" if s else choices
    if "$ref" in schema:
        return REFERENCES[schema["$ref"].rpartition("/")[2]]
    if "enum" in schema:
        return ", ".join(f"`{plain(value)}`" for value in schema["enum"])
    if schema["type"] == "array":
        return f"list{s} of {allowed(schema['items'], 's')}"
    limits = [f" {word} {schema[limit]:g}" for limit, word in LIMITS.items() if limit in schema]
    return WORDS.get(schema["type"], schema["type"] + s) + "".join(limits)


def plain(value: Any) -> str:
    """As YAML has it, in one line."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False).removesuffix("...\n").strip()


if __name__ == "__main__":
    print(page(), end="")
