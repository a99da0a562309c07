"""From the file's `shards` to values."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.engine import URL

from orchestrator.registry import addresses
from orchestrator.registry.forms import ShardForm
from orchestrator.registry.model import Shard
from orchestrator.registry.report import Report
from orchestrator.registry.secrets import Complaint, Secrets


def build(report: Report, forms: Mapping[str, ShardForm], secrets: Secrets) -> dict[str, Shard]:
    """Return the shards whose entries are right; the report gets what is wrong with the others."""
    shards: dict[str, Shard] = {}
    for name, form in forms.items():
        if (url := _url(report, name, form, secrets)) is not None:
            shards[name] = Shard(
                name,
                url,
                form.max_concurrent,
                dict(form.labels),
                max_per_database=form.max_per_database,
                reserve_connections=form.reserve_connections,
            )
    _refuse_one_server_twice(report, shards, secrets)
    return shards


def _url(report: Report, name: str, form: ShardForm, secrets: Secrets) -> URL | None:
    try:
        return addresses.parse(form.url, secrets)
    except Complaint as exc:
        report.at(("shards", name, "url"), *exc.messages)
        return None


def _refuse_one_server_twice(report: Report, shards: Mapping[str, Shard], secrets: Secrets) -> None:
    seen: dict[str, str] = {}
    for name, shard in shards.items():
        servers = addresses.servers(shard.url, secrets.folder)
        if others := sorted({seen[server] for server in servers if server in seen}):
            first = others[0]
            report.at(
                ("shards", name, "url"),
                f"the shards {first!r} (line {report.line(('shards', first, 'url'))}) and {name!r} are one server, "
                "whose limit must not be counted twice: make them one shard",
            )
        for server in servers:
            seen.setdefault(server, name)
