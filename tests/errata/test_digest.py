"""The digest against vectors that the Go client is held to as well.

Their hashes are of coreutils: printf 'NAMESPACE\\0ID\\0REVISION' | b2sum -l 128
"""

import json
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from errata.digest import add, encode, row_hash, subtract


@dataclass(frozen=True)
class Vector:
    name: str
    digest: str
    examples: list[dict[str, Any]]

    @property
    def rows(self) -> list[int]:
        return [
            row_hash(f"{each['namespace']}\0{each['id']}".encode(), each["revision"])
            for each in self.examples
        ]


VECTORS = [Vector(**each) for each in json.loads(Path(__file__).with_name("digest_vectors.json").read_text())]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_the_digest_is_that_of_the_vectors(vector: Vector) -> None:
    assert encode(reduce(add, vector.rows, 0)).hex() == vector.digest


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_taking_out_what_was_put_in_leaves_nothing(vector: Vector) -> None:
    assert reduce(subtract, vector.rows, reduce(add, vector.rows, 0)) == 0
