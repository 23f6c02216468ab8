"""Which faults come when: drawn from a seed before the run, so that the same run can be made again."""

import random
from dataclasses import dataclass

# Kind -> (weight, shortest, longest) in seconds. The session time-out is 6 s, a transaction's 10 s.
WORKER = {
    "kill": (12, 0.2, 7.0),
    "kill-all": (2, 0.2, 2.0),
    "freeze": (8, 1.0, 9.5),
    "freeze-decided": (5, 6.8, 9.0),
    "freeze-written": (5, 6.8, 9.0),
    "freeze-idle": (2, 7.5, 9.0),
    "terminate": (7, 0.2, 4.0),
    "lost-answer": (8, 0.1, 0.5),
    "refused": (8, 0.1, 0.5),
    "clock": (6, 2.0, 8.0),
    "disk-full": (3, 2.0, 6.0),
    "registry-away": (3, 3.0, 8.0),
}
LINK = {
    "reset": (6, 0.5, 8.0),
    "stall": (6, 1.0, 9.0),
    "stall-one-broker": (4, 1.0, 9.0),
    "delay": (6, 2.0, 8.0),
}
BROKER = {
    "broker-kill": (7, 1.0, 5.0),
    "controller-kill": (4, 1.0, 5.0),
    "broker-freeze": (5, 2.0, 8.0),
    "broker-disk-full": (2, 2.0, 4.0),
}
_WORKER_REST_S = 3.0
_BROKER_REST_S = 16.0  # to start again and to be in sync: two brokers away at once would be two faults


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: at ``at`` seconds, for ``lasts`` seconds, on ``target`` (a worker, or a broker's number)."""

    at: float
    kind: str
    target: str
    lasts: float
    detail: float = 0.0


def plan(
    seed: int,
    seconds: float,
    count: int,
    workers: list[str],
    brokers: int,
    kinds: frozenset[str] | None = None,
) -> list[Fault]:
    """Return ``count`` faults over ``seconds``, never two on one target at a time; with one broker it is never harmed."""
    chance = random.Random(seed)
    weights = {**WORKER, **LINK, **(BROKER if brokers > 1 else {})}
    if kinds is not None:
        weights = {name: weight for name, weight in weights.items() if name in kinds}
    free = dict.fromkeys(workers, 0.0)
    broker_free = 0.0
    gap = (seconds - 4) / count
    faults: list[Fault] = []
    for number in range(count):
        at = 2 + gap * (number + chance.random() * 0.8)
        allowed = {
            name: weight
            for name, weight in weights.items()
            if (at >= broker_free if name in BROKER else _idle(name, free, at))
        }
        if not allowed:  # everything is under a fault already: this one waits for the first that is not
            at = min(free.values())
            allowed = {
                name: weight
                for name, weight in weights.items()
                if name not in BROKER and _idle(name, free, at)
            }
        kind = chance.choices(list(allowed), [weight[0] for weight in allowed.values()])[0]
        _, shortest, longest = allowed[kind]
        lasts = round(chance.uniform(shortest, longest), 2)
        detail = round(chance.choice((-1, 1)) * chance.uniform(1, 7200), 1) if kind == "clock" else 0.0
        if kind == "delay":
            detail = round(chance.uniform(0.01, 0.6), 3)
        if kind in BROKER:
            target = str(chance.randint(1, brokers))
            broker_free = at + lasts + _BROKER_REST_S
        else:
            target = chance.choice([name for name in workers if free[name] <= at])
            for name in workers if kind == "kill-all" else [target]:
                free[name] = at + lasts + _WORKER_REST_S
            if kind == "stall-one-broker":
                detail = chance.randint(1, brokers)
        faults.append(Fault(round(at, 2), kind, target, lasts, detail))
    return sorted(faults, key=lambda fault: fault.at)


def _idle(kind: str, free: dict[str, float], at: float) -> bool:
    """Tell whether a target for this kind is under no fault."""
    if kind == "kill-all":
        return max(free.values()) <= at
    return kind not in BROKER and min(free.values()) <= at
