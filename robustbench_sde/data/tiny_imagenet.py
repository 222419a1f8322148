"""Tiny-ImageNet as it is published: ``wnids.txt``, ``words.txt``, ``train/<wnid>/images``, ``val``.

Its ``val`` images are the test split; those of ``test`` have no labels. Labels are the places of the sorted
wnids, and test ids count the images by wnid and file name: the order of Tiny-ImageNet-C, which is how
`score(..., official="tiny-imagenet-c:DIR")` pairs corrupted images with these.
"""

from pathlib import Path

import torch

from robustbench_sde.data.class_order import class_folders
from robustbench_sde.data.dataset import ImageDataset
from robustbench_sde.data.decode import Reading, decode
from robustbench_sde.data.image_folder import image_files
from robustbench_sde.errors import BenchError

NAME = "tiny-imagenet"


def load_tiny_imagenet(root: Path, split: str) -> ImageDataset:
    """One split.

    Args:
        root: the folder with ``wnids.txt``, usually called ``tiny-imagenet-200``.
        split: ``train``, or ``test`` for ``val``.

    Raises:
        BenchError: a file is missing, or names what is not there; names the file and the line.
    """
    wnids = _wnids(root / "wnids.txt")
    names = _class_names(root / "words.txt", wnids)
    groups = _train_files(root / "train", wnids) if split == "train" else _val_files(root / "val", wnids)
    labels = torch.repeat_interleave(torch.tensor([len(group) for group in groups]))
    images = decode([path for group in groups for path in group], Reading(channels=3))
    return ImageDataset.whole(NAME, split, images, labels, names)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise BenchError(
            f"cannot read {path}: {reason}; {NAME}:DIR has wnids.txt, words.txt, train and val in it"
        ) from error


def _wnids(path: Path) -> list[str]:
    """The classes, sorted."""
    seen: dict[str, int] = {}
    for number, line in enumerate(_lines(path), start=1):
        wnid = line.strip()
        if not wnid:
            continue
        if not wnid.isalnum():
            raise BenchError(f"{path}, line {number}: {wnid[:40]!r} is not a wnid, as n01443537")
        if wnid in seen:
            raise BenchError(f"{path}, line {number}: {wnid} is there already, in line {seen[wnid]}")
        seen[wnid] = number
    return sorted(seen)


def _class_names(path: Path, wnids: list[str]) -> list[str]:
    """The first of the words of each class."""
    words = dict(line.partition("\t")[::2] for line in _lines(path))
    for wnid in wnids:
        if not words.get(wnid, "").strip():
            raise BenchError(f"{path} has no words for {wnid}, which is in wnids.txt")
    return [words[wnid].split(",")[0].strip() for wnid in wnids]


def _train_files(folder: Path, wnids: list[str]) -> list[list[Path]]:
    if not folder.is_dir():
        raise BenchError(f"no folder {folder}; the training images are in train/<wnid>/images/")
    present = [path.name for path in class_folders(folder)]
    differing = sorted(set(wnids) ^ set(present))
    if differing:
        where = "wnids.txt and has no folder" if differing[0] in wnids else f"{folder} and not in wnids.txt"
        raise BenchError(f"{folder.parent}: class {differing[0]} is in {where}")
    groups = []
    for wnid in wnids:
        images = folder / wnid / "images"
        if not images.is_dir():
            raise BenchError(f"no folder {images}; the training images are in train/<wnid>/images/")
        groups.append(image_files(images))
    return groups


def _val_files(folder: Path, wnids: list[str]) -> list[list[Path]]:
    annotations, images = folder / "val_annotations.txt", folder / "images"
    groups: dict[str, list[Path]] = {wnid: [] for wnid in wnids}
    lines = _lines(annotations)
    present = {path.name for path in image_files(images)} if images.is_dir() else set()
    for number, line in enumerate(lines, start=1):
        name, _, rest = line.partition("\t")
        wnid = rest.split("\t")[0].strip()
        place = f"{annotations}, line {number}"
        if not name or not wnid:
            raise BenchError(f"{place}: it must be a file name, a wnid and a box, with tabs in between")
        if wnid not in groups:
            raise BenchError(f"{place}: class {wnid[:40]!r} of {name} is not in wnids.txt")
        if name not in present:
            raise BenchError(f"{place}: {name} is not in {images}, or there twice in the annotations")
        present.remove(name)
        groups[wnid].append(images / name)
    if present:
        raise BenchError(f"{annotations} gives no class for {min(present)}, which is in {images}")
    return [sorted(group) for group in groups.values()]
