"""Who may import whom: the contracts of pyproject.toml hold, and they catch what they are for."""

from __future__ import annotations

import subprocess
import sys
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
