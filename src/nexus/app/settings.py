"""Every setting of the service, and the only reader of the environment.

Defaults < file (TOML) < environment (``NEXUS__NAME``) < flags. The file is the one named, or ``nexus.toml`` in the data folder
when there is one. Each value remembers where it came from; ``nexus settings`` prints them. A value that cannot be is refused
with its name, its origin and what would do.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from nexus.kernel.errors import InvalidSetting
from nexus.kernel.units import format_bytes, memory_bytes, parse_span

ENVIRONMENT_PREFIX = "NEXUS__"
FILE = "nexus.toml"
LARGEST_INLINE = 16 * 2**20  # a row is held in memory whole, some at a time
_KEY = re.compile(r"""\s*\[?\s*["']?([\w-]+)["']?\s*[=\]]""")
# what clients read, and what algorithms find in their environment: no settings of the service
_NOT_OURS = frozenset({
    "CONFIG", "SERVER", "TOKEN", "ALGORITHM_NAME", "SHARD_NAME", "RUN_ID", "RUN_TOKEN", "ATTEMPT", "RESULT_FOLDER",
    "RESULT_UPLOAD_URL", "PARENT_ALGORITHM_NAME", "PARENT_REQUEST_ID",
})  # fmt: skip


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"`{value}` is not text")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"`{value}` is not a whole number")
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"`{str(value)[:64]}` is not a whole number") from None


def _port(value: Any) -> int:
    number = _whole(value)
    if not 0 <= number <= 65535:
        raise ValueError(f"`{number}` is no port; 0 to 65535, 0 takes a free one")
    return number


def _positive(value: Any) -> int:
    number = _whole(value)
    if number < 1:
        raise ValueError(f"`{number}` is less than 1")
    return number


def _natural(value: Any) -> int:
    number = _whole(value)
    if number < 0:
        raise ValueError(f"`{number}` is less than 0")
    return number


def _rate(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"`{value}` is not a number") from None
    if not 0 < number < 1e9:
        raise ValueError(f"`{value}` is not above 0")
    return number


def _switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError(f"`{value}` is neither `true` nor `false`")
    return word in ("true", "1", "yes")


def _size(value: Any) -> int:
    return memory_bytes(str(value).replace(" ", "").removesuffix("B"))  # as format_bytes prints them, too


def _sized(least: int, most: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        size = _size(value)
        if not least <= size <= most:
            raise ValueError(f"`{value}` is not from {format_bytes(least)} to {format_bytes(most)}")
        return size

    return parse


def _span(value: Any) -> timedelta:
    return value if isinstance(value, timedelta) else parse_span(str(value))


def _list(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
        raise ValueError(f"`{value}` is not a list of texts")
    return tuple(value)


def _choice(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        word = str(value).lower()  # existing configurations write `INFO`
        if word not in choices:
            raise ValueError(f"`{value}` is none of `{'`, `'.join(choices)}`")
        return word

    return parse


def _setting(default: Any, parse: Callable[[Any], Any], help_: str) -> Any:
    return field(default=default, metadata={"parse": parse, "help": help_})


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings of one service."""

    host: str = _setting("127.0.0.1", _text, "address to listen on")
    port: int = _setting(8080, _port, "port of the scheduler; 0 takes a free one")
    receiver_port: int | None = _setting(None, _port, "port of the receiver (default: the scheduler's)")
    data_dir: str = _setting("", _text, "folder that keeps everything (default: the platform's user data folder)")
    algorithms: tuple[str, ...] = _setting((), _list, "manifest files or folders registered at the start")
    registry: str = _setting("", _text, "root of a registry to show under /algorithm/latest/registry")
    advisories: str = _setting("", _text, "advisory snapshot; environments are then built only from locks audited against it")
    roles: str = _setting("all", _text, "which roles this process has")
    require_token: bool = _setting(False, _switch, "ask loopback callers for a token too")
    tls_cert: str = _setting("", _text, "certificate chain (PEM)")
    tls_key: str = _setting("", _text, "private key (PEM)")
    behind_proxy: bool = _setting(False, _switch, "a proxy in front terminates TLS")
    allowed_hosts: tuple[str, ...] = _setting((), _list, "host names this service answers to, beside loopback")
    max_payload: int = _setting(500 * 2**20, _sized(1, 2**50), "largest request body")
    inline_payload: int = _setting(64 * 2**10, _sized(0, LARGEST_INLINE), "bodies up to this size are kept in the run's row")
    max_waiting: int = _setting(1_000_000, _positive, "runs that may wait; more are answered 429")
    max_runs: int = _setting(0, _natural, "runs executed at once (0: four per core)")
    cpu_millicores: int = _setting(0, _natural, "processor share given to runs, in thousandths of a core (0: all)")
    memory: int = _setting(0, _size, "memory given to runs (0: 80 % of the machine's)")
    starts_per_s: float = _setting(50.0, _rate, "processes started a second, on average")
    starts_burst: int = _setting(100, _positive, "processes started at once after a pause")
    dispatch: str = _setting("on", _choice("on", "paused"), "whether waiting runs are started")
    retry_pause: timedelta = _setting(timedelta(seconds=1), _span, "pause before the first retry; doubles each time")
    retry_pause_ceiling: timedelta = _setting(timedelta(minutes=6), _span, "longest pause before a retry")
    tree_max_depth: int = _setting(16, _positive, "how deep an execution tree may grow")
    tree_max_runs: int = _setting(10_000, _positive, "how many runs an execution tree may have")
    reconcile_every: timedelta = _setting(timedelta(seconds=5), _span, "how often store and engine are compared")
    keep_logs: timedelta = _setting(timedelta(days=7), _span, "how long logs of ended runs are kept")
    keep_free: int = _setting(512 * 2**20, _size, "room kept on the disk: with less, the oldest logs go before their time")
    drain_timeout: timedelta = _setting(timedelta(seconds=10), _span, "how long open requests may take after SIGTERM")
    log_level: str = _setting("info", _choice("debug", "info", "warning", "error"), "what is logged")
    log_format: str = _setting("text", _choice("text", "json"), "how it is logged")


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """One setting as ``nexus settings`` shows it."""

    name: str
    value: Any
    origin: str
    help: str


def resolve(
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    file: str | None = None,
) -> tuple[Settings, list[Origin]]:
    """The settings and where each came from. A flag that is None (or an empty tuple) was not given.

    Raises InvalidSetting naming every setting that cannot be, its origin and what would do.
    """
    environ = os.environ if environ is None else environ
    file = file or environ.get(f"{ENVIRONMENT_PREFIX}CONFIG") or _file_of_folder(flags or {}, environ)
    from_file, lines, problems = _read(file) if file else ({}, {}, [])
    values: dict[str, Any] = {}
    origins: list[Origin] = []
    for each in fields(Settings):
        raw, origin = each.default, "default"
        if each.name in from_file:
            raw, origin = from_file[each.name], f"file {file}"
        variable = f"{ENVIRONMENT_PREFIX}{each.name.upper()}"
        if environ.get(variable):
            raw, origin = environ[variable], f"environment {variable}"
        flag = (flags or {}).get(each.name)
        if flag is not None and flag != ():
            raw, origin = flag, f"flag --{each.name.replace('_', '-')}"
        try:
            values[each.name] = raw if origin == "default" else each.metadata["parse"](raw)
        except ValueError as error:
            line = f":{lines[each.name]}" if origin.startswith("file ") and each.name in lines else ""
            problems.append(f"setting `{each.name}` (from {origin}{line}): {error}")
            continue
        origins.append(Origin(name=each.name, value=values[each.name], origin=origin, help=each.metadata["help"]))
    if problems:
        raise InvalidSetting("\n".join(problems), hint="`nexus settings` lists them all")
    settings = Settings(**values)
    _check_together(settings)
    return settings, origins


def check_platform(platform: str = sys.platform) -> None:
    """Raises InvalidSetting where the service cannot run at all."""
    if platform == "win32":
        raise InvalidSetting(
            "the service does not run on Windows: it needs POSIX processes, signals and file locks",
            hint="run it under WSL 2 or on a Linux machine; the client (`nexus runs …`) works from here with `--server`",
        )


def misspelt(environ: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each variable of the environment that looks like a setting and is none."""
    known = [each.name.upper() for each in fields(Settings)]
    told = []
    for variable in sorted(os.environ if environ is None else environ):
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if name == variable or name in known or name in _NOT_OURS or "__" in name:
            continue
        near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.75)
        if near:
            told.append(f"`{variable}` is no setting: did you mean `{ENVIRONMENT_PREFIX}{near[0]}`?")
    return told


def _file_of_folder(flags: Mapping[str, Any], environ: Mapping[str, str]) -> str | None:
    """The settings file in the data folder; None when there is none."""
    from nexus.adapters.folder import default_data_folder

    named = flags.get("data_dir") or environ.get(f"{ENVIRONMENT_PREFIX}DATA_DIR")
    file = (Path(named).expanduser() if named else default_data_folder()) / FILE
    if not file.is_file():
        return None
    if "data_dir" in _read(str(file))[0]:
        raise InvalidSetting(f"`{file}` names another `data_dir`", hint="remove that line: the file lies in the data folder")
    return str(file)


def _read(file: str) -> tuple[dict[str, Any], dict[str, int], list[str]]:
    """Values by name, the lines they stand in, and what is wrong with the names. Raises InvalidSetting: no file, no TOML."""
    try:
        text = Path(file).read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise InvalidSetting(f"the settings file `{file}` cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # TOML's and UTF-8's errors are values', and so is a number of 5,000 digits
        raise InvalidSetting(f"the settings file `{file}` is not valid TOML: {error}") from error
    known = [each.name for each in fields(Settings)]
    named = {key.replace("-", "_"): value for key, value in document.items()}
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        key = _KEY.match(line)
        if key is not None:
            lines.setdefault(key[1].replace("-", "_"), number)
    problems = []
    for name in sorted(set(named) - set(known)):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        place = f"{file}:{lines[name]}" if name in lines else file
        problems.append(f"setting `{name}` (from file {place}) is unknown" + (f": did you mean `{near[0]}`?" if near else ""))
    return named, lines, problems


def _check_together(settings: Settings) -> None:
    if settings.roles != "all":
        raise InvalidSetting(
            f"roles `{settings.roles}` need a server store: with SQLite all roles live in one process",
            hint="leave `roles` at `all`; `--receiver-port` gives the receiver a port of its own",
        )
    if settings.receiver_port and settings.receiver_port == settings.port:
        raise InvalidSetting(
            f"`receiver_port` and `port` are both `{settings.port}`", hint="leave `receiver_port` out: one port has all routes"
        )
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise InvalidSetting("TLS needs both `tls_cert` and `tls_key`", hint="give the other one too")
