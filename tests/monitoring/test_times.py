"""When rows came: what can be read as a time, and which rows are left out by it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.errors import InputError
from bisupervised.monitoring import Audits, drift
from bisupervised.monitoring.times import seconds_of, times_of
from monitoring.made import NAN, rows, thresholds_of

THRESHOLDS = thresholds_of(rows(500, 1))
NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z


def timed(n: int, times: object):
    return replace(rows(n, 2), extra={"time": np.asarray(times, dtype=object)})


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-01T12:00:00Z",
        "2026-01-01 12:00:00",
        "2026-01-01T13:00:00+01:00",
        " 1767268800 ",
        1_767_268_800,
        np.float64(NOON),
        np.datetime64("2026-01-01T12:00:00", "ns"),
        datetime(2026, 1, 1, 12, tzinfo=UTC),
        datetime(2026, 1, 1, 12),
        datetime(2026, 1, 1, 13, tzinfo=timezone(timedelta(hours=1))),
    ],
)
def test_a_time_is_iso_8601_a_datetime_or_unix_seconds(written):
    assert seconds_of(written) == NOON


@pytest.mark.parametrize("written", ["yesterday", "", None, True, NAN, float("inf"), 1.7e12, "1e400", 10**400, [1]])
def test_what_is_no_time_says_what_would_be(written):
    with pytest.raises(InputError, match="ISO 8601"):
        seconds_of(written)


@given(st.lists(st.integers(0, 4_000_000_000), min_size=1, max_size=20))
def test_every_way_to_write_a_column_of_times_is_read_alike(seconds):
    iso = [datetime.fromtimestamp(one, UTC).isoformat() for one in seconds]
    dates = np.array(seconds, dtype="datetime64[s]")
    for column in (seconds, np.array(seconds, dtype=float), iso, dates, dates.astype("datetime64[ns]")):
        table = replace(rows(len(seconds), 2), extra={"time": np.asarray(column)})
        assert times_of(table).seconds == pytest.approx(seconds)


def test_rows_are_read_in_the_order_of_their_iso_times():
    moments = [datetime.fromtimestamp(NOON + 60.0 * row, UTC).isoformat() for row in range(300)]
    order = np.random.default_rng(0).permutation(300)
    table = rows(300, 2)
    for broken in (False, True):
        confidences = np.where(np.arange(300) >= 100, 0.5, table.local.confidences) if broken else None
        one = table if confidences is None else replace(table, local=replace(table.local, confidences=confidences))
        one = replace(one, extra={"time": np.array(moments, dtype=object)}).take(order)
        result = drift(one, THRESHOLDS)
        assert result.order == "Rows are read in the order of their time."
        assert result.moved == broken
    rang = next(one for one in result.findings if one.question == "local_confidences")
    assert rang.rang_at is not None
    assert rang.rang_at > 100
    assert rang.rang_id == f"2-{rang.rang_at - 1}"
    assert rang.rang_time == NOON + 60.0 * (rang.rang_at - 1)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (["2026-01-01", "yesterday", "2026-01-02"], "The time 'yesterday' of row 2 cannot be read"),
        (["2026-01-01", "", "2026-01-02"], "1 of 3 rows have no time"),
        ([NOON, NAN, NOON], "1 of 3 rows have no time"),
        ([1.7e12, 1.7e12, 1.7e12], "nor Unix seconds"),
    ],
)
def test_times_that_cannot_be_read_are_said_to_be_so(times, words):
    order = drift(timed(3, times), THRESHOLDS).order
    assert words in order
    assert "in which they stand" in order
    with pytest.raises(InputError, match="every row needs a time"):
        drift(timed(3, times), THRESHOLDS, since=NOON)


def test_rows_from_before_the_calibration_are_left_out_unless_somebody_says_otherwise():
    """A growing log, the first 400 rows of which were calibrated on; those that follow are worse."""
    dated = replace(THRESHOLDS, evidence={"date": "2026-01-01T12:00:00Z"})
    table = timed(1_000, NOON + np.arange(1_000.0) - 400.0)
    result = drift(table, dated, label_share=np.full(1_000, 0.5), audits=Audits(table.ids, np.ones(1_000)))
    assert result.rows == 600
    assert result.notes[0].startswith("Left out: 400 rows from before the calibration of 2026-01-01 12:00:00 UTC")
    assert {one.rows for one in result.findings if one.question == "local_missing"} == {600}
    assert drift(table, dated, since=0).rows == 1_000
    later = drift(table, dated, since="2026-01-01T12:05:00Z")
    assert later.rows == 300
    assert "Left out: 700 rows from before 2026-01-01 12:05:00 UTC, as asked." in later.notes
    assert drift(table, THRESHOLDS).rows == 1_000, "no date"
    assert drift(rows(100, 2), dated).rows == 100, "no times"


def test_a_calibration_that_leaves_no_row_says_what_to_do():
    dated = replace(THRESHOLDS, evidence={"date": "2026-01-01T12:00:00Z"})
    table = timed(100, np.arange(100.0))
    with pytest.raises(InputError, match=r"all 100 rows are from before the calibration .*--since"):
        drift(table, dated)
    with pytest.raises(InputError, match="give rows that came later"):
        drift(table, dated, since=200.0)
    with pytest.raises(InputError, match="there is no column time"):
        drift(rows(100, 2), dated, since=0.0)
    with pytest.raises(InputError, match="no time"):
        drift(table, dated, since="soon")
    odd = replace(THRESHOLDS, evidence={"date": "in spring"})
    assert any("'in spring' cannot be read" in note for note in drift(table, odd).notes)
