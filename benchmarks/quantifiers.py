"""The quantifiers' goals beside what this machine does: `python benchmarks/quantifiers.py`. Never a timed test.

Each figure is the median of several runs in this process, or in a fresh one where memory is measured too.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from bisupervised.probability_calibration import BetaCalibration, IsotonicCalibration, TemperatureScaling, VennAbers
from bisupervised.quantifiers import (
    CostClass,
    MaxLogitPNorm,
    MaxSoftmax,
    Quantifier,
    cost_class_of,
    fitted_kinds,
    quantifier_by_name,
    quantifier_names,
)
from bisupervised.records import ModelOutput, take_outputs
from bisupervised.supervisor import Supervisor
from core import in_fresh_process, median_s, show

CLASSES, WIDTH, PASSES, TOKENS = 10, 128, 20, 50
#: Lines of their own: few of them are needed to see what all cost.
LAST_LAYER = {"weights": np.eye(CLASSES, WIDTH), "bias": np.full(CLASSES, 9.0)}


def made_output(n: int, seed: int = 0) -> ModelOutput:
    """Every kind of evidence that costs no further call, of a model with ten classes and 128 features."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    p = rng.dirichlet(np.ones(CLASSES), n)
    alternatives = np.log(rng.dirichlet(np.ones(6), (n, TOKENS))[:, :, :5])
    return ModelOutput(
        labels,
        probabilities=p,
        logits=np.log(p),
        features=(rng.normal(size=(n, WIDTH)) + 3 * np.eye(CLASSES, WIDTH)[labels]).astype(np.float32),
        sampled_probabilities=rng.dirichlet(np.ones(CLASSES), (n, PASSES)),
        token_logprobs=list(alternatives[:, :, 0]),
        token_alternatives=list(alternatives),
        texts=["The answer is 42. Confidence: 85%"] * n,
        confidences=rng.random(n),
    )


def judging_by_arithmetic() -> Iterable[Quantifier]:
    """Those that are made without fitting and ask nothing further of the model, and those with a small fitted map."""
    train = made_output(2000)
    for name in quantifier_names():
        if "<" not in name and name != "reconstruction":
            yield quantifier_by_name(name)
    for kind in fitted_kinds().values():
        settings = LAST_LAYER if kind.name == "vim" else {}
        yield kind.fit(train, train.predictions, **settings)
    yield MaxLogitPNorm(3.0)  # whatever the fit chose


def one_row() -> None:
    output = take_outputs(made_output(2000, 1), np.array([7]))
    for quantifier in judging_by_arithmetic():
        cost = cost_class_of(quantifier)
        if cost not in (CostClass.C0, CostClass.C1, CostClass.C3):
            continue
        seconds = median_s(lambda quantifier=quantifier: quantifier(output), runs=1000) * 1e6
        what = f"one row, {quantifier.name} ({cost})"
        if cost is CostClass.C3:
            print(f"{what:<66} {seconds:>13.1f} us   without the model's passes")
        else:
            show(what, f"{seconds:.1f} us", "< 100 us", seconds < 100)


def judging_one_row() -> None:
    """What a request waits for: the quantifier, a calibration of its confidence, the threshold and the verdict."""
    output = take_outputs(made_output(2000, 1), np.array([7]))
    rng = np.random.default_rng(0)
    scores = rng.random(2000)
    calibrations = {
        "": None,
        ", isotonic": IsotonicCalibration.fit(scores, rng.random(2000) < scores),
        ", beta": BetaCalibration.fit(scores, rng.random(2000) < scores),
        ", Venn-ABERS": VennAbers.fit(scores, rng.random(2000) < scores),
    }
    for quantifier in judging_by_arithmetic():
        cost = cost_class_of(quantifier)
        if cost not in (CostClass.C0, CostClass.C1):
            continue
        for name, calibration in calibrations.items():
            if calibration is not None and quantifier.name not in ("max_softmax", "mahalanobis"):
                continue
            if name == ", beta" and quantifier.name != "max_softmax":
                continue  # it calibrates confidences in [0, 1]
            supervisor = Supervisor(quantifier, 0.5, confidence_calibration=calibration)
            seconds = median_s(lambda supervisor=supervisor: supervisor.judge(output), runs=1000) * 1e6
            what = f"Supervisor.judge of one row, {quantifier.name}{name} ({cost})"
            show(what, f"{seconds:.1f} us", "< 100 us", seconds < 100)
    supervisor = Supervisor(MaxSoftmax(), 0.5, temperature=TemperatureScaling(1.5))
    seconds = median_s(lambda: supervisor.judge(output), runs=1000) * 1e6
    show("Supervisor.judge of one row, max_softmax, temperature (C0)", f"{seconds:.1f} us", "< 100 us", seconds < 100)


SURPRISE = """
import json, resource, sys, time
import numpy as np
from bisupervised.quantifiers import fitted_kinds
from bisupervised.records import ModelOutput
rng = np.random.default_rng(0)
def rows(n):
    labels = rng.integers(0, 10, n)
    features = (rng.normal(size=(n, 128)) + 3 * np.eye(10, 128)[labels]).astype(np.float32)
    return ModelOutput(labels, features=features)
train, new = rows(10_000), rows(1_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
fitted = fitted_kinds()[sys.argv[1]].fit(train, train.predictions)
fitting = time.perf_counter() - start
start = time.perf_counter()
confidences = fitted(new)
scoring = time.perf_counter() - start
assert np.isfinite(confidences).all()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([fitting, scoring, peak / 1e6, (peak - before) / 1e6]))
"""


def surprise() -> None:
    for name in ("dsa", "knn", "lsa", "mlsa", "mahalanobis"):
        runs = [in_fresh_process(SURPRISE, name) for _ in range(3)]
        fitting, scoring, peak, added = (statistics.median(run[i] for run in runs) for i in range(4))
        what = f"{name} of 1,000 inputs against 10,000 x 128 training features"
        show(what, f"{scoring:.3f} s", "< 0.5 s", scoring < 0.5)
        show(f"{name}: peak memory, of which its own {added:.2f} GB", f"{peak:.2f} GB", "< 1 GB", peak < 1)
        print(f"{'':4}fitted in {fitting:.2f} s")


def calibrating() -> None:
    rng = np.random.default_rng(0)
    for n, goal in ((2_000, 0.02), (50_000, 1.0)):
        confidences = rng.random(n)
        correct = rng.random(n) < confidences**2
        p = np.stack([confidences, 1 - confidences], axis=1)
        fits: dict[str, Callable[[], Any]] = {
            "temperature": lambda p=p, correct=correct: TemperatureScaling.fit(p, np.where(correct, 0, 1)),
            "isotonic": lambda s=confidences, correct=correct: IsotonicCalibration.fit(s, correct),
            "beta": lambda s=confidences, correct=correct: BetaCalibration.fit(s, correct),
            "Venn-ABERS": lambda s=confidences, correct=correct: VennAbers.fit(s, correct),
        }
        for name, fit in fits.items():
            seconds = median_s(fit, runs=5)
            what = f"{name} probability calibration on {n:,} rows"
            show(what, f"{seconds * 1000:.1f} ms", f"< {goal * 1000:g} ms", seconds < goal)


def main() -> None:
    print(
        f"{platform.platform()}, {os.cpu_count()} cores; Python {platform.python_version()}, NumPy {np.__version__}\n"
    )
    for benchmark in (one_row, judging_one_row, surprise, calibrating):
        benchmark()


if __name__ == "__main__":
    main()
