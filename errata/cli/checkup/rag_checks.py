"""What is judged of the RAG service, alone and beside the Learner."""

from collections.abc import Iterator
from typing import Final

from errata.cli.checkup.facts import Facts
from errata.cli.checkup.findings import Finding, failure, ok, warning
from errata.cli.exit_codes import CommandError
from errata.cli.times import length
from errata.v1.learner_pb2 import GetStatusResponse
from errata.v1.rag_pb2 import (
    INDEX_STATE_LIVE,
    INDEX_STATE_RESYNCING,
    INDEX_STATE_STALE,
    INDEX_STATE_SYNCING,
    GetIndexStatusResponse,
)

STALENESS_S_MAX: Final = 15.0
"""After which a RAG service itself calls its answers degraded."""


def check_rag(facts: Facts) -> Iterator[Finding]:
    """Judges the RAG service; of one that does not answer, only that."""
    where = f"the RAG service at {facts.chosen.rag}"
    if isinstance(facts.rag, CommandError):
        yield failure("rag", facts.rag.message, "Until it is up nobody finds anything; learning goes on.")
        return
    yield from _check_serves(where, facts)
    yield from _check_version(facts.rag, facts)
    yield from _check_state(facts.rag)
    yield from _check_quarantine(facts.rag)
    yield from _check_search(facts)
    if not isinstance(facts.learner, CommandError):
        yield from _check_pair(facts.rag, facts.learner)


def _check_serves(where: str, facts: Facts) -> Iterator[Finding]:
    if facts.rag_serves is True:
        yield ok("rag", f"{where} serves")
    elif facts.rag_serves is False:
        yield failure("rag", f"{where} does not serve yet", "It waits for its first sync with its Learner.")
    else:
        yield warning("rag", f"{where} answers, but not to a health check", "See what stands between.")


def _check_version(status: GetIndexStatusResponse, facts: Facts) -> Iterator[Finding]:
    if status.version == facts.version:
        yield ok("rag-version", f"the RAG service has version {status.version}, as this program")
    else:
        yield warning(
            "rag-version",
            f"the RAG service has version {status.version}, this program {facts.version}",
            "Install the same version on both sides; until then some commands may not fit.",
        )


def _check_state(status: GetIndexStatusResponse) -> Iterator[Finding]:
    staleness_s = status.staleness.ToTimedelta().total_seconds()
    known = f"last known to be up to date {length(staleness_s)} ago"
    if status.state == INDEX_STATE_SYNCING:
        yield failure(
            "index",
            "the index receives its first state and answers no search yet",
            "Wait; if it stays so, its --learner is wrong, away, or has another embedder: its log says.",
        )
    elif status.state == INDEX_STATE_RESYNCING:
        yield warning("index", f"the index is received anew, {known}", "It answers from the last good state.")
    elif status.state == INDEX_STATE_STALE or staleness_s > STALENESS_S_MAX:
        yield warning(
            "index",
            f"the RAG service does not hear from its Learner, {known}",
            "It answers from the last good state. Look at its --learner, and at its log.",
        )
    elif status.state == INDEX_STATE_LIVE:
        yield ok("index", f"the index is live, {known}")


def _check_quarantine(status: GetIndexStatusResponse) -> Iterator[Finding]:
    if status.quarantined_example_count:
        yield warning(
            "unusable-examples",
            f"{status.quarantined_example_count:,} examples cannot be found: their last update was malformed",
            "The log of the RAG service names them; `errata reconcile BLOCK` sends one again after a change.",
        )


def _check_search(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.search, CommandError):
        yield failure("search", facts.search.message, "No question can be answered until that is mended.")
    else:
        yield ok("search", "a search is embedded and answered")


def _check_pair(rag: GetIndexStatusResponse, learner: GetStatusResponse) -> Iterator[Finding]:
    if rag.store_id and rag.store_id != learner.store_id:
        yield failure(
            "pair",
            "the RAG service follows another Learner than the one asked here",
            "Say the same with --learner here and of errata-rag; or restart it if the store was replaced.",
        )
        return
    yield from _check_embedders(rag, learner)
    behind = learner.head_revision - rag.applied_revision
    if behind > 0:
        yield warning(
            "lag",
            f"the RAG service is {behind:,} revisions behind the Learner",
            "What was learned last is not found yet. If that does not pass, look at the log of the RAG "
            "service.",
        )
    else:
        yield ok("lag", "the RAG service has everything that the Learner has")


def _check_embedders(rag: GetIndexStatusResponse, learner: GetStatusResponse) -> Iterator[Finding]:
    if not rag.embedder_fingerprint or not learner.embedder_fingerprint:
        return
    if rag.embedder_fingerprint == learner.embedder_fingerprint:
        yield ok("embedder", f"both embed with {learner.embedder_fingerprint}")
    else:
        yield failure(
            "embedder",
            f"the Learner embeds with {learner.embedder_fingerprint}, the RAG service with "
            f"{rag.embedder_fingerprint}: it receives nothing new",
            "Start errata-rag without --embedder, so that it takes the Learner's.",
        )
