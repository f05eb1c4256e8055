"""Recorded rows in, numbers out. Nothing here calls a model, draws or prints."""

from bisupervised.evaluation.auc_rac import AucRac, auc_rac, auc_rac_on_grid
from bisupervised.evaluation.auroc import auroc
from bisupervised.evaluation.compared import CandidateFigures, Comparison, Criterion, LevelComparison
from bisupervised.evaluation.comparison import compare_supervisors
from bisupervised.evaluation.deferral_order import DeferralOrder
from bisupervised.evaluation.evaluation import Evaluation, evaluate_at
from bisupervised.evaluation.intervals import Estimate, Interval
from bisupervised.evaluation.objectives import Graded, Objective, Scored, macro_f1, objective_by_name
from bisupervised.evaluation.request_accuracy import (
    OperatingPoint,
    RequestAccuracyCurve,
    request_accuracy_curve,
    request_accuracy_on_grid,
)
from bisupervised.evaluation.risk_coverage import RiskCoverage, risk_coverage
from bisupervised.evaluation.supervised import false_alarm_threshold, s_beta, supervised_table
from bisupervised.evaluation.system import SystemFigures, system_figures

__all__ = [
    "AucRac",
    "CandidateFigures",
    "Comparison",
    "Criterion",
    "DeferralOrder",
    "Estimate",
    "Evaluation",
    "Graded",
    "Interval",
    "LevelComparison",
    "Objective",
    "OperatingPoint",
    "RequestAccuracyCurve",
    "RiskCoverage",
    "Scored",
    "SystemFigures",
    "auc_rac",
    "auc_rac_on_grid",
    "auroc",
    "compare_supervisors",
    "evaluate_at",
    "false_alarm_threshold",
    "macro_f1",
    "objective_by_name",
    "request_accuracy_curve",
    "request_accuracy_on_grid",
    "risk_coverage",
    "s_beta",
    "supervised_table",
    "system_figures",
]
