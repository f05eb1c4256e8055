"""What thresholds.toml remembers of its calibration rows."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.calibration import Thresholds
from bisupervised.decision import accept
from bisupervised.errors import InputError, ThresholdError
from bisupervised.monitoring import Reference, reference_of
from bisupervised.table import Table
from monitoring.made import NAN, rows, thresholds_of

CELLS = st.sampled_from([NAN, 0.5, 0.5, 0.7, 1.0]) | st.floats(0, 1)


@given(st.lists(st.tuples(CELLS, CELLS, st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_it_survives_the_file_and_counts_what_the_rule_decides(cells):
    local, remote, local_right, remote_right = (np.array(column, dtype=float) for column in zip(*cells, strict=True))
    table = Table.from_columns(
        {
            "local_confidence": local,
            "local_correct": local_right,
            "remote_confidence": remote,
            "remote_correct": remote_right,
        }
    )
    thresholds = thresholds_of(table, 0.7, 0.6)
    text = thresholds.to_toml()
    reference = Reference.from_mapping(_read(text).reference)
    kept = accept(local, 0.7)
    assert reference.request_rate is not None
    assert (reference.request_rate.count, reference.request_rate.rows) == (int((~kept).sum()), len(cells))
    trusted = ~kept & accept(remote, 0.6)
    assert (reference.remote is None) == bool(kept.all())
    for found, rows_, right in (
        (reference.local_risk, kept, local_right),
        (reference.remote_risk, trusted, remote_right),
    ):
        assert (found is None) == (not rows_.any())
        if found is not None:
            assert (found.count, found.rows) == (int((rows_ & (right == 0)).sum()), int(rows_.sum()))
    again = reference.to_mapping()
    np.testing.assert_equal(again, reference_of(table, 0.7, 0.6))


def _read(text: str) -> Thresholds:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "thresholds.toml"
        path.write_text(text, encoding="utf-8")
        return Thresholds.load(path)


def test_a_reference_is_small_and_no_part_of_the_thresholds_id():
    table = rows(5_000, 1)
    thresholds = thresholds_of(table)
    assert len(thresholds.reference["local"]["edges"]) == 99
    assert len(thresholds.to_toml()) < 9_000
    assert thresholds.id == Thresholds(0.7, 0.85).id
    assert _read(thresholds.to_toml()) == thresholds


def test_only_rows_about_which_a_model_was_asked_count():
    table = Table.from_columns(
        {
            "local_confidence": [0.9, 0.1, 0.2, NAN],
            "local_correct": [1.0, 0.0, 0.0, NAN],
            "local_asked": [True, True, True, False],
            "remote_confidence": [NAN, 0.9, NAN, 0.9],
            "remote_correct": [NAN, 1.0, NAN, 1.0],
            "remote_asked": [False, True, False, True],
        }
    )
    reference = Reference.from_mapping(reference_of(table, 0.5, 0.5, abstain=0.15))
    assert reference.rows == reference.local.rows == 3
    assert reference.remote is None, "the deferred row was not asked about, the asked one is abstained early"
    assert reference.request_rate is not None
    assert reference.early_abstention is not None
    assert (reference.request_rate.count, reference.early_abstention.count) == (1, 1)
    with pytest.raises(InputError, match="there is none"):
        reference_of(table.take(np.array([3])), 0.5)


def test_agreement_is_counted_where_both_predictions_of_a_trusted_row_are_known():
    table = Table.from_columns(
        {
            "local_prediction": ["a", "a", "b", "b"],
            "local_confidence": [0.9, 0.9, 0.9, 0.1],
            "remote_prediction": ["a", "b", "", "a"],
            "remote_confidence": [0.9] * 4,
        }
    )
    reference = Reference.from_mapping(reference_of(table, 0.5))
    assert reference.disagreement is not None
    assert (reference.disagreement.count, reference.disagreement.rows) == (1, 2)
    assert reference.local_risk is reference.remote_risk is None


def test_graded_losses_are_kept_as_their_sum():
    table = Table.from_columns(
        {
            "local_confidence": [0.9, 0.8],
            "local_correct": [0.25, 1.0],
            "remote_confidence": [0.9, 0.9],
            "remote_correct": [1, 1],
        }
    )
    reference = Reference.from_mapping(reference_of(table, 0.5))
    assert reference.local_risk is not None
    assert reference.local_risk.graded
    assert reference.to_mapping()["local_risk"] == {"count": 0.75, "rows": 2}


def edit(path: str, value: Any) -> Any:
    def change(values: dict[str, Any]) -> None:
        *where, last = path.split(".")
        for name in where:
            values = values[name]
        if value is None:
            del values[last]
        else:
            values[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (edit("version", 2), "of version 2"),
        (edit("local", None), "lacks 'local'"),
        (edit("local.counts", [1, 2]), "99 edges need 100 counts"),
        (edit("local.counts", 3), "cannot be used"),
        (edit("local.edges", [2.0] * 99), "edges of one value need ties"),
        (edit("local.edges", [1.0 - 0.001 * i for i in range(99)]), "edges ascend"),
        (edit("local.ties", [[0, 3, 2]]), "cannot be"),
        (edit("local.rows", -1), "no number of rows"),
        (edit("request_rate.count", 10_000), "cannot be"),
        (edit("local_risk.count", 1e9), "cannot be"),
        (edit("local_threshold", "high"), "must be a number"),
        (edit("early_abstention", 3), "cannot be used"),
    ],
)
def test_a_reference_that_was_changed_says_what_is_wrong(change, words):
    values = copy.deepcopy(reference_of(rows(500, 2), 0.7, 0.85))
    change(values)
    with pytest.raises(ThresholdError, match=words):
        Reference.from_mapping(values)


def test_thresholds_without_one_say_how_to_get_it():
    with pytest.raises(ThresholdError, match="bisupervised calibrate"):
        Reference.from_mapping({})
