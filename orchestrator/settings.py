"""What the process is told from outside: flags over environment (`ORCHESTRATOR_*`) over defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestrator.errors import ConfigurationError

LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]


class Settings(BaseSettings):
    """Process settings; durations are seconds."""

    model_config = SettingsConfigDict(env_prefix="ORCHESTRATOR_", frozen=True)

    config: Path = Path("tenants.yaml")
    store_url: SecretStr = SecretStr("sqlite:///orchestrator.db")
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    requests_per_second: float = Field(
        100.0,
        ge=0,
        le=1e6,
        description="Over HTTP, of one client's address, and five seconds' worth of them at once; 0: no limit.",
    )
    tokens_file: Path | None = None
    allow_unauthenticated: bool = Field(False, description="Listen for others than this machine without any token.")
    metrics_need_token: bool = Field(False, description="/metrics asks for a token, too, once there are any.")
    metrics_laggards: int = Field(
        0, ge=0, le=100, description="/metrics names so many of the tenants that have waited longest for a migration."
    )
    metrics_shards: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="/metrics names so many shards, and sums up the rest as `other`; unset: as many as there are with "
        "2,000 series at most, and fewer of them in histograms.",
    )
    traces: Literal["off", "otlp"] = Field(
        "off", description="Send traces by OTLP over HTTP; OTEL_EXPORTER_OTLP_ENDPOINT and the like say where to."
    )
    traces_detailed: int = Field(
        100,
        ge=0,
        le=100_000,
        description="Of each wave, so many targets' segments and statements; of one that fails or is tried again, all.",
    )
    trusted_proxies: str = Field("", description="Addresses and networks whose X-Forwarded-For is believed.")
    tls_certificate: Path | None = Field(None, description="PEM, with the chain.")
    tls_key: Path | None = Field(None, description="PEM, without a passphrase.")
    tls_client_ca: Path | None = Field(None, description="PEM: only clients with a certificate of it are let in.")
    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    oidc_jwks: str | None = Field(None, description="The provider's keys: a file, or a URL.")
    oidc_role_claim: str = Field("roles", min_length=1, description="A claim, or a path such as realm_access.roles.")
    oidc_roles: str = Field("", description="sre=operator,leads=approver; empty: each role's own name.")
    log_format: LogFormat = "auto"
    log_level: LogLevel = "info"
    shutdown_grace_seconds: float = Field(30.0, ge=0)
    max_concurrent: int = Field(16, ge=1, description="Targets migrated at once, over all shards.")
    connect_timeout_seconds: float = Field(10.0, gt=0)
    lock_wait_seconds: float = Field(10.0, ge=0, description="Longest wait for a target that somebody else holds.")
    lock_timeout_seconds: float = Field(2.0, gt=0, description="PostgreSQL lock_timeout, MySQL lock_wait_timeout.")
    lock_retry_seconds: float = Field(
        60.0, ge=0, description="How long a target is tried again whose tables or version table others keep locked."
    )
    statement_timeout_seconds: float = Field(3600.0, gt=0)
    build_timeout_seconds: float = Field(86_400.0, gt=0, description="PostgreSQL: of what builds an index.")
    survey_seconds: float = Field(300.0, gt=0, description="How often the daemon reads the heads of all targets.")
    lease_seconds: float = Field(
        15.0,
        ge=1,
        le=3600,
        description="PostgreSQL store: how long a daemon that leads, and is not heard of any more, keeps the lead.",
    )


def load(**flags: Any) -> Settings:
    """Read the settings; flags that are None are taken as not given.

    Raises ConfigurationError naming every variable that is wrong, never its value.
    """
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as exc:
        lines = [f"ORCHESTRATOR_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in exc.errors()]
        raise ConfigurationError("settings: " + "; ".join(lines)) from None
