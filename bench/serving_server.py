"""One server of `bench.search_serving`, in a process of its own: `python -m bench.serving_server`.

    --kind aio    grpc.aio on one event loop; with `--rows` exactly what `errata-rag` serves with
    --kind sync   grpc.server and its threads; a call is answered in the thread that took it

Without `--rows` it is a bare echo: it reads an answer from stdin and gives it to every call, without a look
at the request. It writes its address to stdout once it serves, and ends with SIGTERM.
"""

import os

# As rag_service.__main__ has it, and as early.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import grpc
import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from bench.feed_store import example
from bench.search_data import real
from errata.serving.channel import server_options
from errata.serving.logs import configure_logs
from errata.serving.metrics import RpcMetrics
from errata.serving.server import GrpcServer, Service
from errata.v1 import rag_pb2
from errata.v1.learner_pb2 import Epoch, ExampleUpdate, WatchBookmark
from rag_service.__main__ import GARBAGE_THRESHOLDS, SEARCH_THREAD_COUNT, SERVICE
from rag_service.answer import duration, encoded_response
from rag_service.clock import SystemClock
from rag_service.index import ExampleIndex
from rag_service.mirror import Mirror, Replica, Source
from rag_service.progress import Progress
from rag_service.read_your_writes import Epochs
from rag_service.search_request import EmbeddedQuestion, read_search
from rag_service.service import STATUSES, RagServicer

BATCH_ROWS = 150
FINGERPRINT = "bench"


class NoEmbedder:
    """Queries come as vectors."""

    fingerprint = FINGERPRINT

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension

    async def query(self, text: str) -> NDArray[np.float32]:
        """Embeds nothing."""
        raise NotImplementedError(text)


def main() -> None:
    """Serves until it is told to end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=("aio", "sync"), required=True)
    parser.add_argument("--rows", type=int, help="examples to search; none for an echo")
    parser.add_argument("--threads", type=int, default=4, help="of the synchronous kind (default 4)")
    arguments = parser.parse_args()
    configure_logs("info")
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    if arguments.kind == "aio":
        asyncio.run(_serve_aio(arguments.rows))
    else:
        _serve_sync(arguments.rows, arguments.threads)


def filled_mirror(rows: NDArray[np.float32]) -> Mirror:
    """A mirror that holds an example for each row, as if a Learner had sent them."""
    clock = SystemClock()
    mirror = Mirror(build_index=_build_index, progress=Progress(clock=clock), clock=clock)
    mirror.open(
        Source(
            store_id=bytes(16),
            epochs=Epochs([Epoch(nonce=1, start_revision=0)]),
            embedder=NoEmbedder(rows.shape[1]),
        )
    )
    for batch in _batches(rows):
        mirror.receive(batch)
    receiving = mirror.receiving
    if receiving is None:
        raise RuntimeError("nothing was received")
    mirror.bookmark(
        WatchBookmark(
            revision=len(rows), example_count=len(rows), digest=receiving.index.digest, token=b"bench"
        )
    )
    return mirror


def _build_index(dimension: int) -> ExampleIndex:
    return ExampleIndex(dimension=dimension)


def _batches(rows: NDArray[np.float32]) -> Iterator[Sequence[ExampleUpdate]]:
    for start in range(0, len(rows), BATCH_ROWS):
        some = range(start, min(start + BATCH_ROWS, len(rows)))
        yield [ExampleUpdate(revision=row + 1, put=example(row, rows[row], FINGERPRINT)) for row in some]


async def _serve_aio(row_count: int | None) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if row_count is None:
        answer = sys.stdin.buffer.read()

        async def echo(_: bytes, __: object) -> bytes:
            return answer

        server = grpc.aio.server(handlers=[_handler(echo)], options=server_options())
        _say(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        await stop.wait()
        await server.stop(0)
        return
    mirror = filled_mirror(real(row_count, 1).rows)
    with ThreadPoolExecutor(SEARCH_THREAD_COUNT) as workers:
        servicer = RagServicer(
            mirror=mirror,
            progress=Progress(clock=SystemClock()),
            workers=workers,
            namespaces=(),
            version="bench",
        )
        ours = GrpcServer(
            services=[Service(SERVICE, servicer)], statuses=STATUSES, metrics=RpcMetrics(CollectorRegistry())
        )
        _say(await ours.start("127.0.0.1:0"))
        await stop.wait()
        await ours.drain(grace_s=0)


def _serve_sync(row_count: int | None, thread_count: int) -> None:
    behaviour = _sync_echo(sys.stdin.buffer.read()) if row_count is None else _sync_search(row_count)
    server = grpc.server(
        ThreadPoolExecutor(thread_count), handlers=[_handler(behaviour)], options=server_options()
    )
    _say(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    server.start()

    def stop(*_: object) -> None:
        server.stop(0)

    signal.signal(signal.SIGTERM, stop)
    server.wait_for_termination()


def _sync_echo(answer: bytes) -> Callable[[bytes, object], bytes]:
    return lambda _, __: answer


def _sync_search(row_count: int) -> Callable[[bytes, object], bytes]:
    mirror = filled_mirror(real(row_count, 1).rows)
    replica = mirror.live
    if replica is None:
        raise RuntimeError("the index was not filled")
    return lambda request, _: _answered(request, mirror, replica)


def _answered(encoded: bytes, mirror: Mirror, replica: Replica) -> bytes:
    """What `RagServicer.search` does with a vector, without its metrics and its logs."""
    search = read_search(rag_pb2.SearchRequest.FromString(encoded))
    question = search.question
    if not isinstance(question, EmbeddedQuestion):
        raise TypeError("the synchronous server of this benchmark takes vectors alone")
    answer = replica.index.search(search.index_query(question.embedding))
    return encoded_response(
        answer.hits,
        rag_pb2.SearchResponse(
            below_min_score_count=answer.below_min_score_count,
            token=replica.token(answer.received_revision),
            degraded=mirror.degraded(replica),
            staleness=duration(mirror.staleness_s(replica)),
        ),
    )


def _handler(behaviour: object) -> grpc.GenericRpcHandler:
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(cast("Any", behaviour))
    return grpc.method_handlers_generic_handler(SERVICE.full_name, {"Search": method})


def _say(address: str) -> None:
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
