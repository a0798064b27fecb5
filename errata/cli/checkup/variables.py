"""Whether the `ERRATA_*` variables say what a service would take."""

from collections.abc import Iterator, Mapping

from errata.serving.settings import SETTINGS, Setting, unknown_variables


def variable_problems(environ: Mapping[str, str]) -> Iterator[str]:
    """What to tell of each variable that no service knows, or whose value it would refuse."""
    yield from unknown_variables(environ)
    for setting in SETTINGS.values():
        text = environ.get(setting.variable, "")
        try:
            if text:
                _read(setting, text)
        except ValueError as error:
            yield f"{setting.variable}: {error}"


def _read(setting: Setting, text: str) -> None:
    if setting.choices and text not in setting.choices:
        raise ValueError(f"{text!r} is none of {', '.join(setting.choices)}")
    values = text.split(setting.separator) if setting.separator else [text]
    setting.check_all(tuple(setting.read(value) for value in values))
