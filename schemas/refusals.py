"""Why an input is refused: a fixed list in order of precedence. Names are never reused."""

from __future__ import annotations

from enum import StrEnum


class Refusal(StrEnum):
    """The reason of a refusal. Where several hold, the first in this order is given."""

    TOO_LONG = "too_long"
    NOT_UTF8 = "not_utf8"
    TOO_DEEP = "too_deep"
    NOT_JSON = "not_json"
    NOT_MSGPACK = "not_msgpack"
    NOT_AN_OBJECT = "not_an_object"
    DUPLICATE_KEY = "duplicate_key"
    TYPE_MISSING = "type_missing"
    UNKNOWN_TYPE = "unknown_type"
    FLOAT_NOT_ALLOWED = "float_not_allowed"
    UNKNOWN_FIELD = "unknown_field"
    MISSING_FIELD = "missing_field"
    BAD_VALUE = "bad_value"
    SOURCE_KIND_MIXED = "source_kind_mixed"
    IDENTITY_REUSED = "identity_reused"
    FEED_NUMBERS_RESTARTED = "feed_numbers_restarted"
    FEED_UNKNOWN = "feed_unknown"
    PROFILE_DOES_NOT_FIT = "profile_does_not_fit"
    CLOCK_REQUIRED = "clock_required"
    CLOCK_BACKWARDS = "clock_backwards"
    CLOCK_JUMP_UNCONFIRMED = "clock_jump_unconfirmed"
    INSTRUMENT_UNKNOWN = "instrument_unknown"
    INSTRUMENT_LISTED_ALREADY = "instrument_listed_already"
    ASSET_UNKNOWN = "asset_unknown"
    LISTING_INVALID = "listing_invalid"
    NOT_TRADABLE = "not_tradable"
    ACCOUNT_UNKNOWN = "account_unknown"
    ACCOUNT_OPENED_ALREADY = "account_opened_already"
    ACCOUNT_INVALID = "account_invalid"
    CONTACT_INVALID = "contact_invalid"
    PROFILE_UNKNOWN = "profile_unknown"
    PROFILE_INVALID = "profile_invalid"
    PROFILE_VERSION_NOT_NEWER = "profile_version_not_newer"
    ENGINE_UNKNOWN = "engine_unknown"
    INSTRUMENT_NOT_MARGINED = "instrument_not_margined"
    ISOLATED_INVALID = "isolated_invalid"
    WRONG_SCALE = "wrong_scale"
    OUT_OF_RANGE = "out_of_range"
    MARK_REQUIRED = "mark_required"
    ANSWER_INVALID = "answer_invalid"


ADVICE: dict[Refusal, str] = {
    Refusal.TOO_LONG: "Keep one line (or one msgpack item) under 1 MiB; split batches.",
    Refusal.NOT_UTF8: "Send the line encoded as UTF-8.",
    Refusal.TOO_DEEP: "Keep arrays and objects nested at most 32 deep.",
    Refusal.NOT_JSON: "Send one JSON object a line, without NaN or Infinity.",
    Refusal.NOT_MSGPACK: "Send one msgpack map an item.",
    Refusal.NOT_AN_OBJECT: "Send a JSON object, not a bare value or an array.",
    Refusal.DUPLICATE_KEY: "Give every key once.",
    Refusal.TYPE_MISSING: 'Name the event in "type".',
    Refusal.UNKNOWN_TYPE: 'Use a "type" of the event catalogue (docs/events.md).',
    Refusal.FLOAT_NOT_ALLOWED: 'Quote decimals: "price":"38000.10", not "price":38000.10.',
    Refusal.UNKNOWN_FIELD: "Remove the field, or check its spelling in docs/events.md.",
    Refusal.MISSING_FIELD: "Add the field; docs/events.md lists what each event needs.",
    Refusal.BAD_VALUE: "Correct the value of the named field to the form in docs/events.md.",
    Refusal.SOURCE_KIND_MIXED: "Send quotes and clocks from one source, and everything else from another.",
    Refusal.IDENTITY_REUSED: "Give a new fact a source_seq of its own; a correction names what it corrects in "
    '"corrects".',
    Refusal.FEED_NUMBERS_RESTARTED: "Send feed_restarted (feed, actor), or have the feed send under another source, "
    "such as source@session; what was refused is kept: `margin-stream quarantine resubmit --source S` sends it again.",
    Refusal.PROFILE_DOES_NOT_FIT: "Close the position first, or name a profile in force that margins it.",
    Refusal.FEED_UNKNOWN: "Name a source that sent quotes or clocks.",
    Refusal.CLOCK_REQUIRED: "Send a clock_ticked before the first event that is not of the directory.",
    Refusal.CLOCK_BACKWARDS: "The clock never goes back; send a time at or after the last one.",
    Refusal.CLOCK_JUMP_UNCONFIRMED: "A jump of more than 8 days needs a clock_ticked with confirmed_by set by an "
    "operator.",
    Refusal.INSTRUMENT_UNKNOWN: "Send instrument_listed for it first.",
    Refusal.INSTRUMENT_LISTED_ALREADY: "Scales never change; list a new instrument under another name.",
    Refusal.ASSET_UNKNOWN: "List the asset first: instrument_listed with kind currency (or equity).",
    Refusal.LISTING_INVALID: "Correct the listing; the detail names the field.",
    Refusal.NOT_TRADABLE: "A currency is moved by collateral_moved, not traded by position_changed or quoted; only a "
    "perpetual pays funding.",
    Refusal.ACCOUNT_UNKNOWN: "Send account_opened for it first.",
    Refusal.ACCOUNT_OPENED_ALREADY: "Use account_changed to change an account.",
    Refusal.ACCOUNT_INVALID: "Account ids are 1-64 of A-Z a-z 0-9 _ -; the margin group is the account.",
    Refusal.CONTACT_INVALID: "A contact is a reference of 1-64 of A-Z a-z 0-9 _ . -, at most 16 an account; keep names and "
    "addresses in a directory outside the store, where they can be erased.",
    Refusal.PROFILE_UNKNOWN: "Send profile_activated for it first.",
    Refusal.PROFILE_INVALID: "Correct the named parameter; `margin-stream profiles show NAME` lists them.",
    Refusal.PROFILE_VERSION_NOT_NEWER: "Give each activation of a profile a higher version.",
    Refusal.ENGINE_UNKNOWN: "Name the rules version in force or a later one that this build knows; versions never go "
    "back.",
    Refusal.INSTRUMENT_NOT_MARGINED: "The account's profile does not margin the instrument: activate a version that "
    "does, or change the profile.",
    Refusal.ISOLATED_INVALID: "Isolated subaccounts, position sides and leverage are for perpetuals, under a profile "
    "with subaccounts; a transfer joins two subaccounts.",
    Refusal.WRONG_SCALE: "Use no more decimal places than the instrument or asset was listed with.",
    Refusal.OUT_OF_RANGE: "Keep the value within the range in docs/events.md.",
    Refusal.MARK_REQUIRED: "Give the price, or send it after the instrument's first accepted mark.",
    Refusal.ANSWER_INVALID: "Answer as an outbox does: source @NAME, and source_seq the number of the answer to the "
    "effect, from 1.",
}
"""What the sender should do about each refusal."""


DETAIL_LIMIT = 500
"""Characters of a detail, and of a field's name: they quote what was sent, which may be a name of a megabyte."""


class RefusedInput(Exception):
    """An input cannot be decoded; has the reason and the place."""

    def __init__(self, refusal: Refusal, detail: str, field: str = "") -> None:
        if len(detail) > DETAIL_LIMIT:
            # Both ends: the quoted input is in front, what is wrong with it behind.
            detail = f"{detail[: DETAIL_LIMIT // 2]} ... {detail[-DETAIL_LIMIT // 2 :]}"
        super().__init__(detail)
        self.refusal = refusal
        self.detail = detail
        self.field = field[:DETAIL_LIMIT]
