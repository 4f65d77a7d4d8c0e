from __future__ import annotations

import copy
import io
import os
import pickle
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

import tunekit
from tunekit.errors import KernelError
from tunekit.kernels import library
from tunekit.nn import Fusion, Pattern, activations, fuse
from tunekit.nn.conv import Fused, FusedConv1d, FusedConv2d, FusedConv3d, FusedConvTranspose2d

ROOT = Path(__file__).resolve().parents[2]


def conv(channels: int = 3, out: int = 3, **options: object) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, padding=1, **options)  # type: ignore[arg-type]


def image(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape or (2, 3, 10, 9), generator=generator)


def checked(model: nn.Module, *inputs: torch.Tensor, patterns: tuple[Pattern, ...] = ()) -> Fusion:
    """The fusion of a model, which has its results, gradients, and state."""
    before = {name: id(each) for name, each in model.named_modules()}
    fusion = fuse(model, patterns)
    inputs = inputs or (image(),)
    expected, result = model(*inputs), fusion.model(*inputs)
    torch.testing.assert_close(result, expected)
    assert {name: id(each) for name, each in model.named_modules()} == before
    assert not any(isinstance(each, Fused) for each in model.modules())
    assert fusion.model.training is model.training

    own, new = model.state_dict(keep_vars=True), fusion.model.state_dict(keep_vars=True)
    assert list(new) == list(own)
    assert all(new[name] is own[name] for name in own)
    assert list(map(id, fusion.model.parameters())) == list(map(id, model.parameters()))

    used = [each for each in model.parameters() if each.requires_grad]
    gradients = [
        torch.autograd.grad(y.square().sum(), used, allow_unused=True) for y in (result, expected)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    fusion.model.load_state_dict({name: each.detach().clone() for name, each in own.items()})
    for each in (copy.deepcopy(fusion.model), reloaded(fusion.model)):
        assert list(each.state_dict()) == list(own)
        torch.testing.assert_close(each(*inputs), expected)
    return fusion


def reloaded(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert isinstance(loaded, nn.Module)
    return loaded


def replaced(fusion: Fusion) -> dict[str, str]:
    return {each.name: each.kernel for each in fusion.replaced}


def left(fusion: Fusion) -> dict[str, str]:
    return {each.name: each.reason for each in fusion.left}


# What is made of modules alone


def test_a_sequential_keeps_its_class_and_its_names() -> None:
    model = nn.Sequential(conv(), nn.Mish(), nn.Mish(), conv(), nn.ReLU(inplace=True), nn.Flatten())
    fusion = checked(model)
    assert replaced(fusion) == {"0": "mish_mish", "3": "relu"}
    assert left(fusion) == {}
    assert [type(each).__name__ for each in fusion.model.children()] == [
        "FusedConv2d", "Identity", "Identity", "FusedConv2d", "Identity", "Flatten",
    ]  # fmt: skip
    assert type(fusion.model) is nn.Sequential
    assert fusion.notes == ()


def test_nested_sequentials_and_a_chain_across_them() -> None:
    inner = nn.Sequential(conv(), nn.Sequential(nn.Mish()))
    model = nn.Sequential(inner, nn.Sequential(nn.Hardtanh(), conv()), nn.SiLU())
    fusion = checked(model)
    assert replaced(fusion) == {"0.0": "mish", "1.1": "silu"}
    assert fusion.replaced[0].rest == (("clamp", -1.0, 1.0),)
    assert isinstance(fusion.model[0][1][0], nn.Identity)
    assert isinstance(fusion.model[1][0], nn.Hardtanh)


def test_other_layers_stay() -> None:
    model = nn.Sequential(conv(), nn.BatchNorm2d(3), nn.ReLU(), conv(), nn.ELU(), conv())
    fusion = checked(model.eval())
    assert replaced(fusion) == {}
    assert left(fusion) == {
        "0": "followed by BatchNorm2d, nothing pointwise that is known",
        "3": "no kernel for elu 1",
        "5": "followed by the end of the code that was traced, nothing pointwise that is known",
    }


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.act, self.last = conv(), conv(), nn.SiLU(), nn.Mish()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(self.act(self.first(x)))
        return self.last(y + x)


def test_a_class_whose_activations_are_modules_stays_that_class() -> None:
    fusion = checked(nn.Sequential(Block(), Block()))
    assert replaced(fusion) == {"0.first": "silu", "1.first": "silu"}
    assert left(fusion)["0.second"] == "followed by add, nothing pointwise that is known"
    assert [type(each) for each in fusion.model] == [Block, Block]


def test_an_activation_module_that_is_shared() -> None:
    act = nn.ReLU()
    fusion = checked(nn.Sequential(conv(), act, conv(), act))
    assert replaced(fusion) == {"0": "relu", "2": "relu"}
    assert type(fusion.model) is nn.Sequential
    fusion = checked(nn.Sequential(conv(), act, nn.BatchNorm2d(3), act).eval())
    assert replaced(fusion) == {"0": "relu"}
    assert isinstance(fusion.model, fx.GraphModule)


@pytest.mark.parametrize(
    ("model", "shape", "kind"),
    [
        (nn.Conv1d(4, 6, 3, groups=2), (2, 4, 20), FusedConv1d),
        (nn.Conv2d(4, 6, 3, dilation=2, bias=False), (2, 4, 9, 9), FusedConv2d),
        (nn.Conv2d(3, 6, 3, padding=1, padding_mode="circular"), (2, 3, 9, 9), FusedConv2d),
        (nn.Conv2d(3, 6, 3, padding="same", padding_mode="reflect"), (2, 3, 9, 9), FusedConv2d),
        (nn.Conv3d(3, 4, 2, stride=2), (2, 3, 6, 6, 6), FusedConv3d),
        (
            nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1),
            (2, 3, 5, 5),
            FusedConvTranspose2d,
        ),
    ],
)
def test_every_kind_of_convolution(
    model: nn.Module, shape: tuple[int, ...], kind: type[nn.Module]
) -> None:
    fusion = checked(nn.Sequential(model, nn.GELU()), image(*shape))
    assert replaced(fusion) == {"0": "gelu"}
    assert type(fusion.model[0]) is kind


# Code


class Net(nn.Module):
    """What the three fused ops were written for, in code."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up, self.down = conv(3, 8), nn.ConvTranspose2d(8, 4, 4, 2), conv(4, 2)
        self.unused = nn.Parameter(torch.ones(3))
        self.register_buffer("kept", torch.ones(1))

    def forward(self, x: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
        x = F.mish(self.conv(x))
        x = x + 0.5
        x = x.clamp(-1, 1) * 3
        x = F.gelu(torch.clamp(self.up(x) + 0.25, max=0))
        return F.mish(F.mish(self.down(x))) * scale + self.kept


def test_code_becomes_a_graph() -> None:
    fusion = checked(Net())
    assert [(each.kernel, dict(each.scalars)) for each in fusion.replaced] == [
        ("mish_add_hardtanh_scale", {"add_value": 0.5, "scale": 3.0}),
        ("add_min_gelu_mul", {"add_value": 0.25, "multiply_value": 1.0}),
        ("mish_mish", {}),
    ]
    assert isinstance(fusion.model, fx.GraphModule)
    called = [node.target for node in fusion.model.graph.nodes if node.op == "call_module"]
    assert called == ["conv", "up", "down"]
    assert "mish" not in fusion.model.code
    x = image()
    for model in (fusion.model.train(), fusion.model.eval()):
        torch.testing.assert_close(model(x, scale=0.5), fusion.model(x, 0.5))


def test_a_result_that_is_used_twice_is_left() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.skip = conv(), conv(), conv()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            z = F.relu(self.second(F.relu(y)))
            return F.relu(z + y) + z + F.relu(self.skip(x))

    fusion = checked(Residual())
    assert replaced(fusion) == {"second": "relu", "skip": "relu"}
    assert left(fusion) == {"first": "its result is used 2 times"}


def test_an_intermediate_that_is_used_twice_ends_the_chain() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = F.mish(self.conv(x))
            return F.mish(y) + y

    assert replaced(checked(Two())) == {"conv": "mish"}


class Twice(nn.Module):
    def __init__(self, other: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.act, self.other = conv(), nn.ReLU(), other

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.other(self.conv(self.act(self.conv(x))))


def test_a_convolution_that_is_called_twice() -> None:
    fusion = checked(Twice(F.sigmoid))
    assert left(fusion) == {"conv": "called 2 times; after one call relu, else sigmoid"}
    fusion = checked(Twice(F.softsign))
    assert left(fusion)["conv"].startswith("called 2 times; followed by softsign, nothing")
    assert replaced(checked(Twice(F.relu))) == {"conv": "relu"}


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(), nn.SiLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) + self.layers(x[..., ::2]).sum()


def test_a_head_that_is_called_for_several_levels() -> None:
    fusion = checked(Head())
    assert replaced(fusion) == {"layers.0": "silu"}
    assert type(fusion.model) is Head


def test_a_convolution_in_two_places_is_left() -> None:
    shared = conv()
    fusion = checked(nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU()))
    assert left(fusion) == {"0": "it is in several places: 0, 2"}


def test_a_weight_in_two_convolutions_stays_shared() -> None:
    first, second = conv(), conv()
    second.weight = first.weight
    fusion = checked(nn.Sequential(first, nn.ReLU(), second, nn.ReLU()))
    assert fusion.model[0].weight is fusion.model[2].weight is first.weight


class Method(nn.Module):
    def __init__(self, end: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.end = conv(), end

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.end(self.conv, x)


@pytest.mark.parametrize(
    ("end", "kernel"),
    [
        (lambda c, x: c(x).relu_(), "relu"),
        (lambda c, x: F.relu(c(x), inplace=True), "relu"),
        (lambda c, x: c(x).clamp_(0, 6), "clamp"),
        (lambda c, x: F.leaky_relu(c(x), 0.3), "leaky_relu"),
        (lambda c, x: F.dropout(F.mish(F.dropout(c(x), training=False)), training=False), "mish"),
        (lambda c, x: F.silu(c(x)) - 0.25, "silu"),
    ],
)
def test_methods_and_functions_in_place(end: Callable[..., torch.Tensor], kernel: str) -> None:
    assert replaced(checked(Method(end))) == {"conv": kernel}


class Sized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 3, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.up(x, output_size=(22, 20)))


def by_name(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return F.relu(layer(input=x))


def test_arguments_of_the_convolution() -> None:
    assert replaced(checked(Sized())) == {"up": "relu"}
    fusion = checked(Method(by_name))
    assert left(fusion) == {"conv": "called with input= by name"}


# What cannot be fused, or not all of it


def test_convolutions_that_are_something_else() -> None:
    class Own(nn.Conv2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return -super().forward(input)

    hooked, patched = conv(), conv()
    hooked.register_forward_hook(lambda module, inputs, output: 2 * output)
    normed = nn.utils.parametrizations.weight_norm(conv())
    patched.forward = F.relu
    parts: list[nn.Module] = []
    for each in (Own(3, 3, 1), hooked, normed, patched):
        parts += [each, nn.ReLU()]
    fusion = fuse(nn.Sequential(*parts))
    assert replaced(fusion) == {}
    assert left(fusion) == {
        "0": "Own is a class of its own, which may compute something else",
        "2": "it has hooks, which expect its own result",
        "4": "it is parametrized",
        "6": "its forward was replaced",
    }
    x = image()
    torch.testing.assert_close(fusion.model(x), nn.Sequential(*parts)(x))


def test_hooks_of_an_activation_and_of_a_block_are_kept() -> None:
    seen: list[str] = []
    act, block = nn.ReLU(), nn.Sequential(conv(), nn.Mish())
    act.register_forward_hook(lambda *_: seen.append("act"))
    block.register_forward_hook(lambda *_: seen.append("block"))
    fusion = fuse(nn.Sequential(conv(), act, block))
    assert left(fusion) == {"0": "followed by ReLU with hooks, nothing pointwise that is known"}
    assert replaced(fusion) == {"2.0": "mish"}
    seen.clear()
    fusion.model(image())
    assert seen == ["act", "block"]


def then_relu(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return F.relu(layer(x))


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(), nn.SiLU())
        self.net, self.bare = Method(then_relu), conv()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) if x.sum() > 1e9 else self.layers(x) + self.net(self.bare(x))


def test_what_is_no_graph_keeps_its_code() -> None:
    fusion = checked(Untraceable())
    assert replaced(fusion) == {"layers.0": "silu"}
    assert left(fusion) == {
        "net.conv": "to take relu out of the code, a graph would have to take its place, but what "
        "calls it is no graph",
        "bare": "the code that calls it is no graph",
    }
    (note,) = fusion.notes
    assert note.startswith("the model is no graph, so only its modules were fused: TraceError: ")
    assert type(fusion.model) is Untraceable


def test_a_part_that_is_no_graph_hides_only_itself() -> None:
    fusion = checked(nn.Sequential(conv(), nn.ReLU(), Untraceable()))
    assert replaced(fusion) == {"0": "relu", "2.layers.0": "silu"}
    (note,) = fusion.notes
    assert note.startswith("2 (Untraceable) is no graph")


class Mode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.second = conv(), nn.ReLU(), conv()
        self.third, self.last = conv(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.second(self.act(self.first(x))))
        x = self.third(F.dropout(x, training=self.training))
        return x if self.training else self.last(x)


@pytest.mark.parametrize("training", [True, False])
def test_code_that_differs_in_training_is_kept(training: bool) -> None:
    model = Mode().train(training)
    fusion = fuse(model)
    assert replaced(fusion) == {"first": "relu"}
    assert "its code looks at self.training" in left(fusion)["second"]
    for mode in (True, False):
        results = []
        for each in (model, fusion.model):
            torch.manual_seed(1)
            results.append(each.train(mode)(image()))
        torch.testing.assert_close(*results)


def test_dropout_may_lie_between_only_where_it_drops_nothing() -> None:
    model = nn.Sequential(conv(), nn.Dropout(), nn.Identity(), nn.ReLU(), nn.Dropout())
    assert replaced(fuse(model)) == {}
    fusion = checked(model.eval())
    assert replaced(fusion) == {"0": "relu"}
    kinds = [type(each).__name__ for each in fusion.model]
    assert kinds == ["FusedConv2d", "Dropout", "Identity", "Identity", "Dropout"]


@pytest.mark.parametrize("default", [None, False, "none"])
def test_code_that_depends_on_an_argument_is_kept(default: object) -> None:
    class Choice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = conv(), nn.ReLU()

        def forward(self, x: torch.Tensor, what: object = default) -> torch.Tensor:
            x = self.conv(x)
            return x if what is not default else self.act(x)

    model = Choice()
    fusion = fuse(model)
    assert replaced(fusion) == {}
    assert fusion.notes
    for arguments in ((), (1,)):
        torch.testing.assert_close(fusion.model(image(), *arguments), model(image(), *arguments))


class Keeps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = conv(), nn.ReLU()
        self.seen: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = self.conv(x)
        return self.act(self.seen)


class Chance(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = conv(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.act(x) if random.random() < 2 else x


class Makes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv(x)) * torch.tensor([2.0])


class OwnState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv(x))

    def get_extra_state(self) -> torch.Tensor:
        return torch.ones(1)

    def set_extra_state(self, state: torch.Tensor) -> None: ...


class Unsaved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()
        self.register_buffer("shift", torch.ones(1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv(x)) + self.shift


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Unsaved, "it has buffers of its own that are not saved"),
        (Keeps, "the model is no graph, so only its modules were fused: its code sets seen"),
        (Chance, "its code draws random numbers"),
        (Makes, "its code makes tensors, or holds some that are no parameters or buffers"),
        (OwnState, "its state dict would not be the same"),
    ],
)
def test_code_that_a_graph_would_not_repeat_is_kept(kind: type[nn.Module], why: str) -> None:
    model = kind()
    state = random.getstate()
    fusion = fuse(model)
    assert random.getstate() == state
    assert replaced(fusion) == {}
    assert why in str(fusion)
    assert type(fusion.model) is kind
    torch.testing.assert_close(fusion.model(image()), model(image()))


def test_tracing_writes_to_nothing() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.calls = conv(), 0
            self.register_buffer("total", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            self.total.add_(1)
            return F.relu(self.conv(x))

    model = Counts()
    fusion = fuse(model)
    assert (model.calls, float(model.total)) == (0, 0.0)
    fusion.model(image())
    assert float(model.total) == 1.0  # a buffer is shared


def test_a_model_with_nothing_to_fuse() -> None:
    fusion = checked(nn.Sequential(nn.Flatten(), nn.Linear(270, 2), nn.ReLU()))
    assert (fusion.replaced, fusion.left, fusion.notes) == ((), (), ())
    assert str(fusion) == "0 fused, 0 left"
    assert left(fuse(conv())) == {"": "the code that calls it is no graph"}


def test_what_is_fused_already_is_left_as_it_is() -> None:
    once = fuse(Net()).model
    again = fuse(once)
    assert (again.replaced, again.left) == ((), ())
    torch.testing.assert_close(again.model(image()), once(image()))
    partly = nn.Sequential(fuse(nn.Sequential(conv(), nn.ReLU())).model, conv(), nn.Mish())
    fusion = fuse(partly)
    assert replaced(fusion) == {"1": "mish"}
    torch.testing.assert_close(fusion.model(image()), partly(image()))


def test_patterns_of_ones_own() -> None:
    own = Pattern(activations.clamp, (("clamp", "low", "high"),))
    chain = Pattern(library.mish_mish, (("mish",), ("mish",)))
    model = nn.Sequential(conv(), nn.ReLU6())
    assert replaced(checked(model, patterns=(chain, own))) == {"0": "clamp"}


def test_what_is_no_model_or_no_pattern_is_refused() -> None:
    with pytest.raises(KernelError, match="expected a module, got function"):
        fuse(lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(KernelError, match="expected patterns, got Kernel"):
        fuse(conv(), [library.mish_mish])  # type: ignore[list-item]
    model = nn.Sequential(conv(), nn.ReLU())
    model.made_by = (each for each in ())
    with pytest.raises(KernelError, match="Sequential cannot be copied: TypeError: "):
        fuse(model)


def test_the_table() -> None:
    model = nn.Sequential(conv(), nn.ReLU6(), nn.Tanh(), nn.ConvTranspose2d(3, 3, 1), nn.ELU())
    assert str(fuse(model)) == (
        "1 fused, 1 left\n"
        "fused  0  Conv2d           clamp 0..6: clamp(low=0, high=6); left: tanh\n"
        "left   3  ConvTranspose2d  no kernel for elu 1"
    )


# What else is done with a fused model


def test_an_optimizer_of_the_one_trains_the_other() -> None:
    model = Net()
    fused = fuse(model).model
    optimizer = torch.optim.SGD(fused.parameters(), 0.1)
    x = image()
    before = model(x).detach()
    fused(x).square().mean().backward()
    optimizer.step()
    assert not torch.allclose(model(x), before)
    torch.testing.assert_close(fused(x), model(x))


def test_a_kernel_is_pickled_by_name() -> None:
    for kernel in (library.mish_mish, activations.relu):
        assert pickle.loads(pickle.dumps(kernel)) is kernel
        assert copy.deepcopy(kernel) is kernel


RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


def test_a_saved_model_is_loaded_by_a_process_that_imported_nothing(
    tmp_path: Path, run_python: RunPython
) -> None:
    x = image()
    for name, model in (("net", Net()), ("layers", nn.Sequential(conv(), nn.GELU()))):
        fused = fuse(model).model
        torch.save((fused, x, model(x).detach()), tmp_path / name)
    program = (
        "import sys, torch\n"
        "for path in sys.argv[1:]:\n"
        "    model, x, expected = torch.load(path, weights_only=False)\n"
        "    torch.testing.assert_close(model(x), expected)\n"
    )
    done = run_python("-c", program, tmp_path / "layers", tmp_path / "net")
    assert done.returncode == 0, done.stderr


def test_a_kernel_that_is_not_there_is_named_when_a_model_is_loaded(
    tmp_path: Path, write_module: Callable[..., Path], run_python: RunPython
) -> None:
    write_module(
        """
        import tunekit
        from tunekit.kernels import epilogues

        mine = tunekit.pointwise("mine", epilogue=epilogues.mish, reference=None)
        """,
        "my_kernels.py",
    )
    save = "import pickle, my_kernels, sys; pickle.dump(my_kernels.mine, open(sys.argv[1], 'wb'))"
    load = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).name)"
    file, path = str(tmp_path / "kernel"), f"{ROOT}{os.pathsep}{tmp_path}"
    assert run_python("-c", save, file, PYTHONPATH=path).returncode == 0
    failed = run_python("-c", load, file, PYTHONPATH=path)
    assert failed.returncode != 0
    assert "KernelError: no kernel mine@" in failed.stderr
    assert "import the module that defines it before" in failed.stderr
    loaded = run_python("-c", f"import my_kernels; {load}", file, PYTHONPATH=path)
    assert loaded.stdout == "mine\n"


INTERPRETED = """
import warnings

warnings.simplefilter("ignore")
import torch, torch.nn.functional as F
from torch import nn
from tunekit.nn import fuse
from tunekit.runtime import call

assert call.INTERPRETED
launched = []
start = call.Planned.start
call.Planned.start = lambda self, *given: (launched.append(1), start(self, *given))[1]

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.up = nn.ConvTranspose2d(8, 4, 4, 2)
        self.act = nn.Sequential(nn.Conv2d(4, 5, 1), nn.ReLU6())

    def forward(self, x):
        x = F.hardtanh(F.mish(self.conv(x)) + 0.5) * 3
        x = F.gelu(torch.clamp(self.up(x) + 0.25, max=0)) * 2
        return self.act(x)

torch.manual_seed(1)
for model, shape in (
    (Net(), (2, 3, 9, 7)),
    (nn.Sequential(nn.Conv3d(2, 3, 2), nn.SiLU()), (1, 2, 5, 4, 3)),
    (nn.Sequential(nn.Conv1d(2, 3, 2, groups=1), nn.LeakyReLU(0.3)), (2, 2, 9)),
):
    fused = fuse(model).model
    x = torch.randn(shape)
    for each in (x, x.to(memory_format=torch.channels_last)) if x.dim() == 4 else (x,):
        launched.clear()
        with torch.no_grad():
            result, expected = fused(each), model(each)
        assert launched, model
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
        assert result.stride() == expected.stride()
        found = [torch.autograd.grad(m(each).square().sum(), list(model.parameters()))
                 for m in (fused, model)]
        for one, other in zip(*found):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    compiled = torch.compile(fused, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
"""


def test_the_kernels_in_tritons_interpreter(run_python: RunPython) -> None:
    done = run_python("-c", INTERPRETED, TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr


def test_the_package() -> None:
    assert tunekit.nn.fuse is fuse
    assert tunekit.nn.fused_conv is not None
    assert {"fuse", "Fusion", "fused_conv", "Pattern", "tune"} <= set(dir(tunekit.nn))
    with pytest.raises(AttributeError, match=r"'tunekit\.nn' has no attribute 'fuze'"):
        _ = tunekit.nn.fuze


def test_tuning_is_loaded_when_it_is_asked_for(run_python: RunPython) -> None:
    program = (
        "import sys, tunekit\n"
        "tunekit.nn.fuse\n"
        "print('optuna' in sys.modules, callable(tunekit.nn.tune), 'optuna' in sys.modules)"
    )
    done = run_python("-c", program)
    assert done.stdout.split() == ["False", "True", "True"], done.stderr
