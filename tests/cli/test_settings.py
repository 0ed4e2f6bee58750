"""`vita-duplex settings` and the document it makes: every setting, its default, its help, its name elsewhere."""

import argparse
import re

import pytest

from tests.support.paths import ROOT
from vita_duplex.cli.settings import markdown, run, settings
from vita_duplex.config import ConfigError
from vita_duplex.settings import dotted

MARK = re.compile(r"[.!?](?:\s|$)")


def printed(name: str, capsys: pytest.CaptureFixture[str], *, markdown: bool = False) -> str:
    assert run(argparse.Namespace(name=name, markdown=markdown)) == 0
    return capsys.readouterr().out


def test_the_document_is_what_the_sections_say() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == markdown(), "run `make settings-doc`"


def test_every_setting_has_help_of_at_most_two_sentences() -> None:
    found = {dotted(key): " ".join((field.description or "").split()) for key, field in settings()}
    assert len(found) > 80
    assert [name for name, text in found.items() if not text] == []
    assert [name for name, text in found.items() if len(MARK.findall(text)) > 2 or not text.endswith(".")] == []


def test_a_unit_in_a_name_is_in_the_help() -> None:
    units = {"_s": "econds", "_ms": "illiseconds", "_mib": "MiB", "_db": "ecibel"}
    for key, field in settings():
        for ending, unit in units.items():
            if key[-1].endswith(ending) and not key[-1].endswith("per_s"):
                assert unit in (field.description or ""), dotted(key)


def test_one_setting_is_told_with_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed("duplex.barge_in", capsys) == (
        "duplex.barge_in (`hold`, `verdict`, `off`; default hold)\n"
        "  `hold`: speech pauses a reply until it is clear whom it is meant for, at most until its verdict · "
        "`verdict`: a reply goes on until the verdict · "
        "`off`: speech during a reply is ignored.\n"
        "  VITA_DUPLEX_DUPLEX__BARGE_IN\n"
    )


def test_a_section_is_told_and_so_is_everything(capsys: pytest.CaptureFixture[str]) -> None:
    section, everything = printed("vad.endpoint", capsys), printed("", capsys)
    assert section.count("VITA_DUPLEX_VAD__ENDPOINT__") == 10
    assert section in everything
    assert printed("", capsys, markdown=True) == markdown()


def test_what_is_no_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"vad\.nothing is no setting"):
        run(argparse.Namespace(name="vad.nothing", markdown=False))
