"""The operations that write: what happened to blocks, and what is to be learned or forgotten."""

from collections.abc import Iterable, Mapping
from typing import Final

from errata.client.answers import Learned, Recorded
from errata.client.blocks import Answer, Question
from errata.client.caller import Caller
from errata.client.events import new_block_id
from errata.client.events import proposed as proposed_event
from errata.client.events import ran as ran_event
from errata.client.events import taught as taught_event
from errata.client.search_requests import duration
from errata.client.settings import check_seconds
from errata.client.steps import Method, Service, Steps
from errata.v1 import learner_pb2
from errata.v1.block_pb2 import BlockEvent
from errata.v1.learner_pb2_grpc import LearnerServiceStub

RECORD_EVENTS: Final[Method[learner_pb2.RecordEventsRequest, learner_pb2.RecordEventsResponse]] = Method(
    Service.LEARNER, LearnerServiceStub, "RecordEvents", learner_pb2.RecordEventsResponse
)
RECONCILE: Final[Method[learner_pb2.ReconcileRequest, learner_pb2.ReconcileResponse]] = Method(
    Service.LEARNER, LearnerServiceStub, "Reconcile", learner_pb2.ReconcileResponse
)
FORGET: Final[Method[learner_pb2.ForgetExampleRequest, learner_pb2.ForgetExampleResponse]] = Method(
    Service.LEARNER, LearnerServiceStub, "ForgetExample", learner_pb2.ForgetExampleResponse
)


class Recording(Caller):
    """Records, learns and forgets; remembers the tokens of all that, for the searches that come after."""

    def record(
        self,
        events: BlockEvent | Iterable[BlockEvent],
        *,
        learn_wait_s: float | None = None,
        deadline_s: float | None = None,
    ) -> Steps[Recorded]:
        """Records events and waits until they are learned from; searches of this client then see it.

        Args:
            events: at most 1,000, recorded all or none, as they are: their namespace is not that of the
                settings. Recording them again changes nothing.
            learn_wait_s: the longest wait until they are learned from, within the deadline; 0 does not wait.
            deadline_s: of the whole call.
        """
        sent = [events] if isinstance(events, BlockEvent) else list(events)
        wait_s = self._settings.learn_wait_s if learn_wait_s is None else learn_wait_s
        check_seconds("learn_wait_s", wait_s)
        request = learner_pb2.RecordEventsRequest(events=sent, learn_wait=duration(wait_s))
        response = yield from self._called(RECORD_EVENTS, request, deadline_s)
        self._own_writes.remember(response.token)
        return Recorded.of(response, (event.block_id for event in sent))

    def record_correction(
        self,
        *,
        question: Question,
        proposed: Answer,
        ran: Answer,
        exit_code: int | None = None,
        block_id: str | None = None,
        language: str = "",
        labels: Mapping[str, str] | None = None,
        namespace: str | None = None,
        learn_wait_s: float | None = None,
        deadline_s: float | None = None,
    ) -> Steps[Recorded]:
        """Records that an assistant proposed one thing and a person ran another.

        Args:
            question: what was asked: text, or the document that was to be continued.
            proposed: what the assistant proposed.
            ran: what the person ran.
            exit_code: of that run; nothing is learned from a run that failed.
            block_id: names the block; None makes a new ID, so a repeated call records another block.
            language: of both, such as `bash`.
            labels: for filtering.
            namespace: whose block it is.
            learn_wait_s: see `record`.
            deadline_s: of the whole call.
        """
        named = new_block_id() if block_id is None else block_id
        where = self._namespace(namespace)
        events = (
            proposed_event(question, proposed, language=language, block_id=named, namespace=where),
            ran_event(
                ran, exit_code=exit_code, language=language, block_id=named, namespace=where, labels=labels
            ),
        )
        return (yield from self.record(events, learn_wait_s=learn_wait_s, deadline_s=deadline_s))

    def record_proposal(
        self,
        question: Question,
        answer: Answer,
        *,
        block_id: str | None = None,
        language: str = "",
        example_ids: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        namespace: str | None = None,
        deadline_s: float | None = None,
    ) -> Steps[Recorded]:
        """Records what an assistant proposed. Nothing is learned until it runs, so nothing is waited for.

        Args:
            question: what was asked.
            answer: what was proposed.
            block_id: names the block; None makes a new ID, which the result has for `record_run`.
            language: such as `bash`.
            example_ids: the examples that the assistant was shown.
            labels: for filtering.
            namespace: whose block it is.
            deadline_s: of the whole call.
        """
        event = proposed_event(
            question,
            answer,
            language=language,
            block_id=block_id,
            namespace=self._namespace(namespace),
            labels=labels,
            example_ids=example_ids,
        )
        return (yield from self.record(event, learn_wait_s=0.0, deadline_s=deadline_s))

    def record_run(
        self,
        answer: Answer,
        *,
        block_id: str | None = None,
        question: Question | None = None,
        exit_code: int | None = None,
        succeeded: bool | None = None,
        language: str = "",
        labels: Mapping[str, str] | None = None,
        namespace: str | None = None,
        learn_wait_s: float | None = None,
        deadline_s: float | None = None,
    ) -> Steps[Recorded]:
        """Records that a person ran a block.

        Args:
            answer: what ran.
            block_id: that of the proposal; None makes a new ID, for what no assistant proposed.
            question: what stood before it when it ran; None where the question of the proposal still holds.
            exit_code: of the run.
            succeeded: how it ended where no exit code says so.
            language: such as `bash`.
            labels: for filtering.
            namespace: whose block it is.
            learn_wait_s: see `record`.
            deadline_s: of the whole call.
        """
        event = ran_event(
            answer,
            question=question,
            exit_code=exit_code,
            succeeded=succeeded,
            language=language,
            block_id=block_id,
            namespace=self._namespace(namespace),
            labels=labels,
        )
        return (yield from self.record(event, learn_wait_s=learn_wait_s, deadline_s=deadline_s))

    def teach(
        self,
        question: Question,
        answer: Answer | Iterable[Answer],
        *,
        block_id: str | None = None,
        language: str = "",
        labels: Mapping[str, str] | None = None,
        namespace: str | None = None,
        learn_wait_s: float | None = None,
        deadline_s: float | None = None,
    ) -> Steps[Recorded]:
        """Records a question and its answer that a person states; every policy learns it.

        Args:
            question: not blank.
            answer: one block or several.
            block_id: names the block; None makes a new ID.
            language: of answers that are text, such as `bash`.
            labels: for filtering.
            namespace: whose block it is.
            learn_wait_s: see `record`.
            deadline_s: of the whole call.
        """
        event = taught_event(
            question,
            answer,
            language=language,
            block_id=block_id,
            namespace=self._namespace(namespace),
            labels=labels,
        )
        return (yield from self.record(event, learn_wait_s=learn_wait_s, deadline_s=deadline_s))

    def learn(
        self, block_id: str, *, namespace: str | None = None, deadline_s: float | None = None
    ) -> Steps[Learned]:
        """Learns from one block now, also from one that had failed for good; says what came of it.

        Raises:
            NotFoundError: no event names the block.
        """
        request = learner_pb2.ReconcileRequest(id=block_id, namespace=self._namespace(namespace))
        response = yield from self._called(RECONCILE, request, deadline_s)
        self._own_writes.remember(response.token)
        return Learned.of(response)

    def forget(
        self, block_id: str, *, namespace: str | None = None, deadline_s: float | None = None
    ) -> Steps[None]:
        """Deletes an example and erases its block, for good: nothing is learned from that block again."""
        request = learner_pb2.ForgetExampleRequest(id=block_id, namespace=self._namespace(namespace))
        response = yield from self._called(FORGET, request, deadline_s)
        self._own_writes.remember(response.token)
