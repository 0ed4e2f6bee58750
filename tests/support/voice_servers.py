"""Local servers that speak the documented protocols of speech services, with their failures."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

SECRET_ID, SECRET_KEY = "AKIDexample", "secret-of-the-example"


def tone(text: str) -> bytes:
    """Ten samples a character, numbered, as 16-bit PCM."""
    return (np.arange(10 * len(text)) % 30_000).astype("<i2").tobytes()


@dataclass
class Asked:
    """What a server was asked, and what became of it."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)
    """A client closed its connection while it was being spoken to."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[tuple[str, Asked]]:
    """Serve on a free port of the loopback address; yields the server's URL and what it was asked."""
    asked = Asked()
    bound = type("Bound", (handler,), {"asked": asked, "log_message": lambda *_: None, "protocol_version": "HTTP/1.1"})
    with ThreadingHTTPServer(("127.0.0.1", 0), bound) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


class OpenAiHandler(BaseHTTPRequestHandler):
    """`POST /v1/audio/speech`; the voice says what happens."""

    asked: Asked

    def do_POST(self) -> None:
        wish = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.requests.append({"path": self.path, **wish})
        self.asked.headers.append(dict(self.headers))
        audio = tone(wish["input"])
        match wish["voice"]:
            case "alloy" | "sage":
                self._begin()
                for start in range(0, len(audio), 333):  # an odd number: samples are torn in two
                    self._send(audio[start : start + 333])
                self._send(b"")
            case "half":
                self._begin()
                self._send(audio[: len(audio) // 2 // 2 * 2])
                self.close_connection = True  # without the last chunk
            case "endless":
                self._begin()
                try:
                    while True:
                        self._send(audio)
                except OSError:
                    self.asked.left.set()
            case "mute":
                self.asked.left.wait(5)
            case unknown:
                message = f"no voice {unknown} to say {wish['input']}"
                body = json.dumps({"error": {"message": message, "code": "voice_not_found"}}).encode()
                self.send_response(404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

    def _begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "audio/pcm")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _send(self, portion: bytes) -> None:
        self.wfile.write(f"{len(portion):x}\r\n".encode() + portion + b"\r\n")


class TencentHandler(BaseHTTPRequestHandler):
    """`TextToVoice` of API version 2019-08-23; checks signature v3 as Tencent documents it."""

    asked: Asked

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        wish = json.loads(body)
        self.asked.requests.append(wish)
        self.asked.headers.append(dict(self.headers))
        if self.headers["Authorization"] != self._authorization(body):
            answer: dict[str, Any] = {"Error": {"Code": "AuthFailure.SignatureFailure", "Message": "wrong"}}
        elif wish["VoiceType"] == 1:
            answer = {"Error": {"Code": "InvalidParameterValue.VoiceType", "Message": f"cannot say {wish['Text']}"}}
        elif wish["VoiceType"] == 2:
            answer = {"Audio": "no base64!"}
        else:
            answer = {"Audio": base64.b64encode(tone(wish["Text"])).decode(), "SessionId": wish["SessionId"]}
        if wish["VoiceType"] == 3:
            self.asked.left.wait(5)
        data = json.dumps({"Response": {"RequestId": "r", **answer}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if wish["VoiceType"] == 4 else data)
        self.close_connection = wish["VoiceType"] == 4

    def _authorization(self, body: bytes) -> str:
        """Tencent Cloud API 3.0, "Signature v3": canonical request → string to sign → three derived keys → HMAC."""
        given = self.headers["Authorization"]
        signed = given.split("SignedHeaders=")[1].split(",")[0]
        scope = given.split("Credential=")[1].split(",")[0].removeprefix(f"{SECRET_ID}/")
        canonical_headers = "".join(f"{name}:{self.headers[name].strip().lower()}\n" for name in signed.split(";"))
        digest = hashlib.sha256(body).hexdigest()
        canonical = f"POST\n/\n\n{canonical_headers}\n{signed}\n{digest}"
        algorithm, timestamp = "TC3-HMAC-SHA256", self.headers["X-TC-Timestamp"]
        to_sign = f"{algorithm}\n{timestamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"TC3{SECRET_KEY}".encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
        return f"{algorithm} Credential={SECRET_ID}/{scope}, SignedHeaders={signed}, Signature={signature}"
