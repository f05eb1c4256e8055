"""A certified bound on the risk of each study, and whether it held on rows that it was not made of.

The limit is fixed beforehand by a rule: the risk of remote-only on the calibration rows, rounded up to whole
hundredths, at most .5. The confidences are the recorded ones, which nothing was chosen or fitted for. The promise is
that the risk of the accepted answers stays within the limit with probability 1 - delta over the calibration rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from bisupervised.calibration.within_limits import WithinLimits
from bisupervised.errors import InfeasibleTarget
from bisupervised.evaluation.intervals import NOT_KNOWN, Estimate, rate
from bisupervised.evaluation.system import bisupervised
from bisupervised.records import Route
from bisupervised.studies.live.claims import mean_estimate
from bisupervised.studies.live.splits import Parts
from bisupervised.table import Table

DELTA: Final = 0.1
MOST: Final = 0.5


@dataclass(frozen=True, slots=True)
class CertifiedRisk:
    """What was promised, and what came of it. NaN where it was infeasible."""

    limit: float
    delta: float
    n_calibration: int
    n_report: int
    infeasible: str  #: why nothing could be promised; empty where something was
    held: bool | None  #: whether the risk of the reporting rows is within the limit; None: nothing was promised
    risk: Estimate
    coverage: Estimate
    request_rate: Estimate
    remark: str  #: on clusters, or empty


def risk_limit(calibration: Table) -> float:
    """Remote-only's risk rounded up to whole hundredths, at most .5.

    A risk that is a whole number of hundredths stays as it is.
    """
    risk = 1.0 - float(np.mean(calibration.correct("remote")))
    return min(max(math.ceil(100.0 * risk - 1e-9) / 100.0, 0.01), MOST)


def certified_risk(parts: Parts) -> CertifiedRisk:
    """Certified on the calibration part, judged on the other; of a cross-fitted set on its even and odd folds."""
    split = parts.halves
    choosing, reporting, clusters = split.choosing, split.reporting, split.reporting_clusters
    limit = risk_limit(choosing)
    remark = (
        "" if clusters is None else "the certificate takes the rows of a cluster as independent, which they are not"
    )
    sizes = (len(choosing), len(reporting))
    try:
        choice = WithinLimits(risk=limit, delta=DELTA).choose(choosing)
    except InfeasibleTarget as error:
        return CertifiedRisk(limit, DELTA, *sizes, str(error), None, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, remark)
    decided = bisupervised(reporting, choice.local, choice.remote, choice.abstain)
    accepted = decided.routes != Route.REJECTED
    wrong = 1.0 - decided.correct[accepted]
    inside = None if clusters is None else np.unique(clusters[accepted], return_inverse=True)[1]
    risk = rate(float(wrong.sum()), len(wrong)) if inside is None else mean_estimate(wrong, inside)
    return CertifiedRisk(
        limit,
        DELTA,
        *sizes,
        "",
        bool(risk.value <= limit) if len(wrong) else None,
        risk,
        mean_estimate(accepted.astype(np.float64), clusters),
        mean_estimate(decided.requested.astype(np.float64), clusters),
        remark,
    )
