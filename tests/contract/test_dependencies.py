"""The product imports only what `make demo` installs: the tools of the tests are not there for a user."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = ("app", "streams", "connectors", "schemas", "deploy")


def normal(name: str) -> str:
    """A distribution's name as an index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> dict[str, set[str]]:
    """Each top-level package the product imports, and the files that do."""
    found: dict[str, set[str]] = {}
    for path in (path for folder in OURS for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                found.setdefault(name.partition(".")[0], set()).add(str(path.relative_to(ROOT)))
    return found


def test_the_product_needs_nothing_that_only_tests_install() -> None:
    """Given every import of the product, then each package is of the standard library, ours, or in its lock."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = {normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==", lock, re.MULTILINE)}
    owners = packages_distributions()
    missing = {
        package: sorted(files)
        for package, files in imported().items()
        if package not in sys.stdlib_module_names
        and package not in OURS
        and package != "transforms"  # the user's project, in an example
        and not locked & {normal(owner) for owner in owners.get(package, ())}
    }
    assert missing == {}
