"""Which rows choose and which report, fixed before the first report.

Large sets are cut in two halves by a checksum of the input's name (or of its cluster, such as the passage that a
question is about): nobody's choice, and the same in every run. Small ones are cut into five folds; what is chosen on
four is judged on the fifth, in turn, so that all rows report. The claims' constants are in `claims`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import numpy as np

from bisupervised.records import AnyArray, IntArray

FOLDS: Final = 5
CALIBRATION: Final = "calibration"
REPORT: Final = "report"
_SHARE: Final = 500  #: of 1,000 that choose


def _number(study: str, key: str) -> int:
    return int(hashlib.sha256(f"{study}/{key}".encode()).hexdigest()[:8], 16)


def parts_of(study: str, keys: Iterable[str]) -> AnyArray:
    """(n,) `calibration` or `report`, by the names of the inputs or of their clusters.

    >>> parts_of("imdb", ["imdb-0", "imdb-1", "imdb-2"]).tolist()
    ['calibration', 'report', 'calibration']
    """
    return np.array([CALIBRATION if _number(study, key) % 1000 < _SHARE else REPORT for key in keys], dtype=object)


def folds_of(study: str, keys: Iterable[str]) -> IntArray:
    """(n,) folds 0 to 4."""
    return np.array([_number(study, key) % FOLDS for key in keys], dtype=np.int64)
