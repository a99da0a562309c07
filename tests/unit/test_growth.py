"""Texts of tenants' schemas and of servers' errors may be written so that they take long: they do not."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from orchestrator.databases import postgresql_spelling
from orchestrator.history import failures
from orchestrator.observe import redact, redact_sql
from orchestrator.plan import rowless, sanitise
from orchestrator.plan.catalog import Line
from orchestrator.plan.drifted_lines import difference
from tests.growth import grows_in_proportion

# What the text begins with, what stands in it again and again, and its end.
TEXTS = [
    ("", "secret", ""),
    ("", "secret ", ""),
    ("", "secret '", ""),
    ("", "secret \\'", ""),
    ("", "secret \\'", "\\"),
    ("", "secret $a ", ""),
    ("", "secret $$", ""),
    ("", "identified by ", ""),
    ("identified", " ", ""),
    ("", "api_key ", ""),
    ("secret '", "''", ""),
    ("secret '", "\\\\", ""),
    ("set_config('", "key", "'"),
    ("set_config('", "key", ""),
    ("", "set_config('key', ", ""),
    ("encrypt(", ",", ""),
    ("encrypt(", ",e", "'"),
    ("", "encrypt(", ""),
    ("pgp_", "crypt", ""),
    ("", "pgp_ crypt", ""),
    ("", "md5('", ""),
    ("sha", "1", ""),
    ("", "authorization basic ", ""),
    ("", "-----BEGIN ", ""),
    ("-----BEGIN ", "PRIVATE KEY", ""),
    ("", "-----BEGIN PRIVATE KEY-----", ""),
    ("", "eyJaaaaaaaa-", ""),
    ("", "eyJaaaaaaaa.", ""),
    ("", "sk_live_", ""),
    ("", "://:", ""),
    ("", "://a:b", ""),
    ("://a:b", "@", ""),
    ("", 'password="', ""),
    ("", "password '", ""),
    ("", "bearer ", ""),
    ("", "| YES | ", ""),
    ("", "Duplicate entry '", ""),
    ("", "' for key", ""),
    ("", " value: '", ""),
    ("", "input for query argument $1", ""),
    ("", "((", ""),
    ("((", "a OR b", ""),
    ("(ARRAY[", "'a'::", "]"),
    ("(ARRAY[::", '""', "x"),
    ("(ARRAY[", '::"', ""),
    ("(ARRAY[", "::a ", ""),
    ("", "''", "'"),
    ("", '"', ""),
    ("", "\\'", ""),
    ("", "/*", ""),
    ("", "1e", ""),
    ("", "%(a", ""),
    ("", "$a", ""),
    ("", "`", ""),
    ("", "[", ""),
    ("", "encrypt('", ""),
    ("", "encrypt('\\\\'", ""),
    ("", "hmac($a$ ", ""),
    ("", "hmac($a", "$"),
    ("encrypt(", "''", ""),
    ("encrypt(", '"', ""),
    ("encrypt(", '"\\\\', '"('),
    ("encrypt(", '"a"', "("),
    ("encrypt(", "$a$ ", ""),
    ("encrypt(", "/*", ""),
    ("encrypt(", "(", ""),
    ("encrypt(", "'a' ", ""),
    ("encrypt(", "'a(", ""),
    ("encrypt(", "'a ", "')"),
    ("encrypt(", "%s", ""),
    ("", "encrypt(%s)", ""),
    ("", "encrypt(%s)'", ""),
    ("", "md5(1,'a') ", ""),
    ("encrypt(", "1", ""),
    ("", "sha_", ""),
    ("", "a_", ""),
    ("", "a1$", ""),
    ("", "secret 'a',", ""),
    ("", "secret 'a' || ", ""),
    ("secret ", "'a', ", ""),
    ("", "secret ''", ""),
    ("secret ", "'a'::text, ", ""),
    ("", "secret 'a'::text", ""),
    ("secret 'a'", "::text", ""),
    ("secret 'a'", ")", ""),
    ("", 'secret \\"', ""),
    ("", 'secret "a""', ""),
    ("", "pass := '", ""),
    ("", "pass (", ""),
    ("", "key text ", ""),
    ("", "@key", ""),
    ("", "@key = ", ""),
    ("", "'pass', ", ""),
    ("", "x-auth", ""),
    ("", "x-auth'", ""),
    ("", "json_a(secret", ""),
    ("", "json_a(", ""),
    ("", "insert into a (", ""),
    ("", "insert into a (secret", ""),
    ("", "insert into a (secret) ", ""),
    ("", "insert into a (secret) '", ""),
    ("set", " ", ""),
    ("", "set a.key", ""),
    ("", "set key to ", ""),
    ("", "current_setting('key'", ""),
    ("", "current_setting('key' '", ""),
    ("", "https://", ""),
    ("https://", "hook", ""),
    ("https://", "?a", ""),
    ("https://", "@", ""),
    ("", '"auth', ""),
    ("", '"auth":"', ""),
    ("", "{pass", ""),
    ("", '{"pass=\\\\', ""),
    ("", "aKey=", ""),
    ("", "SG.aaaaaaaa-", ""),
    ("", "sk-a", ""),
]
WORK: dict[str, Callable[[str], object]] = {
    "redact": redact.text,
    "redact_sql": redact_sql.text,
    "postgresql": lambda text: sanitise.shown(text, "postgresql"),
    "mysql": lambda text: sanitise.shown(text, "mysql"),
    "sqlite": lambda text: sanitise.shown(text, "sqlite"),
    "rowless": lambda text: rowless.left_out(text, "22000", True),
    "failures": lambda text: failures.redact(text, ("hunter2",)),
    "spelling": postgresql_spelling.respelled,
}


@pytest.mark.parametrize("name", WORK)
def test_work_grows_in_proportion_to_the_text(name: str) -> None:
    assert [text for text in TEXTS if not grows_in_proportion(WORK[name], *text)] == []


def test_a_line_of_a_schema_is_shown_in_proportion_to_its_length() -> None:
    assert grows_in_proportion(lambda text: difference([], [Line(text, "t", "secret")], 1), "column | ", "secret", "")


def test_what_grows_with_the_square_is_noticed() -> None:
    assert not grows_in_proportion(lambda text: re.search("a+b", text[::3]), "", "a", "")
