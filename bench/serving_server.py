"""One server of `bench.search_serving`, in a process of its own: `python -m bench.serving_server`.

    --kind aio    grpc.aio on one event loop; with `--vectors` exactly what `errata-rag` serves with
    --kind sync   grpc.server and its threads; a call is answered in the thread that took it

Without `--vectors` it is a bare echo: it reads an answer from stdin and gives it to every call, without a
look at the request. It writes its address to stdout once it serves, and ends with SIGTERM.
"""

import os

# As rag_service.__main__ has it, and as early.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import asyncio
import gc
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
from prometheus_client import CollectorRegistry

from bench.filled_index import filled_mirror
from errata.serving.channel import server_options
from errata.serving.logs import configure_logs
from errata.serving.metrics import RpcMetrics
from errata.serving.server import GrpcServer, Service
from errata.v1 import rag_pb2
from rag_service.__main__ import GARBAGE_THRESHOLDS, SEARCH_THREAD_COUNT, SERVICE
from rag_service.answer import duration, encoded_response
from rag_service.clock import SystemClock
from rag_service.mirror import Mirror, Replica
from rag_service.progress import Progress
from rag_service.search_request import EmbeddedQuestion, read_search
from rag_service.service import STATUSES, RagServicer


def main() -> None:
    """Serves until it is told to end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=("aio", "sync"), required=True)
    parser.add_argument("--vectors", type=Path, help="a file of numpy's, of what to search; none for an echo")
    parser.add_argument("--threads", type=int, default=4, help="of the synchronous kind (default 4)")
    arguments = parser.parse_args()
    configure_logs("info")
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    if arguments.kind == "aio":
        asyncio.run(_serve_aio(arguments.vectors))
    else:
        _serve_sync(arguments.vectors, arguments.threads)


async def _serve_aio(vectors: Path | None) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if vectors is None:
        answer = sys.stdin.buffer.read()

        async def echo(_: bytes, __: object) -> bytes:
            return answer

        server = grpc.aio.server(handlers=[_handler(echo)], options=server_options())
        _say(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        await stop.wait()
        await server.stop(0)
        return
    mirror = filled_mirror(np.load(vectors, mmap_mode="r"))
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


def _serve_sync(vectors: Path | None, thread_count: int) -> None:
    behaviour = _sync_echo(sys.stdin.buffer.read()) if vectors is None else _sync_search(vectors)
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


def _sync_search(vectors: Path) -> Callable[[bytes, object], bytes]:
    mirror = filled_mirror(np.load(vectors, mmap_mode="r"))
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
