"""The tools that a client offers: read where they enter, and shown as the reference shows them. Pure."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vita_duplex.engine.messages import Tool, Tools
from vita_duplex.server.errors import ClientError
from vita_duplex.server.realtime.items import Json

TOOLS_LIMIT = 128
"""Tools, as in OpenAI's API reference for chats."""
SCHEMAS_LIMIT = 65_536
"""Characters of all their descriptions and schemas, as JSON: more than any model reads."""
DEPTH_LIMIT = 32
"""Objects and lists in each other in a schema."""

ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class FunctionTool(BaseModel):
    """As the reference has it; `function` is the form of chats."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["function"] = "function"
    name: ToolName
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)


class NamedChoice(BaseModel):
    """The one tool that is to be called."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["function"] = "function"
    name: ToolName


Choice = Literal["auto", "none", "required"]
_choice = TypeAdapter[Choice | NamedChoice](Choice | NamedChoice)


def read_tools(
    wanted: list[Any] | None, choice: Any, parallel: bool | None, old: Tools, path: str, event_id: str | None = None
) -> Tools:
    """What a client offers from now on; None leaves what was before. Errors: `ClientError`."""
    tools = old.tools if wanted is None else _read(wanted, f"{path}tools", event_id)
    names = [tool.name for tool in tools]
    parallel = old.parallel if parallel is None else parallel
    if choice is None:
        kept = old.name is None or old.name in names
        return Tools(tools, old.choice if kept else "auto", old.name if kept else None, parallel)
    param = f"{path}tool_choice"
    try:
        read = _choice.validate_python(_flat(choice))
    except ValidationError as error:
        message = f"{param}: auto, none, required, or the name of a function"
        raise ClientError("invalid_value", message, param=param, event_id=event_id) from error
    if isinstance(read, str):
        return Tools(tools, read, None, parallel)
    if read.name not in names:
        message = f"There is no tool {read.name!r} to be called."
        raise ClientError("invalid_value", message, param=param, event_id=event_id)
    return Tools(tools, "named", read.name, parallel)


def _read(wanted: list[Any], param: str, event_id: str | None) -> tuple[Tool, ...]:
    def wrong(place: int | None, message: str) -> ClientError:
        where = param if place is None else f"{param}.{place}"
        return ClientError("invalid_value", f"{where}: {message}", param=where, event_id=event_id)

    if len(wanted) > TOOLS_LIMIT:
        raise wrong(None, f"at most {TOOLS_LIMIT} tools")
    tools: dict[str, Tool] = {}
    for place, one in enumerate(wanted):
        try:
            read = FunctionTool.model_validate(_flat(one))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise wrong(place, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        if read.name in tools:
            raise wrong(place, f"there is a tool {read.name!r} already")
        if fault := _fault(read.parameters):
            raise wrong(place, fault)
        tools[read.name] = Tool(read.name, read.description, read.parameters)
    if len(json.dumps([describe_tool(tool) for tool in tools.values()])) > SCHEMAS_LIMIT:
        raise wrong(None, f"more than {SCHEMAS_LIMIT} characters of descriptions and schemas")
    return tuple(tools.values())


def _flat(one: Any) -> Any:
    """The form of chats has the fields in `function`."""
    inner = one.get("function") if isinstance(one, dict) else None
    return {"type": one.get("type", "function"), **inner} if isinstance(inner, dict) else one


def _fault(schema: Mapping[str, Any]) -> str | None:
    """Why no output can be made to follow a schema."""
    if _depth(schema, DEPTH_LIMIT) <= 0:
        return f"its schema is nested more than {DEPTH_LIMIT} deep"
    return "its schema refers to itself" if _recurs(schema, schema, ()) else None


def _depth(node: Any, left: int) -> int:
    """How many levels are left below the deepest."""
    below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return left if left <= 0 else min((_depth(one, left - 1) for one in below), default=left)


def _recurs(node: Any, whole: Mapping[str, Any], inside: tuple[str, ...]) -> bool:
    """Whether following the references of a schema ever comes back."""
    if isinstance(node, list):
        return any(_recurs(one, whole, inside) for one in node)
    if not isinstance(node, dict):
        return False
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        if reference in inside or reference == "#":
            return True
        target: Any = whole
        for name in reference.removeprefix("#/").split("/"):
            target = target.get(name) if isinstance(target, dict) else None
        if _recurs(target, whole, (*inside, reference)):
            return True
    return any(_recurs(one, whole, inside) for name, one in node.items() if name not in ("$defs", "definitions"))


def describe_tool(tool: Tool) -> Json:
    described = {"type": "function", "name": tool.name, "description": tool.description}
    return cast(Json, {**described, "parameters": dict(tool.parameters)})


def describe_choice(tools: Tools) -> str | Json:
    return {"type": "function", "name": tools.name} if tools.choice == "named" else tools.choice
