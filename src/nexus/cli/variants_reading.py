"""What the commands of ``nexus variants`` start from: their options, the registry as read, uv and the index as they are asked."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexus.cli import output
from nexus.cli.registry import tell_edit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus.adapters.uv import Uv
    from nexus.variants.model import Declaration, Variant
    from nexus.variants.resolution import Committed


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """How the resolver is asked."""

    time_limit: float
    offline: bool
    build: bool


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of everything that asks the resolver, as its argument ``how``."""

    @click.option(
        "--time-limit", type=click.FloatRange(1, 3600), default=120.0, show_default=True, help="Seconds for a call of uv."
    )
    @click.option("--offline", is_flag=True, help="Use only what uv's cache holds.")
    @click.option("--build", is_flag=True, help="Source archives may be built, which runs their code.")
    @functools.wraps(command)
    def run(*, time_limit: float, offline: bool, build: bool, **rest: Any) -> None:
        command(how=Asking(time_limit=time_limit, offline=offline, build=build), **rest)

    return run


@dataclass(frozen=True, kw_only=True)
class Registry:
    """What every command here starts from."""

    root: Path
    declaration: Declaration
    committed: Committed
    chosen: tuple[Variant, ...]


def load(names: Sequence[str], root: Path | None, *, usable: bool = False, build: bool = False, to_edit: bool = False) -> Registry:
    """The registry, its declaration and pins. With *usable*, errors of the declaration are printed and end the command.

    *build* allows what `build = true` in `[tool.nexus]` allows; *to_edit*: an interrupted edit is undone before it is read.
    """
    from nexus.adapters import history
    from nexus.kernel.errors import InvalidInput
    from nexus.variants import resolution
    from nexus.variants.model import NAMES

    wanted = [name for name in names if name in NAMES]
    places = [name for name in names if name not in NAMES]
    if len(places) > 1 or (places and root is not None) or (places and not Path(places[-1]).is_dir()):
        wanted += places  # an unknown name: refused with the declared ones
        places = []
    place = place_of(Path(places[0]) if places else root)
    tell_edit(place, undo=to_edit)
    declaration, committed = _read(history.read_texts(place, _paths()))
    if build:
        declaration = replace(declaration, rules=replace(declaration.rules, build=True))
    if usable and not declaration.usable:
        for finding in declaration.findings:
            output.note(finding.text())
        raise InvalidInput(
            "the variants cannot be resolved as they are declared", hint="mend the findings above in `pyproject.toml`"
        )
    return Registry(root=place, declaration=declaration, committed=committed, chosen=resolution.select(declaration, wanted))


def _paths() -> tuple[str, ...]:
    from nexus.variants import resolution
    from nexus.variants.model import FILE, NAMES

    return (FILE, *resolution.files_of(NAMES))


def _read(texts: dict[str, str]) -> tuple[Declaration, Committed]:
    from nexus.variants import model, resolution

    declaration = model.read(texts.get(model.FILE, ""))
    return declaration, resolution.read_committed(texts, declaration.variants)


def at(root: Path, git: Any, revision: str) -> tuple[Declaration, Committed]:
    """Declaration and pins at a revision; empty: the folder as it is."""
    from nexus.adapters import history

    if not revision:
        return _read(history.read_texts(root, _paths()))
    texts = {path: text for path in _paths() if path != "uv.lock" and (text := git.text(revision, path)) is not None}
    return _read(texts)


def place_of(root: Path | None) -> Path:
    from nexus.kernel.errors import NotARegistry

    place = root or Path()
    if not (place / "pyproject.toml").is_file():
        raise NotARegistry(f"`{place}` has no `pyproject.toml`, where variants are declared", hint="give the registry's folder")
    return place


def members_of(root: Path) -> frozenset[str] | None:
    """The names of the registered packages; None in a registry that has none."""
    from packaging.utils import canonicalize_name

    names = frozenset(str(canonicalize_name(place.parent.name)) for place in (root / "packages").glob("*/nexus.yaml"))
    return names or None


def uv_of(how: Asking, declaration: Declaration) -> Uv:
    from nexus.adapters.uv import Uv

    uv = Uv(time_limit_s=how.time_limit, offline=how.offline, build=declaration.rules.build)
    _end_on_interrupt(uv.end)
    return uv


def _end_on_interrupt(end: Callable[[], None]) -> None:
    """Ctrl-C ends what threads wait for at once: uv runs in sessions of its own, which the terminal does not reach."""
    import signal
    import threading

    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():
        return

    def interrupted(number: int, frame: Any) -> None:
        end()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGINT, interrupted)
    click.get_current_context().call_on_close(lambda: signal.signal(signal.SIGINT, before))


def index_of(declaration: Declaration) -> Any:
    import platformdirs

    from nexus.adapters.packageindex import PackageIndex

    index = PackageIndex(project=declaration.uv, cache=Path(platformdirs.user_cache_dir("nexus")))
    _end_on_interrupt(index.end)
    return index
