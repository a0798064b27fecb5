"""The embedder without weights."""

import os
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from errata.embedding import Embedder, build_embedder
from errata.embedding.hashing import WORD_CHARACTERS_MAX, _hashes

QUESTIONS = ["List all *.log files in /var/log", "kubectl get pods -n kube-system", "", "größe der Datei"]
DIGEST_OF_QUESTIONS = "42e08f9d7aef9dce147413c50d188170f3058b1ecebc16e4ee64d1667d827e46"


@pytest.fixture
def embedder() -> Embedder:
    return build_embedder("hashing")


def cosine(embedder: Embedder, one: str, other: str) -> float:
    rows = embedder.queries([one, other])
    return float(rows[0] @ rows[1])


def test_other_processes_with_other_seeds_give_the_same_bytes(embedder: Embedder) -> None:
    program = f"""
from hashlib import sha256
from errata.embedding import build_embedder
print(sha256(build_embedder("hashing").queries({QUESTIONS!r}).tobytes()).hexdigest())
"""
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert digests == {sha256(embedder.queries(QUESTIONS).tobytes()).hexdigest()}


def test_the_vectors_of_the_fingerprint_are_those_they_were(embedder: Embedder) -> None:
    # Another digest needs other RULES: examples of old vectors must not meet new ones.
    assert sha256(embedder.queries(QUESTIONS).tobytes()).hexdigest() == DIGEST_OF_QUESTIONS


@given(st.lists(st.one_of(st.text(), st.text("ab -|/\0", max_size=8)), max_size=4))
def test_every_text_has_a_unit_vector(texts: list[str]) -> None:
    rows = build_embedder("hashing:16").documents(texts)
    assert rows.shape == (len(texts), 16)
    assert rows.dtype == np.float32
    assert rows.flags.c_contiguous
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_a_text_has_the_same_vector_in_every_batch_and_as_a_query(embedder: Embedder) -> None:
    rows = embedder.documents(QUESTIONS)
    for row, question in zip(rows, QUESTIONS, strict=True):
        assert np.array_equal(row, embedder.queries([question])[0])


def test_case_and_white_space_do_not_matter(embedder: Embedder) -> None:
    assert cosine(embedder, "List  Files\n", "list files") == pytest.approx(1)


def test_words_that_are_spelled_alike_are_near(embedder: Embedder) -> None:
    near = cosine(embedder, "restart the deployment", "restarting deployments")
    far = cosine(embedder, "restart the deployment", "count words in a file")
    assert near > 0.4
    assert far < 0.2


def test_a_text_of_one_huge_word_leaves_only_small_entries_in_the_cache(embedder: Embedder) -> None:
    embedder.queries(["x" * 100_000 + "-" * 100_000])
    assert len(_hashes("x" * WORD_CHARACTERS_MAX)[0]) == WORD_CHARACTERS_MAX + 1
    before = _hashes.cache_info().misses
    embedder.queries(["x" * 100_000 + "-" * 100_000])
    assert _hashes.cache_info().misses == before
