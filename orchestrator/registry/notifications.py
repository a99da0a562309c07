"""From the file's `notifications` to channels."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import get_args

from orchestrator.registry import endpoints
from orchestrator.registry.channels import KINDS, Channel, Way
from orchestrator.registry.document import Where
from orchestrator.registry.forms import NotificationForm
from orchestrator.registry.report import Report
from orchestrator.registry.secrets import Complaint, Secrets

SHORTEST_SECRET = 16
ENCODED = "whsec_"  # what the Standard Webhooks libraries put before a secret in base64

WAYS: tuple[Way, ...] = get_args(Way)
BELONGINGS: Mapping[Way, tuple[str, ...]] = {
    "webhook": ("secret", "token"),
    "slack": ("token",),
    "command": ("environment",),
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BUILT = tuple(kind for kind in KINDS if kind != "drift_found")


def build(
    report: Report, forms: Mapping[int, NotificationForm], tracks: Sequence[str] | None, secrets: Secrets
) -> tuple[Channel, ...]:
    """The channels that are right; the report gets what is wrong with the others."""
    seen: dict[str, int] = {}
    found = []
    for index, form in forms.items():
        where: Where = ("notifications", index)
        if form.name in seen:
            line = report.line(("notifications", seen[form.name]))
            report.at((*where, "name"), f"there is a notification {form.name!r} already (line {line})")
        seen.setdefault(form.name, index)
        for number, track in enumerate(form.tracks or ()):
            if tracks is not None and track not in tracks:
                report.unknown((*where, "tracks", number), "track", track, tracks)
        if (channel := _channel(report, where, form, secrets)) is not None:
            found.append(channel)
    return tuple(found)


def decoded(secret: str) -> bytes:
    """The bytes that sign: of a secret such as `whsec_…` what its base64 says, else the text's own. Raises ValueError.

    >>> decoded("whsec_MDEyMzQ1Njc4OWFiY2RlZg==") == decoded("0123456789abcdef")
    True
    """
    if not secret.startswith(ENCODED):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(ENCODED), validate=True)
    except binascii.Error:
        raise ValueError(f"what follows {ENCODED} is not base64") from None


def _channel(report: Report, where: Where, form: NotificationForm, secrets: Secrets) -> Channel | None:
    way = _way(report, where, form)
    if way is None:
        return None
    for key in dict.fromkeys(key for keys in BELONGINGS.values() for key in keys):
        if getattr(form, key) and key not in BELONGINGS[way]:
            whose = " or ".join(f"`{other}`" for other in WAYS if key in BELONGINGS[other])
            report.at((*where, key), f"`{key}` goes with {whose}, not with `{way}`", key=True)
    url = "" if way == "command" else _url(report, (*where, way), getattr(form, way), secrets)
    token = None if form.token is None else endpoints.token(report, (*where, "token"), form.token, secrets)
    return Channel(
        form.name,
        way,
        url,
        tuple(form.command or ()),
        _secret(report, where, form, secrets) if way == "webhook" else None,
        token,
        _environment(report, (*where, "environment"), form.environment, secrets),
        _BUILT if form.on is None else tuple(form.on),
        tuple(form.tracks or ()),
        form.after,
        form.timeout,
        form.attempts,
    )


def _way(report: Report, where: Where, form: NotificationForm) -> Way | None:
    given = [way for way in WAYS if getattr(form, way) is not None]
    if not given:
        report.at(where, "one of `webhook`, `slack` or `command` is missing")
        return None
    for other in given[1:]:
        report.at((*where, other), f"`{given[0]}` and `{other}` are two ways: make them two notifications", key=True)
    if form.command == []:
        report.at((*where, "command"), "this must name a program")
    for key in ("on", "tracks"):
        if getattr(form, key) == []:
            report.at((*where, key), "this chooses nothing: leave it out for everything")
    return given[0] if len(given) == 1 else None


def _url(report: Report, where: Where, written: str, secrets: Secrets) -> str:
    return endpoints.url(report, where, written, secrets, "give a `token`")


def _secret(report: Report, where: Where, form: NotificationForm, secrets: Secrets) -> str | None:
    if form.secret is None:
        report.at(where, "`secret` is missing: whoever receives the webhook must be able to tell that it is ours")
        return None
    secret = endpoints.password(report, (*where, "secret"), form.secret, secrets)
    if secret is None:
        return None
    try:
        long_enough = len(decoded(secret)) >= SHORTEST_SECRET
    except ValueError as exc:
        report.at((*where, "secret"), str(exc))
        return None
    if not long_enough:
        report.at((*where, "secret"), f"this stands for less than {SHORTEST_SECRET} bytes, which can be guessed")
    return secret


def _environment(report: Report, where: Where, written: Mapping[str, str], secrets: Secrets) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, text in written.items():
        if not _VARIABLE.fullmatch(name):
            report.at((*where, name), f"{name!r} cannot be the name of an environment variable", key=True)
            continue
        try:
            found[name] = secrets.expand(text)
        except Complaint as exc:
            report.at((*where, name), *exc.messages)
    return found
