"""A seventh task and a benchmark of it: ask the model, score its answers.

python examples/own_task_and_benchmark.py

The model was never trained on this question, so expect little of its answers; `nanoemox train` teaches it
(`tests/extending/test_task.py` does that too).
"""

from __future__ import annotations

from nanoemox import Engine, score
from nanoemox.benchmarks.records import BENCHMARKS, INTENT, Benchmark
from nanoemox.tasks import TASKS, ClosedTask
from nanoemox.tasks.templates import TaskTemplate

HONESTY = ClosedTask("honesty", "honesty of a statement", "honesty", 2, "[Honesty]", ("honest", "joking", "lying"))
QUESTION = TaskTemplate(questions=("[Honesty] Which is it? Choose one: {labels}.",), answer="{label}")
STATEMENTS = Benchmark("statements", "Statements", "honesty", "said", INTENT, HONESTY.labels, None, "statements")
SAID = {"a": ("I never saw that cookie.", "lying"), "b": ("I am a teapot.", "joking"), "c": ("It rains.", "honest")}


def main() -> None:
    TASKS["honesty"] = HONESTY
    BENCHMARKS["statements"] = STATEMENTS
    engine = Engine.from_pretrained()
    templates = engine.processor.templates  # in a model directory: templates.yaml
    questions = {**templates.tasks, "honesty": QUESTION}
    engine.processor.templates = templates.model_copy(update={"tasks": questions})
    truth = {name: label for name, (_, label) in SAID.items()}
    answers = {
        name: engine.answer(text=words, tasks="honesty").tasks["honesty"].raw for name, (words, _) in SAID.items()
    }
    found = score(truth, answers, "statements")
    print(answers, found.task_scores.metrics["accuracy"], found.intervals["accuracy"])


if __name__ == "__main__":
    main()
