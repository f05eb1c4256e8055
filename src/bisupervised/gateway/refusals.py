"""What a client is told when there is no answer: a typed error with a documented status."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bisupervised.errors import CircuitOpen, ModelBusy, ModelError, ModelStatusError
from bisupervised.gateway.openai_wire import error_body
from bisupervised.gateway.upstream import CLIENT_STATUSES, UpstreamStatusError
from bisupervised.records import Outcome, Reason

#: Every `code` of an error that the gateway itself makes, its HTTP status, and what it means.
CODES: Final[Mapping[str, tuple[int, str]]] = {
    "invalid_request": (400, "the request cannot be read; the message says what is wrong"),
    "invalid_api_key": (401, "there is no such key"),
    "missing_scope": (403, "the key does not allow this"),
    "model_not_found": (404, "no cascade and no passthrough has this name"),
    "outcome_not_found": (404, "no outcome has this id, or it is not written yet"),
    "outcome_pending": (409, "the row of this outcome is not written yet; try again"),
    "method_not_allowed": (405, "the route knows other methods"),
    "body_too_large": (413, "the body is larger than max_body_bytes"),
    "headers_too_large": (431, "the headers are larger than max_header_bytes"),
    "not_trusted": (422, "no level could be trusted: both confidences are below their thresholds"),
    "abstained": (422, "the local confidence is below the abstention threshold: the remote model was not asked"),
    "no_evidence": (422, "the remote reply brought nothing to judge it by"),
    "unscorable": (422, "no supervisor can judge such a request, and the rule for it is to reject"),
    "queued": (422, "rejected, and handed to the queue that is its fallback"),
    "fallback_failed": (500, "rejected, and the fallback raised"),
    "budget_exhausted": (429, "the daily budget of the key, the cascade or the gateway is spent"),
    "too_many_requests": (429, "as many requests as may are in flight; Retry-After says when to try again"),
    "remote_busy": (429, "as many remote calls as may run and wait"),
    "remote_rate_limited": (429, "the remote endpoint answered 429"),
    "remote_status": (502, "the remote endpoint answered with an error status"),
    "remote_unreadable": (502, "the remote reply is cut off, or not what was agreed"),
    "remote_failed": (502, "the remote model raised an error"),
    "remote_unreachable": (503, "the remote endpoint refused or dropped the connection"),
    "circuit_open": (503, "the remote endpoint failed several times in a row and is not asked for a while"),
    "shutting_down": (503, "the gateway is stopping"),
    "log_full": (
        503,
        "the decision log cannot take another row, or set aside what a call may cost",
    ),
    "remote_timeout": (504, "the remote endpoint did not answer in time"),
    "local_failed": (502, "the local model was forced and failed, or its stream was cut off"),
    "internal_error": (500, "a mistake in the gateway; its log says more"),
}
#: Errors that trying again at once will not mend: OpenAI's clients read `x-should-retry`.
_NO_RETRY: Final = frozenset({"budget_exhausted", "remote_timeout", "queued", "fallback_failed", "internal_error"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error for the client."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    code: str = ""


def refusal(code: str, message: str, *, retry_after_s: float | None = None, **more: Any) -> Refusal:
    """An error with one of `CODES`."""
    status = CODES[code][0]
    kind = _TYPES.get(status, "api_error")
    headers = []
    if retry_after_s is not None:
        headers.append((b"retry-after", str(max(math.ceil(retry_after_s), 1)).encode()))
    if code in _NO_RETRY:
        headers.append((b"x-should-retry", b"false"))
    return Refusal(status, error_body(message, kind, code, **more), headers, code)


_TYPES: Final = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    422: "prediction_rejected",
    429: "rate_limit_error",
    431: "invalid_request_error",
}


def refusal_of_failure(error: ModelError | None, kind: str, message: str) -> Refusal:
    """The error for a remote call that failed: the client's own mistakes as the endpoint put them."""
    if isinstance(error, UpstreamStatusError) and error.status in CLIENT_STATUSES and error.body:
        return Refusal(error.status, error.body, [], "remote_status")
    if isinstance(error, ModelStatusError) and error.status == 429:
        return refusal("remote_rate_limited", message, retry_after_s=error.retry_after_s or 1.0)
    if isinstance(error, ModelBusy):
        return refusal("remote_busy", message, retry_after_s=1.0)
    if isinstance(error, CircuitOpen):
        return refusal("circuit_open", message, retry_after_s=5.0)
    codes = [code for code in (f"remote_{kind}", kind) if code in CODES]
    return refusal(codes[0] if codes else "remote_failed", message)


_CODES_OF_REASONS: Final = {Reason.NO_EVIDENCE: "no_evidence", Reason.ABSTAINED: "abstained"}
_BECAUSE: Final = {
    "no_evidence": "the remote reply brings no evidence",
    "abstained": "the local confidence is so low that the remote model was not asked",
    "not_trusted": "both are below their thresholds",
}


def refusal_of_rejection(outcome: Outcome) -> Refusal:
    """The error for an answer that nobody could trust."""
    code = _CODES_OF_REASONS.get(outcome.reason, "not_trusted")
    levels = {
        "local_confidence": _known(outcome.local_confidence),
        "remote_confidence": _known(outcome.remote_confidence),
    }
    return refusal(
        code,
        f"no prediction could be trusted: {_BECAUSE[code]}. Ask again with the header "
        f"x-bisupervised-fallback: local_untrusted, or give the cascade a fallback",
        bisupervised={"id": outcome.id, "route": outcome.route.label, "reason": str(outcome.reason), **levels},
    )


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
