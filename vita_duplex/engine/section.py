"""The base of all sections of the settings: frozen, strict about names, each field with its help."""

from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationInfo, field_validator

NOTHING = ("", "~", "null")
"""How text says that a setting has no value, as YAML does."""


class Section(BaseModel):
    """A section; the docstring under a field is its help."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _read_nothing(cls, value: Any, info: ValidationInfo) -> Any:
        """Text from the environment and from flags can leave a setting without a value; a secret is never read."""
        kinds = get_args(cls.model_fields[info.field_name or ""].annotation)
        return None if value in NOTHING and NoneType in kinds and SecretStr not in kinds else value
