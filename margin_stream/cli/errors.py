"""The error catalogue: every error that a command can show has a code that stays, an exit code, and what to do next.

An exception has its code (``margin_stream.errors``), and this table knows no exception. docs/errors.md is generated
from it. One list, so longer than other modules. What is refused (an input, not a command) has its codes in ``schemas.refusals``.
"""

from __future__ import annotations

from typing import NamedTuple

DONE, FAILED, USAGE, MISMATCH, CORRUPT, UNREACHABLE, LOCKED, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 4, 5, 6, 130, 143


class Entry(NamedTuple):
    """One kind of error."""

    code: str
    """Stable: never renamed, never used again for something else."""
    exit: int
    what: str
    next: str
    """What to do. ``{store}``, ``{account}`` and the like are filled in where they are known."""


ENTRIES = (
    # ---- the command line ---------------------------------------------------------------------------------------
    Entry(
        "unknown_command",
        USAGE,
        "There is no command of that name.",
        "Use one that `margin-stream --help` lists.",
    ),
    Entry(
        "unknown_option",
        USAGE,
        "The command has no such option.",
        "Use one that the command's --help lists.",
    ),
    Entry(
        "missing_argument",
        USAGE,
        "An argument or an option that the command needs is missing.",
        "Add it; the command's --help shows examples.",
    ),
    Entry(
        "too_many_arguments",
        USAGE,
        "The command was given more arguments than it takes.",
        "Remove the extra arguments; the command's --help shows examples.",
    ),
    Entry(
        "option_invalid",
        USAGE,
        "The value of an option is not valid.",
        "Correct the named value.",
    ),
    Entry(
        "options_conflict",
        USAGE,
        "Options do not go together, or one needs another.",
        "Leave one of them out, or add what is missing; the command's --help shows examples.",
    ),
    Entry(
        "usage",
        USAGE,
        "The command line is wrong in another way (an option given twice, for example).",
        "Compare with the examples of the command's --help.",
    ),
    Entry(
        "input_file_missing",
        USAGE,
        "An input file does not exist.",
        "Check the path; `-` reads from stdin.",
    ),
    Entry(
        "input_not_ndjson",
        CORRUPT,
        "A file for `ingest` is no NDJSON. Nothing was written.",
        "Your own tables: `margin-stream import accounts|positions|collateral|prices`; market files: `margin-stream "
        "import bars`.",
    ),
    Entry(
        "time_invalid",
        USAGE,
        "TIME is neither an instant, a day nor a sequence number.",
        "Write RFC 3339 in UTC (2021-05-19T12:30:00Z), a day (2021-05-19) or a sequence number (#1200).",
    ),
    Entry(
        "time_zone_unknown",
        USAGE,
        "There is no such time zone.",
        "Name one such as America/New_York.",
    ),
    Entry(
        "store_address_invalid",
        USAGE,
        "The store's address is not valid.",
        "Write a folder, or kafka://HOST:PORT[,HOST:PORT]/NAME; names and passwords are settings (kafka.sasl_username, "
        "kafka.sasl_password_file).",
    ),
    Entry(
        "store_kind_wrong",
        USAGE,
        "The command is for stores of the other kind (folder, Kafka).",
        "Name such a store with --store.",
    ),
    Entry(
        "partitions_out_of_range",
        USAGE,
        "A store cannot have so many partitions, or so few.",
        "Choose a number in the range.",
    ),
    # ---- settings -----------------------------------------------------------------------------------------------
    Entry(
        "settings_file_missing",
        USAGE,
        "The settings file cannot be read.",
        "Check the path in --config or MARGIN_STREAM_CONFIG, and who may read the file.",
    ),
    Entry(
        "settings_file_damaged",
        USAGE,
        "The settings file is not TOML.",
        "Correct the named line; docs/settings.md has an example.",
    ),
    Entry(
        "setting_unknown",
        USAGE,
        "There is no setting of that name.",
        "Correct or remove the key; `margin-stream config show` lists all.",
    ),
    Entry(
        "setting_invalid",
        USAGE,
        "The value of a setting is not valid.",
        "Correct the value at the named place; docs/settings.md lists what each accepts.",
    ),
    Entry(
        "security_incomplete",
        USAGE,
        "The security settings contradict each other, or a file that they name cannot be used.",
        "Complete kafka.* (`margin-stream config show --origin` shows what is set, and where).",
    ),
    # ---- stores -------------------------------------------------------------------------------------------------
    Entry(
        "address_in_use",
        FAILED,
        "The service cannot listen at the address.",
        "Name another with --listen; `ss -ltnp` shows who has it.",
    ),
    Entry(
        "token_unknown",
        FAILED,
        "There is no token of that name that is not revoked.",
        "`margin-stream token list` shows those that there are.",
    ),
    Entry(
        "tokens_damaged",
        CORRUPT,
        "The file of tokens cannot be read; nobody is let in.",
        "Restore access/tokens.json of the store from a copy, or remove it and make the tokens anew.",
    ),
    Entry(
        "store_missing",
        FAILED,
        "There is no store in the folder.",
        "`margin-stream ingest FILE --store {store}` makes one; --store names another.",
    ),
    Entry(
        "topics_missing",
        FAILED,
        "There is no store of that name on the brokers.",
        "`margin-stream kafka init --store {store} --partitions N` makes one; --store names another.",
    ),
    Entry(
        "topics_incomplete",
        FAILED,
        "Topics of the store are missing, or have other partitions than its manifest states.",
        "If making or repartitioning it was interrupted, run `margin-stream kafka repartition --store {store} "
        "--partitions N`.",
    ),
    Entry(
        "store_differs",
        FAILED,
        "A store of that name exists, with another number of partitions.",
        "`margin-stream kafka repartition --store {store} --partitions N` changes the number.",
    ),
    Entry(
        "store_newer",
        FAILED,
        "The store was made by a newer margin-stream.",
        "Upgrade margin-stream on this machine.",
    ),
    Entry(
        "store_older",
        FAILED,
        "The store was made by an earlier margin-stream: its rules, or its derived topics, are others.",
        "A store of 0.1: print its inputs with that release (`margin-stream import segments STORE > inputs.ndjson`) and "
        "ingest them into a new store; docs/versioning.md. Derived topics on Kafka: `margin-stream kafka repartition` "
        "rebuilds them.",
    ),
    Entry(
        "backup_differs",
        FAILED,
        "The folder for the backup holds another store, another past of this one, or something else.",
        "Name another folder, or an empty one.",
    ),
    Entry(
        "folder_taken",
        FAILED,
        "The folder is not empty, and holds no store.",
        "Name another folder with --store, or empty this one.",
    ),
    Entry(
        "target_taken",
        FAILED,
        "The target of the copy is not empty.",
        "Copy into a new folder, or into a store that `margin-stream kafka init` has just created.",
    ),
    Entry(
        "store_unusable",
        FAILED,
        "The store cannot be used as asked.",
        "Correct what the message names (a full disk, for example), then run the command again: "
        "nothing acknowledged is lost.",
    ),
    Entry(
        "memory_short",
        FAILED,
        "There is not enough memory, or the process may not have more.",
        "Let the process have more memory (`ulimit -v`, the limit of its service or container), then run the command "
        "again: nothing acknowledged is lost.",
    ),
    Entry(
        "store_locked",
        LOCKED,
        "Another process writes to the store; the message names it.",
        "Wait for it or stop it. Commands that only read need no lock.",
    ),
    Entry(
        "workers_run",
        LOCKED,
        "Workers follow the store's topics.",
        "Stop them first; the broker drops one that was killed after some seconds.",
    ),
    # ---- damage -------------------------------------------------------------------------------------------------
    Entry(
        "journal_damaged",
        CORRUPT,
        "A log of the store is damaged at the named file and offset.",
        "`margin-stream verify` reports what else is damaged, `margin-stream repair` what can be repaired; "
        "docs/recovery.md lists the cases.",
    ),
    Entry(
        "store_file_foreign",
        CORRUPT,
        "The store's folder holds what no store has: a link, a pipe, a device, a file that is too large. None of it was "
        "opened.",
        "Do not use the folder as it is: get the store again from whoever gave it, or remove the named file if you know "
        "what it is.",
    ),
    Entry(
        "offsets_missing",
        CORRUPT,
        "The journal's topic lacks records in the middle, or at its beginning: it was compacted, cut or made anew.",
        "Ingest the journal's copy into a new store; `margin-stream doctor` shows retention.ms and cleanup.policy of the "
        "topic.",
    ),
    Entry(
        "shard_stopped",
        CORRUPT,
        "A worker's shard stopped at a fault, so what was sent is not folded. The journal has it.",
        "The message has the topic, the offset and the fault; `margin-stream kafka status` shows every shard, "
        "`margin-stream verify` what is damaged.",
    ),
    Entry(
        "record_undecodable",
        CORRUPT,
        "A record of the store has the right checksum, but its content cannot be decoded.",
        "`margin-stream verify` names the record; restore the file from a copy.",
    ),
    Entry(
        "manifest_damaged",
        CORRUPT,
        "The store's manifest is damaged.",
        "Restore manifest.json from a copy of the store.",
    ),
    Entry(
        "manifest_missing",
        CORRUPT,
        "The folder holds a journal and no manifest.",
        "Restore manifest.json from a copy of the store.",
    ),
    Entry(
        "damage_found",
        CORRUPT,
        "`verify` found damage; one line for each place.",
        "`margin-stream repair --store {store}` shows what can be repaired, and what to do about the rest.",
    ),
    Entry(
        "repair_refused",
        CORRUPT,
        "`repair` found damage that cannot be repaired without losing acknowledged inputs; nothing was changed.",
        "Follow the advice beside each finding; in most cases: restore the store from a backup or a replica.",
    ),
    Entry(
        "table_unreadable",
        FAILED,
        "A table cannot be read or written. Tables are a cache of the journal.",
        "Replace the disk if it failed; if the folder tables/ is removed, the next ingest rebuilds them.",
    ),
    Entry(
        "replay_differs",
        MISMATCH,
        "What `replay` recomputed differs from what was recorded.",
        "Keep the store as it is, and find the first difference with `margin-stream events --effects --store {store}`.",
    ),
    Entry(
        "verification_ended",
        FAILED,
        "The second process of `ingest --verify` ended without an answer. What was ingested is durable all the same.",
        "Verify it now: `margin-stream replay --store {store}`. If memory ran out, do so on a machine with more.",
    ),
    Entry(
        "recovery_differs",
        MISMATCH,
        "What opening the store for writing recomputed differs from what was recorded.",
        "Keep the store as it is; `margin-stream replay` names the first difference.",
    ),
    Entry(
        "fault",
        FAILED,
        "An internal check failed: a bug of margin-stream, or damage to the journal that checksums cannot detect.",
        "Keep the store as it is; run `margin-stream verify`, and report the bug with its output.",
    ),
    # ---- the outside --------------------------------------------------------------------------------------------
    Entry(
        "broker_unreachable",
        UNREACHABLE,
        "The broker does not answer.",
        "Is it running, is the address right, and does kafka.security_protocol fit? `margin-stream doctor` "
        "checks each.",
    ),
    Entry(
        "broker_refused",
        FAILED,
        "The broker refuses what was asked.",
        "Correct what the message names; `margin-stream doctor` shows the topics and their settings.",
    ),
    Entry(
        "demo_broker_failed",
        UNREACHABLE,
        "The broker of the demo or of the tests cannot be started.",
        "Install Java (openjdk-17-jre-headless), and let `make kafka` fetch Kafka.",
    ),
    Entry(
        "io_failed",
        FAILED,
        "A file cannot be read or written.",
        "Correct what the message names (access rights, free space), then run the command again: nothing "
        "acknowledged is lost.",
    ),
    # ---- what is asked for --------------------------------------------------------------------------------------
    Entry(
        "account_unknown",
        FAILED,
        "The account is not open, or was not yet open at that time.",
        "Check its spelling, and --at.",
    ),
    Entry(
        "call_unknown",
        FAILED,
        "There is no such margin call.",
        "`margin-stream calls --account {account}` lists the calls of an account.",
    ),
    Entry(
        "cursor_damaged",
        CORRUPT,
        "An outbox's cursor does not match its checksum.",
        "Remove the named file: the outbox begins at the first effect again, and receivers recognise by the ids what "
        "they have.",
    ),
    Entry(
        "cursor_differs",
        CORRUPT,
        "An outbox's cursor belongs to another store, or to a later state of this one.",
        "Give the outbox the cursor of this store; or remove it, and receivers recognise by the ids what they have.",
    ),
    Entry(
        "desk_unknown",
        FAILED,
        "No account is of that desk.",
        "Check its spelling; `margin-stream accounts --store {store} --json` has the desk of each account.",
    ),
    Entry(
        "fold_unknown",
        USAGE,
        "The store has no fold of that name.",
        "Name one that the message lists.",
    ),
    Entry(
        "refused_input_unknown",
        FAILED,
        "No refused input has that id.",
        "`margin-stream quarantine list` lists all refused inputs.",
    ),
    Entry(
        "correction_unusable",
        CORRUPT,
        "A file holds no correction: it is no JSON object, or it corrects another input.",
        "`margin-stream quarantine show ID` prints what came; correct that, and leave `corrects` out.",
    ),
    Entry(
        "corrected_already",
        FAILED,
        "The refused input has a correction that was accepted.",
        "Nothing has to be done; what else is wrong is booked by a new input.",
    ),
    Entry(
        "restart_not_confirmed",
        FAILED,
        "A feed began its numbers anew, and nobody confirmed it.",
        "Send a feed_restarted that names the feed and who confirms it (actor), then run the command again.",
    ),
    Entry(
        "profile_not_shipped",
        FAILED,
        "No margin profile of that name is shipped.",
        "`margin-stream profiles list` lists the shipped profiles.",
    ),
    # ---- inputs -------------------------------------------------------------------------------------------------
    Entry(
        "file_wrong",
        CORRUPT,
        "A file of your own data cannot be read, or has not the columns of its kind.",
        "Correct the named place; docs/own-data.md lists the columns of each kind.",
    ),
    Entry(
        "row_wrong",
        CORRUPT,
        "A row of a file cannot be taken as it is; nothing of the import is written.",
        "Correct the cell, or give the option that is named; --check lists every problem.",
    ),
    Entry(
        "import_refused",
        CORRUPT,
        "Rows of a file have problems, so nothing of the import was written.",
        "Correct the rows and run the command again; nothing has to be undone.",
    ),
    Entry(
        "import_unfinished",
        CORRUPT,
        "An import was cut off, and another one is asked for.",
        "Run the named command again, as it was; it sends only what is missing.",
    ),
    Entry(
        "moment_missing",
        USAGE,
        "A file of positions or collateral needs a moment, at or past the store's clock.",
        "Give --at, such as --at 2024-03-01T14:30:00Z.",
    ),
    Entry(
        "nothing_to_undo",
        USAGE,
        "There is no import of that kind that could be undone.",
        "Name the files, and the options, of the import; `margin-stream events` shows what it sent.",
    ),
    Entry(
        "import_failed",
        FAILED,
        "A market data file cannot be imported.",
        "Check the file and the format's name; the documentation and `margin-stream import --help` list "
        "what each format needs.",
    ),
    Entry(
        "row_left_out",
        CORRUPT,
        "A row of a market data file was left out. The import goes on, and exits 4 only with --strict.",
        "Correct the row, or remove it.",
    ),
    Entry(
        "brackets_unsound",
        CORRUPT,
        "A table of leverage brackets overlaps, leaves a gap, falls or jumps. Its perpetual is not listed. The import "
        "goes on, and exits 4 only with --strict.",
        "Correct the table at its source; it is not repaired here.",
    ),
    Entry(
        "inputs_refused",
        CORRUPT,
        "More inputs were refused than are shown one by one. The run goes on, and exits 4 only with --strict.",
        "`margin-stream quarantine list --store {store}` shows them all, each with its reason.",
    ),
    Entry(
        "clock_stands",
        DONE,
        "Quotes are more than a minute later than the store's clock: nothing falls due, and no mark becomes stale.",
        "Send clock_ticked, or run `ingest` with --clock event-time or --clock wall.",
    ),
    Entry(
        "clock_not_moved",
        DONE,
        "A time cannot move the store's clock: it is more than eight days ahead, or this machine's is behind.",
        "Correct the time of the input or of this machine; where a person confirms the jump, send a clock_ticked with "
        "confirmed_by.",
    ),
    Entry(
        "duplicates_of_refused",
        CORRUPT,
        "Inputs came again that were refused when they came first: they stay refused. The run goes on, and exits 4 only "
        "with --strict.",
        "Send a correction as a new input: its own source_seq, and the refused one's identity in `corrects`; "
        "`margin-stream quarantine list --store {store}` shows them.",
    ),
    Entry(
        "records_outside_journal",
        FAILED,
        "Records lie in other partitions of the journal's topic: they are not in the journal. The command goes on, and exits "
        "0.",
        "`margin-stream kafka move-strays --store {store}` moves them into the journal.",
    ),
    Entry(
        "derived_key_unusable",
        FAILED,
        "The file of the key that seals derived topics cannot be read, or holds too little.",
        "Put 32 bytes or more into it, the same for all: `openssl rand -hex 32 > FILE`; set kafka.derived_key_file.",
    ),
    Entry(
        "items_not_printable",
        FAILED,
        "Refused msgpack items cannot be printed as lines.",
        "`margin-stream import segments FOLDER --into STORE` copies them too.",
    ),
    # ---- the rest -----------------------------------------------------------------------------------------------
    Entry(
        "worker_killed",
        FAILED,
        "A worker did not stop in time, and was killed. Nothing is lost.",
        "Start it again; if it happens every time, report it with the worker's log.",
    ),
    Entry(
        "internal_error",
        FAILED,
        "An unexpected error: a bug of margin-stream.",
        "Report it with the lines above; acknowledged inputs are safe.",
    ),
)

BY_CODE = {entry.code: entry for entry in ENTRIES}
