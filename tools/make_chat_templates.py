"""Write the chat templates for `/v1/chat/completions` of a plain vLLM server, one for each style of prompts.json."""

import json
from dataclasses import asdict

from vita_duplex.models.prompts import STYLES, Wording, template_file, wording

USED = (
    "system_prefix",
    "user_prefix",
    "bot_prefix",
    "turn_end",
    "image_placeholder",
    "audio_placeholder",
    "conversation",
    "states",
    "reserved",
)

HEAD = """\
{#- VITA's prompts of training, for vLLM. Written by tools/make_chat_templates.py; do not edit.
    The strings are those of https://github.com/VITA-MLLM/VITA (Apache-2.0). -#}
{%- set strings = STRINGS -%}
"""

# With `chat_template_kwargs: {"verbatim": true}` the parts are the prompt, in their order: a client that wrote it
# itself (any style, an answer already begun) has only BOS and the placeholders added. It also has to keep control
# tokens and placeholders out of what users typed.
VERBATIM = """\
{%- if verbatim -%}
    {{- bos_token if bos_token else '' -}}
    {%- for message in messages -%}
        {%- for part in message['content'] -%}
            {%- if part['type'] == 'text' -%}
                {{- part['text'] -}}
            {%- elif part['type'] == 'image' -%}
                {{- strings.image_placeholder -}}
            {%- elif part['type'] == 'audio' -%}
                {{- strings.audio_placeholder -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
{%- else -%}
"""

# Otherwise the messages are written as in training. Pictures come first and end the line. A control token in what
# anybody wrote becomes a space.
# vLLM leaves special tokens out of answers, so an answer that comes back gets its state token again: the sort
# of question tells which. Training dialogues without any media have none.
BODY = """\
{%- set seen = namespace(last='lang', media=false, audio=false) -%}
{%- for message in messages if message['content'] is not string -%}
    {%- for part in message['content'] -%}
        {%- if part['type'] in ['image', 'image_url'] -%}
            {%- set seen.last = 'image' -%}
        {%- elif part['type'] in ['video', 'video_url'] -%}
            {%- set seen.last = 'video' -%}
        {%- endif -%}
        {%- if part['type'] != 'text' -%}
            {%- set seen.media = true -%}
        {%- endif -%}
    {%- endfor -%}
{%- endfor -%}
{%- macro plain(text) -%}
    {%- set clean = namespace(text=text) -%}
    {%- for token in strings.reserved -%}
        {%- set clean.text = clean.text.replace(token, ' ') -%}
    {%- endfor -%}
    {{- clean.text -}}
{%- endmacro -%}
{%- macro words(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- else -%}
        {%- for part in content if part['type'] == 'text' -%}
            {{- part['text'] -}}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{{- bos_token if bos_token else '' -}}
{{- strings.system_prefix -}}
{%- if messages and messages[0]['role'] == 'system' -%}
    {{- plain(words(messages[0]['content'])) -}}
{%- else -%}
    {{- strings.conversation[seen.last] -}}
{%- endif -%}
{{- strings.turn_end -}}
{%- for message in messages -%}
    {%- if message['role'] == 'user' -%}
        {{- strings.user_prefix -}}
        {%- set seen.audio = false -%}
        {%- if message['content'] is string -%}
            {{- plain(message['content']) -}}
        {%- else -%}
            {%- set turn = namespace(pictures='') -%}
            {%- for part in message['content'] -%}
                {%- if part['type'] in ['image', 'image_url'] -%}
                    {%- set turn.pictures = turn.pictures + strings.image_placeholder -%}
                {%- elif part['type'] in ['video', 'video_url'] -%}
                    {%- set turn.pictures = turn.pictures + '<video>' -%}
                {%- endif -%}
            {%- endfor -%}
            {{- turn.pictures + '\\n' if turn.pictures else '' -}}
            {%- for part in message['content'] -%}
                {%- if part['type'] == 'text' -%}
                    {{- plain(part['text']) -}}
                {%- elif part['type'] in ['audio', 'input_audio', 'audio_url'] -%}
                    {{- strings.audio_placeholder -}}
                    {%- set seen.audio = true -%}
                {%- endif -%}
            {%- endfor -%}
        {%- endif -%}
        {{- strings.turn_end -}}
    {%- elif message['role'] == 'assistant' -%}
        {%- set answer = words(message['content']) -%}
        {%- set marked = namespace(state='') -%}
        {%- for state in strings.states.values() if answer.startswith(state) -%}
            {%- set marked.state = state -%}
        {%- endfor -%}
        {{- strings.bot_prefix -}}
        {%- if seen.media and not marked.state -%}
            {{- strings.states.query if seen.audio else strings.states.typed -}}
        {%- endif -%}
        {{- marked.state + plain(answer[marked.state | length:]) + strings.turn_end -}}
    {%- endif -%}
{%- endfor -%}
{{- strings.bot_prefix if add_generation_prompt else '' -}}
{%- endif -%}
"""


def chat_template(style: Wording) -> str:
    """Write the template of one style."""
    strings = {name: value for name, value in asdict(style).items() if name in USED}
    return HEAD.replace("STRINGS", json.dumps(strings, indent=1)) + VERBATIM + BODY


if __name__ == "__main__":
    for name in STYLES:
        template_file(name).write_text(chat_template(wording(name)), encoding="utf-8")
