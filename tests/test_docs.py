"""Documents are executed: Python examples run, links lead somewhere, settings and metrics are documented."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from bisupervised import config
from bisupervised.calibration.targets import TARGETS
from bisupervised.records import Reason, Route

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]
EXAMPLES = [
    pytest.param(page, number, block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize(("page", "number", "block"), EXAMPLES)
def test_a_python_example_runs(page: Path, number: int, block: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, f"{page}:{number}", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_readme_shows_the_test_command_that_ci_runs() -> None:
    assert "python3 run.py test" in (ROOT / "README.md").read_text()
    assert "python3 run.py test" in (ROOT / ".ci" / "run").read_text()


def test_every_setting_is_documented_and_the_example_file_is_toml() -> None:
    page = (ROOT / "docs" / "how-to" / "configuration.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert [tomllib.loads(example)["cascade"][0]["name"] for example in examples] == ["smallest", "reviews"]
    settings = set(config._LEVEL_KEYS) | {key for _, keys in config._MODELS.values() for key in keys}
    missing = sorted(key for key in settings | set(config._MODELS) if f"`{key}`" not in page)
    assert missing == []


def test_every_route_reason_and_target_is_in_the_glossary() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    words = [route.label for route in Route] + [reason.value for reason in Reason] + list(TARGETS)
    assert [word for word in words if f"`{word}`" not in glossary] == []


def test_every_setting_code_and_metric_of_the_gateway_is_documented() -> None:
    from bisupervised.gateway import settings
    from bisupervised.gateway.metrics import Metrics
    from bisupervised.gateway.refusals import CODES

    page = (ROOT / "docs" / "how-to" / "gateway.md").read_text()
    records = [settings.GatewaySettings, settings.KeySettings, settings.CascadeSettings, settings.UpstreamSettings]
    names = {field.name for record in records for field in dataclasses.fields(record)}
    names -= {"keys", "passthrough", "first_level_rules", "second_level_rules"}  # tables, shown as such
    words = names | set(CODES) | set(settings.REQUEST_KINDS) | set(settings.REPLY_KINDS) | set(settings.Mode)
    assert sorted(word for word in words if f"`{word}`" not in page) == []
    metrics = [line.split()[2] for line in Metrics().text().decode().splitlines() if line.startswith("# TYPE")]
    shown = {name.removeprefix("bisupervised_") for name in metrics}
    assert sorted(name for name in shown if f"`{name}`" not in page and f"`{name}_total`" not in page) == []
