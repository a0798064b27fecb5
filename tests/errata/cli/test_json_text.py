"""Messages as JSON for scripts."""

from google.protobuf import json_format

from errata.cli.json_text import to_json
from errata.v1.learner_pb2 import Epoch, GetStatusResponse, LogFileStatus, WatchHello, WatchUpdatesResponse
from errata.v1.rag_pb2 import SearchResponse


def test_counts_are_numbers_wherever_they_stand() -> None:
    status = GetStatusResponse(block_count=7, log_files=[LogFileStatus(path="p", size_bytes=2**40)])
    members = to_json(status)
    assert members["blockCount"] == 7
    assert members["logFiles"][0]["sizeBytes"] == 2**40
    assert members["logFiles"][0]["offsetBytes"] == 0


def test_random_bits_stay_a_string() -> None:
    hello = WatchHello(epochs=[Epoch(nonce=2**63 + 1, start_revision=5)])
    epoch = to_json(WatchUpdatesResponse(hello=hello))["hello"]["epochs"][0]
    assert epoch == {"nonce": str(2**63 + 1), "startRevision": 5}


def test_fields_that_are_not_set_have_their_defaults() -> None:
    assert to_json(SearchResponse())["results"] == []
    assert to_json(SearchResponse())["degraded"] is False


def test_protobuf_reads_it_back() -> None:
    status = GetStatusResponse(
        version="1", head_revision=9, store_id=b"\x00\xff", log_files=[LogFileStatus()]
    )
    status.oldest_queued_age.FromSeconds(3)
    assert json_format.ParseDict(to_json(status), GetStatusResponse()) == status
