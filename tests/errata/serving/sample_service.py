"""A service with the LearnerService's contract and nothing behind it, to test what serves it.

    python -m tests.errata.serving.sample_service [MODE] [FLAGS]

What a call does is asked for by the name of the block: `get_block("echo")` answers, `get_block("bug")` raises
what no table knows, and so on. MODE makes the process misbehave at its start or end.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator

import grpc

from errata.serving.early_signals import exit_on_signals
from errata.serving.fields import check_block_id
from errata.serving.logs import configure_logs, get_logger
from errata.serving.metrics import RpcMetrics, new_registry
from errata.serving.process import (
    EXIT_S_MAX,
    StartError,
    Stop,
    run,
    write_address_file,
)
from errata.serving.server import Call, GrpcServer, Service
from errata.serving.statuses import StatusRule, StatusTable
from errata.v1 import learner_pb2 as pb
from learner_service.config import LearnerConfig, parse

SERVICE = pb.DESCRIPTOR.services_by_name["LearnerService"]
NAME = "errata.v1.LearnerService"

log = get_logger()


class SampleError(Exception):
    """Root of what the sample raises on purpose."""


class SampleNotFoundError(SampleError):
    """Has a rule of its own."""

    def __init__(self, block_id: str) -> None:
        super().__init__(f"no block {block_id!r}")
        self.block_id = block_id


class SampleFullError(SampleError):
    """Has a rule, and a subclass without one."""


class SampleFullerError(SampleFullError):
    """Has the rule of its base."""


STATUSES: StatusTable = {
    SampleNotFoundError: StatusRule(
        grpc.StatusCode.NOT_FOUND,
        pb.ERROR_REASON_BLOCK_NOT_FOUND,
        lambda error: {"block_id": error.block_id},
    ),
    SampleFullError: StatusRule(grpc.StatusCode.RESOURCE_EXHAUSTED, pb.ERROR_REASON_STORE_FULL),
}


class SampleServicer:
    """Answers as the request asks it to."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.cancelled = asyncio.Event()
        self.closed_streams = 0
        self.draining = asyncio.Event()

    async def get_block(self, request: pb.GetBlockRequest, call: Call) -> pb.GetBlockResponse | bytes:
        self.calls.append(call)
        check_block_id("id", request.id)
        match request.id:
            case "missing":
                raise SampleNotFoundError(request.id)
            case "full":
                raise SampleFullerError("no room")
            case "bug":
                raise RuntimeError("the secret of the block")
            case "bytes":
                return pb.GetBlockResponse(state=pb.BlockState(last_error="as bytes")).SerializeToString()
            case "stray cancel":
                inner = asyncio.get_running_loop().create_future()
                inner.cancel()
                await inner
            case "wait":
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
        return pb.GetBlockResponse(state=pb.BlockState(last_error=request.id))

    async def watch_updates(
        self, request: pb.WatchUpdatesRequest, call: Call
    ) -> AsyncIterator[pb.WatchUpdatesResponse | bytes]:
        self.calls.append(call)
        try:
            yield pb.WatchUpdatesResponse(hello=pb.WatchHello(store_id=b"sample"))
            match request.watcher:
                case "full":
                    raise SampleFullError("no room")
                case "bug":
                    raise RuntimeError("the secret of the stream")
                case "bytes":
                    yield pb.WatchUpdatesResponse(bookmark=pb.WatchBookmark(revision=7)).SerializeToString()
                case "flood":
                    while True:
                        yield pb.WatchUpdatesResponse(bookmark=pb.WatchBookmark(token=bytes(100_000)))
                case "deaf":
                    await asyncio.get_running_loop().create_future()
                case "wait":
                    await self.draining.wait()
                    yield pb.WatchUpdatesResponse(draining=pb.WatchDraining())
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.closed_streams += 1

    async def drain(self) -> None:
        self.draining.set()

    async def _answer_nothing(self, request: object, call: Call) -> bytes:
        del request, call
        return b""

    record_events = reconcile = backfill = get_backfill = list_blocks = _answer_nothing
    list_examples = forget_example = get_status = _answer_nothing


async def serve(mode: str, config: LearnerConfig, stop: Stop) -> None:
    log.info("starting")
    match mode:
        case "start-error":
            raise StartError("the sample cannot start;\nstart it in another mode")
        case "bug":
            raise RuntimeError("a bug in the sample")
        case "never-starts":
            await asyncio.get_running_loop().create_future()
    servicer = SampleServicer()
    server = GrpcServer(
        services=[Service(SERVICE, servicer)], statuses=STATUSES, metrics=RpcMetrics(new_registry())
    )
    address = await server.start(config.listen)
    write_address_file(config.address_file, address)
    await server.set_serving(NAME, True)
    if mode == "ends-by-itself":
        return
    await stop.wait()
    if mode == "never-ends":
        log.info("not ending")
        time.sleep(60)  # noqa: ASYNC251 - a blocked event loop is what this mode is for
    await server.drain(servicer.drain)


def main() -> int:
    arguments = sys.argv[1:]
    mode = arguments.pop(0) if arguments and not arguments[0].startswith("-") else ""
    exit_on_signals()
    if mode == "slow-import":
        sys.stderr.write("importing\n")
        sys.stderr.flush()
        time.sleep(60)
    config = parse(arguments, {})
    configure_logs(config.log_level)
    exit_s_max = 0.5 if mode == "never-ends" else EXIT_S_MAX
    return run(lambda stop: serve(mode, config, stop), exit_s_max=exit_s_max)


if __name__ == "__main__":
    sys.exit(main())
