"""Signals of known rate and power as CSV and EDF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from edfio import Edf, EdfSignal

Samples = npt.NDArray[np.float64]
Columns = dict[str, tuple[str, Samples]]


def ecg(seconds: float, bpm: float, rate_hz: int) -> Samples:
    """A heart as a train of narrow bumps of 1000 uV."""
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    phase = (t * bpm / 60 + 0.5) % 1 - 0.5  # 0 at each beat
    return 1000 * np.exp(-(((phase * 60 / bpm) / 0.02) ** 2))


def waves(seconds: float, rate_hz: int, **amplitudes_uv: float) -> Samples:
    """Sines such as ``f10=20.0``: 10 Hz with an amplitude of 20."""
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    return np.sum([a * np.sin(2 * np.pi * float(f[1:]) * t) for f, a in amplitudes_uv.items()], axis=0)


def write_csv(path: Path, columns: Columns, rate_hz: int, *, clock: bool = True) -> Path:
    """Write name -> (unit, samples), with a column of times or a line with the rate."""
    table = np.stack([values for _, values in columns.values()], axis=1)
    names = [f"{name} [{unit}]" for name, (unit, _) in columns.items()]
    if clock:
        table, names = np.column_stack([np.arange(len(table)) / rate_hz, table]), ["time [s]", *names]
    head = [] if clock else [f"# sampling_rate_hz: {rate_hz}"]
    rows = [",".join("" if np.isnan(v) else f"{v:.6f}" for v in row) for row in table]
    path.write_text("\n".join([*head, ",".join(names), *rows]) + "\n", "utf-8")
    return path


def write_edf(path: Path, columns: Columns, rate_hz: int) -> Path:
    signals = []
    for name, (unit, values) in columns.items():
        span = float(np.abs(values).max() * 1.01 + 1e-9)
        signals.append(
            EdfSignal(
                values, rate_hz, label=name, physical_dimension=unit, physical_range=(-round(span) - 1, round(span) + 1)
            )
        )
    Edf(signals).write(path)
    return path
