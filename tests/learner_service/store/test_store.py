import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import lmdb
import pytest

from errata.store.v1.store_pb2 import BlockRecord, PendingRecord
from learner_service.errors import StoreCorruptError, StoreError, StoreFullError
from learner_service.keys import BlockKey
from learner_service.store.directory import check_file_system, file_system_of
from learner_service.store.rows import Tally
from learner_service.store.store import Commit, Store
from learner_service.store.write_transaction import WriteTransaction
from tests.learner_service.conftest import GIB, ManualClock
from tests.learner_service.samples import delete, put

KEY = BlockKey("team-a", "block-1")
OTHER = BlockKey("", "block-2")


def block(transaction: WriteTransaction, key: BlockKey = KEY) -> None:
    transaction.put_block(key, BlockRecord(eval_mode=True))


def test_what_was_written_is_there_after_reopening(store_dir: Path, clock: ManualClock) -> None:
    with Store.open(store_dir, clock_us=clock, bytes_max=GIB) as store:
        store.submit(block).result()
        store.submit(put(KEY)).result()
        with store.read() as transaction:
            store_id, modified = transaction.store_id, transaction.clock_us
    with Store.open(store_dir, clock_us=clock, bytes_max=GIB) as store:
        with store.read() as transaction:
            assert transaction.store_id == store_id
            assert transaction.clock_us == modified
            record = transaction.block(KEY)
            assert record is not None
            assert record.eval_mode
            stored = transaction.example(KEY)
            assert stored is not None
            assert stored.example is not None
            assert stored.example.query_text == "list files"
            assert transaction.head_revision == 1
        assert store.check() == []


def test_a_block_is_queued_in_the_transaction_that_stores_it(store: Store) -> None:
    store.submit(block).result()
    with store.read() as transaction:
        pending = transaction.pending(KEY)
        record = transaction.block(KEY)
    assert pending is not None
    assert record is not None
    assert pending.enqueued_time == record.modified_time


def test_modification_times_are_unique_and_increase_while_the_wall_clock_goes_back(
    store: Store, clock: ManualClock
) -> None:
    times = []
    for number in range(5):
        clock.now_us -= 1_000_000
        key = BlockKey("", str(number))
        store.submit(partial(block, key=key)).result()
        with store.read() as transaction:
            record = transaction.block(key)
            assert record is not None
            times.append(record.modified_time.ToMicroseconds())
    assert times == sorted(set(times))
    assert len(times) == 5


def test_a_mutation_that_raises_is_rolled_back_alone(store: Store) -> None:
    release = threading.Event()

    def hold(_: WriteTransaction) -> None:
        release.wait()

    def fail(transaction: WriteTransaction) -> None:
        block(transaction, OTHER)
        raise ValueError("no")

    # The first one holds the writer, so that the next three are one group.
    held = store.submit(hold)
    before, failing, after = store.submit(block), store.submit(fail), store.submit(put(KEY))
    release.set()
    held.result()
    before.result()
    with pytest.raises(ValueError, match="no"):
        failing.result()
    assert after.result() == 1
    with store.read() as transaction:
        assert transaction.block(KEY) is not None
        assert transaction.block(OTHER) is None
    assert store.check() == []


def test_listeners_hear_of_a_commit_before_its_caller_does(store: Store) -> None:
    heard: list[Commit] = []
    store.on_commit(heard.append)
    store.submit(put(KEY)).result()
    assert heard == [Commit(1, frozenset({"team-a"}))]
    store.submit(block).result()
    assert heard[1].changed_namespaces == frozenset()


def test_rewriting_an_example_moves_its_one_row(store: Store) -> None:
    for text in ("one", "two", "three"):
        store.submit(put(KEY, text)).result()
    store.submit(put(OTHER)).result()
    with store.read() as transaction:
        rows = [(revision, row.key) for revision, row in transaction.log_after(0)]
        assert rows == [(3, KEY.encode()), (4, OTHER.encode())]
        assert transaction.tally().count == 2
        assert transaction.tally(["team-a"]).count == 1
    assert store.check() == []


def test_a_deletion_leaves_a_row_and_a_deleted_example_can_come_back(store: Store) -> None:
    store.submit(put(KEY)).result()
    assert store.submit(delete(KEY)).result() == 2
    assert store.submit(delete(KEY)).result() is None
    with store.read() as transaction:
        assert not transaction.is_learned(KEY)
        assert transaction.example_revision(KEY) == 2
        stored = transaction.example(KEY)
        assert stored is not None
        assert stored.example is None
        assert [row.live for _, row in transaction.log_after(0)] == [False]
        assert transaction.tally() == Tally(0, 0)
    assert store.submit(put(KEY)).result() == 3
    assert store.check() == []


def test_the_head_never_goes_down_when_the_log_gets_shorter(
    store: Store, store_dir: Path, clock: ManualClock
) -> None:
    store.submit(put(KEY)).result()
    store.submit(delete(KEY)).result()
    store.close()
    with Store.open(store_dir, clock_us=clock, bytes_max=GIB) as again:
        assert again.submit(put(OTHER)).result() == 3


def test_parked_blocks_are_counted_apart_from_those_that_wait(store: Store) -> None:
    store.submit(block).result()
    store.submit(lambda transaction: block(transaction, OTHER)).result()
    store.submit(lambda transaction: transaction.put_pending(KEY, PendingRecord(parked=True))).result()
    with store.read() as transaction:
        summary = transaction.queue_summary()
    assert (summary.queued_block_count, summary.parked_block_count) == (1, 1)
    store.submit(lambda transaction: transaction.delete_pending(KEY)).result()
    with store.read() as transaction:
        assert transaction.queue_summary().parked_block_count == 0
    assert store.check() == []


def test_each_process_that_writes_begins_an_epoch_and_one_that_only_reads_announces_its_own(
    store_dir: Path, clock: ManualClock
) -> None:
    with Store.open(store_dir, clock_us=clock, bytes_max=GIB) as store:
        store.submit(put(KEY)).result()
    with Store.open(store_dir, clock_us=clock, bytes_max=GIB) as store, store.read() as transaction:
        announced = transaction.epochs()
        assert [epoch.start_revision for epoch in announced] == [0, 1]
        assert len(list(transaction.durable_epochs())) == 1
    with Store.open(store_dir, clock_us=clock, bytes_max=GIB) as store:
        store.submit(put(KEY)).result()
        with store.read() as transaction:
            epochs = transaction.epochs()
            assert [epoch.start_revision for epoch in epochs] == [0, 1]
            assert epochs[1] != announced[1]
            assert list(transaction.durable_epochs()) == epochs[::-1]


@pytest.fixture
def _quick_switching() -> Iterator[None]:
    # Each call of the engine gives up the interpreter lock; readers that compute would get it 5 ms at a time.
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(interval_s)


@pytest.mark.usefixtures("_quick_switching")
def test_the_map_grows_while_readers_come_and_go(store_dir: Path, clock: ManualClock) -> None:
    stop = threading.Event()
    reads_begun = threading.Semaphore(0)
    failures: list[BaseException] = []
    with Store.open(store_dir, clock_us=clock, bytes_max=GIB, map_bytes_initial=1 << 20) as store:

        def read_on() -> None:
            try:
                while not stop.is_set():
                    reads_begun.release()
                    with store.read() as transaction:
                        count = sum(1 for _, row in transaction.log_after(0) if row.live)
                        assert count == transaction.tally().count
            except BaseException as error:  # noqa: BLE001 - reported by the test
                failures.append(error)

        readers = [threading.Thread(target=read_on) for _ in range(2)]
        for reader in readers:
            reader.start()
        reads_begun.acquire()
        futures = [store.submit(put(BlockKey("", str(n)), padding_bytes=100_000)) for n in range(30)]
        assert sorted(future.result() for future in futures) == list(range(1, 31))
        stop.set()
        for reader in readers:
            reader.join()
        assert not failures
        assert store.size_bytes > 1 << 20
        assert store.check() == []


def test_a_full_store_fails_the_write_that_does_not_fit_and_no_other(
    store_dir: Path, clock: ManualClock
) -> None:
    with Store.open(store_dir, clock_us=clock, bytes_max=1 << 20) as store:
        store.submit(put(KEY)).result()
        with pytest.raises(StoreFullError, match="1,048,576 bytes"):
            store.submit(put(OTHER, padding_bytes=2 << 20)).result()
        assert store.submit(put(BlockKey("", "small"))).result() == 2
        assert store.check() == []


def test_of_one_group_only_the_mutation_that_does_not_fit_fails(store_dir: Path, clock: ManualClock) -> None:
    release = threading.Event()
    with Store.open(store_dir, clock_us=clock, bytes_max=1 << 20) as store:
        held = store.submit(lambda _: release.wait())
        small, huge, last = (
            store.submit(put(KEY)),
            store.submit(put(OTHER, padding_bytes=2 << 20)),
            store.submit(put(BlockKey("", "small"))),
        )
        release.set()
        held.result()
        assert small.result() == 1
        with pytest.raises(StoreFullError):
            huge.result()
        assert last.result() == 2


PREAMBLE = """
import resource, signal, sys
from pathlib import Path
from learner_service.errors import StoreFullError
from learner_service.keys import BlockKey
from learner_service.store.store import Store
from tests.learner_service.samples import delete, put

def opened(directory, on_io_error):
    return Store.open(Path(directory), clock_us=lambda: 1, bytes_max=1 << 30, on_io_error=on_io_error)
"""


def run(program: str, *wrapper: str) -> None:
    ended = subprocess.run(
        [*wrapper, sys.executable, "-c", PREAMBLE + program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system of its own")
def test_a_full_disk_fails_writes_while_reads_and_restarts_go_on(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    program = f"""
def refuse(error):
    raise SystemExit(f"took a full disk for a broken one: {{error}}")

failures = 0
with opened("{small}/store", refuse) as store:
    store.submit(put(BlockKey("", "first"))).result()
    for number in range(100):
        try:
            store.submit(put(BlockKey("", str(number)), padding_bytes=100_000)).result()
        except StoreFullError:
            failures += 1
    with store.read() as transaction:
        held = transaction.tally().count
        assert held == 101 - failures, (held, failures)
    assert failures > 50, failures
    assert store.check() == []
with opened("{small}/store", refuse) as store:
    with store.read() as transaction:
        assert transaction.tally().count == held
"""
    mount = f'mount -t tmpfs -o size=4m tmpfs {small} && exec "$@"'
    run(program, "unshare", "--mount", "sh", "-c", mount, "sh")


def test_an_error_of_the_disk_at_a_commit_is_not_survived(tmp_path: Path) -> None:
    # RLIMIT_FSIZE cuts a write short, as a disk does that fails with room left.
    run(f"""
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ended = []
with opened("{tmp_path}/limited", ended.append) as store:
    store.submit(put(BlockKey("", "first"))).result()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    try:
        store.submit(put(BlockKey("", "big"), padding_bytes=4 << 20)).result()
    except StoreFullError:
        pass
    assert len(ended) == 1, ended
""")


def test_a_second_process_is_refused(store: Store, store_dir: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from learner_service.errors import StoreError
from learner_service.store.store import Store
try:
    Store.open(Path({str(store_dir)!r}), clock_us=lambda: 0, bytes_max=1 << 30)
except StoreError as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "another Learner has this store open" in ended.stdout
    assert store.submit(put(KEY)).result() == 1


def test_a_file_in_the_way_is_named(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "file"
    path.write_text("not a directory")
    with pytest.raises(StoreError, match=r"--store-dir .*file: a file is in the way"):
        Store.open(path, clock_us=clock, bytes_max=GIB)


def test_a_damaged_value_is_noticed_when_it_is_read(
    store: Store, store_dir: Path, clock: ManualClock
) -> None:
    store.submit(put(KEY)).result()
    store.close()
    with lmdb.open(os.fspath(store_dir), max_dbs=16, map_size=GIB) as environment:
        log = environment.open_db(b"log")
        with environment.begin(write=True) as transaction:
            revision = (1).to_bytes(8, "big")
            damaged = bytearray(transaction.get(revision, b"", db=log))
            damaged[10] ^= 1
            transaction.put(revision, bytes(damaged), db=log)
    with (
        Store.open(store_dir, clock_us=clock, bytes_max=GIB) as again,
        pytest.raises(StoreCorruptError, match="log"),
    ):
        again.check()


@pytest.mark.parametrize(
    ("table", "key", "found"),
    [
        ("examples", KEY.encode(), "examples"),
        ("blocks_by_time", None, "by time"),
        ("tombstones", (1).to_bytes(8, "big"), "tombstones"),
        ("meta", b"tally", "tally"),
        ("namespaces", b"team-a\0", "namespaces"),
    ],
)
def test_the_check_finds_what_breaks_an_invariant(
    store: Store, table: str, key: bytes | None, found: str
) -> None:
    store.submit(put(KEY)).result()
    store.submit(block).result()
    assert store.check() == []

    def tamper(transaction: WriteTransaction) -> None:
        rows = transaction._tables[table]
        if table == "tombstones":
            assert key is not None
            rows.put(key, b"")
        else:
            rows.delete(key if key is not None else next(rows.scan())[0])

    store.submit(tamper).result()
    assert any(found in problem for problem in store.check())


def test_any_sequence_of_changes_keeps_the_invariants(store: Store) -> None:
    random_ = random.Random(7)
    keys = [BlockKey(namespace, str(n)) for namespace in ("", "a", "b") for n in range(4)]
    live: set[BlockKey] = set()
    for _ in range(400):
        key = random_.choice(keys)
        if random_.random() < 0.6:
            store.submit(put(key, str(random_.random()))).result()
            live.add(key)
        else:
            store.submit(delete(key)).result()
            live.discard(key)
    with store.read() as transaction:
        assert transaction.tally().count == len(live)
        assert {BlockKey.decode(row.key) for _, row in transaction.log_after(0) if row.live} == live
    assert store.check() == []


def test_network_file_systems_are_refused_and_nested_mounts_understood(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    inside = tmp_path / "share" / "store dir"
    inside.mkdir(parents=True)
    escaped = str(inside).replace(" ", "\\040")
    mounts.write_text(
        "21 1 8:1 / / rw shared:1 - ext4 /dev/sda rw\n"
        f"36 21 0:32 / {tmp_path}/share rw - nfs4 host:/export rw\n"
        f"37 36 0:33 / {escaped} rw - xfs /dev/sdb rw\n"
    )
    assert file_system_of(inside, mounts) == "xfs"
    assert file_system_of(tmp_path / "sharely", mounts) == "ext4"
    with pytest.raises(StoreError, match="nfs4, a network file system"):
        check_file_system(tmp_path / "share", mounts)
    check_file_system(inside, mounts)
    check_file_system(inside, tmp_path / "absent")


def test_what_a_store_holds_is_for_its_owner_alone(tmp_path: Path, clock: ManualClock) -> None:
    directory = tmp_path / "new" / "store"
    Store.open(directory, clock_us=clock, bytes_max=GIB).close()
    assert {path.name: path.stat().st_mode & 0o777 for path in (directory, *directory.iterdir())} == {
        "store": 0o700,
        "data.mdb": 0o600,
        "lock.mdb": 0o600,
        "errata.lock": 0o600,
    }


def test_a_reader_that_was_killed_is_forgotten(store: Store) -> None:
    program = (
        "import lmdb, os, signal, sys\n"
        "reading = lmdb.open(sys.argv[1], max_dbs=20).begin()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(store.directory)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert store.forget_dead_readers() == 1
    assert store.forget_dead_readers() == 0
