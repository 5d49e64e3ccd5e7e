# %% [markdown] tags=["core"]
# # 06 · Heads and the multi-task loss
#
# **The question.** Lesson 05 turned every region of a photo into a grid of 7x7 cells.
# *How does one network say from this grid what the region holds, and at the same time where the object really lies?
# And how does it learn both at once?*
#
# What comes after RoI pooling is called the **head** of the detector. (On this page *head* always means that.
# An animal has a *face*.)
#
# **After this lesson you can**
#
# - turn scores into probabilities, and say why the background is class number 0
# - read the head of Fast R-CNN, and say where its weights sit
# - say why each class draws a box of its own
# - write smooth L1, and show what an outlier does to it
# - write the multi-task loss, and say how the two tasks share the work
#
# | section | | minutes |
# |---|---|---|
# | 1 C + 1 classes | core | 10 |
# | 2 The head | core | 5 |
# | 3 A box for each class | core | 9 |
# | 4 Targets of one size | core | 4 |
# | 5 Smooth L1 | core | 8 |
# | 6 Two tasks, one loss | core | 9 |
# | 7 SVM or softmax | extra | 8 |
# | 8 Plant the bug | extra | 4 |
# | 9 Divide by a constant | extra | 2 |
# | 10 The paper and us | extra | 3 |
#
# You may leave out what is marked *extra*.

# %%
from rcnnlib.view.notebook import predict, setup, show_source

setup()

# %%
import math

import torch
from torch.nn.functional import cross_entropy, smooth_l1_loss

from rcnnlib.checks import check_multi_task_loss, check_smooth_l1, check_softmax
from rcnnlib.ops.box_coder import HEAD_STD, decode, encode
from rcnnlib.ops.boxes import box_convert, box_iou
from rcnnlib.ops.losses import box_loss, class_deltas, classification_loss, smooth_l1
from rcnnlib.view.plotting import LINES, draw_boxes, figure, name_line, show_image, show_map

# %% [markdown] tags=["core"]
# ## 1 · C + 1 classes
#
# *core · 10 minutes*
#
# Our data has C = 5 classes: bird, mammal, food, tool, vehicle. (The papers write K for C.)
# But most RoIs hold none of them. So the head knows one class more, the **background**: C + 1 = 6 answers.
#
# | label | 0 | 1 | 2 | 3 | 4 | 5 |
# |---|---|---|---|---|---|---|
# | meaning | background | bird | mammal | food | tool | vehicle |
#
# Why is the background number **0**? "By convention", says the paper (Fast R-CNN 2.3). It is a useful convention:
#
# - "Is there an object?" is the short test `label >= 1`.
# - A sixth class gets number 6. No other number changes.
#
# The head gives one **score** for each label. A score is any number: the larger, the more likely.
# (Scores are also called *logits*.) The **softmax** turns the scores of one RoI into probabilities:
#
# $$p_i = \frac{e^{s_i}}{\sum_j e^{s_j}}$$
#
# **Toy.** Two classes and the background. The scores are 0 (background), 2 (bird), 1 (mammal).
# You need $e^0 = 1$, $e^2 = 7.389$, $e^1 = 2.718$.

# %%
toy = torch.tensor([[0.0, 2.0, 1.0]])

# %% jupyter={"source_hidden": true}
predict(
    "What is the probability of bird?",
    ["0.33", "0.67", "0.74", "1.00"],
    lambda: f"{toy.softmax(1)[0, 1]:.2f}",
    "7.389 / (1 + 7.389 + 2.718) = 7.389 / 11.107.",
)

# %%
powers = toy.exp()
print("exp         ", " ".join(f"{power:.4f}" for power in powers[0]))
print("sum         ", f"{powers.sum():.4f}")
print("probability ", " ".join(f"{share:.4f}" for share in (powers / powers.sum())[0]))

# %% [markdown] tags=["core"]
# ### Your turn: `my_softmax`
#
# Take scores of shape (N, L), one row for each RoI. Give back probabilities of the same shape.
# Each row must add up to 1. Scores of 1000 must not break it.
#
# <details><summary>Hint 1: along which dimension?</summary>
# The numbers of one row lie along dimension 1. <code>x.sum(dim=1, keepdim=True)</code> gives shape (N, 1),
# and (N, L) divided by (N, 1) works.
# </details>
#
# <details><summary>Hint 2: exp(1000) is infinity</summary>
# What happens to the fraction if you subtract the same number from all scores of a row?
# Above and below the line, everything is multiplied by the same factor.
# </details>
#
# <details><summary>Hint 3: which number?</summary>
# <code>scores.amax(dim=1, keepdim=True)</code>. Then the largest exp is exp(0) = 1.
# </details>


# %% tags=["exercise"] rows="L8 exercise"
def my_softmax(scores):
    """Return probabilities (N, L) of scores (N, L); every row adds up to 1."""
    raise NotImplementedError


# %%
check_softmax(my_softmax)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: row by row.


# %% jupyter={"source_hidden": true}
def softmax_by_hand(scores):
    """The definition; the largest score of a row is taken off first."""
    rows = []
    for row in scores.tolist():
        powers = [math.exp(score - max(row)) for score in row]
        rows.append([power / sum(powers) for power in powers])
    return torch.tensor(rows)


# %% [markdown] tags=["core"]
# **The library** is PyTorch itself. We compare 200 RoIs with 6 random scores each,
# and three RoIs whose scores are all 1000.

# %%
scores = torch.cat((torch.randn(200, 6) * 5, torch.full((3, 6), 1000.0)))
assert torch.allclose(softmax_by_hand(scores), scores.softmax(dim=1), atol=1e-6)
print("loop and library agree on", len(scores), "RoIs")
print("without the trick:", (scores[-1:].exp() / scores[-1:].exp().sum())[0, 0].item())

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# <code>softmax(dim=1)</code> takes maximum, exp, sum and quotient of all rows in one call.
# Training needs only log p, and that is s - log(sum of exp). So <code>cross_entropy</code> takes the scores
# and never makes probabilities.
# </details>
#
# **Move.** Raise one score. Then raise all of them together. Before you do, predict.

# %% jupyter={"source_hidden": true}
predict(
    "You add 10 to all three scores. What becomes of the probability of bird?",
    ["it grows", "it stays the same", "it falls"],
    lambda: "it stays the same" if (toy + 10).softmax(1).allclose(toy.softmax(1)) else "it grows",
    "Every exp is multiplied by the same factor, and so is the sum. Only differences count.",
)

# %% rows="L8 explorer"
from rcnnlib.view.explorers.softmax_scores import SoftmaxScores

SoftmaxScores()

# %% [markdown] tags=["core"]
# Try these.
#
# 1. Raise *mammal* alone. All three probabilities change: the labels **compete**, for their sum is always 1.
# 2. Add 100 to all scores. What does the line say? Then take the largest score off first.

# %% [markdown] tags=["core"]
# ### The real thing
#
# Here is a Fast R-CNN that was trained on Scrapbook, pasted pictures. It has never seen a real photo.
# We give it three RoIs on a photo: A on a sheep, B on its face and shoulders, C on grass.

# %%
from rcnnlib.datasets.coco import wild
from rcnnlib.datasets.transforms import collate, resize
from rcnnlib.models.weights import load_weights

detector = load_weights("fast_rcnn_scrapbook")
model, names = detector.model, ("background", *detector.spec.classes)
photos = wild()
sheep = photos[[name for _, name in photos.images].index("sheep.jpg")]

# %% [markdown] tags=["core"]
# The detector was made for pictures of 320 pixels, so the photo is made smaller, and the RoIs with it.
# `stages` returns everything that the detector computes on its way.

# %%
rois = torch.tensor([[190.0, 80, 480, 450], [240, 50, 450, 290], [480, 250, 630, 450]])
batch = collate([resize(sheep, 320)], seed=0, epoch=0)
small = rois * batch.scales.repeat(1, 2)
with torch.no_grad():
    stages = model.stages(batch.images, batch.sizes, small[None])
print("scores", tuple(stages.class_scores.shape), "· deltas", tuple(stages.box_deltas.shape))
probabilities = stages.class_scores[0].softmax(dim=1)

# %% [markdown] tags=["core"]
# One photo, three RoIs, six scores each. (The deltas are for section 3.)
#
# **Look.** Each row of the table is one RoI. It adds up to 1 (before rounding).

# %% rows="L8 figure"
fig, axes = figure(860, 300, columns=2, alt="Three RoIs and their probabilities:")
draw_boxes(show_image(axes[0], sheep.image), rois, kind="proposal", labels=list("ABC"))
show_map(axes[1], probabilities, text=".2f").set_aspect("auto")
for row, name in enumerate("ABC"):
    axes[1].text(-0.1, row + 0.5, name, ha="right", va="center")
    fig.alt += f" {name} {names[probabilities[row].argmax()]} {probabilities[row].max():.2f};"
for label, name in enumerate(names):
    axes[1].text(label + 0.5, -0.08, f"{label}\n{name}", ha="center", fontsize=9)
fig

# %% [markdown] tags=["core"]
# A is a mammal. C is background, for certain. B shows the whole face of the sheep, and still "background" wins clearly.
# Why? Section 3 finds out.

# %% [markdown] tags=["core"]
# ## 2 · The head
#
# *core · 5 minutes*
#
# What happens between the 7x7 grid and the scores? Here it is, whole:
# **two fully connected layers** (`fc6`, `fc7`; the names are those of the VGG16 network) make one vector out of the grid.
# Then come two **sibling layers**. Both read that *same* vector.
#
# ```
#                                            ┌─> scores   C + 1 numbers      what is it?
# grid ──> fc6 ──> fc7 ──> shared vector ────┤
#                                            └─> deltas   4 C numbers        where is it?
# ```

# %%
from rcnnlib.models.roi_heads import BoxPredictor, TwoMLPHead

show_source(TwoMLPHead.forward, docstring=False)

# %%
show_source(BoxPredictor, docstring=False)

# %% [markdown] tags=["core"]
# N is the number of RoIs, M of channels, p = 7, and W is the length of the shared vector. K is C, and L is C + 1.
#
# In our head a 1x1 convolution stands before the pooling. It makes 128 channels out of the 512 of the feature map.
# This *reduction* is ours, not the paper's.
#
# How many weights does each layer have?

# %% jupyter={"source_hidden": true}
predict(
    "Which layer of the head has the most weights?",
    ["the 1x1 reduction", "fc6", "fc7", "the two siblings together"],
    lambda: "fc6" if model.head.mlp.fc6.weight.numel() > 1e6 else "fc7",
    "fc6 sees the whole grid: 128 x 7 x 7 = 6272 numbers, and it makes 256 out of them.",
)

# %%
head = model.head
layers = {"1x1 reduction": head.reduce, "fc6": head.mlp.fc6, "fc7": head.mlp.fc7}
layers |= {"scores": head.predict.scores, "deltas": head.predict.deltas}
for name, layer in layers.items():
    count = sum(parameter.numel() for parameter in layer.parameters())
    print(f"{name:<14}{tuple(layer.weight.shape)!s:<18}{count:>9,}")

# %% [markdown] tags=["core"]
# (Biases are counted too.) Without the reduction fc6 would have four times as many.
#
# **Move.** Build the paper's head: 512 channels, width 4096, the 20 classes of PASCAL VOC. (It had no reduction;
# ignore that bar.) How many weights does fc6 have then?

# %%
from rcnnlib.view.explorers.head_size import HeadSize, head_size

HeadSize()

# %%
paper = head_size(512, 7, 4096, 20, "one a class")["weights"]["fc6"]
print(f"fc6 with VGG16: {paper:,} weights, {4 * paper / 1e6:.0f} MB")

# %% [markdown] tags=["core"]
# A hundred million weights, for one layer. And fc6 works once for **every** RoI, while the convolutions work once a photo.
# So in Fast R-CNN nearly half of the time of a pass goes into the fully connected layers (Fast R-CNN 3.1).
# The siblings cost almost nothing. A second task is a bargain: **the expensive vector is shared.**

# %% [markdown] tags=["core"]
# ## 3 · A box for each class
#
# *core · 9 minutes*
#
# Lesson 03 showed how four numbers, the **deltas** `tx, ty, tw, th`, move and stretch a box: `decode`.
# The head of Fast R-CNN gives four deltas *for each class*: "if this is a bird, its box is here; if it is a mammal, here".
# The background has none. So class u has its deltas in place u - 1.
#
# (The numbers below are larger than those of lesson 03: tx, ty by 10, and tw, th by 5. Section 4 says why.)

# %%
print("deltas:", tuple(stages.box_deltas[0].shape), " RoI, class, (tx, ty, tw, th)")
for label, row in enumerate(stages.box_deltas[0, 0], start=1):
    print(f"RoI A as {names[label]:<8}", " ".join(f"{delta:6.2f}" for delta in row))

# %% [markdown] tags=["core"]
# For training we need from each RoI the deltas of its **right** class. Suppose our three RoIs had the labels 2, 5, 0.

# %%
labels = torch.tensor([2, 5, 0])

# %% jupyter={"source_hidden": true}
predict(
    "From which places 0 to 4 must the deltas of the first two RoIs come?",
    ["2 and 5", "1 and 4", "3 and 4"],
    lambda: " and ".join(str(label - 1) for label in labels[:2].tolist()),
    "Place 0 belongs to class 1. The third RoI is background: it has no box.",
)

# %%
picked = class_deltas(stages.box_deltas[0], labels)
assert torch.equal(picked[0], stages.box_deltas[0, 0, 2 - 1])
assert torch.equal(picked[1], stages.box_deltas[0, 1, 5 - 1])
print("class_deltas gives one row a RoI:", tuple(picked.shape))
show_source(class_deltas, docstring=False)

# %% [markdown] tags=["core"]
# (S is the number of RoIs; `*B` allows more dimensions in front.) `gather` picks one place from every row in one call.
# The label 0 would ask for place -1. `clamp` makes it 0: some row must be there, and the loss will leave it out
# (section 6).
#
# **Move.** This is the trained head. Drag the dashed RoI, or use the sliders. Green: the object, drawn by hand.
# Long dashes: the RoI after correction. The numbers at the boxes are IoU with the object.
#
# The RoI begins on nearly the whole sheep. With *height* you pull its lower edge up, until only the face is left.
# Before you do, predict.

# %%
from rcnnlib.view.explorers.roi_head import LIKELIEST, RoIHeadView

view = RoIHeadView(detector, (180, 60, 290, 390))
for height in range(390, 60, -10):
    found = view.compute("sheep", LIKELIEST, 180, 60, 290, height)
    if found["answer"] == "background":
        break

# %% jupyter={"source_hidden": true}
predict(
    "The RoI shrinks. At which IoU with the sheep does the answer turn from mammal to background?",
    ["about 0.9", "about 0.5", "about 0.1", "never: the face is enough"],
    lambda: f"about {min((0.9, 0.5, 0.1), key=lambda t: abs(t - found['IoU before']))}",
    "In training, a RoI with IoU below 0.5 was background (lesson 01), even if it showed a face.",
)

# %% rows="L8 explorer"
view

# %% [markdown] tags=["core"]
# So that was RoI B of section 1. "Mammal" does not mean *there is some mammal*. It means *this RoI fits a mammal*.

# %%
iou_b = box_iou(rois[1:2], sheep.boxes).item()
print(f"IoU of B with the sheep: {iou_b:.4f}, so its right label is", names[2 if iou_b >= 0.5 else 0])

# %% [markdown] tags=["core"]
# Try these.
#
# 1. Drag the RoI a little off, in any direction. Where does the corrected box go? It pulls *back*.
# 2. Drag it onto grass. The head still draws a box. Nobody told it to stay silent there; the probability must do that.
# 3. Draw the box of *tool*, then *all classes*. Which class agrees best with mammal?
# 4. Take the hedgehog. Is the head as sure of it as of the sheep?
#
# ### Why a box for each class?
#
# Is it worth it? We take RoIs of 40 test scenes of Scrapbook, and decode the deltas of the right class,
# and of the four wrong ones. (The collapsed cell collects the RoIs. You need not read it.)

# %% jupyter={"source_hidden": true}
from rcnnlib.engine.recipes import open_data


@torch.no_grad()
def describe(split, count=40):
    """RoIs of scenes: the shared vector, the label, the target, the box."""
    scenes, parts = open_data("scrapbook_selective_search", split), []
    for place in range(count):
        batch = collate([scenes[place]], seed=0, epoch=0)
        exists = (batch.proposals[..., 2:] > 0).all(dim=-1)
        drawn = head.sample(batch.proposals, exists, batch, 0)
        maps = model.trunk(batch.images, batch.sizes)
        shared = head.mlp(head.pool(maps, drawn.boxes, batch.sizes)[0])
        real = drawn.labels[0] >= 0
        rows = (shared, drawn.labels[0], drawn.targets[0], drawn.boxes[0])
        parts.append([tensor[real] for tensor in rows])
    return [torch.cat(column) for column in zip(*parts, strict=True)]


# %%
shared, labels, targets, boxes = describe("test")
truths = decode(targets, boxes, std=HEAD_STD)  # the object that each RoI is compared with
found = labels > 0
print(len(labels), "RoIs,", found.sum().item(), "with an object")


# %%
def fit_of(deltas):
    """Mean IoU with their objects of the corrected RoIs that hold one."""
    moved = decode(deltas, boxes, std=HEAD_STD)
    return box_iou(moved[found], truths[found]).diagonal().mean().item()


with torch.no_grad():
    scores, deltas = head.predict(shared)
wrong = [class_deltas(deltas, (labels - 1 + shift) % 5 + 1) for shift in range(1, 5)]
fits = {
    "not corrected": fit_of(torch.zeros_like(targets)),
    "wrong class": sum(map(fit_of, wrong)) / 4,
    "right class": fit_of(class_deltas(deltas, labels)),
}

# %% jupyter={"source_hidden": true}
predict(
    "The right class draws a better box than the RoI itself. How much does a wrong class help?",
    ["as much", "about half as much", "not at all"],
    lambda: "not at all" if fits["wrong class"] < fits["not corrected"] else "about half as much",
    "Each class has learned from its own objects only. On others nobody corrected it.",
)

# %%
for name, fit in fits.items():
    print(f"{name:<14} IoU {fit:.2f}")

# %% [markdown] tags=["core"]
# So choose the class first, then take *its* box. That is Fast R-CNN's way.
#
# Is it necessary? No. Some later detectors learn one box for all classes (R-FCN and Cascade R-CNN do).
# Then all objects teach the same four numbers. The explorer of section 2 shows how few weights it saves.

# %% [markdown] tags=["core"]
# ## 4 · Targets of one size
#
# *core · 4 minutes*
#
# What should the deltas be? We take every Selective Search box of Scrapbook that overlaps an object with IoU 0.5
# or more, and encode the way to that object. These are the **targets** of the box regressor.

# %%
from rcnnlib.datasets.coco import load_coco
from rcnnlib.datasets.paths import data_dir
from rcnnlib.datasets.proposals import selective_search_boxes

proposals = selective_search_boxes("scrapbook_train")
objects = {}
for note in load_coco(data_dir() / "scrapbook" / "annotations_train.json")["annotations"]:
    objects.setdefault(note["image_id"], []).append(note["bbox"])

# %%
rows, ious = [], []
for image, corners in objects.items():
    truth = box_convert(torch.tensor(corners, dtype=torch.float32), "xywh", "xyxy")
    iou, best = box_iou(proposals[image], truth).max(dim=1)
    close = iou >= 0.5
    rows.append(encode(truth[best[close]], proposals[image][close]))
    ious.append(iou[close])
raw, ious = torch.cat(rows), torch.cat(ious)
print(len(raw), "targets; the first:", [round(delta, 4) for delta in raw[0].tolist()])

# %% jupyter={"source_hidden": true}
predict(
    "tx is a shift, in widths of the proposal. How large is it, typically?",
    ["about 0.01", "about 0.1", "about 0.5", "about 1"],
    lambda: "about 0.1" if 0.05 < raw[:, 0].std() < 0.2 else "about 1",
    "With an IoU of at least 0.5 a box cannot be far off.",
)

# %%
divided = raw / torch.tensor(HEAD_STD)
print("spread (standard deviation) of tx, ty, tw, th")
for name, each in (("as they are", raw), ("divided", divided)):
    print(f"{name:<12}", [f"{s:.4f}" for s in each.std(dim=0).tolist()])

# %% [markdown] tags=["core"]
# We have divided tx, ty, tw, th by 0.1, 0.1, 0.2, 0.2. These four numbers are about the spread of real targets.
# Afterwards all four have a spread of about 1. This is called **target normalisation** (Fast R-CNN 2.3).
# So the head's deltas count in steps of 0.1 and 0.2. `decode` multiplies them again.
#
# Why bother? The two sibling layers begin with weights near 0. So a new head says nearly the same for every RoI:
# no correction, and each of 6 labels equally likely.
# For a RoI with an object its two losses are then easy to compute. (Smooth L1 is the box loss. Section 5 explains it.)

# %%
naming = math.log(6)  # -log of 1/6
for name, each in (("as they are", raw), ("divided", divided)):
    boxing = smooth_l1(each).sum(dim=1).mean().item()
    print(f"{name:<12} box loss {boxing:.4f}   class loss {naming:.4f}", end="   ")
    print(f"ratio 1 : {naming / boxing:.1f}")

# %% [markdown] tags=["core"]
# Without the division the box loss is tiny beside the class loss. The division makes both tasks about equally large.
#
# **Move.** These are histograms of all targets. Each curve is scaled to full height, so look at its *width*.
# Switch between both kinds of targets, and read which part of the box loss comes from tw and th.
# Then take only proposals with a higher IoU.

# %% rows="L9 explorer"
from rcnnlib.view.explorers.target_spread import TargetSpread

TargetSpread(raw, ious)

# %% [markdown] tags=["core"]
# As they are, four fifths of the box loss come from tw and th. Divided, it is half.
# From IoU 0.7 on the spread is only half as large: the right divisor depends on which proposals you learn from.

# %% [markdown] tags=["core"]
# ## 5 · Smooth L1
#
# *core · 8 minutes*
#
# The box loss compares four deltas with four targets. Call one difference the **error** x. How bad is it?
#
# - **L2**, half the square: $x^2/2$. Its slope (*gradient*) is x. A large error pulls without limit.
# - **L1**, the absolute value: $|x|$. Its slope is -1 or 1. A tiny error pulls as hard as a large one.
# - **Smooth L1**: a parabola near 0, a line outside. They meet at $|x| = \beta$.
#
# $$\text{smooth}_\beta(x) = \begin{cases} x^2 / (2\beta) & |x| < \beta \\ |x| - \beta/2 & \text{otherwise}\end{cases}$$
#
# Eq. 3 of Fast R-CNN is this with $\beta = 1$.
#
# **Toy.** $\beta = 1$. The error 0.5 costs $0.5^2 / 2 = 0.125$. Now you: an error of -3.

# %% jupyter={"source_hidden": true}
predict(
    "What does an error of -3 cost?",
    ["4.5", "3.0", "2.5", "-2.5"],
    lambda: f"{smooth_l1(torch.tensor([-3.0])).item():.1f}",
    "It lies outside: |-3| - 1/2. L2 would say 4.5.",
)

# %% [markdown] tags=["core"]
# ### Your turn: `my_smooth_l1`
#
# Take errors of any shape and $\beta > 0$. Give back one loss for each error.
#
# <details><summary>Hint 1: two pieces</summary>
# <code>torch.where(condition, a, b)</code> takes <code>a</code> where the condition holds, else <code>b</code>.
# </details>
#
# <details><summary>Hint 2: the condition</summary>
# Compare the <b>size</b> of the error, <code>x.abs()</code>, with beta.
# </details>
#
# <details><summary>Hint 3: do the pieces meet?</summary>
# At |x| = beta both must say beta / 2. Try beta = 2.
# </details>


# %% tags=["exercise"] rows="L9 exercise"
def my_smooth_l1(x, beta):
    """Return the smooth L1 loss of each error in x, with the pieces meeting at beta."""
    raise NotImplementedError


# %%
check_smooth_l1(my_smooth_l1)

# %% [markdown] tags=["core"]
# **One solution**, collapsed.


# %% jupyter={"source_hidden": true}
def smooth_l1_by_hand(x, beta):
    """Equation 3, error after error."""
    losses = []
    for error in x.flatten():
        if error.abs() < beta:
            losses.append(error * error / (2 * beta))
        else:
            losses.append(error.abs() - beta / 2)
    return torch.stack(losses).reshape(x.shape) if losses else x.clone()


# %%
errors = torch.randn(50, 4) * 2
for beta in (1 / 9, 1.0, 3.0):
    ours = smooth_l1_by_hand(errors, beta)
    assert torch.allclose(ours, smooth_l1(errors, beta), atol=1e-5)
    theirs = smooth_l1_loss(errors, 0 * errors, beta=beta, reduction="none")
    assert torch.allclose(ours, theirs, atol=1e-5)
print("loop, library and PyTorch agree on", errors.numel(), "errors and 3 values of beta")

# %%
show_source(smooth_l1, docstring=False)

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# Both pieces are computed for all errors, and <code>torch.where</code> takes the right one.
# That is twice the arithmetic, and no question "is this one small?" in Python.
# The gradient is right as well: it flows only through the piece that was taken.
# </details>
#
# **Look.** With a small $\beta$ it is nearly L1. With a large $\beta$ the parabola reaches far out.
# (You meet $\beta = 1/9$ again in the RPN of Faster R-CNN, lesson 12.)

# %% rows="L9 figure"
x = torch.linspace(-4, 4, 401)
curves = {f"β = {name}": smooth_l1(x, beta) for name, beta in (("1/9", 1 / 9), ("1", 1), ("3", 3))}
fig, ax = figure(560, 300, alt="Smooth L1 at an error of 4:")
for (name, curve), colour, style in zip(curves.items(), LINES, ("-", "--", ":"), strict=True):
    ax.plot(x, curve, color=colour, linestyle=style)
    name_line(ax, 4, curve[-1].item(), name, colour)
    fig.alt += f" {name} gives {curve[-1]:.4f};"
ax.set(xlabel="error x", ylabel="loss", xlim=(-4, 5))
fig

# %% [markdown] tags=["core"]
# ### An outlier
#
# Eight RoIs. Seven errors are small, one is large: an **outlier**. Maybe its object was drawn wrongly.
# Each error pulls at the weights as hard as its gradient is large. What share of the whole pull is the outlier's?

# %%
from rcnnlib.view.explorers.smooth_l1_curve import SmoothL1Curve, smooth_l1_curve

outlier = smooth_l1_curve(beta=1.0, error=4.0)

# %% jupyter={"source_hidden": true}
predict(
    "Seven errors of about 0.25, one of 4. What share of the pull is the outlier's, under L2?",
    ["1/8", "about a third", "about two thirds"],
    lambda: "about two thirds" if 0.6 < outlier["L2 share"] < 0.75 else "1/8",
    "The seven pull with 1.8 together, the one with 4. Under smooth L1 it pulls with 1.",
)

# %% rows="L9 explorer"
SmoothL1Curve()

# %% [markdown] tags=["core"]
# Try these.
#
# 1. Move the error from 1 to 6. Under smooth L1 its gradient stays 1.
# 2. Set beta to 0 (pure L1), the error to 0.1. It pulls as hard as at 4. So L1 never comes to rest near 0.
# 3. Set beta to 6, and the error back to 4. Why are both shares equal now?
#
# Now let it learn. One number `d` is to fit nine targets. Eight lie between 0 and 0.4, one is 8.

# %%
wanted = torch.tensor([0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 8.0])


def learn(loss, steps=400, rate=0.1):
    d = torch.zeros(1, requires_grad=True)
    for _ in range(steps):
        (slope,) = torch.autograd.grad(loss(d - wanted).mean(), d)
        d = (d - rate * slope).detach().requires_grad_()
    return d.item()


for name, loss in (("L2", lambda x: x * x / 2), ("smooth L1", smooth_l1)):
    print(f"{name:<10} d = {learn(loss):.3f}")

# %% [markdown] tags=["core"]
# L2 ends at the mean: one outlier has dragged it out of all eight good targets. Smooth L1 stays among them.
#
# > **What the notes said.** The lecture notes behind this course say that the box loss of the RPN is MSE, the mean
# > squared error, which is L2. (The RPN is the part of Faster R-CNN that makes proposals, lesson 11.)
# > Fast R-CNN (eq. 3) and Faster R-CNN (eq. 1 and text) both use **smooth L1**. The reason is above.
# > R-CNN still used squares (lesson 03).

# %% [markdown] tags=["core"]
# ## 6 · Two tasks, one loss
#
# *core · 9 minutes*
#
# R-CNN trained its classifier and its box regressors one after the other (lesson 03). Fast R-CNN trains both at once,
# with **one** number to make small. For a RoI with scores s, right label u, deltas $t^u$ of class u, and target v
# (Fast R-CNN eq. 1):
#
# $$L = \underbrace{-\log p_u}_{L_{cls}} + \lambda\,[u \ge 1]\,\underbrace{\sum_{i \in \{x, y, w, h\}} \text{smooth}_1(t^u_i - v_i)}_{L_{loc}}$$
#
# - $-\log p_u$ is the *cross entropy*: 0 if the right label has probability 1, large if it has little.
# - $[u \ge 1]$ is 1 if there is an object, else 0. **The background has no box**, so nothing may be learned there.
# - $\lambda$ is the weight of the second task.
#
# **Toy.** Scores 0, 2, 1 as in section 1, label u = 1 (bird). The errors of the four deltas are 0.5, 0, 0, 2. λ = 1.
#
# - $L_{cls} = -\log 0.6652 = 0.4076$
# - $L_{loc} = 0.125 + 0 + 0 + 1.5 = 1.625$
#
# Together 2.0326. Now the label changes, and everything else stays:

# %%
if_background = cross_entropy(toy, torch.tensor([0])).item()

# %% jupyter={"source_hidden": true}
predict(
    "The same RoI, but u = 0. What is the loss? (-log 0.09 = 2.41)",
    ["2.03", "2.41", "4.03", "1.63"],
    lambda: f"{if_background:.2f}",
    "There is no box to compare with, so the second term is 0. The first is -log of the background's probability.",
)

# %% [markdown] tags=["core"]
# ### Your turn: `my_multi_task_loss`
#
# For S RoIs at once: scores (S, C + 1), deltas (S, C, 4), labels (S,), targets (S, 4), and the weight λ.
# Return one number, the **mean over all S RoIs**. You may use `smooth_l1(x, 1.0)` of the library.
#
# <details><summary>Hint 1: the first term</summary>
# <code>torch.nn.functional.cross_entropy(scores, labels)</code> takes scores, not probabilities, and gives the mean.
# </details>
#
# <details><summary>Hint 2: only the objects</summary>
# <code>objects = labels &gt;= 1</code>. With it, <code>deltas[objects]</code> has only the rows that count.
# </details>
#
# <details><summary>Hint 3: only the right class</summary>
# <code>table[mask, columns]</code> takes one place from each row of the mask. It needs one column for each of these
# rows. In which place has class u its deltas?
# </details>
#
# <details><summary>Hint 4: the mean</summary>
# Sum up, then divide by S: by all RoIs, not by those with an object. (Section 9 says why.)
# </details>


# %% tags=["exercise"] rows="L9 exercise"
def my_multi_task_loss(scores, deltas, labels, targets, weight):
    """Return equation 1 as a mean over all RoIs: a tensor with one number."""
    raise NotImplementedError


# %%
check_multi_task_loss(my_multi_task_loss)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: equation 1, RoI after RoI.


# %% jupyter={"source_hidden": true}
def multi_task_loss_by_hand(scores, deltas, labels, targets, weight):
    """The sum over the RoIs, divided by their number."""
    total = torch.zeros(())
    for row, u in enumerate(labels.tolist()):
        total = total - torch.log(softmax_by_hand(scores[row : row + 1])[0, u])
        if u >= 1:
            errors = deltas[row, u - 1] - targets[row]
            total = total + weight * smooth_l1_by_hand(errors, 1.0).sum()
    return total / len(labels)


# %% [markdown] tags=["core"]
# **The library** has two functions, one for each term. A divisor is given to both: `normalizer`. Here it is S.

# %%
some = torch.arange(0, len(labels), 40)
arguments = scores[some], deltas[some], labels[some], targets[some]
slow = multi_task_loss_by_hand(*arguments, 1.0)
first = classification_loss(scores[some], labels[some], normalizer=len(some))
mine = class_deltas(deltas[some], labels[some])
second = box_loss(mine, targets[some], labels[some], beta=1.0, normalizer=len(some))
assert torch.allclose(slow, first + second, atol=1e-4)
print("loop and library agree on", len(some), "RoIs of the test scenes")

# %%
show_source(box_loss, docstring=False)

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# <code>box_loss</code> does not pick the rows with an object. It takes all rows and sets the error of the others to 0.
# So the number of rows never changes, and a GPU never has to report how many there are.
# </details>
#
# **Move.** Three RoIs of the sheep photo: A, B, C from section 1. The head is the trained one. Say what a RoI is
# (slider u), weigh the box loss (λ), and watch two things: the two terms, and how hard each of them **pulls** at the
# shared vector. The pull is the length (*norm*) of the gradient there. It is the place where the two tasks meet.
#
# Before you move it, predict.

# %%
from rcnnlib.view.explorers.two_losses import Regions, TwoLosses, two_losses

goal = encode(batch.boxes[0, :1].expand(3, 4), small, std=HEAD_STD)
with torch.no_grad():
    vectors = head.mlp(stages.pooled[0])
regions = Regions(vectors, torch.tensor([2, 0, 0]), goal, ("A", "B", "C"))
given = {"regions": regions, "predict": head.predict}
light, heavy = (two_losses(weight, "A", 2, "none", **given) for weight in (1.0, 3.0))

# %% jupyter={"source_hidden": true}
predict(
    "λ goes from 1 to 3. What happens to the pull of the class loss?",
    ["it falls to a third", "it stays the same", "it grows three times"],
    lambda: "it stays the same" if heavy["pull of L_cls"] == light["pull of L_cls"] else "it grows three times",
    "λ scales the second term only. But it changes which pull wins when both are added.",
)

# %% rows="L9 explorer"
shown = sheep.image, rois, sheep.boxes, regions
TwoLosses(*shown, predict=head.predict, classes=names, alt="A sheep on grass")

# %% [markdown] tags=["core"]
# Try these. (Leave "planted bug" at "none". Section 8 uses it.)
#
# 1. RoI A, u = 2, is right: both terms are small. Call it a vehicle, u = 5. Which term jumps higher?
# 2. Call it background, u = 0. The box term is gone, and so is its pull.
# 3. Choose *all of them* (the slider u is still that of A). The box loss is now a mean over three RoIs,
#    of which one has an object.
# 4. At which λ do both pulls of RoI A have the same length?

# %% [markdown] tags=["core"]
# ### How heavy is each task?
#
# The paper uses λ = 1 in all experiments (2.3). That works because the targets were normalised (section 4).
# These are the two terms on the RoIs of our test scenes: for a head that knows nothing yet (all its numbers are 0),
# and for the trained one.

# %%
blank = torch.zeros_like(scores), torch.zeros_like(deltas)
for name, (s, d) in (("knows nothing", blank), ("trained", (scores, deltas))):
    naming = classification_loss(s, labels, normalizer=len(labels)).item()
    mine = class_deltas(d, labels)
    boxing = box_loss(mine, targets, labels, beta=1.0, normalizer=len(labels)).item()
    print(f"{name:<14} L_cls {naming:.2f}   L_loc {boxing:.2f}")
print("RoIs with an object:", f"{found.float().mean():.2f}")

# %% [markdown] tags=["core"]
# The box term is a mean over *all* RoIs, and three quarters of them add a 0. So it is smaller.
# But neither term drowns the other.

# %% [markdown] tags=["extra"]
# ## 7 · SVM or softmax
#
# *extra · 8 minutes*
#
# R-CNN had one SVM for each class (lesson 03): C separate yes-or-no questions, learned with the *hinge loss*
# $\max(0, 1 - y\,s)$, where y is 1 for the class and -1 for the rest. Fast R-CNN asks one question with C + 1 answers.
# Does the softmax lose anything?
#
# We let both learn from the **same** vectors: fc7 of the RoIs of 40 training scenes. Both get a linear layer, no more.
# (The two collapsed cells are the training and the measuring.)

# %% jupyter={"source_hidden": true}
train_shared, train_labels, train_targets, _ = describe("train")


def fit_layer(outputs, loss, decay=0.5):
    """A linear layer that makes ``loss`` small; ``decay`` holds its weights back."""
    layer = torch.nn.Linear(train_shared.shape[1], outputs)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def step():
        optimizer.zero_grad()
        value = loss(layer(train_shared)) + decay * layer.weight.square().sum() / 2
        value.backward()
        return value

    optimizer.step(step)
    return layer.requires_grad_(False)


# %%
from rcnnlib.models.svm import fit_svm

soft = fit_layer(6, lambda out: cross_entropy(out, train_labels))(shared).softmax(dim=1)
unit = 20 / train_shared.norm(dim=1).mean()  # the SVMs' constants are for vectors of length 20
svms = []
for u in range(1, 6):
    own = train_labels == u
    svms.append(fit_svm(unit * train_shared[own], unit * train_shared[~own], tolerance=1e-2))
margins = torch.stack([unit * shared @ svm.weight + svm.bias for svm in svms], dim=1)

# %% [markdown] tags=["extra"]
# Two measures on the RoIs of the test scenes. **Right answers**: the largest probability, or the SVM with the largest
# margin if it is above 0, else background. **Average precision**: does a class rank its own RoIs first? (Lesson 08.)


# %% jupyter={"source_hidden": true}
def ranking(column, own):
    """Average precision of one class: precision at each of its RoIs, averaged."""
    right = own[column.argsort(descending=True)].float()
    precision = right.cumsum(0) / torch.arange(1, len(right) + 1)
    return ((precision * right).sum() / right.sum()).item()


best, which = margins.max(dim=1)
answers = {"softmax": soft.argmax(dim=1), "SVMs": torch.where(best > 0, which + 1, 0)}
right = {name: (answer == labels).float().mean().item() for name, answer in answers.items()}
columns = {"softmax": soft[:, 1:], "SVMs": margins}
ap = {}
for name, column in columns.items():
    ap[name] = sum(ranking(column[:, u - 1], labels == u) for u in range(1, 6)) / 5

# %% jupyter={"source_hidden": true}
predict(
    "Which one wins?",
    ["the softmax, clearly", "the SVMs, clearly", "they are nearly equal"],
    lambda: "they are nearly equal" if abs(ap["softmax"] - ap["SVMs"]) < 0.04 else "the softmax, clearly",
    "Both are linear layers on the same vectors. The hard part was done before them.",
)

# %%
for name in ("right answers", "average precision"):
    pair = right if name == "right answers" else ap
    print(f"{name:<18} differ by less than 0.04: {abs(pair['softmax'] - pair['SVMs']) < 0.04}")

# %% [markdown] tags=["extra"]
# > **The paper said, we measured.** Fast R-CNN with softmax 66.9, with SVMs 66.8 mAP (VGG16 on VOC07).
# > We also find them nearly equal. Only this "nearly equal" may be compared: our data and our measure are others.
#
# Then why softmax? One network can learn it together with everything else. And its scores can be **compared**.
# Each SVM was trained alone. It never saw the margin of another.

# %%
votes = (margins > 0).sum(dim=1)
for text, which in (("nobody", votes == 0), ("one SVM", votes == 1), ("several", votes > 1)):
    print(f"{text} says yes: happens", which.any().item())
print("softmax adds up to 1:", bool(((soft.sum(dim=1) - 1).abs() < 1e-4).all()))

# %% [markdown] tags=["extra"]
# **Move.** Three scores of one RoI, a bird. On the left a softmax reads them, on the right three SVMs.
# In the grey zone an SVM is not sure enough: the hinge loss pulls there, and on the wrong side. Predict first.

# %% jupyter={"source_hidden": true}
predict(
    "You raise the score of mammal from -1.5 to 2. What happens to bird?",
    [
        "its probability and its margin fall",
        "its probability falls, its margin stays",
        "its probability stays, its margin falls",
    ],
    lambda: "its probability falls, its margin stays",
    "The probabilities share a sum of 1. A margin belongs to one SVM alone.",
)

# %%
from rcnnlib.view.explorers.hinge_or_softmax import HingeOrSoftmax

HingeOrSoftmax()

# %% [markdown] tags=["extra"]
# Make two SVMs say yes. Then make all three say no. What does the softmax say in both cases?
# And find a place where the hinge loss is 0. Its gradient is 0 too: it is content. The cross entropy never is.

# %% [markdown] tags=["extra"]
# ## 8 · Plant the bug
#
# *extra · 4 minutes*
#
# Go back to the explorer of section 6. Choose RoI C (grass), u = 0, and the bug "[u >= 1] forgotten".
# The grass gets a box loss, and it pulls hard: towards a sheep that is not in it.
#
# And there is a second mistake in it. For the background u - 1 is **-1**, and Python does not complain.
# Whose boxes will be ruined?

# %%
for bug in ("none", "[u >= 1] forgotten"):
    numbers = two_losses(1.0, "C", 0, bug, **given)
    print(f"{bug}: L_loc {numbers['lambda L_loc']:.1f}", end="   ")
    print(f"its pull {numbers['pull of lambda L_loc']:.2f}")

# %% [markdown] tags=["extra"]
# Now train the box layer with and without the bug, on the vectors of section 7.


# %%
def train_boxes(buggy):
    def loss(out):
        deltas = out.unflatten(1, (5, 4))
        if buggy:
            mine = deltas[torch.arange(len(out)), train_labels - 1]
            return smooth_l1(mine - train_targets).sum() / len(out)
        mine = class_deltas(deltas, train_labels)
        return box_loss(mine, train_targets, train_labels, beta=1.0, normalizer=len(out))

    return fit_layer(20, loss)(shared).unflatten(1, (5, 4))


# %%
gains = {}
for name, buggy in (("clean", False), ("buggy", True)):
    moved = decode(class_deltas(train_boxes(buggy), labels), boxes, std=HEAD_STD)
    iou = box_iou(moved, truths).diagonal()
    gains[name] = torch.tensor([iou[labels == u].mean() for u in range(1, 6)])
lost = gains["clean"] - gains["buggy"]

# %% jupyter={"source_hidden": true}
predict(
    "Which class loses by the bug?",
    ["all of them", "bird", "vehicle", "none"],
    lambda: names[1 + int(lost.argmax())],
    "Python reads place -1 as the last one: class 5. It now learns from the background as well.",
)

# %%
for name, loss in zip(names[1:], lost.tolist(), strict=True):
    much = "more than 0.02" if loss > 0.02 else "less than 0.01" if abs(loss) < 0.01 else "a little"
    print(f"{name:<8} IoU lost: {much}")

# %% [markdown] tags=["extra"]
# Four classes of five are as good as before. **A bug that hides in one class.** So look at every class on its own.
#
# The explorer has a third position, "background is the last class": a program that learned with the background as the
# last label, and is read with the background as label 0. Then every name is off by one. That one shouts.

# %% [markdown] tags=["extra"]
# ## 9 · Divide by a constant
#
# *extra · 2 minutes*
#
# We divide by S, the number of *all* RoIs. Why not divide the box loss by the number of RoIs *with an object*?
# Some programs do. Then let two machines train together and average their losses. The box losses of the first add up
# to 6, over 6 RoIs with an object; those of the second to 4, over one.

# %%
sums, with_object = torch.tensor([6.0, 4.0]), torch.tensor([6.0, 1.0])
print("by the count of each:", (sums / with_object).mean().item())
print("all at once:         ", round((sums.sum() / with_object.sum()).item(), 4))
print("by a constant 64:    ", (sums / 64).mean().item(), "=", (sums.sum() / 128).item())

# %% [markdown] tags=["extra"]
# Divided by its own count, the second machine shouts: its one RoI weighs six times as much as one of the first.
# And the result depends on how the RoIs were dealt out. With a constant it does not.
# So **all losses of this course divide by constants.** (A constant also needs no counting, so a GPU need not wait.)

# %% [markdown] tags=["extra"]
# ## 10 · The paper and us
#
# *extra · 3 minutes*
#
# Does it help to learn both tasks at once? The paper measured it (Fast R-CNN, Table 6; mAP on VOC07, VGG16).
# We repeat it, small, in [lesson 15](15_results_and_limits.ipynb).
#
# | | class loss only | both losses, boxes not corrected at test | one after the other | both losses, boxes corrected |
# |---|---|---|---|---|
# | mAP | 62.6 | 63.4 | 64.0 | 66.9 |
#
# The second column is the interesting one. Its detector draws *no* better boxes, and still it is better than the first.
# So the box loss helped the **names**, through the vector that both tasks share.
#
# λ = 1, β = 1 and one box for each class are the same here as in the paper. One thing differs. The paper gives the
# targets mean 0 and spread 1 (2.3). We only divide them by 0.1, 0.1, 0.2, 0.2, because their mean is small already:

# %%
print("mean of the divided targets:", [f"{m:.4f}" for m in divided.mean(dim=0).tolist()])

# %% [markdown] tags=["extra"]
# R-CNN trained its classifier and its regressors apart. That was shortcoming (3). The one loss of this lesson cures it.

# %%
from rcnnlib.view.shortcomings import shortcomings

shortcomings("Fast R-CNN")

# %% [markdown] tags=["core"]
# ## Summary
#
# - The head answers two questions with one shared vector: what (C + 1 scores) and where (4 deltas a class).
# - Softmax: exp, then divide by the sum. Take the largest score off first. Labels compete.
# - Label 0 is the background. Class u has its deltas in place u - 1.
# - Most weights sit in fc6. The siblings are cheap.
# - Targets are divided by their spread (0.1, 0.1, 0.2, 0.2). Only so do two tasks weigh the same with λ = 1.
# - Smooth L1: a parabola inside β, a line outside. An outlier pulls with 1, not with its size.
# - $L = L_{cls} + \lambda [u \ge 1] L_{loc}$. The background has no box.
# - Losses divide by constants, not by counts.
#
# ## Glossary
#
# | English | 한국어 | meaning |
# |---|---|---|
# | head | 헤드 | what comes after RoI pooling |
# | score, logit | 점수, 로짓 | a number for each label, before the softmax |
# | softmax | 소프트맥스 | turns scores into probabilities |
# | background | 배경 | label 0: no object |
# | fully connected layer | 완전 연결층 | every output sees every input |
# | box regression | 박스 회귀 | learning the deltas |
# | class-specific | 클래스별 | a box of its own for each class |
# | target | 타깃, 정답값 | what the head should have said |
# | target normalisation | 타깃 정규화 | dividing the targets by their spread |
# | smooth L1 | 스무스 L1 | parabola near 0, line outside |
# | outlier | 이상치 | one error much larger than the others |
# | gradient | 기울기 | the slope of the loss; what pulls at the weights |
# | cross entropy | 교차 엔트로피 | -log of the probability of the right label |
# | multi-task loss | 다중 작업 손실, 멀티태스크 손실 | one sum for two tasks |
# | hinge loss | 힌지 손실 | the loss of an SVM |
#
# ## References
#
# - Girshick: *Fast R-CNN*, 2015, [arXiv 1504.08083](https://arxiv.org/abs/1504.08083): 2 head, 2.3 loss, Table 6
# - Girshick, Donahue, Darrell, Malik: *Rich feature hierarchies ...* (R-CNN), 2014, [arXiv 1311.2524](https://arxiv.org/abs/1311.2524)
# - Ren, He, Girshick, Sun: *Faster R-CNN*, 2015, [arXiv 1506.01497](https://arxiv.org/abs/1506.01497)
# - Dai, Li, He, Sun: *R-FCN*, 2016, [arXiv 1605.06409](https://arxiv.org/abs/1605.06409), and Cai, Vasconcelos:
#   *Cascade R-CNN*, 2018, [arXiv 1712.00726](https://arxiv.org/abs/1712.00726): one box for all classes
#
# The photos are public domain or CC0; `data/wild/CREDITS.csv` names their authors.
