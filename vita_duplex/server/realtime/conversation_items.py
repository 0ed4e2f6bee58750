"""The items that a client adds, retrieves, deletes and truncates."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import assert_never

import numpy as np

from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.dialogue import AUDIO_LIMIT_S, Place
from vita_duplex.engine.messages import Call, Pixels, Utterance
from vita_duplex.engine.session import Session
from vita_duplex.server.access.shedding import shown
from vita_duplex.server.audio.resample import Resampler
from vita_duplex.server.errors import ClientError
from vita_duplex.server.realtime.client_events import (
    AssistantItem,
    CallItem,
    InputAudio,
    InputImage,
    InputText,
    Item,
    ItemCreate,
    ItemDelete,
    ItemRetrieve,
    ItemTruncate,
    OutputItem,
    PlaybackAck,
    SystemItem,
    UserItem,
)
from vita_duplex.server.realtime.event_writer import Send, call_fields, item_fields, output_fields
from vita_duplex.server.realtime.images import decode_image
from vita_duplex.server.realtime.items import ITEM_LIMIT, Json, Key
from vita_duplex.server.realtime.server_events import ServerEvents
from vita_duplex.server.realtime.session_settings import SessionSettings
from vita_duplex.server.realtime.terms import Terms

SYSTEM_LIMIT = 32
"""System messages that are kept. When it is full further ones are refused with an error."""
IMAGE_LIMIT = 8
"""Images in a message. More are refused with an error."""


class ConversationItems:
    """Keeps the dialogue of the session, its system messages and its images in step with the client's items."""

    def __init__(
        self,
        session: Session,
        events: ServerEvents,
        numbers: Iterator[int],
        terms: Terms,
        voice_rate: int,
        send: Send,
        changed: Callable[[], Awaitable[None]],
        *,
        sees: Callable[[], bool],
    ) -> None:
        """`changed` is called when system messages or images are others. `sees`: whether the model takes images."""
        self.images: tuple[Pixels, ...] = ()
        """Those that every request is shown."""
        self._images_item: int | None = None
        self._told_forgotten = False
        self._system: dict[int, str] = {}
        self._session = session
        self._events = events
        self._numbers = numbers
        self._terms = terms
        self._voice_rate = voice_rate
        self._send = send
        self._changed = changed
        self._sees = sees

    def add_instructions(self, own: str) -> str:
        """The instructions of the session or of a response, and the system messages."""
        return "\n\n".join(filter(None, [own, *self._system.values()]))

    async def create(self, event: ItemCreate, settings: SessionSettings) -> None:
        """Errors, here and below: `ClientError`."""
        item = event.item
        if item.id is not None and self._events.items.is_taken(item.id):
            message = f"There is an item {item.id!r} already, or it is an id that the server will give."
            raise ClientError("item_create_duplicate_item_id", message, param="item.id", event_id=event.event_id)
        self._find_place(event)
        match item:
            case UserItem():
                key = await self._create_user_item(item, settings, event.event_id)
            case SystemItem():
                key = await self._create_system_item(item, event.event_id)
            case AssistantItem():
                key = ("assistant", next(self._numbers))
                self._session.add_assistant_message(key[1], item.text)
            case CallItem():
                key = self._create_call(item, event.event_id)
            case OutputItem():
                key = self._create_output(item, event.event_id)
            case _:
                assert_never(item)
        before = self._find_place(event)  # more may have been said meanwhile
        if before != self._events.items.last and not isinstance(item, OutputItem):  # which is where its call is
            self._session.dialogue.move(self._place(key), map(self._place, self._events.items.up_to(before)))
        self._send(*self._events.created(key, self._fields(item), item.id, before))
        if self._events.items.forgotten and not self._told_forgotten:
            self._told_forgotten = True
            message = f"The conversation keeps its newest {ITEM_LIMIT} items; the oldest are forgotten."
            self._send(self._events.client_error(ClientError("too_many_items", message, event_id=event.event_id)))

    def _find_place(self, event: ItemCreate) -> Key | None:
        """Behind which item this one is wanted; None: before all others."""
        wanted, items = event.previous_item_id, self._events.items
        if wanted is None or wanted == "root":
            return None if wanted else items.last
        key = items.find(wanted)
        if key is None or not items.get(key):
            message = f"There is no item {wanted!r} behind which another could be put."
            raise ClientError("item_not_found", message, param="previous_item_id", event_id=event.event_id)
        return key

    def retrieve(self, event: ItemRetrieve) -> None:
        self._send(self._events.retrieved(self.get(event.item_id, event.event_id)))

    def get(self, item_id: str, event_id: str | None) -> Json:
        """The item of an id. Of a reply that is over it says what was heard, as the dialogue does."""
        (kind, number), item = self._find(item_id, event_id)
        heard = self._session.dialogue.heard(number) if kind == "reply" else None
        if heard is None or not item["content"]:
            return item
        [part] = item["content"]
        return {**item, "content": [{**part, "transcript" if "transcript" in part else "text": heard}]}

    async def delete(self, event: ItemDelete) -> None:
        key, item = self._find(event.item_id, event.event_id)
        kind, number = key
        match kind:
            case "reply":
                self._session.dialogue.remove_reply(number)
            case "system":
                del self._system[number]
                await self._changed()
            case "user" | "assistant":
                self._session.dialogue.remove_message(number)
                if number == self._images_item:
                    self.images, self._images_item = (), None
                    await self._changed()
            case "call" | "output":
                self._session.calling.remove(item["call_id"])
            case _:
                pass
        self._send(self._events.deleted(key))

    def forget(self, keys: Iterable[Key]) -> None:
        """Tell of items that the dialogue has forgotten."""
        for key in keys:
            if self._events.items.get(key):
                self._send(self._events.deleted(key))

    async def truncate(self, event: ItemTruncate) -> None:
        turn = self._turn(event.item_id, event.event_id)
        if (reply := self._events.sounding) and reply.key == ("reply", turn):
            reply.cancelled = True
        if not await self._session.truncate(turn, self._samples(event.audio_end_ms)):
            raise _no_reply(event.item_id, event.event_id)
        self._send(self._events.truncated(event.item_id, event.audio_end_ms))

    def acknowledge(self, event: PlaybackAck) -> None:
        self._session.acknowledge(self._turn(event.item_id, event.event_id), self._samples(event.played_ms))

    # ── messages ───────────────────────────────────────────────────────────────────────

    async def _create_user_item(self, item: UserItem, settings: SessionSettings, event_id: str | None) -> Key:
        images = await self._decode_images(item, event_id)
        recordings = _decode_recordings(item, settings, event_id)
        number = next(self._numbers)
        if images:
            await self._show(images, number)
        said = [Utterance(number, text=item.text)] if item.text else []
        if recordings:
            said.insert(_texts_before_audio(item), Utterance(number, np.concatenate(recordings)))
        for utterance in said:
            self._session.add_user_message(utterance)
        return "user", number

    def _create_call(self, item: CallItem, event_id: str | None) -> Key:
        key = self._events.next_call()
        item.call_id = item.call_id or f"call_{self._events.items.id(key)}"
        if not self._session.calling.add(Call(item.call_id, item.name, item.arguments or "{}")):
            message = f"There is a call {item.call_id!r} already."
            raise ClientError("call_exists", message, param="item.call_id", event_id=event_id)
        return key

    def _create_output(self, item: OutputItem, event_id: str | None) -> Key:
        refused = self._session.calling.add_output(item.call_id, item.output)
        if refused == "twice":
            message = f"The call {item.call_id!r} has an output already, which counts."
            raise ClientError("call_already_answered", message, param="item.call_id", event_id=event_id)
        if refused:
            message = f"There is no call {item.call_id!r} in the conversation, or not any more."
            raise ClientError("call_not_found", message, param="item.call_id", event_id=event_id)
        return "output", next(self._numbers)

    def _fields(self, item: Item) -> Callable[[str], Json]:
        """The item as the conversation shows it, by its id."""
        match item:
            case CallItem(call_id=call_id, name=name, arguments=arguments):
                return lambda item_id: call_fields(item_id, Call(call_id or "", name, arguments), "completed")
            case OutputItem(call_id=call_id, output=output):
                return lambda item_id: output_fields(item_id, call_id, output)
            case _:
                role, content = item.role, _content(item)
                return lambda item_id: item_fields(item_id, role, "completed", content)

    async def _create_system_item(self, item: SystemItem, event_id: str | None) -> Key:
        if len(self._system) >= SYSTEM_LIMIT:
            message = f"{SYSTEM_LIMIT} system messages are kept; delete one."
            raise ClientError("too_many_items", message, event_id=event_id)
        number = next(self._numbers)
        self._system[number] = item.text
        await self._changed()
        return "system", number

    async def _show(self, images: tuple[Pixels, ...], number: int) -> None:
        """Show these images to the model from now on, as far as the server's load allows."""
        left = shown(images, self._terms.shedding())
        self.images, self._images_item = left, number
        await self._changed()
        if len(left) < len(images):
            self._terms.watch.shed(len(images) - len(left))
            self._send(*self._events.shed(("user", number), len(left), len(images)))

    async def _decode_images(self, item: UserItem, event_id: str | None) -> tuple[Pixels, ...]:
        urls = [part.image_url for part in item.content if isinstance(part, InputImage)]
        if urls and not self._sees():
            message = "The model here cannot see; send text or audio."
            raise ClientError("image_not_supported", message, param="item.content", event_id=event_id)
        if len(urls) > IMAGE_LIMIT:
            message = f"more than {IMAGE_LIMIT} images in a message"
            raise ClientError("too_many_images", message, param="item.content", event_id=event_id)
        # Decoding takes tens of milliseconds; nobody else shall wait for it.
        return tuple([await asyncio.to_thread(decode_image, url, "item.content", event_id) for url in urls])

    # ── ids ────────────────────────────────────────────────────────────────────────────

    def _find(self, item_id: str, event_id: str | None) -> tuple[Key, Json]:
        key = self._events.items.find(item_id)
        item = key and self._events.items.get(key)
        if not key or not item:
            message = f"There is no item {item_id!r}."
            raise ClientError("item_not_found", message, param="item_id", event_id=event_id)
        return key, item

    def _place(self, key: Key) -> Place:
        """Where an item is in the dialogue."""
        if key[0] in ("call", "output"):
            return "call", (self._events.items.get(key) or {}).get("call_id", "")
        return ("reply" if key[0] == "reply" else "message"), key[1]

    def _turn(self, item_id: str, event_id: str | None) -> int:
        """The turn of a reply's item."""
        key = self._events.items.find(item_id)
        if key is None or key[0] != "reply":
            raise _no_reply(item_id, event_id)
        return key[1]

    def _samples(self, ms: int) -> int:
        """Of the voice, whatever the rate on the wire."""
        return ms * self._voice_rate // 1000


def _no_reply(item_id: str, event_id: str | None) -> ClientError:
    return ClientError("item_not_found", f"{item_id!r} is no reply.", param="item_id", event_id=event_id)


def _decode_recordings(item: UserItem, settings: SessionSettings, event_id: str | None) -> list[Samples]:
    """The audio of a message, at 16 kHz."""
    encoded = [part.audio for part in item.content if isinstance(part, InputAudio)]
    if sum(map(settings.duration, encoded)) > AUDIO_LIMIT_S + 0.001:  # base64 is padded
        message = f"more than {AUDIO_LIMIT_S} s of audio in a message"
        raise ClientError("audio_too_long", message, param="item.content", event_id=event_id)
    return [_resample_whole(settings.decode(audio, event_id), settings.wire_in.rate) for audio in encoded]


def _texts_before_audio(item: UserItem) -> int:
    """1 if a message with both begins with text, else 0."""
    return next(int(isinstance(part, InputText)) for part in item.content if not isinstance(part, InputImage))


def _resample_whole(samples: Samples, rate: int) -> Samples:
    """A whole recording at 16 kHz."""
    resampler = Resampler(rate, INPUT_RATE)
    return np.concatenate([resampler.push(samples), resampler.finish()])


def _content(item: UserItem | SystemItem | AssistantItem) -> list[Json]:
    """An item's content as the conversation shows it: without its audio and images, which the client has."""
    content: list[Json] = []
    for part in item.content:
        match part:
            case InputText(text=text):
                content.append({"type": "input_text", "text": text})
            case InputAudio():
                content.append({"type": "input_audio", "transcript": None})
            case InputImage():
                content.append({"type": "input_image"})
            case _:
                content.append({"type": "output_text", "text": part.text})
    return content
