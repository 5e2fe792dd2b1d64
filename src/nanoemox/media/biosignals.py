"""Features of body signals in time windows: heart rate, skin conductance, EEG band powers.

Beats are detected with two moving averages (Elgendi: Fast QRS detection, PLoS ONE 2013; Elgendi et al.: Systolic peak
detection, PLoS ONE 2013). Skin conductance is split into level and responses at 0.05 Hz. EEG band powers use Welch's
method. Filters and spectra are SciPy's. Letters: ``N`` samples, ``T`` windows, ``F`` features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nanoemox.media.recordings import EXTRA, Channel, Kind, Samples, electrode_of
from nanoemox.types import MediaError, needs_extra

BANDS_HZ: Final = {
    "delta": (1.0, 4.0), "theta": (4.0, 8.0), "alpha": (8.0, 13.0), "beta": (13.0, 30.0), "gamma": (30.0, 45.0),
}  # fmt: skip
FEATURES: Final[tuple[str, ...]] = (
    "heart_rate_bpm", "rmssd_ms", "eda_tonic_us", "eda_phasic_us",
    *(f"eeg_{band}_log10_uv2" for band in BANDS_HZ), "eeg_alpha_asymmetry_ln",
)  # fmt: skip
"""Names of the F features with their units."""
MARGIN_S: Final = 30.0
"""Time read before and after a clip, for filters to settle."""

_HEART_RATES_BPM: Final = (30.0, 220.0)
_TONIC_HZ: Final = 0.05
_EDA_CLEAN_HZ: Final = 3.0
_SEGMENT_S: Final = 2.0
_MIN_EEG_S: Final = 1.0
_COVERED: Final = 0.5
"""Least share of a window's samples that must be present."""
_FLOOR_UV2: Final = 1e-6
_REFRACTORY_S: Final = 0.3


@dataclass(frozen=True, slots=True)
class _Beats:
    """Detector parameters: pass band in Hz, moving averages in seconds, offset as a share of the mean square."""

    band_hz: tuple[float, float]
    peak_s: float
    beat_s: float
    offset: float
    positive: bool


_DETECTORS: Final[dict[Kind, _Beats]] = {
    "ecg": _Beats((8.0, 20.0), 0.097, 0.611, 0.08, positive=False),
    "ppg": _Beats((0.5, 8.0), 0.111, 0.667, 0.02, positive=True),
}


def window_features(channels: Sequence[Channel], spans_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Compute the features of windows.

    Args:
        channels: The channels of one recording.
        spans_s: float64[T, 2], start and end of each window in seconds from the start of the recording.

    Returns:
        float32[T, F] in the order of :data:`FEATURES`; NaN if a feature has no sensor or too few samples.

    Raises:
        MediaError: SciPy is not installed.
    """
    out = np.full((len(spans_s), len(FEATURES)), np.nan)
    place = {name: i for i, name in enumerate(FEATURES)}
    out[:, [place["heart_rate_bpm"], place["rmssd_ms"]]] = _heart(channels, spans_s)
    skin = next((c for c in channels if c.kind == "eda"), None)
    if skin is not None:
        out[:, [place["eda_tonic_us"], place["eda_phasic_us"]]] = _skin(skin, spans_s)
    brain = [c for c in channels if c.kind == "eeg"]
    if brain:
        first = place["eeg_delta_log10_uv2"]
        out[:, first : first + len(BANDS_HZ) + 1] = _brain(brain, spans_s)
    return out.astype(np.float32)


def beat_times(channel: Channel) -> Samples:
    """Return the beats of an electrocardiogram or pulse wave: float64[beats], seconds."""
    form = _DETECTORS[channel.kind]
    times, values, rate = _even(channel)
    if rate < 2.5 * form.band_hz[1] or len(values) < 2 * rate:
        return np.zeros(0)
    filtered = _filtered(values, rate, form.band_hz, "bandpass", order=2)
    power = np.square(np.maximum(filtered, 0.0) if form.positive else filtered)
    narrow, wide = (_moving_mean(power, max(1, round(s * rate))) for s in (form.peak_s, form.beat_s))
    raised = narrow > wide + form.offset * power.mean()
    raised[[0, -1]] = False
    edges = np.flatnonzero(np.diff(raised.astype(np.int8))) + 1
    beats: list[int] = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        top = start + int(np.argmax(filtered[start:end]))
        late = not beats or top - beats[-1] > _REFRACTORY_S * rate
        whole = start > 1 and end < len(raised) - 1  # a truncated beat has no peak
        if whole and late and end - start >= round(form.peak_s * rate):
            beats.append(top)
    found: Samples = times[beats]
    return found


def tonic_and_phasic(channel: Channel) -> tuple[Samples, Samples, Samples]:
    """Split skin conductance into times in s, level and responses in microsiemens, float64[N] each."""
    times, values, rate = _even(channel)
    if rate > 2.5 * _EDA_CLEAN_HZ:
        values = _filtered(values, rate, _EDA_CLEAN_HZ, "lowpass", order=4)
    tonic = _filtered(values, rate, _TONIC_HZ, "lowpass", order=2)
    return times, tonic, _filtered(values, rate, _TONIC_HZ, "highpass", order=2)


def band_powers(values: Samples, rate_hz: float) -> Samples:
    """Return the power of float64[N] in each of :data:`BANDS_HZ`: float64[5] in squared units; NaN above Nyquist."""
    out = np.full(len(BANDS_HZ), np.nan)
    size = min(len(values), round(_SEGMENT_S * rate_hz))
    if size < 2:
        return out
    with needs_extra(EXTRA, "body signals", MediaError):
        from scipy import signal
    frequencies, density = signal.welch(values, rate_hz, nperseg=size)
    width = frequencies[1] - frequencies[0]
    for i, (low, high) in enumerate(BANDS_HZ.values()):
        if high <= rate_hz / 2:
            out[i] = density[(frequencies >= low) & (frequencies < high)].sum() * width
    return out


# ---------------------------------------------------------------- features per sensor


def _heart(channels: Sequence[Channel], spans_s: npt.NDArray[np.float64]) -> Samples:
    """Return heart rate and RMSSD, each window from the first sensor that shows a rate there: float64[T, 2]."""
    out = np.full((len(spans_s), 2), np.nan)
    for channel in (c for kind in ("ecg", "ppg", "heart_rate") for c in channels if c.kind == kind):
        unknown = np.isnan(out[:, 0])
        if unknown.any():
            out[unknown] = _beating(channel, spans_s[unknown])
    return out


def _beating(channel: Channel, spans_s: npt.NDArray[np.float64]) -> Samples:
    """Return heart rate in beats per minute and RMSSD in ms: float64[T, 2]."""
    low, high = _HEART_RATES_BPM
    if channel.kind == "heart_rate":
        valid = (channel.values >= low) & (channel.values <= high)
        times, rates = channel.times_s[valid], channel.values[valid]
        means = [rates[part].mean() if (part := _inside(times, span)).any() else np.nan for span in spans_s]
        return np.column_stack([means, np.full(len(means), np.nan)])
    beats = beat_times(channel)
    intervals, middles = np.diff(beats), (beats[:-1] + beats[1:]) / 2
    valid = (intervals >= 60 / high) & (intervals <= 60 / low)
    out = np.full((len(spans_s), 2), np.nan)
    for row, span in zip(out, spans_s, strict=True):
        inside = _inside(middles, span) & valid
        if inside.any():
            row[0] = 60 / intervals[inside].mean()
        successive = inside[:-1] & inside[1:]
        if (successive[:-1] & successive[1:]).any():  # four beats in a row
            row[1] = 1000 * np.sqrt(np.mean(np.square(np.diff(intervals)[successive])))
    return out


def _skin(channel: Channel, spans_s: npt.NDArray[np.float64]) -> Samples:
    """Return mean level and root mean square of the responses in microsiemens: float64[T, 2]."""
    out = np.full((len(spans_s), 2), np.nan)
    if len(channel.values) < 2 or channel.rate_hz <= 2 * _TONIC_HZ:
        return out
    times, tonic, phasic = tonic_and_phasic(channel)
    for row, span in zip(out, spans_s, strict=True):
        if _covered(channel, span):
            inside = _inside(times, span)
            row[:] = tonic[inside].mean(), np.sqrt(np.mean(np.square(phasic[inside])))
    return out


def _brain(channels: Sequence[Channel], spans_s: npt.NDArray[np.float64]) -> Samples:
    """Return log10 band powers, averaged over channels, and the frontal asymmetry: float64[T, 6]."""
    powers = np.stack([_powers(channel, spans_s) for channel in channels])
    alpha = powers[:, :, list(BANDS_HZ).index("alpha")]
    left, right = (_mean_known(alpha[[electrode_of(c) == name for c in channels]]) for name in ("f3", "f4"))
    return np.column_stack([np.log10(_mean_known(powers)), np.log(right / left)])


def _powers(channel: Channel, spans_s: npt.NDArray[np.float64]) -> Samples:
    """Return the band powers of an EEG channel in square microvolts: float64[T, 5]."""
    out = np.full((len(spans_s), len(BANDS_HZ)), np.nan)
    if len(channel.values) < 2:
        return out
    times, values, rate = _even(channel)
    for row, span in zip(out, spans_s, strict=True):
        part = values[_inside(times, span)]
        if _covered(channel, span) and len(part) >= _MIN_EEG_S * rate:
            row[:] = np.maximum(band_powers(part, rate), _FLOOR_UV2)
    return out


def _mean_known(values: Samples) -> Samples:
    """Average over the first axis without NaN; NaN where nothing is known."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    mean: Samples = np.where(known, values, 0.0).sum(axis=0) / np.where(count > 0, count, np.nan)
    return mean


# ---------------------------------------------------------------- signals


def _inside(times: Samples, span: Iterable[float]) -> npt.NDArray[np.bool_]:
    start, end = span
    inside: npt.NDArray[np.bool_] = (times >= start) & (times < end)
    return inside


def _covered(channel: Channel, span: Sequence[float] | npt.NDArray[np.float64]) -> bool:
    """Whether enough samples of a window are present to ignore interpolated gaps."""
    wanted = (span[1] - span[0]) * channel.rate_hz
    return bool(_inside(channel.times_s, span).sum() >= max(1.0, _COVERED * wanted))


def _even(channel: Channel) -> tuple[Samples, Samples, float]:
    """Return evenly spaced times, samples (gaps interpolated linearly) and their rate."""
    rate = channel.rate_hz
    if not rate:
        return channel.times_s, channel.values, rate
    count = int((channel.times_s[-1] - channel.times_s[0]) * rate + 0.5) + 1
    times: Samples = channel.times_s[0] + np.arange(count) / rate
    return times, np.interp(times, channel.times_s, channel.values), rate


def _filtered(values: Samples, rate_hz: float, edge_hz: Any, kind: str, order: int) -> Samples:
    """Apply a zero-phase Butterworth filter."""
    with needs_extra(EXTRA, "body signals", MediaError):
        from scipy import signal
    sections = signal.butter(order, edge_hz, kind, fs=rate_hz, output="sos")
    # SciPy's default padding, or less for a short signal.
    padding = min(3 * (2 * len(sections) + 1), len(values) - 1)
    out: Samples = signal.sosfiltfilt(sections, values, padlen=padding)
    return out


def _moving_mean(values: Samples, size: int) -> Samples:
    mean: Samples = np.convolve(values, np.full(size, 1 / size), "same")[: len(values)]
    return mean
