"""Projects whose tenants are SQLite files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests import environments
from tests.command import Result, run


@dataclass(frozen=True)
class Project:
    """A folder with `tenants.yaml` (track `app`, shard `files`, tenants t000, …) and an Alembic project `project`."""

    folder: Path

    def database(self, number: int) -> Path:
        return self.folder / "dbs" / f"t{number:03}.db"

    def write_registry(self, count: int, **tracks: object) -> None:
        for number in range(count):
            self.database(number).touch()
        content = {
            "tracks": {"app": {"config": "project/alembic.ini"}, **tracks},
            "shards": {"files": {"url": "sqlite:///dbs", "max_concurrent": 4}},
            "tenants": [
                {"id": f"t{n:03}", "databases": {"app": {"shard": "files", "database": f"t{n:03}.db"}}}
                for n in range(count)
            ],
        }
        (self.folder / "tenants.yaml").write_text(yaml.safe_dump(content))

    async def run(self, *arguments: str) -> Result:
        return await run(*arguments, cwd=self.folder)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Six tenants; revisions `alpha` and `beta`."""
    environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha", "beta"])
    (tmp_path / "dbs").mkdir()
    made = Project(tmp_path)
    made.write_registry(6)
    return made
