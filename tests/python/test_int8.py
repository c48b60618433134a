# SPDX-License-Identifier: Apache-2.0
"""int8: a scale for each row of a matrix, and for each token that goes into one."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import fuseq
import numpy as np
import pronunciations
import pytest
from fuseq import ops
from fuseq.ops import Context

pytest.importorskip("torch")
pytest.importorskip("transformers")

import oracle_logits
import oracle_models
import torch

SHAPES = ["bart odd", "bart medium", "gpt2 medium"]
THREADS = (1, 2, 3)
ROUNDED_ERROR = 1e-4  # against a model that rounds the same: of the middle row
FLOAT32_ERROR = 0.05  # against one that does not round: of all rows together
AGREEMENT = 0.9
CLEAR = 0.3  # of the deviation of logits: a lead that no rounding takes away


@pytest.fixture(scope="module", params=SHAPES)
def made(request: Any, tmp_path_factory: Any) -> Any:
    """A random model of transformers, its folder, and rows for it."""
    model = oracle_logits.make_model(request.param)
    folder = oracle_models.save(model, tmp_path_factory.mktemp("model"))
    return model, folder, oracle_logits.make_rows(model, 6, 50)


def load(folder: Path, **options: Any) -> fuseq.Model:
    return fuseq.load_model(folder, **{"dtype": "int8", "num_threads": 2, **options})


def matrices(model: fuseq.Model) -> list[str]:
    """Names of the weights that int8 rounds."""
    return [name for name, _, is_matrix in fuseq._core.weight_table(model.spec) if is_matrix]


def others(model: fuseq.Model) -> list[str]:
    names = [name for name, _, _ in fuseq._core.weight_table(model.spec)]
    return [name for name in names if name not in matrices(model)]


def floats(model: fuseq.Model, name: str) -> Any:
    return model.weight(name).float().numpy()


def rounded(values: Any, axis: int) -> Any:
    """A tensor in the 255 steps that int8 has along an axis."""
    steps = values.abs().amax(axis, keepdim=True) / 127
    steps[steps == 0] = 1
    return (values / steps).round() * steps


def cached(values: Any) -> Any:
    """What the cache gives back: keys and values lie there in bfloat16."""
    return values.to(torch.bfloat16).to(values.dtype)


def cached_parts(values: Any) -> Any:
    query, key, value = values.chunk(3, dim=-1)
    return torch.cat([query, cached(key), cached(value)], dim=-1)


def int8_oracle(model: Any) -> Any:
    """The model with rounded matrices and tables of tokens, which rounds what goes into them."""
    made = copy.deepcopy(model)
    done = set()
    for name, module in made.named_modules():
        kind = type(module).__name__
        is_table = kind.endswith("Embedding") and name.endswith(("shared", "wte"))
        if not (kind in ("Linear", "Conv1D") or is_table):
            continue
        if not is_table:
            module.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0], -1),))
        if ".decoder." in name and name.endswith(("k_proj", "v_proj")):  # an encoder has no cache
            module.register_forward_hook(lambda _, inputs, output: cached(output))
        if name.endswith("c_attn"):
            module.register_forward_hook(lambda _, inputs, output: cached_parts(output))
        if module.weight.data_ptr() in done:  # tied
            continue
        done.add(module.weight.data_ptr())
        with torch.no_grad():
            module.weight.copy_(rounded(module.weight, 0 if kind == "Conv1D" else 1))
    return made


def short_rows(model: Any) -> oracle_logits.Rows:
    rows = oracle_logits.make_rows(model, 40, 2)
    return [(source[:2], ids[:2]) for source, ids in rows]


def relative_error(ours: list[Any], theirs: list[Any]) -> float:
    """The root of the mean square of differences, as a part of that of the logits."""
    a, b = np.concatenate(ours), np.concatenate(theirs)
    b = b - b.mean(axis=-1, keepdims=True)
    return float(np.linalg.norm(a - a.mean(axis=-1, keepdims=True) - b) / np.linalg.norm(b))


def assert_same(a: list[Any], b: list[Any]) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert np.array_equal(x, y)


# ---- numbers ----


def test_matrices_are_rounded_to_half_a_step_and_nothing_else_is(made: Any) -> None:
    _, folder, _ = made
    exact, model = fuseq.load_model(folder), load(folder)
    assert (exact.dtype, model.dtype) == ("float32", "int8")
    for name in matrices(model):
        wanted, found = floats(exact, name), floats(model, name)
        steps = np.abs(wanted).max(axis=-1, keepdims=True) / 127
        assert (np.abs(found - wanted) <= 0.5001 * steps).all(), name
        assert 0.2 < (np.abs(found - wanted) / steps).mean() < 0.3, name  # a quarter, if even
    for name in others(model):
        assert np.array_equal(floats(model, name), floats(exact, name)), name


def test_logits_are_those_of_a_model_of_transformers_that_rounds_the_same(made: Any) -> None:
    model, folder, _ = made
    # In few rows, all of them short, a number lies so near to the middle of a step that the last
    # bit of a float decides.
    rows = short_rows(model)
    oracle = int8_oracle(model)
    pairs = zip(oracle_logits.forward(load(folder), rows), rows, strict=True)
    errors = [relative_error([ours], [oracle_logits.oracle(oracle, row)]) for ours, row in pairs]
    assert np.median(errors) < ROUNDED_ERROR
    assert max(errors) < FLOAT32_ERROR


def test_logits_are_near_those_of_float32(made: Any) -> None:
    model, folder, rows = made
    expected = [oracle_logits.oracle(model, row) for row in rows]
    found = oracle_logits.forward(load(folder), rows)
    assert 0 < relative_error(found, expected) < FLOAT32_ERROR


def test_most_next_ids_are_those_of_float32(made: Any) -> None:
    model, folder, rows = made
    a = np.concatenate([oracle_logits.oracle(model, row) for row in rows])
    b = np.concatenate(oracle_logits.forward(load(folder), rows))
    same = a.argmax(-1) == b.argmax(-1)
    assert same.mean() > AGREEMENT
    top = np.sort(a, axis=-1)
    clear = top[:, -1] - top[:, -2] > CLEAR * a.std()
    assert clear.sum() > 20
    assert same[clear].all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 33, 45), (5, 64, 32), (2, 259, 7)])
def test_linear_multiplies_whole_numbers(shape: tuple[int, int, int]) -> None:
    draw = np.random.default_rng(1)
    N, I, O = shape  # noqa: E741
    x, w, bias = (draw.standard_normal(s).astype(np.float32) for s in ((N, I), (O, I), (O,)))

    def whole(values: Any) -> tuple[Any, Any]:
        steps = np.abs(values).max(axis=1, keepdims=True).astype(np.float64) / 127
        return np.rint(values / steps), steps

    (a, a_steps), (b, b_steps) = whole(x), whole(w)
    packed = ops.pack(w, "int8")
    assert (packed.shape, packed.dtype) == ((O, I), "int8")
    found = ops.linear(x, packed, bias)
    np.testing.assert_allclose(found, a @ b.T * a_steps * b_steps.T + bias, rtol=1e-5, atol=1e-5)
    assert not np.array_equal(found, ops.linear(x, w, bias)) or I == 1


# ---- equal bits ----


def test_any_number_of_threads_gives_equal_logits(made: Any) -> None:
    _, folder, rows = made
    results = [oracle_logits.forward(load(folder, num_threads=n), rows) for n in THREADS]
    for other in results[1:]:
        assert_same(results[0], other)


def test_a_batch_equals_its_rows_alone_and_a_cached_row_an_uncached_one(made: Any) -> None:
    _, folder, rows = made
    model = load(folder)
    together = oracle_logits.forward(model, rows)
    assert_same(together, [oracle_logits.forward(model, [row])[0] for row in rows])
    source, ids = rows[0]
    session = fuseq.Session(model)
    sequence = session.open(source, len(ids))
    pieces, at = [], 0
    for length in (7, 1, 1, 30, 2, 9):
        pieces.append(session.extend(sequence, ids[at : at + length]).numpy())
        at += length
    assert at == len(ids)
    assert_same(together[:1], [np.concatenate(pieces)])


def test_avx2_equals_avx512(made: Any) -> None:
    _, folder, rows = made
    for isa in ("avx2", "avx512"):
        try:
            Context(cpu_isa=isa)
        except RuntimeError:
            pytest.skip(f"this machine has no {isa}")
    assert_same(
        *(oracle_logits.forward(load(folder, cpu_isa=isa), rows) for isa in ("avx2", "avx512"))
    )


def test_portable_code_is_near_the_others(made: Any) -> None:
    model, folder, _ = made
    rows = short_rows(model)
    portable = oracle_logits.forward(load(folder, cpu_isa="portable"), rows)
    pairs = zip(portable, oracle_logits.forward(load(folder), rows), strict=True)
    assert np.median([relative_error([a], [b]) for a, b in pairs]) < ROUNDED_ERROR


OPTIONS = [
    fuseq.GenerationOptions(max_length=20),
    fuseq.GenerationOptions(max_length=20, num_beams=4, num_return_sequences=4),
    fuseq.GenerationOptions(max_length=20, do_sample=True, top_k=20, seed=7),
]


@pytest.mark.parametrize("options", OPTIONS, ids=["greedy", "beam", "sampling"])
@pytest.mark.parametrize("name", ["bart_tiny", "gpt2_tiny"])
def test_generated_ids_do_not_depend_on_threads_or_batch(
    golden: Path, name: str, options: fuseq.GenerationOptions
) -> None:
    prompts = [
        fuseq.Prompt([3 + i, 50, 7, 9][: 1 + i % 4], sequence=i)
        if name.startswith("bart")
        else fuseq.Prompt([], [3 + i, 50, 7, 9][: 1 + i % 4], sequence=i)
        for i in range(11)
    ]

    models = {count: load(golden / name, num_threads=count) for count in THREADS}

    def generate(some: list[fuseq.Prompt], count: int) -> list[Any]:
        results = fuseq.generate(models[count], some, options)
        return [[(row.ids, row.score) for row in rows] for rows in results]

    together = generate(prompts, THREADS[0])
    assert len({tuple(rows[0][0]) for rows in together}) > 5
    for count in THREADS[1:]:
        assert generate(prompts, count) == together
    assert [generate([prompt], 2)[0] for prompt in prompts] == together


def test_greedy_search_equals_the_largest_logits(golden: Path) -> None:
    model = load(golden / "gpt2_tiny")
    ids = [5, 9, 77]
    session = fuseq.Session(model)
    while len(ids) < 12 and ids[-1] != 2:
        ids = [*ids, int(session.forward([ids]).numpy()[-1].argmax())]
    options = fuseq.GenerationOptions(max_length=12)
    assert fuseq.generate(model, [[5, 9, 77]], options)[0][0].ids == ids
    beams = fuseq.GenerationOptions(max_length=12, num_beams=1)
    assert fuseq.generate(model, [[5, 9, 77]], beams)[0][0].ids == ids


# ---- from one dtype to another, and folders ----


def test_a_model_made_int8_equals_one_that_was_loaded_so(made: Any) -> None:
    _, folder, rows = made
    exact, model = fuseq.load_model(folder), load(folder)
    other = exact.to("int8")
    assert (other.dtype, exact.dtype) == ("int8", "float32")
    assert_same(oracle_logits.forward(other, rows), oracle_logits.forward(model, rows))
    assert model.to("int8") is model
    assert exact.to("float32") is exact
    back = model.to("float32")
    for name in [*matrices(model), *others(model)]:
        assert np.array_equal(floats(back, name), floats(model, name)), name


def test_parameters_stay_as_many_and_take_a_quarter_of_the_memory(made: Any) -> None:
    _, folder, _ = made
    exact, model = fuseq.load_model(folder), load(folder)
    assert model.num_parameters == exact.num_parameters
    assert 0.2 * exact.num_bytes < model.num_bytes < 0.4 * exact.num_bytes


def test_a_folder_of_ours_holds_int8_as_it_is(made: Any, tmp_path: Path) -> None:
    _, folder, rows = made
    model = load(folder)
    wanted = oracle_logits.forward(model, rows)
    fuseq.save_model(model, tmp_path / "one")
    again = fuseq.load_model(tmp_path / "one")
    assert (again.dtype, again.spec) == ("int8", model.spec)
    assert again.num_parameters == model.num_parameters
    assert_same(oracle_logits.forward(again, rows), wanted)
    for name in [*matrices(model), *others(model)]:
        assert np.array_equal(floats(again, name), floats(model, name)), name
    fuseq.save_model(again, tmp_path / "two")
    for file in ("spec.json", "model.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    fuseq.save_model(fuseq.load_model(folder), tmp_path / "float32")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("one", "float32")]
    assert sizes[0] < 0.4 * sizes[1]


@pytest.mark.skipif(sys.platform != "linux", reason="the list of mapped files is that of Linux")
def test_int8_of_a_folder_of_ours_is_used_where_it_is_mapped(made: Any, tmp_path: Path) -> None:
    _, folder, rows = made
    fuseq.save_model(load(folder), tmp_path / "int8")
    fuseq.save_model(fuseq.load_model(folder), tmp_path / "float32")

    def is_mapped(name: str) -> bool:
        return f"{tmp_path / name}/" in Path("/proc/self/maps").read_text()

    converted = load(tmp_path / "float32")
    assert not is_mapped("float32")  # converted: nothing of the file is needed any more
    model = fuseq.load_model(tmp_path / "int8")
    assert is_mapped("int8")
    assert_same(oracle_logits.forward(model, rows), oracle_logits.forward(converted, rows))
    fuseq.save_model(converted, tmp_path / "int8")  # over the file that is mapped
    assert_same(oracle_logits.forward(model, rows), oracle_logits.forward(converted, rows))
    del model
    assert not is_mapped("int8")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_int8_of_a_folder_of_ours_is_read_as_floats_if_asked(
    made: Any, tmp_path: Path, dtype: str
) -> None:
    _, folder, _ = made
    model = load(folder)
    fuseq.save_model(model, tmp_path / "saved")
    found = fuseq.load_model(tmp_path / "saved", dtype=dtype)
    assert found.dtype == dtype
    for name in matrices(model):
        wanted = floats(model, name)
        difference = np.abs(floats(found, name) - wanted)
        assert (difference <= (0 if dtype == "float32" else 2**-8) * np.abs(wanted)).all()


def test_the_whole_numbers_of_another_library_stay_what_they_are() -> None:
    draw = np.random.default_rng(5)
    spec = json.loads(fuseq.load_model(Path(__file__).parents[1] / "golden" / "gpt2_tiny").spec)
    weights: dict[str, Any] = {}
    stored = {}
    for name, shape, is_matrix in fuseq._core.weight_table(json.dumps(spec)):
        values = draw.standard_normal(shape).astype(np.float32) * np.float32(0.3)
        weights[name] = values
        if is_matrix:  # as Keras does it
            scales = np.float32(127) / (np.abs(values).max(-1, keepdims=True) + np.float32(1e-7))
            whole = np.clip(np.rint(values * scales), -127, 127)
            stored[name] = whole, scales
            weights[name] = (whole / scales).astype(np.float32)
    model = fuseq.Model.build(json.dumps(spec), weights, dtype="int8")
    for name, (whole, scales) in stored.items():
        found = floats(model, name)
        steps = np.abs(found).max(-1, keepdims=True) / 127
        assert np.array_equal(np.rint(found / steps), whole), name
        np.testing.assert_allclose(steps * scales, 1, rtol=5e-7)


# ---- errors ----


@pytest.mark.parametrize("dtype", ["int4", "float16", "x"])
def test_there_is_no_way_to_other_dtypes(golden: Path, dtype: str) -> None:
    model = load(golden / "gpt2_tiny")
    with pytest.raises((ValueError, TypeError), match=dtype):
        model.to(dtype)
    with pytest.raises((ValueError, TypeError), match=dtype):
        fuseq.load_model(golden / "gpt2_tiny", dtype=dtype)


def test_the_form_of_transformers_holds_no_int8(golden: Path, tmp_path: Path) -> None:
    model = load(golden / "gpt2_tiny")
    with pytest.raises(
        ValueError, match=r"must get weights that are floats, got int8\. Use save_m"
    ):
        fuseq.export_transformers(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- a trained model ----


def test_int8_gets_nearly_as_many_words_right_as_float32(test_data: Path) -> None:
    # A quarter of the words of test_real_weights.py.
    prompts, right_sounds, sounds = pronunciations.read_words(test_data, 80)
    options = fuseq.GenerationOptions(max_new_tokens=60)

    def texts_of(dtype: str) -> list[str]:
        results = fuseq.generate(
            load(test_data / pronunciations.FOLDER, dtype=dtype), prompts, options
        )
        return ["".join(sounds[i] for i in rows[0].ids if i > 3) for rows in results]

    exact, found = (texts_of(dtype) for dtype in ("float32", "int8"))
    right, others = (sum(map(str.__eq__, texts, right_sounds)) for texts in (exact, found))
    assert len(prompts) == 961
    assert right > 600
    assert abs(others - right) <= 6
    assert sum(map(str.__eq__, exact, found)) > 0.95 * len(prompts)
