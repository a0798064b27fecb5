"""The client for asyncio: `AsyncErrata`."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self

import grpc
from google.protobuf.message import Message

from errata.client.channels import channel_options
from errata.client.client_state import ClientState
from errata.client.errors import CallError, ClosedError, OtherLoopError
from errata.client.following import WATCH_UPDATES, Change
from errata.client.operations import Operations, documented
from errata.client.steps import Method, Pause, Result, Step, Steps

Parameters = ParamSpec("Parameters")


def _method(
    operation: Callable[Concatenate[Operations, Parameters], Steps[Result]],
) -> "Callable[Concatenate[AsyncErrata, Parameters], Coroutine[Any, Any, Result]]":
    async def method(self: "AsyncErrata", /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return await self._carry_out(operation(self._operations, *args, **kwargs))

    return documented(method, operation)


class AsyncErrata(ClientState[grpc.aio.Channel]):
    """Records what people run, and finds it again; for asyncio.

    It connects when it is first used, and from then on belongs to that event loop and that process: elsewhere
    it raises OtherLoopError and ForkedError. Any number of tasks may call at once. A cancelled task cancels
    its call; what it was to record may be recorded all the same. Use it in an `async with` block, or await
    `close`.
    """

    _loop: asyncio.AbstractEventLoop | None = None
    """The one of the first use."""

    record = _method(Operations.record)
    record_correction = _method(Operations.record_correction)
    record_proposal = _method(Operations.record_proposal)
    record_run = _method(Operations.record_run)
    teach = _method(Operations.teach)
    learn = _method(Operations.learn)
    forget = _method(Operations.forget)
    search = _method(Operations.search)
    few_shot = _method(Operations.few_shot)
    get_block = _method(Operations.get_block)
    learner_status = _method(Operations.learner_status)
    index_status = _method(Operations.index_status)
    learner_serves = _method(Operations.learner_serves)
    rag_serves = _method(Operations.rag_serves)

    async def watch(
        self,
        token: bytes = b"",
        *,
        namespaces: Iterable[str] | None = None,
        watcher: str = "errata.client",
    ) -> AsyncGenerator[Change, None]:
        """Follows the changes of examples, for ever; see `Errata.watch`.

        Who ends before it does uses `contextlib.aclosing`, so that the stream ends at once.
        """
        following = self._operations.following(token=token, namespaces=namespaces, watcher=watcher)
        while True:
            failed = None
            try:
                call = self._callable_of(WATCH_UPDATES)(following.request(), metadata=self._settings.metadata)
                try:
                    async for response in call:
                        for change in following.changes(response):
                            yield change
                finally:
                    call.cancel()
            except grpc.RpcError as error:
                failed = self._connections.error_of(WATCH_UPDATES, error)
            except asyncio.CancelledError:
                self._raise_if_closed()
                raise
            await asyncio.sleep(following.pause_s(failed))

    async def close(self) -> None:
        """Closes the channels that this client opened; calls of other tasks raise ClosedError."""
        for channel in self._connections.closed():
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _carry_out(self, steps: Steps[Result]) -> Result:
        try:
            step = next(steps)
            while True:
                try:
                    answer = await self._take(step)
                except CallError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as ended:
            result: Result = ended.value
            return result

    async def _take(self, step: Step) -> Message | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        method = self._callable_of(step.method)
        try:
            response: Message = await method(
                step.request, timeout=step.timeout_s, metadata=self._settings.metadata
            )
        except grpc.RpcError as error:
            raise self._connections.error_of(step.method, error) from error
        except asyncio.CancelledError:
            self._raise_if_closed()
            raise
        return response

    def _callable_of(self, method: Method[Any, Any]) -> Any:
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise OtherLoopError
        return self._connections.callable_of(method)

    def _raise_if_closed(self) -> None:
        """A channel that is closed cancels its calls, though nobody cancelled the task that waits for one."""
        task = asyncio.current_task()
        if self._connections.until_closed.is_set() and task is not None and not task.cancelling():
            raise ClosedError from None

    @staticmethod
    def _open_channel(address: str) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(address, options=channel_options())
