"""Log lines on a person's screen."""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from orchestrator.cli import remarks


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    root = logging.getLogger()
    before = list(root.handlers)
    text = io.StringIO()
    remarks.configure(stream=text)
    yield text
    root.handlers[:] = before
    logging.getLogger(remarks.EVENTS).setLevel(logging.NOTSET)
    structlog.reset_defaults()


def test_a_stack_trace_goes_to_a_file_which_is_named(stream: io.StringIO, tmp_path: Path) -> None:
    try:
        raise ValueError("boom")
    except ValueError:
        structlog.get_logger("ours").exception("crashed")
        logging.getLogger("library").exception("crashed too")
    [file] = tmp_path.iterdir()
    assert "Traceback" not in stream.getvalue()
    assert stream.getvalue().count(str(file)) == 2
    assert "ValueError: boom" in file.read_text()


def test_events_and_what_is_not_a_warning_are_left_out(stream: io.StringIO) -> None:
    structlog.get_logger(remarks.EVENTS).error("migration_finished")
    structlog.get_logger("ours").info("listening")
    assert stream.getvalue() == ""


def test_a_warning_is_one_line(stream: io.StringIO) -> None:
    structlog.get_logger("ours").warning("history_unusable", track="app")
    assert stream.getvalue().count("\n") == 1
    assert "track=app" in stream.getvalue()
