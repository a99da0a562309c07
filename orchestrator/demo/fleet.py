"""Which tenants the demo has, and the registry that tells of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

SHARDS = ("demo-1", "demo-2")
REGIONS = ("eu", "us")
TIERS = ("free", "free", "pro", "enterprise")
TRACK = "app"
ROWS_EVERY = 25
# So low that backfills can be watched.
ROWS_PER_SECOND = 10_000
# An empty PostgreSQL database takes 7 to 8 MB; a migrated one, and the logs of both servers, a little more.
DATABASE_BYTES = 10 * 1024**2
SERVER_BYTES = 300 * 1024**2


@dataclass(frozen=True, slots=True)
class Place:
    """A running server, as the registry knows it: `url` leads to any database, `variable` holds the password."""

    shard: str
    url: str

    @property
    def variable(self) -> str:
        return f"{self.shard.upper().replace('-', '_')}_PASSWORD"

    @property
    def password(self) -> str:
        return urlsplit(self.url).password or ""


def tenants(count: int) -> Mapping[str, Sequence[str]]:
    """Names of `count` tenants by shard, spread evenly; a tenant's database bears its name.

    >>> tenants(3)
    {'demo-1': ['tenant_001', 'tenant_003'], 'demo-2': ['tenant_002']}
    """
    width = max(3, len(str(count)))
    names = [f"tenant_{number:0{width}}" for number in range(1, count + 1)]
    return {shard: names[index :: len(SHARDS)] for index, shard in enumerate(SHARDS)}


def has_rows(name: str) -> bool:
    """Whether the tenant's database has rows to be changed before the rollout: the first, and each 25th after it.

    >>> has_rows("tenant_001"), has_rows("tenant_025"), has_rows("tenant_026")
    (True, False, True)
    """
    return int(name.rpartition("_")[2]) % ROWS_EVERY == 1


def needed_bytes(count: int) -> int:
    """Room for the databases of `count` tenants, amply."""
    return len(SHARDS) * SERVER_BYTES + count * DATABASE_BYTES


def registry(places: Sequence[Place], fleet: Mapping[str, Sequence[str]], environment: Path) -> str:
    """The registry file; passwords stay in the environment."""
    shards = {
        place.shard: {"url": _without_password(place), "max_concurrent": 8, "labels": {"region": region}}
        for place, region in zip(places, REGIONS, strict=True)
    }
    document = {
        "tracks": {TRACK: {"script_location": str(environment), "execution": "auto"}},
        "shards": shards,
        "backfill": {"rows_per_second": ROWS_PER_SECOND},
        "tenants": [_tenant(name, shard) for shard, names in fleet.items() for name in names],
    }
    return yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=120)


def _tenant(name: str, shard: str) -> dict[str, Any]:
    number = int(name.rpartition("_")[2])
    labels = {"tier": TIERS[number % len(TIERS)], "canary": "true" if number <= 5 else "false"}
    return {"id": name, "shard": shard, "database": name, "labels": labels}


def _without_password(place: Place) -> str:
    parts = urlsplit(place.url)
    return f"{parts.scheme}://{parts.username}:${{{place.variable}}}@{parts.hostname}:{parts.port}"
