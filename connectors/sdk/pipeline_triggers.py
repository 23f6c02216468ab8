"""What starts a pipeline besides its schedule, as :mod:`.pipeline` takes it."""

from collections.abc import Sequence
from typing import Literal, Required, TypedDict


class After(TypedDict, total=False):
    """The end of another pipeline's run, in one of the states of ``status``."""

    pipeline: Required[str]
    status: Sequence[Literal["succeeded", "failed", "cancelled", "timed_out"]]


class Event(TypedDict, total=False):
    """A CloudEvent on the topic ``user-events.<name>`` for which ``filter`` holds."""

    name: Required[str]
    filter: str


class Trigger(TypedDict, total=False):
    """What else starts a pipeline: one of these."""

    after: After
    event: Event
