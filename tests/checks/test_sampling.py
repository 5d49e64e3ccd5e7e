"""Each check of lesson 07 accepts right answers in any words and refuses wrong ones with a sentence that helps."""

import pytest
import torch
from judging import assert_accepted, assert_refused

# --- right answers, in other words than the library's ---------------------------------------------------------------


def label_rows(iou, positive, low, *, strict=False):
    found = []
    for row in iou:
        best = row.max()
        found.append(1 if best >= positive else 0 if (best > low if strict else best >= low) else -1)
    return torch.tensor(found, dtype=torch.int64)


def sampler_masks(status, noise, size, fraction):
    """Thresholds on the noise instead of lists."""
    drawn = torch.zeros(len(status), dtype=torch.bool)
    places = [(status == 1).nonzero()[:, 0], (status == 0).nonzero()[:, 0]]
    room = min(int(size * fraction), len(places[0]))
    drawn[places[0][noise[places[0]].argsort()[:room]]] = True
    drawn[places[1][noise[places[1]].argsort()[: size - room]]] = True
    return drawn.nonzero()[:, 0]


def cost_loop(pictures, rois, total, trunk, head):
    return torch.tensor([sum(n * trunk + rois * head for _ in range(total // rois)) for n in pictures.tolist()])


@pytest.mark.parametrize(
    ("name", "right"),
    [("my_label_proposals", label_rows), ("my_sampler", sampler_masks), ("my_epoch_cost", cost_loop)],
)
def test_right_answers_pass_in_any_words(name, right):
    assert_accepted(name, right)


# --- wrong answers as learners write them ---------------------------------------------------------------------------


def sampler_ignores_the_bound(status, noise, size, fraction):
    """The planted bug: whatever is not positive is background."""
    return sampler_masks(status.clamp(min=0), noise, size, fraction)


def sampler_without_noise(status, noise, size, fraction):
    positives = (status == 1).nonzero()[:, 0][: int(size * fraction)]
    negatives = (status == 0).nonzero()[:, 0][: size - len(positives)]
    return torch.cat((positives, negatives)).sort().values


def sampler_of_fixed_size(status, noise, size, fraction):
    drawn = sampler_masks(status, noise, size, fraction)
    return torch.cat((drawn, drawn.new_full((size - len(drawn),), -1)))


WRONG = [
    ("my_label_proposals", lambda iou, p, low: label_rows(iou, p, low, strict=True), "exactly `low` is background"),
    ("my_label_proposals", lambda iou, p, low: (iou.max(1).values > p).long(), "1|limit"),
    ("my_label_proposals", lambda iou, p, low: label_rows(iou, p, 0.0), "You call it background"),
    ("my_label_proposals", lambda iou, p, low: label_rows(iou.mean(1, keepdim=True), p, low), "You took the mean"),
    ("my_label_proposals", lambda iou, p, low: label_rows(iou, p, low).tolist(), "of type list"),
    ("my_label_proposals", lambda iou, p, low: label_rows(iou, 0.5, 0.1), "exactly the lower limit, 0.25"),
    ("my_sampler", sampler_ignores_the_bound, "Only status 0 is background"),
    ("my_sampler", sampler_without_noise, "The noise decides"),
    ("my_sampler", sampler_of_fixed_size, "yours has shape (8,), right is (3,)"),
    ("my_sampler", lambda s, n, size, f: sampler_masks(s, n, size, 1.0), "at most int(size * fraction)"),
    ("my_sampler", lambda s, n, size, f: sampler_masks(s, -n, size, f), "You took the largest"),
    ("my_sampler", lambda s, n, size, f: s.mul_(0), "changes the tensor"),
    ("my_sampler", lambda s, n, size, f: sampler_masks(s, n, size, f).tolist(), "of type list"),
    ("my_epoch_cost", lambda n, r, t, a, b: n * a + r * b, "How many steps"),
    ("my_epoch_cost", lambda n, r, t, a, b: n * a * t / r, "The head runs too"),
    ("my_epoch_cost", lambda n, r, t, a, b: t * (a + b) + 0 * n, "not once for each RoI"),
    ("my_epoch_cost", lambda n, r, t, a, b: cost_loop(n, r, t, a, b)[0], "shape"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_refused_with_a_sentence_that_helps(name, function, message):
    assert_refused(name, function, message)
