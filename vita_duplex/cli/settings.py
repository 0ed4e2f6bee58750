"""`vita-duplex settings`: what can be set, as the sections say it; docs/settings.md is made by it."""

import argparse
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from vita_duplex.config import Config, ConfigError, default_cache
from vita_duplex.settings import Key, dotted, section_of, variable

Setting = tuple[Key, FieldInfo]
Section = tuple[Key, type[BaseModel]]
HEAD = """\
# Settings

Made by `make settings-doc` from the sections in the code; a test keeps it complete. `vita-duplex settings NAME` prints
the same for one setting or section.

Values come from a YAML file (`--config FILE`), then the environment, then flags (`--set section.key=value`); the later
wins. In the environment `server.port` is `VITA_DUPLEX_SERVER__PORT`. Lists and whole sections are written there as
YAML: `VITA_DUPLEX_ACCESS__ORIGINS="[https://a.example, https://b.example]"`. `null` takes a value away. API keys are
taken as they stand, and no message shows them.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", default="", help="a setting or section, such as vad.endpoint")
    parser.add_argument("--markdown", action="store_true", help="print all as docs/settings.md has them")


def run(arguments: argparse.Namespace) -> int:
    """Errors: `ConfigError` if there is no such setting."""
    if arguments.markdown:
        print(markdown(), end="")
        return 0
    wanted = tuple(arguments.name.split(".")) if arguments.name else ()
    found = [one for one in settings() if one[0][: len(wanted)] == wanted]
    if not found:
        raise ConfigError(f"{arguments.name} is no setting; `vita-duplex settings` lists all")
    print("\n\n".join(map(_explained, found)))
    return 0


def sections(section: type[BaseModel] = Config, above: Key = ()) -> Iterator[Section]:
    """Every section, those within others after them. Further models have those of `engine`."""
    yield above, section
    for name, field in section.model_fields.items():
        below = section_of(field)
        if below is not None and get_origin(field.annotation) is not dict:
            yield from sections(below, (*above, name))


def settings() -> Iterator[Setting]:
    """Every setting with what is known of it."""
    for above, section in sections():
        for name, field in section.model_fields.items():
            if not _is_section(field):
                yield (*above, name), field


def markdown() -> str:
    """docs/settings.md."""
    top, *others = sections()
    return HEAD + "".join(_table(key, section) for key, section in (*others, top))


def _table(key: Key, section: type[BaseModel]) -> str:
    rows = [
        f"| `{dotted((*key, name))}` | {_kind(field)} | `{_default(field)}` | {_help(field)} |"
        for name, field in section.model_fields.items()
        if not _is_section(field)
    ]
    if not rows:
        return ""
    about = " ".join((section.__doc__ or "").split()) if key else "Further models."
    return "\n".join(["", f"## {dotted(key) or 'models'}", "", about, "", *HEADING, *rows, ""])


HEADING = ("| setting | value | default | what it is |", "|---|---|---|---|")


def _explained(setting: Setting) -> str:
    key, field = setting
    text = f"{dotted(key)} ({_kind(field)}; default {_default(field)})\n  {_help(field)}"
    return text if key[:-1] == ("engine", "scripted") else f"{text}\n  {variable(key)}"  # each reply has these


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _help(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _default(field: FieldInfo) -> str:
    value = field.default_factory() if field.default_factory else field.default  # type: ignore[call-arg]
    if value == default_cache():
        return "~/.cache/vita-duplex"
    match value:
        case _ if value is PydanticUndefined:
            return "none"
        case SecretStr() | "" | None | {} | ():
            return "none"
        case bool():
            return str(value).lower()
        case (BaseModel(), *_):
            return "one reply"
        case _:
            return str(value)


def _kind(field: FieldInfo) -> str:
    kind = _named(field.annotation)
    bounds = [f"{sign} {getattr(one, name):g}" for one in field.metadata for name, sign in SIGNS if hasattr(one, name)]
    return " ".join([kind, ", ".join(bounds)]).strip()


SIGNS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
NAMES = {str: "text", int: "whole number", float: "number", bool: "true, false", SecretStr: "secret"}


def _named(annotation: Any) -> str:
    arguments: Sequence[Any] = get_args(annotation)
    match get_origin(annotation):
        case origin if origin is Literal:
            return ", ".join(f"`{one}`" for one in arguments)
        case origin if origin in (Union, UnionType):
            return ", ".join(_named(one) for one in arguments if one is not NoneType)
        case origin if origin is tuple:
            return "list"
        case origin if origin is dict:
            return "by name"
        case _:
            return NAMES.get(annotation, "path")
