"""Recordings of body sensors beside a clip: channels with units, from CSV or EDF.

The header of a CSV gives channels and units, ``ecg [mV],eda [uS],eeg F3 [uV]``. Times come from a column ``time [s]``
or from a first line ``# sampling_rate_hz: 256``. An empty cell or ``nan`` is a missing sample, so channels of
different rates can share a table. EDF and EDF+ contain all of this. Letters: ``N`` samples of a channel.
"""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from nanoemox.types import MediaError, needs_extra

Kind = Literal["ecg", "ppg", "heart_rate", "eda", "eeg"]
SUFFIXES: Final = (".edf", ".csv")
"""Suffixes of recordings; if a clip has both, the first is read."""
MAX_BYTES: Final = 512 * 2**20
MAX_CSV_BYTES: Final = 32 * 2**20
"""About an hour of four channels at 256 Hz; EDF needs a sixth of that and is read in part."""
MAX_CHANNELS: Final = 512
MAX_SAMPLES: Final = 2**24
"""Limit per channel in the span that is read: 18 hours at 256 Hz."""
MAX_TOTAL_SAMPLES: Final = 2**26
"""Limit of all channels together: an hour of 64 channels at 256 Hz."""
MAX_RATE_HZ: Final = 50_000.0
EXTRA: Final = "physiology"
_CSV_FORM: Final = "write a header such as `time [s],ecg [mV],eda [uS],eeg F3 [uV]`"
_RATE: Final = re.compile(r"#\s*sampling_rate_hz\s*[:=]\s*(\S+)\s*$", re.IGNORECASE)
_NAMES: Final[Mapping[str, Kind]] = {
    "ecg": "ecg", "ekg": "ecg", "ppg": "ppg", "bvp": "ppg", "pleth": "ppg", "eda": "eda", "gsr": "eda",
    "skin conductance": "eda", "eeg": "eeg",
}  # fmt: skip
"""How the name of a channel begins."""
_HEART_RATES: Final = ("heart rate", "hr", "pulse", "pulse rate")
"""Whole names: a ``pulse transit time`` is none."""
_ELECTRODE: Final = re.compile(r"(fp|af|f|fc|ft|c|cp|t|tp|p|po|o|fz|cz|pz|oz)(z|\d{1,2})?(-\w+)?", re.IGNORECASE)
_VOLTS: Final = {"v": 1e6, "mv": 1e3, "uv": 1.0, "nv": 1e-3}
_UNITS: Final[Mapping[Kind, Mapping[str, float]]] = {
    "ecg": _VOLTS,
    "ppg": {},  # only its shape matters; units are arbitrary
    "heart_rate": {"bpm": 1.0, "1/min": 1.0, "/min": 1.0, "hz": 60.0},
    "eda": {"us": 1.0, "usiemens": 1.0, "microsiemens": 1.0, "ns": 1e-3, "siemens": 1e6},
    "eeg": _VOLTS,
}
"""Unit, in lower case -> factor to microvolts, beats per minute or microsiemens."""
_TIME_UNITS: Final = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3}
Samples = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """The samples of one sensor.

    Attributes:
        kind: The quantity.
        name: Name in the file, without the unit.
        times_s: float64[N] in seconds from the start of the recording, increasing.
        values: float64[N], finite: microvolts, beats per minute or microsiemens; any unit for ``ppg``.
        rate_hz: Samples per second; 0 with fewer than two samples.
    """

    kind: Kind
    name: str
    times_s: Samples
    values: Samples
    rate_hz: float


def read_recording(path: Path, start_s: float = 0.0, end_s: float = float("inf")) -> tuple[Channel, ...]:
    """Read the known channels of a recording between two times.

    Args:
        path: ``.csv`` or ``.edf``.
        start_s: Start of the span, in seconds from the start of the recording.
        end_s: Its end.

    Returns:
        The channels with samples in that span.

    Raises:
        MediaError: The file is missing, too large or damaged, has no known channel or an unknown unit, or needs a
            library that is not installed.
    """
    if not path.is_file():
        raise MediaError(f"{path.name}: no such recording, or not a file")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise MediaError(f"{path.name}: suffix {suffix or '(none)'} of a recording: need {' or '.join(SUFFIXES)}")
    limit = MAX_CSV_BYTES if suffix == ".csv" else MAX_BYTES
    if (size := path.stat().st_size) > limit:
        raise MediaError(f"{path.name}: {size} bytes, limit {limit}: shorten the recording or lower its sampling rate")
    read = _read_csv if suffix == ".csv" else _read_edf
    return tuple(channel for channel in read(path, start_s, end_s) if len(channel.values))


def kind_of(name: str, unit: str) -> Kind | None:
    """Return the quantity of a channel by its name, such as ``ECG II``, ``eeg_F3`` or ``Fp1``; None if unknown.

    An electrode without ``eeg`` needs a unit of volts: ``T [degC]`` is no temporal lobe.
    """
    words = name.strip().lower().replace("_", " ")
    for known, kind in _NAMES.items():
        if re.match(rf"{known}(\b|\d)", words):
            return kind
    if words in _HEART_RATES:
        return "heart_rate"
    return "eeg" if _ELECTRODE.fullmatch(words) and _plain(unit) in _VOLTS else None


def electrode_of(channel: Channel) -> str:
    """Return the electrode of an EEG channel in lower case, without its reference: ``EEG F3-A1`` is ``f3``."""
    electrode = re.sub(r"^eeg[\s_:-]*", "", channel.name.strip().lower())
    return re.split(r"[\s_:-]", electrode, maxsplit=1)[0]


def in_standard_units(name: str, kind: Kind, unit: str, values: Samples, file: str) -> Samples:
    """Convert samples to microvolts, beats per minute or microsiemens.

    Raises:
        MediaError: The unit does not fit the quantity.
    """
    plain = _plain(unit)
    if kind == "ppg":
        return values
    if kind == "eda" and plain in ("kohm", "kω", "kohms"):
        with np.errstate(divide="ignore"):
            return np.where(values > 0, 1000.0 / values, np.nan)
    if plain not in _UNITS[kind]:
        known = ", ".join([*_UNITS[kind], *(["kohm"] if kind == "eda" else [])])
        raise MediaError(f"{file}: channel {name!r} has unit {unit!r}: {kind} needs one of {known}")
    return values * _UNITS[kind][plain]


def _plain(unit: str) -> str:
    """Write a unit in lower case, and micro (the micro sign or the Greek letter) as u."""
    return unit.strip().lower().replace("µ", "u").replace("μ", "u")


def _channel(name: str, kind: Kind, unit: str, times: Samples, values: Samples, file: str) -> Channel:
    """Build a channel from the samples that are present."""
    there = ~np.isnan(values)
    times, values = times[there], values[there]
    if np.isinf(values).any():
        raise MediaError(f"{file}: channel {name!r} contains infinity: leave cells without a measurement empty")
    converted = in_standard_units(name, kind, unit, values, file)
    whole = np.isfinite(converted)
    times, converted = times[whole], converted[whole]
    rate = 1.0 / float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    if rate > MAX_RATE_HZ:
        raise MediaError(f"{file}: {rate:.0f} samples a second of {name!r}, limit {MAX_RATE_HZ:.0f}")
    return Channel(kind, name, times, converted, rate)


def _check_samples(file: str, names: Sequence[str], counts: Sequence[float]) -> None:
    for name, count in zip(names, counts, strict=True):
        if count > MAX_SAMPLES:
            raise MediaError(f"{file}: {count:.0f} samples of {name!r}, limit {MAX_SAMPLES}: shorten the recording")
    if (total := sum(counts)) > MAX_TOTAL_SAMPLES:
        raise MediaError(
            f"{file}: {total:.0f} samples in {len(counts)} channels, limit {MAX_TOTAL_SAMPLES}: "
            "shorten the recording or remove channels"
        )


def _unknown(file: str, names: Sequence[str]) -> MediaError:
    found = ", ".join(n for n in names if n)[:200] or "(none)"
    known = ", ".join([*_NAMES, *_HEART_RATES])
    return MediaError(f"{file}: no known channel among {found}: {_CSV_FORM}, or use one of the names {known}")


# ---------------------------------------------------------------- CSV


def _read_csv(path: Path, start_s: float, end_s: float) -> list[Channel]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise MediaError(f"{path.name}: not UTF-8 at byte {error.start}: save the table as UTF-8") from error
    rate, head = _rate_line(lines, path.name)
    _, columns = next(_rows(path.name, lines[head : head + 1], head + 1), (0, []))
    if len(columns) > MAX_CHANNELS:
        raise MediaError(f"{path.name}: {len(columns)} columns, limit {MAX_CHANNELS}: remove other channels")
    heads = [_name_and_unit(cell) for cell in columns]
    names, units = [name for name, _ in heads], [unit for _, unit in heads]
    chosen = {i: kind for i, head in enumerate(heads) if (kind := kind_of(*head)) is not None}
    if not chosen:
        raise _unknown(path.name, names)
    clock = next((i for i, name in enumerate(names) if name.lower() in ("time", "timestamp")), None)
    if clock is None and rate is None:
        raise MediaError(
            f"{path.name}: neither a column `time [s]` nor a first line `# sampling_rate_hz: 256`: add one of them"
        )
    table = _numbers(path.name, lines[head + 1 :], [*([] if clock is None else [clock]), *chosen], head + 2)
    if clock is None:
        times, cells = np.arange(len(table)) / float(rate or 1.0), table
    else:
        times, cells = _times(table[:, 0], units[clock], path.name), table[:, 1:]
    span = slice(*np.searchsorted(times, [start_s, end_s]))
    channels = [
        _channel(names[i], kind, units[i], times[span], cells[span, column], path.name)
        for column, (i, kind) in enumerate(chosen.items())
    ]
    # Gaps count: they will be filled.
    counts = [(c.times_s[-1] - c.times_s[0]) * c.rate_hz if len(c.times_s) else 0.0 for c in channels]
    _check_samples(path.name, [c.name for c in channels], counts)
    return channels


def _rows(file: str, lines: Sequence[str], first: int) -> Iterator[tuple[int, list[str]]]:
    """Split lines into cells; each row comes with its number."""
    reader = csv.reader(lines)
    try:
        yield from enumerate(reader, first)
    except csv.Error as error:
        raise MediaError(f"{file}:{first + reader.line_num - 1}: {error}: the table is damaged") from error


def _name_and_unit(cell: str) -> tuple[str, str]:
    """Split ``ecg [mV]`` or ``ecg (mV)``; the unit may be missing."""
    cell = cell.strip()
    start = max(cell.rfind("["), cell.rfind("("))
    if start < 0 or not cell.endswith(("]", ")")):
        return cell, ""
    return cell[:start].rstrip(), cell[start + 1 : -1].strip()


def _rate_line(lines: Sequence[str], file: str) -> tuple[float | None, int]:
    """Return the sampling rate of a comment line, if any, and the index of the header."""
    rate, head = None, 0
    while head < len(lines) and (lines[head].startswith("#") or not lines[head].strip()):
        if (found := _RATE.match(lines[head])) is not None:
            try:
                rate = float(found[1])
            except ValueError:
                rate = float("nan")
            if not 0 < rate <= MAX_RATE_HZ:
                raise MediaError(f"{file}: sampling_rate_hz {found[1][:40]}: give a number in 0..{MAX_RATE_HZ:.0f}")
        head += 1
    return rate, head


def _times(column: Samples, unit: str, file: str) -> Samples:
    if unit.lower() not in _TIME_UNITS:
        raise MediaError(f"{file}: time has unit {unit!r}: write `time [s]` or `time [ms]`")
    if not np.isfinite(column).all():
        raise MediaError(f"{file}: a row without a time: every row needs one")
    times: Samples = column * _TIME_UNITS[unit.lower()]
    if (np.diff(times) <= 0).any():
        row = int(np.flatnonzero(np.diff(times) <= 0)[0]) + 2
        raise MediaError(f"{file}: the time does not increase at sample {row}: sort the rows and remove duplicates")
    return times


def _numbers(file: str, lines: Sequence[str], columns: Sequence[int], first: int) -> Samples:
    """Read columns as float64[N, columns]; empty cells become NaN."""
    rows = []
    for number, cells in _rows(file, lines, first):
        if not cells:
            continue
        try:
            rows.append([float(cells[i].strip() or "nan") for i in columns])
        except (ValueError, IndexError) as error:
            raise MediaError(f"{file}:{number}: not a row of numbers: the table is truncated or damaged") from error
    if not rows:
        raise MediaError(f"{file}: no rows below the header: nothing was recorded")
    return np.array(rows, np.float64)


# ---------------------------------------------------------------- EDF


def _read_edf(path: Path, start_s: float, end_s: float) -> list[Channel]:
    _check_header(path)
    with needs_extra(EXTRA, "a recording in EDF, not in CSV,", MediaError):
        import edfio
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that deviate slightly from the standard
            file = edfio.read_edf(path, lazy_load_data=True)
            continuous, signals = file.is_continuous, list(file.signals)
    except (ValueError, OSError, KeyError, IndexError, OverflowError, MemoryError, AssertionError) as error:
        raise MediaError(f"{path.name}: not a complete EDF file: {str(error)[:200]}") from error
    if not continuous:
        raise MediaError(f"{path.name}: an interrupted recording (EDF+D): save it as continuous EDF or as CSV")
    chosen = [(s, kind) for s in signals if (kind := kind_of(s.label, s.physical_dimension)) is not None]
    if not chosen:
        raise _unknown(path.name, [signal.label for signal in signals])
    end_s = min(end_s, file.duration)
    parts = [_part(signal, start_s, end_s, file.num_data_records, path.name) for signal, _ in chosen]
    _check_samples(path.name, [signal.label for signal, _ in chosen], [last - first for first, last in parts])
    return [_edf_channel(*channel, *part, path.name) for channel, part in zip(chosen, parts, strict=True)]


def _part(signal: Any, start_s: float, end_s: float, records: int, file: str) -> tuple[int, int]:
    """Return the first sample of a span, and the one after its last."""
    rate = float(signal.sampling_frequency)
    if not 0 < rate <= MAX_RATE_HZ:
        raise MediaError(f"{file}: {rate:g} samples a second of {signal.label!r}, limit {MAX_RATE_HZ:.0f}")
    # Records of 0.1 s make the duration inexact.
    last = min(int(np.ceil(end_s * rate)), records * signal.samples_per_data_record)
    return min(last, int(np.ceil(start_s * rate))), last


def _edf_channel(signal: Any, kind: Kind, first: int, last: int, file: str) -> Channel:
    rate = float(signal.sampling_frequency)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of channels without a range, whose values stay unscaled
            values = np.asarray(signal.get_data_slice(first / rate, last / rate), np.float64)
    except (ValueError, ZeroDivisionError) as error:
        raise MediaError(f"{file}: channel {signal.label!r} cannot be read: {str(error)[:200]}") from error
    times = (first + np.arange(len(values))) / rate
    return _channel(signal.label, kind, signal.physical_dimension, times, values, file)


def _check_header(path: Path) -> None:
    """Compare the header with the size of the file before allocating memory."""
    with path.open("rb") as file:
        head = file.read(256)
    try:
        header_bytes, records, signals = int(head[184:192]), int(head[236:244]), int(head[252:256])
    except ValueError as error:
        raise MediaError(f"{path.name}: not an EDF file: its header lacks the numbers of bytes and records") from error
    if not 0 < signals <= MAX_CHANNELS or header_bytes != 256 * (signals + 1):
        raise MediaError(f"{path.name}: a header of {signals} channels and {header_bytes} bytes: not a valid EDF file")
    with path.open("rb") as file:
        file.seek(256 + 216 * signals)
        counts = file.read(8 * signals)
    try:
        a_record = 2 * sum(int(counts[8 * i : 8 * i + 8]) for i in range(signals))
    except ValueError as error:
        raise MediaError(f"{path.name}: its header lacks the samples per record: it is damaged") from error
    held = path.stat().st_size - header_bytes
    if records < 0 or a_record <= 0 or records * a_record > held:
        raise MediaError(
            f"{path.name}: the header announces {records} records of {a_record} bytes, the file has {held} bytes: "
            "it is truncated, or was never closed"
        )
