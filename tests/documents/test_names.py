"""README.md and docs/*.md name what there is: flags, targets, metrics, files."""

import re
from pathlib import Path

import click
import pytest

from errata.cli.commands import errata
from errata.serving.settings import SETTINGS, TOOL_VARIABLES
from tests.documents.runner import ROOT
from tests.documents.test_running import DOCUMENTS
from tests.e2e.services import metrics_of, services_on

OPERATING = ROOT / "docs" / "operating.md"
OTHERS_FLAGS = {"--help", "--version"}
"""Of every program, and those of other programs than ours are in blocks that are run."""

documents = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@documents
def test_every_flag_that_the_text_names_exists(path: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`(--[a-z][a-z-]+)", text))
    flags = {setting.flag for setting in SETTINGS.values()} | OTHERS_FLAGS
    context = click.Context(errata)
    commands = [errata.get_command(context, name) for name in errata.list_commands(context)]
    flags |= {flag for command in commands if command for option in command.params for flag in option.opts}
    assert named <= flags


@documents
def test_every_variable_that_the_text_names_exists(path: Path) -> None:
    named = set(re.findall(r"ERRATA_[A-Z_]+\b", path.read_text()))
    assert named <= {setting.variable for setting in SETTINGS.values()} | TOOL_VARIABLES


@documents
def test_every_make_target_that_the_text_names_exists(path: Path) -> None:
    made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make\s+([a-z-]+)", path.read_text(), re.MULTILINE)) <= made


@documents
def test_every_link_to_a_file_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#([^)]*))?\)", path.read_text())
    for target, anchor in links:
        if "://" in target:
            continue
        found = path.parent / target
        assert found.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            assert anchor in {_anchor(title) for title in titles}, f"{target}#{anchor}"


@documents
def test_every_benchmark_that_the_text_names_exists(path: Path) -> None:
    for module in re.findall(r"python -m ([a-z_.]+)", path.read_text()):
        if module.startswith(("bench.", "scripts.")):
            assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


@pytest.mark.slow
def test_the_table_of_metrics_has_all_that_there_are_and_no_other(tmp_path: Path) -> None:
    metrics = ("--metrics-listen", "127.0.0.1:0")
    with services_on(tmp_path / "store", *metrics, rag_flags=metrics) as running:
        exposed = {*metrics_of(running.learner.process), *metrics_of(running.rag.process)}
    ours = {_family(name) for name in exposed if name.startswith(("errata_", "workqueue_"))}
    listed = re.findall(r"^\| `([a-z_]+)", OPERATING.read_text(), re.MULTILINE)
    named = {name for name in listed if name.startswith(("errata_", "workqueue_"))}
    # Shown from the first time on: calls by their code, results by their outcome, age after the first sync.
    assert named - ours <= {"errata_rpc_total", "errata_reconcile_total", "errata_rag_staleness_seconds"}
    assert ours <= named


def _family(name: str) -> str:
    """The metric that a series belongs to."""
    bare = re.sub(r"\{.*", "", name)
    bare = re.sub(r"_(bucket|count|sum)$", "", bare)
    return re.sub(r"_created$", "_total", bare) if "seconds" not in bare else bare.removesuffix("_created")


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
