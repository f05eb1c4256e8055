"""The one sentence that a reader takes away, and the one after it."""

from __future__ import annotations

import math

from bisupervised.assessment import Assessment
from bisupervised.evaluation.cautions import local_is_enough
from bisupervised.evaluation.evaluation import Evaluation
from bisupervised.evaluation.intervals import Estimate
from bisupervised.evaluation.objectives import ACCURACY
from bisupervised.evaluation.system import SystemFigures
from bisupervised.report.numerals import cell, difference_text, percent, share, threshold


def headline(assessment: Assessment) -> str:
    """What to do, what it takes and what it brings, in one sentence without a full stop."""
    evaluation = assessment.evaluation
    ours = evaluation.systems["bisupervised"]
    if routes_are_recorded(assessment):
        return _of_a_log(evaluation, ours)
    name = "learned confidence" if assessment.thresholds.first_level else "confidence"
    rule = f"{_rule(evaluation, name)}: {_requests(ours.request_rate.value)}"
    remote = evaluation.systems.get("remote_only")
    if math.isnan(ours.system_accuracy.value):
        saved = "" if remote is None else _savings(ours, remote)
        saved = f", which {saved} than remote-only" if saved else ""
        return f"{rule}{saved}; how accurate that is, is not known: no row has a label"
    accuracy = f"{objective_label(evaluation)} {_with_interval(ours.system_accuracy)}"
    if remote is None or math.isnan(evaluation.versus_remote_only.value):
        return f"{rule}, {accuracy}; how accurate remote-only is, is not known"
    if _local_is_enough(evaluation, remote):
        return _local_alone(evaluation, remote)
    return (
        f"{rule}, {accuracy} against {share(remote.system_accuracy.value)} remote-only: "
        f"{_verdict(evaluation.versus_remote_only)}{_joined(_savings(ours, remote))}"
    )


def second_line(assessment: Assessment) -> str:
    """What the second level does: how many inputs get no trusted answer, and how right the others are."""
    ours, remote = (assessment.evaluation.systems.get(name) for name in ("bisupervised", "remote_only"))
    assert ours is not None
    if remote is not None and not routes_are_recorded(assessment) and _local_is_enough(assessment.evaluation, remote):
        return "Every input is answered, and no supervisor rejects any."
    if assessment.evaluation.remote_threshold == -math.inf:
        return "There is no 2nd level: every remote answer is accepted."
    if ours.coverage.value == 1.0:
        return "Every input gets a trusted answer."
    rejected = f"{percent(1.0 - ours.coverage.value)} of inputs get no trusted answer"
    if ours.early_abstention.value > 0.0:
        rejected += f" ({percent(ours.early_abstention.value)} without asking the remote model)"
    if math.isnan(ours.supervised_accuracy.value):
        return f"{rejected}."
    name = objective_label(assessment.evaluation).replace("system", "supervised", 1)
    return f"{rejected}; {name} of the others is {_with_interval(ours.supervised_accuracy)}."


def objective_label(evaluation: Evaluation) -> str:
    """`system accuracy`, or the objective that takes its place."""
    name = evaluation.objective.replace("_", " ").replace(" f1", " F1")
    return f"system {'accuracy' if evaluation.objective == ACCURACY else name}"


def routes_are_recorded(assessment: Assessment) -> bool:
    """Whether the cascade's figures are those of the routes that a running system took and logged."""
    return "route" in assessment.table.extra and not bool(assessment.table.remote.asked.all())


def _of_a_log(evaluation: Evaluation, ours: SystemFigures) -> str:
    went = _requests(ours.request_rate.value).replace(" go to", " went to").replace(" goes to", " went to")
    went = went[0].upper() + went[1:]
    if math.isnan(ours.system_accuracy.value):
        return f"{went}; how accurate the system is, is not known: no row has a label"
    return (
        f"{went}, {objective_label(evaluation)} {_with_interval(ours.system_accuracy)}; how accurate remote-only is, "
        f"is not known: the remote model was asked about the deferred inputs only"
    )


def _rule(evaluation: Evaluation, confidence: str) -> str:
    local, abstain = evaluation.local_threshold, evaluation.abstain_threshold
    if math.isinf(local):
        rule = "Trust every local prediction" if local < 0 else "Never trust the local model"
    else:
        rule = f"Trust the local model at {confidence} >= {threshold(local)}"
    return rule if abstain == -math.inf else f"{rule}, give up below {threshold(abstain)}"


def _requests(request_rate: float) -> str:
    if request_rate == 0.0:
        return "no input goes to the remote model"
    if request_rate == 1.0:
        return "every input goes to the remote model"
    return f"{percent(request_rate)} of inputs go to the remote model"


def _local_is_enough(evaluation: Evaluation, remote: SystemFigures) -> bool:
    """The local model is at least as accurate, and the cascade is not clearly better than it (as it can be where
    each model is right where the other is wrong)."""
    local = evaluation.systems["local_only"].system_accuracy.value
    cascade = evaluation.systems["bisupervised"].system_accuracy
    return local_is_enough(evaluation) and not cascade.low > local


def _local_alone(evaluation: Evaluation, remote: SystemFigures) -> str:
    local = evaluation.systems["local_only"]
    return (
        f"Use the local model alone: no input goes to the remote model, {objective_label(evaluation)} "
        f"{_with_interval(local.system_accuracy)} against {share(remote.system_accuracy.value)} remote-only"
        f"{_joined(_savings(local, remote))}"
    )


def _verdict(difference: Estimate) -> str:
    if difference == (0.0, 0.0, 0.0):
        return "the same"
    if difference.low > 0.0:
        return f"better by {difference_text(difference)}"
    if difference.high < 0.0:
        turned = Estimate(-difference.value, -difference.high, -difference.low)
        return f"worse by {difference_text(turned)}"
    return f"not shown to be worse (difference {difference_text(difference, signed=True)})"


def _savings(ours: SystemFigures, theirs: SystemFigures) -> str:
    """`costs 59 % less and takes 30 % less time`, as far as cost and latency are known and differ."""
    clauses = [
        f"{verb} {percent(abs(saved))} {'less' if saved > 0 else 'more'}{what}"
        for verb, saved, what in (
            ("costs", _saved(ours.cost_per_input.value, theirs.cost_per_input.value), ""),
            ("takes", _saved(ours.latency.mean.value, theirs.latency.mean.value), " time"),
        )
        if abs(saved) >= 0.0005
    ]
    return " and ".join(clauses)


def _joined(clauses: str) -> str:
    """The clauses as the end of a sentence."""
    if not clauses:
        return ""
    return f", {clauses}" if " and " in clauses else f", and {clauses}"


def _saved(ours: float, theirs: float) -> float:
    return 1.0 - ours / theirs if theirs > 0.0 else math.nan


def _with_interval(estimate: Estimate) -> str:
    return " ".join(part for part in cell(estimate) if part)
