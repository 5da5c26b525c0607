"""How service commands reach the service: ``--server`` and ``--token``, and the run an argument names."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from nexus.sdk import Nexus, RunRef

_QUICK_S = 3.0  # a person waits at the prompt: say soon that nobody answers
_SEARCHED = 1000
_SHORTEST = 4


class Service:
    """Where the service is; ``connect()`` begins to speak to it."""

    def __init__(self, server: str, token: str | None) -> None:
        self._server = server
        self._token = token

    def connect(self, retry_for: float = _QUICK_S) -> Nexus:
        """The client, to be used in a ``with``. *retry_for*: seconds to go on trying when nobody answers."""
        from nexus.sdk import Nexus

        return Nexus(self._server, self._token, retry_for=retry_for)


def service_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--server`` and ``--token``; the command gets a Service as ``service``."""

    @click.option("--server", envvar="NEXUS__SERVER", default="http://127.0.0.1:8080", show_default=True, show_envvar=True,
                  help="Address of the service.")  # fmt: skip
    @click.option("--token", envvar="NEXUS__TOKEN", show_envvar=True, help="Access token; better in the environment than here.")
    @functools.wraps(command)
    def with_service(*args: Any, server: str, token: str | None, **kwargs: Any) -> Any:
        return command(*args, service=Service(server, token), **kwargs)

    return with_service


def run_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the arguments ``ALGORITHM ID``, which may also be given as one, ``ALGORITHM/ID``."""
    command = click.argument("run_id", metavar="[ID]", required=False)(command)
    return click.argument("algorithm")(command)


def find_run(nexus: Nexus, algorithm: str, run_id: str | None) -> RunRef:
    """The run that the arguments name; of an id, a unique beginning or end of four characters will do.

    Raises InvalidInput, RunNotFound.
    """
    from nexus.kernel.errors import InvalidInput, RunNotFound
    from nexus.kernel.ids import is_id
    from nexus.sdk import RunRef

    ref = RunRef.parse(algorithm) if run_id is None else RunRef(algorithm, run_id)
    if is_id(ref.id):
        return ref
    if len(ref.id) < _SHORTEST:
        raise InvalidInput(f"`{ref.id}` is too short for an id", hint=f"give at least {_SHORTEST} characters of it")
    found = [
        run.ref
        for run in nexus.runs(algorithm=ref.algorithm, limit=_SEARCHED)
        if run.request_id.startswith(ref.id) or run.request_id.endswith(ref.id)
    ]
    if len(found) > 1:
        raise InvalidInput(f"`{ref.id}` fits {len(found)} runs of `{ref.algorithm}`", hint="give more characters of the id")
    if not found:
        raise RunNotFound(f"no run of `{ref.algorithm}` is `{ref.id}`", hint=f"nexus runs list --algorithm {ref.algorithm}")
    return found[0]
