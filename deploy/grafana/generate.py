"""Writes the dashboards: `make dashboards`, or `python -m deploy.grafana.generate`. A test holds them equal."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.grafana import backfills, daemon, fleet, rollout
from deploy.grafana.panels import Json

FOLDER = Path(__file__).parent / "dashboards"


def dashboards() -> dict[str, Json]:
    """Each by the name of its file."""
    makers = {"fleet": fleet.make, "rollout": rollout.make, "backfills": backfills.make, "daemon": daemon.make}
    return {f"{name}.json": make() for name, make in makers.items()}


def text(dashboard: Json) -> str:
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def write() -> None:
    for name, dashboard in dashboards().items():
        (FOLDER / name).write_text(text(dashboard))


if __name__ == "__main__":
    write()
