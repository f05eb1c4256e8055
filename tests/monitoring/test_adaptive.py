"""A threshold that follows a long-run target, whatever comes."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.errors import InputError
from bisupervised.monitoring import AdaptiveThreshold, Feedback

NAN = float("nan")
SEQUENCES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=150)
TARGETS, STEPS = st.floats(0, 1), st.floats(0.001, 0.5)


def start(aim: str, target: float, step: float, **options) -> AdaptiveThreshold:
    return AdaptiveThreshold(0.5, target, step, 0.0, 1.0, aim=aim, **options)  # type: ignore[arg-type]


def mean_of(watch: AdaptiveThreshold) -> float:
    return watch.total / watch.counted


@given(SEQUENCES, TARGETS, STEPS)
def test_the_request_rate_keeps_to_its_target_for_any_sequence(sequence, target, step):
    watch = start("request_rate", target, step)
    for confidence, _ in sequence:
        watch, _ = watch.after(Feedback(watch.accepts(confidence)))
    assert abs(mean_of(watch) - target) <= watch.bound() + 1e-9
    assert watch.bound() == pytest.approx((1.0 + step) / (step * len(sequence)))


@given(SEQUENCES, TARGETS, STEPS)
def test_errors_are_at_most_the_target_for_any_sequence(sequence, target, step):
    watch = start("error_share", target, step)
    for confidence, wrong in sequence:
        watch, _ = watch.after(Feedback(watch.accepts(confidence), float(wrong)))
    assert mean_of(watch) - target <= watch.bound() + 1e-9


@pytest.mark.parametrize("aim", ["request_rate", "error_share"])
@pytest.mark.parametrize("target", [0.02, 0.3, 0.9])
def test_an_adversary_who_sees_the_threshold_cannot_move_the_mean_by_more_than_the_bound(aim, target):
    """Confidences just above or just below, whatever pulls the mean away the most; wrong where it is accepted."""
    for pull in (1, -1):
        watch = start(aim, target, 0.02)
        for _ in range(3_000):
            at = min(max(watch.threshold, 0.0), 1.0)
            want_accepted = (pull > 0) == (aim == "error_share")
            confidence = at if want_accepted else math.nextafter(at, -1.0) if at > 0.0 else 0.0
            watch, _ = watch.after(Feedback(watch.accepts(max(confidence, 0.0)), 1.0))
            assert abs(mean_of(watch) - target) <= watch.bound() + 1e-9


def test_it_follows_where_the_inputs_change():
    rng = np.random.default_rng(0)
    watch = start("error_share", 0.05, 0.01)
    thresholds = []
    for row in range(12_000):
        confidence = rng.random()
        risk = (0.1 if row < 6_000 else 0.5) * (1.0 - confidence)
        watch, proposal = watch.after(Feedback(watch.accepts(confidence), float(rng.random() < risk)))
        thresholds.append(proposal.threshold)
    assert np.median(thresholds[3_000:6_000]) < np.median(thresholds[9_000:])
    assert mean_of(watch) == pytest.approx(0.05, abs=watch.bound())


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=30, max_size=120), st.integers(0, 20))
def test_late_feedback_counts_when_it_comes_and_costs_a_step_for_each_row(sequence, delay):
    watch = start("request_rate", 0.3, 0.05)
    waiting: list[Feedback] = []
    for confidence, _ in sequence:
        waiting.append(Feedback(watch.accepts(confidence)))
        if len(waiting) > delay:
            watch, _ = watch.after(waiting.pop(0))
    if watch.counted:
        assert abs(mean_of(watch) - 0.3) <= watch.bound(delay) + 1e-9


def test_missing_feedback_is_skipped_or_an_error_as_said():
    skipping, _ = start("error_share", 0.1, 0.1).after(Feedback(True, NAN))
    assert (skipping.threshold, skipping.counted, skipping.not_counted) == (0.5, 0, 1)
    assert skipping.bound() == math.inf
    counting, proposal = start("error_share", 0.1, 0.1, missing="error").after(Feedback(True, NAN))
    assert counting.threshold == pytest.approx(0.59)
    assert "counts as an error" in proposal.because
    rejected, _ = start("error_share", 0.1, 0.1).after(Feedback(False, NAN))
    assert rejected.threshold == pytest.approx(0.49)


def test_nothing_is_changed_but_proposed_and_every_proposal_says_why():
    watch = start("error_share", 0.1, 0.1)
    following, proposal = watch.after(Feedback(True, 1.0))
    assert watch.threshold == 0.5
    assert following.proposed == proposal.threshold == pytest.approx(0.59)
    assert (proposal.before, proposal.changes, proposal.counted, proposal.mean) == (0.5, True, 1, 1.0)
    assert "was wrong" in proposal.because
    with pytest.raises(FrozenInstanceError):
        watch.threshold = 0.1  # type: ignore[misc]


def test_beyond_the_bounds_nothing_or_everything_is_accepted():
    watch = start("error_share", 0.0, 0.6)
    watch, proposal = watch.after(Feedback(True, 1.0))
    assert proposal.threshold == math.inf
    assert not watch.accepts(1.0)
    down = start("request_rate", 0.0, 0.6)
    down, proposal = down.after(Feedback(False))
    assert proposal.threshold == -math.inf
    assert down.accepts(0.0)
    assert not down.accepts(NAN), "no threshold trusts what is missing"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": 5.0}, "write 5 % as 0.05"),
        ({"step": 0.0}, "step"),
        ({"low": 1.0}, "low < high"),
        ({"high": math.inf}, "both finite"),
        ({"threshold": 2.0}, "starts within"),
        ({"aim": "risk"}, "aim is"),
    ],
)
def test_settings_that_promise_nothing_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        AdaptiveThreshold(**{"threshold": 0.5, "target": 0.1, "step": 0.1, "low": 0.0, "high": 1.0, **options})


def test_a_loss_is_a_share():
    with pytest.raises(InputError, match="lies in"):
        start("error_share", 0.1, 0.1).after(Feedback(True, 2.0))
