"""A daemon with tokens, as a process: failures of every kind, and no secret anywhere that others can look."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx2
import yaml

from orchestrator import settings
from orchestrator.access import file, tokens
from orchestrator.access.roles import Role
from orchestrator.databases.embedded import EmbeddedServer, Server
from orchestrator.events import now
from orchestrator.service import records
from tests import command, environments
from tests.daemon import Daemon, write_registry
from tests.engine import until
from tests.servers import MakeDatabases

PLANTED = "Pl4nted-s3cret!of/the:shard"
FILED = "f1led-s3cret-of-a-file"
LEAK = """
raise ValueError("cannot work with " + op.get_bind().engine.url.render_as_string(hide_password=False))
"""


def command_lines(pid: int) -> str:
    """What a process list shows of a process and all that it has started."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found, waiting = "", [pid]
    while waiting:
        process = waiting.pop()
        waiting += [child for child, parent in parents.items() if parent == process]
        found += Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace") + "\n"
    return found


def places(folder: Path) -> Iterator[tuple[str, str]]:
    for path in folder.glob("store.db*"):
        yield path.name, path.read_bytes().decode("latin-1")


async def test_no_secret_is_seen_after_a_run_with_failures(
    pg: Server, pg2: EmbeddedServer, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    environments.make_project(project)
    environments.add_tables(project, ["alpha"])
    environments.add_revision(project, "leaks", "alpha", LEAK)
    tracks = {"app": {"config": "project/alembic.ini"}}
    config, environ = write_registry(tmp_path, pg, await make_databases(3), tracks)
    (tmp_path / "password").write_text(FILED)
    content = yaml.safe_load(config.read_text())
    where = urlsplit(pg2.url(""))
    content["shards"]["refused"] = {
        "url": f"postgresql://u:${{PLANTED}}${{file:{tmp_path}/password}}@{where.hostname}:{where.port}"
    }
    content["tenants"].append({"id": "refused", "track": "app", "shard": "refused", "database": "postgres"})
    config.write_text(yaml.safe_dump(content))
    store = f"sqlite:///{tmp_path}/store.db"
    root = await records.create(settings.load(store_url=store), "root", Role.ADMIN, None)
    filed = tokens.mint("ci", Role.OPERATOR, created_by="x", now=now(), expires_at=None)
    (tmp_path / "tokens.yaml").write_text(f"tokens:\n  {file.entry(filed.token)}\n")
    unknown = tokens.mint("x", Role.ADMIN, created_by="x", now=now(), expires_at=None)
    environ |= {"PLANTED": quote(PLANTED, safe=""), "ORCHESTRATOR_TOKENS_FILE": str(tmp_path / "tokens.yaml")}
    # What is typed by mistake into names and headers is not looked for: it is what whoever typed it wrote there.
    secrets = {
        "planted": PLANTED,
        "planted, quoted": quote(PLANTED, safe=""),
        "filed": FILED,
        "of the server": environ["PG_PASSWORD"] if len(environ["PG_PASSWORD"]) > 12 else PLANTED,
        **{f"token {one.token.id}": one.text.split("_", 2)[2] for one in (root, filed, unknown)},
    }
    seen: dict[str, str] = {}
    environ["ORCHESTRATOR_LOG_LEVEL"] = "debug"
    async with Daemon(config, store, environ, fresh=True) as daemon:

        async def ask(who: tokens.Minted | None, method: str, path: str, **options: object) -> httpx2.Response:
            headers = {"Authorization": f"Bearer {who.text}"} if who else {}
            answer = await daemon.call(method, path, headers=headers, **options)
            seen[f"{method} {path} #{len(seen)}"] = f"{answer.headers} {answer.text}"
            return answer

        assert (await ask(None, "GET", "/api/v1/tenants")).status_code == 401
        assert (await ask(unknown, "POST", "/api/v1/rollouts", json={"track": "app", "to": "head"})).status_code == 401
        assert (await ask(None, "GET", "/healthz")).status_code == 200
        refused = await ask(filed, "POST", "/api/v1/tokens", json={"name": "more", "role": "admin"})
        assert refused.status_code == 403
        started = await ask(filed, "POST", "/api/v1/rollouts", json={"track": "app", "to": "head"})
        assert started.status_code == 201, started.text
        rollout = started.json()["id"]

        async def stopped() -> bool:
            return (await ask(filed, "GET", f"/api/v1/rollouts/{rollout}")).json()["state"] in ("failed", "paused")

        await until(stopped, seconds=120)
        ended = (await ask(filed, "GET", f"/api/v1/rollouts/{rollout}")).json()
        assert any("cannot work with" in group["example"]["message"] for group in ended["failures"])
        if ended["state"] == "paused":
            assert (await ask(filed, "POST", f"/api/v1/rollouts/{rollout}/abort")).status_code == 200
        for path in (f"rollouts/{rollout}/migrations", "tenants", "registry", "audit", "tokens"):
            assert (await ask(root, "GET", f"/api/v1/{path}")).status_code == 200
        await ask(root, "POST", "/api/v1/plans", json={"track": "app", "to": "head"})
        await ask(root, "GET", "/metrics")
        await ask(root, "GET", "/openapi.json")
        seen["process list"] = command_lines(daemon.pid)
        env = {"ORCHESTRATOR_SERVER": daemon.url, "ORCHESTRATOR_TOKEN": root.text}
        told = await command.run("audit", "verify", "--json", cwd=tmp_path, env=env)
        seen["audit verify"] = told.out + told.err
        assert (told.code, json.loads(told.out)["holds"]) == (0, True)
        seen |= {"store, open: " + name: text for name, text in places(tmp_path)}
    seen |= {"store: " + name: text for name, text in places(tmp_path)}
    seen["log"] = json.dumps(daemon.log, ensure_ascii=False)
    # Where a secret would have been seen, had it not been masked.
    assert "cannot work with" in seen["log"]
    assert "cannot work with" in seen["store: store.db"]
    assert "password authentication failed" in seen["log"]
    assert root.token.id in seen["store: store.db"]
    assert "serve" in seen["process list"]
    found = [(where, name) for where, text in seen.items() for name, secret in secrets.items() if secret in text]
    assert found == []
    audited = [line for line in daemon.log if line.get("event") == "audited"]
    assert [(line["action"], line["by"], line["outcome"]) for line in audited][:3] == [
        ("POST /api/v1/rollouts", "http", "refused"),
        ("create_token", "user:ci", "refused"),
        ("start_rollout", "user:ci", "done"),
    ]
    verification = await records.verified(settings.load(store_url=store), ())
    assert verification.breaks == []
    assert str(verification.last).startswith(f"{audited[-1]['sequence']}:{audited[-1]['hash']}")
    uses = {token.name: token.last_used_at for token in await records.listed(settings.load(store_url=store))}
    assert uses["root"] is not None
