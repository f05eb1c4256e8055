"""The alarm: seldom by chance, soon where something moved, and the same after a restart."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisupervised.errors import InputError
from bisupervised.monitoring import Bins, ExchangeabilityMartingale, Reference, Share
from monitoring.made import rows, thresholds_of
from monitoring.streams import SOURCES, Draw, watch, watch_share

NAN = float("nan")
ALPHA = 0.1


def allowed(repeats: int, alpha: float = ALPHA) -> float:
    return alpha + 3.0 * math.sqrt(alpha * (1.0 - alpha) / repeats)


def false_alarms(draw: Draw, n: int, rows: int, repeats: int) -> float:
    rang = 0
    for seed in range(repeats):
        martingale, rng = watch(draw, n, seed, ALPHA)
        martingale.update(draw(rng, rows))
        rang += martingale.moved
    return rang / repeats


@pytest.mark.parametrize(("name", "n"), [("continuous", 3), ("eleven values", 200), ("missing and infinite", 50)])
def test_alarms_by_chance_are_as_rare_as_promised(name, n):
    assert false_alarms(SOURCES[name], n, 600, 300) <= allowed(300)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("n", [1, 30, 1_000])
def test_alarms_by_chance_are_as_rare_as_promised_for_every_source(name, n):
    assert false_alarms(SOURCES[name], n, 800, 700) <= allowed(700)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "n"), [(0.0, 20), (0.05, 20), (0.3, 200), (0.9, 1_000), (1.0, 5)])
def test_alarms_by_chance_on_a_share_are_as_rare_as_promised(rate, n):
    rang = 0
    for seed in range(1_000):
        martingale, rng = watch_share(rate, n, seed, ALPHA)
        martingale.update((rng.random(2_000) < rate).astype(float))
        rang += martingale.moved
    assert rang / 1_000 <= allowed(1_000)


@pytest.mark.slow
def test_an_e_value_is_one_in_the_mean_also_where_one_stops_because_of_what_one_saw():
    """Stopped when the capital first doubles, or halves, or after 400 rows: the mean stays 1 (optional stopping)."""
    stopped = []
    for seed in range(2_500):
        martingale, rng = watch(SOURCES["an atom"], 100, seed)
        e = 10.0 ** martingale.update(SOURCES["an atom"](rng, 400))
        out = np.flatnonzero((e >= 2.0) | (e <= 0.5))
        stopped.append(e[out[0]] if len(out) else e[-1])
    assert abs(np.mean(stopped) - 1.0) <= 3.0 * np.std(stopped) / math.sqrt(len(stopped))


def detected(draw: Draw, moved: Draw, n: int, before: int, repeats: int = 20) -> list[float]:
    """After how many moved rows the alarm rang; inf: not within 3,000. None may ring before at alpha = 0.001."""
    delays = []
    for seed in range(repeats):
        martingale, rng = watch(draw, n, seed, alpha=0.001)
        martingale.update(draw(rng, before))
        assert not martingale.moved
        martingale.update(moved(rng, 3_000))
        delays.append(math.inf if martingale.rang_at is None else martingale.rang_at - before)
    return delays


@pytest.mark.parametrize(
    ("what", "moved", "n", "before", "within"),
    [
        ("a standard deviation down", lambda rng, n: rng.normal(-1.0, 1.0, n), 500, 0, 80),
        ("a standard deviation up, late", lambda rng, n: rng.normal(1.0, 1.0, n), 500, 500, 150),
        ("a third of one", lambda rng, n: rng.normal(-0.33, 1.0, n), 2_000, 0, 600),
        ("wider by half", lambda rng, n: rng.normal(0.0, 1.5, n), 1_000, 0, 300),
        ("narrower by half", lambda rng, n: rng.normal(0.0, 0.5, n), 1_000, 0, 200),
        ("no confidence any more", lambda rng, n: np.full(n, NAN), 200, 200, 60),
        ("always the same", lambda rng, n: np.full(n, 0.1), 200, 200, 120),
    ],
)
def test_a_change_of_stated_size_is_found_within_stated_rows(what, moved, n, before, within):
    delays = detected(SOURCES["continuous"], moved, n, before)
    assert np.mean(np.array(delays) <= within) >= 0.9, what


def test_what_never_happened_and_now_does_is_found_soon():
    delays = []
    for seed in range(40):
        martingale, rng = watch_share(0.0, 1_000, seed, alpha=0.001)
        martingale.update((rng.random(300) < 0.1).astype(float))
        delays.append(math.inf if martingale.rang_at is None else martingale.rang_at)
    assert np.mean(np.array(delays) <= 120) >= 0.9


def test_a_rate_that_doubles_is_found():
    delays = []
    for seed in range(40):
        martingale, rng = watch_share(0.1, 1_000, seed, alpha=0.01)
        martingale.update((rng.random(2_000) < 0.2).astype(float))
        delays.append(math.inf if martingale.rang_at is None else martingale.rang_at)
    assert np.mean(np.array(delays) <= 500) >= 0.9


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from([NAN, 0.2, 0.5]) | st.floats(0, 1), min_size=1, max_size=40),
    st.lists(st.sampled_from([NAN, 0.2, 0.5]) | st.floats(0, 1), min_size=1, max_size=80),
    st.lists(st.integers(0, 80), max_size=3),
)
def test_saved_and_restored_it_is_one_run(calibration, traffic, cuts):
    bins, values = Bins.of(np.array(calibration)), np.array(traffic)
    whole = ExchangeabilityMartingale(bins, alpha=0.3, seed=5)
    expected = whole.update(values)
    parts = []
    martingale = ExchangeabilityMartingale(bins, alpha=0.3, seed=5)
    for part in np.split(values, sorted(min(cut, len(values)) for cut in cuts)):
        martingale = ExchangeabilityMartingale.from_state(bins, json.loads(json.dumps(martingale.state())))
        parts.append(martingale.update(part))
    assert np.concatenate(parts) == pytest.approx(expected, abs=1e-9)
    assert (martingale.rang_at, martingale.rows) == (whole.rang_at, len(values))
    assert martingale.log10_e == pytest.approx(whole.log10_e, abs=1e-9)


def test_a_state_that_does_not_fit_says_so():
    bins = Bins.of(np.arange(50.0))
    state = ExchangeabilityMartingale(bins).state()
    with pytest.raises(InputError, match="does not fit the reference"):
        ExchangeabilityMartingale.from_state(Bins.of(np.arange(20.0)), state)
    with pytest.raises(InputError, match="start anew"):
        ExchangeabilityMartingale.from_state(bins, {"seed": 0})


@pytest.mark.parametrize(
    ("saved", "other"),
    [
        (Share(5, 100), Share(90, 100)),
        (Share(5, 100), Share(5, 101)),
        (Bins.of(np.arange(50.0)), Bins.of(np.arange(50.0) + 1.0)),
        (Bins.of(np.arange(50.0)), Bins.of(np.array([NAN, *np.arange(1.0, 50.0)]))),
        (Bins.of(np.repeat(np.arange(25.0), 2)), Bins.of(np.repeat([0.0, *np.arange(1.0, 25.0)], 2) // 2)),
    ],
)
def test_a_state_goes_on_with_its_own_reference_alone(saved, other):
    watch = ExchangeabilityMartingale(saved)
    watch.update(np.ones(5))
    state = json.loads(json.dumps(watch.state()))
    assert ExchangeabilityMartingale.from_state(saved, state).rows == 5
    with pytest.raises(InputError, match=r"saved with another one.*start anew"):
        ExchangeabilityMartingale.from_state(other, state)
    del state["reference"]
    with pytest.raises(InputError, match="start anew"):
        ExchangeabilityMartingale.from_state(saved, state)


CAPITAL = [("rows", -5), ("rows", 6), ("rows", math.inf), ("rang_at", 9), ("log_value", NAN)]
IMPOSSIBLE = [
    *((Share(5, 100), "capital", *change) for change in CAPITAL),
    *((Bins.of(np.arange(50.0)), "capital", *change) for change in CAPITAL),
    *((Share(5, 100), "ranks", *change) for change in (("rows", 90), ("ones", -1), ("ones", 99))),
    *((Bins.of(np.arange(50.0)), "ranks", "seen", counts) for counts in ([1] * 50, [-1, 6] + [0] * 48)),
]


@pytest.mark.parametrize(("reference", "part", "name", "value"), IMPOSSIBLE)
def test_a_state_with_counts_that_cannot_be_is_refused(reference, part, name, value):
    watch = ExchangeabilityMartingale(reference)
    watch.update(np.ones(5))
    state = watch.state()
    state[part][name] = value
    with pytest.raises(InputError, match="does not fit the reference"):
        ExchangeabilityMartingale.from_state(reference, state)


def test_the_reference_that_a_file_gives_back_is_the_same_one():
    calibration = rows(500, 1, shift=0.5)
    given = Reference.from_mapping(thresholds_of(calibration).reference)
    own = Bins.of(calibration.local.confidences)
    assert ExchangeabilityMartingale.from_state(given.local, ExchangeabilityMartingale(own).state()).rows == 0


def test_only_what_happened_or_not_can_be_a_share():
    with pytest.raises(InputError, match="1 or 0"):
        ExchangeabilityMartingale(Share(1, 10)).update(np.array([0.5]))
    with pytest.raises(InputError, match="cannot be"):
        ExchangeabilityMartingale(Share(3, 2))
