"""The page of every setting, from the settings themselves."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta

from nexus.app.settings import ENVIRONMENT_PREFIX, Settings
from nexus.kernel.units import format_bytes, format_duration


def pages() -> dict[str, str]:
    lines = [
        "# Settings",
        "",
        "Defaults, then the settings file (TOML: `--config FILE`, else `nexus.toml` in the data folder), then the environment,",
        "then flags: the later wins.",
        "`nexus settings` prints each value with its origin. This page is generated.",
        "",
        "| setting | environment | default | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for each in fields(Settings):
        shown = _shown(each.default)
        lines.append(f"| `{each.name}` | `{ENVIRONMENT_PREFIX}{each.name.upper()}` | {shown} | {each.metadata['help']} |")
    return {"docs/reference/settings.md": "\n".join(lines) + "\n"}


def _shown(value: object) -> str:
    if value in (None, "", ()):
        return "–"
    if isinstance(value, timedelta):
        return f"`{format_duration(value.total_seconds())}`"
    if isinstance(value, int) and value and value % 1024 == 0:  # a size
        return f"`{format_bytes(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
