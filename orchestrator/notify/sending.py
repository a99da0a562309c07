"""Carries one delivery out: over HTTP, or by a program."""

from __future__ import annotations

import json
import os
import ssl
import tempfile
from collections.abc import Mapping
from urllib.parse import urlsplit

import anyio
import httpx2

import orchestrator
from orchestrator.events import now
from orchestrator.notify import signing
from orchestrator.notify.notices import Delivery
from orchestrator.notify.ports import Run
from orchestrator.observe import redact
from orchestrator.registry.channels import Channel

SAID_BYTES = 500
# Of our own environment, a program gets what it needs to run: the rest may hold passwords of databases.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
# The program's standard input is the event; the descriptor that it comes by has any number.
_READING = 'event=$1; shift; exec "$@" <"/dev/fd/$event"'


class NotDelivered(Exception):
    """An attempt failed; the text names no secret. `asked_seconds`: when the receiver wants to be asked again.
    `final`: trying again is of no use."""

    def __init__(self, message: str, *, asked_seconds: float | None = None, final: bool = False) -> None:
        super().__init__(message)
        self.asked_seconds, self.final = asked_seconds, final


class Sender:
    """Sends; within the channel's time, whatever the other side does."""

    def __init__(self, run: Run, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._run, self._transport = run, transport
        self._trusting: ssl.SSLContext | None = None

    async def send(self, channel: Channel, delivery: Delivery) -> None:
        """Raises NotDelivered."""
        seconds = channel.timeout_seconds
        try:
            with anyio.fail_after(seconds):
                await (self._program if channel.way == "command" else self._request)(channel, delivery)
        except TimeoutError:
            raise NotDelivered(f"{_named(channel)} did not end within {seconds:g} s") from None

    async def _request(self, channel: Channel, delivery: Delivery) -> None:
        body, headers = content(channel, delivery, int(now().timestamp()))
        if self._trusting is None:  # reading all authorities takes some 50 ms: not in the event loop, and once
            self._trusting = await anyio.to_thread.run_sync(httpx2.create_ssl_context)
        # No proxies, and no redirections: the URL is a secret, and whoever redirects could send it anywhere.
        client = httpx2.AsyncClient(
            timeout=channel.timeout_seconds,
            trust_env=False,
            follow_redirects=False,
            transport=self._transport,
            verify=self._trusting,
        )
        try:
            async with client, client.stream("POST", channel.url, content=body, headers=headers) as answer:
                if answer.is_success:
                    return
                said = await _beginning(answer)
        except httpx2.TimeoutException as exc:
            raise NotDelivered(f"{_named(channel)} gave no answer in time") from exc
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as exc:
            raise NotDelivered(
                _masked(f"{_named(channel)} cannot be reached: {exc or type(exc).__name__}", channel)
            ) from exc
        raise refused(channel, answer.status_code, answer.headers, said)

    async def _program(self, channel: Channel, delivery: Delivery) -> None:
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment = {**inherited, **channel.environment, "ORCHESTRATOR_EVENT": delivery.kind}
        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(dict(delivery.body)).encode())
            file.flush()
            file.seek(0)
            number = file.fileno()
            command = ["/bin/sh", "-c", _READING, "notification", str(number), *channel.command]
            try:
                ended = await self._run(command, environment, descriptors=[number])
            except OSError as exc:
                raise NotDelivered(f"{_named(channel)} cannot be started: {exc.strerror}") from exc
        if ended.code:
            said = f": {ended.said[-1]}" if ended.said else ""
            raise NotDelivered(_masked(f"{_named(channel)} ended with code {ended.code}{said}", channel))


def content(channel: Channel, delivery: Delivery, timestamp: int) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request."""
    headers = {"Content-Type": "application/json", "User-Agent": f"orchestrator/{orchestrator.__version__}"}
    if channel.token is not None:
        headers["Authorization"] = f"Bearer {channel.token}"
    if channel.way == "slack":
        return json.dumps({"text": slack(str(delivery.body["text"]))}).encode(), headers
    body = json.dumps(dict(delivery.body)).encode()
    return body, headers | signing.signed(channel.secret or "", delivery.id, timestamp, body)


def slack(text: str) -> str:
    """The text with what Slack would take for mark-up escaped.

    >>> slack("1 < 2 & <!channel>")
    '1 &lt; 2 &amp; &lt;!channel&gt;'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def refused(channel: Channel, status: int, headers: Mapping[str, str], said: str) -> NotDelivered:
    """Why an answer is no delivery. 410 says that the receiver is gone for good."""
    text = f"{_named(channel)} answered with status {status}"
    if 300 <= status < 400:
        text += ": redirections are not followed"
    elif said:
        text += f": {said}"
    after = headers.get("retry-after", "")
    asked = float(after) if after.isdecimal() and status in (429, 503) else None
    return NotDelivered(_masked(text, channel), asked_seconds=asked, final=status == 410)


def _named(channel: Channel) -> str:
    """What messages call the other side: the rest of a URL may be a secret."""
    return str(channel.command[0] if channel.way == "command" else urlsplit(channel.url).hostname)


def _masked(text: str, channel: Channel) -> str:
    return redact.text(text, channel.secret, channel.token, channel.url, *channel.environment.values())


async def _beginning(answer: httpx2.Response) -> str:
    """The first words of what was answered, for the person who looks for the cause."""
    async for chunk in answer.aiter_bytes(SAID_BYTES):
        return " ".join(chunk.decode("utf-8", "replace").split())
    return ""
