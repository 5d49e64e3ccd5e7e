# %% [markdown] tags=["core"]
# # 12 · What the RPN learns from
#
# **The question.** The RPN gives scores and corrections for 2,700 anchors of a small picture. The picture has four objects.
# *Which anchors should say "object", which "background", and how does one number, the loss, grade them all?*
#
# **After this lesson you can**
#
# - label every anchor: positive, negative or ignored, with both rules of the paper
# - say how many of the 256 anchors of a step are really positive
# - compute the RPN's loss by hand, and say which term counts for which anchor
# - say what N_cls, N_reg and λ do, and compare three programs that choose them differently
# - answer whether anchors are needed, with an experiment
#
# | section | | minutes |
# |---|---|---|
# | 1 Three labels | core | 9 |
# | 2 The best-anchor rule | core | 9 |
# | 3 256 anchors | core | 5 |
# | 4 The loss | core | 9 |
# | 5 N_cls, N_reg and λ | core | 6 |
# | 6 Why anchors? | core | 7 |
# | 7 Papers and code | extra | 3 |

# %%
from rcnnlib.view.notebook import predict, setup, show_source

setup()

# %%
from functools import partial

import torch

from rcnnlib.checks import check_match, check_rpn_loss
from rcnnlib.datasets.coco import scrapbook
from rcnnlib.datasets.transforms import collate
from rcnnlib.engine.metrics import proposal_recall
from rcnnlib.engine.schedules import Schedule
from rcnnlib.engine.stored import StoredFeatures, fit
from rcnnlib.models.backbone import backbone
from rcnnlib.models.rpn import RPN, RPNHead
from rcnnlib.models.weights import load_rpn_checkpoints
from rcnnlib.ops.anchors import anchor_grid, cell_anchors
from rcnnlib.ops.box_coder import encode
from rcnnlib.ops.boxes import box_iou, clip_boxes, is_inside
from rcnnlib.ops.losses import box_loss, classification_loss, smooth_l1
from rcnnlib.ops.matcher import match_anchors
from rcnnlib.ops.nms import BLOCK, nms
from rcnnlib.view.plotting import LINES, draw_boxes, figure, name_line, show_image

# %% [markdown] tags=["core"]
# ## 1 · Three labels
#
# *core · 9 minutes*
#
# Before a network can learn, each anchor needs a right answer, its **label**. Nobody writes these labels. They come from
# the boxes of the objects, by IoU (lesson 01). Faster R-CNN 3.1.2 says:
#
# - **positive**: IoU above 0.7 with some object (in our code exactly 0.7 counts, too)
# - **negative**: IoU below 0.3 with every object
# - **ignored**: all the rest. It takes no part in training.
#
# (There is a second rule for positives. It comes in section 2.)
#
# **Toy.** One anchor, two objects. Its IoU with the zebra is 0.5, with the bus 0.1. Some *other* anchor has 0.8 with the zebra.

# %% jupyter={"source_hidden": true} rows="L18 predict"
predict(
    "IoU 0.5 with the zebra, 0.1 with the bus. Which label?",
    ["positive", "negative", "ignored"],
    lambda: {1: "positive", 0: "negative", -1: "ignored"}[
        int(match_anchors(torch.tensor([[0.5, 0.1], [0.8, 0.0]]), torch.ones(2) > 0).status[0])
    ],
    "Its best IoU is 0.5: too good for background, too bad for an object. Nobody grades it.",
)

# %% [markdown] tags=["core"]
# Now a real scene: 240 x 320 pixels, 15 x 20 cells, nine anchors each. The table of IoUs has a row for each anchor, a
# column for each object.

# %%
scenes = scrapbook("test")
scene, dense = scenes[13], scenes[56]
size = torch.tensor([240.0, 320.0])
anchors = anchor_grid(cell_anchors((48, 96, 192)), (15, 20), 16)
table = box_iou(anchors, scene.boxes)
print("table:", tuple(table.shape))

# %% [markdown] tags=["core"]
# One more rule, before any IoU: **anchors that cross the border of the picture are ignored** (3.1.3). Part of such an
# anchor lies on nothing. The paper reports that training does not converge if they stay.

# %%
inside = is_inside(anchors, size)
share = (~inside).float().mean()
print(f"{int((~inside).sum())} of {len(anchors)} anchors cross the border: {share:.0%}")

# %% [markdown] tags=["core"]
# (In the paper about 6,000 of 20,000 are left, on a picture of 1000 x 600. The border takes about as large a part there.)
#
# Now the labels. `match_anchors` knows all rules of this lesson:

# %%
real = torch.ones(len(scene.boxes), dtype=torch.bool)  # all four rows are objects
match = match_anchors(table, real, allowed=inside)
values = {"positive": 1, "ignored": -1, "negative": 0}
masks = {name: inside & (match.status == value) for name, value in values.items()}
print({name: int(mask.sum()) for name, mask in masks.items()})

# %% [markdown] tags=["core"]
# **Look.** All positives, and some of the others. Ignored anchors cut an object in half, or hold it with much around it.

# %% rows="L18 figure"
counts = ", ".join(f"{int(mask.sum())} {name}" for name, mask in masks.items())
fig, axes = figure(880, 250, columns=3, alt=f"Four objects; {counts}")
kinds = {"positive": "anchor", "ignored": "ignored", "negative": "note"}
for ax, (name, mask) in zip(axes, masks.items(), strict=True):
    step = max(1, int(mask.sum()) // 8)
    draw_boxes(show_image(ax, scene.image), anchors[mask][::step][:8], kind=kinds[name])
    draw_boxes(ax, scene.boxes, kind="ground_truth")
    ax.set_title(f"{int(mask.sum())} {name}, 8 shown")
fig

# %% [markdown] tags=["core"]
# **Move.** Left: the objects (drag them!) and their positive anchors. Right: the labels of all anchors, one small map for each
# of the nine. A point of a map is the anchor centred on that cell. Rows: ratios 1/2, 1, 2. Columns: scales 48, 96, 192.

# %% rows="L18 explorer"
from rcnnlib.view.explorers.anchor_labels import AnchorLabels

AnchorLabels(scene.image, scene.boxes, "A bus, a zebra, a cow and a bird")

# %% [markdown] tags=["core"]
# Try this:
#
# 1. Raise *negative below* to 0.7. Where are the ignored anchors now?
# 2. Drag the zebra by a few pixels. Its positives jump from cell to cell.
# 3. Let those that cross take part. Which object gets new positives?
# 4. The map of anchor 8 is dark everywhere. Why? (How tall is it?)
#
# ## 2 · The best-anchor rule
#
# *core · 9 minutes*
#
# Before anything was dragged, the line of the explorer said: the best anchor of the zebra (object 1) reaches only
# 0.59, that of the bird (object 3) 0.57. By the first rule they would
# have *no* positive anchor. The RPN would never hear of them. So the paper has a second rule:
#
# > **positive**, too: the anchor with the highest IoU with some object, *whatever that IoU is*.

# %% jupyter={"source_hidden": true}
predict(
    "Positive from 0.7 goes up to 0.9. How many of the four objects lose all their positives?",
    ["none", "one", "all four"],
    "none",
    "The best anchor of each object stays positive, whatever its IoU. Set 0.9 in the explorer above.",
)

# %% [markdown] tags=["core"]
# How often is it needed? We count in 40 scenes.

# %%
tops = []
for place in range(40):
    found = box_iou(anchors[inside], scenes[place].boxes)
    tops += found.amax(dim=0).tolist()
tops = torch.tensor(tops)
print(f"{len(tops)} objects, best IoU below 0.7: {(tops < 0.7).float().mean():.0%}")

# %% [markdown] tags=["core"]
# More than half of the objects live by the second rule alone. The lowest of them:

# %%
lowest = [f"{value:.2f}" for value in tops.sort().values[:3].tolist()]
print("the lowest three:", ", ".join(lowest), "- positive all the same")

# %% [markdown] tags=["core"]
# **Toy, with a tie.** A square of 128 x 128 stands with its centre on the corner of four cells. Four anchors of 96 x 96 lie
# wholly inside it. On paper: IoU = 96² / 128² = 9216 / 16384 = 0.5625, four times. Larger and smaller ones reach less.

# %%
square = torch.tensor([[96.0, 64.0, 224.0, 192.0]])
tie = match_anchors(box_iou(anchors, square), torch.ones(1) > 0, allowed=inside)

# %% jupyter={"source_hidden": true}
predict(
    "Four anchors share the highest IoU, 0.5625. How many positives does the square get?",
    ["0", "1", "4", "9"],
    lambda: str(int((tie.status == 1).sum())),
    "All that share the maximum. Choosing one of them would be a matter of luck.",
)

# %%
print("positives:", anchors[tie.status == 1].int().tolist())
print("IoU:", [f"{value:.4f}" for value in tie.iou[tie.status == 1].tolist()])

# %% [markdown] tags=["core"]
# ### Your turn: `my_match`
#
# From the table of IoUs (a row for each anchor, a column for each object) to 1, 0 or -1 for each anchor. Both rules. Ties
# included. An object that no anchor touches (its column is all 0) has no best anchor.
#
# <details><summary>Hint 1: the limits</summary>
# The largest IoU of each row decides: <code>iou.amax(dim=1)</code>. Begin with -1 everywhere.
# </details>
#
# <details><summary>Hint 2: the best anchors</summary>
# The largest IoU of each column is <code>iou.amax(dim=0)</code>. Compare the whole table with it; <code>==</code> keeps ties.
# </details>
#
# <details><summary>Hint 3: the order</summary>
# A best anchor may lie below 0.3. Write its 1 last.
# </details>


# %% tags=["exercise"] rows="L18 exercise"
def my_match(iou, positive, negative):
    """Return 1, 0 or -1 (A,), whole numbers, for the table iou (A, G)."""
    raise NotImplementedError


# %%
check_match(my_match)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: the paper's sentences as a loop.


# %% jupyter={"source_hidden": true}
def match_by_hand(iou, positive, negative):
    """First the limits, anchor by anchor; then the best anchor of each object."""
    labels = []
    for row in iou.tolist():
        labels.append(1 if max(row) >= positive else 0 if max(row) < negative else -1)
    for column in iou.T.tolist():
        for anchor, value in enumerate(column):
            if value == max(column) and value > 0:
                labels[anchor] = 1
    return torch.tensor(labels)


# %%
test = torch.rand(60, 3)
theirs = match_anchors(test, torch.ones(3) > 0, positive=0.7, negative=0.3).status
assert torch.equal(match_by_hand(test, 0.7, 0.3), theirs)
print("the same labels for", len(test), "random anchors and 3 objects")

# %% [markdown] tags=["core"]
# <details><summary>Why the library is quicker</summary>
#
# Two <code>amax</code> and one comparison treat all anchors, all objects and all pictures of a batch at once. The loop visits
# every cell of the table in Python.
# </details>
#
# ### Plant the bug
#
# Two classics. No error comes, and training runs.
#
# - **Best anchor forgotten:** objects that no anchor fits well are never learned.
# - **Ignored are negative:** somebody kept two labels instead of three. Half an object is now called background.

# %% rows="L18 explorer"
bugged = AnchorLabels(dense.image, dense.boxes, "A zebra, a bus and two birds")
bugged.set(bug="best anchor forgotten")

# %%
for bug in ("none", "best anchor forgotten", "ignored are negative"):
    now = bugged.set(bug=bug).numbers
    words = f"{now['positive']} positive, {now['negative']} negative"
    print(f"{bug:<22} {words}, {now['objects without a positive']} objects without")
bugged = bugged.set(bug="best anchor forgotten")  # as it stands above

# %% [markdown] tags=["core"]
# Three of four objects have vanished. With the other bug, hundreds of anchors on the objects shout "background" against
# the seven that say "object".
#
# ## 3 · 256 anchors
#
# *core · 5 minutes*
#
# Eight positives against 944 negatives: if all took part, the negatives would drown the rest. So each step draws **256
# anchors** of a picture, *up to* half of them positive (3.1.3). If there are too few positives, negatives fill the batch.

# %% jupyter={"source_hidden": true}
predict(
    "Of 256 drawn anchors at most 128 are positive. How many are, in a usual scene of ours?",
    ["128", "about 60", "fewer than 20"],
    "fewer than 20",
    "The count over 40 scenes comes below.",
)

# %% [markdown] tags=["core"]
# **Move.** Blue dashes: positives that were drawn. Small white squares: the centres of the negatives. What must you set to
# have as many positives as negatives?

# %% rows="L18 explorer"
from rcnnlib.view.explorers.anchor_batch import AnchorBatch, label

moments, trunk = load_rpn_checkpoints(), backbone("squeezenet").eval()
AnchorBatch(moments[800], {"scene 1": scene, "scene 2": dense, "scene 3": scenes[41]})

# %%
positives = [int((label(moments[800], scenes[p]).match.status == 1).sum()) for p in range(40)]
positives = torch.tensor(positives)
mean = positives.float().mean()
print(f"positives in 40 scenes: {mean:.1f} on average, at most {positives.max()}")
print(f"so about {256 - mean:.0f} of 256 anchors are negative")

# %% [markdown] tags=["core"]
# In scene 1 only a batch of 16 is half positive: 8 and 8. With 256, 1:1 is what the paper *allows at most*. Our small
# pictures have few objects and never reach it. The filling is the rule, not the exception.
#
# ## 4 · The loss
#
# *core · 9 minutes*
#
# Faster R-CNN, eq. 1:
#
# $$L(\{p_i\},\{t_i\}) = \frac{1}{N_{cls}} \sum_i L_{cls}(p_i, p_i^*) + \lambda \frac{1}{N_{reg}} \sum_i p_i^* L_{reg}(t_i, t_i^*)$$
#
# - $i$ runs over the drawn anchors; $p_i$ is the objectness of anchor i (lesson 11)
# - $p_i^*$ is its label: 1 for a positive, 0 for a negative
# - $L_{cls}$ is -log p for a positive, -log(1 - p) for a negative
# - $t_i$ are its four corrections, $t_i^*$ the right ones (lesson 10); $L_{reg}$ is smooth L1, summed over the four
#   (here straight from 1 on, as in the paper; our RPN uses 1/9, section 7)
# - $p_i^*$ stands **before** $L_{reg}$: the box counts only where there is an object
#
# **Toy.** One anchor, p = 0.8. Its t_x is wrong by 2, the rest is right. N_cls, N_reg and λ are 1. As a positive it
# costs -log 0.8 + (2 - 0.5) = 0.22 + 1.5 = 1.72.

# %% jupyter={"source_hidden": true} rows="L19 predict"
predict(
    "Now the same anchor is negative: p* = 0. What does it cost?",
    ["0.22", "1.61", "1.72", "3.11"],
    lambda: f"{-torch.tensor(1 - 0.8).log().item():.2f}",
    "-log(1 - 0.8) = 1.61. A negative has no right box, so its box costs nothing.",
)

# %% [markdown] tags=["core"]
# **Move.** One anchor. Flip p* by hand. Before you do, predict: what happens to each of the two curves?

# %% rows="L19 explorer"
from rcnnlib.view.explorers.rpn_loss_terms import RPNLossTerms

RPNLossTerms()

# %% [markdown] tags=["core"]
# Try this:
#
# 1. p* = 0, then move *error of t_x*. Nothing happens: the network may say what it likes there.
# 2. p* = 1 and the difference of the scores at 6. What is left of the class term?
# 3. *ignored*: both terms are gone.
#
# ### Your turn: `my_rpn_loss`
#
# You get p (A,), the labels p* (A,) with -1 for ignored, and the errors t - t* (A, 4). Return eq. 1 as one number.
#
# <details><summary>Hint 1: the class term</summary>
# <code>torch.where(star == 1, p, 1 - p)</code> is the probability of the right answer.
# </details>
#
# <details><summary>Hint 2: smooth L1</summary>
# 0.5 x² where |x| &lt; 1, else |x| - 0.5. <code>smooth_l1</code> is imported above; sum it over the four.
# </details>
#
# <details><summary>Hint 3: who counts</summary>
# The class term: <code>star &gt;= 0</code>. The box term: <code>star == 1</code>. (-1 times something is not nothing.)
# </details>


# %% tags=["exercise"] rows="L19 exercise"
def my_rpn_loss(p, star, error, n_cls, n_reg, weight):
    """Return eq. 1, a tensor with one number; weight is lambda."""
    raise NotImplementedError


# %%
check_rpn_loss(my_rpn_loss)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: eq. 1, anchor by anchor.


# %% jupyter={"source_hidden": true}
def loss_by_hand(p, star, error, n_cls, n_reg, weight):
    """Sum both terms over the anchors."""
    naming, boxing = torch.tensor(0.0), torch.tensor(0.0)
    for i in range(len(p)):
        if star[i] == 1:
            naming = naming - p[i].log()
            boxing = boxing + smooth_l1(error[i]).sum()
        elif star[i] == 0:
            naming = naming - (1 - p[i]).log()
    return naming / n_cls + weight * boxing / n_reg


# %%
scores, error, star = torch.randn(99, 2), torch.randn(99, 4), torch.randint(-1, 2, (99,))
ours = loss_by_hand(scores.softmax(-1)[:, 1], star, error, 256, 2400, 10)
naming = classification_loss(scores, star, normalizer=256)
boxing = box_loss(error, torch.zeros(99, 4), star, beta=1.0, normalizer=2400)
assert torch.allclose(ours, naming + 10 * boxing, atol=1e-5)
print("loop and library: the same loss for", len(star), "anchors")

# %% [markdown] tags=["core"]
# <details><summary>Why the library starts from the scores</summary>
#
# log(softmax) in one step never takes the log of 0. And it needs no loop.
# </details>
#
# **Look.** The RPN of lesson 11 at its six moments, graded on one scene. Both terms of eq. 1, on a logarithmic axis:

# %%
grades = []
batch = collate([scene], seed=0, epoch=0)
with torch.no_grad():
    maps = trunk(batch.images, batch.sizes)
    for rpn in moments.values():
        grades.append([term.item() for term in rpn.losses(*rpn(maps), batch)])
first, last = grades[0], grades[-1]

# %% rows="L19 figure"
falls = all(after < before for before, after in zip(first, last, strict=True))
fig, ax = figure(700, 250, alt=f"Two curves over 0 to 800 steps; both end lower: {falls}")
places, names = range(len(moments)), ("class term", "λ · box term")
for values, name, colour in zip(zip(*grades, strict=True), names, LINES, strict=False):
    ax.plot(places, values, color=colour, marker="o")
    name_line(ax, places[-1], values[-1], name, colour)
ax.set(xticks=places, xticklabels=moments, xlabel="steps", yscale="log", xlim=(0, 6.2))
fig

# %% [markdown] tags=["core"]
# ### Plant the bug
#
# **Regression for all:** somebody forgot $p^*$. A negative has no object of its own; the program takes the object
# that the anchor overlaps most, or object 0 if it touches none. Most of the drawn anchors are negatives, so they
# rule the box term, and pull the boxes towards far objects.

# %% rows="L19 explorer"
RPNLossTerms(star=0, bug="regression for all")

# %%
drawn = label(moments[800], scene)
status, nearest = drawn.match.status, drawn.match.matches
targets = encode(scene.boxes[nearest], drawn.anchors)
for name, value in (("positive", 1), ("negative", 0)):
    print(f"{name}: the targets are {targets[status == value].abs().mean():.1f} on average")

# %% [markdown] tags=["core"]
# The targets of positives are small: the object is near. Those of negatives are large and mean nothing.
#
# ## 5 · N_cls, N_reg and λ
#
# *core · 6 minutes*
#
# Both sums are divided by a number, and the second is weighed by λ. Programs differ here:
#
# | | N_cls | N_reg | λ |
# |---|---|---|---|
# | paper | 256, the batch | about 2,400, the cells of its pictures | 10 |
# | the paper's words on *our* cells | 256 | 300 = 15 x 20 | 10 |
# | this course (`rcnnlib/models/rpn.py`) | 256 | 2,400 | 10 |
# | torchvision | the drawn anchors, 256 | the drawn anchors, 256 | 1 |
#
# What counts is how one positive's box error weighs against one anchor's class error:

# %%
rows = {"paper, this course": (2400, 10), "our 300 cells": (300, 10), "torchvision": (256, 1)}
for name, (n_reg, weight) in rows.items():
    print(f"{name:<19} (λ / N_reg) / (1 / N_cls) = {weight / n_reg * 256:.2f}")

# %% [markdown] tags=["core"]
# The first and the third are nearly the same! 10 / 2400 is 1 / 240, close to 1 / 256. The paper says so in its way: with λ = 10
# "both cls and reg terms are roughly equally weighted", and this normalisation "could be simplified" (3.1.2). torchvision
# simplified it.
#
# On small pictures the paper's words would give eight times as much weight to the boxes. Our library keeps 2,400, so that
# one box error weighs as much against one class error as in the paper.

# %% jupyter={"source_hidden": true}
predict(
    "λ goes from 10 to 20. What happens to the gradient of the box term?",
    ["nothing", "its length doubles", "its length grows four times"],
    "its length doubles",
    "λ is a factor before the term, so it is a factor before its gradient.",
)

# %% [markdown] tags=["core"]
# **Move.** The gradient is what really reaches the weights. We take both terms, and measure how long their gradients are at
# the shared 3x3 layer. The chart shows box / class. At 1 both pull equally hard. *N_reg 2400* is the
# paper and this course, *N_reg 300* our cells, *both 256* torchvision (which takes λ = 1).

# %% rows="L19 explorer"
from rcnnlib.view.explorers.two_gradients import TwoGradients

TwoGradients(moments, trunk, {"scene 1": scene, "scene 2": dense})

# %% [markdown] tags=["core"]
# 1. Set λ = 10 and walk through the moments 0 to 5 (the line says the steps). When do the boxes pull hardest,
#    compared with the classes?
# 2. Which λ makes *both 256* pull as *N_reg 2400* does with 10?
#
# **The paper said, we measured.** The paper trained with four values of λ (Table 9, VOC 2007): 0.1 gave 67.2 % mAP, 1 gave 68.9,
# 10 gave 69.9, 100 gave 69.1. A thousand times more, and the result moves by less than three points. Our gradients
# over the same four, after 100 steps in scene 1:

# %%
from rcnnlib.view.explorers.two_gradients import measure, two_gradients

pulls = {"scene": [measure(moments[100], trunk, scene)]}
for weight in (0.1, 1.0, 10.0, 100.0):
    ratio = two_gradients(weight, 0, "scene", pulls=pulls)["ratios"][0]
    print(f"λ = {weight:>5}: boxes / classes = {ratio:>5.2f}")

# %% [markdown] tags=["core"]
# This is the RPN after 100 steps: at λ = 10 both pull about equally hard. After 800 steps, in the explorer, the
# boxes pull much less. So the balance depends on the moment, too. At the ends one term hardly counts, yet the
# paper's mAP moves little: the result does not depend much on λ.
#
# ## 6 · Why anchors?
#
# *core · 7 minutes*
#
# > **Why an anchor generator at each cell? Could the 1x1 convolution not make the boxes, as it seems to do already?**
# > «각 셀마다 anchor box를 generator를 하는 이유는? 굳이 안해도 위에서처럼 1by1 conv layer를 통해서 만들 수 있지 않을까?»
#
# Anchors have no weights. The 1x1 convolution says how to move *from* an anchor. Without one it must start from something
# else, and the labels of section 1 need another rule, too. We train three small RPNs on the same scenes:
#
# | | starts from | a cell or anchor is positive if |
# |---|---|---|
# | **nine anchors** | its anchor | IoU rules of this lesson |
# | **one square** | a square of 96 pixels at each cell | IoU rules of this lesson |
# | **no anchors** | the centre of the cell | the centre lies inside an object |
#
# *No anchors* gives four distances: from the centre to the left, upper, right and lower side (as logarithms). If the centre
# lies in two objects, the smaller one counts. All other cells are negative. Nobody computes an IoU.
#
# Why not nine outputs a cell, and no shapes? Give all nine the same square, and look at their labels:

# %%
same = anchor_grid(cell_anchors([96] * 9, (1.0,)), (15, 20), 16)
status = match_anchors(box_iou(same, scene.boxes), real).status.reshape(300, 9)
equal = bool((status == status[:, :1]).all())
print("the nine labels of a cell are equal, in every cell:", equal)

# %% [markdown] tags=["core"]
# Same label, same target: nine times the same work. So *one square* and *no anchors* have one output a cell.

# %%
train = scrapbook("train")
stored = StoredFeatures(trunk, [train[place] for place in range(40)])
tests = [scenes[place] for place in range(40)]
with torch.no_grad():
    test_maps = torch.cat([trunk(one.image[None]) for one in tests])
print("maps:", len(stored), "for training,", len(test_maps), "for the test")

# %% [markdown] tags=["core"]
# The labels and targets without anchors:

# %%
centres = anchor_grid(cell_anchors((16,), (1.0,)), (15, 20), 16)[:, :2] + 8


def inside_an_object(batch):
    """Label 1 and the object for each cell whose centre lies in one, the smallest first."""
    point, boxes = centres[None, :, None], batch.boxes[:, None]
    holds = ((point > boxes[..., :2]) & (point < boxes[..., 2:])).all(-1)  # (B, cells, G)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1).expand(holds.shape)
    smallest = areas.masked_fill(~holds, 1e9).argmin(-1, keepdim=True)
    return holds.any(-1).long(), batch.boxes.take_along_dim(smallest, dim=1)


# %%
def free_loss(head, maps, batch):
    """Eq. 1 over all 300 cells; targets: logarithms of distances, in units of 48 pixels."""
    star, objects = inside_an_object(batch)
    distances = torch.cat((centres - objects[..., :2], objects[..., 2:] - centres), dim=-1)
    targets = (distances.clamp(min=1) / 48).log()
    scores, logs = head(maps)
    count = 300 * len(maps)
    naming = classification_loss(scores, star, normalizer=count)
    return naming + box_loss(logs, targets, star, beta=1 / 9, normalizer=count)


# %%
def free_boxes(head, maps):
    """Boxes without anchors: centre minus and plus distances; then NMS as in the RPN."""
    scores, logs = head(maps)
    reach = logs.clamp(-4, 3).exp() * 48
    corners = centres - reach[..., :2], centres + reach[..., 2:]
    boxes = clip_boxes(torch.cat(corners, dim=-1), size)
    pairs = zip(boxes, scores.softmax(-1)[..., 1], strict=True)
    return [each[nms(each, score, 0.7)] for each, score in pairs]


# %% [markdown] tags=["core"]
# Train all three: 150 steps of 4 scenes, the same scenes in the same order.


# %%
def anchor_loss(rpn, maps, batch):
    """Both terms of eq. 1, as this lesson tells it."""
    return sum(rpn.losses(*rpn(maps), batch))


schedule, arms = Schedule(steps=150, rate=1e-3, warmup=15), {}
shapes = {"nine anchors": ((48, 96, 192), (0.5, 1, 2)), "one square": ((96,), (1,))}
for name, (scales, ratios) in shapes.items():
    torch.manual_seed(0)
    rpn = RPN(512, 16, scales=scales, ratios=ratios, channels=32, after=300)
    loss = partial(anchor_loss, rpn)
    fit(rpn, loss, stored, schedule, seed=0)
    with torch.no_grad():
        found = rpn.propose(*rpn(test_maps), size.expand(40, 2), rounds=BLOCK)
    arms[name] = [boxes[valid] for boxes, valid in zip(found.boxes, found.valid, strict=True)]

# %%
torch.manual_seed(0)
head = RPNHead(512, 1, channels=32)
fit(head, partial(free_loss, head), stored, schedule, seed=0)
with torch.no_grad():
    arms["no anchors"] = free_boxes(head, test_maps)
print("trained:", ", ".join(arms))

# %% [markdown] tags=["core"]
# **Recall**: which part of the 40 test scenes' objects does some proposal reach?

# %% rows="Q6 experiment"
truths, recall = [one.boxes for one in tests], {}
for name, proposals in arms.items():
    for count in (300, 100):
        limits = torch.tensor([0.5, 0.7])
        found = proposal_recall(proposals, truths, thresholds=limits, count=count).tolist()
        recall[name, count, 0.5], recall[name, count, 0.7] = found
gap = recall["nine anchors", 300, 0.5] - recall["no anchors", 300, 0.5]
print("no anchors reach more than half of the objects:", recall["no anchors", 300, 0.5] > 0.5)
print("and stay within 0.2 of nine anchors:", abs(gap) < 0.2)
behind = recall["nine anchors", 300, 0.7] - recall["one square", 300, 0.7]
print("one square, at IoU 0.7, falls behind nine anchors:", behind > 0)

# %%
said = f"no anchors within 0.2 of nine anchors at IoU 0.5: {abs(gap) < 0.2}"
fig, axes = figure(860, 230, columns=2, alt=f"Bars of recall for three RPNs; {said}")
for ax, iou in zip(axes, (0.5, 0.7), strict=True):
    for row, name in enumerate(arms):
        for count, shift, colour in ((300, -0.18, LINES[0]), (100, 0.18, LINES[1])):
            value = recall[name, count, iou]
            ax.barh(row + shift, value, height=0.34, color=colour)
            ax.text(value + 0.02, row + shift, f"{value:.2f} ({count})", va="center")
    ax.set(yticks=range(3), yticklabels=arms, xlim=(0, 1.1), ylim=(2.6, -0.6))
    ax.set_title(f"recall at IoU {iou}; in brackets: proposals")
fig

# %% [markdown] tags=["core"]
# **Answer.** Yes, the 1x1 convolution can make boxes without anchors. Ours did, after 150 steps: at IoU 0.5 about
# as well, at IoU 0.7 less well. So
# anchors are not *necessary*: later detectors such as FCOS and DETR have none. But they are needed for *this recipe*:
#
# - The labels come from an IoU. An IoU needs a box **before** the network has said anything. That box is the anchor. Without
#   anchors we needed another rule (*the centre lies inside*).
# - Nine outputs of one cell need nine different tasks. The nine shapes give them.
# - Take the shapes away and keep the recipe (*one square*): fewer objects are hit tightly.
#
# It is one small test with one seed, and nine anchors have 2,700 boxes to choose from, the others 300. With
# another seed the order at IoU 0.7 may change. The test says that both ways work, not which is better.
#
# > **답.** 만들 수 있습니다. 우리의 작은 실험에서도 앵커 없이 "셀의 중심이 물체 안에 있으면 양성"이라는 다른 규칙으로 학습했더니
# > IoU 0.5에서 비슷한 재현율이 나왔으므로(IoU 0.7에서는 더 낮았습니다), 앵커는 IoU로 레이블을 정하고 변화량을 재는 이 방법에
# > 필요할 뿐 FCOS나 DETR처럼 앵커 없는 검출기도 있습니다.

# %% [markdown] tags=["extra"]
# ## 7 · Papers and code
#
# *extra · 3 minutes*
#
# The loss as it stands in the library. Read it against eq. 1:

# %%
show_source(RPN.losses, docstring=False)

# %% [markdown] tags=["extra"]
# Three details:
#
# - `normalizer=SAMPLES * len(scores)`: with several pictures in a step the sum is divided by 256 for each of them.
# - `beta=BETA`: smooth L1 turns from square to straight at 1/9, as in the authors' code. The paper's formula has 1.
# - 256 and 2,400 are **constants**. If each GPU divided by the anchors that it has drawn itself, the GPUs could
#   divide by different numbers.
#
# > **What the notes said.** The notes write L_reg of the RPN as MSE, the squared error. The paper has **smooth L1**: "the robust
# > loss function (smooth L1) defined in [2]", below eq. 1.
#
# > **What the notes said.** The notes say IoU > 0.7 for a positive, as the paper does. Ours is ≥ 0.7, as in
# > torchvision. It makes no difference in practice: exactly 0.7 hardly ever happens.

# %% [markdown] tags=["core"]
# ## Summary
#
# - An anchor is positive from IoU 0.7 on, negative below 0.3, else ignored. Those that cross the border are ignored.
# - The best anchor of each object is positive at any IoU, ties included. More than half of our objects need this rule.
# - A step draws 256 anchors, at most half positive. Ours have a handful of positives; negatives fill the rest.
# - Class term for positives and negatives; box term for positives only: that is the $p^*$ before $L_{reg}$.
# - λ / N_reg is what counts: 10 / 2400 in the paper is nearly torchvision's 1 / 256.
# - Anchors are needed for this recipe, because labels and corrections start from them. Other recipes do without.
#
# Next: **13 Proposals and NMS**: from 2,700 scored anchors to 200 boxes.
#
# ## Glossary
#
# | English | 한국어 | meaning |
# |---|---|---|
# | label, p* | 레이블, p* | the right answer for an anchor: 1, 0 or none |
# | positive, negative | 양성, 음성 | object, background |
# | ignored | 무시 | takes no part in the loss |
# | best-anchor rule | 최고 IoU 앵커 규칙 | the best anchor of each object is positive |
# | tie | 동점 | several share the highest value |
# | normalisation (N_cls, N_reg) | 정규화 | what a sum is divided by |
# | anchor-free | 앵커 프리 | a detector without anchors |
#
# ## References
#
# - Ren, He, Girshick, Sun: *Faster R-CNN*, [arXiv 1506.01497](https://arxiv.org/abs/1506.01497), sections 3.1.2 and 3.1.3, Table 9
# - Tian, Shen, Chen, He: *FCOS*, 2019, [arXiv 1904.01355](https://arxiv.org/abs/1904.01355)
# - Carion and others: *DETR*, 2020, [arXiv 2005.12872](https://arxiv.org/abs/2005.12872)
#
# The scenes are made of cut-outs of Tux Paint's stamps; `data/scrapbook/CREDITS.csv` names their authors.
