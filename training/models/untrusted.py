"""Files of ``torch.save`` read without trusting them: no code is run, and damage is seen before a tensor is used.

torch itself does not compare the checksums in its zip files, so a flipped bit would be another weight without a word.
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import torch
from torch import Tensor

from reid_edge.core.files import require_file
from reid_edge.errors import ModelError

__all__ = ["content_hash", "load_untrusted"]

_MAX_BYTES = 4 << 30
"""A file above this size, forty times the largest model here, is refused before it fills the memory."""


def load_untrusted(path: Path | str) -> Any:
    """Read what ``torch.save`` wrote if it is tensors and plain values; no code in the file is run.

    Tensors come to the CPU. Raises ModelError for any other content, and for a zip file that does not match its own
    checksums; InputError when the file is missing.
    """
    path = require_file(path, "a checkpoint")
    try:
        with _container(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True)
        if sum(value.numel() * value.element_size() for value in _tensors_in(content)) > _MAX_BYTES:
            _refuse_size(path)
    except ModelError:
        raise
    except PermissionError:
        raise ModelError(f"{path} cannot be read: ask its owner for permission") from None
    except Exception as error:  # a parser on untrusted bytes may raise anything
        raise _refusal(path, error) from None
    return content


def content_hash(content: Any) -> str:
    """SHA-256 of nested dicts, lists and tuples of tensors and plain values: types, shapes, order and every bit.

    >>> content_hash({"a": [1, 2.5]}) == content_hash({"a": (1, 2.5)}) != content_hash({"a": [1, 2]})
    True
    """
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype} {list(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        elif isinstance(value, Mapping):
            add([part for pair in value.items() for part in pair])
        elif isinstance(value, list | tuple):
            digest.update(f"{len(value)} parts\n".encode())
            for part in value:
                add(part)
        else:
            digest.update(f"{type(value).__name__} {value!r}\n".encode())

    add(content)
    return digest.hexdigest()


def _container(path: Path) -> BinaryIO:
    """The file for torch to read: of a zip file a copy in memory, written anew from entries that match their checksums.

    Two readers may see two contents in one damaged zip file: torch ignores checksums, gives what is in memory for a
    tensor that is marked as a folder, and finds entries elsewhere than zipfile does. Raises ModelError for a file that
    is too large, and for a zip file that torch.save does not write like this.
    """
    file = open(path, "rb")
    if (
        file.read(4) != b"PK\3\4"
    ):  # as torch tells one; zipfile.is_zipfile says no to some damaged ones that torch reads
        if path.stat().st_size > _MAX_BYTES:
            _refuse_size(path)
        file.seek(0)
        return file
    copy = io.BytesIO()
    with file, zipfile.ZipFile(file) as archive, zipfile.ZipFile(copy, "w") as written:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > _MAX_BYTES:  # compressed, it may be a zip bomb
            _refuse_size(path)
        names = {entry.filename.lower() for entry in entries}  # torch looks entries up without regard to case
        if len(names) < len(entries) or len({name.partition("/")[0] for name in names}) > 1:
            raise zipfile.BadZipFile("not entries that torch.save writes")
        for entry in entries:
            written.writestr(entry.filename, archive.read(entry))
    copy.seek(0)
    return copy


def _refuse_size(path: Path) -> NoReturn:
    raise ModelError(f"{path} holds more than {_MAX_BYTES:,} bytes, far above any model here: is it the right file?")


def _refusal(path: Path, error: Exception) -> ModelError:
    if any(word in str(error) for word in ("GLOBAL", "TorchScript", "allowlisted", "unrecognized function")):
        return ModelError(
            f"{path} holds Python objects, which could run code, and was not opened: "
            "get a plain state dict, as torch.save(model.state_dict(), path) writes"
        )
    return ModelError(f"{path} is damaged, or not a PyTorch checkpoint: copy or download it again")


def _tensors_in(content: Any) -> Iterator[Tensor]:
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, Mapping | list | tuple):
        for part in content.values() if isinstance(content, Mapping) else content:
            yield from _tensors_in(part)
