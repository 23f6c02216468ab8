"""What a program says of its progress by the file RUN_PROGRESS."""

from pathlib import Path

import pytest

from connectors.runners.progress import Progress, ProgressFile


class Said:
    """A file, what was understood, and what was complained of."""

    def __init__(self, folder: Path, *, counted: bool = False) -> None:
        self.progress = Progress()
        self.complaints: list[str] = []
        self.file = ProgressFile(
            folder / "progress.jsonl",
            self.progress,
            counted,
            lambda text: text.replace("hunter2", "***"),
            self.complaints.append,
        )

    def say(self, text: str) -> Progress:
        with self.file.path.open("a") as out:
            out.write(text)
        self.file.look()
        return self.progress


@pytest.fixture
def said(tmp_path: Path) -> Said:
    return Said(tmp_path)


def test_the_newest_word_of_each_field_counts(said: Said) -> None:
    """A line may say some of it; one that is not complete yet is read when it is."""
    told = said.say('{"records_in": 3, "percent": 5}\n{"percent": 40, "text": "page 2"}\n{"perc')
    assert (told.records_in, told.percent, told.text) == (3, 40, "page 2")
    told = said.say('ent": 41.5}\n\n{"bytes": 7, "checkpoint": {"b": 1, "a": 2}}\n')
    assert (told.percent, told.bytes, told.checkpoint) == (41.5, 7, '{"a":2,"b":1}')
    assert said.complaints == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"percent": 101}', "$.percent"),
        ('{"records_in": -1}', "$.records_in"),
        ('{"percentage": 4}', "percentage"),
        ('{"checkpoint": [1]}', "$.checkpoint"),
        ("40 %", "append lines such as"),
        ('{"checkpoint": {"rows": "' + "x" * 16_384 + '"}}', "more than 16384"),
    ],
)
def test_a_wrong_line_is_told_with_its_field_and_left_out(said: Said, line: str, words: str) -> None:
    """In the step's log; the step goes on."""
    told = said.say(f'{{"percent": 3}}\n{line}\n')
    assert told.percent == 3
    assert words in said.complaints[0]
    assert '{"percent": 40' in said.complaints[0]
    said.say(f"{line}\n" * 50)
    assert len(said.complaints) == 10


def test_secrets_do_not_travel_with_progress(said: Said) -> None:
    """Neither in words nor in checkpoints."""
    told = said.say('{"text": "as hunter2", "checkpoint": {"as": "hunter2"}}\n')
    assert (told.text, told.checkpoint) == ("as ***", '{"as":"***"}')


def test_what_the_platform_counts_is_not_said_by_programs(tmp_path: Path) -> None:
    """An extract's records are counted where they are written."""
    told = Said(tmp_path, counted=True).say('{"records_out": 9, "percent": 9}\n')
    assert (told.records_out, told.percent) == (0, 9)


def test_a_talkative_program_or_a_vanished_file_harms_nobody(said: Said) -> None:
    """Of a flood the newest is read; a file that is written anew is read from its beginning."""
    told = said.say('{"text": "a line of a flood"}\n' * 60_000 + '{"percent": 77}\n')
    assert (told.percent, said.complaints) == (77, [])
    said.file.path.write_text('{"percent": 78}\n')
    said.file.look()
    assert told.percent == 78
    said.file.path.unlink()
    said.file.look()
