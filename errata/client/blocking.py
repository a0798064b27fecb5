"""The client for synchronous code: `Errata`."""

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self

import grpc
from google.protobuf.message import Message

from errata.client.channels import channel_options
from errata.client.client_state import ClientState
from errata.client.errors import CallError, ClosedError
from errata.client.following import WATCH_UPDATES, Change
from errata.client.operations import Operations, documented
from errata.client.steps import Method, Pause, Result, Step, Steps

Parameters = ParamSpec("Parameters")


def _method(
    operation: Callable[Concatenate[Operations, Parameters], Steps[Result]],
) -> "Callable[Concatenate[Errata, Parameters], Result]":
    def method(self: "Errata", /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return self._carry_out(operation(self._operations, *args, **kwargs))

    return documented(method, operation)


class Errata(ClientState[grpc.Channel]):
    """Records what people run, and finds it again; synchronous.

    Safe to use from many threads at once: they share its channels, and what one thread recorded the searches
    of all of them see. It connects when it is first used; from then on it belongs to its process, and raises
    ForkedError in a copy made by a fork. Use it in a `with` block, or call `close`.
    """

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

    def watch(
        self,
        token: bytes = b"",
        *,
        namespaces: Iterable[str] | None = None,
        watcher: str = "errata.client",
    ) -> Iterator[Change]:
        """Follows the changes of examples, for ever: those of before, then those of now.

        A stream that ends is opened again where it ended, with a pause that grows while nothing comes.

        Args:
            token: of the last change that was applied; empty begins from nothing.
            namespaces: whose examples are followed; None is that of the settings, an empty list all. A token
                is good only for the namespaces that it was given for; else a StartOver comes.
            watcher: names this watcher in the metrics and logs of the Learner.

        Raises:
            CallError: the Learner refuses.
            ClosedError: the client was closed.
        """
        following = self._operations.following(token=token, namespaces=namespaces, watcher=watcher)
        while True:
            failed = None
            try:
                call = self._begun(WATCH_UPDATES, following.request(), timeout_s=None)
                try:
                    for response in call:
                        yield from following.changes(response)
                finally:
                    call.cancel()
            except grpc.RpcError as error:
                failed = self._connections.error_of(WATCH_UPDATES, error)
            self._connections.until_closed.wait(following.pause_s(failed))

    def close(self) -> None:
        """Closes the channels that this client opened; calls in other threads raise ClosedError."""
        for channel in self._connections.closed():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _carry_out(self, steps: Steps[Result]) -> Result:
        try:
            step = next(steps)
            while True:
                try:
                    answer = self._take(step)
                except CallError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as ended:
            result: Result = ended.value
            return result

    def _take(self, step: Step) -> Message | None:
        if isinstance(step, Pause):
            # A close ends the pause too.
            self._connections.until_closed.wait(step.seconds)
            return None
        try:
            response: Message = self._begun(step.method, step.request, timeout_s=step.timeout_s)
        except grpc.RpcError as error:
            raise self._connections.error_of(step.method, error) from error
        return response

    def _begun(self, method: Method[Any, Any], request: Message, *, timeout_s: float | None) -> Any:
        call = self._connections.callable_of(method)
        try:
            return call(request, timeout=timeout_s, metadata=self._settings.metadata)
        except ValueError:
            # gRPC says so of a channel that another thread closed a moment ago.
            if self._connections.until_closed.is_set():
                raise ClosedError from None
            raise

    @staticmethod
    def _open_channel(address: str) -> grpc.Channel:
        return grpc.insecure_channel(address, options=channel_options())
