"""The bytes of an answer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errata.v1 import example_pb2, rag_pb2
from rag_service.answer import ANSWER_BYTES_MAX, duration, encoded_response
from rag_service.query import Hit

MIB = 1024 * 1024

examples = st.builds(
    example_pb2.Example,
    id=st.text(max_size=10),
    namespace=st.text(max_size=5),
    query_text=st.text(max_size=300),
)
scores = st.floats(-1, 1, width=32)


@given(
    found=st.lists(st.tuples(examples, scores), max_size=5), query_text=st.text(), below=st.integers(0, 100)
)
def test_spliced_bytes_are_the_message_that_they_stand_for(
    found: list[tuple[example_pb2.Example, float]], query_text: str, below: int
) -> None:
    hits = [Hit(example.SerializeToString(), score) for example, score in found]
    rest = rag_pb2.SearchResponse(query_text=query_text, below_min_score_count=below, token=b"t")
    encoded = encoded_response(hits, rest)
    wanted = rag_pb2.SearchResponse(
        results=[rag_pb2.SearchResult(example=example, score=score) for example, score in found],
        query_text=query_text,
        below_min_score_count=below,
        token=b"t",
    )
    assert rag_pb2.SearchResponse.FromString(encoded) == wanted


@settings(max_examples=20)
@given(sizes=st.lists(st.integers(1, 2 * MIB), max_size=8), query_bytes=st.integers(0, 8192))
def test_an_answer_is_as_long_as_it_may_be_and_not_longer(sizes: list[int], query_bytes: int) -> None:
    found = [example_pb2.Example(query_text="x" * size) for size in sizes]
    hits = [Hit(example.SerializeToString(), 0.5) for example in found]
    encoded = encoded_response(hits, rag_pb2.SearchResponse(query_text="y" * query_bytes))
    response = rag_pb2.SearchResponse.FromString(encoded)
    kept = len(response.results)
    assert len(encoded) <= ANSWER_BYTES_MAX
    assert [result.example for result in response.results] == found[:kept]
    assert response.omitted_result_count == len(found) - kept
    if kept < len(found):
        # 16 bytes are more than the tags and lengths of a result, and less than any of them would waste.
        assert len(encoded) + len(hits[kept].example) + 16 > ANSWER_BYTES_MAX


def test_the_count_of_what_was_left_out_has_room_too() -> None:
    lengths = []
    # Sizes at which the first result just fits, and just does not.
    for size in range(ANSWER_BYTES_MAX - 40, ANSWER_BYTES_MAX - 10):
        hits = [Hit(b"x" * size, 0.5)] * 2
        lengths.append(len(encoded_response(hits, rag_pb2.SearchResponse())))
    assert max(lengths) == ANSWER_BYTES_MAX
    assert min(lengths) < 10


@given(st.floats(0, 1e9))
def test_a_duration_is_written_to_the_microsecond(seconds: float) -> None:
    written = duration(seconds)
    assert written.seconds + written.nanos / 1e9 == pytest.approx(seconds, abs=1e-6)
    assert 0 <= written.nanos < 1_000_000_000
