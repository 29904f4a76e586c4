"""The table of methods: the papers' defaults, strict replacement, and how a row is added."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from logitkd import losses, methods
from logitkd.methods import Method
from logitkd.objective import Objective
from logitkd.reach import Signals
from naive import draw

# The papers' defaults, from their CIFAR-100 settings; three weights (cross-entropy, loss, warm-up epochs), then the loss.
GDKD = {"w_group": 1.0, "w_top": 1.0, "w_rest": 8.0, "top_k": 5, "temperature": 4.0}
LDRLD = {"alpha": 10.5, "beta": 7.0, "depth": 7, "temperature": 4.0}
SDD = {"scales": (1, 2, 4), "disagreement": 2.0}
GRAM = {"gram_weight": 2.0, "gram_temperature": 2.0, "scale_weights": None, "skip_trivial": False}
DEFAULTS: dict[str, tuple[tuple[float, float, int], dict[str, Any]]] = {
    "ce": ((1.0, 1.0, 0), {}),
    "kd": ((0.1, 0.9, 0), {"temperature": 4.0}),
    "dkd": ((1.0, 1.0, 20), {"alpha": 1.0, "beta": 8.0, "temperature": 4.0, "target": "label", "kl_type": "forward"}),
    "nkd": ((1.0, 1.0, 20), {"gamma": 1.5, "temperature": 1.0, "exclude_target": True}),
    "gdkd": ((1.0, 1.0, 20), {**GDKD, "strategy": "best", "kl_type": "forward", "top_mass": None, "teacher_mass": "none"}),
    "gdkd3": ((1.0, 1.0, 20), {**GDKD, "top_k": 4}),
    "ls-kd": ((0.1, 9.0, 0), {"temperature": 2.0, "eps": 1e-7}),
    "ls-dkd": ((1.0, 9.0, 20), {"temperature": 2.0, "beta": 8.0, "alpha": 1.0}),
    "ls-gdkd": ((1.0, 1.0, 20), {**GDKD, "eps": 1e-7}),
    "dist": ((1.0, 1.0, 0), {"beta": 2.0, "gamma": 2.0, "temperature": 4.0}),
    "cwd": ((1.0, 3.0, 0), {"temperature": 4.0}),
    "mlkd": ((0.1, 0.9, 0), {"temperatures": (2.0, 3.0, 4.0, 5.0, 6.0), "masking": "rows"}),
    "ldrld": ((1.0, 1.0, 0), {**LDRLD, "rank_by": "student", "rank_eps": 1.5, "delta": 2.0, "decay": 0.05}),
    "ls-ldrld": ((1.0, 1.0, 0), LDRLD),
    "sdd-ldrld": ((1.0, 1.0, 0), {**SDD, **LDRLD}),
    "sdd-kd": ((0.1, 0.9, 0), {**SDD, "temperature": 4.0}),
    "sdd-dkd": ((1.0, 1.0, 20), {**SDD, "alpha": 1.0, "temperature": 4.0}),
    "sdd-gdkd": ((1.0, 1.0, 20), {**SDD, **GDKD}),
    "icd-kd": ((0.1, 0.9, 0), {**SDD, **GRAM, "temperature": 4.0}),
    "icd-dkd": ((1.0, 1.0, 20), {**SDD, **GRAM, "alpha": 1.0, "beta": 2.0, "temperature": 4.0}),
    "icd-gdkd": ((1.0, 1.0, 20), {**SDD, **GRAM, **GDKD}),
    "block-kd": ((0.0, 1.0, 0), {"alpha": 1.0, "beta": 1.0, "gamma": 1.0, "decay": 2.0, "temperature": 4.0}),
    "block-dkd": ((0.0, 1.0, 0), {"alpha": 1.0, "beta": 1.0, "d_alpha": 1.0, "d_beta": 8.0, "temperature": 4.0}),
    "block-gdkd": ((0.0, 1.0, 0), {"alpha": 1.0, **GDKD}),
    "block-ldrld": ((0.0, 1.0, 0), {"alpha": 1.0, "beta": 1.0, "d_alpha": 10.5, "d_beta": 7.0, "depth": 7, "temperature": 4.0}),
}
SIGNALS = {"ce": "none", "cwd": "maps", "sdd": "regions", "icd": "regions", "block": "stones"}


def drawn(method: Method, c: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits of both networks of three examples, and labels; for what reads maps three images of one cell."""
    student, teacher, labels = draw(0, 3, c)
    if method.wants.reads != "maps":
        return student, teacher, labels
    return student.view(3, 1, 1, c), teacher.view(3, 1, 1, c), labels.view(3, 1, 1)


@pytest.fixture
def toy() -> Iterator[Method]:
    """A row of our own, taken out of the table afterwards."""
    row = Method("test-row", "nobody, 2026", "KD at temperature 3", (losses.KDLoss,), 0.5, 2.0, 4, {"temperature": 3.0})
    methods.register(row)
    yield row
    del methods._TABLE["test-row"]


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_the_papers(name: str) -> None:
    method, (weights, options) = methods.get(name), DEFAULTS[name]
    assert (method.ce_weight, method.kd_weight, method.warmup_epochs) == weights
    assert {key: method.options[key] for key in options} == options


@pytest.mark.parametrize("name", methods.names())
def test_every_row_builds_what_it_says(name: str) -> None:
    method = methods.get(name)
    assert method.name == name
    assert method.paper or not method.parts
    assert method.summary
    assert "\n" not in method.summary
    loss = method.loss
    expected = SIGNALS.get(name.split("-")[0], "logits")
    assert method.wants.reads == ("logits" if expected == "none" else expected)
    assert method.has_teacher == (expected != "none")
    assert (loss is None) == (expected == "none")
    assert method.needs_labels == (method.ce_weight > 0 or (loss is not None and loss.needs_labels))
    assert method.wants.scales == ((1, 2, 4) if expected == "regions" else None)
    if loss is not None:
        assert loss.reads == expected
        assert isinstance(loss, method.parts[0])
        assert method.loss is loss


@pytest.mark.parametrize("name", methods.names())
def test_options_round_trip(name: str) -> None:
    method = methods.get(name)
    assert list(method.options)[:3] == ["ce_weight", "kd_weight", "warmup_epochs"]
    assert method.replace(**method.options).options == method.options
    assert type(method.replace(**method.options)) is Method
    assert repr(method.replace(**method.options).loss) == repr(method.loss)


def test_a_row_with_the_same_options_has_one_loss_and_shares_it_with_no_other_row() -> None:
    gdkd = methods.get("gdkd")
    assert gdkd.replace(top_k=1).loss is gdkd.replace(top_k=1).loss
    assert gdkd.replace(top_k=1).loss is not gdkd.loss
    assert methods.get("ls-gdkd").loss.loss is not gdkd.loss
    with pytest.raises(TypeError, match="`top_k` must be an integer, got True"):  # though True equals 1
        gdkd.replace(top_k=True)


def test_a_row_given_its_own_options_is_the_same_row() -> None:
    method = methods.get("gdkd")
    assert method.replace(**method.options) == method


@pytest.mark.parametrize("name", methods.names())
def test_the_weights_of_a_row_reach_its_objective(name: str) -> None:
    method = methods.get(name).replace(ce_weight=0.75, kd_weight=0.3, warmup_epochs=10)
    c = 12
    student, teacher, labels = drawn(method, c)
    regions, stones = draw(1, 3, 21, c), draw(2, 2, 3, c)[0]
    yields = Signals(student, regions[0], list(stones)), Signals(teacher, regions[1])
    total, terms = method.objective()(*yields, labels, epoch=2)
    expected, _ = Objective(method.loss, 0.75, 0.3, 10)(*yields, labels, epoch=2)
    assert total.item() == expected.item()
    loss, want = method.loss, 0.75 * terms["ce"].item()
    if loss is not None:
        for term, weight in loss.term_weights.items():
            want += (1.0 if term in loss.unscaled_terms else 0.2 * 0.3) * weight * terms[term].item()
    assert total.item() == pytest.approx(want, rel=1e-9)


def test_replace_gives_another_row_and_leaves_the_first() -> None:
    before = methods.get("gdkd")
    after = before.replace(top_k=3, w_rest=2.0, ce_weight=0.5)
    assert (after.options["top_k"], after.options["w_rest"], after.ce_weight, after.name) == (3, 2.0, 0.5, "gdkd")
    assert methods.get("gdkd") is before
    assert before.options["top_k"] == 5
    loss = after.loss
    assert isinstance(loss, losses.GDKDLoss)
    assert loss.top_k == 3
    assert loss.term_weights["rest"] == 2.0
    assert after != before


def test_replace_reaches_every_part_of_a_composition() -> None:
    loss = methods.get("icd-dkd").replace(beta=7.0, scales=(1, 2), gram_weight=5.0, disagreement=3.0).loss
    assert isinstance(loss, losses.ICDLoss)
    assert isinstance(loss.loss, losses.SDDLoss)
    assert isinstance(loss.loss.loss, losses.DKDLoss)
    assert (loss.scales, loss.loss.scales, loss.loss.disagreement) == ((1, 2), (1, 2), 3.0)
    assert loss.term_weights == {"tckd": 1.0, "nckd": 7.0, "gram": 5.0}
    assert methods.get("sdd-kd").replace(scales=(1, 2)).wants.scales == (1, 2)


def test_replace_changes_what_a_row_needs() -> None:
    assert not methods.get("kd").replace(ce_weight=0.0).needs_labels
    assert methods.get("dkd").replace(ce_weight=0.0).needs_labels
    assert not methods.get("dkd").replace(ce_weight=0.0, target="teacher").needs_labels
    assert not methods.get("block-kd").replace(alpha=0.0).needs_labels


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("gdkd", {"topk": 3}, ValueError, r"method `gdkd`: unknown option `topk`\. Did you mean `top_k`\? Known: .*top_k"),
        ("kd", {"beta": 3.0}, ValueError, r"method `kd`: unknown option `beta`\."),
        ("kd", {"name": "other"}, ValueError, r"method `kd`: unknown option `name`\."),
        ("ce", {"temperature": 3.0}, ValueError, r"method `ce`: unknown option `temperature`\."),
        ("sdd-kd", {"gram_weight": 1.0}, ValueError, r"method `sdd-kd`: unknown option `gram_weight`\."),
        ("gdkd", {"top_k": 0}, ValueError, r"`top_k` must be .*1.*, got 0\."),
        ("kd", {"temperature": -1.0}, ValueError, r"`temperature` must be above 0, got -1\.0\."),
        ("kd", {"temperature": "4"}, TypeError, r"`temperature` must be a number, got '4' \(str\)\."),
        ("kd", {"kd_weight": -1.0}, ValueError, r"`kd_weight` must be .*at least 0, got -1\.0\."),
        ("kd", {"warmup_epochs": 1.5}, TypeError, r"`warmup_epochs` must be an integer, got 1\.5 \(float\)\."),
        ("ce", {"ce_weight": 0.0}, ValueError, r"`ce_weight` must be above 0 where there is no distillation loss"),
        ("sdd-kd", {"scales": (2, 4)}, ValueError, r"`scales` must start with 1"),
    ],
)
def test_replace_is_strict(name, options, error, message) -> None:
    with pytest.raises(error, match=message):
        methods.get(name).replace(**options)


def test_unknown_name_lists_the_close_ones_and_all() -> None:
    with pytest.raises(ValueError, match=r"^unknown method `gdk`\. Did you mean `gdkd`\? Known: .*dist, dkd, gdkd.*\.$"):
        methods.get("gdk")
    with pytest.raises(ValueError, match=r"^unknown method `qqq`\. Known: "):
        methods.get("qqq")


def test_rows_are_frozen() -> None:
    row = methods.get("kd")
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.kd_weight = 2.0  # type: ignore[misc]
    row.options["temperature"] = 1.0  # a copy
    assert methods.get("kd").options["temperature"] == 4.0


def test_the_overrides_of_a_row_cannot_be_changed() -> None:
    overrides = {"temperature": 3.0}
    row = Method("mine", "nobody", "KD at 3", (losses.KDLoss,), overrides=overrides)
    overrides["temperature"] = 9.0
    assert row.options["temperature"] == 3.0
    with pytest.raises(TypeError):
        row.overrides["temperature"] = 9.0  # type: ignore[index]


def test_a_new_row_is_one_registration(toy: Method) -> None:
    assert methods.get("test-row") is toy
    assert methods.names()[-1] == "test-row"
    assert toy.options == {"ce_weight": 0.5, "kd_weight": 2.0, "warmup_epochs": 4, "temperature": 3.0}
    student, teacher, labels = draw(0, 3, 5)
    total, terms = toy.objective()(Signals(student), Signals(teacher), labels, epoch=1)
    kd = losses.KDLoss(3.0)(student, teacher).item()
    assert terms["kd"].item() == pytest.approx(kd)
    assert total.item() == pytest.approx(0.5 * terms["ce"].item() + 0.25 * 2.0 * kd)


def test_a_composition_of_our_own_is_a_row(toy: Method) -> None:
    row = Method("mine", "nobody", "LS inside SDD", (losses.SDDLoss, losses.Standardized, losses.KDLoss))
    loss = row.loss
    assert isinstance(loss, losses.SDDLoss)
    assert isinstance(loss.loss, losses.Standardized)
    assert row.wants.scales == (1, 2, 4)
    regions = draw(1, 2, 21, 5)
    assert torch.isfinite(loss(*regions))


def test_a_name_that_is_taken_raises(toy: Method) -> None:
    before = methods.names()
    for name in ("kd", "test-row"):
        with pytest.raises(ValueError, match=rf"^method `{name}` is in the table already\."):
            methods.register(dataclasses.replace(toy, name=name))
    assert methods.names() == before
    assert methods.get("test-row") is toy


def test_the_toy_row_is_gone() -> None:
    assert "test-row" not in methods.names()


@pytest.mark.parametrize("overrides", [{"temprature": 3.0}, {"temperature": 3.0, "temprature": 3.0}])
def test_a_row_with_an_unknown_option_is_refused_when_written(overrides: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unknown option `temprature`\. Did you mean `temperature`\?"):
        Method("mine", "nobody", "a row", (losses.KDLoss,), overrides=overrides)


def test_a_row_with_a_bad_value_is_refused_when_built() -> None:
    with pytest.raises(ValueError, match=r"`temperature` must be above 0, got 0\.0\."):
        Method("mine", "nobody", "a row", (losses.KDLoss,), overrides={"temperature": 0.0}).objective()
    with pytest.raises(ValueError, match=r"`loss` must be a per-example loss, got DISTLoss"):
        Method("mine", "nobody", "a row", (losses.SDDLoss, losses.DISTLoss)).objective()


LABELS_OPTIONAL = [
    *("kd", "gdkd", "gdkd3", "ldrld", "dist", "cwd", "mlkd", "ls-kd", "ls-gdkd", "ls-ldrld"),
    *("sdd-kd", "sdd-gdkd", "sdd-ldrld", "icd-kd", "icd-gdkd", "block-kd", "block-gdkd", "block-ldrld"),
]


@pytest.mark.parametrize("name", methods.names())
def test_who_can_do_without_labels(name: str) -> None:
    """What is said to need none runs without, and gives the same whatever the labels would be."""
    method = methods.get(name)
    assert method.labels_optional == (name in LABELS_OPTIONAL)
    if not method.labels_optional:
        with pytest.raises(ValueError, match=rf"without labels, got `{name}`: .*\. These can: kd, gdkd, .*block-ldrld\."):
            method.without_labels()
        return
    alone = method.without_labels()
    assert alone.ce_weight == 0
    assert not alone.needs_labels
    assert not alone.needs_hard_labels
    student, teacher, labels = drawn(method, 12)
    regions, stones = draw(1, 3, 21, 12), draw(2, 2, 3, 12)[0]
    yields = Signals(student, regions[0], list(stones)), Signals(teacher, regions[1])
    total, terms = alone.objective()(*yields, None, epoch=30)
    assert "ce" not in terms
    for given in (labels, torch.full_like(labels, -1), torch.rand(3, 12).softmax(-1)):
        assert alone.objective()(*yields, given, epoch=30)[0].item() == total.item()


def test_what_labels_none_changes_is_not_overruled_without_a_word() -> None:
    assert methods.get("sdd-kd").without_labels().options["judge"] == "teacher"
    assert methods.get("block-kd").without_labels({"alpha": 0, "beta": 2.0}).options["alpha"] == 0
    with pytest.raises(ValueError, match=r"`ce_weight` must be 0\.0 without labels, got 0\.1\. Leave it out, or give labels"):
        methods.get("kd").without_labels({"ce_weight": 0.1})
    with pytest.raises(ValueError, match=r"`alpha` must be 0\.0 without labels, got 1\.0"):
        methods.get("block-kd").without_labels({"alpha": 1.0})


def test_who_needs_hard_labels() -> None:
    assert [name for name in methods.names() if not methods.get(name).needs_hard_labels] == [
        *("ce", "kd", "gdkd", "gdkd3", "ldrld", "dist", "cwd", "mlkd", "ls-kd", "ls-gdkd", "ls-ldrld"),
        *("block-kd", "block-gdkd", "block-ldrld"),
    ]
    assert not methods.get("icd-kd").replace(judge="teacher").needs_hard_labels
    assert not methods.get("dkd").replace(target="teacher").needs_hard_labels


def test_a_row_without_labels_by_an_option_of_its_own() -> None:
    assert methods.get("dkd").replace(target="teacher").labels_optional
    assert not methods.get("dkd").replace(target="teacher").without_labels().needs_labels


def of_two_classes(name, **options):
    """The loss and its gradient on two classes."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 2, generator=generator) for _ in range(2))
    student.requires_grad_()
    methods.get(name).replace(**options).loss(student, 3 * teacher, torch.tensor([0, 1, 1, 0, 1, 0])).backward()
    return student.grad


COLLAPSING = {"dkd": {}, "gdkd": {"top_k": 1}, "ldrld": {"depth": 2}}


@pytest.mark.parametrize("name", COLLAPSING)
def test_with_two_classes_some_methods_are_kd(name):
    ratio = of_two_classes(name, **COLLAPSING[name]) / of_two_classes("kd")
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-4, atol=0)
    method = methods.get(name).replace(**COLLAPSING[name])
    assert method.note_classes(2).startswith(f"with 2 classes `{name}` is `kd` with other weights")
    assert method.note_classes(3) == ""


def test_with_two_classes_standardized_logits_have_no_gradient():
    assert of_two_classes("ls-kd").abs().max() < 1e-5 * of_two_classes("kd").abs().max()
    assert "`ls-kd` learns nothing from the teacher" in methods.get("ls-kd").note_classes(2)


def test_with_two_classes_what_is_left_of_nkd_is_a_weight():
    one = torch.tensor([[0.3, -0.2]]), torch.tensor([[2.0, -1.0]]), torch.tensor([0])
    assert methods.get("nkd").loss.terms(*one)["nontarget"] == 0
    assert "only how sure it is of the label" in methods.get("nkd").note_classes(2)
    assert methods.get("nkd").replace(exclude_target=False).note_classes(2) == ""


def test_with_two_classes_others_stay_what_they_are():
    told = {name for name in methods.names() if methods.get(name).note_classes(2)}
    assert told.isdisjoint({"ce", "kd", "dist", "mlkd", "sdd-kd", "icd-kd", "block-kd"})
    named = {"sdd-dkd": "sdd-kd", "icd-gdkd": "icd-kd", "block-ldrld": "block-kd"}  # inside other losses, too
    assert all(f"`{name}` is `{kd}` with" in methods.get(name).note_classes(2) for name, kd in named.items())
    assert told >= {"sdd-nkd", "block-dkd", "ls-dkd", "ls-gdkd"}


@pytest.mark.parametrize(
    ("name", "flags"), [("gdkd", "--method.top_k 1"), ("ldrld", "--method.depth 2"), ("block-gdkd", "--method.top_k 1")]
)
def test_with_two_classes_the_option_that_fits_is_named_with_what_it_makes(name, flags):
    kd = "block-kd" if name.startswith("block") else "kd"
    with pytest.raises(ValueError, match=rf"got \d\. Give `{flags}`; but with 2 classes `{name}` is `{kd}` with other weights"):
        methods.get(name).check_classes(2)
    methods.get(name).replace(**{"top_k": 1} if "top_k" in flags else {"depth": 2}).check_classes(2)
    with pytest.raises(ValueError, match=r"needs at least 3 classes"):
        methods.get("gdkd3").check_classes(2)
