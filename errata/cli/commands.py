"""The commands of `errata`, under one name."""

import click

from errata.cli.events import events


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="errata", prog_name="errata")
def errata() -> None:
    """Learns from what people run instead of what assistants propose.

    Each command says what it does, with examples: errata COMMAND --help
    """


errata.add_command(events)
