"""Threads that search while one writes, as fast as they can."""

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pytest

from errata.v1.learner_pb2 import ExampleUpdate
from rag_service.index import ExampleIndex, IndexQuery
from tests.rag_service.index_samples import delete, vector
from tests.rag_service.rankings import BuildRanking, each_ranking
from tests.rag_service.versioned_examples import DIMENSION, QUERY, torn_hits, version_of, versions

WAIT_S_MAX = 30.0


@each_ranking
@pytest.mark.parametrize(
    "row_check_count", [0, pytest.param(10_000_000, marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_readers_see_whole_states_in_order_while_a_writer_works(
    build_ranking: BuildRanking, row_check_count: int
) -> None:
    """Each batch gives every example of a group one version, so a state that is not whole shows two."""
    index = ExampleIndex(dimension=DIMENSION, capacity_max=20_000, build_ranking=build_ranking)
    group = [f"{at}" for at in range(12)]
    batch_count = 500
    stop = threading.Event()
    failures: list[object] = []
    search_counts = [0, 0, 0]
    row_checks = [0, 0, 0]

    def goes_on(version: int) -> bool:
        return version <= batch_count or (not failures and sum(row_checks) < row_check_count)

    def write() -> None:
        revisions = itertools.count(1)
        generator = random.Random(3)
        for version in itertools.takewhile(goes_on, itertools.count(1)):
            index.apply(batch(version, group, revisions, generator))

    def read(reader: int) -> None:
        seen_revision = seen_version = 0
        queries = [
            IndexQuery(embedding=vector(QUERY), limit=3_000, labels=labels)
            for labels in ({}, {"parity": "odd"}, {"parity": "even"})
        ]
        while not stop.is_set():
            answer = index.search(queries[search_counts[reader] % 3])
            search_counts[reader] += 1
            row_checks[reader] += len(answer.hits)
            found = versions(answer)
            in_group = [found[example_id] for example_id in group if example_id in found]
            if torn_hits(answer):
                failures.append(("torn", torn_hits(answer)))
            if answer.received_revision < seen_revision:
                failures.append(("back in time", answer.received_revision, seen_revision))
            if in_group and (in_group != in_group[:1] * len(group) or in_group[0] < seen_version):
                failures.append(("not whole", in_group, seen_version))
            seen_revision = answer.received_revision
            seen_version = max(in_group, default=seen_version)

    run_threads(write, [partial(read, reader) for reader in range(3)], stop)
    assert failures == []
    assert min(search_counts) > 3


def batch(
    version: int, group: Sequence[str], revisions: Iterator[int], generator: random.Random
) -> list[ExampleUpdate]:
    """Gives the whole group a version, and makes the index grow and have holes."""
    shuffled = generator.sample(group, len(group))
    updates = [version_of(next(revisions), example_id, version) for example_id in shuffled]
    for _ in range(3):
        other = f"other-{generator.randrange(2_000)}"
        gone = generator.random() < 0.3
        revision = next(revisions)
        updates.append(delete(revision, other) if gone else version_of(revision, other, version))
    return updates


def run_threads(
    write: Callable[[], None], reads: Sequence[Callable[[], None]], stop: threading.Event
) -> None:
    """Runs the readers until the writer is done; raises what any of them raised."""
    raised: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # handed to the test
            raised.append(error)

    readers = [threading.Thread(target=guarded, args=(read,)) for read in reads]
    for reader in readers:
        reader.start()
    guarded(write)
    stop.set()
    for reader in readers:
        reader.join(WAIT_S_MAX)
    if raised:
        raise raised[0]
