"""Addresses as people write them."""

import pytest

from errata.serving.addresses import Address, parse_address, resolve_for_listening, why_not_listening


@pytest.mark.parametrize(
    ("text", "address", "is_loopback"),
    [
        ("127.0.0.1:7411", Address("127.0.0.1", 7411), True),
        ("0.0.0.0:0", Address("0.0.0.0", 0), False),  # noqa: S104 - only read
        ("localhost:65535", Address("localhost", 65535), True),
        ("learner.internal:7411", Address("learner.internal", 7411), False),
        ("errata_learner:7411", Address("errata_learner", 7411), False),
        ("[::1]:7411", Address("::1", 7411), True),
        ("[::]:0", Address("::", 0), False),
    ],
)
def test_an_address_reads_as_it_is_written(text: str, address: Address, is_loopback: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert parse_address(text) == address
    assert str(parse_address(text)) == text
    assert parse_address(text).is_loopback is is_loopback


@pytest.mark.parametrize(
    ("text", "way_out"),
    [
        ("", "HOST:PORT"),
        ("7411", "HOST:PORT"),
        (":7411", "0.0.0.0:7411"),
        ("host:", "0 to 65535"),
        ("host:http", "0 to 65535"),
        ("host:65536", "0 to 65535"),
        ("host:-1", "0 to 65535"),
        ("host:٣", "0 to 65535"),
        ("::1:7411", r"\[::1\]:7411"),
        ("[::g]:7411", "IPv6"),
        ("http://host:7411", r"in brackets"),
        ("ho st:7411", "no host"),
        ("-host:7411", "no host"),
    ],
)
def test_anything_else_is_refused_with_a_way_out(text: str, way_out: str) -> None:
    with pytest.raises(ValueError, match=way_out):
        parse_address(text)


def test_the_least_port_may_be_1() -> None:
    assert parse_address("host:1", port_min=1).port == 1
    with pytest.raises(ValueError, match="1 to 65535"):
        parse_address("host:0", port_min=1)


def test_a_name_is_resolved_to_one_ipv4_number() -> None:
    assert resolve_for_listening(Address("localhost", 5)) == Address("127.0.0.1", 5)


def test_an_address_that_cannot_be_listened_at_is_told_why() -> None:
    assert why_not_listening(Address("127.0.0.1", 0)) is None
    assert why_not_listening(Address("192.0.2.1", 0)) == "cannot assign requested address"
