"""Documents are true: snippets run, links lead somewhere, tables are the schema's."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from docs.generate import page
from extproc.adapters.http2.limits import Limits
from extproc.adapters.metrics import COUNTERS, HISTOGRAMS
from extproc.config import not_built
from extproc.config.build import assemble
from extproc.config.load import load
from extproc.expressions.mistakes import FUNCTIONS
from extproc.expressions.names import BODY_NAMES, REQUEST_NAMES, RESPONSE_NAMES
from extproc.testing import Trial

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
METRICS = ROOT / "docs" / "metrics.md"
_LINK = re.compile(r"\]\(([^)#]+)(?:#([^)]*))?\)")


def snippets(path: Path, language: str) -> list[str]:
    """Return a document's snippets in one language."""
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Every file that a document points at is there."""
    for target, _ in _LINK.findall(path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


async def test_the_first_plugin_runs(tmp_path: Path) -> None:
    """The README's plugin, at most 15 lines, with the README's route."""
    readme = ROOT / "README.md"
    (plugin,) = snippets(readme, "python")
    lines = [line for line in plugin.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 15
    route, use = snippets(readme, "yaml")
    (tmp_path / "tenant.py").write_text(plugin)
    (tmp_path / "gateway.yaml").write_text(route + use)
    assembly = assemble(load(tmp_path / "gateway.yaml", {}))
    own = next(step.plugin for step in assembly.steps["products"] if step.name == "Tenant")
    trial = Trial(own)
    assert (await trial.request(host="acme.example.com")).status == 200
    assert trial.seen["x-tenant"] == "acme"
    assert (await trial.request(host="localhost")).status == 400


def test_the_guides_snippets_run() -> None:
    """Python in the plugin guide is run as it stands."""
    for snippet in snippets(ROOT / "docs" / "plugins.md", "python"):
        done = subprocess.run(
            [sys.executable, "-c", snippet], capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr


def test_the_reference_is_the_schema() -> None:
    """`make reference` changes nothing."""
    assert (ROOT / "docs" / "gateway-file.md").read_text() == page()


def test_every_metric_is_documented_in_its_help() -> None:
    """Names follow the scheme, and each says what it counts."""
    for metric in (*COUNTERS, *HISTOGRAMS):
        assert re.fullmatch(r"extproc_[a-z_]+_(total|seconds)", metric.name)
        assert metric.help.endswith(".")


def test_every_metric_is_listed_with_its_labels() -> None:
    """In the table, and no other."""
    rows = re.findall(r"^\| `(extproc_\w+)` \| (.*?) \|", METRICS.read_text(), re.MULTILINE)
    listed = {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    assert listed == {metric.name: metric.labels for metric in (*COUNTERS, *HISTOGRAMS)}


def test_alerts_ask_for_what_there_is() -> None:
    """Each metric of an expression, each label, and each reason or outcome that it names."""
    text = METRICS.read_text()
    metrics = {metric.name: metric for metric in (*COUNTERS, *HISTOGRAMS)}
    sought = re.findall(r"\((extproc_\w+)(?:\{([^}]*)\})?\[5m\]", text)
    assert len(sought) >= 6
    told = "".join(path.read_text() for path in DOCUMENTS if path != METRICS)
    for name, selectors in sought:
        for label, values in re.findall(r'(\w+)!?=~?"([^"]*)"', selectors):
            assert label in metrics[name].labels
            for value in values.split("\\|"):
                assert f"`{value}`" in told or f"`{value}`" in text, value


def test_every_request_of_the_administration_is_documented() -> None:
    """By method and path."""
    page = (ROOT / "docs" / "operating.md").read_text()
    source = (ROOT / "extproc" / "adapters" / "admin.py").read_text()
    requests = re.findall(r'web\.(get|post)\("(/[a-z]+)"', source)
    assert len(requests) > 6
    for method, path in requests:
        assert f"`{method.upper()} {path}`" in page


def test_what_isnt_built_is_named() -> None:
    """Each refused key is one the schema doesn't have."""
    assert len(set(not_built.KEYS)) == len(not_built.KEYS)


def test_compose_and_dockerfile_name_what_exists() -> None:
    """Where no engine runs: every file they name is there, every command is one of ours."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert set(compose["services"]) == {"upstreams", "service", "envoy", "redis"}
    for service in compose["services"].values():
        build = service.get("build")
        if build is not None:
            assert (ROOT / build["context"] / build["dockerfile"]).is_file()
        for word in (*service.get("command", ()), *service.get("entrypoint", ())):
            if "/" in word and not word.startswith("/"):
                assert (ROOT / word).is_file(), word
        for other in service.get("depends_on", ()):
            assert other in compose["services"]
    for line in (ROOT / "deploy" / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY"):
            for word in line.split()[1:-1]:
                assert (ROOT / word).exists(), word


def test_no_words_of_a_workplace() -> None:
    """Tracked files hold no path of one machine."""
    files = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    pattern = re.compile("/" + "(work|farm)" + r"/[a-z.]")
    for name in files:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".yaml", ".toml", ".yml", ".proto", ""} and path.is_file():
            assert not pattern.search(path.read_text(errors="replace")), name


def test_every_limit_of_the_local_server_is_documented() -> None:
    """With its name."""
    text = (ROOT / "docs" / "local-server.md").read_text()
    for field in dataclasses.fields(Limits):
        assert f"`{field.name}`" in text, field.name


def test_every_reason_is_documented() -> None:
    """Each that the code gives, in the list of decision records."""
    text = (ROOT / "docs" / "decision-records.md").read_text()
    given = set()
    for path in (ROOT / "extproc").rglob("*.py"):
        given |= set(
            re.findall(
                r'(?:reason=|Refused\(|Deny\("", |_failed\([^)]*, )"([a-z_]+)"', path.read_text()
            )
        )
    assert {"alg", "plugin_failed", "malformed", "no_rule_allows"} <= given
    for reason in given:
        assert f"`{reason}`" in text, reason


def test_expressions_that_are_documented_are_those_there_are() -> None:
    """Names and functions, each in both."""
    page = (ROOT / "docs" / "expressions.md").read_text()
    names = set(re.findall(r"^\| `([a-z.]+)` \|", page, re.MULTILINE))
    assert names == {*REQUEST_NAMES, *BODY_NAMES, *RESPONSE_NAMES}
    listed = page.partition("<!-- functions")[2].partition("<!-- end -->")[0]
    assert re.findall(r"`(\w+)`", listed) == list(FUNCTIONS)


def test_the_first_example_of_orchestration_loads(tmp_path: Path) -> None:
    """As it is written, with upstreams for the names that it has."""
    page = (ROOT / "docs" / "orchestration.md").read_text()
    example = page.partition("```yaml\n")[2].partition("```")[0]
    names = sorted(set(re.findall(r"upstream: (\w+)", example)))
    upstreams = "".join(f"  {name}: {{endpoints: ['http://{name}:80']}}\n" for name in names)
    head = "version: 1\nlistener: {address: '127.0.0.1:8080'}\ndefaults: {authentication: none}\n"
    (tmp_path / "gateway.yaml").write_text(f"{head}upstreams:\n{upstreams}{example}")
    assert not assemble(load(tmp_path / "gateway.yaml", {})).warnings
