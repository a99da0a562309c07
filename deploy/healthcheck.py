#!/opt/orchestrator/bin/python
"""Whether the daemon beside us can take work: exits with 0 where /readyz says so, else with 1.

It reads the daemon's own settings. A certificate is not checked, since it names the service and not this machine's
loopback address; and where only clients with a certificate are let in, it is enough that the port is open.
"""

import http.client
import os
import socket
import ssl
import sys
import urllib.error
import urllib.request

SECONDS = 4.0


def main() -> int:
    host, port = os.environ.get("ORCHESTRATOR_HOST", ""), int(os.environ.get("ORCHESTRATOR_PORT", "8080"))
    address = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        if os.environ.get("ORCHESTRATOR_TLS_CLIENT_CA"):
            socket.create_connection((address, port), SECONDS).close()
        else:
            ask(address, port, secure=bool(os.environ.get("ORCHESTRATOR_TLS_CERTIFICATE")))
    except (OSError, http.client.HTTPException) as exc:  # a 503 is an OSError, too
        detail = exc.read(500).decode(errors="replace") if isinstance(exc, urllib.error.HTTPError) else ""
        sys.stderr.write(f"{exc} {detail}".strip() + "\n")
        return 1
    return 0


def ask(address: str, port: int, *, secure: bool) -> None:
    """Raises OSError or HTTPException unless the answer is a good one."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    ways = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]
    shown = f"[{address}]" if ":" in address else address
    opener = urllib.request.build_opener(*ways)
    opener.open(f"http{'s' if secure else ''}://{shown}:{port}/readyz", timeout=SECONDS).close()


if __name__ == "__main__":
    sys.exit(main())
