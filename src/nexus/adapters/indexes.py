"""Which package indexes this machine is configured with, and the credentials for them.

Read in uv's order — environment, `uv.toml` — and then pip's configuration, which uv does not read. Credentials come from the
address, uv's environment variables, netrc or the `keyring` command (when `UV_KEYRING_PROVIDER=subprocess`); they never
stand in a repr or an error. Used by `nexus.adapters.uv` and `nexus.adapters.packageindex`.
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import netrc
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from nexus.adapters.uvprogram import find_packaged
from nexus.kernel.errors import ResolverUnavailable

_KEYRING_LIMIT_S = 20
_UV_LIMIT_S = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """One index. ``url`` carries no credentials."""

    url: str
    name: str = ""
    authorization: str = field(default="", repr=False)  # value of the HTTP header


def configured(environ: Mapping[str, str], project: Mapping[str, Any] | None = None) -> tuple[Index, ...]:
    """The indexes in the order they are asked; the default one last. *project* is a registry's `[tool.uv]` table."""
    extra, default = _uv_environment(environ)
    for table in (project or {}, *_uv_files(environ)):
        more, found = _uv_table(table)
        extra += more
        default = default or found
    default = default or pip_default(environ) or uv_default()
    seen: dict[str, Index] = {}
    for address in (*extra, default):
        index = _index(address, environ)
        seen.setdefault(index.url, index)
    return tuple(seen.values())


@lru_cache(maxsize=1)
def uv_default() -> str:
    """The index uv asks when nobody configured one, as uv itself says it. Raises ResolverUnavailable when uv does not say."""
    answer = ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(
            [
                find_packaged(),
                "pip",
                "compile",
                "--emit-index-url",
                "--offline",
                "--no-cache",
                "--no-header",
                "--no-config",
                "--quiet",
                "-",
            ],
            input="",
            capture_output=True,
            text=True,
            timeout=_UV_LIMIT_S,
            check=True,
            env={"PATH": os.defpath, "UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never"},
        ).stdout
    found = re.search(r"^--index-url (\S+)$", answer, re.MULTILINE)
    if found is None:
        raise ResolverUnavailable("no package index is configured, and `uv` names none", hint="set UV_DEFAULT_INDEX")
    return found[1]


def pip_default(environ: Mapping[str, str]) -> str:
    """The index pip is configured with; empty when it has none."""
    if address := environ.get("PIP_INDEX_URL"):
        return address
    for path in _pip_files(environ):
        parser = configparser.RawConfigParser()
        with contextlib.suppress(OSError, configparser.Error, UnicodeDecodeError):
            parser.read_string(path.read_text())
            if address := parser.get("global", "index-url", fallback=""):
                return address
    return ""


def _uv_environment(environ: Mapping[str, str]) -> tuple[list[str], str]:
    extra = [*environ.get("UV_INDEX", "").split(), *environ.get("UV_EXTRA_INDEX_URL", "").split()]
    return extra, environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL", "")


def _uv_files(environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    home = Path(environ.get("HOME", "/nonexistent"))
    config = Path(environ.get("XDG_CONFIG_HOME", home / ".config"))
    places = (
        [Path(environ["UV_CONFIG_FILE"])] if environ.get("UV_CONFIG_FILE") else [config / "uv" / "uv.toml", Path("/etc/uv/uv.toml")]
    )
    for place in places:
        with contextlib.suppress(OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
            yield tomllib.loads(place.read_text())


def _uv_table(table: Mapping[str, Any]) -> tuple[list[str], str]:
    """The extra addresses and the default one that a uv table names."""
    extra: list[str] = [str(address) for address in table.get("extra-index-url", ())]
    default = str(table.get("index-url", ""))
    for entry in table.get("index", ()):
        if not isinstance(entry, dict) or not isinstance(entry.get("url"), str) or entry.get("explicit"):
            continue
        address = f"{entry['name']}={entry['url']}" if isinstance(entry.get("name"), str) else entry["url"]
        if entry.get("default"):
            default = address
        else:
            extra.append(address)
    return extra, default


def _pip_files(environ: Mapping[str, str]) -> list[Path]:
    home = Path(environ.get("HOME", "/nonexistent"))
    config = Path(environ.get("XDG_CONFIG_HOME", home / ".config"))
    chosen = [Path(environ["PIP_CONFIG_FILE"])] if environ.get("PIP_CONFIG_FILE") else []
    return [*chosen, Path(sys.prefix) / "pip.conf", config / "pip" / "pip.conf", home / ".pip" / "pip.conf", Path("/etc/pip.conf")]


def _index(address: str, environ: Mapping[str, str]) -> Index:
    name, url = "", address
    if match := re.match(r"([A-Za-z0-9._-]+)=(https?://.*)", address):
        name, url = match[1], match[2]
    parts = urlsplit(url)
    host = parts.hostname or ""
    bare = urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else host, parts.path.rstrip("/"), "", ""))
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not password:
        user, password = _stored(name, bare, host, user, environ)
    token = base64.b64encode(f"{user}:{password}".encode()).decode() if user or password else ""
    return Index(url=bare, name=name, authorization=f"Basic {token}" if token else "")


def _stored(name: str, url: str, host: str, user: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """User and password for an index whose address has none."""
    key = re.sub(r"[^A-Z0-9]", "_", name.upper())
    if name and (password := environ.get(f"UV_INDEX_{key}_PASSWORD", "")):
        return environ.get(f"UV_INDEX_{key}_USERNAME", user), password
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        place = environ.get("NETRC") or str(Path(environ.get("HOME", "/nonexistent")) / ".netrc")
        if (entry := netrc.netrc(place).authenticators(host)) is not None:
            return entry[0] or user, entry[2] or ""
    if environ.get("UV_KEYRING_PROVIDER") == "subprocess" and user:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            answer = subprocess.run(
                ["keyring", "get", url, user],
                capture_output=True,
                text=True,
                timeout=_KEYRING_LIMIT_S,
                check=False,
                env=dict(environ),
            )
            if answer.returncode == 0:
                return user, answer.stdout.strip()
    return user, ""
