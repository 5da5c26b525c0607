"""The command line of one attempt. Pure; called when a run is started and when its submission is shown."""

from __future__ import annotations

import re

from nexus.runs.configuration import Configuration

_PLACEHOLDER = re.compile(r"%[%s]")


def render(configuration: Configuration, *, payload_url: str, run_id: str) -> tuple[str, ...]:
    """The words to execute: command and arguments, with payload URL and run id filled in.

    In an argument that contains ``sas-uri`` or ``request-id`` the first ``%s`` is filled in and ``%%`` becomes ``%``; every
    other argument, and the command, is literal.
    """
    return configuration.command + tuple(_fill(argument, payload_url, run_id) for argument in configuration.args)


def _fill(argument: str, payload_url: str, run_id: str) -> str:
    if "sas-uri" in argument:
        value = payload_url
    elif "request-id" in argument:
        value = run_id
    else:
        return argument
    pending = [value]

    def replacement(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        return pending.pop() if pending else match[0]

    return _PLACEHOLDER.sub(replacement, argument)
