import contextlib
import io
import json
import math

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from rcnnlib.datasets.transforms import collate, make_example
from rcnnlib.engine.evaluation import coco_ap, evaluate, predict, run
from rcnnlib.engine.metrics import Record, average_precision, match, precision_recall, voc_map
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.nms import BLOCK, ROUNDS
from rcnnlib.types import Detections

NAMES = ("AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge", "AR100")


def table(records, classes, rows):
    """A COCO table of rows (picture, box, label, further columns), made here independently."""
    annotations = [
        {"id": number, "image_id": image, "category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1], **more}
        for number, (image, (x1, y1, x2, y2), label, more) in enumerate(rows, start=1)
    ]
    for annotation in annotations:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    made = COCO()
    made.dataset = {
        "images": [{"id": image} for image in range(len(records))],
        "categories": [{"id": label} for label in range(1, classes + 1)],
        "annotations": annotations,
    }
    made.createIndex()
    return made


def theirs(records, classes):
    """pycocotools' numbers, and its AP50 for each class."""
    truth, found = [], []
    for image, record in enumerate(records):
        objects = zip(record.truth.tolist(), record.truth_labels.tolist(), strict=True)
        truth += [(image, box, label, {"iscrowd": 0}) for box, label in objects]
        for label in range(1, classes + 1):
            truth += [(image, box, label, {"iscrowd": 1}) for box in record.ignore.tolist()]
        scored = zip(record.boxes.tolist(), record.labels.tolist(), record.scores.tolist(), strict=True)
        found += [(image, box, label, {"score": score}) for box, label, score in scored]
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(table(records, classes, truth), table(records, classes, found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    numbers = dict(zip(NAMES, judge.stats[[0, 1, 2, 3, 4, 5, 8]].tolist(), strict=True))
    return numbers, judge.eval["precision"][0, :, :, 0, -1].mean(axis=0).tolist()


def near(boxes, generator, by):
    """The same boxes, each side moved by up to ``by`` of the box's own size."""
    size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes + size * by * (2 * torch.rand(boxes.shape, generator=generator) - 1)


def crowded(seed, pictures=10, classes=3):
    """Pictures with boxes of 12 to 192 pixels anywhere, detections near them and elsewhere, scores with ties."""
    generator = torch.Generator().manual_seed(seed)
    number = lambda low, high, *size: torch.randint(low, high, size, generator=generator)  # noqa: E731

    def boxes(count):
        corner = number(0, 200, count, 2).float()
        return torch.cat((corner, corner + 12 * 2 ** (4 * torch.rand(count, 2, generator=generator))), dim=1)

    records = []
    for id in range(pictures):
        truth = boxes(int(number(0, 9, 1)))
        found = torch.cat((near(truth, generator, 0.1), near(truth, generator, 0.2), boxes(int(number(0, 9, 1)))))
        labels = number(2, classes + 1, len(truth))  # the first class has no object
        records.append(
            Record(
                id=id,
                boxes=found,
                scores=number(0, 20, len(found)).float() / 20,
                labels=torch.cat((labels, labels, number(1, classes + 1, len(found) - 2 * len(truth)))),
                truth=truth,
                truth_labels=labels,
                ignore=boxes(int(number(0, 3, 1))),
            )
        )
    return records


def apart(seed, pictures=12, classes=3):
    """Pictures in which each object and each ignored region has a place of its own, so that no truth is contested."""
    generator = torch.Generator().manual_seed(seed)
    number = lambda low, high, *size: torch.randint(low, high, size, generator=generator)  # noqa: E731
    records = []
    for id in range(pictures):
        corner = torch.cartesian_prod(torch.arange(4), torch.arange(4)).float() * 200 + 50
        boxes = torch.cat((corner, corner + 30 + number(0, 70, 16, 2)), dim=1)[torch.randperm(16, generator=generator)]
        truth, ignore, nothing = boxes[: int(number(0, 10, 1))], boxes[10:12], boxes[12:]
        places = torch.cat((truth, truth, ignore, nothing))  # every object is found twice, better or worse
        labels = number(1, classes + 1, len(truth))
        records.append(
            Record(
                id=id,
                boxes=near(places, generator, 0.25),
                scores=torch.rand(len(places), generator=generator),
                labels=torch.cat((labels, labels, number(1, classes + 1, 6))),
                truth=truth,
                truth_labels=labels,
                ignore=ignore,
            )
        )
    return records


@pytest.mark.parametrize("seed", range(6))
def test_faster_coco_eval_is_pycocotools(seed):
    records = crowded(seed)
    ours, (numbers, per_class) = coco_ap(records, 3), theirs(records, 3)
    assert {name: ours[name] for name in NAMES} == pytest.approx(numbers, abs=1e-6)
    assert ours["per_class"][1:] == pytest.approx(per_class[1:], abs=1e-6)
    assert math.isnan(ours["per_class"][0])
    assert per_class[0] == -1
    assert 0.1 < ours["AP50"] < 0.9
    assert min(ours[name] for name in NAMES) >= 0


@pytest.mark.parametrize("seed", range(6))
def test_voc_ap_is_within_a_hundredth_of_cocos_where_no_truth_is_contested(seed):
    records = apart(seed)
    for record in records:
        assert ((box_iou(record.boxes, record.truth) >= 0.5).sum(dim=1) <= 1).all()
    # With the same verdicts the two differ by how they add up: COCO's mean over 101 recalls is within 1 / 100 of the
    # area under the same falling steps.
    numbers, per_class = theirs(records, 3)
    ours = voc_map(records, 3)
    assert ours["per_class"] == pytest.approx(per_class, abs=0.01)
    assert ours["mean"] == pytest.approx(numbers["AP50"], abs=0.01)
    assert 0.3 < ours["mean"] < 0.95
    dropped = sum(int(match(record, label).ignored.sum()) for record in records for label in (1, 2, 3))
    assert dropped > 5


def test_where_voc_and_coco_must_differ():
    # Two objects that overlap, and two detections of the first; the second one of them touches the second object too.
    truth = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 2.0, 10.0, 12.0]])
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.5, 10.0, 10.5]])
    overlap = [[100 / 100, 80 / 120], [95 / 105, 85 / 115]]  # 1.00 and 0.67; 0.90 and 0.74
    torch.testing.assert_close(box_iou(boxes, truth), torch.tensor(overlap))
    ones = torch.ones(2, dtype=torch.int64)
    record = Record(0, boxes, torch.tensor([0.9, 0.8]), ones, truth, ones, torch.zeros(0, 4))

    # VOC: the second detection overlaps the first object most, 0.90 against 0.74; it is taken: a duplicate.
    # Precision 1, 1/2 at recall 1/2, 1/2: the area is 1/2, and of the eleven recalls six (0 to 0.5) are reached.
    curve = precision_recall([record], 1)
    assert curve.true_positive.tolist() == [True, False]
    assert average_precision(curve) == 1 / 2
    assert average_precision(curve, points="11") == pytest.approx(6 / 11)

    # COCO: of the objects still free it overlaps the second by 0.74: right. Precision 1, 1 at recall 1/2, 1.
    assert coco_ap([record], 1)["AP50"] == pytest.approx(1.0)
    assert theirs([record], 1)[0]["AP50"] == pytest.approx(1.0)


def record_of(boxes=(), truth=(), ignore=()):
    rows = [torch.tensor(part).reshape(-1, 4) for part in (boxes, truth, ignore)]
    ones = [torch.ones(len(part), dtype=torch.int64) for part in rows]
    return Record(0, rows[0], ones[0].float(), ones[0], rows[1], ones[1], rows[2])


def test_coco_ap_of_nothing(capfd):
    box = [0.0, 0.0, 50.0, 50.0]  # 2500 square pixels: medium
    nothing_found = coco_ap([record_of(truth=[box])], 2)
    assert nothing_found["AP"] == nothing_found["AP50"] == nothing_found["APmedium"] == nothing_found["AR100"] == 0.0
    assert math.isnan(nothing_found["APsmall"])
    assert nothing_found["per_class"][0] == 0.0
    assert math.isnan(nothing_found["per_class"][1])
    for records in ([record_of(boxes=[box])], [record_of(ignore=[box])], [record_of()], []):
        numbers = coco_ap(records, 2)
        assert all(math.isnan(number) for number in (*numbers.pop("per_class"), *numbers.values()))
    assert capfd.readouterr().out == capfd.readouterr().err == ""


def test_records_of_one_id_are_apart():
    # Tiles of one photo may carry its id: a detection in one is no answer to an object in the other.
    box = [0.0, 0.0, 50.0, 50.0]
    assert coco_ap([record_of(truth=[box]), record_of(boxes=[box])], 1)["AP50"] == 0.0


class Brightest(nn.Module):
    """A detector that boxes the bright pixels of a picture, and no pixel where there are none; class 2."""

    def __init__(self, label=2, patient=True):
        super().__init__()
        self.part, self.needs_proposals, self.label = nn.Dropout(), False, label
        self.patient, self.calls = patient, []

    def forward(self, images, sizes, *, rounds=ROUNDS):
        assert torch.is_inference_mode_enabled()
        assert not self.training
        self.calls.append((tuple(images.shape), rounds))
        boxes, valid = torch.zeros(len(images), 2, 4), torch.zeros(len(images), 2, dtype=torch.bool)
        for i, image in enumerate(images):
            y, x = (image.mean(dim=0) > 0.5).nonzero().unbind(1)
            if len(x):
                boxes[i, 0] = torch.stack((x.min(), y.min(), x.max() + 1, y.max() + 1)).float()
                valid[i, 0] = True
        labels, settled = valid * self.label, torch.full((len(images),), self.patient or rounds == BLOCK)
        return Detections(boxes, valid * 0.75, labels, valid, settled)


class Given(nn.Module):
    """A detector that believes every proposal."""

    needs_proposals = True

    def forward(self, images, sizes, proposals, *, rounds=ROUNDS):
        valid = proposals[..., 2] > 0
        return Detections(proposals, valid * 0.9, valid.long(), valid, torch.ones(len(images), dtype=torch.bool))


class Bright:
    """Black pictures of several sizes with one white box each, of class 2, but the last, which is all black."""

    class_names = ("dark", "bright")
    boxes = ((20, 10, 60, 50), (0, 0, 30, 40), (40, 30, 50, 60), None)
    sizes = ((80, 100), (60, 40), (100, 100), (80, 40))  # height, width

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        image, box = torch.zeros(3, *self.sizes[index]), self.boxes[index]
        if box is None:
            return make_example(image, [], [], [(1, 2, 3, 4)], id=10 + index)
        image[:, box[1] : box[3], box[0] : box[2]] = 1
        return make_example(image, [box], [2], [], id=10 + index)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
@pytest.mark.parametrize("longer_side", [None, 100, 200, 320])
def test_records_are_in_pixels_of_the_photo(longer_side, batch_size):
    model, data = Brightest(), Bright()
    records = run(model, data, batch_size=batch_size, longer_side=longer_side)
    assert [record.id for record in records] == [10, 11, 12, 13]
    for record, box in zip(records, Bright.boxes, strict=True):
        expected = torch.tensor([box] if box else []).reshape(-1, 4).float()
        torch.testing.assert_close(record.boxes, expected, atol=0.7, rtol=0)  # a pixel of the input is 0.3 to 1.7 here
        assert torch.equal(record.truth, expected)
        assert record.labels.tolist() == record.truth_labels.tolist() == [2] * len(expected)
        assert record.scores.tolist() == [0.75] * len(expected)
    assert records[3].ignore.tolist() == [[1, 2, 3, 4]]
    assert sum(shape[0] for shape, _ in model.calls) == 4
    if longer_side:
        assert max(max(shape[-2:]) for shape, _ in model.calls) == math.ceil(longer_side / 16) * 16


def test_a_photo_that_was_scaled_before_is_scaled_back():
    class Half(Bright):
        def __getitem__(self, index):
            example = super().__getitem__(index)
            return example._replace(scale=torch.tensor([0.5, 0.25]))

    for scaled, whole in zip(run(Brightest(), Half()), run(Brightest(), Bright()), strict=True):
        for name in ("boxes", "truth", "ignore"):
            factor = torch.tensor([2.0, 4.0, 2.0, 4.0])
            torch.testing.assert_close(getattr(scaled, name), getattr(whole, name) * factor)


def test_proposals_are_handed_over():
    class WithProposals(Bright):
        def __getitem__(self, index):
            example = super().__getitem__(index)
            return example._replace(proposals=torch.tensor([[4.0, 4.0, 20.0, 16.0]] * index).reshape(-1, 4))

    records = run(Given(), WithProposals())
    assert [len(record.boxes) for record in records] == [0, 1, 2, 3]
    for record in records:
        expected = torch.tensor([[4.0, 4.0, 20.0, 16.0]] * len(record.boxes)).reshape(-1, 4)
        torch.testing.assert_close(record.boxes, expected)


def test_unsettled_pictures_are_done_again_with_enough_rounds():
    hasty = Brightest(patient=False)
    records = run(hasty, Bright(), longer_side=None)
    assert [rounds for _, rounds in hasty.calls] == [ROUNDS, BLOCK]
    assert [len(record.boxes) for record in records] == [1, 1, 1, 0]
    calm = Brightest()
    run(calm, Bright())
    assert [rounds for _, rounds in calm.calls] == [ROUNDS]


def test_one_unsettled_picture_is_enough():
    class Last(Given):
        rounds = ()

        def forward(self, images, sizes, proposals, *, rounds=ROUNDS):
            self.rounds += (rounds,)
            found = super().forward(images, sizes, proposals)
            settled = torch.arange(len(images)) < len(images) - (rounds < BLOCK)
            return found._replace(settled=settled)

    model, batch = Last(), collate([Bright()[0], Bright()[1]], seed=0, epoch=0, noise_length=1)
    assert predict(model, batch).settled.all()
    assert model.rounds == (ROUNDS, BLOCK)


def test_the_model_is_left_as_it_was():
    model = Brightest().train()
    model.part.eval()  # frozen, while the rest trains
    run(model, Bright())
    assert (model.training, model.part.training) == (True, False)

    class Broken(Bright):
        def __getitem__(self, index):
            raise OSError("a broken picture")

    with pytest.raises(OSError, match="a broken picture"):
        run(model, Broken())
    assert (model.training, model.part.training) == (True, False)


def test_progress_is_shown_when_asked_for(capfd):
    run(Brightest(), Bright())
    assert capfd.readouterr().err == ""
    run(Brightest(), Bright(), progress=True)
    assert "1/1" in capfd.readouterr().err


def test_a_report_is_ready_for_json(capfd):
    report = evaluate(Brightest(), Bright(), longer_side=None, batch_size=2)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report.pop("seconds_per_picture") > 0
    perfect = pytest.approx(1.0)
    nothing = {"AP50": None, "voc_AP50": None, "voc_AP50_11": None}  # no dark object
    errors = dict.fromkeys(("duplicate", "ignored", "localisation", "confusion", "background", "missed"), 0)
    assert report == {
        "AP": perfect,
        "AP50": perfect,
        "AP75": perfect,
        "APsmall": perfect,  # 10 x 30
        "APmedium": perfect,  # 40 x 40, and 30 x 40
        "APlarge": None,
        "AR100": perfect,
        "voc_AP50": perfect,
        "voc_AP50_11": perfect,
        "per_class": {"dark": nothing, "bright": dict.fromkeys(nothing, perfect)},
        "errors": {"correct": 3, **errors},
        "pictures": 4,
        "objects": 3,
    }
    assert capfd.readouterr().out == ""


def test_the_three_ways_to_add_up_in_a_report():
    class TwoWanted(Bright):
        def __getitem__(self, index):
            example = super().__getitem__(index)
            return example._replace(boxes=example.boxes.repeat(2, 1), labels=example.labels.repeat(2))

    # Every box is to be found twice and is found once: precision 1 up to recall 1/2, then nothing.
    report = evaluate(Brightest(), TwoWanted(), longer_side=None)
    numbers = {"AP50": 51 / 101, "voc_AP50": 1 / 2, "voc_AP50_11": 6 / 11}  # recalls 0 to 0.5 by steps of 0.01; 0.1
    assert {name: report[name] for name in numbers} == pytest.approx(numbers)
    assert report["per_class"]["bright"] == pytest.approx(numbers)
    assert (report["objects"], report["errors"]["missed"]) == (6, 3)


def test_errors_of_a_report_are_those_that_would_be_shown():
    report = evaluate(Brightest(label=1), Bright(), longer_side=None)  # the right place, the wrong name, score 0.75
    assert report["errors"]["confusion"] == report["errors"]["missed"] == 3
    assert report["AP50"] == report["voc_AP50"] == 0.0
    assert report["per_class"]["bright"] == {"AP50": 0.0, "voc_AP50": 0.0, "voc_AP50_11": 0.0}


def test_a_data_set_without_pictures_has_a_report():
    class Empty(Bright):
        sizes = ()

    report = evaluate(Brightest(), Empty())
    assert (report["pictures"], report["objects"], report["AP50"], report["voc_AP50"]) == (0, 0, None, None)


def test_a_model_for_other_classes_is_refused():
    with pytest.raises(ValueError, match="label 3, but the data set has only 2 classes"):
        evaluate(Brightest(label=3), Bright())
