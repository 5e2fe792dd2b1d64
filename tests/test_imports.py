"""Import rules between rooms, and the cost of imports."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nanoemox

PACKAGE = Path(nanoemox.__file__).parent

# Left may not import right.
ORDER = (
    ("types",),
    ("printing",),
    ("tasks",),
    ("scoring",),
    ("listening",),
    ("media",),
    ("faces",),
    ("recipes",),
    ("model",),
    ("weights",),
    ("inference",),
    ("data",),
    ("training",),
    # Clients of language models stand left of the benchmarks, which answer through them.
    ("judging",),
    ("benchmarks",),
    ("study", "reporting", "interop"),
    ("serving",),
    ("scaling",),
    ("demo",),
    ("cli", "__main__"),
)
RANK = {name: i for i, names in enumerate(ORDER) for name in names}
LIGHT = [name for name, rank in RANK.items() if rank < RANK["model"]]


def top_level_modules() -> list[str]:
    """Modules and packages right under the package."""
    found = [p.stem for p in PACKAGE.glob("*.py") if p.stem != "__init__"]
    return sorted([*found, *(p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists())])


def imported(path: Path) -> set[str]:
    """Top-level modules of ours that a file imports, at whatever depth of the code."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            module = node.module or ""
            names |= {f"{module}.{a.name}" for a in node.names} if module == "nanoemox" else {module}
    return {n.split(".")[1] for n in names if n.startswith("nanoemox.")} & set(top_level_modules())


def test_every_module_has_a_place() -> None:
    assert set(top_level_modules()) <= set(RANK), "give the new module a place in ORDER"


@pytest.mark.parametrize("name", top_level_modules())
def test_left_does_not_import_right(name: str) -> None:
    files = [PACKAGE / f"{name}.py"] if (PACKAGE / f"{name}.py").exists() else sorted((PACKAGE / name).rglob("*.py"))
    for path in files:
        for other in imported(path):
            assert RANK[other] <= RANK[name], f"{path.relative_to(PACKAGE)} imports {other}, which stands right of it"


def test_finding_pulled_models_loads_nothing_heavy() -> None:
    assert not {"torch", "transformers"} & loaded_after("import nanoemox.weights.home, nanoemox.weights.pull")


def test_training_and_inference_do_not_import_each_other() -> None:
    for room, other in (("inference", "training"), ("training", "inference")):
        assert not {other} & {name for path in (PACKAGE / room).rglob("*.py") for name in imported(path)}


def loaded_after(code: str) -> set[str]:
    """Top-level packages in a fresh process after running some code."""
    script = f"import sys\n{code}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split("\n")[-2].split())


def test_the_package_and_its_help_load_nothing_heavy() -> None:
    assert not {"torch", "transformers", "numpy", "pydantic", "av", "cv2"} & loaded_after("import nanoemox")
    code = "from nanoemox.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit as e:\n    assert not e.code"
    assert not {"torch", "transformers", "numpy", "pydantic", "av", "cv2"} & loaded_after(code)


def test_rooms_below_the_model_load_no_torch() -> None:
    files = [path for name in LIGHT for path in [PACKAGE / f"{name}.py", *(PACKAGE / name).rglob("*.py")]]
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files if path.is_file()}
    assert not {"torch", "transformers"} & loaded_after("\n".join(f"import {name}" for name in sorted(names)))


def test_exported_members() -> None:
    for name in nanoemox.__all__:
        assert getattr(nanoemox, name) is not None
    assert set(nanoemox.__all__) <= set(dir(nanoemox))
    assert nanoemox.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="no attribute 'Motor'"):
        _ = nanoemox.Motor


def test_a_model_side_name_registers_the_auto_classes() -> None:
    code = (
        "from nanoemox import NanoEmoXConfig\nfrom transformers import AutoConfig\n"
        "assert type(AutoConfig.for_model('nanoemox')) is NanoEmoXConfig"
    )
    assert "torch" in loaded_after(code)


@pytest.mark.parametrize(
    ("set_by_user", "expected"),
    [({}, "1000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "unset"), ({"GOMP_SPINCOUNT": "7"}, "7")],
)
def test_command_line_sets_short_thread_spinning_by_default(set_by_user: dict[str, str], expected: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    script = "import os\nfrom nanoemox.cli import main\ntry:\n    main(['--version'])\nexcept SystemExit:\n    pass\n"
    script += "print(os.environ.get('GOMP_SPINCOUNT', 'unset'))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment | set_by_user)
    assert done.stdout.split()[-1] == expected
