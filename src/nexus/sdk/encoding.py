"""Values to JSON and back: parameters of the client, payloads and results of algorithms.

JSON here is strict and exact: NaN and infinities are refused (JSON has none; writing ``null`` for them would change the
value in silence), integers keep all their digits. NumPy arrays and scalars, and pydantic models, are taken without
importing either.
"""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

import msgspec

from nexus.kernel.errors import InvalidInput


class _AnyObject(msgspec.Struct):
    """Any JSON object: unknown fields are checked and skipped."""


def to_json(value: Any, what: str) -> bytes:
    """The value as JSON. Raises InvalidInput naming *what* when it cannot be written exactly."""
    try:
        plain = msgspec.to_builtins(value, str_keys=True, enc_hook=_plain)
        return json.dumps(plain, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{what} cannot be written as JSON: {error}",
            hint="use dicts, lists, text, numbers, dataclasses or msgspec structs; JSON has no NaN and no infinity",
        ) from error


def from_json(data: bytes, type_: Any, what: str) -> Any:
    """The JSON as a value of *type_* (``Any``: plain values, ``bytes``: as it is). Raises InvalidInput naming the field."""
    if type_ is bytes:
        return data
    try:
        return msgspec.json.decode(data, type=type_)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{what} does not fit `{_name(type_)}`: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{what} is not JSON: {error}") from error


def parameters_body(parameters: Any) -> bytes | Path:
    """Parameters as the bytes of a JSON object, or the path of a file that holds one. Raises InvalidInput."""
    if isinstance(parameters, Path):
        _check_file(parameters)
        return parameters
    body = bytes(parameters) if isinstance(parameters, (bytes, bytearray, memoryview)) else to_json(parameters, "the parameters")
    _check_object(body, "the parameters")
    return body


def _check_file(path: Path) -> None:
    """Looks at the file mapped, so that a large one is never in memory as a whole."""
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise InvalidInput(f"the payload file `{path}` is empty", hint="parameters are a JSON object, at least `{}`")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                _check_object(mapped, f"the payload file `{path}`")
    except OSError as error:
        raise InvalidInput(f"the payload file `{path}` cannot be read: {error.strerror or error}") from error


def _check_object(data: Any, what: str) -> None:
    if not len(data):
        raise InvalidInput(f"{what} are empty", hint="parameters are a JSON object, at least `{}`")
    try:
        msgspec.json.decode(data, type=_AnyObject)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{what} must be a JSON object: {error}", hint='for example {"n": 3}') from error


def _plain(value: Any) -> Any:
    for method in ("tolist", "model_dump"):  # numpy arrays and scalars; pydantic models
        convert = getattr(value, method, None)
        if callable(convert):
            return convert()
    plain: tuple[Any, ...] = (str, int, float, dict, list)
    for base in plain:  # their subclasses
        if isinstance(value, base):
            return base(value)
    raise TypeError(f"a `{_name(type(value))}` has no JSON form")


def _name(type_: Any) -> str:
    return type_.__name__ if isinstance(type_, type) else str(type_)
