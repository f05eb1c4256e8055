"""Ask both models of a study about every input, and keep what they say as soon as they have said it.

The local model first, then the remote one, an input at a time and never both at once: latency and processor seconds
are each model's own. Every few answers are written to `FOLDER/<study>/<level>/part-<k>.npz`; a process that is killed
loses the answers since the last part, one that is interrupted or whose remote model dies loses none, and a second run
asks only about what is not there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from bisupervised.calls import call_plainly
from bisupervised.errors import InputError, ModelError
from bisupervised.evaluation.candidates import unfitted_quantifiers
from bisupervised.models.outputs import evidence_in
from bisupervised.npz_files import read_npz, write_npz
from bisupervised.portal import Portal
from bisupervised.quantifiers import GivenConfidence, MaxSoftmax, Quantifier, TokenLikelihood
from bisupervised.records import (
    AnyArray,
    BoolArray,
    Evidence,
    FloatArray,
    IntArray,
    LevelName,
    LevelRows,
    ModelOutput,
    concatenate_outputs,
    take_outputs,
)
from bisupervised.studies.live.study import LiveStudy, RunningModel
from bisupervised.table import Table

#: So many answers are lost at most.
PART = 50
#: After so many failed calls in a row the model is taken for dead.
IN_A_ROW = 5
_ENTRY: Final = "head"
_HOLDS: Final = "part of a recording"
_FORMAT: Final = 1
_NUMBERS: Final = ("latency_s", "supervisor_s", "cpu_s", "prompt_tokens", "completion_tokens", "cost")
_MATRICES: Final = ("probabilities", "logits", "features")
SCORE: Final = "score_"


class RecordingStopped(ModelError):  # noqa: N818 - named as the others of the tree
    """A model stopped answering in the middle of a recording; what it had answered is kept."""

    kind = "stopped"


#: What is told of every k more inputs that a level has answered.
OnDone = Callable[[int], None]


def record_study(
    study: LiveStudy,
    folder: Path,
    *,
    progress: Callable[[str, int], Any],
    fresh: bool = False,
    retry_failed: bool = False,
    kept_as: Mapping[str, str] = {},
) -> Table:
    """Both models' answers to all n inputs as one table, recorded or read from an earlier run.

    `progress(level, n)` gives a context in which `on_done(k)` is told of k more. `fresh` forgets what is there;
    `retry_failed` asks again where a call had failed. `kept_as` names the folder of a level, which is otherwise
    called like the level: a model in the place of the study's own has its recording beside it. Raises
    `RecordingStopped` when a model dies, `InputError` when the folder holds a recording of other models.
    """
    levels = {}
    for level, made in ((LevelName.LOCAL, study.local), (LevelName.REMOTE, study.remote)):
        store = _Store(folder / study.name / kept_as.get(level, level.value), study.name)
        if fresh:
            store.forget()
        if len(left_to_ask(study, folder, level, retry_failed=retry_failed, kept_as=kept_as)):
            with _alone_in(store.folder):
                rows = left_to_ask(study, folder, level, retry_failed=retry_failed, kept_as=kept_as)
                with progress(level.value, len(rows)) as on_done, made() as running:
                    _record_level(study, running, store, rows, on_done)
        levels[level] = store.columns(study.ids)
    return _table(study, levels)


def left_to_ask(
    study: LiveStudy,
    folder: Path,
    level: LevelName,
    *,
    fresh: bool = False,
    retry_failed: bool = False,
    kept_as: Mapping[str, str] = {},
) -> IntArray:
    """The rows that a level has not answered yet: what a run would ask, and pay for."""
    store = _Store(folder / study.name / kept_as.get(level, level.value), study.name)
    known = set() if fresh else store.known(retry_failed=retry_failed)
    return np.array([row for row, id_ in enumerate(study.ids) if id_ not in known], dtype=np.int64)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """No other process records into the folder meanwhile, and asks, and pays for, the same. Raises `InputError`.

    The lock ends with the process, however that ends. Where the system has no such locks there is none.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"another process records into {folder}: wait for its end, or name another --out"
            ) from error
        yield


# ---------------------------------------------------------------- asking


def _record_level(study: LiveStudy, running: RunningModel, store: _Store, rows: IntArray, on_done: OnDone) -> None:
    model = running.model.name
    store.check_model(model)
    portal = Portal()
    said = _Said()
    dead = None
    try:
        for row in rows.tolist():
            said.add(row, *_ask(running, study.inputs[row], portal))
            on_done(1)
            if said.failed_in_a_row == IN_A_ROW:
                dead = next(iter(said.outputs[-1].failures.values()))
                break
            # Not in the middle of what may be a model's end: those inputs are to be asked again.
            if len(said.rows) >= PART and said.failed_in_a_row == 0:
                store.write(model, [study.ids[row] for row in said.rows], said.columns())
                said = _Said()
        else:
            said.failed_in_a_row = 0  # every input had its call: the last ones failed, and that is what is kept
    finally:
        # Whatever ended it, an interruption too: what was answered, and may be paid for, is kept.
        said = said.without_the_last(said.failed_in_a_row)
        if said.rows:
            store.write(model, [study.ids[row] for row in said.rows], said.columns())
        _close(running, portal)
    if dead is not None:
        kept = len(store.known() & set(study.ids))
        raise RecordingStopped(
            f"{model} failed {IN_A_ROW} times in a row ({dead}). {kept} of {len(study.ids)} answers are kept in "
            f"{store.folder}: the same command goes on from there"
        )


@dataclass(slots=True)
class _Said:
    """What the calls since the last part brought."""

    rows: list[int] = field(default_factory=list)
    outputs: list[ModelOutput] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    failed_in_a_row: int = 0

    def add(self, row: int, output: ModelOutput, cpu_s: float) -> None:
        self.rows.append(row)
        self.outputs.append(output)
        self.cpu_s.append(cpu_s)
        self.failed_in_a_row = 0 if _was_read(output) else self.failed_in_a_row + 1

    def without_the_last(self, k: int) -> _Said:
        kept = len(self.rows) - k
        return _Said(self.rows[:kept], self.outputs[:kept], self.cpu_s[:kept])

    def columns(self) -> dict[str, AnyArray]:
        return _columns(concatenate_outputs(self.outputs), np.array(self.cpu_s))


def _ask(running: RunningModel, x: Any, portal: Portal) -> tuple[ModelOutput, float]:
    """What the model says to one input, and the processor seconds that took it; NaN: not known."""
    before = None if running.cpu_s is None else running.cpu_s()
    output = call_plainly(running.model, [x], portal)
    return output, np.nan if before is None or running.cpu_s is None else running.cpu_s() - before


def _was_read(output: ModelOutput) -> bool:
    """An answer that came and could not be read is an answer: it was paid for, and asking again gives it again."""
    return all(failure.kind == "unreadable" for failure in output.failures.values())


def _close(running: RunningModel, portal: Portal) -> None:
    aclose = getattr(running.model, "aclose", None)
    try:
        if aclose is not None:
            portal.run(aclose())
    finally:
        portal.close()


# ---------------------------------------------------------------- what is kept of an output


def baseline_of(output: ModelOutput) -> Quantifier:
    """Max softmax; of a language model the mean token log-probability."""
    if output.probabilities is not None:
        return MaxSoftmax()
    return TokenLikelihood("mean") if output.token_logprobs is not None else GivenConfidence()


def _columns(output: ModelOutput, cpu_s: FloatArray) -> dict[str, AnyArray]:
    n = len(output)
    readable = np.array([row not in output.failures for row in range(n)])
    start = perf_counter()
    confidences = _scored(baseline_of(output), output, readable)
    supervisor_s = (perf_counter() - start) / n
    columns: dict[str, AnyArray] = {
        "prediction": np.array([_plain(p) if ok else "" for p, ok in zip(output.predictions, readable, strict=True)]),
        "error": np.array([str(output.failures.get(row, "")) for row in range(n)]),
        "confidence": confidences,
        "supervisor_s": np.full(n, supervisor_s),
        "cpu_s": cpu_s,
    }
    for name in ("latency_s", "prompt_tokens", "completion_tokens", "cost"):
        given = getattr(output, name)
        columns[name] = np.full(n, np.nan) if given is None else given
    for name in _MATRICES:
        if (matrix := getattr(output, name)) is not None:
            columns[name] = np.asarray(matrix, dtype=np.float32)
    if output.classes is not None:
        columns["classes"] = np.array([_plain(one) for one in output.classes])
    given_evidence = evidence_in(output) - {Evidence.CONFIDENCE}
    for quantifier in unfitted_quantifiers():
        if quantifier.needs in given_evidence and quantifier != baseline_of(output):
            columns[f"{SCORE}{quantifier.name}"] = _scored(quantifier, output, readable)
    return columns


def _scored(quantifier: Quantifier, output: ModelOutput, readable: BoolArray) -> FloatArray:
    """(n,) confidences; NaN for an answer that failed, and for one whose evidence the quantifier refuses.

    An answer is paid for, whatever an endpoint sends along with it.
    """
    confidences = np.full(len(output), np.nan)
    rows = np.flatnonzero(readable)
    with np.errstate(all="ignore"):
        try:
            confidences[rows] = quantifier(take_outputs(output, rows))
        except ValueError:  # which of them is it?
            for row in rows:
                with suppress(ValueError):
                    confidences[row] = quantifier(take_outputs(output, np.array([row])))[0]
    return confidences


def _plain(value: Any) -> str:
    return str(value.item() if isinstance(value, np.generic) else value)


# ---------------------------------------------------------------- files


class _Store:
    """The parts of one level's recording; of two that hold the same input, the later counts."""

    def __init__(self, folder: Path, study: str) -> None:
        self.folder = folder
        self._study = study

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.npz"))

    def _parts(self) -> Iterator[tuple[Mapping[str, Any], dict[str, AnyArray]]]:
        for path in self._files():
            head, columns = read_npz(path, _ENTRY, _HOLDS)
            if head.get("format") != _FORMAT or head.get("study") != self._study:
                raise InputError(f"{path} is no part of a recording of {self._study}; --fresh starts anew")
            yield head, columns

    def forget(self) -> None:
        for path in self._files():
            path.unlink()

    def known(self, *, retry_failed: bool = False) -> set[str]:
        """The ids that are answered."""
        known: set[str] = set()
        for _, columns in self._parts():
            ids = columns["id"].tolist()
            failed = columns["error"].tolist() if retry_failed else [""] * len(ids)
            known |= {id_ for id_, error in zip(ids, failed, strict=True) if not error}
            known -= {id_ for id_, error in zip(ids, failed, strict=True) if error}
        return known

    def check_model(self, model: str) -> None:
        for head, _ in self._parts():
            if head["model"] != model:
                raise InputError(
                    f"{self.folder} holds answers of {head['model']}, and now {model} is asked: name another --out, "
                    f"or say --fresh to forget them"
                )

    def write(self, model: str, ids: Sequence[str], columns: Mapping[str, AnyArray]) -> None:
        last = max((int(re.findall(r"\d+", path.stem)[-1]) for path in self._files()), default=-1)
        head = {"format": _FORMAT, "study": self._study, "model": model}
        write_npz(self.folder / f"part-{last + 1:05d}.npz", _ENTRY, head, {"id": np.array(ids), **columns})

    def columns(self, ids: Sequence[str]) -> dict[str, AnyArray]:
        """Every column in the order of the ids."""
        parts = [columns for _, columns in self._parts()]
        place = {id_: number for number, id_ in enumerate(id_ for part in parts for id_ in part["id"].tolist())}
        order = np.array([place[id_] for id_ in ids])
        names = {name: part[name] for part in parts for name in part if name not in ("id", "classes")}
        joined = {name: _stacked([part.get(name) for part in parts], parts)[order] for name in names}
        classes = next((part["classes"] for part in parts if "classes" in part), None)
        return joined if classes is None else {**joined, "classes": classes}


def _stacked(columns: Sequence[AnyArray | None], parts: Sequence[Mapping[str, AnyArray]]) -> AnyArray:
    """The parts' columns below each other; NaN where a part has none (all of its calls failed)."""
    width = next(column.shape[1:] for column in columns if column is not None)
    return np.concatenate(
        [
            np.full((len(part["id"]), *width), np.nan) if column is None else column
            for column, part in zip(columns, parts, strict=True)
        ]
    )


def _table(study: LiveStudy, levels: Mapping[LevelName, dict[str, AnyArray]]) -> Table:
    n = len(study.ids)
    rows = {level: _level(columns) for level, columns in levels.items()}
    extra = dict(study.extra)
    for level, columns in levels.items():
        for name in ("cpu_s", "prompt_tokens", "completion_tokens"):
            extra[f"{level}_{name}"] = columns[name]
        cut = study.truncated.get(level.value)
        extra[f"{level}_truncated"] = np.zeros(n) if cut is None else cut.astype(np.float64)
        extra |= {f"{level}_{name}": column for name, column in columns.items() if name.startswith(SCORE)}
    labels = None
    if study.labels is not None:
        labels = np.array([_plain(label) for label in study.labels], dtype=object)
    table = Table(np.array(study.ids), labels, rows[LevelName.LOCAL], rows[LevelName.REMOTE], extra=extra)
    if study.grade is None:
        return table
    graded = {level: _graded(study, one) for level, one in rows.items()}
    return replace(table, local_correct=graded[LevelName.LOCAL], remote_correct=graded[LevelName.REMOTE])


def _graded(study: LiveStudy, rows: LevelRows) -> FloatArray:
    """(n,) grades; a call that failed has no right answer."""
    assert study.grade is not None
    grades = study.grade(rows.predictions, np.arange(len(rows)))
    return np.where([error is not None for error in rows.errors], 0.0, grades)


def _level(columns: Mapping[str, AnyArray]) -> LevelRows:
    errors = np.array([error or None for error in columns["error"].tolist()], dtype=object)
    predictions = columns["prediction"].astype(object)
    predictions[[error is not None for error in errors]] = None
    return LevelRows(
        predictions=predictions,
        confidences=columns["confidence"],
        asked=np.ones(len(errors), dtype=np.bool_),
        latency_s=columns["latency_s"],
        supervisor_s=columns["supervisor_s"],
        cost=columns["cost"],
        errors=errors,
        probabilities=columns.get("probabilities"),
        classes=columns.get("classes"),
        logits=columns.get("logits"),
        features=columns.get("features"),
    )
