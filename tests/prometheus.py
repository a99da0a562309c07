"""A private Prometheus server for the tests, which scrapes itself, or what it is aimed at; gone with the fixture."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import httpx2
import pytest

from orchestrator.databases.binaries import NOBODY
from orchestrator.databases.embedded import free_port, scratch
from tests import watched
from tests.engine import until

# Set where a missing server must not go unnoticed.
REQUIRED = "TEST_PROMETHEUS_REQUIRED"
_ITSELF = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs: [{{job_name: itself, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""
_AIMED = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [{home}/rules.yml]
scrape_configs: [{{job_name: orchestrator, file_sd_configs: [{{files: [{home}/targets.json]}}]}}]
"""


@dataclass
class Scraping:
    """A server with rules, and what it scrapes under the job `orchestrator`."""

    url: str
    home: Path
    client: httpx2.AsyncClient

    def aim(self, *urls: str) -> None:
        """Scrape these daemons, and no others."""
        targets = [{"targets": [url.removeprefix("http://") for url in urls]}]
        _written(self.home, "targets.new", json.dumps(targets)).replace(self.home / "targets.json")

    async def ask(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """The samples of an instant query, by their labels. Raises AssertionError for one that is wrong."""
        answer = (await self.client.post(f"{self.url}/api/v1/query", data={"query": promql})).json()
        assert answer["status"] == "success", f"{promql}: {answer}"
        return [(sample["metric"], float(sample["value"][1])) for sample in answer["data"]["result"]]

    async def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        alerts = (await self.client.get(f"{self.url}/api/v1/alerts")).json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    async def rule_errors(self) -> list[str]:
        """What rules say of their last evaluation, where that failed."""
        groups = (await self.client.get(f"{self.url}/api/v1/rules")).json()["data"]["groups"]
        return [
            f"{rule['name']}: {rule['lastError']}"
            for group in groups
            for rule in group["rules"]
            if rule.get("lastError")
        ]


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    """Its URL; the test is skipped where there is none, or fails where `TEST_PROMETHEUS_REQUIRED` is set."""
    async with _started(_ITSELF, {}, "up == 1") as (url, _home, _client):
        yield url


@asynccontextmanager
async def scraping(rules: str, *flags: str) -> AsyncIterator[Scraping]:
    """A server that goes by `rules`, and scrapes nothing yet; skipped or failed as `server`."""
    files = {"rules.yml": rules, "targets.json": "[]"}
    async with _started(_AIMED, files, "vector(1)", flags) as (url, home, client):
        yield Scraping(url, home, client)


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; skipped or failed as `server`."""
    found = shutil.which(name)
    if found is None:
        said = f"no {name} on this machine: install Debian's package prometheus"
        if os.environ.get(REQUIRED):
            pytest.fail(said, pytrace=False)
        pytest.skip(said)
    return found


def _written(home: Path, name: str, text: str) -> Path:
    path = home / name
    path.write_text(text)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    return path


@asynccontextmanager
async def _started(
    config: str, files: Mapping[str, str], ready: str, flags: Sequence[str] = ()
) -> AsyncIterator[tuple[str, Path, httpx2.AsyncClient]]:
    """Wait until the query `ready` has an answer."""
    executable = program("prometheus")
    home = Path(tempfile.mkdtemp(prefix="prometheus-", dir=scratch()))
    port = free_port()
    if os.geteuid() == 0:
        os.chown(home, NOBODY, NOBODY)
    for name, text in {**files, "prometheus.yml": config.format(port=port, home=home)}.items():
        _written(home, name, text)
    command = [
        executable,
        f"--config.file={home}/prometheus.yml",
        f"--storage.tsdb.path={home}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
        *flags,
    ]
    process = watched.launch(command, home)
    try:
        url = f"http://127.0.0.1:{port}"
        async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:

            async def answers() -> bool:
                said = (home / "server.log").read_text() if (home / "server.log").exists() else ""
                assert process.poll() is None, f"Prometheus did not start: {said}"
                try:
                    answer = await client.post(f"{url}/api/v1/query", data={"query": ready})
                    return bool(answer.status_code == 200 and answer.json()["data"]["result"])
                except httpx2.TransportError:
                    return False

            await until(answers)
            yield url, home, client
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(watched.stop, process, home)
