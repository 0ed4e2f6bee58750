"""Settings: from a file, then the environment, then flags; and what is said when one is wrong."""

import os
import subprocess
import sys
import traceback
from operator import attrgetter
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from vita_duplex import config as sections
from vita_duplex.config import Config, ConfigError, default_cache
from vita_duplex.server.access.limits import Usage
from vita_duplex.server.realtime.audio_fields import ServerVad
from vita_duplex.settings import GONE, load_config, of_kubernetes

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def load(tmp_path: Path, text: str = "", environment: dict[str, str] | None = None, *settings: str) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, environment or {}, settings)


def refused(tmp_path: Path, text: str = "", environment: dict[str, str] | None = None, *settings: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, environment, *settings)
    return str(caught.value)


def test_there_are_configurations_to_load() -> None:
    assert {"cpu.yaml", "scripted.yaml", "vita-4gpu.yaml"} <= {path.name for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_loads(path: Path) -> None:
    assert load_config(path, {}).engine.kind in ("text", "vita", "remote", "scripted")


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    assert load_config(None, {}) == Config() == load(tmp_path, "") == load(tmp_path, "# nothing\n")


def test_the_defaults_are_those_of_the_default_configuration() -> None:
    default = load_config(ROOT / "configs" / "cpu.yaml", {})
    assert default == Config()
    duplex, endpoint = default.duplex, default.vad.endpoint
    assert (duplex.barge_in, duplex.verdict_threshold, duplex.verdict_deadline_ms) == ("hold", 0.5, 6000)
    assert (duplex.first_limit_s, duplex.stall_limit_s, endpoint.hint) == (10, 10, True)
    assert (endpoint.hold_after_ms, endpoint.early_ms, endpoint.max_utterance_s) == (128, 200, 30)
    assert (endpoint.pre_roll_ms, endpoint.min_speech_ms, endpoint.silence_ms) == (300, 96, 500)
    assert default.tts.lead_ms == 200


def test_the_environment_wins_over_the_file_and_flags_win_over_both(tmp_path: Path) -> None:
    text = "server: {host: 0.0.0.0, port: 1, max_sessions: 11}"
    environment = {"VITA_DUPLEX_SERVER__PORT": "2", "VITA_DUPLEX_SERVER__MAX_SESSIONS": "12", "OTHER": "3"}
    server = load(tmp_path, text, environment, "server.port=3").server
    assert (server.host, server.max_sessions, server.port) == ("0.0.0.0", 12, 3)


def test_the_last_of_two_flags_wins(tmp_path: Path) -> None:
    assert load(tmp_path, "", {}, "server.port=1", "server.port=2").server.port == 2


def test_the_environment_also_sets_what_is_deep(tmp_path: Path) -> None:
    environment = {"VITA_DUPLEX_ENGINE__TEXT__MODEL": "some/model"}
    assert load(tmp_path, "engine: {instances: 2}", environment).engine.text.model == "some/model"


def test_a_whole_section_or_list_may_be_given_as_text(tmp_path: Path) -> None:
    config = load(tmp_path, "", {}, "engine.scripted=[{p1: 0.25}, {p1: 0.75}]", "server={port: 9}")
    assert [reply.p1 for reply in config.engine.scripted] == [0.25, 0.75]
    assert config.server.port == 9


def test_a_section_without_content_is_as_if_it_was_not_there(tmp_path: Path) -> None:
    assert load(tmp_path, "server:\n  # port: 9000\n") == Config()
    assert load(tmp_path, "server:\n", {"VITA_DUPLEX_SERVER__PORT": "9"}).server.port == 9


@pytest.mark.parametrize("word", ["off", "hold", "verdict"])
def test_words_stay_words(tmp_path: Path, word: str) -> None:
    assert load(tmp_path, f"duplex: {{barge_in: {word}}}").duplex.barge_in == word
    assert load(tmp_path, f"duplex:\n  barge_in: {word}  # a reason\n").duplex.barge_in == word
    assert load(tmp_path, "", {"VITA_DUPLEX_DUPLEX__BARGE_IN": word}).duplex.barge_in == word
    assert load(tmp_path, "", {}, f"duplex.barge_in={word}").duplex.barge_in == word


def test_a_wrong_word_is_refused_with_the_right_ones(tmp_path: Path) -> None:
    for message in (
        refused(tmp_path, "duplex: {barge_in: maybe}"),
        refused(tmp_path, "", {}, "duplex.barge_in=maybe"),
        refused(tmp_path, "", {"VITA_DUPLEX_DUPLEX__BARGE_IN": "maybe"}),
    ):
        assert message == "duplex.barge_in: Input should be 'hold', 'verdict' or 'off' (got 'maybe')"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sever: {port: 1}", "sever.port is no setting; did you mean server.port?"),
        ("server: {prot: 1}", "server.prot is no setting; did you mean server.port?"),
        ("engine: {text: {modell: x}}", "engine.text.modell is no setting; did you mean engine.text.model?"),
        (
            "engine: {scripted: [{p1: 1}, {transcrpt: x}]}",
            "engine.scripted.transcrpt is no setting; did you mean engine.scripted.transcript?",
        ),
        ("lead_ms: 100", "lead_ms is no setting; did you mean tts.lead_ms?"),
        ("vad: {silence_ms: 1}", "vad.silence_ms is no setting; did you mean vad.endpoint.silence_ms?"),
        ("ears: {kind: whisper}", "ears.kind is no setting; did you mean asr.kind?"),
        ("voice: {kind: humming}", "voice.kind is no setting; did you mean tts.kind?"),
        ("speech: {lead_ms: 200}", "speech.lead_ms is no setting; did you mean tts.lead_ms?"),
        ("endpoint: {hint: true}", "endpoint.hint is no setting; did you mean vad.endpoint.hint?"),
        ("vad: {echo_guard: true}", "vad.echo_guard is no setting; did you mean vad.echo.guard?"),
        ("vad: {zzz: 1}", "vad.zzz is no setting; known here: kind, endpoint, echo, level_gate_db, turn_end"),
        ("vad: {1: 1}", "vad.1 is no setting; known here: kind, endpoint, echo, level_gate_db, turn_end"),
    ],
)
def test_an_unknown_key_names_the_known_one(tmp_path: Path, text: str, message: str) -> None:
    assert refused(tmp_path, text) == message


def test_an_unknown_key_from_elsewhere_is_named_as_it_was_written(tmp_path: Path) -> None:
    assert refused(tmp_path, "", {}, "server.prot=1") == "server.prot is no setting; did you mean server.port?"
    for wrong, right in (
        ("SERVER__PROT", "SERVER__PORT"),
        ("SEVER__PORT", "SERVER__PORT"),
        ("VOICE__OPENAI__API_KEY", "TTS__OPENAI__API_KEY"),
        ("EARS__KIND", "ASR__KIND"),
        ("ENDPOINT__HINT", "VAD__ENDPOINT__HINT"),
        ("VAD__ECHO_GUARD", "VAD__ECHO__GUARD"),
    ):
        message = refused(tmp_path, "", {f"VITA_DUPLEX_{wrong}": "1"})
        assert message == f"VITA_DUPLEX_{wrong} is no setting; did you mean VITA_DUPLEX_{right}?"
    wrong_part = refused(tmp_path, "", {"VITA_DUPLEX_ENGINE__SCRIPTED": "[{transcrpt: x}]"})
    assert "did you mean VITA_DUPLEX_ENGINE__SCRIPTED__TRANSCRIPT?" in wrong_part
    assert refused(tmp_path, "", {}, "server={prot: 1}") == "server.prot is no setting; did you mean server.port?"


def test_a_setting_that_is_gone_has_no_other(tmp_path: Path) -> None:
    for name in GONE:
        assert refused(tmp_path, "", {}, f"{name}=1") == f"{name} is no setting; it is gone, leave it out"


SECRETS = ["0012", "true", "1e3", "[a]", "{a}", "*secret", "se: cret", "1_000", "0x1F", "12:30:45", "1.50", "abc #def",
           "~", "null", "", "#", "&a", "'", '"']  # fmt: skip


@pytest.mark.parametrize("name", ["tts.openai.api_key", "asr.openai.api_key", "engine.remote.api_key",
                                  "tts.tencent.secret_id", "tts.tencent.secret_key"])  # fmt: skip
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_taken_as_it_stands(name: str, secret: str) -> None:
    variable = "VITA_DUPLEX_" + name.upper().replace(".", "__")
    for config in (load_config(None, {variable: secret}), load_config(None, {}, [f"{name}={secret}"])):
        found = attrgetter(name)(config)
        assert found.get_secret_value() == secret
        assert len(secret) < 4 or secret not in repr(config)


@pytest.mark.parametrize("secret", ["0012", "1e3", "12:30:45", "0x1F", "true", "1_000"])
def test_a_secret_in_a_file_or_section_is_taken_as_it_stands(tmp_path: Path, secret: str) -> None:
    section = {"VITA_DUPLEX_TTS__OPENAI": f"{{api_key: {secret}}}"}
    for config in (load_config(None, section), load(tmp_path, f"tts: {{openai: {{api_key: {secret}}}}}")):
        assert config.tts.openai.api_key.get_secret_value() == secret


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        ("tts: {openai: {api_key: [hush]}}", {}),
        ("tts: {openai: {api_key: {hush: hush}}}", {}),
        ("tts: {openai: hush}", {}),
        ("tts: hush", {}),
        ("tts: {openai: [hush]}", {}),
        ("tts: {openai: {api_key: *hush}}", {}),
        ("tts: {openai: {api_key: hush: hush}}", {}),
        ("server: {port: many}", {"VITA_DUPLEX_TTS__OPENAI__API_KEY": "hush"}),
        ("", {"VITA_DUPLEX_TTS__OPENAI": "hush"}),
        ("", {"VITA_DUPLEX_TTS__OPENAI": "{api_key: *hush}"}),
        ("", {"VITA_DUPLEX_TTS__OPENAI": "[hush]"}),
        ("", {"VITA_DUPLEX_TTS__OPENAI__API_KEI": "hush"}),
    ],
)
def test_no_message_shows_a_secret(tmp_path: Path, text: str, environment: dict[str, str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, environment)
    assert "hush" not in "".join(traceback.format_exception(caught.value)).replace(text, "")


SERVICE = {
    "VITA_DUPLEX_SERVICE_HOST": "10.96.0.1",
    "VITA_DUPLEX_SERVICE_PORT": "8000",
    "VITA_DUPLEX_SERVICE_PORT_HTTP": "8000",
    "VITA_DUPLEX_PORT": "tcp://10.96.0.1:8000",
    "VITA_DUPLEX_PORT_8000_TCP": "tcp://10.96.0.1:8000",
    "VITA_DUPLEX_PORT_8000_TCP_PROTO": "tcp",
    "VITA_DUPLEX_PORT_8000_TCP_PORT": "8000",
    "VITA_DUPLEX_PORT_8000_TCP_ADDR": "10.96.0.1",
    "VITA_DUPLEX_METRICS_SERVICE_HOST": "10.96.0.2",
    "VITA_DUPLEX_METRICS_PORT": "tcp://10.96.0.2:80",
}


def test_what_kubernetes_tells_of_a_service_of_that_name_is_ignored() -> None:
    assert load_config(None, SERVICE) == Config()
    assert set(of_kubernetes({**SERVICE, "VITA_DUPLEX_SERVER__PORT": "1", "PATH": "/"})) == set(SERVICE)
    assert load_config(None, {**SERVICE, "VITA_DUPLEX_SERVER__PORT": "9"}).server.port == 9
    with pytest.raises(ConfigError, match=r"VITA_DUPLEX_PORT is no setting; did you mean VITA_DUPLEX_SERVER__PORT\?"):
        load_config(None, {"VITA_DUPLEX_PORT": "9000"})


@pytest.mark.parametrize("nothing", ["null", "~", ""])
def test_a_setting_may_be_left_without_a_value(tmp_path: Path, nothing: str) -> None:
    for config in (
        load(tmp_path, f"engine: {{text: {{kv_cache_mib: {nothing}}}}}"),
        load_config(None, {"VITA_DUPLEX_ENGINE__TEXT__KV_CACHE_MIB": nothing}),
        load_config(None, {}, [f"engine.text.kv_cache_mib={nothing}"]),
    ):
        assert config.engine.text.kv_cache_mib is None


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("server: {port: many}", "server.port: "),
        ("server: {port: 70000}", "server.port: "),
        ("server: {port: [1]}", "server.port: "),
        ("server: 5", "server: "),
        ("server: [port]", "server: "),
        ("vad: {endpoint: {threshold: 2}}", "vad.endpoint.threshold: "),
        ("vad: {endpoint: {threshold: .nan}}", "vad.endpoint.threshold: "),
        ("vad: {endpoint: {max_utterance_s: .inf}}", "vad.endpoint.max_utterance_s: "),
        ("engine: {scripted: {p1: 1}}", "engine.scripted: "),
        ("engine: {scripted: []}", "engine.scripted: "),
        ("engine: {scripted: [{verdict_s: .inf}]}", "engine.scripted.0.verdict_s: "),
        ("engine: {scripted: [{p1: high}]}", "engine.scripted.0.p1: "),
        ("engine: {scripted: [3]}", "engine.scripted.0: "),
        ("engine: {instances: 0}", "engine.instances: "),
    ],
)
def test_a_wrong_value_says_where_and_what(tmp_path: Path, text: str, where: str) -> None:
    message = refused(tmp_path, text)
    assert message.startswith(where)
    assert "(got " in message


def test_a_hold_does_not_end_before_the_verdict_about_the_longest_utterance(tmp_path: Path) -> None:
    assert Config().deciding.hold_limit_s == 30 + 10 + 6
    longer = load(tmp_path, "vad: {endpoint: {max_utterance_s: 60}}", {}, "duplex.verdict_deadline_ms=1500")
    assert longer.deciding.hold_limit_s == 60 + 10 + 1.5
    assert longer.deciding.model_dump(exclude={"hold_limit_s"}) == longer.duplex.model_dump()
    assert (
        refused(tmp_path, "duplex: {hold_limit_s: 45}") == "duplex.hold_limit_s is no setting; it is gone, leave it out"
    )
    for wanted in ("silence_ms", "patient_ms", "quick_ms"):
        assert refused(tmp_path, "", {}, f"vad.endpoint.{wanted}=10001").startswith(f"vad.endpoint.{wanted}: ")
    with pytest.raises(ValueError, match="silence_duration_ms"):
        ServerVad(type="server_vad", silence_duration_ms=10_001)


def test_verdicts_wait_for_whisper(tmp_path: Path) -> None:
    message = refused(tmp_path, "asr: {kind: whisper}", {}, "duplex.verdict_deadline_ms=1500")
    assert message.startswith("duplex.verdict_deadline_ms must be at least 4000 with asr.kind whisper")
    assert load(tmp_path, "asr: {kind: whisper}").asr.kind == "whisper"
    remote = "asr: {kind: whisper}\nengine: {kind: remote, remote: {urls: [http://a]}}"
    assert load(tmp_path, remote, {}, "duplex.verdict_deadline_ms=1500"), "it hears itself"


def test_engines_on_the_same_cores_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient = "duplex.first_limit_s=1.2"
    monkeypatch.setattr(sections, "on_cpu", lambda: True)
    message = "duplex.first_limit_s must be at least 5 with 2 engines on the same cores"
    assert refused(tmp_path, "engine: {instances: 2}", {}, impatient) == message
    assert refused(tmp_path, "models: {small: {text: {model: x}}}", {}, impatient) == message
    assert load(tmp_path, "", {}, impatient).duplex.first_limit_s == 1.2
    monkeypatch.setattr(sections, "on_cpu", lambda: False)
    assert load(tmp_path, "engine: {instances: 2}", {}, impatient).engine.count == 2


def test_a_key_has_at_least_a_minute_a_day(tmp_path: Path) -> None:
    assert refused(tmp_path, "limits: {key_minutes_per_day: 0.5}").startswith("limits.key_minutes_per_day: ")
    limits = load(tmp_path, "limits: {key_minutes_per_day: 1}").limits
    assert Usage.under(limits, 0.0).refusal(0.0) is None


@pytest.mark.parametrize(
    "text", ["server: {", "a: b: c", "\tserver: 1", "server: !!python/object:os.system {}", "&a *b"]
)
def test_what_is_not_yaml_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    message = refused(tmp_path, text)
    assert message.startswith(f"{tmp_path / 'config.yaml'} is not YAML: ")
    assert "\n" not in message


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "nul.yaml").write_bytes(b"server: \x00")
    for name in ("binary.yaml", "nul.yaml"):
        with pytest.raises(ConfigError, match="is not YAML"):
            load_config(tmp_path / name, {})


@pytest.mark.parametrize("text", ["just words", "- a\n- list", "7"])
def test_a_file_without_sections_is_refused(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, text).endswith("the top must be sections such as `server:`")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file"):
        load_config(tmp_path / "none.yaml", {})
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path, {})


def test_a_list_from_elsewhere_that_is_not_yaml_is_refused_by_name(tmp_path: Path) -> None:
    assert refused(tmp_path, "", {"VITA_DUPLEX_ACCESS__ORIGINS": "[1"}).startswith("access.origins: not YAML: line 1")
    assert refused(tmp_path, "", {}, "access.origins={").startswith("access.origins: not YAML: line 1")


def test_a_flag_without_a_value_is_explained(tmp_path: Path) -> None:
    assert "section.key=value" in refused(tmp_path, "", {}, "server.port")


def test_a_value_is_no_section(tmp_path: Path) -> None:
    assert refused(tmp_path, "server: {port: 1}", {}, "server.port.more=1").startswith("server.port: ")


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().server.port = 9  # type: ignore[misc]


def test_the_cache_is_in_the_users_cache_folder() -> None:
    script = "from vita_duplex.config import default_cache; print(default_cache())"
    environment = {**os.environ, "XDG_CACHE_HOME": "/somewhere"}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "/somewhere/vita-duplex\n"
    assert default_cache().name == "vita-duplex"


@pytest.mark.parametrize(("name", "instances"), [("vita15-1gpu", 1), ("vita15-2gpu", 2)])
def test_vita15_on_one_and_two_gpus(name: str, instances: int) -> None:
    engine = load_config(CONFIGS[0].parent / f"{name}.yaml", {}).engine
    assert (engine.kind, engine.count, engine.gpus, engine.vita.max_dynamic_patch) == ("vita", instances, instances, 1)


def test_further_models_have_names_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("engine: {kind: scripted}\nmodels: {small: {kind: scripted, instances: 2}}")
    assert load_config(file, {}).models["small"].count == 2
    file.write_text("engine: {kind: scripted}\nmodels: {scripted: {kind: scripted}}")
    with pytest.raises(ConfigError, match="models has a second 'scripted'"):
        load_config(file, {})
    file.write_text("models: {small: {kind: scripted, instance: 2}}")
    with pytest.raises(ConfigError, match=r"models.small.instance is no setting; did you mean models.small.instances"):
        load_config(file, {})
