"""A private Prometheus server for the tests, which scrapes nothing but itself; gone with the fixture."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
_CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs: [{{job_name: itself, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    """Its URL; the test is skipped where there is none, or fails where `TEST_PROMETHEUS_REQUIRED` is set."""
    program = shutil.which("prometheus")
    if program is None:
        said = "no Prometheus server on this machine: install Debian's package prometheus"
        if os.environ.get(REQUIRED):
            pytest.fail(said, pytrace=False)
        pytest.skip(said)
    home = Path(tempfile.mkdtemp(prefix="prometheus-", dir=scratch()))
    port = free_port()
    (home / "prometheus.yml").write_text(_CONFIG.format(port=port))
    if os.geteuid() == 0:
        for path in (home, home / "prometheus.yml"):
            os.chown(path, NOBODY, NOBODY)
    command = [
        program,
        f"--config.file={home}/prometheus.yml",
        f"--storage.tsdb.path={home}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    process = watched.launch(command, home)
    try:
        url = f"http://127.0.0.1:{port}"
        async with httpx2.AsyncClient(trust_env=False) as client:

            async def has_scraped() -> bool:
                assert process.poll() is None, "Prometheus did not start"
                try:
                    answer = await client.post(f"{url}/api/v1/query", data={"query": "up == 1"})
                    return bool(answer.status_code == 200 and answer.json()["data"]["result"])
                except httpx2.TransportError:
                    return False

            await until(has_scraped)
        yield url
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(watched.stop, process, home)
