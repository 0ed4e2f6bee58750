"""Errors of HTTP requests in OpenAI's form."""

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from vita_duplex.engine.ports import PartFailed
from vita_duplex.server.access.auth import Denied
from vita_duplex.server.errors import ClientError, error_body
from vita_duplex.server.http.places import ClientLeft, NoPlace
from vita_duplex.server.http.unserved import not_served
from vita_duplex.server.observe.metrics import Metrics
from vita_duplex.server.realtime.seat import NoSeat

CLIENT_CLOSED_REQUEST = 499
"""Not in the RFCs, nginx's: it reaches nobody but the access log."""


def answer_errors(app: FastAPI, metrics: Metrics) -> None:
    """Say what each exception of a route becomes; refusals are counted."""

    @app.exception_handler(Denied)
    async def denied(_: Request, denied: Denied) -> JSONResponse:
        metrics.refusal(denied.code)
        return JSONResponse(error_body(denied.code, denied.message), denied.status, denied.headers)

    @app.exception_handler(NoPlace)
    async def no_place(_: Request, none: NoPlace) -> JSONResponse:
        metrics.refusal(none.refusal.code)
        kind = "server_error" if none.status >= 500 else "invalid_request_error"
        body = error_body(none.refusal.code, none.refusal.message, kind=kind)
        return JSONResponse(body, none.status, none.headers)

    @app.exception_handler(NoSeat)
    async def no_seat(request: Request, none: NoSeat) -> JSONResponse:
        return await no_place(request, NoPlace(none.refusal))

    @app.exception_handler(HTTPException)
    async def refused_by_the_framework(request: Request, error: HTTPException) -> JSONResponse:
        """No such path, a body that is no JSON."""
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        known = code != "invalid_request"
        message = not_served(app, f"{request.method} {request.url.path}") if known else str(error.detail)
        return JSONResponse(error_body(code, message), error.status_code, error.headers)

    app.add_exception_handler(ClientError, _nonsense)
    app.add_exception_handler(PartFailed, _part_failed)
    app.add_exception_handler(ClientLeft, _client_left)
    app.add_exception_handler(RequestValidationError, _invalid)


async def _nonsense(_: Request, error: Exception) -> Response:
    assert isinstance(error, ClientError)
    return JSONResponse(error_body(error.code, error.message, error.param), 400)


async def _part_failed(_: Request, failure: Exception) -> Response:
    return JSONResponse(error_body("part_failed", str(failure), kind="server_error"), 503)


async def _client_left(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = ".".join(str(part) for part in first["loc"][1:])
    return JSONResponse(error_body("invalid_value", f"{param}: {first['msg']}", param), 400)
