"""Supervisors that are learned from recorded rows, and cross-fitted so that their own rows can be used again."""

from bisupervised.learned.arbiter import Arbiter
from bisupervised.learned.at_the_first_level import LearnedConfidence
from bisupervised.learned.calibration_rows import calibration_rows
from bisupervised.learned.comparable import COMPARABLE
from bisupervised.learned.cross_fitting import (
    CrossFitted,
    cross_fitted,
    fit_arbiter,
    fit_deferral,
    fit_pair,
    fit_stacked,
)
from bisupervised.learned.deferral import DeferralHead
from bisupervised.learned.fitting_rows import refuse_fitting_rows
from bisupervised.learned.pair import PairSupervisor
from bisupervised.learned.saving import learned_from_file, save_learned
from bisupervised.learned.stacked import StackedSupervisor
from bisupervised.learned.supervisors import LearnedSupervisors, learn_on_a_part, save_beside, supervisors_of

__all__ = [
    "COMPARABLE",
    "Arbiter",
    "CrossFitted",
    "DeferralHead",
    "LearnedConfidence",
    "LearnedSupervisors",
    "PairSupervisor",
    "StackedSupervisor",
    "calibration_rows",
    "cross_fitted",
    "fit_arbiter",
    "fit_deferral",
    "fit_pair",
    "fit_stacked",
    "learn_on_a_part",
    "learned_from_file",
    "refuse_fitting_rows",
    "save_beside",
    "save_learned",
    "supervisors_of",
]
