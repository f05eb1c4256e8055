"""What n rows can support."""

from __future__ import annotations

import math

import pytest

from bisupervised.calibration.guarantees import rows_needed, supports
from bisupervised.calibration.guarantees.binomial import binomial_cdf
from bisupervised.calibration.guarantees.support import growth_needed, rows_on_average, smallest
from bisupervised.errors import InputError


@pytest.mark.parametrize(("target", "rows"), [(0.05, 45), (0.01, 230)])
def test_a_certificate_without_errors_needs_so_many_rows(target: float, rows: int) -> None:
    """SUPERVISION.md section 3: 45 for 0.05 and 230 for 0.01 at delta = 0.1."""
    assert supports(1000, target).rows_without_errors == rows
    assert supports(rows, target).enough
    assert not supports(rows - 1, target).enough
    assert rows_needed(0.0, target, 0.1) == rows


@pytest.mark.parametrize("n", [45, 100, 212, 2000])
@pytest.mark.parametrize("delta", [0.01, 0.1])
def test_up_to_so_many_errors_certify_and_one_more_does_not(n: int, delta: float) -> None:
    found = supports(n, 0.1, delta)
    if found.enough:
        assert binomial_cdf(found.most_errors, n, 0.1) <= delta
    assert binomial_cdf(found.most_errors + 1, n, 0.1) > delta


def test_the_lowest_target_is_that_of_no_error_at_all() -> None:
    assert supports(100, 0.5).lowest == pytest.approx(1 - 0.1 ** (1 / 100))


def test_rows_needed_at_a_rate_are_enough_and_few() -> None:
    for rate in (0.01, 0.03, 0.045):
        n = rows_needed(rate, 0.05, 0.1)
        assert binomial_cdf(math.ceil(rate * n - 1e-9), n, 0.05) <= 0.1
        few = math.floor(0.7 * n)
        assert binomial_cdf(math.ceil(rate * few), few, 0.05) > 0.1
    assert rows_needed(0.05, 0.05, 0.1) is None


def test_rows_on_average() -> None:
    assert rows_on_average(0.0, 0.1) == 9
    assert rows_on_average(0.05, 0.1) == 18
    assert rows_on_average(0.1, 0.1) is None


def test_sentences_of_one_error_and_of_none() -> None:
    assert "with up to one error" in supports(80, 0.05).sentence
    assert "cannot certify 0.05" in supports(44, 0.05).sentence


def test_growth_is_found_from_a_good_guess_and_from_bad_ones() -> None:
    for guess in (0.5, 3.0, 40.0):
        assert growth_needed(lambda factor: factor >= 7.0, guess, most=1000.0) == pytest.approx(7.4, abs=0.5)
    assert growth_needed(lambda factor: False, 2.0, most=100.0) is None
    assert smallest(lambda n: n >= 13, 1) == 13
    assert smallest(lambda n: False, 1) is None


@pytest.mark.parametrize("settings", [(0, 0.1, 0.1), (10, 0.0, 0.1), (10, 5, 0.1), (10, 0.1, 1.0)])
def test_settings_that_mean_nothing_are_refused(settings: tuple) -> None:
    with pytest.raises(InputError):
        supports(*settings)
