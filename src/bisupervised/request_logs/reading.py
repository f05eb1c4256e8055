"""Reading a log of requests: a file's rows one by one, so that a bad row is counted and the others are read."""

from __future__ import annotations

import codecs
import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bisupervised.errors import InputError, TableError
from bisupervised.request_logs.records import NAN, LoggedRequest, RequestLog, RowProblem
from bisupervised.request_logs.rows import COLUMNS, SPEND_LOG, Row, read_row
from bisupervised.sources import is_log

#: Bytes of one row; more is no request that a model could read.
MAX_ROW_BYTES: Final = 64 * 1024 * 1024
#: Problems that an error quotes.
_SHOWN: Final = 3
_JOINED_ON: Final = ("custom_id", "id", "request_id")
_JSON_SUFFIXES: Final = (".jsonl", ".ndjson", ".json")

RawRow = tuple[int, Mapping[str, Any] | RowProblem]


def read_request_log(
    source: str | Path, answers: str | Path | None = None, *, columns: Mapping[str, str] | None = None
) -> RequestLog:
    """The requests in a log of JSON lines, JSON or CSV; or in two files, requests and answers, joined on their ids.

    `columns` maps our names (the keys of `rows.COLUMNS`) to the file's. A row that cannot be read is one of the
    log's `problems`. Raises `InputError` when there is not one that can, or when the file is of another kind.
    """
    rename = dict(columns or {})
    unknown = ", ".join(sorted(set(rename) - set(COLUMNS)))
    if unknown:
        raise InputError(f"--columns knows no {unknown}; there are: {', '.join(COLUMNS)}")
    rows = raw_rows(Path(source))
    if answers is not None:
        rows = _joined(rows, raw_rows(Path(answers)))
    requests, problems, formats, found = _read(rows, rename)
    absent = ", ".join(f"{theirs} (for {ours})" for ours, theirs in rename.items() if ours not in found)
    if absent:
        raise InputError(f"no row of {source} has anything under {absent}; look at --columns")
    if not requests:
        raise InputError(_nothing_read(source, problems))
    requests, notes = _checked(requests, formats)
    return RequestLog(requests, problems, formats, notes)


def _read(
    rows: Iterable[RawRow], rename: Mapping[str, str]
) -> tuple[list[LoggedRequest], list[RowProblem], Counter[str], set[str]]:
    found: set[str] = set()  # of our names
    requests: list[LoggedRequest] = []
    problems: list[RowProblem] = []
    formats: Counter[str] = Counter()
    for number, row in rows:
        if isinstance(row, RowProblem):
            problems.append(row)
            continue
        cells = Row.of(number, row, rename)
        found.update(cells.cells)
        try:
            request, kind = read_row(cells)
        except InputError as error:
            problems.append(RowProblem(number, str(error)))
        except RecursionError:
            problems.append(RowProblem(number, "it is nested too deeply; leave the row out"))
        else:
            requests.append(request)
            formats[kind] += 1
    return requests, problems, formats, found


def _nothing_read(source: str | Path, problems: list[RowProblem]) -> str:
    if not problems:
        return f"{source} holds no rows"
    more = f" (and {len(problems) - _SHOWN:,} more)" if len(problems) > _SHOWN else ""
    return f"no row of {source} can be read: " + "; ".join(map(str, problems[:_SHOWN])) + more


def _checked(requests: list[LoggedRequest], formats: Mapping[str, int]) -> tuple[list[LoggedRequest], list[str]]:
    """The requests with ids of their own and without prices that nobody knew, and what was noticed."""
    notes = []
    counts = Counter(request.id for request in requests)
    repeated = {id_ for id_, count in counts.items() if count > 1}
    if repeated:
        notes.append(
            f"{sum(counts[id_] for id_ in repeated):,} rows share their id with others; they go by id and row number"
        )
        requests = [replace(one, id=f"{one.id} (row {one.row})") if one.id in repeated else one for one in requests]
    if set(formats) == {SPEND_LOG} and not any(one.cost > 0.0 for one in requests):
        notes.append(
            "the spend of every row is 0: LiteLLM knew no price of the model, so what requests cost is not known; "
            "give --remote-cost, or --remote-prompt-price and --remote-completion-price"
        )
        requests = [replace(one, cost=NAN) for one in requests]
    return requests, notes


# ---------------------------------------------------------------- two files


def _joined(rows: Iterable[RawRow], others: Iterable[RawRow]) -> Iterator[RawRow]:
    """The rows of two files with the same id as one. What only one of them has is a problem of that row.

    The file whose rows hold requests leads, whichever was named first.
    """
    first, second = list(rows), list(others)
    if not any(_is_request(row) for _, row in first) and any(_is_request(row) for _, row in second):
        first, second = second, first
    by_id: dict[str, Mapping[str, Any]] = {}
    for number, row in second:
        if isinstance(row, RowProblem):
            yield number, replace(row, message=f"of the answers' file: {row.message}")
        elif (key := _join_key(row)) is not None:
            by_id[key] = row
    for number, row in first:
        key = None if isinstance(row, RowProblem) else _join_key(row)
        if isinstance(row, RowProblem):
            yield number, row
        elif key is None:
            yield number, RowProblem(number, f"it has no {', '.join(_JOINED_ON)} to find its answer by; add one")
        elif key in by_id:
            yield number, {**by_id[key], **row}
        else:
            yield number, RowProblem(number, f"the answers' file has no row with its id {key!r}; add it")


def _is_request(row: Mapping[str, Any] | RowProblem) -> bool:
    return isinstance(row, Mapping) and any(name in row for name in ("body", "request", "messages", "prompt"))


def _join_key(row: Mapping[str, Any]) -> str | None:
    return next((str(row[name]) for name in _JOINED_ON if row.get(name) not in (None, "")), None)


# ---------------------------------------------------------------- one file


def raw_rows(path: Path) -> Iterator[RawRow]:
    """The rows of a file with their numbers, undigested; a `RowProblem` for one that is none.

    Raises `TableError` when the file is missing, empty, or no text of rows.
    """
    head = _head(path)
    if path.suffix == ".csv" or (path.suffix not in _JSON_SUFFIXES and head.lstrip()[:1] not in (b"{", b"[")):
        return _csv_rows(path)
    if head.lstrip()[:1] == b"[":
        return _document_rows(path)
    return _json_lines(path)


def _head(path: Path) -> bytes:
    if is_log(path):
        raise TableError(
            f"{path} is a decision log, which holds both models' answers already: `bisupervised evaluate {path}` "
            f"reads it"
        )
    with path.open("rb") as file:
        head = file.read(4096).removeprefix(codecs.BOM_UTF8)
    if not head.strip():
        raise TableError(f"{path} is empty")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise TableError(f"{path} is UTF-16 text; save it as UTF-8")
    if head.startswith(b"\x1f\x8b") or head.startswith(b"PK\x03\x04"):
        raise TableError(f"{path} is compressed; unpack it first")
    if head.startswith(b"PAR1"):
        raise TableError(f"{path} is Parquet; export the log as CSV or JSON lines")
    return head


def _json_lines(path: Path) -> Iterator[RawRow]:
    with path.open("rb") as file:
        if not _is_json(file.readline(MAX_ROW_BYTES + 1)) and _is_json(path.read_bytes()):
            yield from _document_rows(path)  # one object over several lines
            return
        file.seek(0)
        number = 0
        while line := file.readline(MAX_ROW_BYTES + 1):
            number += 1
            if len(line) > MAX_ROW_BYTES:
                yield number, RowProblem(number, f"it is longer than {MAX_ROW_BYTES // 2**20} MiB; leave it out")
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_ROW_BYTES)
            elif line.strip():
                yield number, _decoded(number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data.removeprefix(codecs.BOM_UTF8))
    except (ValueError, RecursionError):
        return False
    return True


def _decoded(number: int, line: bytes) -> Mapping[str, Any] | RowProblem:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return RowProblem(number, f"byte {error.start + 1} is no UTF-8 text; save the file as UTF-8")
    except ValueError as error:
        cut = "" if line.endswith(b"\n") else ", and it is the last one: was the file cut?"
        return RowProblem(number, f"no JSON ({error}){cut or '; repair it or leave it out'}")
    except RecursionError:
        return RowProblem(number, "it is nested too deeply; leave the row out")
    if not isinstance(value, Mapping):
        return RowProblem(number, f"a JSON object is expected, not {type(value).__name__}")
    return value


def _document_rows(path: Path) -> Iterator[RawRow]:
    """A JSON list of objects, or an object that holds one, such as an interface's reply."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no UTF-8: a ValueError too
        raise TableError(f"{path} is no JSON: {error}. Write one JSON object on each line") from error
    if isinstance(value, Mapping):
        lists = [one for name in ("data", "logs", "rows", "results") if isinstance(one := value.get(name), list)]
        value = lists[0] if lists else [value]
    for number, row in enumerate(value, start=1):
        is_object = isinstance(row, Mapping)
        yield number, row if is_object else RowProblem(number, f"a JSON object is expected, not {type(row).__name__}")


def _csv_rows(path: Path) -> Iterator[RawRow]:
    # Bytes that are no UTF-8 come as halves of characters, so that their row alone is lost.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file, _long_cells():
        header = file.readline()
        delimiter = max(",;\t", key=header.count)
        file.seek(0)
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        names = _names(path, rows)
        number = 1
        while True:
            number += 1
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                problem = f"not well-formed CSV ({error})"
                if "end of data" in str(error):
                    problem += ": a quote is opened in it and never closed, and all that follows is lost"
                yield number, RowProblem(number, problem)
                continue
            if cells:
                yield number, _csv_row(number, names, cells)


def _names(path: Path, rows: Iterator[list[str]]) -> list[str]:
    try:
        names = [name.strip() for name in next(rows)]
    except (csv.Error, StopIteration) as error:
        raise TableError(f"{path} is not well-formed CSV: {error}") from error
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise TableError(f"{path} has two columns of the same name: {', '.join(repeated)}")
    if "local_confidence" in names:
        raise TableError(
            f"{path} is a table of both models' answers: `bisupervised evaluate {path}` reads it, and `replay` takes "
            f"it as --recorded beside the log"
        )
    return names


def _csv_row(number: int, names: list[str], cells: list[str]) -> Mapping[str, Any] | RowProblem:
    if len(cells) != len(names):
        return RowProblem(number, f"{len(cells)} cells under {len(names)} column names; quote cells with commas")
    if any("\udc80" <= character <= "\udcff" for cell in cells if not cell.isascii() for character in cell):
        return RowProblem(number, "it is no UTF-8 text; save the file as UTF-8")
    return dict(zip(names, cells, strict=True))


@contextmanager
def _long_cells() -> Iterator[None]:
    """Cells may be longer than the csv module's 131,072 characters."""
    limit = csv.field_size_limit(MAX_ROW_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
