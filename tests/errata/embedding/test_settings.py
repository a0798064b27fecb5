"""Where a key comes from, and where it never goes."""

from pathlib import Path

import pytest

from errata.embedding import EmbedderSettings, EmbedderUnavailableError, build_embedder
from tests.errata.embedding.embeddings_server import EmbeddingsServer

KEY = "sk-secret-0123456789"


def test_a_key_is_in_no_spec_no_fingerprint_and_no_representation() -> None:
    settings = EmbedderSettings(openai_api_key=KEY)
    embedder = build_embedder("openai:m:8", settings)
    assert KEY not in embedder.spec + embedder.fingerprint + repr(settings) + repr(embedder)
    embedder.close()


def test_without_a_key_none_is_sent() -> None:
    with EmbeddingsServer() as server:
        build_embedder("openai:m", EmbedderSettings(openai_base_url=server.base_url)).close()
        assert "Authorization" not in server.received[0].headers


def test_a_key_in_a_file_may_change_while_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    with EmbeddingsServer() as server:
        settings = EmbedderSettings(
            openai_base_url=server.base_url, openai_api_key="other", openai_api_key_file=path
        )
        embedder = build_embedder("openai:m", settings)
        path.write_text("sk-next")
        embedder.queries(["a"])
        embedder.close()
        sent = [request.headers["Authorization"] for request in server.received]
    assert sent == [f"Bearer {KEY}", "Bearer sk-next"]


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"two words", b"two\nlines", b"\xff\xfe", "schlüssel".encode()]
)
def test_a_file_without_a_key_is_named_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(EmbedderUnavailableError, match=f"{path} holds no key") as caught:
        build_embedder("openai:m", EmbedderSettings(openai_api_key_file=path))
    assert all(word not in str(caught.value) for word in ("two words", "lines", "schl"))


def test_a_variable_that_holds_no_key_is_named_and_not_quoted() -> None:
    with pytest.raises(EmbedderUnavailableError, match="ERRATA_OPENAI_API_KEY holds no key") as caught:
        build_embedder("openai:m", EmbedderSettings(openai_api_key="two words"))
    assert "two words" not in str(caught.value)


def test_a_key_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(EmbedderUnavailableError, match="No such file"):
        build_embedder("openai:m", EmbedderSettings(openai_api_key_file=tmp_path / "key"))
