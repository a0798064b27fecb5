"""A store as a program of an earlier schema would have left it, and the migration from that.

No such program was ever released: version 1 is the first. So there is an invented version 0, in which a row
of the log is the encoded update alone. Nothing of this project can read such a row, but for `MIGRATING`.

    python -m tests.learner_service.store.older_store down DIR     # a store of today gets version 0
    python -m tests.learner_service.store.older_store stamp DIR 2  # another version, the same rows
    python -m tests.learner_service.store.older_store serve FLAGS  # the Learner, with the migration
"""

import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import lmdb

from errata.serving.logs import configure_logs
from errata.serving.process import run
from errata.v1.learner_pb2 import ExampleUpdate
from learner_service.__main__ import serve
from learner_service.config import parse
from learner_service.keys import BlockKey
from learner_service.store.rows import LogRow
from learner_service.store.schema import SCHEMA, Migration, Schema, set_version, version_of
from learner_service.store.store import _Table
from learner_service.store.tables import TABLES, Table

OLDER_VERSION = SCHEMA.version - 1


def raise_to_today(tables: Mapping[str, Table]) -> None:
    """The migration: puts liveness and key in front of each update."""
    log = tables["log"]
    for revision, encoded in list(log.scan()):
        update = ExampleUpdate.FromString(encoded)
        live = update.HasField("put")
        inside = update.put if live else update.deleted
        key = BlockKey(inside.namespace, inside.id).encode()
        log.put(revision, LogRow(live, key, encoded).encode())


def lower_from_today(tables: Mapping[str, Table]) -> None:
    """The way back."""
    log = tables["log"]
    for revision, encoded in list(log.scan()):
        log.put(revision, LogRow.decode(encoded).update)
    set_version(tables["meta"], OLDER_VERSION)


MIGRATING = Schema(version=SCHEMA.version, migrations={OLDER_VERSION: raise_to_today})


def make_older(directory: Path) -> None:
    """Turns a closed store of today into one of the earlier version."""
    _change(directory, lower_from_today)


def stamp(directory: Path, version: int) -> None:
    """States another version in a closed store."""
    _change(directory, lambda tables: set_version(tables["meta"], version))


def version_in(directory: Path) -> int | None:
    """The version that a closed store states."""
    with lmdb.open(os.fspath(directory), max_dbs=len(TABLES)) as environment:
        meta = environment.open_db(b"meta", create=False)
        with environment.begin() as transaction:
            return version_of(_Table("meta", meta, transaction))


def _change(directory: Path, change: Migration) -> None:
    with lmdb.open(os.fspath(directory), map_size=1 << 30, max_dbs=len(TABLES)) as environment:
        databases = {name: environment.open_db(name.encode()) for name in TABLES}
        with environment.begin(write=True) as transaction:
            change({name: _Table(name, database, transaction) for name, database in databases.items()})


def main() -> None:
    match sys.argv[1:]:
        case ["down", directory]:
            make_older(Path(directory))
        case ["stamp", directory, version]:
            stamp(Path(directory), int(version))
        case ["serve", *flags]:
            configure_logs("info")
            sys.exit(run(partial(serve, parse(flags, os.environ), schema=MIGRATING)))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
