"""Where an alert's link to its runbook leads: as a real Prometheus writes it, and as it shows the page."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from orchestrator.databases.embedded import scratch
from tests.engine import until
from tests.prometheus import scraping

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "deploy" / "compose.yaml"
PAGES = ROOT / "docs" / "runbooks"
OUTSIDE = "http://outside.invalid:9090"


@pytest.fixture
def consoles() -> Iterator[Path]:
    """The folder of consoles as the sample mounts it, readable for Prometheus' user."""
    home = Path(tempfile.mkdtemp(prefix="consoles-", dir=scratch()))
    home.chmod(0o755)
    service = yaml.safe_load(COMPOSE.read_text())["services"]["prometheus"]
    folder = next(word.partition("=")[2] for word in service["command"] if word.startswith("--web.console.templates="))
    for volume in service["volumes"]:
        source, target, *_ = volume.split(":")
        if target.startswith(folder):
            shutil.copytree(COMPOSE.parent / source, home / target.removeprefix(folder).lstrip("/"))
    yield home
    shutil.rmtree(home)


async def test_prometheus_itself_shows_the_page_that_each_alert_links_to(consoles: Path) -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    at_once = [{**rule, "expr": "vector(1)"} for rule in alerts]
    for rule in at_once:
        rule.pop("for", None)
    group = {"name": "all", "interval": "1s", "rules": at_once}
    flags = (f"--web.console.templates={consoles}", f"--web.external-url={OUTSIDE}")
    async with scraping(json.dumps({"groups": [group]}), *flags) as prometheus:

        async def all_fire() -> bool:
            return await prometheus.firing() == {rule["alert"] for rule in alerts}

        await until(all_fire)
        told = (await prometheus.client.get(f"{prometheus.url}/api/v1/alerts")).json()["data"]["alerts"]
        assert len(told) == len(alerts)
        for alert in told:
            name, link = alert["labels"]["alertname"], alert["annotations"]["runbook_url"]
            assert link.startswith(f"{OUTSIDE}/")
            page = await prometheus.client.get(prometheus.url + urlsplit(link).path)
            assert (page.status_code, page.text) == (200, (PAGES / f"{name}.md").read_text()), link
            assert page.headers["content-type"].startswith("text/plain"), "a browser shows it as it is"
