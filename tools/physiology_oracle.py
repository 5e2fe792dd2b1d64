"""Write tests/media/oracles/neurokit2.npz: simulated body signals, and what neurokit2 (MIT) finds in them.

    python tools/physiology_oracle.py

Needs neurokit2 in an environment of its own: it pins setuptools, so it is no dependency of the package.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

ECG_HZ, PPG_HZ, EDA_HZ = 256, 128, 16


def main() -> None:
    """Simulate, measure, write."""
    import neurokit2

    ecg = neurokit2.ecg_simulate(30, sampling_rate=ECG_HZ, heart_rate=75, noise=0.02, random_state=1)
    ppg = neurokit2.ppg_simulate(30, sampling_rate=PPG_HZ, heart_rate=90, random_state=2)
    eda = neurokit2.eda_simulate(60, sampling_rate=EDA_HZ, scr_number=4, noise=0.0, random_state=3) + 4.0
    cleaned = {
        "ecg": neurokit2.ecg_clean(ecg, ECG_HZ, method="elgendi2013"),
        "ppg": neurokit2.ppg_clean(ppg, PPG_HZ, method="elgendi"),
    }
    parts = neurokit2.eda_phasic(neurokit2.eda_clean(eda, EDA_HZ), EDA_HZ, method="highpass")
    out = Path(__file__).parents[1] / "tests" / "media" / "oracles" / "neurokit2.npz"
    np.savez_compressed(
        out,
        **{name: np.float32(signal) for name, signal in (("ecg", ecg), ("ppg", ppg), ("eda", eda))},
        ecg_beats_s=neurokit2.ecg_findpeaks(cleaned["ecg"], ECG_HZ, method="elgendi2013")["ECG_R_Peaks"] / ECG_HZ,
        ppg_beats_s=neurokit2.ppg_findpeaks(cleaned["ppg"], PPG_HZ, method="elgendi")["PPG_Peaks"] / PPG_HZ,
        eda_tonic=np.float32(parts["EDA_Tonic"]), eda_phasic=np.float32(parts["EDA_Phasic"]),
        rates_hz=np.array([ECG_HZ, PPG_HZ, EDA_HZ]), version=neurokit2.__version__,
    )  # fmt: skip


if __name__ == "__main__":
    main()
