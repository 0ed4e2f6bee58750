"""A program that speaks: `voice_program.py MODE TEXT` writes a WAV to its standard output, as a pipe can."""

import struct
import sys
import time

mode, text = sys.argv[1:]
count = 10 * len(text)
audio = b"".join(struct.pack("<h", number % 30_000) for number in range(count))
ready = text == "Ready."  # the first word, from which the server learns the rate
if mode == "refuse" and not ready:
    sys.exit(2)
channels = 2 if mode == "stereo" else 1
header = struct.pack("<HHIIHH", 1, channels, 22_050, 44_100, 2, 16)
sys.stdout.buffer.write(b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + header + b"data\xff\xff\xff\xff")
sys.stdout.buffer.write(audio if ready or mode == "speak" else audio[:count])
sys.stdout.buffer.flush()
if mode == "half" and not ready:
    sys.exit(3)
if mode == "hang" and not ready:
    time.sleep(60)
