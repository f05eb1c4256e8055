"""Whether two models say the same: the disagreement of a local prediction with the remote one.

Disagreement is not error. The remote model errs too, so among the inputs on which the two differ the local one may be
right; and where they agree, both may be wrong. It needs no labels, which is why it comes first.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from bisupervised.records import AnyArray, FloatArray
from bisupervised.table import is_missing, written

#: What may stand around an answer and changes nothing. No sign, dot or bracket that could belong to a number or to
#: code may be taken from its front.
_AROUND_FRONT: Final = " \"'`*_“”‘’„‚«»‹›¡¿"
_AROUND_END: Final = _AROUND_FRONT.replace("¡¿", "") + ".,;:!?…。、！？"
_FENCE: Final = re.compile(r"^```[a-zA-Z]*\n(.*)\n```$", re.DOTALL)
#: A letter of a script that writes without spaces is a token of its own.
_UNSPACED: Final = "぀-ヿ㐀-鿿豈-﫿가-힯"
_TOKEN: Final = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def normal_form(answer: Any) -> str:
    """How an answer is compared: case, white space, Unicode's compatibility forms, and quotes, emphasis and full
    stops around it make no difference; JSON objects and lists are compared by what they hold.

    >>> normal_form('  "Positive".\\n'), normal_form("**YES**"), normal_form("-5 %"), normal_form('{"b": 1,"a": 2.0}')
    ('positive', 'yes', '-5 %', '{"a":2,"b":1}')
    """
    text = str(written(answer) or "").strip()
    fenced = _FENCE.match(text)
    inner = fenced[1].strip() if fenced else text
    if inner[:1] in ("{", "["):
        try:
            return json.dumps(_plain_numbers(json.loads(inner)), sort_keys=True, separators=(",", ":"))
        except (ValueError, RecursionError):
            pass
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", inner).casefold())
    words = " ".join(folded.split())
    bare = words.lstrip(_AROUND_FRONT).rstrip(_AROUND_END)
    return bare or words


def _plain_numbers(value: Any) -> Any:
    """1.0 is 1 in JSON."""
    if isinstance(value, dict):
        return {key: _plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def same_answer(first: Any, second: Any) -> float:
    """1 when both have the same normal form, else 0."""
    return float(normal_form(first) == normal_form(second))


def token_f1(first: Any, second: Any) -> float:
    """The harmonic mean of the shares of either answer's tokens that the other has too, order aside (Rajpurkar et
    al., EMNLP 2016): a second view of answers in words, which are rarely the same word for word.

    >>> round(token_f1("The capital is Rome.", "Rome"), 3), token_f1("", "")
    (0.4, 1.0)
    """
    tokens = [Counter(_TOKEN.findall(normal_form(answer))) for answer in (first, second)]
    sizes = [sum(one.values()) for one in tokens]
    if not all(sizes):  # signs alone, or nothing
        return same_answer(first, second)
    shared = sum((tokens[0] & tokens[1]).values())
    return 2.0 * shared / sum(sizes)


def label_reader(labels: Mapping[Any, Sequence[str]] | Sequence[str]) -> Callable[[Any], Any]:
    """A function from an answer to the label that it stands for, or None. A mapping gives the spellings of each.

    >>> label_reader({"positive": ["positive", "pos"], "negative": ["negative"]})(" Pos. ")
    'positive'
    """
    spelled = labels if isinstance(labels, Mapping) else {label: [label] for label in labels}
    label_of = {normal_form(word): label for label, words in spelled.items() for word in [str(label), *words]}
    return lambda answer: label_of.get(normal_form(answer))


def agreement(
    local: AnyArray, remote: AnyArray, grade: Callable[[Any, Any], float], read: Callable[[Any], Any] | None = None
) -> FloatArray:
    """(n,) how far each pair of predictions agrees, in [0, 1]; NaN where either is missing.

    With `read` (see `label_reader`) labels are compared: an answer that is no label agrees with nothing.
    """
    grades = np.full(len(local), np.nan)
    for row, (ours, theirs) in enumerate(zip(local, remote, strict=True)):
        if is_missing(ours) or is_missing(theirs):
            continue
        if read is not None:
            label = read(theirs)
            grades[row] = float(label is not None and label == read(ours))
        else:
            grades[row] = grade(ours, theirs)
    return grades


#: By the name that a command line gives them.
GRADES: Final[Mapping[str, Callable[[Any, Any], float]]] = {"same": same_answer, "token_f1": token_f1}
