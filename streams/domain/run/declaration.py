"""The run aggregate, said in one place."""

from functools import partial
from typing import get_args

from streams.domain.aggregate import Aggregate
from streams.domain.expressions import Language
from streams.domain.run import commands, events
from streams.domain.run.decide import decide
from streams.domain.run.effects import effects, reply
from streams.domain.run.evolve import evolve
from streams.domain.run.state import Run
from streams.domain.run.timers import due, touch, wake


def aggregate(language: Language, tenant_runs_max: int = 0) -> Aggregate:
    """Return the declaration; ``language`` evaluates the expressions of the pinned definition.

    ``tenant_runs_max``: so many runs of a tenant may be at work at once; 0: any number.
    """
    return Aggregate(
        name="run",
        commands=get_args(commands.Command),
        events=get_args(events.Event),
        initial=Run(),
        decide=partial(decide, language=language, tenant_runs_max=tenant_runs_max),
        evolve=evolve,
        effects=effects,
        due=due,
        tick=commands.Tick,
        reply=reply,
        touch=touch,
        wake=wake,
        settled=lambda run: run.ended,
        rests=lambda run: run.ended,
        unindexed=(
            commands.ClaimStep,
            commands.Heartbeat,
            commands.CompleteStep,
            commands.FailStep,
            commands.Tick,
        ),
    )
