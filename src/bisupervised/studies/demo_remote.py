"""The demo's remote model as a client sees it: its own server, started and stopped here, or any endpoint."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bisupervised.errors import (
    EvidenceError,
    ModelError,
    ModelStatusError,
    ModelTimeout,
    ModelUnreachable,
    ReplyUnreadable,
)
from bisupervised.models.check import EvidenceCheck
from bisupervised.models.openai import OpenAIModel
from bisupervised.models.port import Model
from bisupervised.models.retry import Retry
from bisupervised.portal import Portal
from bisupervised.records import Evidence
from bisupervised.studies.demo_models import WordPairModel
from bisupervised.studies.demo_prompt import MAX_ANSWER_TOKENS, TOP_LOGPROBS, messages_of, read_label
from bisupervised.studies.demo_server import HOST
from bisupervised.studies.demo_settings import DemoSettings
from bisupervised.studies.serving import server_process


def openai_model(settings: DemoSettings, *, base_url: str, model: str) -> OpenAIModel:
    """The model behind an OpenAI-compatible endpoint, asked with the demo's prompt.

    Raises `ConfigError` when the key's environment variable is not set.
    """
    prices = settings.prices
    return OpenAIModel(
        model,
        base_url,
        api_key_env=settings.key_env,
        prompt=messages_of,
        read_label=read_label,
        top_logprobs=TOP_LOGPROBS,
        max_tokens=MAX_ANSWER_TOKENS,
        prompt_price=None if prices is None else prices.prompt,
        completion_price=None if prices is None else prices.completion,
        timeout_s=settings.remote_timeout_s,
    )


def with_retries(model: OpenAIModel, settings: DemoSettings) -> Model:
    """Somebody's endpoint is asked again after a failure that may pass; the demo's own has no excuse to fail."""
    return model if settings.remote_url is None else Retry(model, 3, timeout_s=2 * settings.remote_timeout_s)


# ---------------------------------------------------------------- the demo's own server


@contextmanager
def running_server(model: WordPairModel, *, delay_s: float) -> Iterator[str]:
    """The base URL of a process that serves the model, which ends with this context, whatever ends it."""
    with tempfile.TemporaryDirectory(prefix="bisupervised-demo-") as folder:
        path = Path(folder, "remote-model.npz")
        model.save(path)
        arguments = ["--model", str(path), "--port", "0", "--delay", repr(delay_s)]
        with server_process("bisupervised.studies.demo_server", arguments, "the demo's remote model") as server:
            path.unlink()  # it is loaded, and should not stay behind if this process is killed
            yield f"http://{HOST}:{server.line}/v1"


# ---------------------------------------------------------------- one request before many


def check_remote(model: OpenAIModel, review: str) -> EvidenceCheck:
    """Ask about one review, so that an endpoint that cannot serve the demo costs one request and not all.

    Raises the `ModelError` that the request met, with what to do, or `EvidenceError` when the reply holds no
    log-probabilities of alternatives.
    """
    portal = Portal()
    try:
        check = portal.run(model.check(review))
    except ModelError as error:
        raise _with_advice(error) from error
    finally:
        portal.close()
    if Evidence.TOP_LOGPROBS not in check.given:
        raise EvidenceError(
            f"{model.name} answers without log-probabilities of alternative tokens (top_logprobs), which its "
            f"supervisor needs. Choose a model, or a server, that gives them on the chat route"
        )
    if check.failure is not None:
        raise ReplyUnreadable(f"{check.failure.message}. Choose a model that follows instructions")
    return check


def _with_advice(error: ModelError) -> ModelError:
    """The same error with what to do next."""
    if isinstance(error, ModelStatusError):
        return ModelStatusError(
            f"{error}. {_STATUS_ADVICE.get(error.status, 'See what the endpoint says')}",
            status=error.status,
            retry_after_s=error.retry_after_s,
        )
    if isinstance(error, ModelUnreachable):
        return ModelUnreachable(f"{error}. Is the server running, and is the remote URL right, up to /v1?")
    if isinstance(error, ModelTimeout):
        return ModelTimeout(f"{error}. Is the model loaded? Another try may find it so")
    return error


_STATUS_ADVICE = {
    401: "Name the environment variable that holds the key with --remote-key-env",
    403: "The key may not use this model",
    404: "Is the remote URL right, up to /v1, and the model's name too?",
    429: "The account's limit is reached; wait, or ask about fewer rows",
}
