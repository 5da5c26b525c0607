"""The OpenAPI description, made from the table of routes: served, committed, and exported as 3.0 for client generators. Pure."""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any

import msgspec

import nexus
from nexus.api import schemas
from nexus.api.routes import Field, Route
from nexus.api.table import ROWS

_REF = "#/components/schemas/{name}"
_VARIABLE = re.compile(r"{(\w+)\*?}")
_PARTS = {
    "algorithm": "Name of the algorithm.",
    "id": "Id of the run.",
    "tag": "The tag.",
    "stream": "`stdout` or `stderr`.",
    "name": "Name of the thing.",
    "view": "Name of the view.",
}
_REASONS = {
    400: "The request is wrong; the text says what.",
    401: "No token, or an unknown one.",
    403: "The token lacks the scope, or a foreign page asked.",
    415: "The content type is not JSON, or the body is encoded.",
    431: "The head of the request is too large.",
}
_RAW_FIELDS: dict[tuple[str, str], dict[str, Any]] = {  # carried as raw bytes by the structs, but not just anything
    ("CreateRequest", "algorithmParameters"): {"type": "object", "description": "Carried byte for byte, never decoded."},
    ("CreateRequest", "customConfiguration"): {"$ref": _REF.format(name="Configuration")},
    ("Metadata", "applied_configuration"): {"$ref": _REF.format(name="Configuration")},
    ("Metadata", "configuration_overrides"): {"$ref": _REF.format(name="Configuration")},
}
_INFO = """\
Accepts runs of algorithms, keeps them durably, follows them and hands back results.

`/algorithm/v1` is stable. `/algorithm/latest` is the newest API and may grow; `/algorithm/…` without a version is the same. \
Where v1 ignores fields it does not know, latest refuses them. Errors of v1 are text (404: HTML), those of latest JSON.
"""


@functools.cache
def text() -> bytes:
    """The description as it is served."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=2)


@functools.cache
def text_3_0() -> bytes:
    """The same for tools that read OpenAPI 3.0."""
    return msgspec.json.format(msgspec.json.encode(downgrade(document())), indent=2)


def document() -> dict[str, Any]:
    """The description as plain values (OpenAPI 3.1.0)."""
    types = [schemas.Configuration, schemas.ErrorAnswer, *_types()]
    refs, components = msgspec.json.schema_components([_without_raw(kind) for kind in types], ref_template=_REF)
    schema_of = dict(zip(map(repr, types), refs, strict=True))
    taken = {route.takes.__name__ for route in ROWS if isinstance(route.takes, type)}
    for name, component in components.items():
        if "description" in component:
            component["description"] = inspect.cleandoc(component["description"]).replace("``", "`")
        if not component.get("required", True):
            del component["required"]
        for field in component.get("properties", {}).values():
            if field.get("default", "") is None:
                del field["default"]
            if name not in taken:
                _never_null(field)
    for (struct, field), schema in _RAW_FIELDS.items():
        components[struct]["properties"][field] = schema
    paths: dict[str, dict[str, Any]] = {}
    for route in ROWS:
        for path, api in route.paths():
            shown = path.replace("*}", "}")
            paths.setdefault(shown, {})[route.method.lower()] = _operation(route, shown, api, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Nexus", "version": nexus.__version__, "description": _INFO},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _never_null(field: dict[str, Any]) -> None:
    """Takes null out of a field of an answer: what has no value is left out there."""
    options = [option for option in field.get("anyOf", ()) if option != {"type": "null"}]
    if options:
        del field["anyOf"]
        field.update(options[0] if len(options) == 1 else {"anyOf": options})


def downgrade(value: Any) -> Any:
    """An OpenAPI 3.1 description as 3.0: null types become ``nullable``, constants one-valued enumerations."""
    if isinstance(value, list):
        return [downgrade(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "openapi" in value:
        value = {**value, "openapi": "3.0.3"}
    options = value.get("anyOf")
    if isinstance(options, list) and {"type": "null"} in options:
        rest = [downgrade(option) for option in options if option != {"type": "null"}]
        others = {key: downgrade(item) for key, item in value.items() if key != "anyOf"}
        if len(rest) == 1 and "$ref" not in rest[0]:
            return {**rest[0], **others, "nullable": True}
        return {("allOf" if len(rest) == 1 else "anyOf"): rest, **others, "nullable": True}
    if "const" in value:
        value = {**{key: item for key, item in value.items() if key != "const"}, "enum": [value["const"]]}
    return {key: downgrade(item) for key, item in value.items()}


def _types() -> list[Any]:
    """Every struct the routes take or give, once."""
    found: dict[str, Any] = {}
    for route in ROWS:
        for kind in (route.takes, route.gives):
            if kind is not None and not isinstance(kind, str):
                found.setdefault(repr(kind), kind)
    return list(found.values())


def _without_raw(kind: Any) -> Any:
    """The struct with anything in place of raw bytes, which no schema can describe."""
    fields = msgspec.structs.fields(kind) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else ()
    if not any(field.type is msgspec.Raw for field in fields):
        return kind
    shown: list[Any] = []
    for field in fields:
        of = Any if field.type is msgspec.Raw else field.type
        default = None if isinstance(field.default, msgspec.Raw) else field.default
        shown.append((field.encode_name, of) if field.required else (field.encode_name, of, default))
    made = msgspec.defstruct(kind.__name__, shown, kw_only=True)
    made.__doc__ = kind.__doc__
    return made


def _operation(route: Route, path: str, api: str, schema_of: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{api}-{route.name}" if api else route.name,
        "tags": [route.group],
        "summary": route.doc.split(". ")[0].rstrip("."),
        "description": route.doc,
        "parameters": [_part(name) for name in _VARIABLE.findall(path)] + [_query(field, route) for field in route.query],
        "responses": _responses(route, api, schema_of),
        "security": [{"token": []}, {}] if route.scope is not None else [],
    }
    if route.name == "create":
        operation["parameters"].append(_header("Idempotency-Key", "The same key and request give the same run."))
    if route.takes is not None:
        operation["requestBody"] = {"required": True, "content": _content(route.takes, schema_of)}
    if not operation["parameters"]:
        del operation["parameters"]
    return operation


def _part(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": _PARTS[name], "schema": {"type": "string"}}


def _query(field: Field, route: Route) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": field.type}
    return {"name": field.name, "in": "query", "required": route.signed, "description": field.doc, "schema": schema}


def _header(name: str, doc: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": doc, "schema": {"type": "string", "maxLength": 255}}


def _responses(route: Route, api: str, schema_of: dict[str, Any]) -> dict[str, Any]:
    done: dict[str, Any] = {"description": route.doc.split(". ")[0].rstrip(".") + "."}
    if route.gives:
        done["content"] = _content(route.gives, schema_of)
    responses = {str(route.status): done}
    statuses = dict(route.statuses)
    if route.scope is not None:
        statuses = {401: _REASONS[401], 403: _REASONS[403], **statuses}
    if route.method == "POST":
        statuses = {400: _REASONS[400], 415: _REASONS[415], **statuses}
    for status in sorted(statuses):
        responses[str(status)] = {"description": statuses[status], **_error_content(status, api, route)}
    return responses


def _error_content(status: int, api: str, route: Route) -> dict[str, Any]:
    if status in (206, 416) or route.group == "service":
        return {}
    if api == "latest" and status != 401:
        return {"content": {"application/json": {"schema": {"$ref": _REF.format(name="ErrorAnswer")}}}}
    return {"content": {("text/html" if status == 404 else "text/plain"): {"schema": {"type": "string"}}}}


def _content(kind: Any, schema_of: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(kind, str):
        return {"application/json": {"schema": schema_of[repr(kind)]}}
    if kind == "application/json":
        return {kind: {"schema": {}}}
    schema = {"type": "string"} if kind.startswith("text/") else {"type": "string", "format": "binary"}
    return {kind: {"schema": schema}}
