"""`orchestrator check` and `orchestrator tenants`."""

from __future__ import annotations

import json

import pytest

from tests import environments
from tests.integration.cli.conftest import Project


async def test_a_registry_without_mistakes_is_shown_with_its_histories(project: Project) -> None:
    done = await project.run("check")
    assert done.code == 0, done.err
    assert "6 tenants, 6 targets" in done.out
    assert "  revisions      2" in done.out
    assert "  heads          beta" in done.out
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


def _rewrite(project: Project, old: str, new: str) -> None:
    env = project.folder / "project" / "alembic" / "env.py"
    text = env.read_text()
    assert old in text
    env.write_text(text.replace(old, new))


async def test_what_env_py_does_is_told_as_json(project: Project) -> None:
    _rewrite(
        project,
        "target_metadata=target_metadata",
        "target_metadata=target_metadata, version_table='its_own', transaction_per_migration=True",
    )
    done = await project.run("check", "--json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert answer["mistakes"] == answer["troubles"] == []
    assert answer["connected"] is None
    [track] = answer["tracks"]
    assert (track["track"], track["targets"], track["heads"]) == ("app", 6, ["beta"])
    assert track["env_py"] == {
        "async": False,
        "drivers": ["sqlite+pysqlite"],
        "connection": "own",
        "connections": 1,
        "version_table": "its_own",
        "version_table_set_by": "env.py",
        "transaction_per_migration": True,
        "metadata": 0,
        "configured": [],
        "arguments": [],
        "variables": [],
        "attributes": [],
        "imports": [],
        "online": None,
        "problem": None,
    }
    connected = json.loads((await project.run("check", "--json", "--connect")).out)
    assert connected["connected"] == 6


CONFIG = "config = context.config\n"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            CONFIG,
            f"{CONFIG}import os\nos.environ['SHOP_URL']\n",
            [
                "reads the environment variable SHOP_URL, which is not set",
                "`isolation: process` and `environment:` with",
            ],
        ),
        (
            CONFIG,
            f"{CONFIG}context.get_x_argument(as_dictionary=True)['region']\n",
            ["env.py insists on `-x region=`", "let it ask with `.get('region')`"],
        ),
        (
            CONFIG,
            f"{CONFIG}config.set_main_option('sqlalchemy.url', 'sqlite:///always.db')\n",
            ["env.py connects to always.db, whatever the tenant's database is", "from `sqlalchemy.url`"],
        ),
        (
            "target_metadata=target_metadata",
            "version_table=context.get_x_argument(as_dictionary=True)['tenant'].lower()",
            ["makes its `version_table` from the tenant", "set `version_table` on the track to what it makes"],
        ),
    ],
)
async def test_what_will_fail_in_env_py_is_a_mistake_with_a_remedy(
    old: str, new: str, says: list[str], project: Project
) -> None:
    _rewrite(project, old, new)
    done = await project.run("check")
    assert done.code == 2
    for text in says:
        assert text in done.err
    assert "env.py]" in done.err


async def test_an_env_py_that_ends_itself_is_a_mistake(project: Project) -> None:
    _rewrite(project, CONFIG, f"{CONFIG}raise SystemExit('not today')\n")
    done = await project.run("check")
    assert done.code == 2
    assert "could not be tried beforehand: SystemExit: not today" in done.out
    assert "env.py ends by itself (SystemExit: not today) before it runs migrations" in done.err
