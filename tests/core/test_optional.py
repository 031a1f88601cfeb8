from __future__ import annotations

from pathlib import Path

import pytest

from reid_edge.core.optional import import_optional
from reid_edge.errors import MissingExtraError


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def _refusal(module: str) -> str:
    with pytest.raises(MissingExtraError) as found:
        import_optional(module, "counting", "abacus-headless", "a shop has one")
    return str(found.value)


def test_a_module_from_any_folder_is_imported(site: Path) -> None:
    (site / "abacus_of_the_device.py").write_text("FINGERS = 10\n")
    module = import_optional("abacus_of_the_device", "counting", "abacus-headless", "a shop has one")
    assert module.FINGERS == 10 and module.__file__ == str(site / "abacus_of_the_device.py")


def test_a_missing_module_names_the_package_and_the_other_way() -> None:
    assert _refusal("abacus_nowhere") == (
        "counting needs abacus_nowhere: run  pip install abacus-headless  (a shop has one)"
    )


def test_one_built_for_numpy_1_asks_for_it(site: Path) -> None:
    text = "numpy.core.multiarray failed to import"  # OpenCV 4.8 with NumPy 2
    (site / "abacus_of_old.py").write_text(f"raise ImportError({text!r})\n")
    assert _refusal("abacus_of_old") == (
        f"counting needs abacus_of_old, which does not load ({text}): run  pip install 'numpy<2'"
    )


def test_one_without_its_library_names_the_package(site: Path) -> None:
    text = "libGL.so.1: cannot open shared object file: No such file or directory"  # opencv-python in a container
    (site / "abacus_of_glass.py").write_text(f"raise ImportError({text!r})\n")
    assert f"does not load ({text}): run  pip install abacus-headless  (" in _refusal("abacus_of_glass")


def test_what_another_package_removed_is_installed_again_by_its_own(site: Path) -> None:
    """Two packages with one module: pip keeps the record of the second when it removes the files of the first."""
    (site / "abacus_half_gone").mkdir()
    assert "run  pip install abacus-headless  (" in _refusal("abacus_half_gone"), "an empty folder is no module"
    record = site / "abacus_gpu-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: abacus-gpu\nVersion: 1.0\n")
    (record / "RECORD").write_text("abacus_half_gone/__init__.py,,\n")
    assert _refusal("abacus_half_gone") == (
        "counting needs abacus_half_gone, whose files another package removed from abacus-gpu: "
        "run  pip install --force-reinstall --no-deps abacus-gpu"
    )
