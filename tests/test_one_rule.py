"""One rule, online and offline: whatever drives it, the same recorded outputs are decided in the same way.

The first law. Everything that decides is compared with the rule written out by hand, input by input.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bisupervised.cascade import Ask, BiSupervised, Level, deciding, replay
from bisupervised.decision import decide, decide_and_answer
from bisupervised.errors import PredictionRejected
from bisupervised.evaluation.evaluation import recorded_routes
from bisupervised.evaluation.system import as_routed, bisupervised
from bisupervised.fallback import Default
from bisupervised.quantifiers import GivenConfidence
from bisupervised.records import (
    BothLevels,
    Failure,
    LevelName,
    ModelOutput,
    Outcome,
    PairConfidences,
    Reason,
    Route,
    take_outputs,
)
from bisupervised.supervisor import Supervisor, weighed
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
    abstain: float = -INF  # of the 1st level
    learned: bool = False  # of the 1st level: `halved` confidences are compared with the thresholds
    pair: bool = False  # of the 2nd level: `weigh` decides

    def output(self) -> ModelOutput:
        predictions = np.empty(len(self.predictions), dtype=object)
        predictions[:] = self.predictions
        failures = {row: Failure("timeout", f"no answer about {row}") for row in self.failed}
        return ModelOutput(predictions, confidences=np.array(self.confidences, dtype=float), failures=failures)

    def supervisor(self) -> Supervisor:
        return Supervisor(
            GivenConfidence(),
            self.threshold,
            never_trust=self.never,
            abstain=self.abstain,
            learned=halved if self.learned else None,
            pair=weigh if self.pair else None,
        )

    def confidence(self, row: int) -> float:
        """NaN where there is none that counts."""
        no_evidence = row in self.failed or self.predictions[row] in self.never
        confidence = self.confidences[row] / 2 if self.learned else self.confidences[row]
        return NAN if no_evidence else confidence

    # The rule by hand.
    def reason(self, row: int) -> Reason:
        if row in self.failed:
            return Reason.FAILED
        confidence = self.confidence(row)
        if math.isnan(confidence):
            return Reason.NO_EVIDENCE
        if confidence >= self.threshold:
            return Reason.TRUSTED
        return Reason.ABSTAINED if confidence < self.abstain else Reason.NOT_TRUSTED

    def trusted(self, row: int) -> bool:
        return self.reason(row) is Reason.TRUSTED


def halved(output: ModelOutput, confidences: np.ndarray) -> np.ndarray:
    """A learned supervisor of the 1st level, which knows something even of what nobody may trust."""
    return np.where(np.isnan(confidences), 0.7, confidences / 2)


def weigh(both: BothLevels) -> PairConfidences:
    """A supervisor of both levels: the larger confidence, a little less where the answers differ."""
    local, remote = both.local_confidences, both.remote_confidences
    agree = np.array(
        [a == b for a, b in zip(both.local_output.predictions, both.remote_output.predictions, strict=True)]
    )
    preferred = (local > remote) | (np.isnan(remote) & ~np.isnan(local))
    return PairConfidences(np.where(agree, 1.0, 0.9) * np.fmax(local, remote), preferred)


def weigh_by_hand(local: Recorded, remote: Recorded, row: int) -> tuple[float, bool]:
    """Its confidence, and whether it prefers the local answer."""
    left, right = local.confidence(row), remote.confidence(row)
    weight = 1.0 if local.predictions[row] == remote.predictions[row] else 0.9
    if math.isnan(left) or math.isnan(right):
        return (right if math.isnan(left) else left) * weight, math.isnan(right) and not math.isnan(left)
    return max(left, right) * weight, left > right


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
    local, remote = level(["a", NEVER]), level(["a", "b", "c", NEVER])
    local = replace(local, abstain=draw(st.just(-INF) | THRESHOLDS), learned=draw(st.booleans()))
    return local, replace(remote, pair=draw(st.booleans()))


def deferred_by_hand(local: Recorded, row: int) -> bool:
    return local.reason(row) not in (Reason.TRUSTED, Reason.ABSTAINED)


def decided_by_hand(local: Recorded, remote: Recorded, row: int) -> tuple[Route, Reason]:
    if not deferred_by_hand(local, row):
        return (Route.LOCAL if local.trusted(row) else Route.REJECTED), local.reason(row)
    if not remote.pair:
        return (Route.REMOTE if remote.trusted(row) else Route.REJECTED), remote.reason(row)
    confidence, prefers_local = weigh_by_hand(local, remote, row)
    if confidence >= remote.threshold:
        return (Route.LOCAL if prefers_local else Route.REMOTE), Reason.TRUSTED
    if row in remote.failed:
        return Route.REJECTED, Reason.FAILED
    return Route.REJECTED, Reason.NO_EVIDENCE if math.isnan(confidence) else Reason.NOT_TRUSTED


def told(levels: tuple[Recorded, Recorded]) -> list[tuple[Any, ...]]:
    """What every driver must say about each input: route, answer, reasons, whether the remote model was asked."""
    local, remote = levels
    rows = []
    for row in range(len(local.confidences)):
        route, reason = decided_by_hand(local, remote, row)
        answering = local if route is Route.LOCAL else remote
        answer = None if route is Route.REJECTED else answering.predictions[row]
        asked = deferred_by_hand(local, row)
        rows.append((route, answer, reason, local.reason(row) if asked else None, asked))
    return rows


def said(outcome: Outcome) -> tuple[Any, ...]:
    return (outcome.route, outcome.answer, outcome.reason, outcome.deferred_because, outcome.remote_requested)


def routes_of(levels: tuple[Recorded, Recorded]) -> list[Route]:
    return [row[0] for row in told(levels)]


def effective(level: Recorded) -> np.ndarray:
    """The confidences as a table records them: none where the model failed or its prediction is never trusted."""
    return np.array([level.confidence(row) for row in range(len(level.confidences))], dtype=float)


def decided_in_columns(local: Recorded, remote: Recorded, left: np.ndarray, right: np.ndarray) -> Any:
    """What the evaluation makes of recorded columns, whose confidences are given: routes, and who is asked."""
    columns = {"local_confidence": left, "remote_confidence": right}
    columns |= {f"{name}_correct": np.ones(len(left)) for name in ("local", "remote")}
    pair = None
    if remote.pair:
        pair = weighed(weigh(BothLevels(local.output(), left, remote.output(), right)), left, right)
    table = Table.from_columns({"id": [str(row) for row in range(len(left))], **columns})
    return bisupervised(table, local.threshold, remote.threshold, local.abstain, pair=pair)


ONE_OF_EACH = (
    Recorded([0.7, 0.69, NAN, 0.9, 0.9, 0.1], ["a"] * 4 + [NEVER, "a"], frozenset({3}), 0.7, (NEVER,)),
    Recorded([NAN, 0.3, 0.3, NAN, 0.2, 1.0], ["b"] * 6, frozenset({5}), 0.3, ()),
)
THREE_ACTIONS = (
    Recorded([1.4, 1.38, NAN, 0.2, 1.0, 0.8], ["a"] * 6, frozenset(), 0.7, (), abstain=0.2, learned=True),
    Recorded([0.1, 0.3, 0.3, 0.9, 0.4, NAN], ["a", "b", "a", "a", "a", "b"], frozenset({2}), 0.5, (), pair=True),
)


@given(recordings())
@example(ONE_OF_EACH)
@example(THREE_ACTIONS)
def test_the_generator_driven_by_hand_follows_the_rule_and_asks_each_level_at_most_once(levels):
    local, remote = levels
    n = len(local.confidences)
    steps = deciding(n, local.supervisor(), remote.supervisor())
    assert next(steps) == Ask(LevelName.LOCAL)
    expected = [row for row in range(n) if deferred_by_hand(local, row)]
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
@example(THREE_ACTIONS)
def test_a_replay_follows_the_rule(levels):
    local, remote = levels
    decisions = replay(local.output(), remote.output(), (local.supervisor(), remote.supervisor()))
    assert decisions.routes.tolist() == routes_of(levels)


@given(recordings())
@example(ONE_OF_EACH)
@example(THREE_ACTIONS)
def test_recorded_columns_are_decided_by_the_rule(levels):
    local, remote = levels
    left, right = effective(local), effective(remote)
    if len(left):
        decided = decided_in_columns(local, remote, left, right)
        assert decided.routes.tolist() == routes_of(levels)
        assert decided.requested.tolist() == [row[-1] for row in told(levels)]
    if remote.pair:
        return
    columns = (left, local.threshold, right, remote.threshold)
    assert decide(*columns, local.abstain).tolist() == routes_of(levels)
    predictions = local.output().predictions, remote.output().predictions
    routes, answers = decide_and_answer(*columns, *predictions, local.abstain)
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
@example(THREE_ACTIONS, (True, False))
def test_plain_calls_follow_the_rule(levels, later):
    with running(levels, later) as system:
        outcomes = [system.predict(row) for row in range(len(levels[0].confidences))]
    assert [said(outcome) for outcome in outcomes] == told(levels)


@settings(max_examples=60)
@given(recordings(), LATER)
@example(ONE_OF_EACH, (False, True))
@example(THREE_ACTIONS, (True, False))
def test_calls_in_an_event_loop_follow_the_rule_however_many_run_at_once(levels, later):
    async def all_at_once():
        system = running(levels, later)
        return await asyncio.gather(*(system.apredict(row) for row in range(len(levels[0].confidences))))

    assert [said(outcome) for outcome in asyncio.run(all_at_once())] == told(levels)


@settings(max_examples=60)
@given(recordings(), LATER, st.integers(1, 10), st.sampled_from([None, 1, 2]), st.integers(1, 4))
@example(ONE_OF_EACH, (False, True), 2, 1, 3)
@example(THREE_ACTIONS, (True, False), 4, None, 1)
def test_batches_of_any_size_follow_the_rule(levels, later, batch_size, size, max_concurrency):
    n = len(levels[0].confidences)
    with running(levels, later, size) as system:
        outcomes = system.predict_many(range(n), batch_size=batch_size, max_concurrency=max_concurrency)
        remote = system.remote.model
    assert [said(outcome) for outcome in outcomes] == told(levels)
    assert remote.asked == [row for row in range(n) if deferred_by_hand(levels[0], row)], "each deferred input once"
    if n:
        table = table_from_outcomes(outcomes)
        again = Table.from_columns(table.to_columns())
        for recorded in (table, again):
            routes = recorded_routes(recorded)
            assert routes is not None
            assert routes.tolist() == routes_of(levels), "and so does the table they leave"
            assert as_routed(recorded, routes).requested.tolist() == [row[-1] for row in told(levels)]


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
