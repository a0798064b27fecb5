"""Real processes: signals, exit codes, what people read when a start fails; and `tests.processes` itself."""

import asyncio
import signal
import socket
from pathlib import Path

import grpc
import pytest
import structlog

from errata.serving.process import StartError, Stop, run, write_address_file
from errata.v1 import learner_pb2 as pb
from errata.v1 import learner_pb2_grpc
from scripts.processes import Process, ProcessEndedError, start
from tests.errata.serving.sample_service import NAME

SAMPLE = "tests.errata.serving.sample_service"


async def ask(process: Process) -> str:
    async with process.channel() as channel:
        stub: learner_pb2_grpc.LearnerServiceAsyncStub = learner_pb2_grpc.LearnerServiceStub(channel)
        answer = await stub.GetBlock(pb.GetBlockRequest(id="echo"), timeout=10)
        return answer.state.last_error


async def test_sigterm_ends_a_serving_process_with_0_and_its_watchers_with_goodbye() -> None:
    async with start(SAMPLE) as process:
        assert await ask(process) == "echo"
        async with process.channel() as channel:
            stub: learner_pb2_grpc.LearnerServiceAsyncStub = learner_pb2_grpc.LearnerServiceStub(channel)
            stream = stub.WatchUpdates(pb.WatchUpdatesRequest(watcher="wait"))
            await stream.read()
            ended = asyncio.ensure_future(process.terminate_async())
            goodbye = await stream.read()
            assert isinstance(goodbye, pb.WatchUpdatesResponse)
            assert goodbye.HasField("draining")
            assert await ended == 0
        assert '"asked to end"' in process.stderr


def test_sigint_ends_a_serving_process_with_0() -> None:
    with start(SAMPLE) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0


def test_a_signal_ends_a_process_that_still_starts_with_0() -> None:
    with start(SAMPLE, "never-starts", until="running") as process:
        process.wait_for_stderr('"starting"')
        assert process.terminate() == 0


def test_a_signal_ends_a_process_that_still_imports_with_0() -> None:
    with start(SAMPLE, "slow-import", until="running") as process:
        process.wait_for_stderr("importing")
        assert process.terminate() == 0


def test_a_process_that_hangs_is_gone_in_time_and_says_where_it_hung() -> None:
    with start(SAMPLE, "never-ends") as process:
        assert process.terminate(seconds=10) == 1
        assert "still here after the time to end" in process.stderr
        assert "sample_service.py" in process.stderr


def test_a_second_signal_ends_a_process_at_once() -> None:
    with start(SAMPLE) as process, process.sync_channel() as channel:
        stub = learner_pb2_grpc.LearnerServiceStub(channel)
        # A stream that does not end of itself holds up the drain.
        stream = stub.WatchUpdates(pb.WatchUpdatesRequest(watcher="deaf"))
        next(stream)
        process.send_signal(signal.SIGTERM)
        process.wait_for_stderr('"asked to end"')
        assert process.terminate() == 128 + signal.SIGTERM
        stream.cancel()


def test_a_process_that_comes_to_its_end_exits_with_0() -> None:
    with start(SAMPLE, "ends-by-itself", until="running") as process:
        assert process.wait() == 0


def test_a_failed_start_is_one_line_and_exit_code_1() -> None:
    with start(SAMPLE, "start-error", "--log-level", "error", until="running") as process:
        assert process.wait() == 1
        assert process.stderr == "error: the sample cannot start; start it in another mode\n"


def test_a_bug_is_a_traceback_and_exit_code_1() -> None:
    with start(SAMPLE, "bug", until="running") as process:
        assert process.wait() == 1
        assert "RuntimeError: a bug in the sample" in process.stderr
        assert "Traceback" in process.stderr


def test_a_second_process_at_a_port_exits_with_1_and_says_why() -> None:
    with start(SAMPLE) as first:
        with start(SAMPLE, "--listen", first.address, until="running") as second:
            assert second.wait() == 1
            line = second.stderr.splitlines()[-1]
            assert line.startswith(f"error: cannot listen at {first.address}: address already in use;")
            # Besides the sample's own "starting".
            assert len(second.stderr.splitlines()) == 2
        assert first.terminate() == 0


def test_a_wrong_flag_is_exit_code_2() -> None:
    with start(SAMPLE, "--listn", "x", until="running") as process:
        assert process.wait() == 2
        assert "--listen" in process.stderr


async def test_a_process_can_be_killed_and_started_again_where_it_was() -> None:
    async with start(SAMPLE) as process:
        process.kill()
        assert process.exit_code == -signal.SIGKILL
    async with start(SAMPLE, "--listen", process.address) as again:
        assert again.address == process.address
        assert await ask(again) == "echo"


async def test_a_frozen_process_does_not_answer_and_a_thawed_one_does() -> None:
    async with start(SAMPLE) as process, process.channel() as channel:
        stub: learner_pb2_grpc.LearnerServiceAsyncStub = learner_pb2_grpc.LearnerServiceStub(channel)
        await stub.GetBlock(pb.GetBlockRequest(id="echo"))
        process.freeze()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetBlock(pb.GetBlockRequest(id="echo"), timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        process.thaw()
        assert (await stub.GetBlock(pb.GetBlockRequest(id="echo"), timeout=10)).state.last_error == "echo"


async def test_a_process_whose_start_is_cancelled_ends() -> None:
    process = start(SAMPLE)
    entering = asyncio.ensure_future(process.__aenter__())
    await asyncio.sleep(0)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert process.exit_code == 0


def test_a_frozen_process_ends_with_its_block() -> None:
    with start(SAMPLE) as process:
        process.freeze()
    assert process.exit_code == 0


def test_a_process_that_ends_instead_of_serving_is_an_error_that_shows_its_log() -> None:
    with pytest.raises(
        ProcessEndedError, match=r"ended with 1 and did not listen(.|\n)*the sample cannot start"
    ):
        start(SAMPLE, "start-error").__enter__()


def test_a_process_that_does_not_come_to_serve_in_time_is_an_error_and_ends() -> None:
    process = start(SAMPLE, "never-starts", start_s_max=0.5)
    with pytest.raises(TimeoutError, match="did not listen in time"):
        process.__enter__()
    assert process.exit_code is not None


def test_a_service_that_does_not_serve_is_waited_for_in_vain() -> None:
    with start(SAMPLE) as process:
        process.wait_until_serving(NAME)
        with pytest.raises(TimeoutError, match="did not serve in time"):
            process.wait_until_serving("nobody", seconds=0.2)


def test_what_a_failing_test_left_behind_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    process = start(SAMPLE)
    with process:
        pid = process.pid
        process.__exit__(ValueError, ValueError("what failed"), None)
    assert f"(pid {pid}) wrote:" in capsys.readouterr().err


def test_a_start_error_within_a_task_group_is_still_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    async def fail(message: str) -> None:
        raise StartError(message)

    async def main(_: Stop) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail("the store is locked"))

    assert run(main) == 1
    assert capsys.readouterr().err == "error: the store is locked\n"


def test_a_bug_next_to_a_start_error_is_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(_: Stop) -> None:
        raise ExceptionGroup("both", [StartError("the store is locked"), ZeroDivisionError("a bug")])

    with structlog.testing.capture_logs() as logged:
        assert run(main) == 1
    assert [line["log_level"] for line in logged] == ["error"]
    assert not capsys.readouterr().err


def test_the_address_file_has_the_address_and_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "address"
    write_address_file(path, "127.0.0.1:1")
    write_address_file(path, "127.0.0.1:7411")
    write_address_file(None, "127.0.0.1:1")
    assert path.read_text() == "127.0.0.1:7411\n"
    assert list(tmp_path.iterdir()) == [path]


def test_an_address_file_that_cannot_be_written_is_a_start_error(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"--address-file .*no such file or directory"):
        write_address_file(tmp_path / "absent" / "address", "127.0.0.1:1")
    (tmp_path / "directory").mkdir()
    with pytest.raises(StartError, match="is a directory"):
        write_address_file(tmp_path / "directory", "127.0.0.1:1")
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


def test_a_free_port_is_not_taken_from_others() -> None:
    with start(SAMPLE) as process:
        host, port = process.address.rsplit(":", 1)
        with socket.socket() as probe, pytest.raises(OSError, match="Address already in use"):
            probe.bind((host, int(port)))
