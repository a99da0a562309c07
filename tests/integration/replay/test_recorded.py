"""Revisions that look at the catalog: recorded on the first targets, replayed where the schema is the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from orchestrator.databases.embedded import Server
from orchestrator.events import MigrationRetried, PlanJudged, ReplayRefused
from orchestrator.plan import recorded
from orchestrator.plan.compiled import Rendering
from orchestrator.plan.recorded import Recording
from orchestrator.registry.model import Target
from tests import engine, environments
from tests.engine import until
from tests.integration.replay import guarded
from tests.servers import MakeDatabases


@pytest.mark.parametrize("each", [True, False])
async def test_a_guarded_history_is_replayed_after_two_targets_and_comes_to_what_env_py_makes(
    each: bool, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    bodies = [guarded.USERS, guarded.TABLE, guarded.COLUMN, guarded.WORDED, *([guarded.INDEX] if each else [])]
    project = guarded.make_project(tmp_path / "project", *bodies, each=each)
    plain, *databases = await make_databases(8)
    async with engine.running(guarded.registry_of(project, pg, databases)) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 7}, view.failures
        assert guarded.judged(running).execution == "replay", guarded.judged(running).reason
        assert sorted(guarded.ways(running).values()) == ["online"] * 2 + ["replay"] * 5
        assert (await running.rollout()).counts == {"up_to_date": 7}
    expected = await guarded.as_online(project, pg, plain)
    for database in databases:
        assert await guarded.picture(pg, database) == expected


NOTES = 'CREATE TABLE notes (id int PRIMARY KEY, body text, "by hand" int)'


async def test_targets_with_other_schemas_have_recordings_of_their_own(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = guarded.make_project(tmp_path / "project", guarded.USERS, guarded.TABLE, guarded.COLUMN)
    plain, by_hand, *databases = await make_databases(12)
    await engine.provision(pg, plain, by_hand, *databases)
    for database in (by_hand, *databases[::2]):
        await engine.execute(pg, database, NOTES)
    async with engine.running(guarded.registry_of(project, pg, databases), max_concurrent=2) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 10}, view.failures
        assert sorted(guarded.ways(running).values()) == ["online"] * 4 + ["replay"] * 6
        assert [event.execution for event in running.of(PlanJudged)] == ["replay"] * 2
    expected = await guarded.as_online(project, pg, plain), await guarded.as_online(project, pg, by_hand)
    assert expected[0] != expected[1]
    for number, database in enumerate(databases):
        assert await guarded.picture(pg, database) == expected[number % 2 == 0]


async def test_a_target_whose_schema_has_drifted_goes_online_and_is_told(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = guarded.make_project(tmp_path / "project", guarded.USERS, guarded.TABLE)
    databases = await make_databases(6)
    await engine.provision(pg, *databases)
    await engine.execute(pg, databases[5], NOTES)
    with structlog.testing.capture_logs() as logs:
        async with engine.running(guarded.registry_of(project, pg, databases), max_concurrent=1) as running:
            assert (await running.rollout()).counts == {"succeeded": 6}
            assert guarded.ways(running)["t005"] == "online"
            assert sorted(guarded.ways(running).values()) == ["online"] * 3 + ["replay"] * 3
    (told,) = [line for line in logs if line["event"] == "schema_apart"]
    assert "only in the second: column | public.notes | 1 | id" in told["message"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "if op.get_bind().scalar(sa.text('SELECT count(*) FROM users')):\n    op.execute('CREATE TABLE t (a int)')",
            "r1: it reads users",
        ),
        (
            "sa.inspect(op.get_bind()).get_table_names()\n"
            "name = op.get_bind().scalar(sa.text('SELECT current_database()'))\n"
            "op.execute(f'UPDATE users SET name = $${name}$$')",
            "r1: it asks for current_database()",
        ),
        (
            "for name in sa.inspect(op.get_bind()).get_table_names():\n"
            "    op.execute(f'COMMENT ON TABLE {name} IS $$one of ours$$')",
            "r1: what was recorded of it on two targets differs",
        ),
        (
            "if sa.inspect(op.get_bind()).has_table('users'):\n"
            "    op.execute('DELETE FROM users')\n    import time; op.execute(f'SELECT {time.time()}')",
            "r1: it reads something outside of its database (`time`",
        ),
        (
            "from sqlalchemy.orm import Session\nif sa.inspect(op.get_bind()).has_table('users'):\n"
            "    Session(op.get_bind()).execute(sa.text('DELETE FROM users'))",
            "r1: it works through a Session of SQLAlchemy's ORM",
        ),
        (
            "if sa.inspect(op.get_bind()).has_table('users'):\n"
            "    print(op.get_bind().execute(sa.text('DELETE FROM users')).rowcount)",
            "r1: it asks the connection for an answer: the result's rowcount",
        ),
    ],
)
async def test_what_is_not_known_to_be_the_same_everywhere_stays_online(
    body: str, said: str, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """The version table is named after the tenant, as a table that is not the same everywhere."""
    project = guarded.make_project(tmp_path / "project", guarded.USERS, body, each=False)
    databases = await make_databases(5)
    registry = guarded.registry_of(project, pg, databases)
    targets = tuple(replace(target, version_table=f"version_{target.tenant}") for target in registry.targets)
    async with engine.running(replace(registry, targets=targets), max_concurrent=1) as running:
        assert (await running.rollout()).counts == {"succeeded": 5}
        assert set(guarded.ways(running).values()) == {"online"}
        judged = guarded.judged(running)
        assert (judged.execution, judged.differs) == ("online", False)
        assert said in str(judged.reason)


@pytest.mark.parametrize("lost", ["notes", "age"])
async def test_a_statement_that_is_lost_between_recording_and_replay_is_found_before_others_miss_it(
    lost: str, pg: Server, make_databases: MakeDatabases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = recorded.filled

    def forgetful(rendering: Rendering, recordings: Sequence[Recording]) -> Rendering:
        found = filled(rendering, recordings)
        steps = [replace(one, items=tuple(item for item in one.items if lost not in item)) for one in found.steps]
        assert tuple(steps) != found.steps
        return replace(found, steps=tuple(steps))

    monkeypatch.setattr(recorded, "filled", forgetful)
    project = guarded.make_project(tmp_path / "project", guarded.USERS, guarded.TABLE, NO_DATA)
    databases = await make_databases(6)
    async with engine.running(guarded.registry_of(project, pg, databases), max_concurrent=1) as running:
        assert (await running.rollout()).counts == {"succeeded": 6}
        judged = guarded.judged(running)
        assert (judged.execution, judged.differs) == ("online", True)
        assert "a replayed target differs from one that was migrated online" in str(judged.reason)
        assert lost in str(judged.reason)
        assert sorted(guarded.ways(running).values()) == ["online"] * 5 + ["replay"]


NO_DATA = """if "age" not in [c["name"] for c in sa.inspect(op.get_bind()).get_columns("users")]:
    op.add_column("users", sa.Column("age", sa.Integer))"""


async def test_what_the_server_refuses_of_a_recording_is_given_to_env_py(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    refused = f"{guarded.TABLE}\nop.execute('SELECT 1 / (CASE WHEN current_setting($$application_name$$) LIKE "
    refused += "$$orchestrator guard %%$$ THEN 0 ELSE 1 END)')"
    project = guarded.make_project(tmp_path / "project", guarded.USERS, refused.replace("%%", "%"))
    databases = await make_databases(5)
    async with engine.running(guarded.registry_of(project, pg, databases), max_concurrent=1) as running:
        assert (await running.rollout()).counts == {"succeeded": 5}
        assert sorted(guarded.ways(running).values()) == ["fallback"] + ["online"] * 4
        assert len(running.of(ReplayRefused)) == 1
        assert guarded.judged(running).differs
    pictures = [await guarded.picture(pg, database) for database in databases]
    assert pictures == pictures[:1] * 5


async def test_a_session_that_is_ended_in_the_middle_of_a_recording_is_taken_up_again(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = guarded.make_project(tmp_path / "project", guarded.USERS, guarded.TABLE, SLOW, guarded.COLUMN)
    databases = await make_databases(5)
    async with engine.running(guarded.registry_of(project, pg, databases), max_concurrent=1) as running:
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: _ends_a_replay(pg))
        await running.service.finished(view.rollout.id)
        after = await running.service.rollout(view.rollout.id)
        assert after.counts == {"succeeded": 5}, after.failures
        assert "was lost" in running.of(MigrationRetried)[0].message
    pictures = [await guarded.picture(pg, database) for database in databases]
    assert pictures == pictures[:1] * 5


SLOW = "if sa.inspect(op.get_bind()).has_table('notes'):\n    op.execute('SELECT pg_sleep(0.5)')"


async def _ends_a_replay(pg: Server) -> bool:
    """Whether a guard was found that sleeps; then it is ended."""
    query = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE wait_event = 'PgSleep' AND application_name LIKE 'orchestrator guard %'"""
    return len(await engine.fetch(pg, "postgres", query)) > 0


async def test_without_a_proof_nothing_is_recorded(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> None:
    project = guarded.make_project(tmp_path / "project", guarded.USERS, guarded.TABLE)
    databases = await make_databases(5)
    async with engine.running(guarded.registry_of(project, pg, databases, execution="replay")) as running:
        assert (await running.rollout()).counts == {"succeeded": 5}
        assert set(guarded.ways(running).values()) == {"mixed"}, "the first revision is SQL"


@pytest.mark.parametrize(("names_itself", "beside"), [(False, ()), (True, ()), (False, ("public",))])
async def test_schemas_of_one_database_are_replayed_where_nothing_names_them(
    names_itself: bool, beside: tuple[str, ...], pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    more = "\nop.execute(f'UPDATE users SET name = $${sa.inspect(bind).default_schema_name}$$ WHERE id = 1')"
    project = guarded.make_project(
        tmp_path / "project", guarded.USERS, guarded.TABLE, guarded.COLUMN + (more if names_itself else "")
    )
    (database,) = await make_databases(1)
    registry = guarded.registry_of(project, pg, [database])
    schemas = [f"Tenant {number}" for number in range(6)]
    targets = [
        Target(f"t{number}", "app", "pg", database, schema=schema, create_schema=True, search_path=beside)
        for number, schema in enumerate(schemas)
    ]
    async with engine.running(replace(registry, targets=tuple(targets)), max_concurrent=1) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 6}, view.failures
        replayed = "mixed" if names_itself else "replay"
        assert sorted(guarded.ways(running).values()) == sorted(["online"] * 2 + [replayed] * 4)
    for schema in schemas:
        rows = await engine.fetch(pg, database, f'SELECT id, name, age FROM "{schema}".users ORDER BY 1')
        first = schema if names_itself else "first"
        assert rows == [(1, first, 40), (2, "it's 100 % :id", 7), (3, None, 7)]


@pytest.mark.parametrize("template", ["async", "pyproject"])
async def test_an_env_py_of_another_template_is_recorded_as_well(
    template: environments.Template, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    if not environments.has_template(template):
        template = "async"
    project = tmp_path / "project"
    config = environments.make_project(project, template)
    for number, body in enumerate([guarded.USERS, guarded.TABLE, guarded.COLUMN]):
        guarded.add(project, number, body)
    databases = await make_databases(5)
    registry = guarded.registry_of(project, pg, databases)
    track = replace(registry.tracks["app"], config=config)
    async with engine.running(replace(registry, tracks={"app": track})) as running:
        assert (await running.rollout()).counts == {"succeeded": 5}
        assert sorted(guarded.ways(running).values()) == ["online"] * 2 + ["replay"] * 3
    pictures = [await guarded.picture(pg, database) for database in databases]
    assert pictures == pictures[:1] * 5


BY_DATA = """if op.get_bind().scalar(sa.text("SELECT count(*) FROM users")) > 1:
    op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True))"""
NOT_BY_DATA = "op.execute('DO $$ BEGIN PERFORM 1; END $$')"
# On env.py's way after BY_DATA: what is there may be another tenant's otherwise.
AFTERWARDS = """if not sa.inspect(op.get_bind()).has_table("notes"):
    op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True), sa.Column("body", sa.Text))"""


@pytest.mark.parametrize("before", [BY_DATA, NOT_BY_DATA])
async def test_after_a_revision_that_goes_by_the_data_each_schema_is_looked_at_again(
    before: str, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    bodies = [guarded.USERS, before, "op.execute('CREATE TABLE plain (a int)')", AFTERWARDS, guarded.COLUMN]
    project = guarded.make_project(tmp_path / "project", *bodies)
    plain, other, *databases = await make_databases(8)
    registry = guarded.registry_of(project, pg, [plain, other, *databases])
    with structlog.testing.capture_logs() as logs:
        async with engine.running(registry, max_concurrent=1) as running:
            await running.rollout("r0")
            for database in (other, databases[-1]):
                await engine.execute(pg, database, "INSERT INTO users VALUES (9, 'ninth')")
            running.events.clear()
            assert (await running.rollout(select="tenant notin (t000,t001)")).counts == {"succeeded": 6}
            replayed = "mixed" if before == BY_DATA else "replay"
            assert [guarded.ways(running)[f"t{number:03}"] for number in range(2, 8)][:5] == ["online"] * 2 + [
                replayed
            ] * 3
    apart = [line["tenant"] for line in logs if line["event"] == "schema_apart"]
    assert apart == (["t007"] if before == BY_DATA else [])
    expected = await guarded.as_online(project, pg, plain), await guarded.as_online(project, pg, other)
    for database in databases:
        assert await guarded.picture(pg, database) == expected[database == databases[-1]]


async def test_a_type_that_was_made_by_a_revision_that_asks_is_not_made_again(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """Alembic makes it once in a run; what could be rendered after it has it once more."""
    asks = f"if not sa.inspect(op.get_bind()).has_table('first'):\n    {_WITH_MOOD.format('first')}"
    project = guarded.make_project(tmp_path / "project", guarded.USERS, asks, _WITH_MOOD.format("second"))
    plain, *databases = await make_databases(6)
    async with engine.running(guarded.registry_of(project, pg, databases), max_concurrent=1) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 5}, view.failures
        assert sorted(guarded.ways(running).values()) == ["online"] * 2 + ["replay"] * 3
    expected = await guarded.as_online(project, pg, plain)
    for database in databases:
        assert await guarded.picture(pg, database) == expected


_WITH_MOOD = "op.create_table({0!r}, sa.Column('a', sa.Enum('sad', 'ok', name='mood')))"


@pytest.mark.parametrize("asks", ["environ", "x"])
async def test_an_env_py_in_a_process_of_its_own_is_recorded_but_not_what_asks_for_its_tenant(
    asks: str, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """A helper that revisions import may ask what their own source does not show."""
    project = guarded.make_project(tmp_path / "project", guarded.USERS, guarded.TABLE)
    environments.read_url_from_environ(project)
    reads = {"environ": "os.environ['DATABASE_URL']", "x": "context.get_x_argument()"}[asks]
    helper = f"helper_{asks}_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{helper}.py").write_text(f"import os\nfrom alembic import context\ndef told(): return {reads}\n")
    guarded.add(
        project, 2, f"import sys; sys.path.append({str(tmp_path)!r})\nimport {helper}\n{_UNLESS.format(helper)}"
    )
    databases = await make_databases(5)
    fields = {"isolation": "process", "environment": {"DATABASE_URL": "{url}"}}
    async with engine.running(guarded.registry_of(project, pg, databases, **fields), max_concurrent=1) as running:
        assert (await running.rollout("r1")).counts == {"succeeded": 5}
        assert sorted(guarded.ways(running).values()) == ["online"] * 2 + ["replay"] * 3
        running.events.clear()
        assert (await running.rollout()).counts == {"succeeded": 5}
        assert set(guarded.ways(running).values()) == {"online"}
        said = {"environ": "it reads the environment variable DATABASE_URL", "x": "it asks for -x arguments"}[asks]
        assert said in str(guarded.judged(running).reason)


_UNLESS = "if sa.inspect(op.get_bind()).has_table('users') and {0}.told():\n    op.execute('DELETE FROM notes')"
