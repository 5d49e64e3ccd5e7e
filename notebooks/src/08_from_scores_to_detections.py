# %% [markdown] tags=["core"]
# # 08 · From scores to detections
#
# **The question.** For every region the head says: a score for each class, and a corrected box for each class.
# On one photo that makes thousands of boxes. *How do they become "an owl, here"? And how good is the result, in one number?*
#
# **After this lesson you can**
#
# - turn scores and deltas into a handful of detections, step by step
# - play *non-maximum suppression* by hand, and write it
# - say of each detection whether it is right, a duplicate or wrong
# - build precision, recall and *average precision* (AP) from five lines on paper
# - name the kinds of error a detector makes
#
# | section | | minutes |
# |---|---|---|
# | 1 From scores to boxes | core | 9 |
# | 2 Non-maximum suppression | core | 12 |
# | 3 Right, duplicate, wrong, missed | core | 4 |
# | 4 Precision and recall | core | 7 |
# | 5 Average precision | core | 10 |
# | 6 Kinds of error | core | 3 |
# | 7 COCO's AP | extra | 4 |
# | 8 Two thresholds for one operation | extra | 3 |
# | 9 Plant the bug | extra | 3 |
# | 10 Papers, notes, and what we measured | extra | 5 |

# %%
from rcnnlib.view.notebook import predict, setup

setup()

# %%
import torch

from rcnnlib.checks import check_average_precision, check_nms, check_precision_recall
from rcnnlib.ops.box_coder import HEAD_STD, decode
from rcnnlib.ops.boxes import box_convert, box_iou, clip_boxes
from rcnnlib.ops.nms import nms, nms_steps
from rcnnlib.view.plotting import LINES, draw_boxes, figure, name_line, show_image

# %% [markdown] tags=["core"]
# ## 1 · From scores to boxes
#
# *core · 9 minutes*
#
# Recall the head of Fast R-CNN (lesson 06). It takes one region and says two things:
#
# - a **score** (a *logit*) for the background and for each class,
# - four **deltas** for each class: "if this is a bird, move the box like so; if it is a mammal, like so".
#
# **Toy.** Two classes, bird and mammal. One region, 80 pixels wide and 80 high. The head says:

# %%
region = torch.tensor([[100.0, 60, 180, 140]])
logits = torch.tensor([[0.0, 1.0, 3.0]])  # background, bird, mammal
deltas = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 1.0]])  # bird, mammal
probabilities = logits.softmax(-1)
probabilities

# %% [markdown] tags=["core"]
# Now the box of the mammal. The deltas were *normalised* (lesson 06): they count in steps of 0.1 for the centre and
# 0.2 for the size. So the first delta, 0.5, means: move the centre by 0.5 x 0.1 of the width. The last, 1.0, means:
# make the height e^(1.0 x 0.2) times as large.

# %%
mammal_box = decode(deltas[1:], region, std=HEAD_STD)

# %% jupyter={"source_hidden": true}
predict(
    "By how many pixels does the centre of the mammal's box move to the right?",
    ["0.5", "4", "5", "40"],
    lambda: f"{box_convert(mammal_box, 'xyxy', 'cxcywh')[0, 0] - 140:g}",
    "0.5 x 0.1 x 80 pixels.",
)

# %%
height = mammal_box[0, 3] - mammal_box[0, 1]
print(f"mammal, score {probabilities[0, 2]:.4f}, height {height:.4f} = 80 x e^0.2")
mammal_box

# %% [markdown] tags=["core"]
# So one region gives **one candidate for each class**: a class, a score, and a box of its own.
#
# Now for real. This is the Fast R-CNN of the course. It learned from *Scrapbook*: cut-outs pasted on photos.
# It knows five classes. It has never seen a photo of *Wild*, and the owl of lesson 01 is from Wild.

# %%
from rcnnlib.datasets.transforms import collate, resize
from rcnnlib.engine.recipes import open_data
from rcnnlib.models.weights import load_weights

detector = load_weights("fast_rcnn_scrapbook")
names = detector.spec.classes
wild = open_data("wild_selective_search", "test")
scrapbook = open_data("scrapbook_selective_search", "test")
print(", ".join(f"{label} {name}" for label, name in enumerate(names, start=1)))

# %%
from rcnnlib.view.explorers.candidates import BUGS, FromScores, Said, detect_with_bug


@torch.no_grad()
def listen(example):
    """Run the detector on one picture and keep what the head says about its regions."""
    batch = collate([resize(example, 320)], seed=0, epoch=0, noise_length=1)
    stages = detector.model.stages(batch.images, batch.sizes, batch.proposals)
    real, (height, width) = stages.proposals.valid[0], batch.sizes[0].int().tolist()
    said = (stages.proposals.boxes[0], stages.class_scores[0], stages.box_deltas[0])
    image = batch.images[0, :, :height, :width]
    return Said(image, batch.sizes[0], *(part[real] for part in said)), stages


# %%
photos = {name: place for place, (_, name) in enumerate(wild.dataset.images)}
owl, stages = listen(wild[photos["owl.jpg"]])
print("picture", tuple(owl.image.shape), "as the network sees it")
print("regions", tuple(owl.regions.shape), "by Selective Search")
print("logits ", tuple(owl.logits.shape), "background and five classes")

# %% jupyter={"source_hidden": true}
predict(
    "How many candidates does this photo have?",
    [str(len(owl.regions)), str(5 * len(owl.regions)), str(6 * len(owl.regions)), "100"],
    lambda: str(owl.deltas[..., 0].numel()),
    "One for each region and class. The background needs no box.",
)

# %% [markdown] tags=["core"]
# Five steps lead to detections:
#
# 1. **regions**: what Selective Search gives,
# 2. **decode**: apply the deltas of each class to the region,
# 3. **clip**: cut off what reaches outside the picture,
# 4. **score**: keep candidates with a probability above 0.05,
# 5. **NMS**: of candidates of the same class that overlap, keep the best (section 2).
#
# In code, for the birds. `R` is the number of regions, `K` = 5 the number of classes.

# %%
labels = torch.arange(1, 6).repeat(len(owl.regions))  # 1 2 3 4 5 1 2 3 4 5 ...
scores = owl.logits.softmax(-1)[:, 1:].flatten()  # (R, K + 1) -> (R K)
boxes = decode(owl.deltas.flatten(0, 1), owl.regions.repeat_interleave(5, dim=0), std=HEAD_STD)
boxes = clip_boxes(boxes, owl.size)
birds = (scores > 0.05) & (labels == 1)
kept = nms(boxes[birds], scores[birds], 0.5)
print(f"{len(boxes)} candidates, {birds.sum()} birds above 0.05, {len(kept)} left after NMS")

# %% [markdown] tags=["core"]
# **The library** does this for a whole batch and all classes: `RoIHead.detect`, a part of the model. (It also drops
# boxes without area, and keeps at most 100 detections of a picture.) Does it find the same birds?

# %%
theirs = stages.detections.boxes[0][stages.detections.labels[0] == 1]
assert torch.allclose(boxes[birds][kept], theirs, atol=1e-3)
print("the library has the same", len(theirs), "birds, in the same order")

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# The library keeps a fixed number of rows for each picture and class, with a mask that says which are real.
# So all classes of all pictures of a batch go through the same few calls, and a GPU never waits for a count.
# </details>

# %% [markdown] tags=["core"]
# **Look.** The birds of score 0.5 and more, before NMS and after it.

# %% rows="L8 figure"
sure, after = scores[birds] >= 0.5, kept[scores[birds][kept] >= 0.5]
alt = f"An owl: {sure.sum()} birds of 0.5 and more before NMS, {len(after)} after"
fig, axes = figure(560, 210, columns=2, alt=alt)
draw_boxes(show_image(axes[0], owl.image), boxes[birds][sure], kind="proposal")
mine = {"labels": ["bird"] * len(after), "scores": scores[birds][after]}
draw_boxes(show_image(axes[1], owl.image), boxes[birds][after], kind="detection", **mine)
for ax, count, when in ((axes[0], sure.sum(), "before"), (axes[1], len(after), "after")):
    ax.set_title(f"{when} NMS: {count}")
fig

# %% [markdown] tags=["core"]
# **Move.** Walk through the five steps with the first slider. The bars count the boxes after each step; the blue one
# is the step that you see. (At most 20 boxes are drawn, the best.) Before you move it, predict.


# %% jupyter={"source_hidden": true}
def owl_at(score):
    """The detections of 0.5 or more if candidates need this score."""
    found = detect_with_bug(owl, score)[0]
    return found.boxes[found.scores >= 0.5]


predict(
    "You raise “score above” from 0.05 to 0.5. What happens to the final detections of 0.5 and more?",
    ["some are lost", "nothing", "there are more of them"],
    lambda: "nothing" if len(owl_at(0.05)) == len(owl_at(0.5)) else "some are lost",
    "A candidate below 0.5 can never strike one above 0.5: NMS only lets a better box strike a worse one.",
)

# %% rows="L8 explorer"
pasted, _ = listen(scrapbook[16])
FromScores({"owl": owl, "Scrapbook": pasted}, names)

# %% [markdown] tags=["core"]
# 1. Go from step 2 to step 3. How many boxes reached outside?
# 2. In step 5, move "NMS threshold" to 0.9. What does the owl look like now?
# 3. Back to 0.5. Is every named box right? Look at the Scrapbook picture too. Sections 3 to 6 measure it.

# %% [markdown] tags=["core"]
# ## 2 · Non-maximum suppression
#
# *core · 12 minutes*
#
# One owl, and many boxes around it. All are good, so a score threshold cannot help. We want **one box for each object**.
#
# **Non-maximum suppression (NMS)** is the rule for that. R-CNN (section 2.2) "rejects a region if it has an
# intersection-over-union (IoU) overlap with a higher scoring selected region larger than a learned threshold". As a game:
#
# - Sort the boxes by score. The best one **wins** the round. It is kept.
# - The winner **strikes** every other box whose IoU with it is above the threshold.
# - The best of the rest wins the next round. And so on, until nobody waits.
#
# **Toy.** Three boxes of 10 x 10 pixels, at x = 0, 1 and 6.

# %%
three = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [6, 0, 16, 10]])
three_scores = torch.tensor([0.9, 0.8, 0.7])
box_iou(three, three)

# %%
fig, ax = figure(430, 250, alt="Three boxes in a row: 0 and 1 nearly the same, 2 further right")
for number, (box, lift) in enumerate(zip(three, (0, 2.4, 4.8), strict=True)):
    shifted = box + torch.tensor([0, lift, 0, lift])
    words = f"box {number}, score {three_scores[number]:.1f}"
    draw_boxes(ax, shifted, kind="detection", labels=[words])
ax.set(xlim=(-1, 22), ylim=(16, -2.6), aspect="equal", xlabel="x, pixels", yticks=[])
ax.set_title("each drawn a little lower")
fig

# %% jupyter={"source_hidden": true}
predict(
    "The threshold is 0.3. Which boxes are kept?",
    ["only 0", "0 and 2", "0 and 1", "all three"],
    lambda: " and ".join(str(row) for row in nms(three, three_scores, 0.3).tolist()),
    "Box 0 strikes box 1. Box 1 would have struck box 2 (IoU 0.33), but it is gone: a struck box strikes nobody.",
)

# %% [markdown] tags=["core"]
# `nms_steps` plays the game round by round.

# %%
for number, step in enumerate(nms_steps(three, three_scores, 0.3), start=1):
    print(f"round {number}: box {step.best} wins, strikes {step.removed}, still waiting {step.waiting}")

# %% [markdown] tags=["core"]
# ### Your turn: `my_nms`
#
# Take boxes (N, 4), their scores (N,) and a threshold. Give back the rows of the boxes that are kept, the best first.
# An IoU *equal* to the threshold does not strike.
#
# <details><summary>Hint 1: the order</summary>
# <code>scores.argsort(descending=True).tolist()</code> gives the rows as a list, best first.
# </details>
#
# <details><summary>Hint 2: two lists</summary>
# One list of rows that wait, one of rows that are kept. Each round takes the first waiting row, and makes
# the waiting list shorter.
# </details>
#
# <details><summary>Hint 3: IoU of two rows</summary>
# Fill the table once: <code>iou = box_iou(boxes, boxes)</code>. Then <code>iou[best, row]</code> is one number.
# </details>
#
# <details><summary>Hint 4: no boxes</summary>
# <code>torch.tensor([], dtype=torch.int64)</code> is a list of no rows.
# </details>


# %% tags=["exercise"] rows="L17 exercise"
def my_nms(boxes, scores, threshold):
    """Return the rows of the boxes (N, 4) that are kept, best first."""
    raise NotImplementedError


# %%
check_nms(my_nms)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: the rule as a loop.


# %% jupyter={"source_hidden": true}
def nms_by_hand(boxes, scores, threshold):
    """Round by round."""
    iou = box_iou(boxes, boxes)
    waiting = scores.argsort(descending=True, stable=True).tolist()
    kept = []
    while waiting:
        best = waiting[0]
        kept.append(best)
        waiting = [row for row in waiting[1:] if iou[best, row] <= threshold]
    return torch.tensor(kept, dtype=torch.int64)


# %% [markdown] tags=["core"]
# **The library** has `nms`, and so has torchvision. We ask all three about 300 random boxes.

# %%
import torchvision

corner = torch.rand(300, 2) * 200
many = torch.cat((corner, corner + 30 + torch.rand(300, 2) * 60), dim=1)
many_scores = torch.rand(300)
ours = nms(many, many_scores, 0.5)
assert torch.equal(ours, nms_by_hand(many, many_scores, 0.5))
assert torch.equal(ours, torchvision.ops.nms(many, many_scores, 0.5))
print("loop, library and torchvision agree:", len(ours), "of", len(many), "boxes are kept")

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# The loop decides one box after the other, and each decision waits for the one before.
# The library takes 64 boxes or more as a block and asks all of them at once: <i>does a living box strike you?</i>
# Then it asks again, with the new answers, until no answer changes. In practice a few rounds are enough.
# What the survivors of a block strike among all later boxes is one comparison of tables.
# </details>
#
# ### One class at a time
#
# A cat may sit on a car. Two boxes on one place, and both are right. So NMS is played **for each class alone**: a mammal
# never strikes a vehicle. (R-CNN 2.2 says it in brackets: "for each class independently".)
#
# The four chickens of lesson 01 are a good test, because our detector is of two minds about them: bird or food?
# (To keep the table small we take every third candidate above 0.5.)

# %%
chickens, _ = listen(wild[photos["chicken.jpg"]])
every = chickens.logits.softmax(-1)[:, 1:].flatten()
regions = chickens.regions.repeat_interleave(5, dim=0)
moved = decode(chickens.deltas.flatten(0, 1), regions, std=HEAD_STD)
few = (every > 0.5).nonzero()[::3, 0]
few = few[every[few].argsort(descending=True)]
few_boxes = clip_boxes(moved[few], chickens.size)
few_scores, few_labels = every[few], few % 5 + 1  # five candidates for each region

# %%
apart = few_boxes + 1000 * few_labels[:, None]  # classes far apart
after = nms(apart, few_scores, 0.5)
words = [names[label - 1] for label in few_labels[after].tolist()]
print(f"{len(few)} boxes before NMS, {len(after)} after:", ", ".join(words))

# %% [markdown] tags=["core"]
# (The first line of the cell is a trick: add 1000 x label to all four numbers, and boxes of different classes lie far apart.
# Then one NMS serves all classes. torchvision has it as `batched_nms`.)
#
# **Move.** Now play it round by round. Numbers are ranks: 0 is the best. Dashed orange-red: winner and kept. Orange: waits.
# Grey: struck. The bars say the IoU with the winner. Before you move it, predict.

# %% jupyter={"source_hidden": true}
predict(
    "On the chicken to the left, a “food” and a “bird” survive on nearly the same place. Why?",
    ["their IoU is too small", "their classes differ", "the bird has the better score"],
    "their classes differ",
    "NMS is played for each class alone. Switch to “all classes together” and the bird is struck.",
)

# %% rows="L17 explorer"
from rcnnlib.view.explorers.nms_rounds import NmsRounds

game = NmsRounds(chickens.image, few_boxes, few_scores, few_labels, names, alt="Four chickens on grass")
game.set(round=1)

# %% [markdown] tags=["core"]
# 1. Stay in round 1 and raise "strike above" to 0.85. Who is no longer struck?
# 2. Back to 0.5. Move "round" to the end. Which boxes are kept?
# 3. Stay there and switch to "all classes together". Who is gone? Then lower "strike above" to 0.4. Who else?
#
# So a box can survive for three reasons: its IoU with the winner is not above the threshold; it has another class;
# or its round has not come yet. (Remember them. In lesson 13 the student asks: «bb4는 왜 안없애지?», "why is bb4 not removed?")

# %% [markdown] tags=["core"]
# ## 3 · Right, duplicate, wrong, missed
#
# *core · 4 minutes*
#
# How good are the detections? We compare them with the ground truth, one class at a time. The rule of PASCAL VOC:
#
# - Go through the detections **by falling score**.
# - Each looks at the object that it overlaps **most**. Is the IoU at least 0.5, and has nobody claimed this object?
#   Then it is **right**: a *true positive*. It claims the object.
# - Is the object claimed already? Then it is a **duplicate**. That is *wrong*: a *false positive*.
# - Is the IoU below 0.5? *Wrong* as well.
# - An object that nobody claimed is **missed**: a *false negative*.
#
# Some objects are marked *ignored* by the people who drew the boxes: too hard, or a crowd. A detection there is
# neither right nor wrong. It is left out.
#
# **Toy.** Two objects (side by side, 10 x 10) and three detections.

# %%
from rcnnlib.engine.metrics import Record, match

objects = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
found = torch.tensor([[0.0, 0, 10, 8], [0, 0, 10, 10], [26, 0, 36, 10]])
found_scores = torch.tensor([0.9, 0.8, 0.7])
box_iou(found, objects)

# %%
ones = torch.ones(3, dtype=torch.int64)  # all of class 1
toy = Record(0, found, found_scores, ones, objects, ones[:2], torch.zeros(0, 4))
verdict = match(toy, label=1)  # the library plays the rule

# %% jupyter={"source_hidden": true}
predict(
    "Detection 1 fits object 0 perfectly, detection 0 only with IoU 0.8. Which of the two is right?",
    ["detection 0", "detection 1", "both", "neither"],
    lambda: f"detection {verdict.rows[verdict.right].item()}",
    "The score decides, not the fit: 0.9 comes first and claims the object. Detection 1 is a duplicate.",
)

# %%
for row, iou, right, twice in zip(*verdict[:4], strict=True):
    word = "right" if right else "duplicate" if twice else "wrong"
    print(f"detection {row}: best IoU {iou:.2f}, {word}")
print("missed:", len(objects) - int(verdict.right.sum()), "object")

# %% [markdown] tags=["core"]
# **Move.** All boxes below are birds. The chickens carry their numbers; the region in the corner is ignored.
# Drag the detections a, b and c, or click one and use the arrow keys. The sliders change their scores.

# %%
from rcnnlib.view.explorers.matching import Matching

flock = resize(wild[photos["chicken.jpg"]], 320)
three_birds = [[114, 40, 180, 165], [117, 62, 187, 172], [235, 70, 312, 200]]
corner, their_scores = [[5, 170, 105, 210]], (0.9, 0.8, 0.6)
Matching(flock.image, flock.boxes, three_birds, their_scores, "Four chickens on grass", ignore=corner)

# %% [markdown] tags=["core"]
# 1. a and b are on the same chicken. Raise the score of b above that of a. What changes places?
# 2. Drag c into the ignored region.
# 3. Lay one detection over two chickens. Can it be right for both?

# %% [markdown] tags=["core"]
# ## 4 · Precision and recall
#
# *core · 7 minutes*
#
# A detector gives scores. Somebody has to choose from which score on a detection is *shown*. Two questions:
#
# - **Precision**: of what is shown, which part is right?
# - **Recall**: of all objects, which part is found?
#
# Show only what is sure: precision is often high, and recall low. Show much: the other way round.
#
# **Toy.** Five detections by falling score, three objects. ✓ right, ✗ wrong.

# %%
right = torch.tensor([True, False, True, True, False])
print("  ".join("✓" if one else "✗" for one in right))

# %% jupyter={"source_hidden": true}
predict(
    "You show the first three. Precision and recall?",
    ["2/3 and 2/3", "2/3 and 1/3", "1/2 and 2/3", "2/5 and 2/3"],
    lambda: f"{int(right[:3].sum())}/3 and {int(right[:3].sum())}/3",
    "Three are shown, two of them are right. There are three objects, two of them are found.",
)

# %% [markdown] tags=["core"]
# ### Your turn: `my_precision_recall`
#
# Given are the verdicts, sorted by falling score (a tensor of True and False, shape (D,)), and the number of objects.
# Give back a tensor (2, D): precision in row 0, recall in row 1, one column for each number of detections shown.
#
# <details><summary>Hint 1: how many are right so far?</summary>
# <code>right.cumsum(dim=0)</code> is a running sum.
# </details>
#
# <details><summary>Hint 2: how many are shown so far?</summary>
# <code>torch.arange(1, len(right) + 1)</code>.
# </details>
#
# <details><summary>Hint 3: two rows</summary>
# <code>torch.stack((precision, recall))</code>.
# </details>


# %% tags=["exercise"]
def my_precision_recall(right, objects):
    """Return precision and recall (2, D) after each detection."""
    raise NotImplementedError


# %%
check_precision_recall(my_precision_recall)

# %% [markdown] tags=["core"]
# **One solution**, collapsed.


# %% jupyter={"source_hidden": true}
def precision_recall_by_hand(right, objects):
    """Count on, one detection at a time."""
    found, columns = 0, []
    for shown, verdict in enumerate(right.tolist(), start=1):
        found += verdict
        columns.append((found / shown, found / objects))
    return torch.tensor(columns).reshape(-1, 2).T


# %%
precision_recall_by_hand(right, 3)

# %% [markdown] tags=["core"]
# **The library.** `precision_recall` does the matching and the counting for one class, over many pictures.
# We listen to the detector on the first 60 test pictures of Scrapbook. It has not seen their cut-outs before.
# (This takes a few seconds.)

# %%
from rcnnlib.engine.metrics import average_precision, precision_recall

pictures = [scrapbook[place] for place in range(60)]
heard = [listen(picture)[0] for picture in pictures]


def judge_all(**options):
    """Return detections and truth of the 60 pictures; options are thresholds (and bugs, section 9)."""
    found = [detect_with_bug(said, **options)[0] for said in heard]
    return [Record(p.id, *f, p.boxes, p.labels, p.ignore) for p, f in zip(pictures, found, strict=True)]


# %%
records = judge_all()
curve = precision_recall(records, label=2)
slow = precision_recall_by_hand(curve.true_positive, curve.total)
assert torch.allclose(slow, torch.stack((curve.precision, curve.recall)).float(), atol=1e-5)
print("loop and library agree on the mammals:", curve.total, "of them in", len(records), "pictures")

# %% [markdown] tags=["core"]
# **Look and move.** The first slider is the score from which a detection is shown. The blue dot is where you are on the
# curve. The numbers below count over all 60 pictures; the picture shows one of them.

# %% jupyter={"source_hidden": true}
predict(
    "You lower the threshold from 0.5 to 0.2. Which of the two can only grow or stay?",
    ["precision", "recall", "both", "neither"],
    "recall",
    "What was found stays found. Precision may go either way.",
)

# %%
from rcnnlib.view.explorers.score_slider import ScoreSlider

ScoreSlider([picture.image for picture in pictures], records, names, name="mammal", picture=16)

# %% [markdown] tags=["core"]
# 1. Find a threshold with precision above 0.9. What is the recall there?
# 2. Set the threshold to its minimum. Is every mammal found now? A detector's recall ends somewhere.

# %% [markdown] tags=["core"]
# ## 5 · Average precision
#
# *core · 10 minutes*
#
# Every threshold gives another precision and recall. To compare two detectors we want **one number that needs no
# threshold**. It is the area under the curve: the **average precision**, AP.
#
# Here are the five points of the toy again:

# %%
precision, recall = precision_recall_by_hand(right, 3)
for shown, (p, r) in enumerate(zip(precision, recall, strict=True), start=1):
    print(f"{shown} shown: recall {r:.4f}, precision {p:.4f}")

# %% [markdown] tags=["core"]
# The curve goes up and down like a saw. At recall 1/3 the precision falls to 1/2, then at recall 1 it is 3/4 again.
# Nobody would stop at 1/2: who shows a little more gets 3/4 *and* more recall. So first the saw is filled up:
# at each recall take **the best precision at this recall or any higher one**. This is the *envelope*.

# %%
from rcnnlib.view.explorers.ap_of_five import SCORES, ap_of_five, envelope

five = ap_of_five(3, **SCORES)  # 3 objects; the scores 0.9, 0.8, 0.7, 0.6, 0.5
for row in ("precision", "envelope"):
    print(f"{row:>9}", "  ".join(f"{height:.4f}" for height in five[row]))

# %% jupyter={"source_hidden": true}
predict(
    "What is the area under the envelope?",
    ["0.60", "0.70", "0.83", "1.00"],
    lambda: f"{five['AP area']:.2f}",
    "A third of the width at height 1, two thirds at height 3/4: 1/3 + 1/2 = 5/6.",
)

# %% [markdown] tags=["core"]
# There are two ways to count, and papers use both:
#
# - **11-point** (VOC 2007): the mean of the envelope at the recalls 0, 0.1, 0.2, ..., 1.
#   Here: 4 times 1, then 7 times 3/4.
# - **area** (VOC from 2010 on): the area itself.

# %%
print(f"11-point {five['AP 11-point']:.4f} = (4 x 1 + 7 x 0.75) / 11 = {(4 + 7 * 0.75) / 11:.4f}")
print(f"area     {five['AP area']:.4f} = 1/3 + 2/3 x 3/4       = {1 / 3 + 2 / 3 * 3 / 4:.4f}")

# %% [markdown] tags=["core"]
# ### Your turn: `my_average_precision`
#
# Take precision and recall (both of shape (D,), by falling score). Give back the area under the envelope,
# as a tensor with one number.
#
# <details><summary>Hint 1: the envelope</summary>
# Walk from the last detection to the first, and carry the largest precision along.
# </details>
#
# <details><summary>Hint 2: the widths</summary>
# Each detection adds a strip. Its width is the recall here minus the recall before (before the first it is 0).
# A wrong detection adds no width.
# </details>
#
# <details><summary>Hint 3: one number</summary>
# <code>torch.tensor(area)</code> turns a Python number into a tensor.
# </details>


# %% tags=["exercise"]
def my_average_precision(precision, recall):
    """Return the area under the envelope, a tensor with one number."""
    raise NotImplementedError


# %%
check_average_precision(my_average_precision)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: strip by strip, from the right.


# %% jupyter={"source_hidden": true}
def area_by_hand(precision, recall):
    """From the last detection to the first; the best precision seen so far is the height."""
    area, height = 0.0, 0.0
    before = [0.0, *recall.tolist()]
    for place in reversed(range(len(recall))):
        height = max(height, precision[place].item())
        area += height * (recall[place].item() - before[place])
    return torch.tensor(area)


# %%
for label in range(1, len(names) + 1):
    each = precision_recall(records, label)
    slow, quick = area_by_hand(each.precision, each.recall), average_precision(each)
    assert abs(slow.item() - quick) < 1e-5
print("loop and library agree on", len(names), "classes")

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# <code>precision.flip(0).cummax(0).values.flip(0)</code> is the envelope in one call: turn the list round, take the
# running maximum, turn it back. <code>recall.diff()</code> gives all widths at once.
# </details>
#
# **Look.** The mammals of our 60 pictures: the saw (grey), its envelope, and the eleven points. Where the recall
# never comes, the height is 0.

# %%
levels = torch.arange(11) / 10
top = envelope(curve)
heights = [max([0.0, *top[curve.recall >= level].tolist()]) for level in levels]
reached = sum(height > 0 for height in heights)
fig, ax = figure(620, 330, alt=f"Curve of the mammals; {reached} of 11 recalls are reached")
ax.plot(curve.recall, curve.precision, color="#999999", linestyle="-", linewidth=1.2)
ax.step([0, *curve.recall], [top[0], *top], where="pre", color=LINES[0], linestyle="-")
ax.plot(levels, heights, color=LINES[1], linestyle="", marker="o")
name_line(ax, 0.33, 1.03, "envelope", LINES[0])
name_line(ax, 0.84, 0.07, "eleven points", LINES[1])
ax.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.03, 1.1))
fig

# %% [markdown] tags=["core"]
# **Move.** Five detections: a, c and d are right, b and e are wrong. Move a score, and the ranking changes. A score of 0
# deletes the detection. First predict.

# %% jupyter={"source_hidden": true}
without_e = ap_of_five(3, **(SCORES | {"e": 0.0}))
predict(
    "You delete e, the last detection. It is wrong. How does the AP (area) change?",
    ["it grows", "it stays", "it falls"],
    lambda: "it stays" if without_e["AP area"] == five["AP area"] else "it grows",
    "A wrong detection behind the last right one adds no width. So AP does not punish rubbish at the end of the list.",
)

# %%
from rcnnlib.view.explorers.ap_of_five import ApOfFive

ApOfFive()

# %% [markdown] tags=["core"]
# 1. Delete b. Now everything right stands before everything wrong. AP?
# 2. Put b back, and move e to the top. A wrong detection that is *sure* is expensive.
# 3. Change scores so that the ranking stays the same. What does AP do? **Only the order counts.**
#
# The mean of the AP over the classes is the **mAP** (*mean average precision*). It is the number in every table of papers.

# %%
from rcnnlib.engine.metrics import voc_map

ap = voc_map(records, len(names))
order = torch.tensor(ap["per_class"]).argsort(descending=True)
print("classes by AP:", ", ".join(names[place] for place in order))
print(f"mAP at IoU 0.5, 60 pictures of Scrapbook test: {ap['mean']:.2f}")

# %% [markdown] tags=["core"]
# ## 6 · Kinds of error
#
# *core · 3 minutes*
#
# AP says how bad it is. It does not say *what* is bad. So we sort the detections of score 0.5 and more:
#
# | kind | what it means |
# |---|---|
# | correct | IoU at least 0.5 with a free object of its class |
# | localisation | its class, but the box is off: IoU from 0.1 to 0.5 |
# | duplicate | its object is claimed already |
# | confusion | there is an object, but of another class |
# | background | the rest: too far from any object |
# | missed | not a detection: an object that nobody found |
#
# **Look.** The surest mistake of each kind in our 60 pictures. (Solid green: ground truth.)

# %%
from rcnnlib.engine.metrics import KINDS, kind_of_each

kinds = [kind_of_each(record, len(names)) for record in records]
surest = {}
for name in ("localisation", "duplicate", "confusion", "background"):
    own = [(kind == KINDS.index(name)) * r.scores for kind, r in zip(kinds, records, strict=True)]
    place = max(range(60), key=lambda place: own[place].max().item())
    surest[name] = (place, int(own[place].argmax()))


# %%
fig, axes = figure(720, 160, columns=4, alt="The surest mistake of each kind:")
for ax, (name, (place, row)) in zip(axes, surest.items(), strict=True):
    record = records[place]
    draw_boxes(show_image(ax, pictures[place].image), record.truth, kind="ground_truth")
    draw_boxes(ax, record.boxes[row], kind="detection", labels=[names[record.labels[row] - 1]])
    ax.set_title(name)
    fig.alt += f" {name} in picture {place};"
fig

# %% [markdown] tags=["core"]
# **Move.** All 60 pictures as bars; seven of them to look at. Raise the score: which errors leave first?
# Then set "right from IoU" to 0.7: where do the correct ones go?

# %%
from rcnnlib.view.explorers.error_bars import ErrorBars

some = [16, 5, 4, 39, 48, 52, 57]
ErrorBars({place: pictures[place].image for place in some}, records, names)

# %% [markdown] tags=["extra"]
# ## 7 · COCO's AP
#
# *extra · 4 minutes*
#
# At IoU 0.5 a loose box counts as much as a perfect one. COCO asks for more: the AP at the IoU thresholds 0.5, 0.55, ...,
# 0.95, and then **the mean of the ten**. (It also reads precision at 101 recalls instead of 11.)

# %%
from rcnnlib.engine.evaluation import coco_ap

limits = [0.5 + 0.05 * step for step in range(10)]
per_limit = [voc_map(records, len(names), iou_threshold=limit)["mean"] for limit in limits]
alt = f"mAP falls from IoU 0.5 to 0.95; at 0.75 it is about {per_limit[5]:.1f}"
fig, ax = figure(560, 280, alt=alt)
ax.plot(limits, per_limit, marker="o")
ax.set(xlabel="right from IoU", ylabel="mAP", ylim=(0, None), xticks=limits[::2])
fig

# %% jupyter={"source_hidden": true}
coco = coco_ap(records, len(names))
predict(
    "COCO's AP of our detector, compared with its AP at IoU 0.5?",
    ["about the same", "about half", "about a tenth"],
    lambda: "about half" if 0.4 < coco["AP"] / coco["AP50"] < 0.6 else "about a tenth",
    "The curve above falls to nearly nothing at 0.95. The mean lies in the middle.",
)

# %%
assert abs(coco["AP50"] - per_limit[0]) < 0.02
print(f"COCO's AP {coco['AP']:.1f}; its AP50 and our mAP at IoU 0.5 differ by less than 0.02")

# %% [markdown] tags=["extra"]
# They differ a little, and not only because of the 101 recalls. The rules of matching differ:
#
# - **VOC**: a detection looks at the object that it overlaps most, *claimed or not*.
# - **COCO**: it looks at the best object that is **still free**.
#
# Here is a case where this matters. Two objects overlap. Detection a is on object 0. Detection b lies between
# the two, a little nearer to object 0.

# %%
paper = torch.ones(3, 120, 200)
crowd = torch.tensor([[40.0, 20, 120, 100], [62, 28, 142, 108]])
between = torch.tensor([[40.0, 36, 120, 116], [50, 14, 130, 94]])
box_iou(between, crowd)

# %% jupyter={"source_hidden": true}
predict(
    "VOC's AP and COCO's AP50 of these two detections?",
    ["1 and 1", "1/2 and 1", "1/2 and 1/2", "1 and 1/2"],
    lambda: "1/2 and 1" if Matching(paper, crowd, between, (0.9, 0.8), alt="").numbers["VOC AP"] == 0.5 else "1 and 1",
    "VOC: b overlaps object 0 most, and that is claimed: a duplicate. COCO: b takes object 1, with IoU 0.54.",
)

# %%
Matching(paper, crowd, between, (0.9, 0.8), alt="Two objects that overlap", ap=True)

# %% [markdown] tags=["extra"]
# (The verdicts are VOC's.) Drag b to the right until VOC agrees with COCO. In a crowd the two measures differ;
# where objects lie apart they agree.

# %% [markdown] tags=["extra"]
# ## 8 · Two thresholds for one operation
#
# *extra · 3 minutes*
#
# NMS is used twice in Faster R-CNN. On **proposals** with 0.7 (Faster R-CNN 3.3). On **detections** with 0.3 in the
# authors' code, 0.5 in torchvision and here. Why not the same? Try both ways. First the detections:

# %%
from rcnnlib.engine.metrics import error_kinds

print("NMS at   correct   duplicates   missed")
for threshold in (0.1, 0.3, 0.5, 0.7, 0.9):
    count = error_kinds(judge_all(threshold=threshold), len(names), score_threshold=0.5)
    print(f"{threshold:>6} {count.correct:>9} {count.duplicate:>12} {count.missed:>8}")

# %% [markdown] tags=["extra"]
# A detection is the **last word**. At 0.9 there are far more duplicates than correct ones. At 0.1 there are none, but
# more objects are missed: neighbours of one class strike each other.
#
# A proposal is only a **suggestion**. The head will look at it, correct it, and NMS will run once more. A duplicate
# costs a little time; an object without a good proposal is lost for ever. So we ask: how many objects keep
# a proposal with IoU 0.7 or more? (Selective Search ranks its boxes; we take the rank as the score.)

# %%
from rcnnlib.engine.metrics import proposal_recall

truths, reach = [picture.boxes for picture in pictures], torch.tensor([0.7])
for threshold in (0.3, 0.5, 0.7, 1.0):
    kept_boxes = []
    for proposals in (picture.proposals for picture in pictures):
        rank = -torch.arange(len(proposals)).float()
        kept_boxes.append(proposals[nms(proposals, rank, threshold)])
    recall = proposal_recall(kept_boxes, truths, thresholds=reach).item()
    count = sum(map(len, kept_boxes)) // 60
    print(f"NMS at {threshold}: {count:>4} proposals a picture, {recall:.0%} of the objects keep one")

# %% [markdown] tags=["extra"]
# (1.0 strikes nobody.) At 0.3 the better-ranked neighbour wins, and it often fits the object worse. At 0.7 the list is
# about half as long, and few objects lose their box. **Strict at the end, mild in the middle.** Lesson 13 does this
# inside the network.

# %% [markdown] tags=["extra"]
# ## 9 · Plant the bug
#
# *extra · 3 minutes*
#
# Four classic mistakes. None raises an error. Predict which one costs least, then see.
#
# - **all classes together**: `nms` is called where per-class NMS is meant.
# - **NMS before decode**: the *regions* play NMS, then the survivors are moved. Two regions far apart may end up on one object.
# - **scores upward**: sorted the wrong way round. The *worst* box of each crowd wins.
# - **std forgotten**: `decode` without the 0.1, 0.1, 0.2, 0.2 of lesson 06. Every correction is five to ten times too large.

# %%
planted = {bug: judge_all(bug=bug) for bug in BUGS}
maps = {bug: voc_map(picked, len(names))["mean"] for bug, picked in planted.items()}

# %% jupyter={"source_hidden": true}
predict(
    "Which bug costs the least mAP?",
    list(BUGS[1:]),
    lambda: max(BUGS[1:], key=maps.__getitem__),
    "Two classes seldom fight for one place on these pictures.",
)

# %% [markdown] tags=["extra"]
# **Move.** The explorer of section 1 again, now with "planted bug". Which of the four would you notice?

# %%
FromScores({"Scrapbook": pasted, "owl": owl}, names, step=5, bug="NMS before decode")

# %%
for bug, picked in planted.items():
    ratio = maps[bug] / maps["none"]
    twice = error_kinds(picked, len(names), score_threshold=0.5).duplicate
    part = "less than half" if ratio < 0.5 else "more than nine tenths" if ratio > 0.9 else "in between"
    print(f"{bug:>20}: {part} of the mAP, {twice:>2} duplicates shown")

# %% [markdown] tags=["extra"]
# Two of them shout, and are soon found. The other two **hide**: more than nine tenths of the mAP remain, even where the
# duplicates multiply. What finds them is a test with two boxes, built by hand: two classes on one place, and both must
# stay; two regions that are moved onto one object, and one must go.

# %% [markdown] tags=["extra"]
# ## 10 · Papers, notes, and what we measured
#
# *extra · 5 minutes*
#
# **The paper said, we measured.** The errors of the four detectors of the course, on all 150 test pictures of Scrapbook.
# (Each file of weights has a card with its figures beside it.)

# %%
import json

from rcnnlib.datasets.paths import data_dir

ladder = {"R-CNN": "rcnn", "SPPnet": "sppnet", "Fast R-CNN": "fast_rcnn", "Faster R-CNN": "faster_rcnn"}
files = {name: data_dir() / "weights" / f"{file}_scrapbook.json" for name, file in ladder.items()}
cards = {name: json.loads(file.read_text(encoding="utf-8"))["figures"] for name, file in files.items()}
errors = {name: card["scrapbook_test"]["errors"] for name, card in cards.items()}

# %%
order = ("correct", "localisation", "duplicate", "confusion", "background", "missed")
fig, axes = figure(880, 230, columns=4, alt="Errors of the four detectors:")
most = max(counts[kind] for counts in errors.values() for kind in order)
for ax, (name, counts) in zip(axes, errors.items(), strict=True):
    values = [counts[kind] for kind in order]
    bars = ax.barh(order, values, color=[LINES[0], *[LINES[1]] * 4, "#777777"])
    ax.bar_label(bars, padding=3, fontsize=9)
    ax.set(xlim=(0, 1.3 * most), ylim=(5.6, -0.6), title=name)
    ax.tick_params(labelleft=ax is axes[0])
    fig.alt += f" {name} {dict(zip(order, values, strict=True))};"
fig

# %% [markdown] tags=["extra"]
# Compare the *shapes*, not the lengths: the scores of R-CNN and SPPnet come from SVMs (lesson 03). There 0.5 is the border
# where an SVM says yes, and far fewer detections pass it.

# %%
wrong = ("localisation", "duplicate", "confusion", "background")
for name, counts in errors.items():
    assert counts["duplicate"] < 0.1 * sum(counts[kind] for kind in wrong), "the sentence below says so"
    print(f"{name:>12}:", " > ".join(sorted(wrong, key=lambda kind: -counts[kind])))

# %% [markdown] tags=["extra"]
# | | the paper | ours |
# |---|---|---|
# | NMS | "for each class independently" (R-CNN 2.2) | the same; together it costs little here |
# | kinds of error | more localisation than an older detector, less confusion and background (R-CNN, "Detection error analysis") | the lines above; duplicates are rare in all four: NMS does its work |
#
# **11-point or area?** The mAP figures of R-CNN, Fast R-CNN and Faster R-CNN on VOC 2007 are 11-point figures; since 2010
# VOC uses the area. Does it matter? For our four detectors, on two sets of pictures:

# %%
gaps = []
for name, card in cards.items():
    both = [card[where] for where in ("scrapbook_test", "wild_test")]
    gaps += (pair := [100 * (one["voc_AP50_11"] - one["voc_AP50"]) for one in both])
    print(f"{name:>12}, 11-point minus area: Scrapbook {pair[0]:+.1f}, Wild {pair[1]:+.1f} points")
print(f"the 11-point figure is the larger one in {sum(gap > 0 for gap in gaps)} of {len(gaps)}")

# %% [markdown] tags=["extra"]
# The detections are the same, and the number is not. So never compare an 11-point figure with an area figure.

# %% [markdown] tags=["extra"]
# > **What the notes said.** In the lecture notes NMS removes boxes with IoU ≥ 0.7. torchvision removes > 0.7, and so do we.
# > The papers do not say which. Here are two boxes with an IoU of exactly 0.7.

# %%
exact = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 7]])
exact_scores = torch.tensor([0.9, 0.8])
for name, function in (("course", nms), ("torchvision", torchvision.ops.nms)):
    print(f"{name:>11}: {len(function(exact, exact_scores, 0.7))} boxes kept at exactly 0.7")

# %% [markdown] tags=["core"]
# ## Summary
#
# - A region gives one candidate for each class. Decode, clip, score threshold, NMS: a few are left.
# - NMS: the best wins, strikes what overlaps it by more than the threshold, and so on. Each class alone.
# - Detections are matched by falling score. The second one on an object is a duplicate, and wrong.
# - Precision: of what is shown. Recall: of what is there. Lower the score: recall cannot fall.
# - AP is the area under the envelope of the curve. Only the order of the scores counts. 11-point and area differ.
# - COCO's AP is the mean over ten IoU thresholds.
# - AP says how bad, the kinds of error say what.
#
# ## Glossary
#
# | English | 한국어 | meaning |
# |---|---|---|
# | candidate | 후보 | a box with a class and a score, before NMS |
# | non-maximum suppression (NMS) | 비최대 억제 | keep the best of boxes that overlap |
# | score threshold | 점수 임곗값 | from here on a detection is shown |
# | true positive | 참 양성 (맞은 검출) | a detection that is right |
# | false positive | 거짓 양성 (틀린 검출) | a detection that is wrong |
# | false negative | 거짓 음성 (놓친 물체) | an object that nobody found |
# | duplicate | 중복 검출 | a second detection of one object |
# | precision | 정밀도 | of what is shown, the part that is right |
# | recall | 재현율 | of all objects, the part that is found |
# | envelope | 포락선 | the best precision at this recall or a higher one |
# | average precision (AP) | 평균 정밀도 | the area under the envelope |
# | mAP | 클래스 평균 AP | mean of the AP over the classes |
# | localisation error | 위치 오류 | right class, box too far off |
#
# ## References
#
# - Girshick, Donahue, Darrell, Malik: *Rich feature hierarchies ...* (R-CNN), 2014, [arXiv 1311.2524](https://arxiv.org/abs/1311.2524)
# - Girshick: *Fast R-CNN*, 2015, [arXiv 1504.08083](https://arxiv.org/abs/1504.08083)
# - Ren, He, Girshick, Sun: *Faster R-CNN*, 2015, section 3.3, [arXiv 1506.01497](https://arxiv.org/abs/1506.01497)
# - Everingham and others: *The PASCAL Visual Object Classes Challenge*, IJCV 2010 (11-point AP, matching)
# - Lin and others: *Microsoft COCO*, 2014, [arXiv 1405.0312](https://arxiv.org/abs/1405.0312)
# - Hoiem, Chodpathumwan, Dai: *Diagnosing error in object detectors*, ECCV 2012; Bolya and others: *TIDE*, ECCV 2020 (kinds of error)
# - Code: py-faster-rcnn, `lib/fast_rcnn/config.py` (`TEST.NMS = 0.3`)
#
# The photos are public domain or CC0; `data/wild/CREDITS.csv` names their authors.
# The scenes are made of cut-outs of Tux Paint's stamps (GPL 2 or later); `data/scrapbook/CREDITS.csv` names their authors.
