"""What editors need to check manifests as they are typed: JSON Schemas, and the line by which a file names its schema.

Made from the same descriptions the checks use. Called by ``nexus get schemas``, ``nexus new`` and the generated reference.
"""

from __future__ import annotations

import json
from typing import Any

from nexus.catalog import schema
from nexus.catalog.formats import FORMATS
from nexus.catalog.shapes import MOST, Anything, Either, Field, Flag, Items, Number, Shape, Text

FOLDER = "schemas"


def schemas() -> dict[str, str]:
    """File name → text of the schema of every manifest."""
    return {
        f"{name}.schema.json": json.dumps(json_schema(name, title, shape), indent=2, ensure_ascii=False) + "\n"
        for name, (title, shape) in schema.DOCUMENTS.items()
    }


def modeline(name: str, path: str) -> str:
    """The first line of a manifest at *path* of a registry that keeps its schemas in FOLDER."""
    return f"# yaml-language-server: $schema={'../' * path.count('/')}{FOLDER}/{name}.schema.json\n"


def json_schema(name: str, title: str, shape: Shape) -> dict[str, Any]:
    """The schema of one manifest, in draft 7, which editors know."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": f"urn:algorithm-nexus:schema:{name}",
        "title": title.replace("`", ""),
        **_schema(shape),
    }


def _schema(shape: Shape) -> dict[str, Any]:
    if isinstance(shape, Text):
        if shape.choices:
            return {"type": "string", "enum": list(shape.choices)}
        pattern = FORMATS[shape.format].pattern if shape.format else r"\S"
        return {"type": "string", "minLength": 1, "maxLength": shape.longest, "pattern": pattern}
    if isinstance(shape, Number):
        lowest = {"minimum": shape.lowest} if shape.lowest is not None else {}
        return {"type": "number" if shape.fraction else "integer", **lowest}
    if isinstance(shape, Flag):
        return {"type": "boolean"} if shape.only is None else {"const": shape.only}
    if isinstance(shape, Items):
        fewest = {"minItems": shape.fewest} if shape.fewest else {}
        return {"type": "array", "items": _schema(shape.of), **fewest, "maxItems": MOST}
    if isinstance(shape, Either):
        return {"anyOf": [_schema(one) for one in shape.of]}
    if isinstance(shape, Anything):
        return {}
    required = [key for key, field in shape.fields.items() if field.required]
    properties = {key: {"description": field.doc, **_field(field)} for key, field in shape.fields.items()}
    return {
        "type": "object",
        "additionalProperties": shape.open,
        "properties": properties,
        **({"required": required} if required else {}),
    }


def _field(field: Field) -> dict[str, Any]:
    """The schema of a key's value; an optional key may be left without one, which the checks only warn of."""
    made = _schema(field.shape)
    if field.required or not made:
        return made
    if "anyOf" in made:
        return {"anyOf": [*made["anyOf"], {"type": "null"}]}
    if "const" in made:
        return {"enum": [made["const"], None]}
    nullable = {**made, "type": [made["type"], "null"]}
    return {**nullable, "enum": [*made["enum"], None]} if "enum" in made else nullable
