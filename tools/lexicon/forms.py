"""Write forms.tsv of the emotion lexicon: every inflected form of its words, by lemminflect.

    python -m tools.lexicon.forms          writes the file
    python -m tools.lexicon.forms --check  fails where the file differs

One line a base: the base, then its written forms, "~" before those that need a verb of feeling in running text. A form
that a person wrote in lexicon.tsv keeps its place; an inflected form that two bases could claim goes to the first.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lemminflect import getAllInflections, getAllLemmas

from nanoemox.scoring.corrected.lexicon import normalise, read_groups

DATA = Path(__file__).resolve().parents[2] / "src/nanoemox/scoring/corrected/data"


def inflected(word: str) -> list[str]:
    """Forms of a word, and of the regular verb it may be a participle of."""
    stems = {word}
    for lemma in getAllLemmas(word, upos="VERB").get("VERB", ()):
        if word.startswith(lemma.rstrip("ey")) and len(lemma) > 3:
            stems.add(lemma)
    return sorted({form for stem in stems for forms in getAllInflections(stem).values() for form in forms})


def table() -> str:
    """The text of forms.tsv."""
    groups = read_groups((DATA / "lexicon.tsv").read_text("utf-8"))
    owner: dict[str, str] = {}
    rows: dict[str, dict[str, bool]] = {}
    for _, _, _, clusters in groups:
        for cluster in clusters:
            name = cluster[0].lstrip("~")
            if name in rows:
                raise SystemExit(f"{name!r} is the base of two clusters")
            rows[name] = {}
            for word in cluster:
                form = normalise(word.lstrip("~"))
                if form in owner:
                    raise SystemExit(f"{form!r} is written under {owner[form]!r} and {name!r}")
                owner[form], rows[name][form] = name, word.startswith("~")
    for _, _, _, clusters in groups:
        for cluster in clusters:
            name = cluster[0].lstrip("~")
            for word in cluster:
                form = normalise(word.lstrip("~"))
                for other in inflected(form) if " " not in form else ():
                    if other not in owner:
                        owner[other], rows[name][other] = name, word.startswith("~")
    lines = ["\t".join([name, *(("~" if t else "") + f for f, t in forms.items())]) for name, forms in rows.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    path, text = DATA / "forms.tsv", table()
    if "--check" in sys.argv:
        sys.exit(
            0 if path.read_text("utf-8") == text else "forms.tsv is not what lexicon.tsv gives; run without --check"
        )
    path.write_text(text, "utf-8")
    print(f"{len(text.splitlines())} bases, {text.count(chr(9))} forms, {len(text) // 1000} kB")
