"""What is asked over HTTP: its URL, and what lets us in there."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from orchestrator.registry.document import Where
from orchestrator.registry.report import Report
from orchestrator.registry.secrets import Complaint, Reference, Secrets, pieces


def url(report: Report, where: Where, written: str, secrets: Secrets, remedy: str = "give a `token`") -> str:
    """The URL with its references filled in; the report gets what is wrong with it."""
    try:
        text = secrets.expand(written).strip()
    except Complaint as exc:
        report.at(where, *exc.messages)
        return ""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(c.isspace() for c in text):
        report.at(where, "this is not the URL of an endpoint: write https://host/path")
    elif parts.username is not None or parts.password is not None:
        report.at(where, f"a URL with a user or password in it gets into logs: {remedy} by reference")
    return text


def token(report: Report, where: Where, written: str, secrets: Secrets) -> str | None:
    """What is sent as bearer token; the report gets what is wrong with it."""
    return _secret(report, where, written, secrets, _is_token, "a token: one word of printable ASCII characters")


def password(report: Report, where: Where, written: str, secrets: Secrets) -> str | None:
    """What is sent with a user's name; the report gets what is wrong with it."""
    return _secret(report, where, written, secrets, _is_password, "a password: a text without control characters")


def _secret(
    report: Report, where: Where, written: str, secrets: Secrets, usable: Callable[[str], bool], noun: str
) -> str | None:
    try:
        if not any(isinstance(piece, Reference) for piece in pieces(written)):
            raise Complaint("a secret does not belong into this file: write ${NAME} or ${file:/path}")
        text = secrets.expand(written).strip()
        if not usable(text):
            raise Complaint(f"this does not stand for {noun}")
    except Complaint as exc:
        report.at(where, *exc.messages)
        return None
    return text


def _is_token(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _is_password(text: str) -> bool:
    return bool(text) and text.isprintable()
