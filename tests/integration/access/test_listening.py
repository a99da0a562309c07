"""Where the daemon listens without tokens, and where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from orchestrator import settings
from orchestrator.access.roles import Role
from orchestrator.errors import ConfigurationError
from orchestrator.service import door
from tests import environments
from tests.command import run
from tests.integration.access.conftest import world


def configured(host: str, **more: Any) -> settings.Settings:
    return settings.load(host=host, **more)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.3.2.1"])
async def test_only_this_machine_needs_no_token(host: str) -> None:
    async with world() as daemon:
        with capture_logs() as said:
            await door.refuse_exposed(configured(host), daemon.door)
        assert said == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "203.0.113.1", "::ffff:203.0.113.1"])
async def test_others_are_let_in_only_with_tokens_or_when_that_is_said(host: str) -> None:
    async with world() as daemon:
        with pytest.raises(ConfigurationError, match="nobody needs a token") as refused:
            await door.refuse_exposed(configured(host), daemon.door)
        assert "orchestrator token create" in (refused.value.remedy or "")
        with capture_logs() as said:
            await door.refuse_exposed(configured(host, allow_unauthenticated=True), daemon.door)
        assert [line["event"] for line in said] == ["unauthenticated", "listening_without_tls"]
        await daemon.make("any", Role.VIEWER)
        with capture_logs() as said:
            await door.refuse_exposed(configured(host, tls_certificate=Path("server.pem")), daemon.door)
        assert said == []


async def test_a_daemon_that_would_be_open_to_all_does_not_start(tmp_path: Path) -> None:
    environments.make_project(tmp_path / "project")
    registry = "tracks: {app: {config: project/alembic.ini}}\nshards: {}\ntenants: []\n"
    (tmp_path / "tenants.yaml").write_text(registry)
    ended = await run("serve", "--host", "0.0.0.0", "--port", "0", cwd=tmp_path, seconds=60)
    assert ended.code == 2, ended.err
    assert "error: on 0.0.0.0, others than this machine could steer the daemon, and nobody needs a token" in ended.err
    assert "try: make a token first" in ended.err
    assert len(ended.err.splitlines()) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"oidc_issuer": "https://id.example"}, "ORCHESTRATOR_OIDC_AUDIENCE, ORCHESTRATOR_OIDC_JWKS must be set"),
        ({"oidc_issuer": "i", "oidc_audience": "a", "oidc_jwks": "http://id.example/k"}, "can be anybody's"),
        ({"oidc_issuer": "i", "oidc_audience": "a", "oidc_jwks": "k", "oidc_roles": "x=root"}, "OIDC_ROLES"),
        ({"tokens_file": Path("/nowhere/tokens.yaml")}, "cannot be read"),
    ],
)
async def test_a_door_that_cannot_be_made_as_told_is_an_error(given: dict[str, Any], said: str) -> None:
    async with world() as daemon:
        with pytest.raises(ConfigurationError, match=said):
            door.opened(settings.load(**given), daemon.engine.parts.store.tokens)


def test_proxies_that_cannot_be_read_are_an_error() -> None:
    with pytest.raises(ConfigurationError, match="TRUSTED_PROXIES"):
        door.proxies(settings.load(trusted_proxies="10.0.0.1,everybody"))
