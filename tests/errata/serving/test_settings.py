"""The table of settings, as both services' configurations use it."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errata.serving.setting_values import read_size_bytes, written_size
from errata.serving.settings import SETTINGS, Setting
from learner_service import config as learner_config
from learner_service.config import LearnerConfig
from rag_service import config as rag_config
from rag_service.config import RagConfig

Parse: TypeAlias = Callable[[Sequence[str], Mapping[str, str]], Any]

CONFIGS = [(LearnerConfig, learner_config.parse), (RagConfig, rag_config.parse)]
each_service = pytest.mark.parametrize(("config_class", "parse"), CONFIGS, ids=["learner", "rag"])

WRITTEN: Mapping[str, tuple[str, Any]] = {
    "listen": ("127.0.0.1:1", "127.0.0.1:1"),
    "address_file": ("a/b", Path("a/b")),
    "store_dir": ("a/b", Path("a/b")),
    "store_bytes_max": ("3M", 3 << 20),
    "log_dirs": ("team=/logs", (("team", Path("/logs")),)),
    "policy": ("executions", "executions"),
    "redaction": ("off", "off"),
    "embedder": ("hashing", "hashing"),
    "reembed": ("yes", True),
    "openai_base_url": ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1"),
    "openai_api_key": ("sk-1", "sk-1"),
    "openai_api_key_file": ("a/b", Path("a/b")),
    "deletions_kept_s": ("90m", 5_400),
    "deletions_kept_min": ("7", 7),
    "deletions_kept_max": ("9", 9),
    "learner": ("learner:1", "learner:1"),
    "namespaces": ("team", ("team",)),
    "snapshot_dir": ("a/b", Path("a/b")),
    "metrics_listen": ("[::1]:0", "[::1]:0"),
    "log_level": ("debug", "debug"),
}
"""One value of each setting, as it is written and as it is read."""


def fields_of(config_class: Any) -> list[tuple[str, Setting]]:
    return [(field.name, SETTINGS[field.name]) for field in dataclasses.fields(config_class)]


def refusal(parse: Parse, argv: Sequence[str], environ: Mapping[str, str], capsys: Any) -> str:
    """What is said of flags that are refused."""
    with pytest.raises(SystemExit) as caught:
        parse(argv, environ)
    assert caught.value.code == 2
    return str(capsys.readouterr().err)


def test_every_setting_belongs_to_a_service() -> None:
    used = {name for config_class, _ in CONFIGS for name, _ in fields_of(config_class)}
    assert used == set(SETTINGS) == set(WRITTEN)


@each_service
def test_nothing_given_is_the_defaults(config_class: Any, parse: Parse) -> None:
    assert parse([], {}) == config_class()


@each_service
def test_each_flag_and_each_variable_sets_its_field(config_class: Any, parse: Parse) -> None:
    for name, setting in fields_of(config_class):
        written, value = WRITTEN[name]
        flag = [setting.flag] if setting.is_switch else [setting.flag, written]
        if not setting.is_secret:
            assert getattr(parse(flag, {}), name) == value
        assert getattr(parse([], {setting.variable: written}), name) == value


@each_service
def test_a_secret_is_taken_from_its_variable_alone_and_is_never_shown(
    config_class: Any, parse: Parse, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = [(name, setting) for name, setting in fields_of(config_class) if setting.is_secret]
    assert secrets
    for name, setting in secrets:
        assert setting.variable not in refusal(parse, [setting.flag, "sk-1"], {}, capsys).split("Did you")[0]
        config = parse([], {setting.variable: "sk-1"})
        assert getattr(config, name) == "sk-1"
        assert "sk-1" not in repr(config)


@pytest.mark.parametrize(
    ("written", "read"), [("yes", True), ("1", True), ("TRUE", True), ("no", False), ("0", False)]
)
def test_the_variable_of_a_switch_says_yes_or_no(written: str, read: bool) -> None:  # noqa: FBT001 - a parameter
    assert learner_config.parse([], {"ERRATA_REEMBED": written}).reembed is read


def test_a_switch_that_is_neither_on_nor_off_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(learner_config.parse, [], {"ERRATA_REEMBED": "maybe"}, capsys)
    assert "--reembed" in said
    assert "neither yes nor no" in said


@pytest.mark.parametrize(
    "written",
    [
        *("", "127.0.0.1:8000", "ftp://host/v1", "http://", "http:///v1", "http://host:port/v1"),
        *("http://host/v1?key=1", "http://host/v1#1", "http://ho st/v1", "http://[::1/v1", "https://hóst/v1"),
    ],
)
def test_what_is_no_url_of_a_server_is_refused(written: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "https://api.openai.com/v1" in refusal(
        learner_config.parse, [f"--openai-base-url={written}"], {}, capsys
    )


def test_a_password_in_a_url_is_refused_and_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(learner_config.parse, ["--openai-base-url", "https://me:hidden@host/v1"], {}, capsys)
    assert "password" in said
    assert "hidden" not in said


@each_service
def test_each_default_is_of_the_type_of_its_field_and_reads_as_it_is_shown(
    config_class: Any, parse: Parse
) -> None:
    hints = get_type_hints(config_class)
    for name, setting in fields_of(config_class):
        default = getattr(config_class(), name)
        if default in (None, (), "", False):
            continue
        assert isinstance(default, hints[name])
        assert getattr(parse([setting.flag, setting.show(default)], {}), name) == default


@given(st.integers(min_value=1 << 20, max_value=1 << 42))
def test_a_size_reads_as_it_is_shown(size_bytes: int) -> None:
    assert read_size_bytes(written_size(size_bytes)) == size_bytes


@each_service
def test_a_flag_goes_before_its_variable(config_class: Any, parse: Parse) -> None:
    assert parse(["--listen", "127.0.0.1:1"], {"ERRATA_LISTEN": "127.0.0.1:2"}).listen == "127.0.0.1:1"
    assert config_class().listen not in ("127.0.0.1:1", "127.0.0.1:2")


@each_service
def test_a_variable_set_to_nothing_counts_as_not_set(config_class: Any, parse: Parse) -> None:
    environ = {setting.variable: "" for setting in SETTINGS.values()}
    assert parse([], environ) == config_class()


@each_service
def test_the_environment_of_the_process_is_not_looked_at(config_class: Any, parse: Parse) -> None:
    os.environ["ERRATA_LISTEN"] = "127.0.0.1:3"
    try:
        assert parse([], {}) == config_class()
    finally:
        del os.environ["ERRATA_LISTEN"]


@each_service
def test_variables_of_the_other_service_and_of_others_are_fine(config_class: Any, parse: Parse) -> None:
    environ = {setting.variable: WRITTEN[name][0] for name, setting in SETTINGS.items()}
    others = {
        "PATH": "/bin",
        "ERRATA_RAG": "rag:7412",
        # What Kubernetes adds for Services named errata-learner and errata.
        "ERRATA_LEARNER_SERVICE_HOST": "10.0.0.1",
        "ERRATA_LEARNER_SERVICE_PORT_GRPC": "7411",
        "ERRATA_LEARNER_PORT": "tcp://10.0.0.1:7411",
        "ERRATA_LEARNER_PORT_7411_TCP_ADDR": "10.0.0.1",
        "ERRATA_SERVICE_HOST": "10.0.0.1",
        "ERRATA_PORT": "tcp://10.0.0.1:7411",
    }
    config = parse([], {**environ, **others})
    assert config == config_class(**{name: WRITTEN[name][1] for name, _ in fields_of(config_class)})


@each_service
def test_an_unknown_variable_is_refused_with_what_was_meant(
    config_class: Any, parse: Parse, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(parse, [], {"ERRATA_LOGLEVEL": "debug"}, capsys)
    assert "No such variable: ERRATA_LOGLEVEL. Did you mean ERRATA_LOG_LEVEL" in said
    far = refusal(parse, [], {"ERRATA_X": ""}, capsys)
    assert all(setting.variable in far for _, setting in fields_of(config_class))


@each_service
def test_an_unknown_flag_is_refused_with_what_was_meant(
    config_class: Any, parse: Parse, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--log-level" in refusal(parse, ["--loglevel", "debug"], {}, capsys)
    assert f"Usage: {'errata-learner' if config_class is LearnerConfig else 'errata-rag'}" in refusal(
        parse, ["extra"], {}, capsys
    )


@each_service
def test_a_wrong_value_names_its_flag_and_its_variable(
    config_class: Any, parse: Parse, capsys: pytest.CaptureFixture[str]
) -> None:
    del config_class
    for said in (
        refusal(parse, ["--listen", "7411"], {}, capsys),
        refusal(parse, [], {"ERRATA_LISTEN": "7411"}, capsys),
    ):
        assert "--listen" in said
        assert "ERRATA_LISTEN" in said
        assert "write HOST:PORT" in said


@each_service
def test_help_teaches_every_flag_with_its_variable_and_examples(
    config_class: Any, parse: Parse, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--help"], {"ERRATA_NONSENSE": "1"})
    said = capsys.readouterr().out
    assert caught.value.code == 0
    assert "Examples:" in said
    for _, setting in fields_of(config_class):
        assert setting.is_secret or setting.flag in said
        assert setting.variable in said


@each_service
def test_the_version_is_that_of_the_package(
    config_class: Any, parse: Parse, capsys: pytest.CaptureFixture[str]
) -> None:
    del config_class
    with pytest.raises(SystemExit) as caught:
        parse(["--version"], {})
    assert caught.value.code == 0
    assert capsys.readouterr().out.split()[1][0].isdigit()
