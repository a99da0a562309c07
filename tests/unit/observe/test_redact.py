from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from orchestrator.observe import redact


@pytest.mark.parametrize(
    "text",
    [
        "cannot reach postgresql+asyncpg://migrator:hunter2@db:5432/acme",
        "redis://:hunter2@cache/0",
        "postgresql://u:p@ss/hunter2@db/acme",
        "('postgresql://u:hunter2@db/acme',)",
        "postgresql://u:x'hunter2@db/acme",
        "host=db user=u password=hunter2 dbname=acme",
        "host=db password='my hunter2' dbname=acme",
        '{"password": "hunter2", "user": "u"}',
        "{'token': 'hunter2'}",
        "PG_EU_1_PASSWORD=hunter2",
        "https://api.example/x?api_key=hunter2&y=1",
        "CREATE ROLE r LOGIN PASSWORD 'hunter2'",
        "Authorization: Bearer hunter2",
        "client_secret: hunter2",
    ],
)
def test_secrets_in_text_are_masked(text: str) -> None:
    masked = redact.text(text)
    assert "hunter2" not in masked
    assert redact.MASK in masked


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://db:5432/acme",
        "postgresql://migrator@db/acme",
        'password authentication failed for user "u"',
        "https://example.org/a:b, mail admin@example.org",
        "acme: revision a1 -> b2",
    ],
)
def test_text_without_secrets_is_left_alone(text: str) -> None:
    assert redact.text(text) == text


@given(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1))
def test_no_password_survives_in_a_url(password: str) -> None:
    masked = redact.text(f"connect to postgresql://user:{password}@host/db failed")
    assert masked == "connect to postgresql://user:***@host/db failed"


def test_given_secrets_are_masked_wherever_they_stand() -> None:
    assert redact.text("ann said hunter2 twice: xhunter2x", "hunter2") == "ann said *** twice: x***x"
    assert redact.text("https://h/?k=abc failed", "abc", None, "", "https://h/?k=abc") == "*** failed", (
        "the longest first"
    )


@pytest.mark.parametrize("secret", ["a", "an", "", None])
def test_a_secret_of_a_letter_or_two_does_not_black_out_every_message(secret: str | None) -> None:
    assert redact.text("a table is an answer", secret) == "a table is an answer"
    assert redact.text(f"postgresql://u:{secret or 'x'}@db/a password={secret or 'x'}", secret) == (
        "postgresql://u:***@db/a password=***"
    )


def test_values_are_masked_all_the_way_down() -> None:
    item = {
        "url": make_url("postgresql://u:hunter2@db/acme"),
        "nested": [{"api_key": 7, "who": ("postgresql://u:hunter2@db",)}],
        "error": ValueError("password=hunter2"),
    }
    masked = redact.value(item)
    assert "hunter2" not in str(masked)
    assert masked == {
        "url": "postgresql://u:***@db/acme",
        "nested": [{"api_key": "***", "who": ["postgresql://u:***@db"]}],
        "error": "password=***",
    }


def test_plain_values_pass() -> None:
    item = {"n": 1, "ratio": 0.5, "yes": True, "nothing": None, "at": datetime(2026, 1, 2, tzinfo=UTC)}
    assert redact.value(item) == item | {"at": "2026-01-02T00:00:00.000Z"}


def test_an_unset_secret_is_seen_to_be_unset() -> None:
    assert redact.value({"password": None}) == {"password": None}


def test_tokens_of_ours_are_masked_wherever_they_stand_and_stay_recognizable() -> None:
    token = f"orc_{'a2' * 8}_{'S3-_' * 10}abc"
    for around in ("it said {}!", "Bearer {}", "token: {}", "http://h/?x={}&y", '{{"k": "{}"}}'):
        assert "S3-_" not in redact.text(around.format(token))
    assert redact.text(f"got {token}") == f"got orc_{'a2' * 8}_***"
