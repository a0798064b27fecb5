"""README.md and docs/*.md do what they say: each block is run, in order, and its output compared."""

from pathlib import Path

import pytest

from tests.documents.document import blocks_of
from tests.documents.runner import ROOT, Runner, needs_go
from tests.go_tools import CLIENT, GRPCURL, MISSING, built

pytestmark = pytest.mark.slow

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_does_what_it_says(
    path: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    blocks = [block for block in blocks_of(path) if "elsewhere" not in block.words]
    run = [block for block in blocks if not (MISSING and needs_go(block))]
    programs = []
    if any(needs_go(block) for block in run):
        programs = [built(package, tmp_path_factory).parent for package in (CLIENT, GRPCURL)]
    with Runner(tmp_path, programs) as runner:
        for block in run:
            runner.run(block)
    if len(run) < len(blocks):
        pytest.skip(f"{len(blocks) - len(run)} of {len(blocks)} blocks were not run: {MISSING}")
