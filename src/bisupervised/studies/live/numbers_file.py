"""The numbers of a study and what must be known to read them, in one Parquet file.

What is kept: what `scoring.scored` makes, confidences and scores in 32-bit floats. A score with more than `EXACT`
different values is kept by its order, which is exact, ties included; its values are those of a curve through `KNOTS`
of them. Curves, AUROC and what a threshold accepts depend on the order alone, and a replay gives every digit of them.
Scores of one order share it. Seconds and tokens have four significant digits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from bisupervised.errors import MissingExtra, TableError
from bisupervised.records import AnyArray, FloatArray, LevelName
from bisupervised.studies.live.study import LiveStudy
from bisupervised.table import Table

#: Up to so many different values are kept as they are.
EXACT: Final = 4_096
#: Of the curve from the order of a score to its values.
KNOTS: Final = 257
_HEAD: Final = b"bisupervised study"
_FORMAT: Final = 1
_DIGITS: Final = 4
#: Codes of a score without a value.
_NONE: Final = -1


@dataclass(frozen=True, slots=True)
class About:
    """What a study is, as far as its analysis and its report need it."""

    name: str
    title: str
    paper_names: tuple[str, ...]  #: its rows of `rq2_table.csv`, the closest first
    objective: str
    cluster: str | None = None  #: the column whose equal values are not independent
    cross_fitted: bool = False
    notes: tuple[str, ...] = ()
    #: (what, origin, licence, how to get it) of every file that the study needs
    sources: tuple[tuple[str, str, str, str], ...] = ()

    @classmethod
    def of(cls, study: LiveStudy, notes: Sequence[str] = ()) -> About:
        """That of a study, and further notes."""
        return cls(
            study.name,
            study.title,
            tuple(study.paper_names),
            study.objective,
            study.cluster,
            study.cross_fitted,
            (*study.notes, *notes),
            tuple((one.what, one.origin, one.licence, one.get) for one in study.sources),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """A study's numbers, and what they are of."""

    about: About
    table: Table


def write_numbers_file(numbers: Numbers, path: Path) -> None:
    """Write `<name>.parquet`, whole or not at all. Raises `MissingExtra` without pyarrow."""
    pyarrow, parquet = _pyarrow()
    curves: dict[str, dict[str, Any]] = {}
    columns: dict[str, Any] = {}
    orders: dict[bytes, str] = {}
    for name, column in numbers.table.to_columns().items():
        if column.dtype.kind != "f":
            columns[name] = pyarrow.array(column.tolist() if column.dtype.kind == "O" else column)
            continue
        values = column.astype(np.float32)
        curve = _curve(values) if "_score_" in name else None
        if curve is None:
            columns[name] = pyarrow.array(values, from_pandas=True)
            continue
        codes, distinct, knots = curve
        # Of two classes, many a supervisor is another in another unit: one order, kept once.
        order = orders.setdefault(codes.tobytes(), name)
        curves[name] = {"order": order, "distinct": distinct, "knots": knots.tolist()}
        if order == name:
            columns[name] = pyarrow.array(codes)
    head = {"format": _FORMAT, "about": asdict(numbers.about), "curves": curves}
    table = pyarrow.table(columns).replace_schema_metadata({_HEAD: json.dumps(head).encode()})
    few = [name for name, column in columns.items() if name not in curves and len(column.unique()) <= EXACT]
    split = [name for name, column in columns.items() if name not in few and str(column.type) in ("float", "int32")]
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.part")
    parquet.write_table(
        table,
        draft,
        compression="zstd",
        compression_level=19,
        use_dictionary=few,
        use_byte_stream_split=split,
    )
    draft.replace(path)


def read_numbers_file(path: Path) -> Numbers:
    """What `write_numbers_file` wrote. Raises `TableError` for another file."""
    _, parquet = _pyarrow()
    try:
        read = parquet.read_table(path)
        head = json.loads((read.schema.metadata or {})[_HEAD])
        if head["format"] != _FORMAT:
            raise TableError(f"{path} is of the format {head['format']}, and this version reads {_FORMAT}")
        about = dict(head["about"])
        about |= {key: tuple(about[key]) for key in ("paper_names", "notes")}
        about["sources"] = tuple(tuple(one) for one in about["sources"])
        columns: dict[str, AnyArray] = {
            name: read.column(name).to_numpy(zero_copy_only=False) for name in read.column_names
        }
        codes = {curve["order"]: columns[curve["order"]] for curve in head["curves"].values()}
        for name, curve in head["curves"].items():
            columns[name] = _values(codes[curve["order"]], curve["distinct"], np.array(curve["knots"]))
        for name, column in columns.items():
            if column.dtype == np.float32:
                columns[name] = column.astype(np.float64)
        return Numbers(About(**about), Table.from_columns(columns))
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(
            f"{path} holds no numbers of a study ({type(error).__name__}: {error}); "
            f"`bisupervised study NAME --live --numbers FOLDER` writes them"
        ) from error


def _curve(values: AnyArray) -> tuple[AnyArray, int, FloatArray] | None:
    """((n,) int32 places among the different values, how many those are, the curve's knots); None: kept as it is."""
    distinct = np.unique(values[~np.isnan(values)]).astype(np.float64)
    if len(distinct) <= EXACT or not np.isfinite(distinct).all():
        return None
    codes = np.where(np.isnan(values), _NONE, np.searchsorted(distinct, values.astype(np.float64)))
    places = np.linspace(0, len(distinct) - 1, KNOTS)
    return codes.astype(np.int32), len(distinct), np.interp(places, np.arange(len(distinct)), distinct)


def _values(codes: AnyArray, distinct: int, knots: FloatArray) -> FloatArray:
    """(n,) float64, rising with the codes: the curve rises strictly from knot to knot."""
    values = np.interp(codes, np.linspace(0, distinct - 1, len(knots)), knots)
    return np.where(codes == _NONE, np.nan, values)


def rounded(table: Table) -> Table:
    """The table as a file keeps it: seconds and tokens to four significant digits, numbers in 32-bit floats."""

    def kept(name: str, column: AnyArray) -> AnyArray:
        column = _rounded(column) if name.endswith(("_cpu_s", "_tokens")) else column
        return _float32(column) if column.dtype.kind == "f" else column

    extra = {name: kept(name, column) for name, column in table.extra.items()}
    levels = {
        level.value: replace(
            rows := table.level(level),
            latency_s=_float32(_rounded(rows.latency_s)),
            supervisor_s=_float32(_rounded(rows.supervisor_s)),
            cost=_float32(rows.cost),
        )
        for level in LevelName
    }
    return replace(table, extra=extra, **levels)  # type: ignore[arg-type]


def _float32(column: AnyArray) -> FloatArray:
    numbers: FloatArray = column.astype(np.float32).astype(np.float64)
    return numbers


def _rounded(column: AnyArray) -> FloatArray:
    numbers = np.asarray(column, dtype=np.float64)
    known = np.isfinite(numbers) & (numbers != 0.0)
    size = np.zeros(len(numbers))
    size[known] = 10.0 ** (_DIGITS - 1 - np.floor(np.log10(np.abs(numbers[known]))))
    return np.where(
        known, np.divide(np.round(numbers * size), size, where=known, out=np.zeros(len(numbers))), numbers
    )


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "parquet") from error
    return pyarrow, parquet
