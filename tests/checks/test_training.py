"""Each check of lesson 09 accepts right answers in any words and refuses wrong ones with a sentence that helps."""

import pytest
import torch
from judging import assert_accepted, assert_refused

# --- right answers, in other words than the library's ---------------------------------------------------------------


def rates_loop(steps, rate, warmup, drops):
    rates = []
    for step in range(steps):
        now = rate if step >= warmup else rate * (step + 1) / (warmup + 1)
        for share in drops:
            now = now / 10 if step >= share * steps else now
        rates.append(now)
    return torch.tensor(rates)


def speedup_loop(seconds, factors):
    pairs = zip(seconds.tolist(), factors.tolist(), strict=True)
    return torch.tensor(sum(seconds.tolist()) / sum(one / factor for one, factor in pairs))


def low_rank_sum(weight, rank):
    u, s, v = torch.linalg.svd(weight, full_matrices=True)
    return sum(s[place] * torch.outer(u[:, place], v[place]) for place in range(rank))


RIGHT = {"my_learning_rate": rates_loop, "my_speedup": speedup_loop, "my_low_rank": low_rank_sum}


@pytest.mark.parametrize(("name", "right"), RIGHT.items())
def test_right_answers_pass_in_any_words(name, right):
    assert_accepted(name, right)


# --- wrong answers as learners write them ---------------------------------------------------------------------------


def rates_from_zero(steps, rate, warmup, drops):
    return torch.tensor([rate * min(1, step / (warmup + 1)) for step in range(steps)])


def rates_by_slices(steps, rate, warmup, drops):
    rates = torch.full((steps,), float(rate))
    for step in range(warmup):
        rates[step] = rate * (step + 1) / (warmup + 1)
    for share in drops:
        rates[int(share * steps) :] *= 0.1
    return rates


def rates_from_nothing(steps, rate, warmup, drops):
    rates = rates_by_slices(steps, rate, 0, drops)
    for step in range(warmup):
        rates[step] *= step / warmup
    return rates


def low_rank_both(weight, rank):
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ (s[:rank, None] * v[:rank])


WRONG = [
    ("my_learning_rate", rates_from_zero, "count it as step 1 of the warm-up"),
    ("my_learning_rate", rates_by_slices, "Do not round down"),
    ("my_learning_rate", rates_from_nothing, "and divide by warmup + 1"),
    ("my_learning_rate", lambda steps, rate, warmup, drops: torch.full((steps,), rate), "There is no warm-up in yours"),
    ("my_learning_rate", lambda steps, rate, warmup, drops: [rate] * steps, "of type list"),
    ("my_learning_rate", lambda steps, rate, warmup, drops: torch.tensor(rate), "yours has shape ()"),
    ("my_learning_rate", lambda n, rate, warmup, drops: rates_loop(n, rate, warmup, ()), "Yours never drops"),
    ("my_speedup", lambda seconds, factors: factors.mean(), "averaged the factors"),
    ("my_speedup", lambda seconds, factors: seconds.div_(factors).sum(), "changes the tensor"),
    ("my_speedup", lambda seconds, factors: float(seconds.sum()), "of type float"),
    ("my_speedup", lambda seconds, factors: (seconds / factors).sum() / seconds.sum(), "upside down"),
    ("my_low_rank", low_rank_both, "not into both"),
    ("my_low_rank", lambda weight, rank: torch.svd(weight)[0][:, :rank], "first matrix alone"),
    ("my_low_rank", lambda weight, rank: weight, "Nothing is cut off"),
    ("my_low_rank", lambda weight, rank: print(end=""), "gives back nothing"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_refused_with_a_sentence_that_helps(name, function, message):
    assert_refused(name, function, message)
