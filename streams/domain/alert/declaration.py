"""The alert aggregate, said in one place."""

from typing import get_args

from streams.domain.aggregate import Aggregate
from streams.domain.alert import commands, events
from streams.domain.alert.decide import decide
from streams.domain.alert.evolve import evolve
from streams.domain.alert.state import Alert
from streams.domain.alert.timers import due

AGGREGATE = Aggregate(
    name="alert",
    commands=get_args(commands.Command),
    events=get_args(events.Event),
    initial=Alert(),
    decide=decide,
    evolve=evolve,
    due=due,
    tick=commands.AlertTick,
    unindexed=(commands.AlertTick,),
)
