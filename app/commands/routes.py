"""Every route that writes."""

from app.commands.alerts import AlertCommands
from app.commands.bookmarks import BookmarkCommands
from app.commands.commands import AnyCommand
from app.commands.datasets import DatasetCommands
from app.commands.events import EventCommands
from app.commands.pipelines import PipelineCommands
from app.commands.quarantine import QuarantineCommands
from app.commands.reruns import RerunCommands
from app.commands.runs import RunCommands
from app.commands.schedules import ScheduleCommands
from app.commands.submit import Submitter
from app.commands.user_events import UserEvents
from app.ports import WriteDependencies
from app.routes import Route


def write_routes(needs: WriteDependencies) -> tuple[Route, ...]:
    """Return the routes of all nouns."""
    submitter = Submitter(needs)
    return (
        *PipelineCommands(needs, submitter).routes(),
        *RunCommands(needs, submitter).routes(),
        *RerunCommands(needs).routes(),
        *ScheduleCommands(needs, submitter).routes(),
        *AlertCommands(needs, submitter).routes(),
        *BookmarkCommands(needs, submitter).routes(),
        *DatasetCommands(needs, submitter).routes(),
        *QuarantineCommands(needs).routes(),
        *UserEvents(needs).routes(),
        *EventCommands(needs, submitter).routes(),
        *AnyCommand(needs, submitter).routes(),
    )
