"""Order within an aggregate when one of its commands is in quarantine: the later ones wait there too.

The first command of an aggregate that goes to quarantine *parks* it; later ones go there as well, with the cause
``parked``. When the first is sent again and decided, or dropped, those behind it are read back from the log and decided
one after the other, before anything else of their slice. One that fails then is the first again.
"""

from dataclasses import replace

from schemas import topics as names
from streams.protocol.record import Record
from streams.shards.parked import BEHIND, FIRST, RELEASED, Headers, Parked, Waiting
from streams.writer.quarantine import Quarantine, place_of, time_of
from streams.writer.staged import Staged

_NOBODYS = ("no_key", "misrouted")


class Parking:
    """Sets records of one aggregate's slices aside, and says which of them wait. ``parks`` as the aggregate declares."""

    def __init__(self, quarantine: Quarantine, *, parks: bool) -> None:
        self._quarantine = quarantine
        self._parks = parks

    def waits(self, part: Staged, record: Record, key: bytes, why: str = "") -> str | None:
        """Set a record aside for as long as its aggregate is parked; return the detail, or None: it is to be decided.

        An empty detail: there was nothing to decide. ``why``: what is wrong with the record itself.
        """
        parked = part.parked.get(key)
        if isinstance(record, Waiting):
            if parked is None or parked.first:
                pass  # one before it failed, and it waits again
            elif record.gone:
                self._release(part, record, key, replace(parked, waiting=0), record.place, [])
            elif record.dropped:
                self._release(part, record, key, _after(parked, record), record.place, [])
            else:
                return None
            part.passed += 1
            return ""
        told = record.headers()
        if (dropped := told.get(names.DROP_OF)) is not None and not record.value:
            if parked is not None and dropped == parked.first:
                self._release(part, record, key, _let_go(parked, told.get(names.ACTOR)), dropped, [])
            part.passed += 1
            return ""
        if parked is None or (parked.first and told.get(names.REDRIVE_OF) == parked.first):
            return None
        now = replace(parked, waiting=parked.waiting + 1)
        detail = f"parked behind {(parked.first or b'others that are let go now').decode('utf-8', 'replace')}"
        detail += f"; it cannot be decided itself: {why}" if why else ""
        part.park(key, now)
        part.quarantined += 1
        part.out.append(self._quarantine.entry(record, "parked", detail, "", parked=now.headers(BEHIND)))
        return detail

    def set_aside(
        self, part: Staged, record: Record, key: bytes, cause: str, detail: str, fingerprint: str
    ) -> None:
        """Quarantine a record that cannot be decided, and park its aggregate, if that is declared."""
        part.quarantined += 1
        if not self._parks or cause in _NOBODYS:
            part.out.append(self._quarantine.entry(record, cause, detail, fingerprint))
            return
        parked = part.parked.get(key)
        if isinstance(record, Waiting) and parked is not None:
            now = replace(_after(parked, record), first=record.place)
        else:
            now = parked or Parked(place_of(record), at=part.slice.quarantined)
        part.park(key, now)
        part.out.append(
            self._quarantine.entry(record, cause, detail, fingerprint, now.first, now.headers(FIRST))
        )
        part.releasing = _any_released(part)

    def repeated(self, part: Staged, record: Record, key: bytes, command_id: bytes) -> None:
        """Note that a command got the answer it had before: one that waited is through all the same."""
        if isinstance(record, Waiting) and self.waits(part, record, key) is None:
            self.through(part, record, key, command_id)

    def through(self, part: Staged, record: Record, key: bytes, command_id: bytes) -> None:
        """Note that a command of a parked aggregate was decided: the first one, or one that waited."""
        parked = part.parked.get(key)
        if parked is None:
            return
        if isinstance(record, Waiting):
            deed = [
                ("redriven-by", parked.by),
                ("redrive-command-id", command_id),
                ("at", time_of(record)),
            ]
            self._release(part, record, key, _after(parked, record), record.place, deed)
        else:
            actor = record.headers().get(names.ACTOR)
            self._release(part, record, key, _let_go(parked, actor), parked.first, [])

    def _release(
        self, part: Staged, record: Record, key: bytes, now: Parked, place: bytes, deed: Headers
    ) -> None:
        if place:
            part.out.append(self._quarantine.release(record, place, now.headers(RELEASED), deed))
        part.park(key, now)
        if now.over or not isinstance(record, Waiting) or record.last:
            part.releasing = _any_released(part)


def _after(parked: Parked, record: Waiting) -> Parked:
    return replace(parked, waiting=max(parked.waiting - 1, 0), at=record.log_offset + 1)


def _let_go(parked: Parked, actor: bytes | None) -> Parked:
    return replace(parked, first=b"", by=actor or b"anonymous")


def _any_released(part: Staged) -> bool:
    return any(not parked.first for parked in part.parked.values())
