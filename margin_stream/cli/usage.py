"""Mistakes in a command line; all of them exit 2."""

from margin_stream.errors import Error


class UsageError(Error, code="option_invalid"):
    """The value of an option does not do."""


class OptionsConflict(UsageError, code="options_conflict"):
    """Options are there together, or missing, that do not go so."""


class InputFileMissing(UsageError, code="input_file_missing"):
    """An input file is not there."""


class NotNdjson(UsageError, code="input_not_ndjson"):
    """An input file is of another kind."""


class WrongKindOfStore(UsageError, code="store_kind_wrong"):
    """The command is for stores of the other kind."""


class BadAddress(UsageError, code="store_address_invalid"):
    """The store's address is not one."""


class BadTime(UsageError, code="time_invalid"):
    """TIME is neither a moment nor a sequence number."""
