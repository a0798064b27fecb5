"""From errors to Statuses, without a server."""

import grpc
from google.rpc import (  # type: ignore[import-untyped]  # the package ships no types
    error_details_pb2,
)

from errata.serving.fields import InvalidFieldError, TooLargeError
from errata.serving.statuses import (
    MESSAGE_BYTES_MAX,
    METADATA_VALUE_BYTES_MAX,
    SHARED_STATUSES,
    StatusRule,
    StatusTable,
    errors_without_rule,
    failure_of,
    rule_of,
)
from errata.v1 import learner_pb2 as pb


class RootError(Exception):
    """A root, which is never raised itself."""


class RuledError(RootError):
    """Has a rule."""


class HeirError(RuledError):
    """Has the rule of its base."""


class ForgottenFamilyError(RootError):
    """A family, one of whose members has no rule."""


class ForgottenError(ForgottenFamilyError):
    """Has no rule."""


RULE: StatusRule[Exception] = StatusRule(grpc.StatusCode.NOT_FOUND, pb.ERROR_REASON_BLOCK_NOT_FOUND)
TABLE: StatusTable = {RuledError: RULE}


def test_the_rule_of_the_nearest_base_counts() -> None:
    nearer: StatusRule[Exception] = StatusRule(grpc.StatusCode.ABORTED, pb.ERROR_REASON_INTERNAL)
    assert rule_of(TABLE, HeirError) is RULE
    assert rule_of({**TABLE, HeirError: nearer}, HeirError) is nearer
    assert rule_of(TABLE, ForgottenError) is None


def test_errors_without_a_rule_are_found() -> None:
    assert list(errors_without_rule(TABLE, RootError)) == [ForgottenError]
    assert not list(errors_without_rule({RootError: RULE}, RootError))


def test_the_shared_table_covers_the_checks_of_fields() -> None:
    invalid = failure_of(SHARED_STATUSES, InvalidFieldError("a.b", "wrong"), "r")
    large = failure_of(SHARED_STATUSES, TooLargeError("c", 5, "bytes", 6), "r")
    assert (invalid.reason, invalid.metadata) == ("ERROR_REASON_INVALID_FIELD", {"field": "a.b"})
    assert (large.reason, large.metadata) == ("ERROR_REASON_TOO_LARGE", {"field": "c", "limit": "5"})
    assert large.message == "c: at most 5 bytes, got 6; send less at once"
    assert {invalid.code, large.code} == {grpc.StatusCode.INVALID_ARGUMENT}


def test_an_error_without_a_rule_is_a_bug_with_the_request_id() -> None:
    failure = failure_of(TABLE, ValueError("a secret"), "request-7")
    assert failure.is_bug
    assert (failure.code, failure.reason) == (grpc.StatusCode.INTERNAL, "ERROR_REASON_INTERNAL")
    assert failure.metadata == {"request_id": "request-7"}
    assert "secret" not in failure.message
    assert "request-7" in failure.message


def test_a_status_fits_in_headers_whatever_the_error_says() -> None:
    table: StatusTable = {
        RuledError: StatusRule(
            grpc.StatusCode.NOT_FOUND, pb.ERROR_REASON_BLOCK_NOT_FOUND, lambda error: {"block_id": str(error)}
        )
    }
    failure = failure_of(table, RuledError("ä" * 5_000 + "\ud800"), "r")
    assert len(failure.message.encode()) <= MESSAGE_BYTES_MAX
    assert len(failure.metadata["block_id"].encode()) <= METADATA_VALUE_BYTES_MAX
    assert failure.message.endswith("ä…")


def test_a_message_that_no_header_can_carry_is_made_to_fit() -> None:
    failure = failure_of(TABLE, RuledError("lone \ud800"), "r")
    assert failure.message.encode()


def test_a_status_carries_one_error_info() -> None:
    proto = failure_of(TABLE, HeirError("gone"), "r").to_proto()
    info = error_details_pb2.ErrorInfo()
    assert (proto.code, proto.message, len(proto.details)) == (5, "gone", 1)
    assert proto.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("ERROR_REASON_BLOCK_NOT_FOUND", "errata")


def test_a_rule_without_a_reason_carries_none() -> None:
    table: StatusTable = {
        RuledError: StatusRule(grpc.StatusCode.NOT_FOUND, pb.ERROR_REASON_UNSPECIFIED),
    }
    assert not failure_of(table, RuledError("gone"), "r").to_proto().details
