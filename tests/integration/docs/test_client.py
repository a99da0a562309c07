"""The examples of the client's page are true of a real daemon."""

from __future__ import annotations

import doctest
from pathlib import Path

import anyio.to_thread

from tests.daemon import Daemon
from tests.integration.cli.conftest import Project, project  # noqa: F401
from tests.integration.docs.recipes import ROOT


async def test_the_examples_hold(project: Project, tmp_path: Path) -> None:  # noqa: F811
    async with Daemon(project.folder / "tenants.yaml", f"sqlite:///{tmp_path}/store.db") as daemon:

        def examples() -> doctest.TestResults:
            page = str(ROOT / "docs" / "client.md")
            return doctest.testfile(page, module_relative=False, globs={"server": daemon.url})

        found = await anyio.to_thread.run_sync(examples)
    assert found.attempted >= 8
    assert found.failed == 0
