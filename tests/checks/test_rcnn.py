"""Each check of lesson 03 accepts right answers in any words and refuses wrong ones with a sentence that helps."""

import pytest
import torch
import torch.nn.functional as F
from judging import assert_accepted, assert_refused

# --- right answers, in other words than the library's ---------------------------------------------------------------


def warp_loop(image, box, size, context, *, fill=0.5, around=True, stretch=True):
    """Pixel by pixel between the four nearest, with the switches that break it."""
    x1, y1, x2, y2 = box.tolist()
    w, h = (x2 - x1, y2 - y1) if stretch else (max(x2 - x1, y2 - y1),) * 2
    crop = torch.full((len(image), size, size), float(fill))
    for row in range(size):
        for column in range(size):
            x = x1 + (column + 0.5 - context) * w / (size - 2 * context)
            y = y1 + (row + 0.5 - context) * h / (size - 2 * context)
            outside = not (0 <= x <= image.shape[2] and 0 <= y <= image.shape[1])
            framed = min(row, column, size - 1 - row, size - 1 - column) < context
            if not outside and (around or not framed):
                crop[:, row, column] = between(image, x - 0.5, y - 0.5)
    return crop


def between(image, x, y):
    left, top = int(x), int(y)
    right, bottom = min(left + 1, image.shape[2] - 1), min(top + 1, image.shape[1] - 1)
    upper = (1 - x + left) * image[:, top, left] + (x - left) * image[:, top, right]
    lower = (1 - x + left) * image[:, bottom, left] + (x - left) * image[:, bottom, right]
    return (1 - y + top) * upper + (y - top) * lower


def label_loop(iou, is_object):
    rows = zip(iou.tolist(), is_object.tolist(), strict=True)
    limit = torch.tensor(0.3).item()  # as float32 has it
    return torch.tensor([1 if own else 0 if all(value < limit for value in row) else -1 for row, own in rows])


def encode_loop(boxes, proposals):
    rows = []
    for (x1, y1, x2, y2), (a1, b1, a2, b2) in zip(boxes.tolist(), proposals.tolist(), strict=True):
        w, h = a2 - a1, b2 - b1
        shift = ((x1 + x2) / 2 - (a1 + a2) / 2) / w, ((y1 + y2) / 2 - (b1 + b2) / 2) / h
        rows.append((*shift, *torch.tensor([(x2 - x1) / w, (y2 - y1) / h]).log().tolist()))
    return torch.tensor(rows).reshape(-1, 4)


def decode_columns(deltas, proposals):
    size = proposals[:, 2:] - proposals[:, :2]
    centre = proposals[:, :2] + size / 2 + deltas[:, :2] * size
    size = size * torch.exp(deltas[:, 2:])
    return torch.cat((centre - size / 2, centre + size / 2), dim=1)


RIGHT = [
    ("my_warp", warp_loop),
    ("my_svm_label", label_loop),
    ("my_encode", encode_loop),
    ("my_decode", decode_columns),
]


@pytest.mark.parametrize(("name", "right"), RIGHT)
def test_right_answers_pass_in_any_words(name, right):
    assert_accepted(name, right)


# --- wrong answers as learners write them ---------------------------------------------------------------------------


def warp_cut(image, box, size, context):
    x1, y1, x2, y2 = box.int().tolist()
    return F.interpolate(image[None, :, y1:y2, x1:x2], (size, size), mode="bilinear")[0]


def decode_in_place(deltas, proposals):
    proposals[:, 2:] -= proposals[:, :2]
    return proposals


WRONG = [
    ("my_warp", warp_cut, "Where is the context"),
    ("my_warp", lambda i, b, s, c: warp_loop(i, b, s, c, around=False), "Yours is a grey frame"),
    ("my_warp", lambda i, b, s, c: warp_loop(i, b, s, c, stretch=False), "twice as wide as high"),
    ("my_warp", lambda i, b, s, c: warp_loop(i, b, s, c, fill=0), "Yours is black"),
    ("my_warp", lambda i, b, s, c: warp_loop(i, b, s, c)[None], "yours has shape (1, 3, 8, 8)"),
    ("my_warp", lambda i, b, s, c: warp_loop(i, b, s, c).permute(1, 2, 0), "yours has shape (8, 8, 3)"),
    ("my_warp", lambda i, b, s, c: warp_loop(i.flip(0), b, s, c), "no context, a square"),
    ("my_svm_label", lambda iou, own: (iou.amax(1) >= 0.5).long(), "takes no part|rule of fine-tuning|objects"),
    ("my_svm_label", lambda iou, own: label_loop(iou, own).float(), "whole numbers"),
    ("my_svm_label", lambda iou, own: label_loop(iou, own)[:, None], "yours has shape (3, 1)"),
    ("my_svm_label", lambda iou, own: label_loop(iou - 0.2, own), "that of fine-tuning|takes no part|Below 0.3"),
    ("my_encode", lambda b, p: encode_loop(p, b), "from the box to the proposal"),
    ("my_encode", lambda b, p: encode_loop(b, p)[:, [1, 0, 3, 2]], "swap x and y"),
    ("my_encode", lambda b, p: encode_loop(b, p).exp(), "yours gives 1.0000 at [0, 0], right is 0.0000"),
    ("my_encode", lambda b, p: b - p, "the box of the toy"),
    ("my_decode", decode_in_place, "changes the tensor that it is given"),
    ("my_decode", lambda t, p: p + t, "a shift alone"),
    ("my_decode", lambda t, p: decode_columns(t.exp(), p), "four zeros"),
    ("my_decode", lambda t, p: decode_columns(t, p).tolist(), "of type list"),
]


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_refused_with_a_sentence_that_helps(name, function, message):
    assert_refused(name, function, message)
