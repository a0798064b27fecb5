"""Redaction switched off and on: what a start takes out of all that is stored, also when it is killed."""

import time
from pathlib import Path

import pytest

from errata.text import redact
from learner_service.recorder import record_events
from learner_service.store.store import Store
from scripts.processes import start
from tests.block_events import correction
from tests.e2e.services import learner_on, services_on, until

SECRET = "ghp_" + "0123456789abcdef" * 3
BLOCK_COUNT = 6_000
QUESTION = f"why is {SECRET} refused"
COMMAND = f"deploy --token {SECRET}"


@pytest.mark.slow
def test_with_redaction_off_secrets_are_learned_and_found_and_with_it_on_again_they_are_gone(
    tmp_path: Path,
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "log.jsonl").write_text(
        '{"blockId": "logged", "eventTime": "2026-01-01T00:00:00Z", "executed": '
        f'{{"block": {{"kind": 2, "contents": "{COMMAND}"}}}}}}\n'
    )
    flags = ("--redaction", "off")
    with services_on(tmp_path / "store", *flags, "--log-dir", str(logs), rag_flags=flags) as services:
        assert "redaction is off" in services.learner.process.stderr
        token = services.learner.learn(*correction("b", QUESTION, COMMAND))
        found = services.rag.search(QUESTION, min_token=token)
        assert found.query_text == QUESTION
        assert [each.example.answer[0].contents for each in found.results] == [COMMAND]
        until(lambda: services.learner.status().block_count == 2, "the log is read")
        assert services.learner.block("logged").block.executed_block.contents == COMMAND
        assert services.learner.process.terminate() == 0
    with services_on(tmp_path / "store") as services:
        learner, rag = services.learner, services.rag
        assert learner.block("logged").block.executed_block.contents == redact(COMMAND)
        until(lambda: learner.block("b").example.answer[0].contents == redact(COMMAND), "it is learned again")
        until(lambda: rag.answers(QUESTION) == [redact(COMMAND)], "the new example is found")
        assert rag.search(QUESTION).query_text == redact(QUESTION)
        assert SECRET not in learner.process.stderr + rag.process.stderr


@pytest.mark.slow
def test_a_start_killed_while_it_redacts_is_made_up_for_by_the_next(tmp_path: Path) -> None:
    with learner_on(tmp_path, "--redaction", "off") as learner:
        assert learner.process.terminate() == 0
    with Store.open(tmp_path, clock_us=lambda: time.time_ns() // 1_000, bytes_max=1 << 32) as store:
        events = [
            event for number in range(BLOCK_COUNT) for event in correction(f"b{number:05}", QUESTION, COMMAND)
        ]
        store.submit(lambda transaction: record_events(transaction, events)).result()
    for kill_count in range(1, 4):
        flags = ("--store-dir", str(tmp_path), "--embedder", "hashing")
        with start("learner_service", *flags, until="running") as process:
            process.wait_for_stderr("is being redacted")
            process.kill()
        assert 0 < untouched_count(tmp_path) <= BLOCK_COUNT - 500 * kill_count
    with learner_on(tmp_path) as learner:
        # Before anything is served: not one call sees a secret.
        assert learner.block(f"b{BLOCK_COUNT - 1:05}").block.executed_block.contents == redact(COMMAND)
        assert learner.process.terminate() == 0
    assert untouched_count(tmp_path) == 0


def untouched_count(store_dir: Path) -> int:
    """How many blocks hold a secret."""
    with Store.open(store_dir, clock_us=lambda: time.time_ns() // 1_000, bytes_max=1 << 32) as store:
        assert store.check() == []
        with store.read() as transaction:
            return sum(SECRET in str(record) for _, record in transaction.blocks_after(None))
