"""Every loss against the numbers of the authors' code: values, named terms and gradients, in float64 and float32."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import golden_cases
from logitkd import losses, methods
from logitkd.objective import Objective
from logitkd.reach import Signals

LossCase = tuple[Tensor, dict[str, Tensor]]  # the loss, and the terms whose numbers are stored, batch means
KL_TYPES = {"forward", "reverse", "both"}


def named(loss: losses.LogitLoss, names: dict[str, str], **options: Any) -> Callable[..., LossCase]:
    """Return a call that gives the loss and its terms under the names of the golden file."""

    def call(student: Tensor, teacher: Tensor, labels: Tensor) -> LossCase:
        terms = loss.terms(student, teacher, labels, **options)
        assert set(terms) == set(loss.term_weights)
        return loss(student, teacher, labels, **options), {g: terms[o].mean() for g, o in names.items()}

    return call


def gdkd(h: dict[str, Any]) -> losses.GDKDLoss:
    return losses.GDKDLoss(h["w0"], h["w1"], h["w2"], h["k"], h["T"], h["strategy"], h["kl_type"])


def dkd(h: dict[str, Any]) -> losses.DKDLoss:
    return losses.DKDLoss(h["alpha"], h["beta"], h["T"])


def dkdmod(h: dict[str, Any]) -> losses.DKDLoss:
    target = {"target": "label", "top1": "teacher"}[h["strategy"]]
    return losses.DKDLoss(h["alpha"], h["beta"], h["T"], target, h["kl_type"])


def gdkd3(h: dict[str, Any]) -> losses.GDKD3Loss:
    return losses.GDKD3Loss(h["w0"], h["w1"], h["w2"], h["k"], h["T"])


def mlkd_term(name: str) -> Callable[[dict[str, Any]], Callable[..., LossCase]]:
    def build(h: dict[str, Any]) -> Callable[..., LossCase]:
        assert h["reduce"] is True

        def call(student: Tensor, teacher: Tensor, labels: Tensor) -> LossCase:
            terms = losses.mlkd_terms(student, teacher, temperatures=[h["T"]], masking="none")
            return terms[name].mean(), {}

        return call

    return build


def nkd_sum(h: dict[str, Any]) -> Callable[..., LossCase]:
    loss = losses.NKDLoss(h["gamma"], h["temp"], exclude_target=False)
    return lambda student, teacher, labels: (loss.example_losses(student, teacher, labels).sum(), {})


def ldrld(h: dict[str, Any]) -> Callable[..., LossCase]:
    """The older form: not divided by the number of combinations, and at depth 2 both classes together weigh 1."""
    combinations, pair = h["d"] * (h["d"] - 1) / 2 + 1, h["scale"] * math.exp(-3 * h["decay"]) / (1 + h["delta"])
    together = pair if h["d"] == 2 else 1.0  # what they weigh in the authors' code
    local = (1 + 1 / pair) / 2 if h["d"] == 2 else 1.0
    # the file calls `delta` what the paper adds to the rank distance and `scale` what it multiplies with
    options = (h["d"], h["T"], "student", h["scale"], h["decay"], h["delta"])
    loss = losses.LDRLDLoss(h["alpha"] * combinations * local, h["beta"], *options)
    call = named(loss, {name: name for name in ("pairs", "llki", "rntk")})

    def undivided(student: Tensor, teacher: Tensor, labels: Tensor) -> LossCase:
        value, terms = call(student, teacher, labels)
        pairs, llki = terms["pairs"] * combinations, terms["llki"] * combinations / together
        return value, {"L_w": pairs, "L_LLKI": llki, "L_RNTK": terms["rntk"]}

    return undivided


def ldrld_official(h: dict[str, Any]) -> Callable[..., LossCase]:
    call = named(losses.LDRLDLoss(h["alpha"], h["beta"], h["k"], h["T"]), {n: n for n in ("pairs", "llki", "rntk")})

    def local_and_rest(student: Tensor, teacher: Tensor, labels: Tensor) -> LossCase:
        loss, terms = call(student, teacher, labels)
        return loss, {"local": terms["pairs"] + terms["llki"], "rest": terms["rntk"]}

    return local_and_rest


def scales(regions: int) -> tuple[int, ...]:
    return {1: (1,), 5: (1, 2), 17: (1, 4), 21: (1, 2, 4)}[regions]


def cluster(h: dict[str, Any], regions: int) -> Callable[..., LossCase]:
    def call(student: Tensor, teacher: Tensor, labels: Tensor) -> LossCase:
        gram = losses.gram_terms(student, teacher, scales=scales(regions))["gram"].mean()
        return h["gamma"] * h["temperature_argument"] ** 2 * gram, {}

    return call


LOGITS: dict[str, Callable[[dict[str, Any]], Callable[..., LossCase]]] = {
    "kd": lambda h: named(losses.KDLoss(h["T"]), {}),
    "dkd": lambda h: named(dkd(h), {}),
    "dkdmod": lambda h: named(dkdmod(h), {"tckd": "tckd", "nckd": "nckd"}),
    "gdkd": lambda h: named(gdkd(h), {"high": "group", "low_top": "top", "low_other": "rest"}),
    "gdkd3": lambda h: named(gdkd3(h), {"high": "group", "low_top": "top", "low_other": "rest"}),
    "dist": lambda h: named(losses.DISTLoss(h["beta"], h["gamma"], h["T"]), {"inter": "inter", "intra": "intra"}),
    "lskd": lambda h: named(losses.Standardized(losses.KDLoss(h["T"]), h["eps"]), {}),
    "mlkd_kd": mlkd_term("kd"),
    "mlkd_bc": mlkd_term("bc"),
    "mlkd_cc": mlkd_term("cc"),
    "nkd": lambda h: named(losses.NKDLoss(h["gamma"], h["temp"], exclude_target=False), {}),
    "nkd_vector": nkd_sum,
    "ldrld": ldrld,
    "ldrld_official": ldrld_official,
}
REGIONS: dict[str, Callable[[dict[str, Any], int], Callable[..., LossCase]]] = {
    "cluster": cluster,
    "sdd_kd": lambda h, s: named(losses.SDDLoss(losses.KDLoss(h["T"]), scales(s)), {}),
    "multi_dkd": lambda h, s: named(losses.SDDLoss(dkd(h), scales(s)), {}),
    "multi_nkd": lambda h, s: named(losses.SDDLoss(losses.NKDLoss(h["gamma"], h["temp"], exclude_target=False), scales(s)), {}),
}


def sdd_method(case: str, h: dict[str, Any]) -> methods.Method:
    """Return the row whose objective one of the region cases ran: ``objective_[cd_]sdd_<base>``."""
    base = case.rsplit("_", 1)[-1].replace("nkdloss", "nkd")
    method = methods.get(("icd-" if "cd_sdd" in case else "sdd-") + base)
    options: dict[str, Any] = {"scales": tuple(int(m) for m in h["M"].strip("[]").split(","))}
    if base == "kd":
        options |= {"temperature": h["kd"]["T"], "ce_weight": h["kd"]["ce_weight"], "kd_weight": h["kd"]["kd_weight"]}
    elif base == "dkd":
        options |= {"alpha": h["dkd"]["alpha"], "beta": h["dkd"]["beta"], "temperature": h["dkd"]["T"]}
        options |= {"warmup_epochs": int(h["warmup_cfg"])}
    else:  # the NKD classes read DKD's settings
        options |= {
            "exclude_target": False,
            "gamma": h["dkd"]["beta"],
            "temperature": h["dkd"]["T"],
            "warmup_epochs": h["warmup_dkd_node"],
        }
    if "cd_sdd" in case:
        options |= {"gram_weight": h["cluster_gamma"]}
    return method.replace(**options)


def objective(case: str, h: dict[str, Any]) -> Objective:
    """Return the whole-step objective of one of the plain cases."""
    ce, warmup = h["ce_weight"], int(h.get("warmup", 0))
    name = case.removeprefix("objective_")
    if name == "kd":
        return Objective(losses.KDLoss(h["T"]), ce, h["kd_weight"])
    if name == "lskd":
        return Objective(losses.Standardized(losses.KDLoss(h["T"])), ce, h["kd_weight"])
    if name == "dist":
        return Objective(losses.DISTLoss(h["beta"], h["gamma"], h["T"]), ce)
    if name == "nkd":
        return Objective(losses.NKDLoss(h["gamma"], h["temp"], exclude_target=False), ce, 1.0, warmup)
    if name == "mlkd":
        masking = "share" if h["enable_mask"] else "none"
        confidence = h.get("confidence_percentage", 0.5), h.get("class_confidence_percentage", 0.5)
        return Objective(losses.MLKDLoss(h["temperatures"], masking, *confidence), ce, h["kd_weight"])
    build = {"dkd": dkd, "dkdmod": dkdmod, "gdkd": gdkd, "gdkd3": gdkd3}[name]
    return Objective(build(h), ce, 1.0, warmup)


def inputs(case: dict[str, Any], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    keys, file = case["inputs"]["keys"], case["inputs"]["file"]
    student = golden_cases.tensor(file, keys["student"]).to(dtype)
    teacher = golden_cases.tensor(file, keys["teacher"]).to(dtype)
    labels = golden_cases.tensor(file, keys["target"]) if "target" in keys else None
    if student.ndim == 3:  # stored (B, C, P)
        student, teacher = student.mT.contiguous(), teacher.mT.contiguous()
    return student.requires_grad_(), teacher, labels


def close(value: Tensor, expected: float, dtype: torch.dtype) -> None:
    tolerance = 1e-9 * abs(expected) + 1e-12 if dtype == torch.float64 else 1e-5 * max(1.0, abs(expected))
    assert abs(value.item() - expected) <= tolerance, (value.item(), expected)


def close_gradient(gradient: Tensor, case: dict[str, Any], key: str = "grad_student") -> None:
    expected = golden_cases.tensor(case["expected_file"], case["expected_keys"][key])
    if gradient.ndim == 3 and key != "grad_stones":
        gradient = gradient.mT
    largest = expected.abs().max().double()
    tolerance = (1e-9 if gradient.dtype == torch.float64 else 5e-5) * largest
    if expected.dtype == torch.float32:
        tolerance = tolerance + 1e-7 * expected.abs().double()
    assert ((gradient.double() - expected.double()).abs() <= tolerance + 1e-15).all()


DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def of(*names: str) -> Any:
    return pytest.mark.parametrize("case", [pytest.param(c, id=c["id"]) for c in golden_cases.cases() if c["method"] in names])


@DTYPES
@of(*LOGITS, *REGIONS)
def test_loss(case: dict[str, Any], dtype: torch.dtype) -> None:
    student, teacher, labels = inputs(case, dtype)
    if case["method"] in LOGITS:
        call = LOGITS[case["method"]](case["hyper"])
    else:
        call = REGIONS[case["method"]](case["hyper"], student.shape[1])
    loss, terms = call(student, teacher, labels)
    close(loss, case["expected"]["loss"], dtype)
    for name, value in terms.items():
        close(value, case["expected"]["components"][name], dtype)
    (gradient,) = torch.autograd.grad(loss, student)
    close_gradient(gradient, case)


@DTYPES
@of("ldrld")
def test_ldrld_ranks(case: dict[str, Any], dtype: torch.dtype) -> None:
    student, _, _ = inputs(case, dtype)
    expected = golden_cases.tensor(case["expected_file"], case["expected_keys"]["top_classes"])
    assert torch.equal(losses.ldrld.top_classes(student, case["hyper"]["d"]), expected)


@DTYPES
@of("blockkd")
def test_block_kd(case: dict[str, Any], dtype: torch.dtype) -> None:
    h = case["hyper"]
    student, teacher, labels = inputs(case, dtype)
    stones = golden_cases.tensor(case["expected_file"], case["expected_keys"]["stones"]).to(dtype).requires_grad_()
    loss = losses.BlockKDLoss(losses.KDLoss(h["T"]), h["alpha"], h["beta"], h["gamma"])
    value, terms = named(loss, {n: n for n in ("task", "distill", "cross")}, stones=stones)(student, teacher, labels)
    close(value, case["expected"]["loss"], dtype)
    for name, term in terms.items():
        close(term, case["expected"]["components"][name], dtype)
    gradient, stone_gradient = torch.autograd.grad(value, [student, stones])
    close_gradient(gradient, case)
    close_gradient(stone_gradient, case, "grad_stones")


@DTYPES
@of(*(f"objective_{name}" for name in ("kd", "dkd", "dkdmod", "gdkd", "gdkd3", "dist", "lskd", "mlkd", "nkd")))
def test_objective(case: dict[str, Any], dtype: torch.dtype) -> None:
    h = case["hyper"]
    student, teacher, labels = inputs(case, dtype)
    total, report = objective(case["method"], h)(Signals(student), Signals(teacher), labels, h["epoch"])
    close(total, case["expected"]["loss"], dtype)
    close(h["ce_weight"] * report["ce"], case["expected"]["components"]["loss_ce"], dtype)
    close_gradient(torch.autograd.grad(total, student)[0], case)


@DTYPES
@of(*(f"objective_{cd}sdd_{base}" for cd in ("", "cd_") for base in ("kd", "dkd", "nkdloss")))
def test_region_objective(case: dict[str, Any], dtype: torch.dtype) -> None:
    h, at = case["hyper"], case["inputs"]
    keys, file = at["region_keys"], at["regions_file"]
    student = golden_cases.tensor(at["file"], at["keys"]["student"]).to(dtype).requires_grad_()
    teacher = golden_cases.tensor(at["file"], at["keys"]["teacher"]).to(dtype)
    student_regions = golden_cases.tensor(file, keys["student_regions"]).to(dtype).mT.contiguous().requires_grad_()
    teacher_regions = golden_cases.tensor(file, keys["teacher_regions"]).to(dtype).mT.contiguous()
    labels = golden_cases.tensor(file, keys["target"])
    method = sdd_method(case["method"], h)
    if h["M"] == "[1]":  # the authors' SDD with one scale is the plain loss on plain logits
        student_regions, teacher_regions = student.unsqueeze(1), teacher.unsqueeze(1)
    total, report = method.objective()(Signals(student, student_regions), Signals(teacher, teacher_regions), labels, h["epoch"])
    close(total, case["expected"]["loss"], dtype)
    if "gram" in report:
        close(h["cluster_gamma"] * report["gram"], case["expected"]["components"]["loss_cluster"], dtype)
    if h["M"] == "[1]":
        close_gradient(torch.autograd.grad(total, student)[0], case)
        return
    gradient, region_gradient = torch.autograd.grad(total, [student, student_regions])
    close_gradient(gradient, case)
    close_gradient(region_gradient, case, "grad_student_regions")


def test_every_stored_case_is_compared() -> None:
    compared = {*LOGITS, *REGIONS, "blockkd"}
    left = {c["method"] for c in golden_cases.cases()} - compared
    assert all(name.startswith("objective_") for name in left), left
