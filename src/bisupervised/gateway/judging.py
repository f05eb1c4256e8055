"""The supervisors of one request: the cascade's own, and what a stated rule or the client lays over them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from bisupervised.gateway.settings import REPLY_KINDS, REQUEST_KINDS
from bisupervised.records import Deferred, Failure, ModelOutput, Outcome, Reason, Verdicts
from bisupervised.supervisor import Supervisor

NAN: Final = math.nan
#: What becomes of a request or a reply that no supervisor can score, where the file says nothing.
FIRST_LEVEL_DEFAULT: Final = "remote"
#: A language model writes JSON as it writes any text, token by token: a level that is one can be scored.
ENDPOINT_DEFAULTS: Final[Mapping[str, str]] = {"json_mode": "score"}
SECOND_LEVEL_DEFAULTS: Final[Mapping[str, str]] = dict.fromkeys((*REQUEST_KINDS, *REPLY_KINDS), "trust") | {
    # These could have been scored, and were not: that is no evidence.
    "no_logprobs": "reject",
    "json_mode": "reject",
}


class RuledSupervisor:
    """A supervisor under the rules of one request, of one input or many. The heart asks it as it asks any other.

    `trust_all` accepts every answer (the client forced this level); `trust_none` accepts none, whose kind goes to
    the next level by its rule; `trust_unscored` accepts one without evidence, which the rule for its kind allows.
    None of them changes a confidence, nor accepts a failed reply.
    """

    __slots__ = ("_supervisor", "trust_all", "trust_none", "trust_unscored")

    def __init__(self, supervisor: Supervisor, *, trust_all: bool = False) -> None:
        self._supervisor = supervisor
        self.trust_all = trust_all
        self.trust_none = False
        self.trust_unscored = False

    def judge(self, output: ModelOutput, deferred: Deferred | None = None) -> Verdicts:
        """The supervisor's verdicts, with the exceptions made."""
        verdicts = self._supervisor.judge(output, deferred)
        if self.trust_none and not self.trust_all:
            return replace(verdicts, accepted=np.zeros(len(output), dtype=np.bool_), abstained=None)
        if not (self.trust_all or self.trust_unscored):
            return verdicts
        excepted = np.ones(len(output), dtype=np.bool_) if self.trust_all else np.isnan(verdicts.confidences)
        excepted[list(output.failures)] = False
        abstained, preferred, learned = verdicts.abstained, verdicts.local_preferred, verdicts.learned
        return replace(
            verdicts,
            accepted=verdicts.accepted | excepted,
            abstained=None if abstained is None else abstained & ~excepted,
            # An exception is made for the level's own answer, whose confidence is not that of the other one.
            local_preferred=None if preferred is None else preferred & ~excepted,
            learned=learned if preferred is None or learned is None else np.where(excepted, np.nan, learned),
        )


def first_level_rule(kinds: tuple[str, ...], rules: Mapping[str, str]) -> tuple[str, str | None]:
    """The strictest rule for a request's kinds, and the kind that it is for; ("score", None) for a plain request.

    >>> first_level_rule(("tools", "image"), {"tools": "score"})
    ('remote', 'image')
    """
    found: tuple[str, str | None] = ("score", None)
    for kind in kinds:
        rule = rules.get(kind, FIRST_LEVEL_DEFAULT)
        if _STRICTNESS[rule] > _STRICTNESS[found[0]]:
            found = (rule, kind)
    return found


_STRICTNESS: Final = {"score": 0, "local": 1, "remote": 2, "reject": 3}


def second_level_rule(kind: str, rules: Mapping[str, str]) -> str:
    """What becomes of a remote reply of this kind that brings no evidence: `trust` or `reject`."""
    return rules.get(kind) or SECOND_LEVEL_DEFAULTS.get(kind, "reject")


# ---------------------------------------------------------------- levels that were not asked

_NOT_ASKED: Final = "not_asked"


def not_asked(why: str) -> Failure:
    """What stands in for the reply of a level that was not asked: by a rule, a mode or the client's own wish."""
    return Failure(_NOT_ASKED, why)


def without_unasked(outcome: Outcome) -> Outcome:
    """An outcome that does not take a level which was not asked for one that failed.

    The heart knows only replies; the log's readers, and the request rate, tell the two apart.
    """
    if _is_not_asked(outcome.local_error):
        silent: dict[str, Any] = {
            "local_error": None,
            "local_latency_s": NAN,
            "local_supervisor_s": NAN,
            "local_cost": 0.0,
        }
        because = None if outcome.deferred_because is None else Reason.NOT_ASKED
        outcome = replace(outcome, deferred_because=because, **silent)
    if _is_not_asked(outcome.remote_error):
        silent = {"remote_error": None, "remote_latency_s": NAN, "remote_supervisor_s": NAN, "remote_cost": 0.0}
        outcome = replace(outcome, reason=Reason.NOT_ASKED, remote_requested=False, **silent)
    return outcome


def known(confidence: float | None) -> float:
    """A confidence that there may not be, as a number: NaN where it is not known, and so not said."""
    return NAN if confidence is None else confidence


def _is_not_asked(error: str | None) -> bool:
    return error is not None and error.partition(":")[0] == _NOT_ASKED
