"""Features of body signals: known rates and powers, and comparison with neurokit2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nanoemox.media.biosignals import BANDS_HZ, FEATURES, band_powers, beat_times, tonic_and_phasic, window_features
from nanoemox.media.recordings import Channel, Kind, Samples
from tests.media.recordings import ecg, waves

ORACLE = np.load(Path(__file__).parent / "oracles" / "neurokit2.npz")
RATES_HZ = dict(zip(("ecg", "ppg", "eda"), ORACLE["rates_hz"].tolist(), strict=True))
WHOLE = np.array([[0.0, 30.0]])


def channel(kind: Kind, values: Samples, rate_hz: float, name: str = "") -> Channel:
    return Channel(kind, name or kind, np.arange(len(values)) / rate_hz, np.asarray(values, np.float64), rate_hz)


def feature(name: str, channels: list[Channel], spans: Samples = WHOLE) -> Samples:
    return np.asarray(window_features(channels, spans)[:, FEATURES.index(name)], np.float64)


@pytest.mark.parametrize("kind", ["ecg", "ppg"])
def test_beats_match_neurokit2(kind: Kind) -> None:
    found = beat_times(channel(kind, ORACLE[kind], RATES_HZ[kind]))
    for beat in ORACLE[f"{kind}_beats_s"]:
        assert np.abs(found - beat).min() < 0.05, "within the width of a peak"
    assert len(found) <= len(ORACLE[f"{kind}_beats_s"]) + 1, "it leaves out the beat at the end"


def test_skin_conductance_split_matches_neurokit2() -> None:
    _, tonic, phasic = tonic_and_phasic(channel("eda", ORACLE["eda"], RATES_HZ["eda"]))
    np.testing.assert_allclose(tonic, ORACLE["eda_tonic"], atol=2e-6)
    np.testing.assert_allclose(phasic, ORACLE["eda_phasic"], atol=2e-6)


@pytest.mark.parametrize("bpm", [48, 75, 132])
@pytest.mark.parametrize("rate_hz", [100, 256, 1000])
def test_a_known_heart_rate(bpm: float, rate_hz: int) -> None:
    heart = channel("ecg", ecg(30, bpm, rate_hz), rate_hz)
    assert feature("heart_rate_bpm", [heart]) == pytest.approx(bpm, rel=0.01)
    assert feature("rmssd_ms", [heart])[0] <= 1500 / rate_hz, "regular to the sample"


def test_rising_heart_rate_shows_in_its_windows() -> None:
    heart = channel("ecg", np.concatenate([ecg(15, 60, 128), ecg(15, 120, 128)]), 128)
    slow, fast = feature("heart_rate_bpm", [heart], np.array([[2.0, 12.0], [18.0, 28.0]]))
    assert (slow, fast) == pytest.approx((60, 120), rel=0.01)


def test_rmssd_needs_four_beats_in_a_row_and_skips_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    heart = channel("ecg", np.zeros(30), 1.0)
    for beats, wanted in (
        ([0, 0.8, 1.6, 5, 6, 7], np.nan),
        ([0, 0.8, 1.6, 2.5, 6, 7], 1000 * np.sqrt(0.01 / 2)),
        ([0, 0.8, 1.6, 2.4, 6, 7, 8, 9], 0.0),
        ([0, 1], np.nan),
        ([], np.nan),
    ):
        found = np.array(beats, np.float64)
        monkeypatch.setattr("nanoemox.media.biosignals.beat_times", lambda _, found=found: found)
        assert feature("rmssd_ms", [heart])[0] == pytest.approx(wanted, abs=1e-3, nan_ok=True), beats


def test_the_given_rate_stands_in_where_the_heart_shows_no_beats() -> None:
    given = channel("heart_rate", np.full(30, 72.0), 1.0)
    flat, slow = channel("ecg", np.zeros(3000), 100), channel("ecg", ecg(30, 60, 20), 20)
    for lead in (flat, slow):
        assert feature("heart_rate_bpm", [given, lead])[0] == 72
    lost = channel("ecg", np.concatenate([ecg(15, 60, 128), np.zeros(15 * 128)]), 128)
    halves = np.array([[2.0, 12.0], [18.0, 28.0]])
    assert feature("heart_rate_bpm", [lost, given], halves).tolist() == pytest.approx([60, 72], rel=0.01)
    pulse = channel("ppg", 1000 + ecg(30, 90, 64), 64)
    assert feature("heart_rate_bpm", [given, pulse, flat])[0] == pytest.approx(90, rel=0.01)


def test_recorded_heart_rate_is_averaged_over_plausible_values() -> None:
    given = channel("heart_rate", np.array([60.0, 64.0, 0.0, 900.0]), 1.0)
    assert feature("heart_rate_bpm", [given], np.array([[0.0, 4.0], [2.0, 4.0]])).tolist() == pytest.approx(
        [62, np.nan], nan_ok=True
    )
    assert np.isnan(feature("rmssd_ms", [given])).all()


@pytest.mark.parametrize(("band", "hz"), [("delta", 2), ("theta", 6), ("alpha", 10), ("beta", 20), ("gamma", 40)])
def test_the_power_of_a_sine_is_half_its_square_in_its_band(band: str, hz: int) -> None:
    powers = dict(zip(BANDS_HZ, band_powers(waves(10, 256, **{f"f{hz}": 20.0}), 256), strict=True))
    assert powers[band] == pytest.approx(200, rel=0.02)
    assert max(p for other, p in powers.items() if other != band) < 1e-3 * powers[band]
    brain = channel("eeg", waves(30, 256, **{f"f{hz}": 20.0}), 256)
    assert feature(f"eeg_{band}_log10_uv2", [brain]) == pytest.approx(np.log10(200), abs=0.01)


def test_electrodes_are_averaged_and_asymmetry_is_right_over_left() -> None:
    left = channel("eeg", waves(30, 128, f10=10.0), 128, "EEG F3-A1")
    right = channel("eeg", waves(30, 128, f10=20.0), 128, "F4")
    assert feature("eeg_alpha_log10_uv2", [left, right]) == pytest.approx(np.log10(125), abs=0.01)
    assert feature("eeg_alpha_asymmetry_ln", [left, right]) == pytest.approx(np.log(4), abs=0.01)
    assert np.isnan(feature("eeg_alpha_asymmetry_ln", [left])).all()


@pytest.mark.parametrize("names", [("EEG-F3", "EEG-F4"), ("EEG", "EEG"), ("F3-A1", "F3-A2")])
def test_no_eeg_channel_replaces_another(names: tuple[str, str]) -> None:
    pair = [
        channel("eeg", waves(30, 128, f10=amplitude), 128, name)
        for name, amplitude in zip(names, (10, 20), strict=True)
    ]
    assert feature("eeg_alpha_log10_uv2", pair) == pytest.approx(np.log10(125), abs=0.01)


def test_asymmetry_averages_the_references_of_an_electrode() -> None:
    wave = {"F3-A1": 10.0, "F3-A2": 20.0, "EEG-F4": 20.0}
    brain = [channel("eeg", waves(30, 128, f10=a), 128, name) for name, a in wave.items()]
    assert feature("eeg_alpha_asymmetry_ln", brain) == pytest.approx(np.log(200 / 125), abs=0.01)


def test_a_slow_electrode_leaves_its_bands_to_the_others() -> None:
    fast = channel("eeg", waves(30, 128, f40=20.0), 128, "F3")
    slow = channel("eeg", waves(30, 64, f10=20.0), 64, "F4")
    assert feature("eeg_gamma_log10_uv2", [fast, slow]) == pytest.approx(np.log10(200), abs=0.01)
    assert feature("eeg_alpha_log10_uv2", [fast, slow]) == pytest.approx(np.log10(100), abs=0.01)


@pytest.mark.parametrize("rate_hz", [1.0, 0.5, 0.25, 0.01])
def test_eeg_slower_than_its_bands_gives_nan(rate_hz: float) -> None:
    assert np.isnan(window_features([channel("eeg", np.sin(np.arange(60.0)), rate_hz)], WHOLE)).all()
    assert np.isnan(band_powers(np.sin(np.arange(60.0)), rate_hz)).all()


def test_insufficient_signals_give_nan() -> None:
    assert np.isnan(window_features([], WHOLE)).all()
    slow = channel("eeg", waves(30, 64, f10=10.0), 64)
    assert np.isnan(feature("eeg_gamma_log10_uv2", [slow])).all(), "64 Hz hold nothing at 45"
    assert np.isfinite(feature("eeg_alpha_log10_uv2", [slow])).all()
    for kind in ("ecg", "ppg", "eda", "eeg", "heart_rate"):
        for length in (1, 2, 3, 10):
            found = window_features([channel(kind, np.ones(length), 128)], np.array([[0.0, 5.0]]))
            assert np.isnan(found).all() or kind == "heart_rate", (kind, length)
    flat = window_features([channel("ecg", np.zeros(4000), 128)], WHOLE)
    assert np.isnan(flat).all(), "a lead that fell off has no rate"


def test_only_windows_in_a_gap_are_nan() -> None:
    values = 5 + waves(60, 8, f0=0.0)
    times = np.arange(480) / 8
    kept = (times < 20) | (times > 40)
    skin = Channel("eda", "eda", times[kept], values[kept], 8.0)
    spans = np.array([[5.0, 10.0], [25.0, 30.0], [50.0, 55.0]])
    assert feature("eda_tonic_us", [skin], spans).tolist() == pytest.approx([5, np.nan, 5], nan_ok=True)
