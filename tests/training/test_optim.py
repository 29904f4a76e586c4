import math

import pytest
import torch
from torch import nn

from logitkd import OptimConfig, ScheduleConfig
from logitkd.training.optim import build_optimizer, build_schedule, set_rate


def rates(schedule, epochs, lr=0.05):
    optimizer = build_optimizer(OptimConfig(lr=lr), nn.Linear(2, 2))
    built = build_schedule(schedule, optimizer, epochs)
    return [set_rate(built, epoch) for epoch in range(1, epochs + 1)]


def by_step(schedule, epochs, steps, lr=0.05):
    """The rate of every step of a run."""
    built = build_schedule(schedule, build_optimizer(OptimConfig(lr=lr), nn.Linear(2, 2)), epochs, steps)
    return [set_rate(built, epoch, step, steps) for epoch in range(1, epochs + 1) for step in range(1, steps + 1)]


def test_poly_and_linear_fall_at_every_step():
    lr = by_step(ScheduleConfig(name="poly", power=0.9), 3, 4, lr=0.1)
    assert lr == pytest.approx([0.1 * (1 - t / 12) ** 0.9 for t in range(12)])
    assert by_step(ScheduleConfig(name="linear"), 3, 4, lr=0.1) == pytest.approx([0.1 * (1 - t / 12) for t in range(12)])


def test_linear_rises_over_a_fraction_of_the_steps_and_falls_from_there():
    lr = by_step(ScheduleConfig(name="linear", warmup=0.25), 4, 5, lr=1.0)
    assert lr[:5] == pytest.approx([1 / 5, 2 / 5, 3 / 5, 4 / 5, 1])
    assert lr[5:] == pytest.approx([(20 - t) / 16 for t in range(5, 20)])


@pytest.mark.parametrize("name", ["poly", "linear", "cosine", "multistep"])
def test_a_schedule_by_epoch_stays_within_an_epoch_and_one_by_step_is_the_same_of_single_steps(name):
    lr = by_step(ScheduleConfig(name=name, per="epoch", warmup=0.25), 8, 3)
    assert lr[::3] == lr[1::3] == lr[2::3] == rates(ScheduleConfig(name=name, per="epoch", warmup=0.25), 8)
    assert by_step(ScheduleConfig(name=name, per="step", warmup=0.25), 1, 8) == pytest.approx(lr[::3])


def test_the_rate_of_a_step_does_not_depend_on_those_before():
    schedule = ScheduleConfig(name="linear", warmup=0.1)
    built = build_schedule(schedule, build_optimizer(OptimConfig(lr=0.05), nn.Linear(2, 2)), 4, 5)
    assert set_rate(built, 3, 2, 5) == by_step(schedule, 4, 5)[11]


def test_the_papers_multistep_schedule():
    """0.05 up to and with epoch 150, then a tenth up to 180, and so on: METHODS' CIFAR-100 schedule."""
    lr = rates(ScheduleConfig(), 240)
    assert lr[0] == lr[149] == 0.05
    assert lr[150] == lr[179] == pytest.approx(0.005)
    assert lr[180] == lr[209] == pytest.approx(0.0005)
    assert lr[210] == lr[239] == pytest.approx(0.00005)


def test_milestones_are_rounded_and_may_come_in_any_order():
    assert rates(ScheduleConfig(milestones=(0.76, 0.5)), 4) == pytest.approx([0.05, 0.05, 0.005, 0.0005])


def test_milestone_at_the_end_never_acts():
    assert rates(ScheduleConfig(milestones=(1.0,)), 3) == [0.05] * 3


def test_no_milestones_is_constant():
    assert rates(ScheduleConfig(milestones=()), 3) == [0.05] * 3


def test_cosine():
    expected = [0.1 * (1 + math.cos(math.pi * e / 4)) / 2 for e in range(4)]
    assert rates(ScheduleConfig(name="cosine"), 4, lr=0.1) == pytest.approx(expected)


def test_the_rate_warms_up_over_the_first_epochs():
    """LDRLD's 20 of 240: epoch / 20 of the rate in each of the first 19, all of it from epoch 20 on; milestones unmoved."""
    lr = rates(ScheduleConfig(warmup=0.0833), 240)
    assert lr[:20] == pytest.approx([0.05 * epoch / 20 for epoch in range(1, 21)])
    assert lr[19:150] == [0.05] * 131
    assert lr[150:] == rates(ScheduleConfig(), 240)[150:]


def test_the_cosine_warms_up_to_where_it_then_is():
    plain = rates(ScheduleConfig(name="cosine"), 8)
    assert rates(ScheduleConfig(name="cosine", warmup=0.5), 8) == pytest.approx([0.0125, 0.025, 0.0375, *plain[3:]])


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.25])
def test_a_warmup_below_two_epochs_changes_nothing(warmup):
    assert rates(ScheduleConfig(warmup=warmup), 4) == rates(ScheduleConfig(), 4)


def test_a_rate_depends_on_the_epoch_alone():
    optimizer = build_optimizer(OptimConfig(), nn.Linear(2, 2))
    schedule = build_schedule(ScheduleConfig(warmup=0.5), optimizer, 8)
    assert set_rate(schedule, 8) == pytest.approx(0.00005)
    assert set_rate(schedule, 2) == pytest.approx(0.025)
    assert set_rate(schedule, 4) == 0.05
    assert optimizer.param_groups[0]["lr"] == 0.05


def test_sgd_by_hand():
    """Two steps on one weight and one bias: decay on both, classical momentum, not Nesterov's."""
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, 1.0)
    nn.init.constant_(model.bias, 2.0)
    optimizer = build_optimizer(OptimConfig(lr=0.1, momentum=0.5, weight_decay=0.01), model)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.tensor([[3.0]])).sum().backward()  # gradients: weight 3, bias 1
        optimizer.step()
    weight, bias, moved = 1.0, 2.0, [0.0, 0.0]
    for _ in range(2):
        moved = [0.5 * moved[0] + 3 + 0.01 * weight, 0.5 * moved[1] + 1 + 0.01 * bias]
        weight, bias = weight - 0.1 * moved[0], bias - 0.1 * moved[1]
    assert model.weight.item() == pytest.approx(weight, rel=1e-6)
    assert model.bias.item() == pytest.approx(bias, rel=1e-6)


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_every_parameter_decays(name, kind):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = build_optimizer(OptimConfig(name=name, weight_decay=0.1), model)
    assert isinstance(optimizer, kind)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1]
    assert len(optimizer.param_groups[0]["params"]) == 4


def test_adamw_takes_its_steps_in_one_pass_to_the_same_weights():
    one, other = nn.Linear(5, 4), nn.Linear(5, 4)
    other.load_state_dict(one.state_dict())
    fused = build_optimizer(OptimConfig("adamw", 0.01, weight_decay=0.1), one)
    plain = torch.optim.AdamW(other.parameters(), lr=0.01, weight_decay=0.1)
    assert fused.param_groups[0]["fused"] is True
    for step in range(3):
        for model, optimizer in ((one, fused), (other, plain)):
            optimizer.zero_grad()
            model(torch.full((2, 5), 1.0 + step)).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(one.weight, other.weight)


def test_what_adamw_cannot_step_in_one_pass_is_stepped_all_the_same():
    model = nn.ParameterDict({"weight": nn.Parameter(torch.ones(3, dtype=torch.complex64))})
    optimizer = build_optimizer(OptimConfig("adamw", 0.1, weight_decay=0.0), model)
    model["weight"].abs().sum().backward()
    optimizer.step()
    assert model["weight"].detach().abs().max() < 1
