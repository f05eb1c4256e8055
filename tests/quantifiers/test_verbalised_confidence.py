"""Reading the confidence that a language model writes: what is read, and what is better not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.errors import ConfigError, EvidenceError
from bisupervised.quantifiers import VerbalisedConfidence, quantifier_by_name
from bisupervised.records import ModelOutput

READ = VerbalisedConfidence().read


@pytest.mark.parametrize(
    ("text", "confidence"),
    [
        ("Rome. Confidence: 90%", 0.9),
        ("Rome.\nConfidence: 90", 0.9),
        ("Answer: Rome\nProbability: 0.85\n", 0.85),
        ("confidence = .5", 0.5),
        ("Confidence level: 72.5 %", 0.725),
        ("Confidence (0-100): 85", 0.85),
        ("**Confidence:** 80%", 0.8),
        ("Confidence score: ~95%", 0.95),
        ("My confidence is about 60 percent.", 0.6),
        ("with a confidence of 85%", 0.85),
        ("I am 75% confident that it is Rome.", 0.75),
        ("I'm 99 percent sure", 0.99),
        ('{"answer": "Rome", "confidence": 0.7}', 0.7),
        ("{'answer': 'Rome', 'confidence': '70%'}", 0.7),
        ('{"confidence_score": 70, "answer": "Rome"}', 0.7),
        ("Certainty: 85/100", 0.85),
        ("Certainty: 85 out of 100", 0.85),
        ("Confidence: 0.9/1.0", 0.9),
        ("Confidence: 0.9 / 1", 0.9),
        ("CONFIDENCE: 100%", 1.0),
        ("Confidence: 1%", 0.01),
        ("Confidence: 0.5%", 0.005),
        ("Confidence: 1.0", 1.0),
        ("Confidence: 0", 0.0),
        ("85", 0.85),
        (" 85%.\n", 0.85),
        ("0.3", 0.3),
        ("First I thought: confidence 90%. No: confidence 20%.", 0.2),
    ],
)
def test_the_number_is_read(text, confidence):
    assert READ(text) == pytest.approx(confidence)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Rome",
        "I am quite confident.",
        "Confidence: high",
        "Confidence: 1",  # of a hundred, or of one?
        "1",
        "Confidence: 140",
        "Confidence: 140%",
        "Confidence: -5",
        "Confidence: 0,95",
        "Confidence: 1.000.000",
        "Confidence: 9/10",
        "Confidence: 8 out of 10",
        "Confidence: 90k",
        "Confidence: 9e-1",
        "The year is 1990. I have high confidence. 42 came later.",
        "There is a probability of 3 heads that we must find.",
        "The 95% confidence interval is wide.",
        "42 is the answer",
        "4 2",
    ],
)
def test_what_is_no_stated_confidence_is_no_evidence(text):
    assert np.isnan(READ(text))


def test_a_stated_scale_settles_what_a_bare_one_means():
    assert VerbalisedConfidence("percent").read("Confidence: 1") == 0.01
    assert VerbalisedConfidence("unit").read("Confidence: 1") == 1.0
    assert np.isnan(VerbalisedConfidence("unit").read("Confidence: 85"))
    assert VerbalisedConfidence("unit").read("Confidence: 85%") == 0.85, "a percent sign says it"
    with pytest.raises(EvidenceError, match="scale is"):
        VerbalisedConfidence("thousand")
    assert quantifier_by_name("verbalised_confidence", {"scale": "unit"}) == VerbalisedConfidence("unit")
    with pytest.raises(ConfigError, match="scale is"):
        quantifier_by_name("verbalised_confidence", {"scale": "thousand"})


@given(st.text(max_size=60) | st.text("0123456789.,%/ confidencesure:-\n", max_size=60))
def test_whatever_is_written_gives_a_number_in_0_to_1_or_none(text):
    confidence = READ(text)
    assert np.isnan(confidence) or 0.0 <= confidence <= 1.0


def test_a_long_reply_is_read_in_time():
    assert READ("confidence " * 20_000 + "confidence: 50%") == 0.5
    assert np.isnan(READ("9" * 100_000))
    assert np.isnan(READ("confidence" + " " * 50_000 + "("))


def test_replies_must_be_texts_one_for_each_prediction():
    with pytest.raises(EvidenceError, match="1 rows for 2 predictions"):
        VerbalisedConfidence()(ModelOutput(np.zeros(2), texts=["90%"]))
    with pytest.raises(EvidenceError, match="must be a text, not int"):
        VerbalisedConfidence()(ModelOutput(np.zeros(1), texts=[90]))
