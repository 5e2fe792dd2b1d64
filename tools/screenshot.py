"""Make the picture of the demo page in the documentation, with headless Chromium.

python -m tools.screenshot --chromium /usr/bin/chromium

It shows the page after `Answer` for the sample clip, down to the end of the card.
"""

from __future__ import annotations

import argparse
import io
import signal
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "src" / "nanoemox" / "assets" / "sample.mp4"
WIDTH = 1280
PATIENCE_MS = 600_000


def answer_sample(page: Page, address: str) -> None:
    """Open the demo page, choose the sample clip, consent, and wait for its six answers."""
    page.goto(address)
    page.locator("#clip input[type=file]").first.set_input_files(str(SAMPLE))
    page.locator("#clip video").wait_for()
    page.get_by_label("Everybody who is seen").check()
    page.locator("#ask").click()
    page.locator("#card [data-task]").nth(5).wait_for()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chromium", default="chromium", help="path of Chromium")
    parser.add_argument("--model", default="small")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures" / "demo.png")
    args = parser.parse_args()
    command = [sys.executable, "-u", "-m", "nanoemox", "demo", "--model", args.model, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        try:
            address = next(word for word in demo.stdout.readline().split() if word.startswith("http"))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=args.chromium)
                page = browser.new_page(viewport={"width": WIDTH, "height": 1800})
                page.set_default_timeout(PATIENCE_MS)
                answer_sample(page, address)
                page.wait_for_function("[...document.querySelectorAll('#card img')].every(i => i.complete)")
                box = page.locator("#card").bounding_box()
                assert box is not None
                part = {"x": 0, "y": 0, "width": WIDTH, "height": box["y"] + box["height"] + 16}
                picture = page.screenshot(full_page=True, clip=part)
                browser.close()
        finally:
            demo.send_signal(signal.SIGTERM)
    # Few colours: the picture stays small, and text stays sharp.
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(256).save(args.out, optimize=True)
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
