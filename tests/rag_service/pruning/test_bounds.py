"""No bound is below the score that it bounds, whatever the rows, the query and the rotation.

And every part of a bound that the proof needs is needed: without it the same check finds scores above bounds.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rag_service.rows import Rows
from rag_service.scoring import exact_scores

pytest.importorskip("numba")

from rag_service.kernel import Columns, Query
from rag_service.kernel.arrays import SLACK
from rag_service.kernel.bounds import first_bound, second_bound, set_query, whole_bound
from rag_service.pruning.codes import Codes, empty_query
from rag_service.pruning.rotation import fitted_basis

Vectors = NDArray[np.float32]
KINDS = ("first", "second", "whole")


def of_length(rows: NDArray[np.float64], length: float = 1.0) -> Vectors:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.where(lengths > 0, rows, 1.0)
    unit: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True) * length).astype(np.float32)
    return unit


def unchanged(_columns: Columns, _query: Query) -> None:
    """Leaves everything as it is."""


@dataclass(frozen=True)
class Case:
    sample: Vectors
    """What the rotation is fitted to."""
    rows: Vectors
    queries: Vectors


def excesses(case: Case, change: Callable[[Columns, Query], None] = unchanged) -> dict[str, float]:
    """By kind of bound, by how much a score exceeds it at most; `change` spoils codes or factors."""
    count, dimension = case.rows.shape
    rows = Rows(dimension=dimension, capacity=count)
    rows.embeddings[:count] = case.rows
    codes = Codes.empty(rows, fitted_basis(case.sample))
    query, columns = empty_query(dimension), codes.columns
    most = dict.fromkeys(KINDS, -np.inf)
    for vector in case.queries:
        # Again and again: `change` is to spoil them once.
        codes.write(np.arange(count), [b"key"] * count)
        set_query(vector, codes.basis, query)
        change(columns, query)
        scores = exact_scores(case.rows.astype(np.float64), vector.astype(np.float64))
        for row, score in enumerate(scores.tolist()):
            for kind, bound in (
                ("first", first_bound(row, columns.prefix, query)),
                ("second", second_bound(row, columns.prefix, query)),
                ("whole", whole_bound(row, columns.whole, query)),
            ):
                most[kind] = max(most[kind], score - float(bound))
    return most


def mixed(seed: int, dimension: int, count: int = 12) -> Case:
    """Rows of every make, and queries that are rows, their opposites, or neither; lengths to the limits."""
    generator = np.random.default_rng(seed)

    def normal(many: int) -> NDArray[np.float64]:
        return generator.standard_normal((many, dimension))

    sample = of_length(normal(1) + 0.3 * normal(200))
    basis = fitted_basis(sample).matrix.astype(np.float64)
    one_hot = np.eye(dimension)[generator.integers(0, dimension, count)]
    rows = np.concatenate(
        [
            of_length(normal(count), 1 + 9e-7),
            of_length(normal(1) + 1e-4 * normal(count), 1 - 9e-7),
            of_length(one_hot, 1 + 9e-7),
            of_length(one_hot + 1e-30),
            of_length(normal(count) * np.logspace(0, -30, dimension)),
            of_length(basis[generator.integers(0, min(dimension, 128), count)]),
            sample[:count],
        ]
    )
    queries = np.concatenate([rows[:: count // 3], -rows[1 :: count // 3], of_length(normal(3), 1 - 9e-7)])
    return Case(sample, rows, np.ascontiguousarray(queries))


@pytest.mark.parametrize("dimension", [1, 2, 63, 64, 65, 128, 129, 384])
def test_no_score_exceeds_a_bound(dimension: int) -> None:
    assert max(excesses(mixed(dimension, dimension)).values()) <= 0


element = st.one_of(
    st.floats(-1, 1, width=32),
    st.sampled_from([0.0, 1.0, -1.0, 1e-38, 1e-45, 127.0, 0.00390625]),
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    dimension = draw(st.sampled_from([1, 2, 3, 64, 65, 130]))
    count = draw(st.integers(1, 4))
    # Of long vectors a few elements are drawn, and repeated.
    width = min(dimension, 5)

    def vectors(many: int) -> NDArray[np.float64]:
        drawn = draw(
            st.lists(st.lists(element, min_size=width, max_size=width), min_size=many, max_size=many)
        )
        return np.resize(np.array(drawn), (many, width)).repeat(-(-dimension // width), axis=1)[:, :dimension]

    length = draw(st.sampled_from([1.0, 1 + 9e-7, 1 - 9e-7]))
    rows = of_length(vectors(count), length)
    queries = np.concatenate([of_length(vectors(2), length), rows, -rows])
    return Case(of_length(vectors(3)), rows, queries)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_no_score_exceeds_a_bound_whatever_the_vectors(case: Case) -> None:
    assert max(excesses(case).values()) <= 0


def no_slack(_columns: Columns, query: Query) -> None:
    query.factors[[3, 8, 11]] -= SLACK


def small_first_residual(columns: Columns, _query: Query) -> None:
    columns.prefix.first_residual[:] *= 0.5


def small_second_residual(columns: Columns, _query: Query) -> None:
    columns.prefix.second_norms[:, 1] *= 0.5


def small_whole_residual(columns: Columns, _query: Query) -> None:
    columns.whole.norms[:, 1] *= 0.5


def small_first_rest(columns: Columns, _query: Query) -> None:
    # By half: the residual, which is that of the worst row of a block, would make up for a tenth.
    columns.prefix.first_rest[:] //= 2


def small_second_rest(columns: Columns, _query: Query) -> None:
    columns.prefix.second_norms[:, 0] *= 0.9


def residual_wins(dimension: int) -> Case:
    """Rows whose codes err in the very direction of the query, as far as they can."""
    generator = np.random.default_rng(dimension)
    sample = of_length(generator.standard_normal((200, dimension)))
    rows = of_length(generator.standard_normal((20, dimension)) * np.logspace(0, -3, dimension))
    count = len(rows)
    store = Rows(dimension=dimension, capacity=count)
    store.embeddings[:count] = rows
    codes = Codes.empty(store, fitted_basis(sample))
    codes.write(np.arange(count), [b""] * count)
    exact, basis = rows.astype(np.float64), codes.basis
    whole = codes.columns.whole
    said = whole.norms[:count, :1] * whole.codes[:count, :dimension].astype(np.float64)
    matrix = basis.matrix.astype(np.float64)
    first = codes.columns.prefix.first[:count] * basis.first_scale @ matrix[:64]
    both = first + codes.columns.prefix.second[:count] * basis.second_scale @ matrix[64:]
    inside = exact @ matrix.T
    errors = [exact - said, inside[:, :64] @ matrix[:64] - first, inside @ matrix - both]
    return Case(sample, rows, np.concatenate([of_length(error) for error in errors]))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (no_slack, "whole"),
        (small_first_residual, "first"),
        (small_second_residual, "second"),
        (small_whole_residual, "whole"),
        (small_first_rest, "first"),
        (small_second_rest, "second"),
    ],
)
def test_every_part_of_a_bound_is_needed(change: Callable[[Columns, Query], None], kind: str) -> None:
    some = [mixed(2, 2), mixed(384, 384), residual_wins(384)]
    assert all(max(excesses(case).values()) <= 0 for case in some)
    assert max(excesses(case, change)[kind] for case in some) > 0
