"""The house rules that no linter knows: sizes, names, what may not be written anywhere."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "streams", "schemas", "connectors", "deploy")
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
# Names that say nothing about what is inside.
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "misc", "manager", "managers", "core"}
# Put together, so that this file does not hold what it forbids.
REGISTRY_HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("maven", "org"),
        ("repo1", "maven"),
        ("repo", "maven"),
        ("registry", "npmjs"),
        ("proxy", "golang"),
        ("deb", "debian"),
        ("crates", "io"),
    )
)
UNDONE = tuple("".join(parts) for parts in (("TO", "DO"), ("FIX", "ME"), ("NotImplemented", "Error")))


def _tracked() -> list[Path]:
    """Every file of the project, as git knows it, new ones included."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def _python(*tops: str) -> list[Path]:
    return [path for path in _tracked() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in tops]


def _shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _has_docstring(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return ast.get_docstring(node) is not None


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    """A Python file has at most 400 lines."""
    lengths = {
        _shown(path): len(path.read_text("utf-8").splitlines()) for path in _python(*PACKAGES, "tests")
    }
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES_MAX} == {}


def test_no_function_is_longer_than_a_page() -> None:
    """A function has at most 70 lines."""
    long = [
        f"{_shown(path)}:{node.lineno} {node.name} has {(node.end_lineno or 0) - node.lineno + 1} lines"
        for path in _python(*PACKAGES, "tests")
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_every_module_is_named_by_what_is_in_it() -> None:
    """No module or package has a name that could hold anything."""
    empty = [
        _shown(path)
        for path in _python(*PACKAGES, "tests")
        if path.stem in EMPTY_NAMES or path.parent.name in EMPTY_NAMES
    ]
    assert empty == []


def test_importing_a_package_does_nothing() -> None:
    """An `__init__.py` holds a docstring and nothing else."""
    busy = []
    for path in _python(*PACKAGES):
        if path.name == "__init__.py":
            tree = _tree(path)
            if len(tree.body) != 1 or not _has_docstring(tree):
                busy.append(_shown(path))
    assert busy == []


def test_idempotence_is_asked_for_in_one_place() -> None:
    """A producer without a transaction takes its settings from the SDK: by itself, idempotence loses records."""
    places = [
        _shown(path)
        for path in _python(*PACKAGES)
        if any(
            isinstance(node, ast.Constant) and node.value == "enable.idempotence"
            for node in ast.walk(_tree(path))
        )
    ]
    assert places == ["connectors/sdk/producer.py"]


def test_every_module_says_what_it_is_for() -> None:
    """Each module of the product begins with a docstring."""
    assert [_shown(path) for path in _python(*PACKAGES) if not _has_docstring(_tree(path))] == []


def test_every_folder_of_modules_is_a_package() -> None:
    """No folder of modules lacks its `__init__.py`, which a wheel would leave out."""
    folders = {path.parent for path in _python(*PACKAGES)}
    # A user's project is no package of ours.
    bare = [_shown(f) for f in folders if not (f / "__init__.py").exists() and "transforms" not in f.parts]
    assert sorted(bare) == []


def test_every_test_is_one_sentence() -> None:
    """Each test has a one-line summary in its docstring."""
    bare = [
        f"{_shown(path)}:{node.lineno} {node.name}"
        for path in _python("tests")
        if path.name.startswith("test_")
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not _has_docstring(node)
    ]
    assert bare == []


def test_test_files_have_names_of_their_own() -> None:
    """Two test files with one name would be told apart by nobody."""
    names = [path.name for path in _python("tests") if path.name.startswith("test_")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


@pytest.mark.parametrize("words", [REGISTRY_HOSTS, UNDONE], ids=["registry hosts", "things left undone"])
def test_nothing_forbidden_is_written_anywhere(words: tuple[str, ...]) -> None:
    """No file names a package registry's host, and none says that something is still to be done."""
    found = []
    for path in _tracked():
        if path == Path(__file__) or path.name == "LICENSE":
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # golden bytes and the like
            continue
        found += [f"{_shown(path)}: {word}" for word in words if word in text]
    assert found == []


def test_every_exemption_gives_its_reason() -> None:
    """`noqa` and `type: ignore` name the rule and say why, on the same line."""
    bare = []
    for path in _python(*PACKAGES, "tests"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for mark in ("# noqa", "# type: ignore"):
                if path != Path(__file__) and mark in line and not _has_reason(line.partition(mark)[2]):
                    bare.append(f"{_shown(path)}:{number}: {line.strip()}")
    assert bare == []


def _has_reason(rest: str) -> bool:
    """Tell whether words follow the rule: `: X1 - why` or `[x]  # why`."""
    return len(rest.split()) >= 4 or ("#" in rest and len(rest.partition("#")[2].split()) >= 2)


def test_every_package_has_its_readme_and_its_decisions() -> None:
    """A newcomer finds, in each package, what it is and why it is so."""
    missing = [
        f"{package}/{name}"
        for package in PACKAGES
        for name in ("README.md", "decisions.md")
        if not (ROOT / package / name).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("lock", ["requirements.lock", "tests/requirements.lock"])
def test_a_lock_names_no_host_and_has_a_hash_for_everything(lock: str) -> None:
    """It can be installed from any index, and from none that cheats."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index" not in text
    entries = [entry for entry in text.split("\n") if entry and not entry.startswith((" ", "#"))]
    assert [entry for entry in entries if "==" not in entry] == []
    blocks = text.replace("\\\n", " ").splitlines()
    assert [
        block for block in blocks if block and not block.startswith("#") and "--hash=sha256:" not in block
    ] == []


def test_the_tests_run_on_the_versions_the_product_is_locked_to() -> None:
    """The lock of the tests adds tools to the product's lock and changes nothing in it."""
    locks = [
        (ROOT / name).read_text(encoding="utf-8").splitlines()
        for name in ("requirements.lock", "tests/requirements.lock")
    ]
    product, tests = ({line.split(";")[0].rstrip(" \\") for line in lock if "==" in line} for lock in locks)
    assert product - tests == set()
