"""Settings: which of the places wins, what is refused, and that no secret is shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from margin_stream.cli import reference_docs
from margin_stream.cli.arguments import options_of
from margin_stream.cli.main import app
from margin_stream.kafka.client import SecurityError, security
from margin_stream.settings import (
    SETTINGS,
    InvalidSetting,
    SettingsFileDamaged,
    SettingsFileMissing,
    UnknownSetting,
    child_environment,
    load,
    unknown_variables,
    use,
)
from margin_stream.settings.shape import EVERYWHERE

SECRET = "hunter2-not-to-be-seen"


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "margin_stream.cli", *words]
    root = str(reference_docs.ROOT)
    env = {"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "PYTHONPATH": root, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=env, timeout=60)


def shown(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[object, str]]:
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["setting"]: (row["value"], row["origin"]) for row in rows}


def test_the_flag_wins_over_the_environment_over_the_file_over_the_users_file_over_the_default(tmp_path: Path) -> None:
    user = written(tmp_path / "home" / ".config" / "margin-stream" / "config.toml", 'store = "user"\n')
    environment = {"HOME": str(tmp_path / "home")}
    assert load(environment={}, folder=tmp_path).settings.store == "./margin-store"
    found = load(environment=environment, folder=tmp_path)
    assert (found.settings.store, str(found.origins["store"])) == ("user", f"file {user}:1")
    project = written(tmp_path / "margin-stream.toml", '# ours\n\nstore = "project"\n')
    found = load(environment=environment, folder=tmp_path)
    assert (found.settings.store, str(found.origins["store"])) == ("project", f"file {project}:3")
    environment["MARGIN_STREAM_STORE"] = "variable"
    found = load(environment=environment, folder=tmp_path)
    assert (found.settings.store, str(found.origins["store"])) == ("variable", "environment MARGIN_STREAM_STORE")
    found = load({"store": ("--store", "flag")}, environment=environment, folder=tmp_path)
    assert (found.settings.store, str(found.origins["store"])) == ("flag", "flag --store")


@pytest.mark.slow(reason="starts the command many times")
def test_the_command_shows_each_origin_and_obeys_it(tmp_path: Path) -> None:
    written(tmp_path / "margin-stream.toml", 'store = "from-file"\n[worker]\nsession_s = 9\n')
    found = shown(run(tmp_path, "config", "show", "--origin", "--json", "--quiet", MARGIN_STREAM_KAFKA_REPLICAS="2"))
    assert found["store"] == ("from-file", "file margin-stream.toml:1")
    assert found["worker.session_s"] == (9.0, "file margin-stream.toml:3")
    assert found["kafka.replicas"] == (2, "environment MARGIN_STREAM_KAFKA_REPLICAS")
    assert found["quiet"] == (True, "flag --quiet")
    assert found["color"] == ("auto", "default")
    assert list(found) == list(SETTINGS)
    for words, environment, place in (
        (["digest"], {}, "from-file"),
        (["digest"], {"MARGIN_STREAM_STORE": "from-variable"}, "from-variable"),
        (["digest", "--store", "from-flag"], {"MARGIN_STREAM_STORE": "from-variable"}, "from-flag"),
    ):
        assert run(tmp_path, *words, **environment).stderr.startswith(
            f"margin-stream: {tmp_path / place}: no store here"
        )


@pytest.mark.slow(reason="starts the command many times")
def test_a_named_file_stands_in_for_the_projects_and_must_be_there(tmp_path: Path) -> None:
    written(tmp_path / "margin-stream.toml", 'store = "project"\n')
    other = written(tmp_path / "other.toml", 'store = "other"\n')
    for words, environment in ((["--config", "other.toml"], {}), ([], {"MARGIN_STREAM_CONFIG": str(other)})):
        assert (
            shown(run(tmp_path, "config", "show", "--origin", "--json", *words, **environment))["store"][0] == "other"
        )
    with pytest.raises(SettingsFileMissing):
        load(config=tmp_path / "none.toml", environment={})
    assert run(tmp_path, "digest", "--config", "none.toml").returncode == 2


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ('stoer = "x"', UnknownSetting, ":1: there is no setting 'stoer'; did you mean 'store'?"),
        (
            "[kafka]\n\nreplica = 1",
            UnknownSetting,
            ":3: there is no setting 'kafka.replica'; did you mean 'kafka.replicas'?",
        ),
        ("[kafak]\nreplicas = 1", UnknownSetting, "did you mean 'kafka.replicas'?"),
        ("[worker]\nsession_s = 0.5", InvalidSetting, ":2: worker.session_s: 0.5: expected `float` >= 1.0"),
        ('quiet = "yes"', InvalidSetting, ":1: quiet: 'yes': expected `bool`"),
        ("store = 5", InvalidSetting, ":1: store: 5: expected `str`"),
        ('color = "nevr"', InvalidSetting, "one of auto, never; did you mean 'never'?"),
        ('worker = "x"', UnknownSetting, "there is no setting 'worker'"),
        ("store =", SettingsFileDamaged, "not TOML"),
        (f'kafka.sasl_password = "{SECRET}"', InvalidSetting, "kafka.sasl_password_file"),
    ],
)
def test_what_a_file_cannot_say_is_named_by_file_line_and_key(
    tmp_path: Path, text: str, kind: type[Exception], says: str
) -> None:
    path = written(tmp_path / "margin-stream.toml", text)
    with pytest.raises(kind) as caught:
        load(environment={}, folder=tmp_path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_variable_that_does_not_fit_is_named() -> None:
    with pytest.raises(
        InvalidSetting, match=r"MARGIN_STREAM_WORKER_SESSION_S: worker.session_s: '500': expected `float` <= 300"
    ):
        load(environment={"MARGIN_STREAM_WORKER_SESSION_S": "500"})
    assert unknown_variables({"MARGIN_STREAM_STOER": "x", "PATH": "y", "MARGIN_STREAM_PARENT": "1"}) == [
        "MARGIN_STREAM_STOER means nothing; did you mean 'MARGIN_STREAM_STORE'?"
    ]


def test_an_empty_variable_sets_nothing() -> None:
    assert load(environment={"MARGIN_STREAM_STORE": "", "NO_COLOR": ""}).settings.store == "./margin-store"


def test_no_color_means_never(tmp_path: Path) -> None:
    written(tmp_path / "margin-stream.toml", 'color = "auto"\n')
    found = load(environment={"NO_COLOR": "1"}, folder=tmp_path)
    assert (found.settings.color, str(found.origins["color"])) == ("never", "environment NO_COLOR")


@pytest.mark.slow(reason="starts the command many times")
def test_a_secret_is_never_shown_not_even_in_an_error(tmp_path: Path) -> None:
    variables = {"MARGIN_STREAM_KAFKA_SASL_PASSWORD": SECRET}
    for words in (["--origin"], ["--json"], ["--origin", "--json"], []):
        done = run(tmp_path, "config", "show", *words, **variables)
        assert "(set, hidden)" in done.stdout
        assert SECRET not in done.stdout + done.stderr
    address = f"kafka://me:{SECRET}/{SECRET}@h:1/x"
    for words in (
        ["config", "show", "--store", address],
        ["digest", "--store", address],
        ["digest", "--store", address[5:]],
        ["verify", "--store", address],
    ):
        done = run(tmp_path, *words)
        assert SECRET not in done.stdout + done.stderr


def test_a_secret_and_its_file_are_one_setting(tmp_path: Path) -> None:
    file = written(tmp_path / "secret", SECRET + "\n")
    both = {"MARGIN_STREAM_KAFKA_SASL_PASSWORD": SECRET, "MARGIN_STREAM_KAFKA_SASL_PASSWORD_FILE": str(file)}
    with pytest.raises(InvalidSetting, match="are both set"):
        load(environment=both)
    written(tmp_path / "margin-stream.toml", '[kafka]\nsasl_password_file = "/weaker"\n')
    found = load(environment={"MARGIN_STREAM_KAFKA_SASL_PASSWORD": SECRET}, folder=tmp_path)
    assert found.settings.kafka.sasl_password_file is None
    login = {"MARGIN_STREAM_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "MARGIN_STREAM_KAFKA_SASL_USERNAME": "me"}
    for name in both:
        assert security({**login, name: both[name]})["sasl_plain_password"] == SECRET
    with pytest.raises(SecurityError, match="sasl_password_file"):
        security(login)


def test_a_process_of_our_own_reads_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "s.toml", "[kafka]\nreplicas = 3\n")
    monkeypatch.chdir(tmp_path)
    use(load(config=Path("s.toml"), environment={}))
    try:
        given = child_environment(MARGIN_STREAM_PARENT="7")
    finally:
        use(None)
    assert (given["MARGIN_STREAM_CONFIG"], given["MARGIN_STREAM_PARENT"]) == (str(path), "7")
    assert load(environment=given, folder=Path("/")).settings.kafka.replicas == 3


@pytest.mark.slow(reason="starts the command many times")
def test_a_needed_option_may_come_from_the_settings(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "worker",
        "--http",
        "nowhere",
        "--store",
        "kafka://127.0.0.1:1/x",
        MARGIN_STREAM_WORKER_DATA=str(tmp_path / "w"),
    )
    assert (done.returncode, done.stderr.partition(":")[2][:15]) == (2, " --http nowhere")
    without = run(tmp_path, "worker", "--http", "nowhere", "--store", "kafka://127.0.0.1:1/x")
    assert "[missing_argument]" in without.stderr


def test_a_home_that_may_not_be_looked_into_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def forbidden(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", forbidden)
    assert load(environment={"HOME": "/root"}, folder=tmp_path).files == ()


def test_every_option_of_a_setting_exists_and_has_its_default() -> None:
    for setting in SETTINGS.values():
        if not setting.flag:
            continue
        commands = ["digest"] if setting.commands == EVERYWHERE else setting.commands
        for command in commands:
            _, found, _ = app.parse_commands(command.split())
            argument = found[-1].assemble_argument_collection()[setting.flag]
            assert setting.flag in options_of(command)
            default = argument.field_info.default
            if command == "kafka repartition" or default is argument.field_info.empty:
                continue
            assert default == setting.default, (setting.key, command)


def test_the_example_of_the_page_is_a_file_of_settings(tmp_path: Path) -> None:
    path = written(tmp_path / "example.toml", reference_docs.EXAMPLE)
    assert load(config=path, environment={}).settings.kafka.sasl_password_file == "/run/secrets/kafka-password"


def test_the_pages_are_fresh() -> None:
    for path, content in reference_docs.outputs().items():
        assert path.read_text() == content, f"{path.name} is out of date: run `make schemas`"
