"""Files of weights: what PyTorch writes is read, and what attackers write has no effect."""

import argparse
import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from numpy.testing import assert_array_equal

from saliency_jax import models

MAGIC = 0x1950A86A20F9469CFC6C
SIX = np.arange(6, dtype=np.float32)


class Named:
    """Pickles as a call of a function that is only named: `module`, `function`, arguments."""

    def __init__(self, module, function, *arguments):
        self.module, self.function, self.arguments = module, function, arguments


class Storage:
    def __init__(self, key="0", size=6, kind="FloatStorage"):
        self.reference = ("storage", Named("torch", kind), key, "cpu", size)


class Writer(pickle._Pickler):
    """Writes `Named` and `Storage` as PyTorch's pickler would, for any name at all."""

    view = ()

    def persistent_id(self, value):
        return (*value.reference, *self.view) if isinstance(value, Storage) else None

    def save(self, value, save_persistent_id=True):
        if not isinstance(value, Named):
            return super().save(value, save_persistent_id)
        if self.proto >= 4:
            for text in (value.module, value.function):
                super().save(text)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(f"c{value.module}\n{value.function}\n".encode())
        if value.arguments:
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        return None


class LegacyWriter(Writer):
    view = (None,)


def pickled(value, protocol=2, writer=Writer):
    stream = io.BytesIO()
    writer(stream, protocol).dump(value)
    return stream.getvalue()


def tensor(storage=None, offset=0, shape=(2, 3), strides=(3, 1)):
    arguments = (storage or Storage(), offset, shape, strides, False, OrderedDict())
    return Named("torch._utils", "_rebuild_tensor_v2", *arguments)


def zipped(path, instructions, storages=None, compression=zipfile.ZIP_STORED, **entries):
    storages = {"0": SIX.tobytes()} if storages is None else storages
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", instructions)
        for name, content in entries.items():
            archive.writestr(f"archive/{name}", content)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
    return path


def legacy(path, instructions, keys=("0",), values=(SIX,), sizes=None):
    parts = [pickled(value) for value in (MAGIC, 1001, {"little_endian": True})]
    parts += [instructions, pickled(list(keys))]
    for value, size in zip(values, sizes or map(len, values), strict=True):
        parts += [struct.pack("<q", size), value.tobytes()]
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_an_archive_is_read_at_every_protocol(protocol, tmp_path):
    path = zipped(tmp_path / "a.pt", pickled({"w": tensor()}, protocol))
    assert_array_equal(models.read_state_dict(path)["w"], [[0, 1, 2], [3, 4, 5]])


def test_the_format_before_is_read(tmp_path):
    instructions = pickled({"w": tensor()}, writer=LegacyWriter)
    path = legacy(tmp_path / "a.th", instructions)
    assert_array_equal(models.read_state_dict(path)["w"], [[0, 1, 2], [3, 4, 5]])


def test_views_are_those_of_the_strides(tmp_path):
    state = {
        "transposed": tensor(shape=(3, 2), strides=(1, 3)),
        "part": tensor(None, 4, (2,), (1,)),
    }
    state |= {"number": tensor(None, 5, (), ()), "nothing": tensor(None, 0, (0, 3), (3, 1))}
    read = models.read_state_dict(zipped(tmp_path / "a.pt", pickled(state)))
    assert_array_equal(read["transposed"], [[0, 3], [1, 4], [2, 5]])
    assert_array_equal(read["part"], [4, 5])
    assert read["number"] == 5
    assert read["nothing"].shape == (0, 3)


@pytest.mark.parametrize("kind", ["Float", "Double", "Half", "BFloat16", "Long", "Int", "Char"])
@pytest.mark.parametrize("order", ["little", "big"])
def test_every_type_is_read_in_both_orders_of_bytes(kind, order, tmp_path):
    dtype = np.dtype(
        {"Float": "f4", "Double": "f8", "Half": "f2", "Long": "i8", "Int": "i4", "Char": "i1"}.get(
            kind, jnp.bfloat16
        )
    )
    values = np.array([1, -2, 3], dtype)
    raw = values.view(f"u{dtype.itemsize}")
    data = (raw.byteswap() if order == "big" else raw).tobytes()
    state = {"w": tensor(Storage("0", 3, f"{kind}Storage"), 0, (3,), (1,))}
    path = zipped(tmp_path / "a.pt", pickled(state), {"0": data}, byteorder=order)
    read = models.read_state_dict(path)["w"]
    assert read.dtype == dtype
    assert_array_equal(read, values)


KEYS = (
    *("state_dict", "model", "model_state_dict", "net", "network"),
    *("state_dict_ema", "ema", "params", "weights"),
)


@pytest.mark.parametrize("key", KEYS)
def test_arrays_are_found_beside_what_training_keeps(key, tmp_path):
    foreign = Named("argparse", "Namespace", "x")
    checkpoint = {"epoch": 3, "best": tensor(), "args": foreign, key: OrderedDict(w=tensor())}
    checkpoint["optimizer"] = {"state": {0: {"step": 1, (1, 2): [None, True, 1.5, {4}]}}}
    path = zipped(tmp_path / "a.ckpt", pickled(checkpoint))
    assert models.read_state_dict(path).keys() == {"w"}


def test_arrays_are_found_in_an_entry_of_an_entry(tmp_path):
    checkpoint = {"epoch": 3, "model": {"name": "resnet", "state_dict": OrderedDict(w=tensor())}}
    path = zipped(tmp_path / "a.ckpt", pickled(checkpoint))
    assert models.read_state_dict(path).keys() == {"w"}


def test_a_dict_that_holds_itself_is_refused(tmp_path):
    checkpoint = {}
    checkpoint["model"] = checkpoint
    path = zipped(tmp_path / "a.ckpt", pickled(checkpoint))
    with pytest.raises(ValueError, match="expected a dict of arrays by name"):
        models.read_state_dict(path)


@pytest.mark.parametrize("shift", range(8))
def test_a_safetensors_file_is_known_by_its_content(shift, tmp_path):
    """Whatever its header's length, the first bytes of which are those of a pickle now and then."""
    state = {"w" * (shift + 1): np.arange(3.0)}
    safetensors.numpy.save_file(state, tmp_path / "a.pt", {"about": "x" * 16 * shift})
    (read,) = models.read_state_dict(tmp_path / "a.pt").values()
    assert_array_equal(read, np.arange(3.0))


@pytest.mark.parametrize("zip_format", [True, False])
def test_what_pytorch_saves_is_read(zip_format, tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(4, 6)
    half = torch.randn(5, generator=torch.manual_seed(0)).to(torch.bfloat16)
    network = torch.nn.Linear(3, 2)
    state = OrderedDict(network.state_dict(), view=base[1:, ::2], turned=base.T, half=half)
    state["parameter"] = torch.nn.Parameter(base[0])
    checkpoint = {
        "state_dict": state,
        "optimizer": torch.optim.SGD(network.parameters(), 0.1).state_dict(),
        "args": argparse.Namespace(lr=0.1),
        "epoch": 3,
    }
    torch.save(checkpoint, tmp_path / "a.pt", _use_new_zipfile_serialization=zip_format)
    read = models.read_state_dict(tmp_path / "a.pt")
    assert read.keys() == state.keys()
    for name, expected in state.items():
        if name != "half":
            assert_array_equal(read[name], expected.detach().numpy())
    assert_array_equal(read["half"].view(np.int16), half.view(torch.int16).numpy())


# Each writes a file or stops the interpreter, if any of it is ever called.
HARM = {
    "os.system": Named("os", "system", "touch harm"),
    "posix.system": Named("posix", "system", "touch harm"),
    "builtins.eval": Named("builtins", "eval", "open('harm', 'w')"),
    "builtins.exec": Named("builtins", "exec", "open('harm', 'w')"),
    "__builtin__.eval": Named("__builtin__", "eval", "open('harm', 'w')"),
    "subprocess.Popen": Named("subprocess", "Popen", ["touch", "harm"]),
    "builtins.getattr": Named("builtins", "getattr", Named("os", "path"), "sys"),
    "functools.partial": Named("functools", "partial", Named("os", "system"), "touch harm"),
    "numpy.load": Named("numpy", "load", "harm.npy"),
    "torch.load": Named("torch", "load", "harm.pt"),
    "os.path.os.system": Named("os", "path.os.system", "touch harm"),
}


@pytest.fixture
def harmless(tmp_path, monkeypatch):
    """A folder in which nothing may appear but what the test itself writes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "system", lambda command: pytest.fail(f"ran {command}"))
    yield tmp_path
    assert not list(tmp_path.glob("harm*"))


@pytest.mark.parametrize("name", HARM)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_call_in_place_of_the_arrays_is_refused_by_its_name(name, protocol, harmless):
    instructions = pickled(HARM[name], protocol)
    with pytest.raises(ValueError, match=rf"expected a dict of arrays, got {name}"):
        models.read_state_dict(zipped(harmless / "a.pt", instructions))
    with pytest.raises(ValueError, match="expected a whole file of weights"):
        models.read_state_dict(legacy(harmless / "a.th", instructions))


@pytest.mark.parametrize("name", HARM)
def test_a_call_among_the_arrays_is_refused_by_its_name_and_key(name, harmless):
    path = zipped(harmless / "a.pt", pickled({"w": tensor(), "x": HARM[name]}))
    with pytest.raises(ValueError, match=rf"got {name}, which is not read at 'x'"):
        models.read_state_dict(path)


def test_a_call_beside_the_arrays_has_no_effect(harmless):
    checkpoint = {"hooks": list(HARM.values()), "state_dict": {"w": tensor()}}
    assert models.read_state_dict(zipped(harmless / "a.pt", pickled(checkpoint))).keys() == {"w"}


@pytest.mark.parametrize("name", HARM)
def test_a_call_inside_a_tensor_is_refused(name, harmless):
    broken = Named("torch._utils", "_rebuild_tensor_v2", HARM[name], 0, (2,), (1,))
    path = zipped(harmless / "a.pt", pickled({"w": broken}))
    with pytest.raises(ValueError, match=r"got torch\._utils\._rebuild_tensor_v2, which is not"):
        models.read_state_dict(path)


INSTRUCTIONS = {
    "an instance of protocol 0": b"(S'touch harm'\nios\nsystem\n.",
    "an object of protocol 1": b"(cos\nsystem\nS'touch harm'\no.",
    "a new object": b"\x80\x02cos\nsystem\nX\x0a\x00\x00\x00touch harm\x85\x81.",
    "a new object with names": b"\x80\x04cos\nsystem\n)}\x92.",
    "a state set on a class": b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00xK\x01sb.",
    "a function that is no name": b"\x80\x02K\x01)R.",
    "a name that is no text": b"\x80\x04K\x01K\x02\x93.",
    "a registered extension": b"\x80\x02\x82\x01.",
    "a buffer from outside": b"\x80\x05\x97.",
    "an empty stack": b"\x80\x02.",
    "a mark too few": b"\x80\x02t.",
    "a memo that is empty": b"\x80\x02h\x07.",
    "no end": b"\x80\x02}",
    "an instruction that is none": b"\x80\x02\xff.",
    "a text longer than the file": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "a text of 2^60 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"a.",
    "an integer of many digits": b"I" + b"9" * 10_000 + b"\n.",
    "a list for a dict": b"\x80\x02].",
    "an empty dict": b"\x80\x02}.",
    "a number as a key": b"\x80\x02}K\x01K\x02s.",
    "another persistent id": b"\x80\x02K\x01Q.",
}


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_strange_instructions_are_refused(name, harmless):
    with pytest.raises(ValueError, match="expected a whole file of weights"):
        models.read_state_dict(zipped(harmless / "a.pt", INSTRUCTIONS[name]))


def test_a_memo_at_a_huge_index_takes_no_memory(tmp_path):
    instructions = b"\x80\x02}r\xff\xff\xff\xff" + pickled({"w": tensor()})[2:]
    path = zipped(tmp_path / "a.pt", instructions)
    assert models.read_state_dict(path).keys() == {"w"}


def test_what_contains_itself_is_refused(tmp_path):
    cycle: dict = {}
    cycle["state_dict"] = cycle
    endless: list = []
    endless.append(endless)
    for value in (cycle, endless, {"state_dict": {"w": endless}}):
        with pytest.raises(ValueError, match="expected a dict of arrays"):
            models.read_state_dict(zipped(tmp_path / "a.pt", pickled(value)))


def test_a_key_nested_in_itself_sixty_times_is_not_hashed(tmp_path):
    """Its hash would take 2^60 steps."""
    nested = b"K\x01\x85" + b"2\x86" * 60
    instructions = b"\x80\x02}" + nested + b"K\x01s."
    with pytest.raises(ValueError, match="a key that is no text"):
        models.read_state_dict(zipped(tmp_path / "a.pt", instructions))


VIEWS = {
    "past the end": tensor(offset=1),
    "from far away": tensor(offset=2**62),
    "from before": tensor(offset=-1),
    "with a stride past the end": tensor(shape=(2,), strides=(6,)),
    "with a stride back": tensor(offset=5, shape=(2,), strides=(-1,)),
    "of a huge shape": tensor(shape=(2**40, 2**40), strides=(0, 0)),
    "repeated by a stride of nothing": tensor(shape=(10**12,), strides=(0,)),
    "of a negative shape": tensor(shape=(-2, -3)),
    "of a shape beyond integers": tensor(shape=(2**80,), strides=(0,)),
    "of a hundred axes": tensor(shape=(1,) * 100, strides=(1,) * 100),
    "with fewer strides than axes": tensor(shape=(2, 3), strides=(1,)),
    "of texts": tensor(shape=("a",), strides=(1,)),
    "of a storage larger than its data": tensor(Storage(size=7)),
    "of a storage larger than anything": tensor(Storage(size=2**62)),
    "of a storage that is not there": tensor(Storage("1")),
    "of a storage outside of the archive": tensor(Storage("../../data.pkl")),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_beyond_its_storage_is_refused(name, tmp_path):
    path = zipped(tmp_path / "a.pt", pickled({"w": VIEWS[name]}))
    with pytest.raises(ValueError, match="expected a whole file of weights"):
        models.read_state_dict(path)


@pytest.mark.parametrize(
    ("keys", "sizes"),
    [(("0",), (7,)), (("0",), (-1,)), (("0",), (2**60,)), (("1",), None), ((), ()), ((3,), None)],
)
def test_the_data_of_the_format_before_is_what_it_says(keys, sizes, tmp_path):
    instructions = pickled({"w": tensor(Storage(size=(sizes or (6,))[0] if sizes else 6))})
    values = (SIX,)[: len(keys)]
    path = legacy(tmp_path / "a.th", instructions, keys, values, sizes)
    with pytest.raises(ValueError, match="expected a whole file of weights"):
        models.read_state_dict(path)


def test_an_archive_that_would_swell_is_refused(tmp_path):
    bomb = {"0": bytes(10**7)}
    state = pickled({"w": tensor(Storage(size=2_500_000), 0, (2_500_000,), (1,))})
    path = zipped(tmp_path / "a.pt", state, bomb, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**5
    with pytest.raises(ValueError, match="uncompressed"):
        models.read_state_dict(path)


def test_instructions_beyond_any_checkpoint_s_are_refused(tmp_path):
    path = zipped(tmp_path / "a.pt", b"\x80\x02" + b"}0" * 2**23 + b"}.")
    with pytest.raises(ValueError, match="at most 16,777,216 bytes"):
        models.read_state_dict(path)


@pytest.mark.parametrize("keep", [10, 100, 200, -30])
@pytest.mark.parametrize("write", [zipped, legacy])
def test_a_truncated_file_is_refused(write, keep, tmp_path):
    writer = LegacyWriter if write is legacy else Writer
    path = write(tmp_path / "a.pt", pickled({"w": tensor()}, writer=writer))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="expected a whole file of weights"):
        models.read_state_dict(path)


def test_a_byte_that_changed_is_noticed(tmp_path):
    path = zipped(tmp_path / "a.pt", pickled({"w": tensor()}))
    content = path.read_bytes()
    data = SIX.tobytes()
    path.write_bytes(content.replace(data, data[:-1] + b"\x00"))
    with pytest.raises(ValueError, match="CRC"):
        models.read_state_dict(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"hello, world", b"\x93NUMPY\x01\x00v\x00{"])
def test_another_kind_of_file_is_refused(content, tmp_path):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ValueError, match="expected a"):
        models.read_state_dict(tmp_path / "a.pt")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="got no file at"):
        models.read_state_dict(tmp_path / "a.pt")
