"""Machines as people have them: no home, settings as other editors write them, IPv6 alone."""

from pathlib import Path

import pytest

from vita_duplex.config import ConfigError, default_cache, name_of
from vita_duplex.models.naming import NoModel, locate
from vita_duplex.settings import load_config


def test_a_user_without_a_home_has_a_cache_and_finds_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Any uid, as OpenShift gives one: no HOME, and no entry among the users."""

    def nobody(*_: object) -> None:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert default_cache().parent == tmp_path
    assert locate("owner/name", {}) == "owner/name"
    with pytest.raises(NoModel):
        locate("~/model", {})


@pytest.mark.parametrize("text", ["\ufeffserver:\n  port: 9101\n", "server:\r\n  port: 9101\r\n"])
def test_settings_of_other_editors_are_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_bytes(text.encode())
    assert load_config(tmp_path / "settings.yaml", {}).server.port == 9101


def test_tabs_are_named_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("server:\n\tport: 9101\n")
    with pytest.raises(ConfigError, match="is not YAML: line 2, column 1"):
        load_config(tmp_path / "settings.yaml", {})


def test_a_model_has_a_name_whatever_way_its_folder_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "Mind").mkdir()
    monkeypatch.chdir(tmp_path / "Mind")
    assert {name_of(model) for model in (".", "../Mind/", str(tmp_path / "Mind"), "owner/Mind")} == {"Mind"}
