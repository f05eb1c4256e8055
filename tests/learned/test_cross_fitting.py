"""Cross-fitting and the memory of fitting rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bisupervised.calibration.joint import choose_jointly
from bisupervised.calibration.limits import utility
from bisupervised.errors import InputError
from bisupervised.evaluation.auroc import auroc
from bisupervised.learned import (
    Arbiter,
    PairSupervisor,
    StackedSupervisor,
    calibration_rows,
    cross_fitted,
    fit_arbiter,
    fit_deferral,
    fit_pair,
    fit_stacked,
    refuse_fitting_rows,
)
from bisupervised.learned.cross_fitting import _folds
from bisupervised.learned.fitting_rows import fitting_hashes, row_hashes
from bisupervised.records import PairConfidences
from bisupervised.table import Table
from learned.made import NAN, made_table

FITS = (fit_stacked, fit_deferral, fit_pair, fit_arbiter)


class Memory:
    """Learns every row's label by heart: what a leak looks like."""

    def __init__(self, table: Table) -> None:
        self.fitted_on = fitting_hashes(table)
        self.right = dict(zip(table.ids.tolist(), table.correct("remote").tolist(), strict=True))

    def of_table(self, table: Table) -> np.ndarray:
        return np.array([self.right.get(key, 0.5) for key in table.ids.tolist()])


def test_what_is_learned_by_heart_is_of_no_use():
    table = made_table(300, 0)
    fitted = cross_fitted(Memory, table)
    assert (fitted.confidences == 0.5).all()
    assert auroc(fitted.supervisor.of_table(table), table.correct("remote")).value == 1.0


class OnesOwn:
    """An arbiter of the user's own, with one of the package's inside."""

    def __init__(self, table: Table) -> None:
        self.inside = Arbiter.fit(table)
        self.fitted_on = self.inside.fitted_on

    def of_table(self, table: Table) -> PairConfidences:
        return self.inside.of_table(table)


def test_an_arbiter_of_ones_own_arbitrates_when_cross_fitted():
    """Its confidences are of the answer that it prefers, and so must be what counts as right."""
    table = made_table(300, 0)
    own, packaged = cross_fitted(OnesOwn, table), fit_arbiter(table)
    assert own.local_preferred is not None
    assert 0 < own.local_preferred.sum() < 300
    assert np.array_equal(own.local_preferred, packaged.local_preferred)
    rows, same = calibration_rows(table, own), calibration_rows(table, packaged)
    assert np.array_equal(rows.remote_loss, same.remote_loss)
    assert not np.array_equal(rows.remote_loss, 1.0 - table.correct("remote"))


class Cheat(Memory):
    everything: Table

    def __init__(self, table: Table) -> None:
        super().__init__(self.everything)


def test_a_fit_that_goes_behind_the_back_of_its_fold_is_refused():
    Cheat.everything = made_table(100, 0)
    with pytest.raises(InputError, match="20 of these 20 rows are among the 100"):
        cross_fitted(Cheat, Cheat.everything)


@pytest.mark.parametrize("fit", FITS)
def test_each_row_is_judged_by_a_supervisor_of_the_other_folds(fit):
    table = made_table(250, 0)
    fitted = fit(table, folds=5, seed=3)
    again = fit(table, folds=5, seed=3)
    assert np.array_equal(fitted.confidences, again.confidences)
    other = fit(table, folds=5, seed=4)
    assert not np.array_equal(fitted.confidences, other.confidences)
    own = fitted.supervisor.of_table(table)
    assert not np.allclose(fitted.confidences, getattr(own, "confidences", own))
    # The label of a row has no part in its own confidence: turn one, and only the others' change.
    turned = replace(table, labels=np.where(np.arange(250) == 7, 1 - table.labels, table.labels))
    changed = fit(turned, folds=5, seed=3).confidences
    assert changed[7] == fitted.confidences[7]
    assert (changed != fitted.confidences).sum() > 100


def test_a_group_stays_in_one_fold():
    table = made_table(200, 0)
    groups = np.repeat(np.arange(40), 5)
    seen = []

    def fit(rows: Table) -> StackedSupervisor:
        seen.append(set(rows.ids.tolist()))
        return StackedSupervisor.fit(rows)

    cross_fitted(fit, table, folds=4, groups=groups)
    for ids in seen[:-1]:
        inside = np.isin(table.ids, list(ids)).reshape(40, 5)
        assert (inside.all(axis=1) | ~inside.any(axis=1)).all()
    with pytest.raises(InputError, match="one label for each of the 200 rows"):
        cross_fitted(fit, table, groups=groups[:3])
    with pytest.raises(InputError, match="at least 2 folds"):
        cross_fitted(fit, table, folds=5, groups=np.zeros(200))
    for folds in (0, 1, 201):
        with pytest.raises(InputError, match="at least 2 folds and a row"):
            cross_fitted(fit, table, folds=folds)


def test_fitting_rows_are_refused_in_another_order_and_in_part():
    table, other = made_table(200, 0), made_table(50, 9)
    for kind in (StackedSupervisor, PairSupervisor, Arbiter):
        supervisor = kind.fit(table)
        refuse_fitting_rows(supervisor, other)
        for rows, n in ((np.arange(200)[::-1], 200), (np.array([3]), 1), (np.arange(10, 60), 50)):
            with pytest.raises(InputError, match=f"{n} of these {n} rows are among the 200"):
                refuse_fitting_rows(supervisor, table.take(rows))


def test_a_row_is_known_by_its_id_and_confidences_alone():
    table = made_table(30, 0, gaps=0.3)
    hashes = row_hashes(table)
    assert len(set(hashes.tolist())) == 30
    negative = table.local.confidences.copy()
    negative[np.isnan(negative)] = -np.float64(NAN)
    same = replace(table, labels=None, local=replace(table.local, confidences=negative))
    assert np.array_equal(row_hashes(same), hashes)
    zero = replace(table, remote=replace(table.remote, confidences=np.zeros(30)))
    minus = replace(table, remote=replace(table.remote, confidences=-np.zeros(30)))
    assert np.array_equal(row_hashes(zero), row_hashes(minus))
    renamed = replace(table, ids=np.array([f"x{key}" for key in table.ids]))
    assert not np.isin(row_hashes(renamed), hashes).any()
    assert np.array_equal(row_hashes(table.take(np.arange(30)[::-1])), hashes[::-1])


# ---------------------------------------------------------------- what thresholds are chosen on


def test_calibration_rows_of_cross_fitted_supervisors():
    table = made_table(400, 0, gaps=0.05)
    arbiter, local, pair = fit_arbiter(table), fit_stacked(table), fit_pair(table)
    rows = calibration_rows(table, arbiter, local)
    assert np.array_equal(rows.local_confidence, local.confidences, equal_nan=True)
    assert np.array_equal(rows.remote_confidence, arbiter.confidences, equal_nan=True)
    right = np.where(arbiter.local_preferred, table.correct("local"), table.correct("remote"))
    assert np.array_equal(rows.remote_loss, 1.0 - right)
    assert np.array_equal(calibration_rows(table, pair).remote_loss, 1.0 - table.correct("remote"))
    plain = calibration_rows(table)
    assert np.array_equal(plain.local_confidence, table.local.confidences, equal_nan=True)
    assert np.array_equal(plain.remote_confidence, table.remote.confidences, equal_nan=True)
    order = np.random.default_rng(0).permutation(400)[:100]
    part = calibration_rows(table.take(order), arbiter, local)
    assert np.array_equal(part.remote_confidence, arbiter.confidences[order], equal_nan=True)
    assert choose_jointly(rows, utility(0.1)).counts.n == 400


def test_calibration_rows_refuse_rows_that_were_fitted_on_and_rows_that_were_not_cross_fitted():
    table, other = made_table(200, 0), made_table(100, 1)
    arbiter, local = fit_arbiter(table), fit_stacked(table)
    with pytest.raises(InputError, match="200 of these 200 rows are among the 200"):
        calibration_rows(table, arbiter.supervisor)
    with pytest.raises(InputError, match="are among the 200"):
        calibration_rows(table, arbiter, local.supervisor)
    with pytest.raises(InputError, match="100 of these 100 rows were not cross-fitted"):
        calibration_rows(other, arbiter)
    fresh = calibration_rows(other, arbiter.supervisor, local.supervisor)
    assert np.array_equal(fresh.remote_confidence, arbiter.supervisor.of_table(other).confidences)


def test_calibration_rows_leave_out_what_is_not_known():
    table = made_table(100, 0)
    half = replace(table, remote=replace(table.remote, asked=np.arange(100) % 2 == 0))
    assert len(calibration_rows(half)) == 50
    none = replace(table, remote=replace(table.remote, asked=np.zeros(100, dtype=bool)))
    with pytest.raises(InputError, match="labelled rows on which both models were asked, and there is none"):
        calibration_rows(none)


# ---------------------------------------------------------------- no leak


def shuffled(table: Table, seed: int) -> Table:
    """The rows with correctness that has nothing to do with them."""
    rng = np.random.default_rng(seed)
    n = len(table)
    right = {name: rng.permutation(table.correct(name)) for name in ("local", "remote")}
    assert n == len(right["local"])
    return replace(table, labels=None, local_correct=right["local"], remote_correct=right["remote"])


@pytest.mark.slow
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("classes", [2, 40])
def test_shuffled_labels_give_an_auroc_of_one_half(fit, classes):
    found = []
    for seed in range(12):
        table = shuffled(made_table(500, seed, classes=classes), seed)
        fitted = fit(table, seed=seed)
        right = table.correct("local" if fit in (fit_stacked, fit_deferral) else "remote")
        if fit is fit_arbiter:
            right = np.where(fitted.local_preferred, table.correct("local"), right)
        # Within each fold: a fold's mean is the lower the more right rows it holds, which is no leak but a tilt.
        folds = _folds(table, fitted.folds, seed, None)
        found += [
            auroc(fitted.confidences[folds == fold], right[folds == fold]).value for fold in range(fitted.folds)
        ]
    error = np.std(found, ddof=1) / len(found) ** 0.5
    assert abs(np.mean(found) - 0.5) < 3.0 * error, (np.mean(found), error)
