"""What passes a check, and what is said of it."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from orchestrator.errors import CheckError
from orchestrator.execute import promql
from orchestrator.execute.verdicts import Finding, Series, of_rows, of_series, of_tenants
from orchestrator.execute.verify import judged
from orchestrator.registry.model import Check
from orchestrator.registry.precautions import Assertion


def sql(**fields: Any) -> Check:
    """Of a control database, whose texts are shown."""
    return Check("c", "sql", "SELECT", shard="s", database="d", **fields)


@pytest.mark.parametrize(
    ("check", "value", "passed", "said"),
    [
        (sql(), True, True, "true"),
        (sql(), False, False, "false, it must be true"),
        (sql(), None, False, "NULL, it must be true"),
        (sql(), 1, False, "1 is neither true nor false: give the check `min`, `max` or `equals`"),
        (sql(), "true", False, "'true', it must be true"),
        (sql(most=5), 5, True, "5"),
        (sql(most=5), Decimal("5.01"), False, "5.01, allowed is at most 5"),
        (sql(least=1, most=5), 0, False, "0, allowed is 1 to 5"),
        (sql(least=1), None, False, "NULL, allowed is at least 1"),
        (sql(least=0), True, False, "true, allowed is at least 0"),
        (sql(least=0), "7", False, "'7', allowed is at least 0"),
        (sql(most=5), math.nan, False, "nan, allowed is at most 5"),
        (sql(least=5), math.nan, False, "nan, allowed is at least 5"),
        (sql(most=5), Decimal("NaN"), False, "NaN, allowed is at most 5"),
        (sql(least=5), math.inf, False, "inf, allowed is at least 5"),
        (sql(equals="3"), 3, True, "3"),
        (sql(equals="3"), Decimal("3.00"), True, "3.00"),
        (sql(equals="0.1"), 0.1, True, "0.1"),
        (sql(equals="ok"), 3, False, "3, allowed is 'ok'"),
        (sql(equals="ok"), "ok", True, "'ok'"),
        (sql(equals="ok"), "OK", False, "'OK', allowed is 'ok'"),
        (sql(equals="ok"), b"ok", True, "2 bytes"),
        (sql(equals="false"), False, True, "false"),
        (sql(equals="2026-11-22"), date(2026, 11, 22), True, "'2026-11-22'"),
        (sql(equals="null"), None, False, "NULL, allowed is 'null'"),
        (sql(equals="x"), "y\n" * 200, False, f"'{'y ' * 29} …', allowed is 'x'"),
    ],
)
def test_a_value_passes_or_says_why_not(check: Check, value: object, passed: bool, said: str) -> None:
    assert of_rows(check, [(value, "ignored")]) == Finding(passed, said)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "the answer has no row"),
        ([(True,), (True,)], "the answer has more than one row"),
        ([()], "the answer has no column"),
    ],
)
def test_what_is_not_one_row_is_no_answer(rows: list[tuple[object, ...]], said: str) -> None:
    assert of_rows(sql(), rows) == Finding(False, said)


@pytest.mark.parametrize(
    ("value", "passed"),
    [
        (1, True),
        (0, False),
        (2, False),
        (1.0, True),
        (Decimal(1), True),
        (Decimal("1.1"), False),
        ("1", False),
        (None, False),
    ],
)
def test_one_is_true_where_there_are_no_truth_values(value: object, passed: bool) -> None:
    assert of_rows(sql(), [(value,)], booleans=False).passed is passed
    assert of_rows(sql(equals="true"), [(value,)], booleans=False).passed is passed
    assert (judged(Assertion("SELECT"), [(value,)], booleans=False) is None) is passed
    assert (judged(Assertion("SELECT", expect="true"), [(value,)], booleans=False) is None) is passed


@pytest.mark.parametrize("value", [1, 1.0, Decimal(1), 0, "t", None, False])
def test_nothing_but_true_is_true_where_there_are_truth_values(value: object) -> None:
    for check in (sql(), sql(equals="true")):
        assert not of_rows(check, [(value,)]).passed
    for assertion in (Assertion("SELECT"), Assertion("SELECT", expect="true")):
        assert judged(assertion, [(value,)]) is not None


@pytest.mark.parametrize(
    ("value", "wanted", "passed"),
    [
        (True, "True", True),
        (True, "1", False),
        (0, "false", False),
        (0, "0", True),
        (Decimal("1.50"), "1.5", True),
        (Decimal("NaN"), "nan", False),
        (math.nan, "nan", False),
        (3, "three", False),
        (b"\xff", "\ufffd", False),
        ("", "", True),
        (None, "None", False),
    ],
)
def test_checks_and_verification_compare_alike(value: object, wanted: str, passed: bool) -> None:
    assert of_rows(sql(equals=wanted), [(value,)]).passed is passed
    assert (judged(Assertion("SELECT", expect=wanted), [(value,)]) is None) is passed


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("ann@example.org", "a text of 15 characters"),
        (b"ann", "3 bytes"),
        (date(1980, 1, 2), "a value of type date"),
        (["ann"], "a value of type list"),
        (4_111_111_111_111_111_000_000, "a number of 22 digits"),
        (Decimal("0.33333333333333333333333"), "0.3333333333"),
        (17, "17"),
        (None, "NULL"),
        (False, "false"),
    ],
)
def test_a_tenant_s_text_is_not_shown(value: object, said: str) -> None:
    of_tenants_own = Check("c", "sql", "SELECT", equals="x")
    assert of_rows(of_tenants_own, [(value,)]) == Finding(False, f"{said}, allowed is 'x'")
    assert judged(Assertion("SELECT", expect="x"), [(value,)]) == f"gave {said}, not x"


def test_a_tenant_s_text_that_passes_is_not_shown_either() -> None:
    assert of_rows(Check("c", "sql", "SELECT", equals="ann"), [("ann",)]) == Finding(True, "a text of 3 characters")


def prom(**fields: Any) -> Check:
    return Check("c", "promql", "q", url="http://h", **{"most": 0.5, **fields})


def series(*values: float, labels: str = "") -> Series:
    return Series(labels, tuple((float(moment), value) for moment, value in enumerate(values)))


@pytest.mark.parametrize(
    ("check", "found", "moments", "passed", "said"),
    [
        (prom(), [], 1, False, "no answer: nothing matches the query"),
        (prom(empty_passes=True), [], 1, True, "nothing matches the query, as it should be"),
        (prom(), [series(0.5)], 1, True, "0.5"),
        (prom(), [series(0.7)], 1, False, "0.7, allowed is at most 0.5"),
        (prom(), [series(math.nan)], 1, False, "nan, allowed is at most 0.5"),
        (prom(empty_passes=True), [series(math.nan)], 1, False, "nan, allowed is at most 0.5"),
        (prom(), [series(math.inf)], 1, False, "inf, allowed is at most 0.5"),
        (prom(), [series(0.1), series(0.2)], 1, True, "2 series are within the limits"),
        (
            prom(),
            [series(0.1), *(series(1.0, labels=f"e{n}") for n in range(5))],
            1,
            False,
            "e0 1; e1 1; e2 1 and 2 more, allowed is at most 0.5",
        ),
        (prom(for_seconds=60), [series(0.1, 0.9, 0.2)], 3, False, "0.9 within the last 60 s, allowed is at most 0.5"),
        (prom(for_seconds=60), [series(0.1, 0.2)], 3, False, "no answer for 1 of 3 moments of the last 60 s"),
        (prom(for_seconds=60), [], 3, False, "no answer: nothing matches the query"),
        (prom(for_seconds=60, empty_passes=True), [series(0.1, 0.2)], 3, True, "0.2"),
        (
            prom(for_seconds=60),
            [series(0.1, math.nan, 0.2)],
            3,
            False,
            "nan within the last 60 s, allowed is at most 0.5",
        ),
    ],
)
def test_every_sample_counts(check: Check, found: list[Series], moments: int, passed: bool, said: str) -> None:
    assert of_series(check, found, moments) == Finding(passed, said)


def test_tenants_that_do_not_pass_are_counted_and_a_few_are_named() -> None:
    good, bad = Finding(True, "true"), Finding(False, "false, it must be true")
    assert of_tenants([("a", good), ("b", good)]) == Finding(True, "2 tenants pass")
    assert of_tenants([("a", bad), ("b", good)]).said == "1 of 2 tenants do not pass: a: false, it must be true"
    many = of_tenants([(f"t{number}", bad) for number in range(9)])
    assert many.said.startswith("9 of 9 tenants do not pass: t0: false")
    assert many.said.endswith("6 more")
    late = of_tenants([("a", good)], unasked=3)
    assert late == Finding(False, "0 of 4 tenants do not pass: 3 tenants not asked in time")


# What a server may answer with.


def data(content: bytes, status: int = 200) -> Any:
    return promql.data_of("prom", status, content)


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [
        (200, b"<html>", "prom does not answer as Prometheus does"),
        (200, b"[]", "prom does not answer as Prometheus does"),
        (200, b"\xff\xfe", "prom does not answer as Prometheus does"),
        (200, b"[" * 100_000, "prom does not answer as Prometheus does"),
        (404, b"404 page not found", "prom answered with status 404 (correct `url`"),
        (302, b"", "redirections are not followed"),
        (401, b"Unauthorized", "prom answered with status 401 (give the check a `token`"),
        (503, b"", "prom answered with status 503"),
        (400, b'{"status": "error", "errorType": "bad_data", "error": "parse error: oops"}', "parse error: oops"),
        (200, b'{"status": "error", "error": "late"}', "prom refuses the query: late"),
        (500, b'{"status": "success", "data": {}}', "prom refuses the query: status 500"),
        (200, b'{"status": "success", "data": {}, "warnings": ["store down"]}', "may lack something: ['store down']"),
    ],
)
def test_an_answer_that_is_not_whole_is_none(status: int, content: bytes, said: str) -> None:
    with pytest.raises(CheckError) as caught:
        data(content, status)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "does not answer as Prometheus does"),
        ({"resultType": "string", "result": [1, "x"]}, "a text, not numbers"),
        ({"resultType": "matrix", "result": []}, "take a function of it, such as rate"),
        ({"resultType": "vector", "result": [{"metric": {}, "histogram": [1, {}]}]}, "histograms"),
        ({"resultType": "vector", "result": [{"metric": {}, "value": [1, "x"]}]}, "does not answer as Prometheus"),
        ({"resultType": "vector", "result": [{"metric": {}, "value": 7}]}, "does not answer as Prometheus"),
        ({"resultType": "vector", "result": [{}]}, "does not answer as Prometheus"),
        ({"resultType": "vector", "result": [7]}, "does not answer as Prometheus"),
        ({"resultType": "vector", "result": 7}, "does not answer as Prometheus"),
        ({"resultType": "vector"}, "does not answer as Prometheus"),
        ({"resultType": "odd", "result": []}, "does not answer as Prometheus"),
    ],
)
def test_what_has_no_numbers_to_compare_is_refused(answer: Any, said: str) -> None:
    with pytest.raises(CheckError) as caught:
        promql.read(answer, "vector")
    assert said in str(caught.value)


def test_samples_are_read() -> None:
    one = {"metric": {"__name__": "up", "job": "a"}, "value": [1.5, "NaN"]}
    [found] = promql.read({"resultType": "vector", "result": [one]}, "vector")
    assert (found.labels, math.isnan(found.samples[0][1])) == ('up{job="a"}', True)
    assert promql.read({"resultType": "scalar", "result": [1.5, "+Inf"]}, "vector") == [Series("", ((1.5, math.inf),))]
    many = {"metric": {}, "values": [[1, "0"], [2, "1"]]}
    assert promql.read({"resultType": "matrix", "result": [many]}, "matrix") == [Series("", ((1.0, 0.0), (2.0, 1.0)))]


@pytest.mark.parametrize("seconds", [1.0, 2.5, 7.0, 60.0, 61.0, 3601.0, 86_400.0, 7 * 86_400.0])
def test_a_window_covers_the_time_with_bearably_many_moments(seconds: float) -> None:
    window = promql.Window.until(1_795_000_000.123, seconds)
    length = window.step * window.steps
    assert seconds * 1000 <= length <= seconds * 1000 + window.steps
    assert 1 <= window.steps <= 1000
