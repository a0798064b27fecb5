"""Stores of other versions: brought up to date whole or not at all, or refused and left alone."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import lmdb
import pytest

from errata.serving.process import StartError, Stop
from learner_service.__main__ import serve
from learner_service.config import LearnerConfig
from learner_service.errors import StoreError, StoreFullError
from learner_service.keys import BlockKey
from learner_service.store.schema import SCHEMA, Schema
from learner_service.store.store import Store
from learner_service.store.tables import Table
from tests.learner_service.conftest import GIB, ManualClock
from tests.learner_service.samples import delete, put
from tests.learner_service.store.older_store import (
    MIGRATING,
    OLDER_VERSION,
    make_older,
    raise_to_today,
    stamp,
    version_in,
)

KEYS = [BlockKey("team", f"block-{number}") for number in range(3)]
NEWER_VERSION = SCHEMA.version + 1


class InterruptionError(Exception):
    """Stands for whatever ends a migration half way."""


def raise_half_way(tables: Mapping[str, Table]) -> None:
    raise_to_today(tables)
    raise InterruptionError


def held(store: Store) -> object:
    """All that watchers and searches depend on."""
    with store.read() as transaction:
        examples = [transaction.example(key) for key in KEYS]
        rows = list(transaction.log_after(0))
        return transaction.store_id, transaction.head_revision, transaction.tally(), examples, rows


def fill(store: Store) -> object:
    for key in KEYS:
        store.submit(put(key, "list files")).result()
    store.submit(delete(KEYS[1])).result()
    return held(store)


@pytest.fixture
def older_dir(store_dir: Path, clock: ManualClock) -> Path:
    with Store.open(store_dir, clock_us=clock, bytes_max=GIB) as store:
        fill(store)
    make_older(store_dir)
    return store_dir


def test_a_store_of_an_earlier_version_holds_after_its_migration_what_it_held(
    store_dir: Path, clock: ManualClock
) -> None:
    with Store.open(store_dir, clock_us=clock, bytes_max=GIB) as store:
        before = fill(store)
    make_older(store_dir)
    with Store.open(store_dir, clock_us=clock, bytes_max=GIB, schema=MIGRATING) as store:
        assert held(store) == before
        assert store.check() == []
    # And from now on without.
    with Store.open(store_dir, clock_us=clock, bytes_max=GIB) as store:
        assert held(store) == before


def test_the_rows_of_the_earlier_version_cannot_be_read_without_the_migration(
    store_dir: Path, clock: ManualClock
) -> None:
    with Store.open(store_dir, clock_us=clock, bytes_max=GIB) as store:
        before = fill(store)
    make_older(store_dir)
    stamp(store_dir, SCHEMA.version)
    with Store.open(store_dir, clock_us=clock, bytes_max=GIB) as store:
        assert held(store) != before


def test_a_migration_that_ends_half_way_leaves_the_store_as_it_was(
    older_dir: Path, clock: ManualClock
) -> None:
    broken = Schema(version=SCHEMA.version, migrations={OLDER_VERSION: raise_half_way})
    with pytest.raises(InterruptionError):
        Store.open(older_dir, clock_us=clock, bytes_max=GIB, schema=broken)
    assert version_in(older_dir) == OLDER_VERSION
    with Store.open(older_dir, clock_us=clock, bytes_max=GIB, schema=MIGRATING) as store:
        assert store.check() == []


@pytest.mark.slow
def test_a_process_that_is_killed_in_a_migration_leaves_the_store_as_it_was(
    older_dir: Path, clock: ManualClock
) -> None:
    code = f"""
import os, pathlib, signal
from learner_service.store.schema import Schema
from learner_service.store.store import Store
from tests.learner_service.store.older_store import OLDER_VERSION, raise_to_today

def die(tables):
    raise_to_today(tables)
    os.kill(os.getpid(), signal.SIGKILL)

schema = Schema(version={SCHEMA.version}, migrations={{OLDER_VERSION: die}})
Store.open(pathlib.Path({os.fspath(older_dir)!r}), clock_us=lambda: 1, bytes_max={GIB}, schema=schema)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert version_in(older_dir) == OLDER_VERSION
    with Store.open(older_dir, clock_us=clock, bytes_max=GIB, schema=MIGRATING) as store:
        assert store.check() == []


def test_every_migration_that_is_needed_runs_once_and_in_order(store_dir: Path, clock: ManualClock) -> None:
    Store.open(store_dir, clock_us=clock, bytes_max=GIB).close()
    ran: list[int] = []
    migrations = {
        version: lambda _, version=version: ran.append(version) for version in range(SCHEMA.version, 5)
    }
    for version in (3, 5, 5):
        needed = {each: migrations[each] for each in migrations if each < version}
        schema = Schema(version=version, migrations=needed)
        Store.open(store_dir, clock_us=clock, bytes_max=GIB, schema=schema).close()
        assert version_in(store_dir) == version
    assert ran == [1, 2, 3, 4]


def test_a_new_store_is_of_the_newest_version_and_runs_no_migration(
    store_dir: Path, clock: ManualClock
) -> None:
    schema = Schema(version=SCHEMA.version, migrations={OLDER_VERSION: raise_half_way})
    Store.open(store_dir, clock_us=clock, bytes_max=GIB, schema=schema).close()
    assert version_in(store_dir) == SCHEMA.version


def test_a_migration_grows_the_map_when_it_needs_room(older_dir: Path, clock: ManualClock) -> None:
    rounds: list[int] = []

    def write_much(tables: Mapping[str, Table]) -> None:
        rounds.append(1)
        raise_to_today(tables)
        for number in range(2_000):
            tables["meta"].put(b"filler-%d" % number, bytes(1_000))

    schema = Schema(version=SCHEMA.version, migrations={OLDER_VERSION: write_much})
    with Store.open(
        older_dir, clock_us=clock, bytes_max=GIB, map_bytes_initial=1 << 20, schema=schema
    ) as store:
        assert store.check() == []
    assert len(rounds) > 1


def test_a_migration_without_room_is_refused_and_leaves_the_store_as_it_was(
    older_dir: Path, clock: ManualClock
) -> None:
    def write_too_much(tables: Mapping[str, Table]) -> None:
        for number in range(4_000):
            tables["meta"].put(b"filler-%d" % number, bytes(1_000))

    schema = Schema(version=SCHEMA.version, migrations={OLDER_VERSION: write_too_much})
    with pytest.raises(StoreFullError, match="--store-bytes-max"):
        Store.open(older_dir, clock_us=clock, bytes_max=2 << 20, schema=schema)
    assert version_in(older_dir) == OLDER_VERSION


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (NEWER_VERSION, f"newer version (schema {NEWER_VERSION}, this program knows {SCHEMA.version})"),
        (OLDER_VERSION, f"too old to be brought up to date (schema {OLDER_VERSION}"),
    ],
    ids=["newer", "too old"],
)
def test_a_version_that_cannot_be_brought_up_to_date_is_refused_and_not_a_byte_is_changed(
    store_dir: Path, clock: ManualClock, version: int, said: str
) -> None:
    Store.open(store_dir, clock_us=clock, bytes_max=GIB).close()
    stamp(store_dir, version)
    # As a version without this table would have left it.
    with lmdb.open(os.fspath(store_dir), max_dbs=1) as environment, environment.begin(write=True) as writing:
        writing.drop(environment.open_db(b"backfills", txn=writing))
    before = (store_dir / "data.mdb").read_bytes()
    with pytest.raises(StoreError) as caught:
        Store.open(store_dir, clock_us=clock, bytes_max=GIB)
    assert said in str(caught.value)
    assert str(store_dir) in str(caught.value)
    assert (store_dir / "data.mdb").read_bytes() == before
    # And its lock is free again.
    stamp(store_dir, SCHEMA.version)
    Store.open(store_dir, clock_us=clock, bytes_max=GIB).close()


async def test_a_start_on_a_newer_store_says_so_in_one_line(store_dir: Path, clock: ManualClock) -> None:
    Store.open(store_dir, clock_us=clock, bytes_max=GIB).close()
    stamp(store_dir, NEWER_VERSION)
    config = LearnerConfig(store_dir=store_dir, embedder="hashing", listen="127.0.0.1:0")
    with pytest.raises(StartError, match=r"--store-dir .* newer version .* start that version"):
        await serve(config, Stop())


@pytest.mark.parametrize("versions", [[1], [0, 2], [2, 3]], ids=["a gap after", "a gap between", "beyond"])
def test_migrations_with_gaps_are_a_bug(versions: list[int]) -> None:
    with pytest.raises(ValueError, match="do not lead to 3"):
        Schema(version=3, migrations=dict.fromkeys(versions, raise_to_today))
