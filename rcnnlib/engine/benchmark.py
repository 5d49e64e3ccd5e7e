"""Benchmarks: our operators beside torchvision's and OpenCV's, in one run, on this machine.

Ours and theirs run in turn, so that a machine that slows down slows both; the ratio is the median over the pairs.
``python -m rcnnlib benchmark ops`` prints every row of the budget. A row whose peer is not installed says so.
"""

import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from rcnnlib.datasets.coco import wild
from rcnnlib.ops.anchors import anchor_grid, cell_anchors
from rcnnlib.ops.box_coder import HEAD_STD, decode, encode
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.nms import nms, nms_padded
from rcnnlib.ops.roi_ops import roi_align, roi_pool
from rcnnlib.ops.selective_search import selective_search

PAIRS = 11
HEADER = f"{'what':52}{'ours':>10}{'theirs':>10}{'ratio':>8}{'at most':>9}{'aim':>6}"

Work = Callable[[], object]


class Row(NamedTuple):
    """One line of the table: two ways to do the same work, and the ratio that is asked for."""

    name: str
    ours: Work
    theirs: Work
    at_most: float
    aim: float | None = None


class Timing(NamedTuple):
    """Medians over the pairs."""

    ours: float  # seconds
    theirs: float
    ratio: float


def _seconds(work: Work, repeats: int) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - begin) / repeats


def compare(ours: Work, theirs: Work, pairs: int = PAIRS) -> Timing:
    """Time two functions in turn, each often enough to fill 10 ms; which goes first changes from pair to pair."""
    for work in (ours, theirs):
        work()  # warm up
    repeats = {work: 1 + int(0.01 / _seconds(work, 1)) for work in (ours, theirs)}
    times = []
    for pair in range(pairs):
        order = (ours, theirs) if pair % 2 else (theirs, ours)
        seconds = {work: _seconds(work, repeats[work]) for work in order}
        times.append((seconds[ours], seconds[theirs]))
    return Timing(
        statistics.median(ours for ours, _ in times),
        statistics.median(theirs for _, theirs in times),
        statistics.median(ours / theirs for ours, theirs in times),
    )


def verdict(value: float, at_most: float, aim: float | None = None) -> str:
    """Say in a word how a measured value stands to its budget."""
    if value > at_most:
        return "MISSED"
    return "aim met" if aim is not None and value <= aim else "met"


def random_boxes(*shape: int, size: tuple[float, float] = (1000.0, 600.0)) -> Tensor:
    """Return boxes of 16 to 200 pixels spread over a picture of ``size`` (width, height)."""
    centre, side = torch.rand(*shape, 2) * torch.tensor(size), 16 + 184 * torch.rand(*shape, 2)
    return torch.cat((centre - side / 2, centre + side / 2), dim=-1)


def random_rois(batch: int, count: int, height: int, width: int) -> Tensor:
    """Return RoIs on a map of height x width cells of 16 pixels; sides 8 to 68 % of the picture, small ones oftener."""
    size = torch.tensor([width, height]) * 16.0
    first = torch.rand(batch, count, 2) * 0.8 * size
    last = first + (0.08 + 0.6 * torch.rand(batch, count, 2).square()) * size
    return torch.cat((first, last.minimum(size)), dim=-1)


def box_rows() -> Iterator[Row]:
    """Overlap, box regression and anchors."""
    anchors, truth = random_boxes(2700), random_boxes(20)
    yield Row("box_iou 2700 x 20", lambda: box_iou(anchors, truth), lambda: torchvision.ops.box_iou(anchors, truth), 1)
    other, coder = random_boxes(2700), BoxCoder((10.0, 10.0, 5.0, 5.0))
    deltas = encode(other, anchors, std=HEAD_STD)
    yield Row(
        "encode 2700",
        lambda: encode(other, anchors, std=HEAD_STD),
        lambda: coder.encode_single(other, anchors),
        1,
    )
    yield Row(
        "decode 2700",
        lambda: decode(deltas, anchors, std=HEAD_STD),
        lambda: coder.decode_single(deltas, anchors),
        1,
    )
    base, generator = cell_anchors(), AnchorGenerator(((128, 256, 512),), ((0.5, 1.0, 2.0),))
    picture, cells = ImageList(torch.zeros(1, 3, 600, 800), [(600, 800)]), [torch.zeros(1, 1, 38, 50)]
    yield Row("anchors 38 x 50 x 9", lambda: anchor_grid(base, (38, 50), 16), lambda: generator(picture, cells), 1)


def nms_rows() -> Iterator[Row]:
    """Exact NMS, and proposals that stop at the wanted number of survivors."""
    for n, at_most, aim in ((2000, 1.2, 0.8), (6000, 0.8, 0.5), (12000, 0.9, 0.5)):
        boxes, scores = random_boxes(n), torch.rand(n)
        yield Row(
            f"nms {n} boxes, IoU 0.7",
            lambda boxes=boxes, scores=scores: nms(boxes, scores, 0.7),
            lambda boxes=boxes, scores=scores: torchvision.ops.nms(boxes, scores, 0.7),
            at_most,
            aim,
        )
    boxes, scores = random_boxes(6000), torch.rand(6000)
    yield Row(
        "proposals 6000 in, 300 out, random boxes",
        lambda: nms_padded(boxes, scores, 0.7, keep=300),
        lambda: torchvision.ops.nms(boxes, scores, 0.7)[:300],
        0.4,
        0.2,
    )


def _train(function: Callable[[Tensor], Tensor], leaf: Tensor, gradient: Tensor) -> Tensor:
    """Run a pooling forward and backward; the gradient is dense, as it comes from the layer above."""
    return torch.autograd.grad(function(leaf).reshape(gradient.shape), leaf, gradient)[0]


def _pool_rows(name: str, ours, theirs, shape: tuple[int, int, int], rois: int, budget) -> Iterator[Row]:
    batch, height, width = shape
    features, gradient = torch.randn(batch, 512, height, width), torch.randn(batch * rois, 512, 7, 7)
    leaf = features.clone().requires_grad_()
    boxes = random_rois(batch, rois, height, width)
    mine = lambda maps: ours(maps, boxes, 7, spatial_scale=1 / 16)  # noqa: E731
    other = lambda maps: theirs(maps, list(boxes))  # noqa: E731
    title = f"{name} {batch}x512x{height}x{width}, {rois} RoIs"
    (forward, forward_aim), (backward, backward_aim) = budget
    yield Row(title, lambda: mine(features), lambda: other(features), forward, forward_aim)
    yield Row(
        f"{title}, with backward",
        lambda: _train(mine, leaf, gradient),
        lambda: _train(other, leaf, gradient),
        backward,
        backward_aim,
    )


def roi_rows() -> Iterator[Row]:
    """RoI max pooling and RoI align, forward and with backward."""
    pool = lambda maps, boxes: torchvision.ops.roi_pool(maps, boxes, 7, 1 / 16)  # noqa: E731
    align = lambda maps, boxes: torchvision.ops.roi_align(maps, boxes, 7, 1 / 16, 2, True)  # noqa: E731
    yield from _pool_rows("roi_pool", roi_pool, pool, (1, 38, 50), 128, ((0.9, 0.5), (1.0, 0.5)))
    for shape, rois in (((4, 15, 20), 64), ((1, 38, 50), 128)):
        yield from _pool_rows("roi_align", roi_align, align, shape, rois, ((0.25, 0.1), (0.15, 0.06)))


def nms_12000() -> None:
    """NMS of 12000 boxes, for its memory."""
    nms(random_boxes(12000), torch.rand(12000), 0.7)


def pool_2000() -> None:
    """2000 RoIs pooled on 50 x 75 cells, for the memory; the result alone takes 0.2 GB."""
    roi_pool(torch.randn(1, 512, 50, 75), random_rois(1, 2000, 50, 75), 7, spatial_scale=1 / 16)


def _peak() -> float:
    """Return the most memory that this process has held, in GB; NaN where the system is not Linux."""
    status = Path("/proc/self/status")  # getrusage would tell the parent's peak too, which a child inherits
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1e6 for line in lines if line.startswith("VmHWM")), math.nan)


def _measure_peak(work: Work, answer) -> None:
    before = _peak()
    work()
    answer.put(_peak() - before)


def peak_memory(work: Work) -> float:
    """Return by how many GB a function raises the peak memory of a fresh process."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_measure_peak, args=(work, answer))
    process.start()
    gigabytes = answer.get(timeout=120)
    process.join()
    return gigabytes


def _opencv_boxes(image: Tensor) -> Tensor:
    import cv2

    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage((image.flip(0).permute(1, 2, 0) * 255).byte().contiguous().numpy())
    search.switchToSelectiveSearchFast()
    boxes = torch.from_numpy(search.process()).float()
    return torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), dim=1)


def selective_search_lines() -> Iterator[str]:
    """Selective Search against OpenCV contrib's fast mode, on photos with boxes drawn by hand."""
    try:
        import cv2
    except ImportError:
        yield "Selective Search: no peer; `pip install opencv-contrib-python-headless` brings OpenCV's"
        return
    cv2.setNumThreads(torch.get_num_threads())
    ratios, best = [], {"ours": [], "theirs": []}
    photos = [photo for photo in wild() if len(photo.boxes)]
    for photo in photos:
        found, seconds = {}, {}
        for name, search in (("ours", selective_search), ("theirs", _opencv_boxes)):
            begin = time.perf_counter()
            found[name] = search(photo.image)
            seconds[name] = time.perf_counter() - begin
        ratios.append(seconds["ours"] / seconds["theirs"])
        count = min(map(len, found.values()))
        for name, boxes in found.items():
            best[name].append(box_iou(photo.boxes, boxes[:count]).amax(dim=1))
    ratio = statistics.median(ratios)
    yield f"Selective Search against OpenCV's fast mode, {len(photos)} photos, the same number of boxes for both:"
    yield f"  {'time, ratio':30}{ratio:8.2f}   at most 1.5   {verdict(ratio, 1.5)}"
    ours, theirs = torch.cat(best["ours"]), torch.cat(best["theirs"])
    for name, of in (
        ("recall at IoU 0.5", lambda b: float((b >= 0.5).float().mean())),
        ("mean best overlap", lambda b: float(b.mean())),
    ):
        word = "met" if of(ours) >= of(theirs) else "MISSED"
        yield f"  {name:30}{of(ours):8.3f}   theirs {of(theirs):.3f}   {word}"


def ops_lines(pairs: int = PAIRS) -> Iterator[str]:
    """Measure every row of the operators' budget; each line is ready to be printed."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield f"torch {torch.__version__}, {threads} threads, median of {pairs} alternating pairs, times in ms"
    yield HEADER
    for row in (*box_rows(), *nms_rows(), *roi_rows()):
        timing = compare(row.ours, row.theirs, pairs)
        aim = "" if row.aim is None else f"{row.aim:.2f}"
        yield (
            f"{row.name:52}{timing.ours * 1e3:10.2f}{timing.theirs * 1e3:10.2f}{timing.ratio:8.2f}{row.at_most:9.2f}"
            f"{aim:>6}  {verdict(timing.ratio, row.at_most, row.aim)}"
        )
    boxes, scores = random_boxes(300), torch.rand(300)
    small = compare(lambda: nms(boxes, scores, 0.7), lambda: torchvision.ops.nms(boxes, scores, 0.7), pairs)
    yield f"nms 300 boxes: {small.ours * 1e3:.2f} ms, at most 3, aim 1.5   {verdict(small.ours * 1e3, 3, 1.5)}"
    yield "proposals on true RPN output: see `python -m rcnnlib benchmark models`"
    for name, work in (("nms of 12000 boxes", nms_12000), ("roi_pool of 2000 RoIs on 50 x 75 cells", pool_2000)):
        gigabytes = peak_memory(work)
        yield f"extra memory, {name}: {gigabytes:.2f} GB, at most 1   {verdict(gigabytes, 1)}"
    yield from selective_search_lines()


def main_ops(threads: int | None = None) -> None:
    """Print the table of the operators, a line as soon as it is measured; one thread bears a busy machine best."""
    if threads:
        torch.set_num_threads(threads)
    for line in ops_lines():
        print(line, flush=True)
