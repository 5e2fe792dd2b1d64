"""Language models in this process: a tiny one, saved by transformers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from nanoemox.benchmarks.judge import format_judge_scores, judge_run
from nanoemox.benchmarks.score_files import ScoreOptions, score_files
from nanoemox.judging.endpoint import EndpointError
from nanoemox.judging.language_models import check_name, open_model
from nanoemox.judging.local_model import LocalModel
from nanoemox.types import NanoEmoXError
from nanoemox.weights.digests import weights_digest
from tests.tiny import text_config, tiny_tokenizer

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
ASK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "how are you?"}]


def save(folder: Path, template: str | None = TEMPLATE, seed: int = 0, **options: bool) -> Path:
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(Qwen2Config(**{k: v for k, v in text_config().items() if k != "model_type"}))
    model.generation_config.update(do_sample=True, temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.3)
    model.save_pretrained(folder, **options)
    tokenizer = deepcopy(tiny_tokenizer())
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model"))


def test_local_answer_is_greedy_and_cached(folder: Path, tmp_path: Path) -> None:
    model = LocalModel(str(folder), tmp_path, "cpu")
    found = model.complete(ASK, 12)
    plain = Qwen2ForCausalLM.from_pretrained(folder).eval()
    tokenizer = tiny_tokenizer()
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in ASK) + "<|im_start|>assistant\n"
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    written = []
    while len(written) < 12:
        with torch.inference_mode():
            best = int(plain(torch.cat([ids, torch.tensor([written], dtype=torch.long)], 1)).logits[0, -1].argmax())
        written.append(best)
        if best in (2, tokenizer.eos_token_id):
            break
    assert found.text == tokenizer.decode(written, skip_special_tokens=True)
    assert (found.prompt_tokens, found.completion_tokens) == (ids.shape[1], len(written))
    assert found.finish == ("length" if len(written) == 12 else "stop")
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: model.complete(ASK, 12), range(4))) == [found] * 4
    assert (model.usage.calls, model.usage.cached, model.usage.completion_tokens) == (5, 4, len(written))
    assert LocalModel(str(folder), tmp_path, "cpu").complete(ASK, 12) == found
    assert model.settings["decoding"] == "greedy"


def test_cache_key_includes_the_weights(folder: Path, tmp_path: Path) -> None:
    one, other = LocalModel(str(folder), tmp_path), LocalModel(str(save(tmp_path / "other", seed=1)), tmp_path)
    assert one.settings["weights"] != other.settings["weights"]
    assert weights_digest(Qwen2ForCausalLM.from_pretrained(folder)) == one.settings["weights"]
    one.complete(ASK, 4)
    other.complete(ASK, 4)
    assert other.usage.cached == 0


def test_system_text_is_merged_for_templates_without_system_role(tmp_path: Path) -> None:
    model = LocalModel(str(save(tmp_path / "m", NO_SYSTEM)), tmp_path)
    assert "Be brief.\n\nhow are you?" in tiny_tokenizer().decode(model.prompt_ids(ASK))
    refuses = LocalModel(str(save(tmp_path / "n", "{{ raise_exception('never') }}")), tmp_path)
    with pytest.raises(EndpointError, match="refuses the dialogue: never"):
        refuses.complete(ASK, 4)
    assert refuses.usage.failed == 1


def test_a_prompt_beyond_the_context_fails_alone(folder: Path, tmp_path: Path) -> None:
    model = LocalModel(str(folder), tmp_path)
    with pytest.raises(EndpointError, match="the model takes 1024"):
        model.complete([{"role": "user", "content": "zq" * 2000}], 4)
    model.complete(ASK, 4)
    assert (model.usage.calls, model.usage.failed) == (2, 1)


def test_unusable_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NanoEmoXError, match="has no chat template"):
        LocalModel(str(save(tmp_path / "base", None)), tmp_path)
    pickled = save(tmp_path / "pickled")
    torch.save({}, pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(NanoEmoXError, match="safetensors"):
        LocalModel(str(pickled), tmp_path)
    code = save(tmp_path / "code")
    config = json.loads((code / "config.json").read_text())
    (code / "evil.py").write_text("raise SystemExit('ran')")
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (code / "config.json").write_text(json.dumps(config))
    with pytest.raises(NanoEmoXError, match="not a causal language model"):
        LocalModel(str(code), tmp_path)
    with pytest.raises(NanoEmoXError, match="not a causal language model"):
        LocalModel(str(tmp_path / "absent"), tmp_path)


@pytest.mark.parametrize("name", ["transformers:", "gpt", "", "http://x/v1#m"])
def test_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(NanoEmoXError, match="is no language model"):
        open_model(name, tmp_path)
    assert check_name("transformers:Qwen/Qwen3-8B") == "transformers:Qwen/Qwen3-8B"


def test_invalid_output_of_a_local_judge_is_a_failure(folder: Path, tmp_path: Path) -> None:
    rows = [
        {"benchmark": "emer", "id": name, "truth": "he smiles: happy", "raw": "x", "parsed": {"text": text}}
        for name, text in (("a", "She is sad."), ("b", "zq" * 5000))
    ]
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    result = judge_run(tmp_path, [f"transformers:{folder}"])
    metric = result["benchmarks"]["emer"]["metrics"]["clue_overlap"]
    assert (metric["mean"], metric["failed"]) == (None, 2)
    failures = [row["judges"][f"transformers:{folder}"]["failure"] for row in result["rows"]]
    assert "no scores" in failures[0]
    assert "the model takes 1024" in failures[1]
    assert result["cost"][f"transformers:{folder}"]["failed"] == 1  # the other call was answered, unreadably
    assert len(result["settings"][f"transformers:{folder}"]["weights"]) == 64
    assert "failed 2" in format_judge_scores(result)


def test_invalid_output_of_a_local_extractor_is_a_failure(folder: Path, tmp_path: Path) -> None:
    rows = [
        {"benchmark": "ov_merd", "id": name, "truth": ["sad"], "raw": text, "parsed": {"labels": []}}
        for name, text in (("a", "He frowns. She cries."), ("b", "sad, tired"))
    ]
    file = tmp_path / "predictions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    request = ScoreOptions(extractor=f"transformers:{folder}")
    found = score_files(tmp_path, request)
    assert (found["n"], found["n_unanswered"], found["extracted"]["failed"]) == (2, 1, 1)
    assert len(found["extraction"]["settings"]["weights"]) == 64
    file.write_text(json.dumps(rows[0]) + "\n", "utf-8")
    with pytest.raises(NanoEmoXError, match="could read none of 1 answers; the first: no list of words"):
        score_files(tmp_path, request)
