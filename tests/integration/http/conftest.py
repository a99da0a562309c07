"""A registry file over real databases."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from sqlalchemy.engine import make_url

from orchestrator.databases.embedded import Server
from tests import environments
from tests.servers import MakeDatabases


@pytest.fixture
async def config(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> Path:
    """Tenants t0 to t2 of track `app` on PostgreSQL, t3 of track `lite` in a file; strategy `slow` has a gate."""
    databases = await make_databases(3)
    for name in ("app", "lite"):
        environments.make_project(tmp_path / name)
        environments.add_tables(tmp_path / name, ["alpha", "beta"])
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "t3.db").touch()
    url = make_url(pg.url("postgres")).set(database=None).render_as_string(hide_password=False)
    labels = {"tier": "free"}
    waves = [{"name": "first", "select": "tenant=t0", "approval": True}, {"name": "rest", "max_concurrent": 1}]
    registry = {
        "tracks": {name: {"config": f"{name}/alembic.ini", "unprovisioned": "migrate"} for name in ("app", "lite")},
        "shards": {"pg": {"url": url}, "files": {"url": "sqlite:///files"}},
        "strategies": {"slow": {"waves": waves}},
        "tenants": [
            *(
                {"id": f"t{n}", "shard": "pg", "database": name, "track": "app", "labels": labels}
                for n, name in enumerate(databases)
            ),
            {"id": "t3", "shard": "files", "database": "t3.db", "track": "lite"},
        ],
    }
    path = tmp_path / "tenants.yaml"
    path.write_text(yaml.safe_dump(registry))
    return path
