"""The catalogue finds each committed schema by name and refuses a folder that contradicts itself."""

import json
from pathlib import Path

import pytest

from schemas.catalogue import Catalogue
from schemas.errors import DuplicateSchema, InvalidSchema, OrphanSchema, UnknownSchema
from schemas.parsing import text_of


def write(folder: Path, place: str, **document: object) -> Path:
    file = folder / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"type": "record", "fields": [], **document}))
    return folder


def test_every_committed_record_is_found_by_its_full_name() -> None:
    """Names are those of the files: flexcore.<folder>.<file>."""
    catalogue = Catalogue.load()
    assert "flexcore.run.StepClaimed" in catalogue.names()
    assert catalogue.schema("flexcore.run.StepClaimed")["name"] == "flexcore.run.StepClaimed"


def test_a_reference_becomes_a_definition() -> None:
    """The text to register is complete in itself: the envelope is defined where it is first mentioned."""
    schema = json.loads(text_of(Catalogue.load().schema("flexcore.run.StepClaimed")))
    envelope = schema["fields"][0]["type"]
    assert (envelope["name"], envelope["type"]) == ("flexcore.common.Envelope", "record")
    assert {field["name"] for field in envelope["fields"]} >= {"event_id", "version", "sequence"}


def test_a_type_mentioned_twice_is_defined_once(tmp_path: Path) -> None:
    """Avro forbids a second definition of a name, so the second mention stays a name."""
    both = [{"name": name, "type": "flexcore.common.Envelope"} for name in ("first", "second")]
    folder = write(tmp_path, "counter/Twice.avsc", name="Twice", namespace="flexcore.counter", fields=both)
    fields = Catalogue.load(folder).schema("flexcore.counter.Twice")["fields"]
    assert fields[0]["type"]["name"] == "flexcore.common.Envelope"
    assert fields[1]["type"] == "flexcore.common.Envelope"


def test_a_reference_inside_the_same_namespace_may_be_short(tmp_path: Path) -> None:
    """Avro's rule: a name without dots is looked up in the namespace around it."""
    write(tmp_path, "counter/Part.avsc", name="Part", namespace="flexcore.counter")
    parts = {"type": "array", "items": "Part"}
    folder = write(
        tmp_path,
        "counter/Whole.avsc",
        name="Whole",
        namespace="flexcore.counter",
        fields=[{"name": "parts", "type": parts}, {"name": "last", "type": ["null", "Part"]}],
    )
    fields = Catalogue.load(folder).schema("flexcore.counter.Whole")["fields"]
    assert fields[0]["type"]["items"]["name"] == "flexcore.counter.Part"
    assert fields[1]["type"] == ["null", "flexcore.counter.Part"]


def test_a_folder_of_ones_own_lists_only_its_own_records_until_it_is_merged(tmp_path: Path) -> None:
    """A user's aggregate brings its schemas and still refers to the product's."""
    event = [{"name": "envelope", "type": "flexcore.common.Envelope"}, {"name": "by", "type": "long"}]
    own = Catalogue.load(
        write(tmp_path, "counter/Counted.avsc", name="Counted", namespace="flexcore.counter", fields=event)
    )
    assert own.names() == ("flexcore.counter.Counted",)
    merged = Catalogue.load().merged(own)
    assert set(merged.names()) == {"flexcore.counter.Counted", *Catalogue.load().names()}
    assert merged.schema("flexcore.counter.Counted") == own.schema("flexcore.counter.Counted")


def test_a_name_defined_twice_is_refused(tmp_path: Path) -> None:
    """Two folders of one name hide each other's records: neither is taken."""
    write(tmp_path, "a/counter/Counted.avsc", name="Counted", namespace="flexcore.counter")
    write(tmp_path, "b/counter/Counted.avsc", name="Counted", namespace="flexcore.counter")
    with pytest.raises(DuplicateSchema, match="a second time"):
        Catalogue.load(tmp_path)
    one = Catalogue.load(tmp_path / "a")
    with pytest.raises(DuplicateSchema, match=r"flexcore\.counter\.Counted"):
        one.merged(Catalogue.load(tmp_path / "b"))


@pytest.mark.parametrize("place", ["counter/Other.avsc", "other/Counted.avsc"])
def test_a_file_away_from_its_name_is_refused(tmp_path: Path, place: str) -> None:
    """A stranger must find a record by its file name; the message says where the file belongs."""
    write(tmp_path, place, name="Counted", namespace="flexcore.counter")
    with pytest.raises(OrphanSchema, match=r"counter/Counted\.avsc"):
        Catalogue.load(tmp_path)


def test_a_reference_to_nothing_is_refused(tmp_path: Path) -> None:
    """The message names what is missing."""
    fields = [{"name": "x", "type": "flexcore.common.Envelop"}]
    write(tmp_path, "counter/Counted.avsc", name="Counted", namespace="flexcore.counter", fields=fields)
    with pytest.raises(OrphanSchema, match=r"flexcore\.common\.Envelop,"):
        Catalogue.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ('["null"]', "one record"),
        ('{"type": "record", "namespace": "flexcore.counter", "fields": []}', "needs a `name`"),
        ('{"type": "record", "name": "Counted", "fields": []}', "needs a `namespace`"),
        ('{"type": "record", "name": "flexcore.Counted", "namespace": "flexcore.counter"}', "short"),
        ('{"type": "record", "name": "Counted", "namespace": "flexcore.counter", "fields": [{"name": "x", "type": {}}]}', "type"),
        ('{"type": "record", "name": "Counted", "namespace": "flexcore.counter", "fields": [{"name": "x y", "type": "int"}]}', "x y"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The message says what is wrong with it."""
    file = tmp_path / "counter" / "Counted.avsc"
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(InvalidSchema, match=message):
        Catalogue.load(tmp_path)


def test_a_folder_without_schemas_is_refused(tmp_path: Path) -> None:
    """A wrong path must not look like an aggregate without events."""
    with pytest.raises(OrphanSchema, match=r"no \.avsc file"):
        Catalogue.load(tmp_path)


def test_an_unknown_name_says_which_file_to_add() -> None:
    """Asking for a schema that nobody wrote is a mistake of the caller, told with the fix."""
    with pytest.raises(UnknownSchema, match=r"add RunExploded\.avsc"):
        Catalogue.load().schema("flexcore.run.RunExploded")
