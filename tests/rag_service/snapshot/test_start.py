"""What a service makes of the directory that an earlier one left."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from errata.v1 import rag_pb2
from rag_service.read_your_writes import Epochs, Verdict, decode
from rag_service.snapshot.deletions import DeletionLog
from tests.rag_service.following import Builder
from tests.rag_service.scripted_learner import ToyEmbedder, ToyStore
from tests.rag_service.snapshot.keeping import WALL_US, keeping, saved_header, saved_revision

STALE, LIVE = rag_pb2.INDEX_STATE_STALE, rag_pb2.INDEX_STATE_LIVE


@pytest.fixture
def store() -> ToyStore:
    store = ToyStore()
    store.begin_epoch(102)
    return store


@pytest.fixture
async def left(tmp_path: Path, store: ToyStore) -> Path:
    """The directory of a service that has ended, with two examples and one that came malformed."""
    path = tmp_path / "kept"
    async with keeping(path, store, namespaces=("", "team-a")) as it:
        it.open()
        await it.bookmark(
            store.put("a", "how to list files"),
            store.put("b", "how to sort", namespace="team-a"),
            store.put("malformed", "how to fail", embedding=b"no vector"),
        )
        await it.saved(3)
    return path


def warnings_of(logged: list[EventDict]) -> list[str]:
    return [entry["problem"] for entry in logged if entry["log_level"] in ("warning", "error")]


def names(path: Path) -> set[str]:
    return {each.name for each in path.iterdir()}


async def test_what_was_left_is_served_before_anything_is_heard(left: Path, store: ToyStore) -> None:
    async with keeping(left, store, namespaces=("team-a", ""), wall_us=lambda: WALL_US + 3_000_000) as it:
        live = it.mirror.live
        assert live is not None
        assert it.ids == {"a"}
        assert (live.index.count, live.index.quarantined_count) == (3, 1)
        assert it.mirror.state == STALE
        assert it.mirror.degraded(live)
        assert it.mirror.staleness_s(live) == 3.0
        assert it.mirror.resume_token == store.resume_token
        assert (live.source.store_id, live.source.embedder.fingerprint) == (b"store-1", "toy/8")


async def test_before_a_hello_its_own_history_decides_about_tokens(left: Path, store: ToyStore) -> None:
    async with keeping(left, store, namespaces=("team-a", "")) as it:
        live = it.mirror.live
        assert live is not None
        assert it.progress.store_id == b"store-1"
        assert it.progress.applied_revision == 3
        assert it.progress.decide(decode(live.token(3))) is Verdict.REACHED
        assert it.progress.decide(decode(live.token(4))) is Verdict.WAIT
        assert live.own_epochs == Epochs(store.hello().hello.epochs)


async def test_it_is_degraded_until_the_first_bookmark_and_resumes_without_a_reset(tmp_path: Path) -> None:
    store = ToyStore()
    async with keeping(tmp_path / "kept", store) as it:
        it.open()
        await it.learn("a")
        await it.saved(1)
    async with keeping(tmp_path / "kept", store) as it:
        live = it.mirror.live
        it.open()
        assert live is not None
        assert it.mirror.state == LIVE
        assert it.mirror.degraded(live)
        await it.learn("b")
        assert it.mirror.live is live
        assert not it.mirror.degraded(live)
        assert it.ids == {"a", "b"}
        assert it.mirror.resync_count == 0


async def test_it_is_not_written_again_before_something_changes(left: Path, store: ToyStore) -> None:
    async with keeping(left, store, namespaces=("team-a", "")) as it:
        it.clock.advance(10_000)
        it.open()
        await it.bookmark()
        await it.keeper.finish(within_s=5)
        assert it.writer.submitted_count == 0


async def test_snapshot_after_snapshot_holds_what_the_ones_before_held(left: Path, store: ToyStore) -> None:
    for revision in range(4, 8):
        async with keeping(left, store, namespaces=("team-a", "")) as it:
            it.open()
            await it.learn(f"e{revision}")
            await it.keeper.finish(within_s=5)
    async with keeping(left, store, namespaces=("team-a", "")) as it:
        assert it.ids == {"a", "e4", "e5", "e6", "e7"}
        assert it.mirror.live is not None
        assert it.mirror.live.index.quarantined_count == 1


def cut(path: Path) -> None:
    content = (path / "snapshot").read_bytes()
    (path / "snapshot").write_bytes(content[: len(content) // 2])


def emptied(path: Path) -> None:
    (path / "snapshot").write_bytes(b"")


def without_deletions(path: Path) -> None:
    (deletions,) = path.glob("deletions.*")
    deletions.unlink()


def with_damaged_deletions(path: Path) -> None:
    (deletions,) = path.glob("deletions.*")
    deletions.write_bytes(deletions.read_bytes()[:-1])


def of_a_bug(path: Path) -> None:
    header = saved_header(path)
    assert header is not None
    DeletionLog.create(path / f"deletions.{header.snapshot_id.hex()}", b"another snapshot", {}).close()


async def assert_synced_from_nothing(left: Path, store: ToyStore, **parts: Any) -> list[str]:
    """Starts on a directory that cannot be used, syncs, and finds the snapshot replaced; what was told."""
    before = names(left)
    with capture_logs() as logged:
        async with keeping(left, store, **{"namespaces": ("", "team-a"), **parts}) as it:
            told = warnings_of(logged)
            assert it.mirror.live is None
            assert it.mirror.resume_token == b""
            assert names(left) == before
            it.open()
            await it.learn("c")
            await it.saved(store.head)
            assert it.ids == {"c"}
        async with keeping(left, store, **{"namespaces": ("", "team-a"), **parts}) as it:
            assert it.ids == {"c"}
        assert warnings_of(logged) == told
    return told


@pytest.mark.parametrize(
    "damage", [cut, emptied, without_deletions, with_damaged_deletions, of_a_bug], ids=lambda it: it.__name__
)
async def test_a_damaged_one_is_told_of_once_and_everything_is_received_anew(
    left: Path, damage: Callable[[Path], None]
) -> None:
    damage(left)
    (told,) = await assert_synced_from_nothing(left, ToyStore())
    assert "is damaged" in told


async def test_one_of_other_namespaces_is_not_used(left: Path) -> None:
    for namespaces in ((), ("",), ("", "team-a", "team-b")):
        with capture_logs() as logged:
            async with keeping(left, namespaces=namespaces) as it:
                assert it.mirror.live is None
        (told,) = warnings_of(logged)
        assert "other namespaces" in told
    assert saved_revision(left) == 3
    await assert_synced_from_nothing(left, ToyStore(), namespaces=())


async def test_one_whose_vectors_nobody_here_makes_is_not_used(left: Path) -> None:
    other = ToyEmbedder("toy/9")
    for builder, fixed_spec, expected in (
        (Builder(toy=other), None, "the snapshot's embedder is 'toy/8', but 'toy' is 'toy/9' here"),
        (Builder(other=other), "other", "the snapshot's embedder is 'toy/8', --embedder gives 'toy/9'"),
        (Builder(other=other), None, "the embedder 'toy' cannot be built: no toy here"),
        (Builder(toy=ToyEmbedder(dimension=9)), None, "8 dimensions, those of 'toy/8' 9"),
    ):
        with capture_logs() as logged:
            async with keeping(left, namespaces=("", "team-a"), builder=builder, fixed_spec=fixed_spec) as it:
                assert it.mirror.live is None
        (told,) = warnings_of(logged)
        assert expected in told
    async with keeping(left, namespaces=("", "team-a"), fixed_spec="toy") as it:
        assert it.ids == {"a"}


async def test_what_a_writer_left_that_was_killed_does_no_harm(left: Path, store: ToyStore) -> None:
    (left / "snapshot.tmp").write_bytes(b"half a snap")
    DeletionLog.create(left / f"deletions.{'00' * 16}", bytes(16), {b"\0a": 9}).close()
    with capture_logs() as logged:
        async with keeping(left, store, namespaces=("", "team-a")) as it:
            assert it.ids == {"a"}
    assert warnings_of(logged) == []
    header = saved_header(left)
    assert header is not None
    assert names(left) == {"lock", "snapshot", f"deletions.{header.snapshot_id.hex()}"}


async def test_a_directory_that_is_not_there_is_made(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there"
    async with keeping(path) as it:
        assert it.mirror.live is None
    assert path.stat().st_mode & 0o077 == 0
