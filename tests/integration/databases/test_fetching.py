"""Whoever asks over HTTP leaves the event loop alone meanwhile."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator.databases import endpoint, programs
from orchestrator.databases.base import Limits
from orchestrator.execute.checks import WaveChecks
from orchestrator.notify.notices import Delivery
from orchestrator.notify.sending import NotDelivered, Sender
from orchestrator.registry.channels import Channel
from orchestrator.registry.model import Check, Discovery
from tests.certificates import Authority
from tests.endpoints import says, serving
from tests.integration.execute.test_checks import registry_of

DELIVERY = Delivery("ntf_1", "ops", "rollout_started", {"text": "x"}, 1)


@pytest.fixture
def read_in(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads that read certificates of authorities, each time."""
    threads: list[threading.Thread] = []
    inner = ssl.SSLContext.load_verify_locations

    def noting(self: ssl.SSLContext, *arguments: Any, **named: Any) -> None:
        threads.append(threading.current_thread())
        inner(self, *arguments, **named)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", noting)
    return threads


async def test_certificates_of_authorities_are_not_read_in_the_event_loop(read_in: list[threading.Thread]) -> None:
    with serving(says(200, b"[]")) as there:
        checks = WaveChecks(lambda: registry_of(Check("c", "http", there.url)), Limits())
        assert [verdict.passed for verdict in await checks.ask("canary", "first", [])] == [True]
        assert await endpoint.ask(Discovery("d", "url", text=there.url), seconds=5.0) == []
    assert len(read_in) == 2
    assert threading.current_thread() not in read_in


async def test_a_sender_reads_them_once_and_verifies_by_them(
    read_in: list[threading.Thread], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("there"))
    with serving(says(200), context) as there:
        chat = Channel("ops", "slack", there.url, timeout_seconds=10.0)
        with pytest.raises(NotDelivered, match="certificate verify failed"):
            await Sender(programs.run).send(chat, DELIVERY)
        del read_in[:]
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        sender = Sender(programs.run)
        await sender.send(chat, DELIVERY)
        await sender.send(chat, DELIVERY)
    assert len(there.asked) == 2
    assert len(read_in) == 1
    assert threading.current_thread() not in read_in
