# SPDX-License-Identifier: Apache-2.0
"""Tensors borrow, lend and view without copies."""

import gc
import hashlib
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuseq import Tensor
from fuseq._core import SafeTensorsFile, save_safetensors

DTYPES = ["float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_numpy_array_is_borrowed_and_lent_without_a_copy(dtype: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    tensor = Tensor(array)
    assert (tensor.shape, tensor.strides, tensor.dtype) == ((2, 3, 4), (12, 4, 1), dtype)
    for back in (tensor.numpy(), np.asarray(tensor), np.from_dlpack(tensor)):
        assert np.shares_memory(back, array)
        assert np.array_equal(back, array)
        assert back.dtype == array.dtype


def test_strided_and_reversed_arrays_keep_their_strides() -> None:
    array = np.arange(60, dtype=np.float32).reshape(6, 10)[::-2, 1::3]
    tensor = Tensor(array)
    assert tensor.strides == (-20, 3)
    assert np.array_equal(tensor.numpy(), array)
    assert np.array_equal(tensor.transpose().numpy(), array.T)
    assert np.array_equal(tensor.float().numpy(), array)


def test_narrow_transpose_and_reshape_are_views() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    tensor = Tensor(array)
    assert np.array_equal(tensor.narrow(1, 1, 2).numpy(), array[:, 1:])
    assert np.array_equal(tensor.narrow(-1, 3, 1).numpy(), array[..., 3:])
    assert np.array_equal(tensor.transpose().numpy(), array.T)
    assert np.shares_memory(tensor.reshape((6, 4)).numpy(), array)
    assert tensor.narrow(0, 2, 0).shape == (0, 3, 4)


@pytest.mark.parametrize(
    ("axis", "start", "length"), [(3, 0, 1), (-4, 0, 1), (0, -1, 1), (0, 1, 2), (0, 3, 0)]
)
def test_narrow_refuses_what_is_outside(axis: int, start: int, length: int) -> None:
    with pytest.raises(ValueError, match="must"):
        Tensor(np.zeros((2, 3), np.float32)).narrow(axis, start, length)


def test_reshape_refuses_strides_and_other_sizes() -> None:
    tensor = Tensor(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="dense"):
        tensor.transpose().reshape((6,))
    with pytest.raises(ValueError, match="number of elements"):
        tensor.reshape((7,))
    with pytest.raises(ValueError, match="must fit int64"):
        Tensor.empty((4,)).reshape((2**62 + 1, 4))
    with pytest.raises(ValueError, match="must fit int64"):
        Tensor.empty((0, 2**62, 4))


def test_a_view_keeps_the_elements_alive() -> None:
    class Array(np.ndarray):
        pass

    array = np.arange(6, dtype=np.float32).reshape(2, 3).view(Array)
    gone = weakref.ref(array)
    view = Tensor(array).transpose().narrow(0, 1, 1)
    del array
    gc.collect()
    assert gone() is not None
    lent = view.numpy()
    del view
    gc.collect()
    assert lent.tolist() == [[1.0, 4.0]]
    del lent
    gc.collect()
    assert gone() is None


def test_read_only_arrays_stay_read_only() -> None:
    array = np.arange(3, dtype=np.float32)
    array.flags.writeable = False
    tensor = Tensor(array)
    assert tensor.read_only
    assert not tensor.numpy().flags.writeable
    assert not np.from_dlpack(tensor).flags.writeable
    assert memoryview(tensor).readonly
    with pytest.raises(BufferError, match="read-only"):
        tensor.__dlpack__()
    with pytest.raises(ValueError, match="read-only"):
        tensor.copy_from(Tensor(np.zeros(3, np.float32)))


def test_who_reads_bytes_without_strides_gets_none_of_a_strided_tensor() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert hashlib.sha256(Tensor(array)).digest() == hashlib.sha256(array).digest()
    with pytest.raises(BufferError):
        hashlib.sha256(Tensor(array).transpose())
    assert bytes(Tensor(array).transpose()) == array.T.tobytes()
    assert memoryview(Tensor(array).transpose()).tobytes() == array.T.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int64", "bool"])
def test_torch_tensors_come_and_go_without_a_copy(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    source = (torch.arange(12) % 5).reshape(3, 4).to(getattr(torch, dtype))
    tensor = Tensor(source.T)
    assert (tensor.shape, tensor.strides, tensor.dtype) == ((4, 3), (1, 4), dtype)
    back = torch.from_dlpack(tensor)
    assert back.dtype == source.dtype
    assert torch.equal(back, source.T)
    assert back.data_ptr() == source.data_ptr()


def test_an_unused_capsule_frees_what_it_holds() -> None:
    array = np.zeros(4, np.float32)

    class Array(np.ndarray):
        pass

    view = array.view(Array)
    gone = weakref.ref(view)
    for version in (None, (1, 0)):
        capsule = Tensor(view).__dlpack__(max_version=version)
        del capsule
    del view
    gc.collect()
    assert gone() is None


def test_bfloat16_has_no_numpy_array_and_the_message_says_what_to_do() -> None:
    tensor = Tensor.empty((2,), "bfloat16")
    with pytest.raises(TypeError, match=r"\.float\(\)"):
        tensor.numpy()
    with pytest.raises(BufferError):
        memoryview(tensor)


def test_copy_from_rounds_to_nearest_even() -> None:
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -(2.0**-130), np.inf], np.float32)
    rounded = Tensor.empty((5,), "bfloat16")
    rounded.copy_from(Tensor(values))
    expected = [1.0, 1.0, 1 + 2**-6, -(2.0**-130), np.inf]
    assert rounded.float().numpy().tolist() == expected
    with pytest.raises(TypeError, match="int32"):
        rounded.copy_from(Tensor(np.zeros(5, np.int32)))
    with pytest.raises(ValueError, match=r"\[4\]"):
        rounded.copy_from(Tensor(np.zeros(4, np.float32)))


@pytest.mark.parametrize(
    "thing", [3, [1.0, 2.0], None, "text", np.array(["a"]), np.zeros(2, "c16")]
)
def test_other_things_are_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match="array"):
        Tensor(thing)


def test_safetensors_come_back_as_they_were_written(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b.c": np.array(7, np.int64),
        "empty": np.zeros((0, 4), np.float16),
    }
    entries = [
        (name, str(array.dtype), array.shape, lambda array=array: Tensor(array))
        for name, array in arrays.items()
    ]
    save_safetensors(tmp_path / "x.safetensors", entries, {"made": "here"})
    file = SafeTensorsFile(tmp_path / "x.safetensors")
    tensors = file.tensors()
    assert file.metadata == {"made": "here"}
    del file
    gc.collect()
    assert {name: tensor.numpy().tolist() for name, tensor in tensors.items()} == {
        name: array.tolist() for name, array in arrays.items()
    }
    assert all(tensor.read_only for tensor in tensors.values())


def test_an_exception_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_safetensors(path, [("a", "float32", (1,), lambda: Tensor(np.ones(1, np.float32)))])
    before = path.read_bytes()

    def fail() -> Tensor:
        raise KeyError("no such luck")

    with pytest.raises(KeyError, match="no such luck"):
        save_safetensors(path, [("a", "float32", (1,), fail)])
    with pytest.raises(ValueError, match="shape"):
        save_safetensors(path, [("a", "float32", (2,), lambda: Tensor(np.ones(1, np.float32)))])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
