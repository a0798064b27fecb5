"""Writes a SearchResponse around examples that are encoded already.

The index keeps examples as bytes. On the wire a message field is its tag, the length, and those bytes, so an
answer is put together without reading or writing a single example.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from google.protobuf.duration_pb2 import Duration

from errata.v1 import rag_pb2
from rag_service.query import Hit

ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of a SearchResponse; results at the end are left out beyond it."""

_RESULTS_TAG: Final = bytes([rag_pb2.SearchResponse.RESULTS_FIELD_NUMBER << 3 | 2])
_EXAMPLE_TAG: Final = bytes([rag_pb2.SearchResult.EXAMPLE_FIELD_NUMBER << 3 | 2])
_SCORE_TAG: Final = bytes([rag_pb2.SearchResult.SCORE_FIELD_NUMBER << 3 | 5])
_FLOAT: Final = struct.Struct("<f")


def encoded_response(hits: Sequence[Hit], response: rag_pb2.SearchResponse) -> bytes:
    """The bytes of an answer.

    Args:
        hits: best first.
        response: everything but the results; `omitted_result_count` is filled in.

    Returns:
        A SearchResponse of at most `ANSWER_BYTES_MAX`, with as many of the first hits as have room.
    """
    results = [_encoded_result(hit) for hit in hits]
    # With the largest count it may come to hold, so that filling it in cannot take it over the bound.
    response.omitted_result_count = len(results)
    fitting = list(_fitting(results, ANSWER_BYTES_MAX - response.ByteSize()))
    response.omitted_result_count = len(results) - len(fitting)
    return b"".join((*fitting, response.SerializeToString()))


def duration(seconds: float) -> Duration:
    """A length of time as the wire has it, to the microsecond."""
    whole, microseconds = divmod(round(seconds * 1e6), 1_000_000)
    return Duration(seconds=whole, nanos=microseconds * 1_000)


def _encoded_result(hit: Hit) -> bytes:
    """One element of `results`, tag and length included."""
    result = b"".join(
        (_EXAMPLE_TAG, _varint(len(hit.example)), hit.example, _SCORE_TAG, _FLOAT.pack(hit.score))
    )
    return b"".join((_RESULTS_TAG, _varint(len(result)), result))


def _fitting(results: Iterable[bytes], room_bytes: int) -> Iterable[bytes]:
    for result in results:
        room_bytes -= len(result)
        if room_bytes < 0:
            return
        yield result


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
