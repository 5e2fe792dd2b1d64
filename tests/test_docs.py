"""Documentation checks: symbols import, files exist, commands parse."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
import yaml

import nanoemox

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


def _resolve(dotted: str) -> object:
    """Import the longest module and walk the rest as attributes."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            found = getattr(found, name)
        return found
    raise ModuleNotFoundError(dotted)


def _map_symbols() -> list[str]:
    text = (ROOT / "docs" / "paper-map.md").read_text("utf-8")
    return sorted(set(re.findall(r"`(nanoemox\.[\w.]+)`", text)))


@pytest.mark.parametrize("symbol", _map_symbols())
def test_every_symbol_of_the_paper_map_imports(symbol: str) -> None:
    assert _resolve(symbol) is not None


def test_every_file_of_the_paper_map_exists() -> None:
    text = (ROOT / "docs" / "paper-map.md").read_text("utf-8")
    files = set(re.findall(r"`((?:recipes|assets|benchmarks)/[\w./-]+)`", text))
    assert files
    missing = [f for f in files if not ((ROOT / "src" / "nanoemox" / f).exists() or (ROOT / f).exists())]
    assert not missing


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_links_resolve(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", path.read_text("utf-8"))
    missing = [t for t in targets if not (path.parent / t).exists()]
    assert not missing


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The built site, as `make docs` builds it: file, relative to its root -> text."""
    pytest.importorskip("material", reason="needs mkdocs-material: pip install '.[dev]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = [p for p in folder.rglob("*") if p.is_file()]
    texts = {".html", ".txt"}
    return {str(p.relative_to(folder)): p.read_text("utf-8") if p.suffix in texts else "" for p in names}


def _shown(page: str) -> str:
    """What a reader sees of a page: no tags, and the code as it was before it was coloured."""
    return unescape(re.sub(r"<[^>]*>", "", page))


def test_every_example_is_shown_and_every_include_worked(site: dict[str, str]) -> None:
    pages = {name: _shown(text) for name, text in site.items() if name.endswith(".html")}
    assert [name for name, text in pages.items() if re.search(r"--8\s*<", text)] == []
    for example in (ROOT / "examples").glob("*.py"):
        code = example.read_text("utf-8").strip()
        assert any(code in text for text in pages.values()), f"{example.name} is in no page of docs/"


def test_python_in_the_documents_is_a_file_that_a_test_runs() -> None:
    for path in (ROOT / "docs").glob("*.md"):
        for block in re.findall(r"```(?:python|py)\n(.*?)```", path.read_text("utf-8"), re.DOTALL):
            assert re.fullmatch(r'--8<-- "examples/\w+\.py"\n', block), (path.name, block)


def test_links_of_the_site_lead_somewhere(site: dict[str, str]) -> None:
    for name, text in site.items():
        if not name.endswith(".html") or name == "404.html":
            continue
        for target in re.findall(r'(?:href|src)="(?!https?:|mailto:|data:|#)([^"#?]+)', text):
            file = os.path.normpath(Path(name).parent / unescape(target))
            assert file in site or str(Path(file) / "index.html") in site, (name, target)


def test_llms_txt_links_to_every_page(site: dict[str, str]) -> None:
    linked = set(re.findall(r"\]\(([^)]+)\)", site["llms.txt"]))
    pages = {name.removesuffix("index.html") for name in site if name.endswith("index.html")} - {""}
    assert linked == pages


def test_the_api_page_has_every_public_name(site: dict[str, str]) -> None:
    in_modules = re.findall(r'id="nanoemox(?:\.[a-z_]+)*\.(\w+)"', site["api/index.html"])  # no methods of classes
    assert set(nanoemox.__all__) - {"__version__"} <= set(in_modules)


def _commands() -> list[tuple[str, str]]:
    found = []
    for path in DOCS:
        for block in re.findall(r"```(?:bash|sh|console)\n(.*?)```", path.read_text("utf-8"), re.DOTALL):
            joined = block.replace("\\\n", " ")
            found += [(path.name, line.strip()) for line in joined.splitlines() if line.strip()]
    return found


def test_every_command_in_the_documents_is_known() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for where, line in _commands():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if not words:
            continue
        if words[0] == "make":
            assert words[1].split("=")[0] in targets, (where, line)
        elif words[0] == "python":
            assert (ROOT / words[1]).exists() or words[1] == "-m", (where, line)
        else:
            assert words[0] in {"nanoemox", "git", "cd", "pip", "pytest"}, (where, line)


def test_every_nanoemox_command_in_the_documents_parses() -> None:
    from typer.main import get_command

    from nanoemox.cli import app

    commands = get_command(app).commands
    for where, line in _commands():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if not words or words[0] != "nanoemox" or words[1] == "--help":
            continue
        command = commands[words[1]]
        options = {flag for p in command.params for flag in [*p.opts, *p.secondary_opts]} | {"--help"}
        used = {w.split("=")[0] for w in words[2:] if w.startswith("--")}
        assert used <= options, (where, line, used - options)


def test_the_readme_tree_is_the_real_tree() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    tree = re.search(r"```text\nsrc/nanoemox/\n(.*?)```", text, re.DOTALL)
    assert tree, "the README shows an annotated tree"
    named = {line.split()[0].rstrip("/") for line in tree.group(1).splitlines() if line.strip()}
    package = ROOT / "src" / "nanoemox"
    real = {p.name for p in package.iterdir() if p.suffix == ".py" or p.is_dir()} - {"__pycache__", "__init__.py"}
    assert real - {"__main__.py"} <= named, f"not in the README's tree: {sorted(real - named)}"
    assert not [n for n in named if not (package / n).exists()]


def test_the_workflow_and_the_hooks_call_make() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8"))
    runs = [s["run"] for s in workflow["jobs"]["test"]["steps"] if "run" in s]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"][0]["hooks"]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for command in [*runs, *(h["entry"] for h in hooks)]:
        assert command.split()[0] == "make"
        assert command.split()[1] in targets
    assert "make test" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_no_machine_paths_in_the_repository() -> None:
    tracked = [p for d in ("src", "tests", "docs", "tools", "benchmarks", "examples") for p in (ROOT / d).rglob("*")]
    bad = [
        p
        for p in tracked
        if p.suffix in {".py", ".md", ".yaml", ".toml"}
        and re.search(r"(?<![\w.])/(work|root|home|tmp)/\w", p.read_text("utf-8"))
        and p.name != Path(__file__).name
    ]
    assert not bad
