"""Every benchmark, one after the other: `python benchmarks`. The paper's tables need ../shared/data/paper."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    for name in ("core", "paper_tables", "decision_log"):
        print(f"\n== {name}", flush=True)
        subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=False)
