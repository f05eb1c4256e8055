"""Reading and writing the one table: CSV, JSON lines, Parquet, or a decision log.

The kind is told by the content where that is plain (Parquet, SQLite, JSON lines), by the suffix otherwise.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.decision_log import read_log
from bisupervised.errors import MissingExtra, TableError
from bisupervised.quantifiers import Quantifier
from bisupervised.records import AnyArray
from bisupervised.table import Table, is_missing_cell, join_tables

TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
#: What the paper's published files call the table's columns; understood where two files are joined.
PAPER_COLUMNS = {
    "index": "id",
    "ground_truth": "label",
    "sm_confidence": "confidence",
    "gpt3_confidence": "confidence",
    "exact_match": "correct",
    "pred_time": "latency_s",
    "supervisor_time": "supervisor_s",
}


def read_table(
    source: str | Path,
    remote_source: str | Path | None = None,
    *,
    rename: Mapping[str, str] | None = None,
    costs: Mapping[str, float] | None = None,
    quantifiers: Mapping[str, Quantifier] | None = None,
) -> Table:
    """The table in a file or a decision log; or in two files of one model each, joined on `id`.

    `rename`, `costs` and `quantifiers` are those of `Table.from_columns`. Raises `TableError` saying what is wrong.
    """
    if remote_source is None:
        if is_log(source):
            table = read_log(str(source))
            if not (rename or costs or quantifiers):
                return table
            columns: Mapping[str, Any] = table.to_columns()
        else:
            columns = read_columns(source)
    else:
        columns = join_tables(_one_model(source), _one_model(remote_source))
    return Table.from_columns(columns, rename=rename, costs=costs, quantifiers=quantifiers)


def _one_model(source: str | Path) -> dict[str, AnyArray]:
    """The columns of a one-model file, the paper's names understood."""
    columns = {name: column for name, column in read_columns(source).items() if name}
    if {"sm_confidence", "prediction"} <= columns.keys() and columns["prediction"].dtype.kind == "f":
        # The paper's mark of a reply that could not be read: prediction -1 with confidence 0.
        unreadable = (columns["prediction"] == -1) & (columns["sm_confidence"] == 0)
        if unreadable.any():
            columns["error"] = np.where(unreadable, "unreadable: prediction -1 with confidence 0", "").astype(object)
    for theirs, ours in PAPER_COLUMNS.items():
        if theirs in columns and ours not in columns:
            columns[ours] = columns.pop(theirs)
    return columns


def is_log(source: str | Path) -> bool:
    """Whether a source is a decision log: a database URL, or an SQLite file."""
    return "://" in str(source) or _head(Path(source)).startswith(b"SQLite format 3\x00")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64)
    except FileNotFoundError as error:
        raise TableError(f"there is no file {path}") from error
    except IsADirectoryError as error:
        raise TableError(f"{path} is a folder; name the file in it") from error
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error}") from error


def read_columns(source: str | Path) -> dict[str, AnyArray]:
    """The named columns of a CSV, JSON lines or Parquet file, unchecked."""
    path = Path(source)
    head = _head(path)
    if not head.strip():
        raise TableError(f"{path} is empty")
    if head.startswith(b"PAR1"):
        return _read_parquet(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # line ends within a cell are the cell's own
            text = file.read()
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is not UTF-8 text, nor Parquet, nor a decision log: {error}") from error
    if path.suffix in (".jsonl", ".ndjson") or text.lstrip().startswith("{"):
        return _read_jsonl(path, text)
    return _read_csv(path, text)


def _read_csv(path: Path, text: str) -> dict[str, AnyArray]:
    header = text.split("\n", 1)[0].split("\r", 1)[0]
    delimiter = max(",;\t", key=header.count)
    limit = csv.field_size_limit(2**31 - 1)  # texts may be longer than the module's 131,072 characters
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        names = next(rows)
        records = [row for row in rows if row]
    except csv.Error as error:
        raise TableError(f"{path} is not well-formed CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise TableError(f"{path} has two columns of the same name: {', '.join(sorted(repeated))}")
    for number, row in enumerate(records, start=2):
        if len(row) != len(names):
            raise TableError(f"{path}, row {number}: {len(row)} cells under {len(names)} column names")
    if not records:
        raise TableError(f"{path} has column names and no rows")
    return {name: _column(name, column) for name, column in zip(names, zip(*records, strict=True), strict=True)}


def _column(name: str, cells: Sequence[str]) -> AnyArray:
    """Numbers where every cell that is not empty is one; text otherwise, and always for ids."""
    if name != "id":
        try:
            return np.array([cell or "nan" for cell in cells]).astype(np.float64)
        except ValueError:
            pass
    return np.array(cells, dtype=object)


def _read_jsonl(path: Path, text: str) -> dict[str, AnyArray]:
    records: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):  # a text may hold other separators of lines
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise TableError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(record, dict):
            raise TableError(f"{path}, line {number}: a JSON object is expected on every line")
        records.append(record)
    names = list(dict.fromkeys(name for record in records for name in record))
    return {name: _objects(record.get(name) for record in records) for name in names}


def _objects(values: Iterable[Any]) -> AnyArray:
    cells = list(values)
    column = np.empty(len(cells), dtype=object)
    for row, cell in enumerate(cells):
        column[row] = cell
    return column


def _read_parquet(path: Path) -> dict[str, AnyArray]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "parquet") from error
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise TableError(f"{path} cannot be read as Parquet: {error}") from error
    columns = {}
    for name in table.column_names:
        column = table.column(name)
        nested = str(column.type).startswith(("list", "large_list", "struct"))
        columns[name] = _objects(column.to_pylist()) if nested else column.to_numpy(zero_copy_only=False)
    return columns


def write_table(table: Table, path: str | Path) -> None:
    """Write the table as CSV, JSON lines (`.jsonl`) or Parquet (`.parquet`), by suffix, replacing it in one step."""
    path = Path(path)
    columns = table.to_columns()
    draft = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        _write_parquet(columns, draft)
    elif path.suffix in (".jsonl", ".ndjson"):
        names = list(columns)
        with draft.open("w", encoding="utf-8") as file:
            for part in _parts(columns):
                for cells in zip(*map(_plain_cells, part), strict=True):
                    file.write(json.dumps(dict(zip(names, cells, strict=True)), ensure_ascii=False) + "\n")
    elif path.suffix == ".csv":
        with draft.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for part in _parts(columns):
                writer.writerows(zip(*map(_cells, part), strict=True))
    else:
        raise TableError(f"{path}: tables are written as .csv, .jsonl or .parquet")
    draft.replace(path)


#: Rows that are made into text at a time.
_ROWS_AT_ONCE = 1000


def _parts(columns: Mapping[str, AnyArray]) -> Iterator[list[AnyArray]]:
    n = max(map(len, columns.values()))
    for start in range(0, n, _ROWS_AT_ONCE):
        yield [column[start : start + _ROWS_AT_ONCE] for column in columns.values()]


def _cells(column: AnyArray) -> list[str]:
    if column.dtype.kind == "f":  # a table with features has thousands of these: the short way
        return ["" if value != value else repr(value) for value in column.astype(np.float64).tolist()]
    return [_cell(cell) for cell in column]


def _plain_cells(column: AnyArray) -> list[Any]:
    if column.dtype.kind == "f" and np.isfinite(column).all():
        plain: list[Any] = column.astype(np.float64).tolist()
        return plain
    return [_plain(cell) for cell in column]


def _write_parquet(columns: Mapping[str, AnyArray], path: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "parquet") from error
    arrays = {}
    for name, column in columns.items():
        if column.dtype.kind == "f":  # NaN: null. Features are many: no cell of theirs is looked at by itself
            precise = column if column.dtype == np.float32 else column.astype(np.float64)
            arrays[name] = pyarrow.array(precise, from_pandas=True)
            continue
        cells = [_plain(cell) for cell in column]
        kinds = {type(cell) for cell in cells if cell is not None}
        if len(kinds) > 1 and not kinds <= {int, float}:  # Parquet columns have one type: mixed ones as text
            cells = [None if cell is None else _cell(cell) for cell in cells]
        arrays[name] = pyarrow.array(cells)
    parquet.write_table(pyarrow.table(arrays), path)


def _plain(cell: Any) -> Any:
    """A cell as a plain JSON value; None for one that holds nothing."""
    if isinstance(cell, np.ndarray):
        return [_plain(item) for item in cell.tolist()]
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, float) and not math.isfinite(cell):
        return None if math.isnan(cell) else ("inf" if cell > 0 else "-inf")
    return cell


def _cell(cell: Any) -> str:
    if is_missing_cell(cell):
        return ""
    plain = _plain(cell)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
