"""The built-in data set: drawn pedestrians seen by several cameras, in Market-1501's layout and file names.

Real re-identification sets may not be passed on; this one shows no real person and takes seconds to make. On a small
scale it has the difficulties of the real task: strangers dressed alike, the same person in another light, from another
side, cut off or half hidden. The seed decides every pixel.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reid_edge.core.files import scratch_folder
from reid_edge.core.progress import track
from reid_edge.errors import InputError

from .camera import Camera, draw_cameras, occlude
from .figure import Image, Pose, draw_person
from .person import Person, dressed_people

__all__ = ["synthesize"]

_VERSION = 1  # to be raised when the same seed gives other pixels
_MANIFEST = "synthetic.json"
_TRAIN, _QUERY, _GALLERY = "bounding_box_train", "query", "bounding_box_test"
_MAX_CAMERAS, _MAX_IDENTITIES = 9, 9999  # limited by the digits in file names
_STRANGERS_PER_PERSON, _JUNK_PER_PERSON = 2, 1


@dataclass(frozen=True)
class _Shot:
    """One crop to draw: its person (None: no person), camera and folder.

    ``yaw`` is the walking person's, ``misfit`` how badly the detector's box fits: 1 is normal.
    """

    folder: str
    pid: int
    camera: int
    person: Person | None
    yaw: float
    misfit: float = 1.0

    def name(self, frame: int) -> str:
        pid = "-1" if self.pid < 0 else f"{self.pid:04d}"
        return f"{pid}_c{self.camera + 1}s1_{frame:06d}_00.jpg"


def synthesize(
    out: Path | str,
    *,
    identities: int = 160,
    test_identities: int = 80,
    cameras: int = 6,
    images_per_camera: int = 4,
    seed: int = 0,
    size_hw: tuple[int, int] = (128, 64),
    progress: bool = True,
) -> Path:
    """Draw the set into the folder ``out`` and return its path; a folder that holds the same set is left unchanged.

    ``identities`` are to train on and ``test_identities`` others to test on. Each passes between two and all of the
    ``cameras``, and each of these takes ``images_per_camera`` crops: JPEG, RGB, ``size_hw`` pixels. Of a test person's
    crops, the first of each camera is a query and the others are gallery. The gallery also holds strangers (person 0)
    and junk (person -1) in proportion to the test identities. ``out`` appears whole or not at all.

    Raises InputError for impossible numbers, and for an ``out`` that holds anything else.
    """
    out = Path(out)
    settings: dict[str, Any] = {
        "identities": identities,
        "test_identities": test_identities,
        "cameras": cameras,
        "images_per_camera": images_per_camera,
        "seed": seed,
        "size_hw": [int(side) for side in size_hw],
    }
    _check(**settings)
    manifest = {"made_by": "reid-edge data synthesize", "version": _VERSION, **settings}
    if _holds(out, manifest):
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(out.parent) as scratch:
        beside = scratch / "set"
        count = _write_crops(beside, **settings, progress=progress)
        text = json.dumps({**manifest, "images": count}, indent=1)
        (beside / _MANIFEST).write_text(text + "\n", encoding="utf-8")
        if out.exists():
            out.rmdir()  # it is empty
        beside.rename(out)
    return out


def _check(
    identities: int, test_identities: int, cameras: int, images_per_camera: int, seed: int, size_hw: list[int]
) -> None:
    def require(holds: bool, remedy: str) -> None:
        if not holds:
            raise InputError(f"cannot draw this data set: {remedy}")

    require(identities >= 1 and test_identities >= 1, "give at least 1 identity to train on and 1 to test on")
    require(identities + test_identities <= _MAX_IDENTITIES, f"give at most {_MAX_IDENTITIES} identities in total")
    require(2 <= cameras <= _MAX_CAMERAS, f"give 2 to {_MAX_CAMERAS} cameras")
    require(images_per_camera >= 2, "give at least 2 images per camera, a query and one for the gallery")
    require(seed >= 0, "give a seed of 0 or more")
    require(len(size_hw) == 2 and min(size_hw) >= 32, "give a size of at least 32 x 32 pixels")


def _holds(out: Path, manifest: dict[str, Any]) -> bool:
    """Whether ``out`` already is this set; False where it is free. Raises InputError where it is anything else."""
    if out.is_file():
        raise InputError(f"{out} is a file: name a folder that does not exist yet")
    if not out.exists() or not any(out.iterdir()):
        return False
    try:
        stored = json.loads((out / _MANIFEST).read_text(encoding="utf-8"))
        images = stored.pop("images")
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        raise InputError(f"{out} already holds something else: name another folder") from None
    if stored != manifest:
        differing = ", ".join(
            f"{k} {stored.get(k)} not {manifest[k]}" for k in manifest if stored.get(k) != manifest[k]
        )
        raise InputError(f"{out} holds a set with other settings ({differing}): delete it or name another folder")
    if (found := sum(1 for _ in out.glob("*/*.jpg"))) != images:
        raise InputError(f"{out} holds {found} of its {images} crops: delete it to have it drawn again")
    return True


def _write_crops(
    out: Path,
    *,
    identities: int,
    test_identities: int,
    cameras: int,
    images_per_camera: int,
    seed: int,
    size_hw: list[int],
    progress: bool,
) -> int:
    """Draw every crop below ``out`` and return how many there are."""
    height, width = size_hw
    canvas_hw = 2 * height, 2 * width  # drawn twice as large and reduced, which smooths edges
    seen_by = draw_cameras(cameras, canvas_hw, np.random.default_rng([seed, 0]))
    shots = list(_shots(identities, test_identities, seen_by, images_per_camera, np.random.default_rng([seed, 1])))
    for folder in (_TRAIN, _QUERY, _GALLERY):
        (out / folder).mkdir(parents=True)
    for frame, shot in enumerate(track(shots, "drawing crops") if progress else shots, start=1):
        rng = np.random.default_rng([seed, 2, frame])
        camera = seen_by[shot.camera]
        data = camera.photograph(_drawing(shot, camera, canvas_hw, rng), (height, width), rng)
        (out / shot.folder / shot.name(frame)).write_bytes(data)
    return len(shots)


def _shots(
    identities: int, test_identities: int, cameras: list[Camera], images: int, rng: np.random.Generator
) -> Iterator[_Shot]:
    """Every crop of the set, in the order of the file names' frame numbers."""
    for pid, person in enumerate(dressed_people(identities, rng), start=1):
        for shot in _passes(pid, person, cameras, images, rng):
            yield replace(shot, folder=_TRAIN)
    for pid, person in enumerate(dressed_people(test_identities, rng), start=identities + 1):
        for index, shot in enumerate(_passes(pid, person, cameras, images, rng)):
            yield replace(shot, folder=_GALLERY if index % images else _QUERY)
    for person in dressed_people(_STRANGERS_PER_PERSON * test_identities, rng):
        camera = int(rng.integers(len(cameras)))
        yield _Shot(_GALLERY, 0, camera, person, _yaw(cameras[camera], rng), misfit=rng.choice([1.0, 3.0]))
    for person in dressed_people(_JUNK_PER_PERSON * test_identities, rng):
        camera = int(rng.integers(len(cameras)))
        seen = person if rng.random() < 0.7 else None
        yield _Shot(_GALLERY, -1, camera, seen, _yaw(cameras[camera], rng), misfit=8.0)


def _passes(pid: int, person: Person, cameras: list[Camera], images: int, rng: np.random.Generator) -> Iterator[_Shot]:
    """``images`` shots by each camera that a person passes, camera by camera."""
    number = int(rng.integers(2, len(cameras) + 1))
    for camera in rng.permutation(len(cameras))[:number].tolist():
        yaw = _yaw(cameras[camera], rng)
        for _ in range(images):
            yield _Shot(_GALLERY, pid, camera, person, yaw + rng.normal(0, 0.2))


def _yaw(camera: Camera, rng: np.random.Generator) -> float:
    """A walking person's angle: along the camera's main direction, forth or back."""
    return float(camera.yaw + rng.choice([0.0, np.pi]) + rng.normal(0, 0.4))


def _drawing(shot: _Shot, camera: Camera, image_hw: tuple[int, int], rng: np.random.Generator) -> Image:
    """The scene with the person in it, and sometimes a stranger behind or an object in front."""
    image = camera.backdrop(image_hw, rng)
    if rng.random() < 0.15:
        _passer_by(image, camera, rng)
    if shot.person is not None:
        pose = _pose(image_hw, shot.yaw, camera, shot.misfit, rng)
        draw_person(image, shot.person, pose)
    if rng.random() < 0.06:
        _passer_by(image, camera, rng)
    occlude(image, 0.2, rng)
    return image


def _pose(image_hw: tuple[int, int], yaw: float, camera: Camera, misfit: float, rng: np.random.Generator) -> Pose:
    height, width = image_hw
    return Pose(
        x=width * (0.5 + misfit * rng.normal(0, 0.04)),
        ground=height * (0.965 + misfit * rng.normal(0, 0.02)),
        scale=height * 0.94 * np.exp(misfit * rng.normal(0, 0.04)),
        yaw=yaw,
        phase=rng.uniform(0, 2 * np.pi),
        light=camera.light,
    )


def _passer_by(image: Image, camera: Camera, rng: np.random.Generator) -> None:
    """A stranger at the edge of the crop."""
    (person,) = dressed_people(1, rng)
    pose = _pose(image.shape[:2], _yaw(camera, rng), camera, 2.0, rng)
    aside = rng.choice([-1, 1]) * rng.uniform(0.35, 0.55) * image.shape[1]
    draw_person(image, person, replace(pose, x=pose.x + aside))
