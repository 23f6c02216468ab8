"""The aggregate that the benchmark brings along: declared here, known to nothing in the product."""

from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

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


@dataclass(frozen=True, slots=True)
class Account:
    balance: int = 0


def decide(message: Message, account: Account) -> Decision:
    """Accept positive amounts."""
    command = message.body
    match command:
        case Deposit(amount, sent_at):
            if amount <= 0:
                return Rejected("invalid", "the amount must be positive")
            return (Deposited(amount, account.balance + amount, sent_at),)
        case _:
            assert_never(command)


def evolve(_account: Account, event: Deposited) -> Account:
    """Return the account after the deposit."""
    return Account(event.balance)


AGGREGATE = Aggregate("account", (Deposit,), (Deposited,), Account(), decide, evolve)
