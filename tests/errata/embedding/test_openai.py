"""The embedder of a server, against a real one that misbehaves in each way that the API documents."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from errata.embedding import (
    EmbedderError,
    EmbedderRejectedError,
    EmbedderSettings,
    EmbedderUnavailableError,
    EmbeddingThread,
    UnknownEmbedderError,
    build_embedder,
    check_embedder,
)
from errata.embedding.loop_thread import LoopThread
from errata.embedding.openai import (
    REQUEST_TOKENS_MAX,
    TEXT_TOKENS_MAX,
    TEXTS_MAX,
    OpenAiEmbedder,
    Patience,
)
from errata.embedding.openai_answers import QUOTA_PAUSE_S, SETUP_PAUSE_S
from errata.embedding.openai_api import EmbeddingsApi
from errata.embedding.openai_circuit import FAILURES_MAX, Circuit, CircuitOpenError
from tests.errata.embedding.embeddings_server import (
    DIMENSION,
    Answer,
    EmbeddingsServer,
    Held,
    data,
    dripping,
    endless,
    error,
    of_dimension,
    raw,
    reset,
    truncated,
    zipped,
)

KEY = "sk-secret-0123456789"
TEXTS = ["list files", "show the date", "delete a branch"]
QUICK = Patience(seconds=5.0, attempts_max=3, retry_delay_s=0.002)
IMPATIENT = Patience(seconds=0.1, attempts_max=3, retry_delay_s=0.002)


class ManualSeconds:
    """A monotonic clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def shared_server() -> Iterator[EmbeddingsServer]:
    with EmbeddingsServer() as server:
        yield server


@pytest.fixture
def server(shared_server: EmbeddingsServer) -> EmbeddingsServer:
    shared_server.begin_anew()
    return shared_server


@pytest.fixture
def clock() -> ManualSeconds:
    return ManualSeconds()


@pytest.fixture
def make(server: EmbeddingsServer, clock: ManualSeconds) -> Iterator[Callable[..., OpenAiEmbedder]]:
    """Makes embedders of the server that are as patient as a test."""
    made: list[OpenAiEmbedder] = []

    def make(patience: Patience = QUICK, *, dimensions: int | None = None) -> OpenAiEmbedder:
        api = EmbeddingsApi(base_url=server.base_url, model="m", dimension=dimensions, key=lambda: KEY)
        made.append(
            OpenAiEmbedder(
                model="m",
                dimension=dimensions or DIMENSION,
                spec="openai:m",
                api=api,
                loop=LoopThread("openai").start(),
                circuit=Circuit(api.url, clock),
                query_patience=patience,
                documents_patience=patience,
            )
        )
        return made[-1]

    yield make
    for embedder in made:
        embedder.close()


@pytest.fixture
def embedder(make: Callable[..., OpenAiEmbedder]) -> OpenAiEmbedder:
    return make()


def settings(server: EmbeddingsServer, **fields: Any) -> EmbedderSettings:
    return EmbedderSettings(openai_base_url=server.base_url, **fields)


def test_vectors_are_of_length_one_and_in_the_order_of_the_texts(
    server: EmbeddingsServer, embedder: OpenAiEmbedder
) -> None:
    matrix = embedder.documents(TEXTS)
    assert matrix.dtype == np.dtype(np.float32)
    assert (matrix.shape, matrix.flags.c_contiguous) == ((3, DIMENSION), True)
    assert np.allclose(matrix, server.vectors(TEXTS), atol=1e-6)
    assert np.abs(np.linalg.norm(matrix.astype(np.float64), axis=1) - 1).max() <= 1e-6
    assert np.array_equal(embedder.queries(TEXTS), matrix)


def test_no_texts_are_no_request(server: EmbeddingsServer, embedder: OpenAiEmbedder) -> None:
    assert embedder.documents([]).shape == (0, DIMENSION)
    assert server.received == []


def test_a_request_asks_for_plain_numbers_and_carries_the_key_in_its_header_alone(
    server: EmbeddingsServer, make: Callable[..., OpenAiEmbedder]
) -> None:
    make().documents(TEXTS)
    make(dimensions=16).documents(TEXTS)
    native, shortened = server.received
    assert native.path == "/v1/embeddings"
    assert native.body == {"model": "m", "encoding_format": "float", "input": TEXTS}
    assert shortened.body == {**native.body, "dimensions": 16}
    assert native.headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(data(list.reverse), id="shuffled"),
        pytest.param(zipped, id="compressed"),
    ],
)
def test_what_the_api_allows_is_understood(
    server: EmbeddingsServer, embedder: OpenAiEmbedder, answer: Answer
) -> None:
    server.script(answer)
    assert np.allclose(embedder.documents(TEXTS), server.vectors(TEXTS), atol=1e-6)


def put(at: int, /, **fields: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda entries: entries[at].update(fields)


def without_index(entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        del entry["index"]


PASSING = {
    "408": error(408),
    "409": error(409),
    "429": error(429, code="rate_limit_exceeded"),
    "500": error(500),
    "502 of a proxy": raw(502, b"<html>Bad Gateway</html>"),
    "503": raw(503, b""),
    "529": raw(529, b"overloaded"),
    "connection reset": reset,
    "truncated body": truncated,
    "invalid JSON": raw(200, b'{"data": [{"index": 0, "embed'),
    "deep JSON": raw(200, b"[" * 100_000),
    "HTML": raw(200, b"<html>Login</html>"),
    "no list": raw(200, b'{"object": "list"}'),
    "JSON of no object": raw(200, b"[]"),
    "an embedding missing": data(list.pop),
    "an embedding too many": data(lambda entries: entries.append({**entries[0], "index": 3})),
    "an index twice": data(put(1, index=0)),
    "an index out of range": data(put(0, index=3)),
    "an index that is no number": data(put(1, index=True)),
    "no index": data(without_index),
    "entries that are no objects": raw(200, b'{"data": [1, 2, 3]}'),
    "base64": data(put(0, embedding="AAAAAA==")),
    "words": data(put(0, embedding=["a", "b"])),
    "objects": data(put(0, embedding=[{}])),
    "ragged": data(put(0, embedding=[[1.0], [1.0, 2.0]])),
    "an empty embedding": data(put(0, embedding=[])),
    "NaN once": data(put(2, embedding=[float("nan")] * DIMENSION)),
    "an endless body": endless,
}


@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING.keys())
def test_what_may_pass_is_tried_again(
    server: EmbeddingsServer, embedder: OpenAiEmbedder, answer: Answer
) -> None:
    server.script(answer, answer)
    assert np.allclose(embedder.documents(TEXTS), server.vectors(TEXTS), atol=1e-6)
    assert len(server.received) == 3


def test_what_does_not_pass_ends_after_a_few_attempts(
    server: EmbeddingsServer, embedder: OpenAiEmbedder
) -> None:
    server.script(*[error(500, type="server_error")] * 3)
    with pytest.raises(EmbedderUnavailableError, match=r"/v1/embeddings: HTTP 500 server_error"):
        embedder.documents(TEXTS)
    assert len(server.received) == 3


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with EmbeddingsServer() as gone:
        url = gone.base_url
    with pytest.raises(EmbedderUnavailableError, match="no answer"):
        build_embedder("openai:m", EmbedderSettings(openai_base_url=url))


def test_a_slow_answer_is_given_up_in_time(
    server: EmbeddingsServer, make: Callable[..., OpenAiEmbedder]
) -> None:
    held = Held()
    server.script(held)
    began_s = time.monotonic()
    with pytest.raises(EmbedderUnavailableError, match=r"no answer within 0\.1 s"):
        make(IMPATIENT).queries(TEXTS)
    assert time.monotonic() - began_s < 3
    held.release()


def test_an_answer_that_comes_a_little_at_a_time_is_given_up_in_time_too(
    server: EmbeddingsServer, make: Callable[..., OpenAiEmbedder]
) -> None:
    released = threading.Event()
    server.script(dripping(released))
    with pytest.raises(EmbedderUnavailableError, match="no answer within"):
        make(IMPATIENT).queries(TEXTS)
    released.set()


# --- What is at fault: the text, the size of the request, or the way things are set up.


def test_a_text_that_is_refused_is_refused_alone_and_not_for_ever_asked_again(
    server: EmbeddingsServer, embedder: OpenAiEmbedder
) -> None:
    server.refused.add("refused")
    with pytest.raises(EmbedderRejectedError, match="HTTP 400 invalid_request_error context_length_exceeded"):
        embedder.documents(["refused"])
    with pytest.raises(EmbedderRejectedError):
        embedder.documents([*TEXTS, "refused", *TEXTS])
    assert len(server.received) < 12
    assert embedder.documents(TEXTS).shape == (3, DIMENSION)


async def test_in_a_batch_of_several_callers_a_refused_text_fails_its_own(
    server: EmbeddingsServer, embedder: OpenAiEmbedder
) -> None:
    server.refused.add("refused")
    held = Held()
    server.script(held)
    with EmbeddingThread(embedder) as thread:
        first = asyncio.create_task(thread.documents(["first"]))
        await asyncio.to_thread(held.waiting.wait, 30)
        others = [asyncio.create_task(thread.documents([text])) for text in ("a", "refused", "b")]
        await asyncio.sleep(0)
        held.release()
        await first
        one, refused, other = await asyncio.gather(*others, return_exceptions=True)
    assert isinstance(refused, EmbedderRejectedError)
    assert isinstance(one, np.ndarray)
    assert isinstance(other, np.ndarray)
    assert np.allclose(one, server.vectors(["a"]), atol=1e-6)
    assert np.allclose(other, server.vectors(["b"]), atol=1e-6)


async def test_a_server_that_fails_is_not_asked_once_for_each_caller_of_a_batch(
    server: EmbeddingsServer, embedder: OpenAiEmbedder
) -> None:
    held = Held()
    server.script(held, *[error(500)] * 3)
    with EmbeddingThread(embedder) as thread:
        first = asyncio.create_task(thread.query("first"))
        await asyncio.to_thread(held.waiting.wait, 30)
        others = [asyncio.create_task(thread.query(text)) for text in ("a", "b", "c")]
        await asyncio.sleep(0)
        held.release()
        await first
        outcomes = await asyncio.gather(*others, return_exceptions=True)
    assert all(isinstance(outcome, EmbedderUnavailableError) for outcome in outcomes)
    assert [request.texts for request in server.received] == [["first"], *[["a", "b", "c"]] * 3]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), None, 0.0])
def test_a_text_whose_vector_has_no_direction_is_rejected_after_some_attempts(
    server: EmbeddingsServer, embedder: OpenAiEmbedder, number: float | None
) -> None:
    server.script(*[data(put(0, embedding=[number] * DIMENSION))] * 3)
    with pytest.raises(EmbedderRejectedError, match="without direction"):
        embedder.documents(["strange"])


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_a_vector_of_any_length_has_a_direction(
    server: EmbeddingsServer, embedder: OpenAiEmbedder, scale: float
) -> None:
    def scaled(entries: list[dict[str, Any]]) -> None:
        entries[0]["embedding"] = [scale * number for number in entries[0]["embedding"]]

    server.script(data(scaled))
    assert np.allclose(embedder.documents(["a"]), server.vectors(["a"]), atol=1e-6)


def test_a_server_that_refuses_whatever_it_is_asked_is_set_up_wrongly_and_no_text_is_blamed(
    server: EmbeddingsServer, embedder: OpenAiEmbedder
) -> None:
    server.script(*[error(400, type="invalid_request_error", code="unknown_parameter")] * 2)
    with pytest.raises(EmbedderUnavailableError, match=r"refuses every text .*check the model"):
        embedder.documents(["innocent"])
    with pytest.raises(CircuitOpenError, match="refuses every text"):
        embedder.documents(["another"])


@pytest.mark.parametrize(
    ("code", "message"),
    [(401, ""), (403, "no access"), (404, "no such model"), (405, ""), (301, "")],
)
def test_what_a_person_must_set_right_is_said_at_once_and_asked_again_after_a_while(
    server: EmbeddingsServer, embedder: OpenAiEmbedder, clock: ManualSeconds, code: int, message: str
) -> None:
    server.script(error(code, message=message))
    with pytest.raises(EmbedderUnavailableError, match=f"HTTP {code}.*{message}.*check the model, the key"):
        embedder.documents(TEXTS)
    clock.now += SETUP_PAUSE_S - 1
    with pytest.raises(CircuitOpenError, match=f"HTTP {code}.*asked again in 1 s"):
        embedder.documents(TEXTS)
    assert len(server.received) == 1
    clock.now += 1
    assert embedder.documents(TEXTS).shape == (3, DIMENSION)


@pytest.mark.parametrize("field", ["code", "type"])
def test_an_account_without_quota_blames_no_text_and_is_asked_again_much_later(
    server: EmbeddingsServer, embedder: OpenAiEmbedder, clock: ManualSeconds, field: str
) -> None:
    server.script(error(429, headers=[("Retry-After", "0")], **{field: "insufficient_quota"}))
    with pytest.raises(EmbedderUnavailableError, match="no quota left"):
        embedder.documents(TEXTS)
    clock.now += QUOTA_PAUSE_S - 1
    with pytest.raises(CircuitOpenError):
        embedder.documents(TEXTS)
    assert len(server.received) == 1
    clock.now += 1
    assert embedder.documents(TEXTS).shape == (3, DIMENSION)


def test_another_dimension_is_never_taken(server: EmbeddingsServer, embedder: OpenAiEmbedder) -> None:
    server.script(of_dimension(DIMENSION // 2))
    with pytest.raises(EmbedderUnavailableError, match=f"16 dimensions instead of {DIMENSION}"):
        embedder.documents(TEXTS)


def test_a_vector_of_another_dimension_among_good_ones_is_never_taken(
    server: EmbeddingsServer, embedder: OpenAiEmbedder
) -> None:
    server.script(data(put(1, embedding=[1.0, 2.0])))
    with pytest.raises(EmbedderUnavailableError, match="2 dimensions instead of"):
        embedder.documents(TEXTS)


def test_a_key_in_a_message_is_taken_out(server: EmbeddingsServer, embedder: OpenAiEmbedder) -> None:
    server.script(error(403, message=f"{KEY} has no access", type=KEY))
    with pytest.raises(EmbedderUnavailableError, match=r"HTTP 403 .*has no access") as no_access:
        embedder.documents(TEXTS)
    assert KEY not in str(no_access.value)


def test_not_even_a_part_of_a_wrong_key_is_shown(server: EmbeddingsServer, embedder: OpenAiEmbedder) -> None:
    server.script(error(401, message="Incorrect API key: sk-****6789", code="invalid_api_key"))
    with pytest.raises(EmbedderUnavailableError, match="HTTP 401 invalid_api_key;") as wrong:
        embedder.documents(TEXTS)
    assert "6789" not in str(wrong.value)


def test_a_server_that_repeats_the_text_in_its_message_is_not_quoted(
    server: EmbeddingsServer, make: Callable[..., OpenAiEmbedder]
) -> None:
    question = "what is my secret plan"
    server.refused.add(question)
    with pytest.raises(EmbedderRejectedError) as refused:
        make().documents([question])
    server.script(*[error(500, message=f"cannot embed {question}", code=question)] * 3)
    with pytest.raises(EmbedderUnavailableError) as failed:
        make().documents([question])
    assert question not in str(refused.value) + str(failed.value)


# --- The bounds of a request.


def test_a_request_is_within_the_bounds_of_the_api(
    server: EmbeddingsServer, embedder: OpenAiEmbedder
) -> None:
    texts = [f"text {number}" for number in range(2 * TEXTS_MAX + 1)] + ["x" * TEXT_TOKENS_MAX] * 40
    matrix = embedder.documents(texts)
    assert np.allclose(matrix, server.vectors(texts), atol=1e-6)
    assert server.texts == texts
    for request in server.received:
        assert len(request.texts) <= TEXTS_MAX
        assert sum(len(text.encode()) for text in request.texts) <= REQUEST_TOKENS_MAX
    assert [len(request.texts) for request in server.received] == [TEXTS_MAX, TEXTS_MAX, 1 + 36, 4]


def test_a_text_longer_than_the_api_takes_is_rejected_without_asking(
    server: EmbeddingsServer, embedder: OpenAiEmbedder
) -> None:
    with pytest.raises(EmbedderRejectedError, match="longer than 8,192 bytes"):
        embedder.documents(["é" * (TEXT_TOKENS_MAX // 2 + 1)])
    assert server.received == []


def test_a_batch_that_is_too_long_is_cut_and_its_size_remembered(
    server: EmbeddingsServer, embedder: OpenAiEmbedder
) -> None:
    server.texts_max = 10
    texts = [f"text {number}" for number in range(64)]
    assert np.allclose(embedder.documents(texts), server.vectors(texts), atol=1e-6)
    taken = [len(request.texts) for request in server.received]
    assert taken == [64, 32, 16, *[8] * 8]
    server.received.clear()
    embedder.documents(texts)
    assert [len(request.texts) for request in server.received] == [8] * 8


def test_a_request_too_large_for_a_proxy_is_cut_too(
    server: EmbeddingsServer, embedder: OpenAiEmbedder
) -> None:
    server.script(raw(413, b"<html>Request Entity Too Large</html>"))
    assert np.allclose(embedder.documents(TEXTS), server.vectors(TEXTS), atol=1e-6)
    assert [len(request.texts) for request in server.received] == [3, 2, 1]


# --- Not hammering a server in need.


def test_a_short_retry_after_is_waited_for(server: EmbeddingsServer, embedder: OpenAiEmbedder) -> None:
    server.script(error(429, headers=[("Retry-After", "0.2")]))
    began_s = time.monotonic()
    # The circuit's clock stands still here, so the pause of the request itself is what is measured.
    with pytest.raises(CircuitOpenError):
        embedder.documents(TEXTS)
    assert time.monotonic() - began_s >= 0.2
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("written", "pause_s"),
    [("120", 120.0), ("31536000", 300.0), ("Wed, 21 Oct 2099 07:28:00 GMT", 300.0)],
)
def test_a_long_retry_after_fails_the_call_at_once_and_every_call_until_then(
    server: EmbeddingsServer, embedder: OpenAiEmbedder, clock: ManualSeconds, written: str, pause_s: float
) -> None:
    server.script(error(429, headers=[("Retry-After", written)]))
    with pytest.raises(EmbedderUnavailableError, match="HTTP 429"):
        embedder.documents(TEXTS)
    clock.now += pause_s - 1
    with pytest.raises(CircuitOpenError, match="asked again in 1 s"):
        embedder.queries(TEXTS)
    assert len(server.received) == 1
    clock.now += 1
    assert embedder.queries(TEXTS).shape == (3, DIMENSION)


def test_a_server_that_keeps_failing_is_left_alone_then_tried_with_one_request(
    server: EmbeddingsServer, embedder: OpenAiEmbedder, clock: ManualSeconds
) -> None:
    server.script(*[error(500)] * (FAILURES_MAX + 2))
    for _ in range(20):
        with pytest.raises(EmbedderUnavailableError):
            embedder.documents(TEXTS)
    assert len(server.received) == FAILURES_MAX
    for pause_s in (1, 2):
        clock.now += pause_s
        with pytest.raises(EmbedderUnavailableError):
            embedder.documents(TEXTS)
        with pytest.raises(CircuitOpenError):
            embedder.documents(TEXTS)
    assert len(server.received) == FAILURES_MAX + 2
    clock.now += 4
    assert embedder.documents(TEXTS).shape == (3, DIMENSION)


# --- Threads and the end.


def test_several_threads_may_ask_at_once(server: EmbeddingsServer, embedder: OpenAiEmbedder) -> None:
    held = Held()
    server.script(held)
    first = threading.Thread(target=embedder.documents, args=(TEXTS,))
    first.start()
    assert held.waiting.wait(30)
    assert embedder.queries(TEXTS).shape == (3, DIMENSION)
    held.release()
    first.join()


async def test_closing_does_not_wait_for_the_server(
    server: EmbeddingsServer, make: Callable[..., OpenAiEmbedder]
) -> None:
    held = Held()
    server.script(held)
    thread = EmbeddingThread(make(Patience(seconds=600.0, attempts_max=3)))
    thread.start()
    waiting = asyncio.create_task(thread.documents(TEXTS))
    await asyncio.to_thread(held.waiting.wait, 30)
    async with asyncio.timeout(10):
        await asyncio.to_thread(thread.close)
        with pytest.raises(EmbedderError, match="closed"):
            await waiting
    held.release()


def test_a_closed_embedder_says_so_and_can_be_closed_again(embedder: OpenAiEmbedder) -> None:
    embedder.close()
    embedder.close()
    with pytest.raises(EmbedderError, match="closed"):
        embedder.documents(TEXTS)


def test_a_connection_is_used_again(server: EmbeddingsServer, embedder: OpenAiEmbedder) -> None:
    connections: set[object] = set()

    def remember(handler: Any, received: Any) -> None:
        connections.add(handler.client_address)
        zipped(handler, received)

    server.script(*[remember] * 3)
    for _ in range(3):
        embedder.documents(TEXTS)
    assert len(connections) == 1


# --- From a spec.


@pytest.mark.parametrize(
    ("spec", "model", "dimension", "asked"),
    [
        ("openai:m", "m", DIMENSION, 1),
        ("openai:m:16", "m", 16, 0),
        ("openai:BAAI/bge-m3", "BAAI/bge-m3", DIMENSION, 1),
        ("openai:nomic:latest", "nomic:latest", DIMENSION, 1),
        ("openai:nomic:latest:64", "nomic:latest", 64, 0),
        ("openai:7", "7", DIMENSION, 1),
    ],
)
def test_a_spec_names_a_model_and_perhaps_its_dimension_which_is_asked_for_once_if_not(
    server: EmbeddingsServer, spec: str, model: str, dimension: int, asked: int
) -> None:
    embedder = build_embedder(spec, settings(server))
    assert (embedder.spec, embedder.dimension) == (spec, dimension)
    assert embedder.fingerprint == f"openai/{model}/{dimension}/q1"
    assert len(server.received) == asked
    assert embedder.queries(["a"]).shape == (1, dimension)
    assert all(request.body["model"] == model for request in server.received)
    embedder.close()


@pytest.mark.parametrize("spec", ["openai", "openai:", "openai:m:0", "openai:m:16385", "openai::64"])
def test_a_spec_without_a_model_or_with_an_impossible_dimension_is_refused(spec: str) -> None:
    nowhere = EmbedderSettings(openai_base_url="http://127.0.0.1:1/v1")
    with pytest.raises(UnknownEmbedderError, match="openai:MODEL"):
        build_embedder(spec, nowhere)


def test_the_dimension_of_stored_vectors_is_known_while_the_server_is_away() -> None:
    away = EmbedderSettings(openai_base_url="http://127.0.0.1:1/v1")
    held = ("hashing/h1/384/q1", "openai/m2/7/q1", "openai/m/1536/q0", "openai/m/512/q1")
    embedder = build_embedder("openai:m", away, held=held)
    assert embedder.fingerprint == "openai/m/512/q1"
    with pytest.raises(EmbedderUnavailableError):
        embedder.queries(["a"])
    embedder.close()


def test_a_server_that_refuses_the_first_question_cannot_be_built(server: EmbeddingsServer) -> None:
    server.script(error(401, code="invalid_api_key"))
    with pytest.raises(EmbedderUnavailableError, match="HTTP 401 invalid_api_key; check"):
        build_embedder("openai:m", settings(server))


def test_a_model_of_far_too_many_dimensions_is_refused(server: EmbeddingsServer) -> None:
    server.script(data(put(0, embedding=[1.0] * 16_385)))
    with pytest.raises(EmbedderUnavailableError, match="16,385 dimensions"):
        build_embedder("openai:m", settings(server))


def test_without_its_package_it_says_what_to_install_and_the_others_work() -> None:
    program = """
import sys
sys.modules["httpx2"] = None
from errata.embedding import EmbedderUnavailableError, build_embedder, check_embedder
check_embedder("hashing:64")
build_embedder("hashing:64").queries(["list files"])
try:
    check_embedder("openai:m")
except EmbedderUnavailableError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "openai needs the package httpx2; install it: pip install 'errata[server]'" in done.stdout


def test_a_spec_is_checked_without_asking_the_server(server: EmbeddingsServer) -> None:
    check_embedder("openai:m")
    with pytest.raises(UnknownEmbedderError):
        check_embedder("openai:m:0")
    assert server.received == []
