"""Threads that search while one writes, as fast as they can."""

import random
import threading
from collections.abc import Callable, Sequence
from functools import partial

from rag_service.index import ExampleIndex, IndexQuery
from tests.rag_service.index_samples import delete, vector
from tests.rag_service.versioned_examples import DIMENSION, QUERY, torn_hits, version_of, versions

WAIT_S_MAX = 30.0


def test_readers_see_whole_states_in_order_while_a_writer_works() -> None:
    """Each batch gives every example of a group one version, so a state that is not whole shows two."""
    index = ExampleIndex(dimension=DIMENSION, capacity_max=20_000)
    group = [f"{at}" for at in range(12)]
    batch_count = 500
    stop = threading.Event()
    failures: list[object] = []
    search_counts = [0, 0, 0]

    def write() -> None:
        revision = 0
        generator = random.Random(3)
        for version in range(1, batch_count + 1):
            updates = []
            for example_id in generator.sample(group, len(group)):
                revision += 1
                updates.append(version_of(revision, example_id, version))
            for _ in range(3):
                revision += 1
                # Grows the index, and leaves holes in it.
                other = f"other-{generator.randrange(2_000)}"
                gone = generator.random() < 0.3
                updates.append(delete(revision, other) if gone else version_of(revision, other, version))
            index.apply(updates)

    def read(reader: int) -> None:
        seen_revision = seen_version = 0
        queries = [
            IndexQuery(embedding=vector(QUERY), limit=3_000, labels=labels)
            for labels in ({}, {"parity": "odd"}, {"parity": "even"})
        ]
        while not stop.is_set():
            answer = index.search(queries[search_counts[reader] % 3])
            search_counts[reader] += 1
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
