"""Fewer remote requests for the same trust: joint thresholds against the paper's rule, held out.

    python benchmarks/trust.py ../shared/data/paper

Twenty seeded splits: one half of the rows chooses the thresholds, the other half is reported, and the mean over the
splits is shown. The paper's rule takes the local threshold at a request rate, then the remote one at a false alarm
rate of 0.1. Joint tuning may move all three thresholds: the fewest requests with at least the coverage and the
supervised accuracy that the rule has on the choosing half. `better by` is joint - rule on the reported half, with the
standard error over the splits. Beside both: the local model with its supervisor at the rule's coverage, which asks
nobody.

`scores_of` says where the columns come from: the published confidences, or learned supervisors that are fitted on the
choosing rows alone and cross-fitted there (`trust_learned.py`, which also says what settings were chosen on), from
the published columns, or with columns of the user's own (`trust_own.py`). What is chosen on one half falls short on
the other about as often as not, so joint tuning on learned columns asks for a little more than the rule has: MARGINS,
in 1 / sqrt(choosing rows), the least that was enough on splits of other seeds (`--choose-margins` finds them again;
`trust_margins.py`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from bisupervised.calibration.joint import choose_jointly
from bisupervised.calibration.limits import REQUESTS, Limits
from bisupervised.calibration.rule import CalibrationRows, Rule, figures_of
from bisupervised.calibration.without_requests import AS_GOOD, WithoutRequests, without_requests
from bisupervised.decision import accept
from bisupervised.errors import InfeasibleTarget
from bisupervised.evaluation.supervised import false_alarm_threshold
from bisupervised.records import FloatArray, IntArray
from bisupervised.studies.paper import RecordedStudy, load_paper_study
from trust_learned import LATENCY, TUNING, Fits, Learned, learn, show_goals, with_relative_latency
from trust_margins import least_margins
from trust_own import QUESTION, WORDS, MissingTextsError, Reviews, Worded, with_question, with_reviews

FALSE_ALARMS = 0.1
HEADER = """\
         the paper's rule        joint thresholds              better by                           local-only at the
  rate   asked  cover  right     asked  cover  right  early    coverage          accuracy          rule's coverage"""
Halves: TypeAlias = tuple[CalibrationRows, CalibrationRows]


def as_recorded(study: RecordedStudy, choosing: IntArray, reporting: IntArray) -> Halves:
    """The published confidences."""
    rows = CalibrationRows.of(
        study.table.local.confidences, study.correct[0], study.table.remote.confidences, study.correct[1]
    )
    return rows.take(choosing), rows.take(reporting)


Scores: TypeAlias = Callable[[IntArray, IntArray], Halves | Learned]
RECORDED, LEARNED, TIMED = "scores as recorded", "learned", "learned, with the remote latency"
OWN = "learned, with columns of the user's own"


def scores_of(study: RecordedStudy, data: Path) -> dict[str, Scores]:
    """name -> (choosing rows, reporting rows) -> both halves with the columns to choose thresholds on.

    Why the latency is not read elsewhere stands in `trust_learned`; what is the user's own, in `trust_own`.
    """
    found: dict[str, Scores] = {
        RECORDED: partial(as_recorded, study),
        LEARNED: partial(learn, study.table, fits=Fits.reading()),
    }
    if study.name.startswith("SQuAD"):
        found[TIMED] = partial(learn, with_relative_latency(study), fits=Fits.reading(late=(LATENCY,)))
    try:
        if study.name == "imdb":
            worded = partial(partial, Worded.fit, Reviews.of(study, data))
            fits = Fits(*map(worded, Fits.reading(early=(WORDS,))))
            found[OWN] = partial(learn, with_reviews(study), fits=fits)
        elif study.name.startswith("SQuAD"):
            found[OWN] = partial(learn, with_question(study, data), fits=Fits.reading(early=QUESTION))
    except MissingTextsError as missing:
        print(f"{study.name}, {OWN}: skipped, {missing}")
    return found


#: (study, scores) -> for each point, by how much more coverage and supervised accuracy is asked for
MARGINS: dict[tuple[str, str], list[tuple[float, float]]] = {
    ("imdb", LEARNED): [(0.4, 0.1), (0.0, 0.1), (0.0, 0.0)],
    ("imdb", OWN): [(0.0, 0.0), (0.0, 0.0), (0.0, 0.0)],
    ("ImageNet", LEARNED): [(0.4, 0.0), (0.0, 0.0), (0.0, 0.1)],
    ("SQuADv2 (possible only)", LEARNED): [(0.0, 0.1), (0.0, 0.05), (0.05, 0.1)],
    ("SQuADv2 (possible only)", TIMED): [(0.0, 0.15), (0.0, 0.15), (0.0, 0.1)],
    ("SQuADv2 (possible only)", OWN): [(0.0, 0.05), (0.05, 0.05), (0.0, 0.05)],
}
#: Splits that choose margins: at least so many, and more of small studies, where a split tells less.
TUNING_SPLITS, TUNING_ROWS = 10, 300_000


class Wanted(NamedTuple):
    """A request rate of the paper's rule, and the requests joint tuning is to need; None: no goal was set."""

    rate: float
    requests: float | None


POINTS = {
    "imdb": (Wanted(0.30, 0.22), Wanted(0.55, None), Wanted(0.68, None)),
    "ImageNet": (Wanted(0.30, 0.25), Wanted(0.50, None), Wanted(0.70, None)),
    "SQuADv2 (possible only)": (Wanted(0.30, 0.16), Wanted(0.33, None), Wanted(0.58, None)),
    "SQuADv2 (all)": (Wanted(0.30, None), Wanted(0.51, None), Wanted(0.72, None)),
}


def papers_rule(rows: CalibrationRows, request_rate: float) -> Rule:
    """The paper's two steps, each by the acceptance rule, neither beyond what it aims at."""
    confidence = rows.local_confidence
    local = float(np.sort(confidence)[min(int(request_rate * len(rows)), len(rows) - 1)])
    deferred = ~accept(confidence, local)
    right = np.where(deferred, rows.remote_loss, rows.local_loss) == 0.0
    remote = false_alarm_threshold(
        rows.remote_confidence[deferred],
        rows.remote_loss[deferred] == 0.0,
        FALSE_ALARMS,
        correct_in_system=float(right.sum()),
    )
    return Rule(local=local, remote=remote)


@dataclass(frozen=True)
class Compared:
    """One split: (requests, coverage, supervised accuracy) on the reported half."""

    rule: tuple[float, float, float]
    joint: tuple[float, float, float]
    early: float  #: share abstained on early by the joint rule
    alone: WithoutRequests


def reported(rows: CalibrationRows, rule: Rule) -> tuple[float, float, float]:
    figures = figures_of(rows, rule)
    return figures.request_rate, figures.coverage, figures.supervised_accuracy


def compare(halves: Halves, columns: Halves, request_rate: float, margins: tuple[float, float]) -> Compared:
    """The paper's rule on the recorded scores, joint tuning on the columns given."""
    choosing, reporting = halves
    rule = papers_rule(choosing, request_rate)
    aim, unit = figures_of(choosing, rule), 1.0 / np.sqrt(len(choosing))
    limits = Limits.least(
        coverage=aim.coverage + margins[0] * unit, supervised_accuracy=aim.supervised_accuracy + margins[1] * unit
    )
    judged, joint = columns[1], rule
    try:
        joint = choose_jointly(columns[0], REQUESTS, limits).rule
    except InfeasibleTarget:  # no thresholds do as well on these columns: the rule stays, on its own
        judged = reporting
    figures = figures_of(judged, joint)
    return Compared(
        rule=reported(reporting, rule),
        joint=reported(judged, joint),
        early=figures.early / figures.n,
        alone=without_requests(choosing, reporting, rule),
    )


def splits_of(study: RecordedStudy, splits: int, first: int = 0) -> list[tuple[IntArray, IntArray]]:
    orders = (np.random.default_rng(seed).permutation(len(study)) for seed in range(first, first + splits))
    return [(order[: len(study) // 2], order[len(study) // 2 :]) for order in orders]


def columns_of(found: Halves | Learned) -> Halves:
    return found.halves if isinstance(found, Learned) else found


def show(wanted: Wanted, recorded: list[Halves], columns: list[Halves], margins: tuple[float, float]) -> bool:
    """One line of the table; whether the goal, if there is one, is met."""
    found = [compare(*halves, wanted.rate, margins) for halves in zip(recorded, columns, strict=True)]
    rule, joint = np.array([one.rule for one in found]), np.array([one.joint for one in found])
    better = joint - rule
    error = better.std(axis=0, ddof=1) / np.sqrt(len(found))
    requests, met = float(joint[:, 0].mean()), True
    goal = ""
    if wanted.requests is not None:
        few, short = requests <= wanted.requests + 5e-4, better[:, 1:].mean(axis=0)
        met = few and bool((short >= 0.0).all())
        nearly = few and bool((short >= -2.0 * error[1:]).all())
        verdict = "met" if met else "fewer, coverage or accuracy short within 2 errors" if nearly else "MISSED"
        goal = f"wanted {wanted.requests:.2f}: {verdict}"
    print(
        f"  {wanted.rate:.2f}   {_three(rule)}   {_three(joint)}  {np.mean([one.early for one in found]):.3f}   "
        f"{better[:, 1].mean():+.4f} ± {error[1]:.4f}   {better[:, 2].mean():+.4f} ± {error[2]:.4f}   "
        f"{_alone(found):34s}   {goal}",
        flush=True,
    )
    return met


def _three(values: FloatArray) -> str:
    return "  ".join(f"{value:.3f}" for value in values.mean(axis=0))


def _alone(found: list[Compared]) -> str:
    """Local-only over all splits: each alone is too noisy to say whether it matches."""
    accuracy, coverage, rule_accuracy, rule_coverage = np.mean(
        [
            (
                one.alone.supervised_accuracy,
                one.alone.coverage,
                one.alone.rule_supervised_accuracy,
                one.alone.rule_coverage,
            )
            for one in found
        ],
        axis=0,
    )
    matches = accuracy >= rule_accuracy - AS_GOOD and coverage >= rule_coverage - AS_GOOD
    return f"{accuracy:.3f} at {coverage:.3f}{', MATCHES the rule' if matches else ''}"


def choose_margins(study: RecordedStudy, data: Path) -> None:
    """Print the entries of MARGINS, from splits that are not reported; a study without a goal has none."""
    if all(wanted.requests is None for wanted in POINTS[study.name]):
        return
    splits = splits_of(study, max(TUNING_SPLITS, TUNING_ROWS // len(study)), TUNING)
    recorded = [as_recorded(study, *split) for split in splits]
    for name, scores in scores_of(study, data).items():
        if name != RECORDED:
            columns = [columns_of(scores(*split)) for split in splits]
            found = []
            for wanted in POINTS[study.name]:
                rules = [papers_rule(choosing, wanted.rate) for choosing, _ in recorded]
                found.append(least_margins(rules, recorded, columns))
            print(f"    ({study.name!r}, {name!r}): {found},", flush=True)


def main() -> int:
    """The table; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", default="../shared/data/paper", help="the authors' CSV files")
    parser.add_argument("--study", help="this one alone, as in --study imdb")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--margin", type=float, default=0.0, help="ask the recorded scores for so much more")
    parser.add_argument("--choose-margins", action="store_true", help="print MARGINS, from splits of other seeds")
    options = parser.parse_args()
    good = True
    data = Path(options.directory).parent
    for study in load_paper_study(options.directory):
        if options.study not in (None, study.name):
            continue
        if options.choose_margins:
            choose_margins(study, data)
            continue
        splits = splits_of(study, options.splits)
        recorded = [as_recorded(study, *split) for split in splits]
        for scores, halves in scores_of(study, data).items():
            found = [halves(*split) for split in splits]
            columns = [columns_of(one) for one in found]
            margins = MARGINS.get((study.name, scores), [(options.margin, options.margin)] * len(POINTS[study.name]))
            print(f"\n{study.name}, {scores}: {options.splits} splits, false alarm rate {FALSE_ALARMS}")
            print(HEADER)
            for wanted, more in zip(POINTS[study.name], margins, strict=True):
                good &= show(wanted, recorded, columns, more)
            learned = [one for one in found if isinstance(one, Learned)]
            if learned:
                good &= show_goals(study.name, scores, learned)
        print(f"  {without_requests(*recorded[0], papers_rule(recorded[0][0], 0.3)).sentence}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
