"""The options that name settings, for every command that takes some."""

import argparse
import os
from pathlib import Path

from vita_duplex.config import Config
from vita_duplex.models.naming import is_vita_name
from vita_duplex.settings import load_config

SHORT = (
    ("host", "server.host"),
    ("port", "server.port"),
    ("instances", "engine.instances"),
    ("tls_certificate", "server.tls_certificate"),
    ("tls_key", "server.tls_key"),
    ("self_signed", "server.self_signed"),
)
"""Short forms of settings."""


def add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="YAML file with settings")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="one setting")


def config_of(arguments: argparse.Namespace) -> Config:
    """Errors: `ConfigError`."""
    settings = list(arguments.set)
    for flag, key in SHORT:
        if getattr(arguments, flag, None) is not None:
            settings.append(f"{key}={getattr(arguments, flag)}")
    config = load_config(arguments.config, os.environ, settings)
    model = getattr(arguments, "model", None)
    if model is None:
        return config
    if config.engine.kind == "openai":
        return load_config(arguments.config, os.environ, [*settings, f"engine.openai.model={model}"])
    kind = "vita" if config.engine.kind == "vita" or is_vita_name(model) else "text"
    return load_config(arguments.config, os.environ, [*settings, f"engine.kind={kind}", f"engine.{kind}.model={model}"])
