"""Numbers as text: what is not known is said, and rounding never makes a claim."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.evaluation.intervals import NOT_KNOWN, Estimate
from bisupervised.report.numerals import amount, cell, difference_text, interval, percent, seconds, share, threshold


@pytest.mark.parametrize("write", [share, percent, amount, seconds, threshold])
def test_unknown_is_said(write: object) -> None:
    assert write(math.nan) == "not known"  # type: ignore[operator]


@given(st.floats(0.0, 1.0))
def test_only_nothing_is_0_percent_and_only_all_is_100_percent(rate: float) -> None:
    assert (percent(rate) == "0 %") == (rate == 0.0)
    if rate < 1.0 - 1e-12:
        assert percent(rate) != "100 %"


@given(st.floats(-1e6, 1e6).filter(lambda x: not x.is_integer()))
def test_a_threshold_never_reads_as_a_whole_number_that_it_is_not(value: float) -> None:
    assert not float(threshold(value)).is_integer() or abs(value - round(value)) < 1e-12 * max(1.0, abs(value))


def test_seconds_choose_their_unit() -> None:
    assert [seconds(x) for x in (0.0, 0.0009949, 0.001, 0.0994, 0.1, 9.99, 10.0, 99.96)] == [
        "0 µs",
        "995 µs",
        "1.0 ms",
        "99 ms",
        "0.10 s",
        "9.99 s",
        "10.0 s",
        "100 s",
    ]


def test_an_interval_is_left_out_where_it_is_not_known_or_a_fixed_price() -> None:
    assert cell(NOT_KNOWN) == ("not known", "")
    assert cell(Estimate(0.002, 0.002, 0.002), amount) == ("0.002", "")
    assert cell(Estimate(0.5, math.nan, math.nan)) == (".500", "")
    assert interval(0.05, 0.31, seconds) == "[50 ms, 0.31 s]"


def test_a_difference_shows_on_which_side_of_zero_its_interval_ends() -> None:
    assert difference_text(Estimate(0.00004, -0.00014, 0.00022), signed=True) == ".0000 [-.0001, +.0002]"
    assert difference_text(Estimate(0.1, 0.0, 0.2)) == ".100 [.000, .200]"
    assert difference_text(Estimate(0.1, math.nan, math.nan)) == ".100"
