"""The paper's published predictions, and its tables computed from them.

Weiss & Tonella, "Adopting Two Supervisors for Efficient Use of Large-Scale Remote Deep Neural Networks", TOSEM 2023,
doi:10.1145/3617593. Four of its five case studies can be repeated: the predictions behind `Issues` are not published.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bisupervised.errors import TableError
from bisupervised.evaluation.auc_rac import AucRac, auc_rac, auc_rac_on_grid
from bisupervised.evaluation.request_accuracy import OperatingPoint
from bisupervised.evaluation.supervised import s_beta
from bisupervised.records import AnyArray, BoolArray, FloatArray, LevelName
from bisupervised.studies.paper_rules import (
    OURS,
    PAPER,
    Assessment,
    EvalPoint,
    PairedRows,
    PaperRules,
    PointSpec,
    assess_alone,
    assess_system,
    evaluation_points,
    system_latency,
)
from bisupervised.table import Table, join_tables

WHERE_TO_GET_IT = (
    "the replication package of the paper (doi:10.1145/3617593) is the GitHub repository "
    "testingautomated-usi/bisupervised: the predictions lie in generated/predictions_and_uncertainties, the table in "
    "generated/results/rq2_table.csv"
)
TARGETS = (0.01, 0.05, 0.1)  #: the false alarm rates the paper aims at
PAPER_COLUMNS = (
    *("case_s", "target_fpr", "1st_reject_rate", "remote_delta"),
    *("sys_delta", "sys_obj", "sys_s05", "sys_s1", "sys_s2"),
)
_SUPER_ACCURATE: tuple[PointSpec, ...] = ("remote-even", "best")
_CHOSEN_BEFOREHAND: tuple[PointSpec, ...] = (0.3, 0.5, 0.7)

# ---------------------------------------------------------------- loading


@dataclass(frozen=True, eq=False)
class RecordedStudy:
    """One case study of the paper: n inputs with what both models said about them."""

    name: str  #: as in the first column of `rq2_table.csv`
    table: Table
    objective: str  #: `accuracy` or `exact_match`; both are 0/1 per input
    points: Sequence[PointSpec]  #: the operating points at which the paper assesses it
    notes: Sequence[str] = ()  #: visible states of the data, such as unreadable replies
    latency_remark: str = ""  #: what to know when reading its latencies

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def correct(self) -> tuple[BoolArray, BoolArray]:
        """(local, remote), each (n,): whether the prediction is correct."""
        return self.table.correct(LevelName.LOCAL) == 1.0, self.table.correct(LevelName.REMOTE) == 1.0

    @cached_property
    def remote_failed(self) -> BoolArray:
        """(n,) whether the remote reply is none (unreadable)."""
        return np.array([error is not None for error in self.table.remote.errors], dtype=np.bool_)

    def rows(self, rules: PaperRules) -> PairedRows:
        """The arrays that everything is computed from."""
        remote = self.table.remote.confidences
        if rules.unreadable == "wrong":
            remote = np.where(self.remote_failed, 0.0, remote)
        return PairedRows(self.table.local.confidences, self.correct[0], remote, self.correct[1])

    @property
    def latency_s(self) -> tuple[FloatArray, FloatArray]:
        """(local, remote), each (n,) seconds of model and supervisor; the latter is left out where not recorded."""
        local, remote = self.table.local, self.table.remote
        return (
            local.latency_s + np.nan_to_num(local.supervisor_s),
            remote.latency_s + np.nan_to_num(remote.supervisor_s),
        )


def load_paper_study(directory: str | Path) -> list[RecordedStudy]:
    """The four published case studies, in the order of the paper's table.

    `directory` holds the authors' CSV files, or is a copy of their repository. Raises `TableError` that says which
    file is missing, and where to get it, or what is wrong with one.
    """
    folder = Path(directory)
    imdb, imagenet, squad = (_joined(folder, name) for name in ("imdb", "imagenet", "squadv2"))
    if "is_possible" not in squad.extra:
        raise TableError("the squadv2 files have no column is_possible")
    possible = squad.take(np.asarray(squad.extra["is_possible"], dtype=np.bool_))
    batched = "Remote model emulated locally. Both models use batched inference."
    unmeasured = "No supervisor times were recorded."
    return [
        RecordedStudy("imdb", imdb, "accuracy", _SUPER_ACCURATE, _notes(imdb)),
        RecordedStudy("ImageNet", imagenet, "accuracy", _CHOSEN_BEFOREHAND, _notes(imagenet), batched),
        RecordedStudy(
            "SQuADv2 (possible only)", possible, "exact_match", _SUPER_ACCURATE, _notes(possible), unmeasured
        ),
        RecordedStudy("SQuADv2 (all)", squad, "exact_match", _SUPER_ACCURATE, _notes(squad), unmeasured),
    ]


def _notes(table: Table) -> tuple[str, ...]:
    unreadable = sum(error is not None for error in table.remote.errors)
    if not unreadable:
        return ()
    return (
        f"{unreadable} of {len(table)} remote replies could not be read: the paper counts them as wrong answers, "
        f"we as failures, never accepted",
    )


def _joined(folder: Path, name: str) -> Table:
    local, remote = (_read_level(_find(folder, f"{name}_{level}.csv")) for level in LevelName)
    return Table.from_columns(join_tables(local, remote))


def _find(folder: Path, name: str) -> Path:
    for place in ("", "generated/predictions_and_uncertainties", "generated/results", "../results"):
        if (folder / place / name).is_file():
            return folder / place / name
    raise TableError(f"there is no {name} in {folder}; {WHERE_TO_GET_IT}")


#: The authors' column names, which differ from file to file, and the table's.
_NAMES = {
    **{"index": "id", "id": "id", "prediction": "prediction", "ground_truth": "label", "is_possible": "is_possible"},
    **{"sm_confidence": "confidence", "gpt3_confidence": "confidence", "exact_match": "correct"},
    **{"pred_time": "latency_s", "supervisor_time": "supervisor_s"},
}
_WHOLE = ("id", "prediction", "label")
_TRUTH = ("correct", "is_possible")


def _read_level(path: Path) -> dict[str, AnyArray]:
    """One of the authors' files under the table's column names; the data frame's unnamed index is left out."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        cells = list(zip(*lines, strict=True)) if header else []
    if not cells:
        raise TableError(f"{path} holds no rows")
    columns: dict[str, AnyArray] = {}
    for name, column in zip(header, cells, strict=True):
        if name in _NAMES:
            columns[_NAMES[name]] = _parsed(path, name, column)
    lacking = {"id", "confidence", "latency_s"} - set(columns)
    if not {"prediction", "label"} <= set(columns) and "correct" not in columns:
        lacking.add("prediction and ground_truth (or exact_match)")
    if lacking:
        raise TableError(f"{path} lacks {', '.join(sorted(lacking))}; its columns: {', '.join(header)}")
    return _with_failures(columns)


def _parsed(path: Path, name: str, column: Sequence[str]) -> AnyArray:
    try:
        if _NAMES[name] in _TRUTH:
            return np.array([{"True": True, "False": False}[cell] for cell in column])
        return np.array(column, dtype=np.int64 if _NAMES[name] in _WHOLE else np.float64)
    except (KeyError, ValueError) as error:
        raise TableError(f"{path}, column {name}: {error} is not what was expected") from error


def _with_failures(columns: dict[str, AnyArray]) -> dict[str, AnyArray]:
    """A prediction of -1 is the authors' mark of a reply that could not be read; here it is a failure."""
    if "prediction" not in columns or not (columns["prediction"] == -1).any():
        return columns
    failed = columns["prediction"] == -1
    predictions = columns["prediction"].astype(object)
    predictions[failed] = None
    errors = np.full(len(failed), None, dtype=object)
    errors[failed] = "unreadable: the reply named no class"
    return {**columns, "prediction": predictions, "error": errors}


# ---------------------------------------------------------------- tables 2 to 6: supervised assessment


@dataclass(frozen=True, slots=True)
class PaperRow:
    """A row of `rq2_table.csv`. Rates and objectives are in [0, 1]; NaN where the target is infeasible."""

    study: str
    target: float  #: false alarm rate aimed at
    point: str  #: `0.55 (remote-even)`: request rate and name; `0.00 (local_baseline)`, `1.00 (remote_baseline)`
    remote_delta: float | None  #: the 2nd level's acceptance rate; None for the single-model baselines
    sys_delta: float  #: coverage
    sys_obj: float  #: supervised accuracy, or exact match
    sys_s05: float
    sys_s1: float
    sys_s2: float

    @property
    def point_name(self) -> str:
        """The operating point without the rate that was found for it, equal under all rules."""
        _, _, name = self.point.partition(" ")
        return self.point if name == "(default)" else name.strip("()")

    @property
    def numbers(self) -> tuple[float | None, ...]:
        """The six numbers, in the order of the columns."""
        return self.remote_delta, self.sys_delta, self.sys_obj, self.sys_s05, self.sys_s1, self.sys_s2

    def cells(self) -> list[str]:
        """As written in the CSV file: full precision, empty where there is no value."""
        if math.isnan(self.sys_delta):
            return [self.study, repr(self.target), self.point, "infeasible", *[""] * 5]
        written = ["" if number is None else repr(float(number)) for number in self.numbers]
        return [self.study, repr(self.target), self.point, *written]


def paper_table(studies: Iterable[RecordedStudy], rules: PaperRules = PAPER) -> list[PaperRow]:
    """The rows of `rq2_table.csv` of the given studies, in its order."""
    return [row for study in studies for row in _study_rows(study, rules)]


def _study_rows(study: RecordedStudy, rules: PaperRules) -> list[PaperRow]:
    rows = study.rows(rules)
    columns = {"0.00 (local_baseline)": assess_alone(rows.local_confidence, rows.local_correct, TARGETS, rules)}
    for point in evaluation_points(rows, study.points, rules.eval_point_grid):
        label = f"{point.request_rate:.2f} ({point.name})"
        columns[label] = assess_system(rows, point.local_threshold, TARGETS, rules)
    columns["1.00 (remote_baseline)"] = assess_alone(rows.remote_confidence, rows.remote_correct, TARGETS, rules)
    return [
        _row(study.name, target, label, assessed[index])
        for index, target in enumerate(TARGETS)
        for label, assessed in columns.items()
    ]


def _row(study: str, target: float, point: str, assessed: Assessment | None) -> PaperRow:
    remote, coverage, objective = assessed or Assessment(math.nan, math.nan, math.nan)
    scores = (s_beta(objective, coverage, beta) for beta in (0.5, 1.0, 2.0))
    return PaperRow(study, target, point, remote, coverage, objective, *scores)


def load_published(directory: str | Path) -> list[PaperRow]:
    """`rq2_table.csv` as the authors published it, `Issues` included. Raises `TableError` when it is missing."""
    path = _find(Path(directory), "rq2_table.csv")
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        if tuple(next(lines, [])) != PAPER_COLUMNS:
            raise TableError(f"{path} does not have the columns {', '.join(PAPER_COLUMNS)}")
        return [_published_row(path, line) for line in lines]


def _published_row(path: Path, line: Sequence[str]) -> PaperRow:
    try:
        study, target, point, remote, *others = line
        if remote == "infeasible":
            return _row(study, float(target), point, None)
        delta, objective, s05, s1, s2 = map(float, others)
        return PaperRow(study, float(target), point, float(remote) if remote else None, delta, objective, s05, s1, s2)
    except ValueError as error:
        raise TableError(f"{path}: cannot read the row {','.join(line)!r} ({error})") from error


def with_published_only(rows: Sequence[PaperRow], published: Sequence[PaperRow]) -> list[PaperRow]:
    """Our rows, with the published rows of studies that we cannot compute, in the published order of studies."""
    computed = {row.study for row in rows}
    passed = [row for row in published if row.study not in computed]
    order = list(dict.fromkeys([row.study for row in published] + [row.study for row in rows]))
    return sorted([*rows, *passed], key=lambda row: order.index(row.study))


def write_paper_csv(path: str | Path, rows: Iterable[PaperRow]) -> None:
    """Write rows with the columns and row labels of `rq2_table.csv`."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(PAPER_COLUMNS)
        writer.writerows(row.cells() for row in rows)


# ---------------------------------------------------------------- the request-accuracy curves


@dataclass(frozen=True, slots=True)
class CurveRow:
    """A study's request-accuracy curve in figures. Shares are of all its inputs."""

    study: str
    objective: str
    n: int
    auc_rac: AucRac  #: exact, with its standard error
    auc_rac_100: float  #: on the grid of 100 steps that the published operating points come from
    auc_rac_1000: float  #: on the grid of 1,000 steps: the value of the paper
    best: OperatingPoint
    remote_even: OperatingPoint
    only_local: float  #: share where only the local prediction is correct
    only_remote: float
    both: float
    neither: float
    remote_failed: int  #: unreadable replies
    remote_readable: float  #: objective of the remote model over the replies that could be read

    @property
    def complementarity(self) -> float:
        """Share where exactly one model is correct."""
        return self.only_local + self.only_remote


def curve_table(studies: Iterable[RecordedStudy]) -> list[CurveRow]:
    """The figures of every curve, on both grids and exact."""
    return [_curve_row(study, study.rows(OURS)) for study in studies]


def _curve_row(study: RecordedStudy, rows: PairedRows) -> CurveRow:
    local, remote, n = rows.local_correct, rows.remote_correct, len(rows)
    failed = int(np.count_nonzero(study.remote_failed))

    def share(mask: BoolArray) -> float:
        return int(np.count_nonzero(mask)) / n

    return CurveRow(
        study=study.name,
        objective=study.objective,
        n=n,
        auc_rac=auc_rac(rows.local_confidence, local, remote, order=rows.order),
        auc_rac_100=auc_rac_on_grid(rows.on_grid(100)[1]),
        auc_rac_1000=auc_rac_on_grid(rows.on_grid(1000)[1]),
        best=rows.curve.best(),
        remote_even=rows.curve.remote_even(),
        only_local=share(local & ~remote),
        only_remote=share(remote & ~local),
        both=share(local & remote),
        neither=share(~(local | remote)),
        remote_failed=failed,
        remote_readable=int(np.count_nonzero(remote)) / (n - failed) if failed < n else math.nan,
    )


# ---------------------------------------------------------------- table 7: latency


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """A study's latencies, seconds per input."""

    study: str
    local_s: float
    remote_s: float
    break_even: float  #: request rate at which the system is as fast as remote-only: 1 - local / remote
    points: Sequence[tuple[EvalPoint, float]]  #: operating point, and the system's mean seconds there
    remark: str

    def change(self, system_s: float) -> float:
        """Relative change against remote-only: -0.3 is 30 % faster."""
        return system_s / self.remote_s - 1.0


def latency_table(studies: Iterable[RecordedStudy], rules: PaperRules = PAPER) -> list[LatencyRow]:
    """The latency table; its operating points are those of `rules.curve_grid`, as the authors' file has them."""
    return [_latency_row(study, rules) for study in studies]


def _latency_row(study: RecordedStudy, rules: PaperRules) -> LatencyRow:
    rows = study.rows(rules)
    local, remote = study.latency_s
    points = evaluation_points(rows, study.points, rules.curve_grid)
    local_s, remote_s = float(np.mean(local)), float(np.mean(remote))
    timed = [(point, system_latency(local, remote, rows, point, rules)) for point in points]
    return LatencyRow(study.name, local_s, remote_s, 1.0 - local_s / remote_s, timed, study.latency_remark)
