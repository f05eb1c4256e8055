"""The one sentence, in each of the cases that it has words for."""

from __future__ import annotations

import numpy as np
import pytest

from bisupervised.assessment import evaluate
from bisupervised.report.headline import headline, objective_label, second_line
from report.assessments import columns, full, logged, priced, unlabelled

INF = float("inf")
REMOTE_ONLY = "system accuracy .901 [.888, .914] against .901 remote-only: the same"


def test_not_shown_to_be_worse() -> None:
    assert headline(full()) == (
        "Trust the local model at confidence >= 0.5438: 23 % of inputs go to the remote model, system accuracy .909 "
        "[.890, .925] against .903 remote-only: not shown to be worse (difference +.006 [-.016, +.028]), costs 77 % "
        "less and takes 73 % less time"
    )


def test_better_than_remote_only() -> None:
    assert headline(evaluate(columns(local=0.85, remote=0.85), (0.6, -INF))) == (
        "Trust the local model at confidence >= 0.6: 26 % of inputs go to the remote model, system accuracy .931 "
        "[.919, .941] against .849 remote-only: better by .082 [.067, .097]"
    )


def test_worse_than_remote_only_trusting_everything() -> None:
    assert headline(evaluate(priced(), (-INF, -INF))) == (
        "Trust every local prediction: no input goes to the remote model, system accuracy .744 [.724, .763] against "
        ".901 remote-only: worse by .158 [.134, .181], costs 100 % less and takes 96 % less time"
    )


def test_never_trusting_the_local_model_is_remote_only() -> None:
    assert headline(evaluate(columns(), (INF, -INF))) == (
        f"Never trust the local model: every input goes to the remote model, {REMOTE_ONLY}"
    )


def test_a_local_model_at_least_as_accurate_is_enough() -> None:
    assert headline(evaluate(priced(local=0.92, remote=0.85), (0.3, -INF))) == (
        "Use the local model alone: no input goes to the remote model, system accuracy .921 [.908, .932] against "
        ".849 remote-only, costs 100 % less and takes 96 % less time"
    )


def test_a_cascade_clearly_better_than_a_more_accurate_local_model_is_kept() -> None:
    assert headline(evaluate(columns(local=0.86, remote=0.85), (0.6, -INF))).startswith("Trust the local model at")


def test_one_saving_alone_reads_well_and_a_loss_is_said() -> None:
    cheaper = evaluate(columns(), (0.72, -INF), costs={"local": 0.0, "remote": 0.002})
    assert headline(cheaper).endswith("better by .032 [.022, .042], and costs 42 % less")
    slow = evaluate({**priced(), "local_latency_s": np.full(2000, 0.39)}, (0.72, -INF))
    assert headline(slow).endswith("costs 42 % less and takes 56 % more time")


def test_without_labels_only_what_is_sent_is_said() -> None:
    unknown = "how accurate that is, is not known: no row has a label"
    start = "Trust the local model at confidence >= 0.5: 19 % of inputs go to the remote model"
    assert headline(unlabelled()) == f"{start}; {unknown}"
    priced_rows = unlabelled(costs={"local": 0.0005, "remote": 0.001})
    assert headline(priced_rows) == f"{start}, which costs 31 % less than remote-only; {unknown}"


def test_of_a_decision_log_remote_only_is_not_known() -> None:
    assert headline(logged()) == (
        "33 % of inputs went to the remote model, system accuracy .922 [.909, .933]; how accurate remote-only is, is "
        "not known: the remote model was asked about the deferred inputs only"
    )
    assert headline(logged(labels=False)) == (
        "33 % of inputs went to the remote model; how accurate the system is, is not known: no row has a label"
    )


def test_another_objective_takes_the_place_of_accuracy() -> None:
    assessment = evaluate(columns(300), (0.6, -INF), objective="macro_f1")
    assert objective_label(assessment.evaluation) == "system macro F1"
    assert ", system macro F1 ." in headline(assessment)


@pytest.mark.parametrize(
    ("assessment", "expected"),
    [
        (full(), "6.4 % of inputs get no trusted answer; supervised accuracy of the others is .922 [.903, .938]."),
        (evaluate(columns(), (0.5, -INF)), "There is no 2nd level: every remote answer is accepted."),
        (evaluate(columns(), (INF, INF)), "100 % of inputs get no trusted answer."),
    ],
)
def test_the_second_line_says_how_many_inputs_get_no_answer(assessment: object, expected: str) -> None:
    assert second_line(assessment) == expected  # type: ignore[arg-type]
