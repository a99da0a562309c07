"""What pages for the night have people type: addresses that there are, asked for as the daemon lets one ask."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

from orchestrator.api import application, openapi
from orchestrator.api.permissions import PUBLIC_PATHS
from tests.unit.api.fake import FakeOrchestrator, select

ROOT = Path(__file__).parents[3]
RUNBOOKS = ROOT / "docs" / "runbooks"
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
TOKEN, SERVER = "Authorization: Bearer $ORCHESTRATOR_TOKEN", "$ORCHESTRATOR_SERVER"


@pytest.fixture(scope="module")
def operations() -> dict[tuple[str, str], Any]:
    """What the daemon answers, by path and method."""
    served = application.create(
        FakeOrchestrator(), select=select, metrics=lambda accept: (b"", "text/plain"), stopping=anyio.Event()
    )
    return {(path, method.upper()): told for path, method, told in openapi.operations(served.openapi())}


def said() -> Iterator[tuple[str, str]]:
    """Calls of `curl` by their pages, those over several lines whole."""
    for page in sorted(RUNBOOKS.glob("*.md")):
        text = page.read_text().replace("\\\n", "")
        for line in re.findall(r"`(curl [^`]+)`|^ *(curl .+)$", text, re.MULTILINE):
            yield page.stem, next(filter(None, line))


def option(words: list[str], name: str) -> list[str]:
    return [after for word, after in itertools.pairwise(words) if word == name]


@pytest.mark.parametrize(("page", "line"), list(said()))
def test_a_call_is_one_that_the_daemon_answers(page: str, line: str, operations: dict[tuple[str, str], Any]) -> None:
    words = shlex.split(line)
    [url] = [word for word in words[1:] if word.startswith(("http://", SERVER))]
    address = urlsplit(url.replace(SERVER, "http://127.0.0.1:8080"))
    [method] = option(words, "-X") or ["GET"]
    operation = operations[address.path, method]
    assert set(parse_qs(address.query)) <= {one["name"] for one in operation.get("parameters", ())}
    assert TOKEN in option(words, "-H") or address.path in PUBLIC_PATHS, "nobody is let in without a token"
    if "requestBody" in operation:
        assert "content-type: application/json" in option(words, "-H")
        assert option(words, "-d")


def test_calls_are_found() -> None:
    assert len(list(said())) >= 6


def test_no_page_says_a_call_without_how_to_make_it() -> None:
    for page in RUNBOOKS.glob("*.md"):
        assert not re.search(r"`(GET|POST|PUT|DELETE) /", page.read_text()), page.name


def test_links_lead_to_pages() -> None:
    for page in RUNBOOKS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).resolve().exists(), (page.name, target)


def test_the_command_that_sets_another_address_does() -> None:
    [command] = re.findall(r"^ *(sed .+) rules\.yml$", (RUNBOOKS / "README.md").read_text(), re.MULTILINE)
    made = subprocess.run([*shlex.split(command), str(RULES)], capture_output=True, text=True, check=True).stdout
    links = re.findall(r"^ +runbook_url: (.+)", made, re.MULTILINE)
    alerts = re.findall(r"alert: (\w+)", made)
    assert links == [f'"https://…/docs/runbooks/{name}.md"' for name in alerts]
    assert made.count("\n") == RULES.read_text().count("\n")
