"""Any program as a voice: the text is one of its arguments, a WAV comes out of it."""

import asyncio
import subprocess
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.ports import PartFailed
from vita_duplex.engine.section import Section
from vita_duplex.tts.voices.pcm import Wav

TIMEOUT_S = 10.0
"""Without a byte for so long the program has failed."""
PORTION = 8192


class CommandConfig(Section):
    """Which program speaks."""

    program: tuple[str, ...] = ()
    """Program and arguments, with `{text}` for the text, such as `[flite, -t, "{text}", -o, /dev/stdout]`. It writes a
    mono 16-bit WAV to its standard output."""


class CommandVoice:
    """Each piece of text is one run; closing the iterator kills the program."""

    def __init__(self, config: CommandConfig) -> None:
        """Say a word to learn the rate. Errors: `PartFailed` if that does not work."""
        if not any("{text}" in argument for argument in config.program[1:]):
            raise PartFailed("tts", "tts.command.program: program and arguments, with {text} in one of them")
        self._program = config.program
        wav = Wav()
        try:
            said = subprocess.run(self._fill_in("Ready."), capture_output=True, timeout=TIMEOUT_S, check=True)
            wav.push(said.stdout)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise PartFailed("tts", f"{config.program[0]} does not speak: {_why(error)}") from error
        if wav.rate is None:
            raise PartFailed("tts", f"{config.program[0]} does not speak: no WAV comes out of it")
        self.rate = wav.rate

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        if not text.strip():
            return
        try:
            process = await asyncio.create_subprocess_exec(
                *self._fill_in(text), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
            )
        except OSError as error:
            raise PartFailed("tts", f"{self._program[0]} does not start: {_why(error)}") from error
        try:
            async with aclosing(self._samples(process)) as voice:
                async for samples in voice:
                    yield samples
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    async def _samples(self, process: asyncio.subprocess.Process) -> AsyncGenerator[Samples]:
        assert process.stdout is not None
        wav = Wav()
        try:
            while portion := await asyncio.wait_for(process.stdout.read(PORTION), TIMEOUT_S):
                samples = wav.push(portion)
                if wav.rate not in (None, self.rate):
                    raise ValueError(f"its rate changed to {wav.rate} Hz")
                if len(samples):
                    yield samples
            code = await asyncio.wait_for(process.wait(), TIMEOUT_S)
        except (ValueError, TimeoutError) as error:
            raise PartFailed("tts", f"{self._program[0]} does not speak: {_why(error)}") from error
        if code != 0 or wav.rate is None:
            raise PartFailed("tts", f"{self._program[0]} ended with code {code}")

    def _fill_in(self, text: str) -> list[str]:
        # The program must not take the words of a reply for an option.
        return [argument.replace("{text}", text.lstrip("-")) for argument in self._program]


def _why(error: Exception) -> str:
    """Not the whole message, which may hold the text."""
    match error:
        case OSError(strerror=str(reason)) if not isinstance(error, TimeoutError):
            return reason
        case subprocess.CalledProcessError():
            return f"it ended with code {error.returncode}"
        case TimeoutError() | subprocess.TimeoutExpired():
            return f"nothing came for {TIMEOUT_S:.0f} s"
        case _:
            return str(error)
