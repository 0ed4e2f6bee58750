"""The images, really built, and asked a spoken question: by nobody, on a read-only root."""

import asyncio
from contextlib import ExitStack

import pytest

from tests.support.containers import Container, configured, container, images
from tests.support.paths import ROOT
from tests.support.served import free_port
from tests.support.vllm_server import ENVIRONMENT, SMALL, TINY
from vita_duplex.client.conversation import Conversation
from vita_duplex.client.recording import read_recording
from vita_duplex.client.talk import converse

pytestmark = [pytest.mark.real, pytest.mark.long]

QUESTION = ROOT / "tests" / "data" / "goforward.flac"
ENGINE = ["python", "-m", "vllm.entrypoints.openai.api_server", "--model", "/models/vita", *SMALL]
PATIENT = {"VERDICT_DEADLINE_MS": "6000", "FIRST_LIMIT_S": "20", "STALL_LIMIT_S": "20", "VERDICT_THRESHOLD": "0"}
"""Two engines and everything else share two cores here; and the tiny model means nothing by its verdicts."""


def asked(served: Container) -> Conversation:
    url = f"ws://127.0.0.1:{served.port}/v1/realtime"
    return asyncio.run(converse(url, read_recording(QUESTION), limit_s=60))


def test_the_cpu_image_answers_a_spoken_question_and_knows_that_it_is_well() -> None:
    images("cpu")
    port = free_port()
    variables = {"VITA_DUPLEX_SERVER__PORT": str(port), "VITA_DUPLEX_ACCESS__OPEN": "true"}
    with container("vita-duplex:cpu", port, variables=variables) as served:
        served.ready("/ready")
        conversation = asked(served)
        assert conversation.errors == []
        assert [reply.status for reply in conversation.replies.values()] == ["completed"]
        kind, *healthy = configured("vita-duplex:cpu")["Healthcheck"]["Test"]
        assert kind == "CMD"
        served.does(*(word.replace(":8000/", f":{port}/") for word in healthy))


def test_a_gateway_without_torch_answers_with_two_engines_in_containers() -> None:
    images("cpu", "gateway")
    with ExitStack() as stack:
        engines = []
        for _ in range(2):
            port = free_port()
            place = ["--host", "127.0.0.1", "--port", str(port), "--kv-cache-memory-bytes", str(2**26)]
            engine = container(
                "vita-duplex:cpu", port, *ENGINE, *place, variables=ENVIRONMENT, binds={TINY: "/models/vita"}
            )
            engines.append(stack.enter_context(engine))
        for one in engines:
            one.ready("/health")
        port = free_port()
        variables = {
            "VITA_DUPLEX_SERVER__PORT": str(port),
            "VITA_DUPLEX_ACCESS__OPEN": "true",
            "VITA_DUPLEX_ENGINE__REMOTE__URLS": str([f"http://127.0.0.1:{one.port}" for one in engines]),
            "VITA_DUPLEX_ENGINE__REMOTE__MAX_TOKENS": "60",
            **{f"VITA_DUPLEX_DUPLEX__{name}": value for name, value in PATIENT.items()},
        }
        gateway = stack.enter_context(container("vita-duplex:gateway", port, variables=variables))
        gateway.ready("/ready")
        with pytest.raises(AssertionError, match="No module named 'torch'"):
            gateway.does("python", "-c", "import torch")
        conversation = asked(gateway)
        assert conversation.errors == []
        assert [verdict.accepted for verdict in conversation.verdicts] == [True]
        assert [reply.status for reply in conversation.replies.values()] == ["completed"]
