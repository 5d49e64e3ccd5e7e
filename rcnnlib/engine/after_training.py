"""What R-CNN and SPPnet do once their network is trained: describe every region, then fit the SVMs and the regressors.

    network -> features of all regions, stored on disk -> an SVM a class, with hard negatives -> a box regressor a class

The parts are trained apart, and none of it reaches back into the network: the third and the fourth of R-CNN's
shortcomings. Memory holds the regions of one picture, and the examples of one fit. The same seed gives the same
detector. Left out: going on after an interruption, and mirrored pictures.

Shapes:
    R  regions of a picture, its objects among them    W  width of fc7    D  numbers in a region's grid    K  classes
    N  rows    U  regions that teach the box regressors
"""

import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Int8
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from rcnnlib.datasets.transforms import Example, collate, resize, uniform_noise
from rcnnlib.engine.evaluation import Pictures
from rcnnlib.models.rcnn import RCNN
from rcnnlib.models.sppnet import SPPnet
from rcnnlib.models.svm import fit_ridge, fit_svm, regressor_set, svm_set
from rcnnlib.models.svm_head import SVMHead
from rcnnlib.ops.box_coder import encode
from rcnnlib.ops.boxes import box_iou, covered_fraction
from rcnnlib.ops.matcher import IGNORED, NEGATIVE, POSITIVE

NORM = 20.0  # features are scaled to this norm, on average: the authors found their costs and penalties for it
HARD, EASY = -1.0, -1.2  # margins: above the first a negative is added, below the second it is dropped again
REFIT = 2000  # so many new negatives of a class, and its SVM is fitted anew
MOST_REGIONS = 2**20  # of a picture


class Described(NamedTuple):
    """What the fits need to know of the regions of a picture."""

    features: Float[Tensor, "R W"]
    status: Int8[Tensor, "R K"]  # for the SVM of each class: 1 its objects, 0 its negatives, -1 takes no part
    grids: Float[Tensor, "U D"]  # of the regions that teach the box regressors
    labels: Int[Tensor, " U"]  # class of the object that each should be moved to
    targets: Float[Tensor, "U 4"]  # the deltas that move it there


class Fit(NamedTuple):
    """What was fitted on what; lists have an entry for each class."""

    regions: int
    megabytes: float  # of features, on disk
    objects: list[int]  # positives of the SVMs
    random_negatives: list[int]  # what the SVMs began with
    hard_negatives: list[int]  # what was added
    fits: list[int]  # how often each SVM was fitted
    moved: list[int]  # regions that taught the box regressors
    seconds: dict[str, float]  # describe, svm, ridge


@torch.no_grad()
def describe(model: RCNN | SPPnet, example: Example, *, device: torch.device | str = "cpu") -> Described:
    """Send the regions and the objects of a picture through the network, and say what each of them can teach."""
    batch = collate([example], seed=0, epoch=0, noise_length=1).to(device)
    truth, labels, proposed = batch.boxes[0], batch.labels[0], batch.proposals.shape[1]
    regions = torch.cat((batch.proposals[0], truth))
    own = torch.cat((labels.new_zeros(proposed), labels))
    stages = model.stages(batch.images, batch.sizes, regions.unsqueeze(0))
    exists = stages.proposals.valid[0]
    iou = box_iou(regions, truth)
    status = svm_set(iou, labels, own, model.head.classes)
    hidden = (covered_fraction(regions, batch.ignore[0]) >= 0.5).unsqueeze(1) & (status == NEGATIVE)
    match = regressor_set(iou, batch.valid[0])
    moved = (match.status == POSITIVE) & (own == 0) & exists  # the truth itself need not be moved
    towards = match.matches[moved]
    described = Described(
        model.head.describe(stages.pooled)[0, exists],
        status.masked_fill(hidden, IGNORED)[exists].to(torch.int8),
        stages.pooled[0, moved].flatten(1),
        labels[towards],
        encode(truth[towards], regions[moved]),
    )
    return Described(*(tensor.cpu() for tensor in described))


class Store:
    """Described pictures on disk, a file each, in half precision."""

    def __init__(self, folder: str | Path) -> None:
        self.folder, self.pictures, self.bytes = Path(folder), 0, 0
        self.norms, self.counts = [0.0, 0.0], [0, 0]  # sums of norms and numbers of rows, of features and of grids

    def append(self, described: Described) -> None:
        """Store the next picture."""
        path = self.folder / f"{self.pictures}.safetensors"
        save_file(described._replace(features=described.features.half(), grids=described.grids.half())._asdict(), path)
        self.pictures, self.bytes = self.pictures + 1, self.bytes + path.stat().st_size
        for place, rows in enumerate((described.features, described.grids)):
            self.norms[place] += float(rows.norm(dim=1).sum())
            self.counts[place] += len(rows)

    @property
    def scales(self) -> list[float]:
        """What features and what grids are multiplied by, so that their norm is 20 on average."""
        return [NORM * count / norm if norm else 1.0 for norm, count in zip(self.norms, self.counts, strict=True)]

    def read(self, picture: int) -> Described:
        """Return what was stored, scaled."""
        described = Described(**load_file(self.folder / f"{picture}.safetensors"))
        features, grids = (
            rows.float() * scale for rows, scale in zip((described.features, described.grids), self.scales, strict=True)
        )
        return described._replace(features=features, grids=grids)


class Training:
    """The training set of one class's SVM, its objects and those negatives that are not easy, and the SVM itself."""

    def __init__(self, width: int) -> None:
        self.positives, self.negatives = torch.zeros(0, width), torch.zeros(0, width)
        self.keys = torch.zeros(0, dtype=torch.int64)  # which region each negative is: none shall come twice
        self.added, self.fresh, self.fits = 0, 0, 0
        self.weight, self.bias = torch.zeros(width), torch.zeros(())

    def add(self, features: Float[Tensor, "R W"], chosen: Int[Tensor, " N"], picture: int) -> None:
        """Add the chosen regions of a picture as negatives, those that are here already left out."""
        keys = picture * MOST_REGIONS + chosen
        new = ~torch.isin(keys, self.keys)
        self.negatives = torch.cat((self.negatives, features[chosen[new]]))
        self.keys = torch.cat((self.keys, keys[new]))
        self.added, self.fresh = self.added + int(new.sum()), self.fresh + int(new.sum())

    def margins(self, features: Float[Tensor, "N W"]) -> Float[Tensor, " N"]:
        """Return the margins of the present SVM."""
        return features @ self.weight + self.bias

    def fit(self, cost: float) -> None:
        """Fit the SVM anew and drop the negatives that have become easy."""
        self.weight, self.bias, _ = fit_svm(self.positives, self.negatives, cost=cost)
        kept = self.margins(self.negatives) >= EASY
        self.negatives, self.keys = self.negatives[kept], self.keys[kept]
        self.fresh, self.fits = 0, self.fits + 1


def begin(store: Store, head: SVMHead, *, each: int, seed: int) -> list[Training]:
    """Return for each class all its objects, and ``each`` negatives of every picture, drawn by lot."""
    trainings = [Training(head.svm.weight.shape[1]) for _ in range(head.classes)]
    for picture in range(store.pictures):
        features, status = store.read(picture)[:2]
        lot = uniform_noise(len(features), seed=seed, epoch=0, id=picture).argsort()
        for training, column in zip(trainings, status.unbind(1), strict=True):
            training.positives = torch.cat((training.positives, features[column == POSITIVE]))
            training.add(features, lot[column[lot] == NEGATIVE][:each], picture)
    return trainings


def mine(store: Store, trainings: list[Training], *, cost: float, progress: bool = False) -> None:
    """Fit the SVMs, going once through all pictures for negatives that they take for objects (R-CNN 2.3).

    One pass is enough, says the paper. A class without objects gets no SVM.
    """
    wanted = [(column, training) for column, training in enumerate(trainings) if len(training.positives)]
    for _, training in wanted:
        training.fit(cost)
    for picture in tqdm(range(store.pictures), desc="hard negatives", unit="picture", disable=not progress):
        features, status = store.read(picture)[:2]
        for column, training in wanted:
            hard = (status[:, column] == NEGATIVE) & (training.margins(features) > HARD)
            training.add(features, hard.nonzero()[:, 0], picture)
            if training.fresh > REFIT:
                training.fit(cost)
    for _, training in wanted:
        training.fit(cost)


class Regressor(NamedTuple):
    """The box regressor of a class, for scaled grids."""

    weight: Float[Tensor, "4 D"]
    bias: Float[Tensor, " 4"]
    count: int  # of the regions that taught it


def regress(store: Store, label: int, *, penalty: float) -> Regressor:
    """Fit the box regressor of a class by ridge regression on the regions near its objects."""
    grids, targets = [], []
    for picture in range(store.pictures):
        described = store.read(picture)
        near = described.labels == label
        grids.append(described.grids[near])
        targets.append(described.targets[near])
    weight, bias = fit_ridge(torch.cat(grids), torch.cat(targets), penalty=penalty)
    return Regressor(weight, bias, sum(len(rows) for rows in grids))


def fill(head: SVMHead, store: Store, trainings: list[Training], regressors: list[Regressor]) -> None:
    """Put the fitted numbers into a head, whose features are not scaled; a class without objects keeps its SVM."""
    features, grids = store.scales
    weights = head.ridge.weight.unflatten(0, (-1, 4))  # a view: (4 K, D) -> (K, 4, D)
    biases = head.ridge.bias.unflatten(0, (-1, 4))
    for place, (training, regressor) in enumerate(zip(trainings, regressors, strict=True)):
        if training.fits:
            head.svm.weight[place] = training.weight * features
            head.svm.bias[place] = training.bias
        weights[place] = regressor.weight * grids
        biases[place] = regressor.bias


@torch.no_grad()
def fit_after_training(
    model: RCNN | SPPnet,
    dataset: Pictures,
    *,
    longer_side: int | None = None,
    cost: float = 1e-3,
    penalty: float = 1000.0,
    random_negatives: int = 5,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Fit:
    """Fit the SVMs and the box regressors of a trained R-CNN or SPPnet, and put them into ``model``.

    Args:
        model: on ``device``; the fits themselves run on the CPU.
        dataset: the pictures it was trained on, with their proposals.
        longer_side: pictures are scaled to this many pixels; None takes them as they are.
        cost, penalty: of the SVMs and of the regressors; the authors' values, for features with a norm of 20.
        random_negatives: of each picture, for each class, that the SVMs begin with.

    Raises:
        ValueError: there are no pictures.
    """
    if len(dataset) == 0:
        raise ValueError("dataset must hold at least one picture with its proposals, got none; open another split")
    head, clock = model.head, [time.perf_counter()]
    with TemporaryDirectory() as folder:
        store = Store(folder)
        for index in tqdm(range(len(dataset)), desc="describe", unit="picture", disable=not progress):
            example = dataset[index] if longer_side is None else resize(dataset[index], longer_side)
            store.append(describe(model, example, device=device))
        clock.append(time.perf_counter())
        trainings = begin(store, head, each=random_negatives, seed=seed)
        started = [training.added for training in trainings]
        mine(store, trainings, cost=cost, progress=progress)
        clock.append(time.perf_counter())
        regressors = [regress(store, label, penalty=penalty) for label in range(1, head.classes + 1)]
        clock.append(time.perf_counter())
    fill(head, store, trainings, regressors)
    return Fit(
        regions=store.counts[0],
        megabytes=store.bytes / 1e6,
        objects=[len(training.positives) for training in trainings],
        random_negatives=started,
        hard_negatives=[training.added - first for training, first in zip(trainings, started, strict=True)],
        fits=[training.fits for training in trainings],
        moved=[regressor.count for regressor in regressors],
        seconds=dict(zip(("describe", "svm", "ridge"), (b - a for a, b in pairwise(clock)), strict=True)),
    )
