"""From a numbers-only table to the results of a study: chosen on one part of its rows, reported on the other.

Nothing here calls a model, reads an input, draws or prints; whoever has the table has the results.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bisupervised.decision import accept
from bisupervised.evaluation.deferral import deferral_of
from bisupervised.evaluation.request_accuracy import request_accuracy_curve
from bisupervised.evaluation.system import latency_of
from bisupervised.records import AnyArray, BoolArray, FloatArray
from bisupervised.report.numerals import percent
from bisupervised.studies.live.certified import certified_risk
from bisupervised.studies.live.claims import (
    GOAL,
    MARGIN,
    SAVING,
    Claim,
    Verdict,
    above,
    above_where_known,
    mean_estimate,
    mostly_known,
    share_estimate,
)
from bisupervised.studies.live.latency import latency_figures, saved_seconds
from bisupervised.studies.live.money import PriceTable, all_money, costs_of, saved_money
from bisupervised.studies.live.operating_points import (
    BY_BOUND,
    BY_ESTIMATE,
    ChosenPoint,
    Path,
    fewest_requests,
    most_accurate,
    path_of,
)
from bisupervised.studies.live.prices import Prices
from bisupervised.studies.live.published import published_rows
from bisupervised.studies.live.results import DrawnCurve, PaperFigures, StudyResults, SystemRun
from bisupervised.studies.live.splits import Parts, Split, parts_of
from bisupervised.studies.live.supervised import SupervisedFigures, points_of, supervised_figures
from bisupervised.studies.live.supervisors import SupervisorFigures, supervisor_table
from bisupervised.studies.live.systems import (
    CHOSEN,
    LEARNED,
    MAX_SOFTMAX,
    RECOMMENDED,
    REDUCED,
    TITLES,
    Fitted,
    System,
    fit_systems,
)
from bisupervised.studies.paper import PaperRow
from bisupervised.studies.paper_report import PUBLISHED_AUC_RAC, PUBLISHED_LATENCY
from bisupervised.table import Table

_GRID = 201


def analyse(
    table: Table,
    name: str,
    paper_names: Sequence[str] = (),
    objective: str = "accuracy",
    cluster: str | None = None,
    cross_fitted: bool = False,
    prices: PriceTable | Mapping[str, PriceTable] | None = None,
    notes: Sequence[str] = (),
    *,
    title: str = "",
    published: str | None = None,
) -> StudyResults:
    """The results of a study from its numbers-only table.

    `prices` is one price table or several by name; what is claimed of money is claimed at the first. `published` is a
    folder with `rq2_table.csv`, in place of the copy that comes with the package. Raises `TableError` where the table
    lacks its part or fold column, or has too few complete rows.
    """
    parts = parts_of(table, cross_fitted=cross_fitted, cluster=cluster)
    fitted = [fit_systems(split) for split in parts]
    runs = _runs(parts, fitted)
    first, second = (next(run for run in runs if run.chosen and run.purpose == one) for one in _PURPOSES)
    price_tables = _price_tables(prices)
    recommended = {level: [one.recommended[level] for one in fitted] for level in ("local", "remote")}
    rows = published_rows(paper_names, published)
    report = parts.report
    return StudyResults(
        name=name,
        title=title or name,
        objective=objective,
        n=len(table),
        n_report=len(report),
        n_clusters=parts.n_clusters,
        left_out=parts.left_out,
        parts=parts.counts,
        cross_fitted=cross_fitted,
        failures={level: _kinds(table.level(level).errors) for level in ("local", "remote")},
        truncated={level: _count(table, f"{level}_truncated") for level in ("local", "remote")},
        local_only=share_estimate(report.correct("local"), parts.clusters),
        remote_only=share_estimate(report.correct("remote"), parts.clusters),
        claims=_claims(parts, first, second, next(iter(price_tables.values()), None)),
        systems=[run.figures(parts) for run in runs],
        recommended=recommended,
        reasons=_reasons(fitted),
        supervisors=_supervisors(parts, fitted, recommended),
        supervised=_supervised(parts, recommended, rows),
        certified=certified_risk(parts),
        latency=latency_figures(report, first.deferred, parts.clusters),
        money=all_money(report, list(price_tables.items()) or [("", None)], first.deferred, parts.clusters),
        curves=_curves(parts, fitted),
        paper=_paper(paper_names, rows),
        notes=[*notes, *_notes(parts, fitted)],
    )


def _price_tables(prices: PriceTable | Mapping[str, PriceTable] | None) -> dict[str, PriceTable]:
    """By the name of the model whose prices they are; of our own table the large model's, then the small one's."""
    if prices is None:
        return {}
    if isinstance(prices, Prices):
        found: dict[str, PriceTable] = {prices.large.model: prices}
        found.setdefault(prices.small.model, replace(prices, large=prices.small))
        return found
    return dict(prices) if isinstance(prices, Mapping) else {str(getattr(prices, "model", "")): prices}


def _kinds(errors: AnyArray) -> dict[str, int]:
    """How many failures there are of each kind: an error is `kind: message`."""
    return dict(Counter(str(one).partition(":")[0] for one in errors if one is not None))


def _count(table: Table, name: str) -> int | None:
    if name not in table.extra:
        return None
    return int(np.nansum(np.asarray(table.extra[name], dtype=np.float64)))


# ---------------------------------------------------------------- the systems at their points

_PURPOSES = ("fewest_requests", "most_accurate")
_RULES = (BY_BOUND, BY_ESTIMATE)


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """A system's points, and what it does with the n reporting rows."""

    key: str
    purpose: str
    chosen: bool
    reads: list[str]
    points: list[ChosenPoint]
    deferred: BoolArray  #: (n,)
    kept_local: BoolArray  #: (n,) deferred, and answered by the local model
    correct: FloatArray  #: (n,)

    def figures(self, parts: Parts) -> SystemRun:
        report, clusters = parts.report, parts.clusters
        local, remote = latency_of(report.local), latency_of(report.remote)
        return SystemRun(
            key=self.key,
            title=TITLES.get(self.key, "in each fold the one chosen there"),
            purpose=self.purpose,
            chosen=self.chosen,
            reads=self.reads,
            points=self.points,
            request_rate=share_estimate(self.deferred.astype(np.float64), clusters),
            system_accuracy=share_estimate(self.correct, clusters),
            difference=mean_estimate(self.correct - report.correct("remote"), clusters),
            kept_local=float(self.kept_local.mean()),
            latency_s=_known_mean(local + np.where(self.deferred, remote, 0.0)),
        )


def _known_mean(values: FloatArray) -> float:
    return float(np.nanmean(values)) if mostly_known(values) else math.nan


def _runs(parts: Parts, fitted: Sequence[Fitted]) -> list[_Run]:
    """Every system at its points for both purposes, and for each purpose the one that the choosing rows prefer, which
    may be another one in each split."""
    keys = [key for key in TITLES if any(key in one.systems for one in fitted)]
    paths = [{key: _path(split, _system(one, key)) for key in keys} for split, one in zip(parts, fitted, strict=True)]
    runs = []
    for purpose, find in zip(_PURPOSES, (fewest_requests, most_accurate), strict=True):
        points = [{key: find(path) for key, path in split.items()} for split in paths]
        prefers = _prefers_fewest if purpose == "fewest_requests" else _prefers_accurate
        choices = [min(split.items(), key=lambda item: prefers(item[1]))[0] for split in points]
        runs += [_run(parts, fitted, [key] * len(points), purpose, points, choices) for key in keys]
        if len(set(choices)) > 1:
            runs.append(_run(parts, fitted, choices, purpose, points, choices))
    return runs


def _prefers_fewest(point: ChosenPoint) -> tuple[int, float]:
    """The surer rule, then the fewer requests."""
    rank = _RULES.index(point.rule) if point.rule in _RULES else len(_RULES)
    return rank, point.request_rate


def _prefers_accurate(point: ChosenPoint) -> tuple[float, float]:
    return -point.system_accuracy, point.request_rate


def _system(fitted: Fitted, key: str) -> System:
    """The system of that key; where a split has none, the next simpler one."""
    for one in (key, RECOMMENDED) if key == LEARNED else (key,):
        if one in fitted.systems:
            return fitted.systems[one]
    return fitted.systems[MAX_SOFTMAX]


def _path(split: Split, system: System) -> Path:
    choosing = split.choosing
    return path_of(
        system.choosing.confidence,
        choosing.correct("local"),
        system.choosing.answer(choosing),
        choosing.correct("remote"),
        split.choosing_clusters,
    )


def _run(
    parts: Parts,
    fitted: Sequence[Fitted],
    keys: Sequence[str],
    purpose: str,
    points: Sequence[Mapping[str, ChosenPoint]],
    choices: Sequence[str],
) -> _Run:
    n = len(parts.report)
    deferred, kept, correct = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_), np.full(n, math.nan)
    reads = []
    for split, one, key, found in zip(parts, fitted, keys, points, strict=True):
        system, point = _system(one, key), found[key]
        sent = ~accept(system.reporting.confidence, point.threshold)
        deferred[split.places] = sent
        kept[split.places] = sent & system.reporting.prefers_local
        answer, local = system.reporting.answer(split.reporting), split.reporting.correct("local")
        correct[split.places] = np.where(sent, answer, local)
        reads.append(system.reads)
    mixed = len(set(keys)) > 1
    return _Run(
        key=CHOSEN if mixed else keys[0],
        purpose=purpose,
        chosen=list(keys) == list(choices),
        reads=reads,
        points=[found[key] for found, key in zip(points, keys, strict=True)],
        deferred=deferred,
        kept_local=kept,
        correct=correct,
    )


# ---------------------------------------------------------------- claims


def _claims(parts: Parts, first: _Run, second: _Run, prices: PriceTable | None) -> list[Claim]:
    report, clusters = parts.report, parts.clusters
    remote = report.correct("remote")
    costs = costs_of(report, prices)

    def saved_requests(run: _Run) -> FloatArray:
        return 1.0 - run.deferred.astype(np.float64)

    def money(run: _Run, what: str) -> Verdict:
        why = f"money is not known: {costs.basis}"
        return above_where_known(what, saved_money(costs, run.deferred), 0.0, clusters, why)

    saved = above(f"at least {percent(SAVING)} fewer remote requests", saved_requests(first), SAVING, clusters)
    reached = "reached" if saved.estimate.value >= GOAL else "missed"
    cheaper = money(second, "at lower cost")
    if math.isnan(cheaper.estimate.value):
        cheaper = above("with fewer requests", saved_requests(second), 0.0, clusters)
    not_inferior = f"system accuracy at most {100 * MARGIN:g} point below remote-only"
    seconds = saved_seconds(report, first.deferred)
    return [
        Claim(
            "requests",
            f"At least {percent(SAVING)} fewer remote requests and less money, at a {not_inferior}",
            [
                saved,
                money(first, "less money, local compute included"),
                above(not_inferior, first.correct - remote, -MARGIN, clusters),
            ],
            f"our goal of {percent(GOAL)} fewer is {reached} (a point estimate)",
        ),
        Claim(
            "accuracy",
            "Higher system accuracy than remote-only at reduced cost",
            [above("higher system accuracy", second.correct - remote, 0.0, clusters), cheaper],
        ),
        Claim(
            "latency",
            "Lower mean latency than remote-only",
            [above_where_known(_FASTER, seconds, 0.0, clusters, "latencies were not measured")],
        ),
    ]


_FASTER = "lower mean latency than remote-only"


# ---------------------------------------------------------------- tables and curves


def _supervisors(
    parts: Parts, fitted: Sequence[Fitted], recommended: Mapping[str, Sequence[str]]
) -> list[SupervisorFigures]:
    deferred = deferral_of(parts.report, 0.5, None).rows
    found = []
    for level in ("local", "remote"):
        names = set.intersection(*(set(one.learned_scores[level]) for one in fitted))
        learned = {}
        for name in sorted(names):
            scores = np.full(len(parts.report), math.nan)
            for split, one in zip(parts, fitted, strict=True):
                scores[split.places] = one.learned_scores[level][name]
            learned[name] = scores
        chosen = max(recommended[level], key=recommended[level].count)
        found += supervisor_table(parts.report, level, learned, chosen, deferred, parts.clusters)
    return found


def _supervised(
    parts: Parts, recommended: Mapping[str, Sequence[str]], rows: Sequence[PaperRow]
) -> list[SupervisedFigures]:
    plain = [{"local": "confidence", "remote": "confidence"}] * len(parts.splits)
    ours = [dict(zip(recommended, names, strict=True)) for names in zip(*recommended.values(), strict=True)]
    specs = points_of(rows)
    found = supervised_figures(parts, "recorded", plain, specs, rows)
    return found if ours == plain else [*found, *supervised_figures(parts, "recommended", ours, specs, rows)]


def _curves(parts: Parts, fitted: Sequence[Fitted]) -> dict[str, DrawnCurve]:
    """Of a cross-fitted set the mean of the folds' curves: what two fits give has no common scale."""
    curves = {}
    grid = np.linspace(0.0, 1.0, _GRID)
    for key in TITLES:
        if not any(key in one.systems for one in fitted):
            continue
        total = np.zeros(_GRID)
        for split, one in zip(parts, fitted, strict=True):
            seen = _system(one, key).reporting
            curve = request_accuracy_curve(
                seen.confidence, split.reporting.correct("local"), seen.answer(split.reporting)
            )
            total += len(split.places) / len(parts.report) * curve.at(grid)
        curves[key] = DrawnCurve(grid, total)
    return curves


def _paper(names: Sequence[str], rows: Sequence[PaperRow]) -> PaperFigures:
    study = rows[0].study if rows else (names[0] if names else None)
    rates = {row.point_name: float(row.point.split()[0]) for row in rows}
    published = PUBLISHED_LATENCY.get(study or "")
    change = None if published is None or not published[3] else published[3][0][2] / 100.0
    return PaperFigures(
        study, PUBLISHED_AUC_RAC.get(study or ""), rates.get("remote-even"), rates.get("best"), change
    )


def _reasons(fitted: Sequence[Fitted]) -> list[str]:
    found = []
    for place, one in enumerate(fitted):
        where = f"without fold {place}, " if len(fitted) > 1 else ""
        found += [
            f"{where}{level}: {figures.recommendation.name}. {figures.recommendation.reason}"
            for level, figures in one.comparison.levels.items()
        ]
    return found


def _notes(parts: Parts, fitted: Sequence[Fitted]) -> list[str]:
    notes = list(dict.fromkeys(note for one in fitted for note in one.notes))
    if parts.left_out:
        notes.append(f"{parts.left_out} rows are left out: not both models answered, or not both answers were graded")
    if parts.cross_fitted:
        notes.append(
            "cross-fitted: what is chosen on all folds but one is judged on that one, in turn: every row reports; "
            "the folds share rows, and the intervals take them as if they did not"
        )
    if parts.clusters is not None:
        notes.append(
            f"{parts.n_clusters} clusters: intervals and verdicts count the rows of a cluster together; the "
            f"recommendation of supervisors and the certified risk take rows as independent"
        )
    if any(REDUCED in one.systems for one in fitted):
        notes.append("reduced domain: the local model knows only the most frequent classes and defers all others")
    return notes
