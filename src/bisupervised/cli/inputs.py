"""Inputs for running models: rows of a CSV, JSON lines or Parquet file, and the configured system."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisupervised.config import Configured, load_config
from bisupervised.errors import ConfigError, TableError
from bisupervised.sources import TABLE_SUFFIXES, read_columns
from bisupervised.table import written

_INPUT_COLUMNS = ("input", "text", "prompt", "x")


@dataclass(frozen=True, slots=True)
class Inputs:
    """n inputs with their ids, and labels where the file has them."""

    inputs: list[Any]
    ids: list[str] | None  #: None: the file has none
    labels: list[Any] | None


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """The source of inputs and the system that is asked about them."""
    parser.add_argument("source", metavar="SOURCE", type=Path, help="inputs: CSV, JSON lines or Parquet")
    parser.add_argument("--config", type=Path, default=Path("cascade.toml"), metavar="FILE", help="the two levels")
    parser.add_argument("--cascade", metavar="NAME", help="which cascade of the file, if it has several")
    parser.add_argument(
        "--input-column",
        metavar="NAME",
        help=f"the column of inputs (default: the first of {', '.join(_INPUT_COLUMNS)}; else the id)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N rows")
    parser.add_argument("--max-concurrency", type=int, default=16, metavar="N", help="remote calls at a time")
    parser.add_argument("--batch-size", type=int, default=256, metavar="N", help="local predictions at a time")


def read_inputs(args: argparse.Namespace) -> Inputs:
    """The inputs that the options name."""
    columns = read_columns(args.source)
    name = args.input_column or next((name for name in _INPUT_COLUMNS if name in columns), "id")
    if name not in columns:
        raise TableError(
            f"{args.source} has no column of inputs that I know; it has: {', '.join(columns)}. Name it, as in "
            f"--input-column {next(iter(columns))}"
        )
    stop = args.limit
    inputs = [cell.item() if hasattr(cell, "item") else cell for cell in columns[name][:stop]]
    ids = [str(written(cell)) for cell in columns["id"][:stop]] if "id" in columns else None
    labels = list(columns["label"][:stop]) if "label" in columns else None
    return Inputs(inputs, ids, labels)


def check_out(path: Path | None) -> None:
    """Refuse a file that could not be written, before a model is asked about anything."""
    if path is None:
        return
    if path.suffix not in TABLE_SUFFIXES:
        raise TableError(f"{path}: tables are written as {', '.join(TABLE_SUFFIXES)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    probe = path.with_name(path.name + ".part")
    probe.touch()
    probe.unlink()


def configured(args: argparse.Namespace, *, learned: bool = True) -> Configured:
    """The cascade that the options name; `learned` as in `load_file`."""
    cascades = load_config(args.config, learned=learned)
    chosen = [one for one in cascades if args.cascade in (None, one.name)]
    for one in cascades:
        if one not in chosen[:1]:
            one.close()
    names = ", ".join(one.name for one in cascades)
    if not chosen:
        raise ConfigError(f"{args.config} has no cascade {args.cascade!r}; it has: {names}")
    if args.cascade is None and len(cascades) > 1:
        raise ConfigError(f"{args.config} has several cascades; choose one with --cascade: {names}")
    return chosen[0]
