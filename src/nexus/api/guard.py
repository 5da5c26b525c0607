"""Which runs a caller may see, and waiting for them. Called by every handler that shows a run."""

from __future__ import annotations

import asyncio

from nexus.api.request import ClientGone, Request
from nexus.api.routes import Route
from nexus.api.services import Context
from nexus.kernel.access import Principal, Scope
from nexus.kernel.errors import MissingScope, RunNotFound, SpawningOver
from nexus.kernel.ids import is_id
from nexus.kernel.units import format_duration
from nexus.runs import lifecycle
from nexus.runs.model import Run


def permit(route: Route, principal: Principal, parts: tuple[str, ...]) -> None:
    """Raises MissingScope when the caller may not use the route; what depends on the run's tree is left to the handler."""
    if route.scope is None or route.scope in principal.scopes:
        return
    if Scope.RUN in principal.scopes and route.run is not None:
        mine = principal.run_id
        if route.run == "spawn" or (route.run == "own" and mine in (None, parts[1])) or (route.run == "tree" and mine is not None):
            return
        raise MissingScope("the token of a run is good for its own run and tree", hint="use a token with the scope `read`")
    raise MissingScope(
        f"the token `{principal.name}` lacks the scope `{route.scope}`",
        hint=f"`nexus tokens create NAME --scope {route.scope}` makes one",
    )


async def find_run(context: Context, request: Request, *, wait_s: float = 0.0) -> Run:
    """The run the path names (algorithm, id); with *wait_s* once it has ended, or after that time.

    Raises RunNotFound, MissingScope (the token of a run of another tree), ClientGone.
    """
    algorithm, run_id = request.parts[0], request.parts[1]
    if not is_id(run_id):
        raise RunNotFound(f"no run of `{algorithm[:64]}` has the id `{run_id[:64]}`", hint="ids are those `nexus runs list` shows")
    reading = context.services.reading
    run = await reading.run(algorithm, run_id)
    await check_tree(context, request.principal, run)
    if wait_s <= 0 or run.stage.final or context.draining.is_set():
        return run
    waiting = asyncio.ensure_future(reading.run(algorithm, run_id, wait_s=wait_s))
    drained, gone = asyncio.ensure_future(context.draining.wait()), asyncio.ensure_future(disconnected(request))
    futures: set[asyncio.Future[object]] = {waiting, drained, gone}  # type: ignore[arg-type]
    try:
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        if gone.done():
            raise ClientGone
        return await reading.run(algorithm, run_id)
    finally:
        for future in futures:
            future.cancel()
        await asyncio.gather(*futures, return_exceptions=True)


async def check_tree(context: Context, principal: Principal, run: Run) -> None:
    """Raises MissingScope when the caller is a run's own process and *run* belongs to another tree."""
    root_id = await root_of(context, principal)
    if root_id is not None and run.root_id != root_id:
        raise MissingScope("the token of a run is good for its own run and tree", hint="use a token with the scope `read`")


async def root_of(context: Context, principal: Principal) -> str | None:
    """The root of the only tree the caller may see; None when it may see every run. Raises MissingScope."""
    if principal.run_id is None:
        return None
    own = await context.services.reading.find(principal.run_id)
    if own is None:
        raise _not_kept()
    return own.root_id


async def check_spawner(context: Context, principal: Principal) -> None:
    """Raises SpawningOver when the caller is the process of a run that has ended, MissingScope when that run is not kept."""
    if principal.run_id is None:
        return
    services = context.services
    run = await services.reading.find(principal.run_id)
    if run is None:
        raise _not_kept()
    if not run.stage.final:
        return
    process_ended = await services.reading.process_ended(run)
    over_s = 0.0 if process_ended else services.elapsed.since_end_s(run)
    if not lifecycle.may_spawn(run, over_s, process_ended=process_ended):
        raise SpawningOver(
            f"run `{run.algorithm}/{run.id}` is {run.stage}: its token submits no more runs",
            hint="a run submits others until it ends, and after its own report while its process lives, for at most "
            f"{format_duration(lifecycle.LINGER_S)}; others use a token with the scope `submit`",
        )


def _not_kept() -> MissingScope:
    return MissingScope("the run of this token is not kept any more")


async def disconnected(request: Request) -> None:
    """Returns when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
