"""``flexcore node``: run one process of the platform."""

import logging
import os
import sys

import click

from app.cli.failure import Failed
from app.cli.session import Session, Verb, noun
from app.errors import EXIT_FAILED

node = noun("node", "Run one process of the platform.")


@node.command("run", cls=Verb, example="flexcore node run --roles api,worker")
@click.option("--roles", help="What it does: api, worker, runner [FLEXCORE_ROLES; all].", metavar="ROLES")
@click.pass_obj
def run(session: Session, roles: str | None) -> None:
    """Run a node until SIGTERM or Ctrl-C; a node takes every setting of `flexcore config`."""
    from app.adapters.data_dir import NodeTaken
    from app.bootstrap import run_node
    from app.config import load
    from app.node import NodeFailed, StartAnew

    overrides = {"ROLES": roles} if roles else {}
    if session.options.get("project"):
        overrides["PROJECT"] = str(session.options["project"])
    config = load(overrides=overrides)
    config.require_kafka()
    config.require_read_store()
    try:
        run_node(config)
    except (NodeTaken, NodeFailed) as error:
        raise Failed(str(error), exit_code=EXIT_FAILED) from None
    except StartAnew as wish:
        logging.getLogger(__name__).warning("%s: the process starts anew", wish)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**config.environ, **wish.environ})
