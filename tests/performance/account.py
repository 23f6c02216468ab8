"""The aggregate that the benchmark brings along: declared here, known to nothing in the product."""

from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from streams.domain.aggregate import Aggregate, Decision, Message, Rejected

SCHEMAS = Path(__file__).parent / "account_schemas"


@dataclass(frozen=True, slots=True)
class Deposit:
    """Put an amount into the account. ``sent_at`` is the producer's clock (µs)."""

    amount: int
    sent_at: int = 0


@dataclass(frozen=True, slots=True)
class Deposited:
    amount: int
    balance: int
    sent_at: int


class Account(Struct, frozen=True, omit_defaults=True):
    """Its state, as states are advised to be."""

    balance: int = 0


def decide(message: Message, account: Account) -> Decision:
    """Accept positive amounts."""
    deposit: Deposit = message.body
    if deposit.amount <= 0:
        return Rejected("invalid", "the amount must be positive")
    return (Deposited(deposit.amount, account.balance + deposit.amount, deposit.sent_at),)


def evolve(_account: Account, event: Deposited) -> Account:
    """Return the account after the deposit."""
    return Account(event.balance)


AGGREGATE = Aggregate("account", (Deposit,), (Deposited,), Account(), decide, evolve)
