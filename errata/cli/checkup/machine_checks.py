"""What is judged of this machine: variables, addresses, and the shell hook."""

from collections.abc import Iterator

from errata.cli.checkup.facts import Facts
from errata.cli.checkup.findings import Finding, failure, ok, warning
from errata.cli.failures import Peer
from errata.cli.times import length


def check_machine(facts: Facts) -> Iterator[Finding]:
    """Judges the environment of this program."""
    for problem in facts.variable_problems:
        yield failure("variables", problem, "No service that reads it starts so. Correct it, or unset it.")
    if not facts.variable_problems:
        yield ok("variables", "every ERRATA_ variable is one, with a value that it may have")
    for peer in Peer:
        address = peer.address(facts.chosen)
        if not address.is_loopback:
            yield warning(
                "encryption",
                f"calls to the {peer.title} at {address} go unencrypted and without credentials",
                "Whoever is on the way reads them, and whoever reaches that address may write: keep it in a "
                "network that you trust, or behind a tunnel.",
            )
    if facts.hook_problem is not None:
        message, noted_s = facts.hook_problem
        ago = length(max(0.0, facts.now.timestamp() - noted_s))
        yield warning(
            "shell-hook",
            f"the shell hook could not record a command {ago} ago: {message}",
            "That command is not recorded; ask and run it again when this is mended.",
        )
