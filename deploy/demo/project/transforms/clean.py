"""Clean customers: what a user of the platform writes."""

from typing import Any


def customer(record: dict[str, Any]) -> dict[str, Any]:
    """Return the customer with tidy fields. A record that raises goes to quarantine with the error as its cause."""
    email = str(record.get("email") or "").strip().lower()
    if "@" not in email:
        raise ValueError(f"customer {record['id']} has no valid e-mail address: {email!r}")
    return {
        "id": record["id"],
        "name": " ".join(str(record["name"]).split()),
        "email": email,
        "country": str(record["country"]).upper(),
        "revision": record["revision"],
    }
