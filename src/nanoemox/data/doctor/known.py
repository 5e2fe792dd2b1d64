"""Clips of public releases that are known to be broken, as users reported them to the makers.

Sources: declare-lab/MELD issues 9, 20, 22, 27 and 39; A2Zadeh/CMU-MultimodalSDK issue 217;
CheyneyComputerScience/CREMA-D issue 8. Releases may have been repaired since, so clips are reported, not removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Final

from nanoemox.data.doctor.findings import Finding
from nanoemox.data.manifest import Sample

_OUT: Final = "remove it from the training part"
_KEEP: Final = "keep it, the protocol counts it"
_NOISE: Final = f"loud disturbance in the sound (MELD issue 9): {_OUT}"
_APART: Final = f"picture and words do not belong together (MELD issue 9): {_OUT}"

KNOWN_BAD: Final = MappingProxyType(
    {
        "meld": {
            r"train_dia125_utt3": f"the video is damaged (MELD issue 39): {_OUT}, or cut it again from the series",
            r"val_dia110_utt7": "the video is missing from the release (MELD issues 22 and 27): the makers say to "
            "report without it",
            r"test_dia38_utt4": f"wrongly cut, five minutes long (MELD issue 20): {_KEEP}; its words are right",
            r"test_dia220_utt0": f"wrongly cut, four minutes long (MELD issue 20): {_KEEP}; its words are right",
            r"train_dia309_utt0": f"wrongly cut, and its words hold a description of the scene (MELD issue 20): {_OUT}",
            r"train_dia(164_utt5|529_utt2|682_utt1|793_utt0|1008_utt1|1029_utt1)": _NOISE,
            r"train_dia(241_utt[12]|485_utt0|757_utt7)": _APART,
        },
        "cmu_mosi": {
            r"c5xsKMxpXnc(_.*)?": "the source video cannot be opened (CMU-MultimodalSDK issue 217): remove its "
            "segments if they cannot be read, and say so with the result",
        },
        "crema_d": {
            r"1076_MTI_NEU_XX": f"the sound cannot be played, the video has none (CREMA-D issue 8): {_OUT}",
            r"1076_MTI_SAD_XX": f"silent, and no face is in the video (CREMA-D issue 8): {_OUT}",
            r"1064_TIE_SAD_XX": f"without duration (CREMA-D issue 8): {_OUT}",
            r"1064_IEO_DIS_MD": f"a minute of several emotions (CREMA-D issue 8): {_OUT}",
        },
    }
)
"""Corpus -> pattern of ids -> what is wrong and what to do."""


def known_bad(samples: Iterable[Sample]) -> Iterator[Finding]:
    """Yield the samples that are known to be broken."""
    seen: set[tuple[str, str]] = set()
    for sample in samples:
        for pattern, what in KNOWN_BAD.get(sample.corpus, {}).items():
            if (sample.corpus, sample.id) not in seen and re.fullmatch(pattern, sample.id):
                seen.add((sample.corpus, sample.id))
                yield Finding("known", "error" if sample.split == "train" else "warning", sample.id, what)
