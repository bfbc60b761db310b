"""Damaged and hostile files of every format: a clear error or what they hold, in bounded memory.

Tried of each format are 500 files that were truncated, mutated or spliced, and in the nightly
10,000: pictures in every format that Pillow reads by itself and has a small example of, sounds,
safetensors, PyTorch's files of both kinds and the pickles in them, pickles of instructions at
random, a bundled classifier's folder, whose checksums are compared first, and the config of a
folder of before there were checksums; of such a folder's weights, which Orbax takes longer to read,
a tenth as many. To them come the bombs: files that say more than they hold. What the process may
take is limited: beyond what it has when it starts 3.2 GB for pictures, which is three times the
largest that is decoded, 256 MB for weights, and 1 GB for classifiers.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import fuzzed_files
import numpy as np
import pytest

from saliency_jax import data, images

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="memory is limited and measured as on Linux"
)
HERE = Path(__file__).parent
TIMES = 20
COUNT = 500
GROUPS = ("pictures", "weights", "classifiers")
# The formats that must be among those tried, whichever others this Pillow has.
FORMATS = {
    "pictures": {"PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "ICO", "TGA", "PSD", "WAV"},
    "weights": {"safetensors", "PyTorch, zip", "PyTorch, before zip", "instructions"},
    "classifiers": {"bundled", "config.json", "former weights"},
}


def tried(group: str, count: int, seed: int) -> dict[str, dict]:
    """By format what a process tells of its damaged files."""
    process = subprocess.run(
        [
            sys.executable,
            str(HERE / "fuzzed_files.py"),
            json.dumps({"group": group, "count": count, "seed": seed}),
        ],
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return {told["format"]: told for told in map(json.loads, process.stdout.splitlines())}


def check(found: dict[str, dict], group: str, count: int) -> None:
    assert FORMATS[group] | {"bombs"} <= found.keys()
    for kind, told in found.items():
        expected = count // fuzzed_files.FEWER.get(kind, 1)
        assert kind == "bombs" or told["inputs"] == expected
    # Neither is everything refused: some damage is in what no one looks at.
    assert sum(told["read"] for told in found.values())


@pytest.mark.parametrize("group", GROUPS)
def test_damaged_files_are_refused_or_read(group):
    check(tried(group, COUNT, 0), group, COUNT)


@pytest.mark.nightly
@pytest.mark.parametrize("group", GROUPS)
def test_many_damaged_files_are_refused_or_read(group):
    found = tried(group, TIMES * COUNT, 1)
    print(json.dumps(found, indent=2))
    check(found, group, TIMES * COUNT)


def test_of_a_folder_of_damaged_pictures_those_are_told_that_cannot_be_read(tmp_path):
    draws = np.random.default_rng(2)
    endings = {"PNG": "png", "JPEG": "jpg", "GIF": "gif", "BMP": "bmp"}
    seeds = fuzzed_files.pictures()
    for index in range(80):
        kind = sorted(endings)[index % len(endings)]
        content = bytearray(seeds[kind][0])
        if index % 3:
            fuzzed_files.truncated(draws, content, b"")
        path = tmp_path / "test" / f"class {index % 2}" / f"{index:03d}.{endings[kind]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    options = {"image_size": 8, "fields": ["image/filename"]}
    found = data.joined(data.load(str(tmp_path), "test", 16, strict=False, **options))
    assert len(found["readable"]) == 80
    assert 80 / 3 < found["readable"].sum() < 80
    for image, path, readable in zip(
        found["image"], found["image/filename"], found["readable"], strict=True
    ):
        if readable:
            np.testing.assert_allclose(image, images.fit(images.read_image(path), 8), atol=2 / 255)
        else:
            assert not image.any()
            with pytest.raises(ValueError, match="expected an image file"):
                images.read_image(path)
    with pytest.raises(ValueError, match=r"expected an image in .*class .*, got .* bytes"):
        list(data.load(str(tmp_path), "test", 16, **options))
