"""`orchestrator token …` and `orchestrator audit …` on a store, without a daemon."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from orchestrator.access import file
from orchestrator.cli.application import app


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "store.db"
    monkeypatch.setenv("ORCHESTRATOR_STORE_URL", f"sqlite:///{path}")
    for name in ("ORCHESTRATOR_SERVER", "ORCHESTRATOR_TOKEN", "ORCHESTRATOR_TOKENS_FILE"):
        monkeypatch.delenv(name, raising=False)
    return path


def run(*arguments: str, code: int = 0, **options: Any) -> Result:
    done = CliRunner().invoke(app, [*arguments], **options)
    assert done.exit_code == code, done.output
    return done


def test_a_token_is_printed_once_and_alone(store: Path) -> None:
    made = run("token", "create", "--role", "admin", "--name", "root")
    token = made.stdout.strip()
    assert made.stdout == f"{token}\n"
    assert token.startswith("orc_")
    secret = token.split("_", 2)[2]
    assert secret not in made.stderr
    [listed] = json.loads(run("token", "list", "--json").stdout)
    assert (listed["name"], listed["role"], listed["state"], listed["id"]) == (
        "root",
        "admin",
        "active",
        token.split("_")[1],
    )
    assert listed["created_by"].startswith("terminal:")
    assert secret not in run("token", "list").output + run("audit", "export").output
    assert secret not in store.read_bytes().decode("latin-1")


def test_a_token_is_revoked_and_stays_listed(store: Path) -> None:
    made = json.loads(run("token", "create", "--role", "viewer", "--name", "ci", "--expires", "never", "--json").stdout)
    assert made["expires_at"] is None
    assert "is revoked" in run("token", "revoke", made["id"]).stdout
    assert "revoked" in run("token", "list").stdout
    said = run("token", "revoke", "a" * 16, code=2)
    assert "there is no token" in said.stderr
    actions = [json.loads(line)["action"] for line in run("audit", "export").stdout.splitlines()]
    assert actions == ["create_token", "revoke_token"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--role", "root", "--name", "a"), "there is no 'root'"),
        (("--role", "viewer", "--name", "a b"), "a name begins with"),
        (("--role", "viewer", "--name", "a", "--expires", "soon"), "write it like 90d"),
        (("--role", "viewer", "--name", "a", "--expires", "999999w"), "--expires"),
    ],
)
def test_what_cannot_be_a_token_is_said(store: Path, given: tuple[str, ...], said: str) -> None:
    assert said in run("token", "create", *given, code=2).stderr
    assert not store.exists()


LOOKING = (("token", "list"), ("token", "revoke", "a" * 16), ("audit", "verify"), ("audit", "export"))


@pytest.mark.parametrize("command", LOOKING)
def test_who_looks_makes_no_store_and_upgrades_none(store: Path, command: tuple[str, ...]) -> None:
    said = run(*command, code=5)
    assert f"there is no store at {store}" in said.stderr
    assert "ORCHESTRATOR_STORE_URL" in said.stderr
    assert not store.exists()
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("PRAGMA user_version = 7")
    assert "is no store" in run(*command, code=5).stderr
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    run("token", "create", "--role", "admin", "--name", "root")
    tampered(store, "UPDATE orchestrator_version SET version_num = '0009'")
    assert "is of an older release: at revision 0009" in run(*command, code=5).stderr


def test_an_entry_for_the_tokens_file_leaves_the_store_alone(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = json.loads(run("token", "create", "--role", "operator", "--name", "ci", "--entry", "--json").stdout)
    assert not store.exists()
    path = tmp_path / "tokens.yaml"
    path.write_text(f"tokens:\n  - {made['entry']}\n")
    [read] = file.read(path)
    assert read.id == made["token"].split("_")[1]
    monkeypatch.setenv("ORCHESTRATOR_TOKENS_FILE", str(path))
    run("token", "create", "--role", "viewer", "--name", "other")
    listed = json.loads(run("token", "list", "--json").stdout)
    assert {(one["source"], one["name"]) for one in listed} == {("file", "ci"), ("store", "other")}


def tampered(store: Path, statement: str) -> None:
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("DROP TRIGGER IF EXISTS audit_is_not_updated")
        connection.execute("DROP TRIGGER IF EXISTS audit_is_not_deleted")
        connection.execute(statement)
        connection.commit()


def test_the_audit_is_verified_on_the_store_and_from_an_export(store: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        run("token", "create", "--role", "viewer", "--name", name)
    whole = run("audit", "verify").stdout
    assert whole.startswith("the chain holds: 3 entries\nanchor: 3:")
    anchor = whole.rsplit(": ", 1)[1].strip()
    lines = run("audit", "export").stdout
    assert len(run("audit", "export", "--after", "2").stdout.splitlines()) == 1
    export = tmp_path / "audit.jsonl"
    export.write_text(lines)
    assert json.loads(run("audit", "verify", "--file", str(export), "--json").stdout)["head"] == anchor
    assert "entry 2 on" in run("audit", "verify", "--file", "-", input="".join(lines.splitlines(True)[1:])).stdout
    export.write_text(lines.replace('"name":"b"', '"name":"x"'))
    assert "entry 2: edited" in run("audit", "verify", "--file", str(export), code=3).stdout
    tampered(store, "DELETE FROM audit WHERE sequence = 2")
    broken = json.loads(run("audit", "verify", "--json", code=3).stdout)
    assert broken["breaks"][0] == {"sequence": 2, "problem": "missing: 2"}


def test_an_anchor_tells_of_an_end_that_was_cut_off(store: Path) -> None:
    for name in ("a", "b"):
        run("token", "create", "--role", "viewer", "--name", name)
    anchor = run("audit", "verify").stdout.rsplit(": ", 1)[1].strip()
    first = json.loads(run("audit", "export").stdout.splitlines()[0])["hash"]
    tampered(store, "DELETE FROM audit WHERE sequence = 2")
    tampered(store, f"UPDATE audit_head SET sequence = 1, hash = '{first}'")
    run("audit", "verify")
    assert "cut off: the anchor is entry 2" in run("audit", "verify", "--anchor", anchor, code=3).stdout
    assert "an anchor is" in run("audit", "verify", "--anchor", "2:abc", code=2).stderr


@pytest.mark.parametrize("content", ["nonsense", "[]", "{}", '{"sequence": "1", "hash": "x"}', "\xff"])
def test_a_file_that_is_no_export_is_said(store: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(content.encode("latin-1"))
    assert "audit.jsonl" in run("audit", "verify", "--file", str(path), code=2).stderr


@pytest.mark.parametrize("token", ["two words", "é", "a\x07b"])
def test_a_token_that_cannot_be_one_is_said_without_what_it_is(
    store: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_TOKEN", token)
    said = run("token", "list", "--server", "http://127.0.0.1:1", code=2).stderr
    assert "ORCHESTRATOR_TOKEN does not hold a token" in said
    assert token not in said
