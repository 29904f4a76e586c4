"""Stepping stones: equal to the composition by hand, on every pair of architectures, and gone when asked."""

from __future__ import annotations

import copy
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import logitkd.models  # noqa: F401 (registers the CIFAR networks)
from logitkd.losses import BlockKDLoss, GDKDLoss
from logitkd.reach import LabelMap, StoneModel, Teacher
from logitkd.reach.stones.cuts import pair_cuts

NUM_CLASSES = 5


class Blocks(nn.Module):
    """Linear blocks and a classifier."""

    def __init__(self, widths: list[int], dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(nn.Linear(a, b, dtype=dtype) for a, b in itertools.pairwise(widths)))
        self.classifier = nn.Linear(widths[-1], NUM_CLASSES, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.tanh(self.blocks(x)))


CUTS = ["blocks.0", "blocks.1", "blocks.2"]


@pytest.fixture
def toys() -> tuple[Blocks, Blocks, Tensor]:
    torch.manual_seed(0)
    return Blocks([6, 4, 5, 3]), Blocks([6, 8, 7, 9]), torch.randn(4, 6, dtype=torch.float64)


def stones_of(student: Blocks, teacher: Blocks, x: Tensor, use: object = "all") -> StoneModel:
    model = StoneModel(student, Teacher(teacher, num_classes=5), x, student_cuts=CUTS, teacher_cuts=CUTS, use=use)  # type: ignore[arg-type]
    return model.to(x.dtype)


def by_hand(student: Blocks, teacher: Blocks, stones: StoneModel, x: Tensor) -> list[Tensor]:
    """Return the logits of each stone, composed block by block."""
    outputs = []
    for i in range(3):
        h = x
        for block in list(student.blocks)[: i + 1]:
            h = block(h)
        h = stones.connectors[i].project(h)  # type: ignore[union-attr, operator]
        for block in list(teacher.blocks)[i + 1 :]:
            h = block(h)
        outputs.append(teacher.classifier(torch.tanh(h)))
    return outputs


def test_stones_are_the_composition_by_hand_in_value_and_gradient(toys: tuple[Blocks, Blocks, Tensor]) -> None:
    student, teacher, x = toys
    stones, labels = stones_of(student, teacher, x), torch.tensor([0, 1, 2, 3])
    taught, signals = stones.teach(x), stones(x)
    expected = by_hand(student, teacher, stones, x)
    assert signals.stones is not None
    for stone, other in zip(signals.stones, expected, strict=True):
        torch.testing.assert_close(stone, other)
    torch.testing.assert_close(taught.logits, teacher(x))
    torch.testing.assert_close(signals.logits, student(x))
    parameters = list(stones.parameters())
    loss = BlockKDLoss()
    ours = torch.autograd.grad(loss(signals.logits, taught.logits, labels, stones=signals.stones), parameters)
    theirs = torch.autograd.grad(loss(student(x), teacher(x).detach(), labels, stones=expected), parameters)
    for name, one, other in zip(dict(stones.named_parameters()), ours, theirs, strict=True):
        torch.testing.assert_close(one, other, msg=name)
        assert one.abs().max() > 0, name


def test_no_teacher_block_before_the_cut_runs_twice(toys: tuple[Blocks, Blocks, Tensor]) -> None:
    student, teacher, x = toys
    counts = dict.fromkeys([*CUTS, "classifier"], 0)
    stones = stones_of(student, teacher, x)
    for path in counts:
        inner = teacher.get_submodule(path)
        original = type(inner).forward

        def counting(module: nn.Linear, value: Tensor, path: str = path) -> Tensor:
            counts[path] += 1
            return original(module, value)  # noqa: B023 (the same for all)

        switch = vars(inner).get("forward")
        target = counting.__get__(inner)
        if switch is None:
            inner.forward = target
        else:
            switch.forward = target
    stones.teach(x)
    assert list(counts.values()) == [1, 1, 1, 1]
    stones(x)
    assert counts == {"blocks.0": 1, "blocks.1": 2, "blocks.2": 3, "classifier": 4}


def test_the_teacher_collects_no_gradient_and_keeps_its_statistics() -> None:
    torch.manual_seed(0)
    teacher_net = timm.create_model("cifar_resnet8", num_classes=5)
    before = copy.deepcopy(teacher_net.state_dict())
    student, images = timm.create_model("cifar_resnet8", num_classes=5), torch.randn(4, 3, 16, 16)
    stones = StoneModel(student, Teacher(teacher_net, num_classes=5), images)
    stones.train()
    taught, signals = stones.teach(images), stones(images)
    BlockKDLoss()(signals.logits, taught.logits, torch.arange(4), stones=signals.stones).backward()
    assert all(parameter.grad is None for parameter in teacher_net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher_net.state_dict().items())
    assert not any(module.training for module in teacher_net.modules())
    names = {name.split(".")[0] for name, _ in stones.named_parameters()}
    assert names == {"student", "connectors"}
    for name, parameter in stones.named_parameters():
        assert parameter.grad is not None, name


PAIRS = [
    ("cifar_resnet32x4", "cifar_resnet8x4", 16, ["layer1", "layer2", "layer3"]),
    ("cifar_vgg13", "cifar_mobilenetv2", 32, ["blocks.1", "blocks.2", "blocks.4", "conv2"]),
    ("cifar_wrn_40_2", "cifar_shufflenetv1", 16, ["layer1", "layer2", "layer3"]),
    ("resnet50", "mobilenetv3_small_100", 64, ["blocks.0", "blocks.1", "blocks.3", "blocks.5"]),
    ("convnext_atto", "resnet18", 32, ["layer1", "layer2", "layer3", "layer4"]),
    ("deit_tiny_patch16_224", "resnet18", 32, ["layer1", "layer2", "layer3", "layer4"]),
    ("resnet18", "vit_tiny_patch16_224", 32, ["blocks.2", "blocks.5", "blocks.8", "blocks.11"]),
    ("deit_tiny_distilled_patch16_224", "vit_tiny_patch16_224", 32, ["blocks.2", "blocks.5", "blocks.8", "blocks.11"]),
]


def build(name: str, size: int) -> nn.Module:
    fitted = {"img_size": size, "patch_size": 8} if "patch16" in name else {}
    return timm.create_model(name, num_classes=NUM_CLASSES, **fitted)


@pytest.mark.parametrize(("teacher_name", "student_name", "size", "cuts"), PAIRS, ids=lambda value: str(value)[:24])
def test_every_pair_is_distilled_with_falling_loss(teacher_name: str, student_name: str, size: int, cuts: list[str]) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(6, 3, size, size), torch.arange(6) % NUM_CLASSES
    teacher_net = build(teacher_name, size)
    teacher_net(images)  # one pass of training mode: batch norms of random networks know nothing of their input otherwise
    teacher, student = Teacher(teacher_net, num_classes=NUM_CLASSES), build(student_name, size)
    stones = StoneModel(student, teacher, images)
    assert [pair[0] for pair in stones.cuts] == cuts
    optimizer = torch.optim.AdamW(stones.parameters(), lr=5e-4)
    losses = []
    stones.train()
    for _ in range(8):
        taught, signals = stones.teach(images), stones(images)
        assert signals.stones is not None
        assert [tuple(stone.shape) for stone in signals.stones] == [(6, NUM_CLASSES)] * len(cuts)
        loss = BlockKDLoss()(signals.logits, taught.logits, labels, stones=signals.stones)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.95 * sum(losses[:3]), losses
    assert all(parameter.grad is not None for parameter in stones.connectors.parameters())


def test_a_stone_that_is_given_the_teachers_own_features_is_the_teacher() -> None:
    """Student and teacher alike, the connector an identity: every stone's logits are the teacher's."""
    torch.manual_seed(0)
    teacher_net = timm.create_model("cifar_resnet8", num_classes=5).eval()
    images = torch.randn(2, 3, 16, 16)
    stones = StoneModel(copy.deepcopy(teacher_net), Teacher(teacher_net, num_classes=5), images).eval()
    for connector in stones.connectors:
        nn.init.dirac_(connector.project.weight)  # type: ignore[arg-type, union-attr]
    taught, signals = stones.teach(images), stones(images)
    assert signals.stones is not None
    for stone in signals.stones:
        torch.testing.assert_close(stone, taught.logits, rtol=1e-3, atol=1e-4)  # the batch norm's epsilon


def test_export_gives_the_plain_student_back() -> None:
    torch.manual_seed(0)
    student, images = timm.create_model("cifar_resnet8", num_classes=5), torch.randn(2, 3, 16, 16)
    names = list(student.state_dict())
    teacher_net = timm.create_model("cifar_resnet8", num_classes=5)
    stones = StoneModel(student, Teacher(teacher_net, num_classes=5), images)
    exported = stones.export()
    assert exported is student
    assert list(exported.state_dict()) == names
    for network in (student, teacher_net):
        assert not any("forward" in vars(module) for module in network.modules())


@pytest.mark.parametrize(("use", "kept"), [("all", [0, 1, 2]), ("last", [2]), ([1, 3], [0, 2])])
def test_stones_can_be_chosen(toys: tuple[Blocks, Blocks, Tensor], use: object, kept: list[int]) -> None:
    student, teacher, x = toys
    stones = stones_of(student, teacher, x, use)
    stones.teach(x)
    assert len(stones(x).stones or []) == len(stones.connectors) == len(kept)
    assert stones.cuts == [(CUTS[i], CUTS[i]) for i in kept]


def test_any_loss_is_a_distance(toys: tuple[Blocks, Blocks, Tensor]) -> None:
    student, teacher, x = toys
    stones = stones_of(student, teacher, x)
    taught, signals = stones.teach(x), stones(x)
    loss = BlockKDLoss(d=GDKDLoss(top_k=2))(signals.logits, taught.logits, torch.arange(4), stones=signals.stones)
    loss.backward()
    assert loss.isfinite()


def test_label_map_and_normalisation_of_the_teacher_reach_the_stones() -> None:
    torch.manual_seed(0)
    wide = Blocks([6, 8, 7, 9], dtype=torch.float32)
    wide.classifier = nn.Linear(9, 7)
    label_map = LabelMap([0, 1, 2, 3, 4, 4, 0], num_classes=5)
    x = torch.randn(4, 6)
    student = Blocks([6, 4, 5, 3], dtype=torch.float32)
    teacher = Teacher(wide, num_classes=5, label_map=label_map)
    stones = StoneModel(student, teacher, x, student_cuts=CUTS, teacher_cuts=CUTS)
    taught, signals = stones.teach(x), stones(x)
    torch.testing.assert_close(taught.logits, label_map(wide(x)))
    assert signals.stones is not None
    torch.testing.assert_close(signals.stones[2], label_map(wide.classifier(stones.connectors[2](student.blocks(x)).tanh())))


def test_accumulated_gradients_are_those_of_the_whole_batch(toys: tuple[Blocks, Blocks, Tensor]) -> None:
    student, teacher, x = toys
    stones, labels, loss = stones_of(student, teacher, x), torch.tensor([0, 1, 2, 3]), BlockKDLoss(gamma=0.5)

    def step(part: slice, share: float) -> None:
        taught, signals = stones.teach(x[part]), stones(x[part])
        (share * loss(signals.logits, taught.logits, labels[part], stones=signals.stones)).backward()

    step(slice(0, 4), 1.0)
    whole = [p.grad.clone() for p in stones.parameters() if p.grad is not None]
    stones.zero_grad()
    step(slice(0, 2), 0.5)
    step(slice(2, 4), 0.5)
    for one, other in zip(whole, stones.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad)


def test_bfloat16_autocast_is_close_to_float32() -> None:
    torch.manual_seed(0)
    student, images = timm.create_model("cifar_resnet8", num_classes=5), torch.randn(8, 3, 16, 16)
    stones = StoneModel(student, Teacher(timm.create_model("cifar_resnet8", num_classes=5), num_classes=5), images).eval()
    stones.teach(images)
    exact = stones(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        taught, rough = stones.teach(images), stones(images)
    loss = BlockKDLoss()(rough.logits, taught.logits, torch.arange(8) % 5, stones=rough.stones)
    loss.backward()
    assert loss.isfinite()
    assert exact.stones is not None
    assert rough.stones is not None
    for one, other in zip(exact.stones, rough.stones, strict=True):
        assert other.dtype == torch.bfloat16
        torch.testing.assert_close(other.float(), one, rtol=0.1, atol=0.1)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("whole", [True, False], ids=["stones", "student"])
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_stones_are_the_eager_ones(whole: bool) -> None:
    torch.manual_seed(0)
    student, images = timm.create_model("cifar_resnet8", num_classes=5), torch.randn(4, 3, 16, 16)
    teacher = Teacher(timm.create_model("cifar_resnet8", num_classes=5), num_classes=5)
    stones = StoneModel(student, teacher, images)
    stones.eval()
    stones.teach(images)
    expected = stones(images)
    if whole:
        compiled = torch.compile(stones, backend="aot_eager")
    else:
        student.compile(backend="aot_eager")
        compiled = stones
    for batch in (images, images.flip(0)):
        taught, signals = stones.teach(batch), compiled(batch)
    loss = BlockKDLoss()(signals.logits, taught.logits, torch.arange(4), stones=signals.stones)
    loss.backward()
    assert all(parameter.grad is not None for parameter in stones.parameters())
    torch.testing.assert_close(signals.logits.flip(0), expected.logits)
    for one, other in zip(signals.stones, expected.stones or [], strict=True):
        torch.testing.assert_close(one.flip(0), other, rtol=1e-4, atol=1e-5)


def test_two_processes_get_the_gradients_of_one() -> None:
    script = Path(__file__).with_name("stones_in_two_processes.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("agrees") == 2


@pytest.mark.parametrize(
    ("student_cuts", "teacher_cuts", "message"),
    [
        (CUTS[:2], CUTS, r"same number of places, got 2 \(blocks.0, blocks.1\) and 3"),
        (CUTS, ["blocks.0", "blocks.2", "blocks.1"], "teacher cuts of Blocks must be in the order in which they run"),
        (["blocks.0", "blocks.1", "blocks.9"], CUTS, "student cut `blocks.9` is no module of Blocks"),
        ([], CUTS, "student cuts must be at least one module path, got none"),
    ],
)
def test_bad_cuts_are_refused_and_leave_nothing_behind(
    toys: tuple[Blocks, Blocks, Tensor], student_cuts: list[str], teacher_cuts: list[str], message: str
) -> None:
    student, teacher, x = toys
    with pytest.raises(ValueError, match=message):
        StoneModel(student, Teacher(teacher, num_classes=5), x, student_cuts=student_cuts, teacher_cuts=teacher_cuts)
    for network in (student, teacher):
        assert not any("forward" in vars(module) for module in network.modules())


class Around(nn.Module):
    """Its classifier reads the first block, too; or its blocks run under an activation checkpoint."""

    def __init__(self, around: bool = False, reentrant: bool | None = None) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, NUM_CLASSES)
        self.around, self.reentrant = around, reentrant

    def forward(self, x: Tensor) -> Tensor:
        if self.reentrant is not None:
            y, x = x, checkpoint(lambda x: self.two(self.one(x).relu()).relu(), x, use_reentrant=self.reentrant)
        else:
            y = self.one(x).relu()
            x = self.two(y).relu()
        return self.head((x + y if self.around else x).mean((2, 3)))


@pytest.mark.parametrize("teacher", ["around", "cube"])
def test_a_refusal_by_what_lies_behind_a_cut_leaves_nothing_behind(teacher: str) -> None:
    images, student = torch.randn(2, 3, 8, 8), Around()
    taught: nn.Module = Around(around=True)
    if teacher == "cube":  # found only when the connectors are made
        taught = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Unflatten(1, (2, 2, 2, 2)), nn.Flatten(), nn.Linear(16, 5))
    cuts = ["two"] if teacher == "around" else ["2"]
    with pytest.raises(ValueError, match=r"must put out all that the parts behind it read|must put out a map"):
        StoneModel(student, Teacher(taught, num_classes=5), images, student_cuts=["two"], teacher_cuts=cuts)
    for network in (student, taught):
        assert not any("forward" in vars(module) for module in network.modules())


class Levels(nn.Module):
    """A network whose second block puts out more than one map (of another batch, with ``rows``)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 4, 3), LevelsBlock(kind), nn.Linear(4, NUM_CLASSES)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        x = self.two(self.one(x).relu())
        if self.kind == "rows":
            return self.head(x.unflatten(0, (-1, 36)).mean(1))
        return self.head(x["fine"].mean((2, 3)) + x["coarse"].mean((2, 3)))


class LevelsBlock(nn.Module):
    """A pyramid of two levels, or a row for every pixel."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv, self.kind = nn.Conv2d(4, 4, 1), kind

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        fine = self.conv(x)
        if self.kind == "rows":
            return fine.permute(0, 2, 3, 1).flatten(0, 2)
        return {"fine": fine, "coarse": nn.functional.max_pool2d(fine, 2)}


@pytest.mark.parametrize("role", ["student", "teacher"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pyramid", "cut `two` of Levels must put out one map, tokens or vector, but the parts behind it read 2 tensors"),
        ("rows", "cut `two` of Levels must put out a row an example, got 72 rows for 2 examples"),
    ],
)
def test_a_block_that_puts_out_no_single_map_of_each_example_is_refused(role: str, kind: str, message: str) -> None:
    images, networks = torch.randn(2, 3, 8, 8), {"student": Around(), "teacher": Around()}
    networks[role] = Levels(kind)
    teacher = Teacher(networks["teacher"], num_classes=5)
    with pytest.raises(ValueError, match=f"{role} {message}"):
        StoneModel(networks["student"], teacher, images, student_cuts=["two"], teacher_cuts=["two"])
    assert not any("forward" in vars(module) for network in networks.values() for module in network.modules())


def test_tnts_pixel_tokens_are_refused_by_name() -> None:
    tnt = timm.create_model("tnt_s_legacy_patch16_224", num_classes=NUM_CLASSES, img_size=32, depth=2)
    images = torch.randn(2, 3, 32, 32)
    with pytest.raises(ValueError, match=r"student cut `blocks.0` of TNT must put out one map, tokens or vector, but"):
        StoneModel(tnt, Teacher(vit(), num_classes=5), images, student_cuts=["blocks.0"], teacher_cuts=["blocks.0"])


def vit() -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", num_classes=NUM_CLASSES, img_size=32, depth=2, embed_dim=12, num_heads=2)


class Text(nn.Module):
    """Classifies token ids."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, width)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(width, 2, 2 * width, 0.0, batch_first=True) for _ in range(4))
        self.head = nn.Linear(width, NUM_CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


def test_token_ids_are_examples_like_any_other() -> None:
    """Ids cannot be negated to see what they change."""
    torch.manual_seed(0)
    ids, teacher = torch.tensor([[0, 1, 2, 3], [6, 5, 4, 3]]), Text(8).eval()
    stones = StoneModel(Text(4), Teacher(teacher, num_classes=5), ids)
    assert [cuts[1] for cuts in stones.cuts] == [f"layers.{n}" for n in range(4)]
    taught, signals = stones.teach(ids), stones(ids)
    torch.testing.assert_close(taught.logits, teacher(ids))
    assert [tuple(stone.shape) for stone in signals.stones or []] == [(2, NUM_CLASSES)] * 4


def test_what_is_read_around_a_cut_is_seen_on_examples_that_are_alike() -> None:
    images = torch.zeros(2, 3, 8, 8)
    with pytest.raises(ValueError, match="teacher cut `two` of Around must put out all that the parts behind it read"):
        StoneModel(Around(), Teacher(Around(around=True), num_classes=5), images, student_cuts=["two"], teacher_cuts=["two"])


class Halves(nn.Module):
    """Its second part puts out both halves of one map, the last reads both: seen by the proof, not by who looks at storage."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(3, 4, 3, padding=1), Half(4, 8), nn.Conv2d(4, 4, 3, padding=1)
        self.four, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.two(self.one(x).relu())
        return self.head(self.four((self.three(left) + right).relu()).mean((2, 3)))


class Half(nn.Conv2d):
    """Puts out two halves."""

    def __init__(self, width: int, both: int) -> None:
        super().__init__(width, both, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return super().forward(x).chunk(2, dim=1)


def test_a_cut_that_the_proof_refuses_gives_way_to_the_next() -> None:
    torch.manual_seed(0)
    images, teacher = torch.randn(2, 3, 8, 8), Halves()
    found = pair_cuts(Around(), teacher, images, images, student_cuts=["one", "two"])
    assert "two" in found[1]
    stones = StoneModel(Around(), Teacher(teacher, num_classes=5), images, student_cuts=["two"])
    assert [cuts[1] for cuts in stones.cuts] == ["four"]
    stones.export()
    with pytest.raises(ValueError, match="same number of places"):  # nothing is left that would do
        StoneModel(Around(), Teacher(teacher, num_classes=5), images, student_cuts=["one", "two"])
    assert not any("forward" in vars(module) for module in teacher.modules())


def test_the_share_of_the_work_stands_beside_each_cut() -> None:
    images = torch.randn(2, 3, 8, 8)
    stones = StoneModel(Around(), Teacher(Around(), num_classes=5), images, student_cuts=["one"], teacher_cuts=["two"])
    one, two = 36 * 3 * 4 * 9, 36 * 4 * 4 * 9
    assert stones.shares == [pytest.approx((one / (one + two + 20), (one + two) / (one + two + 20)))]
    assert stones.note() == "stepping stones (share of the multiply-adds done there): one (43%) -> two (100%)"


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_gradient_that_a_reentrant_checkpoint_would_swallow_is_an_error(role: str) -> None:
    images, networks = torch.randn(2, 3, 8, 8), {"student": Around(), "teacher": Around()}
    cuts = {"student_cuts": ["one"], "teacher_cuts": ["one"]}
    networks[role].reentrant = True
    stones = StoneModel(networks["student"], Teacher(networks["teacher"], num_classes=5), images, **cuts)
    stones.teach(images)
    with pytest.raises(RuntimeError, match=f"must pass {role} cut `one`.*`use_reentrant=False`"):
        stones(images)
    with torch.no_grad():
        stones(images)
    networks[role].reentrant = None
    assert stones(images).stones is not None


def test_a_checkpoint_that_is_not_reentrant_changes_no_gradient() -> None:
    images, student, taught = torch.randn(2, 3, 8, 8), Around(), Around()
    stones = StoneModel(student, Teacher(taught, num_classes=5), images, student_cuts=["one"], teacher_cuts=["one"])
    gradients = []
    for student.reentrant in (None, False):
        stones.zero_grad()
        stones.teach(images)
        stones(images).stones[0].square().mean().backward()  # type: ignore[index]
        assert student.one.weight.grad is not None
        gradients.append(student.one.weight.grad.clone())
    assert gradients[0].abs().sum() > 0
    assert torch.allclose(*gradients)


def test_models_that_share_a_tensor_are_refused() -> None:
    network = Around()
    teacher = Teacher(network, num_classes=5)
    with pytest.raises(ValueError, match="student and teacher must not share tensors"):
        StoneModel(network, teacher, torch.randn(2, 3, 8, 8), student_cuts=["one"], teacher_cuts=["one"])


@pytest.mark.parametrize("use", ["first", [0], [4], [2, 1], [2, 2], [], [True]])
def test_stones_that_do_not_exist_are_refused(toys: tuple[Blocks, Blocks, Tensor], use: object) -> None:
    with pytest.raises(ValueError, match=r"stones must be `all`, `last` or rising numbers in \[1, 3\]"):
        stones_of(*toys, use)


def test_the_student_must_see_what_the_teacher_saw(toys: tuple[Blocks, Blocks, Tensor]) -> None:
    student, teacher, x = toys
    stones = stones_of(student, teacher, x)
    stones.teach(x)
    with pytest.raises(RuntimeError, match="`teach\\(images\\)` must come before the student's pass on the same images"):
        stones(x[:3])


def test_one_example_image_is_too_few(toys: tuple[Blocks, Blocks, Tensor]) -> None:
    student, teacher, x = toys
    with pytest.raises(ValueError, match="`inputs` must be an example batch of at least 2, got 1"):
        StoneModel(student, Teacher(teacher, num_classes=5), x[:1])


def test_a_teacher_that_is_not_wrapped_and_a_path_that_is_no_list_are_refused(toys: tuple[Blocks, Blocks, Tensor]) -> None:
    student, teacher, x = toys
    with pytest.raises(TypeError, match=r"`teacher` must be a Teacher, got Blocks: wrap it, Teacher\(teacher, num_classes=C\)"):
        StoneModel(student, teacher, x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`student_cuts` must be a list of module paths, got the text 'blocks.0': write"):
        StoneModel(student, Teacher(teacher, num_classes=5), x, student_cuts="blocks.0")
