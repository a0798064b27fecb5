"""Option values by functions that read text and raise ValueError with the rule and the way out."""

import base64
import binascii
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import click

from errata.cli.times import local_now, read_length_s, read_time


def reads(read: Callable[[str], object]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback for an option whose text `read` turns into its value; unset stays None."""

    def callback(ctx: click.Context, parameter: click.Parameter, text: Any) -> Any:
        try:
            return read(text) if isinstance(text, str) else text
        except ValueError as error:
            raise click.BadParameter(str(error), ctx=ctx, param=parameter) from None

    return callback


def reads_all(
    read: Callable[[Sequence[str]], object],
) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """The same for an option that may be repeated; `read` gets all the texts."""

    def callback(ctx: click.Context, parameter: click.Parameter, texts: Any) -> Any:
        try:
            return read(texts)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx=ctx, param=parameter) from None

    return callback


def read_wait_s(text: str) -> float:
    """A length of time of more than 0, in seconds."""
    seconds = read_length_s(text)
    if seconds <= 0:
        raise ValueError("more than 0 is needed")
    return seconds


def read_moment(text: str) -> datetime:
    """A time, seen from now; see `read_time`."""
    return read_time(text, local_now())


def read_token(text: str) -> bytes:
    """A token as `--json` prints it."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("no token; give it as it was printed, whole") from None


def read_labels(pairs: Sequence[str]) -> dict[str, str]:
    """Labels written as KEY=VALUE."""
    # Imported here, because it imports protobuf.
    from errata.serving.fields import InvalidFieldError, TooLargeError, check_labels  # noqa: PLC0415 - see above

    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"{pair!r} is no label; write KEY=VALUE, such as team=infra")
        labels[key] = value
    try:
        check_labels("label", labels)
    except (InvalidFieldError, TooLargeError) as error:
        raise ValueError(str(error)) from error
    return labels


def read_block_id(text: str) -> str:
    """The ID of a block."""
    from errata.serving.fields import InvalidFieldError, check_block_id  # noqa: PLC0415 - as above

    try:
        check_block_id("block ID", text)
    except InvalidFieldError as error:
        raise ValueError(error.problem) from error
    return text


def read_block_ids(texts: Sequence[str]) -> tuple[str, ...]:
    """The IDs of blocks, each once."""
    return tuple(dict.fromkeys(map(read_block_id, texts)))


def read_namespaces(names: Sequence[str]) -> tuple[str, ...]:
    """The names of namespaces, each once."""
    from errata.serving.fields import InvalidFieldError, check_namespace  # noqa: PLC0415 - as above

    for name in names:
        try:
            check_namespace("namespace", name)
        except InvalidFieldError as error:
            raise ValueError(error.problem) from error
    return tuple(dict.fromkeys(names))


def text_of(words: Sequence[str], what: str) -> str:
    """What words of the command line say, with spaces between; `-` alone reads standard input.

    Raises:
        click.UsageError: it is blank, or standard input is not UTF-8.
    """
    text = _standard_input() if list(words) == ["-"] else " ".join(words)
    if not text.strip():
        raise click.UsageError(f"{what} is needed, got nothing; `-` reads it from standard input")
    return text.removesuffix("\n")


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"standard input is not UTF-8: byte {error.start} is not") from error
