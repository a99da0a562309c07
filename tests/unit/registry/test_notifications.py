"""`notifications` of the registry file: what is right, and each mistake at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.registry.channels import KINDS
from tests.unit.registry.files import VALID, loaded, marked, refused

HOOK, KEY = "https://hooks.internal/a?t=${TOKEN}", "${HOOK_SECRET}"
ENVIRON = {"PASSWORD": "s3cret", "HOOK_SECRET": "0123456789abcdef-hook", "TOKEN": "t0ken-of-the-url", "SHORT": "short"}


def test_channels_are_read(tmp_path: Path) -> None:
    text = f"""{VALID}notifications:
  - {{name: ops, webhook: "{HOOK}", secret: "{KEY}", timeout: 5s, attempts: 3}}
  - {{name: chat, slack: "{HOOK}", on: [rollout_paused, approval_needed], tracks: [app], after: 20m}}
  - {{name: pager, command: [/bin/page, --now], environment: {{KEY: "{KEY}", PLAIN: x}}}}
"""
    ops, chat, pager = loaded(tmp_path, text, ENVIRON).channels
    assert (ops.way, ops.url) == ("webhook", "https://hooks.internal/a?t=t0ken-of-the-url")
    assert (ops.secret, ops.timeout_seconds, ops.attempts) == ("0123456789abcdef-hook", 5.0, 3)
    assert set(ops.kinds) == set(KINDS) - {"drift_found"}
    assert (chat.kinds, chat.tracks, chat.after_seconds) == (("rollout_paused", "approval_needed"), ("app",), 1200.0)
    assert pager.command == ("/bin/page", "--now")
    assert pager.environment == {"KEY": "0123456789abcdef-hook", "PLAIN": "x"}
    assert not any(secret in repr((ops, chat, pager)) for secret in ENVIRON.values())


def test_a_changed_secret_is_a_changed_registry(tmp_path: Path) -> None:
    text = f'{VALID}notifications: [{{name: ops, webhook: "{HOOK}", secret: "{KEY}"}}]\n'
    before = loaded(tmp_path, text, ENVIRON)
    assert before.digest != loaded(tmp_path, text, {**ENVIRON, "HOOK_SECRET": "another-secret-of-ours"}).digest


MISTAKES = [
    ("▶{name: ops}", "one of `webhook`, `slack` or `command` is missing"),
    ("▶{slack: https://h/x}", "`name` is missing"),
    ("{name: ops, slack: https://h/x, ▶command: [/bin/cat]}", "two ways: make them two notifications"),
    ("▶{name: ops, webhook: https://h/x}", "`secret` is missing"),
    ("{name: ops, webhook: https://h/x, secret: ▶sixteen-bytes-it-has}", "a secret does not belong into this file"),
    ("{name: ops, webhook: https://h/x, secret: ▶'${SHORT}'}", "less than 16 bytes"),
    ("{name: ops, webhook: https://h/x, secret: ▶'${NOPE}'}", "the environment variable NOPE is not set"),
    ("{name: ops, slack: https://h/x, ▶secret: '${HOOK_SECRET}'}", "`secret` goes with `webhook`, not with `slack`"),
    ("{name: ops, slack: https://h/x, ▶environment: {A: b}}", "`environment` goes with `command`"),
    ("{name: ops, slack: ▶'https://u:p@h/x'}", "gets into logs"),
    ("{name: ops, slack: ▶h/x}", "not the URL of an endpoint"),
    ("{name: ops, command: ▶[]}", "must name a program"),
    ("{name: ops, command: [/bin/x, ▶'${HOOK_SECRET}']}", "references work in"),
    ("{name: ops, command: [/bin/x], environment: {▶A-B: c}}", "cannot be the name of an environment variable"),
    ("{name: ops, slack: https://h/x, on: [▶rollout_pause]}", "this must be 'rollout_started'"),
    ("{name: ops, slack: https://h/x, on: [▶drift_found]}", "a notification of drift is not supported"),
    ("{name: ops, slack: https://h/x, on: ▶[]}", "chooses nothing"),
    ("{name: ops, slack: https://h/x, tracks: [▶ap]}", "unknown track 'ap'; did you mean 'app'?"),
    ("{name: ops, slack: https://h/x, timeout: ▶0s}", "a duration of at least 1s"),
    ("{name: ops, slack: https://h/x, attempts: ▶0}", "at least 1"),
    ("{name: ops, slack: https://h/x, ▶sekret: x}", "did you mean 'secret'?"),
]


@pytest.mark.parametrize(("entry", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_each_mistake_is_told_at_its_place(tmp_path: Path, entry: str, message: str) -> None:
    text, places = marked(f"{VALID}notifications:\n  - {entry}\n")
    found = refused(tmp_path, text, ENVIRON).mistakes
    assert [(mistake.line, mistake.column) for mistake in found] == places, found
    assert message in found[0].message
    assert not any(secret in str(found) for secret in ENVIRON.values())


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = f"{VALID}notifications:\n  - {{name: a}}\n  - {{name: a, slack: h, on: []}}\n  - {{command: []}}\n"
    assert len(refused(tmp_path, text, ENVIRON).mistakes) == 5


def test_the_documents_example_is_right(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "notifications.md").read_text()
    (secret := tmp_path / "pager").write_text("p4ger")
    example = page.split("```yaml\n")[1].split("```")[0].replace("/run/secrets/pager", str(secret))
    found = loaded(tmp_path, VALID + example, {**ENVIRON, "SLACK_WEBHOOK_URL": "https://chat.internal/x"}).channels
    assert [channel.way for channel in found] == ["webhook", "slack", "command"]
    assert [kind for kind in KINDS if f"`{kind}`" not in page] == []
