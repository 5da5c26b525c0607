"""``nexus runs``: begin, await and end runs; reading them is in :mod:`nexus.cli.runs_reading`."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexus.cli import output, runs_reading
from nexus.cli.connection import Service, find_run, run_arguments, service_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nexus.sdk import Nexus, RunRef, RunResult

_PATIENT_S = 120.0  # a service that restarts is no reason to give up a wait
_INTERRUPTED = 130


@click.group(no_args_is_help=True)
def runs() -> None:
    """Runs: submit, list, show, wait, tree, logs, result, cancel.

    A run is named ALGORITHM ID or ALGORITHM/ID; a unique beginning or end of the id will do.

    Example: nexus runs submit solve --set n=3 --wait
    """


for _command in (runs_reading.list_, runs_reading.show, runs_reading.tree, runs_reading.logs, runs_reading.result):
    runs.add_command(_command)


@runs.command()
@click.argument("algorithm")
@click.option("--payload", metavar="FILE", help="JSON object with the parameters; `-` reads it from standard input.")
@click.option("--set", "pairs", metavar="KEY=VALUE", multiple=True,
              help="One parameter; VALUE is JSON, or else text; dots in KEY lead into objects (again for more).")  # fmt: skip
@click.option("--tag", help="A name to find the run by.")
@click.option("--parent", metavar="ALGORITHM/ID", help="The run that this one belongs to.")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="YAML or JSON file with sections that override the template's.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Accept and schedule, but start nothing.")
@click.option("--idempotency-key", metavar="KEY", help="The same key gives the same run, however often this is repeated.")
@click.option("--wait", is_flag=True, help="Wait for the end; the exit code is 1 unless the run completed.")
@click.option("--timeout", metavar="DURATION", help="With --wait: stop waiting after, for example, `90s` or `1h`.")
@output.output_option()
@service_options
def submit(algorithm: str, wait: bool, timeout: str | None, fmt: str, service: Service, **given: Any) -> None:
    """Submit a run of ALGORITHM.

    Example: nexus runs submit solve --payload problem.json --tag monday
    """
    if timeout is not None and not wait:
        from nexus.kernel.errors import InvalidInput

        raise InvalidInput("`--timeout` is how long to wait, and nothing waits", hint="add --wait")
    seconds = _seconds(timeout)
    parameters = read_parameters(given["payload"], given["pairs"])
    with service.connect() as nexus:
        ref = nexus.submit(
            algorithm,
            parameters,
            tag=given["tag"],
            parent=given["parent"],
            configuration=_read_configuration(given["config"]),
            dry_run=given["dry_run"],
            idempotency_key=given["idempotency_key"],
        )
    if wait:
        output.note(f"accepted {ref}")
        _wait(service, ref, seconds, fmt)
    elif fmt == "table":
        sys.stdout.write(f"{ref}\n")
    else:
        output.emit_one({"algorithm": ref.algorithm, "requestId": ref.id}, fmt)


@runs.command()
@run_arguments
@click.option("--timeout", metavar="DURATION", help="Stop waiting after, for example, `90s` or `1h`.")
@output.output_option()
@service_options
def wait(algorithm: str, run_id: str | None, timeout: str | None, fmt: str, service: Service) -> None:
    """Wait for the end of a run. The exit code is 1 unless it completed; Ctrl-C leaves the run going.

    Example: nexus runs wait solve 0193a1b2 --timeout 10m
    """
    seconds = _seconds(timeout)
    with service.connect() as nexus:
        ref = find_run(nexus, algorithm, run_id)
        nexus.result(ref)  # says at once that nobody answers, or that there is no such run; the wait itself is patient
    _wait(service, ref, seconds, fmt)


@runs.command()
@run_arguments
@click.option("--reason", help="Why; kept with the run.")
@click.option("--policy", type=click.Choice(("Background", "Foreground", "Orphan")), default="Background", show_default=True,
              help="Orphan cancels this run alone, the others its whole tree; Foreground waits for its processes.")  # fmt: skip
@click.option("--timeout", metavar="DURATION", help="With --policy Foreground: how long to wait, at most 60s.  [default: 30s]")
@output.output_option()
@service_options
def cancel(algorithm: str, run_id: str | None, policy: Any, timeout: str | None, fmt: str, service: Service, **given: Any) -> None:
    """Cancel a run. One that has ended stays as it is.

    The cancel is stored when this returns, and nothing of the run starts any more. Its processes are told to end at once; the
    service goes on until they have, also after a restart of it.

    Example: nexus runs cancel solve 0193a1b2 --reason "wrong input"
    """
    from nexus.cli import runs_views
    from nexus.kernel.errors import InvalidInput

    if timeout is not None and policy != "Foreground":
        raise InvalidInput(f"`--timeout` is for a cancel that waits, and {policy} does not", hint="add --policy Foreground")
    with service.connect() as nexus:
        ref = find_run(nexus, algorithm, run_id)
        left = nexus.cancel(ref, reason=given["reason"] or "", policy=policy, wait=_seconds(timeout))
        result = nexus.result(ref)
    if fmt == "table":
        output.emit_one({"run": str(ref), "stage": result.stage, "cause": result.message}, fmt)
    else:
        output.emit_one(runs_views.outcome(result), fmt)
    if left:
        output.note(f"{left}\nnexus runs show {ref}    tells of each attempt whether it has ended")


def read_parameters(payload: str | None, pairs: tuple[str, ...]) -> bytes | Path | dict[str, Any]:
    """The parameters a command line gives: a file as its path, or an object when ``--set`` changes it. Raises InvalidInput."""
    from nexus.kernel.errors import InvalidInput

    if payload is None and not pairs:
        return {}
    body = None if payload is None else sys.stdin.buffer.read() if payload == "-" else Path(payload)
    if not pairs:
        assert body is not None
        return body
    parameters: Any = {}
    if body is not None:
        try:
            parameters = json.loads(body.read_bytes() if isinstance(body, Path) else body)
        except OSError as error:
            raise InvalidInput(f"the payload file `{payload}` cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"the payload `{payload}` is not JSON: {error}") from error
    for pair in pairs:
        _set(parameters, pair)
    return dict(parameters)


def _set(parameters: Any, pair: str) -> None:
    from nexus.kernel.errors import InvalidInput

    key, equals, text = pair.partition("=")
    *path, last = key.split(".")
    if not equals or not all((*path, last)):
        raise InvalidInput(f"`--set {pair}` is not KEY=VALUE", hint="for example --set n=3 or --set limits.time=1.5")
    for step in path:
        parameters = parameters.setdefault(step, {}) if isinstance(parameters, dict) else None
    if not isinstance(parameters, dict):
        raise InvalidInput(f"`--set {pair}` leads into a value that is no object")
    try:
        parameters[last] = json.loads(text)
    except ValueError:
        parameters[last] = text
    except RecursionError:
        raise InvalidInput(
            f"the value of `--set {key}=…` is nested too deep", hint="give large parameters with --payload"
        ) from None


def _read_configuration(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    from nexus.kernel import documents
    from nexus.kernel.errors import InvalidInput

    try:
        configuration = documents.load(documents.decode(path.read_bytes(), str(path)), str(path))
    except documents.DocumentError as error:
        raise InvalidInput(error.finding.text()) from error
    if not isinstance(configuration, dict):
        raise InvalidInput(f"`{path}` must hold an object with sections such as `runtimeEnvironment`")
    return configuration


def _seconds(timeout: str | None) -> float | None:
    if timeout is None:
        return None
    from nexus.kernel.errors import InvalidInput
    from nexus.kernel.units import parse_span

    try:
        return parse_span(timeout).total_seconds()
    except ValueError as error:
        raise InvalidInput(f"--timeout: {error}") from None


def _wait(service: Service, ref: RunRef, timeout: float | None, fmt: str) -> None:
    from nexus.cli import runs_views

    try:
        with service.connect(_PATIENT_S) as nexus:
            result = _watched(nexus, ref, timeout)
    except KeyboardInterrupt:
        output.note(
            f"stopped waiting; run {ref} goes on\nnexus runs wait {ref}      waits again\nnexus runs cancel {ref}    ends it"
        )
        sys.exit(_INTERRUPTED)
    if fmt == "table":
        output.emit_one({"run": str(ref), "stage": result.stage, "cause": result.message}, fmt)
        if result.result_uri:
            output.note(f"nexus runs result {ref}    reads its result")
        elif result.stage in ("FAILED", "DEADLINE_EXCEEDED"):
            output.note(f"nexus runs logs {ref}    what it wrote\nnexus runs show {ref}    all that is known of it")
        elif not result.ok:
            output.note(f"nexus runs show {ref}    all that is known of it")
    else:
        output.emit_one(runs_views.outcome(result), fmt)
    sys.exit(0 if result.ok else 1)


def _watched(nexus: Nexus, ref: RunRef, timeout: float | None) -> RunResult:
    with _progress(f"{ref}") as tell:
        return nexus.wait(ref, timeout, on_change=lambda change: tell(change.stage))


@contextmanager
def _progress(what: str) -> Iterator[Callable[[str], None]]:
    """Tells stages: a spinner with the time on a terminal, lines elsewhere. Always on stderr."""
    if not sys.stderr.isatty():
        yield lambda stage: output.note(f"{what} {stage}")
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what)
        yield lambda stage: progress.update(task, description=f"{what} {stage}")
