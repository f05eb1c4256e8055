"""What the choice of the thresholds bears on: questions whose calibration rows are no sample like the traffic.

Thresholds that were chosen so as to look good on some rows look better on these than on others: where few errors were
accepted by luck. If the rows of `[reference]` are these very rows (nothing was held out), a test of exchangeability
of the risk rings for that alone: for 200 rows and the lowest cost, at the level .0083, in up to .037 of the runs at
the 2nd level and .020 at the 1st (.22 and .12 at .1).

The choice turns on errors, not on how many rows are deferred or differ: the request rate, early abstention and
disagreement ring no more often than their level, within what chance allows (.015 at most at .0083, .11 at .1), nor do
the confidences of deferred rows. Simulated with 4 sources, 14 targets, 50 or 200 rows and 200 to 500 runs each; the
clearest of them are in `benchmarks/drift.py --chosen`.
"""

from __future__ import annotations

from typing import Final

from bisupervised.calibration.thresholds import Thresholds
from bisupervised.monitoring.reference import Reference

#: Questions that are not asked where the rows of the reference chose the thresholds.
FLATTERED: Final = frozenset({"local_risk", "remote_risk"})


def chose(thresholds: Thresholds, reference: Reference) -> bool:
    """Whether the rows of the reference chose the thresholds; a file that does not say: whether none was held out."""
    if reference.chose_thresholds is not None:
        return reference.chose_thresholds
    return thresholds.evidence.get("n_held_out") == 0
