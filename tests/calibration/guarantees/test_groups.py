"""A promise for each group."""

from __future__ import annotations

import numpy as np
import pytest

from bisupervised.calibration.guarantees import ByGroup, Guarantee, by_group, selective_risk
from bisupervised.errors import InputError

rng = np.random.default_rng(0)
SCORE = rng.random(3000)
GROUP = np.where(np.arange(3000) < 2000, "many", np.where(np.arange(3000) < 2970, "hard", "few"))
CORRECT = rng.random(3000) < np.where(GROUP == "hard", 0.3, 0.7) + 0.3 * SCORE


def of_selective_risk(jointly: bool = False, min_rows: int = 50) -> ByGroup:
    def calibrate(rows: np.ndarray, delta: float) -> Guarantee:
        return selective_risk(SCORE[rows], CORRECT[rows], 0.2, delta=delta)

    return by_group(GROUP, calibrate, jointly=jointly, min_rows=min_rows)


def test_each_group_is_calibrated_on_its_own_rows() -> None:
    found = of_selective_risk()
    own = GROUP == "many"
    assert found.certified["many"] == selective_risk(SCORE[own], CORRECT[own], 0.2)
    assert found.groups.keys() == {"many", "hard", "few"}


def test_an_easy_group_does_not_buy_a_hard_one_its_promise() -> None:
    found = of_selective_risk()
    assert "hard" in found.infeasible
    assert found.sentence.startswith("1 of 3 groups certified, the promise being for each group by itself. ")
    assert "hard: infeasible: with n = 970 labelled rows" in found.sentence


def test_a_small_group_is_said_to_be_too_small() -> None:
    assert of_selective_risk().infeasible["few"].more_rows == 20
    assert "the group has fewer than the 50 rows asked for; 20 more rows would do" in of_selective_risk().sentence
    assert "fewer than" not in of_selective_risk(min_rows=10).infeasible["few"].sentence


def test_promises_together_take_a_share_of_delta_each() -> None:
    found = of_selective_risk(jointly=True)
    assert found.certified["many"].delta == pytest.approx(0.1 / 3)
    assert found.certified["many"].thresholds["local"] >= of_selective_risk().certified["many"].thresholds["local"]


def test_no_rows_have_no_groups() -> None:
    with pytest.raises(InputError, match="no rows"):
        by_group(np.array([]), lambda rows, delta: None)
