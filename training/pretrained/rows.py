"""Which public weights are known: where they come from, what they were trained on, and under which terms.

torchvision publishes the first eight digits of a file's SHA-256 in its name. The author of torchreid publishes OSNet's
on Google Drive, without hashes, and some of the same files on Hugging Face, where a revision and a SHA-256 name a file
for good. A file without a published hash is known by the one that it had when it was first used: see `locate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reid_edge.core.registry import Registry

__all__ = ["WEIGHTS", "PretrainedWeights", "imagenet_weights"]


@dataclass(frozen=True, kw_only=True)
class PretrainedWeights:
    """A file of weights for ``architecture``, trained on ``trained_on``.

    ``url`` is what is fetched over HTTPS, or "" where a browser is needed: ``page`` is then where to get the file. In
    the cache it is called ``file``. ``sha256`` is the whole hash, its first digits where no more are published, or "".
    ``megabytes`` is the published size, 0 where none is: a download of more is refused. ``licence`` is the program's
    that made the file, ``terms`` what the data's owners ask of whoever uses it.
    """

    architecture: str
    trained_on: str
    file: str
    page: str
    url: str = ""
    sha256: str = ""
    megabytes: float = 0.0
    source: str = ""
    licence: str = ""
    terms: str = ""

    @property
    def most_bytes(self) -> int:
        """The largest download that is accepted: a tenth above the published size, or 256 MB."""
        return round(1.1e6 * self.megabytes) if self.megabytes else 256_000_000


_IMAGENET_TERMS = "ImageNet's terms of access: non-commercial research and education"
_MSMT17_TERMS = "MSMT17's release agreement: academic research, no commercial use"
_MARKET_TERMS = "Market-1501's terms: research only"

_TORCHVISION = "https://download.pytorch.org/models"
_DRIVE = "https://drive.google.com/file/d/{}/view"
_ZOO = "https://huggingface.co/kaiyangzhou/osnet/resolve/a5c5cc037c24235cda3b21085b93ad77c9616224"
"""The author's own copies, at one revision."""

# name, architecture, file, MiB, version (torchvision.models.*_Weights)
_OF_TORCHVISION = (
    ("resnet50_imagenet", "resnet50_bot", "resnet50-0676ba61.pth", 97.781, "IMAGENET1K_V1"),
    ("resnet50_imagenet_v2", "resnet50_bot", "resnet50-11ad3fa6.pth", 97.79, "IMAGENET1K_V2"),
    ("mobilenetv3_large_imagenet", "mobilenetv3_large", "mobilenet_v3_large-8738ca79.pth", 21.114, "IMAGENET1K_V1"),
    ("mobilenetv3_large_imagenet_v2", "mobilenetv3_large", "mobilenet_v3_large-5c1a4163.pth", 21.107, "IMAGENET1K_V2"),
)

# architecture, data, file, SHA-256 and bytes (0: not published); fetched from the author's copies
_OF_TORCHREID = (
    (
        "osnet_x1_0",
        "imagenet",
        "osnet_x1_0_imagenet.pth",
        "fe2d63f9157c28a4a8d8ca29bec12d5b2988ac0346d712025789ea9174968e79",
        10_910_553,
    ),
    (
        "osnet_x0_75",
        "imagenet",
        "osnet_x0_75_imagenet.pth",
        "37add23d2ebc7a22584203d6c22976fdda0f7f29c7b7d79257ac22ae20aec809",
        0,
    ),
    (
        "osnet_x0_5",
        "imagenet",
        "osnet_x0_5_imagenet.pth",
        "f10ea9e26ee55b1a65cee3c6e88aa1ae105fe981af3e37692fa68a72fc64bf8e",
        0,
    ),
    (
        "osnet_x0_25",
        "imagenet",
        "osnet_x0_25_imagenet.pth",
        "f54941a66bad4ddd07f2907f498c810ce639ce7a1abeaf2a151f8da118d84693",
        0,
    ),
    (
        "osnet_x0_25",
        "msmt17_all",
        "osnet_x0_25_msmt17_combineall_256x128_amsgrad_ep150_stp60_lr0.0015_b64_fb10_softmax_labelsmooth_flip_jitter.pth",
        "cf55163d78fc44c62c82f85ab62d39f10438679b5abe8c698ae08cfa84aa6e18",
        9_336_983,
    ),
    (
        "osnet_ain_x1_0",
        "msmt17_all",
        "osnet_ain_x1_0_msmt17_256x128_amsgrad_ep50_lr0.0015_coslr_b64_fb10_softmax_labsmth_flip_jitter.pth",
        "8a07e8da38946f7cee37f4561617bf8b6d2fe8f3a4027852893ea092e46d919f",
        17_293_009,
    ),
)

# architecture, data, the id on Google Drive in the model zoo of torchreid: to be copied by hand
_ON_DRIVE = (
    ("osnet_ibn_x1_0", "imagenet", "1sr90V6irlYYDd4_4ISU2iruoRG8J__6l"),
    ("osnet_ain_x1_0", "imagenet", "1-CaioD9NaqbHK_kzSMW8VE4_3KcsRjEo"),
    ("osnet_ain_x0_75", "imagenet", "1apy0hpsMypqstfencdH-jKIUEFOW4xoM"),
    ("osnet_ain_x0_5", "imagenet", "1KusKvEYyKGDTUBVRxRiz55G31wkihB6l"),
    ("osnet_ain_x0_25", "imagenet", "1SxQt2AvmEcgWNhaRb2xC4rP6ZwVDP0Wt"),
    ("osnet_x1_0", "market1501", "1vduhq5DpN2q1g4fYEZfPI17MJeh9qyrA"),
    ("osnet_x0_75", "market1501", "1ozRaDSQw_EQ8_93OUmjDbvLXw9TnfPer"),
    ("osnet_x0_5", "market1501", "1PLB9rgqrUM7blWrg4QlprCuPT7ILYGKT"),
    ("osnet_x0_25", "market1501", "1z1UghYvOTtjx7kEoRfmqSMu-z62J6MAj"),
    ("osnet_x1_0", "msmt17", "112EMUfBPYeYg70w-syK6V6Mx8-Qb9Q1M"),
    ("osnet_x0_75", "msmt17", "1QEGO6WnJ-BmUzVPd3q9NoaO_GsPNlmWc"),
    ("osnet_x0_5", "msmt17", "1UT3AxIaDvS2PdxzZmbkLmjtiqq7AIKCv"),
    ("osnet_x0_25", "msmt17", "1sSwXSUlj4_tHZequ_iZ8w_Jh0VaRQMqF"),
    ("osnet_x1_0", "msmt17_all", "1IosIFlLiulGIjwW3H8uMRmx3MzPwf86x"),
    ("osnet_x0_75", "msmt17_all", "1fhjSS_7SUGCioIf2SWXaRGPqIY9j7-uw"),
    ("osnet_x0_5", "msmt17_all", "1DHgmb6XV4fwG3n-CnCM0zdL9nMsZ9_RF"),
    ("osnet_ibn_x1_0", "msmt17_all", "1q3Sj2ii34NlfxA4LvmHdWO_75NDRmECJ"),
)

_DATA = {
    "imagenet": ("ImageNet-1k", _IMAGENET_TERMS),
    "market1501": ("Market-1501", _MARKET_TERMS),
    "msmt17": ("MSMT17, training part", _MSMT17_TERMS),
    "msmt17_all": ("MSMT17, all parts", _MSMT17_TERMS),
}


def _rows() -> Iterator[tuple[str, PretrainedWeights]]:
    for name, arch, file, mib, version in _OF_TORCHVISION:
        url = f"{_TORCHVISION}/{file}"
        yield (
            name,
            PretrainedWeights(
                architecture=arch,
                trained_on=_DATA["imagenet"][0],
                file=file,
                page=url,
                url=url,
                sha256=file.removesuffix(".pth").rpartition("-")[2],
                megabytes=mib * 1.048576,
                source=f"torchvision, {version}",
                licence="BSD-3-Clause",
                terms=_IMAGENET_TERMS,
            ),
        )
    for arch, data, file, sha256, size in _OF_TORCHREID:
        url = f"{_ZOO}/{file}"
        row = _of_torchreid(arch, data, file=file, page=url, url=url, sha256=sha256, megabytes=size / 1e6)
        yield f"{arch}_{data}", row
    for arch, data, drive in _ON_DRIVE:
        name = f"{arch}_{data}"
        yield name, _of_torchreid(arch, data, file=f"{name}.pth", page=_DRIVE.format(drive))


def _of_torchreid(
    arch: str, data: str, *, file: str, page: str, url: str = "", sha256: str = "", megabytes: float = 0.0
) -> PretrainedWeights:
    trained_on, terms = _DATA[data]
    return PretrainedWeights(
        architecture=arch,
        trained_on=trained_on,
        file=file,
        page=page,
        url=url,
        sha256=sha256,
        megabytes=megabytes,
        source="torchreid's model zoo",
        licence="MIT",
        terms=terms,
    )


WEIGHTS: Registry[PretrainedWeights] = Registry("weights", dict(_rows()))
"""The known weights by name; other packages add theirs as ``reid_edge.weights``.

>>> WEIGHTS["osnet_x0_25_imagenet"].architecture, WEIGHTS["resnet50_imagenet"].sha256
('osnet_x0_25', '0676ba61')
"""


def imagenet_weights() -> Mapping[str, str]:
    """The ImageNet weights that ``--weights imagenet`` stands for, by architecture: the first row of each.

    For ResNet50 these are IMAGENET1K_V1, from which the bag of tricks was trained.

    >>> imagenet_weights()["resnet50_bot"]
    'resnet50_imagenet'
    """
    found: dict[str, str] = {}
    for name, row in WEIGHTS.items():
        if row.trained_on == _DATA["imagenet"][0]:
            found.setdefault(row.architecture, name)
    return found
