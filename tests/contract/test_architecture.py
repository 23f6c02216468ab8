"""Who may import whom: the contracts of pyproject.toml hold, and they catch what they are for."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_import_contracts_hold() -> None:
    """`lint-imports` keeps every contract."""
    lint = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_help_comes_before_anything_heavy_is_imported() -> None:
    """`flexcore --help` and `flexcore dev --help` load neither Kafka's client, nor Faust, nor the local stack."""
    code = (
        "import sys\n"
        "from app.cli.main import run\n"
        "run(['--help']); run(['dev', '--help'])\n"
        "heavy = {'confluent_kafka', 'faust', 'aiohttp', 'sqlalchemy', 'rich', 'deploy.local.stack'}\n"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_product_imports_only_what_it_declares() -> None:
    """A package that only the tests install would be missing at a user's."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    allowed = {_normal(re.split(r"[\[<>=!~; ]", requirement)[0]) for requirement in declared}
    allowed.add("mode-streaming")  # Faust's services are mode's: they come and go together
    owners = packages_distributions()
    foreign: dict[str, set[str]] = {}
    for folder in ("app", "streams", "connectors", "schemas", "deploy"):
        for source in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                    names = [node.module]
                else:
                    continue
                for name in {name.partition(".")[0] for name in names}:
                    if name in owners and not allowed & {_normal(owner) for owner in owners[name]}:
                        foreign.setdefault(name, set()).add(source.name)
    ours = {"app", "streams", "connectors", "schemas", "deploy", "tests"}
    assert {name: files for name, files in foreign.items() if name not in ours} == {}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
