"""Rows and a target -> thresholds with their evidence, judged on rows that did not choose them."""

from __future__ import annotations

import datetime
import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np

from bisupervised.calibration.choice import Choice, Target, calibration_rows
from bisupervised.calibration.rule import Rule
from bisupervised.calibration.targets import LowestCost, describe
from bisupervised.calibration.thresholds import Thresholds
from bisupervised.calibration.within_limits import WithinLimits
from bisupervised.calibration.without_requests import without_requests
from bisupervised.errors import InputError, ThresholdError
from bisupervised.evaluation.system import bisupervised, local_only, remote_only, system_figures
from bisupervised.records import AnyArray, PairConfidences
from bisupervised.table import Table

MIN_ROWS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Disjoint row numbers: those that choose the thresholds and those that judge them."""

    calibration: AnyArray
    held_out: AnyArray  #: empty when every row chooses


def split_rows(n: int, held_out: float, seed: int) -> Split:
    """A seeded random split; `held_out` in [0, 1) is the share of rows kept for judging. Both parts keep order."""
    if not 0.0 <= held_out < 1.0:
        raise InputError(f"the held-out share is in [0, 1), not {held_out}")
    shuffled = np.random.default_rng(seed).permutation(n)
    kept = int(n * held_out)
    return Split(np.sort(shuffled[kept:]), np.sort(shuffled[:kept]))


def data_hash(table: Table) -> str:
    """SHA-256 of the ids and confidences of all rows: which rows they are, in which order.

    Correctness is not in it: the same rows under another objective, or with labels that came later, are the rows
    that chose the thresholds all the same.
    """
    digest = hashlib.sha256()
    digest.update("\x00".join(map(str, table.ids)).encode())
    for level in ("local", "remote"):
        column = np.asarray(table.level(level).confidences, dtype=np.float64)
        # One NaN and one zero: their sign bits depend on how they were computed, and no file keeps them.
        digest.update(np.where(np.isnan(column), np.nan, column + 0.0).tobytes())
    return digest.hexdigest()


def calibrate_table(
    table: Table,
    target: Target,
    *,
    pair: PairConfidences | None = None,
    held_out: float | None = None,
    seed: int = 0,
) -> Thresholds:
    """Choose thresholds for the target on one part of the rows and say what they achieve on the other.

    Half of the rows is held out by default; none where the target certifies what it promises, which needs every row
    and no other to judge it, nor with fewer than 20 rows: the figures then are said to be of the same rows. `pair` is
    what a supervisor of both levels makes of the rows; not every target can use it.

    Raises `InfeasibleTarget` when no threshold reaches the target, `TableError` when labels are missing.
    """
    if held_out is None:
        held_out = 0.0 if getattr(target, "delta", None) is not None else 0.5
    if len(table) < MIN_ROWS:
        held_out = 0.0
    split = split_rows(len(table), held_out, seed)
    choice = _choose(target, table.take(split.calibration), _part(pair, split.calibration))
    judging = split.held_out if len(split.held_out) else split.calibration
    judged = table.take(judging)
    achieved = _achieved(judged, choice, target, _part(pair, judging), held_out=bool(len(split.held_out)))
    alone = _without_requests(table, pair, split.calibration, judging, choice)
    return Thresholds(
        local=choice.local,
        remote=choice.remote,
        abstain=choice.abstain,
        target=describe(target),
        evidence={
            "n": len(split.calibration),
            "n_labelled": int(table.take(split.calibration).complete.sum()),
            "n_held_out": len(split.held_out),
            "held_out": held_out,
            "seed": seed,
            "data_sha256": data_hash(table),
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            **({"guarantee": choice.evidence} if choice.evidence else {}),
        },
        achieved={**achieved, **({"without_requests": alone} if alone else {})},
    )


def _without_requests(
    table: Table, pair: PairConfidences | None, choosing: AnyArray, judging: AnyArray, choice: Choice
) -> str:
    """A sentence where the local model with its supervisor matches these thresholds without a request; else empty."""
    parts = [(table.take(rows), _part(pair, rows)) for rows in (choosing, judging)]
    if not all(rows.complete.any() and not (~rows.remote.asked).any() for rows, _ in parts):
        return ""
    rule = Rule(choice.local, choice.remote, choice.abstain)
    chosen_on, judged_on_rows = (calibration_rows(rows, seen) for rows, seen in parts)
    alone = without_requests(chosen_on, judged_on_rows, rule)
    return alone.sentence if alone.matches and alone.rule_request_rate > 0.0 else ""


def _choose(target: Target, rows: Table, pair: PairConfidences | None) -> Choice:
    if pair is None:
        return target.choose(rows)
    if not isinstance(target, LowestCost | WithinLimits):
        raise InputError(
            f"the target {target.name} knows nothing of supervisors that read both levels; use within_limits "
            f"(--max-risk, say) or lowest_cost"
        )
    return target.choose(rows, pair)


def _part(pair: PairConfidences | None, rows: AnyArray) -> PairConfidences | None:
    if pair is None:
        return None
    preferred = pair.local_preferred
    return PairConfidences(pair.confidences[rows], None if preferred is None else preferred[rows])


def judged_on(thresholds: Thresholds, rows: Table, target: Target, pair: PairConfidences | None = None) -> Thresholds:
    """The thresholds with what they achieve on rows that had no part in choosing them."""
    choice = Choice(thresholds.local, thresholds.remote, thresholds.abstain)
    achieved = _achieved(rows, choice, target, pair, held_out=True)
    return replace(thresholds, evidence={**thresholds.evidence, "n_held_out": len(rows)}, achieved=achieved)


def _achieved(
    table: Table, choice: Choice, target: Target, pair: PairConfidences | None, *, held_out: bool
) -> dict[str, object]:
    decided = bisupervised(table, choice.local, choice.remote, choice.abstain, pair=pair)
    figures = system_figures(decided)
    values: dict[str, object] = {"on": "held-out rows" if held_out else "the calibration rows themselves"}
    if (decided.requested & ~table.remote.asked).any():  # what the remote model would have said is not known
        return {**values, "request_rate": figures.request_rate.value}
    for name in ("request_rate", "coverage", "system_accuracy", "supervised_accuracy"):
        estimate = getattr(figures, name)
        if not math.isnan(estimate.value):
            values[name] = estimate.value
            values[f"{name}_interval"] = [estimate.low, estimate.high]
    if choice.abstain != -math.inf:
        values["early_abstention"] = figures.early_abstention.value
    if not math.isnan(figures.false_alarm_rate):
        values["false_alarm_rate"] = figures.false_alarm_rate
    if isinstance(target, LowestCost):
        values["expected_cost"] = target.expected(figures)
        alone = {"local_only": system_figures(local_only(table)), "remote_only": system_figures(remote_only(table))}
        values |= {f"expected_cost_{name}": target.expected(one) for name, one in alone.items()}
    if not math.isnan(figures.cost_per_input.value):
        values["cost_per_input"] = figures.cost_per_input.value
    return values


def rows_to_judge(table: Table, thresholds: Thresholds) -> tuple[Table, str]:
    """The rows that these thresholds may honestly be judged on, and a sentence that says which they are.

    If the table is the one that chose the thresholds, only the part held out then is left; without such a part,
    all rows, and the sentence says that the figures are optimistic.
    """
    evidence = thresholds.evidence
    if evidence.get("data_sha256") != data_hash(table):
        return table, ""
    try:
        split = split_rows(len(table), float(evidence.get("held_out", 0.0)), int(evidence.get("seed", 0)))
    except (TypeError, ValueError) as error:
        raise ThresholdError(f"the evidence of the thresholds has no usable held_out and seed: {error}") from error
    if not len(split.held_out):
        return table, (
            f"The thresholds were chosen on these same {len(table)} rows: the figures are optimistic. Evaluate on "
            f"other rows."
        )
    return table.take(split.held_out), (
        f"Judged on the {len(split.held_out)} rows held out of the {len(table)}; the other {len(split.calibration)} "
        f"chose the thresholds."
    )
