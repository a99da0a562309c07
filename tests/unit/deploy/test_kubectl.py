"""What pages have people type against a cluster finds the pods that the chart makes."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator

import pytest

from tests.unit.deploy.deployment import DEPLOY, ROOT
from tests.unit.deploy.rendering import kind, rendered

PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(DEPLOY.rglob("*.md"))]
# What says of itself which pod, deployment or selector is meant.
_NAMED = ("-l", "POD")


def typed() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for found in re.finditer(r"`(kubectl [^`\n]+)`|^ *(kubectl .+)$", page.read_text(), re.MULTILINE):
            yield page.stem, found[1] or found[2]


LINES = [(page, shlex.split(line)) for page, line in typed()]


@pytest.mark.parametrize(("page", "words"), LINES)
def test_a_selector_is_one_of_the_charts_labels(page: str, words: list[str]) -> None:
    labels = kind(rendered(), "Deployment")["spec"]["template"]["metadata"]["labels"]
    for before, selector in itertools.pairwise(words):
        if before in ("-l", "--selector"):
            for one in selector.split(","):
                name, _, value = one.partition("=")
                assert labels.get(name) == value, (page, one)


@pytest.mark.parametrize(("page", "words"), [one for one in LINES if one[1][1] == "logs"])
def test_logs_are_asked_for_of_some_pod(page: str, words: list[str]) -> None:
    assert any(word in _NAMED or "/" in word for word in words[2:]), (page, words)
    # With a selector, pods that were never started again end the command.
    assert not ("--previous" in words and "-l" in words), (page, words)


def test_commands_are_found() -> None:
    assert {page for page, _ in LINES} >= {"OrchestratorDown", "OrchestratorRestarted", "README"}
