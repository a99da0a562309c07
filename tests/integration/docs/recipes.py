"""Reads what a document holds for machines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
_BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / "docs" / document).read_text()
    return [found["text"] for found in _BLOCK.finditer(text) if found["language"] == language]


def pipelines() -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The workflow of GitHub Actions and the pipeline of GitLab."""
    github, gitlab = (yaml.safe_load(text) for text in blocks("ci.md", "yaml"))
    return github, gitlab


def scripts(job: Mapping[str, Any]) -> Iterator[str]:
    """What a job of either kind runs, in order; GitLab runs its lines in one shell."""
    if "steps" in job:
        yield from (step["run"] for step in job["steps"] if "run" in step)
    else:
        yield "\n".join(job["script"])
