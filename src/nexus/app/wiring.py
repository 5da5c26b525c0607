"""Who is who: chooses the adapters of a service. Builds its parts from the settings and ties them together.

Nothing here runs; :mod:`nexus.app.roles` starts and stops what this returns.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from nexus.adapters.environment_gate import Gate
from nexus.adapters.environments import Environments
from nexus.adapters.files import FileObjects
from nexus.adapters.folder import DataFolder, default_data_folder
from nexus.adapters.process.engine import ProcessEngine
from nexus.adapters.sql import SqliteStore
from nexus.app import telemetry
from nexus.app.settings import Settings
from nexus.kernel.clock import Clock, SystemClock
from nexus.kernel.errors import Unavailable
from nexus.kernel.ids import IdMaker
from nexus.runs.algorithms import Algorithms
from nexus.runs.cancellation import Cancellation
from nexus.runs.completion import Completion
from nexus.runs.diagnosis import BackOff
from nexus.runs.dispatch import Capacity
from nexus.runs.dispatcher import Dispatcher
from nexus.runs.launching import Addresses
from nexus.runs.observing import ObservedStore
from nexus.runs.ports import Filter, TreeLimits
from nexus.runs.reading import Reading
from nexus.runs.results import folder_key
from nexus.runs.submission import Submission
from nexus.runs.supervision import Supervision
from nexus.runs.tagging import Tagging
from nexus.runs.urls import Signer

OnStep = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The parts of one service, tied together."""

    settings: Settings
    clock: SystemClock
    ids: IdMaker
    folder: DataFolder
    store: SqliteStore
    objects: FileObjects
    engine: ProcessEngine
    algorithms: Algorithms
    signer: Signer
    submission: Submission
    completion: Completion
    cancellation: Cancellation
    reading: Reading
    tagging: Tagging
    dispatcher: Dispatcher
    supervision: Supervision
    addresses: AddressBook


class AddressBook:
    """Where algorithms find the service; known when the doors are open."""

    def __init__(self, results_root: str, *, need_token: bool) -> None:
        self._results_root = results_root
        self._need_token = need_token
        self.scheduler = ""
        self.receiver = ""

    def make_folder(self, run_id: str) -> None:
        """Makes the folder in which a run's process may leave its result. Raises Unavailable."""
        folder = Path(self._results_root, folder_key(run_id))
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Unavailable(f"the result folder `{folder}` cannot be made: {error.strerror}") from error

    def __call__(self) -> Addresses:
        return Addresses(
            scheduler=self.scheduler, receiver=self.receiver, results_root=self._results_root, need_token=self._need_token
        )


def data_folder(settings: Settings) -> DataFolder:
    """The data folder the settings name, not opened yet."""
    return DataFolder(Path(settings.data_dir) if settings.data_dir else default_data_folder())


async def build(settings: Settings, folder: DataFolder, on_step: OnStep | None = None) -> Parts:
    """The parts of a service on an open data folder. Raises FolderUnusable and what opening the store raises."""
    clock = SystemClock()
    signer = Signer(folder.keys().signing, folder.clock(clock))
    objects = FileObjects(folder.path / "objects")
    environments = Environments(folder.path / "environments", gate=_gate(settings, clock))
    engine = ProcessEngine(folder.path / "engine", environments, clock, on_step=on_step)
    addresses = AddressBook(str(folder.path / "objects"), need_token=settings.require_token or settings.behind_proxy)
    sqlite = await SqliteStore.open(folder.path / "nexus.db", clock=clock, on_step=on_step)
    newest = await sqlite.page(Filter(), limit=1)
    store = ObservedStore(sqlite)
    algorithms = Algorithms(sqlite, clock)
    completion = Completion(store, clock, on_step=on_step)
    reading = Reading(store, objects, algorithms, engine, objects_root=str(folder.path / "objects"))
    dispatcher = Dispatcher(
        store,
        engine,
        algorithms,
        clock,
        capacity=capacity(settings),
        addresses=addresses,
        signer=signer,
        make_folder=addresses.make_folder,
        on_step=on_step,
    )
    dispatcher.paused = settings.dispatch == "paused"
    supervision = Supervision(
        store,
        engine,
        reading,
        completion,
        dispatcher,
        clock,
        back_off=BackOff(base=settings.retry_pause, ceiling=settings.retry_pause_ceiling),
        every=max(settings.reconcile_every, timedelta(milliseconds=100)),
        keep_logs=settings.keep_logs,
        is_tight=lambda: folder.free_bytes() < settings.keep_free,
    )
    store.listeners += [dispatcher.observe, reading.observe, telemetry.tell_stage]
    return Parts(
        settings=settings,
        clock=clock,
        ids=IdMaker(after=newest[0].id if newest else ""),
        folder=folder,
        store=sqlite,
        objects=objects,
        engine=engine,
        algorithms=algorithms,
        signer=signer,
        submission=_submission(settings, store, objects, algorithms, dispatcher, clock, on_step),
        completion=completion,
        cancellation=Cancellation(store, clock, supervision, on_step=on_step),
        reading=reading,
        tagging=Tagging(store, clock),
        dispatcher=dispatcher,
        supervision=supervision,
        addresses=addresses,
    )


def _submission(
    settings: Settings,
    store: ObservedStore,
    objects: FileObjects,
    algorithms: Algorithms,
    dispatcher: Dispatcher,
    clock: SystemClock,
    on_step: OnStep | None,
) -> Submission:
    return Submission(
        store,
        objects,
        algorithms,
        clock,
        host=socket.gethostname(),
        offer=dispatcher.offer,
        backlog=dispatcher.backlog,
        max_waiting=settings.max_waiting,
        tree_limits=TreeLimits(max_depth=settings.tree_max_depth, max_runs=settings.tree_max_runs),
        on_step=on_step,
    )


def _gate(settings: Settings, clock: Clock) -> Gate | None:
    """What environments of runs must pass; None when no snapshot is named. Raises AdvisoriesUnusable."""
    if not settings.advisories:
        return None
    from nexus.adapters import advisories
    from nexus.variants import gate

    snapshot = advisories.load(Path(settings.advisories))
    return Gate(name=snapshot.name, admit=lambda lock, machine: gate.require(lock, snapshot, clock.now(), targets=(machine,)))


def capacity(settings: Settings) -> Capacity:
    """What the machine gives to runs, by the settings or by what it has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Capacity(
        cpu_millicores=settings.cpu_millicores or cores * 1000,
        memory_bytes=settings.memory or memory * 4 // 5,
        runs=settings.max_runs or cores * 4,
        starts_per_s=settings.starts_per_s,
        burst=settings.starts_burst,
    )
