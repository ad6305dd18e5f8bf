"""Own data in: each kind of typing mistake is named with row, column, value and right form; files are read as people
make them; a snapshot books what differs, once, and can be taken back."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars
import pytest
import xlsxwriter

from margin_stream.core.intake.admission import Counts
from margin_stream.host.embedded import Host
from margin_stream.importers.own_data import imports
from margin_stream.importers.own_data.cells import Reading, number
from margin_stream.importers.own_data.problems import WrongCell
from tests.integration.test_errors import command

AT = "2024-03-04T14:30:00Z"
ACCOUNTS = "account,desk\nC-1,north\nC-2,south\nC-3,north\n"
POSITIONS = "account,instrument,quantity,price\nC-1,AAPL,100,180.00\nC-2,MSFT,50,410.00\nC-2,BTCUSD,0.5,61000\nC-3,AAPL,-20,180\n"
BALANCES = "account,asset,amount,loan\nC-1,USD,0,9000\nC-2,USD,0,20000.50\nC-3,USD,9000,0\n"
PRICES = (
    "time,instrument,price\n2024-03-04 09:30,AAPL,180\n2024-03-04 09:30,MSFT,410\n2024-03-04 09:30,BTCUSD,61000\n"
    "2024-03-04 10:00,AAPL,150\n2024-03-04 10:30,AAPL,149.5\n"
)
ZONE = ("--zone", "America/New_York")
FILES = {"accounts": ACCOUNTS, "positions": POSITIONS, "collateral": BALANCES, "prices": PRICES}
OPTIONS: dict[str, tuple[str, ...]] = {
    "accounts": (),
    "positions": ("--at", AT),
    "collateral": ("--at", AT),
    "prices": ZONE,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a store that lists instruments and has a profile in force."""
    monkeypatch.chdir(tmp_path)
    code, _, lines = command("profiles", "template", "prime", "--assets", "AAPL,MSFT,BTC")
    assert code == 0
    assert command("ingest", "-", data=lines)[0] == 0
    return tmp_path


def imported(kind: str, content: str | bytes, *more: str, name: str = "f.csv") -> dict[str, Any]:
    """Import a file; return what it shows."""
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    code, errors, out = command("import", kind, name, *OPTIONS[kind], *more)
    assert code == 0, errors
    return json.loads(out)  # type: ignore[no-any-return]


def refused(kind: str, content: str, *more: str, check: bool = True) -> list[dict[str, Any]]:
    """Import a file that is wrong; return its problems. Nothing may be written."""
    Path("f.csv").write_text(content)
    before = digest()
    code, errors, _ = command("import", kind, "f.csv", *OPTIONS[kind], *more, *(("--check",) if check else ()))
    assert digest() == before
    assert errors
    assert code in (2, 4), errors
    for one in errors:
        assert one["message"]
        assert one["next"]
    return errors


def digest() -> str:
    return str(json.loads(command("digest")[2])["state_digest"])


def state(account: str) -> dict[str, Any]:
    return json.loads(command("state", "--account", account)[2])  # type: ignore[no-any-return]


def held(account: str) -> dict[str, Decimal]:
    return {
        row["instrument"]: Decimal(row["quantity"]) for row in state(account)["positions"] if Decimal(row["quantity"])
    }


def cash(account: str) -> Decimal:
    return next((Decimal(row["amount"]) for row in state(account)["balances"] if row["asset"] == "USD"), Decimal(0))


def opened() -> None:
    """Open the accounts and book the first day."""
    imported("accounts", ACCOUNTS)
    Path("balances.csv").write_text(BALANCES)
    imported("positions", POSITIONS, "--collateral", "balances.csv")


# ---- ten typing mistakes in each importer ----------------------------------------------------------------------------

Mistake = tuple[str, str, tuple[str, ...], int | None, str, str, str]
"""Kind of file, its content, options, row, column, value, a part of the right form."""
MISTAKES: dict[str, list[Mistake]] = {
    "date order": [
        (
            "prices",
            "time,instrument,price\n03/04/2024 10:00,AAPL,1\n",
            ZONE,
            2,
            "time",
            "03/04/2024 10:00",
            "--date-format",
        ),
        (
            "prices",
            "time,instrument,price\n2024-13-03 10:00,AAPL,1\n",
            ZONE,
            2,
            "time",
            "2024-13-03 10:00",
            "2024-03-01T14:30:00Z",
        ),
        ("prices", "time,instrument,price\n23.04.2024 10:00,AAPL,1\n", ZONE, 2, "time", "23.04.2024 10:00", "%d.%m.%Y"),
    ],
    "decimal comma": [
        ("prices", "time;instrument;price\n2024-03-04 10:00;AAPL;180,5\n", ZONE, 2, "price", "180,5", "180.5"),
        ("positions", "account;instrument;quantity\nC-1;AAPL;1.000,5\n", (), 2, "quantity", "1.000,5", "1000.5"),
        ("collateral", "account;asset;amount\nC-1;USD;1,234\n", (), 2, "amount", "1,234", "1234"),
        ("collateral", "account,asset,amount\nC-1,USD,1,5\n", (), 2, "", "", "quotes"),
    ],
    "wrong header": [
        ("accounts", "client,desk\nC-9,x\n", (), None, "account", "", "--map 'client=account'"),
        ("positions", "account,symbol,qty\nC-1,AAPL,1\n", (), None, "instrument", "", "--map 'symbol=instrument'"),
        ("collateral", "account,ccy,balance\nC-1,USD,1\n", (), None, "asset", "", "--map 'ccy=asset'"),
        ("prices", "date,ticker,close\n2024-03-04,AAPL,1\n", ZONE, None, "time", "", "--map 'date=time'"),
    ],
    "missing column": [
        ("accounts", "desk\nx\n", (), None, "account", "", "lacks account"),
        ("positions", "account,instrument\nC-1,AAPL\n", (), None, "quantity", "", "lacks quantity"),
        ("collateral", "account,asset\nC-1,USD\n", (), None, "amount", "", "lacks amount"),
        ("prices", "time,instrument\n2024-03-04 10:00,AAPL\n", ZONE, None, "price", "", "lacks price"),
        ("positions", "account,instrument,quantity\nC-1,AAPL\n", (), 2, "quantity", "", "fill it in"),
    ],
    "unknown": [
        ("accounts", "account,profile\nC-9,pryme\n", (), 2, "profile", "pryme", "did you mean prime"),
        ("positions", "account,instrument,quantity\nC-1,AAPPL,1\n", (), 2, "instrument", "AAPPL", "did you mean AAPL"),
        ("positions", "account,instrument,quantity\nC-l,AAPL,1\n", (), 2, "account", "C-l", "did you mean C-"),
        ("collateral", "account,asset,amount\nC-1,USDX,1\n", (), 2, "asset", "USDX", "did you mean USD"),
        (
            "prices",
            "time,instrument,price\n2024-03-04 10:00,AAPLE,1\n",
            ZONE,
            2,
            "instrument",
            "AAPLE",
            "did you mean AAPL",
        ),
    ],
    "doubled row": [
        ("accounts", "account\nC-1\nC-9\nC-1\n", (), 4, "account", "C-1", "remove one"),
        (
            "positions",
            "account,instrument,quantity,price\nC-1,AAPL,1,1\nC-1,AAPL,2,1\n",
            (),
            3,
            "instrument",
            "AAPL",
            "remove one",
        ),
        ("collateral", "account,asset,amount\nC-1,USD,1\nC-1,USD,1\n", (), 3, "asset", "USD", "remove one"),
        (
            "prices",
            "time,instrument,price\n2024-03-04 10:00,AAPL,1\n2024-03-04 10:00,AAPL,1\n",
            ZONE,
            3,
            "instrument",
            "AAPL",
            "remove one",
        ),
    ],
    "negative": [
        ("positions", "account,instrument,quantity,price\nC-1,AAPL,1,-5\n", (), 2, "price", "-5", "without the minus"),
        (
            "positions",
            "account,instrument,quantity,side\nC-1,AAPL,-1,short\n",
            (),
            2,
            "quantity",
            "-1",
            "without the minus",
        ),
        ("collateral", "account,asset,amount\nC-1,USD,-5\n", (), 2, "amount", "-5", "loan"),
        ("prices", "time,instrument,price\n2024-03-04 10:00,AAPL,-1\n", ZONE, 2, "price", "-1", "without the minus"),
        ("prices", "time,instrument,price\n2024-03-04 10:00,AAPL,0\n", ZONE, 2, "price", "0", "remove the row"),
    ],
    "wrong zone": [
        ("prices", "time,instrument,price\n2024-03-04 08:00,AAPL,1\n", ZONE, 2, "time", "2024-03-04 08:00", "--zone"),
        ("prices", "time,instrument,price\n2024-03-10 02:30,AAPL,1\n", ZONE, 2, "time", "2024-03-10 02:30", "offset"),
    ],
    "wrong file": [
        ("accounts", POSITIONS.replace("account", "konto"), (), None, "account", "", "lacks account"),
        ("positions", BALANCES, (), None, "instrument", "", "import collateral"),
        ("collateral", POSITIONS, (), None, "asset", "", "import positions"),
        ("prices", ACCOUNTS, ZONE, None, "time", "", "import accounts"),
        ("accounts", "<html><body>", (), None, "", "", "no CSV"),
        ("prices", "\x00\x01\x02", ZONE, None, "", "", "bytes that no text has"),
    ],
    "seconds for milliseconds": [
        (
            "prices",
            "time,instrument,price\n1709719200000,AAPL,1\n1709719260,AAPL,1\n",
            (),
            3,
            "time",
            "1709719260",
            "milliseconds",
        ),
        ("prices", "time,instrument,price\n170971,AAPL,1\n", (), 2, "time", "170971", "since 1970"),
        ("prices", "time,instrument,price\n17097192000,AAPL,1\n", (), 2, "time", "17097192000", "the unit"),
    ],
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_typing_mistake_is_named_with_row_column_value_and_right_form(folder: Path, mistake: str) -> None:
    opened()
    for kind, content, more, row, column, value, form in MISTAKES[mistake]:
        for check in (True, False):
            found = refused(kind, content, *(more if kind != "prices" else ()), check=check)[0]
            where = found["where"]
            assert form in found["message"], found
            if row is None:
                assert "f.csv" in found["message"], found
                assert where.get("column", "") in ("", column), found
            else:
                assert (where["row"], where.get("column", ""), where.get("value", "")) == (row, column, value), found
                assert f"f.csv:{row}:" in found["message"], found


def test_every_problem_is_listed_by_check_and_ten_without(folder: Path) -> None:
    opened()
    content = "account,instrument,quantity\n" + "".join(f"C-1,X{number},1\n" for number in range(30))
    assert len(refused("positions", content)) == 30
    shown = refused("positions", content, check=False)
    assert [one["code"] for one in shown] == ["row_wrong"] * 10 + ["import_refused"]


def test_without_a_zone_a_local_time_is_refused_and_the_zone_asked_for(folder: Path) -> None:
    Path("f.csv").write_text("time,instrument,price\n2024-03-04 10:00,AAPL,1\n")
    code, errors, _ = command("import", "prices", "f.csv")
    assert code == 4
    assert "--zone" in errors[0]["message"]
    code, errors, _ = command("import", "prices", "f.csv", "--zone", "America/NewYork")
    assert code == 2
    assert "America/New_York" in errors[0]["message"]


# ---- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "comma", "expected"),
    [
        ("1234.50", False, "1234.50"),
        ("1,234,567.5", False, "1234567.5"),
        ("1,234.5", False, "1234.5"),
        ("1'234.5", False, "1234.5"),
        ("1 234.5", False, "1234.5"),
        ("007", False, "7"),
        ("-.5", False, "-0.5"),
        ("+3", False, "3"),
        ("1e-07", False, "0.0000001"),
        ("-1.5E3", False, "-1500"),
        ("1234,50", True, "1234.50"),
        ("1.234.567,5", True, "1234567.5"),
        ("1.234,5", True, "1234.5"),
        ("1.234", True, "1234"),
        ("-0,5", True, "-0.5"),
    ],
)
def test_a_number_is_read_as_it_is_written(text: str, comma: bool, expected: str) -> None:
    assert number(text, Reading(decimal_comma=comma)) == expected


@pytest.mark.parametrize(
    ("text", "comma", "form"),
    [
        ("1,234", False, "1234"),
        ("180,5", False, "180.5"),
        ("180.5", True, "180,5"),
        ("12,34,567", False, "1234.567"),
        ("(500)", False, "-500"),
        ("500-", False, "-500"),
        ("\u2212500", False, "-500"),
        ("$1,000.00", False, "1,000.00"),
        ("12 USD", False, "12"),
        ("ten", False, "1234.50"),
        ("1.2.3", False, "1234.50"),
        ("5.", False, "1234.50"),
        ("1e99", False, "without an exponent"),
        ("nan", False, "1234.50"),
        ("9" * 45, False, "fewer digits"),
    ],
)
def test_a_number_with_two_readings_or_none_is_named_with_its_right_form(text: str, comma: bool, form: str) -> None:
    with pytest.raises(WrongCell) as caught:
        number(text, Reading(decimal_comma=comma))
    assert form in caught.value.expected


# ---- files as people make them ---------------------------------------------------------------------------------------


def workbook(rows: list[list[Any]], *, before: int = 0) -> bytes:
    data = io.BytesIO()
    book = xlsxwriter.Workbook(data, {"in_memory": True})
    sheet = book.add_worksheet("Depot")
    moments = book.add_format({"num_format": "yyyy-mm-dd hh:mm"})
    for place, row in enumerate(rows, before):
        for column, value in enumerate(row):
            if isinstance(value, datetime.datetime):
                sheet.write_datetime(place, column, value, moments)
            else:
                sheet.write(place, column, value)
    book.add_worksheet("Notes").write(0, 0, "nothing")
    book.close()
    return data.getvalue()


def archive(name: str, content: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as packed:
        packed.writestr(name, content)
        packed.writestr(f"__MACOSX/._{name}", b"\x00\x05")
        packed.writestr(".DS_Store", b"\x00")
    return data.getvalue()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    data = io.BytesIO()
    polars.DataFrame(rows).write_parquet(data)
    return data.getvalue()


CELLS: list[list[Any]] = [[*line.split(",")] for line in POSITIONS.splitlines()]
TYPED = [[row[0], row[1], *map(float, row[2:])] for row in CELLS[1:]]
SHAPES: dict[str, Callable[[], bytes]] = {
    "f.csv": lambda: POSITIONS.encode(),
    "bom.csv": lambda: b"\xef\xbb\xbf" + POSITIONS.replace("\n", "\r\n").encode(),
    "f.tsv": lambda: POSITIONS.replace(",", "\t").encode(),
    "semicolons.csv": lambda: POSITIONS.replace(",", ";").encode(),
    "sep.csv": lambda: b"sep=;\r\n" + POSITIONS.replace(",", ";").encode(),
    "utf16.txt": lambda: POSITIONS.replace(",", "\t").encode("utf-16"),
    "blank.csv": lambda: ("\n\n" + POSITIONS.replace("\nC-2,B", "\n,,,\nC-2,B") + "\n\n").encode(),
    "quoted.csv": lambda: "\n".join(",".join(f'"{cell}"' for cell in row) for row in CELLS).encode(),
    "f.csv.gz": lambda: gzip.compress(POSITIONS.encode()),
    "f.zip": lambda: archive("positions.csv", POSITIONS.encode()),
    "f.xlsx": lambda: workbook([CELLS[0], *TYPED]),
    "text.xlsx": lambda: workbook(CELLS),
    "f.parquet": lambda: parquet([dict(zip(CELLS[0], row, strict=True)) for row in TYPED]),
    "decimal.parquet": lambda: parquet(
        [
            dict(zip(CELLS[0], [*row[:2], Decimal(row[2]).quantize(Decimal("0.1")), Decimal(row[3])], strict=True))
            for row in CELLS[1:]
        ]
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_file_is_read_as_people_make_it(folder: Path, name: str) -> None:
    imported("accounts", ACCOUNTS)
    assert imported("positions", SHAPES[name](), name=name)["differences"] == 4
    assert held("C-2") == {"MSFT": Decimal(50), "BTCUSD": Decimal("0.5")}
    assert held("C-3") == {"AAPL": Decimal(-20)}


@pytest.mark.parametrize("before", [0, 3])
def test_rows_of_a_workbook_are_numbered_as_the_spreadsheet_shows_them(folder: Path, before: int) -> None:
    imported("accounts", ACCOUNTS)
    Path("f.xlsx").write_bytes(workbook([CELLS[0], CELLS[1], ["", "", "", ""], ["C-9", "AAPL", 1, 1]], before=before))
    code, errors, _ = command("import", "positions", "f.xlsx", "--at", AT, "--check")
    assert code == 4
    assert [one["where"]["row"] for one in errors] == [4 + before]


def test_moments_and_doubles_of_a_workbook(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows: list[list[Any]] = [["time", "instrument", "price"]]
    rows.append([datetime.datetime(2024, 3, 4, 9, 30), "AAPL", 180.25])
    rows.append([datetime.datetime(2024, 3, 4, 10, 0), "AAPL", "123456789.123456789"])
    Path("f.xlsx").write_bytes(workbook(rows))
    code, errors, _ = command("import", "prices", "f.xlsx", *ZONE, "--check")
    assert code == 4
    assert errors[0]["where"]["column"] == "price"
    rows[2][2] = "1234567890123456.5"
    Path("f.xlsx").write_bytes(workbook(rows))
    done = imports.read(imports.OwnFiles("prices", (Path("f.xlsx"),), reading=Reading()))
    assert any("15 digits" in note for note in done.rows.notes)


def test_a_sheet_can_be_named(folder: Path) -> None:
    Path("f.xlsx").write_bytes(workbook(CELLS))
    code, errors, _ = command("import", "positions", "f.xlsx", "--sheet", "Depott", "--at", AT, "--check")
    assert code == 4
    assert "Depot, Notes" in errors[0]["message"]


def test_columns_are_mapped_and_what_is_not_read_is_named(folder: Path) -> None:
    imported("accounts", "Client No;Book;Phone\nC-7;east;1\n", "--map", "Client No=account", "--map", "Book=desk")
    assert state("C-7")["desk"] == "east"
    code, errors, _ = command("import", "accounts", "f.csv", "--map", "Book=dask")
    assert (code, errors[0]["code"]) == (2, "option_invalid")
    assert "did you mean 'desk'" in errors[0]["message"]


# ---- snapshots -------------------------------------------------------------------------------------------------------


def test_the_store_holds_what_the_files_state(folder: Path) -> None:
    opened()
    assert held("C-1") == {"AAPL": Decimal(100)}
    assert held("C-3") == {"AAPL": Decimal(-20)}
    assert (cash("C-1"), cash("C-2"), cash("C-3")) == (Decimal(-9000), Decimal("-20000.50"), Decimal(9000))
    imported("prices", PRICES)
    assert state("C-1")["level"] == "DEFICIT"


def test_the_same_files_again_book_nothing(folder: Path) -> None:
    opened()
    before = digest()
    assert imported("positions", POSITIONS, "--collateral", "balances.csv")["differences"] == 0
    assert imported("accounts", ACCOUNTS)["differences"] == 0
    assert imported("collateral", BALANCES)["differences"] == 0
    assert digest() == before


def test_a_second_day_books_the_difference_and_closes_what_is_not_named(folder: Path) -> None:
    opened()
    imported("prices", PRICES)
    later = "account,instrument,quantity\nC-1,AAPL,150\nC-2,MSFT,50\nC-3,AAPL,10.5\n"
    Path("f.csv").write_text(later)
    code, _, out = command("import", "positions", "f.csv")
    assert code == 0
    shown = json.loads(out)
    assert (shown["differences"], shown["closed"], shown["as_in_store"]) == (3, 1, 1)
    assert held("C-2") == {"MSFT": Decimal(50)}
    assert held("C-3") == {"AAPL": Decimal("10.5")}
    # Booked at the mark: the trade leaves the equity as it is.
    assert cash("C-1") == Decimal(-9000) - 50 * Decimal("149.50")


def test_a_new_client_is_never_poorer_on_the_way(folder: Path) -> None:
    """Positions bought on credit are booked with the balances: nobody is close to a call that the end does not show."""
    opened()
    imported("prices", PRICES)
    imported("accounts", ACCOUNTS + "C-8,north\nC-9,south\n")
    Path("balances.csv").write_text(BALANCES + "C-8,USD,0,8000\nC-9,USD,22000,0\n")
    Path("f.csv").write_text(POSITIONS + "C-8,MSFT,40,410\nC-9,AAPL,-100,149.5\n")
    code, errors, _ = command("import", "positions", "f.csv", "--collateral", "balances.csv")
    assert code == 0, errors
    for account, level in (("C-8", "HEALTHY"), ("C-9", "HEALTHY")):
        assert state(account)["level"] == level
        effects = command("events", "--effects", "--account", account)[2].splitlines()
        assert effects == []
    assert cash("C-8") == Decimal(-8000)
    assert cash("C-9") == Decimal(22000)


def test_finer_prices_of_a_second_day_fit_what_the_first_listed(folder: Path) -> None:
    first = "time,instrument,price,kind,currency\n2024-03-04 09:30,TSLA,180,equity,USD\n2024-03-04 09:30,SOLUSD,101.5,spot,USD\n"
    imported("prices", first)
    imported("prices", "time,instrument,price\n2024-03-05 09:30,TSLA,180.1275\n2024-03-05 09:30,SOLUSD,101.12345678\n")
    found = refused("prices", "time,instrument,price\n2024-03-06 09:30,TSLA,180.12755\n")[0]
    assert (found["where"]["column"], found["where"]["value"]) == ("price", "180.12755")
    assert "listed with 4" in found["message"]


def test_an_instrument_is_never_guessed(folder: Path) -> None:
    content = "time,instrument,price\n2024-03-04 09:30,TSLA,180\n"
    assert "kind" in refused("prices", content)[0]["message"]
    assert imported("prices", content, "--kind", "equity", "--quote", "USD")["listed"] == 1
    found = refused("prices", "time,instrument,price,kind\n2024-03-05 09:30,TSLA,180,spot\n")[0]
    assert found["where"]["column"] == "kind"


def test_a_gap_of_more_than_eight_days_is_confirmed_by_a_person(folder: Path) -> None:
    imported("prices", PRICES)
    content = "time,instrument,price\n2024-04-04 09:30,AAPL,150\n"
    assert "--confirmed-by" in refused("prices", content)[0]["message"]
    imported("prices", content, "--confirmed-by", "ops")


def test_prices_sent_again_are_duplicates(folder: Path) -> None:
    first = imported("prices", PRICES)
    again = imported("prices", PRICES)
    assert (again["accepted"], again["duplicate"]) == (0, first["accepted"])
    assert again["state_digest"] == first["state_digest"]


def test_a_snapshot_needs_a_moment_at_or_past_the_clock(folder: Path) -> None:
    imported("accounts", ACCOUNTS)
    Path("f.csv").write_text(POSITIONS)
    code, errors, _ = command("import", "positions", "f.csv")
    assert (code, errors[0]["code"]) == (2, "moment_missing")
    imported("prices", PRICES, name="p.csv")
    code, errors, _ = command("import", "positions", "f.csv", "--at", "2024-03-04T14:00:00Z")
    assert (code, errors[0]["code"]) == (2, "moment_missing")


def test_a_mistyped_store_is_not_made(folder: Path) -> None:
    Path("f.csv").write_text(ACCOUNTS)
    code, errors, _ = command("import", "accounts", "f.csv", "--store", "stroe")
    assert (code, errors[0]["code"]) == (1, "store_missing")
    assert not Path("stroe").exists()
    assert command("import", "accounts", "f.csv", "--store", "stroe", "--check")[0] == 0
    assert not Path("stroe").exists()


# ---- cut off, taken back ---------------------------------------------------------------------------------------------


class Cut(Exception):
    pass


@pytest.mark.parametrize("sent", [0, 1, 3, 7])
def test_an_import_that_was_cut_off_ends_as_if_it_had_not_been(
    folder: Path, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported("accounts", ACCOUNTS)
    Path("f.csv").write_text(POSITIONS)
    Path("b.csv").write_text(BALANCES)
    words = ("import", "positions", "f.csv", "--collateral", "b.csv", "--at", AT)

    def ingest(host: Host, events: list[Any], **_: Any) -> Counts:
        for event in events[:sent]:
            host.offer(event)
        host.commit()
        raise Cut

    with monkeypatch.context() as patched:
        patched.setattr(Host, "ingest", ingest)
        command(*words)
    code, errors, _ = command("import", "collateral", "b.csv", "--at", AT)
    assert (code, errors[0]["code"]) == (4, "import_unfinished")
    code, errors, out = command(*words)
    assert code == 0, errors
    shown = json.loads(out)
    assert shown["duplicate"] == sent
    assert shown["source"].endswith("#9"), shown
    after = shown["state_digest"]

    assert command("ingest", "-", "--store", "whole", data=_events())[0] == 0
    assert json.loads(command("digest", "--store", "whole")[2])["state_digest"] == after
    assert command("import", "collateral", "b.csv", "--at", AT)[0] == 0


def _events() -> bytes:
    """Return the whole journal as lines."""
    return command("import", "segments", "margin-store")[2]


def test_an_import_is_taken_back_by_new_events(folder: Path) -> None:
    opened()
    imported("prices", PRICES)
    facts = {account: (held(account), cash(account)) for account in ("C-1", "C-2", "C-3")}
    Path("f.csv").write_text("account,instrument,quantity\nC-1,MSFT,7\n")
    Path("b.csv").write_text("account,asset,amount\nC-1,USD,5\n")
    assert command("import", "positions", "f.csv", "--collateral", "b.csv")[0] == 0
    assert held("C-1") == {"MSFT": Decimal(7)}
    assert held("C-3") == {}
    last = json.loads(command("digest")[2])["last"]
    code, errors, out = command("import", "positions", "f.csv", "--collateral", "b.csv", "--undo")
    assert code == 0, errors
    assert json.loads(out)["differences"] == json.loads(out)["last"] - last
    assert {account: (held(account), cash(account)) for account in facts} == facts
    code, errors, _ = command("import", "positions", "f.csv", "--collateral", "b.csv", "--undo")
    assert (code, errors[0]["code"]) == (2, "nothing_to_undo")
    # One after that is another import.
    code, errors, out = command("import", "positions", "f.csv", "--collateral", "b.csv")
    assert (code, json.loads(out)["duplicate"]) == (0, 0)
    assert command("import", "positions", "--undo")[0] == 0
    assert {account: (held(account), cash(account)) for account in facts} == facts


def test_a_change_of_accounts_is_taken_back_and_prices_are_not(folder: Path) -> None:
    opened()
    imported("accounts", ACCOUNTS.replace("north", "east"))
    assert state("C-1")["desk"] == "east"
    assert command("import", "accounts", "--undo")[0] == 0
    assert state("C-1")["desk"] == "north"
    imported("prices", PRICES)
    code, errors, _ = command("import", "prices", "--undo")
    assert (code, errors[0]["code"]) == (2, "nothing_to_undo")


def test_perpetuals_are_booked_with_their_leverage_and_subaccount(folder: Path) -> None:
    code, _, lines = command(
        "profiles", "template", "binance-usdm", "--assets", "BTCUSDT-PERP", "--base", "USDT", "--store", "u"
    )
    assert code == 0
    assert command("ingest", "-", "--store", "u", data=lines)[0] == 0
    Path("a.csv").write_text("account\nP-1\n")
    Path("b.csv").write_text("account,asset,amount,isolated\nP-1,USDT,5000,\nP-1,USDT,1200,BTC\n")
    Path("p.csv").write_text(
        "account,instrument,quantity,price,leverage,isolated\nP-1,BTCUSDT-PERP,0.5,40000,20,BTC\nP-1,BTCUSDT-PERP,-0.1,40000,10,\n"
    )
    assert command("import", "accounts", "a.csv", "--profile", "binance-usdm", "--store", "u")[0] == 0
    words = ("import", "positions", "p.csv", "--collateral", "b.csv", "--store", "u")
    code, errors, _ = command(*words, "--at", AT)
    assert code == 0, errors
    shown = json.loads(command("state", "--account", "P-1", "--store", "u")[2])
    (isolated,) = shown["subaccounts"]
    assert [(row["quantity"], row["leverage"]) for row in isolated["positions"]] == [("0.50000000", 20)]
    assert Fraction(isolated["balances"][0]["amount"]) == 1200
    assert [(row["quantity"], row["leverage"]) for row in shown["positions"]] == [("-0.10000000", 10)]
    assert json.loads(command(*words)[2])["differences"] == 0


# ---- what a second reading found -------------------------------------------------------------------------------------


def test_only_its_own_end_ends_an_import_that_was_cut_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened()
    imported("prices", PRICES)
    Path("f.csv").write_text("account,instrument,quantity,price\nC-1,MSFT,7,400\n")

    def cut(host: Host, events: list[Any], **_: Any) -> Counts:
        host.offer(events[0])
        host.commit()
        raise Cut

    with monkeypatch.context() as patched:
        patched.setattr(Host, "ingest", cut)
        command("import", "positions", "f.csv")
    marker = Path("margin-store/imports/unfinished.json")
    assert marker.exists()
    Path("p.csv").write_text("time,instrument,price\n2024-03-04 11:30,AAPL,150\n")
    for words in (("prices", "p.csv", *ZONE), ("accounts", "--undo"), ("collateral", "balances.csv")):
        code, errors, _ = command("import", *words)
        assert (code, errors[0]["code"]) == (4, "import_unfinished"), words
        assert "positions of f.csv" in errors[0]["message"]
        assert marker.exists()
    code, errors, out = command("import", "positions", "f.csv")
    assert (code, json.loads(out)["duplicate"]) == (0, 1), errors
    assert not marker.exists()
    assert held("C-1") == {"MSFT": Decimal(7)}


def test_a_file_without_positions_closes_nothing(folder: Path) -> None:
    opened()
    found = refused("positions", "account,instrument,quantity\n", check=False)
    assert found[0]["code"] == "file_wrong"
    assert "quantity 0" in found[0]["message"]


def test_a_title_that_no_file_has_is_a_slip(folder: Path) -> None:
    Path("f.csv").write_text(ACCOUNTS)
    code, errors, _ = command("import", "accounts", "f.csv", "--map", "Deks=desk")
    assert (code, errors[0]["code"]) == (4, "file_wrong")
    assert "did you mean 'desk'" in errors[0]["message"]


def test_leverage_is_taken_back_too(folder: Path) -> None:
    lines = command(
        "profiles", "template", "binance-usdm", "--assets", "BTCUSDT-PERP", "--base", "USDT", "--store", "u"
    )[2]
    assert command("ingest", "-", "--store", "u", data=lines)[0] == 0
    Path("a.csv").write_text("account\nP-1\n")
    assert command("import", "accounts", "a.csv", "--profile", "binance-usdm", "--store", "u")[0] == 0
    for leverage in (20, 10):
        Path("p.csv").write_text(f"account,instrument,quantity,price,leverage\nP-1,BTCUSDT-PERP,0.5,40000,{leverage}\n")
        assert command("import", "positions", "p.csv", "--at", AT, "--store", "u")[0] == 0
    assert command("import", "positions", "--undo", "--store", "u")[0] == 0
    (position,) = json.loads(command("state", "--account", "P-1", "--store", "u")[2])["positions"]
    assert position["leverage"] == 20
