"""When an index that is being filled begins to keep what makes searches faster."""

from collections.abc import Iterator
from functools import partial

from errata.v1 import learner_pb2
from rag_service.index import ExampleIndex
from rag_service.mirror import Mirror, Source
from rag_service.progress import Progress
from rag_service.pruning.fastest import FastestRanking, Kernel
from rag_service.read_your_writes import NO_EPOCHS
from tests.rag_service.index_samples import put, unit
from tests.rag_service.manual_clock import ManualClock
from tests.rag_service.scripted_learner import ToyEmbedder

UPDATES = [put(at, f"{at}", unit([1, 0])) for at in range(1, 5)]


class NotedJobs:
    """Notes jobs and runs none."""

    def __init__(self) -> None:
        self.count = 0

    def run(self, job: Iterator[None]) -> None:
        del job
        self.count += 1


def built(jobs: NotedJobs, dimension: int) -> ExampleIndex:
    ranking = partial(FastestRanking, kernel=Kernel(jobs), background=jobs, rows_min=3)
    return ExampleIndex(dimension=dimension, build_ranking=ranking)


def test_an_index_that_is_searched_begins_with_codes_when_it_has_rows_enough() -> None:
    jobs = NotedJobs()
    index = built(jobs, 2)
    index.apply(UPDATES[:2])
    assert jobs.count == 0
    index.apply(UPDATES[2:])
    assert jobs.count > 0


def test_an_index_that_is_filled_begins_with_codes_when_it_is_complete() -> None:
    jobs = NotedJobs()
    index = built(jobs, 2)
    index.begin_filling()
    index.apply(UPDATES)
    assert jobs.count == 0
    index.end_filling()
    assert jobs.count > 0


def test_a_small_index_begins_with_codes_when_it_has_grown_after_it_was_complete() -> None:
    jobs = NotedJobs()
    index = built(jobs, 2)
    index.begin_filling()
    index.apply(UPDATES[:2])
    index.end_filling()
    assert jobs.count == 0
    index.apply(UPDATES[2:])
    assert jobs.count > 0


def test_a_first_sync_ends_the_filling_with_the_bookmark_that_proves_it() -> None:
    jobs, clock = NotedJobs(), ManualClock()
    mirror = Mirror(build_index=partial(built, jobs), progress=Progress(clock=clock), clock=clock)
    embedder = ToyEmbedder(fingerprint="toy/2", dimension=2)
    mirror.open(Source(store_id=b"store-1", epochs=NO_EPOCHS, embedder=embedder))
    mirror.receive(UPDATES)
    assert jobs.count == 0
    received = mirror.receiving
    assert received is not None
    assert mirror.bookmark(
        learner_pb2.WatchBookmark(revision=4, example_count=4, digest=received.index.digest)
    )
    assert jobs.count > 0
