"""Digests of plans, and what differs between two of them."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.plan import differences, manifest
from orchestrator.plan.manifest import Manifest, PlannedGroup
from orchestrator.registry.model import TargetKey


def group(*tenants: str, **fields: Any) -> PlannedGroup:
    made = PlannedGroup("app", ("a",), "behind", ("b", "c"), ("c",), "sql", tenants)
    return replace(made, **fields)


def plan(*groups: PlannedGroup, **fields: Any) -> Manifest:
    places = {
        TargetKey(tenant, one.track): f"postgresql://h/{tenant} alembic_version"
        for one in groups
        for tenant in one.tenants
    }
    files = {"app": {"env.py": "1", "versions/b.py": "2"}}
    return replace(Manifest("upgrade", {"app": ("c",)}, files, places, groups), **fields)


BASE = plan(group("acme", "globex"), group("initech", heads=("c",), steps=(), online=(), sql="", state="up_to_date"))

# What changed, and the lines that say so: by the plan itself, and by its digest alone.
CASES: list[tuple[str, Manifest, list[str], list[str]]] = [
    (
        "a tenant came",
        plan(group("acme", "globex", "new"), BASE.groups[1]),
        ["targets: 1 more than planned (new)"],
        ["targets: 1 more than planned (new)"],
    ),
    (
        "two came",
        plan(group("acme", "globex", "new"), replace(BASE.groups[1], tenants=("initech", "other"))),
        ["targets: 2 more than planned (new, other)"],
        ["targets: 2 more than planned (new, other)"],
    ),
    (
        "three came",
        plan(group("acme", "globex", "x", "y", "z"), BASE.groups[1]),
        ["targets: 3 more than planned (x, y, z)"],
        ["targets: 3 more than planned, or others; a plan made now shows all"],
    ),
    (
        "one went",
        plan(group("acme"), BASE.groups[1]),
        ["targets: 1 fewer than planned (globex)"],
        ["targets: 1 fewer than planned, or others"],
    ),
    (
        "one for another",
        plan(group("acme", "new"), BASE.groups[1]),
        ["targets: 1 more than planned (new)", "targets: 1 fewer than planned (globex)"],
        ["targets: as many as planned, but others, or elsewhere"],
    ),
    (
        "one is elsewhere",
        replace(BASE, places={**BASE.places, TargetKey("acme", "app"): "postgresql://other/acme alembic_version"}),
        [
            "targets: 1 elsewhere than planned (acme): acme was at postgresql://h/acme alembic_version, now at "
            "postgresql://other/acme alembic_version"
        ],
        ["targets: as many as planned, but others, or elsewhere"],
    ),
    (
        "a file has changed, another came",
        replace(BASE, files={"app": {"env.py": "1", "versions/b.py": "9", "versions/d.py": "3"}}),
        ["files: revision files of track app have changed: versions/b.py, versions/d.py (new)"],
        ["files: revision files or env.py have changed"],
    ),
    (
        "somebody migrated one",
        plan(group("acme"), replace(BASE.groups[1], tenants=("globex", "initech"))),
        ["steps: 1 target is no longer at a (now at c): globex"],
        ["steps: targets are no longer where they were when it was planned, or their SQL has changed"],
    ),
    (
        "one is down",
        plan(group("acme"), group("globex", heads=(), steps=(), online=(), state="unreachable"), BASE.groups[1]),
        ["steps: 1 target is no longer at a (now unreachable): globex"],
        ["steps: targets are no longer where they were when it was planned, or their SQL has changed"],
    ),
    (
        "another goal",
        replace(BASE, goals={"app": ("d",)}, groups=(group("acme", "globex", steps=("b", "c", "d")), BASE.groups[1])),
        ["goal: c was planned for track app, now it is d"],
        ["goal: another was planned than upgrade of track app to d"],
    ),
    (
        "the other way",
        replace(BASE, direction="downgrade", groups=(group("acme", "globex", steps=()), BASE.groups[1])),
        ["direction: upgrade was planned, not downgrade"],
        ["goal: another was planned than downgrade of track app to c"],
    ),
    (
        "other SQL",
        plan(group("acme", "globex", sql="other"), BASE.groups[1]),
        ["steps: for targets of track app at a, the SQL is no longer what was planned"],
        ["steps: targets are no longer where they were when it was planned, or their SQL has changed"],
    ),
    (
        "env.py runs more",
        plan(group("acme", "globex", online=("b", "c")), BASE.groups[1]),
        ["steps: for targets of track app at a, env.py would run other revisions than planned: b"],
        ["steps: targets are no longer where they were when it was planned, or their SQL has changed"],
    ),
]


@pytest.mark.parametrize(
    ("changed", "by_plan", "by_digest"), [case[1:] for case in CASES], ids=[one[0] for one in CASES]
)
def test_what_differs_is_said(changed: Manifest, by_plan: list[str], by_digest: list[str]) -> None:
    before, after = manifest.digest(BASE), manifest.digest(changed)
    assert not manifest.same(before, after)
    assert differences.between(BASE, changed) == by_plan
    assert differences.hinted(manifest.hints(before), changed) == by_digest


def test_equal_plans_have_one_digest_in_whatever_order_they_were_made() -> None:
    keys = list(BASE.places)
    random.Random(1).shuffle(keys)
    turned = replace(
        BASE,
        places={key: BASE.places[key] for key in keys},
        groups=tuple(replace(one, tenants=tuple(reversed(one.tenants))) for one in reversed(BASE.groups)),
        files={"app": dict(sorted(BASE.files["app"].items(), reverse=True))},
    )
    assert manifest.digest(turned) == manifest.digest(BASE)
    assert differences.between(BASE, turned) == []


def test_a_digest_fits_a_terminals_line_and_says_how_many_targets_it_is_for() -> None:
    digest = manifest.digest(BASE)
    assert len(f"digest {digest}") <= 80
    found = manifest.hints(digest)
    assert found is not None
    assert (found.count, found.targets) == (3, manifest.total(BASE.places.items()))


def test_the_hash_alone_binds_too_but_says_nothing() -> None:
    digest = manifest.digest(BASE).partition("-")[0]
    assert manifest.same(digest, manifest.digest(BASE))
    assert manifest.hints(digest) is None
    assert differences.hinted(None, BASE) == ["the plan: what would run, or where, is not what was planned"]


@pytest.mark.parametrize("text", ["", "abc", "A" * 40, "a" * 41, "a" * 40 + "-3", "a" * 40 + "-3-" + "1" * 24])
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="not the digest of a plan"):
        manifest.hints(text)


def test_a_plan_outlives_the_store() -> None:
    import json

    kept = manifest.from_json(json.loads(json.dumps(manifest.as_json(BASE))))
    assert kept == BASE
    assert manifest.digest(kept) == manifest.digest(BASE)


def test_names_that_look_alike_when_joined_are_kept_apart() -> None:
    one = plan(group("a,b"), group("c", heads=("x",)))
    other = plan(group("a"), group("b,c", heads=("x",)))
    assert manifest.digest(one) != manifest.digest(other)


def test_plans_over_several_tracks_name_the_track_of_a_target() -> None:
    other = Manifest(
        "upgrade", {"dw": ("z",)}, {"dw": {"env.py": "1"}}, {TargetKey("acme", "dw"): "p"}, (group("acme", track="dw"),)
    )
    both = manifest.joined([BASE, other])
    more = replace(
        other, places={**other.places, TargetKey("new", "dw"): "q"}, groups=(group("acme", "new", track="dw"),)
    )
    assert differences.between(both, manifest.joined([BASE, more])) == ["targets: 1 more than planned (new/dw)"]
    assert manifest.digest(both) == manifest.digest(manifest.joined([other, BASE]))
    assert manifest.joined([BASE]) == BASE
