"""When the door is open and when it is not, and what is kept of those who came."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from sqlalchemy import text

from orchestrator.access import chain, file, tokens
from orchestrator.access.chain import Verification
from orchestrator.access.flood import PER_PLACE
from orchestrator.access.roles import Role
from orchestrator.api import streams
from orchestrator.cli import audit, connection
from orchestrator.client.daemon import Daemon
from orchestrator.databases.embedded import Server
from orchestrator.errors import ConfigurationError, StoreError
from orchestrator.events import now
from orchestrator.rollout.state import RolloutState
from tests.engine import until
from tests.integration.access.conftest import World, world
from tests.integration.access.fleets import ASKED, gated
from tests.servers import MakeDatabases


async def test_it_is_open_until_there_was_a_token_and_never_again() -> None:
    async with world() as daemon, daemon.client() as client:
        assert (await client.get("/api/v1/tenants")).status_code == 200
        assert (await client.post("/api/v1/registry/reload")).status_code == 200
        await daemon.make("only", Role.ADMIN)
        assert (await client.get("/api/v1/tenants")).status_code == 401
        await daemon.door.revoke(daemon.made["only"].token.id, by="terminal:test")
        assert (await client.get("/api/v1/tenants")).status_code == 401
        anew = type(daemon.door)(daemon.engine.parts.store.tokens)  # as after a restart
        assert await anew.closed()


async def test_what_no_database_can_be_asked_for_is_not_there(pg: Server, make_databases: MakeDatabases) -> None:
    [name] = await make_databases(1, "store")
    async with world(store_url=pg.url(name)) as daemon:
        await daemon.make("admin", Role.ADMIN)
        async with daemon.of("admin") as client:
            assert (await client.get("/api/v1/notifications?channel=%00")).status_code == 422
            assert (await client.get("/api/v1/notifications?channel=ops")).status_code == 200
            assert (await client.post("/api/v1/tokens/%00/revoke")).status_code == 404
            assert (await client.post("/api/v1/notifications/%00/retry")).status_code == 404


@pytest.mark.parametrize(
    ("headers", "peer", "status"),
    [
        ({"Host": "127.0.0.1:8080"}, "127.0.0.1", 200),
        ({"Host": "localhost:8080", "Origin": "http://localhost:8080"}, "::1", 200),
        ({"Host": "[::1]:8080"}, "::1", 200),
        ({"Host": "evil.example:8080", "Origin": "http://evil.example:8080"}, "127.0.0.1", 403),
        ({"Host": "daemon"}, "203.0.113.9", 200),
        ({"Host": "daemon", "Origin": "http://daemon"}, "203.0.113.9", 200),
        ({"Host": "daemon", "Origin": "https://daemon:443"}, "203.0.113.9", 200),
        ({"Host": "daemon", "Origin": "http://evil.example"}, "203.0.113.9", 403),
        ({"Host": "daemon:8080", "Origin": "http://daemon"}, "203.0.113.9", 403),
        ({"Host": "daemon", "Origin": "null"}, "203.0.113.9", 403),
        ({"Host": "inside", "Origin": "https://daemon", "Sec-Fetch-Site": "same-origin"}, "203.0.113.9", 200),
    ],
)
async def test_while_it_is_open_no_page_of_another_site_steers(headers: dict[str, str], peer: str, status: int) -> None:
    async with world() as daemon:
        async with daemon.client(peer=peer, headers=headers) as client:
            answer = await client.post("/api/v1/registry/reload")
        assert answer.status_code == status, answer.text
        if headers["Host"].startswith("evil"):
            await daemon.make("ann", Role.ADMIN)
            async with daemon.of("ann", peer=peer, headers=headers) as client:  # who has a token may call it so
                assert (await client.post("/api/v1/registry/reload")).status_code == 200


async def test_whoever_finds_it_open_cannot_lock_it() -> None:
    async with world() as daemon, daemon.client() as client:
        answer = await client.post("/api/v1/tokens", json={"name": "mine", "role": "admin"})
        assert (answer.status_code, answer.json()["needs"]) == (403, "admin")
        assert "orchestrator token create" in answer.json()["remedy"]
        assert (await client.get("/api/v1/tokens")).json()["items"] == []


async def test_a_token_is_made_used_listed_and_revoked_over_http(daemon: World) -> None:
    async with daemon.of("admin") as admin:
        made = await admin.post("/api/v1/tokens", json={"name": "ci", "role": "operator", "expires_seconds": 60})
        assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
        new = made.json()
        async with daemon.client(new["token"]) as client:
            assert (await client.get("/api/v1/tenants")).status_code == 200
            assert (await client.get("/api/v1/tokens")).status_code == 403
            await daemon.door.flush()
            listed = (await admin.get("/api/v1/tokens")).json()["items"]
            [mine] = [one for one in listed if one["id"] == new["id"]]
            assert (mine["created_by"], mine["state"], mine["source"]) == ("user:admin", "active", "store")
            assert mine["last_used_at"] is not None
            assert new["token"].split("_", 2)[2] not in json.dumps(listed)
            for _ in range(2):
                revoked = await admin.post(f"/api/v1/tokens/{new['id']}/revoke")
                assert (revoked.status_code, revoked.json()["state"]) == (200, "revoked")
            refused = await client.get("/api/v1/tenants")
        assert refused.status_code == 401
        assert 'error_description="the token was revoked"' in refused.headers["www-authenticate"]
        assert (await admin.post("/api/v1/tokens/nothing/revoke")).status_code == 404
    entries = [(entry["action"], entry["by"], entry["details"].get("token")) for entry in await daemon.audited()]
    assert entries == [("create_token", "user:admin", new["id"]), ("revoke_token", "user:admin", new["id"])]


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a b", "role": "viewer"},
        {"name": "user:a", "role": "viewer"},
        {"name": "a\n", "role": "viewer"},
        {"name": "a", "role": "root"},
        {"name": "a", "role": "viewer", "expires_seconds": 0},
        {"name": "a", "role": "viewer", "expires_seconds": 1e99},
        {"name": "a", "role": "viewer", "more": 1},
    ],
)
async def test_what_cannot_be_a_token_is_not_made(daemon: World, body: dict[str, Any]) -> None:
    async with daemon.of("admin") as client:
        assert (await client.post("/api/v1/tokens", json=body)).status_code == 422


def written(path: Path, *made: tokens.Minted) -> None:
    path.write_text("tokens:\n" + "".join(f"  {file.entry(one.token)}\n" for one in made) if made else "tokens: []")
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1_000_000))


async def test_a_tokens_file_counts_beside_the_store_and_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    first, second = [tokens.mint(name, Role.VIEWER, created_by="x", now=now(), expires_at=None) for name in "ab"]
    written(path, first)
    async with world(file=path) as daemon:
        await daemon.make("admin", Role.ADMIN)

        async def let_in(made: tokens.Minted) -> bool:
            async with daemon.client(made.text) as client:
                return (await client.get("/api/v1/tenants")).status_code == 200

        assert [await let_in(one) for one in (first, second, daemon.made["admin"])] == [True, False, True]
        async with daemon.of("admin") as client:
            listed = (await client.get("/api/v1/tokens")).json()["items"]
            assert {(one["name"], one["source"]) for one in listed} == {("a", "file"), ("admin", "store")}
            refused = await client.post(f"/api/v1/tokens/{first.token.id}/revoke")
            assert (refused.status_code, "take its entry out" in refused.json()["remedy"]) == (409, True)
        written(path, second)
        assert [await let_in(one) for one in (first, second)] == [False, True]
        path.write_text("tokens: [{id: broken}]")
        assert [await let_in(one) for one in (first, second)] == [False, True]
        path.unlink()
        assert [await let_in(one) for one in (first, second, daemon.made["admin"])] == [False, False, True]
        written(path, first)
        assert await let_in(first)


async def test_a_tokens_file_is_looked_at_and_read_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokens.yaml"
    one = tokens.mint("a", Role.VIEWER, created_by="x", now=now(), expires_at=None)
    written(path)
    async with world(file=path) as daemon, daemon.client(one.text) as client:
        written(path, one)
        threads: list[threading.Thread] = []

        def noted(real: Callable[[Path], Any]) -> Callable[[Path], Any]:
            def called(path: Path) -> Any:
                threads.append(threading.current_thread())
                return real(path)

            return called

        monkeypatch.setattr(file, "_seen", noted(file._seen))
        monkeypatch.setattr(file, "read", noted(file.read))
        assert (await client.get("/api/v1/tenants")).status_code == 200
    assert len(threads) == 2
    assert threading.main_thread() not in threads


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00", "soon", "2027-13-01"])
def test_a_time_that_is_none_is_a_mistake_of_the_tokens_file(moment: str) -> None:
    one = tokens.mint("a", Role.VIEWER, created_by="x", now=now(), expires_at=now()).token
    values = {**json.loads(file.entry(one).removeprefix("- ")), "expires_at": moment}
    found, mistakes = file.parse(json.dumps({"tokens": [values]}).encode())
    assert (found, mistakes) == ([], ["entry 1: `expires_at` must be a time such as 2027-01-31T00:00:00Z"])


def test_an_id_that_stands_twice_is_said_once() -> None:
    one, other = (tokens.mint("a", Role.VIEWER, created_by="x", now=now(), expires_at=None).token for _ in range(2))
    lines = "\n".join(file.entry(token) for token in (one, other, one, one))
    assert list(file.parse(f"tokens:\n{lines}".encode())[1]) == [f"id {one.id} stands twice"]


@pytest.mark.parametrize("content", [None, "tokens: [3]"])
async def test_a_tokens_file_that_cannot_be_used_at_the_start_is_an_error(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokens.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match="tokens file"):
        file.TokensFile(path).load()


async def test_a_store_that_cannot_be_asked_lets_nobody_in(daemon: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> None:
        raise StoreError("it is gone")

    monkeypatch.setattr(type(daemon.engine.parts.store.tokens), "find", fails)
    async with daemon.of("admin") as client:
        assert (await client.get("/api/v1/tenants")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200


async def test_refused_changes_are_recorded_and_cannot_fill_the_store(daemon: World) -> None:
    async with daemon.client("orc_nonsense", headers={"X-Requested-By": "me"}) as client:
        for _ in range(50):
            assert (await client.post("/api/v1/rollouts/r1/abort", json={"force": True})).status_code == 401
            assert (await client.get("/api/v1/rollouts")).status_code == 401
    async with daemon.of("viewer") as client:
        for _ in range(2):
            assert (await client.post("/api/v1/rollouts/r1/abort")).status_code == 403
    entries = await daemon.audited()
    strangers = [entry for entry in entries if entry["by"] == "http"]
    assert len(strangers) == PER_PLACE
    assert strangers[0].items() >= {"action": "POST /api/v1/rollouts/r1/abort", "outcome": "refused"}.items()
    assert (strangers[0]["reason"], strangers[0]["address"]) == ("the token is not known", "203.0.113.9")
    first, second = [entry for entry in entries if entry["by"] == "user:viewer"]
    assert (first["action"], first["rollout"], first["role"]) == ("abort_rollout", "r1", "viewer")
    assert first["reason"] == "status 403 (45 refusals before were not recorded)"
    assert second["reason"] == "status 403"


async def test_each_entry_names_its_request(tmp_path: Path) -> None:
    async with world(gated(tmp_path)) as daemon:
        await daemon.make("ann", Role.OPERATOR)
        stranger, ann = daemon.client(), daemon.of("ann")
        async with stranger as nobody, ann as client:
            answers = [
                await nobody.post("/api/v1/registry/reload"),
                await client.post("/api/v1/registry/reload"),
                await client.post("/api/v1/rollouts", json=ASKED),
                await client.post("/api/v1/tokens", json={"name": "x", "role": "admin"}),
            ]
        assert [answer.status_code for answer in answers] == [401, 200, 201, 403]
        asked = [answer.headers["x-request-id"] for answer in answers]
        assert [entry["request"] for entry in await daemon.audited()] == asked


async def test_what_no_change_carries_is_recorded_before_it_is_done(daemon: World) -> None:
    done: list[int] = []
    reload = vars(daemon.engine.source)["reload"]

    async def watched() -> Any:
        done.append(len(await daemon.audited()))
        return await reload()

    vars(daemon.engine.source)["reload"] = watched
    async with daemon.of("operator") as client:
        assert (await client.post("/api/v1/registry/reload")).status_code == 200
        assert done == [1]
        store = daemon.engine.parts.store
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(type(store.audit), "note", _fails)
            assert (await client.post("/api/v1/registry/reload")).status_code == 503
    assert done == [1]
    assert [entry["action"] for entry in await daemon.audited()] == ["reload_registry"]


async def _fails(*_: object) -> None:
    raise StoreError("it is gone")


async def test_a_preview_and_a_repeated_request_leave_no_entry(tmp_path: Path) -> None:
    async with world(gated(tmp_path)) as daemon:
        await daemon.make("ann", Role.OPERATOR)
        async with daemon.of("ann", headers={"Idempotency-Key": "k"}) as client:
            assert (await client.post("/api/v1/rollouts", json={**ASKED, "dry_run": True})).status_code == 200
            assert (await client.post("/api/v1/rollouts", json=ASKED)).status_code == 201
            assert (await client.post("/api/v1/rollouts", json=ASKED)).status_code == 200
            assert (await client.post("/api/v1/plans", json={"track": "app", "to": "head"})).status_code == 200
            assert (await client.post("/api/v1/rollouts", json={"track": "app"})).status_code == 422
        assert [entry["action"] for entry in await daemon.audited()] == ["start_rollout"]


async def test_the_audit_is_paged_and_an_export_of_it_can_be_verified(daemon: World) -> None:
    async with daemon.of("operator") as client:
        for _ in range(5):
            await client.post("/api/v1/registry/reload")
    async with daemon.of("admin") as client:
        first = (await client.get("/api/v1/audit", params={"limit": 2})).json()
        assert [entry["sequence"] for entry in first["items"]] == [1, 2]
        rest = (await client.get("/api/v1/audit", params={"cursor": first["next_cursor"]})).json()
        assert [entry["sequence"] for entry in rest["items"]] == [3, 4, 5]
        after = (await client.get("/api/v1/audit", params={"after": 4})).json()
        assert [entry["sequence"] for entry in after["items"]] == [5]
    transport = httpx2.ASGITransport(daemon.app)
    async with Daemon("http://daemon", token=daemon.made["admin"].text, transport=transport) as ours:
        rows = [chain.exported(values) async for values in ours.audit()]
        assert {token["name"] for token in await ours.tokens()} >= {"admin", "viewer"}
    verification = Verification()
    verification.read(rows)
    assert (list(verification.end()), verification.entries) == ([], 5)


async def test_a_daemons_audit_is_verified_from_its_first_entry_to_the_stores_note(
    daemon: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = httpx2.ASGITransport(daemon.app)
    token = daemon.made["admin"].text
    monkeypatch.setattr(connection, "to", lambda server: Daemon(server, token=token, transport=transport))
    monkeypatch.setattr("orchestrator.client.administration.PAGE", 2)

    async def found() -> list[str]:
        verification = await audit._verified_by("http://daemon", ())
        return [f"{one.sequence} {one.problem.split(':')[0]}" for one in verification.breaks]

    assert await found() == []
    async with daemon.of("operator") as client:
        for _ in range(5):
            await client.post("/api/v1/registry/reload")
    assert await found() == []
    assert (await audit._verified_by("http://daemon", ())).entries == 5
    for statement, problems in (
        ("DELETE FROM audit WHERE sequence <= 2", ["1 missing"]),
        ("DELETE FROM audit WHERE sequence = 5", ["1 missing", "5 cut off"]),
        ("DELETE FROM audit", ["1 cut off"]),
        ("DELETE FROM audit_head", ["0 the store's note of the last entry is gone"]),
    ):
        await tampered(daemon, statement)
        assert await found() == problems


async def tampered(daemon: World, statement: str) -> None:
    """As somebody who can write the store."""
    connections = daemon.engine.parts.store.audit._connections
    for each in (*(f"DROP TRIGGER IF EXISTS audit_is_not_{done}" for done in ("updated", "deleted")), statement):
        await connections.write(lambda it, each=each: it.execute(text(each)) and None)  # type: ignore[misc]


async def test_the_client_says_what_is_wrong_with_a_token(daemon: World) -> None:
    transport = httpx2.ASGITransport(daemon.app)
    for token, said in ((None, "this needs a token"), (daemon.made["expired"].text, "expired")):
        async with Daemon("http://daemon", token=token, transport=transport) as ours:
            with pytest.raises(ConfigurationError, match=said) as refused:
                await ours.tenants()
        assert "ORCHESTRATOR_TOKEN" in (refused.value.remedy or "")
    async with Daemon("http://daemon", token=daemon.made["viewer"].text, transport=transport) as ours:
        with pytest.raises(ConfigurationError, match="needs the role operator, and user:viewer has viewer"):
            await ours.reload()


async def test_a_stream_ends_when_its_token_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "POLL_SECONDS", 0.05)
    async with world(gated(tmp_path)) as daemon:
        await daemon.make("ann", Role.OPERATOR)
        await daemon.make("eve", Role.VIEWER)
        async with daemon.of("ann") as client:
            rollout = (await client.post("/api/v1/rollouts", json=ASKED)).json()["id"]
        await daemon.engine.reaches(rollout, RolloutState.AWAITING_APPROVAL)
        answers: list[httpx2.Response] = []

        async def follow() -> None:
            async with daemon.of("eve", timeout=60) as client:
                answers.append(await client.get(f"/api/v1/rollouts/{rollout}/events"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await until(lambda: daemon.made["eve"].token.id in daemon.door._uses)
            assert answers == []
            await daemon.door.revoke(daemon.made["eve"].token.id, by="user:root")
        last = answers[0].text.rstrip().splitlines()[-1]
        assert json.loads(last.removeprefix("data: "))["reason"] == "unauthenticated"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a": ' + b"[" * 90 + b"]" * 90 + b"}",
        b'{"a": 1e999, "b": NaN, "c": -Infinity, "d": 1.5}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": "\\ud800\\u0000", "password": "hunter2", "url": "postgresql://u:hunter2@h/d"}',
        b"x" * 20_000,
        "ÿ".encode("latin-1"),
    ],
)
async def test_odd_requests_are_refused_and_recorded_as_any(daemon: World, body: bytes) -> None:
    async with daemon.of("viewer", headers={"X-Forwarded-For": "what, ever", "X-Requested-By": "x" * 5000}) as client:
        for rollout in ("r1", "%00", "%ed%a0%80", "x" * 5000):
            path = f"/api/v1/rollouts/{rollout}/pause"
            answer = await client.post(path, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 403
    entries = await daemon.audited()
    assert [entry["action"] for entry in entries] == ["pause_rollout"] * 4
    assert "hunter2" not in json.dumps(entries)
    assert (await daemon.engine.parts.store.audit.verified()).breaks == []
