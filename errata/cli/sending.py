"""Sending events of one block to the Learner and telling what was learned from it."""

import base64
from collections.abc import Sequence
from typing import Any

from errata.cli.connection import learner_of
from errata.cli.exit_codes import ExitCode
from errata.cli.json_text import to_json
from errata.cli.learned import verdict
from errata.cli.printing import print_json, print_text
from errata.cli.shared_options import Chosen
from errata.v1.block_pb2 import BlockEvent
from errata.v1.learner_pb2 import GetBlockRequest, RecordEventsRequest


def send_and_tell(chosen: Chosen, events: Sequence[BlockEvent], wait_s: float) -> int:
    """Records events of one block, waits until it was learned from, and prints what became of it.

    Args:
        chosen: where to.
        events: of one block.
        wait_s: the longest wait for the learning.
    """
    block_id, namespace = events[0].block_id, events[0].namespace
    request = RecordEventsRequest(events=events)
    request.learn_wait.FromMicroseconds(round(wait_s * 1_000_000))
    with learner_of(chosen) as learner:
        recorded = learner.RecordEvents(request, timeout=chosen.timeout_s + wait_s)
        block = learner.GetBlock(GetBlockRequest(id=block_id, namespace=namespace), timeout=chosen.timeout_s)
    if chosen.as_json:
        document: dict[str, Any] = {
            "blockId": block_id,
            "namespace": namespace,
            "changedBlockCount": recorded.changed_block_count,
            "pendingBlockCount": recorded.pending_block_count,
            "token": base64.b64encode(recorded.token).decode(),
            "state": to_json(block.state),
        }
        print_json(document)
    else:
        changed = "Recorded" if recorded.changed_block_count else "Known already"
        print_text(f"{changed}: block {block_id}")
        print_text(verdict(block.state))
    return ExitCode.DONE
