"""The tables of the store: rows in the order of their keys, whatever engine is below."""

from collections.abc import Iterator
from typing import Final, Protocol

TABLES: Final = (
    "meta",  # name -> value; see the constants below
    "epochs",  # start revision ‖ number -> nonce
    "blocks",  # block key -> BlockRecord
    "blocks_by_time",  # modified time -> block key
    "pending",  # block key -> PendingRecord
    "log",  # revision -> LogRow
    "examples",  # block key -> revision
    "tombstones",  # revision -> time of the deletion
    "namespaces",  # namespace ‖ 0 -> Tally
    "traces",  # namespace ‖ 0 ‖ trace ID -> TraceRecord
    "trace_blocks",  # namespace ‖ 0 ‖ length of the trace ID ‖ trace ID ‖ block ID -> nothing
    "files",  # identity of a log file -> LogFileRecord
    "backfills",  # ID -> BackfillRecord, and a row for each done block; see `backfill/rows.py`
)

# Keys of `meta`.
META_HEAD: Final = b"head"
META_COMPACT: Final = b"compact"
META_CLOCK: Final = b"clock"
META_STORE_ID: Final = b"store_id"
META_TALLY: Final = b"tally"
META_PARKED: Final = b"parked"
META_FINGERPRINT: Final = b"fingerprint"
META_TARGET_FINGERPRINT: Final = b"target_fingerprint"
META_POLICY: Final = b"policy"
META_REDACTION: Final = b"redaction"
META_REDACTION_CURSOR: Final = b"redaction_cursor"


class Table(Protocol):
    """One sub-database within one transaction. Keys are in the order of their bytes."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""

    def put(self, key: bytes, value: bytes) -> None:
        """Sets the value of a key."""

    def append(self, key: bytes, value: bytes) -> None:
        """Sets the value of a key above all others."""

    def delete(self, key: bytes) -> bool:
        """Removes a key; False when there was none."""

    def scan(self, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """The rows from `start` on, upwards."""

    def scan_down(self, below: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """The rows below a key, or all, downwards."""

    def __len__(self) -> int:
        """Number of rows."""


def trace_key(namespace: str, trace_id: str) -> bytes:
    """The key of a trace in `traces`."""
    return namespace.encode() + b"\0" + trace_id.encode()


def trace_blocks_prefix(namespace: str, trace_id: str) -> bytes:
    """What the keys of a trace in `trace_blocks` begin with: of no other trace, whatever the IDs hold."""
    encoded_id = trace_id.encode()
    return namespace.encode() + b"\0" + bytes((len(encoded_id),)) + encoded_id
