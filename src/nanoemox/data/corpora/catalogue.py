"""All corpora with their readers, licences and sources."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nanoemox.data.corpora import (
    avamerg,
    crema_d,
    emodb,
    empathetic_dialogues,
    esconv,
    faces_in_films,
    facial_expressions,
    goemotions,
    iemocap,
    m3ed,
    meld,
    mer,
    mintrec,
    mustard,
    ravdess,
    sentiment,
    table,
)
from nanoemox.data.manifest import Sample
from nanoemox.types import NanoEmoXError, RecipeError


@dataclass(frozen=True, slots=True)
class Corpus:
    """A corpus with a reader.

    Attributes:
        reader: From the released folder to samples; takes ``trust_npz`` if ``pickled``.
        licence: The licence, in a few words.
        get: How to obtain it: what to download from where.
        files: Files that are read, relative to the folder.
        folder: Other name of the released folder in a data root, besides the corpus' own.
        pickled: Whether one of its layouts is a pickled ``.npz``.
        words_alone: Whether transcripts are used without media if no clip is present.
    """

    reader: Callable[..., list[Sample]]
    licence: str
    get: str
    files: str
    folder: str | None = None
    pickled: bool = False
    words_alone: bool = False

    def place(self, data_root: Path, name: str) -> str:
        """Return the released folder's path in a data root; a folder called ``name`` takes precedence."""
        if self.folder is None or (self.folder and (data_root / name).is_dir()):
            return name
        return self.folder if (data_root / self.folder).is_dir() else name

    def read(self, root: Path, *, trust_npz: bool = False) -> list[Sample]:
        """Read the released folder.

        Args:
            root: The folder; media paths of the samples are relative to it.
            trust_npz: Unpickle ``.npz`` files, which can run any code.

        Raises:
            RecipeError: A file is missing or has an unknown layout; the message says what to download.
        """
        if not root.is_dir():
            raise RecipeError(f"{root}: no such folder; {self.get}")
        try:
            return self.reader(root, trust_npz=trust_npz) if self.pickled else self.reader(root)
        except FileNotFoundError as error:
            raise RecipeError(f"{error.filename} is missing; {self.get}; files read: {self.files}") from error
        except NanoEmoXError:
            raise
        except OSError as error:
            raise RecipeError(f"{error.filename}: {error.strerror}; check that it is a readable file") from error
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, csv.Error, RecursionError) as error:
            found = f"{type(error).__name__}: {str(error)[:200]}"
            raise RecipeError(f"{root}: not the released layout ({found}); files read: {self.files}") from error


_MER = "research only, signed licence; clips and labels may not be redistributed"
_MER_FILES = "video/*.mp4; words: subtitle_chieng.csv or transcription-engchi-polish.csv"
_UNIBENCH = "transcription-engchi-polish.csv"
_MMSA = "label.csv and Raw/VIDEO/CLIP.mp4 (MMSA)"

READERS: Final[dict[str, Corpus]] = {
    # What the paper trains on.
    "caer": Corpus(
        faces_in_films.read_caer,
        "research only",
        "download CAER from caer-dataset.github.io",
        "{train,validation,test}/{Anger,...}/*.avi; or caer_ferv39k_ann.json and video/",
    ),
    "ferv39k": Corpus(
        faces_in_films.read_ferv39k,
        "research only, signed licence",
        "download FERV39K from wangyanckxx.github.io/Proj_CVPR2022_FERV39k.html",
        "4_setups/All_scenes/{train,test}_All.csv, SCENE/CLASS/*.mp4; or caer_ferv39k_ann.json and video/",
    ),
    "crema_d": Corpus(
        crema_d.read,
        "ODbL 1.0",
        "download CREMA-D from github.com/CheyneyComputerScience/CREMA-D",
        "SentenceFilenames.csv or crema_d_annotations.json; AudioWAV/*.wav or VideoFlash/*.flv",
    ),
    "m3ed": Corpus(
        m3ed.read,
        "research only, on agreement",
        "download M3ED from github.com/AIM3-RUC/RUCM3ED",
        "annotation.json and splitInfo/movie_list_{train,val,test}.txt; or fold_1/m3ed_{train,valid,test}_fold_1"
        ".jsonl (EmoBox); or m3ed_annotaton.json (sic); modality_speech/*.wav",
    ),
    "mintrec": Corpus(
        mintrec.read,
        "research only",
        "download MIntRec from github.com/thuiar/MIntRec",
        "train.tsv, dev.tsv, test.tsv and raw_data/SEASON/EPISODE/CLIP.mp4; or {train,test}_MIntRec_ann.json, "
        "MIntRec_dev_intent_llamafactory.json and video/",
        folder="annotations",
        words_alone=True,
    ),
    "mintrec2": Corpus(
        mintrec.read_second,
        "CC BY-NC-SA 4.0",
        "download MIntRec2.0 from github.com/thuiar/MIntRec2.0",
        "in-scope_data/{train,dev,test}.tsv and raw_data/dia*_utt*.mp4; or {train,test}_MIntRec2_ann.json, "
        "MIntRec2.0_dev_intent_llamafactory.json, mmla/swift/MIntRec2.0/test.jsonl and video/",
        folder="annotations",
        words_alone=True,
    ),
    "mercaptionplus": Corpus(
        mer.read_caption_plus,
        _MER,
        "download MER-Caption+ from huggingface.co/datasets/MERChallenge/MER2025",
        f"track2_train_mercaptionplus.csv, track3_train_mercaptionplus.csv, {_MER_FILES}",
    ),
    "merr": Corpus(
        mer.read_merr,
        _MER,
        "download MERR from github.com/ZebangCheng/Emotion-LLaMA and the clips of MER2023",
        "MERR_fine_grained.json, video/*.mp4",
    ),
    "avamerg": Corpus(
        avamerg.read,
        "research only",
        "download AvaMERG from avamerg.github.io",
        "train.json, v_test_v5_0.json, video/dia*utt*_*.mp4",
    ),
    # What the paper evaluates on.
    "mer2023": Corpus(
        mer.read_2023,
        _MER,
        "download MER2023 from merchallenge.cn",
        f"train-label.csv and test1-label.csv; or label-6way.npz; {_MER_FILES}",
        pickled=True,
    ),
    "mer2024": Corpus(
        mer.read_2024,
        _MER,
        "download MER2024 from huggingface.co/datasets/MERChallenge/MER2024",
        f"label-disdim.csv and reference-semi.csv; or label-6way.npz; {_MER_FILES}",
        pickled=True,
    ),
    "meld": Corpus(
        meld.read,
        "GPL-3.0; the clips are the series' makers'",
        "download MELD from github.com/declare-lab/MELD",
        "{train,dev,test}_sent_emo.csv, train_splits/, dev_splits_complete/, output_repeated_splits_test/; or "
        f"label.npz, {_UNIBENCH}, subvideo/",
        pickled=True,
        words_alone=True,
    ),
    "iemocap": Corpus(
        iemocap.read,
        "research only, signed release form",
        "download IEMOCAP from sail.usc.edu/iemocap",
        "Session{1..5}/dialog/{EmoEvaluation,transcriptions}/*.txt, Session*/sentences/wav/; or label_4way.npz, "
        f"{_UNIBENCH}, subvideo-tgt/; or fold_*/iemocap_*_fold_*.jsonl (EmoBox)",
        pickled=True,
    ),
    "cmu_mosi": Corpus(
        sentiment.read_mosi,
        "research only",
        "download CMU-MOSI from github.com/thuiar/MMSA",
        f"{_MMSA}; or label.npz, {_UNIBENCH}; or MMLA's lists of MOSI",
        pickled=True,
    ),
    "cmu_mosei": Corpus(
        sentiment.read_mosei,
        "research only",
        "download CMU-MOSEI from github.com/thuiar/MMSA",
        f"{_MMSA}; or label.npz, {_UNIBENCH}",
        pickled=True,
    ),
    "ch_sims": Corpus(
        sentiment.read_sims,
        "research only",
        "download CH-SIMS from github.com/thuiar/MMSA",
        f"{_MMSA}; or label.npz, {_UNIBENCH}",
        pickled=True,
    ),
    "ch_sims_v2": Corpus(
        sentiment.read_sims_v2,
        "research only",
        "download CH-SIMS v2.0 from github.com/thuiar/ch-sims-v2",
        f"meta.csv and Raw/VIDEO/CLIP.mp4; or label.npz, {_UNIBENCH}; or MMLA's lists of Ch-sims",
        pickled=True,
    ),
    "ov_merd": Corpus(
        mer.read_ov_merd,
        _MER,
        "download OV-MERD from huggingface.co/datasets/MERChallenge/MER2025",
        f"track2_train_ovmerd.csv or check-openset.csv, track3_train_ovmerd.csv, {_MER_FILES}",
    ),
    "emer": Corpus(
        mer.read_emer,
        _MER,
        "download EMER from github.com/zeroQiaoba/AffectGPT and the clips of MER2023",
        "gt-eng.csv (100 clips) or final-EMER-reason.csv (332), video/*.mp4",
        words_alone=True,
    ),
    # Open ones.
    "ravdess": Corpus(
        ravdess.read,
        "CC BY-NC-SA 4.0",
        "download RAVDESS speech from zenodo.org/record/1188976",
        "any folders of 03-01-*.wav or 01-01-*.mp4",
        folder="corpora/ravdess_speech_16k",
    ),
    "emodb": Corpus(emodb.read, "free; cite the paper", "download EmoDB from emodb.bilderbar.info", "wav/*.wav"),
    "goemotions": Corpus(
        goemotions.read,
        "CC BY 4.0",
        "download GoEmotions from github.com/google-research/google-research/tree/master/goemotions",
        "emotions.txt or labels.txt, train.tsv, dev.tsv, test.tsv",
        folder="corpora/text/goemotions/ekman",
    ),
    "esconv": Corpus(
        esconv.read,
        "CC BY-NC 4.0",
        "download ESConv from github.com/thu-coai/Emotional-Support-Conversation",
        "{train,dev,test}WithStrategy_short.tsv, FailedESConv.json",
        folder="corpora/text/esconv",
    ),
    "empathetic_dialogues": Corpus(
        empathetic_dialogues.read,
        "CC BY-NC 4.0",
        "download EmpatheticDialogues from github.com/facebookresearch/EmpatheticDialogues",
        "train.csv, valid.csv, test.csv",
    ),
    "dfew": Corpus(
        faces_in_films.read_dfew,
        "research only, signed licence",
        "download DFEW from dfew-dataset.github.io",
        "EmoLabel_DataSplit/{train,test}(single-labeled)/set_1.csv, or split01_{train,test}.csv, or annotation.xlsx"
        " alone; Clip/",
    ),
    "mustard": Corpus(
        mustard.read,
        "MIT",
        "download MUStARD from github.com/soujanyaporia/MUStARD",
        "sarcasm_data.json, utterances_final/*.mp4",
        folder="annotations/mustard",
        words_alone=True,
    ),
    "facial_expressions": Corpus(
        facial_expressions.read,
        "Apache-2.0; rights in the pictures unclear",
        "download github.com/muxspace/facial_expressions",
        "legend.csv, images/",
        folder="corpora/facial_expressions",
    ),
    # Yours.
    "table": Corpus(
        table.read,
        "yours",
        "write labels.csv with the columns file,label[,subtitle,split,speaker,task,language,face_vectors]",
        "labels.csv (or the only .csv or .tsv), the files it names",
    ),
}
"""Name -> corpus."""
