"""Deliveries over real HTTP and by real programs, from a real store: the other side fails, hangs, and answers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.databases import programs
from orchestrator.errors import NotFoundError, StateError
from orchestrator.events import Event, NotificationDropped, NotificationFailed, ShardLimitChanged, ShardThrottled, now
from orchestrator.notify import notifier as notifiers
from orchestrator.notify.notices import Notice
from orchestrator.notify.notifier import Notifier
from orchestrator.notify.pauses import Pauses
from orchestrator.notify.ports import Kept
from orchestrator.notify.sending import Sender
from orchestrator.notify.signing import verified
from orchestrator.registry.channels import Channel
from orchestrator.rollout.state import Rollout, RolloutState
from orchestrator.store import outbox
from orchestrator.store.engine import Store, open_store
from tests.endpoints import Answer, Asked, says, serving
from tests.engine import until
from tests.integration.store.conftest import postgresql_url, sqlite_url, url  # noqa: F401
from tests.integration.store.samples import a_rollout, changed, created, migrations_of

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="
QUICK = Pauses(first=0.05, longest=0.1)


@asynccontextmanager
async def telling(store: Store, *channels: Channel, **fields: Any) -> AsyncIterator[list[Event]]:
    """A notifier at work; gives what it publishes."""
    told: list[Event] = []
    options = {"leads": lambda: True, "pauses": QUICK, "look_seconds": 0.05, "claim_seconds": 0.1, **fields}
    made = Notifier(store.outbox, lambda: channels, Sender(programs.run), told.append, **options)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.run)
        yield told
        tasks.cancel_scope.cancel()


async def start(store: Store, name: str = "r1", **fields: Any) -> Rollout:
    rollout = a_rollout(name, **fields)
    await store.ledger.create(rollout, migrations_of(rollout, prefix=name), created(rollout))
    return rollout


async def pause(store: Store, rollout: Rollout, reason: str = "wave canary: 3 of 9 targets failed") -> None:
    paused = replace(rollout, state=RolloutState.PAUSED, reason=reason)
    await store.ledger.save_rollout(paused, replace(changed(paused), reason=reason))


async def kept(store: Store, count: int, *states: str) -> Sequence[Kept]:
    """All deliveries, oldest first, once there are so many in these states."""

    async def there() -> bool:
        found = await store.outbox.listed()
        return sum(one.state in states for one in found) == count

    await until(there)
    return [*reversed(await store.outbox.listed())]


def webhook(address: str, **fields: Any) -> Channel:
    return Channel("ops", "webhook", address, secret=SECRET, **{"timeout_seconds": 5.0, **fields})


def genuine(asked: Asked) -> bool:
    headers = {name.lower(): value for name, value in asked.headers.items()}
    return verified(SECRET, headers, asked.body.encode(), now().timestamp())


def in_turn(*answers: Answer) -> Answer:
    """The first answer to the first request, and so on; the last one to all others."""
    left = list(answers)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return answer


def held(gate: Callable[[], bool]) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        while not gate():
            time.sleep(0.01)
        says(200)(handler)

    return answer


async def test_a_webhook_gets_each_event_once_and_signed(url: str) -> None:  # noqa: F811
    with serving(says(200)) as there:
        async with open_store(url) as store, telling(store, webhook(there.url)):
            rollout = await start(store)
            await pause(store, rollout)
            await kept(store, 2, "delivered")
        async with open_store(url) as store, telling(store, webhook(there.url)):  # another life finds nothing to do
            await start(store, "r2")
            await kept(store, 3, "delivered")
    bodies = [json.loads(asked.body) for asked in there.asked]
    assert [(body["type"], body["rollout"]["id"]) for body in bodies] == [
        ("rollout_started", "r1"),
        ("rollout_paused", "r1"),
        ("rollout_started", "r2"),
    ]
    assert all(genuine(asked) for asked in there.asked)
    assert [asked.headers["webhook-id"] for asked in there.asked] == [body["id"] for body in bodies]


async def test_what_fails_is_tried_again_under_the_same_id(url: str) -> None:  # noqa: F811
    answers = in_turn(says(500, b"no  room\nfor ${x}"), says(503, Retry_After="0"), says(204))
    with serving(answers) as there:
        async with open_store(url) as store, telling(store, webhook(there.url)) as told:
            await start(store)
            [done] = await kept(store, 1, "delivered")
    assert done.delivery.attempts == 3
    assert len({asked.headers["webhook-id"] for asked in there.asked}) == 1
    failed = [event.message for event in told if isinstance(event, NotificationFailed)]
    assert failed == ["127.0.0.1 answered with status 500: no room for ${x}", "127.0.0.1 answered with status 503"]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_what_is_given_up_is_a_dead_letter_until_somebody_retries_it(url: str) -> None:  # noqa: F811
    with serving(in_turn(says(500), says(500), says(200))) as there:
        async with open_store(url) as store, telling(store, webhook(f"{there.url}/path-secret", attempts=2)) as told:
            await start(store)
            [dead] = await kept(store, 1, "dead")
            assert (dead.delivery.attempts, dead.error) == (2, "127.0.0.1 answered with status 500")
            assert isinstance(told[-1], NotificationFailed)
            assert told[-1].wait_seconds is None
            again = await store.outbox.retry(dead.delivery.id, now())
            assert (again.state, again.delivery.attempts) == ("pending", 0)
            [done] = await kept(store, 1, "delivered")
            with pytest.raises(StateError, match="was delivered"):
                await store.outbox.retry(done.delivery.id, now())
            with pytest.raises(NotFoundError, match="no notification 'ntf_x'"):
                await store.outbox.retry("ntf_x", now())
    assert "path-secret" not in f"{dead}{told}"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_corrected_channel_counts_for_what_waits_already(url: str) -> None:  # noqa: F811
    released, channels = False, list[Channel]()
    with serving(in_turn(held(lambda: released))) as wrong, serving(says(200)) as right:
        async with open_store(url) as store:
            channels.append(webhook(wrong.url))
            await pause(store, await start(store))
            made = Notifier(store.outbox, lambda: channels, Sender(programs.run), lambda event: None, lambda: True)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(made.run)
                await until(lambda: len(wrong.asked) == 1)
                channels[:] = [webhook(right.url)]
                released = True
                await kept(store, 2, "delivered")
                tasks.cancel_scope.cancel()
    assert [len(wrong.asked), len(right.asked)] == [1, 1]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_one_that_cannot_be_sent_for_a_reason_of_our_own_is_given_up_too(
    url: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def send(*arguments: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(Sender, "send", send)
    async with open_store(url) as store, telling(store, webhook("http://127.0.0.1:1", attempts=2)) as told:
        await start(store)
        [dead] = await kept(store, 1, "dead")
    assert (dead.delivery.attempts, dead.error) == (2, "it cannot be sent: RuntimeError, see the daemon's log")
    assert [event.attempt for event in told if isinstance(event, NotificationFailed)] == [1, 2]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_redirections_are_not_followed_and_a_receiver_that_is_gone_is_left_alone(url: str) -> None:  # noqa: F811
    with (
        serving(says(200)) as elsewhere,
        serving(says(302, Location=elsewhere.url)) as there,
        serving(says(410)) as gone,
    ):
        channels = [webhook(there.url, attempts=1), replace(webhook(gone.url), name="gone")]
        async with open_store(url) as store, telling(store, *channels):
            await start(store)
            found = {one.delivery.channel: one for one in await kept(store, 2, "dead")}
    assert found["ops"].error == "127.0.0.1 answered with status 302: redirections are not followed"
    assert found["gone"].delivery.attempts == 1
    assert elsewhere.asked == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_one_that_hangs_holds_up_nobody_else(url: str) -> None:  # noqa: F811
    released = False
    with serving(held(lambda: released)) as hanging, serving(says(200)) as well:
        chat = Channel("chat", "slack", well.url)
        channels = [webhook(hanging.url, timeout_seconds=0.2, attempts=2), chat]
        async with open_store(url) as store, telling(store, *channels):
            rollout = await start(store)
            await pause(store, rollout, "<!channel> 1 & 2")
            await kept(store, 2, "delivered")
            dead = await kept(store, 2, "dead")
        released = True
    assert {one.error for one in dead if one.state == "dead"} == {"127.0.0.1 did not end within 0.2 s"}
    assert "&lt;!channel&gt; 1 &amp; 2" in json.loads(well.asked[1].body)["text"]
    assert "webhook-signature" not in {name.lower() for name in well.asked[0].headers}


async def test_a_process_that_ends_in_the_middle_leaves_it_to_the_next_with_the_same_id(url: str) -> None:  # noqa: F811
    released = False
    with serving(in_turn(held(lambda: released), says(200))) as there:
        async with open_store(url) as store, telling(store, webhook(there.url, timeout_seconds=30.0)):
            await start(store)
            await until(lambda: len(there.asked) == 1)
        async with open_store(url) as store:
            await store.outbox.retry((await store.outbox.listed())[0].delivery.id, now())  # or wait for the claim's end
            async with telling(store, webhook(there.url)):
                [done] = await kept(store, 1, "delivered")
        released = True
    assert [asked.headers["webhook-id"] for asked in there.asked] == [done.delivery.id] * 2
    assert done.delivery.attempts == 2


async def test_what_happened_while_nobody_looked_is_told_by_the_next_leader(url: str) -> None:  # noqa: F811
    with serving(says(200)) as there:
        async with open_store(url) as store:
            async with telling(store, webhook(there.url), leads=lambda: False):
                rollout = await start(store)
                await pause(store, rollout)
            assert await store.outbox.listed() == []
            async with telling(store, webhook(there.url)), telling(store, webhook(there.url)):  # were there two
                await kept(store, 2, "delivered")
    assert len(there.asked) == 2


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_too_many_are_dropped_counted_and_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(outbox, "WAITING_LIMIT", 2)
    async with open_store(url) as store:
        for number in range(5):
            await start(store, f"r{number}")
        with serving(says(500)) as there:
            async with telling(store, webhook(there.url), pauses=Pauses(60, 60)) as told:
                await until(lambda: sum(isinstance(event, NotificationDropped) for event in told) == 3)
                assert len(await store.outbox.listed()) == 2


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_channel_that_is_gone_leaves_dead_letters(url: str) -> None:  # noqa: F811
    with serving(says(500)) as there:
        async with open_store(url) as store:
            async with telling(store, webhook(there.url), pauses=Pauses(60, 60)):
                await start(store)
                await kept(store, 1, "pending")
            async with telling(store, Channel("other", "slack", there.url)):
                [dead] = await kept(store, 1, "dead")
    assert dead.error == "the registry has no such channel"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_shard_that_is_throttled_too_long_is_told_once(url: str) -> None:  # noqa: F811
    with serving(says(200)) as there:
        async with open_store(url) as store:
            made = Notifier(
                store.outbox,
                lambda: [webhook(there.url, after_seconds=0.0)],
                Sender(programs.run),
                lambda event: None,
                lambda: True,
                look_seconds=0.05,
            )
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(made.run)
                for reason in ("few connections", "still few"):
                    made.hear(ShardThrottled(shard="pg-1", limit=2, allowed=8, reason=reason))
                    await kept(store, 1, "delivered")
                made.hear(ShardLimitChanged(shard="pg-1", limit=8, allowed=8))
                made.hear(ShardThrottled(shard="pg-1", limit=0, allowed=8, reason="none"))
                await kept(store, 2, "delivered")
                tasks.cancel_scope.cancel()
    assert [json.loads(asked.body)["shard"]["limit"] for asked in there.asked] == [2, 0]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_what_is_told_of_a_throttled_shard_is_its_limit_of_that_moment(url: str) -> None:  # noqa: F811
    with serving(says(200)) as there:
        async with open_store(url) as store:
            channels = [webhook(there.url, after_seconds=0.0)]
            made = Notifier(store.outbox, lambda: channels, Sender(programs.run), lambda event: None, lambda: True)
            made.hear(ShardThrottled(shard="pg-1", limit=6, allowed=8, reason="few connections"))
            made.hear(ShardLimitChanged(shard="pg-1", limit=2, allowed=8, reason="fewer"))
            made.hear(ShardLimitChanged(shard="pg-2", limit=1, allowed=8, reason="it was not throttled"))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(made.run)
                await kept(store, 1, "delivered")
                tasks.cancel_scope.cancel()
    [told] = [json.loads(asked.body)["shard"] for asked in there.asked]
    assert (told["shard"], told["limit"], told["reason"]) == ("pg-1", 2, "fewer")


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_without_channels_the_rollouts_are_looked_at_when_something_happens_only(
    url: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, channels = {"gather": 0, "due": 0}, list[Channel]()

    def counted(name: str) -> None:
        inner = getattr(store.outbox, name)

        async def counting(*arguments: Any) -> Any:
            looks[name] += 1
            return await inner(*arguments)

        monkeypatch.setattr(store.outbox, name, counting)

    async def looked(times: int) -> None:
        begun = looks["due"]
        await until(lambda: looks["due"] >= begun + times)

    with serving(says(200)) as there:
        async with open_store(url) as store, anyio.create_task_group() as tasks:
            counted("gather")
            counted("due")
            made = Notifier(
                store.outbox, lambda: channels, Sender(programs.run), lambda event: None, lambda: True, QUICK, 0.02
            )
            tasks.start_soon(made.run)
            await looked(5)
            assert looks["gather"] == 1
            made.hear(created(await start(store)))
            await looked(5)
            assert looks["gather"] == 2
            channels.append(webhook(there.url))  # is told of what happens from now on
            await start(store, "r2")
            await kept(store, 1, "delivered")
            tasks.cancel_scope.cancel()
    assert [json.loads(asked.body)["rollout"]["id"] for asked in there.asked] == ["r2"]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_offers_beyond_the_queue_are_dropped_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(notifiers, "QUEUE", 1)
    told: list[Event] = []
    async with open_store(url) as store:
        channel = Channel("ops", "slack", "http://127.0.0.1:1", kinds=("drift_found",))
        made = Notifier(store.outbox, lambda: [channel], Sender(programs.run), told.append, lambda: True)
        for number in range(3):
            made.offer(Notice("drift_found", f"drift {number}", "2026-01-01T00:00:00.000Z", "app", "drift"))
    assert [event.kind for event in told if isinstance(event, NotificationDropped)] == ["drift_found"] * 2


async def test_a_rollout_of_before_the_upgrade_is_not_told(url: str) -> None:  # noqa: F811
    from alembic import command
    from alembic.script import ScriptDirectory

    from orchestrator.history import tasklocal
    from orchestrator.store import schema
    from tests.integration.store.test_schema import on

    async with open_store(url) as store:
        await start(store)
    tasklocal.install()
    ours = ScriptDirectory.from_config(schema.config()).get_revision("0009")
    await on(url, lambda connection: command.downgrade(schema.config(connection), str(ours.down_revision)))
    with serving(says(200)) as there:
        async with open_store(url) as store, telling(store, webhook(there.url)):
            await start(store, "r2")
            await kept(store, 1, "delivered")
    assert [json.loads(asked.body)["rollout"]["id"] for asked in there.asked] == ["r2"]


# Programs


def program(folder: Path, text: str) -> str:
    path = folder / "tell"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_program_gets_the_event_and_no_password_of_ours(
    url: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PG_PASSWORD", "hunter2")
    monkeypatch.setenv("ORCHESTRATOR_STORE_URL", "postgresql://u:hunter2@h/store")
    said = tmp_path / "said.json"
    text = (
        "import json, os, sys\n"
        f"values = {{'event': json.load(sys.stdin), 'env': dict(os.environ), 'argv': sys.argv}}\n"
        f"json.dump(values, open({str(said)!r}, 'w'))\n"
    )
    channel = Channel("pager", "command", command=(program(tmp_path, text), "a b"), environment={"KEY": "k3y"})
    async with open_store(url) as store, telling(store, channel):
        await start(store)
        await kept(store, 1, "delivered")
    found = json.loads(said.read_text())
    assert found["event"]["type"] == found["env"]["ORCHESTRATOR_EVENT"] == "rollout_started"
    assert found["argv"][1:] == ["a b"]
    assert found["env"]["KEY"] == "k3y"
    assert "hunter2" not in said.read_text()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_program_that_hangs_is_ended_with_all_that_it_started(url: str, tmp_path: Path) -> None:  # noqa: F811
    pids = tmp_path / "pids"
    text = (
        "import os, signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)\n"
    )
    channel = Channel("pager", "command", command=(program(tmp_path, text),), timeout_seconds=2.0, attempts=1)
    async with open_store(url) as store, telling(store, channel):
        await start(store)
        [dead] = await kept(store, 1, "dead")
    assert dead.error is not None
    assert dead.error.endswith("tell did not end within 2 s")
    for pid in map(int, pids.read_text().split()):
        await until(lambda pid=pid: not _lives(pid))  # type: ignore[misc]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_program_that_fails_says_why_without_its_secrets(url: str, tmp_path: Path) -> None:  # noqa: F811
    text = "import os, sys\nprint('no', os.environ['KEY'], file=sys.stderr)\nsys.exit(3)\n"
    command = (program(tmp_path, text),)
    channels = [
        Channel("pager", "command", command=command, environment={"KEY": "k3y-s3cret"}, attempts=1),
        Channel("missing", "command", command=("/no/such/program",), attempts=1),
    ]
    async with open_store(url) as store, telling(store, *channels):
        await start(store)
        found = {one.delivery.channel: str(one.error) for one in await kept(store, 2, "dead")}
    assert found["pager"].endswith("tell ended with code 3: no ***")
    assert "/no/such/program ended with code 12" in found["missing"]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
