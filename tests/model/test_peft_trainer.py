"""PEFT's own wrapper and transformers' own ``Trainer`` take the model as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import Trainer, TrainingArguments

from nanoemox.model.processing import Ask
from tests.tiny import tiny_clip, tiny_model, tiny_processor

LORA = r"language_model\..*\.(q_proj|v_proj)"


# PEFT asks transformers 5.24 by a name that is deprecated there.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_lora_by_peft_is_trained_by_trainer_and_reloaded(tmp_path: Path) -> None:
    model, processor = tiny_model(), tiny_processor()
    asked = processor(tiny_clip(), Ask("mer"))

    def generated(what: torch.nn.Module) -> Tensor:
        return what.generate(**asked, max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=None)

    def logits(what: torch.nn.Module) -> Tensor:
        with torch.no_grad():
            return what.eval()(**asked).logits

    before = generated(model)
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=LORA, task_type="CAUSAL_LM"))
    assert torch.equal(generated(wrapped), before)
    untrained = logits(wrapped)
    assert {n for n, p in wrapped.named_parameters() if p.requires_grad} == {
        n for n, _ in wrapped.named_parameters() if "lora_" in n
    }

    examples = [processor(tiny_clip(i), Ask("mer", answer="happy")) for i in range(2)]
    rows = [{key: value[0] for key, value in example.items()} for example in examples]
    arguments = TrainingArguments(
        str(tmp_path / "out"), per_device_train_batch_size=1, max_steps=2, learning_rate=0.05, report_to=[],
        use_cpu=True, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    weights = {name: parameter.detach().clone() for name, parameter in wrapped.named_parameters()}
    Trainer(model=wrapped, args=arguments, train_dataset=rows).train()
    changed = {name for name, parameter in wrapped.named_parameters() if not torch.equal(parameter, weights[name])}
    assert changed == {name for name in weights if "lora_" in name}
    assert not torch.equal(logits(wrapped), untrained)

    wrapped.save_pretrained(tmp_path / "lora", save_embedding_layers=False)
    reloaded = PeftModel.from_pretrained(tiny_model(), tmp_path / "lora")
    assert torch.equal(logits(reloaded), logits(wrapped))
