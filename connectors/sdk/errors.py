"""What can go wrong at the world's edge, as families that say what to do about it.

::

    ConnectorError            one sentence: what happened, and the fix
    ├── RetryableError        the same work may succeed later
    │   ├── Unavailable       a system did not answer, or refused for now
    │   ├── ProgramFailed     an external program ended badly
    │   ├── BookmarkHeld      another run is using the bookmark
    │   └── Superseded        a newer attempt has taken over: stop writing
    └── PermanentError        trying again changes nothing until somebody acts
        ├── InvalidSpec       the pipeline file asks for something impossible
        ├── SecretMissing     a secret reference cannot be resolved here
        ├── NotInstallable    a program could not be installed
        ├── BadOutput         a program printed what it must not
        ├── RangeExpired      records to read are no longer in the dataset
        ├── Refused           the other side will not take these records
        └── TooManyRejects    more records were rejected than the step tolerates
"""


class ConnectorError(Exception):
    """A failure told in one sentence. ``retryable`` says whether the same step may be tried again."""

    retryable = True


class RetryableError(ConnectorError):
    """The same work may succeed later."""


class Unavailable(RetryableError):
    """A system did not answer, or refused for now."""


class ProgramFailed(RetryableError):
    """An external program ended with an exit code that is not 0, or was killed."""


class BookmarkHeld(RetryableError):
    """Another run is using the bookmark of this step."""


class Superseded(RetryableError):
    """A newer attempt of the step has taken over: this one must not write any more."""


class PermanentError(ConnectorError):
    """Trying again changes nothing until somebody acts."""

    retryable = False


class InvalidSpec(PermanentError):
    """The pipeline file asks for something that cannot be done."""


class SecretMissing(PermanentError):
    """A secret reference cannot be resolved where the step runs."""


class NotInstallable(PermanentError):
    """A program named by the pipeline file could not be installed."""


class BadOutput(PermanentError):
    """A program printed something that its protocol does not allow."""


class RangeExpired(PermanentError):
    """Records that are still to be read are no longer in the dataset's topic."""


class Refused(PermanentError):
    """The other side will not take these records, now or later."""


class TooManyRejects(PermanentError):
    """More records were rejected than the step tolerates."""
