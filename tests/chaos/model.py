"""The rules of a wallet as the checker knows them: written anew, over plain dicts, sharing nothing with ``wallet.py``."""

from typing import Any

Wallet = dict[str, Any]
EMPTY: Wallet = {"version": 0, "balance": 0, "held": 0, "until": 0}


def answer(
    wallet: Wallet, kind: str, body: dict[str, Any], now: int, expected: int | None, aggregate_id: str
) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    """Return what a command must be told (``accepted`` or the reason of its rejection) and the events it must leave."""
    if expected is not None and expected != wallet["version"]:
        return "version_conflict", []
    amount, balance = body["amount"], wallet["balance"]
    if kind == "Deposit":
        if amount < 1:
            return "invalid", []
        steps = range(1, body.get("parts", 1) + 1)
        return "accepted", [
            ("Deposited", {"amount": amount, "balance": balance + step * amount}) for step in steps
        ]
    if kind == "Receive":
        return "accepted", [
            ("Received", {"amount": amount, "balance": balance + amount, "sender": body["sender"]})
        ]
    if balance < amount or (kind == "Hold" and wallet["held"]):
        return "invalid", []
    left: dict[str, Any] = {"amount": amount, "balance": balance - amount}
    if kind == "Withdraw":
        return "accepted", [("Withdrawn", left)]
    if kind == "Transfer":
        return "accepted", [("Sent", {**left, "to": body["to"]})]
    return "accepted", [("Held", {**left, "until": now + body["for_ms"]})]


def timer(wallet: Wallet) -> tuple[str, dict[str, Any]] | None:
    """Return the event that a wallet's timer must leave, or None if it has none."""
    if not wallet["held"]:
        return None
    held = wallet["held"]
    return "Released", {"amount": held, "balance": wallet["balance"] + held, "due": wallet["until"]}


def after(wallet: Wallet, kind: str, body: dict[str, Any]) -> Wallet:
    """Return the wallet after an event, as the event says."""
    changed = {**wallet, "version": wallet["version"] + 1, "balance": body["balance"]}
    if kind == "Held":
        changed |= {"held": body["amount"], "until": body["until"]}
    elif kind == "Released":
        changed |= {"held": 0, "until": 0}
    return changed
