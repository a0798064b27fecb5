"""Errors as types: by the reason, else by the code."""

import grpc
import pytest

from errata.client import (
    CallError,
    DeadlineExceededError,
    ErrataError,
    Failure,
    InvalidRequestError,
    NamespaceNotFollowedError,
    NotFoundError,
    TokenLostError,
    TokenNotReachedError,
    TooLargeError,
    UnavailableError,
)
from errata.client.errors import ERROR_OF_REASON, call_error
from errata.v1.learner_pb2 import ErrorReason


def error(code: grpc.StatusCode, reason: str = "", **metadata: str) -> CallError:
    return call_error(
        Failure(method="Search", target="h:1", code=code, message="why", reason=reason, metadata=metadata)
    )


def test_every_reason_of_the_contract_has_a_class() -> None:
    reasons = {name.removeprefix("ERROR_REASON_") for name, _ in ErrorReason.items()}
    assert set(ERROR_OF_REASON) == reasons - {"UNSPECIFIED"}


def test_the_message_names_the_call_the_address_and_the_reason() -> None:
    failed = error(grpc.StatusCode.FAILED_PRECONDITION, "TOKEN_LOST", want="9", applied="4")
    assert str(failed) == "Search at h:1: why [FAILED_PRECONDITION, TOKEN_LOST]"
    assert str(error(grpc.StatusCode.UNKNOWN)) == "Search at h:1: why [UNKNOWN]"
    assert isinstance(failed, ErrataError)


def test_what_a_reason_documents_is_data() -> None:
    lost = error(grpc.StatusCode.FAILED_PRECONDITION, "TOKEN_LOST", want="9", applied="4")
    assert isinstance(lost, TokenLostError)
    assert isinstance(lost, TokenNotReachedError)
    assert (lost.want, lost.applied) == (9, 4)
    large = error(grpc.StatusCode.INVALID_ARGUMENT, "TOO_LARGE", field="events", limit="1000")
    assert isinstance(large, TooLargeError)
    assert (large.field, large.limit) == ("events", 1_000)
    elsewhere = error(grpc.StatusCode.FAILED_PRECONDITION, "NAMESPACE_NOT_FOLLOWED", namespace="a")
    assert isinstance(elsewhere, NamespaceNotFollowedError)
    assert elsewhere.namespace == "a"


def test_data_that_is_missing_or_no_number_is_none() -> None:
    lost = error(grpc.StatusCode.FAILED_PRECONDITION, "TOKEN_LOST", want="nine")
    assert isinstance(lost, TokenLostError)
    assert (lost.want, lost.applied) == (None, None)


@pytest.mark.parametrize(
    ("code", "error_class"),
    [
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
        (grpc.StatusCode.CANCELLED, UnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceededError),
        (grpc.StatusCode.NOT_FOUND, NotFoundError),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequestError),
        (grpc.StatusCode.UNIMPLEMENTED, CallError),
    ],
)
def test_without_a_reason_and_with_one_of_a_later_version_the_code_decides(
    code: grpc.StatusCode, error_class: type[CallError]
) -> None:
    assert type(error(code)) is error_class
    assert type(error(code, "SOMETHING_NEW")) is error_class
