"""What a reader of an evaluation must be told, in plain sentences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bisupervised.evaluation.evaluation import Evaluation, SupervisorFigures
    from bisupervised.evaluation.intervals import Estimate


def warnings_of(evaluation: Evaluation) -> list[str]:
    """Plain sentences on what the figures mean and a reader could overlook."""
    return [
        *_few_rows(evaluation),
        *_failures(evaluation),
        *_model_warnings(evaluation),
        *_thresholds_out_of_range(evaluation),
        *(w for name, one in evaluation.supervisors.items() for w in _supervisor_warnings(name, one)),
        *_baseline_warnings(evaluation),
    ]


FEW = 100


def _few_rows(evaluation: Evaluation) -> list[str]:
    if 0 < evaluation.n_labelled < FEW:
        return [f"Only {evaluation.n_labelled} labelled rows: too few to act on. Look at the intervals."]
    return []


def _failures(evaluation: Evaluation) -> list[str]:
    return [
        f"{one.failed} of {evaluation.n} {name} calls failed ({one.failed / evaluation.n:.1%}). They are no correct "
        f"answers, so they lower the {name} model's figures; where it did answer, it was right in "
        f"{'an unknown share' if math.isnan(one.accuracy_answered) else f'{one.accuracy_answered:.3f}'}."
        for name, one in evaluation.supervisors.items()
        if one.failed
    ]


def _thresholds_out_of_range(evaluation: Evaluation) -> list[str]:
    thresholds = {"local": evaluation.local_threshold, "remote": evaluation.remote_threshold}
    found = []
    for name, one in evaluation.supervisors.items():
        threshold = thresholds[name]
        if math.isfinite(threshold) and (threshold > one.highest or threshold < one.lowest):
            found.append(
                f"The {name} threshold {threshold:g} lies outside the {name} confidences, which go from "
                f"{one.lowest:g} to {one.highest:g}: it trusts "
                f"{'none' if threshold > one.highest else 'all'} of them."
            )
    return found


def local_is_enough(evaluation: Evaluation) -> bool:
    """Whether the local model is at least as accurate as the remote one, failed calls of the remote one aside."""
    remote, local = evaluation.systems.get("remote_only"), evaluation.systems["local_only"].system_accuracy.value
    if remote is None or not local >= remote.system_accuracy.value:
        return False
    figures = evaluation.supervisors.get("remote")
    return figures is None or not figures.failed or local >= figures.accuracy_answered


def _model_warnings(evaluation: Evaluation) -> list[str]:
    remote = evaluation.systems.get("remote_only")
    if remote is None or math.isnan(remote.system_accuracy.value):
        return []
    local = evaluation.systems["local_only"].system_accuracy.value
    if local_is_enough(evaluation):
        return [
            f"The local model is at least as accurate as the remote one ({local:.3f} against "
            f"{remote.system_accuracy.value:.3f}): requests buy nothing on average, and AUC-RAC is not meaningful."
        ]
    return []


def _supervisor_warnings(name: str, figures: SupervisorFigures) -> list[str]:
    found = []
    if figures.distinct == 0:
        found.append(f"No input has a {name} confidence: whatever the threshold, no {name} prediction is trusted.")
    elif figures.distinct == 1:
        found.append(f"The {name} confidence is constant: no threshold can tell the inputs apart.")
    elif figures.auroc.high < 0.5:
        found.append(
            f"The {name} supervisor is inverted: wrong predictions have the higher confidence (AUROC "
            f"{figures.auroc.value:.3f} [{figures.auroc.low:.3f}, {figures.auroc.high:.3f}]). Is it an uncertainty? "
            f"Negate it."
        )
    elif figures.auroc.low <= 0.5:
        found.append(
            f"The {name} supervisor is not shown to be better than chance (AUROC {figures.auroc.value:.3f} "
            f"[{figures.auroc.low:.3f}, {figures.auroc.high:.3f}])."
        )
    elif name == "remote" and figures.auroc_deferred.low <= 0.5:
        found.append(
            f"On the deferred inputs, all that it ever sees, the remote supervisor is not shown to be better than "
            f"chance (AUROC {figures.auroc_deferred.value:.3f} [{figures.auroc_deferred.low:.3f}, "
            f"{figures.auroc_deferred.high:.3f}])."
        )
    return found


_BASELINES = {
    "local_only_supervised": "the local model alone under its supervisor",
    "remote_only_supervised": "the remote model alone under its supervisor",
}


def _compared(difference: Estimate) -> str:
    return "is worse than" if difference.high < 0.0 else "is not shown to beat"


def _baseline_warnings(evaluation: Evaluation) -> list[str]:
    found = []
    cascade = evaluation.systems["bisupervised"]
    for name, difference in evaluation.supervised_versus.items():
        if math.isnan(difference.low) or difference.low > 0.0:
            continue
        if name == "remote_only_supervised" and cascade.request_rate.value < 1.0 and difference.high >= 0.0:
            continue  # as right as remote-only with fewer requests is what the cascade is for
        baseline = evaluation.systems[name]
        found.append(
            f"The cascade {_compared(difference)} {_BASELINES[name]} at about the same coverage: supervised accuracy "
            f"{cascade.supervised_accuracy.value:.3f} against {baseline.supervised_accuracy.value:.3f} at coverage "
            f"{baseline.coverage.value:.3f} with {baseline.request_rate.value:.0%} requests (difference "
            f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}])."
        )
    return found
