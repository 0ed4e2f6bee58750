"""Training data in files: VITA's own JSON, and JSON lines of messages as ms-swift and others read them.

Source of VITA's format: the README and `vita/config/dataset_config.py` of https://github.com/VITA-MLLM/VITA (2025).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vita_duplex.models.prompts import State
from vita_duplex.train.sample import Medium, MediumKind, Part, Sample, SampleError, Turn, state_of

PLACEHOLDER = re.compile(r"<(image|audio|video)>")
ROLES = {"human": "user", "gpt": "assistant"}
MOST_IMAGES = 16
"""Of one item; the original leaves out the rest."""
MESSAGE_FIELDS = {"messages", "audios", "images", "videos", "id", "end", "situation"}


class Folders(BaseModel):
    """Where media lie: the original's `FolderDict` and `AudioFolder`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sets: dict[str, Path] = Field(default={}, description="folder of each set's images and videos (FolderDict)")
    audio: Path | None = Field(default=None, description="folder whose `audio/` holds the clips (AudioFolder)")
    not_tiled: frozenset[str] = Field(default=frozenset(), description="sets not tiled if multi-image (NoPatchSets)")


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a file, as it stands there."""

    name: str
    fields: Mapping[str, Any]

    def sample(self, file: Path, folders: Folders) -> Sample:
        """Errors: `SampleError`."""
        if "conversations" in self.fields:
            return _of_vita(self, folders)
        if "messages" in self.fields:
            return _of_messages(self, file.parent)
        raise SampleError("it has neither `conversations` (VITA's JSON) nor `messages` (JSON lines)")


def read_items(file: Path) -> Iterator[Item]:
    """The entries of a file, `.json` a list, `.jsonl` one a line.

    Errors: `SampleError` for a file that cannot be read; `OSError` where there is none.
    """
    text = file.read_text(encoding="utf-8-sig")
    lines = enumerate(text.splitlines(), start=1) if file.suffix == ".jsonl" else [(0, text)]
    for number, line in lines:
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            raise SampleError(f"{file}, line {number or error.lineno}: no JSON ({error.msg})") from error
        if number:
            yield _item(found, f"{file.name}:{number}")
            continue
        if not isinstance(found, list):
            raise SampleError(f"{file}: wants a list of items")
        for place, one in enumerate(found):
            yield _item(one, f"{file.name}[{place}]")


def _item(found: Any, name: str) -> Item:
    if not isinstance(found, dict):
        raise SampleError(f"{name}: an item has to be an object")
    return Item(name, found)


# ── VITA's JSON ────────────────────────────────────────────────────────────────────────


def _of_vita(item: Item, folders: Folders) -> Sample:
    fields = item.fields
    sets = _as_list(fields.get("set"))
    media = {
        "image": _under(folders, sets, _as_list(fields.get("image"))),
        "video": _under(folders, sets, _as_list(fields.get("video"))),
        "audio": [_audio_path(folders, one) for one in _as_list(fields.get("audio"))],
    }
    noise = fields.get("inserted_id")
    texts = _paired(item, [(ROLES.get(str(one.get("from"))), one.get("value")) for one in fields["conversations"]])
    left = {kind: list(paths) for kind, paths in media.items()}
    turns = []
    for number, (user, answer) in enumerate(texts):
        parts = _with_media(user, left)
        turns.append(Turn(parts, answer, state_of(parts, noise=noise == 2 * number + 1)))
    _check_all_used(left)
    tiled = not (len(media["image"]) > 1 and folders.not_tiled.intersection(sets))
    known = {"conversations", "image", "video", "audio", "set", "inserted_id", "end_tag"}
    extra = {key: value for key, value in fields.items() if key not in known}
    return Sample(tuple(turns), item.name, bool(fields.get("end_tag", True)), tiled, extra=extra)


def _as_list(value: Any) -> list[str]:
    return [] if value is None else [str(one) for one in value] if isinstance(value, list) else [str(value)]


def _under(folders: Folders, sets: list[str], names: list[str]) -> list[Path]:
    """Each file under the folder of its set; one set is that of all."""
    paths = []
    for index, name in enumerate(names):
        if not sets:
            paths.append(Path(name))
            continue
        chosen = sets[min(index, len(sets) - 1)]
        if chosen not in folders.sets:
            raise SampleError(
                f"the set {chosen!r} has no folder; known are {', '.join(sorted(folders.sets)) or 'none'}"
            )
        paths.append(folders.sets[chosen] / name)
    return paths


def _audio_path(folders: Folders, name: str) -> Path:
    return folders.audio / "audio" / name if folders.audio else Path(name)


# ── JSON lines of messages ─────────────────────────────────────────────────────────────


def _of_messages(item: Item, folder: Path) -> Sample:
    fields = item.fields
    left = {kind: [folder / one for one in _as_list(fields.get(f"{kind}s"))] for kind in ("image", "audio", "video")}
    messages = list(fields["messages"])
    system = ""
    if messages and messages[0].get("role") == "system":
        system = str(messages.pop(0).get("content", ""))
    texts = _paired(item, [(one.get("role"), one.get("content")) for one in messages])
    turns = []
    for (user, answer), said in zip(texts, messages[1::2], strict=True):
        parts = _with_media(user, left)
        turns.append(Turn(parts, answer, _said_state(said) or state_of(parts, noise=False)))
    _check_all_used(left)
    extra = {key: value for key, value in fields.items() if key not in MESSAGE_FIELDS}
    situation = str(fields.get("situation", ""))
    return Sample(tuple(turns), item.name, bool(fields.get("end", True)), True, system, situation, extra)


def _said_state(message: Mapping[str, Any]) -> State | None:
    match message.get("state"):
        case None | "query" | "noise" | "typed" as state:
            return state
        case other:
            raise SampleError(f"a message's `state` is {other!r}; it can be query, noise or typed")


def to_messages(sample: Sample, relative_to: Path) -> dict[str, Any]:
    """A sample as one line of messages, its media by path."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": sample.system}] if sample.system else []
    media: dict[str, list[str]] = {}
    for turn in sample.turns:
        text = ""
        for part in turn.user:
            if isinstance(part, Medium):
                media.setdefault(f"{part.kind}s", []).append(_relative(part.path, relative_to))
            text += f"<{part.kind}>" if isinstance(part, Medium) else part
        answer = {"role": "assistant", "content": turn.answer} | ({"state": turn.state} if turn.state else {})
        messages += [{"role": "user", "content": text}, answer]
    options = ({} if sample.end else {"end": False}) | ({"situation": sample.situation} if sample.situation else {})
    return {"messages": messages, **media, **options, **sample.extra}


def to_vita(sample: Sample) -> dict[str, Any]:
    """A sample as an item of VITA's JSON, its media by their whole paths.

    Errors: `SampleError` for what that format cannot say: more than one `<2>`, instructions.
    """
    noise = [2 * number + 1 for number, turn in enumerate(sample.turns) if turn.state == "noise"]
    if len(noise) > 1 or sample.system:
        raise SampleError("VITA's JSON has room for one <2> in an item and for no system message")
    conversations, media = [], dict[str, list[str]]()
    for turn in sample.turns:
        text = ""
        for part in turn.user:
            if isinstance(part, Medium):
                media.setdefault(part.kind, []).append(str(part.path))
            text += f"<{part.kind}>" if isinstance(part, Medium) else part
        conversations += [{"from": "human", "value": text}, {"from": "gpt", "value": turn.answer}]
    options = ({"inserted_id": noise[0]} if noise else {}) | ({} if sample.end else {"end_tag": False})
    return {"conversations": conversations, **media, **options, **sample.extra}


def _relative(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


# ── both ───────────────────────────────────────────────────────────────────────────────


def _paired(item: Item, messages: list[tuple[Any, Any]]) -> list[tuple[str, str]]:
    """Questions with their answers. Errors: `SampleError` unless they alternate and every answer has words."""
    if not messages or len(messages) % 2:
        raise SampleError(f"{len(messages)} messages; a question and an answer have to alternate, the answer last")
    pairs = []
    for (asker, question), (answerer, answer) in zip(messages[::2], messages[1::2], strict=True):
        if (asker, answerer) != ("user", "assistant"):
            raise SampleError(f"roles {asker!r} and {answerer!r} where a user and the assistant should alternate")
        if not isinstance(question, str) or not isinstance(answer, str):
            raise SampleError("the text of a message has to be a string")
        if not answer.strip():
            raise SampleError("an answer is empty; nothing of it would be trained")
        pairs.append((question, answer))
    return pairs


def _with_media(text: str, left: dict[str, list[Path]]) -> tuple[Part, ...]:
    """A question as parts, as the original arranges them.

    Images and videos that end a turn come first; behind the images of a turn stands a newline, behind audio none;
    double newlines become one; an item has at most sixteen images.
    """
    seen = re.search(r"(?:\s*<(?:image|video)>\s*)+$", text)
    if seen and seen.start() > 0:
        text = "".join(seen[0].split()) + "\n" + text[: seen.start()].strip()
    text = re.sub(r"<audio>\n", "<audio>", text)
    text = re.sub(r"(<(?:image|video)>)\n*(?!<(?:image|video)>)", "\\1\n", text)
    text = re.sub(r"(<(?:image|video)>)\n+(?=<(?:image|video)>)", "\\1", text)
    text = re.sub(r"\n{2,}", "\n", text)
    pieces = PLACEHOLDER.split(text)
    parts: list[Part] = []
    for index, piece in enumerate(pieces):
        if index % 2 == 0:
            parts += [piece] if piece else []
            continue
        kind: MediumKind = "image" if piece == "image" else "video" if piece == "video" else "audio"
        if not left[kind]:
            raise SampleError(f"there are more <{kind}> than {kind} files")
        parts.append(Medium(kind, left[kind].pop(0)))
    return tuple(parts)


def _check_all_used(left: Mapping[str, Iterable[Path]]) -> None:
    for kind, paths in left.items():
        if count := len(list(paths)):
            raise SampleError(f"{count} {kind} file{'s' * (count > 1)} more than <{kind}> in the text")
