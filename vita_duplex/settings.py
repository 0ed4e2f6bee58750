"""Settings come from a YAML file, then the environment, then flags. Nothing else reads any of them."""

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource, InitSettingsSource

from vita_duplex.config import Config, ConfigError

PREFIX = "VITA_DUPLEX_"
"""Environment: `VITA_DUPLEX_SERVER__PORT=9000` sets `server.port`."""
KUBERNETES = re.compile(PREFIX + r"(?!.*__)(\w+?_)??(SERVICE_(HOST|PORT\w*)|PORT_\d+_\w+|(?P<port>PORT))")
"""What Kubernetes tells every pod of a Service whose name begins with `vita-duplex`."""
RENAMED = {
    ("ears",): ("asr",),
    ("voice",): ("tts",),
    ("speech",): ("tts",),
    ("endpoint",): ("vad", "endpoint"),
    ("vad", "echo_guard"): ("vad", "echo", "guard"),
}
"""Sections and settings that had other names."""
GONE = frozenset(
    (
        *(
            "duplex.abstain_band",
            "duplex.hold_limit_s",
            "vad.amplify",
            "vad.endpoint.compat",
            "vad.endpoint.hysteresis",
        ),
        *("engine.text.history_messages", "engine.text.min_p", "engine.text.repetition_penalty"),
        *("engine.vita.compat", "engine.vita.dither", "tts.kokoro.speed", "tts.kokoro.threads"),
        *("tts.tencent.endpoint", "tts.tencent.primary_language", "tts.tencent.region"),
        *("tts.tencent.speed", "tts.tencent.volume"),
    )
)
"""Settings that nobody needed."""

Key = tuple[str, ...]
Spell = Callable[[Key], str]


def load_config(path: Path | None, environment: Mapping[str, str] = os.environ, settings: Sequence[str] = ()) -> Config:
    """Read the file, then the environment, then `settings` ("section.key=value"). Errors: `ConfigError`."""
    file = InitSettingsSource(Config, read_yaml(path) if path else {})
    variables = _Texts(dict(_variables(environment)))
    flags = _Texts(dict(map(_flag, settings)))
    for source, spell in ((file, dotted), (variables, variable), (flags, dotted)):
        names = source.texts if isinstance(source, _Texts) else ()
        for key in (*(tuple(name.split(".")) for name in names), *_keys(source())):
            _check(key, spell)
    try:
        return Config(_build_sources=((flags, variables, file), {}))
    except ValidationError as error:
        raise ConfigError(_wrong(error.errors(include_url=False)[0])) from None  # its text may hold a secret


def of_kubernetes(environment: Mapping[str, str]) -> list[str]:
    """The variables that are ignored, because Kubernetes sets them for a Service named like this program."""
    found = {name: KUBERNETES.fullmatch(name) for name in environment}
    return [name for name, match in found.items() if match and (not match["port"] or "://" in environment[name])]


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a file. Errors: `ConfigError`."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Yaml) or {}
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {_place(error)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: the top must be sections such as `server:`")
    # A section whose lines are all comments has no value.
    return {str(name): {} if section is None else section for name, section in values.items()}


def dotted(key: Key) -> str:
    """The name of a setting in files and flags."""
    return ".".join(key)


def variable(key: Key) -> str:
    """The name of a setting in the environment."""
    return PREFIX + "__".join(key).upper()


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section a field holds: directly, as the elements of a tuple, or by name."""
    candidates = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


class _Yaml(yaml.SafeLoader):
    """YAML that types nothing but null: `off` stays a word and `0012` a key, and the settings know their types."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - named and shared like this by PyYAML
        first: [(tag, pattern) for tag, pattern in resolvers if tag == "tag:yaml.org,2002:null"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Texts(EnvSettingsSource):
    """Settings given as text, by their dotted names; whole sections and lists are written as YAML."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts
        super().__init__(Config, env_nested_delimiter=".")

    def _load_env_vars(self) -> dict[str, str | None]:
        return {**self.texts}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return yaml.load(value, _Yaml)
        except yaml.YAMLError as error:
            name = next((name for name, text in self.texts.items() if text is value), field_name)
            raise ConfigError(f"{name}: not YAML: {_place(error)}") from None


def _variables(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    ignored = of_kubernetes(environment)
    for name, text in environment.items():
        if name.startswith(PREFIX) and name not in ignored:
            yield name.removeprefix(PREFIX).lower().replace("__", "."), text


def _flag(setting: str) -> tuple[str, str]:
    key, equals, text = setting.partition("=")
    if not equals:
        raise ConfigError(f"{key!r}: write it as section.key=value, for example server.port=9000")
    return key, text


def _keys(values: Any, above: Key = ()) -> Iterator[Key]:
    """The settings that values from a file speak of; the elements of a list have no name."""
    match values:
        case dict() if values:
            for name, value in values.items():
                yield from _keys(value, (*above, str(name)))
        case list() if any(isinstance(value, dict) for value in values):
            for value in values:
                yield from _keys(value, above)
        case _:
            yield above


def _check(key: Key, spell: Spell) -> None:
    """Errors: `ConfigError` for an unknown key, with the known one it was probably meant to be."""
    section: type[BaseModel] | None = Config
    by_name = False
    for place, part in enumerate(key):
        if by_name:
            by_name = False
            continue
        if section is None:
            return  # below a value: what it should be is said when it is read
        field = section.model_fields.get(part)
        if field is None:
            instead = "it is gone, leave it out" if dotted(key) in GONE else _instead(key, place, section, spell)
            raise ConfigError(f"{spell(key)} is no setting; {instead}")
        section, by_name = section_of(field), get_origin(field.annotation) is dict


def _instead(key: Key, place: int, section: type[BaseModel], spell: Spell) -> str:
    """What to write instead of a key whose part at `place` is no name in `section`."""
    above, wrong, below = key[:place], key[place], key[place + 1 :]
    known: Sequence[str] = list(section.model_fields)
    renamed = RENAMED.get((*above, wrong))
    near = [(*above, name) for name in difflib.get_close_matches(wrong, known, 1, 0.5)]
    elsewhere = [other for other in all_keys() if other[-1] == wrong]
    sure = [one for one in near if difflib.SequenceMatcher(None, one[-1], wrong).ratio() > 0.8]
    for better in (*([renamed] if renamed else []), *sure, *elsewhere, *near):
        return f"did you mean {spell((*better, *below))}?"
    return f"known here: {', '.join(known)}"


def all_keys(section: type[BaseModel] = Config, above: Key = ()) -> Iterator[Key]:
    """Every setting, in the order of the sections; further models have those of `engine`."""
    for name, field in section.model_fields.items():
        below = section_of(field)
        if below is None or get_origin(field.annotation) is dict:
            yield (*above, name)
        else:
            yield from all_keys(below, (*above, name))


def _wrong(error: ErrorDetails) -> str:
    if not error["loc"]:  # settings that do not go together
        return str(error["ctx"]["error"])
    where = ".".join(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if error["type"] == "value_error" else f"{where}: {message} (got {_got(error)})"


def _got(error: ErrorDetails) -> str:
    """A single wrong value is shown. What stands in the place of a section or list is not: it may hold a secret."""
    value = error["input"]
    if isinstance(value, dict | list):
        return "a section" if isinstance(value, dict) else "a list"
    return repr(value) if not error["type"].endswith(("model_type", "dict_type", "tuple_type")) else "text"


def _place(error: yaml.YAMLError | UnicodeDecodeError) -> str:
    """Where a text is no YAML; not the text, which may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else "it holds bytes that are no text"
