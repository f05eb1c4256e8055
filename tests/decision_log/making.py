"""Outcomes, systems and helper processes for the tests of the decision log."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

from bisupervised.cascade import BiSupervised, Level
from bisupervised.decision_log import Details
from bisupervised.errors import ModelUnreachable
from bisupervised.models.function import FunctionModel
from bisupervised.records import Outcome, Reason, Route
from bisupervised.supervisor import Supervisor

NAN = float("nan")

LOCAL = Outcome(
    id="a",
    answer="ham",
    route=Route.LOCAL,
    reason=Reason.TRUSTED,
    deferred_because=None,
    local_prediction="ham",
    local_confidence=0.9,
    local_latency_s=0.01,
    local_supervisor_s=0.001,
    local_cost=0.0,
    local_error=None,
    remote_requested=False,
    remote_prediction=None,
    remote_confidence=NAN,
    remote_latency_s=NAN,
    remote_supervisor_s=NAN,
    remote_cost=0.0,
    remote_error=None,
)
QUEUED = replace(
    LOCAL,
    answer=None,
    route=Route.REJECTED,
    reason=Reason.FAILED,
    deferred_because=Reason.NOT_TRUSTED,
    local_confidence=0.2,
    local_cost=0.5,
    remote_requested=True,
    remote_latency_s=0.2,
    remote_supervisor_s=0.001,
    remote_cost=0.25,
    remote_error="unreachable: refused",
    fallback="queue",
)


def local(id_: str, **changes: Any) -> Outcome:
    return replace(LOCAL, id=id_, **changes)


def queued(id_: str, **changes: Any) -> Outcome:
    return replace(QUEUED, id=id_, **changes)


def locals_(n: int, start: int = 0) -> list[Outcome]:
    return [local(f"i{row}") for row in range(start, start + n)]


def details(sequence: int, **changes: Any) -> Details:
    given = Details(sequence, "support", "enforce", "local", 200, thresholds_id=None, key="team-a")
    return replace(given, **changes)


class Remote:
    """A remote model's function that can be taken down."""

    def __init__(self) -> None:
        self.down = False

    def __call__(self, xs: Any) -> Any:
        if self.down:
            raise ModelUnreachable("refused")
        return [[0.0, 1.0] for _ in xs]


def system(remote: Any, **options: Any) -> BiSupervised:
    """Trusts the local model on inputs that start with `easy`; remote cost 0.002."""
    small = FunctionModel(lambda xs: [[0.9, 0.1] if str(x).startswith("easy") else [0.6, 0.4] for x in xs])
    return BiSupervised(
        Level(small, Supervisor(threshold=0.8)),
        Level(FunctionModel(remote), Supervisor(threshold=0.8), cost=0.002),
        **options,
    )


def start_python(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own that runs the script; its standard input and output are pipes."""
    head = f"import sys\nsys.path[:] = {sys.path!r}\n"
    command = [sys.executable, "-c", head + script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
