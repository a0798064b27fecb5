"""The state of an index as the sections of a snapshot, and back.

Written in pieces, each a fraction of a millisecond's work: whoever writes shares the interpreter with the
searches. Read in bulk, and proven: a state that does not have the digest of its bookmark is not given back.
"""

import gc
import itertools
import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Sized
from typing import Final

import numpy as np
from numpy.typing import NDArray

from errata.snapshot.v1 import snapshot_pb2
from rag_service.held_state import HeldState
from rag_service.index import ExampleIndex
from rag_service.index_errors import IndexFullError
from rag_service.row_columns import RowColumns
from rag_service.row_lists import Facet
from rag_service.rows import Rows
from rag_service.snapshot.errors import SnapshotDamagedError, SnapshotForeignError
from rag_service.snapshot.file import Buffer, Section, SnapshotFile

PIECE_ROWS: Final = 512
"""Rows of a piece."""

_FLOAT32: Final = np.dtype("<f4")
_INT64: Final = np.dtype("<i8")


def sections_of(held: HeldState) -> Iterator[Section]:
    """The sections, in the order in which `filled_index` reads them; each is made while it is taken."""
    rows, numbers = held.rows, held.numbers()
    pieces = [numbers[start : start + PIECE_ROWS] for start in range(0, len(numbers), PIECE_ROWS)]

    def texts(column: Sequence[bytes]) -> Iterator[list[bytes]]:
        return ([column[row] for row in piece.tolist()] for piece in pieces)

    yield snapshot_pb2.SECTION_KIND_REVISIONS, (_integers(rows.revisions(piece)) for piece in pieces)
    yield snapshot_pb2.SECTION_KIND_EXECUTED_TIMES, (_integers(rows.executed_ns[piece]) for piece in pieces)
    yield snapshot_pb2.SECTION_KIND_KEY_LENGTHS, _lengths(texts(rows.keys))
    yield snapshot_pb2.SECTION_KIND_KEYS, map(b"".join, texts(rows.keys))
    yield snapshot_pb2.SECTION_KIND_EXAMPLE_LENGTHS, _lengths(texts(rows.examples))
    yield snapshot_pb2.SECTION_KIND_EXAMPLES, map(b"".join, texts(rows.examples))
    yield from _facet_sections(rows, pieces)
    quarantined = list(held.quarantined)
    yield snapshot_pb2.SECTION_KIND_QUARANTINED_REVISIONS, [_integers(list(held.quarantined.values()))]
    yield snapshot_pb2.SECTION_KIND_QUARANTINED_KEY_LENGTHS, _lengths([quarantined])
    yield snapshot_pb2.SECTION_KIND_QUARANTINED_KEYS, [b"".join(quarantined)]
    yield snapshot_pb2.SECTION_KIND_EMBEDDINGS, (_floats(rows.embeddings[piece]) for piece in pieces)


def filled_index(
    file: SnapshotFile, build_index: Callable[[int], ExampleIndex], deleted: Collection[bytes]
) -> ExampleIndex:
    """The index that a snapshot was made of, without the examples that have been deleted since.

    Those cannot be found, but count; see `ExampleIndex.fill`.

    Args:
        file: just opened.
        build_index: an empty index for vectors of a dimension.
        deleted: the keys of those examples; others do no harm.

    Raises:
        SnapshotDamagedError: a section is damaged, or they are not the state of the bookmark.
        SnapshotForeignError: there is no room for so many examples.
        OSError: it cannot be read.
    """
    header = file.header
    collects = gc.isenabled()
    # Looking for garbage among millions of objects that are made and kept takes as long as making them.
    gc.disable()
    try:
        index = build_index(header.dimension)
        columns = _read_columns(file)
        quarantined_revisions = _read_integers(file, snapshot_pb2.SECTION_KIND_QUARANTINED_REVISIONS)
        quarantined_keys = _read_texts(
            file,
            snapshot_pb2.SECTION_KIND_QUARANTINED_KEY_LENGTHS,
            snapshot_pb2.SECTION_KIND_QUARANTINED_KEYS,
        )
        index.fill(
            columns,
            quarantined=dict(zip(quarantined_keys, quarantined_revisions.tolist(), strict=True)),
            withheld=deleted,
            received_revision=header.received_revision,
            read_embeddings=lambda embeddings: _read_embeddings(file, embeddings),
        )
    except IndexFullError as error:
        raise SnapshotForeignError(f"{file.path}: {error}") from error
    except ValueError as error:
        raise SnapshotDamagedError(file.path, str(error)) from error
    finally:
        if collects:
            gc.enable()
    bookmark = header.bookmark
    if (index.count, index.digest) != (bookmark.example_count, bookmark.digest):
        raise SnapshotDamagedError(file.path, "its examples are not those of its bookmark")
    return index


def _facet_sections(rows: Rows, pieces: Sequence[NDArray[np.int64]]) -> Iterator[Section]:
    lists_of = rows.lists.lists_of
    # By number of the list.
    places: dict[int, int] = {}
    facets: list[Facet] = []

    def placed(piece: NDArray[np.int64]) -> list[int]:
        found = []
        for row_list in itertools.chain.from_iterable(map(lists_of, piece.tolist())):
            place = places.setdefault(row_list.number, len(facets))
            if place == len(facets):
                facets.append(row_list.facet)
            found.append(place)
        return found

    yield snapshot_pb2.SECTION_KIND_FACET_COUNTS, _lengths(map(lists_of, piece.tolist()) for piece in pieces)
    yield snapshot_pb2.SECTION_KIND_FACET_PLACES, (_integers(placed(piece)) for piece in pieces)
    # Complete by now: a section is taken to its end before the next one is asked for.
    yield snapshot_pb2.SECTION_KIND_FACETS, _json(facets)


def _read_columns(file: SnapshotFile) -> RowColumns:
    return RowColumns(
        revisions=_read_integers(file, snapshot_pb2.SECTION_KIND_REVISIONS),
        executed_ns=_read_integers(file, snapshot_pb2.SECTION_KIND_EXECUTED_TIMES),
        keys=_read_texts(file, snapshot_pb2.SECTION_KIND_KEY_LENGTHS, snapshot_pb2.SECTION_KIND_KEYS),
        examples=_read_texts(
            file, snapshot_pb2.SECTION_KIND_EXAMPLE_LENGTHS, snapshot_pb2.SECTION_KIND_EXAMPLES
        ),
        facet_counts=_read_integers(file, snapshot_pb2.SECTION_KIND_FACET_COUNTS),
        facet_places=_read_integers(file, snapshot_pb2.SECTION_KIND_FACET_PLACES),
        facets=[tuple(parts) for parts in json.loads(file.read(snapshot_pb2.SECTION_KIND_FACETS))],
    )


def _read_embeddings(file: SnapshotFile, embeddings: NDArray[np.float32]) -> None:
    file.read_into(snapshot_pb2.SECTION_KIND_EMBEDDINGS, embeddings)
    if sys.byteorder == "big":
        embeddings.byteswap(inplace=True)


def _read_integers(file: SnapshotFile, kind: snapshot_pb2.SectionKind.ValueType) -> NDArray[np.int64]:
    return np.frombuffer(file.read(kind), dtype=_INT64).astype(np.int64, copy=False)


def _read_texts(
    file: SnapshotFile,
    lengths_kind: snapshot_pb2.SectionKind.ValueType,
    kind: snapshot_pb2.SectionKind.ValueType,
) -> list[bytes]:
    lengths, joined = _read_integers(file, lengths_kind), file.read(kind)
    if lengths.min(initial=0) < 0 or lengths.sum() != len(joined):
        raise ValueError("the lengths of texts do not fit the texts")
    ends = np.cumsum(lengths)
    return [joined[start:end] for start, end in zip((ends - lengths).tolist(), ends.tolist(), strict=True)]


def _lengths(pieces: Iterable[Iterable[Sized]]) -> Iterator[Buffer]:
    return (_integers(list(map(len, piece))) for piece in pieces)


def _integers(numbers: Sequence[int] | NDArray[np.int64]) -> Buffer:
    return np.array(numbers, dtype=_INT64).data.cast("B")


def _floats(embeddings: NDArray[np.float32]) -> Buffer:
    return embeddings.astype(_FLOAT32, copy=False).reshape(-1).data.cast("B")


def _json(facets: Sequence[Facet]) -> Iterator[Buffer]:
    """An array, in pieces: a call of the encoder is not interrupted."""
    before = b"["
    for start in range(0, len(facets), PIECE_ROWS):
        some = json.dumps(facets[start : start + PIECE_ROWS], ensure_ascii=False, separators=(",", ":"))
        yield before + some[1:-1].encode()
        before = b","
    yield b"]" if facets else b"[]"
