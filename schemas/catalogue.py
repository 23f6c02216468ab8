"""The committed schemas: ``avro/<aggregate>/<Record>.avsc``, found by name, each made complete in itself."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import DuplicateSchema, InvalidSchema, OrphanSchema, UnknownSchema
from schemas.parsing import NAMED, PRIMITIVES, REDACTABLE, parse

BUILTIN = Path(__file__).parent / "avro"


class Catalogue:
    """Named schemas. Immutable; safe to share between threads.

    A record may refer to another by its full name (``flexcore.common.Envelope``). ``schema`` returns it with the
    definition put in place, so that the registered text needs no other and any client can read it.
    """

    def __init__(self, own: Mapping[str, Any], library: Mapping[str, Any]) -> None:
        """Take raw documents by full name; ``library`` may be referred to, but is not listed.

        Raises :class:`OrphanSchema` for a reference to a name that neither defines, :class:`InvalidSchema` for a
        document that is no Avro schema.
        """
        self.documents: Mapping[str, Any] = dict(own)
        self.library: Mapping[str, Any] = {**library, **own}
        self._parsed = {name: parse(_complete(name, "", set(), self.library)) for name in own}

    @classmethod
    def load(cls, folder: Path | None = None) -> "Catalogue":
        """Read every ``.avsc`` below ``folder`` (default: the product's own).

        A folder of your own may refer to the product's records, such as the envelope, without containing them.

        Raises :class:`DuplicateSchema`, :class:`OrphanSchema` or :class:`InvalidSchema`, naming the file.
        """
        builtin = _read(BUILTIN)
        return cls(builtin, {}) if folder is None else cls(_read(folder), builtin)

    def merged(self, other: "Catalogue") -> "Catalogue":
        """Return a catalogue of both. Raises :class:`DuplicateSchema` when both define a name."""
        if twice := sorted(self.documents.keys() & other.documents.keys()):
            raise DuplicateSchema(
                f"both catalogues define {', '.join(twice)}: rename one, or take it from one only"
            )
        return Catalogue({**self.documents, **other.documents}, {**self.library, **other.library})

    def names(self) -> tuple[str, ...]:
        """Return the full names of all schemas, sorted."""
        return tuple(sorted(self.documents))

    def schema(self, fullname: str) -> dict[str, Any]:
        """Return the parsed, self-contained schema. Treat it as read-only.

        Raises :class:`UnknownSchema` when there is none of that name.
        """
        try:
            found: dict[str, Any] = self._parsed[fullname]
        except KeyError:
            raise UnknownSchema(
                f"No schema is named {fullname}: add {fullname.rpartition('.')[2]}.avsc to the folder of its aggregate"
            ) from None
        return found

    def redactable(self, fullname: str) -> dict[str, Any]:
        """Return the fields of a record that may be redacted, each with the value that takes the place of what it said.

        Raises :class:`UnknownSchema` as :meth:`schema` does.
        """
        fields = self.schema(fullname)["fields"]
        return {field["name"]: field[REDACTABLE] for field in fields if REDACTABLE in field}


def _read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    files = sorted(folder.rglob("*.avsc"))
    if not files:
        raise OrphanSchema(
            f"{folder} holds no .avsc file: give the folder that holds <aggregate>/<Record>.avsc"
        )
    for file in files:
        document = _document(file)
        name = f"{document['namespace']}.{document['name']}"
        if name in found:
            raise DuplicateSchema(f"{file} defines {name} a second time: remove one of the two files")
        aggregate = document["namespace"].rpartition(".")[2]
        if (file.parent.name, file.stem) != (aggregate, document["name"]):
            raise OrphanSchema(f"{file} defines {name}: move it to {aggregate}/{document['name']}.avsc")
        found[name] = document
    return found


def _document(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidSchema(f"{file} is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("type") != "record":
        raise InvalidSchema(f"{file} must define one record")
    for key in ("name", "namespace"):
        if not isinstance(document.get(key), str) or not document[key]:
            raise InvalidSchema(f"{file} needs a `{key}`")
    if "." in document["name"]:
        raise InvalidSchema(f"{file}: `name` must be short, the rest belongs into `namespace`")
    return document


def _complete(schema: Any, namespace: str, defined: set[str], library: Mapping[str, Any]) -> Any:
    """Return the schema with the first mention of each named type replaced by its definition."""
    if isinstance(schema, list):
        return [_complete(branch, namespace, defined, library) for branch in schema]
    if isinstance(schema, str):
        return _mention(schema, namespace, defined, library)
    if not isinstance(schema, dict) or "type" not in schema:
        raise InvalidSchema(f"{json.dumps(schema)} is not an Avro schema: it has no `type`")
    result = dict(schema)
    kind = schema["type"]
    if isinstance(kind, str) and kind in NAMED:
        namespace = schema.get("namespace", namespace)
        defined.add(_qualified(str(schema.get("name")), namespace))
        if kind in ("record", "error"):
            result["fields"] = [
                {**field, "type": _complete(field["type"], namespace, defined, library)}
                for field in schema["fields"]
            ]
    elif kind == "array":
        result["items"] = _complete(schema["items"], namespace, defined, library)
    elif kind == "map":
        result["values"] = _complete(schema["values"], namespace, defined, library)
    elif not (isinstance(kind, str) and kind in PRIMITIVES):
        result["type"] = _complete(kind, namespace, defined, library)
    return result


def _mention(name: str, namespace: str, defined: set[str], library: Mapping[str, Any]) -> Any:
    if name in PRIMITIVES:
        return name
    full = _qualified(name, namespace)
    if full in defined:
        return full
    if full not in library:
        raise OrphanSchema(
            f"a schema refers to {full}, which no file defines: correct the name or add the file"
        )
    return _complete(library[full], "", defined, library)


def _qualified(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"
