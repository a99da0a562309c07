"""Tenants that are found at run time, as people see them on the command line."""

from __future__ import annotations

import json

import pytest
import yaml

from tests import environments
from tests.integration.cli.conftest import Project


@pytest.fixture
def found(project: Project) -> Project:
    """Six tenants, found by a glob; and one of the file."""
    file = project.folder / "tenants.yaml"
    content = yaml.safe_load(file.read_text())
    (project.folder / "dbs" / "bond.db").touch()
    content["tenants"] = [{"id": "bond", "shard": "files", "database": "bond.db"}]
    content["discover"] = [{"shard": "files", "files": "t*.db", "labels": {"kind": "found"}}]
    file.write_text(yaml.safe_dump(content))
    return project


async def test_check_names_the_sources_and_asks_them_only_when_told_to(found: Project) -> None:
    done = await found.run("check")
    assert done.code == 0, done.err
    assert "1 tenant, 1 target\nand what 1 source will name: files/files\n" in done.out
    connected = await found.run("check", "--connect")
    assert connected.code == 0, connected.err
    assert "connected: 7 of 7 targets are well" in connected.out


async def test_what_was_found_is_listed_selected_and_migrated(found: Project) -> None:
    listed = json.loads((await found.run("tenants", "--json", "--select", "kind=found")).out)
    assert [tenant["tenant"] for tenant in listed] == [f"t{number:03}" for number in range(6)]
    assert {target["source"] for tenant in listed for target in tenant["targets"]} == {"files/files"}
    migrated = await found.run("migrate")
    assert migrated.code == 0, migrated.err
    assert "succeeded: 7 of 7 at head" in migrated.out
    shown = await found.run("tenants")
    assert shown.out.splitlines()[0].split() == ["tenant", "track", "shard", "database", "state", "heads", "source"]
    assert shown.err == "7 targets: 7 up to date\n"


async def test_a_source_that_fails_is_told_and_nothing_is_migrated_without_its_tenants(found: Project) -> None:
    (found.folder / "dbs").rename(found.folder / "elsewhere")
    for command in (["migrate"], ["migrate", "--dry-run"], ["plan"]):
        done = await found.run(*command)
        assert done.code == 5
        assert "error: source 'files/files' of the registry does not tell its tenants: there is no folder" in done.err
        assert "  try: mend it, or take its entry out of `discover`" in done.err
    shown = await found.run("tenants")
    assert shown.code == 0
    assert "source files/files is stale since 20" in shown.err
    assert "which tenants it has is not known: there is no folder" in shown.err
    checked = await found.run("check", "--connect")
    assert checked.code == 5
    assert "source files/files is stale since" in checked.err


async def test_what_cannot_be_a_tenant_is_told_and_the_others_are_migrated(found: Project) -> None:
    (found.folder / "dbs" / "t\x01.db").touch()
    done = await found.run("migrate")
    assert done.code == 0, done.err
    assert "tenants_ignored" in done.err
    assert "must not hold control characters" in done.err
    assert "succeeded: 7 of 7" in done.out
    assert "source files/files names 1 that cannot be tenants: database 't\\x01.db'" in (await found.run("tenants")).err


async def test_a_track_whose_tenants_are_all_found_is_checked_as_any_other(found: Project) -> None:
    """Its env.py reads a variable that is filled in for each tenant, of which none is known yet."""
    environments.read_url_from_environ(found.folder / "project")
    file = found.folder / "tenants.yaml"
    content = yaml.safe_load(file.read_text())
    content["tenants"] = []
    content["tracks"]["app"] |= {"isolation": "process", "environment": {"DATABASE_URL": "{url}"}}
    file.write_text(yaml.safe_dump(content))
    done = await found.run("check")
    assert done.code == 0, done.err
    assert "could not be tried" not in done.out
    assert (await found.run("migrate")).code == 0
