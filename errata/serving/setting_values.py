"""How the values of settings are written.

Each function reads one form and raises ValueError, with the rule and the way out, for anything else.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from errata.serving.addresses import parse_address
from errata.serving.fields import InvalidFieldError, check_namespace

STORE_BYTES_MIN: Final = 1024 * 1024
"""A store smaller than this does not hold its own tables and one example."""

_SIZE = re.compile(r"(\d{1,15})([KMGT]?)(i?B)?", re.IGNORECASE | re.ASCII)
_SUFFIXES: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_EMBEDDER = re.compile(r"[a-z][a-z0-9-]*(:[!-~]+)?")

_COUNT_DIGITS_MAX: Final = 12
_YES_AND_NO: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def read_address(text: str) -> str:
    """HOST:PORT to listen at; port 0 takes a free one."""
    return str(parse_address(text))


def read_peer_address(text: str) -> str:
    """HOST:PORT of somebody else."""
    return str(parse_address(text, port_min=1))


def read_base_url(text: str) -> str:
    """The URL of a server, without a slash at its end."""
    try:
        url = urlsplit(text)
        # Looked at for the errors that it raises.
        _ = url.port
    except ValueError:
        url = urlsplit("")
    if url.username is not None or url.password is not None:
        # Not repeated: it holds a password.
        raise ValueError("a URL with a password would show up in logs; give a key where keys are given")
    plain = text.isascii() and text.isprintable() and " " not in text
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment or not plain:
        raise ValueError(f"{text!r} is no URL of a server; write it as in https://api.openai.com/v1")
    return text.rstrip("/")


def read_switch(text: str) -> bool:
    """Yes or no."""
    try:
        return _YES_AND_NO[text.lower()]
    except KeyError:
        raise ValueError(f"{text!r} is neither yes nor no; write {' or '.join(_YES_AND_NO)}") from None


def read_path(text: str) -> Path:
    """A path as it stands, relative to the working directory."""
    if not text:
        raise ValueError("a path is needed, got nothing")
    if "\0" in text:
        raise ValueError("a path has no zero bytes")
    if text.startswith("~"):
        raise ValueError(f"{text!r}: the shell expands ~ only where a word begins; write the path out")
    return Path(text)


def read_namespace(text: str) -> str:
    """The name of a namespace; nothing names the default one."""
    try:
        check_namespace("namespace", text)
    except InvalidFieldError as error:
        raise ValueError(error.problem) from None
    return text


def read_log_dir(text: str) -> tuple[str, Path]:
    """[NAMESPACE=]DIR: a namespace and a directory."""
    before, equals, after = text.partition("=")
    if not equals or "/" in before:
        return "", read_path(text)
    try:
        return read_namespace(before), read_path(after)
    except ValueError as error:
        raise ValueError(f"{error} (for a path that holds '=', write =DIR)") from None


def check_log_dirs(log_dirs: Sequence[tuple[str, Path]]) -> None:
    """Refuses a directory that is given two namespaces: its lines can only be learned from once."""
    namespaces: dict[Path, str] = {}
    for namespace, directory in log_dirs:
        if namespaces.setdefault(directory, namespace) != namespace:
            raise ValueError(
                f"{str(directory)!r} is given the namespaces {namespaces[directory]!r} and {namespace!r}; "
                "name it once"
            )


def read_size_bytes(text: str) -> int:
    """A number of bytes, with K, M, G or T for powers of 1,024."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no size; write bytes, or a number with K, M, G or T, such as 64G")
    size_bytes = int(match[1]) * _SUFFIXES[match[2].upper()]
    if size_bytes < STORE_BYTES_MIN:
        raise ValueError(f"{text!r} is too small; the least is 1M")
    return size_bytes


def written_size(size_bytes: int) -> str:
    """A size as `read_size_bytes` reads it, in the largest unit that fits evenly."""
    for suffix in ("T", "G", "M", "K"):
        if size_bytes and size_bytes % _SUFFIXES[suffix] == 0:
            return f"{size_bytes // _SUFFIXES[suffix]}{suffix}"
    return str(size_bytes)


def read_count(text: str) -> int:
    """A number of things, at least 0."""
    if not (text.isascii() and text.isdigit() and len(text) <= _COUNT_DIGITS_MAX):
        raise ValueError(f"{text!r} is no count; write a whole number, such as 100000")
    return int(text)


def read_duration_s(text: str) -> int:
    """A length of time such as `90m` or `24h`, in seconds."""
    number, unit = text[:-1], text[-1:]
    known = number.isascii() and number.isdigit() and len(number) <= _COUNT_DIGITS_MAX
    if not known or unit not in _UNIT_S:
        raise ValueError(f"{text!r} is no length of time; write a whole number and s, m, h or d, such as 24h")
    return int(number) * _UNIT_S[unit]


def written_duration(seconds: int) -> str:
    """A length of time as `read_duration_s` takes it, in the largest unit that divides it."""
    unit = max((unit for unit in _UNIT_S if seconds % _UNIT_S[unit] == 0), key=lambda unit: _UNIT_S[unit])
    return f"{seconds // _UNIT_S[unit]}{unit}"


def read_embedder(text: str) -> str:
    """NAME or NAME:ARGUMENT; whether there is such an embedder is seen when it is built."""
    if not _EMBEDDER.fullmatch(text):
        raise ValueError(f"{text!r} is no embedder; write its name, such as minilm, or name:argument")
    return text
