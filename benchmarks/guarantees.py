"""How often each promise is broken, what it leaves, and how long a calibration takes.

    python benchmarks/guarantees.py ../shared/data/paper              # 1,000 draws: about 15 minutes
    python benchmarks/guarantees.py ../shared/data/paper --draws 100 --only imdb

The data set is the population. 500 and 2,000 rows are drawn from it with replacement, a thousand seeded times, for
each calibrator; a promise is broken when the population's true rate exceeds the target. At delta = 0.1 that may
happen in 10 % of the draws (3 standard errors allowed); where a target binds and no scores are tied, in less than 1 %
would be needless caution. Promises on average are held to the mean. `worth` is the population's coverage (selective
risk) or its utility, coverage - 0.3 * requests (Pareto testing), 0 where nothing was certified.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from bisupervised.calibration.guarantees import certify, selective_risk  # noqa: E402
from bisupervised.calibration.joint import choose_jointly  # noqa: E402
from bisupervised.calibration.limits import utility  # noqa: E402
from bisupervised.studies.paper import load_paper_study  # noqa: E402
from calibration.guarantees.violations import (  # noqa: E402
    Population,
    Violations,
    all_cases,
    published,
    synthetic,
    violations_of,
)

#: What Pareto testing must reach at n = 2,000: utility under the limit on the risk alone.
UTILITY = {"imdb": 0.64, "ImageNet": 0.62, "SQuADv2 (possible only)": 0.57}


def show(found: Violations) -> bool:
    """Print one line of the table; whether the promise is kept, and boldly enough."""
    verdict = "" if found.kept and found.bold else "BROKEN" if not found.kept else "TIMID"
    rate = f"{found.mean_excess:+.4f}" if found.on_average else f"{found.violated:.3f}"
    goal = UTILITY.get(found.population) if found.case == "pareto: risk" and found.n == 2000 else None
    worth = f"{found.worth:.3f} ± {found.worth_se:.3f}" if found.worth else ""
    if goal is not None:
        worth += f" (goal {goal:.2f}: {'met' if found.worth >= goal else 'MISSED'})"
    print(
        f"  {found.case:42s} {found.n:5d}  {found.certified:6.3f}  {rate:>9s}{'*' if found.on_average else ' '} "
        f"{found.ms:7.1f} ms  {worth:32s} {verdict}",
        flush=True,
    )
    return not verdict


def oracle(population: Population) -> str:
    """The best utility on the grid for someone who knows the population."""
    limits = population.limits["risk"]
    both = (choose_jointly(population.rows, utility(0.3), limits, early_abstention=early) for early in (False, True))
    without, with_early = (1.0 - choice.price for choice in both)
    return (
        f"oracle of utility at risk {limits.risk}: {without:.3f} without early abstention, {with_early:.3f} with it"
    )


def speed(population: Population) -> None:
    """One calibration of 50,000 rows."""
    rows = population.rows.take(np.random.default_rng(0).integers(0, len(population.rows), 50_000))
    limits = population.limits["risk, requests and abstention"]
    correct = 1.0 - rows.local_loss
    for name, call in {
        "selective risk": lambda: selective_risk(rows.local_confidence, correct, population.selective),
        "Pareto testing, three limits": lambda: certify(rows, limits, utility(0.3)),
        "joint search, 400 x 400 x 134": lambda: choose_jointly(rows, utility(0.3), population.limits["risk"]),
    }.items():
        start = time.perf_counter()
        call()
        print(f"  n = 50,000, {name}: {time.perf_counter() - start:.3f} s (goal 1 s)", flush=True)


def main() -> int:
    """The table; 1 when a promise is broken or needlessly timid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", help="the authors' CSV files; without them, made data only")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the draws; 0 is the one the settings were tried with")
    parser.add_argument("--only", default="", help="populations whose name holds this")
    parser.add_argument("--case", default="", help="calibrators whose name holds this")
    options = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, NumPy {np.__version__}")
    populations = [published(study) for study in load_paper_study(options.directory)] if options.directory else []
    populations += [synthetic(kind) for kind in ("smooth", "tied", "overconfident")]
    good = True
    for population in (one for one in populations if options.only in one.name):
        print(f"\n{population.name}, {len(population.rows):,} rows; {oracle(population)}")
        print("  calibrator                                     n  certified  violated      time     worth")
        for case in (one for one in all_cases(population) if options.case in one.name):
            for n in (500, 2000):
                good &= show(violations_of(population, case, n, options.draws, options.seed))
        speed(population)
    print("\n* promised on average: the mean of true rate - target. Violations: at most 0.1 + 3 standard errors.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
