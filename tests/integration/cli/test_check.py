"""`orchestrator check` and `orchestrator tenants`."""

from __future__ import annotations

import json

from tests import environments
from tests.integration.cli.conftest import Project


async def test_a_registry_without_mistakes_is_shown_with_its_histories(project: Project) -> None:
    done = await project.run("check")
    assert done.code == 0, done.err
    assert "6 tenants, 6 targets" in done.out
    assert "  revisions  2" in done.out
    assert "  heads      beta" in done.out
    assert "sync, with sqlite+pysqlite, in a thread" in done.out
    assert not any(path.stat().st_size for path in (project.folder / "dbs").iterdir()), "nothing was connected to"


async def test_all_mistakes_of_a_registry_are_told_at_once_with_their_places(project: Project) -> None:
    file = project.folder / "tenants.yaml"
    file.write_text(file.read_text().replace("sqlite:///dbs", "sqlite:///dbs\n    colour: blue") + "\nextra: 1\n")
    done = await project.run("check")
    assert done.code == 2
    assert done.err.startswith("error: tenants.yaml: 2 mistakes\n  tenants.yaml:")
    assert "unknown key 'colour'" in done.err
    assert "unknown key 'extra'" in done.err


async def test_several_heads_are_a_mistake_with_ways_out_and_other_tracks_are_still_shown(project: Project) -> None:
    environments.add_revision(project.folder / "project", "fork", "alpha", "pass")
    environments.make_project(project.folder / "other")
    environments.add_tables(project.folder / "other", ["one"])
    project.write_registry(2, other={"config": "other/alembic.ini"})
    done = await project.run("check")
    assert done.code == 2
    assert "track 'app': 'head' is ambiguous, there are 2 heads" in done.err
    assert "alembic merge heads" in done.err
    assert "track other\n" in done.out


async def test_a_revision_that_does_not_load_is_told_with_file_and_line(project: Project) -> None:
    broken = project.folder / "project" / "alembic" / "versions" / "beta.py"
    broken.write_text("import no_such_module\n" + broken.read_text())
    done = await project.run("check")
    assert done.code == 2
    assert "ModuleNotFoundError" in done.err
    assert "beta.py:1]" in done.err
    assert "Traceback" not in done.err


async def test_connecting_finds_what_cannot_be_reached_by_cause(project: Project) -> None:
    for number in (1, 2, 3):
        project.database(number).unlink()
    project.database(4).write_text("this is not a database, but it is long enough to be taken for one" * 20)
    done = await project.run("check", "--connect")
    assert done.code == 5
    assert "connected: 2 of 6 targets are well" in done.out
    assert "3 targets on files: t001, t002, t003" in done.out
    assert "1 target on files: t004" in done.out


async def test_tenants_are_read_from_their_databases(project: Project) -> None:
    await project.run("migrate", "--select", "tenant=t000")
    done = await project.run("tenants")
    assert done.code == 0
    assert done.out.splitlines()[1].split() == ["t000", "app", "files", "t000.db", "up", "to", "date", "beta"]
    assert done.err == "6 targets: 5 unprovisioned, 1 up to date\n"
    chosen = await project.run("tenants", "--state", "unprovisioned", "--select", "tenant in (t000,t001)", "--json")
    assert [tenant["tenant"] for tenant in json.loads(chosen.out)] == ["t001"]


async def test_without_a_registry_the_way_to_one_is_told(project: Project) -> None:
    (project.folder / "tenants.yaml").unlink()
    for command in ("check", "tenants", "migrate"):
        done = await project.run(command)
        assert done.code == 2
        assert "tenants.yaml" in done.err
        assert "Traceback" not in done.err
