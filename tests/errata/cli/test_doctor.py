"""What `errata doctor` finds: by facts made up, and against services that run."""

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from errata.cli.checkup.facts import Disk, Facts
from errata.cli.checkup.findings import Finding, Severity
from errata.cli.checkup.learner_checks import check_learner
from errata.cli.checkup.machine_checks import check_machine
from errata.cli.checkup.rag_checks import check_rag
from errata.cli.checkup.variables import variable_problems
from errata.cli.exit_codes import CommandError, ExitCode
from errata.cli.shared_options import new_chosen
from errata.serving.addresses import parse_address
from errata.v1.example_pb2 import ExampleKey
from errata.v1.learner_pb2 import BlockState, GetStatusResponse, LogFileStatus, WatcherStatus
from errata.v1.rag_pb2 import (
    INDEX_STATE_LIVE,
    INDEX_STATE_RESYNCING,
    INDEX_STATE_STALE,
    INDEX_STATE_SYNCING,
    GetIndexStatusResponse,
    SearchResponse,
)
from tests.e2e.services import Services, free_address, learner_on, rag_of
from tests.errata.cli.running import Cli

NOW = datetime(2026, 11, 25, 20, 30, tzinfo=UTC)
GIB = 1024**3


def learner(**changed: Any) -> GetStatusResponse:
    status = GetStatusResponse(
        version="1.0",
        store_id=b"s",
        head_revision=9,
        embedder_fingerprint="minilm/x",
        store_bytes=GIB,
        store_bytes_max=64 * GIB,
        watchers=[WatcherStatus(watcher="rag")],
        **changed,
    )
    status.start_time.FromDatetime(NOW - timedelta(hours=1))
    return status


def rag(**changed: Any) -> GetIndexStatusResponse:
    fields: dict[str, Any] = {
        "version": "1.0",
        "store_id": b"s",
        "applied_revision": 9,
        "embedder_fingerprint": "minilm/x",
        "state": INDEX_STATE_LIVE,
        **changed,
    }
    return GetIndexStatusResponse(**fields)


HEALTHY = Facts(
    chosen=new_chosen(),
    now=NOW,
    version="1.0",
    learner=learner(),
    learner_serves=True,
    newest_block=BlockState(key=ExampleKey(id="b")),
    failed_block=None,
    rag=rag(),
    rag_serves=True,
    search=SearchResponse(),
    variable_problems=(),
    store_disk=Disk(directory=Path("store"), free_bytes=50 * GIB, total_bytes=100 * GIB),
    hook_problem=None,
)
AWAY = CommandError("nobody answers", ExitCode.UNREACHABLE)


def block_changed(moment: datetime) -> BlockState:
    state = BlockState(key=ExampleKey(id="b"))
    state.modified_time.FromDatetime(moment)
    return state


def queue_waiting(seconds: int) -> GetStatusResponse:
    status = learner(queued_block_count=3)
    status.oldest_queued_age.FromSeconds(seconds)
    return status


def stale(seconds: int) -> GetIndexStatusResponse:
    status = rag()
    status.staleness.FromSeconds(seconds)
    return status


def started(moment: datetime) -> GetStatusResponse:
    status = learner()
    status.start_time.FromDatetime(moment)
    return status


def found(**changed: Any) -> list[Finding]:
    """What is not as it should be, when these facts are others."""
    facts = dataclasses.replace(HEALTHY, **changed)
    findings = [*check_machine(facts), *check_learner(facts), *check_rag(facts)]
    return [finding for finding in findings if finding.severity is not Severity.OK]


def test_where_all_is_well_nothing_is_found_and_everything_is_told() -> None:
    assert found() == []
    told = [*check_machine(HEALTHY), *check_learner(HEALTHY), *check_rag(HEALTHY)]
    assert len({finding.check for finding in told}) == len(told) >= 13


@pytest.mark.parametrize(
    ("changed", "severity", "check", "says"),
    [
        ({"learner": AWAY}, Severity.FAILURE, "learner", "nobody answers"),
        ({"learner_serves": False}, Severity.FAILURE, "learner", "does not serve"),
        ({"learner_serves": AWAY}, Severity.WARNING, "learner", "not to a health check"),
        ({"version": "2.0", "rag": rag(version="2.0")}, Severity.WARNING, "learner-version", "version 1.0"),
        ({"version": "2.0", "learner": learner(), "rag": AWAY}, Severity.WARNING, "learner-version", "2.0"),
        ({"learner": queue_waiting(600)}, Severity.WARNING, "queue", "the oldest for 10 min"),
        ({"learner": learner(failed_block_count=2)}, Severity.WARNING, "failed-blocks", "2 blocks failed"),
        (
            {
                "learner": learner(failed_block_count=1),
                "failed_block": BlockState(key=ExampleKey(id="b7"), last_error="too long"),
            },
            Severity.WARNING,
            "failed-blocks",
            "such as b7: too long",
        ),
        (
            {"store_disk": Disk(directory=Path("store"), free_bytes=GIB // 2, total_bytes=GIB)},
            Severity.WARNING,
            "disk",
            "512 MiB free",
        ),
        (
            {"learner": learner(log_files=[LogFileStatus(path="a.log", malformed_line_count=4)])},
            Severity.WARNING,
            "logs",
            "a.log: 4 lines",
        ),
        (
            {"newest_block": block_changed(NOW + timedelta(hours=3))},
            Severity.WARNING,
            "clock",
            "3 h in the future",
        ),
        (
            {"learner": started(NOW + timedelta(minutes=4))},
            Severity.WARNING,
            "clock",
            "started 4 min in the future",
        ),
        ({"rag": AWAY}, Severity.FAILURE, "rag", "nobody answers"),
        ({"rag_serves": False}, Severity.FAILURE, "rag", "does not serve yet"),
        ({"rag": rag(state=INDEX_STATE_SYNCING)}, Severity.FAILURE, "index", "first state"),
        ({"rag": rag(state=INDEX_STATE_RESYNCING)}, Severity.WARNING, "index", "received anew"),
        ({"rag": rag(state=INDEX_STATE_STALE)}, Severity.WARNING, "index", "does not hear"),
        ({"rag": stale(90)}, Severity.WARNING, "index", "90 s ago"),
        ({"rag": rag(quarantined_example_count=5)}, Severity.WARNING, "unusable-examples", "5 examples"),
        ({"search": AWAY}, Severity.FAILURE, "search", "nobody answers"),
        ({"rag": rag(store_id=b"t")}, Severity.FAILURE, "pair", "another Learner"),
        ({"rag": rag(embedder_fingerprint="hashing/y")}, Severity.FAILURE, "embedder", "hashing/y"),
        ({"rag": rag(applied_revision=7)}, Severity.WARNING, "lag", "2 revisions behind"),
        (
            {"variable_problems": ("No such variable: X.",)},
            Severity.FAILURE,
            "variables",
            "No such variable: X.",
        ),
        (
            {"hook_problem": ("no room", NOW.timestamp() - 60)},
            Severity.WARNING,
            "shell-hook",
            "60 s ago: no room",
        ),
    ],
)
def test_what_is_wrong_is_found_with_its_severity_and_the_way_out(
    changed: dict[str, Any], severity: Severity, check: str, says: str
) -> None:
    [finding] = [finding for finding in found(**changed) if finding.check == check]
    assert finding.severity is severity
    assert says in finding.message
    assert finding.advice


def test_a_store_warns_before_it_is_full() -> None:
    def severity(share: float) -> list[Severity]:
        status = learner()
        status.store_bytes = round(share * status.store_bytes_max)
        return [finding.severity for finding in found(learner=status)]

    assert [severity(share) for share in (0.79, 0.81, 0.96)] == [[], [Severity.WARNING], [Severity.FAILURE]]


def test_watchers_that_lag_and_none_at_all_are_told() -> None:
    status = learner()
    status.watchers[0].lag_revision_count = 5_000
    assert [finding.check for finding in found(learner=status)] == ["watchers"]
    del status.watchers[:]
    [nobody] = found(learner=status)
    assert "nobody follows" in nobody.message


def test_calls_that_leave_the_machine_unencrypted_are_told() -> None:
    chosen = new_chosen()
    chosen.learner = parse_address("learner.example:7411")
    [finding] = found(chosen=chosen)
    assert (finding.check, finding.severity) == ("encryption", Severity.WARNING)
    assert "learner.example:7411" in finding.message


def test_variables_that_a_service_would_refuse_are_told() -> None:
    good = {"ERRATA_LISTEN": "127.0.0.1:0", "ERRATA_LOG_DIR": "a:b=c", "ERRATA_NAMESPACE": ",x", "HOME": "/"}
    assert list(variable_problems({**good, "ERRATA_POLICY": "", "ERRATA_REEMBED": "yes"})) == []
    bad = {
        "ERRATA_POLICY": "all",
        "ERRATA_STORE_BYTES_MAX": "lots",
        "ERRATA_LOG_DIR": "a=x:b=x",
        "ERRATA_X": "1",
    }
    problems = list(variable_problems({**good, **bad}))
    named = [problem.partition(": ")[0] for problem in problems]
    assert named == ["No such variable", "ERRATA_STORE_BYTES_MAX", "ERRATA_LOG_DIR", "ERRATA_POLICY"]


def test_of_a_service_that_is_away_nothing_else_is_told() -> None:
    assert [finding.check for finding in found(learner=AWAY, learner_serves=False)] == ["learner"]
    assert [finding.check for finding in found(rag=AWAY, rag_serves=False, search=AWAY)] == ["rag"]


@pytest.mark.slow
def test_services_that_work_pass(cli: Cli) -> None:
    cli.out("teach", "a question", "true")
    assert cli.out("doctor").splitlines()[-1] == "Everything works."
    findings = cli.json("doctor")["findings"]
    assert {finding["severity"] for finding in findings} == {"ok"}


@pytest.mark.slow
def test_what_does_not_work_ends_with_a_code(services: Services) -> None:
    cli = Cli(
        {
            "ERRATA_LEARNER": services.learner.process.address,
            "ERRATA_RAG": free_address(),
            "ERRATA_LERNER": "x",
        }
    )
    result = cli("doctor")
    assert result.exit_code == ExitCode.NOT_DONE
    assert "Did you mean ERRATA_LEARNER?" in result.stdout
    assert "FAIL  no RAG service answers at" in result.stdout
    assert "2 failures, 0 warnings" in result.stdout


@pytest.fixture
def other_rag(tmp_path: Path) -> Iterator[str]:
    """Address of a RAG service that follows another Learner."""
    with learner_on(tmp_path / "other") as other, rag_of(other.process.address) as following:
        yield following.process.address


@pytest.mark.slow
def test_a_rag_service_of_another_learner_is_found_out(cli: Cli, other_rag: str) -> None:
    result = cli("doctor", "--rag", other_rag)
    assert result.exit_code == ExitCode.NOT_DONE
    assert "follows another Learner" in result.stdout
