"""How much more than the paper's rule has joint tuning is to ask for, so that other rows get no less: `trust.py`.

All margins are tried on one grid of each split, a little coarser than that of `choose_jointly`. Those of ImageNet and
of imdb's published columns in `trust.py` are of an earlier search, in steps of 0.1 with `choose_jointly` itself, on
the same seeds. On imdb this search finds less, (0.2, 0.05) for the first point: .208 requests on the reported rows,
and coverage .0027 ± .0029 short.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from bisupervised.calibration.joint_grid import joint_grid
from bisupervised.calibration.rule import CalibrationRows, Rule, figures_of
from bisupervised.records import AnyArray, FloatArray

#: In 1 / sqrt(choosing rows), of coverage and of supervised accuracy.
CANDIDATES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
MARGINS = tuple(product(CANDIDATES, CANDIDATES))
_POINTS = 200
_SLACK = 1e-9


def least_margins(
    rules: list[Rule], recorded: list[tuple[CalibrationRows, ...]], columns: list[tuple[CalibrationRows, ...]]
) -> tuple[float, float]:
    """The margins with the fewest requests among those that are short of nothing in the mean over the splits."""
    better = []
    for rule, (choosing, reporting), (choose_on, report_on) in zip(rules, recorded, columns, strict=True):
        aim, has = figures_of(choosing, rule), figures_of(reporting, rule)
        chosen = [rule if one is None else one for one in _fewest_requests(choose_on, aim.coverage, aim.risk)]
        found = [figures_of(report_on, one) for one in chosen]
        better.append(
            [
                (one.request_rate, one.coverage - has.coverage, one.supervised_accuracy - has.supervised_accuracy)
                for one in found
            ]
        )
    requests, coverage, accuracy = np.mean(better, axis=0).T
    enough = (coverage >= 0.0) & (accuracy >= 0.0)
    if not enough.any():
        return MARGINS[-1]
    return MARGINS[int(np.argmin(np.where(enough, requests, np.inf)))]


def _fewest_requests(rows: CalibrationRows, coverage: float, risk: float) -> list[Rule | None]:
    """The rule with the fewest requests for each of MARGINS; None where no rule does as well."""
    grid = joint_grid(rows, local_points=_POINTS, remote_points=_POINTS)
    kept: list[tuple[FloatArray, FloatArray, FloatArray, AnyArray]] = []
    for abstain in range(len(grid.local_thresholds)):
        counts = grid.counts(abstain)
        covered = counts.accepted / grid.n
        right = 1.0 - counts.loss / np.maximum(counts.accepted, 1)
        as_good = (covered >= coverage - _SLACK) & (right >= 1.0 - risk - _SLACK)
        i, j = np.nonzero(as_good)
        asked = np.broadcast_to(counts.requests, covered.shape)
        place = np.column_stack([np.full(len(i), abstain), abstain + i, j])
        kept.append((asked[as_good], covered[as_good], right[as_good], place))
    asked, covered, right, place = (np.concatenate(part) for part in zip(*kept, strict=True))
    order = np.lexsort((-right, -covered, asked))
    unit = 1.0 / np.sqrt(grid.n)
    found: list[Rule | None] = []
    for more, better in MARGINS:
        enough = (covered[order] >= coverage + more * unit - _SLACK) & (
            right[order] >= 1.0 - risk + better * unit - _SLACK
        )
        at = place[order[np.argmax(enough)]] if enough.any() else None
        found.append(None if at is None else grid.rule(*map(int, at)))
    return found
