"""What is installed: one import name, each type once, the command and its data; from the wheel and as an editable
install."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import margin_stream

ROOT = Path(__file__).resolve().parents[2]
LINKED = ("agents", "replay", "schemas")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel by way of the source distribution, and unpack it as an installer does."""
    place = tmp_path_factory.mktemp("packages")
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "build", "--quiet", "--out-dir", str(place / "dist"), str(ROOT)], check=True)
    (wheel,) = (place / "dist").glob("*.whl")
    subprocess.run(
        [*uv, "pip", "install", "--quiet", "--no-deps", "--target", str(place / "site"), str(wheel)], check=True
    )
    return place / "site"


def python(site: Path, code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with what the wheel brought and the libraries, without this tree."""
    # -S: the .pth file of the editable install is not read.
    paths = [str(site), sysconfig.get_path("purelib")]
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path += {paths!r}\n{code}"],
        capture_output=True,
        text=True,
        cwd=cwd,
    )


@pytest.mark.slow(reason="builds the wheel")
def test_the_wheel_has_one_import_name_and_works(installed: Path, tmp_path: Path) -> None:
    names = {path.name for path in installed.iterdir() if path.is_dir() and not path.name.endswith(".dist-info")}
    assert names - {"bin"} == {"margin_stream"}
    assert not any(path.is_symlink() for path in installed.rglob("*"))
    for name in LINKED:
        assert "ModuleNotFoundError" in python(installed, f"import {name}", tmp_path).stderr
        tree = {path.relative_to(ROOT / name) for path in (ROOT / name).rglob("*.py")}
        assert {
            path.relative_to(installed / "margin_stream" / name)
            for path in (installed / "margin_stream" / name).rglob("*.py")
        } == tree
    code = "import margin_stream as m; print(m.__file__); s = m.Store.open('s'); print(s.ingest([]).accepted)"
    done = python(installed, code, tmp_path)
    assert done.stdout.splitlines() == [str(installed / "margin_stream" / "__init__.py"), "0"], done.stderr


def test_the_editable_install_has_each_type_once() -> None:
    package = Path(margin_stream.__file__ or "").parent
    assert package == ROOT / "margin_stream"
    for name in LINKED:
        assert (package / name).readlink() == Path("..", name)
    doubled = [name for name in sys.modules if name.partition(".")[0] in LINKED]
    assert doubled == []
