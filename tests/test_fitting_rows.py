"""Hashes of the rows that something was fitted on."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.errors import InputError
from bisupervised.fitting_rows import as_text, from_text, overlap, row_hashes

CELLS = st.text(max_size=5) | st.integers(-(2**70), 2**70) | st.floats() | st.booleans() | st.none()


@given(st.lists(st.tuples(CELLS, CELLS), max_size=8), st.randoms())
def test_a_rows_hash_is_its_own_whatever_its_place_and_container(rows: list[tuple[Any, Any]], random: Any) -> None:
    hashes = row_hashes([one for one, _ in rows], [other for _, other in rows])
    assert hashes.dtype == np.uint64
    order = list(range(len(rows)))
    random.shuffle(order)
    column = np.empty(len(rows), dtype=object)
    column[:] = [rows[row][1] for row in order]
    np.testing.assert_array_equal(row_hashes([rows[row][0] for row in order], column), hashes[order])
    np.testing.assert_array_equal(from_text(as_text(hashes)), np.unique(hashes))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 0], ["1", "0"]),
        ([1.0, 0.0], [True, False]),
        (np.array([1, 2]), ["1 ", "2.0 ".replace(".0", "")]),
        ([None, 0.25], [float("nan"), np.float32(0.25)]),
        (np.array([[0.1, -0.0]], np.float32).repeat(2, axis=0), np.array([[np.float32(0.1), 0.0]] * 2, np.float64)),
    ],
)
def test_cells_count_as_they_are_written(one: Any, other: Any) -> None:
    assert row_hashes(["a", "b"], one).tolist() == row_hashes(["a", "b"], other).tolist()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((["a"], ["bc"]), (["ab"], ["c"])),
        ((["a"],), (["a"], [""])),
        ((["a"], np.array([[1.0, 2.0]])), (["a"], np.array([[2.0, 1.0]]))),
        ((["a"], np.array([[np.nan, 2.0]])), (["a"], np.array([[2.0, np.nan]]))),
        ((["1"],), (["1.5"],)),
    ],
)
def test_different_rows_have_different_hashes(one: Any, other: Any) -> None:
    assert row_hashes(*one).tolist() != row_hashes(*other).tolist()


def test_hashes_are_the_same_in_another_process() -> None:
    code = "from bisupervised.fitting_rows import row_hashes; print(row_hashes(['a'], [1.5]).tolist()[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    written = (1).to_bytes(8, "little") + b"a" + (3).to_bytes(8, "little") + b"1.5"
    by_hand = int.from_bytes(hashlib.blake2b(written, digest_size=8).digest(), "little")
    assert int(done.stdout) == row_hashes(["a"], [1.5])[0] == by_hand


def test_rows_that_were_fitted_on_are_found_and_no_others() -> None:
    ids = [f"r{row}" for row in range(10_000)]
    predictions = np.arange(10_000) % 3
    fitted = row_hashes(ids[:7000], predictions[:7000])
    found = overlap(row_hashes(ids, predictions), from_text(as_text(fitted)))
    assert found.tolist() == [row < 7000 for row in range(10_000)]
    assert not overlap(row_hashes(ids, predictions + 1), fitted).any(), "another prediction is another row"
    assert overlap(np.empty(0, np.uint64), fitted).shape == (0,)


@pytest.mark.parametrize("text", ["?", "YWJj", "é", None, 7])
def test_text_that_holds_no_hashes_is_refused(text: Any) -> None:
    with pytest.raises(InputError, match="no hashes of fitting rows"):
        from_text(text)


def test_columns_of_another_length_and_texts_in_a_matrix_are_refused() -> None:
    with pytest.raises(InputError, match="there are 2 ids, and a column of 3 cells"):
        row_hashes(["a", "b"], [1, 2, 3])
    with pytest.raises(InputError, match="holds numbers"):
        row_hashes(["a"], np.array([["x"]]))
