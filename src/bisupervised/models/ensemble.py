"""Several passes over one input: the members of an ensemble, or one stochastic model asked again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, cast

import numpy as np

from bisupervised.errors import InputError, ModelError, ReplyUnreadable
from bisupervised.models.outputs import as_column, empty_output
from bisupervised.models.port import Model
from bisupervised.models.wrapper import answers_later, with_own_latency
from bisupervised.records import AnyArray, Evidence, Failure, FloatArray, ModelOutput


class Ensemble:
    """Asks every member about the same inputs. Lakshminarayanan et al., NeurIPS 2017.

    The output holds what each says (`sampled_probabilities`, (n, members, classes)) and their mean
    (`probabilities`), whose most probable class is the prediction. Members give class probabilities for the same
    classes. In-process members are asked one after the other, network ones at the same time: the latency is the sum,
    or the longest. Cost and tokens are sums, and not known where a member's is not; `extra_calls` counts all members
    but the first. A row that fails in one member fails, and what the others cost is accounted all the same.

    >>> from bisupervised.models import FunctionModel
    >>> one, other = (
    ...     FunctionModel(lambda xs: [[0.9, 0.1]] * len(xs)),
    ...     FunctionModel(lambda xs: [[0.5, 0.5]] * len(xs)),
    ... )
    >>> output = Ensemble([one, other]).predict(["x"])
    >>> output.probabilities, output.sampled_probabilities.shape
    (array([[0.7, 0.3]]), (1, 2, 2))
    """

    provides = frozenset({Evidence.PROBABILITIES, Evidence.SAMPLED_PROBABILITIES})

    def __init__(self, members: Sequence[Model], *, name: str | None = None) -> None:
        self.members = tuple(members)
        if not self.members:
            raise InputError("an ensemble has at least one member")
        without = [member.name for member in self.members if Evidence.PROBABILITIES not in member.provides]
        if without:
            raise InputError(
                f"the members of an ensemble give class probabilities, and {', '.join(without)} does not"
            )
        names = list(dict.fromkeys(member.name for member in self.members))
        self.name = name or (f"{len(self.members)} x {names[0]}" if len(names) == 1 else " + ".join(names))
        self._later = any(map(answers_later, self.members))

    @classmethod
    def of_passes(cls, model: Model, passes: int, *, name: str | None = None) -> Ensemble:
        """One model asked `passes` times, whose answers differ: dropout that stays on (Gal & Ghahramani, ICML 2016).

        The model itself must be stochastic, and no cache may stand between: it would repeat the first answer.
        """
        if not isinstance(passes, int) or isinstance(passes, bool) or passes < 1:
            raise InputError(f"passes is how often the model is asked about each input, at least 1, not {passes!r}")
        return cls([model] * passes, name=name)

    def __repr__(self) -> str:
        return f"Ensemble({self.name!r}, {len(self.members)} members)"

    @property
    def max_batch(self) -> int | None:
        """The most inputs that every member takes in one call."""
        bounds = [member.max_batch for member in self.members if member.max_batch is not None]
        return min(bounds, default=None)

    @property
    def predict(self) -> Callable[[Sequence[Any]], Any]:
        """The output for n inputs: `async def` when a member's is, which the drivers look at."""
        return self._predict_later if self._later else self._predict_now

    def _predict_now(self, inputs: Sequence[Any]) -> ModelOutput:
        if len(inputs) == 0:
            return empty_output(self.provides)
        outputs = [_asked(member, inputs) for member in self.members]
        return self._joined(outputs, _sum([output.latency_s for output in outputs]))

    async def _predict_later(self, inputs: Sequence[Any]) -> ModelOutput:
        if len(inputs) == 0:
            return empty_output(self.provides)
        start = perf_counter()
        outputs = await asyncio.gather(*(_asked_later(member, inputs) for member in self.members))
        n = len(inputs)
        return self._joined(outputs, np.full(n, (perf_counter() - start) / max(n, 1)))

    async def aclose(self) -> None:
        """Close the connections of the members that have any."""
        for member in dict.fromkeys(self.members):
            close = getattr(member, "aclose", None)
            if close is not None:
                await close()

    def _joined(self, outputs: Sequence[ModelOutput], latency_s: FloatArray | None) -> ModelOutput:
        n = len(outputs[0])
        failures = self._failures(outputs)
        columns = {name: _sum([getattr(output, name) for output in outputs]) for name in _SUMS}
        extra = np.full(n, len(outputs) - 1.0)
        extra += sum((output.extra_calls for output in outputs if output.extra_calls is not None), np.zeros(n))
        accounts: dict[str, Any] = {**columns, "latency_s": latency_s, "extra_calls": extra, "failures": failures}
        if any(len(output.failures) == n for output in outputs):  # a member failed for all: so does every row
            return ModelOutput(np.full(n, None, dtype=object), **accounts)
        sampled, classes = self._sampled(outputs, failures)
        mean = np.einsum("nsk->nk", sampled) / sampled.shape[1]
        labels = np.arange(mean.shape[1]) if classes is None else as_column(classes)
        return ModelOutput(
            labels[mean.argmax(axis=1)], probabilities=mean, classes=labels, sampled_probabilities=sampled, **accounts
        )

    def _sampled(
        self, outputs: Sequence[ModelOutput], failures: dict[int, Failure]
    ) -> tuple[AnyArray, AnyArray | None]:
        matrices = []
        for member, output in zip(self.members, outputs, strict=True):
            p, classes = output.probabilities, output.classes
            if p is None:
                raise ReplyUnreadable(f"{member.name}, a member of {self.name}, gave no class probabilities")
            first = outputs[0]
            same = first.classes is None or classes is None or np.array_equal(classes, first.classes)
            if p.shape != cast(AnyArray, first.probabilities).shape or not same:
                raise ModelError(f"the members of {self.name} give probabilities of different classes")
            matrices.append(p)
        sampled = np.stack(matrices, axis=1).astype(np.float64)
        sampled[list(failures)] = np.nan  # a row that failed holds anything
        return sampled, outputs[0].classes

    def _failures(self, outputs: Sequence[ModelOutput]) -> dict[int, Failure]:
        failures: dict[int, Failure] = {}
        for member, output in zip(self.members, outputs, strict=True):
            for row, failure in output.failures.items():
                failures.setdefault(row, Failure(failure.kind, f"{member.name}: {failure.message}"))
        return failures


_SUMS = ("cost", "prompt_tokens", "completion_tokens")


def _asked(member: Model, inputs: Sequence[Any]) -> ModelOutput:
    start = perf_counter()
    try:
        output = cast(ModelOutput, member.predict(inputs))
        return _checked(member, output, len(inputs), perf_counter() - start)
    except ModelError as error:
        return _failed(error, len(inputs), perf_counter() - start)


async def _asked_later(member: Model, inputs: Sequence[Any]) -> ModelOutput:
    start = perf_counter()
    try:
        if answers_later(member):
            output = await cast(Any, member.predict(inputs))
        else:
            output = await asyncio.to_thread(member.predict, inputs)
        return _checked(member, output, len(inputs), perf_counter() - start)
    except ModelError as error:
        return _failed(error, len(inputs), perf_counter() - start)


def _failed(error: ModelError, n: int, seconds: float) -> ModelOutput:
    return ModelOutput.failed(n, Failure(error.kind, str(error)), latency_s=seconds / max(n, 1))


def _checked(member: Model, output: ModelOutput, n: int, seconds: float) -> ModelOutput:
    if not isinstance(output, ModelOutput):
        raise InputError(f"{member.name} returns an awaitable and is not declared so: make its predict `async def`")
    if len(output) != n:
        raise ReplyUnreadable(f"{member.name} was given {n} inputs and answered {len(output)}")
    return with_own_latency(output, seconds)


def _sum(columns: Sequence[FloatArray | None]) -> FloatArray | None:
    """(n,) sums; NaN where a part is not known; None when all are."""
    known = [np.asarray(column, dtype=np.float64) for column in columns if column is not None]
    if not known:
        return None
    total: FloatArray = np.sum(known, axis=0)
    return total if len(known) == len(columns) else np.full_like(total, np.nan)
