"""Where the command `errata` begins.

The wheel without its extras has no click: then this says what to install instead of failing at an import.
"""

import importlib.util
import sys


def main() -> None:
    """Runs the command line of the process."""
    if importlib.util.find_spec("click") is None or importlib.util.find_spec("rich") is None:
        sys.exit("errata: the command line is an extra; install it with: pip install 'errata[cli]'")
    # Imported here, because it imports the extra.
    from errata.cli.commands import errata  # noqa: PLC0415 - see above

    errata(prog_name="errata")


if __name__ == "__main__":
    main()
