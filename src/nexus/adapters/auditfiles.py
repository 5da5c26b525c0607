"""Everything an audit of a registry needs, read from its folder: locks, snapshot, waivers, targets.

The CLI, `nexus show package`, the HTTP API and whoever builds an environment centrally call :func:`read` and hand the result to
the pure audit or gate. What is missing is carried as a reason, because an audit without data has to say so and not to pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from nexus.adapters import advisories as advisory_files
from nexus.adapters import durable
from nexus.kernel import documents
from nexus.kernel.errors import AdvisoriesUnusable, InvalidInput, NotAudited, UnknownVariant
from nexus.variants import audit, auditwaivers, gate, model, pins
from nexus.variants.audit import Lock, Report
from nexus.variants.auditsnapshot import Snapshot
from nexus.variants.auditwaivers import Waiver
from nexus.variants.model import Advisories

FOLDER = "advisories"


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What an audit takes. ``missing`` says why ``snapshot`` is None."""

    locks: tuple[Lock, ...]
    snapshot: Snapshot | None
    missing: str
    waivers: tuple[Waiver, ...]
    targets: tuple[Mapping[str, str], ...]
    max_age: timedelta

    def records(self, now: datetime) -> list[gate.Record]:
        """The gate's record of each lock. Raises NotAudited when there is no snapshot."""
        if self.snapshot is None:
            raise NotAudited(f"the locks cannot be audited: {self.missing}")
        return [gate.record(lock, self.snapshot, now, waivers=self.waivers, targets=self.targets) for lock in self.locks]

    def check(self, records: Sequence[gate.Record], now: datetime) -> None:
        """Returns when there is a valid record for each lock, made with this snapshot. Raises NotAudited for the first without."""
        held = {record.lock: record for record in records}
        for lock in self.locks:
            if lock.name not in held or self.snapshot is None:
                why = "the records do not name it" if self.snapshot is not None else self.missing
                raise NotAudited(f"`{lock.name}` is not installed: {why}", hint="audit it with `nexus audit --record FILE`")
            gate.check(held[lock.name], lock, now, snapshot_sha256=self.snapshot.id)

    def report(self, now: datetime) -> Report:
        """The audit of these inputs at *now*."""
        return audit.audit(
            self.locks,
            self.snapshot,
            now=now,
            waivers=self.waivers,
            targets=self.targets,
            max_age=self.max_age,
            missing=self.missing,
        )


def read(root: Path, variants: Sequence[str] = (), files: Sequence[Path] = (), snapshot: Path | None = None) -> Inputs:
    """The inputs for these variants, or these files, or (neither given) every variant the registry declares.

    Raises UnknownVariant, and InvalidInput for waivers or settings with findings.
    """
    declaration = read_declaration(root)
    said = settings(declaration)
    names = _names(root, variants, declaration) if variants or not files else ()
    locks = [_lock(root, name, declaration) for name in names] + [_file(path) for path in files]
    if not locks:
        raise InvalidInput(
            f"`{root}` declares no variant and has no requirements-<variant>.txt", hint="give a file with `-r`, or `--root`"
        )
    held, missing = _snapshot(snapshot or snapshot_folder(root, declaration))
    targets = tuple(audit.environment(target.python, target.platform) for target in declaration.rules.targets)
    return Inputs(
        locks=tuple(locks), snapshot=held, missing=missing, waivers=read_waivers(root),
        targets=targets or audit.TARGETS, max_age=said.max_age or audit.MAX_AGE,
    )  # fmt: skip


def write_records(path: Path, records: Sequence[gate.Record]) -> None:
    """Writes the gate's records of some locks as one JSON file, whole or not at all. Raises InvalidInput."""
    data = msgspec.json.format(msgspec.json.encode(records), indent=2) + b"\n"
    try:
        durable.write(path, data)
    except OSError as error:
        raise InvalidInput(f"`{path}` cannot be written: {error.strerror}") from error


def read_records(path: Path) -> tuple[gate.Record, ...]:
    """The records in a file. Raises InvalidInput when it holds something else; the gate checks what they say."""
    try:
        return tuple(msgspec.json.decode(_text(path, documents.MAX_BYTES * 4), type=list[gate.Record]))
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(f"`{path}` holds no audit records: {error}", hint="write it with `nexus audit --record FILE`") from error


def snapshot_folder(root: Path, declaration: model.Declaration | None = None) -> Path:
    """Where the registry's snapshot is: as its settings say, else ``advisories/`` in it, else this user's own."""
    said = settings(declaration or read_declaration(root))
    if said.snapshot:
        return root / said.snapshot
    if (root / FOLDER).is_dir():
        return root / FOLDER
    return user_folder()


def user_folder() -> Path:
    """The snapshot of this user, shared by registries that have none of their own."""
    import platformdirs

    return Path(platformdirs.user_data_dir("nexus")) / FOLDER


def read_waivers(root: Path) -> tuple[Waiver, ...]:
    """The registry's waivers of advisories. Raises InvalidInput with every finding: a broken waiver waives nothing."""
    path = root / auditwaivers.FILE
    if not path.is_file():
        return ()
    waivers, findings = auditwaivers.read(_text(path, documents.MAX_BYTES), auditwaivers.FILE)
    if any(finding.severity == "error" for finding in findings):
        raise InvalidInput("\n".join(["the waivers cannot be used", *(finding.text() for finding in findings)]))
    return tuple(waivers)


def settings(declaration: model.Declaration) -> Advisories:
    """What the registry says of its advisories. Raises InvalidInput with every finding when that cannot be used."""
    if declaration.rules.advisories is not None and not any(finding.code == "NX-V01" for finding in declaration.findings):
        return declaration.rules.advisories
    wrong = [finding.text() for finding in declaration.findings if finding.code in ("NX-V01", "NX-V03", "NX-V05")]
    raise InvalidInput("\n".join(["the settings of advisories cannot be used", *wrong]))


def read_declaration(root: Path) -> model.Declaration:
    """The variants the registry declares; none without a pyproject.toml."""
    path = root / model.FILE
    return model.read(_text(path, documents.MAX_BYTES) if path.is_file() else "")


def lock_files(root: Path) -> list[Path]:
    """The lock files that the registry has."""
    paths = [root / file(name) for name in model.NAMES for file in (pins.file_of, pins.git_file_of)]
    return [path for path in paths if path.is_file()]


def packages_of(files: Sequence[Path]) -> dict[str, set[str]]:
    """Every package the requirements files pin (normalised), with its versions. Raises InvalidInput for unreadable lines."""
    found: dict[str, set[str]] = {}
    for path in files:
        parsed = pins.parse(_text(path, pins.MAX_BYTES), path.name)
        if parsed.findings:
            raise InvalidInput(
                "\n".join([f"`{path.name}` has lines that pin nothing", *(finding.text() for finding in parsed.findings)])
            )
        for pin in parsed.pins:
            found.setdefault(pin.name, set()).update({pin.version} - {""})
    return found


def _names(root: Path, asked: Sequence[str], declaration: model.Declaration) -> tuple[str, ...]:
    declared = tuple(declaration.variants)
    present = tuple(name for name in model.NAMES if name in declared or (root / pins.file_of(name)).is_file())
    for name in asked:
        if name not in present:
            raise UnknownVariant(f"the registry declares no variant `{name}`", hint=f"it has: {', '.join(present) or 'none'}")
    return tuple(dict.fromkeys(asked)) or present


def _lock(root: Path, variant: str, declaration: model.Declaration) -> Lock:
    paths = [root / pins.file_of(variant), root / pins.git_file_of(variant)]
    if not any(path.is_file() for path in paths):
        reason = f"`{pins.file_of(variant)}` is missing: write it with `nexus variants resolve {variant}`"
        return Lock(name=variant, files={}, reason=reason)
    texts = {path.name: _text(path, pins.MAX_BYTES) for path in paths if path.is_file()}
    declared = declaration.variants.get(variant)
    return Lock(name=variant, files=texts, empty=declared is not None and declaration.usable and not declared.requirements)


def _file(path: Path) -> Lock:
    return Lock(name=path.name, files={str(path): _text(path, pins.MAX_BYTES)})


def _snapshot(path: Path) -> tuple[Snapshot | None, str]:
    try:
        return advisory_files.load(path), ""
    except AdvisoriesUnusable as error:
        return None, f"{error.message} ({error.hint})" if error.hint else error.message


def _text(path: Path, limit: int) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise InvalidInput(f"`{path}` has more than {limit} bytes")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"`{path}` is not UTF-8", hint="save it as UTF-8") from error
    except OSError as error:
        raise InvalidInput(f"`{path}` cannot be read: {error.strerror}") from error
