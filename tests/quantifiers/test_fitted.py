"""The contract of every quantifier that is fitted: what it is fitted on, what it does no harm with, and its file."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.errors import ConfigError, EvidenceError, InputError
from bisupervised.quantifiers import (
    MaxSoftmax,
    fitted_kinds,
    quantifier_by_name,
    quantifier_from_file,
    read_fitting_rows,
    save_quantifier,
)
from bisupervised.records import Evidence, Failure, ModelOutput, take_outputs
from bisupervised.supervisor import Supervisor
from quantifiers.evidence import FITTED, FITTED_KINDS, NAN, output_of, training_output

EVERY_KIND = pytest.mark.parametrize("kind", FITTED_KINDS, ids=lambda kind: kind.__name__)
EVERY = pytest.mark.parametrize("quantifier", FITTED, ids=lambda quantifier: quantifier.name)
#: Those that read features.
BY_FEATURES = pytest.mark.parametrize(
    "kind", [kind for kind in FITTED_KINDS if kind.needs is Evidence.FEATURES], ids=lambda kind: kind.__name__
)


NEEDED: dict[str, dict[str, Any]] = {"KNN": {"k": 3}, "ViM": {"weights": np.eye(3), "bias": np.full(3, 6.0)}}


def fit(kind: Any, output: ModelOutput, labels: Any = None, **settings: Any) -> Any:
    """Fitted with what it cannot do without."""
    needed = dict(NEEDED.get(kind.__name__, {}))
    if kind.__name__ == "ViM":
        needed["weights"] = np.eye(3, output.features.shape[1])
    return kind.fit(output, output.predictions if labels is None else labels, **(needed | settings))


def made_of(features: Any, labels: Any = None) -> ModelOutput:
    features = np.asarray(features)
    return ModelOutput(np.arange(len(features)) % 3 if labels is None else np.asarray(labels), features=features)


def test_every_fitted_one_can_be_read_from_a_file():
    assert set(fitted_kinds().values()) == set(FITTED_KINDS)
    assert {name: kind.name for name, kind in fitted_kinds().items()} == {name: name for name in fitted_kinds()}


@EVERY
def test_a_file_gives_it_back_to_the_last_bit(quantifier, tmp_path):
    save_quantifier(quantifier, tmp_path / "level.npz")
    again = quantifier_from_file(tmp_path / "level.npz")
    assert type(again) is type(quantifier)
    output = output_of([0.1, NAN, 0.5, 1.0])
    assert again(output).tobytes() == quantifier(output).tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["level.npz"], "nothing unfinished is left behind"


@EVERY
def test_its_file_holds_no_objects_and_is_read_without_running_any(quantifier, tmp_path, monkeypatch):
    save_quantifier(quantifier, tmp_path / "level.npz")

    def unpickled(*_: Any, **__: Any) -> None:
        raise AssertionError("something was unpickled")

    monkeypatch.setattr("pickle.load", unpickled)
    monkeypatch.setattr("pickle.loads", unpickled)
    quantifier_from_file(tmp_path / "level.npz")
    with np.load(tmp_path / "level.npz", allow_pickle=False) as file:
        assert all(file[name].dtype.kind in "fiuU" for name in file.files)


@EVERY
def test_it_does_not_change_once_it_is_fitted(quantifier):
    output = training_output()
    again = fit(type(quantifier), output)
    before = again(output_of([0.5]))
    for column in (output.features, output.logits):
        column += 100.0
    np.testing.assert_array_equal(again(output_of([0.5])), before)
    for f in dataclasses.fields(quantifier):
        value = getattr(quantifier, f.name)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(quantifier, f.name, value)
        if f.init and isinstance(value, np.ndarray):
            with pytest.raises(ValueError, match="read-only"):
                value[...] = 0.0
    assert len(repr(quantifier)) < 200, "no log is filled with matrices"


@EVERY
def test_a_supervisor_judges_by_it(quantifier):
    verdicts = Supervisor(quantifier, quantifier(output_of([0.5]))[0]).judge(output_of([0.2, 0.5, 0.9, NAN]))
    assert verdicts.accepted.tolist() == [False, True, True, False]


@EVERY
def test_a_name_says_that_it_is_read_from_a_file(quantifier):
    with pytest.raises(ConfigError, match=f"{quantifier.name} is fitted on training rows"):
        quantifier_by_name(quantifier.name)


@EVERY_KIND
def test_rows_that_failed_or_lack_evidence_or_label_are_left_out(kind):
    output = training_output()
    rubbish = 1e3 * np.arange(1.0, 6.0)[:, None] * np.ones(8)
    labels = np.array([*output.predictions.tolist(), 0, None, NAN, 1, 2], dtype=object)
    more = ModelOutput(
        np.array([*output.predictions.tolist(), 0, 1, 1, 1, 2]),
        logits=np.vstack([output.logits, rubbish[:, :3]]),
        features=np.vstack([output.features, rubbish]),
        failures={60: Failure("timeout", "1 s")},
    )
    more.logits[63:, 1] = NAN
    more.features[63, 1], more.features[64, 2] = NAN, np.inf
    np.testing.assert_array_equal(
        fit(kind, more, labels)(output_of([0.2, 0.8])), fit(kind, output)(output_of([0.2, 0.8]))
    )


@EVERY_KIND
def test_no_row_to_fit_on_is_an_error(kind):
    output = training_output()
    nothing = take_outputs(output, np.empty(0, dtype=np.int64))
    for rows, labels in ((nothing, []), (output, [None] * 60), (output, np.full(60, NAN))):
        with pytest.raises(EvidenceError, match="no row to fit on"):
            fit(kind, rows, labels)
    with pytest.raises(EvidenceError, match="59 labels for 60 predictions"):
        fit(kind, output, [0] * 59)
    with pytest.raises(EvidenceError, match=f"holds no {kind.needs.value}"):
        kind.fit(ModelOutput(np.array([0, 1])), [0, 1], **NEEDED.get(kind.__name__, {}))


@EVERY_KIND
@pytest.mark.parametrize("labels", [["a", "b", "c"], [1.5, -2.0, 0.0], [True, 7, "seven"]])
def test_labels_may_be_texts_numbers_or_of_mixed_kinds(kind, labels, tmp_path):
    output = training_output()
    named = np.array([labels[label] for label in output.predictions.tolist()], dtype=object)
    renamed = dataclasses.replace(output, predictions=named)
    fitted = fit(kind, renamed, named)
    queries = dataclasses.replace(output_of([0.2, 0.8]), predictions=np.array([labels[1]] * 2, dtype=object))
    np.testing.assert_allclose(fitted(queries), fit(kind, output)(output_of([0.2, 0.8])), rtol=1e-9)
    save_quantifier(fitted, tmp_path / "named")
    np.testing.assert_array_equal(quantifier_from_file(tmp_path / "named")(queries), fitted(queries))


@EVERY_KIND
@settings(max_examples=15)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_training_rows_does_not_matter(kind, random):
    if kind.__name__ == "MLSA":
        return  # its clusters begin with a random row
    output = training_output()
    order = list(range(60))
    random.shuffle(order)
    shuffled = take_outputs(output, np.array(order))
    queries = output_of([0.2, 0.6, 1.0])
    np.testing.assert_allclose(fit(kind, shuffled)(queries), fit(kind, output)(queries), rtol=1e-9)


@EVERY_KIND
def test_the_same_rows_give_the_same_fit(kind):
    """Clustering without a seed does not, as in dnn-tip's k-means: another best k in one run of six."""
    queries = output_of([0.2, 0.6, 1.0])
    first = fit(kind, training_output())(queries)
    for _ in range(3):
        np.testing.assert_array_equal(fit(kind, training_output())(queries), first)


# ---------------------------------------------------------------- features that are trouble


def finite(quantifier: Any, features: Any, labels: Any = None) -> np.ndarray:
    confidences: np.ndarray = quantifier(made_of(features, labels))
    assert np.isfinite(confidences).all()
    return confidences


@BY_FEATURES
def test_constant_features_do_no_harm(kind):
    """As from units that are never active. One that moves all the same is no better than one that does not."""
    rng = np.random.default_rng(1)
    train = rng.normal(size=(90, 6)) + 3 * np.eye(6)[np.arange(90) % 3]
    train[:, 4:] = [0.0, 7.0]
    fitted = fit(kind, made_of(train))
    same = finite(fitted, train)
    moved = finite(fitted, train + np.array([0, 0, 0, 0, 5.0, 0]))
    assert (moved <= same + 1e-9).all()


@BY_FEATURES
@pytest.mark.parametrize("value", [0.0, 1.0, -3.25])
def test_features_that_are_all_alike_are_refused_or_give_numbers(kind, value):
    output = made_of(np.full((30, 5), value))
    try:
        fitted = fit(kind, output)
    except EvidenceError as error:
        assert "vary" in str(error) or "residual" in str(error)  # noqa: PT017 - only some refuse
    else:
        assert not np.isnan(fitted(output)).any()
        assert fitted(output)[0] > fitted(made_of(np.full((1, 5), value) + np.array([0, 0, 0, 9.0, 9.0]), [0]))[0]


@BY_FEATURES
def test_collinear_features_do_no_harm(kind):
    """scipy's KDE raises LinAlgError for them, and dnn-tip's LSA with it."""
    rng = np.random.default_rng(2)
    base = rng.normal(size=(90, 3)) + 3 * np.eye(3)[np.arange(90) % 3]
    train = np.hstack([base, base[:, :1], base @ [[1.0], [2.0], [-1.0]], np.zeros((90, 1))])
    fitted = fit(kind, made_of(train))
    on, off = finite(fitted, train), finite(fitted, train + np.array([0, 0, 0, 3.0, 0, 0]))
    assert off.mean() < on.mean(), "what breaks the dependence is surprising"


@BY_FEATURES
@pytest.mark.parametrize("n", [4, 12])
def test_more_features_than_rows_do_no_harm(kind, n):
    rng = np.random.default_rng(3)
    train = rng.normal(size=(n, 50)) + 4 * np.eye(50)[np.arange(n) % 2]
    labels = np.arange(n) % 2
    fitted = fit(kind, made_of(train, labels), **({"k": 1} if kind.__name__ == "KNN" else {}))
    near = finite(fitted, train + 0.01 * rng.normal(size=train.shape), labels)
    far = finite(fitted, train + 3 * rng.normal(size=train.shape), labels)
    assert far.mean() < near.mean()


@BY_FEATURES
def test_a_class_that_training_did_not_see_gives_no_evidence_or_its_features_count_alone(kind):
    """dnn-tip's DSA leaves such rows as the memory happened to be."""
    output = training_output()
    fitted = fit(kind, output)
    unseen = dataclasses.replace(output, predictions=np.array([7, "new", None] * 20, dtype=object))
    confidences = fitted(unseen)
    if kind.__name__ in ("DSA", "LSA"):
        assert np.isnan(confidences).all()
    else:
        np.testing.assert_array_equal(confidences, fitted(output))


@BY_FEATURES
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_it_may_be_fitted_on_half_and_single_precision(kind, dtype):
    output = training_output()
    short = dataclasses.replace(output, features=output.features.astype(dtype))
    exact = dataclasses.replace(output, features=output.features.astype(dtype).astype(np.float64))
    np.testing.assert_array_equal(fit(kind, short)(output), fit(kind, exact)(output))


@BY_FEATURES
def test_features_of_another_width_are_refused(kind):
    with pytest.raises(EvidenceError, match="the features have 5 columns, and the quantifier was fitted on 8"):
        fit(kind, training_output())(made_of(np.zeros((2, 5))))


@BY_FEATURES
@pytest.mark.parametrize("bad", [NAN, np.inf, -np.inf])
def test_a_row_with_a_number_that_is_none_gives_no_evidence_and_spoils_no_other(kind, bad):
    fitted = fit(kind, training_output())
    output = training_output()
    expected = fitted(output)
    output.features[7, 3] = bad
    expected[7] = NAN
    np.testing.assert_array_equal(fitted(output), expected)


@BY_FEATURES
def test_features_of_any_size_give_no_warning_and_huge_ones_no_better_confidence(kind):
    fitted = fit(kind, training_output())
    assert np.isfinite(fitted(made_of(np.full((1, 8), 1e-30), [1]))).all()
    (here,) = fitted(output_of([1.0]))
    for size in (1e30, 1e120, 1e300):
        (there,) = fitted(made_of(np.full((1, 8), size), [1]))
        assert not there > here


@BY_FEATURES
def test_a_single_row_to_fit_on_is_enough_or_refused(kind):
    output = made_of(np.arange(8.0)[None], [0])
    try:
        fitted = fit(kind, output, **({"k": 1} if kind.__name__ == "KNN" else {}))
    except EvidenceError:
        return
    assert np.isfinite(fitted(output)).all()


@BY_FEATURES
def test_no_rows_and_one_row_are_scored(kind):
    fitted = fit(kind, training_output())
    assert fitted(made_of(np.empty((0, 8)))).shape == (0,)
    assert fitted(ModelOutput(np.empty(0, dtype=object), features=np.empty((0, 0)))).shape == (0,)
    assert fitted(made_of(np.ones((1, 8)), [1])).shape == (1,)


@BY_FEATURES
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from(["C", "F", "reversed", "strided"]))
def test_memory_layout_and_company_change_no_bit(kind, seed, n, layout):
    """Matrix products of other shapes add up in another order: these must not."""
    rng = np.random.default_rng(seed)
    fitted = fit(kind, training_output(60, seed % 5))
    features = rng.normal(size=(n, 8)) * 3
    confidences = fitted(made_of(features))
    laid_out = {
        "C": features,
        "F": np.asfortranarray(features),
        "reversed": features[::-1].copy()[::-1],
        "strided": np.repeat(features, 2, axis=1)[:, ::2],
    }[layout]
    assert fitted(made_of(laid_out)).tobytes() == confidences.tobytes()
    order = rng.permutation(n)
    assert fitted(take_outputs(made_of(features), order)).tobytes() == confidences[order].tobytes()
    row = int(rng.integers(n))
    assert fitted(take_outputs(made_of(features), np.array([row])))[0] == confidences[row]


@BY_FEATURES
def test_what_lies_farther_from_all_training_rows_is_trusted_less(kind):
    rng = np.random.default_rng(5)
    train = rng.normal(size=(300, 8)) + 6 * np.eye(8)[np.arange(300) % 3]
    fitted = fit(kind, made_of(train))
    new = rng.normal(size=(90, 8)) + 6 * np.eye(8)[np.arange(90) % 3]
    # Where no logit of ViM's grows, and where the classes differ, for the relative Mahalanobis distance.
    away = np.append([-3.0, -1.0, 0.0], rng.normal(size=5))
    means = [fitted(made_of(new + step * away)).mean() for step in (0.0, 1.0, 2.0, 4.0, 8.0)]
    assert (np.diff(means) < 0).all()


# ---------------------------------------------------------------- labels


#: Ways in which the classes 0, 1, 2 come from a model, a CSV, a Parquet file and a data frame.
WAYS = {"texts": str, "padded": "{} ".format, "numbers": int, "floats": float, "NumPy's": np.float32}
BY_CLASS = pytest.mark.parametrize("name", ["dsa", "lsa", "max_logit_pnorm"])


def as_column(values: Any, way: Any) -> Any:
    column = np.empty(len(values), dtype=object)
    column[:] = [way(int(value)) for value in values]
    return column


@BY_CLASS
@pytest.mark.parametrize("labels", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("predictions", WAYS.values(), ids=WAYS)
def test_labels_and_predictions_are_one_by_what_is_written(name, labels, predictions, tmp_path):
    """A model says "1", a CSV of it is read as 1.0: neither the fit nor the confidences may tell them apart."""
    plain = training_output(60)
    truth = np.where(np.arange(60) % 7 == 0, (plain.predictions + 1) % 3, plain.predictions)
    kind = fitted_kinds()[name]
    expected = kind.fit(plain, truth)
    output = dataclasses.replace(plain, predictions=as_column(plain.predictions, predictions))
    fitted = kind.fit(output, as_column(truth, labels))
    np.testing.assert_array_equal(fitted(plain), expected(plain))
    np.testing.assert_array_equal(fitted(output), expected(plain))
    assert not np.isnan(fitted(output)).any()
    assert getattr(fitted, "p", None) == getattr(expected, "p", None)
    save_quantifier(fitted, tmp_path / "level.npz")
    np.testing.assert_array_equal(quantifier_from_file(tmp_path / "level.npz")(output), expected(plain))


@pytest.mark.parametrize("name", ["dsa", "lsa"])
def test_a_file_with_numbers_for_classes_judges_texts(name):
    """Files of earlier versions hold the labels as they came."""
    output = training_output(60)
    fitted = fitted_kinds()[name].fit(output)
    earlier = dataclasses.replace(fitted, classes=(0, 1.0, 2))
    texts = dataclasses.replace(output, predictions=output.predictions.astype(str))
    np.testing.assert_array_equal(earlier(texts), fitted(output))


@BY_CLASS
@pytest.mark.parametrize(
    ("predictions", "said"),
    [(["cat"] * 60, r"they are 'cat'\."), ([None] * 60, "there is none"), ([""] * 60, "none")],
)
def test_no_prediction_among_the_labels_is_refused_where_it_would_judge_nothing(name, predictions, said):
    column = np.array(predictions, dtype=object)
    output = dataclasses.replace(training_output(60), predictions=column)
    with pytest.raises(EvidenceError, match=f"among their labels, which are '0', '1', '2'; .*{said}"):
        fitted_kinds()[name].fit(output, training_output(60).predictions)


@BY_CLASS
def test_a_failed_row_s_prediction_does_not_count_as_one_of_the_labels(name):
    column = np.array(["1"] + ["cat"] * 59, dtype=object)
    output = dataclasses.replace(training_output(60), predictions=column, failures={0: Failure("timeout", "1 s")})
    with pytest.raises(EvidenceError, match="no prediction of the rows to fit on is among their labels"):
        fitted_kinds()[name].fit(output, training_output(60).predictions)


# ---------------------------------------------------------------- files


def test_only_what_is_fitted_is_stored():
    with pytest.raises(InputError, match="max_softmax has nothing fitted to store"):
        save_quantifier(MaxSoftmax(), "/nowhere/at/all")


def test_a_folder_that_is_not_there_is_made_and_one_that_cannot_be_is_an_error(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        quantifier_from_file(tmp_path / "new" / "er" / "level.npz")
    save_quantifier(FITTED[0], tmp_path / "new" / "er" / "level.npz")
    assert type(quantifier_from_file(tmp_path / "new" / "er" / "level.npz")) is type(FITTED[0])
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"cannot write .*level\.npz: "):
        save_quantifier(FITTED[0], tmp_path / "file" / "level.npz")


def test_a_file_says_whose_rows_it_was_fitted_on_and_is_refused_for_the_other_level(tmp_path):
    path = tmp_path / "level.npz"
    save_quantifier(FITTED[0], path, level="local", fitting_rows=np.arange(3, dtype=np.uint64))
    assert type(quantifier_from_file(path, "local")) is type(quantifier_from_file(path)) is type(FITTED[0])
    assert read_fitting_rows(path, "local").tolist() == [0, 1, 2]
    for read in (quantifier_from_file, read_fitting_rows):
        with pytest.raises(InputError, match="fitted on rows of the local model, and is given for the remote one"):
            read(path, "remote")
    save_quantifier(FITTED[0], path)
    assert type(quantifier_from_file(path, "remote")) is type(FITTED[0]), "whose rows they were is not known"


def test_labels_of_any_kind_are_stored_as_they_are_written(tmp_path):
    labels = np.empty(60, dtype=object)
    labels[:] = [(int(label), 0) for label in training_output().predictions]
    output = dataclasses.replace(training_output(), predictions=labels)
    fitted = fit(fitted_kinds()["dsa"], output)
    save_quantifier(fitted, tmp_path / "level.npz")
    np.testing.assert_array_equal(quantifier_from_file(tmp_path / "level.npz")(output), fitted(output))


def test_classes_that_are_no_json_cannot_be_stored(tmp_path):
    fitted = dataclasses.replace(fit(fitted_kinds()["dsa"], training_output()), classes=((0, 0), (1, 0), (2, 0)))
    with pytest.raises(InputError, match="only texts, numbers and truth values"):
        save_quantifier(fitted, tmp_path / "level.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 half a zip", b"\x93NUMPY"])
def test_a_file_of_another_kind_is_an_error(content, tmp_path):
    path = tmp_path / "level.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="holds no fitted quantifier"):
        quantifier_from_file(path)


def changed(path: Any, **entries: Any) -> None:
    with np.load(path, allow_pickle=False) as file:
        kept = {name: file[name] for name in file.files}
    np.savez(path, **{name: value for name, value in (kept | entries).items() if value is not None})


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"quantifier": None}, "holds no fitted quantifier"),
        ({"quantifier": np.array("[]")}, "holds no fitted quantifier"),
        ({"quantifier": np.array("{")}, "holds no fitted quantifier"),
        ({"quantifier": np.array(json.dumps({"format": 2, "name": "dsa", "values": {}}))}, "reads format 1"),
        ({"quantifier": np.array(json.dumps({"format": 1, "name": "os.system", "values": {}}))}, "of: dsa, knn"),
        ({"bounds": None}, "holds no dsa that can be used"),
        ({"more": np.zeros(3)}, "holds no dsa that can be used"),
        ({"features": np.array([{"an": "object"}], dtype=object)}, "holds no fitted quantifier"),
    ],
)
def test_a_file_that_was_tampered_with_is_an_error(entries, message, tmp_path):
    path = tmp_path / "level.npz"
    save_quantifier(fit(fitted_kinds()["dsa"], training_output()), path)
    changed(path, **entries)
    with pytest.raises(InputError, match=message):
        quantifier_from_file(path)


def test_a_file_that_ends_early_is_an_error(tmp_path):
    path = tmp_path / "level.npz"
    save_quantifier(fit(fitted_kinds()["dsa"], training_output()), path)
    whole = path.read_bytes()
    for length in (10, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            quantifier_from_file(path)
    assert not zipfile.is_zipfile(path)
