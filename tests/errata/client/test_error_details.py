"""What is read of a Status agrees with the packages of google.rpc, and does not disturb them."""

from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # the package ships no types
from hypothesis import given
from hypothesis import strategies as st

from errata.client.error_details import ErrorInfo, error_info, request_id


def status(*details: Message) -> bytes:
    made = status_pb2.Status(code=3, message="no")
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        made.details.append(packed)
    encoded: bytes = made.SerializeToString()
    return encoded


def info(reason: str, domain: str = "errata", **metadata: str) -> Message:
    made: Message = error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)
    return made


def read(encoded: bytes) -> ErrorInfo | None:
    return error_info([("x-request-id", "r"), ("grpc-status-details-bin", encoded)])


@given(st.text(), st.dictionaries(st.text(), st.text(), max_size=5))
def test_reason_and_metadata_are_those_that_googles_own_package_wrote(
    reason: str, metadata: dict[str, str]
) -> None:
    written = error_details_pb2.ErrorInfo(reason=reason, domain="errata", metadata=metadata)
    assert read(status(written)) == ErrorInfo(reason, metadata)


def test_details_of_other_kinds_and_of_other_domains_are_passed_over() -> None:
    retry = error_details_pb2.RetryInfo()
    encoded = status(retry, info("RATE", domain="proxy.example"), info("ERROR_REASON_INTERNAL"))
    assert read(encoded) == ErrorInfo("ERROR_REASON_INTERNAL", {})
    assert read(status(retry)) is None


def test_without_details_there_is_no_reason() -> None:
    assert error_info([]) is None
    assert read(b"") is None
    assert read(status()) is None


@given(st.binary(max_size=200))
def test_bytes_that_are_no_status_are_no_error(encoded: bytes) -> None:
    found = read(encoded)
    assert found is None or isinstance(found.reason, str)


def test_a_damaged_error_info_is_no_error() -> None:
    made = status_pb2.Status()
    made.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\x0a\xff")
    assert read(made.SerializeToString()) is None


def test_the_request_id_is_read_where_there_is_one() -> None:
    assert request_id([("a", "b"), ("x-request-id", "17")]) == "17"
    assert request_id([("a", "b")]) == ""
