"""Have a plan rendered to SQL by worker processes: twice, so that what was made up on the way is found out."""

from __future__ import annotations

import anyio
import anyio.to_thread

from orchestrator.errors import MigrationFailedError
from orchestrator.execute.given import env_url, env_variables, hidden
from orchestrator.history.jobs import CompileJob
from orchestrator.history.revisions import History
from orchestrator.history.workers import Workers
from orchestrator.plan import compiled as compiling
from orchestrator.plan.compiled import Compiled, Rendering
from orchestrator.plan.steps import Plan
from orchestrator.registry.model import Registry, Target


async def compile_plan(
    workers: Workers, registry: Registry, target: Target, history: History, plan: Plan, server: str
) -> Compiled:
    """The plan in segments, as rendered for this target and for another tenant's, where both came out alike. `server`:
    what its server calls its version.

    Raises TargetError when env.py cannot be run offline.
    """
    return compiling.compiled(plan, await render_plan(workers, registry, target, history, plan, server))


async def render_plan(
    workers: Workers, registry: Registry, target: Target, history: History, plan: Plan, server: str | None = None
) -> Rendering:
    """As `compile_plan`, not cut yet. `server` None: only to be looked at."""
    jobs = [_job(registry, one, history, plan, server) for one in (target, _another(registry, target))]
    found: list[Rendering | Exception] = [MigrationFailedError("not rendered") for _ in jobs]

    async def render(number: int, job: CompileJob) -> None:
        try:
            found[number] = await anyio.to_thread.run_sync(workers.compile, job, abandon_on_cancel=True)
        except Exception as exc:  # not through the task group, which would wrap it
            found[number] = exc

    async with anyio.create_task_group() as tasks:
        for number, job in enumerate(jobs):
            tasks.start_soon(render, number, job)
    first, second = found
    if isinstance(first, Exception):
        raise first
    if isinstance(second, Exception):
        raise second
    return compiling.agreed(first, second)


def _another(registry: Registry, target: Target) -> Target:
    """The first by name: the same whatever order the registry has them in."""
    others = (
        other
        for other in registry.targets
        if other.track == target.track
        and other.tenant != target.tenant
        and registry.kind_of(other) == registry.kind_of(target)
    )
    # Rendered twice also where there is none: what is made up on the way differs.
    return min(others, key=lambda other: other.tenant, default=target)


def _job(registry: Registry, target: Target, history: History, plan: Plan, server: str | None) -> CompileJob:
    url = env_url(registry, target, history.is_async)._replace(password=None)  # nothing connects
    environment = env_variables(registry, target, url)
    settled = history.env_py.settled(target)
    return CompileJob(
        track=registry.tracks[target.track],
        digest=history.digest,
        modules=history.snapshot.modules,
        tenant=target.tenant,
        plan=plan,
        dialect=registry.shards[target.shard].dialect,
        version_table=settled.version_table,
        version_table_schema=settled.version_table_schema or settled.schema,
        url=url.render_as_string(hide_password=False),
        environment=environment,
        secrets=hidden(url, environment),
        server=server,
    )
