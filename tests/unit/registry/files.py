"""Registry files for tests: one that is right, and a way to say where one is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator.errors import Mistake, RegistryError
from orchestrator.registry import manifest
from orchestrator.registry.model import Registry

MARK = "▶"
TRACKS = "tracks: {app: {script_location: alembic}}\n"
SHARDS = "shards: {pg: {url: postgresql://u@h}}\n"
TENANTS = "tenants: [{id: acme, shard: pg, database: acme}]\n"
VALID = f"""\
{TRACKS}shards:
  pg:
    url: postgresql://u:${{PASSWORD}}@pg.internal:5432
    max_concurrent: 4
    labels: {{region: eu}}
  local: {{url: "sqlite:///data"}}
tenants:
  - {{id: acme, shard: pg, database: acme, labels: {{tier: free}}}}
  - id: initech
    databases: {{app: {{shard: local, database: initech.db}}}}
strategies:
  careful: {{max_concurrent: 2, on_failure: {{max: 2%, then: abort}}}}
"""
ENVIRON = {"PASSWORD": "s3cret"}


def write(folder: Path, text: str) -> Path:
    """Write a registry file into `folder`, with the history it needs next to it."""
    (folder / "alembic").mkdir(exist_ok=True)
    path = folder / "tenants.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def loaded(folder: Path, text: str, environ: Mapping[str, str] = ENVIRON) -> Registry:
    return manifest.load(write(folder, text), environ)


def refused(folder: Path, text: str, environ: Mapping[str, str] = ENVIRON) -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        loaded(folder, text, environ)
    return caught.value


def marked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Take the marks out of `text`, and return where they were: line and column of what followed each."""
    places = []
    clean = ""
    for part in text.split(MARK)[:-1]:
        clean += part
        places.append((clean.count("\n") + 1, len(clean) - clean.rfind("\n")))
    return text.replace(MARK, ""), places


def places_of(mistakes: tuple[Mistake, ...]) -> list[tuple[int, int]]:
    return [(mistake.line, mistake.column) for mistake in mistakes]
