"""What the choice of the thresholds bears on: questions whose calibration rows are no sample like the traffic.

Thresholds that were chosen so as to look good on some rows look better on these than on others: where few errors were
accepted by luck. If the rows of `[reference]` are these very rows (nothing was held out), a test of exchangeability
of the risk rings for that alone. At the level .0083, with 200 rows and the lowest cost, the 2nd level's rang in .045
of 1,500 runs. The 1st level's rang in .008 there, and with limits in .013 to .020 of 300 to 400 runs (two sources):
that it keeps to its level with every target is not shown, and it is left out too.

The choice turns on errors, not on how many rows are deferred or differ: the request rate, early abstention and
disagreement ring no more often than their level, within what chance allows (.015 at most at .0083, .11 at .1), nor do
the confidences of deferred rows. Simulated with 4 sources, 14 targets, 50 or 200 rows and 200 to 500 runs each; some
of them are in `benchmarks/drift.py --chosen`.
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
