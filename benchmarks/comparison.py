"""What comparing supervisors takes: `python benchmarks/comparison.py`. Never a timed test.

50,000 rows of 1,000 classes at each level, as many as ImageNet's validation set has; max softmax is the baseline.
"""

from __future__ import annotations

import json
import os
import platform

from core import in_fresh_process, show

COMPARING = """
import json, resource, time
from dataclasses import replace

import numpy as np

from bisupervised.evaluation import compare_supervisors
from bisupervised.records import LevelRows
from bisupervised.table import Table

n, classes = 50_000, 1_000
rng = np.random.default_rng(0)
labels = rng.integers(0, classes, n)


def level(strength):
    rows = LevelRows.empty(n)
    p = rng.gamma(0.1, size=(n, classes))
    p[np.arange(n), labels] += strength * rng.gamma(1.0, size=n)
    p /= p.sum(axis=1, keepdims=True)
    said = p.argmax(axis=1)
    names = np.arange(classes).astype(str).astype(object)
    asked = np.ones(n, dtype=bool)
    return replace(rows, predictions=said, confidences=p.max(axis=1), asked=asked, probabilities=p, classes=names)


table = Table(np.arange(n).astype(str), labels, level(2.0), level(8.0))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
found = compare_supervisors(table)
seconds = time.perf_counter() - start
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
names = {str(name): [one.name for one in level.candidates] for name, level in found.levels.items()}
print(json.dumps({"s": seconds, "more_mb": (after - before) / 1024, "names": names}))
"""


def main() -> None:
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores")
    found = in_fresh_process(COMPARING)
    print(json.dumps(found["names"]))
    seconds, more = found["s"], found["more_mb"]
    show("comparing all that read probabilities, both levels", f"{seconds:.1f} s", "< 10 s", seconds < 10)
    show("memory beyond the table's own", f"{more:.0f} MB", "< 500 MB", more < 500)


if __name__ == "__main__":
    main()
