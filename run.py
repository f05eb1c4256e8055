"""From a fresh clone to a running demo or a passed test suite, in one command, on Python 3.11 or later.

    python3 run.py demo            install into .venv and run `bisupervised demo` (further options go through)
    python3 run.py test            install into .venv (and the peers of the slow tests into .venv-peers) and run
                                   every check: style, types, imports, all tests
    python3 run.py test --quick    the same without the tests marked slow, and without their peers
    python3 run.py lock            renew the pinned requirements from pyproject.toml

Nothing outside this folder is changed. The pinned packages come from wherever pip is set up to get them.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
BIN = VENV / ("Scripts" if sys.platform == "win32" else "bin")
#: Proxies and servers of others, which the slow tests and the benchmarks put beside the gateway.
PEERS = HERE / ".venv-peers"
CHECKS = (
    ("ruff", "format", "--check", "."),
    ("ruff", "check", "."),
    ("mypy",),
    ("lint-imports",),
)


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 11):
        print(f"Python 3.11 or later is needed; this is {sys.version.split()[0]}", file=sys.stderr)
        return 2
    command, rest = (arguments[0], arguments[1:]) if arguments else ("help", [])
    if command == "demo":
        install("demo")
        return run("bisupervised", "demo", *rest)
    if command == "test":
        install("dev")
        quick = ["-m", "not slow"] if "--quick" in rest else []
        if not quick:
            install("peers", PEERS)
        checks = [*CHECKS, ("pytest", *quick, *[word for word in rest if word != "--quick"])]
        failed = [check[0] for check in checks if run(*check)]  # all of them: a matter of style hides no broken test
        print(f"failed: {', '.join(failed)}" if failed else "every check passed", flush=True)
        return 1 if failed else 0
    if command == "lock":
        install("dev")
        return lock()
    print(__doc__)
    return 0 if command == "help" else 2


def install(extra: str, folder: Path = VENV) -> None:
    """The pinned packages, and this project into .venv, unless they are there already."""
    requirements = HERE / "requirements" / f"{extra}.txt"
    state = hashlib.sha256(requirements.read_bytes() + (HERE / "pyproject.toml").read_bytes()).hexdigest()
    done = folder / f".installed-{extra}"
    if done.exists() and done.read_text() == state:
        return
    print(f"installing into {folder} …", flush=True)
    python = folder / BIN.name / ("python.exe" if sys.platform == "win32" else "python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    subprocess.run([*pip, "--require-hashes", "-r", str(requirements)], check=True)
    if folder == VENV:
        subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-e", str(HERE)], check=True)
    done.write_text(state)


def run(tool: str, *arguments: str) -> int:
    print(f"$ {' '.join((tool, *arguments))}", flush=True)
    return subprocess.run([str(BIN / tool), *arguments], cwd=HERE).returncode


def lock() -> int:
    """Pinned and hashed requirements, which name no address."""
    for extra in ("demo", "dev", "peers"):
        project = ("--extra", extra, "pyproject.toml", "requirements/build.in")
        status = run(
            *("uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"),
            *("--no-header", "--no-emit-index-url", "--no-emit-find-links", "--upgrade"),
            *(project if extra != "peers" else ("requirements/peers.in",)),
            *("--output-file", f"requirements/{extra}.txt"),
        )
        if status:
            return status
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        print(f"the installation failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        raise SystemExit(error.returncode) from None
