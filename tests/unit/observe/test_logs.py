from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from orchestrator.observe import lines, logs
from tests.unit.observe import samples


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def told(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_where_there_is_no_terminal() -> None:
    logs.configure(stream=(stream := io.StringIO()))
    structlog.get_logger("orchestrator.test").info("something_happened", tenant="acme", n=1)
    (line,) = told(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "something_happened",
        "logger": "orchestrator.test",
        "level": "info",
        "tenant": "acme",
        "n": 1,
    }


def test_text_on_a_terminal() -> None:
    logs.configure(stream=(stream := Terminal()))
    structlog.get_logger().info("something_happened", tenant="acme")
    assert "something_happened" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_the_setting_wins_over_the_terminal() -> None:
    logs.configure("json", stream=(stream := Terminal()))
    structlog.get_logger().info("something_happened")
    assert told(stream)[0]["event"] == "something_happened"


def test_lines_below_the_level_are_left_out() -> None:
    logs.configure("json", "warning", stream=(stream := io.StringIO()))
    log = structlog.get_logger()
    log.info("quiet")
    log.warning("loud")
    logging.getLogger("anything").info("quiet")
    assert [line["event"] for line in told(stream)] == ["loud"]


def test_libraries_go_through_the_same_processors() -> None:
    logs.configure("json", stream=(stream := io.StringIO()))
    logging.getLogger("uvicorn.error").error("cannot reach %s", "postgresql://u:hunter2@db")
    (line,) = told(stream)
    assert line["event"] == "cannot reach postgresql://u:***@db"
    assert (line["logger"], line["level"]) == ("uvicorn.error", "error")


def test_sql_and_requests_are_never_logged() -> None:
    logs.configure("json", "debug", stream=(stream := io.StringIO()))
    logging.getLogger("sqlalchemy.engine").info("INSERT INTO customers")
    logging.getLogger("uvicorn.access").info("GET /")
    logging.getLogger("alembic.runtime.migration").info("Running upgrade")
    assert [line["event"] for line in told(stream)] == ["Running upgrade"]


def test_what_sends_traces_is_told_of_by_us_alone() -> None:
    logs.configure(level="debug", stream=(stream := io.StringIO()))
    logging.getLogger("opentelemetry.exporter.otlp.proto.http").critical("Header format invalid: key=sesame")
    assert not told(stream)


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_traceback_is_told_without_locals_and_secrets(format: Any) -> None:
    logs.configure(format, stream=(stream := io.StringIO()))
    try:
        marker = "a local value"
        raise ValueError("postgresql://u:hunter2@db")
    except ValueError:
        structlog.get_logger().exception("it_failed")
    text = stream.getvalue()
    assert "Traceback" in text
    assert "ValueError: postgresql://u:***@db" in text
    assert "hunter2" not in text.replace('raise ValueError("postgresql://u:hunter2@db")', "")
    assert text.count(marker) <= 1  # its line of source, never its value


def test_secret_keys_are_masked() -> None:
    logs.configure("json", stream=(stream := io.StringIO()))
    structlog.get_logger().info("connected", password="hunter2", options={"token": "hunter2"})
    assert "hunter2" not in stream.getvalue()


def test_configuring_again_replaces_what_was() -> None:
    logs.configure("json", stream=(first := io.StringIO()))
    logs.configure("json", stream=(second := io.StringIO()))
    structlog.get_logger().info("once")
    assert (first.getvalue(), len(told(second))) == ("", 1)


def test_the_canonical_line_as_it_is_written() -> None:
    logs.configure("json", stream=(stream := io.StringIO()))
    lines.writer(lambda event: {})(samples.finished(outcome="failed", message="postgresql://u:hunter2@db"))
    (line,) = told(stream)
    assert line["event"] == "migration_finished"
    assert (line["from"], line["to"], line["message"]) == (["a1"], ["b2"], "postgresql://u:***@db")


FORGED = "acme\x1b[2K\r\n2026-01-01T00:00:00Z [info     ] rollout_finished [x] outcome=succeeded \u2028\u202e\x85\x9b1m"


def forge() -> None:
    log = structlog.get_logger("orchestrator.test")
    log.warning("migration_finished", tenant=FORGED, retries={FORGED: 1}, tenants=[FORGED], n=float("nan"))
    log.info("short", tenant="a\x1b[0m", other="b\udce9", more="x outcome=failed")
    logging.getLogger("uvicorn.error").warning("cannot serve %s", FORGED)
    try:
        raise ValueError(FORGED)
    except ValueError:
        log.exception("it_crashed", tenant=FORGED)


def test_no_name_and_no_error_can_forge_a_line_on_a_terminal() -> None:
    logs.configure("console", stream=(stream := io.StringIO()))
    forge()
    text = stream.getvalue()
    begun = [line for line in text.split("\n") if line and not line.startswith("    ")]
    assert len(begun) == 4
    assert [re.findall(r"\[\w+ *\] (\w+)", line)[0] for line in begun] == [
        "migration_finished",
        "short",
        "cannot",
        "it_crashed",
    ]
    assert text.replace("\n", "").isprintable()
    assert text.splitlines() == text.removesuffix("\n").split("\n"), "there is no other end of a line in it"
    assert "tenant='acme\\x1b[2K\\r\\n2026" in begun[0], "quoted: no key can be forged either"
    assert "more='x outcome=failed'" in begun[1]


def test_each_line_of_json_is_one_object_whatever_it_holds() -> None:
    logs.configure("json", stream=(stream := io.StringIO()))
    forge()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    written = stream.getvalue().removesuffix("\n").split("\n")
    lines = [json.loads(line, parse_constant=refuse) for line in written]
    assert [line["event"] for line in lines][::3] == ["migration_finished", "it_crashed"]
    assert lines[0]["tenant"] == FORGED
    assert lines[0]["n"] == "nan"
    assert lines[1]["other"] == "b\\udce9", "half of a surrogate pair is what no decoder takes"
    assert all(line.isascii() and line.isprintable() for line in written)


def test_a_line_stays_short_enough_to_be_kept_whole() -> None:
    logs.configure("json", stream=(stream := io.StringIO()))
    structlog.get_logger().error("it_failed", message="begin" + "x" * 100_000 + "end")
    (line,) = told(stream)
    assert len(line["message"]) < 4_000
    assert line["message"].startswith("begin")
    assert line["message"].endswith("end")


@pytest.mark.parametrize(
    "values",
    [
        {"examples": [f"tenant-{n}: it cannot be" for n in range(5_000)]},
        {"counts": {f"signature {n}": n for n in range(5_000)}},
        {f"text_{n}": "\U0001f418" * 4_000 for n in range(9)},
        {"failures": [{"tenants": ["ü" * 300] * 300, "message": "x" * 4_000}] * 30},
        {"exception": "trace" * 9_000, "message": "é" * 9_000, "remedy": "r" * 9_000},
    ],
    ids=lambda values: next(iter(values)),
)
def test_however_much_it_is_given_a_line_is_no_longer_than_runtimes_keep(values: dict[str, Any]) -> None:
    logs.configure("json", stream=(stream := io.StringIO()))
    structlog.get_logger().warning("it_happened", rollout="r1", tenant="acme", **values)
    assert len(stream.getvalue().encode()) <= 16 * 1024
    (line,) = told(stream)
    assert (line["event"], line["rollout"], line["tenant"]) == ("it_happened", "r1", "acme")
    assert values.keys() <= line.keys()
    assert "left out" in stream.getvalue()


def test_a_line_that_fits_is_as_it_was_given() -> None:
    logs.configure("json", stream=(stream := io.StringIO()))
    given = {"tenants": [f"t{n:04}" for n in range(1_000)], "message": "m" * 3_900}
    structlog.get_logger().warning("it_happened", **given)
    (line,) = told(stream)
    assert {key: line[key] for key in given} == given
