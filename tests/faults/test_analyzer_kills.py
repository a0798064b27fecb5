"""A Learner that reads a long log is killed on the way, again and again: every block right, none doubled."""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from errata.v1.learner_pb2 import (
    GetBlockRequest,
    GetStatusRequest,
    GetStatusResponse,
    ListExamplesRequest,
)
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from tests.faults.restarting import Restarting
from tests.learner_service.analyzer.lines import foyle, own, request, response, run_cell, taught

if TYPE_CHECKING:
    from errata.v1.learner_pb2_grpc import LearnerServiceAsyncStub

MIB = 1 << 20

REPEATED_CPU_S_MAX = 2.0
"""What a life may spend on reading again what the life before it had read."""
PROGRESS_S_MAX = 120.0
BEGUN_S = 1_700_000_000
TASKS_FOR_ONE_BROKEN_LINE = 50


@dataclass(frozen=True)
class Log:
    """A log of a server, and what it says."""

    path: Path
    size_bytes: int
    task_count: int
    broken_line_count: int


def asked(task: int) -> str:
    return f"rotate the certificate of host {task}"


def ran(task: int) -> str:
    return f"certctl rotate --host h{task}"


def trace_id_of(task: int) -> str:
    # One of zeros would be none.
    return f"{task + 1:032x}"


def lines_of_tasks(chance: random.Random, noise_bytes: int) -> Iterator[bytes]:
    """Tasks without end: a question, an answer, a run of something else; between them, what says nothing.

    The lines of two tasks that follow each other stand between each other.
    """
    filler = foyle("github.com/jlewi/foyle/app/pkg/server.(*Server).Run", trace_id="", text="x" * 400)
    task = 0
    while True:
        of_two = []
        for number in (task, task + 1):
            named = {"trace_id": trace_id_of(number), "time": BEGUN_S + number}
            of_two.append(
                [
                    request(asked(number), **named),
                    response(f"block-{number}", contents="openssl req -new", **named),
                    run_cell(
                        f"block-{number}",
                        ran(number),
                        before=asked(number),
                        time=BEGUN_S + number,
                        trace_id="",
                    ),
                ]
            )
        while any(of_two):
            yield chance.choice([lines for lines in of_two if lines]).pop(0)
            yield filler * (noise_bytes // len(filler) // 6)
        task += 2


def write_log(path: Path, size_bytes: int, noise_bytes: int) -> Log:
    """Writes a log of about a size, with as much between the lines of two tasks as is said."""
    task_count = broken_count = 0
    chance = random.Random(7)
    tasks = lines_of_tasks(chance, noise_bytes)
    with path.open("wb") as file:
        while file.tell() < size_bytes:
            for _ in range(12):
                file.write(next(tasks))
            task_count += 2
            if task_count % TASKS_FOR_ONE_BROKEN_LINE == 0:
                file.write(b"panic: runtime error\n")
                broken_count += 1
        # Without a newline, as real logs end.
        file.write(own(taught("block-last", "the last of all"))[:-1])
    return Log(path, path.stat().st_size, task_count, broken_count)


def cpu_s(pid: int) -> float:
    """What a process has used of a processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Run:
    """One log, and the lives of the Learner that reads it."""

    def __init__(self, learner: Restarting, log: Log) -> None:
        self.learner = learner
        self.log = log
        self.repeated_cpu_s: list[float] = []

    async def status(self) -> GetStatusResponse:
        async with self.learner.process.channel() as channel:
            return await self.stub(channel).GetStatus(GetStatusRequest())

    def stub(self, channel: grpc.aio.Channel) -> "LearnerServiceAsyncStub":
        return LearnerServiceStub(channel)

    async def offset(self) -> int:
        files = (await self.status()).log_files
        return files[0].offset_bytes if files else 0

    async def offset_beyond(self, offset: int) -> int:
        """Returns once more than so much was read, and is durable."""
        async with asyncio.timeout(PROGRESS_S_MAX):
            # A status is all that tells.
            while (reached := await self.offset()) <= offset and reached < self.log.size_bytes:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return reached

    async def kill_and_start_again(self) -> None:
        reached = await self.offset()
        await self.learner.kill()
        await self.learner.start()
        begin_s = cpu_s(self.learner.process.pid)
        assert await self.offset() >= reached, "what was durable is gone"
        await self.offset_beyond(reached)
        self.repeated_cpu_s.append(cpu_s(self.learner.process.pid) - begin_s)

    async def finish(self) -> GetStatusResponse:
        """Returns once everything is read and learned from."""
        await self.offset_beyond(self.log.size_bytes - 1)
        deadline_s = time.monotonic() + PROGRESS_S_MAX
        while (status := await self.status()).queued_block_count:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.05)
        return status

    async def check_every_block(self) -> None:
        async with self.learner.process.channel() as channel:
            stub = self.stub(channel)
            for start in range(0, self.log.task_count, 100):
                tasks = range(start, min(start + 100, self.log.task_count))
                answers = await asyncio.gather(
                    *(stub.GetBlock(GetBlockRequest(id=f"block-{task}")) for task in tasks)
                )
                for task, answer in zip(tasks, answers, strict=True):
                    block = answer.block
                    assert block.generated_block.contents == "openssl req -new"
                    assert block.executed_block.contents == ran(task)
                    assert [each.contents for each in block.doc.blocks] == [asked(task)]
                    assert block.gen_trace_id == trace_id_of(task)
                    assert answer.example.query_text == asked(task)
                    assert [each.contents for each in answer.example.answer] == [ran(task)]

    async def example_ids(self) -> list[str]:
        ids: list[str] = []
        async with self.learner.process.channel() as channel:
            page_token = None
            while page_token != "":
                page = await self.stub(channel).ListExamples(
                    ListExamplesRequest(page_size=1_000, page_token=page_token or "")
                )
                ids += [example.id for example in page.examples]
                page_token = page.next_page_token
        return ids


async def survive(folder: Path, *, size_bytes: int, noise_bytes: int, kill_count: int, seed: int) -> Run:
    """Reads a log through kills at places spread over it, then compares all that it says."""
    chance = random.Random(seed)
    logs = folder / "logs"
    logs.mkdir()
    log = write_log(logs / "foyle.json", size_bytes, noise_bytes)
    flags = ("--store-dir", str(folder / "store"), "--log-dir", str(logs), "--embedder", "hashing")
    async with Restarting("learner_service", *flags) as learner:
        run = Run(learner, log)
        for number in range(kill_count):
            await run.offset_beyond(number * log.size_bytes // (kill_count + 1))
            await asyncio.sleep(chance.uniform(0, 0.2))
            await run.kill_and_start_again()
        status = await run.finish()
        [file] = status.log_files
        assert (file.offset_bytes, file.size_bytes) == (log.size_bytes, log.size_bytes)
        assert file.malformed_line_count == log.broken_line_count
        assert status.block_count == log.task_count + 1
        assert status.example_count == log.task_count + 1
        # Each was learned once: a revision that came of repeated work would be one more.
        assert status.head_revision == status.example_count
        ids = await run.example_ids()
        assert len(ids) == len(set(ids)) == log.task_count + 1
        await run.check_every_block()
    assert learner.errors == []
    return run


@pytest.mark.slow
async def test_a_log_is_read_through_a_few_kills(tmp_path: Path) -> None:
    run = await survive(tmp_path, size_bytes=24 * MIB, noise_bytes=20_000, kill_count=3, seed=1)
    assert run.learner.kill_count == 3
    assert max(run.repeated_cpu_s) < REPEATED_CPU_S_MAX


@pytest.mark.soak
async def test_a_log_of_a_gigabyte_is_read_through_ten_kills(tmp_path: Path) -> None:
    run = await survive(tmp_path, size_bytes=1_024 * MIB, noise_bytes=80_000, kill_count=10, seed=2)
    assert run.learner.kill_count == 10
    assert max(run.repeated_cpu_s) < REPEATED_CPU_S_MAX
