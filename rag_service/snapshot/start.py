"""Starts from the snapshot that an earlier process left: the state that it proved, and how to go on from it.

Used is a snapshot of the same namespaces, whose vectors the embedder that can be built here makes too, and
that is whole, its deletions included. Any other is left where it is, with one warning, and the service starts
from nothing.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import TypeVar

from errata.serving.logs import get_logger
from rag_service.clock import Clock
from rag_service.embedders import Embedders
from rag_service.errors import RagError
from rag_service.index import ExampleIndex
from rag_service.mirror import QueryEmbedder, Replica, Source
from rag_service.read_your_writes import Epochs
from rag_service.snapshot.directory import SnapshotDirectory
from rag_service.snapshot.errors import SnapshotForeignError
from rag_service.snapshot.file import SnapshotFile
from rag_service.snapshot.sections import filled_index

Result = TypeVar("Result")

_log = get_logger()


async def read_replica(
    *,
    directory: SnapshotDirectory,
    embedders: Embedders,
    build_index: Callable[[int], ExampleIndex],
    namespaces: Collection[str],
    clock: Clock,
    wall_us: Callable[[], int],
) -> Replica | None:
    """The state that the snapshot in a directory holds; None when there is none that can be used.

    Args:
        directory: acquired; it adopts the snapshot that is used.
        embedders: build the embedder of the snapshot.
        build_index: an empty index for vectors of a dimension.
        namespaces: the ones that are followed; all of them when empty.
        clock: of the age of bookmarks.
        wall_us: microseconds since 1970.
    """
    try:
        file = await asyncio.to_thread(directory.open_snapshot)
        if file is None:
            return None
        with file:
            embedder, index = await _embedder_and_index(file, directory, embedders, build_index, namespaces)
    except (RagError, OSError) as error:
        _log.warning("the snapshot cannot be used, starting from nothing", problem=str(error))
        return None
    except Exception:  # noqa: BLE001 - all that a snapshot holds can be received again
        _log.exception("the snapshot cannot be used because of a bug, starting from nothing")
        return None
    header = file.header
    epochs = Epochs(header.epochs)
    age_s = max(0.0, (wall_us() - header.bookmark_time.ToMicroseconds()) / 1e6)
    _log.info(
        "starting from a snapshot",
        revision=header.bookmark.revision,
        example_count=header.bookmark.example_count,
        age_s=round(age_s),
    )
    return Replica(
        index=index,
        source=Source(
            store_id=header.store_id, epochs=epochs, embedder=embedder, embedder_spec=header.embedder
        ),
        resume_token=header.bookmark.token,
        own_epochs=epochs,
        applied_revision=header.bookmark.revision,
        bookmark_time_s=clock.monotonic_s() - age_s,
        restored=True,
    )


async def _embedder_and_index(
    file: SnapshotFile,
    directory: SnapshotDirectory,
    embedders: Embedders,
    build_index: Callable[[int], ExampleIndex],
    namespaces: Collection[str],
) -> tuple[QueryEmbedder, ExampleIndex]:
    if set(file.header.namespaces) != set(namespaces):
        raise SnapshotForeignError(f"{file.path} is of other namespaces: {list(file.header.namespaces)}")
    log, deletions = await asyncio.to_thread(directory.open_deletions, file.header.snapshot_id)
    try:
        # The examples are read while the embedder is loaded; of two failures the first named is told.
        embedder, index = await asyncio.gather(
            embedders.for_snapshot(file.header),
            asyncio.to_thread(filled_index, file, build_index, deletions),
            return_exceptions=True,
        )
        fitting = _result(embedder), _result(index)
    except BaseException:
        log.close()
        raise
    directory.adopt(log)
    return fitting


def _result(outcome: Result | BaseException) -> Result:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
