# %% [markdown] tags=["core"]
# # 13 · Proposals and NMS
#
# **The question.** The RPN gives every anchor a score and four corrections: thousands of boxes, and most of them say the
# same. *Which few of them go on to the head, and why those?*
#
# **After this lesson you can**
#
# - name the seven stages from anchors to proposals, in their order, and say what each is for
# - play NMS by hand on four boxes, and give the reason for which each box is still there
# - follow any box of a picture from its anchor to its end
# - say what NMS takes away, and whether it costs recall
#
# | section | | minutes |
# |---|---|---|
# | 1 The funnel | core | 12 |
# | 2 Four boxes, round by round | core | 10 |
# | 3 Why is bb4 not removed? | core | 6 |
# | 4 The fate of a box | core | 5 |
# | 5 What does NMS cost? | core | 7 |
# | 6 Plant the bug | core | 3 |
# | 7 Papers and code | extra | 4 |

# %%
from rcnnlib.view.notebook import predict, setup

setup()

# %%
import torch
import torchvision

from rcnnlib.checks import check_propose, check_suppressed_by, suppressed_by
from rcnnlib.datasets.coco import scrapbook
from rcnnlib.datasets.proposals import selective_search_boxes
from rcnnlib.engine.metrics import proposal_recall
from rcnnlib.models.backbone import backbone
from rcnnlib.models.weights import load_rpn_checkpoints, load_weights
from rcnnlib.ops.box_coder import decode
from rcnnlib.ops.boxes import box_iou, clip_boxes, is_inside, is_large
from rcnnlib.ops.nms import nms, nms_steps
from rcnnlib.view.explorers.proposal_funnel import ask, funnel
from rcnnlib.view.plotting import draw_boxes, figure, show_image, show_map

# %% [markdown] tags=["core"]
# ## 1 · The funnel
#
# *core · 12 minutes*
#
# We take the RPN of lesson 11 after 800 steps, and a scene. `ask` runs trunk and RPN once. What comes out?

# %%
trunk, rpn = backbone("squeezenet").eval(), load_rpn_checkpoints()[800]
scenes = scrapbook("test")
told = [ask(rpn, trunk, scenes[number]) for number in range(40)]
bus, zebra, pepper = told[27], told[24], told[16]
print("anchors", tuple(bus.anchors.shape), "· scores", tuple(bus.objectness.shape))
print("corrections", tuple(bus.deltas.shape))

# %% [markdown] tags=["core"]
# 2,700 boxes. The head of lesson 06 should look at 200 of them. This is the way there:
#
# | stage | what happens | why |
# |---|---|---|
# | 1 all anchors | each has a score and a correction | |
# | 2 **top-N** | keep the N anchors with the best scores | the rest is mostly background |
# | 3 **decode** | apply the corrections to *these* anchors | fewer boxes to compute |
# | 4 **clip** | cut off what reaches outside of the picture | there is nothing to see |
# | 5 small ones out | drop boxes with a side of less than 1 pixel | the clip left nothing of them |
# | 6 **NMS** | strike boxes with IoU above 0.7 with a better one | they are duplicates |
# | 7 **top-R** | keep the R best survivors | the head has time for only so many |
#
# The score is **objectness** (lesson 11): object or not. No class yet.
#
# **Toy.** The picture is 35 pixels wide. An anchor (10, 10, 30, 30) has the correction t = (0.5, 0, 0, 0).

# %%
anchor, t = torch.tensor([[10.0, 10, 30, 30]]), torch.tensor([[0.5, 0, 0, 0]])
moved = decode(t, anchor)
clipped = clip_boxes(moved, torch.tensor([40.0, 35.0]))

# %% jupyter={"source_hidden": true} rows="L16 predict"
predict(
    "How wide is the box after decode and clip?",
    ["10", "15", "20", "25"],
    lambda: str(int(clipped[0, 2] - clipped[0, 0])),
    "0.5 is half a width, 10 pixels: the box goes to 20 .. 40. The picture ends at 35.",
)

# %% [markdown] tags=["core"]
# **Look.** The eight best anchors of a scene, the same eight after the corrections, and the eight best survivors of NMS.
# Green: the objects.

# %% rows="L16 figure"
stages = funnel(bus)
columns = {"8 anchors": (stages[1], "anchor"), "decoded": (stages[2], "proposal")}
columns["after NMS"] = (stages[5], "proposal")
hits = [int((box_iou(bus.truth, b[:8]) >= 0.5).any(1).sum()) for b, _ in columns.values()]
fig, axes = figure(880, 250, columns=3, alt=f"8 boxes a stage; objects reached: {hits}")
for ax, (name, (boxes, kind)) in zip(axes, columns.items(), strict=True):
    draw_boxes(show_image(ax, bus.image), boxes[:8], kind=kind).set_title(name)
    draw_boxes(ax, bus.truth, kind="ground_truth")
fig

# %% [markdown] tags=["core"]
# Several anchors can be corrected to the same box. Such duplicates exist only *after* decode, so NMS comes then.
# (Section 6 counts them.)
#
# Which stage takes good boxes away? We count the boxes that reach an object (IoU of 0.5 or more) after each stage.

# %%
reach = [int((box_iou(bus.truth, b) >= 0.5).any(0).sum()) for b in stages]
lost = {"top-N": reach[0] - reach[1], "clip": reach[2] - reach[3]}
lost |= {"small ones out": reach[3] - reach[4], "NMS": reach[4] - reach[5]}

# %% jupyter={"source_hidden": true}
predict(
    "Which stage takes away the most boxes that reach an object?",
    ["top-N", "clip", "small ones out", "NMS"],
    lambda: max(lost, key=lost.get),
    "Top-N loses some, too. NMS drops good boxes on purpose: they are copies of better-scored ones.",
)

# %%
print("boxes that reach an object, stage by stage:", reach)

# %% [markdown] tags=["core"]
# Decode and clip *add* good boxes: corrections make them fit, and a box that is cut off at the border fits better.
#
# **Move.** Go through the seven stages. (15 boxes are drawn: at stage 1 any, later the best.) Before you move it, predict:
# how many of the 1,000 boxes reach outside of the picture after decode?

# %% rows="L16 explorer"
from rcnnlib.view.explorers.proposal_funnel import ProposalFunnel

pictures = {"bus": bus, "zebra": zebra, "pepper": pepper}
ProposalFunnel(pictures, alt="Cut-outs of a bus, a bear and a fruit, or of others, on a photo")

# %% [markdown] tags=["core"]
# Try this:
#
# 1. From stage 3 to 4: how many boxes reached outside?
# 2. Stage 6: lower "strike above" to 0.3. How many survive? Do they still reach all objects?
# 3. Stage 7: R = 10. And now N = 50: what happens in NMS?
#
# ### Your turn: `my_propose`
#
# Write stages 2 to 7 for one picture. You get the objectness (A,), the boxes (A, 4), **already decoded**, and the size
# (height, width). Give back the boxes of the proposals, best first. `before` is N, `after` is R. You may use
# `clip_boxes(boxes, size)`, `is_large(boxes, 1.0)` (True where both sides have at least 1 pixel) and `nms`.
#
# <details><summary>Hint 1: the N best</summary>
# <code>objectness.topk(min(before, len(objectness)))</code> gives scores and rows, best first.
# </details>
#
# <details><summary>Hint 2: two lists that walk together</summary>
# Whatever you do with the boxes, do with the scores: <code>boxes[large]</code> and <code>scores[large]</code>.
# </details>
#
# <details><summary>Hint 3: the end</summary>
# <code>nms(boxes, scores, threshold)</code> gives rows, best first. The first <code>after</code> of them are the answer.
# </details>


# %% tags=["exercise"] rows="L16 exercise"
def my_propose(objectness, boxes, size, before, threshold, after):
    """Return the boxes (K, 4) of at most `after` proposals, best first."""
    raise NotImplementedError


# %%
check_propose(my_propose)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: box by box, without `nms`.


# %% jupyter={"source_hidden": true}
def propose_by_hand(objectness, boxes, size, before, threshold, after):
    """Take boxes by falling score; keep each that no kept box overlaps too much."""
    kept = torch.zeros(0, 4)
    for row in objectness.argsort(descending=True, stable=True)[:before]:
        box = clip_boxes(boxes[row][None], size)
        free = (box_iou(kept, box) <= threshold).all()
        if is_large(box, 1.0) and free and len(kept) < after:
            kept = torch.cat((kept, box))
    return kept


# %% [markdown] tags=["core"]
# **The library** has `rpn.propose`, for a whole batch. Loop and library agree on the scene:

# %%
with torch.no_grad():
    found = rpn.propose(*rpn(trunk(bus.image[None])), bus.size[None], rounds=64)
decoded = decode(bus.deltas, bus.anchors)
ours = propose_by_hand(bus.objectness, decoded, bus.size, rpn.before, 0.7, rpn.after)
assert torch.allclose(ours, found.boxes[0][found.valid[0]], atol=1e-3)
print(f"{len(decoded):,} anchors -> {len(ours)} proposals, loop and library agree")

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# The loop decides one box after the other. The library decides 64 boxes as a block: it asks all of them at once
# whether a box that is not struck strikes them, and repeats this until no answer changes. And it always gives R
# rows, with a mask, so that a batch of pictures
# fits into one tensor.
# </details>
#
# ## 2 · Four boxes, round by round
#
# *core · 10 minutes*
#
# In the lecture four boxes bb1 to bb4 show how NMS works. Its numbers are not preserved. **These four are our own.** We
# chose the IoUs first, and then made the boxes by algebra. If two boxes of areas a and b share the area s,
#
# IoU = s / (a + b − s), so s = IoU · (a + b) / (1 + IoU).
#
# **Toy.** bb1 is 130 x 120, bb4 is 130 x 108. We want IoU = 5/8. Then s = 5/13 · (15,600 + 14,040) = 11,400 = 120 x 95.
# So we move bb4 to the right by 10 and down by 25. The other boxes are made in the same way.

# %%
from rcnnlib.view.explorers.four_boxes import BOXES, NAMES, SCORES

table = box_iou(BOXES, BOXES)
for name, box, score in zip(NAMES, BOXES.tolist(), SCORES.tolist(), strict=True):
    print(name, f"score {score:.2f}", box)
print("\nIoU with bb1:", table[0].tolist())

# %% rows="L17 figure"
where = BOXES + torch.tensor([138.0, 34, 138, 34])  # on the zebra; a shift changes no IoU
fig, (left, right) = figure(860, 300, columns=2, alt=f"IoU {table.round(decimals=2).tolist()}")
draw_boxes(show_image(left, zebra.image), where[1:], kind="proposal", labels=NAMES[1:])
draw_boxes(left, where[:1], kind="detection", labels=NAMES[:1]).set(xlim=(90, 320), ylim=(182, 0))
show_map(right, table, text=".3f").set_axis_on()
right.set_xticks([0.5, 1.5, 2.5, 3.5], NAMES)
right.set_yticks([0.5, 1.5, 2.5, 3.5], NAMES)
right.set_title("IoU")
fig

# %% [markdown] tags=["core"]
# **NMS** (lesson 08): the best box wins and strikes all boxes whose IoU with it is **above** the threshold. Then the best of
# those that still wait wins, and so on. The threshold of the RPN is 0.7.

# %% jupyter={"source_hidden": true} rows="L17 predict"
predict(
    "Threshold 0.7. bb1 has played its round. Who is struck?",
    ["bb2", "bb2 and bb4", "bb2, bb3 and bb4", "nobody"],
    lambda: " and ".join(NAMES[row] for row in next(nms_steps(BOXES, SCORES, 0.7)).removed),
    "Look at the first row of the table: only 0.750 is above 0.7. bb3 and bb4 are still there.",
)

# %%
for number, step in enumerate(nms_steps(BOXES, SCORES, 0.7), start=1):
    struck, waiting = ([NAMES[row] for row in rows] for rows in (step.removed, step.waiting))
    print(f"round {number}: {NAMES[step.best]} wins, strikes {struck}, still waiting {waiting}")

# %% [markdown] tags=["core"]
# **Move.** Round by round, and with any threshold. The line answers for the box in "ask about". You can drag the boxes, too.
# Before you move it, predict: at which thresholds do *all four* survive?

# %% rows="L17 explorer, Q7 explorer"
from rcnnlib.view.explorers.four_boxes import FourBoxes

FourBoxes(zebra.image, where, alt="A zebra with four boxes around it")

# %% [markdown] tags=["core"]
# 1. Go to round 2. Who wins, and what becomes of bb4?
# 2. Back to round 1. Lower "strike above" until bb4 goes. Where is that?
# 3. Raise it until all four survive.
# 4. Threshold 0.7, round 1. Drag bb4 towards bb1 until it is struck.
#
# ### Your turn: `my_suppressed_by`
#
# To explain a result you want to know *who* struck each box. Take boxes (N, 4), scores (N,) and a threshold. Give back one
# whole number for each box: the row of the winner that struck it, or -1 for a survivor. An IoU *equal* to the threshold
# does not strike.
#
# <details><summary>Hint 1: start</summary>
# <code>torch.full((len(boxes),), -1)</code>: at first nobody is struck.
# </details>
#
# <details><summary>Hint 2: the rounds</summary>
# Go through the rows by falling score. If a row is struck already, it wins no round.
# </details>
#
# <details><summary>Hint 3: a round</summary>
# Strike only rows that are neither struck yet nor a winner before.
# </details>


# %% tags=["exercise"] rows="L17 exercise"
def my_suppressed_by(boxes, scores, threshold):
    """Return for each box (N,) the row of the winner that struck it, or -1."""
    raise NotImplementedError


# %%
check_suppressed_by(my_suppressed_by)

# %% [markdown] tags=["core"]
# **One solution**, collapsed.


# %% jupyter={"source_hidden": true}
def struck_by_hand(boxes, scores, threshold):
    """Round by round."""
    iou, found = box_iou(boxes, boxes), torch.full((len(boxes),), -1)
    waiting = scores.argsort(descending=True, stable=True).tolist()
    while waiting:
        best = waiting.pop(0)
        for row in [row for row in waiting if iou[best, row] > threshold]:
            found[row] = best
            waiting.remove(row)
    return found


# %%
large = stages[4][:300]  # boxes of the scene with the bus, best first
falling = torch.linspace(1, 0, len(large))
assert torch.equal(struck_by_hand(large, falling, 0.7), suppressed_by(large, falling, 0.7))
print("bb1 to bb4 are struck by", struck_by_hand(BOXES, SCORES, 0.7).tolist())

# %% [markdown] tags=["core"]
# bb2 is struck by row 0 (bb1), and bb4 by row 2 (bb3). Survivors: bb1 and bb3.
#
# > **What the notes said.** "IoU >= 0.7 with a better one: duplicate, removed." In torchvision and here a box goes if its
# > IoU is **above** 0.7. The papers do not care. To see it, you need a pair at exactly 0.7: a box of 10 x 10, and one of
# > 10 x 7 inside it, share 70 of 100.

# %% rows="L17 experiment"
pair, two = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 7]]), torch.tensor([0.9, 0.8])
iou = box_iou(pair, pair)[0, 1].item()
print(f"IoU {iou:.4f}")
print("ours, > 0.7: kept", nms(pair, two, 0.7).tolist())
print("torchvision: kept", torchvision.ops.nms(pair, two, 0.7).tolist())
print("the notes' >= 0.7: kept", nms(pair, two, 0.7 - 1e-6).tolist())

# %% [markdown] tags=["core"]
# > **What the notes said**, too: the "class score" ranks the proposals. It is *objectness*: two classes, object or not.
# > So the RPN's NMS knows no classes. The head's NMS (lesson 08) does.
#
# ## 3 · Why is bb4 not removed?
#
# *core · 6 minutes*
#
# > **After bb1's round bb4 is still there. Why?**
# > «bb4는 왜 안없애지?»
#
# There are three reasons for which a box can still be there. We show each by experiment.
#
# **Reason 1: its IoU with the winner is not above the threshold.** So lower the threshold. When does bb4 go in bb1's round?

# %% rows="Q7 experiment"
for threshold in (0.7, 0.65, 0.626, 0.625, 0.624, 0.6):
    struck = next(nms_steps(BOXES, SCORES, threshold)).removed
    print(f"threshold {threshold:.3f}: bb1 strikes", *(NAMES[row] for row in struck))
print("IoU of bb1 and bb4:", table[0, 3].item())

# %% [markdown] tags=["core"]
# It goes as soon as the threshold is *below* their IoU, 0.625. At 0.625 itself it stays.
#
# **Reason 2: it has another class.** Then bb1 cannot strike it, whatever the threshold. We give bb4 another class and set
# the threshold to 0.1:

# %% rows="Q7 experiment"
classes = torch.tensor([1, 1, 1, 2])
for labels in (torch.ones(4, dtype=torch.int64), classes):
    kept = torchvision.ops.batched_nms(BOXES, SCORES, labels, 0.1)
    print("classes", labels.tolist(), "-> kept", *(NAMES[row] for row in kept))

# %% [markdown] tags=["core"]
# This happens in the *head's* NMS only. The RPN has no classes, so for proposals reason 2 does not exist.
#
# **Reason 3: its round has not come.** After bb1's round bb4 is not saved. It *waits*. We play the next round, at two
# thresholds:

# %% rows="Q7 experiment"
for threshold in (0.7, 0.8):
    print(f"threshold {threshold}")
    for number, step in enumerate(nms_steps(BOXES, SCORES, threshold), start=1):
        struck = " ".join(NAMES[row] for row in step.removed) or "nobody"
        print(f"   round {number}: {NAMES[step.best]} wins, strikes {struck}")

# %% [markdown] tags=["core"]
# At 0.7 bb3 wins round 2 and strikes bb4: their IoU is 0.75. At 0.8 nobody strikes bb4, and it wins round 4: only now it
# is **kept**.
#
# **Answer.** Not being removed in one round is not the same as surviving. bb4 is still there after bb1's round because
# its IoU with bb1, 0.625, is not above 0.7. It is kept for good only when it wins a round itself: all better boxes near
# it are gone, or overlap it too little, or (in the head) have another class.
#
# > **답.** bb1과의 IoU가 0.625로 임곗값 0.7을 넘지 않으므로 bb4는 bb1의 라운드에서 지워지지 않지만, 최종적으로 살아남은 것이
# > 아니라 아직 자기 차례를 기다리는 상태이며, 실제로 다음 라운드에서 bb3(IoU 0.75)이 bb4를 지웁니다. 클래스가 다른 박스끼리
# > 서로 지우지 않는 것은 헤드의 NMS에서만이며, RPN에는 클래스가 없습니다.

# %% [markdown] tags=["core"]
# ## 4 · The fate of a box
#
# *core · 5 minutes*
#
# Four boxes are a toy. Here is a whole picture and a whole Faster R-CNN, trained together with its head (lesson 14). We
# follow each of its 2,700 anchors: what does the matcher say (lesson 12), does a mini-batch draw it, its score, its refined
# box, who strikes it, and what does the head make of it?

# %%
from rcnnlib.view.explorers.box_fate import BoxFate, examine

detector = load_weights("faster_rcnn_scrapbook")
names = {27: "bus", 16: "pepper"}
lives = {n: examine(detector.model, scenes[i], detector.spec.classes) for i, n in names.items()}

# %% [markdown] tags=["core"]
# **Move.** Click into the picture, or take the slider: rank 0 is the box with the best score. Blue, dashed: the anchor.
# Orange: its refined box. Orange-red: the winner that struck it. Before you move it, predict:

# %% jupyter={"source_hidden": true}
predict(
    "Of the 20 boxes with the best scores, NMS strikes ...",
    ["none: their scores are too good", "between 5 and 18", "all but one"],
    "between 5 and 18",
    "They sit on the same few objects. A good score protects nobody from a better neighbour.",
)

# %% rows="L16 explorer, L17 explorer"
BoxFate(lives, alt="Cut-outs of a bus, a bear and a fruit on a photo")

# %% [markdown] tags=["core"]
# 1. Click at an object. Is the box struck? The row *NMS* names the rank of the winner: set the slider to it.
# 2. A box that survives: what does the head say? Is there a *detection*?
# 3. Look at rank 0 of the first picture: what is the label of its anchor? An anchor that is *ignored* in training
#    can still become a proposal. Labels teach; they do not choose.
# 4. Move "epoch". Another draw, but the same scores: this detector is not training.

# %%
for name, life in lives.items():
    best = life.order[:20]
    struck = int((life.striker[best] >= 0).sum())
    assert 5 <= struck < 19
    print(f"{name}: of the 20 best boxes at least 5 are struck, and more than one survives")

# %% [markdown] tags=["core"]
# ## 5 · What does NMS cost?
#
# *core · 7 minutes*
#
# NMS takes good boxes away. Does it lose objects? We measure **recall** (lesson 02): the part of the objects that some
# proposal reaches. 40 scenes, with NMS and without, and beside them the stored boxes of Selective Search.

# %%
from rcnnlib.view.explorers.proposal_recall import refine, strike, tabulate

truths = [one.truth for one in told]
stored = selective_search_boxes("scrapbook_test")
search = [stored[scenes[number].id] for number in range(40)]
refined = [refine(one, rpn.before) for one in told]
with_nms, without = strike(refined, 0.7), [one.boxes for one in refined]
sources = {"RPN, NMS 0.7": with_nms, "RPN, no NMS": without, "Selective Search": search}

# %% jupyter={"source_hidden": true}
predict(
    "The head looks at 100 proposals. Recall at IoU 0.5: with NMS or without?",
    ["higher with NMS", "the same", "higher without"],
    "higher with NMS",
    "Without NMS the 100 places are taken by many copies of the same boxes. See the table.",
)

# %% rows="L17 experiment"
at = torch.tensor([0.5, 0.7]).double()
print("recall at 0.5 | 0.7       " + "".join(f"{n:>9} boxes" for n in (30, 100, 300)))
for name, boxes in sources.items():
    each = [proposal_recall(boxes, truths, thresholds=at, count=n) for n in (30, 100, 300)]
    print(f"{name:<26}" + "".join(f"{low:>8.2f} |{high:>5.2f}" for low, high in each))

# %% [markdown] tags=["core"]
# At the same number of boxes NMS **gains** recall at IoU 0.5: a place that a copy leaves is free for another object.
# What does it cost, then? We give both as many boxes as they have:

# %%
tables = tabulate(refined, search, truths)
best, left = tables["RPN, no NMS"][:, -1], tables["RPN, NMS 0.7"][:, -1]
few, many = (sum(map(len, boxes)) / 40 for boxes in (with_nms, without))
print(f"boxes a picture: {many:.0f} without NMS, {few:.0f} with")
print(f"objects that lose their best box: {int((left < best).sum())} of {len(best)}")
for limit in (0.5, 0.7):
    low, high = ((iou >= limit).double().mean() for iou in (left, best))
    print(f"recall at {limit}: {high:.2f} without -> {low:.2f} with")

# %% [markdown] tags=["core"]
# NMS asks for the *score*, not for the fit. So it strikes the best-fitting box of many objects. The winner lies near by, so
# at IoU 0.5 nothing is lost; at 0.7 something is. The head corrects the box once more (lesson 06).
#
# **Move.** Before you move it, predict: which NMS threshold is best with 30 boxes, and which with 300?

# %% rows="L17 explorer"
from rcnnlib.view.explorers.proposal_recall import ProposalRecall

ProposalRecall(tables)

# %% [markdown] tags=["core"]
# 1. 30 boxes: compare "NMS strikes above" 0.5 with 0.7. And with 300 boxes?
# 2. Selective Search: where is it below the RPN, and where above?
# 3. IoU at least 0.8. Whose boxes fit better?
#
# With few boxes and at IoU 0.5 the RPN is ahead: its list is *ranked by objectness*. At IoU 0.7 Selective Search
# fits better: its boxes
# follow the edges of regions. But our RPN has learned for 800 steps only, on a frozen trunk. The RPN of the
# detector in section 4 has learned for longer, and together with its head:

# %%
model = detector.model
longer = [refine(ask(model.rpn, model.trunk, scenes[n]), 1000) for n in range(40)]
both = {"800 steps": with_nms, "longer": strike(longer, 0.7)}
high = {n: proposal_recall(b, truths, thresholds=at, count=100)[1].item() for n, b in both.items()}
assert high["longer"] > high["800 steps"]
print("100 boxes, IoU 0.7: the RPN that learned for longer reaches more objects")

# %% [markdown] tags=["core"]
# ## 6 · Plant the bug
#
# *core · 3 minutes*
#
# Three classic mistakes. None stops with an error. In the explorer of section 1 choose a *planted bug* and look at
# stage 7. Here are all 40 scenes:

# %% jupyter={"source_hidden": true}
predict(
    "Somebody plays NMS on the anchors, before decode. What goes wrong?",
    ["recall falls to zero", "duplicates come out", "boxes reach outside"],
    "duplicates come out",
    "Anchors that lie apart may be corrected to the same box. Nobody compares them again.",
)

# %% rows="L16 experiment"
from rcnnlib.view.explorers.proposal_funnel import BUGS

for bug in BUGS:
    last = [funnel(one, bug=bug)[-1][:100] for one in told]
    reached = proposal_recall(last, truths, thresholds=at)[0].item()
    seen = [clip_boxes(b, bus.size) for b in last]
    outside = sum(int((a != b).any(1).sum()) for a, b in zip(last, seen, strict=True)) / 40
    copies = sum(int((box_iou(b, b).triu(1) > 0.7).any(0).sum()) for b in seen) / 40
    print(f"{bug:<18} recall {reached:.2f} · of 100: {outside:2.0f} outside, {copies:2.0f} copies")

# %% [markdown] tags=["core"]
# - **NMS before decode**: the recall looks fine, so you may never notice. The symptom is copies.
# - **Scores upward**: the worst boxes win. The symptom is a very low recall.
# - **Clip forgotten**: nearly all boxes reach outside, and that part counts in the IoU: they fit worse, and the
#   recall falls. And two boxes that differ only *outside* do not strike each other: copies.

# %% [markdown] tags=["extra"]
# ## 7 · Papers and code
#
# *extra · 4 minutes*
#
# **The paper said, we measured.** Faster R-CNN, 3.3: about 20,000 anchors on a picture of 1000 x 600, about 6,000 of them
# inside (these train), about 2,000 proposals after NMS at 0.7; at test often 300 go on. Our pictures are smaller, so compare
# only what part is left.

# %%
inside = int(is_inside(bus.anchors, bus.size).sum())
after = sum(map(len, with_nms)) / 40
print(f"{'':<20}{'paper':>8}{'here':>8}")
rows = {"anchors": (20000, len(bus.anchors)), "inside": (6000, inside)}
rows |= {"after NMS": (2000, after), "to the head": (300, rpn.after)}
for name, (theirs, own) in rows.items():
    print(f"{name:<20}{theirs:>8,}{own:>8,.0f}   {theirs / 20000:4.0%} and {own / len(bus.anchors):4.0%}")

# %% [markdown] tags=["extra"]
# The first parts are close; our head takes a larger part. The paper adds that "NMS does not harm the ultimate
# detection accuracy, but substantially
# reduces the number of proposals" (3.3). We saw the same in recall at IoU 0.5.
#
# **Other programs.**
#
# | | authors' code | torchvision | this course |
# |---|---|---|---|
# | N in training, at test | 12000, 6000 | 2000, 1000 | 1000 |
# | R in training, at test | 2000, 300 | 2000, 1000 | 200 |
# | struck if IoU is | above 0.7 | above 0.7 | above 0.7 |
#
# In training no gradient goes from the head back through the coordinates of the proposals. Lesson 14 shows where
# this is
# switched off, and why it is called approximate.

# %% [markdown] tags=["core"]
# ## Summary
#
# - Anchors become proposals in this order: top-N, decode, clip, small ones out, NMS at 0.7, top-R.
# - Proposals are ranked by objectness. Classes come later.
# - NMS: the best box wins and strikes what overlaps it by more than the threshold. A struck box strikes nobody.
# - A box is still there because its IoU is not above the threshold, because its class differs (in the head only), or
#   because its round has not come.
# - At an equal number of boxes NMS gains recall. It costs some boxes that fit better but score lower.
# - NMS before decode leaves duplicates; without clip, boxes reach outside and fit worse; scores upward lose almost
#   all objects.
#
# Next: **14 Training Faster R-CNN**: one trunk, two networks.
#
# ## Glossary
#
# | English | 한국어 | meaning |
# |---|---|---|
# | proposal | 후보 영역 | a box that may hold an object |
# | top-N | 상위 N개 | the N best by score |
# | decode | 디코딩 (보정 적용) | apply four corrections to an anchor |
# | clip | 잘라내기 | cut a box off at the border |
# | non-maximum suppression (NMS) | 비최대 억제 | strike boxes that overlap a better one |
# | threshold | 임곗값 | the IoU above which a box is struck |
# | survivor | 살아남은 박스 | a box that nobody has struck |
# | objectness | 객체성 (물체일 확률) | the probability that a box holds an object |
# | recall | 재현율 | the part of the objects that is reached |
#
# ## References
#
# - Ren, He, Girshick, Sun: *Faster R-CNN*, 2015, [arXiv 1506.01497](https://arxiv.org/abs/1506.01497), section 3.3
# - Girshick and others: *R-CNN*, 2014, [arXiv 1311.2524](https://arxiv.org/abs/1311.2524), section 2.2 (greedy NMS)
#
# The scenes are made of cut-outs of Tux Paint's stamps; `data/scrapbook/CREDITS.csv` names their authors.
