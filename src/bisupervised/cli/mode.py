"""`bisupervised mode`: how running gateways treat requests, shown and changed without a restart."""

from __future__ import annotations

import argparse
import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bisupervised.cli.options import print_json
from bisupervised.errors import InputError


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "mode",
        help="show or change how the gateway treats a cascade's requests, without a restart",
        description="Without a mode: what holds now, and the history of changes. Changes are rows of the decision "
        "log; every gateway process on it follows within a second.",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the gateway's cascade.toml")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="[CASCADE] [MODE]",
        help="observe, enforce or remote_only, before that the cascade (not needed when there is only one)",
    )
    parser.add_argument("--share", type=float, metavar="SHARE", help="of the requests to enforce, as in 0.05")
    parser.add_argument("--share-by", choices=("random", "key"), help="draw each request, or each client as a whole")
    parser.add_argument("--thresholds", type=Path, metavar="FILE", help="use these from now on")
    parser.add_argument("--kill-switch", choices=("on", "off"), help="on: everything goes to the remote models")
    parser.add_argument("--roll-back", type=int, metavar="CHANGE", help="undo the change of this number")
    parser.add_argument("--note", default="", help="why; it is kept with the change")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from bisupervised.gateway.building import switchboard_of

    board = switchboard_of(args.config)
    try:
        board.refresh()
        made = [_shown(change) for change in _changes(args, board)]
        state = {name: board.state(name) for name in board.names}
        history = [_shown(change) for change in board.history(20)]
    finally:
        board.close()
    if args.json:
        shown = {name: _state_shown(one) for name, one in state.items()}
        print_json({"made": made, "cascades": shown, "kill_switch": board.kill_switch, "changes": history})
        return 0
    _print(made, state, history, board.kill_switch)
    return 0


def _changes(args: argparse.Namespace, board: Any) -> list[Any]:
    by, made = f"{getpass.getuser()} (bisupervised mode)", []
    cascade, mode = _words(args.words, board.names)  # all of it is checked before any of it is done
    value = {"mode": mode, "share": args.share, "share_by": args.share_by}
    value = {name: one for name, one in value.items() if one is not None}
    now = None if cascade is None else board.state(cascade).mode
    if args.share is not None and (mode or now) != "enforce":
        raise InputError(f"--share is of the requests to enforce; the mode is {mode or now}: give enforce with it")
    if (value or args.thresholds is not None) and cascade is None:
        raise InputError(f"name one of the file's cascades: {', '.join(board.names)}")
    if args.kill_switch is not None:
        made.append(board.change("*", "kill_switch", {"on": args.kill_switch == "on"}, by, args.note))
    if args.roll_back is not None:
        made.append(board.roll_back(args.roll_back, by))
    if value:
        made.append(board.change(cascade, "mode", value, by, args.note))
    if args.thresholds is not None:
        made.append(board.use_thresholds(cascade, args.thresholds, by, args.note))
    return made


def _words(words: list[str], names: list[str]) -> tuple[str | None, str | None]:
    """The cascade and the mode that are meant. A cascade may be called like a mode: then both are to be given."""
    modes = ("observe", "enforce", "remote_only")
    if len(words) == 1 and words[0] in modes and words[0] not in names:
        words = [*names, words[0]] if len(names) == 1 else ["", words[0]]
    cascade, mode = (*words, None, None)[:2]
    if len(words) > 2 or (cascade is not None and cascade not in names) or (mode is not None and mode not in modes):
        raise InputError(
            f"{' '.join(filter(None, words))!r} is no cascade and mode: cascades are {', '.join(names)}; modes are "
            f"{', '.join(modes)}"
        )
    return (names[0] if cascade is None and len(names) == 1 else cascade), mode


def _shown(change: Any) -> dict[str, Any]:
    names = ("id", "time", "cascade", "kind", "value", "by", "note")
    return {name: getattr(change, name) for name in names}


def _state_shown(state: Any) -> dict[str, Any]:
    thresholds = {"id": state.thresholds_id, "local": state.thresholds.local, "remote": state.thresholds.remote}
    return {
        "mode": str(state.mode),
        "share": state.share,
        "share_by": state.share_by,
        "kill_switch": state.kill_switch,
        "thresholds": thresholds,
    }


def _print(made: list[Any], state: Any, history: list[Any], kill_switch: bool) -> None:
    if made:
        print("changed; every gateway on this log follows within a second")
    if kill_switch:
        print("the kill switch is ON: everything goes to the remote models")
    for name, one in state.items():
        part = one.mode == "enforce" and one.share < 1.0
        share = f" for {one.share:.0%} of requests, by {one.share_by}" if part else ""
        thresholds = one.thresholds
        print(f"{name}: {one.mode}{share}; thresholds {thresholds.id}: local >= {thresholds.local:g}, ", end="")
        print(f"remote >= {thresholds.remote:g}")
    if history:
        print("\nchanges, the newest first:")
    for change in history:
        when = datetime.fromtimestamp(change["time"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        value = {k: v for k, v in change["value"].items() if k in ("mode", "share", "share_by", "on", "id")}
        shown = ", ".join(f"{k} {v}" for k, v in value.items())
        note = f" ({change['note']})" if change["note"] else ""
        print(f"{change['id']:>5}  {when}  {change['cascade']}  {change['kind']}: {shown}  by {change['by']}{note}")
