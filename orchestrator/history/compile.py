"""Render a plan to SQL through the project's own env.py, in Alembic's offline mode.

Statements are taken where Alembic emits them, one by one and as they are (its own offline output turns tabs into
spaces, inside of quoted text too). What cannot be rendered faithfully runs online, each revision for itself, with the
reason. Runs the project's code, once more than an upgrade would: only ever called in a worker process.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory

from orchestrator.errors import MigrationFailedError
from orchestrator.history import applications, failures, session, tasklocal, watching
from orchestrator.history import config as configuration
from orchestrator.history.arguments import TENANT, Arguments
from orchestrator.history.environment import settle
from orchestrator.history.jobs import CompileJob
from orchestrator.history.output import take_over
from orchestrator.history.outside import mentioned
from orchestrator.history.step_renderer import StepRenderer
from orchestrator.plan.compiled import VERSION_SCHEMA, VERSION_TABLE, RenderedStep, Rendering, all_online
from orchestrator.plan.lingering import type_made


def render(job: CompileJob, scripts: ScriptDirectory) -> Rendering:
    """The plan's steps as SQL, or with the reason why they must run online.

    Raises TargetError when env.py itself cannot be run offline.
    """
    tasklocal.install()
    session.install()
    rendering = StepRenderer(job, scripts)
    config = configuration.make(job.track, url=job.url, tenant=job.tenant)
    try:
        with (
            session.refused(),
            watching.environ(job.environment, rendering),
            applications.entered(scripts.dir),
            _Environment(config, scripts, job, rendering),
        ):
            scripts.run_env()
    except BaseException as exc:
        raise failures.translate(exc, rendering.current, scripts.dir, job.secrets) from exc
    if [step.revision for step in rendering.steps] != list(job.plan.steps):
        raise MigrationFailedError("env.py ended in offline mode without rendering all revisions")
    unmarked = job.dialect != "postgresql" and not rendering.marked
    found = Rendering(tuple(rendering.steps), tuple(rendering.before), rendering.create_version, unmarked)
    if rendering.afterwards is not None:
        return all_online(found, rendering.afterwards)
    return _sharing_types(found, scripts)


def _sharing_types(rendering: Rendering, scripts: ScriptDirectory) -> Rendering:
    """The rendering, of which each revision that runs online says so if it may name a type that another makes."""
    sent = (item for step in rendering.steps if step.reason is None for item in step.items if isinstance(item, str))
    made = set(filter(None, map(type_made, sent)))

    def told(step: RenderedStep) -> RenderedStep:
        if not made or step.reason is None or step.is_backfill or step.lingers is not None:
            return step
        name = mentioned(scripts.get_revision(step.revision).path, made)
        return step if name is None else replace(step, lingers=f"type {name}, which is made once in a run of env.py")

    return replace(rendering, steps=tuple(map(told, rendering.steps)))


def _notice_arguments(options: Any, asked: Callable[[], None]) -> None:
    """Notice whoever looks for `-x` where Alembic's command line keeps it."""

    class Watched(type(options)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            if name == "x" and not watching.is_library(sys._getframe(1).f_globals.get("__name__", "")):
                asked()
            return super().__getattribute__(name)

    options.__class__ = Watched


class _Environment(watching.WatchedEnvironment):
    """Offline mode, with our bind, our literals, and statements taken where they are emitted."""

    def __init__(self, config: Config, scripts: ScriptDirectory, job: CompileJob, rendering: StepRenderer) -> None:
        starting: Any = list(job.plan.heads) or "base"
        destination: Any = list(job.plan.goal) or "base"
        options = {"starting_rev": starting, "destination_rev": destination, "tag": None}
        self._job, self._rendering = job, rendering
        _notice_arguments(config.cmd_opts, self._by_tenant)
        super().__init__(config, scripts, fn=rendering.walk, as_sql=True, **options)

    def get_x_argument(self, as_dictionary: bool = False) -> Any:
        found = super().get_x_argument(as_dictionary)
        if as_dictionary:
            return Arguments(found, lambda key: self._by_tenant() if key == TENANT else None)
        self._by_tenant()
        return found

    def _by_tenant(self) -> None:
        self._rendering.everywhere = "env.py asks which tenant it is for, and may treat one unlike another"

    def asked(self, what: str) -> None:
        if self._rendering.current is not None:
            self._rendering.note(f"it asks {what}")

    def configure(self, connection: Any = None, *args: Any, **options: Any) -> None:
        if connection is not None:
            raise MigrationFailedError("env.py gives Alembic a connection in offline mode too")
        settle(self._job, options)
        options["version_table"] = VERSION_TABLE
        if options.get("version_table_schema") is not None:
            options["version_table_schema"] = VERSION_SCHEMA
        if options.get("on_version_apply"):
            self._rendering.everywhere = "env.py has `on_version_apply` callbacks, which only run online"
        options["on_version_apply"] = (self._rendering.applied,)
        options["literal_binds"] = True
        # Other styles double each percent sign, also in texts.
        options["dialect_opts"] = {**(options.get("dialect_opts") or {}), "paramstyle": "named"}
        options["output_buffer"] = io.StringIO()
        super().configure(None, *args, **options)
        context = self.get_context()
        if context.dialect.name != self._job.dialect:
            raise MigrationFailedError(f"env.py is set up for {context.dialect.name} in offline mode")
        take_over(context, self._rendering)
