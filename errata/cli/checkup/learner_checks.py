"""What is judged of the Learner: its queue, its store, its logs, its clock."""

from collections.abc import Iterator
from typing import Final

from errata.cli.checkup.facts import Facts
from errata.cli.checkup.findings import Finding, failure, ok, warning
from errata.cli.exit_codes import CommandError
from errata.cli.sizes import written_bytes
from errata.cli.times import length
from errata.v1.learner_pb2 import GetStatusResponse

QUEUE_S_MAX: Final = 60.0
"""A block that waits longer waits for something: learning takes milliseconds."""
STORE_SHARE_WARNED: Final = 0.8
STORE_SHARE_FAILED: Final = 0.95
"""Of --store-bytes-max."""
DISK_FREE_BYTES_MIN: Final = 1024**3
CLOCK_S_MAX: Final = 5.0
"""Clocks of two machines differ by less where somebody cares for them."""
WATCHER_LAG_MAX: Final = 1_000
"""Revisions. A watcher that follows is at most some batches behind."""


def check_learner(facts: Facts) -> Iterator[Finding]:
    """Judges the Learner; of one that does not answer, only that."""
    where = f"the Learner at {facts.chosen.learner}"
    if isinstance(facts.learner, CommandError):
        yield failure("learner", facts.learner.message, "Until it is up nothing is learned; searches go on.")
        return
    yield from _check_serves(where, facts)
    yield from _check_version(facts.learner, facts)
    yield from _check_queue(facts.learner)
    yield from _check_failed(facts.learner, facts)
    yield from _check_store(facts.learner)
    yield from _check_disk(facts)
    yield from _check_logs(facts.learner)
    yield from _check_watchers(facts.learner)
    yield from _check_clock(facts.learner, facts)


def _check_serves(where: str, facts: Facts) -> Iterator[Finding]:
    if facts.learner_serves is True:
        yield ok("learner", f"{where} serves")
    elif facts.learner_serves is False:
        yield failure(
            "learner",
            f"{where} answers but says that it does not serve",
            "It is starting or ending; its log says.",
        )
    else:
        yield warning("learner", f"{where} answers, but not to a health check", "See what stands between.")


def _check_version(status: GetStatusResponse, facts: Facts) -> Iterator[Finding]:
    if status.version == facts.version:
        yield ok("learner-version", f"the Learner has version {status.version}, as this program")
    else:
        yield warning(
            "learner-version",
            f"the Learner has version {status.version}, this program {facts.version}",
            "Install the same version on both sides; until then some commands may not fit.",
        )


def _check_queue(status: GetStatusResponse) -> Iterator[Finding]:
    waited_s = status.oldest_queued_age.ToTimedelta().total_seconds()
    waiting = f"{status.queued_block_count:,} blocks wait to be learned from"
    if status.queued_block_count and waited_s > QUEUE_S_MAX:
        yield warning(
            "queue",
            f"{waiting}, the oldest for {length(waited_s)}",
            "Either there is much to do, or the embedder does not answer: the Learner's log tells, and "
            "`errata blocks --reason pending` shows their last errors.",
        )
    else:
        yield ok("queue", waiting)


def _check_failed(status: GetStatusResponse, facts: Facts) -> Iterator[Finding]:
    if not status.failed_block_count:
        yield ok("failed-blocks", "no block failed for good")
        return
    last = facts.failed_block
    example = f", such as {last.key.id}: {last.last_error}" if last is not None else ""
    yield warning(
        "failed-blocks",
        f"{status.failed_block_count:,} blocks failed for good{example}",
        "Mend what the errors name (errata blocks --reason error), then: errata reconcile BLOCK",
    )


def _check_store(status: GetStatusResponse) -> Iterator[Finding]:
    share = status.store_bytes / status.store_bytes_max if status.store_bytes_max else 0.0
    full = f"the store has {written_bytes(status.store_bytes)} of {written_bytes(status.store_bytes_max)}"
    advice = "Start errata-learner with a larger --store-bytes-max; a full store records nothing more."
    if share >= STORE_SHARE_FAILED:
        yield failure("store", full, advice)
    elif share >= STORE_SHARE_WARNED:
        yield warning("store", full, advice)
    else:
        yield ok("store", full)


def _check_disk(facts: Facts) -> Iterator[Finding]:
    disk = facts.store_disk
    if disk is None:
        return
    free = f"the disk of {disk.directory} has {written_bytes(disk.free_bytes)} free"
    if disk.free_bytes < DISK_FREE_BYTES_MIN:
        yield warning("disk", free, "Make room: a Learner whose disk is full records nothing more.")
    else:
        yield ok("disk", free)


def _check_logs(status: GetStatusResponse) -> Iterator[Finding]:
    bad = [file for file in status.log_files if file.malformed_line_count]
    for file in bad:
        yield warning(
            "logs",
            f"{file.path}: {file.malformed_line_count:,} lines could not be understood and were passed over",
            "The Learner's log names them. A log is JSON lines, of Errata, Foyle or RunMe.",
        )
    if status.log_files and not bad:
        yield ok("logs", f"{len(status.log_files):,} log files are followed, every line understood")


def _check_watchers(status: GetStatusResponse) -> Iterator[Finding]:
    if not status.watchers:
        yield warning(
            "watchers",
            "nobody follows the Learner",
            "Start a RAG service: errata-rag --learner HOST:PORT. What is learned is found by none now.",
        )
    for watcher in status.watchers:
        if watcher.lag_revision_count > WATCHER_LAG_MAX:
            yield warning(
                "watchers",
                f"{watcher.watcher} is {watcher.lag_revision_count:,} revisions behind",
                "If that does not shrink, it is stuck or its link is slow: look at its log.",
            )


def _check_clock(status: GetStatusResponse, facts: Facts) -> Iterator[Finding]:
    newest = facts.newest_block
    ahead_s = 0.0
    if newest is not None:
        changed = newest.modified_time.ToDatetime(tzinfo=facts.now.tzinfo)
        ahead_s = (changed - facts.now).total_seconds()
    started = status.start_time.ToDatetime(tzinfo=facts.now.tzinfo)
    start_ahead_s = (started - facts.now).total_seconds()
    if start_ahead_s > CLOCK_S_MAX:
        yield warning(
            "clock",
            f"the Learner started {length(start_ahead_s)} in the future: its clock and the one here differ",
            "Set both by NTP. Times shown here are off by that much.",
        )
    elif ahead_s > CLOCK_S_MAX:
        yield warning(
            "clock",
            f"the newest change is dated {length(ahead_s)} in the future: the Learner's clock was ahead once",
            "Nothing is lost, and it passes by itself when that time comes. Until then changes get times "
            "just after it, and `errata backfill --since` takes more blocks than asked for, never fewer.",
        )
    else:
        yield ok("clock", "the Learner's clock is not ahead of the one here")
