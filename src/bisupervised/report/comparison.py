"""A comparison of supervisors in words and as JSON: its tables, what to do, every figure under its name."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import Any

from bisupervised.evaluation.candidates import Source
from bisupervised.evaluation.compared import CandidateFigures, Comparison, Criterion, LevelComparison
from bisupervised.evaluation.comparison_cautions import cautions_of
from bisupervised.evaluation.influence import Difference
from bisupervised.evaluation.intervals import Estimate
from bisupervised.learned.supervisors import FIRST, SECOND
from bisupervised.records import LevelName
from bisupervised.report.figures import json_safe
from bisupervised.report.numerals import NOT_KNOWN_TEXT, Cell, cell, count, interval, percent, share
from bisupervised.report.tables import LEVEL_NAMES

#: The rows that chose are the rows that judge, and of many the best one looks better than it is.
CHOSEN_HERE = (
    "The rows that choose a supervisor also judge it here, so it looks a little better than it is: calibrate and "
    "evaluate on other rows."
)


def level_title(level: LevelComparison) -> str:
    """`local, 1st level: 25,000 labelled inputs, .794 right; by gain over random`."""
    of = "" if level.n_criterion == level.n else f" ({count(level.n_criterion)} inputs)"
    return (
        f"{LEVEL_NAMES[level.level]}: {count(level.n)} labelled inputs, accuracy {share(level.accuracy)}; "
        f"compared by {level.criterion}{of}"
    )


def basis(comparison: Comparison) -> str:
    """What the comparison is of."""
    text = f"{count(comparison.n)} rows; intervals are 95 %; p-values are made good for the number of supervisors."
    if LevelName.REMOTE in comparison.levels:
        text += (
            f" Deferred inputs: {comparison.deferred_by}, which are {percent(comparison.request_rate)} of the rows."
        )
    return text


def gain(value: float) -> str:
    """A gain or a difference, which is small: four decimals."""
    return share(value, 4, signed=True)


def comparison_table(level: LevelComparison) -> tuple[list[str], list[tuple[CandidateFigures, list[Cell]]]]:
    """The headings, and the cells of each candidate, best first."""
    by_gain = level.criterion is Criterion.GAIN
    headings = ["supervisor", "cost", f"versus {level.baseline}", "p", "AUROC", "e-AURC", "remarks"]
    headings[2:2] = {
        Criterion.GAIN: ["AUC-RAC", "gain over random"],
        Criterion.AUROC_DEFERRED: ["AUROC on deferred"],
        Criterion.AUROC: [],
    }[level.criterion]
    rows = []
    for one in level.candidates:
        criterion = [cell(one.auc_rac), cell(one.gain, gain)] if by_gain else [cell(one.auroc_deferred)]
        cells = [
            Cell(one.name),
            Cell(NOT_KNOWN_TEXT if one.cost_class is None else one.cost_class.value),
            *(criterion if level.criterion is not Criterion.AUROC else []),
            _versus(level, one),
            Cell(p_value_text(level, one)),
            cell(one.auroc),
            Cell(share(one.e_aurc)),
            Cell(", ".join(remarks_on(level, one))),
        ]
        rows.append((one, cells))
    return headings, rows


def _versus(level: LevelComparison, one: CandidateFigures) -> Cell:
    if one.name == level.baseline:
        return Cell("–")
    return Cell(gain(one.versus.value), interval(one.versus.low, one.versus.high, gain))


def p_value_text(level: LevelComparison, one: CandidateFigures) -> str:
    """The adjusted p-value of a candidate's difference from the baseline."""
    if one.name == level.baseline:
        return "–"
    if math.isnan(one.versus.p_value):
        return NOT_KNOWN_TEXT
    return "<.001" if one.p_adjusted < 0.001 else share(one.p_adjusted)


def remarks_on(level: LevelComparison, one: CandidateFigures) -> list[str]:
    """A candidate's part in the comparison, and its faults, in a word each."""
    parts = {"use this": level.recommended.name == one.name, "baseline": level.baseline == one.name}
    faults = cautions_of(one, gain_is_known=level.criterion is Criterion.GAIN)
    return [*(part for part, is_it in parts.items() if is_it), *(fault.value for fault in faults)]


def level_notes(level: LevelComparison) -> list[str]:
    """What the table leaves out: candidates of one order, and those that could not be scored."""
    same = [f"{', '.join(one.also)} as {one.name}" for one in level.candidates if one.also]
    notes = [f"{level.level}: the same order, and so the same figures: {'; '.join(same)}."] if same else []
    missing = [
        f"{one.name} {count(one.missing)} of {count(one.n)}" for one in level.candidates if 0 < one.missing < one.n
    ]
    if missing:
        notes.append(f"{level.level}: without a confidence, and ranked as never trusted: {', '.join(missing)}.")
    return [*notes, *(f"{level.level}: {name} was left out: {why}" for name, why in level.left_out.items())]


def warnings_in(comparison: Comparison) -> list[str]:
    """The warnings of both levels, each naming its level."""
    return [f"{name}: {warning}" for name, level in comparison.levels.items() for warning in level.warnings]


def notes_in(comparison: Comparison) -> list[str]:
    """The notes of both levels and of the whole."""
    notes = [note for level in comparison.levels.values() for note in level_notes(level)]
    return [*notes, *comparison.notes, CHOSEN_HERE]


# ---------------------------------------------------------------- what to do


def recommendation_text(level: LevelComparison) -> str:
    """`local, 1st level: use gen. Better than …`"""
    verb = "use" if level.recommendation.name != level.baseline else "keep"
    want = "" if level.recommendation.useful else ", for want of a better one"
    return f"{LEVEL_NAMES[level.level]}: {verb} {level.recommendation.name}{want}. {level.recommendation.reason}"


def setting_text(level: LevelComparison) -> str:
    """What to write where, so that the recommended supervisor is used."""
    one = level.recommended
    if one.source is Source.RECORDED:
        return "it is the confidence that the rows hold: nothing is to be changed"
    if one.source is Source.QUANTIFIER:
        return f'quantifier = "{one.name}" under [cascade.{level.level}] in cascade.toml'
    if one.source is Source.COLUMN:
        name = one.name.removeprefix("score_")
        return (
            f"it is your own score: in a running system, a quantifier of yours that gives it; for recorded rows, "
            f"the column {level.level}_score_{name} as {level.level}_confidence"
        )
    if one.source is Source.FITTED:
        return (
            f"it is fitted: bisupervised fit-quantifier … --level {level.level} --kind {one.name} --out FILE.npz, "
            f"then calibrate with --{level.level}-quantifier FILE.npz on rows that it was not fitted on"
        )
    if one.name in (*FIRST, *SECOND):
        return f"it is learned, on a part of the rows: bisupervised calibrate … --learn {one.name}"
    return "it is learned: fit it on rows that neither calibrate nor judge it, and save it for your system"


def next_command(comparison: Comparison, source: Sequence[str]) -> str:
    """The command that calibrates the recommended supervisors on recorded rows; `source` are its words that name
    them. Empty where one must be fitted first.

    With a learned 2nd level the risk may be that of the remote model alone, which is feasible as a rule.
    """
    if any("never asked" in note for note in comparison.notes):  # `calibrate` would refuse such rows
        return ""
    words, learned = ["bisupervised", "calibrate", *source], []
    for name, level in comparison.levels.items():
        one = level.recommended
        if one.source is Source.QUANTIFIER:
            words += [f"--{name}-quantifier", one.name]
        elif one.source is Source.COLUMN:
            words += ["--columns", f"{name}_confidence={name}_{one.name}"]
        elif one.source is Source.LEARNED and one.name in (*FIRST, *SECOND):
            learned.append(one.name)
        elif one.source is not Source.RECORDED:
            return ""
    if learned:
        words += ["--learn", ",".join(learned)]
    remote = comparison.levels.get(LevelName.REMOTE)
    if remote is not None and remote.recommended.source is Source.LEARNED:
        words += ["--max-risk", f"{min(math.ceil((1.0 - remote.accuracy) * 100.0 + 1.0) / 100.0, 1.0):g}"]
    return shlex.join(words)


def what_to_do(comparison: Comparison, source: Sequence[str]) -> list[str]:
    """The last lines: for each level what to use, why and how; then the command to go on with."""
    lines = []
    for level in comparison.levels.values():
        lines += [recommendation_text(level), f"  {setting_text(level)}"]
    command = next_command(comparison, source)
    return [*lines, f"then: {command}"] if command else lines


# ---------------------------------------------------------------- JSON


def comparison_to_dict(comparison: Comparison, source: Sequence[str] = ()) -> dict[str, Any]:
    """Every figure, ready for `json.dumps(..., allow_nan=False)`; what is not known is None."""
    return {
        "n": comparison.n,
        "request_rate": comparison.request_rate,
        "deferred_by": comparison.deferred_by,
        "alpha": comparison.alpha,
        "folds": comparison.folds,
        "seed": comparison.seed,
        "levels": {name.value: _level(level) for name, level in comparison.levels.items()},
        "notes": list(comparison.notes),
        "what_to_do": what_to_do(comparison, source),
    }


def _level(level: LevelComparison) -> dict[str, Any]:
    found = level.recommendation
    return {
        "n": level.n,
        "accuracy": level.accuracy,
        "criterion": level.criterion.value,
        "n_criterion": level.n_criterion,
        "n_minor": level.n_minor,
        "baseline": level.baseline,
        "recommended": found.name,
        "setting": setting_text(level),
        "reason": found.reason,
        "better_than_chance": found.useful,
        "challenger": found.challenger,
        "rows_needed": found.rows_needed,
        "candidates": [_candidate(level, one) for one in level.candidates],
        "left_out": dict(level.left_out),
        "warnings": list(level.warnings),
    }


def _candidate(level: LevelComparison, one: CandidateFigures) -> dict[str, Any]:
    faults = cautions_of(one, gain_is_known=level.criterion is Criterion.GAIN)
    return {
        "name": one.name,
        "source": one.source.value,
        "cost_class": None if one.cost_class is None else one.cost_class.value,
        "same_order": list(one.also),
        "n": one.n,
        "missing": one.missing,
        "distinct": one.distinct,
        "share_highest": json_safe(one.share_highest),
        "share_lowest": json_safe(one.share_lowest),
        "criterion": _estimate(one.criterion),
        "versus_baseline": {**_difference(one.versus), "p_adjusted": json_safe(one.p_adjusted)},
        "auroc": _estimate(one.auroc),
        "auroc_versus_baseline": _difference(one.auroc_versus),
        "auroc_deferred": _estimate(one.auroc_deferred),
        "auc_rac": _estimate(one.auc_rac),
        "auc_rac_versus_baseline": _difference(one.auc_rac_versus),
        "gain_over_random": _estimate(one.gain),
        "aurc": json_safe(one.aurc),
        "e_aurc": json_safe(one.e_aurc),
        "cautions": [fault.value for fault in faults],
    }


def _estimate(one: Estimate) -> dict[str, Any]:
    return {name: json_safe(value) for name, value in one._asdict().items()}


def _difference(one: Difference) -> dict[str, Any]:
    return {name: json_safe(value) for name, value in one._asdict().items()}
