"""Plays the scene and draws docs/dashboards: `make screenshots`, or `python -m tests.dashboards [--pages FOLDER]`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import anyio

from deploy.grafana import generate
from tests import prometheus
from tests.dashboards import fleet, page, picture, recording, scene
from tests.dashboards.asking import Answered, Prometheus
from tests.dashboards.questions import Window
from tests.prometheus import Scraping

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "dashboards"
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
COARSE_SECONDS = 10.0
# Pictures, and the dashboards that they are of.
SHOWN = {name: name for name in ("fleet", "rollout", "backfills", "daemon")} | {"empty": "rollout"}


async def answered(scraping: Scraping, windows: Mapping[str, Window]) -> dict[str, Answered]:
    """All that is drawn, by the name of its picture."""
    asked = Prometheus(scraping.url, scraping.client)
    made = {name.removesuffix(".json"): dashboard for name, dashboard in generate.dashboards().items()}
    return {name: await asked.answered(made[of], windows[name]) for name, of in SHOWN.items()}


async def played(folder: Path) -> tuple[dict[str, Answered], dict[str, Answered]]:
    """Answers with all points, and with few."""
    async with (
        fleet.running(folder) as made,
        prometheus.scraping(RULES.read_text()) as scraping,
        scene.daemons(made) as (leader, standby),
    ):
        scraping.aim(leader.url, standby.url)
        windows = await scene.played(made, leader, standby, tell)
        coarse = {name: replace(window, scrape_seconds=COARSE_SECONDS) for name, window in windows.items()}
        return await answered(scraping, windows), await answered(scraping, coarse)


def tell(text: str) -> None:
    sys.stderr.write(f"{text} …\n")


def draw(found: Mapping[str, Answered], pages: Path) -> None:
    browser = picture.program()
    if browser is None:
        tell(f"no Chromium on this machine: pages only, in {pages}")
    PICTURES.mkdir(exist_ok=True)
    for name, one in found.items():
        file = pages / f"{name}.html"
        file.write_text(page.html(one))
        if browser is not None:
            picture.take(browser, file, page.WIDTH, page.height(one.dashboard), PICTURES / f"{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=Path, help="keep the pages in this folder")
    parser.add_argument("--record", type=Path, help="write what Prometheus answered to this file, with fewer points")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        found, coarse = anyio.run(played, home)
        if options.record is not None:
            options.record.write_text(json.dumps(recording.written(coarse), indent=0) + "\n")
        pages = options.pages or home
        pages.mkdir(exist_ok=True)
        draw(found, pages)


if __name__ == "__main__":
    main()
