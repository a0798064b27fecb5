"""The options of every command, which may stand before its name or after it, and what they say together.

An option after the name goes before one in front of it, that before a variable, and that before the default.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from errata.cli.reading import read_namespaces, read_wait_s
from errata.serving.addresses import Address, parse_address

LEARNER_DEFAULT: Final = "127.0.0.1:7411"
RAG_DEFAULT: Final = "127.0.0.1:7412"
TIMEOUT_DEFAULT: Final = "10s"


@dataclass(slots=True)
class Chosen:
    """What the options of one run of `errata` say; the object of every command."""

    learner: Address
    rag: Address
    namespaces: tuple[str, ...] = ()
    """None of them means what the command documents."""
    as_json: bool = False
    timeout_s: float = read_wait_s(TIMEOUT_DEFAULT)
    """Of one call."""

    def one_namespace(self) -> str:
        """The namespace, for commands that are about one block; the default one when none was named.

        Raises:
            click.UsageError: several were named.
        """
        if len(self.namespaces) > 1:
            raise click.UsageError(
                f"one namespace at a time here, got {', '.join(map(repr, self.namespaces))}; "
                "name one with --namespace"
            )
        return self.namespaces[0] if self.namespaces else ""


@dataclass(frozen=True, slots=True)
class _Shared:
    flag: str
    field: str
    help: str
    """Without default and variable."""
    metavar: str = ""
    read: Callable[[Any], object] | None = None
    """None for a flag that takes no value."""
    default: str = ""
    variable: str = ""
    multiple: bool = False


def _read_address(text: str) -> Address:
    return parse_address(text, port_min=1)


_SHARED: Final = (
    _Shared(
        flag="--learner",
        field="learner",
        help="Where the Learner answers.",
        metavar="HOST:PORT",
        read=_read_address,
        default=LEARNER_DEFAULT,
        variable="ERRATA_LEARNER",
    ),
    _Shared(
        flag="--rag",
        field="rag",
        help="Where the RAG service answers.",
        metavar="HOST:PORT",
        read=_read_address,
        default=RAG_DEFAULT,
        variable="ERRATA_RAG",
    ),
    _Shared(
        flag="--namespace",
        field="namespaces",
        help="The namespace; repeatable where several make sense; '' is the default one.",
        metavar="NAME",
        read=read_namespaces,
        variable="ERRATA_NAMESPACE",
        multiple=True,
    ),
    _Shared(flag="--json", field="as_json", help="Print JSON, for scripts."),
    _Shared(
        flag="--timeout",
        field="timeout_s",
        help="How long to wait for an answer.",
        metavar="TIME",
        read=read_wait_s,
        default=TIMEOUT_DEFAULT,
    ),
)


def shared_options(*, after_command: bool) -> Sequence[click.Option]:
    """The options, for the group, or for a command, whose own go before those of the group."""
    return [_option(shared, after_command=after_command) for shared in _SHARED]


def new_chosen() -> Chosen:
    """What is chosen where no option says anything."""
    return Chosen(learner=parse_address(LEARNER_DEFAULT), rag=parse_address(RAG_DEFAULT))


def _option(shared: _Shared, *, after_command: bool) -> click.Option:
    notes = [f"default {shared.default}"] if shared.default else []
    notes += [f"variable {shared.variable}"] if shared.variable else []
    return _SharedOption(
        [shared.flag, shared.field],
        metavar=shared.metavar,
        is_flag=shared.read is None,
        default=None,
        multiple=shared.multiple,
        type=click.BOOL if shared.read is None else click.UNPROCESSED,
        # The variable counts once, where it cannot go before an option in front of the command.
        envvar=None if after_command else shared.variable or None,
        help=f"{shared.help} [{'; '.join(notes)}]" if notes else shared.help,
        expose_value=False,
        callback=_choose(shared),
        # Before the options of the command: those may look at what was chosen.
        is_eager=True,
    )


class _SharedOption(click.Option):
    """An option whose variable separates several values as that of the services does."""

    def value_from_envvar(self, ctx: click.Context) -> Any:
        text = self.resolve_envvar_value(ctx)
        return text.split(",") if text is not None and self.multiple else text


def _choose(shared: _Shared) -> Callable[[click.Context, click.Parameter, Any], None]:
    def choose(ctx: click.Context, parameter: click.Parameter, written: Any) -> None:
        root = ctx.find_root()
        if root.obj is None:
            root.obj = new_chosen()
        ctx.obj = root.obj
        if written is None or written == ():
            return
        try:
            value = written if shared.read is None else shared.read(written)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx=ctx, param=parameter) from None
        setattr(root.obj, shared.field, value)

    return choose


class Command(click.Command):
    """A command with the options of every command, in a section of their own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shared = shared_options(after_command=True)
        own = {flag for parameter in self.params for flag in parameter.opts}
        self._shared = [option for option in self._shared if not own.intersection(option.opts)]
        self.params.extend(self._shared)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options of the command, then those of every command."""
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                (shared if parameter in self._shared else own).append(record)
        with formatter.section("Options"):
            formatter.write_dl(own)
        with formatter.section("Options of every command"):
            formatter.write_dl(shared)
