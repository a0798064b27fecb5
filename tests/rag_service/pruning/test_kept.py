"""Where the compiled kernel is kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

from rag_service.kernel.compiled import writable_folder


def test_the_first_folder_that_can_be_written_is_used(tmp_path: Path) -> None:
    no_folder = tmp_path / "file"
    no_folder.touch()
    assert writable_folder([no_folder, tmp_path / "new", tmp_path], "name") == tmp_path / "new" / "name"
    assert (tmp_path / "new" / "name").is_dir()


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    no_folder = tmp_path / "file"
    no_folder.touch()
    assert writable_folder([no_folder, Path("/proc/errata")], "name") is None


LOAD = """
from rag_service.pruning.warm_up import warm_up
warm_up()
from rag_service.kernel.search import begin, best, leave_out
from rag_service.kernel.encoding import encode_prefix, encode_whole, store_keys
for entry in (begin, best, leave_out, encode_prefix, encode_whole, store_keys):
    print(len(entry.signatures), sum(entry.stats.cache_hits.values()))
"""


@pytest.mark.slow
def test_a_process_loads_what_an_earlier_one_compiled_and_nothing_has_two_signatures(tmp_path: Path) -> None:
    def loaded() -> list[str]:
        environ = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        run = subprocess.run(
            [sys.executable, "-c", LOAD], env=environ, check=True, capture_output=True, text=True
        )
        return run.stdout.splitlines()

    assert loaded() == ["1 0"] * 6
    assert loaded() == ["1 1"] * 6
