"""What only the RAG service configures; tests/errata/serving/test_settings.py has the rest."""

import pytest

from rag_service.config import parse


def refusal(*argv: str, capsys: pytest.CaptureFixture[str], **environ: str) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(argv, environ)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_without_a_flag_every_namespace_is_followed_and_the_embedder_is_the_learners() -> None:
    config = parse([], {})
    assert config.namespaces == ()
    assert config.embedder is None


def test_namespaces_may_be_several_and_the_empty_name_is_the_default_one() -> None:
    argv = ["--namespace", "team-a", "--namespace", "", "--namespace", "team-a"]
    assert parse(argv, {"ERRATA_NAMESPACE": "elsewhere"}).namespaces == ("team-a", "")


@pytest.mark.parametrize(
    ("variable", "namespaces"),
    [
        ("", ()),
        ("team-a", ("team-a",)),
        ("team-a,team-b", ("team-a", "team-b")),
        (",a", ("", "a")),
        (",", ("",)),
    ],
)
def test_the_variable_separates_namespaces_by_commas(variable: str, namespaces: tuple[str, ...]) -> None:
    assert parse([], {"ERRATA_NAMESPACE": variable}).namespaces == namespaces


@pytest.mark.parametrize("written", ["Team", "a b", "a,b", "x" * 64])
def test_anything_else_is_no_namespace(written: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = " ".join(refusal("--namespace", written, capsys=capsys).split())
    assert "--namespace" in said
    assert "a namespace is up to 63" in said


@pytest.mark.parametrize("written", ["learner", "learner:0", "http://learner:7411", ""])
def test_a_learner_is_an_address_with_a_port(written: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--learner" in refusal("--learner", written, capsys=capsys)
