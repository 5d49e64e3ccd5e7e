"""Each check of lesson 14 accepts right answers in any words and refuses wrong ones with a sentence that helps."""

import pytest
import torch
from judging import assert_accepted, assert_refused

from rcnnlib.checks import SOLUTIONS
from rcnnlib.datasets.shapes import Shapes
from rcnnlib.datasets.transforms import collate
from rcnnlib.engine.recipes import RECIPES, start_phase
from rcnnlib.engine.schedules import Schedule, four_step_alternating


def sample_by_loop(iou, classes, noise, size):
    rows = sorted(range(len(noise)), key=lambda row: float(noise[row]))
    best = [max((float(value), -place) for place, value in enumerate(line)) for line in iou]
    positive = [row for row in rows if best[row][0] >= 0.5][: size // 4]
    negative = [row for row in rows if best[row][0] < 0.5][: size - len(positive)]
    labels = [int(classes[-best[row][1]]) for row in positive] + [0] * len(negative)
    return torch.tensor(labels + [-1] * (size - len(labels)))


def plan_by_rule(names, step):
    parts = [name.partition(".")[0] for name in names]
    turn = {"trunk": step < 3, "rpn": step in (0, 1, 3), "head": step in (0, 2, 4)}
    return torch.tensor([turn[part] for part in parts])


def gradient_by_autograd(w, a, b, x, t_star, v_star):
    w, a, b = (each.clone().requires_grad_() for each in (w, a, b))
    feature = w * x
    box = a * feature
    (0.5 * (box - t_star) ** 2 + 0.5 * (b * feature * box.detach() - v_star) ** 2).backward()
    return torch.stack((w.grad, a.grad, b.grad))


RIGHT = {
    "my_head_sample": sample_by_loop,
    "my_freeze_plan": plan_by_rule,
    "my_joint_gradient": gradient_by_autograd,
}


@pytest.mark.parametrize(("name", "right"), RIGHT.items())
def test_right_answers_pass_in_any_words(name, right):
    assert_accepted(name, right)


def test_the_plan_is_what_the_library_freezes():
    short, done = Schedule(1), {}
    recipe = RECIPES["faster_rcnn_shapes"]
    for number, phase in enumerate(four_step_alternating(short, short), start=1):
        model = start_phase(recipe, phase._replace(trunk="nothing" if number < 3 else phase.trunk), done)
        done[phase.name] = model
        names, learns = zip(*((name, each.requires_grad) for name, each in model.named_parameters()), strict=True)
        assert SOLUTIONS["my_freeze_plan"](names, number).tolist() == list(learns)


def test_the_toy_says_what_the_library_does():
    model = RECIPES["faster_rcnn_shapes"].spec.build(pretrained=False)
    examples = [one for one in (Shapes(9)[place] for place in range(9)) if len(one.boxes)]
    losses = model.losses(collate(examples[:1], seed=0, epoch=0))
    weights = list(model.rpn.parameters())
    assert all(
        gradient is None
        for gradient in torch.autograd.grad(losses.head_class + losses.head_box, weights, allow_unused=True)
    )
    numbers = [torch.tensor(value) for value in (2.0, 0.5, 1.0, 1.0, 1.0, 4.0)]  # only the head errs
    assert SOLUTIONS["my_joint_gradient"](*numbers)[1] == 0


WRONG = [
    ("my_head_sample", lambda *a: sample_by_loop(*a).float(), "yours holds decimal numbers"),
    ("my_head_sample", lambda *a: sample_by_loop(*a)[:, None], "yours has shape (4, 1), right is (4,)"),
    ("my_head_sample", lambda *a: sample_by_loop(*a).tolist(), "something of type list"),
    ("my_head_sample", lambda *a: sample_by_loop(*a).flip(0), "[3, 0, 0, 0]"),
    ("my_freeze_plan", lambda names, step: plan_by_rule(names, step).tolist(), "something of type list"),
    ("my_freeze_plan", lambda names, step: plan_by_rule(names, step).float(), "yours holds decimal numbers"),
    ("my_freeze_plan", lambda names, step: plan_by_rule(names, step)[:-1], "yours has shape (3,), right is (4,)"),
    ("my_joint_gradient", lambda *a: gradient_by_autograd(*a).tolist(), "something of type list"),
    ("my_joint_gradient", lambda *a: 3 * gradient_by_autograd(*a), "[-1.5, -2, -2]"),
    ("my_joint_gradient", lambda *a: gradient_by_autograd(*a)[:2], "yours has shape (2,), right is (3,)"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_refused_with_a_sentence_that_helps(name, function, message):
    assert_refused(name, function, message)
