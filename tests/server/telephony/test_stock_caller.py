"""A caller over AudioSocket whose library somebody else wrote, in real time: npm's asterisk-audiosocket."""

import json
import subprocess
from uuid import uuid4

import pytest

from tests.support.paths import ROOT
from tests.support.served import free_port, served

PAGE = ROOT / "tests" / "page"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not (PAGE / "node_modules" / "asterisk-audiosocket").exists(), reason="make page-tools"),
]


def test_a_call_is_answered_interrupted_and_hung_up() -> None:
    port = free_port()
    with served("scripted", "--set", f"telephony.audiosocket=127.0.0.1:{port}"):
        command = ["node", "audiosocket_caller.mjs", str(port), str(uuid4())]
        result = subprocess.run(command, cwd=PAGE, capture_output=True, text=True, timeout=120, check=True)
    heard = json.loads(result.stdout)
    print(heard)
    assert heard["before"] > 25
    assert heard["silent_ms"] > 0.2 * 1000, "it fell silent while the caller was still speaking"
    assert heard["answered"]
    assert heard["closed"]
