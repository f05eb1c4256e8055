"""From evidence to numbers: places that mean the same in both parts, no texts, a file that loses nothing needed."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.errors import TableError
from bisupervised.evaluation.auroc import auroc
from bisupervised.records import LevelRows
from bisupervised.studies.live.numbers_file import (
    EXACT,
    About,
    Numbers,
    read_numbers_file,
    rounded,
    write_numbers_file,
)
from bisupervised.studies.live.parts import CALIBRATION, FOLDS, REPORT, folds_of, parts_of
from bisupervised.studies.live.recording import record_study
from bisupervised.studies.live.running import errors_by_kind
from bisupervised.studies.live.scoring import placed, scored
from bisupervised.table import Table
from studies.live.fake_study import Remote, fake_study, silent

# ---------------------------------------------------------------- which rows choose


@given(st.text(min_size=1), st.lists(st.text(), min_size=1, max_size=30))
def test_a_row_s_part_is_its_own_whatever_else_there_is(study, keys):
    assert parts_of(study, keys).tolist() == [parts_of(study, [key])[0] for key in keys]
    assert folds_of(study, keys[::-1]).tolist() == folds_of(study, keys).tolist()[::-1]
    assert set(parts_of(study, keys)) <= {CALIBRATION, REPORT}


@settings(max_examples=20)
@given(st.text(alphabet="abcdefgh", min_size=1, max_size=8))
def test_half_of_many_rows_choose_and_folds_are_even(study):
    keys = [f"{study}-{row}" for row in range(4000)]
    assert (parts_of(study, keys) == CALIBRATION).mean() == pytest.approx(0.5, abs=6 * 0.5 / np.sqrt(4000))
    assert np.bincount(folds_of(study, keys), minlength=FOLDS) == pytest.approx(800, abs=6 * np.sqrt(800))


# ---------------------------------------------------------------- places


@given(
    st.lists(st.floats(allow_nan=True, width=32), min_size=1, max_size=40),
    st.lists(st.floats(allow_nan=True, width=32), min_size=1, max_size=40),
)
def test_places_lie_between_0_and_1_and_keep_the_order(scores, among):
    scores, among = np.array(scores, dtype=np.float64), np.array(among, dtype=np.float64)
    places = placed(scores, among)
    assert np.isnan(places).tolist() == (np.isnan(scores) | np.isnan(among).all()).tolist()
    known = places[~np.isnan(places)]
    assert ((known >= 0.0) & (known <= 1.0)).all()
    assert (np.diff(known[np.argsort(scores[~np.isnan(places)], kind="stable")]) >= 0.0).all()


def test_a_rank_among_its_own_is_the_mid_rank():
    assert placed(np.array([3.0, 1.0, 1.0, 2.0]), np.array([3.0, 1.0, 1.0, 2.0])).tolist() == [
        0.875,
        0.25,
        0.25,
        0.625,
    ]


# ---------------------------------------------------------------- a study's numbers


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    remote = Remote()
    with remote.serving() as url:
        study = fake_study(url, 300)
        remote.instead = {str(study.inputs[0]): ("perhaps so", -3.0)}
        yield study, record_study(study, tmp_path_factory.mktemp("recorded"), progress=silent)


def test_every_quantifier_that_the_evidence_allows_is_a_column_and_nothing_else_is_left(recorded):
    study, table = recorded
    numbers = scored(table, study)
    scores = {name for name in numbers.extra if "_score_" in name}
    for name in ("max_softmax", "softmax_entropy", "energy", "knn", "mahalanobis", "mutual_information"):
        assert f"local_score_{name}" in scores
    assert {"remote_score_max_softmax", "remote_score_token_entropy_mean"} <= scores
    for rows in (numbers.local, numbers.remote):
        assert rows.probabilities is rows.logits is rows.features is rows.token_logprobs is None
    assert set(numbers.extra["part"]) == {CALIBRATION, REPORT}


def test_what_is_fitted_learns_from_the_choosing_rows_alone_and_never_sees_which_rows_report(recorded):
    study, table = recorded
    numbers = scored(table, study)
    report = np.flatnonzero(numbers.extra["part"] == REPORT)
    name = "local_score_knn"
    # Other labels, and other companions, leave a reporting row's score as it is.
    labels = table.labels.copy()
    labels[report] = "0"
    fewer = np.sort(np.concatenate([np.flatnonzero(numbers.extra["part"] == CALIBRATION), report[::3]]))
    relabelled = scored(Table(table.ids, labels, table.local, table.remote, extra=table.extra), study)
    alone = scored(table.take(fewer), study)
    assert np.array_equal(relabelled.extra[name], numbers.extra[name], equal_nan=True)
    assert np.array_equal(alone.extra[name], numbers.extra[name][fewer], equal_nan=True)


@pytest.mark.parametrize("cross_fitted", [False, True])
def test_places_are_spread_alike_in_every_part_and_fitted_scores_tell_right_from_wrong(recorded, cross_fitted):
    study, table = recorded
    numbers = scored(table, replace(study, cross_fitted=cross_fitted))
    assert ("fold" in numbers.extra) is cross_fitted
    part = numbers.extra["fold" if cross_fitted else "part"]
    for one in np.unique(part):
        assert np.nanmedian(numbers.extra["local_score_knn"][part == one]) == pytest.approx(0.5, abs=0.2)
    fitted = numbers.extra["local_score_max_logit_pnorm"]
    assert auroc(fitted, numbers.correct("local") == 1.0).value > 0.7


def test_few_rows_have_the_scores_that_need_no_fit(recorded):
    study, table = recorded
    few = scored(table.take(np.arange(3)), study)
    assert "local_score_max_softmax" in few.extra
    assert "local_score_knn" not in few.extra


def test_answers_in_words_stay_behind_and_whether_they_agree_does_not(recorded):
    _, table = recorded
    graded = fake_study("http://127.0.0.1:1", 300, labels=None, grade=lambda predictions, rows: np.ones(len(rows)))
    numbers = scored(table, graded)
    assert set(numbers.local.predictions) == {None}
    assert numbers.extra["agree"][1:].mean() > 0.8
    assert numbers.extra["agree"][0] == 0.0  # one of them gave none
    assert (numbers.correct("local") == table.correct("local")).all()


def test_errors_are_kept_by_kind_without_what_was_written(recorded):
    _, table = recorded
    assert "perhaps" in table.remote.errors[0]
    assert errors_by_kind(table).remote.errors[0] == "unreadable"


# ---------------------------------------------------------------- the file


def test_a_file_gives_back_every_number_and_what_must_be_known(recorded, tmp_path):
    study, table = recorded
    numbers = Numbers(About.of(study, ["one more note"]), rounded(errors_by_kind(scored(table, study))))
    write_numbers_file(numbers, tmp_path / "imdb.parquet")
    read = read_numbers_file(tmp_path / "imdb.parquet")
    assert read.about == numbers.about
    assert read.about.notes == ("one more note",)
    assert read.table.ids.tolist() == numbers.table.ids.tolist()
    assert read.table.remote.errors.tolist() == numbers.table.remote.errors.tolist()
    for level in ("local", "remote"):
        one, other = read.table.level(level), numbers.table.level(level)
        assert np.array_equal(one.confidences, other.confidences, equal_nan=True)
        assert np.array_equal(one.latency_s, other.latency_s)
        assert (read.table.correct(level) == numbers.table.correct(level)).all()
    for name, column in numbers.table.extra.items():
        if "_score_" in name:
            assert np.array_equal(read.table.extra[name], column, equal_nan=True), name
    assert list(tmp_path.iterdir()) == [tmp_path / "imdb.parquet"]


def a_large_table(n, scores, seed=0):
    rng = np.random.default_rng(seed)

    def level():
        return LevelRows(
            predictions=rng.integers(0, 2, n).astype(str).astype(object),
            confidences=rng.random(n).astype(np.float32).astype(np.float64),
            asked=np.ones(n, dtype=bool),
            latency_s=rng.lognormal(-6.0, 0.2, n),
            supervisor_s=np.full(n, 1e-6),
            cost=np.full(n, np.nan),
            errors=np.full(n, None, dtype=object),
        )

    extra = {
        f"{name}_score_{k}": rng.normal(size=n).astype(np.float32).astype(np.float64)
        for name in ("local", "remote")
        for k in range(scores)
    }
    extra["part"] = parts_of("imdb", map(str, range(n)))
    labels = rng.integers(0, 2, n).astype(str).astype(object)
    return Table(np.array([f"imdb-{row}" for row in range(n)]), labels, level(), level(), extra=extra)


def test_of_many_different_values_the_order_is_exact_and_the_value_nearly(tmp_path):
    table = a_large_table(3 * EXACT, 1)
    scores = table.extra["local_score_0"]
    scores[:5] = np.nan
    scores[5:50] = scores[50]
    table.extra["local_score_double"] = 2.0 * scores  # of the same order: kept once
    path = tmp_path / "imdb.parquet"
    write_numbers_file(Numbers(About("imdb", "", (), "accuracy"), rounded(table)), path)
    extra = read_numbers_file(path).table.extra
    read = extra["local_score_0"]
    assert np.isnan(read[:5]).all()
    order = np.argsort(scores[5:])
    assert np.array_equal(np.sign(np.diff(read[5:][order])), np.sign(np.diff(scores[5:][order])))
    assert np.abs(read - scores)[50:].max() < 0.7  # in the thin tails; elsewhere less
    assert np.median(np.abs(read - scores)[50:]) < 1e-3
    assert extra["local_score_double"] == pytest.approx(2.0 * read, nan_ok=True)


@pytest.mark.slow
def test_25_000_rows_with_40_scores_of_noise_take_3_megabytes(tmp_path):
    path = tmp_path / "imdb.parquet"
    write_numbers_file(Numbers(About("imdb", "", (), "accuracy"), rounded(a_large_table(25_000, 20))), path)
    assert path.stat().st_size < 3.0e6


@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense PAR1"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "imdb.parquet"
    path.write_bytes(content)
    with pytest.raises(TableError, match="holds no numbers of a study"):
        read_numbers_file(path)


def test_seconds_have_four_digits():
    table = a_large_table(5, 0)
    table.local.latency_s[:] = [0.0, 0.00123456, 12.3456, np.nan, 987654.0]
    assert rounded(table).local.latency_s.tolist()[:3] == pytest.approx([0.0, 0.001235, 12.35])
    assert rounded(table).local.latency_s[4] == pytest.approx(987700.0)
    assert np.isnan(rounded(table).local.latency_s[3])
