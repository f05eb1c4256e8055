"""Texts to token ids: a `tokenizer.json`, run by the library `tokenizers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.errors import InputError, MissingExtra
from bisupervised.records import AnyArray, BoolArray, FloatArray


class Tokenizer:
    """What an encoder takes: token ids and mask, cut at `max_length` tokens and padded to the longest of a call.

    `inputs` are the arrays that the encoder takes, of `input_ids`, `attention_mask` and `token_type_ids`; `pad` is
    the token that fills up, which the mask leaves out. Raises `InputError` for a file that is no tokenizer.
    """

    def __init__(
        self,
        path: Path,
        max_length: int,
        *,
        inputs: Sequence[str] = ("input_ids", "attention_mask"),
        pad: int = 0,
    ) -> None:
        try:
            from tokenizers import Tokenizer as Loaded
        except ImportError as error:
            raise MissingExtra("tokenizers", "studies") from error
        if max_length < 1:
            raise InputError(f"max_length must be at least 1 token, not {max_length}")
        try:
            self._tokenizer = Loaded.from_file(str(path))
        except Exception as error:  # the library raises bare exceptions
            raise InputError(f"{path} is no tokenizer: {error}") from error
        self.max_length = max_length
        self._inputs = tuple(inputs)
        self._pad = pad
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        self._whole = Loaded.from_str(self._tokenizer.to_str())  # for counting
        self._whole.no_truncation()

    def __call__(self, texts: Sequence[Any]) -> Mapping[str, AnyArray]:
        """The arrays that the encoder takes, (n, longest) each."""
        encodings = self._tokenizer.encode_batch([str(text) for text in texts])
        width = max([1, *(len(one.ids) for one in encodings)])
        ids = np.full((len(encodings), width), self._pad, dtype=np.int64)
        mask, types = np.zeros_like(ids), np.zeros_like(ids)
        for row, one in enumerate(encodings):
            ids[row, : len(one.ids)] = one.ids
            mask[row, : len(one.ids)] = 1
            types[row, : len(one.ids)] = one.type_ids
        every = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        return {name: every[name] for name in self._inputs}

    def is_cut(self, texts: Sequence[str]) -> BoolArray:
        """(n,) whether a text has more tokens than are read."""
        return self.counts(texts) > self.max_length

    def counts(self, texts: Sequence[str]) -> FloatArray:
        """(n,) tokens of each text, all of them, with the marks of beginning and end."""
        return np.array([len(one.ids) for one in self._whole.encode_batch_fast(list(texts))], dtype=np.float64)
