"""The further requests that some evidence takes, and what is read from their replies."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest

from bisupervised.errors import InputError
from bisupervised.models.extra_calls import NOT_CHARGED, ExtraCalls, p_true_in
from bisupervised.models.openai_reply import Prices
from bisupervised.quantifiers import PTrue, SelfConsistency, TokenLikelihood
from bisupervised.records import ModelOutput

CHAT = {
    "model": "tiny",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital of Italy?"}],
    "max_tokens": 12,
    "temperature": 0.0,
    "top_p": 0.1,
    "stop": ["\n"],
    "user": "u1",
    "stream": True,
    "stream_options": {"include_usage": True},
    "logprobs": True,
    "top_logprobs": 5,
    "n": 1,
    "seed": 4,
    "tools": [{"type": "function"}],
    "tool_choice": "auto",
    "response_format": {"type": "text"},
}
COMPLETIONS = {"model": "tiny", "prompt": "Q: Capital of Italy?\nA:", "max_tokens": 12, "logprobs": 3, "best_of": 2}
TRUE = "Is the proposed answer:\n(A) True\n(B) False\nThe proposed answer is:"


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def completion(text: str | None, tokens: Any = (), **usage: int) -> dict[str, Any]:
    content = [{"token": t, "logprob": p, "top_logprobs": top} for t, p, top in tokens]
    return {"choices": [{"message": {"content": text}, "logprobs": {"content": content}}], "usage": usage}


@pytest.mark.parametrize(
    ("quantifier", "settings", "expected"),
    [
        (TokenLikelihood(), {}, ExtraCalls()),
        (TokenLikelihood(), {"samples": 2, "model": "openai", "weighted": True}, ExtraCalls(2)),
        (SelfConsistency(), {}, ExtraCalls(5)),
        (SelfConsistency(7), {"sample_temperature": 0.5}, ExtraCalls(7, sample_temperature=0.5)),
        (PTrue(), {}, ExtraCalls(self_verification=True)),
        (PTrue(), {"samples": 2, "verification_prompt": "{answer}?"}, ExtraCalls(2, True, 1.0, True, "{answer}?")),
    ],
)
def test_a_quantifier_and_a_level_s_settings_say_which_calls_there_are(
    quantifier: Any, settings: Any, expected: ExtraCalls
) -> None:
    assert ExtraCalls.of(quantifier, settings) == expected
    assert expected.count >= quantifier.extra_calls


# ---------------------------------------------------------------- what is sent


def test_a_sample_is_the_same_request_sampled() -> None:
    bodies = ExtraCalls(samples=3).bodies(CHAT, "Rome", "chat")
    assert [body.pop("seed") for body in bodies] == [5, 6, 7]
    for body in bodies:
        assert body == {
            "model": "tiny",
            "messages": CHAT["messages"],
            "max_tokens": 12,
            "temperature": 1.0,
            "stop": ["\n"],
            "user": "u1",
            "stream": False,
            "logprobs": True,
            "response_format": {"type": "text"},
        }
    assert ExtraCalls(samples=1).bodies(COMPLETIONS, "Rome", "completions") == [
        {"model": "tiny", "prompt": COMPLETIONS["prompt"], "max_tokens": 12, "temperature": 1.0, "stream": False}
        | {"logprobs": 1}
    ]


def test_samples_are_sampled_as_the_settings_say() -> None:
    [body] = ExtraCalls(samples=1, sample_temperature=0.7, logprobs=False).sample_bodies(COMPLETIONS, "completions")
    assert body["temperature"] == 0.7
    assert not body.keys() & {"logprobs", "seed"}
    [body] = ExtraCalls(samples=1, sample_temperature=None).sample_bodies(CHAT, "chat")
    assert "temperature" not in body


def test_the_question_whether_it_is_true_takes_the_place_of_the_last_one() -> None:
    [body] = ExtraCalls(self_verification=True).bodies(CHAT, " Rome\n", "chat")
    assert body == {
        "model": "tiny",
        "messages": [CHAT["messages"][0], user(f"Question: Capital of Italy?\nProposed answer: Rome\n{TRUE}")],
        "max_tokens": 1,
        "temperature": 1.0,
        "user": "u1",
        "stream": False,
        "logprobs": True,
        "top_logprobs": 20,
    }
    [body] = ExtraCalls(self_verification=True).bodies(COMPLETIONS, "Rome", "completions")
    assert body == {
        "model": "tiny",
        "prompt": f"Question: {COMPLETIONS['prompt']}\nProposed answer: Rome\n{TRUE}",
        "max_tokens": 1,
        "temperature": 1.0,
        "stream": False,
        "logprobs": 5,
    }


def messages_after(messages: list[Any]) -> list[Any]:
    return ExtraCalls(self_verification=True).verification_body({"messages": messages}, "yes", "chat")["messages"]


def asked(question: str) -> str:
    return f"Question: {question}\nProposed answer: yes\n{TRUE}"


def test_what_a_conversation_holds_stays_before_the_question() -> None:
    earlier = [user("a?"), {"role": "assistant", "content": "b"}]
    assert messages_after([*earlier, user("c?")]) == [*earlier, user(asked("c?"))]
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    parts = [{"type": "text", "text": "What is "}, image, {"type": "text", "text": "this?"}]
    assert messages_after([user(parts)]) == [user([image, {"type": "text", "text": asked("What is this?")}])]
    assert messages_after([user([{"type": "text", "text": "c?"}])]) == [user(asked("c?"))]
    tool = [user("c?"), {"role": "assistant", "tool_calls": []}, {"role": "tool", "content": "12 °C"}]
    assert messages_after(tool) == [*tool, user(asked("c?"))]
    system = [{"role": "system", "content": "s"}]
    assert messages_after(system) == [*system, user(asked(""))]
    assert messages_after([user(None)]) == [user(asked(""))]


def test_braces_in_questions_and_answers_are_left_alone() -> None:
    extra = ExtraCalls(self_verification=True, verification_prompt="{question}|{answer}|{question}")
    body = extra.verification_body({"prompt": "{answer} {x}"}, "{question}", "completions")
    assert body["prompt"] == "{answer} {x}|{question}|{answer} {x}"


def test_newer_models_name_their_bound_otherwise() -> None:
    body = {"messages": [user("x")], "max_completion_tokens": 9}
    sample, verification = ExtraCalls(1, True).bodies(body, "y", "chat")
    assert (sample["max_completion_tokens"], verification["max_completion_tokens"]) == (9, 1)
    assert "max_tokens" not in sample | verification


def test_the_first_request_is_left_as_it_was() -> None:
    twin = copy.deepcopy(CHAT)
    first, second, _ = ExtraCalls(2, True).bodies(CHAT, "Rome", "chat")
    assert twin == CHAT
    assert first is not second


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2, 3], [[1, 2]], []])
def test_a_prompt_that_is_no_text_cannot_be_asked_about(prompt: Any) -> None:
    with pytest.raises(InputError, match="prompt as text"):
        ExtraCalls(self_verification=True).bodies({"prompt": prompt}, "y", "completions")
    body = ExtraCalls(self_verification=True).verification_body({"prompt": ["one"]}, "y", "completions")
    assert body["prompt"].startswith("Question: one\n")


# ---------------------------------------------------------------- what comes back


def test_replies_become_evidence_in_their_order() -> None:
    top = [{"token": "A", "logprob": math.log(0.6)}, {"token": "B", "logprob": math.log(0.2)}]
    replies = [
        completion(" Rome", [(" Rome", -0.5, []), (".", -0.25, [])], prompt_tokens=9, completion_tokens=2),
        completion("Oslo", prompt_tokens=9, completion_tokens=1),
        completion(None, prompt_tokens=9, completion_tokens=1),
        completion("A", [("A", -0.1, top)], prompt_tokens=30, completion_tokens=1),
    ]
    extra = ExtraCalls(3, True).evidence(replies)
    assert extra.samples == (" Rome", "Oslo", None)
    np.testing.assert_array_equal(extra.sample_logprobs, [-0.75, math.nan, math.nan])
    np.testing.assert_array_equal(extra.sample_lengths, [2, math.nan, math.nan])
    assert extra.p_true == pytest.approx(0.75)
    assert extra.calls == 4
    assert extra.cost(Prices(1.0, 10.0)) == pytest.approx((57 + 50) / 1e6)
    output = extra.added_to(ModelOutput(np.array(["Rome"]), prompt_tokens=np.array([1.0]), cost=np.array([5.0])))
    assert list(output.samples[0]) == ["Rome", "Oslo", None]
    assert (output.extra_calls, output.prompt_tokens, output.cost) == (4, 58, 5)
    assert output.completion_tokens is None


def test_only_what_was_asked_for_becomes_a_column() -> None:
    verified = ExtraCalls(self_verification=True).evidence([None]).added_to(ModelOutput(np.array(["x"])))
    assert (verified.samples, verified.sample_logprobs, verified.sample_lengths) == (None, None, None)
    assert np.isnan(verified.p_true).all()
    sampled = ExtraCalls(samples=1).evidence([completion("x")]).added_to(ModelOutput(np.array(["x"])))
    assert sampled.p_true is None


def test_a_failed_call_leaves_its_evidence_out_and_what_it_cost_is_known_or_not() -> None:
    extras = ExtraCalls(2, True)
    extra = extras.evidence([None, NOT_CHARGED, {"choices": [{"text": None}]}])
    assert extra.samples == (None, None)
    assert math.isnan(extra.p_true)
    assert extra.calls == 3
    assert math.isnan(extra.cost(Prices(1.0, 1.0)))
    assert extras.evidence([NOT_CHARGED] * 3).cost(Prices(1.0, 1.0)) == 0.0


def test_calls_that_were_not_made_cost_nothing() -> None:
    extra = ExtraCalls(2, True).evidence([])
    assert (extra.samples, extra.calls, extra.cost(Prices(1.0, 1.0))) == ((), 0, 0.0)
    output = extra.added_to(ModelOutput(np.array([None]), prompt_tokens=np.array([3.0])))
    assert (output.extra_calls, output.prompt_tokens) == (0, 3)
    with pytest.raises(InputError, match="3 further calls"):
        ExtraCalls(2, True).evidence([None])


def test_a_sample_that_cannot_be_read_as_the_prediction_was_is_none() -> None:
    extra = ExtraCalls(3).evidence([completion(text) for text in ("yes", "no", "perhaps")])
    output = extra.added_to(ModelOutput(np.array([1])), {"yes": 1, "no": 0}.__getitem__)
    assert list(output.samples[0]) == [1, 0, None]


@pytest.mark.parametrize(
    ("alternatives", "p"),
    [
        ({"A": 0.6, "B": 0.2}, 0.75),
        ({" A": 0.3, "(A": 0.2, "A)": 0.1, " B": 0.2}, 0.75),
        ({" true": 0.3, "True": 0.3, " FALSE": 0.2}, 0.75),
        ({"Yes": 0.6, "no": 0.2, " maybe": 0.2}, 0.75),
        ({"▁True": 0.6, "ĠFalse": 0.2}, 0.75),
        ({" a": 0.9, "b": 0.1, "B": 0.05, "A": 0.05}, 0.5),  # small letters are the beginnings of sentences
        ({"True": 0.9, "The": 0.05, "It": 0.01}, 90 / 91),  # False: as likely as the least, at most
        ({"The": 0.5, "A": 0.03, "(": 0.03}, 0.5),
        ({"False": 0.5}, 0.0),
        ({" (": 0.9, "The": 0.1}, math.nan),
        ({}, math.nan),
        ({"True": 0.0, "False": 0.0}, math.nan),
    ],
)
def test_p_true_is_the_share_of_true_among_true_and_false(alternatives: Any, p: float) -> None:
    with np.errstate(divide="ignore"):
        logprobs = {token: float(np.log(mass)) for token, mass in alternatives.items()}
    assert p_true_in(logprobs) == pytest.approx(p, nan_ok=True)


def test_the_first_token_counts_though_it_is_white_space() -> None:
    top = [{"token": " A", "logprob": math.log(0.3)}, {"token": " B", "logprob": math.log(0.1)}]
    reply = completion("\n", [("\n", math.log(0.5), top)])
    assert ExtraCalls(self_verification=True).evidence([reply]).p_true == pytest.approx(0.75)
