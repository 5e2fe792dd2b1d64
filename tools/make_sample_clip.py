"""Make `src/nanoemox/assets/sample.mp4`: a portrait in the public domain that moves a little and speaks.

Needs scikit-image (the portrait) and the `espeak-ng` command (the voice); the package needs neither. The same versions
give the same bytes: encoders run single-threaded, nothing is drawn at random, no date is written.

    python tools/make_sample_clip.py [OUT.mp4]
"""

from __future__ import annotations

import argparse
import io
import subprocess
import wave
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from skimage import data

TEXT = "I finally got the job! I can't believe it, I'm so happy!"
VOICE = ["-v", "en-us+f3", "-s", "160", "-p", "62"]
FPS = 25
SIZE = (400, 320)  # width, height of the clip in pixels
FACE = (224.0, 112.0)  # centre of the face in the portrait
MOUTH = (225.0, 144.0)  # between the lips in the portrait
VIEW_WIDTH = 330.0  # pixels of the portrait that fill the clip's width
# The mov_text encoder wants an ASS header, although the packet below is written as it is.
ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
LEAD_S, TAIL_S = 0.3, 0.4
DEFAULT_OUT = Path(__file__).parents[1] / "src/nanoemox/assets/sample.mp4"


def speak() -> tuple[np.ndarray, int]:
    """Return int16[S] of the spoken sentence between two silences, and its rate in hertz."""
    sound = subprocess.run(["espeak-ng", *VOICE, "--stdout", TEXT], check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(sound)) as file:
        rate = file.getframerate()
        # espeak-ng writes to a pipe, so the header's length is a placeholder: take all there is.
        samples = np.frombuffer(file.readframes(len(sound)), np.int16)
    voiced = np.flatnonzero(np.abs(samples) > 200)
    samples = samples[voiced[0] : voiced[-1]]
    lead, tail = (np.zeros(int(s * rate), np.int16) for s in (LEAD_S, TAIL_S))
    return np.concatenate([lead, samples, tail]), rate


def loudness(samples: np.ndarray, rate: int, num_frames: int) -> np.ndarray:
    """Return float[num_frames] in 0..1: how far the mouth opens in each frame."""
    hop = rate // FPS
    padded = np.pad(samples.astype(np.float64), (0, num_frames * hop + hop))
    power = np.array([np.sqrt(np.mean(padded[i * hop : (i + 1) * hop] ** 2)) for i in range(num_frames)])
    smooth = np.convolve(power, [0.25, 0.5, 0.25], "same")
    return np.clip(smooth / np.percentile(smooth, 95), 0, 1)


def open_mouth(portrait: np.ndarray, amount: float) -> np.ndarray:
    """Pull lower lip and chin down by up to five pixels."""
    y, x = np.indices(portrait.shape[:2], np.float32)
    below = (y - MOUTH[1]) / 30
    # Nothing above the lips moves; the pull rises quickly below them and fades out along the neck.
    pull = np.clip(below * 5, 0, 1) * np.clip(1.6 - below, 0, 1) * np.exp(-(((x - MOUTH[0]) / 24) ** 4))
    return cv2.remap(portrait, x, y - 5 * np.float32(amount) * pull, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def draw(portrait: np.ndarray, time_s: float, duration_s: float, mouth: float) -> np.ndarray:
    """Return uint8[H, W, 3] of one moment: a slow zoom, a sway, a nod with the voice."""
    width, height = SIZE
    zoom = width / VIEW_WIDTH * (1 + 0.08 * time_s / duration_s)
    turn_deg = 2.0 * np.sin(2 * np.pi * time_s / 2.7)
    matrix = cv2.getRotationMatrix2D(FACE, turn_deg, zoom)
    matrix[0, 2] += width / 2 - FACE[0] + 6 * np.sin(2 * np.pi * time_s / 3.3)
    matrix[1, 2] += 0.44 * height - FACE[1] + 2.5 * mouth
    return cv2.warpAffine(
        open_mouth(portrait, mouth), matrix, SIZE, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def write(out: Path, frames: list[np.ndarray], samples: np.ndarray, rate: int) -> None:
    """Mux H.264, AAC and a subtitle track of one line into an MP4."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(out), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
        container.metadata["title"] = "nanoemox sample clip"
        container.metadata["comment"] = "Portrait: NASA, public domain. Voice: espeak-ng. See sample.README.md"
        video = container.add_stream("libx264", FPS, options={"crf": "26", "preset": "veryslow", "threads": "1"})
        video.width, video.height = SIZE
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate, layout="mono", bit_rate=48_000)
        words = container.add_stream("mov_text")
        for stream in (video, audio):
            stream.codec_context.flags |= av.codec.context.Flags.bitexact
        words.codec_context.subtitle_header = ASS_HEADER
        words.time_base = Fraction(1, 1000)
        words.metadata["language"] = "eng"
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
        sound.rate, sound.pts = rate, 0
        for piece in av.AudioResampler("fltp", "mono", rate, frame_size=1024).resample(sound):
            container.mux(audio.encode(piece))
        container.mux(audio.encode())
        line = TEXT.encode()
        packet = av.Packet(len(line).to_bytes(2, "big") + line)  # a mov_text sample: length, then UTF-8
        packet.stream, packet.time_base = words, words.time_base
        packet.pts = packet.dts = 0
        packet.duration = round(1000 * len(samples) / rate)
        container.mux(packet)


def main() -> None:
    """Make the clip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", default=DEFAULT_OUT)
    out = parser.parse_args().out
    samples, rate = speak()
    duration_s = len(samples) / rate
    num_frames = round(duration_s * FPS)
    mouth = loudness(samples, rate, num_frames)
    portrait = data.astronaut()
    write(out, [draw(portrait, i / FPS, duration_s, m) for i, m in enumerate(mouth)], samples, rate)
    print(f"{out}: {duration_s:.2f} s, {num_frames} frames, {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
