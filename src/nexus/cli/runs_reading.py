"""The commands of ``nexus runs`` that read: list, show, tree, logs, result."""

from __future__ import annotations

import json
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import click

from nexus.cli import output
from nexus.cli.connection import Service, find_run, run_arguments, service_options

if TYPE_CHECKING:
    from nexus.sdk import Nexus, RunRef

STAGES = ("NEW", "BUFFERED", "RUNNING", "COMPLETED", "FAILED", "SCHEDULING_FAILED", "DEADLINE_EXCEEDED", "CANCELLED")
_PATIENT_S = 120.0
_MAX_SHOWN_BYTES = 64 << 20
_STEERING = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")  # control characters but tab, line feed, return


def _whole_id(_context: click.Context, _option: click.Parameter, given: str | None) -> str | None:
    """The id of ALGORITHM/ID, or the id alone. Raises InvalidInput for a piece of one: nothing would be found by it."""
    from nexus.kernel.errors import InvalidInput
    from nexus.kernel.ids import is_id

    if given is None or is_id(found := given.rpartition("/")[2]):
        return given and found
    raise InvalidInput(f"`{given}` is not a whole id", hint="`nexus runs list` shows ids whole")


@click.command(name="list")
@click.option("--algorithm", help="Only runs of this algorithm.")
@click.option("--stage", type=click.Choice(STAGES, case_sensitive=False), help="Only runs at this stage.")
@click.option("--tag", help="Only runs with this tag.")
@click.option("--root", metavar="ID", callback=_whole_id, help="Only runs of the tree with this root.")
@click.option("--parent", metavar="ID", callback=_whole_id, help="Only children of this run.")
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@output.output_option()
@service_options
def list_(limit: int, fmt: str, service: Service, **where: Any) -> None:
    """List runs, newest first.

    Example: nexus runs list --stage FAILED -n 50
    """
    from nexus.cli import runs_views

    with service.connect() as nexus:
        runs = list(nexus.runs(**where, limit=limit + 1))
    if len(runs) > limit:
        output.note(f"only the newest {limit}, there are more: -n {10 * limit}")
        runs.pop()
    shown = runs_views.plain if fmt in ("json", "yaml") else runs_views.row
    output.emit([shown(run) for run in runs], fmt, runs_views.COLUMNS, empty="no runs")


@click.command()
@run_arguments
@output.output_option()
@service_options
def show(algorithm: str, run_id: str | None, fmt: str, service: Service) -> None:
    """Everything about one run, and its attempts one by one.

    Example: nexus runs show solve 0193a1b2
    """
    from nexus.cli import runs_views

    with service.connect() as nexus:
        run = nexus.run(find_run(nexus, algorithm, run_id))
    if fmt != "table":
        output.emit_one(runs_views.flat(run) if fmt == "csv" else runs_views.plain(run), fmt)
        return
    output.emit_one(runs_views.record(run), fmt)
    if run.attempts:
        sys.stdout.write("\n")
        output.emit(runs_views.attempts(run), fmt, runs_views.ATTEMPT_COLUMNS)
        if any(each.logs for each in run.attempts):
            output.note(f"nexus runs logs {run.ref} --attempt N    what an attempt wrote")


@click.command()
@run_arguments
@click.option("--ascii", "ascii_only", is_flag=True, help="Draw without line characters.")
@output.output_option()
@service_options
def tree(algorithm: str, run_id: str | None, ascii_only: bool, fmt: str, service: Service) -> None:
    """The execution tree a run belongs to, from its root.

    Example: nexus runs tree portfolio 0193a1b2
    """
    from nexus.cli import runs_views

    with service.connect() as nexus:
        ref = find_run(nexus, algorithm, run_id)
        runs = nexus.tree(ref)
    if fmt == "table":
        unicode_ok = (sys.stdout.encoding or "").lower().startswith("utf")
        sys.stdout.write(runs_views.tree(runs, ref.id, ascii_only=ascii_only or not unicode_ok))
        return
    shown = runs_views.plain if fmt in ("json", "yaml") else runs_views.row
    output.emit([shown(run) for run in runs], fmt, runs_views.COLUMNS)


@click.command()
@run_arguments
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--attempt", type=click.IntRange(1), help="Which attempt.  [default: the newest]")
@click.option("--stream", type=click.Choice(("both", "stdout", "stderr")), default="both", show_default=True,
              help="Both keeps them apart: the run's stderr goes to stderr.")  # fmt: skip
@click.option("--tail", metavar="LINES", type=click.IntRange(0), help="Of what is there, only the last lines.  [default: all]")
@service_options
def logs(algorithm: str, run_id: str | None, stream: str, service: Service, **how: Any) -> None:
    """What the algorithm wrote.

    Example: nexus runs logs solve 0193a1b2 -f
    """
    follow, attempt = how["follow"], how["attempt"]
    with service.connect() as nexus:
        ref = find_run(nexus, algorithm, run_id)
        begun = nexus.run(ref).attempt
    if attempt is not None and attempt > begun and not follow:
        from nexus.kernel.errors import NotFound

        raise NotFound(f"run `{ref}` has no attempt {attempt}", hint=f"attempts begun so far: {begun}")
    with service.connect(_PATIENT_S if follow else 3.0) as nexus:
        if stream != "both":
            wrote = _copy(nexus, ref, stream, sys.stdout.buffer, how)
        elif follow:
            wrote = _copy_both(nexus, ref, how)
        else:
            wrote = _copy(nexus, ref, "stdout", sys.stdout.buffer, how)
            wrote |= _copy(nexus, ref, "stderr", sys.stderr.buffer, how)
    if not wrote and how["tail"] != 0:
        output.note(f"{ref} wrote nothing" + (f" in attempt {attempt}" if attempt else ""))


@click.command()
@run_arguments
@click.option("--to", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="Store it in this file, whole or not at all; `-` prints it.")  # fmt: skip
@click.option("--force", is_flag=True, help="With --to: overwrite a file that exists.")
@output.output_option("stored", *output.FORMATS, help_="`stored`: the bytes as they are; the others show a JSON result so.")
@service_options
def result(algorithm: str, run_id: str | None, to: Path | None, force: bool, fmt: str, service: Service) -> None:
    """The result of a completed run, as the algorithm stored it.

    Example: nexus runs result solve 0193a1b2 --to solution.json
    """
    from nexus.kernel.errors import InvalidInput

    if to is not None and str(to) != "-":  # which is the output, as everywhere
        _store(service, algorithm, run_id, to, force=force, fmt=fmt)
        return
    if force:
        raise InvalidInput("`--force` is about a file", hint="name it with --to FILE")
    with service.connect() as nexus:
        ref = find_run(nexus, algorithm, run_id)
        if fmt != "stored":
            output.emit_value(_json(nexus, ref), fmt)
            return
        for piece in nexus.result_pieces(ref):
            if sys.stdout.isatty() and b"\x00" in piece:
                raise InvalidInput(f"the result of `{ref}` is not text", hint="store it with --to FILE")
            _write(sys.stdout.buffer, piece)
        if sys.stdout.isatty():
            sys.stdout.write("\n")


def _store(service: Service, algorithm: str, run_id: str | None, to: Path, *, force: bool, fmt: str) -> None:
    from nexus.kernel.errors import Conflict, InvalidInput
    from nexus.kernel.units import format_bytes

    if fmt != "stored":
        raise InvalidInput(f"`--to` stores the result as it is, not as {fmt}", hint=f"leave out --to and redirect: -o {fmt} > {to}")
    with service.connect() as nexus:
        ref = find_run(nexus, algorithm, run_id)
        try:
            size = nexus.download(ref, to, overwrite=force)
        except Conflict as error:
            if to.exists() and not force:
                error.hint = "--force overwrites it"
            raise
    output.note(f"{to}: {format_bytes(size)}")


def _json(nexus: Nexus, ref: RunRef) -> Any:
    """The result as a value. Raises InvalidInput when it is no JSON, or more than a terminal is for."""
    from nexus.kernel.errors import InvalidInput
    from nexus.kernel.units import format_bytes

    data = bytearray()
    for piece in nexus.result_pieces(ref):
        data += piece
        if len(data) > _MAX_SHOWN_BYTES:
            raise InvalidInput(
                f"the result of `{ref}` has more than {format_bytes(_MAX_SHOWN_BYTES)}", hint="store it with --to FILE"
            )
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidInput(f"the result of `{ref}` is not JSON", hint="leave out -o, or store it with --to FILE") from None


def _copy(nexus: Nexus, ref: RunRef, stream: Any, to: BinaryIO, how: dict[str, Any]) -> bool:
    """Whether there was anything."""
    wrote = False
    for piece in nexus.logs(ref, stream=stream, **how):
        wrote |= bool(piece)
        _write(to, piece)
    return wrote


def _copy_both(nexus: Nexus, ref: RunRef, how: dict[str, Any]) -> bool:
    """Follows the two streams side by side, and says whether there was anything. The first failure of either is the command's."""
    failures: list[BaseException] = []
    wrote: list[bool] = []

    def follow(stream: Literal["stdout", "stderr"], to: BinaryIO) -> None:
        try:
            wrote.append(_copy(nexus, ref, stream, to, how))
        except Exception as error:  # carried to the main thread
            failures.append(error)

    threads = [
        threading.Thread(target=follow, args=("stdout", sys.stdout.buffer), daemon=True),
        threading.Thread(target=follow, args=("stderr", sys.stderr.buffer), daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return any(wrote)


def _write(to: BinaryIO, piece: bytes) -> None:
    """Bytes as they are; to a terminal without what would steer it."""
    to.write(_STEERING.sub(b"?", piece) if to.isatty() else piece)
    to.flush()
