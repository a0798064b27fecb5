"""What a user of the client might write, run in environments that hold little else.

    python program.py LEARNER RAG

Everything is asserted; writes the versions that it ran with. Imports the client and nothing of the tests.
"""

import asyncio
import os
import sys
from contextlib import aclosing
from importlib.metadata import version

from errata.client import (
    AsyncErrata,
    CaughtUp,
    Errata,
    ExamplePut,
    InvalidRequestError,
    NotFoundError,
    Settings,
    TokenNotReachedError,
    WhenBehind,
    code,
    document,
    prose,
)
from errata.v1.token_pb2 import StateToken


def check(holds: object, what: str) -> None:
    """Ends the program when something does not hold."""
    if not holds:
        sys.exit(f"does not hold: {what}")


def blocking(learner: str, rag: str) -> None:
    """Records, searches, writes a prompt, forgets, and fails."""
    with Errata(learner, rag, settings=Settings(namespace=f"blocking-{os.getpid()}")) as errata:
        check(errata.learner_serves() and errata.rag_serves(), "both serve")
        recorded = errata.record_correction(
            question="Which process listens on port 80?",
            proposed="netstat -a",
            ran="ss -ltnp 'sport = :80'",
            exit_code=0,
            language="bash",
        )
        check(errata.learn(recorded.block_id).is_learned, "a correction is learned")
        (match,) = errata.search("which process listens on port 80", limit=1).matches
        check(match.block_id == recorded.block_id, "a search sees it")
        errata.teach(document("first", prose("then")), [code("SELECT 1", "sql"), prose("done")])
        prompt = errata.few_shot("which process listens on port 80", max_tokens=1_000)
        check("```bash\nss -ltnp" in prompt and "```sql" in prompt, "a prompt has both examples")
        errata.forget(recorded.block_id)
        found = [each.block_id for each in errata.search("which process listens on port 80").matches]
        check(recorded.block_id not in found, "what is forgotten is not found")
        try:
            errata.search("x", diversity=7)
        except InvalidRequestError as error:
            check(error.field == "diversity" and error.reason == "INVALID_FIELD", "the field is named")
        else:
            sys.exit("a diversity of 7 was taken")
        check(errata.index_status().example_count == errata.learner_status().example_count, "all arrived")


async def with_asyncio(learner: str, rag: str) -> None:
    """The same means, for asyncio."""
    settings = Settings(namespace=f"asyncio-{os.getpid()}", when_behind=WhenBehind.RAISE, token_wait_s=0.05)
    async with AsyncErrata(learner, rag, settings=settings) as errata:
        proposal = await errata.record_proposal("Who owns /srv?", "ls /srv", language="bash")
        await errata.record_run("stat -c %U /srv", block_id=proposal.block_id, exit_code=0, language="bash")
        answer = await errata.search("who owns /srv?")
        check(answer.matches[0].answer == "stat -c %U /srv", "a run is found")
        try:
            await errata.get_block("nobody")
        except NotFoundError as error:
            check(error.metadata == {"block_id": "nobody"}, "the block is named")
        else:
            sys.exit("a block that nobody recorded was found")
        async with aclosing(errata.watch()) as changes:
            put = await anext(changes)
            check(isinstance(put, ExamplePut) and put.example.id == proposal.block_id, "a watcher is told")
            check(isinstance(await anext(changes), CaughtUp), "and told that it has all")
        ahead = StateToken.FromString(errata.token)
        ahead.revision += 1_000
        errata.remember(ahead.SerializeToString())
        try:
            await errata.search("who owns /srv?")
        except TokenNotReachedError as error:
            check(error.want == ahead.revision, "the revision is told")
        else:
            sys.exit("a token of the future was reached")


def main() -> None:
    """See the module."""
    learner, rag = sys.argv[1:]
    blocking(learner, rag)
    asyncio.run(with_asyncio(learner, rag))
    held = sorted(name for name in sys.modules if name.partition(".")[0] in {"numpy", "google"})
    check("numpy" not in held and "google.rpc" not in held, "neither numpy nor google.rpc is imported")
    sys.stdout.write(f"grpcio {version('grpcio')}, protobuf {version('protobuf')}\n")


if __name__ == "__main__":
    main()
