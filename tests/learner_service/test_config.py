"""What only the Learner configures; tests/errata/serving/test_settings.py has the rest."""

from pathlib import Path
from typing import Any

import pytest

from learner_service.config import parse


def refusal(*argv: str, capsys: pytest.CaptureFixture[str], **environ: str) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(argv, environ)
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        ("1M", 1 << 20),
        ("1048576", 1 << 20),
        ("500m", 500 << 20),
        ("64G", 64 << 30),
        ("64GB", 64 << 30),
        ("64GiB", 64 << 30),
        ("2T", 2 << 40),
        ("2048K", 2 << 20),
    ],
)
def test_a_size_has_suffixes_for_powers_of_1024(written: str, size_bytes: int) -> None:
    assert parse(["--store-bytes-max", written], {}).store_bytes_max == size_bytes


@pytest.mark.parametrize("written", ["", "G", "1.5G", "-1G", "64 G", "64P", "1023K", "0", "٣G", "9" * 16])
def test_anything_else_is_no_size(written: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--store-bytes-max" in refusal(f"--store-bytes-max={written}", capsys=capsys)


@pytest.mark.parametrize(
    ("written", "namespace", "directory"),
    [
        ("/logs", "", "/logs"),
        ("logs", "", "logs"),
        ("team-a=/logs", "team-a", "/logs"),
        ("team-a=logs=2024", "team-a", "logs=2024"),
        ("./day=1/logs", "", "./day=1/logs"),
        ("=day=1/logs", "", "day=1/logs"),
    ],
)
def test_a_log_directory_may_have_a_namespace(written: str, namespace: str, directory: str) -> None:
    assert parse(["--log-dir", written], {}).log_dirs == ((namespace, Path(directory)),)


def test_log_directories_may_be_several_and_each_is_followed_once() -> None:
    argv = ["--log-dir", "/a", "--log-dir", "team=/b", "--log-dir", "/a"]
    expected = (("", Path("/a")), ("team", Path("/b")))
    assert parse(argv, {"ERRATA_LOG_DIR": "/elsewhere"}).log_dirs == expected
    assert parse([], {"ERRATA_LOG_DIR": "/a:team=/b:/a"}).log_dirs == expected


@pytest.mark.parametrize(
    ("written", "way_out"),
    [
        ("Team=/logs", "a namespace is up to 63"),
        ("team=", "a path is needed"),
        ("team=~/logs", "write the path out"),
        ("", "a path is needed"),
        ("a\0b", "no zero bytes"),
    ],
)
def test_anything_else_is_no_log_directory(
    written: str, way_out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = " ".join(refusal("--log-dir", written, capsys=capsys).split())
    assert "--log-dir" in said
    assert way_out in said


def test_an_empty_item_among_log_directories_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--log-dir" in refusal(capsys=capsys, ERRATA_LOG_DIR="/a:")


def test_a_log_directory_with_two_namespaces_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal("--log-dir", "a=/logs", "--log-dir", "b=/logs", capsys=capsys)
    assert "--log-dir" in said
    assert "name it once" in said


@pytest.mark.parametrize("written", ["minilm", "hashing", "openai:text-embedding-3-small"])
def test_an_embedder_is_a_name_with_perhaps_an_argument(written: str) -> None:
    assert parse(["--embedder", written], {}).embedder == written


@pytest.mark.parametrize("written", ["", "MiniLM", "mini lm", "openai:", ":x", "openai:a b"])
def test_anything_else_is_no_embedder(written: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--embedder" in refusal("--embedder", written, capsys=capsys)


@pytest.mark.parametrize(
    ("flag", "written"), [("--policy", "all"), ("--log-level", "loud"), ("--store-dir", ""), ("--listen", "")]
)
def test_a_wrong_value_names_its_flag(flag: str, written: str, capsys: Any) -> None:
    assert flag in refusal(flag, written, capsys=capsys)
