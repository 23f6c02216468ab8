"""Secret references of a pipeline file, resolved where the step runs and kept out of everything that is told."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.sdk.errors import SecretMissing

_REFERENCE = re.compile(r"\$\{([a-z]+):([^}]*)\}")
_SHORTEST_MASKED = 4
_FILE_BYTES_MAX = 1 << 16
MASK = "••••"


@dataclass(frozen=True, slots=True)
class Resolved:
    """A spec with its secrets in place, and the secrets themselves, so that they can be masked in what is told."""

    spec: Any
    secrets: tuple[str, ...]

    def mask(self, text: str) -> str:
        """Return ``text`` with every secret replaced."""
        for secret in self.secrets:
            text = text.replace(secret, MASK)
        return text


def resolve(spec: Any, environ: Mapping[str, str], folder: Path, step: str) -> Resolved:
    """Replace ``${env:NAME}`` and ``${file:PATH}`` in every text of ``spec``.

    A path is relative to ``folder``; the newline at the end of a file is not part of the secret. Raises SecretMissing
    naming the reference and the step; the platform's own settings (``${env:FLEXCORE_*}``) are refused.
    """
    secrets: set[str] = set()

    def look_up(found: re.Match[str]) -> str:
        value = _value(found, environ, folder, step)
        secrets.update(part for part in (value, *value.splitlines()) if len(part) >= _SHORTEST_MASKED)
        return value

    def walk(value: Any) -> Any:
        match value:
            case str():
                return _REFERENCE.sub(look_up, value)
            case dict():
                return {key: walk(item) for key, item in value.items()}
            case list():
                return [walk(item) for item in value]
            case _:
                return value

    resolved = walk(spec)
    # The longest first: a secret that contains another one is masked whole.
    return Resolved(resolved, tuple(sorted(secrets, key=len, reverse=True)))


def _value(found: re.Match[str], environ: Mapping[str, str], folder: Path, step: str) -> str:
    whole, (source, name) = found.group(0), found.groups()
    if source == "env":
        if name.startswith("FLEXCORE_"):
            raise SecretMissing(
                f"step {step} refers to {whole}: the platform's own settings are not for steps"
            )
        if name not in environ:
            raise SecretMissing(f"step {step} refers to {whole}, but {name} is not set where the runner runs")
        return environ[name]
    if source == "file":
        path = folder / name
        try:
            return path.read_bytes()[:_FILE_BYTES_MAX].decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise SecretMissing(
                f"step {step} refers to {whole}, but the file cannot be read: {reason}"
            ) from error
    raise SecretMissing(f"step {step} refers to {whole}: only ${{env:NAME}} and ${{file:PATH}} are known")
