"""What makes the files of `test_files.py`. Each takes the path of what it writes."""

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib

import numpy as np
from builders import save_digits_model
from PIL import Image
from safetensors.torch import load_file, save_file

from robustbench_sde.models.header import read_header

CANARY = "canary"


class Bomb:
    """Unpickled, it leaves a file."""

    def __reduce__(self):
        return os.mkdir, (CANARY,)


def bomb_zip(path):
    """Write an object as torch.save does."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": Bomb()}))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")


def bomb_pickle(path):
    """Write an object as torch.save did before 2020."""
    magic, protocol, system = 0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}
    parts = (magic, protocol, system, {"weight": Bomb()}, [])
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in parts))


def bomb_plain(path):
    path.write_bytes(pickle.dumps(Bomb()))


def bomb_tar(path):
    """Write an object as torch.save did before 2017."""
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(Bomb())
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def zip_bomb(path):
    """A pickle of half a gigabyte of zeros, in half a megabyte."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 29))
        archive.writestr("archive/version", "3\n")


def objects(path):
    """An array of Python objects, which numpy pickles."""
    np.save(path, np.array([Bomb()] * 3, dtype=object), allow_pickle=True)


def objects_npz(path):
    array = np.array([Bomb()] * 3, dtype=object)
    with path.open("wb") as file:
        np.savez(file, x=array, y=np.arange(3))


def npz(**arrays):
    def write(path):
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    return write


def raw_tensors(header, data=b"", *, length=None):
    """A safetensors file of these bytes, whatever they mean."""

    def write(path):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)

    return write


def tensors(change):
    """A sound checkpoint whose weights and header `change` has had in its hands."""

    def write(path):
        save_digits_model(path, "additive")
        weights, header = load_file(path), json.loads(read_header(path).model_dump_json())
        header = change(weights, header) or header
        text = header if isinstance(header, str) else json.dumps(header)
        save_file(weights, path, metadata={"sde-bench": text})

    return write


def spec(**changes):
    return tensors(lambda weights, header: header["model"].update(changes))


def weight(value):
    def change(weights, header):
        weights["head.linear.weight"][0, 0] = value

    return tensors(change)


def cast(dtype):
    def change(weights, header):
        weights["head.linear.weight"] = weights["head.linear.weight"].to(dtype)

    return tensors(change)


def cifar(data, labels=lambda path: np.save(path, np.zeros(4, np.int64))):
    """A folder that claims to be CIFAR-10.1."""

    def write(folder):
        folder.mkdir()
        data(folder / "cifar10.1_v6_data.npy")
        labels(folder / "cifar10.1_v6_labels.npy")

    return write


def numbers(array):
    return lambda path: np.save(path, array)


def named(write, name):
    """Return what `write` makes of a file called `name`, under another name."""

    def renamed(path):
        write(path.with_name(name))
        path.with_name(name).rename(path)

    return renamed


def archive(path):
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


def claims(shape, dtype="|u1"):
    """An array of which there is nothing but the header."""

    def write(path):
        header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)

    return write


def claims_npz(path):
    with zipfile.ZipFile(path, "w") as archive:
        for name, shape, dtype in (("x", (10**10, 32, 32), "|u1"), ("y", (10**10,), "<i8")):
            claims(shape, dtype)(path.with_name("part"))
            archive.write(path.with_name("part"), f"{name}.npy")
    path.with_name("part").unlink()


def picture(path):
    Image.new("L", (32, 32), 100).save(path)


def folder(*, classes=("a", "b"), **files):
    """An image folder with an image in every class, and more in the first."""

    def write(root):
        for name in classes:
            (root / "test" / name).mkdir(parents=True)
            picture(root / "test" / name / "good.png")
        for name, content in files.items():
            content(root / "test" / classes[0] / name.replace("_", "."))

    return write


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def enormous(path):
    """A PNG of 50,000 x 50,000 pixels in three megabytes: 2.5 GB of zeros."""
    squeeze = zlib.compressobj(9)
    row = bytes(50_001)
    content = b"".join(squeeze.compress(row * 100) for _ in range(20)) + squeeze.flush()
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")
    )


def halved_jpeg(path):
    buffer = io.BytesIO()
    Image.effect_noise((32, 32), 50).save(buffer, "JPEG")
    path.write_bytes(buffer.getvalue()[:300])


def loop(path):
    path.symlink_to(path.name)


def text(content):
    return lambda path: path.write_text(content)
