"""The widgets of the page and their callbacks; no font or script is loaded from the network."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final, TypeVar

import gradio as gr

from nanoemox.demo.backend import DemoBackend, Inputs
from nanoemox.reporting.answer_chart import WIDTH
from nanoemox.reporting.answer_page import style_sheet
from nanoemox.types import NanoEmoXError, Turn

T = TypeVar("T")
TITLE: Final = "nanoemox"
CONSENT: Final = (
    "Emotion recognition is error-prone and in places illegal: at work and in education it is banned in the EU. The "
    "answers are guesses about how somebody comes across. **Nothing leaves this machine**; what you record or choose "
    "is deleted after ten minutes, and when the server of this page ends."
)
AGREED: Final = "Everybody who is seen or heard in the clip has agreed to this"
QUESTIONS: Final = (
    "predicate: Is the speaker joking?\nchoice: Who is meant? a friend|a stranger|nobody\n"
    "score: How tense is the voice? calm|uneasy|tense"
)
FOLLOW: Final = f"""
const follow = () => {{
  if (!element.isConnected) return;
  const video = document.querySelector('#clip video');
  for (const drawing of element.querySelectorAll('svg.along')) {{
    const line = drawing.querySelector('.cursor'), duration = Number(drawing.dataset.duration);
    if (!line || !video || !(duration > 0)) continue;
    const x = {WIDTH:g} * Math.min(1, video.currentTime / duration);
    line.setAttribute('x1', x); line.setAttribute('x2', x); line.setAttribute('visibility', 'visible');
  }}
  requestAnimationFrame(follow);
}};
requestAnimationFrame(follow);
"""
"""Moves the cursor of the charts to the playback position of the video; contains no user data."""


def theme() -> gr.themes.Base:
    """Return a theme with system fonts: Gradio's are fetched from the network."""
    return gr.themes.Base(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def css() -> str:
    """Return the style of the cards."""
    return style_sheet()


def build(backend: DemoBackend) -> gr.Blocks:
    """Return the page.

    Args:
        backend: The functions behind the page.
    """
    page = gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 600))
    with page:
        gr.Markdown(f"# {TITLE}\nOne clip of a talking person in, six answers out. {CONSENT}")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                video = gr.Video(label="Clip", sources=["upload", "webcam"], include_audio=True, elem_id="clip")
                timeline = gr.HTML(js_on_load=FOLLOW, elem_id="timeline")
                sound = gr.Audio(
                    label="Or audio alone", sources=["microphone", "upload"], type="filepath", elem_id="sound"
                )
                words = gr.Textbox(label="What is said (if empty: subtitle or transcript)", lines=2, max_length=20_000)
                agreed = gr.Checkbox(label=AGREED, elem_id="agreed")
                inputs: list[Any] = [video, sound, words, agreed]
                with gr.Row():
                    ask = gr.Button("Answer", variant="primary", elem_id="ask")
                    every = gr.Slider(1, 10, 2, step=0.5, label="Seconds between points")
                    along = gr.Button("Along the clip", elem_id="along")
                sample = str(files("nanoemox") / "assets" / "sample.mp4")
                gr.Examples([[sample, "I finally got the job!"]], [video, words], label="An example")
            with gr.Column(scale=3, min_width=320):
                card = gr.HTML(elem_id="card")
        with gr.Row():
            with gr.Column(min_width=320):
                gr.Markdown("### Ask your own\nOne question per line. Answers to free questions are less certain.")
                questions = gr.Textbox(QUESTIONS, label="Questions", lines=4, max_length=100_000)
                decide = gr.Button("Decide", elem_id="decide")
                decided = gr.Dataframe(headers=["question", "answer", "probabilities"], wrap=True, interactive=False)
            with gr.Column(min_width=320):
                gr.Markdown("### Talk\nIf there is a clip, its face and voice are used with your words.")
                talk = gr.Chatbot(label="Talk", sanitize_html=True, allow_tags=False, buttons=["copy"])
                message = gr.Textbox(label="You", max_length=20_000, elem_id="message")
        show: dict[str, Any] = {"show_progress": "minimal", "concurrency_id": "model", "concurrency_limit": 1}
        ask.click(_card(backend), inputs, card, api_name="answer", **show)
        along.click(_timeline(backend), [*inputs, every], timeline, api_name="timeline", **show)
        decide.click(_decide(backend), [*inputs, questions], decided, api_name="decide", **show)
        message.submit(_talk(backend), [*inputs, message, talk], [message, talk], api_name="talk", **show)
    return page


def _card(backend: DemoBackend) -> Callable[..., str]:
    def answer(video: str | None, sound: str | None, words: str, agreed: bool) -> str:
        return _wrapped(_run(lambda: backend.card(Inputs(video, sound, words or "", agreed))))

    return answer


def _timeline(backend: DemoBackend) -> Callable[..., str]:
    def timeline(video: str | None, sound: str | None, words: str, agreed: bool, every_s: float) -> str:
        return _wrapped(_run(lambda: backend.timeline(Inputs(video, sound, words or "", agreed), float(every_s))))

    return timeline


def _decide(backend: DemoBackend) -> Callable[..., list[list[str]]]:
    def decide(video: str | None, sound: str | None, words: str, agreed: bool, questions: str) -> list[list[str]]:
        return _run(lambda: backend.decide(Inputs(video, sound, words or "", agreed), questions or ""))

    return decide


def _talk(backend: DemoBackend) -> Callable[..., tuple[str, list[Any]]]:
    def talk(
        video: str | None, sound: str | None, words: str, agreed: bool, message: str, before: list[Any] | None
    ) -> tuple[str, list[Any]]:
        turns = list(before or [])
        history = [Turn("user" if t["role"] == "user" else "assistant", _text(t)) for t in turns if not _is_chain(t)]
        inputs = Inputs(video, sound, words or "", agreed)
        reply, think = _run(lambda: backend.reply(inputs, message or "", history))
        turns.append({"role": "user", "content": message})
        if think is not None:
            chain = f"{think.scenario}\n\n{think.emotion}\n\n{think.cause}\n\n{think.goal}"
            folded = {"title": "Reasoning behind this reply", "status": "done"}
            turns.append({"role": "assistant", "content": chain, "metadata": folded})
        turns.append({"role": "assistant", "content": reply})
        return "", turns

    return talk


def _is_chain(turn: dict[str, Any]) -> bool:
    return bool((turn.get("metadata") or {}).get("title"))


def _text(turn: dict[str, Any]) -> str:
    """Return the text of a turn; Gradio returns it as a list of parts."""
    content = turn["content"]
    return content if isinstance(content, str) else " ".join(str(part.get("text", "")) for part in content)


def _wrapped(card: str) -> str:
    return f'<div class="nx">{card}</div>'


def _run(action: Callable[[], T]) -> T:
    """Show a user's mistake as a message."""
    try:
        return action()
    except NanoEmoXError as error:
        raise gr.Error(str(error), print_exception=False) from None
