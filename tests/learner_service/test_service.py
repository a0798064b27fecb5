"""What each method answers. How errors look on the wire is tested on real processes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import pytest

from errata import digest
from errata.embedding import EmbedderError
from errata.serving.fields import InvalidFieldError, TooLargeError
from errata.serving.statuses import SHARED_STATUSES, errors_without_rule
from errata.v1.block_pb2 import BlockLog
from errata.v1.learner_pb2 import (
    NOT_LEARNED_REASON_FORGOTTEN,
    NOT_LEARNED_REASON_NOT_EXECUTED,
    NOT_LEARNED_REASON_PENDING,
    NOT_LEARNED_REASON_UNSPECIFIED,
    RECONCILE_OUTCOME_CREATED,
    RECONCILE_OUTCOME_NOT_LEARNED,
    RECONCILE_OUTCOME_UNCHANGED,
    WatchUpdatesResponse,
)
from learner_service.analyzer.following import FileStatus
from learner_service.errors import BlockNotFoundError, LearnerError, StoreCorruptError, TokenMalformedError
from learner_service.inspection import BLOCK_BYTES_MAX
from learner_service.service import STATUSES, WATCHER_CHARACTERS_MAX
from learner_service.store.store import Store
from learner_service.store.write_transaction import EPOCHS_KEPT_MAX, WriteTransaction
from tests.block_events import code, correction, event, proposed, ran, taught
from tests.learner_service.conftest import ManualClock
from tests.learner_service.learning_parts import IDENTITY, Parts, key_of, park
from tests.learner_service.serving import STARTED_US, Serving, call

KIB = 1024


@pytest.fixture
def serving(store: Store, clock: ManualClock) -> Serving:
    return Serving(Parts(store, clock))


# --- RecordEvents


async def test_recording_without_a_wait_says_what_still_waits_and_gives_no_token(serving: Serving) -> None:
    response = await serving.record(*correction("a", "list files", "ls"), ran("b", "date"))
    assert (response.changed_block_count, response.pending_block_count, response.token) == (2, 2, b"")


async def test_a_wait_ends_when_the_blocks_are_learned_and_the_token_names_the_newest_example(
    serving: Serving,
) -> None:
    async with serving.parts.running():
        response = await serving.record(
            *correction("a", "list files", "ls"), *correction("b", "show date", "date"), wait_s=30
        )
    assert (response.changed_block_count, response.pending_block_count) == (2, 0)
    assert serving.revision_of(response.token) == 2


async def test_events_that_are_known_give_the_token_of_what_was_learned_from_them(serving: Serving) -> None:
    await serving.learn(correction("a", "list files", "ls"))
    await serving.learn(correction("b", "show date", "date"))
    again = await serving.record(*correction("a", "list files", "ls"))
    assert (again.changed_block_count, again.pending_block_count) == (0, 0)
    assert serving.revision_of(again.token) == 1


async def test_blocks_that_nothing_was_learned_from_give_no_token(serving: Serving) -> None:
    async with serving.parts.running():
        response = await serving.record(proposed("a", "list files", "ls"), wait_s=30)
    assert (response.pending_block_count, response.token) == (0, b"")


async def test_a_parked_block_waits_for_nothing(serving: Serving) -> None:
    await serving.record(*correction("a", "list files", "ls"))
    await serving.parts.store.write(park("a"))
    response = await serving.record(*correction("a", "list files", "ls"), wait_s=30)
    assert response.pending_block_count == 0


@pytest.mark.parametrize(("wait_s", "remaining_s"), [(0.01, None), (3_600, 0.06), (0, 3_600)])
async def test_a_wait_ends_with_its_time_and_before_the_deadline_of_the_call(
    serving: Serving, wait_s: float, remaining_s: float | None
) -> None:
    async with asyncio.timeout(5):
        response = await serving.record(
            *correction("a", "list files", "ls"), wait_s=wait_s, remaining_s=remaining_s
        )
    assert (response.changed_block_count, response.pending_block_count) == (1, 1)


async def test_one_event_that_breaks_a_rule_keeps_all_from_being_recorded(serving: Serving) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        await serving.record(ran("a", "ls"), event("b", 0))
    assert caught.value.field == "events[1].event"
    with pytest.raises(InvalidFieldError) as caught:
        await serving.record(ran("a", "ls"), wait_s=-1)
    assert caught.value.field == "learn_wait"
    with pytest.raises(TooLargeError) as too_large:
        await serving.record(*(ran("a", "ls") for _ in range(1_001)))
    assert (too_large.value.field, too_large.value.limit) == ("events", 1_000)
    assert (await serving.status()).block_count == 0


async def test_an_example_older_than_all_remembered_processes_still_has_a_token(serving: Serving) -> None:
    await serving.learn(correction("a", "list files", "ls"))

    def restart_often(transaction: WriteTransaction) -> None:
        for _ in range(EPOCHS_KEPT_MAX):
            transaction.begin_epoch()

    await serving.parts.store.write(restart_often)
    again = await serving.record(*correction("a", "list files", "ls"))
    assert serving.revision_of(again.token) == 1


# --- Reconcile, GetBlock, ForgetExample


async def test_reconcile_says_what_happened_and_gives_the_token_of_the_example(serving: Serving) -> None:
    await serving.record(*correction("a", "list files", "ls"), proposed("b", "show date", "date"))
    created = await serving.reconcile("a")
    assert created.outcome == RECONCILE_OUTCOME_CREATED
    assert serving.revision_of(created.token) == 1
    unchanged = await serving.reconcile("a")
    assert (unchanged.outcome, unchanged.token) == (RECONCILE_OUTCOME_UNCHANGED, created.token)
    nothing = await serving.reconcile("b")
    assert (nothing.outcome, nothing.reason) == (
        RECONCILE_OUTCOME_NOT_LEARNED,
        NOT_LEARNED_REASON_NOT_EXECUTED,
    )
    assert nothing.token == b""


async def test_a_block_that_nobody_named_is_not_found(serving: Serving) -> None:
    for method in (serving.block, serving.reconcile):
        with pytest.raises(BlockNotFoundError):
            await method("nobody")


async def test_a_block_is_shown_with_its_example_but_without_the_embedding(serving: Serving) -> None:
    await serving.record(*correction("a", "list files", "ls"))
    waiting = await serving.block("a")
    assert (waiting.state.learned, waiting.state.pending) == (False, True)
    assert waiting.state.reason == NOT_LEARNED_REASON_PENDING
    assert not waiting.HasField("example")
    await serving.reconcile("a")
    learned = await serving.block("a")
    assert (learned.state.learned, learned.state.pending) == (True, False)
    assert learned.state.reason == NOT_LEARNED_REASON_UNSPECIFIED
    assert learned.block.executed_block.contents == "ls"
    assert (learned.example.query_text, learned.example.embedding) == ("list files", b"")


async def test_a_forgotten_block_shows_that_and_nothing_else(serving: Serving) -> None:
    await serving.learn(correction("a", "list files", "ls", labels={"team": "infra"}))
    token = (await serving.forget("a")).token
    assert serving.revision_of(token) == 2
    shown = await serving.block("a")
    assert shown.state.reason == NOT_LEARNED_REASON_FORGOTTEN
    assert not shown.HasField("example")
    for volatile in ("modified_time", "resource_version"):
        shown.block.ClearField(volatile)
    assert shown.block == BlockLog(id="a", forgotten=True)
    assert (await serving.forget("a")).token == token
    assert (await serving.forget("never heard of")).token == b""
    reconciled = await serving.reconcile("never heard of")
    assert reconciled.reason == NOT_LEARNED_REASON_FORGOTTEN


async def test_a_block_within_the_bound_keeps_its_outputs(serving: Serving) -> None:
    await serving.record(ran("a", "ls", asked="list files", output="x" * 900 * KIB))
    shown = (await serving.block("a")).block
    assert len(shown.executed_block.outputs[0].items[0].text_data) == 900 * KIB


async def test_a_block_beyond_the_bound_is_shown_without_any_output(serving: Serving) -> None:
    large, answer = "x" * 1_020 * KIB, "y" * 100 * KIB
    succeeded = ran("a", "ls -l", at_s=50)
    failed = ran("a", "ls -x", at_s=60, exit_code=2, asked="list files")
    failed.executed.doc.blocks.append(code("pwd", output=large))
    succeeded.executed.block.outputs.extend(failed.executed.doc.blocks[1].outputs)
    # As large as events may be: only with the example on top is the answer too large.
    for each in (
        proposed("a", "list files", "ls", output=large),
        taught("a", "list files", answer, output="x" * 900 * KIB),
        succeeded,
        failed,
    ):
        await serving.record(each)
    assert (await serving.block("a")).ByteSize() > 3 * BLOCK_BYTES_MAX // 4
    await serving.reconcile("a")
    response = await serving.block("a")
    shown = response.block
    assert shown.generated_block.contents == "ls"
    assert shown.succeeded_block.contents == "ls -l"
    assert shown.executed_block.contents == "ls -x"
    assert shown.taught.answer[0].contents == response.example.answer[0].contents == answer
    assert [block.contents for block in shown.doc.blocks] == ["list files", "pwd"]
    assert response.ByteSize() < 250 * KIB


# --- ListBlocks, ListExamples


async def test_blocks_are_listed_the_latest_change_first_each_on_one_page(serving: Serving) -> None:
    ids = [f"b{number}" for number in range(7)]
    await serving.record(*(ran(each, "ls") for each in ids))
    await serving.record(ran("b3", "ls -l", at_s=9))
    wanted = ["b3", *(each for each in ids[::-1] if each != "b3")]
    for page_size in (1, 2, 3, 7, 1_000_000, 0):
        pages = await serving.block_pages(page_size=page_size)
        assert [state.key.id for page in pages for state in page] == wanted
        assert all(len(page) <= (page_size or 50) for page in pages)
    assert len(await serving.block_pages(page_size=7)) == 1
    assert len(await serving.block_pages(page_size=3)) == 3


async def test_an_empty_list_is_one_empty_page(serving: Serving) -> None:
    assert await serving.block_pages() == [[]]
    (page,) = await serving.example_pages()
    assert not page.examples


async def test_blocks_are_listed_by_namespace_and_by_reason(serving: Serving) -> None:
    await serving.learn(correction("learned", "list files", "ls"))
    await serving.learn([proposed("proposed", "show date", "date", namespace="team-a")])
    await serving.record(*correction("waiting", "show date", "date", namespace="team-a"))
    await serving.forget("forgotten")

    async def ids(**fields: object) -> set[str]:
        return {state.key.id for page in await serving.block_pages(**fields) for state in page}

    assert await ids() == {"learned", "proposed", "waiting", "forgotten"}
    assert await ids(namespaces=[""]) == {"learned", "forgotten"}
    assert await ids(namespaces=["team-a", "team-b"]) == {"proposed", "waiting"}
    assert await ids(reasons=[NOT_LEARNED_REASON_NOT_EXECUTED]) == {"proposed"}
    assert await ids(reasons=[NOT_LEARNED_REASON_PENDING, NOT_LEARNED_REASON_FORGOTTEN]) == {
        "waiting",
        "forgotten",
    }
    assert await ids(reasons=[NOT_LEARNED_REASON_UNSPECIFIED]) == {"learned"}
    assert await ids(namespaces=[""], reasons=[NOT_LEARNED_REASON_PENDING]) == set()


async def test_a_filter_that_matches_little_gives_short_pages_and_finds_all_of_it(serving: Serving) -> None:
    await serving.record(ran("needle", "ls", namespace="team-a"))
    for start in (0, 1_000):
        await serving.record(*(ran(f"b{number}", "ls") for number in range(start, start + 1_000)))
    pages = await serving.block_pages(namespaces=["team-a"])
    assert [[state.key.id for state in page] for page in pages] == [[], ["needle"]]


async def test_examples_are_listed_the_latest_change_first_each_on_one_page(serving: Serving) -> None:
    ids = [f"b{number}" for number in range(5)]
    await serving.learn(event for each in ids for event in correction(each, f"do {each}", "ls"))
    await serving.forget("b1")
    for page_size in (1, 2, 4, 5, 1_000_000):
        pages = await serving.example_pages(page_size=page_size)
        examples = [example for page in pages for example in page.examples]
        assert [example.id for example in examples] == ["b4", "b3", "b2", "b0"]
        assert all(not example.embedding for example in examples)
        assert all(len(page.examples) <= page_size for page in pages)


async def test_examples_are_listed_by_namespace_and_by_all_of_the_labels(serving: Serving) -> None:
    await serving.learn(correction("a", "do a", "ls", labels={"team": "infra", "os": "linux"}))
    await serving.learn(correction("b", "do b", "ls", labels={"team": "infra"}))
    await serving.learn(correction("c", "do c", "ls", namespace="team-a"))

    async def ids(**fields: object) -> list[str]:
        pages = await serving.example_pages(**fields)
        return [example.id for page in pages for example in page.examples]

    assert await ids(labels={"team": "infra"}) == ["b", "a"]
    assert await ids(labels={"team": "infra", "os": "linux"}) == ["a"]
    assert await ids(labels={"team": ""}) == []
    assert await ids(namespaces=["team-a"]) == ["c"]
    assert await ids(namespaces=["team-a"], labels={"team": "infra"}) == []


@pytest.mark.parametrize(
    ("count", "wanted"), [(3, [["b2", "b1"], ["b0"]]), (4, [["b3", "b2"], ["b1", "b0"]])]
)
async def test_a_page_of_large_examples_is_cut_at_two_mebibytes(
    serving: Serving, count: int, wanted: list[list[str]]
) -> None:
    for number in range(count):
        await serving.learn(correction(f"b{number}", f"do {number}", f"{number}" * 900 * KIB))
    pages = await serving.example_pages()
    assert [[example.id for example in page.examples] for page in pages] == wanted
    assert all(page.ByteSize() <= 2 * KIB * KIB for page in pages)


@pytest.mark.parametrize("token", ["x", "-1", "00000000000000001", "ff ff", "ſ", "1" * 5_000])
async def test_a_page_token_that_no_list_gave_is_refused(serving: Serving, token: str) -> None:
    for pages in (serving.block_pages, serving.example_pages):
        with pytest.raises(TokenMalformedError, match="page_token"):
            await pages(page_token=token)


# --- WatchUpdates, GetStatus


async def next_of(stream: AsyncGenerator[bytes, None]) -> WatchUpdatesResponse:
    async with asyncio.timeout(5):
        return WatchUpdatesResponse.FromString(await anext(stream))


async def test_a_watcher_gets_what_there_is_and_shows_in_the_status_by_its_name(serving: Serving) -> None:
    await serving.learn(correction("a", "list files", "ls"))
    name = "w" * (WATCHER_CHARACTERS_MAX + 1)
    stream = cast("AsyncGenerator[bytes, None]", serving.watch(watcher=name))
    nameless = cast("AsyncGenerator[bytes, None]", serving.watch())
    async with aclosing(stream), aclosing(nameless):
        assert (await next_of(stream)).hello.example_count == 1
        assert [update.put.id for update in (await next_of(stream)).batch.updates] == ["a"]
        await next_of(nameless)
        watchers = [watcher.watcher for watcher in (await serving.status()).watchers]
        assert watchers == [call().peer, name[:WATCHER_CHARACTERS_MAX]]
    assert not (await serving.status()).watchers


@pytest.mark.parametrize("seconds", [0, -5, 0.001])
async def test_a_bookmark_interval_that_is_too_short_is_raised(serving: Serving, seconds: float) -> None:
    stream = cast("AsyncGenerator[bytes, None]", serving.watch(bookmark_interval=seconds_of(seconds)))
    async with aclosing(stream):
        assert (await next_of(stream)).HasField("hello")
        assert (await next_of(stream)).HasField("bookmark")
        begin_s = asyncio.get_running_loop().time()
        assert (await next_of(stream)).HasField("bookmark")
        # 100 ms, less the jitter of a fifth.
        assert asyncio.get_running_loop().time() - begin_s >= 0.079


def seconds_of(seconds: float) -> dict[str, int]:
    return {"seconds": int(seconds), "nanos": round((seconds - int(seconds)) * 1e9)}


async def test_the_status_tells_of_store_queue_and_logs(serving: Serving, clock: ManualClock) -> None:
    await serving.learn(correction("a", "list files", "ls"))
    await serving.learn(correction("b", "show date", "date"))
    await serving.record(*correction("waiting", "do that", "x"), *correction("parked", "do this", "y"))
    await serving.parts.store.write(park("parked"))
    serving.logs.files.append(
        FileStatus(path="/logs/a", offset_bytes=5, size_bytes=7, malformed_line_count=1)
    )
    clock.now_us += 90_000_000
    await serving.parts.store.write(lambda write: write.set_embedder_fingerprint(IDENTITY.fingerprint))
    status = await serving.status()
    assert (status.version, status.policy) == ("1.2.3", "corrections")
    assert status.embedder_fingerprint == IDENTITY.fingerprint
    assert (status.block_count, status.example_count, status.head_revision) == (4, 2, 2)
    assert (status.queued_block_count, status.failed_block_count) == (1, 1)
    assert 89 <= status.oldest_queued_age.seconds <= 90
    assert status.start_time.ToMicroseconds() == STARTED_US
    assert (status.compact_revision, status.store_bytes_max) == (0, 1 << 30)
    assert 0 < status.store_bytes < 1 << 20
    (file,) = status.log_files
    assert (file.path, file.offset_bytes, file.size_bytes, file.malformed_line_count) == ("/logs/a", 5, 7, 1)
    with serving.parts.store.read() as transaction:
        assert status.store_id == transaction.store_id
    rows = (digest.row_hash(key_of(each).encode(), revision) for each, revision in (("a", 1), ("b", 2)))
    assert status.digest == digest.encode(digest.add(*rows))


async def test_the_age_of_the_oldest_block_is_unset_when_none_waits_and_never_negative(
    serving: Serving, clock: ManualClock
) -> None:
    assert not (await serving.status()).HasField("oldest_queued_age")
    await serving.record(ran("a", "ls"))
    clock.now_us -= 60_000_000
    age = (await serving.status()).oldest_queued_age
    assert (age.seconds, age.nanos) == (0, 0)


# --- Errors


def test_every_error_of_the_learner_has_a_status_but_a_damaged_store_which_is_a_bug_to_callers() -> None:
    table = {**SHARED_STATUSES, **STATUSES}
    assert list(errors_without_rule(table, LearnerError)) == [StoreCorruptError]
    assert list(errors_without_rule(table, EmbedderError)) == []
