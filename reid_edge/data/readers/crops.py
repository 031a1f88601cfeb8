"""A folder of images without labels: only distillation from a teacher can train on it."""

from __future__ import annotations

from pathlib import Path

from reid_edge.core.files import require_folder
from reid_edge.errors import DatasetError

from .base import DatasetReader
from .files import images_below
from .listing import Crop, Listing, Split

__all__ = ["UnlabelledCrops", "crops_in"]


class UnlabelledCrops(DatasetReader):
    """Any folder of images, each its own person seen by camera 0. Used only where the user names this layout."""

    name = "crops"
    title = "a folder of crops"
    labelled = False

    def home(self, path: Path) -> Path | None:
        """None: nothing tells a folder of crops from any other folder."""
        return None

    def required_home(self, path: Path) -> Path:
        """The folder itself."""
        return require_folder(path, "crops")

    def read(self, home: Path, part: str) -> Listing:
        """List every image below the folder, to train on."""
        return Listing(Split(train=tuple(Crop(path, number, 0) for number, path in enumerate(crops_in(home)))))


def crops_in(folder: Path | str) -> list[Path]:
    """Every image below ``folder``, sorted. Raises DatasetError when there is none."""
    folder = require_folder(folder, "crops")
    crops = images_below(folder, deep=True)
    if not crops:
        raise DatasetError(f"{folder} holds no images: give a folder of JPEG or PNG crops")
    return crops
