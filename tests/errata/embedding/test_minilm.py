"""all-MiniLM-L6-v2, with its real weights."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from errata.embedding import EmbedderUnavailableError
from errata.embedding.minilm import BATCH_TEXTS_MAX, TOKENS_MAX, MiniLm, _checked


@pytest.fixture(scope="module")
def embedder() -> MiniLm:
    return MiniLm.load()


def test_the_fingerprint_names_weights_dimension_and_text_rules(embedder: MiniLm) -> None:
    assert embedder.spec == "minilm"
    assert embedder.fingerprint == "minilm/8199be6f/384/q1"
    assert embedder.dimension == 384


def test_a_question_is_nearer_to_its_paraphrase_than_to_any_other(embedder: MiniLm) -> None:
    questions = [
        "remove all empty directories below the current one",
        "show which process listens on port 8080",
        "count the lines of every Python file",
    ]
    paraphrases = [
        "delete folders that contain nothing, recursively",
        "who is using TCP port 8080?",
        "how many lines do my *.py files have",
    ]
    scores = embedder.queries(paraphrases) @ embedder.documents(questions).T
    assert np.argmax(scores, axis=1).tolist() == [0, 1, 2]


def test_rows_are_unit_vectors_in_the_order_of_the_texts(embedder: MiniLm) -> None:
    # More than two batches, and not in the order of their lengths.
    texts = [
        f"list {'very ' * (7 * number % 20)}old file {number}" for number in range(2 * BATCH_TEXTS_MAX + 1)
    ]
    rows = embedder.documents(texts)
    assert rows.shape == (len(texts), 384)
    assert rows.dtype == np.float32
    assert rows.flags.c_contiguous
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    for row, text in zip(rows, texts, strict=True):
        # What a text is embedded with changes the order of sums, and nothing else.
        assert float(row @ embedder.queries([text])[0]) == pytest.approx(1, abs=1e-5)


def test_no_texts_give_no_rows(embedder: MiniLm) -> None:
    assert embedder.documents([]).shape == (0, 384)


def test_of_a_long_text_the_end_is_embedded(embedder: MiniLm) -> None:
    end = "and " * TOKENS_MAX + "show which process listens on port 8080"
    one, same, other = embedder.queries(
        [
            "bake a cake " * 200 + end,
            "walk the dog " * 100 + end,
            "bake a cake " * 200 + "and " * TOKENS_MAX + "delete the oldest branch",
        ]
    )
    assert float(one @ same) == pytest.approx(1, abs=1e-5)
    assert float(one @ other) < 0.95


@pytest.mark.parametrize("text", ["", " ", "\0\x01", "🙂" * 500, "é́" * 3000, "x" * 8192])
def test_strange_texts_have_unit_vectors(embedder: MiniLm, text: str) -> None:
    row = embedder.queries([text])[0]
    assert float(np.linalg.norm(row)) == pytest.approx(1, abs=1e-6)


def test_other_weights_than_those_of_the_fingerprint_are_refused(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"other weights")
    with pytest.raises(
        EmbedderUnavailableError, match=r"model\.onnx is not the file it should be.*install it again"
    ):
        _checked(model, "0" * 64, "install it again")


def test_a_missing_file_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(EmbedderUnavailableError, match=r"model\.onnx cannot be read.*install it again"):
        _checked(tmp_path / "model.onnx", "0" * 64, "install it again")


@pytest.mark.slow
def test_loading_the_model_leaves_nothing_to_be_reported_to_the_maker_of_its_runtime(tmp_path: Path) -> None:
    # Variables of build machines switch the reporting off, too.
    plain = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    subprocess.run(
        [sys.executable, "-c", "from errata.embedding.minilm import MiniLm; MiniLm.load().documents(['x'])"],
        env={**plain, "HOME": str(tmp_path)},
        timeout=60,
        check=True,
    )
    assert list(tmp_path.rglob("*")) == []
