"""`orchestrator token …`: who may ask a daemon for what."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, cast

import anyio
import typer
from rich.table import Table

from orchestrator.cli import connection, examples, options, screen
from orchestrator.cli.tables import NOTHING
from orchestrator.client import shapes
from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from orchestrator.access.roles import Role
    from orchestrator.access.tokens import Token

Name = Annotated[str, typer.Option("--name", help="Whose it is: rollouts and the audit say user:NAME.")]
AsRole = Annotated[str, typer.Option("--role", help="viewer, operator, approver or admin; each may what those before.")]
Expires = Annotated[str, typer.Option("--expires", help="How long it counts: 90d, 12h, 4w, or never.")]
Entry = Annotated[
    bool, typer.Option("--entry", help="Leave the store alone, and print an entry for ORCHESTRATOR_TOKENS_FILE.")
]
TokenId = Annotated[str, typer.Argument(metavar="ID", help="As `orchestrator token list` shows it.")]

_NO_TOKENS = "no tokens: without an identity provider, whoever reaches the daemon may do anything"

app = typer.Typer(
    help="Make, list and revoke tokens: in the store, or with --server through a daemon, as an admin.",
    no_args_is_help=True,
)


@app.command("create", epilog=examples.of("token create"))
def create(
    name: Name,
    role: AsRole,
    expires: Expires = "90d",
    entry: Entry = False,
    as_json: options.Json = False,
    server: options.StoreServer = None,
    store_url: options.StoreUrl = None,
) -> None:
    """Make a token and print it, this once: only its hash is kept."""
    from orchestrator.access import tokens
    from orchestrator.access.roles import Role

    [wanted] = options.words(Role, [role], "--role")
    try:
        lifetime = tokens.lifetime(expires)
    except ValueError as exc:
        raise ConfigurationError(f"--expires: {exc}") from None
    if entry:
        _show_entry(name, wanted, lifetime, as_json)
    elif server and not store_url:
        seconds = None if lifetime is None else lifetime.total_seconds()
        _show(connection.ask(server, lambda daemon: daemon.create_token(name, wanted, seconds)), as_json)
    else:
        from orchestrator import settings
        from orchestrator.api import tokens as shown
        from orchestrator.service import records

        minted = anyio.run(records.create, settings.load(store_url=store_url), name, wanted, lifetime)
        _show(cast(shapes.NewToken, shown.new(minted).model_dump(mode="json")), as_json)


@app.command("list", epilog=examples.of("token list"))
def list_tokens(
    as_json: options.Json = False, server: options.StoreServer = None, store_url: options.StoreUrl = None
) -> None:
    """List tokens, never their secrets."""
    if server and not store_url:
        found = connection.ask(server, lambda daemon: daemon.tokens())
    else:
        from orchestrator import settings
        from orchestrator.service import records

        found = [_shape(token) for token in anyio.run(records.listed, settings.load(store_url=store_url))]
    screen.listing(found, _table, as_json, _NO_TOKENS)


@app.command("revoke", epilog=examples.of("token revoke"))
def revoke(
    token_id: TokenId,
    as_json: options.Json = False,
    server: options.StoreServer = None,
    store_url: options.StoreUrl = None,
) -> None:
    """Revoke a token: from now on it does not count."""
    if server and not store_url:
        revoked = connection.ask(server, lambda daemon: daemon.revoke_token(token_id))
    else:
        from orchestrator import settings
        from orchestrator.service import records

        revoked = _shape(anyio.run(records.revoke, settings.load(store_url=store_url), token_id))
    screen.answer(revoked, lambda one: [f"token {one['id']} ({one['name']}) is revoked"], as_json)


def _show(token: shapes.NewToken, as_json: bool) -> None:
    if as_json:
        screen.write_json(token)
        return
    screen.write_lines([token["token"]])
    until = f"until {token['expires_at']}" if token["expires_at"] else "until it is revoked"
    screen.remark(f"token {token['id']}: {token['role']}, named {token['name']!r}, counts {until}")
    screen.remark("it is shown this once: keep it as ORCHESTRATOR_TOKEN of whoever asks")


def _show_entry(name: str, role: Role, lifetime: timedelta | None, as_json: bool) -> None:
    from orchestrator.access import file
    from orchestrator.service import records

    minted = records.mint(name, role, lifetime)
    entry = file.entry(minted.token)
    if as_json:
        screen.write_json({"token": minted.text, "entry": entry.removeprefix("- ")})
        return
    screen.write_lines([minted.text])
    screen.remark(f"add this to `tokens:` of the tokens file:\n  {entry}")


def _shape(token: Token) -> shapes.Token:
    from orchestrator.api import tokens as shown

    return cast(shapes.Token, shown.shown(token).model_dump(mode="json"))


def _table(found: Sequence[shapes.Token]) -> Table:
    rows: list[screen.Row] = [
        [
            one["id"],
            one["name"],
            one["role"],
            one["state"],
            one["source"],
            one["expires_at"] or "never",
            one["last_used_at"] or NOTHING,
        ]
        for one in found
    ]
    return screen.table(("id", "name", "role", "state", "source", "expires", "last used"), rows)
