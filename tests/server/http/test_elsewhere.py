"""Pages of other origins, and everything behind a proxy."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.support.served import free_port
from tests.support.serving import serving
from tests.support.sockets import scripted_server
from vita_duplex.server.access.auth import hashed, new_key
from vita_duplex.server.http.app import create_app
from vita_duplex.server.server import Server

KEY = new_key()
PAGE = "http://localhost:5173"


async def ask(server: Server, method: str, path: str, headers: dict[str, str], **more: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app=create_app(server))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
        return await http.request(method, path, headers=headers, **more)


def preflight(origin: str) -> dict[str, str]:
    return {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-lang",
    }


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/realtime/client_secrets", "/v1/models", "/v1/responses"])
async def test_a_page_of_an_allowed_origin_may_ask_without_a_key_whether_it_may_ask(path: str) -> None:
    server = scripted_server(access={"keys": {"laptop": hashed(KEY)}, "origins": [f"{PAGE}/"]})
    allowed = await ask(server, "OPTIONS", path, preflight(PAGE))
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == PAGE
    assert "x-stainless-lang" in allowed.headers["access-control-allow-headers"]
    assert "POST" in allowed.headers["access-control-allow-methods"]
    refused = await ask(server, "OPTIONS", path, preflight("https://evil.example"))
    assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (400, False)


async def test_answers_and_errors_can_be_read_by_such_a_page() -> None:
    server = scripted_server(access={"keys": {"laptop": hashed(KEY)}, "origins": [PAGE]})
    with_key = {"origin": PAGE, "authorization": f"Bearer {KEY}"}
    for headers, status in ((with_key, 200), ({"origin": PAGE}, 401)):
        answer = await ask(server, "POST", "/v1/realtime/client_secrets", headers, json={})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, PAGE)
    refused = await ask(server, "POST", "/v1/realtime/client_secrets", {"origin": "https://evil.example"}, json={})
    assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (403, False)
    everybody = scripted_server(access={"origins": ["*"]})
    answer = await ask(everybody, "GET", "/v1/models", {"origin": "https://any.example"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")


@pytest.mark.parametrize("before", ["", "/vita"])
async def test_under_a_path_everything_is_there_whether_the_proxy_takes_it_off_or_not(before: str) -> None:
    server = scripted_server(server={"root_path": "/vita"})
    for path in ("/", "/ability", "/static/talk.js", "/ready", "/v1/models", "/openapi.json"):
        assert (await ask(server, "GET", before + path, {})).status_code == 200, path
    described = (await ask(server, "GET", f"{before}/openapi.json", {})).json()
    assert described["servers"] == [{"url": "/vita"}]


async def test_a_path_without_its_slash_is_sent_to_it() -> None:
    answer = await ask(scripted_server(server={"root_path": "/vita"}), "GET", "/vita", {})
    assert (answer.status_code, answer.headers["location"]) == (307, "/vita/")


NGINX = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    proxy_http_version 1.1;
    server {{
        listen 127.0.0.1:{stripping};
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_set_header Host $host;
        location /vita/ {{ proxy_pass http://127.0.0.1:{port}/; }}
    }}
    server {{
        listen 127.0.0.1:{keeping};
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_set_header Host $http_host;
        location /vita {{ proxy_pass http://127.0.0.1:{port}; }}
    }}
}}
"""


@asynccontextmanager
async def nginx(folder: Path, port: int) -> AsyncIterator[tuple[int, int]]:
    """In front of `port`: on one port it takes /vita off and names the host without its port, on the other neither."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    stripping, keeping = free_port(), free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, stripping=stripping, keeping=keeping))
    process = await asyncio.create_subprocess_exec(program, "-c", str(config), "-e", str(folder / "error.log"))
    try:
        yield stripping, keeping
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.real
async def test_behind_nginx_pages_sockets_and_the_description_work_under_a_path(tmp_path: Path) -> None:
    server = scripted_server(server={"root_path": "/vita"})
    async with (
        serving(server) as port,
        nginx(tmp_path, port) as ports,
        httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=5), follow_redirects=True) as http,
    ):
        for front in ports:
            address = f"127.0.0.1:{front}"
            for path in ("", "/", "/ability", "/static/talk.js", "/ready", "/v1/models", "/openapi.json"):
                assert (await http.get(f"http://{address}/vita{path}")).status_code == 200, path
            body = {"messages": [{"role": "user", "content": "hello"}]}
            own = {"origin": f"http://{address}"}
            answer = await http.post(f"http://{address}/vita/v1/chat/completions", json=body, headers=own)
            assert answer.status_code == 200, answer.text
            async with websockets.connect(f"ws://{address}/vita/v1/realtime", origin=own["origin"]) as socket:  # type: ignore[arg-type]
                assert json.loads(await socket.recv())["type"] == "session.created"
