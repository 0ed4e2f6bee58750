"""Settings that are wrong are told in one line."""

import re
from pathlib import Path

import pytest

from vita_duplex.config import Config, ConfigError, load_config


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("server.port=[", "server.port: '[' cannot be read"),
        ("server.porrt=1", "did you mean server.port"),
        ("server.port=abc", "server.port"),
        ("server=3", "server"),
        ("engine.scripted=[]", "engine.scripted"),
        ("engine.scripted=[{verdict_s: .inf}]", "engine.scripted.0.verdict_s"),
        ("endpoint.max_utterance_s=.inf", "endpoint.max_utterance_s"),
        ("endpoint.threshold=.nan", "endpoint.threshold"),
        ("duplex.hold_limit_s=.inf", "duplex.hold_limit_s"),
        ("foo", "write it as section.key=value"),
    ],
)
def test_a_wrong_setting_is_named(setting: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)) as complaint:
        load_config(None, {}, [setting])
    assert "\n" not in str(complaint.value)


def test_a_section_whose_settings_are_commented_out_has_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("server:\n  # port: 9000\nvoice:\n")
    assert load_config(file, {}) == Config()
    assert load_config(file, {}, ["server.port=9001"]).server.port == 9001
