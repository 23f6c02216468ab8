"""What can go wrong between a record and its bytes.

::

    FlexcoreSchemaError         one sentence: what happened, and the fix
    ├── Undecodable             these bytes are no record of their schema: never will be
    ├── Unencodable             this record does not fit its schema
    ├── UnknownSchema           the registry has no schema of this id, the catalogue none of this name
    ├── Incompatible            a changed schema would make stored records unreadable
    ├── InvalidSchema           the document is no Avro schema
    │   ├── DuplicateSchema     two files define one name
    │   └── OrphanSchema        a file in the wrong place, or a reference to a name that nobody defines
    └── RegistryUnavailable     the registry did not answer: the same call may succeed later
"""


class FlexcoreSchemaError(Exception):
    """A failure told in one sentence."""


class Undecodable(FlexcoreSchemaError):
    """The bytes are no record in Confluent framing, or no record of the schema they name. Trying again is useless."""


class Unencodable(FlexcoreSchemaError, ValueError):
    """The record does not fit its schema; the message names the field where that is known."""


class UnknownSchema(FlexcoreSchemaError, LookupError):
    """The registry has no schema of this id, or the catalogue none of this name."""


class Incompatible(FlexcoreSchemaError):
    """A changed schema would make stored records unreadable; the message names every place and the fix."""


class InvalidSchema(FlexcoreSchemaError, ValueError):
    """The document is no Avro schema."""


class DuplicateSchema(InvalidSchema):
    """Two files, or two merged catalogues, define one name."""


class OrphanSchema(InvalidSchema):
    """A file lies where its name says it should not, or refers to a name that nobody defines."""


class RegistryUnavailable(FlexcoreSchemaError):
    """The registry did not answer, or answered nonsense. Nothing is known about the schema: try again later."""
