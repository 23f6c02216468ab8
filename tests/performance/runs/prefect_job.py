"""The peer's part of the work: flows of one task, and of forty in a row, against a Prefect server.

``python prefect_job.py RUNS CONCURRENT`` in an environment of its own; prints one line of JSON. Its tasks do nothing, in the
process of the flow: nothing is claimed over a network, which is to its favour.
"""

import asyncio
import json
import sys
import time

from prefect import flow, task

_CHAIN = 40


@task  # type: ignore[untyped-decorator]  # it is in another environment
async def nothing() -> int:
    """Do nothing."""
    return 0


@flow  # type: ignore[untyped-decorator]  # as above
async def one() -> None:
    """One step."""
    await nothing()


@flow  # type: ignore[untyped-decorator]  # as above
async def chain() -> None:
    """Forty steps in a row."""
    for _ in range(_CHAIN):
        await nothing()


async def main(runs: int, concurrent: int) -> None:
    """Measure."""
    await one()
    places = asyncio.Semaphore(concurrent)

    async def placed() -> None:
        async with places:
            await one()

    begun = time.monotonic()
    await asyncio.gather(*(placed() for _ in range(runs)))
    rate = runs / (time.monotonic() - begun)
    chains = []
    for _ in range(3):
        begun = time.monotonic()
        await chain()
        chains.append(round(time.monotonic() - begun, 3))
    print(json.dumps({"runs_per_s": round(rate, 2), "chain_s": chains}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
