"""What is taken down of one run has an end."""

from __future__ import annotations

from orchestrator.history.wire import MOST, Wire


def test_more_statements_than_are_kept_are_told() -> None:
    remarks: list[str] = []
    wire = Wire("alembic_version", remarks.append)

    def revision() -> None:
        for connection in range(MOST + 1):
            wire.begins(connection)

    wire.following("a", revision, in_batches=False)()
    assert (len(wire.lines), remarks) == (MOST, ["more than 100,000 statements were sent"])
