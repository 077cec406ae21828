"""What people install: a wheel with both twins where there is a compiler, and one that works where there is none."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "proxy" / "rowgate"
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "proxy", "policies")
COMPILER = sysconfig.get_config_var("CC").split()[0]
NOT_SOURCE = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")


def copy_of_the_sources(directory: Path) -> Path:
    """Return a copy to build in, so that nobody else's build is disturbed."""
    copy = directory / "source"
    copy.mkdir()
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, copy / name, ignore=NOT_SOURCE)
        else:
            shutil.copy2(path, copy / name)
    return copy


def build(source: Path, kind: str, **environment: str) -> Path:
    """Build a wheel or sdist without asking any registry, and return it."""
    target = source.parent / f"{kind}s"
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(target), str(source)],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    (built,) = target.iterdir()
    return built


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def packaged(pattern: str) -> set[str]:
    return {path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob(pattern)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = copy_of_the_sources(tmp_path_factory.mktemp("compiled"))
    if (
        ROOT / "build"
    ).is_dir():  # what `make build` has compiled; times are kept, so only what has changed is compiled
        shutil.copytree(ROOT / "build", source / "build")
    return build(source, "wheel")


@pytest.fixture(scope="module")
def pure_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(copy_of_the_sources(tmp_path_factory.mktemp("pure")), "wheel", CC="/bin/false")


def test_a_wheel_holds_the_program_and_its_data(wheel: Path) -> None:
    names = names_in(wheel)
    for pattern in ("*.py", "*.pxd", "*.pyx", "*.yaml", "py.typed"):
        assert packaged(pattern) <= names
    assert not {name for name in names if name.startswith(("tests/", "benchmarks/")) or name.endswith(".c")}


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason="there is no C compiler")
def test_a_wheel_holds_every_hot_module_compiled(wheel: Path) -> None:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    hot = {name.removesuffix(".pxd") + suffix for name in packaged("*.pxd")}
    assert hot
    assert hot <= names_in(wheel)


def test_a_failing_compiler_costs_speed_and_no_more(pure_wheel: Path, tmp_path: Path) -> None:
    assert not {name for name in names_in(pure_wheel) if name.endswith(".so")}
    python = installed(pure_wheel, tmp_path / "venv")
    said = subprocess.run([python.with_name("rowgate"), "--version"], check=True, capture_output=True, text=True).stdout
    assert "pure Python" in said
    where = "import rowgate; print(rowgate.__file__)"
    found = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    assert Path(found).is_relative_to(tmp_path)


def installed(wheel: Path, directory: Path) -> Path:
    """Return the interpreter of a fresh environment with the wheel, and with the dependencies of this one."""
    venv.create(directory, with_pip=False, symlinks=True)
    python = directory / "bin" / "python"
    (site,) = directory.glob("lib/python*/site-packages")
    # A path in a .pth file lends the packages there, and not the .pth files there: the editable rowgate stays away.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    command = ["-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet", str(wheel)]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return python


def test_an_sdist_can_be_built_from(tmp_path: Path) -> None:
    sdist = build(copy_of_the_sources(tmp_path), "sdist")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {f"proxy/{name}" for pattern in ("*.py", "*.pxd", "*.pyx", "*.yaml") for name in packaged(pattern)}
    assert wanted <= names
    assert {"LICENSE", "README.md", "setup.py", "policies/default.yaml", "policies/strict.yaml"} <= names
    assert not {name for name in names if name.endswith((".so", ".c"))}
