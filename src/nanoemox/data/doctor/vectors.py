"""What can be wrong with files of face vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from nanoemox.data.doctor.findings import Finding
from nanoemox.data.opening import SampleSource
from nanoemox.faces.vectors import read_face_table
from nanoemox.types import MediaError


def check_face_vectors(source: SampleSource, done: Callable[[], None] = lambda: None) -> Iterator[Finding]:
    """Read every file of face vectors; which columns a model will take is not known here.

    Args:
        source: The samples.
        done: Called after each file.
    """
    widths: dict[str, int] = {}
    for path in dict.fromkeys(s.face_vectors for s in source.samples if s.face_vectors):
        file = source.root / path
        if not file.exists():
            yield Finding("missing", "error", path, "no such file")
        else:
            try:
                table = read_face_table(file)
            except (MediaError, OSError) as error:
                yield Finding("unreadable", "error", path, str(error).removeprefix(f"{file.name}: "))
            else:
                widths[path] = table.rows.shape[1]
                if not len(table.rows):
                    yield Finding("faceless", "warning", path, "no face was found in any of its rows")
        done()
    counts = Counter(widths.values()).most_common()
    for width, _ in counts[1:]:
        some = [path for path, found in widths.items() if found == width]
        what = (
            f"vectors of {width} numbers, of {counts[0][0]} in most files: a model reads one width ({len(some)} files)"
        )
        yield Finding("unreadable", "error", some[0], what)
