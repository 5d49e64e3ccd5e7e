# %% [markdown] tags=["core"]
# # 09 · Training Fast R-CNN
#
# **The question.** All parts of Fast R-CNN are on the table: pooling (05), heads and loss (06), sampling (07).
# *How do they learn together? And when they have learned: what is still slow?*
#
# **After this lesson you can**
#
# - write the training loop of Fast R-CNN in ten lines, and say what each line does
# - watch a training: what the loss should be at the start, and what a curve with a bug looks like
# - say which layers learn, and measure it
# - compare R-CNN, SPPnet and Fast R-CNN in minutes, seconds and AP
# - compute how much a quicker CNN helps, and say why it helps Fast R-CNN so little
#
# | section | | minutes |
# |---|---|---|
# | 1 One step | core | 5 |
# | 2 Two hundred steps | core | 9 |
# | 3 The learning rate, and the library's loop | core | 7 |
# | 4 What is frozen | core | 4 |
# | 5 Three detectors side by side | core | 4 |
# | 6 Where the time goes now | core | 8 |
# | 7 Does it still use Selective Search? | core | 4 |
# | 8 Plant a bug | core | 4 |
# | 9 Smaller layers by SVD | extra | 8 |
#
# You may leave out what is marked *extra*. Run the cells from top to bottom.

# %%
from rcnnlib.view.notebook import predict, setup, show_source

setup()

# %%
import copy
import inspect
import tempfile
from math import log
from time import perf_counter

import torch

from rcnnlib.checks import check_learning_rate, check_low_rank, check_speedup
from rcnnlib.datasets.coco import scrapbook, wild
from rcnnlib.datasets.proposals import WithProposals, selective_search_boxes
from rcnnlib.datasets.transforms import collate, resize
from rcnnlib.engine.metrics import Record, proposal_recall, voc_map
from rcnnlib.engine.schedules import Schedule
from rcnnlib.models.backbone import backbone
from rcnnlib.models.fast_rcnn import FastRCNN
from rcnnlib.models.roi_heads import given_proposals, truncated_svd
from rcnnlib.models.weights import load_weights
from rcnnlib.types import Batch
from rcnnlib.view.plotting import LINES, STYLES, draw_boxes, figure, name_line, show_image

# %% [markdown] tags=["core"]
# ## 1 · One step
#
# *core · 5 minutes*
#
# We train on **Scrapbook**: cut-outs of animals, food, tools and vehicles, pasted on photos of 320x240 pixels.
# The boxes of Selective Search were computed once and stored with the pictures. This is what the paper does too.
#
# Eighty pictures are enough for a lesson. We leave out pictures without objects: no region of them reaches IoU 0.1,
# so they have neither positives nor background (lesson 07). `collate` puts the eighty into one batch.


# %%
def read(split, count):
    """The first pictures of a split with their stored Selective Search boxes, as a list."""
    found = selective_search_boxes(f"scrapbook_{split}")
    data = WithProposals(scrapbook(split), found)
    return [data[index] for index in range(count)]


# %%
classes = scrapbook("train").class_names
seen = [one for one in read("train", 100) if len(one.boxes)][:80]
learned = collate(seen, seed=0, epoch=0, noise_length=2048)
print("pictures  ", tuple(learned.images.shape))
print("regions   ", given_proposals(learned.proposals).valid.sum().item())
print("objects   ", learned.valid.sum().item(), "of the classes", ", ".join(classes))

# %% [markdown] tags=["core"]
# The **trunk** (the convolutions that make the feature map) is SqueezeNet, as ImageNet left it. For now it does *not* learn.
# So the same picture always gives the same map. We compute all 80 maps once and keep them.
#
# This is why the training below takes seconds, not hours.

# %%
trunk = backbone("squeezenet").eval()


@torch.no_grad()
def features_of(batch):
    """The feature maps of a batch, eight pictures at a time."""
    parts = zip(batch.images.split(8), batch.sizes.split(8), strict=True)
    return torch.cat([trunk(images, sizes) for images, sizes in parts])


maps = features_of(learned)
print("maps", tuple(maps.shape), "-", maps.numel() * 4 // 10**6, "MB")

# %% [markdown] tags=["core"]
# Now the detector. Its head is small, so that it learns quickly: a 1x1 convolution makes 32 channels out of 512, and
# the fully connected layers are 128 wide.
#
# Fast R-CNN takes **N = 2 pictures** a step and **64 regions of each** (paper, 2.3). `take` puts
# pictures into a batch, with new random numbers for the sampler of lesson 07. `pick` draws the two.

# %%
torch.manual_seed(0)
model = FastRCNN(trunk, len(classes), head={"reduced": 32, "width": 128})
head = model.head
print("numbers in the head:", sum(p.numel() for p in head.parameters()))


def take(places):
    """Maps and boxes of some pictures, with new random numbers for the sampler."""
    batch = Batch(*(part[places] for part in learned))
    return maps[places], batch._replace(noise=torch.rand(len(places), 2048))


def pick():
    """Two pictures, drawn at random."""
    return take(torch.randperm(len(maps))[:2])


# %% [markdown] tags=["core"]
# And this is all that happens to two pictures before the gradient. You know every line from lessons 05 to 07.


# %%
def two_losses(head, features, batch):
    """The class term and the box term of a step."""
    regions = given_proposals(batch.proposals)  # Selective Search
    samples = head.sample(regions.boxes, regions.valid, batch, 0)  # 64 of each picture
    pooled = head.pool(features, samples.boxes, batch.sizes)
    scores, deltas = head(pooled)
    return head.losses(scores, deltas, samples)


# %% [markdown] tags=["core"]
# **Toy.** What should the loss be *before* the first step? The head has learned nothing.
# Its last layer is almost zero, so it gives all six answers (five classes and background) the same probability, 1/6.
# The class term is the cross entropy, minus the logarithm of the probability of the right answer.

# %% jupyter={"source_hidden": true}
predict(
    "What is the class term before the first step?",
    ["0", "about 0.5", "about 1.8", "about 6"],
    lambda: f"about {log(6):.1f}",
    "-log(1/6) = log 6 = 1.79. Always check the first loss: a much larger one is a bug.",
)

# %%
class_loss, box_loss = two_losses(head, *pick())
print(f"log 6 = {log(6):.2f}")
print("the class term is within 0.3 of it:", abs(class_loss.item() - log(6)) < 0.3)

# %% [markdown] tags=["core"]
# ## 2 · Two hundred steps
#
# *core · 9 minutes*
#
# The loop, written out. We keep a copy of the head now and then, to look at later.
#
# `schedule.rate_at(step)` is the learning rate; section 3 explains it.

# %%
schedule = Schedule(steps=200, batch=2, rate=1e-3, warmup=20)
optimizer = torch.optim.AdamW(head.parameters(), weight_decay=schedule.weight_decay)
losses, kept = [], {0: copy.deepcopy(head)}

# %%
for step in range(schedule.steps):
    class_loss, box_loss = two_losses(head, *pick())
    optimizer.zero_grad()  # forget the gradient of the last step
    (class_loss + box_loss).backward()
    optimizer.param_groups[0]["lr"] = schedule.rate_at(step)
    optimizer.step()
    losses.append((class_loss.item(), box_loss.item()))
    if step + 1 in (10, 60, 80, 100, 150, 200):
        kept[step + 1] = copy.deepcopy(head)

# %% [markdown] tags=["core"]
# That was a real training. (The paper steps with SGD and momentum; AdamW needs less tuning.)
#
# The loss of a single step depends on its two pictures, so it jumps (pale lines). The strong lines are means of 15 steps.

# %%
from rcnnlib.view.explorers.training_snapshots import Snapshot, TrainingSnapshots, smooth

fig, ax = figure(760, 300, alt="200 steps: the class term falls, the box term hardly")
for term, name in enumerate(("class term", "box term")):
    values = [both[term] for both in losses]
    curve, colour = smooth(values, 15), LINES[term]
    ax.plot(range(1, 201), values, color=colour, alpha=0.25, lw=1, ls="-")
    ax.plot(range(1, 201), curve, color=colour, ls="-")
    name_line(ax, 200, curve[-1] + (-0.06, 0.06)[term], name, colour)
ax.plot([0, 200], [log(6), log(6)], color="black", ls=":", lw=1)
name_line(ax, 200, log(6), "log 6", "black")
ax.set(xlim=(0, 225), ylim=(0, 2), xlabel="step", ylabel="loss")
fig

# %%
first, last = torch.tensor(losses[:20]).mean(0), torch.tensor(losses[-20:]).mean(0)
print("class term: less than half of what it was:", (last[0] < first[0] / 2).item())
print("box term:   less than half of what it was:", (last[1] < first[1] / 2).item())

# %% [markdown] tags=["core"]
# Naming is learned first. Moving the edges takes longer: only the positives teach it, at most a quarter of the regions.
#
# **Do not trust the curve alone.** What does the head find? We ask the kept copies about four pictures:
# A and B are among the 80 that it learns from. C and D are new: they show other cut-outs.


# %%
@torch.no_grad()
def judge(head, features, example, regions):
    """What a head finds in one picture if it is asked about these regions."""
    sizes = torch.tensor([example.image.shape[-2:]], dtype=torch.float32)
    scores, deltas = head(head.pool(features[None], regions[None], sizes))
    exists = torch.ones(1, len(regions), dtype=torch.bool)
    answer = head.detect(regions[None], exists, scores, deltas, sizes, rounds=1000)  # NMS to the end
    rows = answer.valid[0]
    found = answer.boxes[0][rows], answer.scores[0][rows], answer.labels[0][rows]
    return Record(example.id, *found, example.boxes, example.labels, example.ignore)


# %%
new = read("test", 24)
new_maps = features_of(collate(new, seed=0, epoch=0, noise_length=1))
four = [(seen[6], maps[6]), (seen[1], maps[1]), (new[16], new_maps[16]), (new[17], new_maps[17])]
snapshots = [
    Snapshot(step, [judge(each, features, one, one.proposals[:300]) for one, features in four])
    for step, each in kept.items()
]

# %% [markdown] tags=["core"]
# **Look.** Picture A after 100 and after 200 steps, and picture C, which is new. Solid green: objects. Dashed orange:
# what the head found with a score of at least 0.5. Which boxes lie right, and which names are right?

# %%
fig, axes = figure(860, 235, columns=3, alt="A after 100 and 200 steps, C after 200")
for ax, (step, place) in zip(axes, ((100, 0), (200, 0), (200, 2)), strict=True):
    found = dict(snapshots)[step][place]
    good = found.scores >= 0.5
    draw_boxes(show_image(ax, four[place][0].image), found.truth, kind="ground_truth")
    names = [classes[label - 1] for label in found.labels[good].tolist()]
    draw_boxes(ax, found.boxes[good], kind="detection", labels=names)
    ax.set_title(f"{'ABCD'[place]}, step {step}")
fig

# %% [markdown] tags=["core"]
# **Move.** The first slider goes through the kept heads: 0, 10, 60, 80, 100, 150 and 200 steps.
# Before you move it, predict.

# %% jupyter={"source_hidden": true}
predict(
    "After 0 steps, how many detections have a score of at least 0.3?",
    ["none", "a few", "hundreds"],
    "none",
    "Every answer has probability 1/6 = 0.17, which is below 0.3.",
)

# %%
images = [one.image for one, _ in four]
TrainingSnapshots(snapshots, images, classes, losses, alt="A scene of Scrapbook")

# %% [markdown] tags=["core"]
# Try these.
#
# 1. Picture A. When does the first right box appear? When do the wrong ones go?
# 2. Pictures C and D. How far does the same head come there?
# 3. Lower "score from" to 0.05. What has the head learned to say *no* to?
#
# Now with a number. AP50 (lesson 08) is 1 if everything is found and nothing else.

# %% jupyter={"source_hidden": true}
predict(
    "After 200 steps: is the AP50 on the pictures it learned from higher than on new ones?",
    ["about the same", "much higher: more than 1.5 times", "lower"],
    "much higher: more than 1.5 times",
    "80 pictures hold few different animals. The head knows these by heart: it overfits.",
)


# %%
def ap50(head, examples, features):
    """AP50 of a head on pictures, with the first 300 regions of each."""
    pairs = zip(examples, features, strict=True)
    records = [judge(head, each, one, one.proposals[:300]) for one, each in pairs]
    return voc_map(records, len(classes))["mean"]


# %%
known, unknown = ap50(head, seen[:12], maps[:12]), ap50(head, new, new_maps)
print("untrained, pictures it learned from: below 0.1:", ap50(kept[0], seen[:12], maps[:12]) < 0.1)
print("200 steps, pictures it learned from: above 0.4:", known > 0.4)
print("200 steps, new pictures: less than two thirds of that:", unknown < known / 1.5)

# %% [markdown] tags=["core"]
# ### The long-trained one
#
# `load_weights` opens the course's own Fast R-CNN. Its **card** says how it was made. Here the trunk learned too.

# %%
detector = load_weights("fast_rcnn_scrapbook")
print(detector.card["command"], "-", detector.card["steps"]["fast"], "steps of 4 pictures")

# %%
from rcnnlib.engine.experiments import read_result

result = read_result("detectors")
own = result.values["Fast R-CNN"]
print(f"{own['minutes'][0]:.0f} minutes of training on two CPU cores")
print(f"AP50 on all test scenes {own['AP50 Scrapbook'][0]:.2f}")
print(f"AP50 on the photos of Wild {own['AP50 Wild'][0]:.2f}")

# %%
with torch.inference_mode():
    long_maps = [detector.model.trunk(one.image[None])[0] for one in new]
long = ap50(detector.model.head, new, long_maps)
print("on the same 24 new pictures, better than our 200 steps:", long > unknown)

# %% [markdown] tags=["core"]
# ## 3 · The learning rate, and the library's loop
#
# *core · 7 minutes*
#
# The **learning rate** says how far a step goes. The paper trains 30,000 steps at rate 0.001 and 10,000 more at 0.0001
# (2.3). This cut to a tenth is a **drop**: large steps find the valley, small ones find its floor. Later papers added a
# **warm-up**: the head begins with random weights and wild gradients, so the first steps are small.
#
# **Toy.** Eight steps at rate 1. The first three warm up, and the rate drops to a tenth after three quarters of the steps.

# %% jupyter={"source_hidden": true}
predict(
    "Steps are counted from 0. Which steps have the rate 0.1?",
    ["only step 7", "steps 6 and 7", "steps 5, 6 and 7", "none"],
    "steps 6 and 7",
    "Three quarters of 8 is 6. Steps 0 to 5 come before it.",
)

# %%
toy = Schedule(steps=8, rate=1.0, warmup=3, drops=(0.75,))
print("step", *(f"{step:>5}" for step in range(8)))
print("rate", *(f"{toy.rate_at(step):5.2f}" for step in range(8)))

# %% [markdown] tags=["core"]
# ### Your turn: `my_learning_rate`
#
# Give the rate of *every* step, as a tensor. During the warm-up the rate grows evenly, and step number `warmup` is the
# first with the full rate. `drops` holds shares of all steps, for example `(0.75, 0.92)`: from each of them on, the rate
# is a tenth of what it was before.
#
# <details><summary>Hint 1: the warm-up</summary>
# With three warm-up steps the rates are 1/4, 2/4, 3/4, then 4/4. So divide by <code>warmup + 1</code>.
# </details>
#
# <details><summary>Hint 2: not further</summary>
# <code>min(1.0, ...)</code> keeps the rate from growing on.
# </details>
#
# <details><summary>Hint 3: the drops</summary>
# Count how many drops are behind this step: <code>step >= share * steps</code>. Each multiplies the rate by 0.1.
# </details>


# %% tags=["exercise"]
def my_learning_rate(steps, rate, warmup, drops):
    """Return the learning rate of each of ``steps`` steps, a tensor (steps,)."""
    raise NotImplementedError


# %%
check_learning_rate(my_learning_rate)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: step by step.


# %% jupyter={"source_hidden": true}
def learning_rate_by_hand(steps, rate, warmup, drops):
    """Warm-up, then one tenth for each drop that is behind."""
    rates = []
    for step in range(steps):
        now = rate * min(1.0, (step + 1) / (warmup + 1))
        for share in drops:
            if step >= share * steps:
                now = now * 0.1
        rates.append(now)
    return torch.tensor(rates)


# %% [markdown] tags=["core"]
# **The library** keeps these numbers in a `Schedule`. Do loop and library agree?

# %%
cases = [(200, 1.0, 20, (0.75, 0.92)), (40, 2.0, 0, (0.75,)), (7, 1.0, 9, (0.3,))]
for steps, rate, warmup, drops in cases:
    ours = learning_rate_by_hand(steps, rate, warmup, drops)
    theirs = Schedule(steps, rate=rate, warmup=warmup, drops=drops)
    assert torch.allclose(ours, torch.tensor([theirs.rate_at(step) for step in range(steps)]))
print("loop and library agree on three schedules")

# %% [markdown] tags=["core"]
# **Move.** This is the schedule of the long-trained detector: 1500 steps, drops at 0.75 and 0.92, largest rate 0.3
# thousandths. Before you move "step": what is the rate at step 1125?

# %%
from rcnnlib.view.explorers.rate_curve import RateCurve

RateCurve()

# %% [markdown] tags=["core"]
# **The library's loop** is `Trainer`. Its method `advance` takes one step. Is it the same as ours?
# Two equal detectors, the same five pairs of pictures: one learns by our lines, one by the library's.

# %%
from rcnnlib.engine.training import Trainer

ours, theirs = copy.deepcopy(model), copy.deepcopy(model)
theirs.trunk.freeze(5)  # all five blocks of the trunk keep their weights
short = Schedule(steps=5, batch=2, rate=1e-3, warmup=0, drops=())
trainer = Trainer(theirs, short, tempfile.mkdtemp())  # the folder is for checkpoints
optimizer = torch.optim.AdamW(ours.head.parameters(), lr=1e-3, weight_decay=short.weight_decay)

# %%
for _ in range(short.steps):
    features, batch = pick()
    class_loss, box_loss = two_losses(ours.head, features, batch)
    optimizer.zero_grad()
    (class_loss + box_loss).backward()
    optimizer.step()
    row = trainer.advance(batch)
    assert abs(row["head_class"] - class_loss.item()) < 0.02
    assert abs(row["head_box"] - box_loss.item()) < 0.02
print("five steps, twice the same losses (they differ by less than 0.02)")

# %% [markdown] tags=["core"]
# <details><summary>What the library's loop does more</summary>
#
# - It **clips** the gradient: if it is longer than 10, it is shortened. One odd picture cannot throw the weights far away.
# - It stops with a sentence if the loss is no longer a number.
# - It saves weights, optimiser and random numbers every minute. A run that was killed goes on as if nothing had happened.
# - It reads one small vector a step from the GPU, and no more: a GPU that waits for Python is an idle GPU.
# </details>
#
# > **What the notes said.** The lecture notes behind this course say that a Fast R-CNN batch holds the regions of *one* picture.
# > The paper takes N = 2 pictures and R = 128 regions, 64 of each (2.3). One picture a step is the later choice of Faster R-CNN.
#
# You can read it off the shapes of a step:

# %%
features, batch = pick()
regions = given_proposals(batch.proposals)
samples = head.sample(regions.boxes, regions.valid, batch, 0)
pooled = head.pool(features, samples.boxes, batch.sizes)
print("maps   ", tuple(features.shape), " N = 2 pictures")
print("regions", tuple(samples.boxes.shape), "     64 of each, R = 128")
print("pooled ", tuple(pooled.shape))

# %% [markdown] tags=["core"]
# ## 4 · What is frozen
#
# *core · 4 minutes*
#
# Our head learned on a trunk that stood still. Such layers are **frozen**: no gradient, no change. SPPnet freezes all
# convolutions. Fast R-CNN does not have to: the gradient goes back through RoI pooling into the feature map, and on into
# the trunk. This is cheap, because the 128 regions of a step lie on only two maps (2.3).
#
# SqueezeNet has five **blocks**. The course's Fast R-CNN freezes the first two: edges and colours are the same everywhere.
# (The paper freezes conv1 and conv2 of VGG16, section 4.5.)

# %% jupyter={"source_hidden": true}
predict(
    "Blocks 1 and 2 are frozen. Where does the gradient arrive?",
    ["in the head only", "in blocks 3, 4, 5 and the head", "in blocks 1 and 2 only", "everywhere"],
    "in blocks 3, 4, 5 and the head",
    "It comes from the loss, goes through the head and down the trunk, and stops where nobody asks for it.",
)

# %% [markdown] tags=["core"]
# **Move.** Each move is one real forward and backward pass. A bar is the length of the gradient in that part.
# Before you move it, predict: with *all five* blocks frozen, does the bar of the head change?

# %%
from rcnnlib.view.explorers.frozen_blocks import FrozenBlocks

one = collate(new[16:17], seed=0, epoch=0, noise_length=2048)
FrozenBlocks(load_weights("fast_rcnn_scrapbook").model, one)

# %% [markdown] tags=["core"]
# The head's bar stays: freezing saves the way down, it does not change what the head learns in this step.
# Choose "box term": this gradient has also come through RoI pooling into the trunk.
#
# Does it pay to let the trunk learn? In the paper, VGG16 with frozen convolutions reached mAP 61.4, and 66.9 with conv3
# and up learning (4.5; mAP is the mean AP over all classes). The two differ in that alone. Our SPPnet, in the next
# section, is frozen too, but it differs from our Fast R-CNN in more: SVMs and pyramid. So it proves nothing about freezing.

# %% [markdown] tags=["core"]
# ## 5 · Three detectors side by side
#
# *core · 4 minutes*
#
# R-CNN, SPPnet and Fast R-CNN of this course learned from the same scenes, with the same Selective Search boxes and the same
# SqueezeNet. `read_result("detectors")` holds what they cost: measured on test scenes, on one core.

# %%
three = ["R-CNN", "SPPnet", "Fast R-CNN"]
stages = ["proposals s", "features s", "head s", "total s"]


def mean(name, figure):
    """Mean of a figure of a detector over the test scenes."""
    numbers = result.values[name][figure]
    return sum(numbers) / len(numbers)


# %%
print(len(scrapbook("train")), "scenes to learn from,", len(own["total s"]), "test scenes timed")
print("seconds a picture " + "".join(f"{stage:>14}" for stage in stages))
for name in three:
    print(f"{name:<18}" + "".join(f"{mean(name, stage):14.3f}" for stage in stages))

# %% rows="L12 figure"
words, colours = ("Selective Search", "features", "head"), (STYLES["proposal"].colour, *LINES)
fig, ax = figure(760, 210, alt="Seconds a picture by stage:")
left = torch.zeros(3)
for stage, word, colour in zip(stages, words, colours, strict=False):
    wide = torch.tensor([mean(name, stage) for name in three])
    ax.barh(range(3), wide, left=left, height=0.55, color=colour, label=word)
    left = left + wide
for row, name in enumerate(three):
    ax.text(left[row] + 0.03, row, f"{left[row]:.2f} s", va="center")
    fig.alt += f" {name} {left[row]:.2f}, Selective Search {mean(name, stages[0]):.2f};"
ax.set(yticks=range(3), yticklabels=three, ylim=(2.6, -0.6), xlabel="seconds")
ax.set_xlim(0, 1.2 * left.max())
ax.legend(loc="lower right", frameon=False)
fig

# %% [markdown] tags=["core"]
# From R-CNN to SPPnet the *features* shrink: one pass instead of hundreds. From then on the bar is nearly all orange.
#
# And how well do they find?

# %%
files = ("rcnn_scrapbook", "sppnet_scrapbook", "fast_rcnn_scrapbook")
columns = ("minutes", "AP50 Scrapbook", "AP50 Wild")
print(f"{'':<12}{'steps':>7}{'minutes':>9}{'AP50 Scrapbook':>16}{'AP50 Wild':>11}")
for name, file in zip(three, files, strict=True):
    (steps,) = load_weights(file).card["steps"].values()
    minutes, scenes, photos = (result.values[name][column][0] for column in columns)
    print(f"{name:<12}{steps:>7}{minutes:>9.0f}{scenes:>16.2f}{photos:>11.2f}")

# %% [markdown] tags=["core"]
# Read this table with care.
#
# - **Minutes** are those of the steps, and R-CNN took fewer steps. Not counted are the features of all regions
#   for its SVMs: a quarter of an hour more (`data/weights/README.md`). SPPnet is quick here because its trunk does not learn.
# - **AP50.** In the paper Fast R-CNN is the best of the three. Do not expect that order here: on small pictures a region
#   covers few cells of the map, while R-CNN enlarges every crop. (This is a likely reason; we did not test it.)
# - **One training each.** A difference of 0.03 may be chance.
#
# What is certain is the time, and what had to be trained apart. The table of shortcomings, one column further:

# %% rows="L12 experiment"
from rcnnlib.view.shortcomings import shortcomings

shortcomings("Fast R-CNN")

# %% [markdown] tags=["core"]
# Fast R-CNN has one network and one loss: (3) is cured. But (4) only half. The regions still come from a program outside
# the network, on the CPU. It never learns, and no gradient reaches it.

# %% [markdown] tags=["core"]
# ## 6 · Where the time goes now
#
# *core · 8 minutes*
#
# **Toy.** A detector needs 4 seconds: 3 for Selective Search, 1 for the CNN. A GPU makes the CNN 100 times as quick.
# New: 3 + 0.01 seconds. So the whole is 4 / 3.01 = 1.33 times as quick. Not 100 times.
#
# This is **Amdahl's law**: what you do not speed up stays.
#
# ### Your turn: `my_speedup`
#
# `seconds` holds the time of each stage, `factors` how many times as quick each stage gets (1: it stays).
# How many times as quick is the whole?
#
# <details><summary>Hint 1: old and new</summary>
# Compute all seconds before, and all seconds after. Then divide.
# </details>
#
# <details><summary>Hint 2: one stage</summary>
# A stage that gets 100 times as quick takes <code>seconds / 100</code>.
# </details>


# %% tags=["exercise"] rows="L12 exercise"
def my_speedup(seconds, factors):
    """Return old / new seconds, a tensor with one number; both arguments have shape (stages,)."""
    raise NotImplementedError


# %%
check_speedup(my_speedup)

# %% [markdown] tags=["core"]
# **One solution**, collapsed.


# %% jupyter={"source_hidden": true}
def speedup_by_hand(seconds, factors):
    """Stages come one after the other: add them up before and after."""
    old, new = 0.0, 0.0
    for second, factor in zip(seconds.tolist(), factors.tolist(), strict=True):
        old += second
        new += second / factor
    return torch.tensor(old / new)


# %% [markdown] tags=["core"]
# **The library** does it in one line of tensors. They agree:

# %%
from rcnnlib.checks.training import speedup

seconds, factors = torch.rand(50), 1 + 99 * torch.rand(50)
assert torch.allclose(speedup_by_hand(seconds, factors), speedup(seconds, factors))
print(f"the toy: {speedup(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 100.0])):.2f} times as quick")

# %% [markdown] tags=["core"]
# Now with the seconds that we measured. Selective Search runs on the CPU and stays as it is.

# %%
cnn = torch.tensor([1.0, 100.0, 100.0])  # Selective Search, features, head
by_stage = {name: torch.tensor([mean(name, stage) for stage in stages[:3]]) for name in three}
gain = {name: speedup(by_stage[name], cnn) for name in three}

# %% jupyter={"source_hidden": true} rows="L12 predict"
predict(
    "A GPU makes the CNN 100 times as quick. How many times as quick is Fast R-CNN as a whole?",
    ["100 times", "about 20 times", "about 5 times", "less than 2 times"],
    lambda: "less than 2 times" if gain["Fast R-CNN"] < 2 else "about 5 times",
    "Selective Search takes most of its time, and stays. The GPU helps with the rest only.",
)

# %%
for name in three:
    print(f"{name:<11} {gain[name]:.1f} times as quick with a CNN that is 100 times as quick")

# %% [markdown] tags=["core"]
# **Move.** Each bar is the time of *one* detector, 100 %. Make the CNN quicker and see what is left.
# Before you move it: which bar is the last to turn orange? ("regions" begins at the mean of the timed scenes.)

# %% rows="L12 explorer"
from rcnnlib.view.explorers.where_time_goes import Seconds, WhereTimeGoes

measured = {name: Seconds(*each.tolist()) for name, each in by_stage.items()}
WhereTimeGoes(measured, round(mean("Fast R-CNN", "regions")))

# %% [markdown] tags=["core"]
# Try these.
#
# 1. "CNN quicker by" 100. How many seconds does each detector need? How much is Fast R-CNN still ahead of R-CNN?
# 2. Set "regions" to 300 and to 2000. Who pays for more regions?
# 3. 100 pictures: what would you work on next, the CNN or the proposals?
#
# **Live.** One photo, on your machine: first Selective Search, then everything else of Fast R-CNN.

# %% tags=["nbval-ignore-output"] reason="timings differ between machines"
from rcnnlib.ops.selective_search import selective_search

names = [name for _, name in wild().images]
photo = resize(wild()[names.index("bison.jpg")])
start = perf_counter()
boxes = selective_search(photo.image)
middle = perf_counter()
with torch.inference_mode():
    found = detector.model(photo.image[None], torch.tensor([[240.0, 320.0]]), boxes[None])
search, forward = middle - start, perf_counter() - middle
print(f"Selective Search {search:.2f} s, Fast R-CNN {forward:.2f} s")

# %%
assert search > forward
print("Selective Search took longer than the whole network")

# %% [markdown] tags=["core"]
# ## 7 · Does it still use Selective Search?
#
# *core · 4 minutes*
#
# > **Does Fast R-CNN still use Selective Search?**
# > «Fast R-CNN에서도 Selective Search를 하는 건가?»
#
# First we ask the code. What does Fast R-CNN want to be called with?

# %%
print("forward wants:", ", ".join(list(inspect.signature(FastRCNN.forward).parameters)[1:4]))
try:
    detector.model(photo.image[None], torch.tensor([[240.0, 320.0]]))
except TypeError as error:
    print("without regions:", str(error).split(".")[-1])

# %% [markdown] tags=["core"]
# `regions` has no default. Somebody has to bring them. Now the experiment: *the same trained network* on 24 new pictures,
# with four kinds of regions. None. 300 random boxes. The first 300 of Selective Search. And the ground truth itself: the best
# boxes there can be.


# %%
def random_regions(example, count=300):
    """Boxes with two random corners."""
    generator = torch.Generator().manual_seed(example.id)
    corners = torch.rand(count, 2, 2, generator=generator) * torch.tensor([320.0, 240.0])
    return torch.cat((corners.amin(1), corners.amax(1)), dim=1)


sources = {
    "none": lambda one: torch.zeros(0, 4),
    "random": random_regions,
    "Selective Search": lambda one: one.proposals[:300],
    "ground truth": lambda one: one.boxes,
}

# %% jupyter={"source_hidden": true}
predict(
    "The head corrects boxes. Does it find as much from 300 random boxes as from 300 of Selective Search?",
    ["nothing at all", "some, but less", "just as much"],
    "some, but less",
    "A random box that happens to lie well is as good as any. But few do.",
)

# %%
records = {name: [] for name in sources}
for name, regions in sources.items():
    for one, features in zip(new, long_maps, strict=True):
        records[name].append(judge(detector.model.head, features, one, regions(one)))

# %% rows="Q1 experiment"
print(f"{'regions':<18}{'recall 0.5':>12}{'recall 0.7':>12}{'AP50':>8}")
for name, regions in sources.items():
    given, truths = [regions(one) for one in new], [one.boxes for one in new]
    recall = proposal_recall(given, truths, thresholds=torch.tensor([0.5, 0.7])).tolist()
    score = voc_map(records[name], len(classes))["mean"]
    print(f"{name:<18}{recall[0]:>12.2f}{recall[1]:>12.2f}{score:>8.1f}")

# %% [markdown] tags=["core"]
# **Answer.** Yes. Fast R-CNN does not find regions, it judges those that it is given. Without regions it finds nothing,
# and with worse regions it finds less. Only Faster R-CNN brings its own.
#
# The last row is a limit: even with perfect regions AP50 stays far below 1. Better proposals cannot give what is missing
# there: it is the head that errs.
#
# > **답.** 네, Fast R-CNN도 Selective Search가 찾은 박스를 입력으로 받으며, 박스를 주지 않으면 아무것도 검출하지 못합니다.
# > CNN은 이미지에 한 번만 적용하지만 영역 제안은 여전히 네트워크 밖(CPU)에서 하고, 이것을 네트워크 안으로 옮긴 것이 Faster R-CNN의 RPN입니다.
#
# **Move.** Now *you* are Selective Search. Drag your box over an object: the head names it and corrects it.
# Then choose another source in the menu. (Your box turns grey: it is not asked.)
#
# At the start the best IoU of your box is below 0.5, and still the bear is found: the head has moved the edges.
# Before you drag: how badly may your box lie before the head no longer finds it?

# %% rows="Q1 explorer, L12 explorer"
from rcnnlib.view.explorers.region_sources import RegionSources

given = {name: regions(new[16]) for name, regions in sources.items() if name != "ground truth"}
yours = (150, 160, 240, 215)
RegionSources(detector.model, new[16], given, classes, yours, alt="A scene of Scrapbook")

# %% [markdown] tags=["core"]
# ## 8 · Plant a bug
#
# *core · 4 minutes*
#
# Training rarely stops with an error. It just learns badly, and the curve is all you have. Here are three mistakes that
# people make. Each gets 60 steps, from the same start.
#
# - **none**: the right training, the one that you saw, up to step 60
# - **no zero_grad**: the gradients of all steps pile up
# - **rate x 30**: and no warm-up
# - **raw deltas**: the box targets are not divided by (0.1, 0.1, 0.2, 0.2) (lesson 06)

# %%
STD = torch.tensor([0.1, 0.1, 0.2, 0.2])
BUGS = ("none", "no zero_grad", "rate x 30", "raw deltas")


def bugged_losses(head, features, batch, bug):
    """As two_losses, with or without normalised targets."""
    regions = given_proposals(batch.proposals)
    samples = head.sample(regions.boxes, regions.valid, batch, 0)
    if bug == "raw deltas":
        samples = samples._replace(targets=samples.targets * STD)
    return head.losses(*head(head.pool(features, samples.boxes, batch.sizes)), samples)


# %%
def train(bug, steps=60):
    """Train a copy of the first head; return it and its losses."""
    torch.manual_seed(0)  # the same pictures for all
    fresh, curve = copy.deepcopy(kept[0]), []
    optimizer = torch.optim.AdamW(fresh.parameters(), lr=0.03)
    for step in range(steps):
        class_loss, box_loss = bugged_losses(fresh, *pick(), bug)
        if bug != "no zero_grad":
            optimizer.zero_grad()
        (class_loss + box_loss).backward()
        if bug != "rate x 30":
            optimizer.param_groups[0]["lr"] = schedule.rate_at(step)
        optimizer.step()
        curve.append((class_loss.item(), box_loss.item()))
    return fresh, curve


# %%
trained = {"none": (kept[60], losses[:60])} | {bug: train(bug) for bug in BUGS[1:]}

# %% jupyter={"source_hidden": true}
predict(
    "Which training ends with the smallest loss (both terms together)?",
    BUGS,
    lambda: min(BUGS, key=lambda bug: sum(map(sum, trained[bug][1][-20:]))),
    "Raw targets are 5 to 10 times smaller, so their box term is tiny. That does not make the boxes better.",
)

# %% [markdown] tags=["core"]
# **Switch** the bugs on, one after the other. Dotted grey: the right training.

# %%
from rcnnlib.view.explorers.loss_curves import LossCurves

LossCurves({bug: seen for bug, (_, seen) in trained.items()})

# %% [markdown] tags=["core"]
# Two of them shout: with "no zero_grad" the class term does not fall, with "rate x 30" both terms explode at first.
# **"Raw deltas" hides.** Its box term is the lowest of all four. So look at the boxes: do the regions fit their objects
# better or worse (mean IoU) after the correction?

# %%
from rcnnlib.ops.box_coder import HEAD_STD, decode
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.losses import class_deltas


@torch.no_grad()
def gain_in_iou(head, std):
    """Mean IoU of positive regions with their objects after the correction, minus before."""
    features, batch = take(torch.arange(24))
    regions = given_proposals(batch.proposals)
    samples = head.sample(regions.boxes, regions.valid, batch, 0)
    _, deltas = head(head.pool(features, samples.boxes, batch.sizes))
    truth = decode(samples.targets, samples.boxes, std=HEAD_STD)
    moved = decode(class_deltas(deltas, samples.labels), samples.boxes, std=std)
    rows = samples.labels > 0
    pairs = [box_iou(each[rows], truth[rows]).diagonal().mean() for each in (moved, samples.boxes)]
    return (pairs[0] - pairs[1]).item()


# %%
right = gain_in_iou(trained["none"][0], HEAD_STD)
raw = gain_in_iou(trained["raw deltas"][0], (1, 1, 1, 1))
low = {bug: sum(box for _, box in trained[bug][1][-20:]) / 20 for bug in BUGS}
print("raw deltas: box term below a tenth of the right one:", low["raw deltas"] < low["none"] / 10)
print("right: boxes stay about as good (within 0.03):      ", abs(right) < 0.03)
print("raw deltas: boxes get worse by more than 0.03:      ", raw < -0.03)

# %% [markdown] tags=["core"]
# After 60 steps the right head does not improve boxes yet, but it does no harm. The other one does. Its box term is so
# small that the shared layers learn for the class term alone. **A low loss is no proof.** Look at boxes, and at AP.

# %% [markdown] tags=["extra"]
# ## 9 · Smaller layers by SVD
#
# *extra · 8 minutes*
#
# With 2000 regions a picture the fully connected layers take long: nearly half of the forward pass in the paper (3.1).
# A **singular value decomposition** (SVD) writes a matrix as a product, $W = U S V$, with $S$ a diagonal of *singular values*,
# largest first. The small ones hardly matter. Cut them off, keep `rank` of them, and one layer becomes two thin ones.
#
# **Toy.** A layer with 100 inputs and 80 outputs has 100 · 80 = 8000 weights. With rank 10 there are two layers:
# 100 · 10 and 10 · 80.

# %% jupyter={"source_hidden": true}
predict(
    "How many weights do the two layers have?",
    ["800", "1800", "8000", "8800"],
    lambda: str(sum(part.weight.numel() for part in truncated_svd(torch.nn.Linear(100, 80), 10))),
    "1000 + 800: rank times (inputs + outputs).",
)

# %% [markdown] tags=["extra"]
# ### Your turn: `my_low_rank`
#
# Take a weight (outputs, inputs) and a rank. Give back the *product* of the two thin matrices: what is left of the weight.
#
# <details><summary>Hint 1: the decomposition</summary>
# <code>u, s, v = torch.linalg.svd(weight, full_matrices=False)</code>. Here <code>v</code> is turned over already:
# weight = u · diag(s) · v.
# </details>
#
# <details><summary>Hint 2: cut</summary>
# Columns of u, numbers of s, rows of v: keep the first <code>rank</code> of each.
# </details>


# %% tags=["exercise"]
def my_low_rank(weight, rank):
    """Return the part of ``weight`` that its ``rank`` largest singular values make, same shape."""
    raise NotImplementedError


# %%
check_low_rank(my_low_rank)

# %% [markdown] tags=["extra"]
# **One solution**, collapsed: direction by direction.


# %% jupyter={"source_hidden": true}
def low_rank_by_hand(weight, rank):
    """Add up one column times one row for each singular value that is kept."""
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    total = torch.zeros_like(weight)
    for place in range(rank):
        total += s[place] * torch.outer(u[:, place], v[place])
    return total


# %% [markdown] tags=["extra"]
# **The library** makes two layers: `truncated_svd`. Their product is what the loop gives.

# %%
layer = torch.nn.Linear(30, 20)
first, second = truncated_svd(layer, 7)
product = (second.weight @ first.weight).detach()
assert torch.allclose(low_rank_by_hand(layer.weight.detach(), 7), product, atol=1e-5)
print(tuple(layer.weight.shape), "->", tuple(first.weight.shape), "and", tuple(second.weight.shape))

# %%
show_source(truncated_svd, docstring=False)

# %% [markdown] tags=["extra"]
# **Move.** The long-trained head, asked about 300 regions of one picture. How low can the rank go before it changes its mind?

# %%
from rcnnlib.view.explorers.svd_rank import SVDRank

sizes = torch.tensor([[240.0, 320.0]])
with torch.no_grad():
    pooled = detector.model.head.pool(long_maps[16][None], new[16].proposals[None, :300], sizes)[0]
SVDRank(detector.model.head, pooled, rank=8)

# %% [markdown] tags=["extra"]
# But most of these regions are background, so "same class" is easy. The paper looks at mAP and time. So do we:
# the first layer, whole and cut to rank 64.

# %% tags=["nbval-ignore-output"] reason="timings differ between machines"
whole = detector.model.head.mlp.fc6
thin, vectors, spent = truncated_svd(whole, 64), pooled.flatten(1), {}
for name, each in (("whole", whole), ("rank 64", thin)):
    start = perf_counter()
    with torch.inference_mode():
        for _ in range(10):
            each(vectors)
    spent[name] = perf_counter() - start
print(", ".join(f"{name}: {100 * seconds:.1f} ms" for name, seconds in spent.items()))

# %%
assert spent["rank 64"] < spent["whole"]
weights = sum(part.weight.numel() for part in thin)
print(f"rank 64 is quicker, and has {weights / whole.weight.numel():.2f} of the weights")
cut = copy.deepcopy(detector.model.head)
cut.mlp.fc6 = thin
print("AP50 moves by less than 0.05:", abs(ap50(cut, new, long_maps) - long) < 0.05)

# %% [markdown] tags=["core"]
# ## The paper said, we measured
#
# The paper's seconds and hours are those of VGG16 on a K40 GPU, ours of SqueezeNet on one CPU core. So compare *ratios* and *orders* only.

# %%
test = {name: mean(name, "total s") - mean(name, "proposals s") for name in three}
minutes = {name: result.values[name]["minutes"][0] for name in three}
fast = "Fast R-CNN"
for name in three[:2]:
    print(f"test, without proposals: {name} / {fast} = {test[name] / test[fast]:.1f}")
    print(f"minutes of training:     {name} / {fast} = {minutes[name] / minutes[fast]:.1f}")
share = mean(fast, "proposals s") / mean(fast, "total s")
print(f"Selective Search's share of {fast}'s time = {share:.2f}")

# %% [markdown] tags=["core"]
# | Fast R-CNN paper (VGG16, 4.4 and 4.5) | ratio there | ours |
# |---|---|---|
# | test without proposals: R-CNN 47.0 s, Fast R-CNN 0.32 s | 147 (the paper says 146) | R-CNN is slower here too; a smaller ratio, for we have fewer regions and a smaller network |
# | test: SPPnet 2.3 s, Fast R-CNN 0.32 s | 7 | smaller: our SPPnet looks at one size of the picture, the paper's at five |
# | training: R-CNN 84 h, Fast R-CNN 9.5 h | 9 | see above; ours took fewer steps (section 5), so this ratio says little |
# | training: SPPnet 25.5 h, Fast R-CNN 9.5 h | 2.7 | **the other way round**: the paper's SPPnet writes features to disk, ours does not; and our minutes leave its SVMs out |
# | frozen convolutions 61.4, learning 66.9 | learning is better | not measured (section 4) |
# | truncated SVD: 0.32 to 0.22 s, mAP 66.9 to 66.6 | 1.5 times as quick | the layer is quicker, AP50 nearly the same (section 9) |
#
# (The Faster R-CNN paper gives Selective Search 1510 of the 1830 ms of Fast R-CNN: also most of the time.)

# %% [markdown] tags=["core"]
# ## Summary
#
# - A step: two pictures, 64 regions of each, pool, head, two losses, one gradient.
# - Before the first step the class term is log(classes + 1). Check it.
# - A head on frozen features learns in seconds; it knows its own pictures far better than new ones.
# - Freezing saves time. Fast R-CNN lets the upper layers of the trunk learn, because the gradient passes RoI pooling.
# - Of the four shortcomings three are cured, the last one half: Selective Search runs outside.
# - It takes most of the time: even a CNN that is 100 times as quick helps Fast R-CNN little.
# - A low loss proves nothing: look at boxes and AP.
#
# So the next step is clear: **let the network find the regions itself.** It begins in lesson 10.
#
# ## Glossary
#
# | English | 한국어 | meaning |
# |---|---|---|
# | step, iteration | 학습 스텝 | one batch, one gradient, one change of the weights |
# | learning rate | 학습률 | how far a step goes |
# | warm-up | 워밍업 | small steps at the beginning |
# | drop (of the rate) | 학습률 감소 | from this step on, a tenth of the rate |
# | frozen | 동결(고정)된 | does not learn |
# | snapshot, checkpoint | 체크포인트 | weights kept during training |
# | overfitting | 과적합 | good on what was learned, bad on what is new |
# | region proposal | 영역 제안 | a box that may hold an object |
# | Amdahl's law | 암달의 법칙 | what is not sped up stays |
# | singular value | 특잇값 | how much a direction of a matrix counts |
#
# ## References
#
# - Girshick: *Fast R-CNN*, 2015, [arXiv 1504.08083](https://arxiv.org/abs/1504.08083): 2.3 training, 3.1 SVD, 4.4 time, 4.5 layers
# - He, Zhang, Ren, Sun: *Spatial pyramid pooling ...* (SPPnet), 2014, [arXiv 1406.4729](https://arxiv.org/abs/1406.4729)
# - Ren, He, Girshick, Sun: *Faster R-CNN*, 2015, [arXiv 1506.01497](https://arxiv.org/abs/1506.01497)
# - Amdahl: *Validity of the single processor approach ...*, AFIPS 1967
# - Warm-up: Goyal and others: *Accurate, large minibatch SGD*, 2017, [arXiv 1706.02677](https://arxiv.org/abs/1706.02677)
#
# The photos are public domain or CC0; `data/wild/CREDITS.csv` names their authors.
# The scenes are made of cut-outs of Tux Paint's stamps (GPL 2 or later); `data/scrapbook/CREDITS.csv` names their authors.
