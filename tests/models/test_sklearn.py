from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bisupervised.errors import InputError, ModelError, ReplyUnreadable
from bisupervised.models import SklearnModel
from bisupervised.records import Evidence

pytest.importorskip("sklearn")
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC

TEXTS = ["good film", "bad film", "good fun", "bad fun"] * 3
LABELS = ["pos", "neg", "pos", "neg"] * 3


def test_a_text_pipeline_gives_its_probabilities_and_classes() -> None:
    pipeline = make_pipeline(CountVectorizer(), LogisticRegression()).fit(TEXTS, LABELS)
    output = SklearnModel(pipeline, name="words").predict(["good", "bad"])
    np.testing.assert_array_equal(output.probabilities, pipeline.predict_proba(["good", "bad"]))
    assert output.classes.tolist() == ["neg", "pos"]
    assert output.predictions.tolist() == pipeline.predict(["good", "bad"]).tolist()


def test_prepare_makes_the_features() -> None:
    estimator = LogisticRegression().fit([[0.0], [1.0], [2.0], [9.0]], [0, 0, 0, 1])
    output = SklearnModel(estimator, prepare=lambda texts: [[len(text)] for text in texts]).predict(["a", "a" * 20])
    assert output.predictions.tolist() == [0, 1]


@pytest.mark.parametrize("estimator", [LinearSVC(), SVC(), make_pipeline(CountVectorizer(), LinearSVC())])
def test_decision_values_are_refused_and_the_way_out_is_named(estimator: Any) -> None:
    with pytest.raises(InputError, match="CalibratedClassifierCV"):
        SklearnModel(estimator)


def test_the_way_out_works() -> None:
    estimator = make_pipeline(CountVectorizer(), CalibratedClassifierCV(LinearSVC(), cv=2)).fit(TEXTS, LABELS)
    np.testing.assert_allclose(SklearnModel(estimator).predict(["good"]).probabilities.sum(axis=1), 1.0)


def test_what_is_no_fitted_classifier_is_refused() -> None:
    with pytest.raises(InputError, match="fit it first"):
        SklearnModel(LogisticRegression())
    with pytest.raises(InputError, match="no predict_proba"):
        SklearnModel(KMeans())
    several = KNeighborsClassifier(1).fit([[0.0], [1.0]], [[0, 1], [1, 0]])
    with pytest.raises(InputError, match="2 outputs at once"):
        SklearnModel(several)


def test_what_the_estimator_raises_is_a_model_error() -> None:
    estimator = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(ModelError, match="LogisticRegression raised ValueError"):
        SklearnModel(estimator).predict([["text"]])


def test_what_a_pipeline_makes_of_its_inputs_are_the_features() -> None:
    pipeline = make_pipeline(CountVectorizer(), LogisticRegression()).fit(TEXTS, LABELS)
    model = SklearnModel(pipeline, features=pipeline[:-1].transform, logits=True)
    output = model.predict(["good film", "bad"])
    np.testing.assert_array_equal(output.features, pipeline[:-1].transform(["good film", "bad"]).toarray())
    assert model.provides == {Evidence.PROBABILITIES, Evidence.LOGITS, Evidence.FEATURES}
    softmax = np.exp(output.logits) / np.exp(output.logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax, output.probabilities)
    assert model.predict([]).features.shape[0] == 0


def test_logits_of_several_classes_are_the_decision_function() -> None:
    points = np.random.default_rng(0).normal(size=(30, 2))
    estimator = LogisticRegression().fit(points, np.arange(30) % 3)
    output = SklearnModel(estimator, features="input", logits=True).predict(points[:4])
    np.testing.assert_array_equal(output.logits, estimator.decision_function(points[:4]))
    np.testing.assert_array_equal(output.features, points[:4])


def test_logits_and_features_that_there_are_not_are_refused() -> None:
    forest = KNeighborsClassifier(1).fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(InputError, match="no decision_function"):
        SklearnModel(forest, logits=True)
    with pytest.raises(ReplyUnreadable, match="features has the shape"):
        SklearnModel(forest, features=lambda xs: np.zeros(5)).predict([[0.0]])
    pairs = SVC(decision_function_shape="ovo").fit([[float(x)] for x in range(8)], [0, 1, 2, 3] * 2)
    pairs.predict_proba = lambda xs: np.full((len(xs), 4), 0.25)
    with pytest.raises(ModelError, match=r"decision_function gives \(1, 6\) for 4 classes"):
        SklearnModel(pairs, logits=True).predict([[0.0]])
