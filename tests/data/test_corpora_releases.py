"""Readers on miniature releases in the original layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from nanoemox.data.corpora import READERS
from nanoemox.data.manifest import ReplyLabels, Sample, target_text
from nanoemox.types import RecipeError, Think


def put(root: Path, name: str, text: str = "") -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, "utf-8")
    return root / name


def npz(path: Path, **parts: dict[str, Any]) -> None:
    np.savez(path, **{key: np.array(value, dtype=object) for key, value in parts.items()})


def read(name: str, root: Path, *, trust_npz: bool = False) -> dict[str, Sample]:
    samples = READERS[name].read(root, trust_npz=trust_npz)
    assert {s.corpus for s in samples} == {name}
    found = {f"{s.id}/{s.task}": s for s in samples}
    assert len(found) == len(samples)
    return found


def said(sample: Sample) -> tuple[str, str, str | None, str | None]:
    return sample.split, target_text(sample), sample.media, sample.subtitle


def test_caer(tmp_path: Path) -> None:
    put(tmp_path, "CAER/train/Anger/0001.avi")
    put(tmp_path, "CAER/validation/Happy/0001.avi")
    put(tmp_path, "CAER/test/Surprise/0002.avi")
    put(tmp_path, "CAER/test/Surprise/._0002.txt")
    found = read("caer", tmp_path)
    assert {key: said(s) for key, s in found.items()} == {
        "train-Anger-0001/mer": ("train", "anger", "CAER/train/Anger/0001.avi", None),
        "validation-Happy-0001/mer": ("validation", "happy", "CAER/validation/Happy/0001.avi", None),
        "test-Surprise-0002/mer": ("test", "surprise", "CAER/test/Surprise/0002.avi", None),
    }


def messages(*rows: tuple[str, str, str], media: str = "videos") -> str:
    return json.dumps(
        [
            {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": label}], media: [path]}
            for path, text, label in rows
        ]
    )


def test_authors_joint_file_splits_into_two_corpora(tmp_path: Path) -> None:
    rows = messages(("/x/0001.avi", "", "Anger"), ("/x/0002.mp4", "", "Happy"), ("/x/CAER/0003.mp4", "", "fear"))
    put(tmp_path, "caer_ferv39k_ann.json", rows)
    put(tmp_path, "clips/0002.mp4")
    assert {s.id: said(s)[1:3] for s in read("caer", tmp_path).values()} == {
        "0001": ("anger", "video/0001.mp4"), "0003": ("fear", "video/0003.mp4")
    }  # fmt: skip
    assert {s.id: said(s)[1:3] for s in read("ferv39k", tmp_path).values()} == {"0002": ("happy", "clips/0002.mp4")}


def test_ferv39k_with_labels_as_numbers_or_words(tmp_path: Path) -> None:
    put(tmp_path, "4_setups/All_scenes/train_All.csv", "Action/Happy/0267 0\nAction/Sad/0010 Sad\n")
    put(tmp_path, "4_setups/All_scenes/test_All.csv", "/mnt/2_ClipsforFaceCrop/Crime/Angry/0063 3\n")
    put(tmp_path, "0_7_LabelClips/Action/Sad/0010.mp4")
    found = read("ferv39k", tmp_path)
    assert [said(s)[:3] for s in found.values()] == [
        ("train", "happy", "Action/Happy/0267.mp4"),
        ("train", "sad", "0_7_LabelClips/Action/Sad/0010.mp4"),
        ("test", "angry", "Crime/Angry/0063.mp4"),
    ]
    assert {s.language for s in found.values()} == {"und"}


def test_dfew_lists(tmp_path: Path) -> None:
    put(tmp_path, "EmoLabel_DataSplit/train(single-labeled)/set_1.csv", "video_name,label\n2522,6\n1,2\n")
    put(tmp_path, "EmoLabel_DataSplit/test(single-labeled)/set_1.csv", "video_name,label\n3,7\n")
    put(tmp_path, "Clip/original/part_1/1.mp4")
    assert [said(s)[:3] for s in read("dfew", tmp_path).values()] == [
        ("train", "disgust", "Clip/original/2522.mp4"),
        ("train", "sad", "Clip/original/part_1/1.mp4"),
        ("test", "fear", "Clip/original/3.mp4"),
    ]


def test_dfew_votes_of_a_spreadsheet(tmp_path: Path) -> None:
    names = ["1happy", "2sad", "3neutral", "4angry", "5surprise", "6disgust", "7fear", "order"]
    head = "".join(f'<c r="{c}1" t="inlineStr"><is><t>{n}</t></is></c>' for c, n in zip("ABCDEFGH", names, strict=True))
    rows = [f'<row r="1">{head}</row>']
    for number, votes in ((2, [0, 0, 3, 7, 0, 0, 0, 1]), (3, [5, 5, 0, 0, 0, 0, 0, 2])):
        cells = "".join(f'<c r="{c}{number}"><v>{v}</v></c>' for c, v in zip("ABCDEFGH", votes, strict=True))
        rows.append(f'<row r="{number}">{cells}</row>')
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    with ZipFile(tmp_path / "annotation.xlsx", "w") as archive:
        body = f'<worksheet xmlns="{main}"><sheetData>{"".join(rows)}</sheetData></worksheet>'
        archive.writestr("xl/worksheets/sheet1.xml", body)
    assert [said(s)[:2] for s in read("dfew", tmp_path).values()] == [("train", "angry")]
    (tmp_path / "annotation.xlsx").write_bytes(b"PK oops")
    with pytest.raises(RecipeError, match=r"not a spreadsheet"):
        read("dfew", tmp_path)


def test_crema_d_prefers_the_sound_file(tmp_path: Path) -> None:
    put(tmp_path, "SentenceFilenames.csv", '"Stimulus_Number","Filename"\n1,"1001_DFA_ANG_XX"\n2,"1002_IEO_HAP_LO"\n')
    put(tmp_path, "AudioWAV/1001_DFA_ANG_XX.wav")
    put(tmp_path, "VideoFlash/1001_DFA_ANG_XX.flv")
    put(tmp_path, "VideoFlash/1002_IEO_HAP_LO.flv")
    found = read("crema_d", tmp_path)
    assert [said(s) for s in found.values()] == [
        ("train", "anger", "AudioWAV/1001_DFA_ANG_XX.wav", "Don't forget a jacket."),
        ("train", "happy", "VideoFlash/1002_IEO_HAP_LO.flv", "It's eleven o'clock."),
    ]
    assert [s.speaker for s in found.values()] == ["actor-1001", "actor-1002"]
    put(tmp_path, "crema_d_annotations.json", messages(("/x/talk.wav", "", "sad"), media="audios"))
    with pytest.raises(RecipeError, match="'talk' is not the name of a take"):
        read("crema_d", tmp_path)


def test_m3ed(tmp_path: Path) -> None:
    for part, drama in (("train", "anjia"), ("val", "fendou"), ("test", "woju")):
        put(tmp_path, f"splitInfo/movie_list_{part}.txt", f"{drama}\n")
    turn = {"Text": "你好 吗", "Speaker": "A", "EmoAnnotation": {"final_main_emo": "Happy"}}
    talks = {
        drama: {f"{drama}_1": {"SpeakerInfo": {"A": {"Name": "小王"}}, "Dialog": {f"{drama}_1_1": turn}}}
        for drama in ("anjia", "fendou", "woju", "unlisted")
    }
    put(tmp_path, "annotation.json", json.dumps(talks))
    found = read("m3ed", tmp_path)
    assert [s.split for s in found.values()] == ["train", "validation", "test"]
    first = found["A_anjia_1_1/mer"]
    assert said(first) == ("train", "happy", "modality_speech/A_anjia_1_1.wav", "你好 吗")
    assert (first.language, first.speaker) == ("zh", "anjia/小王")
    (tmp_path / "annotation.json").unlink()
    put(tmp_path, "m3ed_annotaton.json", messages(("/x/A_anjia_1_1.wav", "你好", "sad"), media="audios"))
    assert said(read("m3ed", tmp_path)["A_anjia_1_1/mer"])[:2] == ("train", "sad")


def test_mintrec_tables(tmp_path: Path) -> None:
    head = "season\tepisode\tclip\ttext\tlabel\n"
    put(tmp_path, "train.tsv", head + 'S05\tE02\t99\tno, "justine".\tOppose\nS04\tE01\t1\tuh\tAsk for help\n')
    put(tmp_path, "dev.tsv", head + "S05\tE13\t465\tguys, carry me out.\tarrange\n")
    put(tmp_path, "test.tsv", head + "S06\tE04\t70\tgo\tApologize\n")
    put(tmp_path, "raw_data/S05/E02/99.mp4")
    found = read("mintrec", tmp_path)
    assert [said(s) for s in found.values()] == [
        ("train", "oppose", "raw_data/S05/E02/99.mp4", 'no, "justine".'),
        ("train", "ask for help", "raw_data/S04/E01/1.mp4", "uh"),
        ("validation", "arrange", "raw_data/S05/E13/465.mp4", "guys, carry me out."),
        ("test", "apologise", "raw_data/S06/E04/70.mp4", "go"),
    ]
    assert [s.id for s in found.values()] == ["S05_E02_99", "S04_E01_1", "S05_E13_465", "S06_E04_70"]


def test_mintrec2_tables_skip_out_of_scope_utterances(tmp_path: Path) -> None:
    head = "Dialogue_id\tUtterance_id\tText\tLabel\tspeakername\n"
    for part in ("train", "dev", "test"):
        put(
            tmp_path,
            f"in-scope_data/{part}.tsv",
            f"{head}{len(part)}\t4\thi.\tGreet\tAmy\n9\t{len(part)}\t.\tUNK\tAmy\n",
        )
    assert {s.id: s.split for s in read("mintrec2", tmp_path).values()} == {
        "dia5_utt4": "train", "dia3_utt4": "validation", "dia4_utt4": "test"
    }  # fmt: skip


def test_development_clips_are_never_training_samples(tmp_path: Path) -> None:
    rows = [("/x/S01_E01_1.mp4", "held out", "Joke"), ("/x/S01_E01_2.mp4", "free", "Joke")]
    put(tmp_path, "train_MIntRec_ann.json", messages(*rows))
    prompt = "<video>You are presented with a video in which the speaker says: held out. Based on the text, what"
    row = {"videos": ["/y/MIntRec_S01_E01_1.mp4"]}
    row |= {"conversations": [{"from": "human", "value": prompt}, {"from": "gpt", "value": "intent: joke"}]}
    put(tmp_path, "MIntRec_dev_intent_llamafactory.json", json.dumps([row]))
    found = read("mintrec", tmp_path)
    assert {s.id: s.split for s in found.values()} == {"S01_E01_1": "validation", "S01_E01_2": "train"}


def test_mer_2023_and_2024(tmp_path: Path) -> None:
    put(tmp_path, "2023/train-label.csv", "name,discrete,valence\nsample_00000001,worried,-1\n")
    put(tmp_path, "2023/test-labels/test1-label.csv", "name,discrete,valence\nsample_00000002,happy,2.5\n")
    put(tmp_path, "2023/transcription-engchi-polish.csv", "name,english,chinese\nsample_00000002,Good!,好\n")
    put(tmp_path, "2023/test1/sample_00000002.avi")
    assert [said(s) for s in read("mer2023", tmp_path / "2023").values()] == [
        ("train", "worried", "video/sample_00000001.mp4", None),
        ("test", "happy", "test1/sample_00000002.avi", "Good!"),
    ]
    put(tmp_path, "2024/transcription-engchi-polish.csv", "name,english,chinese\nsamplenew_1,Good!,好\n")
    parts = {"train_corpus": {"samplenew_1": {"emo": "sad", "val": -1.0}}, "test1_corpus": {"x": {"emo": "angry"}}}
    npz(tmp_path / "2024/label-6way.npz", **parts, test3_corpus={"y": {"emo": "sad"}})
    with pytest.raises(RecipeError, match="--trust-npz"):
        read("mer2024", tmp_path / "2024")
    found = read("mer2024", tmp_path / "2024", trust_npz=True)
    assert [said(s)[:2] for s in found.values()] == [("train", "sad"), ("test", "angry")]
    # Reference: the protocol reads MER2024 with Chinese words.
    assert found["samplenew_1/mer"].subtitle == "好"
    assert found["samplenew_1/mer"].language == "zh"


def test_mer_caption_plus_and_ov_merd(tmp_path: Path) -> None:
    put(tmp_path, "track2_train_mercaptionplus.csv", 'name,openset\na,"[concern, Pessimism, concern]"\nb,[]\n')
    put(tmp_path, "track3_train_mercaptionplus.csv", 'name,reason\na,"She frowns,\nso she is worried."\nb,\n')
    put(tmp_path, "subtitle_chieng.csv", "name,chinese,english\na,唉,Alas.\n")
    found = read("mercaptionplus", tmp_path)
    assert {key: said(s)[1] for key, s in found.items()} == {
        "a/ovmer": "concern, pessimism", "b/ovmer": "neutral", "a/eri": "She frowns,\nso she is worried."
    }  # fmt: skip
    assert found["a/ovmer"].subtitle == found["a/eri"].subtitle == "Alas."
    put(tmp_path, "check-openset.csv", "name,openset\na,\"['self-deprecating', 'relaxed']\"\n")
    assert said(read("ov_merd", tmp_path)["a/ovmer"])[:2] == ("test", "self-deprecating, relaxed")


def test_merr_and_emer(tmp_path: Path) -> None:
    row = {"text": "Oh my.", "smp_reason_caption": "Eyes wide, so surprise.", "pseu_emotion": "surprise"}
    put(tmp_path, "MERR_fine_grained.json", json.dumps({"sample_1": row}))
    found = read("merr", tmp_path)
    assert {key: said(s)[1] for key, s in found.items()} == {
        "sample_1/eri": "Eyes wide, so surprise.", "sample_1/mer": "surprise"
    }  # fmt: skip
    put(tmp_path, "final-EMER-reason.csv", 'name,chinese,english\ns,中,"One, two."\n')
    assert said(read("emer", tmp_path)["s/eri"]) == ("test", "One, two.", "video/s.mp4", None)


def test_meld_clips_repeat_their_names(tmp_path: Path) -> None:
    head = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"
    put(tmp_path, "train_sent_emo.csv", head + '1,"Oh, he’s lost it.",Phoebe,sadness,negative,0,0\n')
    put(tmp_path, "test_sent_emo.csv", head + "1,What?,Monica,surprise,negative,0,0\n")
    put(tmp_path, "train_splits/dia0_utt0.mp4")
    put(tmp_path, "test/output_repeated_splits_test/dia0_utt0.mp4")
    found = read("meld", tmp_path)
    assert {key: said(s) for key, s in found.items()} == {
        "train_dia0_utt0/mer": ("train", "sadness", "train_splits/dia0_utt0.mp4", "Oh, he’s lost it."),
        "test_dia0_utt0/mer": ("test", "surprise", "test/output_repeated_splits_test/dia0_utt0.mp4", "What?"),
    }


def test_iemocap_sessions(tmp_path: Path) -> None:
    for session in (1, 5):
        name = f"Ses0{session}F_impro01"
        turns = [("F000", "neu"), ("M001", "exc"), ("F002", "fru"), ("M003", "xxx")]
        text = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n" + "".join(
            f"[6.2901 - 8.2357]\t{name}_{turn}\t{label}\t[2.5, 2.5, 2.5]\nC-E2:\tNeutral;\t()\n\n"
            for turn, label in turns
        )
        put(tmp_path, f"Session{session}/dialog/EmoEvaluation/{name}.txt", text)
        put(tmp_path, f"Session{session}/dialog/EmoEvaluation/._{name}.txt", "")
        words = f"{name}_F000 [006.2901-008.2357]: Excuse me.\n{name}_M001 [007.0-010.0]: Do you?\n"
        put(tmp_path, f"Session{session}/dialog/transcriptions/{name}.txt", words)
    put(tmp_path, "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav")
    found = read("iemocap", tmp_path)
    wav = "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"
    assert [said(s) for s in found.values()] == [
        ("train", "neutral", wav, "Excuse me."),
        ("train", "happy", "subvideo-tgt/Ses01F_impro01_M001.avi", "Do you?"),
        ("test", "neutral", "subvideo-tgt/Ses05F_impro01_F000.avi", "Excuse me."),
        ("test", "happy", "subvideo-tgt/Ses05F_impro01_M001.avi", "Do you?"),
    ]
    assert [s.speaker for s in found.values()] == ["Ses01F", "Ses01M", "Ses05F", "Ses05M"]


@pytest.mark.parametrize(
    ("name", "clip", "language"),
    [("cmu_mosi", "3", "en"), ("cmu_mosei", "3", "en"), ("ch_sims", "0003", "zh"), ("ch_sims_v2", "3", "zh")],
)
def test_sentiment(tmp_path: Path, name: str, clip: str, language: str) -> None:
    rows = "v,3,good,1.4,train\nv,4,so so,0.0,valid\nw,5,bad,-0.2,test\n"
    put(tmp_path, "label.csv", "video_id,clip_id,text,label,mode\n" + rows)
    put(tmp_path, f"Raw/v/{clip}.mp4")
    found = list(read(name, tmp_path).values())
    assert [said(s)[:2] for s in found] == [("train", "positive"), ("validation", "neutral"), ("test", "negative")]
    assert (found[0].id, found[0].media, found[0].language) == (f"v_{clip}", f"Raw/v/{clip}.mp4", language)
    put(tmp_path, "transcription-engchi-polish.csv", f"name,english,chinese\nv_{clip},Good!,好\n")
    assert [s.subtitle for s in read(name, tmp_path).values()] == ["Good!", "so so", "bad"]
    (tmp_path / "label.csv").unlink()
    npz(tmp_path / "label.npz", test_corpus={"a_1": {"emo": 0, "val": -2.0}, "a_2": {"emo": 0, "val": 0.0}})
    assert [said(s)[:2] for s in read(name, tmp_path, trust_npz=True).values()] == [
        ("test", "negative"), ("test", "neutral")
    ]  # fmt: skip


def conversation(turns: int) -> dict[str, Any]:
    history: list[dict[str, Any]] = []
    out = []
    for number in range(turns):
        history = [*history, {"index": 2 * number, "role": "speaker", "utterance": f"I said {number}. "}]
        chain = {"speaker_emotion": "Sad", "event_scenario": "s", "emotion_cause": "c", "goal_to_response": "g"}
        turn = {"turn_id": number, "context": "gold", "dialogue_history": list(history), "response": f"Reply {number}."}
        out.append(turn | {"chain_of_empathy": chain})
        history.append({"index": 2 * number + 1, "role": "listener", "utterance": f"Reply {number}."})
    return {"conversation_id": "03998", "speaker_profile": {"ID": 7}, "listener_profile": {"ID": 9}, "turns": out}


def test_avamerg_trains_on_all_turns_and_tests_the_last(tmp_path: Path) -> None:
    talk, asked = conversation(3), conversation(2)
    talk["turns"][0]["chain_of_empathy"]["speaker_emotion"] = "weary"
    talk["turns"][1]["chain_of_empathy"]["goal_to_response"] = None
    put(tmp_path, "train.json", json.dumps([talk]))
    put(tmp_path, "v_test_v5_0.json", json.dumps([{**asked, "conversation_id": "00012"}]))
    put(tmp_path, "audio/dia03998utt4_7.wav")
    put(tmp_path, "video/dia03998utt4_7.mp4")
    put(tmp_path, "video/dia12utt2.mp4")
    found = read("avamerg", tmp_path)
    assert list(found) == [
        "dia03998utt0_7/erg", "dia03998utt2_7/erg", "dia03998utt4_7/erg", "dia03998utt4_7/mer",
        "dia00012utt2_7/erg", "dia00012utt2_7/mer",
    ]  # fmt: skip
    last = found["dia03998utt4_7/erg"]
    assert last.labels == ReplyLabels(think=Think(scenario="s", emotion="sad", cause="c", goal="g"), reply="Reply 2.")
    assert [(t.role, t.text) for t in last.history][-2:] == [("speaker", "I said 1."), ("listener", "Reply 1.")]
    assert (last.subtitle, last.media) == ("I said 2.", "video/dia03998utt4_7.mp4")
    assert found["dia03998utt2_7/erg"].labels.think is None
    assert found["dia00012utt2_7/mer"].split == "test"
    assert found["dia00012utt2_7/mer"].media == "video/dia12utt2.mp4"
    assert not any("gold" in s.model_dump_json() for s in found.values())
