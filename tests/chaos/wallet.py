"""The aggregate of the fault runs: amounts put in, taken out, sent to another wallet, held until a time.

It has what can go wrong in a writer: commands of several events, rules that read the state, timers, follow-up commands.
The checker has rules of its own (``model.py``); the two share nothing but the schema files.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from streams.domain.aggregate import Aggregate, Decision, Effect, Message, Rejected, Send

SCHEMAS = Path(__file__).parent / "wallet_schemas"


@dataclass(frozen=True, slots=True)
class Deposit:
    """Put ``parts`` times the amount in, one event each."""

    amount: int
    parts: int = 1


@dataclass(frozen=True, slots=True)
class Withdraw:
    amount: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """Take the amount out and put it into another wallet of the same tenant."""

    amount: int
    to: str


@dataclass(frozen=True, slots=True)
class Receive:
    amount: int
    sender: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Set the amount aside; a timer gives it back ``for_ms`` later."""

    amount: int
    for_ms: int


@dataclass(frozen=True, slots=True)
class Release:
    due: int


@dataclass(frozen=True, slots=True)
class Deposited:
    amount: int
    balance: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    amount: int
    balance: int


@dataclass(frozen=True, slots=True)
class Sent:
    amount: int
    balance: int
    to: str


@dataclass(frozen=True, slots=True)
class Received:
    amount: int
    balance: int
    sender: str


@dataclass(frozen=True, slots=True)
class Held:
    amount: int
    balance: int
    until: int


@dataclass(frozen=True, slots=True)
class Released:
    amount: int
    balance: int
    due: int


@dataclass(frozen=True, slots=True)
class Wallet:
    balance: int = 0
    held: int = 0
    until: int = 0


def decide(message: Message, wallet: Wallet) -> Decision:
    """Accept what the balance allows."""
    command, balance = message.body, wallet.balance
    match command:
        case Deposit(amount) if amount <= 0:
            return Rejected("invalid", "the amount must be positive")
        case Withdraw(amount) | Transfer(amount) | Hold(amount) if amount > balance:
            return Rejected("invalid", "the balance is too low")
        case Hold() if wallet.held:
            return Rejected("invalid", "something is held already")
        case Release() if not wallet.held or message.now < wallet.until:
            return ()
    return _accepted(command, wallet, message.now)


def _accepted(
    command: Deposit | Withdraw | Transfer | Receive | Hold | Release, wallet: Wallet, now: int
) -> tuple[object, ...]:
    balance = wallet.balance
    match command:
        case Deposit(amount, parts):
            return tuple(Deposited(amount, balance + amount * part) for part in range(1, parts + 1))
        case Withdraw(amount):
            return (Withdrawn(amount, balance - amount),)
        case Transfer(amount, to):
            return (Sent(amount, balance - amount, to),)
        case Receive(amount, sender):
            return (Received(amount, balance + amount, sender),)
        case Hold(amount, for_ms):
            return (Held(amount, balance - amount, now + for_ms),)
        case Release(due):
            return (Released(wallet.held, balance + wallet.held, due),)
        case _:
            assert_never(command)


def evolve(wallet: Wallet, event: Deposited | Withdrawn | Sent | Received | Held | Released) -> Wallet:
    """Return the wallet after the event."""
    match event:
        case Held(amount, balance, until):
            return Wallet(balance, amount, until)
        case Released(_, balance, _):
            return Wallet(balance)
        case _:
            return Wallet(event.balance, wallet.held, wallet.until)


def effects(_tenant: str, aggregate_id: str, event: object, _wallet: Wallet) -> tuple[Effect, ...]:
    """What was sent is received."""
    if isinstance(event, Sent):
        return (Send("wallet", event.to, Receive(event.amount, aggregate_id)),)
    return ()


def due(wallet: Wallet) -> int | None:
    """Return when the held amount is given back."""
    return wallet.until if wallet.held else None


AGGREGATE = Aggregate(
    "wallet",
    (Deposit, Withdraw, Transfer, Receive, Hold),
    (Deposited, Withdrawn, Sent, Received, Held, Released),
    Wallet(),
    decide,
    evolve,
    effects=effects,
    due=due,
    tick=Release,
)
