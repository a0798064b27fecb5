"""Directories of logs that are followed, with whatever somebody writes into them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf import json_format

from errata.v1.block_pb2 import BlockEvent
from errata.v1.learner_pb2 import LogFileStatus
from tests.block_events import correction
from tests.e2e.services import Learner, learner_on, until

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Following:
    """A Learner that follows two directories."""

    learner: Learner
    logs: Path
    team_logs: Path

    def file(self, path: Path) -> LogFileStatus | None:
        files = {Path(file.path): file for file in self.learner.status().log_files}
        return files.get(path)

    def read(self, path: Path) -> LogFileStatus:
        """The status of a file once it was read to its end and learned from."""

        def is_read() -> bool:
            file = self.file(path)
            return file is not None and file.offset_bytes == path.stat().st_size

        until(is_read, f"{path.name} is read")
        until(lambda: self.learner.status().queued_block_count == 0, "all is learned from")
        file = self.file(path)
        assert file is not None
        return file


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Following]:
    folder = tmp_path_factory.mktemp("following")
    logs, team_logs = folder / "logs", folder / "team"
    # The second one appears later.
    logs.mkdir()
    flags = ("--log-dir", str(logs), "--log-dir", f"team-a={team_logs}")
    with learner_on(folder / "store", *flags) as learner:
        yield Following(learner, logs, team_logs)


def lines(*events: BlockEvent) -> bytes:
    return b"".join(json_format.MessageToJson(event, indent=None).encode() + b"\n" for event in events)


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def test_lines_that_are_not_json_are_counted_and_the_others_are_learned_from(following: Following) -> None:
    path = following.logs / "mixed.jsonl"
    proposal, run = correction("mixed", "list files", "ls")
    junk = (
        b"not json at all\n",
        b"{\n",
        b'{"half": "a li\n',
        b"[1, 2, 3]\n",
        b"\xff\xfe\x01\x80 binary\n",
        b"\x01" * 1_000 + b"\n",
        b"nul\n",
    )
    append(path, b"".join(junk[:4]) + lines(proposal) + b"".join(junk[4:]) + b"\n\r\n" + lines(run))
    file = following.read(path)
    assert file.malformed_line_count == len(junk)
    assert following.learner.block("mixed").example.answer[0].contents == "ls"


def test_lines_of_other_programs_are_passed_over_without_being_counted(following: Following) -> None:
    path = following.logs / "others.jsonl"
    append(path, b'{"level": "info", "msg": "hello"}\n{}\n{"message": "with a block", "blockId": "others"}\n')
    assert following.read(path).malformed_line_count == 0


def test_a_log_that_grows_is_learned_from_as_it_grows(following: Following) -> None:
    path = following.logs / "growing.jsonl"
    proposal, run = (lines(event) for event in correction("growing", "show the date", "date"))
    append(path, proposal + run[: len(run) // 2])
    until(lambda: (file := following.file(path)) is not None and file.offset_bytes == len(proposal), "half")
    append(path, run[len(run) // 2 :])
    following.read(path)
    assert following.learner.block("growing").example.answer[0].contents == "date"


def test_a_directory_that_was_given_a_namespace_gives_it_to_its_blocks(following: Following) -> None:
    following.team_logs.mkdir(exist_ok=True)
    path = following.team_logs / "team.jsonl"
    append(path, lines(*correction("team", "show the date", "date -u")))
    append(path, lines(*correction("stranger", "show the date", "date -u", namespace="team-b")))
    file = following.read(path)
    assert following.learner.block("team", "team-a").example.answer[0].contents == "date -u"
    # Events of another namespace than the directory's are not taken from it.
    assert file.malformed_line_count == 2
    assert following.learner.status().failed_block_count == 0


def test_the_process_has_lived_through_it(following: Following) -> None:
    learner = following.learner
    assert learner.process.exit_code is None
    assert learner.learn(*correction("alive", "say hello", "echo hello"))
