"""One rule, online and offline: whatever drives it, the same recorded outputs are decided in the same way.

The first law. Everything that decides is compared with the rule written out by hand, input by input.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bisupervised.cascade import Ask, BiSupervised, Level, deciding, replay
from bisupervised.decision import decide, decide_and_answer
from bisupervised.errors import PredictionRejected
from bisupervised.fallback import Default
from bisupervised.quantifiers import GivenConfidence
from bisupervised.records import Failure, LevelName, ModelOutput, Outcome, Reason, Route, take_outputs
from bisupervised.supervisor import Supervisor
from bisupervised.table import Table, table_from_outcomes
from fakes import FakeModel

NAN, INF = float("nan"), float("inf")
CONFIDENCES = st.sampled_from([NAN, -INF, 0.0, 0.3, math.nextafter(0.3, 0.0), 0.7, 0.7, 1.0, INF]) | st.floats(0, 1)
THRESHOLDS = st.sampled_from([-INF, 0.0, 0.3, 0.7, 1.0, INF]) | st.floats(0, 1)
NEVER = "other"


@dataclass(frozen=True)
class Recorded:
    """What a model said about every input, and its supervisor's settings."""

    confidences: list[float]
    predictions: list[Any]
    failed: frozenset[int]
    threshold: float
    never: tuple[str, ...]

    def output(self) -> ModelOutput:
        predictions = np.empty(len(self.predictions), dtype=object)
        predictions[:] = self.predictions
        failures = {row: Failure("timeout", f"no answer about {row}") for row in self.failed}
        return ModelOutput(predictions, confidences=np.array(self.confidences, dtype=float), failures=failures)

    def supervisor(self) -> Supervisor:
        return Supervisor(GivenConfidence(), self.threshold, never_trust=self.never)

    # The rule by hand.
    def reason(self, row: int) -> Reason:
        if row in self.failed:
            return Reason.FAILED
        confidence = self.confidences[row]
        if self.predictions[row] in self.never or math.isnan(confidence):
            return Reason.NO_EVIDENCE
        return Reason.TRUSTED if confidence >= self.threshold else Reason.NOT_TRUSTED

    def trusted(self, row: int) -> bool:
        return self.reason(row) is Reason.TRUSTED


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Recorded, Recorded]:
    n = draw(st.integers(0, 9))

    def level(labels: list[Any]) -> Recorded:
        return Recorded(
            draw(st.lists(CONFIDENCES, min_size=n, max_size=n)),
            draw(st.lists(st.sampled_from(labels), min_size=n, max_size=n)),
            draw(st.frozensets(st.integers(0, n - 1), max_size=n)) if n else frozenset(),
            draw(THRESHOLDS),
            draw(st.sampled_from([(), (NEVER,)])),
        )

    # The local model knows fewer classes, and says `other` for the rest.
    return level(["a", NEVER]), level(["a", "b", "c", NEVER])


def route_by_hand(local: Recorded, remote: Recorded, row: int) -> Route:
    if local.trusted(row):
        return Route.LOCAL
    return Route.REMOTE if remote.trusted(row) else Route.REJECTED


def told(levels: tuple[Recorded, Recorded]) -> list[tuple[Any, ...]]:
    """What every driver must say about each input: route, answer, reasons, whether the remote model was asked."""
    local, remote = levels
    rows = []
    for row in range(len(local.confidences)):
        route = route_by_hand(local, remote, row)
        deciding_level = local if route is Route.LOCAL else remote
        answer = None if route is Route.REJECTED else deciding_level.predictions[row]
        because = None if route is Route.LOCAL else local.reason(row)
        rows.append((route, answer, deciding_level.reason(row), because, route is not Route.LOCAL))
    return rows


def said(outcome: Outcome) -> tuple[Any, ...]:
    return (outcome.route, outcome.answer, outcome.reason, outcome.deferred_because, outcome.remote_requested)


def routes_of(levels: tuple[Recorded, Recorded]) -> list[Route]:
    return [row[0] for row in told(levels)]


def effective(level: Recorded) -> np.ndarray:
    """The confidences as a table records them: none where the model failed or its prediction is never trusted."""
    usable = [level.reason(row) in (Reason.TRUSTED, Reason.NOT_TRUSTED) for row in range(len(level.confidences))]
    return np.where(usable, level.confidences, NAN) if usable else np.empty(0)


ONE_OF_EACH = (
    Recorded([0.7, 0.69, NAN, 0.9, 0.9, 0.1], ["a"] * 4 + [NEVER, "a"], frozenset({3}), 0.7, (NEVER,)),
    Recorded([NAN, 0.3, 0.3, NAN, 0.2, 1.0], ["b"] * 6, frozenset({5}), 0.3, ()),
)


@given(recordings())
@example(ONE_OF_EACH)
def test_the_generator_driven_by_hand_follows_the_rule_and_asks_each_level_at_most_once(levels):
    local, remote = levels
    n = len(local.confidences)
    steps = deciding(n, local.supervisor(), remote.supervisor())
    assert next(steps) == Ask(LevelName.LOCAL)
    expected = [row for row in range(n) if not local.trusted(row)]
    try:
        ask = steps.send(local.output())
        assert ask.level is LevelName.REMOTE
        assert ask.rows.tolist() == expected, "the deferred inputs, each once, in their order"
        steps.send(take_outputs(remote.output(), ask.rows))
    except StopIteration as stop:
        decisions = stop.value
    assert decisions.routes.tolist() == routes_of(levels)
    assert decisions.deferred.tolist() == expected
    assert (decisions.remote_output is None) == (not expected)


@given(recordings())
@example(ONE_OF_EACH)
def test_a_replay_follows_the_rule(levels):
    local, remote = levels
    decisions = replay(local.output(), remote.output(), (local.supervisor(), remote.supervisor()))
    assert decisions.routes.tolist() == routes_of(levels)


@given(recordings())
@example(ONE_OF_EACH)
def test_recorded_columns_are_decided_by_the_rule(levels):
    local, remote = levels
    columns = (effective(local), local.threshold, effective(remote), remote.threshold)
    assert decide(*columns).tolist() == routes_of(levels)
    routes, answers = decide_and_answer(*columns, local.output().predictions, remote.output().predictions)
    assert routes.tolist() == routes_of(levels)
    for answer, (route, expected, *_) in zip(answers, told(levels), strict=True):
        assert route is Route.REJECTED or answer == expected


def running(levels: tuple[Recorded, Recorded], later: tuple[bool, bool], size: int | None = None) -> BiSupervised:
    local, remote = levels
    return BiSupervised(
        Level(FakeModel(local.output(), later=later[0]), local.supervisor()),
        Level(FakeModel(remote.output(), later=later[1], max_batch=size), remote.supervisor()),
        Default(None),
    )


LATER = st.tuples(st.booleans(), st.booleans())


@settings(max_examples=60)
@given(recordings(), LATER)
@example(ONE_OF_EACH, (False, True))
def test_plain_calls_follow_the_rule(levels, later):
    with running(levels, later) as system:
        outcomes = [system.predict(row) for row in range(len(levels[0].confidences))]
    assert [said(outcome) for outcome in outcomes] == told(levels)


@settings(max_examples=60)
@given(recordings(), LATER)
@example(ONE_OF_EACH, (False, True))
def test_calls_in_an_event_loop_follow_the_rule_however_many_run_at_once(levels, later):
    async def all_at_once():
        system = running(levels, later)
        return await asyncio.gather(*(system.apredict(row) for row in range(len(levels[0].confidences))))

    assert [said(outcome) for outcome in asyncio.run(all_at_once())] == told(levels)


@settings(max_examples=60)
@given(recordings(), LATER, st.integers(1, 10), st.sampled_from([None, 1, 2]), st.integers(1, 4))
@example(ONE_OF_EACH, (False, True), 2, 1, 3)
def test_batches_of_any_size_follow_the_rule(levels, later, batch_size, size, max_concurrency):
    n = len(levels[0].confidences)
    with running(levels, later, size) as system:
        outcomes = system.predict_many(range(n), batch_size=batch_size, max_concurrency=max_concurrency)
        remote = system.remote.model
    assert [said(outcome) for outcome in outcomes] == told(levels)
    assert remote.asked == [row for row in range(n) if not levels[0].trusted(row)], "each deferred input once"
    if n:
        table = table_from_outcomes(outcomes)
        again = Table.from_columns(table.to_columns())
        for recorded in (table, again):
            columns = (
                recorded.local.confidences,
                levels[0].threshold,
                recorded.remote.confidences,
                levels[1].threshold,
            )
            assert decide(*columns).tolist() == routes_of(levels), "and so does the table they leave"


def test_a_rejection_that_is_raised_says_the_same():
    levels = running(ONE_OF_EACH, (False, False))
    system = BiSupervised(levels.local, levels.remote)
    for row, expected in enumerate(told(ONE_OF_EACH)):
        try:
            outcome = system.predict(row)
        except PredictionRejected as error:
            outcome = error.outcome
        assert said(outcome) == expected
    system.close()
