import numpy as np
import pytest

from bisupervised.models import Model
from bisupervised.studies.demo_models import WordPairModel, train_local, train_remote, word_pair_features
from bisupervised.studies.demo_reviews import split_reviews


@pytest.fixture(scope="module")
def local(parts):
    return train_local(parts.train)


def accuracy(predictions, labels):
    return float((predictions == labels).mean())


def test_the_local_model_is_a_model_with_probabilities_and_a_latency_for_each_review(local, parts):
    assert isinstance(local, Model)
    output = local.predict(parts.test.texts)
    assert np.allclose(output.probabilities.sum(axis=1), 1.0)
    assert (output.predictions == output.classes[output.probabilities.argmax(axis=1)]).all()
    assert (output.latency_s > 0).all()
    assert len(set(output.latency_s)) > 1
    assert len(local.predict([])) == 0


def test_the_local_model_reads_no_more_than_the_first_100_words(local):
    start = "a wonderful film " * 34
    assert local.probability(start) == local.probability(start + "terrible awful worst boring " * 20)
    assert local.probability("wonderful") > local.probability("terrible")


def test_a_review_without_words_gets_a_probability(local, trained):
    assert 0.0 < local.probability("") < 1.0
    assert 0.0 < trained.probability("?!") < 1.0


def test_features_are_words_and_pairs_and_each_counts_once():
    assert len(word_pair_features("good film")) == 3
    assert set(word_pair_features("good")) < set(word_pair_features("good film"))
    assert list(word_pair_features("good good good")) == list(word_pair_features("Good, good"))
    assert set(word_pair_features("good film")) != set(word_pair_features("film good"))


def test_the_remote_model_is_the_same_after_saving(trained, parts, tmp_path):
    trained.save(tmp_path / "model.npz")
    again = WordPairModel.load(tmp_path / "model.npz")
    assert [trained.probability(t) for t in parts.test.texts] == [again.probability(t) for t in parts.test.texts]


@pytest.mark.slow
def test_the_models_are_about_as_accurate_as_the_papers(reviews):
    parts = split_reviews(reviews, train=None, calibration=3_000, test=5_000, seed=0)
    local, remote = train_local(parts.train), train_remote(parts.train)
    positive = np.array([remote.probability(text) for text in parts.test.texts]) > 0.5
    remote_predictions = np.where(positive, "positive", "negative").astype(object)
    assert accuracy(local.predict(parts.test.texts).predictions, parts.test.labels) == pytest.approx(0.795, abs=0.02)
    assert accuracy(remote_predictions, parts.test.labels) == pytest.approx(0.90, abs=0.015)
