"""The one table: what `record` and the gateway write, what `evaluate` and `calibrate` read.

Columns: `id`, `label`, and for each level, with the prefix `local_` or `remote_`:

    prediction      the model's prediction
    confidence      any real number, higher = more trusted; or instead of it
    proba_<class>   class probabilities, or
    token_logprobs  the answer's token log-probabilities, a JSON list, or
    logit_<class>   logits, or
    feature_<i>     an inner layer's activations, numbered from 0
    correct         1, 0 or a grade in [0, 1], in place of label and predictions
    latency_s       seconds;  supervisor_s  seconds
    cost            currency units
    error           `kind: message` when the model gave no usable output; empty otherwise
    asked           false when the model was not asked (a decision log has such rows); default true

An empty cell is "not known". A row without a label serves for request rates.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bisupervised.cells import is_missing as is_missing
from bisupervised.cells import is_missing_cell as is_missing_cell
from bisupervised.cells import written as written
from bisupervised.errors import TableError
from bisupervised.quantifiers import Quantifier
from bisupervised.records import AnyArray, BoolArray, FloatArray, LevelName, LevelRows
from bisupervised.table_evidence import EvidenceReader, default_quantifier, evidence_of, is_feature

LEVEL_COLUMNS = (
    "prediction",
    "confidence",
    "correct",
    "latency_s",
    "supervisor_s",
    "cost",
    "error",
    "asked",
    "token_logprobs",
)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """n recorded inputs with what both levels said about them."""

    ids: AnyArray  #: (n,) strings
    labels: AnyArray | None  #: (n,) objects, None where not known; None when there is no label column
    local: LevelRows
    remote: LevelRows
    #: (n,) grades in [0, 1] given in place of label and predictions; NaN where not known
    local_correct: FloatArray | None = None
    remote_correct: FloatArray | None = None
    #: columns that are none of the table's, as they came (route, time, tenant, …)
    extra: Mapping[str, AnyArray] = field(default_factory=dict)
    #: what reading it noticed: counted, visible states such as "164 of 25,000 remote replies are errors"
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def level(self, name: LevelName | str) -> LevelRows:
        """The columns of one level."""
        return self.local if LevelName(name) is LevelName.LOCAL else self.remote

    def correct(self, name: LevelName | str) -> FloatArray:
        """(n,) 1.0 or 0.0 (or a grade) per prediction of that level; NaN where the label is not known.

        A level that failed on a labelled input has no correct prediction there: 0. One that was not asked: NaN.
        """
        given = self.local_correct if LevelName(name) is LevelName.LOCAL else self.remote_correct
        rows = self.level(name)
        if given is not None:
            return np.where(rows.asked, given, np.nan)
        if self.labels is None:
            return np.full(len(self), np.nan)
        right = _equal(rows.predictions, self.labels) & ~_known(rows.errors)
        return np.where(_known(self.labels) & rows.asked, right.astype(np.float64), np.nan)

    def take(self, rows: AnyArray) -> Table:
        """The given rows (indices or a mask), in that order."""
        return replace(
            self,
            ids=self.ids[rows],
            labels=None if self.labels is None else self.labels[rows],
            local=self.local.take(rows),
            remote=self.remote.take(rows),
            local_correct=None if self.local_correct is None else self.local_correct[rows],
            remote_correct=None if self.remote_correct is None else self.remote_correct[rows],
            extra={name: column[rows] for name, column in self.extra.items()},
        )

    @property
    def complete(self) -> BoolArray:
        """(n,) rows where both models were asked and correctness of both is known: those a curve can use."""
        return (
            self.local.asked
            & self.remote.asked
            & ~np.isnan(self.correct(LevelName.LOCAL))
            & ~np.isnan(self.correct(LevelName.REMOTE))
        )

    def to_columns(self) -> dict[str, AnyArray]:
        """The table as named columns, those that hold nothing left out. `from_columns` reads them back."""
        columns: dict[str, AnyArray] = {"id": self.ids}
        if self.labels is not None:
            columns["label"] = self.labels
        for name in LevelName:
            columns.update(_level_columns(name, self.level(name)))
            given = self.local_correct if name is LevelName.LOCAL else self.remote_correct
            if given is not None:
                columns[f"{name}_correct"] = given
        if "remote_cost" in columns:
            columns.setdefault("local_cost", self.local.cost)  # not known: without the column it would read as 0
        columns.update(self.extra)
        return columns

    @classmethod
    def from_columns(
        cls,
        columns: Mapping[str, Any],
        *,
        rename: Mapping[str, str] | None = None,
        costs: Mapping[str, float] | None = None,
        quantifiers: Mapping[str, Quantifier] | None = None,
    ) -> Table:
        """Check and read named columns (a mapping of sequences, or a data frame).

        `rename` maps the table's names to the columns' (`{"local_confidence": "score_a"}`); `costs` gives
        constant costs per input (`{"remote": 0.002}`) where there is no column; `quantifiers` say how to read
        confidence from probabilities or token log-probabilities (default: max softmax, the least likely token).
        Raises `TableError` with every problem of the columns at once.
        """
        return _Reader(_named_columns(columns, rename or {}), dict(costs or {}), dict(quantifiers or {})).table()


def _known(labels: AnyArray) -> BoolArray:
    if labels.dtype.kind in "iub":
        return np.ones(len(labels), dtype=np.bool_)
    if labels.dtype.kind == "f":
        return ~np.isnan(labels)
    return np.array([not is_missing(label) for label in labels], dtype=np.bool_)


def _equal(predictions: AnyArray, labels: AnyArray) -> BoolArray:
    """Elementwise equality by what is written: 1, 1.0, True and "1" are one label in a CSV and in Parquet."""
    if predictions.dtype.kind in "iufb" and labels.dtype.kind in "iufb":
        return np.asarray(predictions == labels, dtype=np.bool_)
    return np.array([written(a) == written(b) for a, b in zip(predictions, labels, strict=True)], dtype=np.bool_)


def _level_columns(name: LevelName, rows: LevelRows) -> dict[str, AnyArray]:
    columns: dict[str, AnyArray] = {
        f"{name}_prediction": rows.predictions,
        f"{name}_confidence": rows.confidences,
        f"{name}_latency_s": rows.latency_s,
        f"{name}_supervisor_s": rows.supervisor_s,
        f"{name}_cost": rows.cost,
        f"{name}_error": rows.errors,
    }
    # Two stay even if nothing is known: reading asks for a confidence, and would predict from what stands by class.
    by_class = rows.probabilities is not None or rows.logits is not None
    needed = [f"{name}_confidence", *([f"{name}_prediction"] if by_class else [])]
    columns = {key: column for key, column in columns.items() if key in needed or _known(column).any()}
    if not rows.asked.all():
        columns[f"{name}_asked"] = rows.asked
    if rows.probabilities is not None:
        classes = range(rows.probabilities.shape[1]) if rows.classes is None else rows.classes
        for column, label in zip(rows.probabilities.T, classes, strict=True):
            columns[f"{name}_proba_{label}"] = column
    if rows.token_logprobs is not None:
        columns[f"{name}_token_logprobs"] = rows.token_logprobs
    if rows.logits is not None:
        classes = range(rows.logits.shape[1]) if rows.classes is None else rows.classes
        for column, label in zip(rows.logits.T, classes, strict=True):
            columns[f"{name}_logit_{label}"] = column
    if rows.features is not None:
        columns |= {f"{name}_feature_{place}": column for place, column in enumerate(rows.features.T)}
    return columns


def _named_columns(columns: Any, rename: Mapping[str, str]) -> dict[str, AnyArray]:
    keys = list(columns.keys() if isinstance(columns, Mapping) else getattr(columns, "column_names", columns.columns))
    key_of = {str(key): key for key in keys}
    names = ", ".join(map(str, keys))
    if len(key_of) < len(keys):
        raise TableError(f"two columns have the same name; the columns are: {names}")
    absent = [f"{theirs} (for {ours})" for ours, theirs in rename.items() if theirs not in key_of]
    if absent:
        raise TableError(f"no column {', '.join(absent)}; the columns are: {names}")
    unknown = [ours for ours in rename if not _is_table_column(ours)]
    if unknown:
        raise TableError(f"{', '.join(unknown)}: not a column of the table (see `bisupervised evaluate --help`)")
    # A column that is renamed goes by its new name alone, and stands before one that had that name already.
    source_of = {name: name for name in key_of if name not in rename and name not in rename.values()} | dict(rename)
    read = {ours: _column_array(ours, columns[key_of[theirs]]) for ours, theirs in source_of.items()}
    lengths = Counter(len(column) for column in read.values())
    if len(lengths) > 1:
        odd = ", ".join(f"{name}: {len(column)}" for name, column in read.items())
        raise TableError(f"the columns differ in length ({odd})")
    return read


def _column_array(name: str, column: Any) -> AnyArray:
    """One cell for each row. NumPy would make NaN among texts the text "nan", and lists of one length a matrix."""
    if isinstance(column, str) or not hasattr(column, "__len__"):
        raise TableError(f"the column {name} is {column!r}, not a sequence with one value for each row")
    array = column.to_numpy() if hasattr(column, "to_numpy") else column
    if isinstance(array, np.ndarray) and array.ndim == 1:
        return array
    if isinstance(array, np.ndarray) and not name.endswith("_token_logprobs"):
        raise TableError(f"the column {name} has the shape {array.shape}: one value for each row is expected")
    cells = list(array)
    kinds = set(map(type, cells))
    if len(kinds) == 1 and issubclass(next(iter(kinds)), str | bool | int | float | np.generic):
        return np.asarray(cells)
    objects = np.empty(len(cells), dtype=object)
    for row, cell in enumerate(cells):
        objects[row] = cell
    return objects


def _is_table_column(name: str) -> bool:
    level, _, column = name.partition("_")
    return name in ("id", "label") or (
        level in ("local", "remote")
        and (column in LEVEL_COLUMNS or column.startswith(("proba_", "logit_")) or is_feature(name))
    )


class _Reader:
    """Reads and checks named columns; gathers every problem before it raises."""

    def __init__(
        self, columns: dict[str, AnyArray], costs: dict[str, float], quantifiers: dict[str, Quantifier]
    ) -> None:
        self.columns = columns
        self.costs = costs
        self.quantifiers = quantifiers
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.read = EvidenceReader(columns, self.problems)
        self.n = self.read.n

    def table(self) -> Table:
        if self.n == 0:
            raise TableError("there are no rows")
        self.problems += [
            f"the {level} cost is {cost}, and a cost is a number from 0 on"
            for level, cost in self.costs.items()
            if not cost >= 0.0
        ]
        for option, given in (("costs", self.costs), ("quantifiers", self.quantifiers)):
            unknown = [str(key) for key in given if key not in tuple(LevelName)]
            if unknown:
                self.problems.append(f"{option} are given by level, local or remote, not {', '.join(unknown)}")
        ids = self._ids()
        labels = self.columns.get("label")
        if labels is not None:
            labels = _tidy(labels)
        local, remote = self._level(LevelName.LOCAL), self._level(LevelName.REMOTE)
        correct = {name: self.read.numbers(f"{name}_correct", low=0.0, high=1.0) for name in LevelName}
        if local is not None and remote is not None:
            self._check_labels(labels, local, remote, correct)
        if self.problems or local is None or remote is None:
            raise TableError("; ".join(self.problems))
        extra = {k: v for k, v in self.columns.items() if not _is_table_column(k)}
        return Table(
            ids=ids,
            labels=labels,
            local=local,
            remote=remote,
            local_correct=correct[LevelName.LOCAL],
            remote_correct=correct[LevelName.REMOTE],
            extra=extra,
            notes=self.notes,
        )

    def _ids(self) -> AnyArray:
        if "id" not in self.columns:
            return np.arange(self.n).astype(str)
        ids = np.array([str(written(value)) for value in self.columns["id"]])
        empty = sum(map(is_missing, self.columns["id"]))
        if empty:
            self.problems.append(f"{empty} rows have no id; leave out the column to number the rows")
            return ids
        unique, counts = np.unique(ids, return_counts=True)
        if len(unique) < len(ids):
            often = unique[np.argmax(counts)]
            self.problems.append(
                f"{len(ids) - len(unique)} rows repeat an id (for example {str(often)!r}, {counts.max()} times); "
                f"every input has one row"
            )
        return ids

    def _level(self, name: LevelName) -> LevelRows | None:
        errors, asked = self._errors(name), self._asked(name)
        probabilities, classes = self.read.probabilities(name)
        tokens = self.read.token_logprobs(name)
        logits, classes = self.read.logits(name, probabilities, classes)
        predictions = self.columns.get(f"{name}_prediction")
        by_class = logits if probabilities is None else probabilities
        if predictions is None and by_class is not None and classes is not None:
            best = np.where(np.isnan(by_class), -np.inf, by_class).argmax(axis=1)
            predictions = classes[best]
            predictions[np.isnan(by_class).all(axis=1) | _known(errors) | ~asked] = None
        if predictions is None:
            predictions = np.full(self.n, None, dtype=object)
        rows = LevelRows(
            predictions=_tidy(predictions),
            confidences=np.full(self.n, np.nan),
            asked=asked,
            latency_s=self.read.column(f"{name}_latency_s", low=0.0),
            supervisor_s=self.read.column(f"{name}_supervisor_s", low=0.0),
            cost=self._cost(name, asked),
            errors=errors,
            probabilities=probabilities,
            classes=classes,
            token_logprobs=tokens,
            logits=logits,
            features=self.read.features(name),
        )
        return self._with_confidence(name, rows)

    def _with_confidence(self, name: LevelName, rows: LevelRows) -> LevelRows | None:
        confidences = self.read.numbers(f"{name}_confidence", infinite=True)
        quantifier = self.quantifiers.get(name)
        failed = _known(rows.errors)
        if confidences is None or quantifier is not None:
            output = evidence_of(rows, confidences, readable=~failed & rows.asked)
            quantifier = quantifier or default_quantifier(rows)
            evidence = ("confidence", "proba_", "token_logprobs", "logit_", "feature_")
            unread = any(
                problem.startswith(tuple(f"{name}_{column}" for column in evidence)) for problem in self.problems
            )
            if unread:  # there are such columns, and what is wrong with them is said already
                return None
            held = (confidences, rows.probabilities, rows.token_logprobs, rows.logits)
            if all(column is None for column in (*held, self.quantifiers.get(name) and rows.features)):
                given = ", ".join(key for key in self.columns if "_feature_" not in key)
                self.problems.append(
                    f"no {name}_confidence (nor {name}_proba_<class>, nor {name}_token_logprobs); map it with "
                    f"--columns {name}_confidence=YOUR_COLUMN. The columns are: {given}"
                )
                return None
            try:
                confidences = quantifier(output)
            except ValueError as error:
                lacks = quantifier.needs in ("logits", "features") and getattr(rows, quantifier.needs) is None
                hint = f" (`bisupervised record --with {quantifier.needs}` writes them)" if lacks else ""
                self.problems.append(f"{name}: {error}{hint}")
                return None
        confidences = np.where(failed | ~rows.asked, np.nan, confidences)
        if failed.any():
            self.notes.append(f"{int(failed.sum())} of {self.n} {name} replies are errors")
        infinite = int(np.isposinf(confidences).sum())
        if infinite:
            self.notes.append(f"{infinite} of {self.n} {name} confidences are +inf: always accepted")
        without = int((np.isnan(confidences) & ~failed & rows.asked).sum())
        if without:
            self.notes.append(f"{without} of {self.n} {name} confidences are missing: never accepted")
        return replace(rows, confidences=confidences)

    def _errors(self, name: LevelName) -> AnyArray:
        errors: AnyArray = np.full(self.n, None, dtype=object)
        column = self.columns.get(f"{name}_error")
        if column is not None:
            for row, value in enumerate(column):
                if not is_missing(value):
                    errors[row] = str(value)
        return errors

    def _asked(self, name: LevelName) -> BoolArray:
        column = self.columns.get(f"{name}_asked")
        if column is None:
            return np.ones(self.n, dtype=np.bool_)
        flags = self.read.numbers(f"{name}_asked")
        if flags is None:  # which is among the problems
            return np.ones(self.n, dtype=np.bool_)
        odd = ~np.isin(flags, (0.0, 1.0)) & ~np.isnan(flags)
        if odd.any():
            self.problems.append(f"{name}_asked: {int(odd.sum())} values are neither true nor false")
        return np.not_equal(flags, 0.0)  # not known: asked, as without the column

    def _cost(self, name: LevelName, asked: BoolArray) -> FloatArray:
        column = self.read.numbers(f"{name}_cost", low=0.0)
        constant = self.costs.get(name, math.nan)
        if column is None:
            remote_known = "remote" in self.costs or "remote_cost" in self.columns
            if name is LevelName.LOCAL and math.isnan(constant) and remote_known:
                # As in a running system: the model at hand costs nothing unless somebody says what.
                constant = 0.0
                self.notes.append("no local cost is given: counted as 0")
            column = np.full(self.n, math.nan)
        known = np.where(asked & np.isnan(column), constant, column)
        return np.where(~asked & np.isnan(known), 0.0, known)  # what was not asked cost nothing

    def _check_labels(
        self,
        labels: AnyArray | None,
        local: LevelRows,
        remote: LevelRows,
        correct: Mapping[LevelName, FloatArray | None],
    ) -> None:
        if labels is None:
            return
        known = set(map(written, labels[_known(labels)]))
        if not known:
            return
        for name, rows in ((LevelName.LOCAL, local), (LevelName.REMOTE, remote)):
            if correct[name] is not None:
                continue
            predictions = {written(value) for value in rows.predictions if not is_missing(value)}
            strangers = sum(written(value) not in known for value in rows.predictions if not is_missing(value))
            if strangers and len(known) <= MANY_LABELS and predictions & known:
                self.notes.append(
                    f"{strangers} of {self.n} {name} predictions are none of the {len(known)} known labels"
                )
            # Answers in words are rarely written like their labels; an objective such as exact match compares them.
            in_words = len(known) > MANY_LABELS or 20 < len(known) > int(_known(labels).sum()) / 2
            if len(predictions) > 1 and not predictions & known and not in_words:
                some = ", ".join(sorted(map(str, predictions))[:3])
                self.problems.append(
                    f"no {name} prediction is a known label ({name}: {some}; labels: "
                    f"{', '.join(sorted(map(str, known))[:3])}); are the columns what they seem?"
                )


#: With more labels than this they are answers in words, and a prediction that is none of them is nothing to note.
MANY_LABELS = 1000


def _tidy(column: AnyArray) -> AnyArray:
    """Numbers stay numbers; anything else becomes objects with None for a missing cell."""
    if column.dtype.kind in "iub":
        return column
    if column.dtype.kind == "f":
        return column
    tidy = np.empty(len(column), dtype=object)
    tidy[:] = [None if is_missing(value) else value for value in column]
    return tidy


def join_tables(local: Mapping[str, Any], remote: Mapping[str, Any]) -> dict[str, AnyArray]:
    """Columns of two one-model files joined on `id`: `prediction` becomes `local_prediction`, and so on.

    The authors' files are of this kind. A shared `label` must agree. Raises `TableError` when the ids differ.
    """
    sides = {}
    for name, columns in (("local", local), ("remote", remote)):
        named = _named_columns(columns, {})
        if "id" not in named:
            raise TableError(f"the {name} file has no id column to join on; its columns: {', '.join(named)}")
        named["id"] = np.array([str(written(value)) for value in named["id"]])
        if len(np.unique(named["id"])) < len(named["id"]):
            raise TableError(f"the {name} file repeats ids; every input has one row")
        sides[name] = named
    order = _matching(sides["local"]["id"], sides["remote"]["id"])
    joined: dict[str, AnyArray] = {"id": sides["local"]["id"]}
    for name, named in sides.items():
        rows = slice(None) if name == "local" else order
        for column, values in named.items():
            if column == "id":
                continue
            key = _joined_name(name, column)
            if key in joined and not _equal(_tidy(joined[key]), _tidy(values[rows])).all():
                raise TableError(f"the two files disagree on {key}")
            joined[key] = values[rows]
    return joined


def _joined_name(level: str, column: str) -> str:
    bare = column.removeprefix(f"{level}_")
    return f"{level}_{bare}" if _is_table_column(f"{level}_{bare}") else column


def _matching(left: AnyArray, right: AnyArray) -> AnyArray:
    order = np.argsort(right, kind="stable")
    place = np.searchsorted(right[order], left)
    found = place < len(right)
    found[found] = right[order][place[found]] == left[found]
    only_right = len(right) - int(found.sum())
    if not found.all() or only_right:
        raise TableError(
            f"the two files hold different ids: {int((~found).sum())} only in the local file, {only_right} only in "
            f"the remote one"
        )
    return order[place]


def table_from_outcomes(outcomes: Any, labels: Iterable[Any] | None = None) -> Table:
    """The table of a running system's `Outcomes`, with `route` and `answer` as extra columns."""
    from bisupervised.records import Route

    n = len(outcomes)
    known = None
    if labels is not None:
        known = _tidy(np.array(list(labels), dtype=object))
        if len(known) != n:
            raise TableError(f"{n} outcomes and {len(known)} labels")
    return Table(
        ids=np.array(outcomes.ids),
        labels=known,
        local=outcomes.local,
        remote=outcomes.remote,
        extra={
            "route": np.array([Route(route).label for route in outcomes.routes]),
            "answer": outcomes.answers,
            "fallback_s": outcomes.fallback_s,
            "deferred_because": np.array(
                [None if one is None else str(one) for one in outcomes.deferred_because], object
            ),
            **{
                name: column
                for name, column in (
                    ("pair_confidence", outcomes.pair_confidences),
                    ("learned_confidence", outcomes.learned_confidences),
                )
                if column is not None
            },
        },
    )
