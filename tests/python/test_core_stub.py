# SPDX-License-Identifier: Apache-2.0
"""The type stub and the compiled module have the same names."""

import ast
from pathlib import Path
from typing import Any

import fuseq
import pytest
from fuseq import _core


def stub() -> dict[str, set[str]]:
    """Public names of the stub; for a class its public members."""
    path = next(
        found for folder in fuseq.__path__ if (found := Path(folder) / "_core.pyi").exists()
    )
    names: dict[str, set[str]] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            names[node.name] = {name for item in node.body for name in declared(item)}
        else:
            names.update({name: set() for name in declared(node)})
    return {name: members for name, members in names.items() if not name.startswith("_")}


def declared(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef):
        return [node.name] if not node.name.startswith("_") else []
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id] if not node.target.id.startswith("_") else []
    return []


def public(thing: Any) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def test_every_public_name_is_in_the_stub_and_the_reverse() -> None:
    assert set(stub()) == public(_core)


@pytest.mark.parametrize("name", sorted(n for n in public(_core) if n[0].isupper()))
def test_every_member_of_a_class_is_in_the_stub_and_the_reverse(name: str) -> None:
    assert stub()[name] == public(getattr(_core, name))


def test_the_options_of_the_stub_have_the_fields_of_the_engine_in_order() -> None:
    path = next(
        found for folder in fuseq.__path__ if (found := Path(folder) / "_core.pyi").exists()
    )
    tree = ast.parse(path.read_text())
    (options,) = (
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "GenerationOptions"
    )
    fields = [name for item in options.body for name in declared(item)]
    init = next(item for item in options.body if isinstance(item, ast.FunctionDef))
    expected = [name for name, _, _, _ in _core.option_fields()]
    beside = ["token_bytes", "sampler"]  # what no file holds
    assert fields[: len(expected)] == expected
    assert set(fields[len(expected) :]) == {*beside, "from_json", "to_json"}
    assert [argument.arg for argument in init.args.kwonlyargs] == expected + beside


def test_every_public_name_of_the_package_is_there() -> None:
    for name in fuseq.__all__:
        assert getattr(fuseq, name) is not None
    assert dir(fuseq) == sorted(fuseq.__all__)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        fuseq.nothing_like_it  # noqa: B018
