from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.core.config import Config

AXES = st.dictionaries(
    st.sampled_from(["BLOCK_SIZE", "VEC", "num_warps", "num_stages"]), st.integers()
)
CONFIG = Config(BLOCK_SIZE=1024, VEC=4, num_warps=8, num_stages=2)


def test_it_is_a_mapping_in_the_order_given() -> None:
    config = Config({"num_warps": 4, "BLOCK_SIZE": 256}, VEC=2)
    assert isinstance(config, Mapping)
    assert list(config.items()) == [("num_warps", 4), ("BLOCK_SIZE", 256), ("VEC", 2)]
    assert len(config) == 3
    assert config["VEC"] == 2
    assert "num_stages" not in config
    with pytest.raises(KeyError):
        config["num_stages"]


def test_a_keyword_overrides_the_mapping() -> None:
    assert Config(CONFIG, VEC=1)["VEC"] == 1
    assert CONFIG["VEC"] == 4


def test_it_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        CONFIG["VEC"] = 1  # type: ignore[index]
    with pytest.raises(TypeError):
        del CONFIG["VEC"]  # type: ignore[attr-defined]


def test_it_does_not_share_the_mapping_it_was_made_of() -> None:
    values = {"VEC": 4}
    config = Config(values)
    values["VEC"] = 1
    assert config["VEC"] == 4


@given(AXES)
def test_order_does_not_matter_to_equality_or_hash(values: dict[str, int]) -> None:
    one, other = Config(values), Config(dict(reversed(values.items())))
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1


@given(AXES, AXES)
def test_configs_are_equal_when_their_values_are(
    one: dict[str, int], other: dict[str, int]
) -> None:
    assert (Config(one) == Config(other)) == (one == other)


def test_it_equals_only_another_config() -> None:
    values = dict(CONFIG)
    assert values != CONFIG
    assert CONFIG.__eq__(values) is NotImplemented


@given(AXES)
def test_a_copy_and_a_pickle_keep_values_order_and_hash(values: dict[str, int]) -> None:
    config = Config(values)
    for twin in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert twin == config
        assert list(twin) == list(config)
        assert hash(twin) == hash(config)


@given(AXES)
def test_meta_and_options_share_out_every_axis(values: dict[str, int]) -> None:
    config = Config(values)
    meta, options = config.meta(), config.options()
    assert meta | options == values
    assert options.keys() <= {"num_warps", "num_stages"}
    assert not meta.keys() & options.keys()


def test_text() -> None:
    assert str(CONFIG) == "BLOCK_SIZE=1024, VEC=4, num_warps=8, num_stages=2"
    assert repr(CONFIG) == f"Config({CONFIG})"
    assert str(Config()) == ""


def test_to_triton() -> None:
    config = CONFIG.to_triton()
    assert config.kwargs == {"BLOCK_SIZE": 1024, "VEC": 4}
    assert config.num_warps == 8
    assert config.num_stages == 2


def test_to_triton_leaves_triton_its_defaults() -> None:
    triton = pytest.importorskip("triton")
    assert Config(VEC=4).to_triton().num_warps == triton.Config({}).num_warps


def test_options_of_a_cluster_are_options_of_the_launch() -> None:
    config = Config(BLOCK=64, num_ctas=2, maxnreg=128)
    assert config.meta() == {"BLOCK": 64}
    assert config.options() == {"num_ctas": 2, "maxnreg": 128}
    made = config.to_triton()
    assert (made.kwargs, made.num_ctas, made.maxnreg) == ({"BLOCK": 64}, 2, 128)
