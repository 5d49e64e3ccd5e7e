# %% [markdown] tags=["core"]
# # 17 · The debug clinic
#
# **The question.** Your detector runs, no error message appears, and the boxes are wrong. *Where do you look?*
#
# **After this lesson you can**
#
# - read four loss curves and a few boxes as a doctor reads a chart
# - choose the smallest experiment that tells two suspects apart
# - name eight classic faults of detectors, and mend them
# - write the one-line test that would have caught each of them
#
# | section | | minutes |
# |---|---|---|
# | 1 A healthy case | core | 8 |
# | 2 The instruments | core | 8 |
# | 3 Patients A, B and C | core | 12 |
# | 4 Patients D, E and F | core | 10 |
# | 5 Patients G and H | extra | 8 |
# | 6 From symptom to suspect | core | 3 |
# | 7 When your own detector does not learn | core | 2 |

# %%
from rcnnlib.view.notebook import predict, setup

setup()

# %%
import torch

from rcnnlib.checks import (
    check_flat_scores,
    check_head_boxes,
    check_offset,
    check_read_rows,
    flat_scores,
    head_boxes,
    offset,
    read_rows,
)
from rcnnlib.datasets.transforms import collate
from rcnnlib.engine.clinic import FAULTS, HEALTHY, Reader, Signs, build, enlarge, read_clinic
from rcnnlib.ops.box_coder import HEAD_STD, encode
from rcnnlib.ops.boxes import box_iou, clip_boxes
from rcnnlib.ops.nms import nms
from rcnnlib.view.explorers.clinic import NAMES, TERMS, case_sheet, record_of, shown_pictures
from rcnnlib.view.explorers.clinic_diagnosis import evidence
from rcnnlib.view.plotting import draw_boxes, figure, show_image

# %% [markdown] tags=["core"]
# ## 1 · A healthy case
#
# *core · 8 minutes*
#
# You can only see what is ill if you know what is healthy. Our patients are small copies of Faster R-CNN (lesson 14). They
# learn from drawn pictures with three classes: circles and squares of any colour, and **red triangles**. Blue triangles
# are scenery: a detector should leave them alone.

# %%
clinic = read_clinic()
cases, pictures = clinic["cases"], shown_pictures(clinic)
print(f"{clinic['steps']} steps of {clinic['batch']} pictures, seed {clinic['seed']}")
print(f"tested on {clinic['test pictures']} other pictures")

# %%
objects = sum(len(one.boxes) for one in pictures)
fig, axes = figure(880, 155, columns=6, alt=f"six test pictures with {objects} objects")
for number, (ax, one) in enumerate(zip(axes, pictures, strict=True)):
    draw_boxes(show_image(ax, enlarge(one.image)), one.boxes * 4, kind="ground_truth")
    ax.set_title(f"picture {number}")
fig

# %% [markdown] tags=["core"]
# All runs are stored: a healthy detector and eight patients, **A** to **H**, each with *one* fault. Seed, first weights and the
# order of the pictures are the same, so every difference comes from the fault. A fault that touches only the test leaves the
# training alone: such a patient has the healthy weights, and the healthy curves.
# (`python data/build/clinic.py` makes all runs again.)
#
# A detector like this has four terms in its loss. Each watches another part:
#
# | curve | it asks | if it stays high, suspect |
# |---|---|---|
# | `rpn_class` | does the RPN tell object from background? | labels of anchors, order of scores |
# | `rpn_box` | do anchors move to objects? | anchors, targets of anchors |
# | `head_class` | is the name right? | labels, pixels, regions that were cut out wrongly |
# | `head_box` | does the last correction fit? | targets of the head, std |


# %% jupyter={"source_hidden": true}
curve = cases["healthy"]["curves"]["head_box"]
predict(
    "head_box looks only at proposals that reach an object. What does the healthy curve do at first?",
    ["it falls", "it rises"],
    "it falls" if max(curve) == curve[0] else "it rises",
    "At the start few proposals reach an object, so there is little to ask. Soon there are more.",
)

# %%
case_sheet(clinic, "healthy")

# %% [markdown] tags=["core"]
# This is a *case sheet*. Thick and grey: the loss of the healthy detector over 1000 steps (the first steps are cut off at the
# top). A patient's curve will lie on it as a thin line. Right: two test pictures *as the network gets them*. Green is the
# truth, dashed are detections with a score of 0.5 or more.
#
# **A curve that rises is not yet a symptom. A curve that differs from the healthy one is.**

# %%
signs = cases["healthy"]["vital signs"]
for name in ("AP50", "AP75", "AP50 of each class"):
    print(f"{name:<20}{signs[name]}")
print("recall of 20 proposals, at IoU 0.5 and 0.7", signs["recall of 20 proposals"])
print(", ".join(f"{count} {kind}" for kind, count in signs["errors"].items()))

# %% [markdown] tags=["core"]
# Healthy is not perfect. Nearly every object has a right box, but some have a second one with another name: a *confusion*.
# (Picture 1 has one: a square that is also called a circle.) So compare a patient with these numbers, not with zero.
#
# ### How to look
#
# Four looks, the cheapest first:
#
# 1. **Look at the data through the loader's own eyes.** Draw what the *network* gets, not what lies in the file.
# 2. **Compare every piece with a known answer.** Give one function an input whose result you know.
# 3. **Overfit one picture.** A network that cannot learn one picture by heart will not learn a thousand.
# 4. **Read the curves and the boxes**, beside those of a healthy run.
#
# We try look 3, live, with trunk and RPN alone, and with a fault that none of the eight patients has. The **loader** (the code
# that reads pictures and boxes) mirrors the boxes, but not the picture.


# %%
def mirror_boxes(one):
    """A broken loader: boxes turned from left to right."""
    x1, y1, x2, y2 = one.boxes.unbind(dim=1)
    width = one.image.shape[-1]
    return one._replace(boxes=torch.stack((width - x2, y1, width - x1, y2), dim=1))


# %% [markdown] tags=["core"]
# A hundred steps on one picture: do the five best proposals reach what the *loader* calls objects?


# %%
def overfit(one, rate):
    """Learn one picture by heart; return how many boxes are reached, and how many there are."""
    model = build(HEALTHY)
    optimizer = torch.optim.AdamW(model.parameters(), rate)
    for step in range(100):
        batch = collate([one], seed=0, epoch=step)
        told = model.rpn(model.trunk(batch.images))
        optimizer.zero_grad()
        sum(model.rpn.losses(*told, batch)).backward()
        optimizer.step()
    best = model.rpn.propose(*told, batch.sizes, rounds=64).boxes[0, :5]
    return int((box_iou(one.boxes, best).amax(1) >= 0.5).sum()), len(one.boxes)


# %% jupyter={"source_hidden": true}
predict(
    "The loader mirrors the boxes. Can the RPN still overfit one picture?",
    ["yes", "no"],
    "yes",
    "It learns the wrong boxes by heart. Look 3 tests the network and its learning, not the data.",
)

# %%
runs = {"healthy": (pictures[4], 2e-3), "rate far too small": (pictures[4], 1e-6)}
runs["boxes mirrored"] = (mirror_boxes(pictures[4]), 2e-3)
for name, (one, rate) in runs.items():
    reached, there = overfit(one, rate)
    print(f"{name:<19} reaches at least two of {there} boxes:", reached >= 2)

# %% [markdown] tags=["core"]
# Look 3 finds a network that *cannot* learn: a wrong rate, frozen parts, no gradient. It does not find a network that learns
# the wrong thing. That is why looking at the data comes first.
#
# ## 2 · The instruments
#
# *core · 8 minutes*
#
# **Move: the ward.** Left the healthy detector, right the patient, on the same picture. Before you move anything, predict: on
# picture 0, how many of the eight will you know to be ill?

# %%
from rcnnlib.view.explorers.clinic import Ward

Ward(clinic)

# %% [markdown] tags=["core"]
# The bars count errors on all 100 test pictures (lesson 08 has the kinds): a *duplicate* is a second box on an object,
# *localisation* a box that fits an object badly, *confusion* a good box with the wrong name, *background* a box on no object.
#
# 1. Stay on picture 0, and go from A to H. Which ones look healthy? Look at the bars, too.
# 2. Lower the score for patient C. Is it blind, or only shy?
#
# **A number instead of a feeling.** If all boxes are off to the *same* side, their **offset** shows it.
#
# **Toy.** An object is at (10, 10, 30, 30). A box lies at (6, 12, 26, 32): its centre is off by −4 in x and by +2 in y.
# One wild box should not spoil the number, so we take the median.
#
# ### Your turn: `my_offset`
#
# Boxes (D, 4), objects (G, 4). Each box belongs to the object that it overlaps most. Leave out boxes whose best IoU is below
# 0.1. Give back the median of (box centre − object centre), x and y.
#
# <details><summary>Hint 1: whose object?</summary>
# <code>iou, row = box_iou(boxes, truth).max(dim=1)</code>; the object of each box is <code>truth[row]</code>.
# </details>
#
# <details><summary>Hint 2: centres</summary>
# The difference of centres is the mean of the differences of both corners.
# </details>
#
# <details><summary>Hint 3: the median</summary>
# <code>values.median(dim=0).values</code> for values of shape (D, 2).
# </details>


# %% tags=["exercise"]
def my_offset(boxes, truth):
    """Return (x, y): the median offset of the centres of boxes from their objects."""
    raise NotImplementedError


# %%
check_offset(my_offset)

# %% [markdown] tags=["core"]
# **One solution**, collapsed.


# %% jupyter={"source_hidden": true}
def offset_by_hand(boxes, truth):
    """Box by box."""
    found = []
    for box in boxes:
        iou = box_iou(box[None], truth)[0]
        if iou.max() >= 0.1:
            off = box - truth[iou.argmax()]
            found.append((off[:2] + off[2:]) / 2)
    return torch.stack(found).median(dim=0).values


# %%
toy, objects = torch.tensor([[6.0, 12, 26, 32]]), torch.tensor([[10.0, 10, 30, 30]])
shaken = pictures[0].boxes + torch.tensor([3.0, -1, 3, -1])
assert torch.equal(offset_by_hand(shaken, pictures[0].boxes), offset(shaken, pictures[0].boxes))
print("toy:", offset_by_hand(toy, objects).tolist())

# %% [markdown] tags=["core"]
# **Move: the probe.** Change the boxes of a patient, and watch how well they fit. *What makes wrong boxes right tells what is
# wrong with them.* You may take its detections, its best proposals, or the boxes that its loader reads. Before you move it,
# predict: shift *healthy* detections 4 pixels to the right. Is the mean IoU still above 0.5?

# %%
from rcnnlib.view.explorers.clinic_probe import Probe

Probe(clinic, "healthy")

# %% [markdown] tags=["core"]
# **The desk.** Here you hand in your diagnosis, for each of the eight. The line says what such a fault predicts, and what was
# measured. (*Badly boxed* is localisation and background together.) A wrong name is no shame: read *why* it is wrong. In
# JupyterLab you can keep the desk in sight: right-click on it, *Create New View for Cell Output*.

# %%
from rcnnlib.view.explorers.clinic_diagnosis import Diagnosis

Diagnosis(clinic)

# %% [markdown] tags=["core"]
# The eight names, in no order: anchors half a stride off · labels counted from 0 · x and y swapped · deltas not normalised
# back · scores reshaped without permute · ignored anchors count as negative · NMS before decode · blue and red swapped.
#
# Before you see a patient, ask of each name: is this code that *training* runs, that the *test* runs, or both?
#
# ## 3 · Patients A, B and C
#
# *core · 12 minutes*
#
# For each: look at the sheet, say what you see, run the probe, choose a name at the desk. Only then open the answer.
#
# ### Patient A

# %%
case_sheet(clinic, "A")

# %% jupyter={"source_hidden": true}
predict(
    "The curves of patient A are the healthy ones. Where must the fault be?",
    ["in the labels or the loss", "in the weights", "in what is done at test"],
    "in what is done at test",
    "Training never does it, so no curve can show it.",
)

# %% [markdown] tags=["core"]
# **Probe: a known answer.** Two objects, and a proposal for each: the first is 2 pixels too far left, the second is too wide.
# We encode the right corrections, as training does. What `detect` gives back must be the objects.

# %%
objects = torch.tensor([[40.0, 40, 60, 60], [10, 62, 30, 82]])
near = objects + torch.tensor([[-2.0, 0, -2, 0], [-1, 0, 1, 0]])
correction = encode(objects, near, std=HEAD_STD)


# %%
def known_answer(fault, proposals, deltas):
    """What a patient's head makes of proposals with known corrections, all surely circles."""
    rows = len(proposals)
    scores = torch.tensor([0.0, 9, 0, 0]).expand(1, rows, 4)
    size, exists = torch.tensor([[96.0, 96]]), torch.ones(1, rows, dtype=torch.bool)
    deltas = deltas[None, :, None].expand(1, rows, 3, 4)
    found = build(fault).head.detect(proposals[None], exists, scores, deltas, size)
    return found.boxes[0][found.valid[0] & (found.scores[0] > 0.5)]


# %%
print("proposals", near.tolist())
for name, fault in {"healthy": HEALTHY, "patient A": FAULTS["A"]}.items():
    found = known_answer(fault, near, correction)
    print(f"{name:<9}", found[found[:, 1].argsort()].round().tolist())

# %% [markdown] tags=["core"]
# <details><summary>Hint 1: measure</summary>
# How far does the first box go to the right, and how far should it go? How much narrower does the second get?
# </details>
#
# <details><summary>Hint 2: a factor</summary>
# The first goes 20 pixels and not 2. Where did you see a number 0.1 (lesson 06)?
# </details>
#
# <details><summary><b>The answer: patient A</b></summary>
#
# **Deltas not normalised back.** The head learns deltas divided by 0.1, 0.1, 0.2, 0.2 (lesson 06). At test they must be
# multiplied again. The wrong line: <code>decode(deltas, boxes)</code>; right is
# <code>decode(deltas, boxes, std=HEAD_STD)</code>. Every move is 5 or 10 times too large. The names stay right, because the
# name does not depend on the correction.
#
# What would have caught it: <code>assert torch.allclose(decode(encode(b, a, std=s), a, std=s), b)</code>.
# </details>
#
# ### Patient B

# %%
case_sheet(clinic, "B")

# %% [markdown] tags=["core"]
# One curve is a little high, and no curve is far away. The boxes fit. Read the *names*.


# %%
def names_said(who):
    """All names that a detector gives on the six pictures."""
    said = []
    for one, seen in zip(pictures, cases[who]["pictures"], strict=True):
        record = record_of(one, seen["detections"], 0.5)
        said += [NAMES[label - 1] for label in record.labels.tolist()]
    return said


# %% jupyter={"source_hidden": true}
predict(
    "Which name does patient B never say, on all six pictures?",
    ["circle", "square", "triangle"],
    lambda: min(NAMES, key=names_said("B").count),
    "Triangles are called squares, and squares circles. No class comes after the triangle.",
)

# %% [markdown] tags=["core"]
# **Probe: the loader's eyes.** How often does each label occur in the first 200 training pictures?


# %%
def label_counts(fault):
    """How often the loader of a patient says 0, 1, 2, 3."""
    seen = Reader(Signs(200, seed=0), fault.reading)
    return torch.cat([one.labels for one in seen]).bincount(minlength=4).tolist()


print("healthy  ", label_counts(HEALTHY))
print("patient B", label_counts(FAULTS["B"]))

# %%
for who in ("healthy", "B"):
    print(f"{who:<8} AP50 of each class", cases[who]["vital signs"]["AP50 of each class"])

# %% [markdown] tags=["core"]
# <details><summary><b>The answer: patient B</b></summary>
#
# **Labels counted from 0.** Many files count classes from 0. In a detector 0 is the background. So the first class is trained
# as background, and every other class gets the name before its own: squares are called circles. The last name is never used.
# (Why is the AP of circles not 0? Some circles are taken for squares, so they are called circles: right by luck.) The trap in
# the trap: if you evaluate with the *same* loader, the wrong names count as right.
#
# What would have caught it: <code>assert labels.min() >= 1</code>, or one look at the pictures with names.
# </details>
#
# ### Patient C

# %%
case_sheet(clinic, "C")

# %% [markdown] tags=["core"]
# Now the curves differ. Which ones? And is anything found? Hardly a box at all: look at the data first.
#
# **Probe: the loader's eyes**, once more. Left the true boxes, right those that the network gets:

# %%
read = [FAULTS["C"].reading(one) for one in pictures]
pairs = list(zip(read, pictures, strict=True))
fit = torch.cat([box_iou(a.boxes, b.boxes).diag() for a, b in pairs]).mean()
fig, (left, right) = figure(430, 215, columns=2, alt=f"mean IoU of the two {fit:.2f}")
draw_boxes(show_image(left, enlarge(pictures[1].image)), pictures[1].boxes * 4, kind="ground_truth")
draw_boxes(show_image(right, enlarge(read[1].image)), read[1].boxes * 4, kind="ground_truth")
fig

# %%
ways_back = {
    "shift by (8, 8)": lambda boxes: boxes + 8,
    "mirror": lambda boxes: mirror_boxes(pictures[0]._replace(boxes=boxes)).boxes,
    "swap x and y": lambda boxes: boxes[:, [1, 0, 3, 2]],
}


def fit_after(way):
    """Mean IoU of the loader's boxes with the true ones, when they are moved back."""
    moved = [box_iou(ways_back[way](a.boxes), b.boxes).diag() for a, b in pairs]
    return torch.cat(moved).mean().item()


# %% jupyter={"source_hidden": true}
predict(
    "Which of these brings the right boxes back to the left ones?",
    list(ways_back),
    lambda: max(ways_back, key=fit_after),
    "Follow one object: its distance from the left has become its distance from the top.",
)

# %%
print(f"as the loader reads them: mean IoU {fit:.2f}")
for way in ways_back:
    print(f"{way:<16} mean IoU {fit_after(way):.2f}")

# %% [markdown] tags=["core"]
# The probe of section 2 can do this, too: patient C, *loader's boxes*.
#
# <details><summary><b>The answer: patient C</b></summary>
#
# **x and y swapped.** TensorFlow writes boxes as (y1, x1, y2, x2). Taken for (x1, y1, x2, y2), every box lies mirrored at the
# diagonal, mostly on empty ground. So nothing can be learned: all four curves stay high, `rpn_class` most of all. A box near
# the diagonal is nearly right, so a single picture may look fine. The wrong line: <code>boxes = rows</code>; right is
# <code>boxes = rows[:, [1, 0, 3, 2]]</code>.
#
# What would have caught it: draw three pictures with their boxes before training.
# </details>
#
# ### Your turn: `my_read_rows`
#
# Mend the loader of B and C at once. A file gives rows **(class from 0, y1, x1, y2, x2)**. Give back rows (N, 5):
# **(x1, y1, x2, y2, label)**, as our detector wants them.
#
# <details><summary>Hint 1: on paper</summary>
# Which column of the file is x1? A list of columns picks them in that order: <code>rows[:, [4, 0]]</code>.
# </details>
#
# <details><summary>Hint 2: together</summary>
# <code>torch.cat((..., ...), dim=1)</code> sets columns side by side; <code>rows[:, :1]</code> is a column (N, 1).
# </details>


# %% tags=["exercise"]
def my_read_rows(rows):
    """Return (N, 5): x1, y1, x2, y2, label from 1."""
    # The patients' line was: return rows[:, [1, 2, 3, 4, 0]]
    raise NotImplementedError


# %%
check_read_rows(my_read_rows)

# %% [markdown] tags=["core"]
# **One solution**, collapsed.


# %% jupyter={"source_hidden": true}
def rows_by_hand(rows):
    """Column by column."""
    label, y1, x1, y2, x2 = rows.unbind(dim=1)
    return torch.stack((x1, y1, x2, y2, label + 1), dim=1)


# %%
rows = torch.rand(4, 5)
assert torch.equal(rows_by_hand(rows), read_rows(rows))
print("by hand:", rows_by_hand(torch.tensor([[0.0, 10, 30, 20, 90]])).tolist())

# %% [markdown] tags=["core"]
# ## 4 · Patients D, E and F
#
# *core · 10 minutes*
#
# ### Patient D

# %%
case_sheet(clinic, "D")


# %%
def growth(kind):
    """How many more errors of a kind patient D makes than the healthy detector."""
    return cases["D"]["vital signs"]["errors"][kind] - signs["errors"][kind]


# %% jupyter={"source_hidden": true}
predict(
    "Patient D's boxes fit. Which kind of error grows?",
    ["duplicate", "localisation", "confusion", "missed"],
    lambda: max(("duplicate", "localisation", "confusion", "missed"), key=growth),
    "Set patient D in the ward, and look at the bars.",
)

# %% [markdown] tags=["core"]
# **Probe: a known answer.** Two proposals left and right of *one* object, both with the right corrections. One box should come
# out, however far apart the proposals are.

# %%
one_object = torch.tensor([[30.0, 30, 60, 60], [30, 30, 60, 60]])
for apart in (4, 8):
    beside = one_object + torch.tensor([[-apart, 0, -apart, 0], [apart, 0, apart, 0]])
    correction = encode(one_object, beside, std=HEAD_STD)
    print(f"IoU of the two proposals {box_iou(beside[:1], beside[1:]).item():.2f}")
    for name, fault in {"healthy": HEALTHY, "patient D": FAULTS["D"]}.items():
        print(f"  {name:<9}", known_answer(fault, beside, correction).round().tolist())

# %% [markdown] tags=["core"]
# <details><summary><b>The answer: patient D</b></summary>
#
# **NMS before decode**, in the head. NMS is not forgotten: it strikes one of two close proposals. But it compares *proposals*.
# If their IoU is below 0.5, both stay, and then both are corrected to the same box. Training never runs the NMS of the head,
# so the curves are the healthy ones.
#
# What would have caught it: <code>assert (box_iou(b, b).triu(1) <= 0.5).all()</code> for the detections of one class.
# </details>
#
# ### Your turn: `my_head_boxes`
#
# Mend A and D at once. Proposals (N, 4), normalised deltas (N, 4) and scores (N,) of **one** class, the size of the picture
# (height, width), a threshold. Give back the boxes that NMS leaves, best first. You may use `decode`, `clip_boxes`, `nms`.
#
# <details><summary>Hint 1: order</summary>
# Which boxes must NMS compare? And may a box reach outside? Lesson 13 has the order for proposals.
# </details>
#
# <details><summary>Hint 2: std</summary>
# <code>decode(deltas, proposals, std=HEAD_STD)</code>
# </details>


# %% tags=["exercise"]
def my_head_boxes(proposals, deltas, scores, size, threshold):
    """Return (K, 4), best first."""
    # The patients: return decode(deltas, proposals)[nms(proposals, scores, threshold)]
    raise NotImplementedError


# %%
check_head_boxes(my_head_boxes)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: the formulas by hand.


# %% jupyter={"source_hidden": true}
def head_boxes_by_hand(proposals, deltas, scores, size, threshold):
    """Centre and size, corrected by t times the std; clip; NMS."""
    t = deltas * torch.tensor(HEAD_STD)
    sides = proposals[:, 2:] - proposals[:, :2]
    centres = (proposals[:, :2] + proposals[:, 2:]) / 2 + t[:, :2] * sides
    half = t[:, 2:].exp() * sides / 2
    boxes = clip_boxes(torch.cat((centres - half, centres + half), dim=1), size)
    return boxes[nms(boxes, scores, threshold)]


# %%
ready = (beside, correction, torch.tensor([0.9, 0.8]), torch.tensor([96.0, 96]), 0.5)
assert torch.allclose(head_boxes_by_hand(*ready), head_boxes(*ready))
print("one object, one box:", head_boxes_by_hand(*ready).round().tolist())

# %% [markdown] tags=["core"]
# ### Patient E

# %%
case_sheet(clinic, "E", pictures=(0, 2))

# %% [markdown] tags=["core"]
# Healthy curves, and boxes that fit something. But some objects have no box, and some boxes have no object. Which class
# suffers?

# %%
for who in ("healthy", "E"):
    print(f"{who:<8} AP50 of each class", cases[who]["vital signs"]["AP50 of each class"])

# %% jupyter={"source_hidden": true}
predict(
    "Only red triangles are lost. What must a detector see to tell them from scenery (section 1)?",
    ["the shape", "the colour", "the size"],
    "the colour",
    "Blue triangles are scenery, with the same shapes and sizes.",
)

# %% [markdown] tags=["core"]
# **Probe: the data, and change it back.** Compare the two pictures of the sheet with pictures 0 and 2 of section 1. Then set
# patient E in the probe of section 2: one of the two ticks helps. How many boxes are right, name included, if you change the
# colours?

# %%
for who in ("healthy", "E"):
    seen = evidence(cases[who], pictures)
    print(f"{who:<8} {seen['right boxes']} boxes are right", end=", ")
    print(f"with red and blue exchanged {seen['right boxes, colours swapped']}")

# %% [markdown] tags=["core"]
# <details><summary><b>The answer: patient E</b></summary>
#
# **Blue and red swapped.** OpenCV's <code>imread</code> gives blue, green, red. Training read its pictures with another
# library. So red triangles look like scenery, and scenery like red triangles. Circles and squares may have any colour: they
# hardly suffer. A mean over many classes hides such a fault: **read AP class by class.**
#
# What would have caught it: show one picture *as the network gets it*. Skies are blue.
# </details>
#
# ### Patient F

# %%
case_sheet(clinic, "F")

# %% [markdown] tags=["core"]
# One curve is far above the healthy one. Which part does it watch (section 1)? And how do the boxes fit that are found?

# %% jupyter={"source_hidden": true}
predict(
    "Patient F: rpn_class stays high, rpn_box does not. Which output of the RPN is in order?",
    ["its scores", "its deltas", "neither"],
    "its deltas",
    "rpn_box watches the deltas, rpn_class the scores. So look at what happens to the scores alone.",
)

# %% [markdown] tags=["core"]
# **Probe: a known answer.** Every cell of the map has its own anchors. We disturb the features at one cell and ask which rows
# of the score list change. They must belong to anchors near this cell.


# %%
def rows_that_change(fault, row=6, column=3):
    """Disturb one cell of the map; how far from it are the anchors whose score changes?"""
    rpn, features = build(fault).rpn, torch.rand(1, 64, 12, 12)
    anchors, before, _ = rpn(features)
    features[0, :, row, column] += 5
    changed = (rpn(features)[1] - before).abs().amax(-1)[0] > 1e-6
    centres = (anchors[changed, :2] + anchors[changed, 2:]) / 2
    cell = torch.tensor([column + 0.5, row + 0.5]) * 8
    return (centres - cell).abs().amax(1)


# %%
for name, fault in {"healthy": HEALTHY, "patient F": FAULTS["F"]}.items():
    with torch.no_grad():
        far = rows_that_change(fault)
    print(f"{name:<9} {len(far)} scores change, at most {far.max():.0f} pixels away")

# %% [markdown] tags=["core"]
# The RPN's 3x3 convolution looks one cell, 8 pixels, to each side: 9 cells of 3 anchors each. So 27 scores, at most 8 pixels
# away, are right. Which name says why patient F's scores sit on anchors far away?
#
# <details><summary><b>The answer: patient F</b></summary>
#
# **Scores reshaped without permute.** The map (B, 2k, h, w) lies in memory channel by channel.
# <code>scores.reshape(B, -1, 2)</code> makes pairs of *neighbouring cells* of one channel. The shape is right, so nothing
# stops. But the score of an anchor comes from somewhere else, and the RPN cannot learn which anchor is an object. The
# head still learns from the truth that is added (lesson 07), so the few boxes that it finds fit.
#
# What would have caught it: this probe, or a map that holds its own indices (lesson 11).
# </details>
#
# ### Your turn: `my_flat_scores`
#
# A score map (B, 2k, h, w): channels 2a and 2a + 1 belong to anchor a. Give back (B, h·w·k, 2) in the order of the anchors:
# row by row, cell by cell, anchor by anchor.
#
# <details><summary>Hint 1: what are neighbours?</summary>
# <code>reshape</code> reads the last dimension first. In the list the two channels of an anchor are neighbours, then comes the
# next anchor of the *same* cell. So which dimension must be the last?
# </details>
#
# <details><summary>Hint 2: the tool</summary>
# <code>permute</code> brings the map to (B, h, w, 2k). Then reshape.
# </details>


# %% tags=["exercise"]
def my_flat_scores(score_map):
    """Return (B, h w k, 2)."""
    # The patient's line was: return score_map.reshape(len(score_map), -1, 2)
    raise NotImplementedError


# %%
check_flat_scores(my_flat_scores)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: number by number.


# %% jupyter={"source_hidden": true}
def flat_scores_by_hand(score_map):
    """Row (i w + j) k + a, column c is channel 2a + c at cell (i, j)."""
    rows = []
    for i in range(score_map.shape[2]):
        for j in range(score_map.shape[3]):
            for a in range(score_map.shape[1] // 2):
                rows.append(score_map[:, 2 * a : 2 * a + 2, i, j])
    return torch.stack(rows, dim=1)


# %%
score_map = torch.rand(2, 6, 4, 5)
assert torch.equal(flat_scores_by_hand(score_map), flat_scores(score_map))
print("loop and library agree", tuple(flat_scores(score_map).shape))

# %% [markdown] tags=["extra"]
# ## 5 · Patients G and H
#
# *extra · 8 minutes*
#
# Two that would pass a quick visit.
#
# ### Patient G

# %%
case_sheet(clinic, "G")

# %% [markdown] tags=["extra"]
# Healthy curves again, and boxes that nearly fit. Here *proposals* tell more than detections.


# %%
def loss_of_recall(place):
    """By how much the recall of proposals falls, at IoU 0.5 (place 0) or 0.7 (place 1)."""
    well, sick = (cases[who]["vital signs"]["recall of 20 proposals"] for who in ("healthy", "G"))
    return well[place] - sick[place]


# %% jupyter={"source_hidden": true}
predict(
    "The recall of the proposals falls. Where does it fall more?",
    ["at IoU 0.5", "at IoU 0.7"],
    lambda: "at IoU 0.5" if loss_of_recall(0) > loss_of_recall(1) else "at IoU 0.7",
    "The proposals are there, but they fit worse. A strict limit feels it first.",
)

# %%
for who in ("healthy", "G"):
    seen = cases[who]["vital signs"]
    print(f"{who:<8} AP50 {seen['AP50']:.2f}, AP75 {seen['AP75']:.2f}", end=" · ")
    print("recall of 20 proposals at IoU 0.5, 0.7:", seen["recall of 20 proposals"])

# %% [markdown] tags=["extra"]
# **Probe: the offset.** Set patient G in the probe of section 2, with *proposals*. Which shift mends them? Then in numbers, for
# proposals and detections. Last: where is the centre of the first anchor? (The stride is 8, so the first cell covers the pixels
# from 0 to 8.)


# %%
def typical_offset(who, kind):
    """The median over the six pictures of the offset of the best boxes, as many as objects."""
    offs = []
    for one, seen in zip(pictures, cases[who]["pictures"], strict=True):
        best = torch.tensor(seen[kind]["boxes"][: len(one.boxes)])
        offs.append(offset(best, one.boxes))
    return [round(value, 1) for value in torch.stack(offs).median(dim=0).values.tolist()]


# %%
for who in ("healthy", "G"):
    proposals, detections = (typical_offset(who, kind) for kind in ("proposals", "detections"))
    anchors = build(FAULTS.get(who, HEALTHY)).rpn(torch.zeros(1, 64, 12, 12))[0]
    centre = ((anchors[0, :2] + anchors[0, 2:]) / 2).tolist()
    print(f"{who:<8} proposals {proposals}, detections {detections}, first anchor at {centre}")

# %% [markdown] tags=["extra"]
# <details><summary><b>The answer: patient G</b></summary>
#
# **Anchors half a stride off.** The weights were trained with anchors on the centres of the cells; this program puts them on
# the corners, as torchvision does. Every proposal is half a stride too far left and too far up. The head corrects most of
# it. Trained *and* tested on the corners, nothing would be wrong: the network learns the shift. Only the mixture is ill.
#
# What would have caught it: the offset, or
# <code>assert (anchors[0, :2] + anchors[0, 2:]).tolist() == [stride, stride]</code>.
# </details>
#
# ### Patient H

# %%
case_sheet(clinic, "H")

# %% [markdown] tags=["extra"]
# Nearly all is well, but one curve stays above the healthy one. In section 1, what does that curve suspect?
#
# **Probe: count.** Which labels do the anchors of the six pictures get (lesson 12)?


# %%
def kinds_of_anchors(fault):
    """How many anchors of the six pictures are positive, negative, ignored."""
    rpn, batch = build(fault).rpn, collate(pictures, seed=0, epoch=0)
    status = rpn.match(rpn(torch.zeros(6, 64, 12, 12))[0], batch).status
    values = {"positive": 1, "negative": 0, "ignored": -1}
    return {kind: int((status == value).sum()) for kind, value in values.items()}


# %% jupyter={"source_hidden": true}
predict(
    "Three kinds of anchors. In patient H one kind is gone. Which?",
    ["positive", "negative", "ignored"],
    lambda: min(kinds := kinds_of_anchors(FAULTS["H"]), key=kinds.get),
    "Without positives nothing would be found, without negatives everything. So it is the third kind.",
)

# %%
for name, fault in {"healthy": HEALTHY, "patient H": FAULTS["H"]}.items():
    print(f"{name:<9}", kinds_of_anchors(fault))

# %% [markdown] tags=["extra"]
# <details><summary><b>The answer: patient H</b></summary>
#
# **Ignored anchors count as negative.** Anchors with IoU from 0.3 to 0.7, and anchors that cross the border, should take no
# part. Here the RPN is told that they are background, though they show most of an object. A typical line:
# <code>labels = (status == 1)</code>, which makes two kinds out of three. The RPN learns to doubt. How much it costs depends on
# how many anchors there are between the thresholds.
#
# What would have caught it: <code>assert (status == -1).any()</code>, or the three counts in the log.
# </details>

# %% [markdown] tags=["core"]
# ## 6 · From symptom to suspect
#
# *core · 3 minutes*
#
# The whole ward in two tables, from the stored runs. (No time for G and H? Try to name them from the tables alone.)

# %%
columns = ("AP50", "AP75", "recall of proposals", "duplicates", "badly boxed", "wrong names")
print(" " * 9 + "".join(f"{n:>22}" if len(n) > 12 else f"{n:>13}" for n in columns))
for who, case in cases.items():
    seen = evidence(case, pictures)
    line = f"{who:<9}{seen['AP50']:>13.2f}{seen['AP75']:>13.2f}{seen['recall of proposals']:>22.2f}"
    print(line + "".join(f"{seen[name]:>13}" for name in columns[3:]))

# %%
print("curves at the end, as a multiple of the healthy one")
print(f"{'':<9}" + "".join(f"{term:>12}" for term in TERMS))
well = evidence(cases["healthy"], pictures)
for who in FAULTS:
    seen = evidence(cases[who], pictures)
    ratio = [seen[f"{term} at the end"] / well[f"{term} at the end"] for term in TERMS]
    print(f"{who:<9}" + "".join(f"{value:>12.1f}" for value in ratio))

# %% [markdown] tags=["core"]
# Read a row, and ask which name fits it. Then this table is easy:
#
# | symptom | suspects | smallest probe |
# |---|---|---|
# | healthy curves, boxes fly off | std of the deltas | decode(encode(b)) = b |
# | healthy curves, copies | NMS before decode, NMS forgotten | IoU of the detections among themselves |
# | healthy curves, only classes with a colour of their own suffer | colours | swap red and blue, look at a picture |
# | healthy curves, proposals fit worse | anchors or pixels half a stride off | offset of the proposals |
# | good boxes, names one too low, last name never said | labels from 0 | smallest label |
# | all curves high, hardly a box | boxes of the loader | draw three pictures |
# | `rpn_class` very high, the others fall; few boxes | order of the scores | disturb one cell |
# | `rpn_class` some times too high, boxes fine | labels of the anchors | count the three kinds |
#
# The first question is always the same: **do the curves differ?** If not, look at what is done only at test: its boxes, and its
# way to read pictures.
#
# ## 7 · When your own detector does not learn
#
# *core · 2 minutes*
#
# 1. Draw three pictures of a *batch*, with boxes and names. Print the smallest and the largest label.
# 2. decode(encode(b)) = b? Are `std` and anchors the same in training and at test?
# 3. Count positives, negatives and ignored ones, of the RPN and of the head. No positives: look at your anchors (lesson 10).
# 4. Overfit one picture. If that fails: learning rate, frozen parts (lesson 14), no gradient.
# 5. NaN? An empty box, or a learning rate without warm-up. Find the first step at which it appears.
# 6. Only then train on everything, and keep the curves of a healthy run to compare with.
#
# ## Summary
#
# - A detector can be wrong without any error message: shapes fit, and numbers mean something else.
# - Healthy curves and wrong boxes: the fault is in what is done only at test.
# - The curve that differs most names the part. Hardly a box at all: look at the data first.
# - The kind of error names the suspect: copies, bad boxes, wrong names, missed objects.
# - A probe changes one thing. What makes wrong boxes right tells what is wrong.
# - A mean hides: patient E is well in two classes, and blind in the third.
# - Each of the eight faults has a test of one line. Write it before you need it.
#
# ## Glossary
#
# | English | 한국어 | meaning |
# |---|---|---|
# | symptom | 증상 | what can be seen: a curve, a box, a name |
# | probe | 탐침 (간단한 확인 실험) | a small experiment whose right answer is known |
# | overfit | 과적합시키다 | learn a few pictures by heart |
# | loader | 데이터 로더 | the code that reads pictures and boxes |
# | offset | 치우침 (오프셋) | by how much boxes are off to one side |
# | duplicate | 중복 검출 | a second box on the same object |
# | confusion | 클래스 혼동 | a good box with the wrong name |
# | round trip | 왕복 확인 | encode, decode, and compare |
#
# ## References
#
# - Karpathy: *A Recipe for Training Neural Networks*, 2019,
#   [karpathy.github.io](https://karpathy.github.io/2019/04/25/recipe/)
# - Bolya and others: *TIDE*, 2020, [arXiv 2008.08115](https://arxiv.org/abs/2008.08115): kinds of errors
# - Ren, He, Girshick, Sun: *Faster R-CNN*, 2015, [arXiv 1506.01497](https://arxiv.org/abs/1506.01497), section 3.1
