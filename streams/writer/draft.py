"""What was decided of a chunk of commands and is still to be written: the third pass of the hot path."""

from dataclasses import dataclass
from typing import Any

from schemas.outcome import Answer
from streams.domain.aggregate import Effect, Send
from streams.shards.entry import Entry
from streams.shards.saved import Remembered
from streams.writer.command import Command
from streams.writer.encoding import Cause, EffectEncoder, Encoder
from streams.writer.staged import Staged

# Plain tuples, because there is one of each for every command.
# Events to be written: whose, the entry before and after, the events, what follows from each, and the sequence before.
Happened = tuple[Command, Cause, bytes, Entry, Entry, tuple[Any, ...], list[tuple[Effect, ...]], int]
# An outcome to be written: its answer; first and last version, shard, sequence, position; where it is remembered.
_Told = tuple[Command, Cause, Answer, tuple[int, int, int, int, int], Remembered]


@dataclass(slots=True)
class _Again:
    """An outcome to be written once more, for the command at an offset."""

    command: Command
    remembered: Remembered
    offset: int


class Draft:
    """An overlay over its transaction's, and the records it is to have. Dropped whole if one of them cannot be encoded."""

    def __init__(self, staged: Staged, command_ids_max: int) -> None:
        piece = staged.slice
        self.part = Staged.on(piece, staged)
        self.room = command_ids_max - piece.command_ids - len(staged.index)
        self._happened: list[Happened] = []
        self._told: list[_Told | _Again] = []  # in the order of the commands

    def keep(self, happened: Happened) -> None:
        """Put what a command makes of its aggregate on the overlay; its events come after the sequence it names."""
        _, _, key, _, after, events, _, before = happened
        part = self.part
        self._happened.append(happened)
        part.states[key] = after
        if events:
            part.sequence = part.position = before + len(events)
            part.events += len(events)

    def tell(
        self,
        command: Command,
        cause: Cause,
        answer: Answer,
        index_key: bytes,
        versions: tuple[int, int] = (0, 0),
        sequence: int = 0,
    ) -> None:
        """Note an outcome; without a ``sequence`` of its own it takes the next one."""
        part = self.part
        sequence = sequence or part.sequence + 1
        part.sequence = max(part.sequence, sequence)
        # The outcome's bytes come when it is written.
        remembered = Remembered(command.body_hash, sequence, b"", cause.command_uuid)
        if answer.stored:
            part.index[index_key] = remembered
        first, last = versions
        numbers = (first, last, part.slice.shard, sequence, part.position)
        self._told.append((command, cause, answer, numbers, remembered))

    def repeat(self, command: Command, remembered: Remembered, offset: int) -> None:
        """Note that an outcome is to be given once more."""
        self._told.append(_Again(command, remembered, offset))

    def write(self, encoder: Encoder, effects: EffectEncoder) -> None:
        """Encode everything. Raises what the encoding of an event, an effect or an outcome raises."""
        part = self.part
        out, chains, shard, encode = part.out, part.chains, part.slice.shard, encoder.event
        for command, cause, key, entry, after, events, following, sequence in self._happened:
            version, chain = entry.version, entry.chain
            for index, event in enumerate(events):
                version += 1
                numbers = (version, sequence + index + 1, index)
                event_id, chain, produced = encode(event, key, shard, numbers, cause, chain)
                out.append(produced)
                chains.append(chain)
                if following:
                    self._follow(effects, command, event_id, following[index])
            after.chain = chain
        answers, outcome = part.answers, encoder.outcome
        for told in self._told:
            if isinstance(told, _Again):
                out.append(encoder.again(told.command, told.remembered.outcome, shard, told.offset))
                continue
            command, cause, answer, numbers_told, remembered = told
            remembered.outcome, produced = outcome(cause, command, numbers_told, answer)
            out.append(produced)
            answers.append(remembered.outcome)

    def _follow(
        self, encoder: EffectEncoder, command: Command, event_id: bytes, effects: tuple[Effect, ...]
    ) -> None:
        out = self.part.out
        for number, effect in enumerate(effects):
            if isinstance(effect, Send):
                out.append(encoder.command(effect, command, event_id, number))
            else:
                out.append(encoder.offer(effect, command, event_id))
