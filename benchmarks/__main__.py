"""Every benchmark, one after the other, or those named, as in `python benchmarks gateway`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = (
    *("core", "paper_tables", "decision_log", "quantifiers", "which_quantifier", "comparison"),
    *("trust", "guarantees", "drift", "gateway"),
)

if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        print(f"\n== {name}", flush=True)
        command = ["-m", "benchmarks.gateway"] if name == "gateway" else [str(HERE / f"{name}.py")]
        subprocess.run([sys.executable, *command], cwd=HERE.parent, check=False)
