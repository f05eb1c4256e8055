"""All questions on recorded rows: what moved, what it means, what to do, and what cannot be known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bisupervised.assessment import calibrate
from bisupervised.calibration import RequestBudget, Thresholds, WithinLimits, data_hash
from bisupervised.decision import accept
from bisupervised.errors import InputError, ThresholdError
from bisupervised.monitoring import Audits, Drift, Finding, Limit, Verdict, drift, promises_of
from bisupervised.monitoring.findings import NAMES
from bisupervised.monitoring.noticing import rows_needed
from bisupervised.monitoring.words import words_for
from bisupervised.studies.paper import load_paper_study
from bisupervised.table import Table
from monitoring.made import NAN, rows, thresholds_of

PAPER = Path(__file__).parents[3] / "shared" / "data" / "paper"
CALIBRATION = rows(2_000, 1)
THRESHOLDS = thresholds_of(CALIBRATION)


def found(drifted: Drift) -> dict[str, Finding]:
    return {finding.question: finding for finding in drifted.findings}


def test_rows_of_the_same_source_give_no_sign():
    result = drift(rows(3_000, 2), THRESHOLDS)
    assert [one.verdict for one in result.findings] == [Verdict.NO_SIGN] * 7
    assert list(found(result)) == [
        "local_confidences",
        "local_missing",
        "remote_confidences",
        "remote_missing",
        "request_rate",
        "local_risk",
        "remote_risk",
    ]
    assert result.sentence == "No sign that the traffic has moved."
    assert not result.moved
    assert found(result)["local_confidences"].value == pytest.approx(0.5, abs=0.02)
    rate = found(result)["request_rate"]
    assert rate.low <= 0.4 <= rate.high
    assert rate.rang_at is None
    assert math.isnan(rate.lately)
    assert {one.question for one in result.unknown} == set()


def test_confidences_that_fall_late_are_found_with_their_row_id_and_time():
    first, second = rows(1_500, 3), rows(1_500, 4, shift=3.0)
    columns = {name: np.concatenate([a, second.to_columns()[name]]) for name, a in first.to_columns().items()}
    shuffled = np.random.default_rng(0).permutation(3_000)
    columns = {name: column[shuffled] for name, column in columns.items()}
    table = Table.from_columns({**columns, "time": 1_700_000_000.0 + shuffled})
    result = drift(table, THRESHOLDS)
    moved = found(result)["local_confidences"]
    assert moved.verdict is Verdict.MOVED
    assert moved.rang_at is not None
    assert 1_500 < moved.rang_at < 1_650
    assert moved.rang_id == f"4-{moved.rang_at - 1_501}"
    assert moved.rang_time == 1_700_000_000.0 + moved.rang_at - 1
    assert moved.lately < 0.4
    assert "order of their time" in result.order
    assert "has moved" in result.sentence
    assert "calibrate" in moved.said.to_do


def test_answers_that_become_worse_are_found_though_confidences_stay():
    result = drift(rows(4_000, 5, worse=0.15), THRESHOLDS)
    verdicts = {name: one.verdict for name, one in found(result).items()}
    assert verdicts["local_risk"] is Verdict.MOVED
    assert verdicts["local_confidences"] is verdicts["request_rate"] is Verdict.NO_SIGN
    assert found(result)["local_risk"].value > found(result)["local_risk"].reference + 0.1


def test_answers_that_become_better_keep_an_upper_bound_and_the_words_say_so():
    better = drift(rows(4_000, 5, worse=-0.2), THRESHOLDS)
    assert found(better)["local_risk"].moved
    assert "less often" in found(better)["local_risk"].said.meaning


def promising(delta: float | None = 0.1, **figures: float) -> Thresholds:
    """The thresholds of the tests, certified for these figures."""
    part = {"promise": "", "guarantee": figures, **({} if delta is None else {"delta": delta})}
    return replace(THRESHOLDS, evidence={"guarantee": part})


def test_only_what_is_certified_is_a_promise():
    """A budget without delta is exceeded by half of all calibrations, though nothing moves."""
    aimed = replace(THRESHOLDS, target={"name": "request_budget", "request_rate": 0.3, "risk": 0.01})
    assert promises_of(aimed) == {}
    result = drift(rows(4_000, 6), aimed)
    assert not any(one.of_limit for one in result.findings)
    assert not result.moved
    two = {"guarantee": {"request_rate": 0.3}, "delta": 0.1, "promise": ""}
    parts = {"budget": two, "other": {**two, "guarantee": {"request_rate": 0.5}}}
    assert promises_of(replace(THRESHOLDS, evidence={"guarantee": parts})) == {"request_rate": Limit(0.3, 0.1)}


def test_rows_are_held_to_what_was_certified_or_to_limits_that_are_given():
    certified = promising(risk=0.2, request_rate=0.3)
    assert promises_of(certified) == {"risk": Limit(0.2, 0.1), "request_rate": Limit(0.3, 0.1)}
    result = drift(rows(4_000, 6), certified)
    assert found(result)["request_rate_limit"].moved, "0.4 of the inputs are deferred"
    assert not found(result)["risk_limit"].moved
    assert "a promise is broken (request rate limit)" in result.sentence.lower()
    given = drift(rows(4_000, 6), certified, limits={"risk": 0.05, "request_rate": 0.5})
    assert found(given)["risk_limit"].moved
    assert not found(given)["request_rate_limit"].moved
    assert given.sentence == "A limit is exceeded (risk limit)."
    assert "promise" not in found(given)["risk_limit"].said.meaning
    worse = found(drift(rows(4_000, 7, worse=0.2), certified))["risk_limit"]
    assert "probability of 0.1" in worse.said.meaning


def test_the_abstention_is_held_to_its_limit():
    """Of the 0.4 that are deferred a quarter is not trusted: 0.1 get no trusted answer."""
    kept = found(drift(rows(4_000, 6), promising(abstention=0.14)))["abstention_limit"]
    assert not kept.moved
    assert kept.value == pytest.approx(0.1, abs=0.02)
    above = drift(rows(4_000, 6), THRESHOLDS, limits={"abstention": 0.05})
    assert found(above)["abstention_limit"].moved
    assert above.sentence == "A limit is exceeded (abstention limit)."
    silent = rows(400, 6)
    silent = replace(silent, remote=replace(silent.remote, asked=np.zeros(400, dtype=bool)))
    result = drift(silent, promising(abstention=0.14))
    assert "abstention_limit" not in found(result)
    assert "abstention_limit" in {one.question for one in result.unknown}


def test_promises_that_nothing_watches_are_said_to_be_unwatched():
    result = drift(rows(500, 6), promising(risk=0.2, cost=0.4, false_alarm_rate=0.05))
    why = {one.question: one.why for one in result.unknown}
    assert set(why) == {"cost", "false_alarm_rate"}
    assert "at most 0.4, and nothing here tests that" in why["cost"]
    average = promising(delta=None, risk=0.2)
    assert promises_of(average) == {}
    assert "on average" in {one.question: one.why for one in drift(rows(500, 6), average).unknown}["risk"]
    assert {one.question for one in drift(rows(500, 6), average, limits={"risk": 0.2}).unknown} == set()
    unlabelled = replace(rows(500, 6), local_correct=np.full(500, NAN), remote_correct=np.full(500, NAN))
    unknown = {one.question for one in drift(unlabelled, promising(risk=0.2)).unknown}
    assert unknown == {"local_risk", "risk_limit"}


def test_an_alarm_rings_at_the_same_evidence_whatever_is_asked():
    """Questions that come with labels, audits and limits must not move the alarms of those asked before."""
    table = rows(500, 6)
    unlabelled = replace(table, local_correct=np.full(500, NAN), remote_correct=np.full(500, NAN))
    few, many = drift(unlabelled, THRESHOLDS), drift(table, THRESHOLDS, limits={"risk": 0.5, "request_rate": 0.5})
    assert len(few.findings) < len(many.findings)
    for one in (*few.findings, *many.findings):
        assert one.log10_alarm == pytest.approx(math.log10(len(NAMES) / 0.01))


def test_few_rows_are_said_to_be_few_and_how_many_more_it_takes():
    result = drift(rows(30, 8), THRESHOLDS)
    assert {one.verdict for one in result.findings} == {Verdict.TOO_FEW}
    assert result.sentence == "Too few rows to say whether the traffic has moved."
    risk = found(result)["local_risk"]
    assert f"Label about {math.ceil(risk.needed - risk.rows):,} more accepted answers" in risk.said.to_do
    tiny = found(drift(rows(3_000, 9), thresholds_of(rows(60, 10))))["local_confidences"]
    assert tiny.verdict is Verdict.TOO_FEW
    assert math.isinf(tiny.needed)
    assert "can never be noticed" in tiny.said.meaning
    assert "Calibrate on at least" in tiny.said.to_do


def test_what_is_noticed_from_the_stated_number_of_rows_on_is_noticed():
    """The estimate behind "too few rows to say": at that many rows a change of 0.1 in the mean rank mostly rings."""
    rang = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        reference = thresholds_of(rows(1_000, 1_000 + seed)).reference
        n = int(rows_needed(0.01 / 4, 24, None, 1_000))
        p = np.sqrt(rng.random(n))  # density 2p has mean 2/3; a mixture of it and the uniform one 0.6
        confidence = 0.5 + 0.5 * np.where(rng.random(n) < 0.6, p, rng.random(n))
        table = Table.from_columns({"local_confidence": confidence, "remote_confidence": np.full(n, NAN)})
        given = replace(THRESHOLDS, reference=reference)
        rang += found(drift(table, given))["local_confidences"].moved
    assert rang >= 16, rang


def test_what_is_not_known_is_said_not_guessed():
    table = rows(500, 11)
    unlabelled = Table.from_columns(
        {
            "local_confidence": table.local.confidences,
            "remote_confidence": np.full(500, NAN),
            "remote_asked": np.zeros(500, dtype=bool),
        }
    )
    result = drift(unlabelled, THRESHOLDS)
    assert {one.question for one in result.unknown} == {"remote_confidences", "local_risk"}
    assert any("no accepted answer has a label" in one.why for one in result.unknown)
    assert any("deferred rows have no remote reply" in note for note in result.notes)
    assert not {"local_risk", "remote_risk", "remote_missing"} & found(result).keys()
    values = result.to_dict()
    assert values["findings"][0]["low"] is None
    assert {one["question"] for one in values["not_known"]} == {"remote_confidences", "local_risk"}


def some_labelled(table: Table, share: np.ndarray, seed: int = 0) -> Table:
    kept = np.random.default_rng(seed).random(len(table)) < share
    return replace(
        table,
        local_correct=np.where(kept, table.local_correct, NAN),
        remote_correct=np.where(kept, table.remote_correct, NAN),
    )


def test_labels_by_known_and_different_probabilities_are_weighted():
    """Doubtful answers labelled ten times as often: the plain rate is far off, the weighted one is right."""
    table = rows(8_000, 12)
    assert table.local_correct is not None
    share = np.where(table.local.confidences < 0.85, 0.8, 0.08)
    biased = some_labelled(table, share)
    limits = {"risk": 0.2}
    truth = found(drift(table, THRESHOLDS, limits=limits))["risk_limit"].value
    plain = found(drift(biased, THRESHOLDS, limits=limits))
    weighted = found(drift(biased, THRESHOLDS, limits=limits, label_share=share))
    assert plain["risk_limit"].value > truth + 0.02
    assert weighted["risk_limit"].value == pytest.approx(truth, abs=0.02)
    assert weighted["risk_limit"].low <= truth <= weighted["risk_limit"].high
    assert not {"local_risk", "remote_risk"} & weighted.keys(), "weighted losses have no exchangeability test"
    constant = drift(some_labelled(table, np.full(8_000, 0.2)), THRESHOLDS, label_share=0.2)
    assert found(constant)["local_risk"].verdict is Verdict.NO_SIGN
    assert not any("taken for a random sample" in note for note in constant.notes)


def test_labels_that_one_level_gets_more_often_are_no_drift():
    for seed in range(5):
        table = rows(4_000, 30 + seed)
        share = np.where(table.local.confidences >= 0.7, 0.1, 0.9)
        assert not drift(some_labelled(table, share, seed), THRESHOLDS).moved


def test_rows_that_other_thresholds_decided_leave_the_2nd_level_unknown_rather_than_moved():
    """Only the doubtful half of the deferred rows was sent to the remote model."""
    table = rows(3_000, 40)
    columns = {k: v for k, v in table.to_columns().items() if k != "remote_asked"}
    asked = table.local.confidences < 0.6
    for name in ("remote_confidence", "remote_correct"):
        columns[name] = np.where(asked, columns[name], NAN)
    result = drift(Table.from_columns({**columns, "remote_asked": asked}), THRESHOLDS, limits={"risk": 0.3})
    assert set(found(result)) == {"local_confidences", "local_missing", "request_rate", "local_risk"}
    assert {one.question for one in result.unknown} == {"remote_confidences", "remote_risk", "risk_limit"}
    assert all("no random sample" in one.why for one in result.unknown)
    assert not result.moved


def test_labels_that_came_by_themselves_are_taken_for_a_sample_and_the_report_says_so():
    table = rows(3_000, 13)
    share = np.where(table.local.confidences >= 0.7, 0.05, 0.9)
    notes = " ".join(drift(some_labelled(table, share), THRESHOLDS).notes)
    assert "taken for a random sample" in notes
    assert "biased towards the level that is labelled more often" in notes


@pytest.mark.parametrize("share", [0.0, 1.5, NAN])
def test_a_share_that_is_no_probability_is_refused(share):
    with pytest.raises(InputError, match="probability of being labelled"):
        drift(rows(100, 14), THRESHOLDS, label_share=share)
    with pytest.raises(InputError, match="one probability for each"):
        drift(rows(100, 14), THRESHOLDS, label_share=np.ones(3))


def with_predictions(table: Table, seed: int, differing: float) -> Table:
    """The rows with predictions of both models, of which a share differs."""
    differs = np.random.default_rng(seed).random(len(table)) < differing
    return Table.from_columns(
        {
            **{k: v for k, v in table.to_columns().items() if not k.endswith("correct")},
            "local_prediction": np.full(len(table), "a", dtype=object),
            "remote_prediction": np.where(differs, "b", "a").astype(object),
        }
    )


def decided_by(table: Table, threshold: float, times: np.ndarray | None = None) -> Table:
    """The rows as a log of these thresholds has them: the remote model was asked where the local was not trusted."""
    asked = ~accept(table.local.confidences, threshold)
    remote = replace(table.remote, asked=asked, confidences=np.where(asked, table.remote.confidences, NAN))
    extra = {} if times is None else {"time": times}
    return replace(table, remote=remote, remote_correct=None, extra=extra)


def test_audits_are_joined_to_rows_that_these_thresholds_accept():
    thresholds = thresholds_of(with_predictions(CALIBRATION, 0, 0.1))
    table = decided_by(rows(2_000, 15), 0.7, 1e9 + np.arange(2_000.0))
    rng = np.random.default_rng(1)
    quiet = Audits(table.ids, (rng.random(2_000) > 0.1).astype(float))
    loud = Audits(table.ids, (rng.random(2_000) > 0.3).astype(float))
    accepted = accept(table.local.confidences, 0.7)
    result = drift(table, thresholds, audits=quiet)
    finding = found(result)["disagreement"]
    assert not finding.moved
    assert finding.rows == accepted.sum()
    assert any(f"Left out: {2_000 - accepted.sum():,} audits" in note for note in result.notes)
    moved = found(drift(table, thresholds, audits=loud))["disagreement"]
    assert moved.moved
    assert moved.rang_at is not None
    assert moved.rang_id == f"15-{moved.rang_at - 1}"
    assert moved.rang_time == 1e9 + moved.rang_at - 1.0
    elsewhere = drift(table.take(np.arange(300)), thresholds, audits=Audits(["x", "y"], np.zeros(2)))
    assert "disagreement" not in found(elsewhere)


def test_audits_of_rows_that_the_thresholds_of_then_accepted_and_these_do_not_say_nothing():
    """Both models differ on doubtful rows alone, and older, lower thresholds accepted these."""
    calibration, traffic = rows(2_000, 1), rows(2_000, 15)
    differ = [np.where(one.local.confidences < 0.7, "b", "a").astype(object) for one in (calibration, traffic)]
    both = with_predictions(calibration, 0, 0.0)
    both = replace(both, remote=replace(both.remote, predictions=differ[0]))
    audits = Audits(traffic.ids, (differ[1] == "a").astype(float))
    moved = found(drift(decided_by(traffic, 0.5), thresholds_of(both), audits=audits))["disagreement"]
    assert not moved.moved
    assert moved.value == 0.0


def test_audits_under_higher_thresholds_are_no_sample_and_that_is_said():
    thresholds = thresholds_of(with_predictions(CALIBRATION, 0, 0.1))
    table = decided_by(rows(1_000, 15), 0.9)
    audits = Audits(table.ids, np.zeros(1_000))
    result = drift(table, thresholds, audits=audits)
    assert "disagreement" not in found(result)
    assert any(one.question == "disagreement" and "no random sample" in one.why for one in result.unknown)
    observed = replace(rows(1_000, 15), extra={"mode": np.full(1_000, "observe", dtype=object)})
    assert "disagreement" in found(drift(observed, thresholds, audits=audits)), "observed rows: no threshold decided"


def test_a_file_sorted_by_its_confidences_rings_and_shuffled_it_does_not():
    table = rows(2_000, 16)
    table = table.take(np.argsort(table.local.confidences))
    assert drift(table, THRESHOLDS).moved
    shuffled = drift(table, THRESHOLDS, shuffle=True)
    assert not shuffled.moved
    assert "random order" in shuffled.order


def test_the_calibration_rows_themselves_are_refused():
    own = replace(THRESHOLDS, evidence={"data_sha256": data_hash(CALIBRATION)})
    with pytest.raises(InputError, match="calibrated on; give rows that came later"):
        drift(CALIBRATION, own)
    assert not drift(rows(100, 17), own).moved


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ThresholdError, match=r"has no \[reference\]"):
        drift(CALIBRATION, replace(THRESHOLDS, reference={}))
    with pytest.raises(ThresholdError, match="other thresholds"):
        drift(CALIBRATION, replace(THRESHOLDS, local=0.9))
    with pytest.raises(InputError, match="no rows"):
        drift(CALIBRATION.take(np.empty(0, dtype=int)), THRESHOLDS)
    with pytest.raises(InputError, match="alpha"):
        drift(CALIBRATION, THRESHOLDS, alpha=0.0)
    with pytest.raises(InputError, match="share in"):
        drift(CALIBRATION, THRESHOLDS, limits={"risk": 5})
    with pytest.raises(InputError, match="on risk or request_rate or abstention"):
        drift(CALIBRATION, THRESHOLDS, limits={"coverage": 0.5})
    silent = replace(CALIBRATION, local=replace(CALIBRATION.local, asked=np.zeros(2_000, dtype=bool)))
    with pytest.raises(InputError, match="asked about none"):
        drift(silent, THRESHOLDS)


@pytest.mark.parametrize("n", [1, 2])
def test_one_row_is_enough_to_run(n):
    result = drift(rows(n, 18), thresholds_of(rows(n, 19)))
    assert {one.verdict for one in result.findings} == {Verdict.TOO_FEW}


def test_failed_and_missing_confidences_are_deferred_and_noticed():
    table = rows(600, 20)
    broken = replace(table, local=replace(table.local, confidences=np.full(600, NAN)))
    result = found(drift(broken, THRESHOLDS))
    assert result["local_confidences"].moved
    assert result["request_rate"].value == 1.0
    some = np.where(np.random.default_rng(0).random(600) < 0.1, NAN, table.local.confidences)
    result = found(drift(replace(table, local=replace(table.local, confidences=some)), THRESHOLDS))
    assert result["local_missing"].rang_at is not None
    assert result["local_missing"].rang_at <= 120
    assert "no confidence" in result["local_missing"].said.meaning


@pytest.mark.parametrize("question", NAMES)
@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_has_its_two_sentences(question, verdict):
    for missing in (12.0, math.inf):
        said = words_for(
            question, verdict, missing=missing, reference_rows=500, reference_needed=200.0, delta=NAN, fell=False
        )
        for sentence in said:
            assert sentence.endswith(".")
            assert "{" not in sentence


@pytest.mark.slow
def test_all_questions_together_ring_by_chance_as_rarely_as_promised():
    rang = 0
    for seed in range(300):
        result = drift(rows(800, 10_000 + seed), thresholds_of(rows(300, 20_000 + seed)), alpha=0.1, seed=seed)
        rang += result.moved
    assert rang / 300 <= 0.1 + 3 * math.sqrt(0.09 / 300)


@pytest.mark.slow
def test_what_was_calibrated_and_did_not_move_rings_as_rarely_as_promised():
    """20,000 unchanged rows under thresholds of 500: a budget without a promise, and a certified limit on the risk,
    which may be broken from the start with a probability of delta."""
    for target, delta in ((RequestBudget(0.3), 0.0), (WithinLimits(risk=0.2, delta=0.1), 0.1)):
        moved = broken = 0
        for seed in range(60):
            thresholds = calibrate(rows(500, 30_000 + seed), target, seed=seed)
            result = drift(rows(20_000, 40_000 + seed), thresholds, seed=seed)
            assert ("risk_limit" in found(result)) == (delta > 0.0)
            moved += any(one.moved and not one.of_limit for one in result.findings)
            broken += any(one.moved and one.of_limit for one in result.findings)
        assert moved / 60 <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / 60)
        assert broken / 60 <= delta + 3 * math.sqrt(delta * (1 - delta) / 60)


# ---------------------------------------------------------------- the paper's published predictions


@pytest.fixture(scope="module")
def studies() -> dict[str, Table]:
    if not PAPER.exists():
        pytest.skip("../shared/data/paper is missing")
    return {study.name: study.table for study in load_paper_study(PAPER)}


@pytest.mark.data
def test_two_halves_of_one_study_are_alike_and_two_studies_are_not(studies):
    for name, table in studies.items():
        order = np.random.default_rng(1).permutation(len(table))[:8_000]
        half = len(order) // 2
        local, remote = (float(np.nanquantile(level.confidences, 0.3)) for level in (table.local, table.remote))
        thresholds = thresholds_of(table.take(order[:half]), local, remote)
        assert not drift(table.take(order[half:]), thresholds).moved, name
        for other in {"imdb", "ImageNet"} - {name}:
            strange = studies[other]
            result = found(drift(strange.take(np.arange(500)), thresholds, shuffle=True))
            assert result["local_confidences"].moved, (name, other)
            assert result["local_confidences"].rang_at is not None
            assert result["local_confidences"].rang_at <= 200


@pytest.mark.data
def test_the_imdb_file_is_sorted_by_label_and_that_shows(studies):
    table = studies["imdb"]
    order = np.random.default_rng(2).permutation(len(table))
    thresholds = thresholds_of(table.take(order[:3_000]), 0.9, 0.9)
    later = table.take(np.sort(order[3_000:9_000]))
    assert drift(later, thresholds).moved
    assert not drift(later, thresholds, shuffle=True).moved
