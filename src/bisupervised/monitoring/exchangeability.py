"""Has the traffic moved away from the calibration rows? An exchangeability test martingale, valid at any time.

Bets on smoothed conformal p-values (`ranks`), which are uniform as long as nothing has changed (Vovk, Nouretdinov &
Gammerman, Testing exchangeability on-line, ICML 2003). On confidences the factors are 1 + e P_k(2p - 1) with
Legendre's polynomials P_1 ... P_4 and e = -0.8 ... 0.8: confidences that rise or fall, spread or shrink, or change
their shape. On what happens or does not (deferred, wrong, no confidence) they multiply the odds, 1/8 to 8 times.

Since earlier traffic joins the calibration rows, what is tested is whether there is one source: evidence against it
is bounded by what the smaller of both samples can say, and a change long ago is no longer one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from bisupervised.errors import InputError
from bisupervised.monitoring.capital import Capital
from bisupervised.monitoring.ranks import BinnedRanks, Bins, Ranks, Share, ShareRanks, reference_hash
from bisupervised.records import FloatArray

_SIZES: Final = (-0.8, -0.3, -0.1, 0.1, 0.3, 0.8)
_DEGREES: Final = (1, 2, 3, 4)
_SHAPES: Final = len(_SIZES) * len(_DEGREES)
_ODDS: Final = (1 / 8, 1 / 4, 1 / 2, 1 / 1.25, 1.25, 2.0, 4.0, 8.0)
#: Rows worked on at a time.
_BLOCK: Final = 16_384


class ExchangeabilityMartingale:
    """One stream of values against its reference. `update` it with rows in their order; seeded.

    >>> rng = np.random.default_rng(0)
    >>> watch = ExchangeabilityMartingale(Bins.of(rng.random(1000)), alpha=0.01)
    >>> bool(watch.update(rng.random(1000)).max() < 2.0), watch.moved
    (True, False)
    >>> _ = watch.update(rng.random(200) ** 2)  # confidences fall
    >>> watch.moved, watch.rang_at is not None
    (True, True)
    """

    def __init__(self, reference: Bins | Share, *, alpha: float = 0.01, seed: int = 0) -> None:
        self._seed = seed
        self._reference = reference
        self._ranks: Ranks
        if isinstance(reference, Share):
            if reference.graded:
                raise InputError("what happened or not is 1 or 0; graded losses have no exchangeability test here")
            if not 0 <= reference.count <= reference.rows:
                raise InputError(f"{reference.count} of {reference.rows} calibration rows cannot be")
            self._ranks = ShareRanks(reference)
            self.capital = Capital(len(_ODDS), alpha)
        else:
            self._ranks = BinnedRanks(reference, seed)
            self.capital = Capital(_SHAPES, alpha)

    def update(self, values: FloatArray) -> FloatArray:
        """(n,) log10 of the e-value after each of n more rows.

        Confidences may be NaN: missing is the lowest of all. Of a share the values are 0 or 1, or `InputError`.
        """
        values = np.atleast_1d(np.asarray(values, dtype=np.float64))
        if isinstance(self._ranks, ShareRanks) and not np.isin(values, (0.0, 1.0)).all():
            raise InputError("what happened or not is 1 or 0; graded losses have no exchangeability test here")
        logs = [self._update(values[start : start + _BLOCK]) for start in range(0, len(values), _BLOCK)]
        return np.concatenate(logs) / math.log(10.0) if logs else np.empty(0)

    def _update(self, values: FloatArray) -> FloatArray:
        uniforms = self._uniforms(len(values))
        if isinstance(self._ranks, ShareRanks):
            before = self._ranks.rates(values)
            return self.capital.bet(_odds_bets(self._ranks.p_values(values, uniforms), before))
        return self.capital.bet(_shape_bets(self._ranks.p_values(values, uniforms)))

    def _uniforms(self, n: int) -> FloatArray:
        # Two numbers for each row, counted from the first: nothing of the generator needs to be saved.
        bits = np.random.PCG64(self._seed)
        bits.advance(2 * self.capital.rows)
        return np.random.Generator(bits).random((n, 2))

    @property
    def rows(self) -> int:
        """Rows seen."""
        return self.capital.rows

    @property
    def log10_e(self) -> float:
        """log10 of the e-value now: above 0 speaks for a change, 2 is 100 to 1."""
        return self.capital.log_value / math.log(10.0)

    @property
    def moved(self) -> bool:
        """Whether the alarm rang, at any row so far: by chance with a probability of at most alpha."""
        return self.capital.rang_at is not None

    @property
    def rang_at(self) -> int | None:
        """The number of the row, from 1, at which it first rang."""
        return self.capital.rang_at

    def state(self) -> dict[str, Any]:
        """Everything that changes, as plain values; with the reference and the seed it goes on where it was."""
        return {
            "seed": self._seed,
            "reference": reference_hash(self._reference),
            "capital": self.capital.state(),
            "ranks": self._ranks.state(),
        }

    @classmethod
    def from_state(cls, reference: Bins | Share, state: Mapping[str, Any]) -> ExchangeabilityMartingale:
        """Go on from a `state`. Raises `InputError` when it is not one, or is of another reference."""
        try:
            watch = cls(reference, alpha=float(state["capital"]["alpha"]), seed=int(state["seed"]))
            if state["reference"] != reference_hash(reference):
                raise ValueError("it was saved with another one")
            watch.capital.restore(state["capital"])
            watch._ranks.restore(state["ranks"], watch.rows)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"this saved state does not fit the reference ({error}); start anew where thresholds were calibrated "
                "anew"
            ) from error
        return watch


def _shape_bets(p: FloatArray) -> FloatArray:
    """(n, 24) ln of 1 + e P_k(2p - 1)."""
    x = 2.0 * p - 1.0
    square = x * x
    shapes = (x, 1.5 * square - 0.5, (2.5 * square - 1.5) * x, (4.375 * square - 3.75) * square + 0.375)
    bets = np.empty((len(p), _SHAPES))
    for k, shape in enumerate(shapes):
        for i, size in enumerate(_SIZES):
            np.multiply(shape, size, out=bets[:, k * len(_SIZES) + i])
    np.log1p(bets, out=bets)
    return bets


def _odds_bets(p: FloatArray, rates: FloatArray) -> FloatArray:
    """(n, 8) ln of the density that puts other odds on the upper `rates` of the p-values, where it happened.

    The rates are those before each row: any bet is fair that is made without knowing the row.
    """
    odds, rate = np.array(_ODDS), rates[:, None]
    # New odds give the rate w r / (1 - r + w r): a density of w / (1 - r + w r) above, and 1 / (1 - r + w r) below.
    bets: FloatArray = np.where((p > 1.0 - rates)[:, None], np.log(odds), 0.0) - np.log1p((odds - 1.0) * rate)
    return bets
