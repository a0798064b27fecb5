"""The clients in front of the real services."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from errata.client import (
    AsyncErrata,
    CaughtUp,
    Change,
    Errata,
    ExampleDeleted,
    ExamplePut,
    Settings,
    StartOver,
    code,
    document,
    prose,
)
from errata.embedding import build_embedder
from errata.v1.learner_pb2 import NOT_LEARNED_REASON_UNCHANGED, RECONCILE_OUTCOME_UNCHANGED
from tests.e2e.services import Services, learner_on, services_on
from tests.errata.client.scripted_services import MakesClient

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with services_on(tmp_path_factory.mktemp("services") / "store") as services:
        yield services


@pytest.fixture(scope="module")
def addresses(running: Services) -> tuple[str, str]:
    return running.learner.process.address, running.rag.process.address


def test_what_is_recorded_is_in_the_next_search_and_prompt(
    addresses: tuple[str, str], client_of: MakesClient
) -> None:
    with client_of(*addresses, namespace=f"n-{client_of.__name__}") as client:
        for number in range(20):
            asked = f"restart the web server number{number}"
            recorded = client.record_correction(
                question=asked, proposed="reboot", ran=f"restart web{number}", exit_code=0, language="bash"
            )
            assert (recorded.changed_block_count, recorded.pending_block_count) == (1, 0)
            answer = client.search(asked)
            assert answer.matches[0].block_id == recorded.block_id
            assert answer.sees_own_writes
            assert not answer.response.degraded
            prompt = client.few_shot(asked, max_tokens=1_000)
            assert prompt.endswith(f"```bash\nrestart web{number}\n```\n")


def test_a_run_that_is_what_was_proposed_teaches_nothing_and_says_why(
    addresses: tuple[str, str], client_of: MakesClient
) -> None:
    with client_of(*addresses) as client:
        recorded = client.record_correction(question="list files", proposed="ls", ran=" ls ")
        assert recorded.token == b""
        learned = client.learn(recorded.block_id)
        assert not learned.is_learned
        assert (learned.outcome_name, learned.reason_name) == ("NOT_LEARNED", "UNCHANGED")
        assert client.get_block(recorded.block_id).state.reason == NOT_LEARNED_REASON_UNCHANGED


def test_several_languages_and_answers_are_found_by_a_document_and_by_an_embedding(
    addresses: tuple[str, str], client_of: MakesClient
) -> None:
    namespace = f"languages-{client_of.__name__}"
    with client_of(*addresses, namespace=namespace) as client:
        taught = client.teach(
            document("count the rows of the orders table"),
            [code("SELECT count(*) FROM orders", "sql"), prose("or"), code("wc -l orders.csv", "bash")],
            labels={"team": "data"},
        )
        asked = document(prose("count the rows of the orders table"), code("x"), prose("restart"))
        embedding = build_embedder("hashing").queries(["count the rows of the orders table"])[0]
        for question, options in (
            (asked, {"selected_index": 0}),
            ("count the rows of the orders table", {"labels": {"team": "data"}}),
            (embedding.astype("<f4").tobytes(), {"languages": ["sql"]}),
        ):
            (match,) = client.search(question, min_score=0.9, **options).matches
            assert match.block_id == taught.block_id
        assert match.answer == "SELECT count(*) FROM orders\n\nor\n\nwc -l orders.csv"
        prompt = client.few_shot(asked, selected_index=0, max_tokens=1_000)
        assert [fence in prompt for fence in ("```sql\n", "```bash\n")] == [True, True]
        assert client.search("rows", exclude=[taught.block_id]).matches == ()
        assert client.few_shot("rows", exclude=[taught.block_id], max_tokens=100) == ""


def test_what_is_forgotten_is_not_in_the_next_search(
    addresses: tuple[str, str], client_of: MakesClient
) -> None:
    with client_of(*addresses, namespace=f"forget-{client_of.__name__}") as client:
        recorded = client.teach("print the secret plan", "cat plan")
        assert client.learn(recorded.block_id).outcome == RECONCILE_OUTCOME_UNCHANGED
        assert len(client.search("print the secret plan").matches) == 1
        client.forget(recorded.block_id)
        assert client.search("print the secret plan").matches == ()
        assert client.get_block(recorded.block_id).block.forgotten


def test_one_client_hands_its_token_to_another(addresses: tuple[str, str]) -> None:
    learner, rag = addresses
    with Errata(learner=learner) as writer, Errata(rag=rag) as reader:
        for number in range(20):
            asked = f"hand over parcel{number}"
            recorded = writer.teach(asked, f"parcel {number}")
            reader.remember(writer.token)
            assert reader.search(asked, limit=1).matches[0].block_id == recorded.block_id


def test_threads_share_a_client_and_each_sees_what_it_wrote(addresses: tuple[str, str]) -> None:
    together = threading.Barrier(8)
    with Errata(*addresses, settings=Settings(namespace="threads")) as errata:

        def work(worker: int) -> None:
            together.wait()
            for number in range(15):
                asked = f"worker{worker} wants thing{number}"
                recorded = errata.teach(asked, f"get {worker} {number}")
                answer = errata.search(asked, limit=1)
                assert answer.sees_own_writes
                assert answer.matches[0].block_id == recorded.block_id

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))


async def test_tasks_share_a_client_and_each_sees_what_it_wrote(addresses: tuple[str, str]) -> None:
    async with AsyncErrata(*addresses, settings=Settings(namespace="tasks")) as errata:

        async def work(worker: int) -> None:
            for number in range(10):
                asked = f"worker{worker} wants thing{number}"
                recorded = await errata.teach(asked, f"get {worker} {number}")
                answer = await errata.search(asked, limit=1)
                assert answer.matches[0].block_id == recorded.block_id

        await asyncio.gather(*(work(worker) for worker in range(16)))


def test_a_watcher_holds_what_the_learner_holds_and_resumes_where_it_stopped(
    addresses: tuple[str, str], client_of: MakesClient
) -> None:
    with client_of(*addresses, namespace=f"watch-{client_of.__name__}") as client:
        first = client.teach("q1", "a1")
        held: dict[str, str] = {}
        with closing(client.watch()) as changes:
            token = apply(changes, held)
            assert held == {first.block_id: "a1"}
            second = client.teach("q2", "a2")
            token = apply(changes, held)
        client.forget(first.block_id)
        client.teach("q2", "a3", block_id=second.block_id)
        with closing(client.watch(token)) as changes:
            token = apply(changes, held)
        assert held == {second.block_id: "a3"}
        # A token of other namespaces is answered with all that these hold.
        with closing(client.watch(token, namespaces=["elsewhere"])) as changes:
            apply(changes, held)
        assert held == {}


def apply(changes: Iterator[Change], held: dict[str, str]) -> bytes:
    """Applies what comes until something came and nothing is missing; returns the token of that."""
    is_changed = False
    for change in changes:
        match change:
            case ExamplePut():
                held[change.example.id] = change.example.answer[0].contents
            case ExampleDeleted():
                held.pop(change.id, None)
            case StartOver():
                assert change.reason_name == "FILTER_CHANGED"
                held.clear()
            case CaughtUp() if is_changed:
                assert change.example_count == len(held)
                return change.token
        is_changed = is_changed or not isinstance(change, CaughtUp)
    raise AssertionError("a watcher never ends")


def test_a_watcher_outlives_its_learner(tmp_path: Path, client_of: MakesClient) -> None:
    held: dict[str, str] = {}
    with ExitStack() as open_still:
        with learner_on(tmp_path / "store") as learner:
            address = learner.process.address
            client = open_still.enter_context(client_of(address))
            changes = open_still.enter_context(closing(client.watch()))
            client.teach("q1", "a1")
            apply(changes, held)
        with learner_on(tmp_path / "store", "--listen", address):
            client.teach("q2", "a2")
            apply(changes, held)
    assert sorted(held.values()) == ["a1", "a2"]
