"""The input: a CRM's export of customers as JSON Lines, some of them wrong, and how it changes."""

import json
import os
from pathlib import Path

CUSTOMERS = 20_000
CHANGED = 500
BAD_EVERY = 400  # one in so many has no e-mail address
_COUNTRIES = ("br", "de", "fr", "in", "jp", "us")


def is_bad(number: int) -> bool:
    """Tell whether the transform has to refuse this customer."""
    return number % BAD_EVERY == 0


def expected(number: int, revision: int) -> tuple[int, str, str, str, int]:
    """Return the row that must be in the warehouse: id, name, email, country, revision."""
    country = _COUNTRIES[number % len(_COUNTRIES)].upper()
    return (number, f"Customer {number}", f"c{number}@example.com", country, revision)


class Export:
    """The export file. Every customer has a revision, which grows when the customer changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.revisions = dict.fromkeys(range(1, CUSTOMERS + 1), 1)
        self._second = 0

    def good(self) -> dict[int, int]:
        """Return the customers that must arrive, with their revision."""
        return {number: revision for number, revision in self.revisions.items() if not is_bad(number)}

    def change(self, first: int, count: int) -> None:
        """Change ``count`` customers beginning with ``first``."""
        for number in range(first, first + count):
            self.revisions[number] += 1

    def write(self) -> None:
        """Write the file whole, as an export does: the tap sees a file that is newer by a second at least."""
        with self.path.open("w", encoding="utf-8") as file:
            for number, revision in self.revisions.items():
                file.write(json.dumps(self._record(number, revision)) + "\n")
        self._second += 2
        stamp = int(self.path.stat().st_mtime) + self._second
        os.utime(self.path, (stamp, stamp))

    @staticmethod
    def _record(number: int, revision: int) -> dict[str, object]:
        email = "" if is_bad(number) else f" C{number}@Example.com"
        country = _COUNTRIES[number % len(_COUNTRIES)]
        return {
            "id": number,
            "name": f"Customer   {number} ",
            "email": email,
            "country": country,
            "revision": revision,
        }
