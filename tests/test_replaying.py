"""The replay of a log: which requests, what the local model is asked, and what comes out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisupervised.cascade import Level
from bisupervised.errors import InputError, ModelError, TableError
from bisupervised.evaluation.agreement import label_reader, token_f1
from bisupervised.evaluation.labelling import judgements_of, rows_to_label
from bisupervised.evaluation.replayed import Judgement, LoggedTraffic, Question, Replay, judge, kept_locally
from bisupervised.label_files import may_be_replaced, read_judgements, write_to_label
from bisupervised.models import FunctionModel
from bisupervised.models.openai_reply import Prices, Usage
from bisupervised.quantifiers import GivenConfidence
from bisupervised.records import Evidence, Failure, ModelOutput
from bisupervised.replaying import (
    Recording,
    RemotePrices,
    answered_before,
    assess_by_labels,
    join_parts,
    record_sample,
    sample_of,
    sort_requests,
    with_log,
)
from bisupervised.report.replayed import cautions, headline, next_steps, replay_text, table_lines
from bisupervised.request_logs import LoggedRequest, RequestLog
from bisupervised.sources import read_table
from bisupervised.supervisor import Supervisor
from bisupervised.table import Table
from fakes import Scripted, recorded

NAN = math.nan


def request(number: int, text: str | None = None, answer: str | None = "Yes.", **more: Any) -> LoggedRequest:
    body = {"messages": [{"role": "user", "content": text or f"question {number}"}]}
    return LoggedRequest(f"r{number}", number, "chat", body, answer, **more)


def level(predict: Any, **more: Any) -> Level:
    return Level(Scripted(predict), Supervisor(GivenConfidence(), 0.5), **more)


def says(answer: str, confidence: float) -> Any:
    return lambda texts: recorded([confidence] * len(texts), [answer] * len(texts))


def last_message(one: LoggedRequest) -> Any:
    return one.text("last_message")


def replayed(
    confidences: Sequence[float],
    local: Sequence[Any],
    remote: Sequence[Any],
    *,
    costs: Sequence[float] | None = None,
    labels: Sequence[Any] | None = None,
    others: Sequence[float] = (),
    days: float = NAN,
    local_cost: float = 0.0,
    judgements: dict[str, Judgement] | None = None,
    **question: Any,
) -> Replay:
    """The replay of requests r0, r1, … with these local answers and remote ones."""
    requests = [
        request(row, answer=answer, cost=NAN if costs is None else costs[row], label=labels and labels[row])
        for row, answer in enumerate(remote)
    ]
    model = level(lambda texts: recorded(confidences, local), cost=local_cost)
    parts = record_sample(model, requests, last_message, batch_size=len(requests))
    table = with_log(join_parts(list(parts)), range(len(requests)), requests, RemotePrices())
    log = RequestLog(requests, [], {})
    traffic = replace(sort_requests(log).traffic(RemotePrices(), days), other_costs=np.array(others, dtype=float))
    return judge(table, traffic, Question(**question), judgements)


# ---------------------------------------------------------------- which requests


def test_requests_are_sorted_by_their_first_reason_and_by_the_gateways_rules() -> None:
    requests = [
        request(0),
        request(1, unscorable=("tools", "image")),
        request(2, unscorable=("json_mode",)),
        request(3, answer=None, unscorable=("no_answer",)),
        request(4, answer=None, unscorable=("json_mode",)),
        request(5, unscorable=("tools",)),
    ]
    log = RequestLog(requests, [], {})
    plain = sort_requests(log)
    assert [one.id for one in plain.scorable] == ["r0"]
    assert plain.reasons == {"tools": 2, "json_mode": 2, "no_answer": 1}
    ruled = sort_requests(log, lambda kind: kind in ("json_mode", "tools"))
    assert [one.id for one in ruled.scorable] == ["r0", "r2", "r5"]
    assert ruled.reasons == {"no_answer": 2, "image": 1}
    assert len(ruled.scorable) + len(ruled.others) == len(requests)


def test_a_larger_sample_of_the_same_seed_holds_the_smaller_one() -> None:
    requests = [request(number) for number in range(200)]
    small, large, other = (sample_of(requests, size, seed) for size, seed in ((20, 3), (90, 3), (20, 4)))
    assert {one.id for one in small} < {one.id for one in large}
    assert {one.id for one in small} != {one.id for one in other}
    assert [one.row for one in large] == sorted(one.row for one in large)
    assert len(sample_of(requests, None)) == len(sample_of(requests, 999)) == 200
    with pytest.raises(InputError, match="at least one"):
        sample_of(requests, 0)


def test_a_cost_is_the_logs_then_that_of_its_tokens_then_the_constant_then_not_known() -> None:
    usage = Usage(prompt=1000, completion=100, cached=400)
    requests = [request(0, cost=0.5, usage=usage), request(1, usage=usage), request(2)]
    prices = Prices(2.5, 10.0, 1.25)
    assert RemotePrices(prices, 0.7).costs(requests).tolist() == [0.5, 0.003, 0.7]
    assert RemotePrices(prices).costs(requests)[:2].tolist() == [0.5, 0.003]
    assert np.isnan(RemotePrices().costs(requests)).tolist() == [False, True, True]


# ---------------------------------------------------------------- asking


@pytest.mark.parametrize("later", [False, True])
def test_the_local_model_is_given_what_input_of_makes_of_each_request(later: bool) -> None:
    asked: list[str] = []

    def answer(texts: Sequence[str]) -> ModelOutput:
        asked.extend(texts)
        return recorded([0.9] * len(texts), [f"about {text}" for text in texts])

    async def answer_later(texts: Sequence[str]) -> ModelOutput:
        return answer(texts)

    model = FunctionModel(answer_later if later else answer, provides={Evidence.CONFIDENCE})
    local = Level(model, Supervisor(GivenConfidence(), 0.5))
    requests = [request(row, cost=0.1, latency_s=2.0) for row in range(5)]
    parts = list(record_sample(local, requests, last_message, settings="s1", batch_size=2))
    assert [len(part) for part in parts] == [2, 2, 1]
    table = join_parts(parts)
    assert sorted(asked) == [f"question {row}" for row in range(5)]
    assert table.local.predictions.tolist() == [f"about question {row}" for row in range(5)]
    assert table.remote.predictions.tolist() == ["Yes."] * 5
    assert (table.remote.cost.tolist(), table.remote.latency_s.tolist()) == ([0.1] * 5, [2.0] * 5)
    assert set(table.extra["local_settings"]) == {"s1"}


def test_a_local_model_that_answers_nothing_stops_the_replay_at_once() -> None:
    calls = []

    def refuse(texts: Sequence[str]) -> ModelOutput:
        calls.append(len(texts))
        return ModelOutput.failed(len(texts), Failure("unreachable", "refused"))

    with pytest.raises(ModelError, match="answered none of the first 4 requests: unreachable: refused"):
        list(record_sample(level(refuse), [request(row) for row in range(40)], last_message, batch_size=4))
    assert calls == [4]


def test_single_failures_are_requests_to_the_remote_model_and_counted() -> None:
    local = ModelOutput(
        np.array(["Yes", None, "yes"], dtype=object),
        confidences=np.array([0.9, 0.99, NAN]),
        failures={1: Failure("timeout", "no answer in 1 s")},
    )
    table = join_parts(
        list(record_sample(level(lambda texts: local), [request(row) for row in range(3)], last_message))
    )
    replay = judge(table, LoggedTraffic(np.ones(3), np.empty(0), {}), Question(configured_threshold=-math.inf))
    assert replay.failures == {"timeout": 1}
    assert replay.n_without_confidence == 1
    assert [point.n_local for point in replay.points if point.configured] == [1]
    assert replay.agreement[:1] == (1.0,)


# ---------------------------------------------------------------- the recording


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_what_was_asked_is_kept_and_only_the_rest_is_asked(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"recorded{suffix}"
    requests = [request(row, text=f'a, "{row}"\n\u2029') for row in range(6)]
    recording = Recording(path, "model 1", Question())
    assert recording.missing(requests) == requests
    for part in record_sample(level(says("0123", 0.75)), requests[:4], last_message, settings="model 1"):
        recording.add(part)
    recording.save()
    again = Recording(path, "model 1", Question())
    assert [one.id for one in again.missing(requests)] == ["r4", "r5"]
    for part in record_sample(level(says("x", 0.5)), requests[4:], last_message, settings="model 1"):
        again.add(part)
    again.save()
    whole = Recording(path, "model 1", Question())
    assert whole.missing(requests) == []
    rows = answered_before(whole.table, requests)
    table = with_log(whole.table, rows, requests, RemotePrices())
    assert table.local.confidences.tolist() == [0.75] * 4 + [0.5] * 2
    assert len(read_table(path)) == 6  # what `evaluate` reads


def test_another_input_under_the_same_id_is_asked_again_and_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recorded.jsonl"
    recording = Recording(path, "model 1", Question())
    for part in record_sample(level(says("x", 0.75)), [request(0), request(1)], last_message, settings="model 1"):
        recording.add(part)
    recording.save()
    changed = [request(0), request(1, text="another question")]
    again = Recording(path, "model 1", Question())
    assert [one.id for one in again.missing(changed)] == ["r1"]
    assert again.table.ids.tolist() == ["r0"]
    with pytest.raises(InputError, match=r"recorded\.jsonl: it holds the answers of another local model"):
        Recording(path, "model 2", Question()).missing(changed)


def test_a_failure_that_may_pass_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "recorded.jsonl"
    failures = {0: Failure("timeout", "slow"), 1: Failure("unreadable", "none of the labels")}
    output = ModelOutput(np.array([None, None, "x"], dtype=object), confidences=np.ones(3), failures=failures)
    recording = Recording(path, "", Question())
    for part in record_sample(level(lambda texts: output), [request(row) for row in range(3)], last_message):
        recording.add(part)
    recording.save()
    assert len(recording.table) == 3
    assert Recording(path, "", Question()).table.ids.tolist() == ["r1", "r2"]


def test_a_table_that_is_no_recording_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "recorded.csv"
    path.write_text("id,local_confidence,remote_confidence\n1,0.5,0.5\n")
    with pytest.raises(TableError, match="is no recording of `replay`"):
        Recording(path, "", Question())
    assert path.read_text().startswith("id,local_confidence")


def test_answers_in_other_words_than_their_labels_are_kept_as_correct(tmp_path: Path) -> None:
    path = tmp_path / "recorded.jsonl"
    requests = [request(row, answer="Yes.", label="yes" if row else "no") for row in range(30)]
    recording = Recording(path, "", Question())
    for part in record_sample(level(says("YES", 0.9)), requests, last_message):
        recording.add(part)
    recording.save()
    table = read_table(path)  # whose check of labels would refuse "Yes." for "yes"
    assert table.correct("remote").tolist() == [0.0] + [1.0] * 29
    assert table.correct("local").tolist() == [0.0] + [1.0] * 29
    assert Recording(path, "", Question()).missing(requests) == []


# ---------------------------------------------------------------- figures


def test_the_points_count_what_each_threshold_would_have_done() -> None:
    confidences = np.arange(100) / 100.0
    local = ["yes" if row % 10 else "no" for row in range(100)]
    replay = replayed(confidences, local, ["Yes."] * 100, costs=[0.01] * 100, others=[0.01] * 100, days=2.0)
    assert [point.request_rate.value for point in replay.points] == [0.9, 0.7, 0.5, 0.3, 0.1]
    assert [point.n_local for point in replay.points] == [10, 30, 50, 70, 90]
    assert [point.n_differing for point in replay.points] == [1, 3, 5, 7, 9]
    of_all = [point.request_rate_of_all.value for point in replay.points]
    assert of_all == pytest.approx([0.95, 0.85, 0.75, 0.65, 0.55])
    assert [point.saved.value for point in replay.points] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert [point.saved_share.value for point in replay.points] == pytest.approx([0.05, 0.15, 0.25, 0.35, 0.45])
    for point in replay.points:
        kept = kept_locally(replay.table, replay.grades, point.local_threshold)
        assert kept.sum() == point.n_local
        assert point.disagreement.low < point.disagreement.value < point.disagreement.high
    assert replay.agreement.value == 0.9


def test_the_share_of_the_sample_stands_for_the_whole_log() -> None:
    replay = replayed([0.1, 0.9], ["a", "a"], ["a", "a"], costs=[0.01, 0.03], request_rates=[0.5])
    whole = replace(replay.traffic, costs=np.full(1000, 0.02))
    point = judge(replay.table, whole, Question(request_rates=[0.5])).points[0]
    assert point.saved.value == pytest.approx(0.75 * 20.0)


def test_the_local_models_own_cost_is_taken_off_for_every_request() -> None:
    replay = replayed(
        [0.1, 0.2, 0.8, 0.9], ["a"] * 4, ["a"] * 4, costs=[0.01] * 4, local_cost=0.004, request_rates=[0.5]
    )
    assert replay.points[0].saved.value == pytest.approx(2 * 0.01 - 4 * 0.004)
    dear = replayed([0.1, 0.9], ["a"] * 2, ["a"] * 2, costs=[0.01] * 2, local_cost=0.02, request_rates=[0.5])
    assert dear.points[0].saved.value == pytest.approx(0.01 - 0.04)
    assert "you would pay about 0.03" in headline(dear)


def test_unknown_costs_stay_unknown() -> None:
    replay = replayed([0.1, 0.9], ["a"] * 2, ["a"] * 2, request_rates=[0.5])
    assert math.isnan(replay.points[0].saved.value)
    assert "what you would save is not known" in headline(replay)
    assert any("--remote-cost" in one for one in cautions(replay))
    some = replayed([0.1, 0.9, 0.95], ["a"] * 3, ["a"] * 3, costs=[0.01, 0.01, NAN], request_rates=[0.34])
    assert some.points[0].saved.value == pytest.approx(0.01)
    assert some.traffic.n_unknown_costs == 1
    assert any("cost of 1 requests is not known" in one for one in cautions(some))
    assert "of the known spend" in headline(some)


def test_savings_have_an_interval_that_covers_the_truth_in_repeated_samples() -> None:
    """Costs that vary a hundredfold and go with confidence; samples of 200 from a log of 20,000."""
    rng = np.random.default_rng(2)
    confidences = rng.random(20_000)
    costs = np.exp(rng.normal(0.0, 1.0, 20_000) - confidences)
    true = costs[confidences >= 0.5].sum()
    traffic = LoggedTraffic(costs, np.empty(0), {})
    covered = 0
    for repetition in range(60):
        rows = rng.choice(20_000, 200, replace=False)
        requests = [request(int(row), answer="a", cost=float(costs[row])) for row in rows]
        output = recorded(confidences[rows], ["a"] * 200)
        table = _table(output, requests)
        question = Question(request_rates=[], configured_threshold=0.5, seed=repetition)
        low, high = judge(table, traffic, question).points[0].saved[1:]
        covered += low <= true <= high
    assert covered >= 52  # 57 expected; 52 or fewer in less than 1 % of runs


def _table(output: ModelOutput, requests: Sequence[LoggedRequest]) -> Table:
    from bisupervised.outcomes import level_rows

    local = level_rows(output, np.asarray(output.confidences), 0.0, 0.0)
    ids = np.array([one.id for one in requests])
    bare = Table(ids, None, local, local)
    return with_log(bare, range(len(requests)), requests, RemotePrices())


def test_the_start_is_the_fewest_requests_whose_disagreement_is_shown_to_be_within() -> None:
    confidences = np.arange(1000) / 1000.0
    local = ["yes" if row >= 500 or row % 3 else "no" for row in range(1000)]
    replay = replayed(confidences, local, ["yes"] * 1000, costs=[0.01] * 1000, max_disagreement=0.05)
    assert replay.start is not None
    assert replay.start.request_rate.value == 0.5
    assert replay.shown is replay.start
    strict = replayed(confidences, local, ["yes"] * 1000, max_disagreement=0.0001, configured_threshold=0.4)
    assert strict.start is None
    assert strict.shown is not None
    assert strict.shown.configured


def test_a_confidence_that_says_nothing_is_told() -> None:
    rng = np.random.default_rng(0)
    local = ["yes" if flag else "no" for flag in rng.random(400) < 0.7]
    replay = replayed(rng.random(400), local, ["yes"] * 400)
    assert any("not shown to tell agreeing from differing" in one for one in cautions(replay))
    telling = replayed([0.9 if one == "yes" else 0.1 for one in local], local, ["yes"] * 400)
    assert not any("not shown to tell" in one for one in cautions(telling))


def test_ties_and_missing_confidences_are_never_divided() -> None:
    replay = replayed([0.5] * 6 + [NAN] * 4, ["a"] * 10, ["a"] * 10)
    assert [point.n_local for point in replay.points] == [6]
    none = replayed([NAN] * 3, ["a"] * 3, ["a"] * 3)
    assert none.shown is None
    assert none.labels is None
    assert "every request would go to the remote model" in replay_text(none)
    assert next_steps(none) == []


@pytest.mark.parametrize("rate", [-0.1, 1.1, NAN])
def test_a_request_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match="a request rate is a share"):
        replayed([0.5, 0.6], ["a"] * 2, ["a"] * 2, request_rates=[rate])


def test_answers_in_words_are_said_to_be_hard_to_compare_and_get_a_second_view() -> None:
    remote = [f"The capital of country {row} is a large and rather old city by the sea" for row in range(50)]
    local = [f"It is the capital of country {row}, a large old city" for row in range(50)]
    replay = replayed(np.linspace(0, 1, 50), local, remote)
    assert replay.in_words
    assert replay.agreement.value == 0.0
    assert any("token F1" in one and "--agreement token_f1" in one for one in cautions(replay))
    assert "F1" in table_lines(replay)[1]
    graded = replayed(np.linspace(0, 1, 50), local, remote, grade=token_f1)
    assert 0.5 < graded.agreement.value < 0.9
    assert 0 < graded.points[0].n_differing < graded.points[0].n_local
    labels = replayed([0.1, 0.9], ["yes", "no"], ["yes", "yes"])
    assert not labels.in_words


def test_labels_are_compared_as_labels() -> None:
    read = label_reader({"positive": ["pos"], "negative": ["neg"]})
    replay = replayed([0.2, 0.8, 0.9], ["positive", "negative", "positive"], ["Pos.", "NEG", "hm"], read_label=read)
    assert replay.grades.tolist() == [1.0, 1.0, 0.0]
    assert any("1 remote answers are none of the labels" in one for one in cautions(replay))


# ---------------------------------------------------------------- words


def test_the_sentence_says_what_is_saved_a_day_and_how_many_answers_differ() -> None:
    local = ["yes" if row % 50 else "no" for row in range(1000)]
    replay = replayed(
        np.arange(1000) / 1000.0, local, ["yes"] * 1000, costs=[0.01] * 1000, days=4.0, request_rates=[0.5]
    )
    sentence = headline(replay)
    assert sentence.startswith("At request rate 50 % (local confidence >= 0.5) you would save about 1.25 [")
    assert (
        "] a day (37.5 in 30 days), 50 % of the spend; 10 of the 500 answers kept local would have differed "
        in sentence
    )
    assert sentence.endswith("from what the remote model said (2 % [1.1, 3.6 %]).")
    assert any("A difference is no error" in one for one in cautions(replay))
    text = replay_text(replay, steps=next_steps(replay))
    assert text.startswith("At request rate 50 %")
    assert 'mode = "observe"' in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("days", "repeated", "words"),
    [
        (NAN, 0, "give --days"),
        (0.25, 0, "The log covers 21600 s: money a day takes every hour to be like these"),
        (30.0, 3, "3 of 10 requests repeat an earlier one exactly: a cache would"),
    ],
)
def test_what_a_day_or_a_repetition_hides_is_told(days: float, repeated: int, words: str) -> None:
    replay = replayed(np.linspace(0, 1, 10), ["a"] * 10, ["a"] * 10, costs=[1.0] * 10, days=days)
    assert any(words in one for one in cautions(replay, repeated))


# ---------------------------------------------------------------- labels


def half_wrong(n: int = 400, **more: Any) -> Replay:
    """Every fifth request differs, at all confidences alike."""
    local = ["no" if row % 5 == 0 else "yes" for row in range(n)]
    return replayed(np.arange(n) / n, local, ["yes"] * n, max_disagreement=0.3, **more)


def test_the_rows_to_label_differ_but_for_a_few_and_stand_around_the_threshold() -> None:
    replay = half_wrong(margin=0.05)
    assert replay.shown is not None
    assert replay.labels is not None
    rows = rows_to_label(replay, seed=1)
    why = [one.why for one in rows]
    assert why.count("agrees") == 20
    assert why.count("differs, answered locally") >= replay.labels.labels
    confidences = replay.table.local.confidences
    for one in rows:
        assert (replay.grades[one.row] < 1.0) == one.why.startswith("differs")
        assert (confidences[one.row] >= replay.shown.local_threshold) != one.why.endswith("below the threshold")
    assert len({one.row for one in rows}) == len(rows)
    assert [one.row for one in rows_to_label(replay, seed=1)] == [one.row for one in rows]
    every_band = {
        number
        for number, point in enumerate(replay.points)
        for one in rows
        if one.why == "differs, answered locally" and confidences[one.row] >= point.local_threshold
    }
    assert {number for number, point in enumerate(replay.points) if point.n_differing} >= every_band


def test_a_label_says_which_of_two_differing_answers_is_right() -> None:
    table = half_wrong(10).table
    ids, labels = ["r0", "r1", "r5", "gone"], ["No.", "yes", "maybe", "yes"]
    found = judgements_of(table, ids, labels, [None] * 4, Question())
    assert found == {"r0": Judgement(1.0, 0.0), "r1": Judgement(1.0, 1.0), "r5": Judgement(0.0, 0.0)}
    by_word = judgements_of(table, ids, labels, ["Remote", "both", "", "x"], Question())
    assert by_word["r0"] == Judgement(0.0, 1.0)
    with pytest.raises(InputError, match="row 2: right is local, remote, both, neither, or empty; not 'me'"):
        judgements_of(table, ["r0"], [None], ["me"], Question())


def test_labels_turn_disagreement_into_a_difference_in_accuracy() -> None:
    differing = [f"r{row}" for row in range(0, 400, 5)]
    judgements = {
        id_: Judgement(0.0, 1.0) if number % 4 else Judgement(1.0, 0.0) for number, id_ in enumerate(differing)
    }
    replay = half_wrong(judgements=judgements)
    point = replay.points[-1]
    assert point.n_differing == 72
    right = sum(judgements[id_].local - judgements[id_].remote for id_ in differing[8:]) / 400
    assert point.versus_remote_only.value == pytest.approx(right)
    assert point.versus_remote_only.low < right < point.versus_remote_only.high
    assert "system accuracy -" in "\n".join(table_lines(replay))
    assert any("labelled rows that differ, system accuracy is -" in step for step in next_steps(replay))
    assert rows_to_label(replay)[0].why == "agrees"  # every row that differs has its label


def test_without_a_label_in_a_band_the_difference_there_is_not_known() -> None:
    replay = half_wrong(judgements={"r395": Judgement(0.0, 1.0)})
    known = [not math.isnan(point.versus_remote_only.value) for point in replay.points]
    assert known == [True, False, False, False, False]


def test_no_label_is_asked_for_where_none_is_needed() -> None:
    local = ["no" if row == 999 else "yes" for row in range(1000)]
    replay = replayed(np.arange(1000) / 1000, local, ["yes"] * 1000, margin=0.02)
    assert any("No label is needed" in step for step in next_steps(replay))


def test_a_larger_sample_is_asked_for_where_too_few_rows_differ() -> None:
    replay = half_wrong(margin=0.01)
    step = next_steps(replay, to_label="to_label.csv", n_to_label=9)[-1]
    assert "replayed requests (--sample 400), more than this log's 400; a wider --margin takes fewer" in step
    assert "--labels-file to_label.csv" in step


def test_the_file_of_rows_to_label_is_harmless_and_comes_back_filled(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "to_label.csv"
    replay = half_wrong(margin=0.05)
    requests = {f"r{row}": request(row, text='=HYPERLINK("x")', answer="yes") for row in range(400)}
    n = write_to_label(path, replay, requests, seed=2)
    lines = path.read_text().splitlines()
    assert len(lines) == n + 1
    assert lines[0] == "id,label,right,input,local_answer,remote_answer,local_confidence,why"
    assert all("\"'=HYPERLINK" in line for line in lines[1:])
    assert may_be_replaced(path)
    with pytest.raises(TableError, match="fill its label or right column"):
        read_judgements(path, replay.table, Question())
    path.write_text("\n".join([lines[0], *(line.replace(",,,", ",no,,", 1) for line in lines[1:])]))
    assert not may_be_replaced(path)
    found = read_judgements(path, replay.table, Question())
    assert len(found) == n
    assert {(one.local, one.remote) for one in found.values()} == {(1.0, 0.0), (0.0, 0.0)}


def test_only_a_file_that_is_nobodys_work_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "to_label.csv"
    assert may_be_replaced(path)
    for content, replaced in (
        ("", True),
        ("my notes\nof today\n", False),
        ("id,label\na,\n", False),
        ("\xff", False),
    ):
        path.write_text(content)
        assert may_be_replaced(path) == replaced


def test_the_logs_own_labels_are_evaluated_where_there_are_enough() -> None:
    labels = ["yes"] * 30 + [None] * 370
    few = half_wrong(labels=["yes"] * 5 + [None] * 395)
    assert assess_by_labels(few.table, Question()) is None
    assessment = assess_by_labels(half_wrong(labels=labels).table, Question())
    assert assessment is not None
    assert assessment.evaluation.systems["remote_only"].system_accuracy.value == 1.0
    assert assessment.evaluation.systems["local_only"].system_accuracy.value == pytest.approx(0.8, abs=0.15)


def test_an_empty_sample_is_refused() -> None:
    table = half_wrong(10).table.take(np.array([], dtype=np.int64))
    with pytest.raises(InputError, match="the sample is empty"):
        judge(table, LoggedTraffic(np.ones(3), np.empty(0), {}))
