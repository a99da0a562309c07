"""The image's health check against a server that answers as the daemon does, with and without TLS."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.endpoints import Endpoint, says, serving

CHECK = Path(__file__).parents[3] / "deploy" / "healthcheck.py"


def checked(server: Endpoint, **environ: str) -> subprocess.CompletedProcess[str]:
    given = {"ORCHESTRATOR_HOST": "0.0.0.0", "ORCHESTRATOR_PORT": server.url.rpartition(":")[2], **environ}
    # A proxy is for others: what is asked is this machine.
    given |= {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    return subprocess.run([sys.executable, str(CHECK)], env=given, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_it_says_what_readyz_says(status: int, code: int) -> None:
    with serving(says(status, b'{"detail": "registry: is not read yet"}')) as server:
        done = checked(server)
    assert done.returncode == code
    assert [asked.path for asked in server.asked] == ["/readyz"]
    assert ("is not read yet" in done.stderr) == bool(code)


def test_it_speaks_tls_where_the_daemon_does_and_only_knocks_where_a_certificate_is_asked_for(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("daemon")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with serving(says(200), context) as server:
        assert checked(server).returncode == 1
        assert checked(server, ORCHESTRATOR_TLS_CERTIFICATE="x").returncode == 0
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    with serving(says(200), context) as server:
        both = {"ORCHESTRATOR_TLS_CERTIFICATE": "x", "ORCHESTRATOR_TLS_CLIENT_CA": "x"}
        assert checked(server, **both).returncode == 0
        assert server.asked == []
