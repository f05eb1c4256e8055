"""What a supervisor is made of, fitted on one part of recorded rows and judged on the other."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisupervised.cascade import BiSupervised, Level
from bisupervised.errors import ConfigError, EvidenceError, InputError, TableError
from bisupervised.evaluation.candidates import candidates_of
from bisupervised.fitting import (
    fit_confidence_calibration,
    fit_quantifier,
    fitting_rows_in,
    hashes_of,
    refuse_fitting_rows,
    with_confidence_calibration,
    without_fitting_rows,
)
from bisupervised.fitting_rows import overlap
from bisupervised.models import FunctionModel, SklearnModel
from bisupervised.models.recorded import recorded_output
from bisupervised.probability_calibration_file import confidence_calibration_from_file
from bisupervised.quantifiers import (
    GivenConfidence,
    fitted_kinds,
    quantifier_from_file,
    read_fitting_rows,
    save_quantifier,
)
from bisupervised.recording import record
from bisupervised.records import Evidence
from bisupervised.sources import read_table, write_table
from bisupervised.supervisor import Supervisor
from bisupervised.table import Table

NAN = float("nan")
SETTINGS: dict[str, dict[str, Any]] = {"knn": {"k": 5}, "vim": {"weights": np.eye(3, 6), "bias": np.full(3, 9.0)}}


def recorded(n: int = 300, seed: int = 0, **more: Any) -> Table:
    """A local model with three classes and six features: the further from its class's mean, the likelier wrong."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    off = rng.random(n) < 0.3
    features = rng.normal(size=(n, 6)) * np.where(off, 4.0, 1.0)[:, np.newaxis] + 3.0 * np.eye(3, 6)[labels]
    predictions = features[:, :3].argmax(axis=1)
    logits = features[:, :3]
    columns: dict[str, Any] = {
        "id": [f"{seed}-{row}" for row in range(n)],
        "label": labels,
        "local_prediction": predictions,
        "local_confidence": rng.random(n),
        "remote_prediction": labels,
        "remote_confidence": rng.random(n),
    }
    columns |= {f"local_feature_{place}": column for place, column in enumerate(features.T)}
    columns |= {f"local_logit_{place}": column for place, column in enumerate(logits.T)}
    return Table.from_columns({key: value for key, value in (columns | more).items() if value is not None})


@pytest.mark.parametrize("kind", sorted(fitted_kinds()))
def test_every_kind_is_fitted_saved_and_read_back_and_its_rows_are_found(kind: str, tmp_path: Path) -> None:
    table, path = recorded(1000), tmp_path / f"{kind}.npz"
    fitted = fit_quantifier(table, kind, settings=SETTINGS.get(kind))
    assert (fitted.rows, fitted.held_out, sum(fitted.labels.values())) == (700, 300, 700)
    assert fitted.auroc.value > fitted.auroc_before.high, "what stands in the table is random"
    fitted.save(path)
    found = overlap(hashes_of(table, "local"), fitting_rows_in(path))
    assert found.sum() == 700
    left = without_fitting_rows(table, "local", path)
    assert (len(left), left.notes[-1]) == (300, f"700 of 1000 rows are left out: {path} was fitted on them")
    again = Table.from_columns(table.to_columns(), quantifiers={"local": quantifier_from_file(path)})
    assert not np.isnan(again.local.confidences).any()


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_rows_that_went_through_a_file_are_the_rows(suffix: str, tmp_path: Path) -> None:
    table = recorded()
    fit_quantifier(table, "mahalanobis").save(tmp_path / "m.npz")
    write_table(table, tmp_path / f"t{suffix}")
    back = read_table(tmp_path / f"t{suffix}")
    np.testing.assert_array_equal(hashes_of(back, "local"), hashes_of(table, "local"))
    assert len(without_fitting_rows(back, "local", tmp_path / "m.npz")) == 90


@pytest.mark.parametrize("kind", ["dsa", "lsa"])
def test_classes_that_a_file_made_other_numbers_of_are_the_models(kind: str, tmp_path: Path) -> None:
    """A CSV holds 1 and gives 1.0; the model goes on predicting 1. Both mean the rows of one class."""
    table = recorded()
    write_table(table, tmp_path / "t.csv")
    back = read_table(tmp_path / "t.csv")
    assert (table.labels.dtype.kind, back.labels.dtype.kind) == ("i", "f")
    there, here = fit_quantifier(back, kind).quantifier, fit_quantifier(table, kind).quantifier
    output = recorded_output(recorded(50, seed=3).local)
    np.testing.assert_array_equal(there(output), here(output))
    assert not np.isnan(there(output)).any()


#: One model's predictions and labels, as they come from a data frame, a CSV and the columns of the logits.
NUMBERS, TEXTS, NONE = "numbers", "texts", "none"


@pytest.mark.parametrize("kind", ["dsa", "lsa", "max_logit_pnorm"])
@pytest.mark.parametrize("predictions", [NUMBERS, TEXTS, NONE])
@pytest.mark.parametrize("labels", [NUMBERS, TEXTS])
def test_predictions_and_labels_of_different_types_give_the_same_quantifier(
    kind: str, labels: str, predictions: str, tmp_path: Path
) -> None:
    """Without a column of predictions they are the classes of the largest logits, and these are column names."""
    plain = recorded()
    expected = fit_quantifier(plain, kind)
    columns = {
        "label": plain.labels if labels == NUMBERS else plain.labels.astype(str),
        "local_prediction": {
            NUMBERS: plain.local.predictions,
            TEXTS: plain.local.predictions.astype(str),
            NONE: None,
        },
    }
    columns["local_prediction"] = columns["local_prediction"][predictions]
    table = recorded(**columns)
    write_table(table, tmp_path / "t.csv")
    for one in (table, read_table(tmp_path / "t.csv")):
        fitted = fit_quantifier(one, kind)
        assert (fitted.auroc, fitted.labels) == (expected.auroc, expected.labels)
        live = recorded_output(recorded(50, seed=3).local)
        np.testing.assert_array_equal(fitted.quantifier(live), expected.quantifier(live))
        as_texts = replace(live, predictions=live.predictions.astype(str))
        np.testing.assert_array_equal(fitted.quantifier(as_texts), expected.quantifier(live))


@pytest.mark.parametrize("kind", ["dsa", "lsa", "max_logit_pnorm"])
def test_a_table_without_predictions_that_are_labels_is_not_fitted_on(kind: str) -> None:
    """Where correctness is given in place of predictions, nothing says which class each row was taken for."""
    graded = recorded(local_prediction=None, local_correct=np.arange(300) % 2)
    graded = replace(graded, local=replace(graded.local, predictions=np.full(300, None, dtype=object)))
    with pytest.raises(
        EvidenceError, match=r"no prediction of the rows to fit on is among their labels.*there is none"
    ):
        fit_quantifier(graded, kind)


def test_compare_and_fit_quantifier_make_the_same_of_the_same_rows() -> None:
    """Both leave it to the quantifier which labels are one."""
    table = recorded(label=recorded().labels.astype(float), local_prediction=recorded().local.predictions.astype(str))
    fit, score = np.arange(200), np.arange(200, 300)
    compared = {one.name: one for one in candidates_of(table.local, table.labels)}
    for kind in ("dsa", "lsa", "max_logit_pnorm"):
        fitted = fit_quantifier(table.take(fit), kind, held_out=0.0).quantifier
        scores = fitted(recorded_output(table.local.take(score)))
        np.testing.assert_array_equal(compared[kind].score(fit, score), scores)


def test_what_was_fitted_on_one_level_neither_judges_the_other_nor_leaves_rows_of_it_out(tmp_path: Path) -> None:
    """Where both models agree, the rows of both have one id and one prediction, and so one hash."""
    table = recorded()
    fit_quantifier(table, "mdsa").save(tmp_path / "m.npz")
    fit_confidence_calibration(table).save(tmp_path / "c.json")
    assert overlap(hashes_of(table, "remote"), fitting_rows_in(tmp_path / "m.npz")).any()
    for file in ("m.npz", "c.json"):
        for ask in (refuse_fitting_rows, without_fitting_rows):
            with pytest.raises(
                InputError, match=f"{file} was fitted on rows of the local model, and is given for the"
            ):
                ask(table, "remote", tmp_path / file)
        assert len(without_fitting_rows(table, "local", tmp_path / file)) == 90


def test_what_a_file_was_fitted_on_is_read_whatever_the_file_is_called(tmp_path: Path) -> None:
    table = recorded()
    fit_confidence_calibration(table).save(tmp_path / "calibration.npz")
    fit_quantifier(table, "mdsa").save(tmp_path / "m.npz")
    (tmp_path / "m.npz").rename(tmp_path / "quantifier.json")
    for name in ("calibration.npz", "quantifier.json"):
        assert len(without_fitting_rows(table, "local", tmp_path / name)) == 90


def test_the_split_is_the_seeds_and_its_judgement_is_of_rows_that_were_not_fitted_on() -> None:
    table = recorded()
    one, same, other = (fit_quantifier(table, "mdsa", seed=seed) for seed in (1, 1, 2))
    assert one.fitting_rows.tolist() == same.fitting_rows.tolist() != other.fitting_rows.tolist()
    assert one.auroc == same.auroc
    held_out = table.take(~overlap(hashes_of(table, "local"), one.fitting_rows))
    assert (len(held_out), one.held_out) == (90, 90)


def test_labels_that_say_nothing_give_an_auroc_of_one_half() -> None:
    """The check for leakage: with shuffled labels nothing can be learned, and the figure must say so."""
    values = []
    for seed in range(20):
        table = recorded(200, seed)
        shuffled = replace(table, labels=np.random.default_rng(seed).permutation(table.labels))
        values.append(fit_quantifier(shuffled, "dsa", held_out=0.5, seed=seed).auroc.value)
    assert abs(np.mean(values) - 0.5) < 3 * np.std(values) / np.sqrt(len(values))


def test_rows_that_failed_or_were_not_asked_are_not_fitted_on() -> None:
    errors = ["timeout: 1 s" if row < 100 else None for row in range(300)]
    asked = [row < 200 for row in range(300)]
    fitted = fit_quantifier(recorded(local_error=errors, local_asked=asked), "mdsa", held_out=0.0)
    assert (fitted.rows, fitted.held_out) == (100, 0)
    assert np.isnan(fitted.auroc.value), "no row is left to judge by: not known"
    everything = recorded(local_error=["timeout: 1 s"] * 300)
    with pytest.raises(TableError, match="answered none of the 300 rows"):
        fit_quantifier(everything, "mdsa")


def test_without_labels_the_predictions_stand_for_them_and_nothing_is_known_of_the_auroc() -> None:
    fitted = fit_quantifier(recorded(label=None), "mahalanobis")
    assert (len(fitted.labels), fitted.held_out, np.isnan(fitted.auroc.value)) == (3, 0, True)


@pytest.mark.parametrize(
    ("kind", "settings", "error", "said"),
    [
        ("max_softmax", {}, ConfigError, "no quantifier called 'max_softmax' is fitted; there are: dsa, "),
        ("knn", {"neighbours": 3}, ConfigError, "knn has no setting neighbours; its settings: k$"),
        ("knn", {"k": 2.5}, ConfigError, r"k of knn is a whole number, not 2\.5"),
        ("knn", {"k": "five"}, ConfigError, "knn cannot be fitted with k = five"),
        ("max_logit_pnorm", {"p": 2}, ConfigError, "max_logit_pnorm has no setting p; its settings: none"),
        ("knn", {"k": 1000}, EvidenceError, "k is from 1 to the number of training rows, 210"),
        (
            "vim",
            {},
            ConfigError,
            r"without weights, bias; its settings: weights \(--last-layer FILE\), bias \(--last",
        ),
    ],
)
def test_what_cannot_be_fitted_says_why(kind: str, settings: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        fit_quantifier(recorded(), kind, settings=settings)


def test_a_table_without_the_evidence_says_how_it_comes_there() -> None:
    table = recorded()
    bare = replace(table, local=replace(table.local, features=None, logits=None))
    with pytest.raises(TableError, match="no local_feature_… columns: record it with --with features"):
        fit_quantifier(bare, "mahalanobis")
    with pytest.raises(TableError, match="record it with --with logits"):
        fit_quantifier(bare, "max_logit_pnorm")


@pytest.mark.parametrize("held_out", [-0.1, 1.0, NAN])
def test_a_share_out_of_range_is_refused(held_out: float) -> None:
    for fit in (lambda: fit_quantifier(recorded(30), "mdsa", held_out=held_out), calibrated_with(held_out)):
        with pytest.raises(InputError, match="share"):
            fit()


def calibrated_with(held_out: float) -> Any:
    return lambda: fit_confidence_calibration(recorded(30), held_out=held_out)


def test_fitting_rows_are_refused_and_when_there_are_no_others_that_is_an_error(tmp_path: Path) -> None:
    table, path = recorded(60), tmp_path / "m.npz"
    fit_quantifier(table, "mdsa", held_out=0.0).save(path)
    with pytest.raises(InputError, match="60 of 60 rows are those that"):
        refuse_fitting_rows(table, "local", path)
    with pytest.raises(InputError, match="60 of 60 rows are those that"):
        without_fitting_rows(table, "local", path)
    new = recorded(60, seed=1)
    refuse_fitting_rows(new, "local", path)
    assert without_fitting_rows(new, "local", path) is new


def test_rows_that_only_have_numbers_are_told_so(tmp_path: Path) -> None:
    numbered = recorded(300, id=None)
    fit_quantifier(numbered, "mdsa").save(tmp_path / "m.npz")
    left = without_fitting_rows(numbered, "local", tmp_path / "m.npz")
    assert left.notes[-1].endswith("(or on others of the same number and prediction: give the rows an id column)")


def test_a_quantifier_saved_without_its_rows_has_none(tmp_path: Path) -> None:
    save_quantifier(fit_quantifier(recorded(), "mdsa").quantifier, tmp_path / "m.npz")
    assert read_fitting_rows(tmp_path / "m.npz").size == 0
    for broken in ("missing.npz", "other.npz"):
        np.savez(tmp_path / "other.npz", weights=np.eye(2))
        with pytest.raises(InputError, match=r"there is no file|holds no fitted quantifier"):
            read_fitting_rows(tmp_path / broken)
    with pytest.raises(InputError, match=r"\.npz"):
        fit_quantifier(recorded(), "mdsa").save(tmp_path / "m.json")


# ---------------------------------------------------------------- confidences


def overconfident(n: int = 2000, seed: int = 0) -> Table:
    """Of a confidence c, c^2 of the predictions are right."""
    rng = np.random.default_rng(seed)
    confidences = rng.random(n)
    right = rng.random(n) < confidences**2
    labels = rng.integers(0, 2, n)
    named = {"id": np.arange(n), "label": labels, "local_prediction": np.where(right, labels, 1 - labels)}
    return Table.from_columns(
        named | {"local_confidence": confidences, "remote_prediction": labels, "remote_confidence": confidences}
    )


@pytest.mark.parametrize("method", ["isotonic", "beta", "venn_abers"])
def test_calibrated_confidences_match_how_often_they_are_right_on_other_rows(method: str, tmp_path: Path) -> None:
    table = overconfident()
    fitted = fit_confidence_calibration(table, method)
    assert (fitted.rows, fitted.held_out) == (1400, 600)
    assert abs(fitted.mean_confidence - fitted.accuracy) < 3 * np.sqrt(0.25 / 600)
    assert fitted.brier < fitted.brier_before - 0.01
    fitted.save(tmp_path / "c.json")
    left = without_fitting_rows(table, "local", tmp_path / "c.json")
    assert len(left) == 600
    calibrated = with_confidence_calibration(left, "local", confidence_calibration_from_file(tmp_path / "c.json"))
    np.testing.assert_array_equal(calibrated.local.confidences, fitted.calibration(left.local.confidences))
    np.testing.assert_array_equal(calibrated.remote.confidences, left.remote.confidences)
    new = overconfident(20_000, seed=1)
    again = with_confidence_calibration(new, "local", fitted.calibration)
    for low, high in ((0.0, 0.25), (0.25, 0.5), (0.5, 1.0)):
        rows = (again.local.confidences >= low) & (again.local.confidences < high)
        assert abs(again.local.confidences[rows].mean() - new.correct("local")[rows].mean()) < 0.05


def test_confidences_that_are_no_probabilities_have_no_brier_score_before() -> None:
    table = overconfident()
    wide = replace(table, local=replace(table.local, confidences=table.local.confidences * 10 - 5))
    fitted = fit_confidence_calibration(wide, "venn_abers")
    assert np.isnan(fitted.brier_before)
    assert fitted.brier < 0.25
    with pytest.raises(EvidenceError, match="use isotonic or Venn-ABERS"):
        fit_confidence_calibration(wide, "beta")


def test_without_a_labelled_row_nothing_is_calibrated_and_an_unknown_method_is_refused() -> None:
    table = overconfident(40)
    with pytest.raises(EvidenceError, match=r"at least 20 rows to fit on.* and there are 0: label more"):
        fit_confidence_calibration(replace(table, labels=None))
    with pytest.raises(ConfigError, match="isotonic, beta, venn_abers, not 'platt'"):
        fit_confidence_calibration(table, "platt")
    alone = fit_confidence_calibration(table, held_out=0.0)
    assert (alone.rows, alone.held_out, np.isnan(alone.brier)) == (40, 0, True)


@pytest.mark.parametrize("method", ["isotonic", "beta", "venn_abers"])
def test_few_rows_and_rows_of_one_outcome_calibrate_nothing(method: str) -> None:
    table = overconfident(200)
    with pytest.raises(EvidenceError, match=r"at least 20 rows to fit on.* and there are 19"):
        fit_confidence_calibration(table.take(np.arange(19)), method, held_out=0.0)
    fit_confidence_calibration(table.take(np.arange(20)), method, held_out=0.0)
    unlabelled = replace(table, labels=np.where(np.arange(200) < 19, table.labels, None))
    with pytest.raises(EvidenceError, match="there are 19"):
        fit_confidence_calibration(unlabelled, method, held_out=0.0)
    for outcome in (0.0, 1.0):
        alike = table.take(table.correct("local") == outcome)
        with pytest.raises(EvidenceError, match=f"have the correctness {outcome:g}: there is nothing to learn from"):
            fit_confidence_calibration(alike, method)


def test_what_is_fitted_reads_logits_or_features() -> None:
    """`fit_quantifier` names the table's columns by them."""
    assert {kind.needs for kind in fitted_kinds().values()} <= {Evidence.LOGITS, Evidence.FEATURES}


# ---------------------------------------------------------------- real questions

INTENTS = Path(__file__).parents[2] / "shared" / "data" / "intents" / "clinc150_full.json.gz"


@pytest.mark.data
@pytest.mark.skipif(not INTENTS.exists(), reason=f"there is no {INTENTS}")
def test_a_recorded_model_of_real_questions_is_fitted_and_judged(tmp_path: Path) -> None:
    """30 of CLINC150's intents: what the table says is what the model says, and every row is fitted on or left."""
    pytest.importorskip("sklearn")
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    with gzip.open(INTENTS, "rt") as file:
        data = json.load(file)
    chosen = set(sorted({label for _, label in data["train"]})[:30])
    train, val = ([(text, label) for text, label in data[part] if label in chosen] for part in ("train", "val"))
    texts, labels = zip(*train, strict=True)
    pipeline = make_pipeline(TfidfVectorizer(), TruncatedSVD(30, random_state=0), LogisticRegression(C=10.0))
    model = SklearnModel(pipeline.fit(texts, labels), features=pipeline[:-1].transform, logits=True)
    sure = FunctionModel(lambda xs: (["?"] * len(xs), [1.0] * len(xs)), provides=frozenset({Evidence.CONFIDENCE}))
    questions, truth = (list(column) for column in zip(*val, strict=True))
    with BiSupervised(Level(model, Supervisor()), Level(sure, Supervisor(GivenConfidence()))) as system:
        table = record(system, questions, labels=truth, evidence=["logits", "features"])
    write_table(table, tmp_path / "rows.parquet")
    rows = read_table(tmp_path / "rows.parquet")
    for kind in ("relative_mahalanobis", "max_logit_pnorm", "dsa"):
        fitted = fit_quantifier(rows, kind)
        assert fitted.auroc.value > 0.6, kind
        fitted.save(tmp_path / f"{kind}.npz")
        direct = quantifier_from_file(tmp_path / f"{kind}.npz")(model.predict(questions))
        read = read_table(tmp_path / "rows.parquet", quantifiers={"local": fitted.quantifier}).local.confidences
        np.testing.assert_allclose(read, direct, rtol=1e-6)
        left = without_fitting_rows(rows, "local", tmp_path / f"{kind}.npz")
        assert len(left) + fitted.rows == len(rows) == 600
    calibrated = fit_confidence_calibration(rows, "isotonic", held_out=0.5)
    assert calibrated.brier < calibrated.brier_before
