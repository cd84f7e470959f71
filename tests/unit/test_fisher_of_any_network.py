"""Importances of every kind of parameter against a loop over single samples, in float64.

What is compared, and how, is in test_fisher.py; here are the kinds of layers and today's networks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from tests.unit.test_fisher import assert_equal, batches, check_against_the_loop, joined, settle
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from swift_debias.importance.layers import slow_parameters, squared_gradients
from swift_debias.learning.networks import import_torchvision

TOKENS, WIDTH = 9, 6  # of images of 3 x 6 x 6 numbers: patches of 2 x 2 pixels, 12 numbers each


class Tokens(nn.Module):
    """Images -> patches -> the part under test, with tokens (B, T, D) -> logits (B,)."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.embed = nn.Linear(12, WIDTH)
        self.part = part
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.unfold(x, 2, stride=2).transpose(1, 2)
        x = self.part(self.embed(x).tanh())
        return self.head(x.tanh().flatten(1, -2).mean(1)).squeeze(1)


class Part(nn.Module):
    """A function of tokens with a few parameters."""

    def __init__(self, function: Callable[..., Tensor], *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        self.p = nn.ParameterList([nn.Parameter(torch.randn(shape)) for shape in shapes])

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.p)


class Norms(nn.BatchNorm1d):
    """A subclass that computes on, as timm's do."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(super().forward(x.transpose(1, 2)).transpose(1, 2), inplace=True)


class Attention(nn.Module):
    """One's own attention, with relative positions from a table."""

    def __init__(self, mask: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.q_bias, self.v_bias = (nn.Parameter(torch.randn(WIDTH)) for _ in range(2))
        self.table = nn.Parameter(torch.randn(2 * TOKENS - 1, 3))  # three heads, as the probe has
        places = torch.arange(TOKENS)
        self.register_buffer("at", places[:, None] - places + TOKENS - 1)
        self.mask = mask

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias)
        q, k, v = qkv.view(len(x), TOKENS, 3, 3, -1).permute(2, 0, 3, 1, 4)
        near = self.table[self.at.view(-1)].view(TOKENS, TOKENS, 3).permute(2, 0, 1)
        near = near.contiguous().unsqueeze(0)
        if self.mask:  # a row of windows for each image, as shifted windows have
            near = near + torch.zeros(len(x), 1, TOKENS, TOKENS, dtype=x.dtype)
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=near)
        else:
            x = torch.softmax(q @ k.transpose(-2, -1) + near, -1) @ v
        return x.transpose(1, 2).flatten(2)


class Selfish(nn.Module):
    """Attention by torch's module."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, **options)
        self.first = bool(options.get("batch_first"))

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.first else x.transpose(0, 1)
        other = torch.tanh(x + 1) if "kdim" in self.__dict__ else x
        x, _ = self.attention(x, other, other, need_weights=self.first)
        return x if self.first else x.transpose(0, 1)


class Crossed(nn.Module):
    """Attention with another sequence, whose projections are slices of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x[:, :4], x * 2, x.sin(), need_weights=False)[0]


class Positions(nn.Module):
    """Embeddings of fixed positions, and of numbers made of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Embedding(TOKENS, WIDTH)
        self.bin = nn.Embedding(4, WIDTH, padding_idx=1)
        self.register_buffer("at", torch.arange(TOKENS)[None])

    def forward(self, x: Tensor) -> Tensor:
        bins = (x.detach().sum(-1) > 0).long() + (x.detach()[..., 0] > 0).long()
        return x + self.place(self.at) + self.bin(bins)


def two(layer: nn.Module) -> nn.Module:
    """A layer used twice."""
    return nn.Sequential(layer, nn.Tanh(), layer)


def tied() -> nn.Module:
    """Two layers with one weight, one of them transposed."""

    def there_and_back(x: Tensor, w: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return F.linear(F.linear(x, w, b).tanh(), w.T, c)

    return Part(there_and_back, (4, WIDTH), (4,), (WIDTH,))


def images(layer: nn.Module, *shape: int) -> nn.Module:
    """A layer on maps: tokens -> (B, *shape) -> the layer -> tokens."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Unflatten(1, shape),
        layer,
        nn.Tanh(),
        nn.Flatten(),
        nn.LazyLinear(2 * WIDTH),
        nn.Unflatten(1, (2, WIDTH)),
    )


def class_token(x: Tensor, token: Tensor, place: Tensor) -> Tensor:
    return torch.cat([token.expand(len(x), -1, -1), x], 1) + place


KINDS: dict[str, Callable[[], nn.Module]] = {
    "linear on maps": lambda: nn.Sequential(nn.Unflatten(1, (3, 3)), nn.Linear(WIDTH, WIDTH)),
    "in place behind a linear layer": lambda: nn.Sequential(
        nn.Linear(WIDTH, WIDTH),
        nn.SiLU(inplace=True),
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(inplace=True),
    ),
    "layer norm": lambda: nn.LayerNorm(WIDTH),
    "layer norm over two dimensions": lambda: nn.LayerNorm((TOKENS, WIDTH)),
    "rms norm": lambda: nn.RMSNorm(WIDTH),
    "group norm": lambda: nn.GroupNorm(3, TOKENS),
    "instance norm": lambda: nn.InstanceNorm1d(TOKENS, affine=True),
    "instance norm with statistics": lambda: nn.InstanceNorm1d(
        TOKENS, affine=True, track_running_stats=True
    ),
    "subclass of batch norm": lambda: Norms(WIDTH),
    "embeddings": Positions,
    "prelu": lambda: nn.Sequential(nn.PReLU(TOKENS), nn.PReLU()),
    "torch's attention": lambda: Selfish(batch_first=True),
    "torch's attention, sequence first": lambda: Selfish(bias=False),
    "torch's attention to others": Crossed,
    "transformer layer": lambda: nn.TransformerEncoderLayer(WIDTH, 2, 8, batch_first=True),
    "own attention": lambda: Attention(mask=False),
    "own attention, masked": lambda: Attention(mask=True),
    "class token, positions": lambda: Part(class_token, (1, 1, WIDTH), (1, TOKENS + 1, WIDTH)),
    "repeated token": lambda: Part(
        lambda x, t: torch.cat([x, t.repeat(len(x), 2, 1)], 1), (1, 1, WIDTH)
    ),
    "layer scale": lambda: Part(lambda x, s, t: x + s * x.sin() + t, (WIDTH,), ()),
    "layer scale in place": lambda: nn.Sequential(
        nn.Linear(WIDTH, WIDTH), Part(lambda x, s: x.mul_(s), (WIDTH,))
    ),
    "matrix product": lambda: Part(lambda x, w: x @ w.softmax(0), (WIDTH, WIDTH)),
    "two uses": lambda: two(nn.Linear(WIDTH, WIDTH)),
    "two uses of a norm": lambda: two(nn.LayerNorm(WIDTH)),
    "tied": tied,
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH)),
    "convolution, 1 dimension": lambda: nn.Conv1d(TOKENS, 6, 3, padding="same", groups=3),
    "depthwise, 1 dimension": lambda: nn.Conv1d(TOKENS, TOKENS, 3, padding=1, groups=TOKENS),
    "even kernel, same size": lambda: images(nn.Conv2d(6, 4, 2, padding="same"), 6, 3, 3),
    "mirrored edges": lambda: images(
        nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"), 6, 3, 3
    ),
    "convolution twice": lambda: images(two(nn.Conv2d(6, 6, 3, padding=1)), 6, 3, 3),
    "weight norm of a convolution": lambda: images(
        parametrizations.weight_norm(nn.Conv2d(6, 4, 3, padding=1)), 6, 3, 3
    ),
    "convolution, 3 dimensions": lambda: images(nn.Conv3d(2, 4, (3, 2, 1)), 2, 3, 3, 3),
    "grouped, 3 dimensions": lambda: images(nn.Conv3d(2, 4, (3, 2, 2), 2, 1, groups=2), 2, 3, 3, 3),
    "depthwise, 3 dimensions": lambda: images(
        nn.Conv3d(2, 2, (2, 3, 1), (1, 2, 1), groups=2, dilation=(2, 1, 1)), 2, 3, 3, 3
    ),
}


def prepared(make: Callable[[], nn.Module], size: int) -> nn.Module:
    """A network in float64 and eval mode, with weights away from their neutral starting values."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make().double()
        with torch.no_grad():
            network(batches(n=2, size=size)[0].images)  # lazy layers
            for parameter in network.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    settle(network, joined(batches(size=size)).images)
    return network.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_parameter_equals_the_loop(kind: str) -> None:
    network = prepared(lambda: Tokens(KINDS[kind]()), 6)
    data = batches(n=5, size=6, batch=2)  # the last batch is one image
    assert slow_parameters(network, data[0].images) == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        check_against_the_loop(network, data)


class Read(nn.Module):
    """A layer on tokens that lie in some order in memory, of which one token is read.

    order: "B T", "T B", and both as rows of one matrix.
    """

    def __init__(self, layer: nn.Module, order: str, tokens: int, read: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(WIDTH, 1)
        self.order, self.tokens, self.read = order, tokens, read

    def forward(self, x: Tensor) -> Tensor:
        samples = len(x)
        x = x.flatten(1)[:, : self.tokens * WIDTH].view(samples, self.tokens, WIDTH)
        sizes = (samples, self.tokens)
        if self.order[0] == "T":
            x, sizes = x.transpose(0, 1), sizes[::-1]
        x = self.layer(x if " " in self.order else x.flatten(0, 1)).view(*sizes, WIDTH)
        x = x[self.read] if self.order[0] == "T" else x[:, self.read]
        return self.head(x.tanh()).squeeze(1)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(WIDTH, WIDTH),
    "norm": lambda: nn.LayerNorm(WIDTH),
    "attention": lambda: nn.TransformerEncoderLayer(WIDTH, 2, 8),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("order", ["T B", "B T", "TB", "BT"])
def test_where_the_samples_are_is_seen_whatever_token_is_read(layer: str, order: str) -> None:
    for tokens, read in ((3, 1), (4, 0), (4, 1), (6, 2), (6, 3), (6, 5), (9, 4), (9, 0)):
        if layer == "attention" and order != "T B":
            continue
        network = prepared(lambda t=tokens, r=read: Read(LAYERS[layer](), order, t, r), 6)
        with warnings.catch_warnings():
            # rows 0, T, 2 T of one matrix can be the tokens of three samples, or three tokens
            warnings.simplefilter("ignore" if (order, tokens, read) == ("BT", 4, 0) else "error")
            check_against_the_loop(network, batches(n=5, size=6, batch=2))


def test_convolutions_on_large_maps_equal_the_loop() -> None:
    """There the library's gradients of single images are used, and products without patches."""
    layers = [
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(4, 6, 1),
        nn.Conv2d(6, 6, 5, padding=2, groups=6),
        nn.Conv2d(6, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 1, stride=2),
    ]
    parts = [part for layer in layers for part in (layer, nn.Tanh())]
    end = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 1), nn.Flatten(0)]
    network = prepared(lambda: nn.Sequential(*parts, *end), 29)
    check_against_the_loop(network, batches(n=3, size=29, batch=2))


# --- networks as they ship ------------------------------------------------------------------------


def torchvision(name: str) -> Callable[[], nn.Module]:
    models = import_torchvision().models
    swin, convnext = models.swin_transformer, models.convnext
    block = convnext.CNBlockConfig
    made: dict[str, Callable[[], nn.Module]] = {
        "vit": lambda: models.VisionTransformer(16, 8, 2, 2, 16, 24, num_classes=1),
        "swin": lambda: models.SwinTransformer([2, 2], 8, [2, 2], [2, 2], [2, 2], num_classes=1),
        "swin v2": lambda: models.SwinTransformer(
            [2, 2],
            8,
            [2, 2],
            [2, 2],
            [2, 2],
            num_classes=1,
            block=swin.SwinTransformerBlockV2,
            downsample_layer=swin.PatchMergingV2,
        ),
        "convnext": lambda: models.ConvNeXt([block(8, 12, 1), block(12, None, 1)], num_classes=1),
        "maxvit": lambda: models.MaxVit((32, 32), 8, 2, [8], [1], 4, 0.0, num_classes=1),
    }
    return made[name]


def timm(name: str) -> Callable[[], nn.Module]:
    import_torchvision()
    models = pytest.importorskip("timm").models
    tokens = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    windows = {"img_size": 16, "patch_size": 2, "window_size": 2, "embed_dim": 8}
    windows |= {"depths": (2, 2), "num_heads": (2, 2)}
    made: dict[str, Callable[[], nn.Module]] = {
        "vit": lambda: models.VisionTransformer(**tokens, num_classes=1, init_values=0.1),
        "deit": lambda: models.deit.VisionTransformerDistilled(**tokens, num_classes=1),
        "dinov2": lambda: models.VisionTransformer(
            **tokens, num_classes=1, init_values=0.1, reg_tokens=2, no_embed_class=True
        ),
        "swin": lambda: models.SwinTransformer(**windows, num_classes=1),
        "convnext": lambda: models.ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 8, 12), num_classes=1),
        "efficientnet": lambda: models.create_model("test_efficientnet", num_classes=1),
    }
    return made[name]


class OneLogit(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).squeeze(1)


@pytest.mark.parametrize(
    ("library", "name", "size"),
    [
        (torchvision, "vit", 16),
        (torchvision, "swin", 12),
        (torchvision, "swin v2", 12),
        (torchvision, "convnext", 16),
        (torchvision, "maxvit", 32),
        (timm, "vit", 16),
        (timm, "deit", 16),
        (timm, "dinov2", 16),
        (timm, "swin", 16),
        (timm, "convnext", 32),
        (timm, "efficientnet", 32),
    ],
)
def test_networks_take_the_fast_road_whole(
    library: Callable[[str], Callable[[], nn.Module]], name: str, size: int
) -> None:
    make = library(name)
    network = prepared(lambda: OneLogit(make()), size)
    data = batches(n=3, size=size, batch=2)
    assert slow_parameters(network, data[0].images) == {}
    check_against_the_loop(network, data)


# --- what is not served ---------------------------------------------------------------------------


class Deep(nn.Module):
    """The depth depends on the image, as in a network that stops early."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 12)
        self.head = nn.Linear(12, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x[:, :, :2, :2].flatten(1)).tanh()
        rows = [self.second(row).tanh() if row[0] > 0 else row for row in x.unbind()]
        return self.head(torch.stack(rows)).squeeze(1)


class Stubborn(nn.Module):
    """It changes its weight in place, which a watched one does not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(12))
        self.head = nn.Linear(12, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :2, :2].flatten(1)
        return self.head(self.scale.expand(len(x), -1).clone().mul_(x.sin())).squeeze(1)


class Mixed(nn.Module):
    """Rows that are no sample's own: the batch comes second where a linear layer needs it first."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :3, :2, :2].reshape(-1, 3, 1, 4).permute(1, 0, 2, 3).repeat(1, 1, 3, 1)
        return self.head(self.inner(x).tanh().sum((0, 2))).squeeze(1)


class Reversed(nn.Module):
    """Samples in another order within: the second of three stays where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(12, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(x[:, :, :2, :2].flatten(1).flip(0)).flip(0)
        return self.head(x.tanh()).squeeze(1)


@pytest.mark.parametrize(
    ("make", "slow"),
    [(Deep, None), (Stubborn, 0), (Mixed, 2), (Reversed, 2)],
    ids=["deep", "stubborn", "mixed", "reversed"],
)
@pytest.mark.filterwarnings("ignore:importance. .* slow automatic")
def test_what_is_not_served_is_right_too(make: type[nn.Module], slow: int | None) -> None:
    network = prepared(make, 6)
    data = batches(n=5, size=6, batch=2)
    if slow is not None:
        assert len(slow_parameters(network, data[0].images)) == slow
    check_against_the_loop(network, data)


class Switched(nn.Module):
    """Which layer is used depends on the images; those of a batch agree."""

    def __init__(self) -> None:
        super().__init__()
        self.bright, self.dark, self.head = nn.Linear(12, 4), nn.Linear(12, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        layer = self.bright if bool((x[:, 0, 0, 0] > 0).all()) else self.dark
        return self.head(layer(x[:, :, :2, :2].flatten(1)).tanh()).squeeze(1)


def test_a_pass_that_calls_other_layers_than_the_probe_is_right() -> None:
    network = prepared(Switched, 6)
    data = batches(n=4, size=6, batch=2)
    for batch, sign in zip(data, (1, -1), strict=True):
        batch.images[:, 0, 0, 0] = sign
    with pytest.warns(UserWarning, match="6 parameter.*that changes with the images"):
        check_against_the_loop(network, data)


def test_naming_slow_parameters_changes_nothing() -> None:
    network = prepared(lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 1), nn.Flatten(0)), 6)
    network.train()
    network[1].bias.requires_grad_(False)
    gradient = network[1].weight.grad = torch.ones_like(network[1].weight)
    assert slow_parameters(network, batches(n=1, size=6)[0].images) == {}
    assert network.training and network[1].weight.grad is gradient
    assert network[1].weight.requires_grad and not network[1].bias.requires_grad


# --- several logits -------------------------------------------------------------------------------


@pytest.mark.parametrize("served", [True, False])
@pytest.mark.filterwarnings("ignore:importance. .* slow automatic")
def test_several_logits_equal_the_loop(served: bool) -> None:
    """(sum_c coefficient_c g_ic)^2, the square of the sum."""
    layer = nn.Conv2d(3, 4, 3) if served else nn.ConvTranspose2d(3, 4, 3)
    network = prepared(
        lambda: nn.Sequential(
            layer, nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        ),
        6,
    )
    data = batches(n=5, size=6, batch=2)
    c, d = torch.randn(2, 2, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    squares, sums = squared_gradients(network, data, c, d)
    for name, parameter in network.named_parameters():
        logits = network(joined(data).images)
        rows = [
            [torch.autograd.grad(z, parameter, retain_graph=True)[0] for z in sample]
            for sample in logits
        ]
        g = torch.stack([torch.stack(row) for row in rows])  # (N, C, *shape)
        own = torch.einsum("knc,nc...->kn...", c, g).square().sum(1)
        batched = [
            torch.einsum("knc,nc...->k...", d[:, i : i + 2], g[i : i + 2]) for i in (0, 2, 4)
        ]
        mean = torch.stack(batched).square().mean(0)
        assert_equal({name: squares[name]}, {name: own}, 1e-12)
        assert_equal({name: sums[name]}, {name: mean}, 1e-12)
