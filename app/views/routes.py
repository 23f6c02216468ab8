"""Every route that reads."""

from app.ports import Limits, Memory, Peers
from app.routes import Route
from app.views.aggregates import AggregateViews
from app.views.alerts import AlertViews
from app.views.bookmarks import BookmarkViews
from app.views.commands import CommandViews
from app.views.datasets import DatasetViews
from app.views.events import EventViews
from app.views.limits import LimitViews
from app.views.pipelines import PipelineViews
from app.views.ports import ViewDependencies
from app.views.quarantine import QuarantineViews
from app.views.runs import RunViews
from app.views.schedules import ScheduleViews
from app.views.views import ViewViews


def owner_routes(memory: Memory, peers: Peers, limits: Limits) -> tuple[Route, ...]:
    """Return the one route of a node that owns shards, but has no read store."""
    return AggregateViews(memory, peers, limits).routes()


def read_routes(needs: ViewDependencies) -> tuple[Route, ...]:
    """Return the routes of all nouns."""
    return (
        *PipelineViews(needs).routes(),
        *RunViews(needs).routes(),
        *ScheduleViews(needs).routes(),
        *AlertViews(needs).routes(),
        *LimitViews(needs).routes(),
        *BookmarkViews(needs).routes(),
        *DatasetViews(needs).routes(),
        *CommandViews(needs).routes(),
        *AggregateViews(needs.memory, needs.peers, needs.limits, needs).routes(),
        *EventViews(needs).routes(),
        *QuarantineViews(needs).routes(),
        *ViewViews(needs).routes(),
    )
