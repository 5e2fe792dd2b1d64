from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from nanoemox.media.load import MediaOptions, clip_from_arrays, load_clip
from nanoemox.media.windows import frame_indices_reference
from nanoemox.types import MediaError, Turn


def level(i: int, total: int) -> int:
    """Gray level that tells which frame this is."""
    return 20 + i * 200 // max(1, total - 1)


def make_video(
    target: Path | io.BytesIO,
    pts: list[int],
    *,
    codec: str = "mpeg4",
    form: str = "mp4",
    audio_s: float = 0.0,
    audio_start_s: float = 0.0,
    gop: int = 12,
    size: tuple[int, int] = (64, 48),
) -> None:
    """Write frames whose gray level grows, at times ``pts`` in 1/100 s, and a 440 Hz tone."""
    with av.open(target, "w", format=form) as out:
        video = out.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt, video.gop_size = (
            *size,
            "yuvj420p" if codec == "mjpeg" else "yuv420p",
            gop,
        )
        video.codec_context.time_base = Fraction(1, 25 if codec == "mpeg2video" else 100)
        sound = out.add_stream("aac", rate=16_000, layout="mono") if audio_s else None
        for i, stamp in enumerate(pts):
            image = np.full((size[1], size[0], 3), level(i, len(pts)), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 100)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if sound is not None:
            wave = np.sin(2 * np.pi * 440 * np.arange(int(audio_s * 16_000)) / 16_000).astype(np.float32)[None] * 0.5
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = 16_000, Fraction(1, 16_000)
            frame.pts = int(audio_start_s * 16_000)
            out.mux(sound.encode(frame))
            out.mux(sound.encode(None))


def make_wav(samples: np.ndarray, rate: int = 16_000) -> bytes:
    """Write int16 mono as wav by hand."""
    data = samples.astype("<i2").tobytes()
    head = b"RIFF" + (36 + len(data)).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    head += b"\1\0\1\0" + rate.to_bytes(4, "little") + (2 * rate).to_bytes(4, "little") + b"\2\0\x10\0"
    return head + b"data" + len(data).to_bytes(4, "little") + data


def decode_all(path: Path) -> dict[float, np.ndarray]:
    """Every frame by its time, the slow way."""
    with av.open(str(path)) as container:
        return {round(f.time, 3): f.to_ndarray(format="rgb24") for f in container.decode(video=0)}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "gray.mp4"
    make_video(path, [4 * i for i in range(100)], audio_s=4.0)
    return path


def test_frames_are_those_displayed_at_the_middles(video: Path) -> None:
    clip = load_clip(video)
    assert clip.frames is not None
    assert clip.frame_times_s is not None
    assert clip.frames.shape == (8, 48, 64, 3)
    wanted = [int((i + 0.5) / 8 * 100) for i in range(8)]
    assert clip.frame_times_s.tolist() == pytest.approx([0.04 * i for i in wanted])
    assert np.abs(clip.frames.mean((1, 2, 3)) - [level(i, 100) for i in wanted]).max() < 4
    assert clip.duration_s == pytest.approx(4.0, abs=0.07)
    assert clip.fps == 25
    assert clip.modalities == ("vision", "speech")


@pytest.mark.parametrize(("span", "first", "shown"), [((0.0, None), 0, 100), ((2.0, 3.0), 50, 25), ((1.0, 1.2), 25, 5)])
def test_reference_sampling_uses_left_edges(
    video: Path, span: tuple[float, float | None], first: int, shown: int
) -> None:
    options = MediaOptions(frame_sampling="reference")
    clip = load_clip(video, start_s=span[0], end_s=span[1], options=options)
    assert clip.frames is not None
    assert clip.frame_times_s is not None
    wanted = frame_indices_reference(shown, 8)
    assert clip.frame_times_s.tolist() == pytest.approx([0.04 * i for i in wanted])
    every = decode_all(video)
    times = [round(0.04 * (first + int(i)), 3) for i in wanted]
    assert all(np.array_equal(f, every[t]) for f, t in zip(clip.frames, times, strict=True))


def test_audio_equals_the_encoded_tone(video: Path) -> None:
    wave = load_clip(video).waveform
    assert wave is not None
    assert wave.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(wave[8000:24000]))
    assert spectrum.argmax() == 440
    assert np.sqrt((wave[8000:24000] ** 2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.03)


def test_part_of_a_clip_equals_the_whole(video: Path) -> None:
    whole = load_clip(video).waveform
    part = load_clip(video, start_s=2.0, end_s=3.0, num_frames=4)
    assert part.duration_s == pytest.approx(1.0)
    assert part.frames is not None
    assert part.frame_times_s is not None
    assert part.waveform is not None
    assert whole is not None
    assert part.frame_times_s.tolist() == pytest.approx([0.12, 0.36, 0.6, 0.84])
    every = decode_all(video)
    assert all(np.array_equal(f, every[t]) for f, t in zip(part.frames, (2.12, 2.36, 2.6, 2.84), strict=True))
    assert len(part.waveform) == 16_000
    assert np.corrcoef(part.waveform[800:15_000], whole[32_800:47_000])[0, 1] > 0.95


@pytest.mark.parametrize("num_frames", [8, 60])  # 60: neighbours, which a threaded decoder has in flight together
def test_real_frames_equal_a_full_decode(shared: Path, num_frames: int) -> None:
    for name in (
        "clips/sample_00000694.mp4",
        "other/echo-hereweare.webm",
        "formats/hevc_aac.mp4",
        "other/av1_video.mkv",
    ):
        path = shared / "data/media" / name
        clip, every = load_clip(path, num_frames=num_frames), decode_all(path)
        assert clip.frames is not None
        assert clip.frame_times_s is not None
        first = min(every)
        for image, time in zip(clip.frames, clip.frame_times_s, strict=True):
            near = min(every, key=lambda t: abs(t - time))
            assert abs(near - time) < 0.002 + first, name
            assert np.array_equal(image, every[near]), (name, time)


def test_variable_frame_rate_is_sampled_by_time(tmp_path: Path) -> None:
    path = tmp_path / "vfr.mkv"
    pts = [*range(0, 100, 2), 300, 390]  # fifty in the first second, then two that stay
    make_video(path, pts, form="matroska")
    clip = load_clip(path, num_frames=4)
    assert clip.frame_times_s is not None
    assert clip.frames is not None
    shown = [max(p for p in pts if p / 100 <= (i + 0.5) / 4 * clip.duration_s) for i in range(4)]
    assert clip.frame_times_s.tolist() == pytest.approx([p / 100 for p in shown], abs=0.006)
    assert np.abs(clip.frames.mean((1, 2, 3)) - [level(pts.index(p), len(pts)) for p in shown]).max() < 6


def test_late_audio_is_aligned(tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    make_video(path, [4 * i for i in range(50)], form="matroska", audio_s=1.0, audio_start_s=0.8)
    wave = load_clip(path).waveform
    assert wave is not None
    assert np.abs(wave[:11_000]).max() < 1e-3
    assert np.abs(wave[14_000:24_000]).max() > 0.3


def test_rotation_metadata_is_applied(video: Path) -> None:
    data = bytearray(video.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version, times, id, duration, reserved, layer, volume: then the matrix
    fixed = lambda *v: b"".join((x & 0xFFFFFFFF).to_bytes(4, "big") for x in v)  # noqa: E731
    data[at : at + 36] = fixed(0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30)
    clip = load_clip(bytes(data))
    assert clip.frames is not None
    assert clip.frames.shape == (8, 64, 48, 3)


def picture(pixels: np.ndarray, form: str, codec: str, pix_fmt: str) -> bytes:
    context = av.CodecContext.create(codec, "w")
    frame = av.VideoFrame.from_ndarray(pixels, format=form).reformat(format=pix_fmt)
    context.width, context.height, context.pix_fmt = frame.width, frame.height, pix_fmt
    context.time_base = Fraction(1, 1)
    return b"".join(bytes(p) for p in (*context.encode(frame), *context.encode(None)))


def test_transparency_becomes_white() -> None:
    rgba = np.zeros((10, 12, 4), np.uint8)
    rgba[:5] = (200, 0, 0, 255)
    clip = load_clip(picture(rgba, "rgba", "png", "rgba"))
    assert clip.frames is not None
    assert clip.frames.shape == (1, 10, 12, 3)
    assert clip.frames[0, 0, 0].tolist() == [200, 0, 0]
    assert clip.frames[0, 9, 0].tolist() == [255, 255, 255]
    assert clip.duration_s == 0
    assert clip.missing == ("speech", "face", "text")


def test_large_images_are_scaled_down_or_refused() -> None:
    png = picture(np.zeros((100, 3000, 3), np.uint8), "rgb24", "png", "rgb24")
    clip = load_clip(png)
    assert clip.frames is not None
    assert clip.frames.shape == (1, 43, 1280, 3)
    with pytest.raises(MediaError, match=r"limit 1000|cannot be read"):
        load_clip(png, options=MediaOptions(max_pixels=1000))


def test_limits_name_value_and_remedy(video: Path) -> None:
    with pytest.raises(MediaError, match=r"limit 2 s: choose a part with start_s"):
        load_clip(video, options=MediaOptions(max_duration_s=2))
    assert load_clip(video, start_s=1, end_s=2, options=MediaOptions(max_duration_s=2)).duration_s == 1
    with pytest.raises(MediaError, match="limit 10: give a path"):
        load_clip(video.read_bytes(), options=MediaOptions(max_bytes=10))
    with pytest.raises(MediaError, match="start_s=99"):
        load_clip(video, start_s=99)
    with pytest.raises(MediaError, match="need 0 <= start_s < end_s"):
        load_clip(video, start_s=2, end_s=1)
    with pytest.raises(MediaError, match="no such file"):
        load_clip(video.with_name("absent.mp4"))
    with pytest.raises(MediaError, match="not a file"):
        load_clip(video.parent)
    with pytest.raises(MediaError, match=r"audio_stream=7.*\[1\]"):
        load_clip(video, options=MediaOptions(audio_stream=7))
    assert load_clip(video, subtitle="auto").subtitle == "auto"  # words, and no signal


def test_bytes_file_object_and_path_are_the_same(video: Path) -> None:
    one = load_clip(video)
    with video.open("rb") as handle:
        others = [load_clip(video.read_bytes()), load_clip(handle), load_clip(str(video), isolated=True)]
        assert not handle.closed
    for other in others:
        assert np.array_equal(one.frames, other.frames)  # type: ignore[arg-type]
        assert np.array_equal(one.waveform, other.waveform)  # type: ignore[arg-type]
        assert (one.duration_s, one.fps, one.warnings) == (other.duration_s, other.fps, other.warnings)


def test_subtitle_from_argument_sidecar_or_none(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(make_wav(np.full(16_000, 3000)))
    assert any("no words" in w for w in load_clip(path).warnings)
    (tmp_path / "a.srt").write_text(
        "1\n00:00:00,100 --> 00:00:00,400\nHello.\n\n2\n00:00:00,600 --> 00:00:00,900\nBye."
    )
    assert load_clip(path).subtitle == "Hello. Bye."
    assert load_clip(path, start_s=0.5).subtitle == "Bye."
    said = load_clip(path, subtitle="Mine.", history=[Turn("a", "b")])
    assert (said.subtitle, said.history) == ("Mine.", (Turn("a", "b"),))
    assert load_clip(path, subtitle="").subtitle is None


def test_silence_counts_as_missing() -> None:
    clip = load_clip(make_wav(np.zeros(16_000)))
    assert clip.waveform is None
    assert "the audio track is silent: speech is treated as missing" in clip.warnings


def test_playlists_do_not_reach_other_files(tmp_path: Path, video: Path) -> None:
    for text in (f"#EXTM3U\n#EXTINF:4,\n{video}\n#EXT-X-ENDLIST\n", f"ffconcat version 1.0\nfile '{video}'\n"):
        path = tmp_path / "list.mp4"
        path.write_text(text)
        with pytest.raises(MediaError):
            load_clip(path)


def test_arrays_make_a_clip() -> None:
    frames = np.arange(100, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    tone = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    clip = clip_from_arrays(frames, 25, np.stack([tone, tone]), 44_100, subtitle="Hi.")
    assert clip.frames is not None
    assert clip.waveform is not None
    assert clip.frames[:, 0, 0, 0].tolist() == [6, 18, 31, 43, 56, 68, 81, 93]
    assert len(clip.waveform) == pytest.approx(16_000, abs=20)
    assert np.abs(np.fft.rfft(clip.waveform)).argmax() == 440
    assert clip.duration_s == 4
    whole = clip_from_arrays(waveform=(tone[:100] * 3e4).astype(np.int16))
    assert whole.waveform is not None
    assert np.abs(whole.waveform).max() < 1
    for bad in ({"frames": frames}, {"frames": frames.astype(float), "fps": 5}, {"waveform": np.zeros(5, int)}, {}):
        with pytest.raises(MediaError):
            clip_from_arrays(**bad)


SPOTS = {  # name: duration, frames, samples or None
    "formats/h264_5fps.mp4": (1.8, (8, 162, 384, 3), 26_750),
    "formats/h264_60fps_ntsc.mp4": (1.672, (8, 162, 384, 3), 26_750),
    "formats/h264_aac_48k_5.1.mp4": (1.68, (8, 162, 384, 3), 26_750),
    "formats/h264_aac_8k_mono.mp4": (1.68, (8, 162, 384, 3), 26_750),
    "formats/h264_odd_tiny_yuv444.mp4": (1.68, (8, 41, 97, 3), 26_750),
    "formats/h264_one_frame.mp4": (0.04, (8, 162, 384, 3), None),
    "formats/h264_portrait.mp4": (1.68, (8, 384, 162, 3), 26_750),
    "formats/mpeg1_mp2.mpg": (1.69, (8, 160, 384, 3), 26_750),
    "formats/wmv2_wma.wmv": (1.726, (8, 162, 384, 3), 27_480),
    "formats/still_cmyk.jpg": (0.0, (1, 324, 768, 3), None),
    "formats/still_rgba_odd.webp": (0.0, (1, 41, 97, 3), None),
    "formats/pcm_u8_11k_mono.wav": (1.672, None, 26_750),
    "formats/opus_48k.opus": (1.672, None, 26_750),
    "other/nasa_13013.mp4": (13.056, (8, 270, 480, 3), 208_896),
    "other/echo-hereweare.webm": (44.65, (8, 270, 480, 3), 714_470),
    "other/av1_video.mkv": (5.0, (8, 360, 640, 3), None),
    "other/sine_mono_s32_8000.wav": (4.0, None, 64_000),
    "clips/02-01-01-01-01-01-01.mp4": (3.3, (8, 720, 1280, 3), None),
    "clips/sample_00000694.mp4": (13.56, (8, 378, 672, 3), 216_220),
}


@pytest.mark.parametrize("name", SPOTS)
def test_real_files_spot_values(shared: Path, name: str) -> None:
    duration, shape, samples = SPOTS[name]
    clip = load_clip(shared / "data/media" / name)
    assert clip.duration_s == pytest.approx(duration, abs=0.03)
    assert (None if clip.frames is None else clip.frames.shape) == shape
    assert (None if clip.waveform is None else len(clip.waveform)) == (samples and pytest.approx(samples, abs=500))


def test_every_real_file_loads(shared: Path) -> None:
    for folder in ("clips", "formats", "other"):
        for path in sorted((shared / "data/media" / folder).iterdir()):
            if path.suffix != ".txt":
                clip = load_clip(path)
                assert clip.modalities, path.name
                ours = path.name.startswith(("h264_aac", "remux", "vp", "mjpeg", "pcm", "mp3", "flac"))
                assert not ours or 1.66 < clip.duration_s < 1.72, path.name


def test_stills_match_the_clip(shared: Path) -> None:
    still = load_clip(shared / "data/media/formats/still_frame0.png").frames
    assert still is not None
    for name in ("still_cmyk.jpg", "still_gray.jpg"):
        other = load_clip(shared / "data/media/formats" / name).frames
        assert other is not None
        assert np.abs(still.mean(-1) - other.mean(-1)).mean() < 12, name


def test_streams_can_be_selected_and_embedded_subtitles_are_read(shared: Path) -> None:
    path = shared / "data/media/other/nasa_13013.mp4"
    clip = load_clip(path, options=MediaOptions(video_stream=0, audio_stream=1))
    assert clip.frames is not None
    assert clip.frames.shape == (8, 180, 320, 3)
    assert "optical and science segment" in (clip.subtitle or "")


PARTIAL = {
    "audio_as_mp4.mp4": "no video track",
    "bitflips_400_bytes.mp4": "damaged parts",
    "truncated_half.flac": "ends early",
    "truncated_half.jpg": "damaged or truncated",
    "truncated_half.wav": "ends early",
    "truncated_half.webm": "ends early",
    "truncated_third.mp3": "ends early",
}


def test_broken_files_give_a_message(shared: Path) -> None:
    for path in sorted((shared / "data/media/broken").iterdir()):
        if path.name in PARTIAL:
            assert PARTIAL[path.name] in " ".join(load_clip(path).warnings), path.name
        else:
            with pytest.raises(MediaError, match=rf"^{path.name}: .*(truncated|empty)"):
                load_clip(path)


def test_hostile_child_is_killed(tmp_path: Path, video: Path) -> None:
    with pytest.raises(MediaError, match=r"longer than 0\.01 s"):
        load_clip(video, isolated=True, options=MediaOptions(time_limit_s=0.01))
    if sys.platform == "linux":
        with pytest.raises(MediaError, match=r"memory_limit_mb=8|Cannot allocate memory"):
            load_clip(video, isolated=True, options=MediaOptions(memory_limit_mb=8))
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"\0" * 100)
    with pytest.raises(MediaError, match=r"^bad.mp4: cannot be read"):
        load_clip(bad, isolated=True)


def test_memory_errors_are_named(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(*_: object, **__: object) -> None:
        raise MemoryError  # as Python itself does, without a word

    monkeypatch.setattr("av.open", starve)
    with pytest.raises(MediaError, match=r"\(Cannot allocate memory\)"):
        load_clip(video)


FUZZ = """
import json, sys
from pathlib import Path
from nanoemox.media.load import load_clip, MediaOptions
from nanoemox.types import MediaError
seen = {"clip": 0, "error": 0}
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        load_clip(path, num_frames=4, options=MediaOptions(max_duration_s=60, max_pixels=4_000_000))
        seen["clip"] += 1
    except MediaError as error:
        assert str(error)
        seen["error"] += 1
print(json.dumps(seen))
"""


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_files_with_flipped_bytes(tmp_path: Path, count: int) -> None:
    seeds: list[bytes] = [make_wav(np.arange(4000))]
    for codec, form in (("mpeg4", "mp4"), ("mpeg4", "matroska"), ("mpeg2video", "mpegts"), ("mjpeg", "avi")):
        buffer = io.BytesIO()
        make_video(buffer, [4 * i for i in range(10)], codec=codec, form=form, audio_s=0.4 if form != "avi" else 0)
        seeds.append(buffer.getvalue())
    seeds.append(picture(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8), "rgb24", "png", "rgb24"))
    rng = random.Random(7)
    for n in range(count):
        data = bytearray(seeds[n % len(seeds)])
        for _ in range(rng.choice([1, 4, 20, 80])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / f"{n:04d}").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=count / 2 + 200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    seen = json.loads(done.stdout)
    assert seen["clip"] + seen["error"] == count
    assert min(seen.values()) > 5


def test_import_is_light() -> None:
    code = "import nanoemox.media.load, sys; assert not {'torch', 'transformers', 'cv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
