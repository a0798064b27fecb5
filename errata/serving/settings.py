"""Every flag and every `ERRATA_*` variable of both services, in one table.

A service's `config.py` is a frozen dataclass whose fields are named as in `SETTINGS` and whose defaults are
the defaults of the service:

    @dataclass(frozen=True, slots=True, kw_only=True)
    class RagConfig:
        listen: str = "127.0.0.1:7412"
        namespaces: tuple[str, ...] = ()

    PROGRAM = Program(name="errata-rag", about="...", examples=("errata-rag --learner 127.0.0.1:7411",))

    def parse(argv: Sequence[str], environ: Mapping[str, str]) -> RagConfig:
        return read_config(RagConfig, PROGRAM, argv, environ)

A flag goes before its variable, and a variable before the default; flags that may be repeated replace what
the variable lists. A variable that is set to nothing counts as not set. A variable that begins with `ERRATA_`
and is in nobody's table is refused, as a slip of the pen would otherwise go unnoticed; one of the other
service is fine, since both may share an environment.
"""

import dataclasses
import difflib
import importlib.metadata
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from errata.serving.setting_values import (
    check_log_dirs,
    read_address,
    read_base_url,
    read_count,
    read_duration_s,
    read_embedder,
    read_log_dir,
    read_namespace,
    read_path,
    read_peer_address,
    read_size_bytes,
    read_switch,
    written_duration,
    written_size,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    ConfigType = TypeVar("ConfigType", bound=DataclassInstance)

PREFIX: Final = "ERRATA_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One flag, and the variable of the same name."""

    flag: str
    metavar: str
    help: str
    read: Callable[[str], object] = str
    """Turns what was written into the value; raises ValueError with the rule and the way out."""
    choices: tuple[str, ...] = ()
    """The values that may be written; any that `read` takes when there are none."""
    show: Callable[[Any], str] = str
    """How a default is written."""
    separator: str = ""
    """What stands between the values of the variable, for a flag that may be repeated."""
    check_all: Callable[[tuple[Any, ...]], object] = bool
    """Checks the values of such a flag together; raises ValueError like `read`."""
    is_switch: bool = False
    """True for a flag that takes no value; its variable says yes or no."""
    is_secret: bool = False
    """True for what no flag may hold, as others on the machine can read those: it has its variable alone."""

    @property
    def variable(self) -> str:
        """The name of the environment variable."""
        return PREFIX + self.flag.removeprefix("--").replace("-", "_").upper()


SETTINGS: Final[Mapping[str, Setting]] = {
    "listen": Setting(
        flag="--listen",
        metavar="HOST:PORT",
        help="Where to answer calls. Port 0 takes a free one; see --address-file. There is no "
        "authentication: whoever reaches an address that is not loopback can read and write everything.",
        read=read_address,
    ),
    "address_file": Setting(
        flag="--address-file",
        metavar="FILE",
        help="Writes the address here, as HOST:PORT, once calls are answered. For scripts, with port 0.",
        read=read_path,
    ),
    "store_dir": Setting(
        flag="--store-dir",
        metavar="DIR",
        help="Where blocks and examples are kept; made when absent. On a local disk, for one Learner alone.",
        read=read_path,
    ),
    "store_bytes_max": Setting(
        flag="--store-bytes-max",
        metavar="SIZE",
        help="How large the store may grow, such as 500M or 64G (K, M, G, T: powers of 1,024). "
        "Disk is taken only as it fills.",
        read=read_size_bytes,
        show=written_size,
    ),
    "log_dirs": Setting(
        flag="--log-dir",
        metavar="[NAMESPACE=]DIR",
        help="A directory of JSON-lines logs to follow and learn from, with those below it, into a namespace "
        "if one is named. "
        f"May be repeated; the variable separates directories by {os.pathsep!r}. "
        "For a path that holds '=', write =DIR.",
        read=read_log_dir,
        separator=os.pathsep,
        check_all=check_log_dirs,
    ),
    "policy": Setting(
        flag="--policy",
        metavar="POLICY",
        help="What is learned: corrections, where a person ran something else than was proposed; or "
        "executions, whatever a person ran.",
        choices=("corrections", "executions"),
    ),
    "redaction": Setting(
        flag="--redaction",
        metavar="on|off",
        help="Whether secrets are taken out of what comes in, before anything is stored, embedded or sent. "
        "Both services must have it alike, or a question and its example are embedded unlike. A start that "
        "switches it on again takes them out of all that is stored.",
        choices=("on", "off"),
    ),
    "embedder": Setting(
        flag="--embedder",
        metavar="NAME[:ARGUMENT]",
        help="What turns text into vectors: minilm; openai:MODEL or openai:MODEL:DIMENSION, by a server; or "
        "hashing, for tests. Both services must use the same; a RAG service without the flag takes the one "
        "that its Learner announces.",
        read=read_embedder,
    ),
    "reembed": Setting(
        flag="--reembed",
        metavar="",
        help="Embeds every example anew when the store was filled with another --embedder. Until that is "
        "done nothing new is learned, and RAG services answer from what they have. Does nothing otherwise.",
        read=read_switch,
        is_switch=True,
    ),
    "openai_base_url": Setting(
        flag="--openai-base-url",
        metavar="URL",
        help="The server of the embedder openai: whatever answers URL/embeddings as OpenAI does.",
        read=read_base_url,
    ),
    "openai_api_key": Setting(
        flag="--openai-api-key",
        metavar="KEY",
        help="Its key, for a server that wants one.",
        is_secret=True,
    ),
    "openai_api_key_file": Setting(
        flag="--openai-api-key-file",
        metavar="FILE",
        help=f"A file that holds the key, read before each request; goes before {PREFIX}OPENAI_API_KEY.",
        read=read_path,
    ),
    "deletions_kept_s": Setting(
        flag="--deletions-kept",
        metavar="TIME",
        help="How long a deletion is remembered, such as 90m, 24h or 7d. A RAG service that was away for "
        "longer receives everything anew instead of what it missed.",
        read=read_duration_s,
        show=written_duration,
    ),
    "deletions_kept_min": Setting(
        flag="--deletions-kept-min",
        metavar="COUNT",
        help="So many of the newest deletions are remembered whatever their age.",
        read=read_count,
    ),
    "deletions_kept_max": Setting(
        flag="--deletions-kept-max",
        metavar="COUNT",
        help="No more deletions than these are remembered, however new.",
        read=read_count,
    ),
    "learner": Setting(
        flag="--learner",
        metavar="HOST:PORT",
        help="The Learner to follow. It need not be up yet.",
        read=read_peer_address,
    ),
    "namespaces": Setting(
        flag="--namespace",
        metavar="NAME",
        help="Follows only this namespace; all of them without the flag. May be repeated; the variable "
        "separates names by ','. The default namespace has the empty name: --namespace '', or an empty item "
        f"such as in {PREFIX}NAMESPACE=,team-a (a lone ',' names it alone).",
        read=read_namespace,
        separator=",",
    ),
    "snapshot_dir": Setting(
        flag="--snapshot-dir",
        metavar="DIR",
        help="Where to keep a snapshot of the index, on a local disk, for one RAG service alone; made when "
        "absent. A start resumes from it, also while the Learner is away. None is kept without the flag.",
        read=read_path,
    ),
    "metrics_listen": Setting(
        flag="--metrics-listen",
        metavar="HOST:PORT",
        help="Where Prometheus may read /metrics. Nowhere without the flag.",
        read=read_address,
    ),
    "log_level": Setting(
        flag="--log-level",
        metavar="LEVEL",
        help="What to log, to stderr: this and what is graver (debug, info, warning, error).",
        choices=("debug", "info", "warning", "error"),
    ),
}
"""By the name of the field in the configuration of a service."""

TOOL_VARIABLES: Final = frozenset({"ERRATA_RAG", "ERRATA_SESSION"})
"""Variables of the command `errata` that no service reads."""

# For a Service whose name begins with "errata", Kubernetes puts these into every container of its namespace.
_KUBERNETES_VARIABLE: Final = re.compile(
    r"ERRATA(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)?)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What the help of a service says besides its flags."""

    name: str
    about: str
    """Paragraphs, separated by blank lines."""
    examples: tuple[str, ...]


def read_config(
    config_class: "type[ConfigType]", program: Program, argv: Sequence[str], environ: Mapping[str, str]
) -> "ConfigType":
    """The configuration that flags and variables ask for.

    Args:
        config_class: a dataclass whose fields all have a default and a setting of the same name.
        program: for the help.
        argv: the flags, without the name of the program.
        environ: the variables; nothing else of the environment is looked at.

    Raises:
        SystemExit: with 2 after a message on stderr that names the flag, when one is wrong; with 0 after
            `--help` or `--version`.
    """
    command = _command(config_class, program)
    try:
        context = command.make_context(program.name, list(argv), obj=dict(environ))
        with context:
            _refuse_unknown_variables(environ, context)
            return config_class(**context.params)
    except click.exceptions.Exit as done:
        raise SystemExit(done.exit_code) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None


def unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """What to tell of each variable that begins with `ERRATA_` and is in nobody's table."""
    known = {setting.variable for setting in SETTINGS.values()} | TOOL_VARIABLES
    # Compared without the prefix, which would make any two of them alike.
    suffixes = sorted(name.removeprefix(PREFIX) for name in known)
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in known or _KUBERNETES_VARIABLE.fullmatch(name):
            continue
        near = difflib.get_close_matches(name.removeprefix(PREFIX), suffixes, n=2)
        if near:
            hint = f"Did you mean {' or '.join(PREFIX + suffix for suffix in near)}?"
        else:
            hint = f"There are {', '.join(sorted(known))}."
        yield f"No such variable: {name}. {hint} Correct its name, or unset it."


def _command(config_class: "type[DataclassInstance]", program: Program) -> click.Command:
    version = importlib.metadata.version("errata")
    examples = "\n".join(("\b", "Examples:", *(f"  {example}" for example in program.examples)))
    options: list[click.Parameter] = [_option(field) for field in dataclasses.fields(config_class)]
    command = click.Command(
        program.name,
        params=options,
        help=f"{program.about}\n\n{examples}",
        epilog="A flag goes before its variable.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    return click.version_option(version, prog_name=program.name, message="%(prog)s %(version)s")(command)


def _option(field: "dataclasses.Field[Any]") -> click.Option:
    setting = SETTINGS[field.name]
    option_class = _Secret if setting.is_secret else _Option
    return option_class(
        [setting.flag, field.name],
        metavar=setting.metavar,
        help=setting.help,
        type=click.Choice(setting.choices) if setting.choices else click.UNPROCESSED,
        default=field.default,
        is_flag=setting.is_switch,
        multiple=bool(setting.separator),
        envvar=setting.variable,
        show_envvar=True,
        show_default=False if field.default in (None, (), "", False) else setting.show(field.default),
        callback=_read,
    )


def _read(_: click.Context, option: click.Parameter, written: Any) -> Any:
    """What was written as its setting reads it; of a repeated flag each value once, in order."""
    setting = SETTINGS[str(option.name)]
    try:
        if isinstance(written, tuple):
            values = tuple(dict.fromkeys(setting.read(each) for each in written))
            setting.check_all(values)
            return values
        # A default is a value already.
        return setting.read(written) if isinstance(written, str) else written
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from None


class _Option(click.Option):
    """An option whose variable is looked up in the environment that was passed, the context's object."""

    def value_from_envvar(self, ctx: click.Context) -> Any:
        setting = SETTINGS[str(self.name)]
        environ: Mapping[str, str] = ctx.obj
        text = environ.get(setting.variable, "")
        if not text:
            return None
        return text.split(setting.separator) if setting.separator else text


class _Secret(_Option):
    """One that has its variable alone: no flag of its name is known."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        del parser, ctx

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        setting = SETTINGS[str(self.name)]
        del ctx
        return setting.variable, f"{setting.help} A variable only: flags can be read by others."


def _refuse_unknown_variables(environ: Mapping[str, str], context: click.Context) -> None:
    for problem in unknown_variables(environ):
        raise click.UsageError(problem, context)
