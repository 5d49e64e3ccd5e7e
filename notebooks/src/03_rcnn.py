# %% [markdown] tags=["core"]
# # 03 · R-CNN
#
# **The question.** You have a program that proposes regions, and a network that names pictures.
# *How do the two become a detector, and what is wrong with the result?*
#
# **After this lesson you can**
#
# - say what R-CNN does with a region, step by step
# - *warp* a region, with the context around it
# - name the three things that R-CNN learns, and say which regions each of them learns from
# - move a box with four numbers, and find the four numbers that lead from one box to another
# - measure the four shortcomings of R-CNN, which the rest of the course repairs
#
# | section | | minutes |
# |---|---|---|
# | 1 From naming to finding | core | 4 |
# | 2 Every region becomes a square | core | 8 |
# | 3 Three learners, three training sets | core | 6 |
# | 4 Scores: a support vector machine | core | 5 |
# | 5 Moving a box | core | 9 |
# | 6 Who predicts the four numbers? | extra | 6 |
# | 7 The whole detector | core | 3 |
# | 8 The bill: four shortcomings | core | 7 |
# | 9 A question of the student | core | 3 |
#
# You may leave out what is marked *extra*.

# %%
from rcnnlib.view.notebook import predict, setup, show_source

setup()

# %%
import torch
from torch.nn.functional import interpolate

from rcnnlib.checks import check_decode, check_encode, check_svm_label, check_warp
from rcnnlib.datasets.coco import wild
from rcnnlib.datasets.proposals import selective_search_boxes
from rcnnlib.models.weights import load_weights
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.roi_ops import warp
from rcnnlib.view.plotting import LINES, draw_boxes, figure, name_line, show_image, show_map

# %% [markdown] tags=["core"]
# ## 1 · From naming to finding
#
# *core · 4 minutes*
#
# Two tools lie on the table. Selective Search proposes regions (lesson 02), but it cannot name them.
# A CNN, a network of convolutions, names a picture (lesson 00), but it cannot say where.
#
# **R-CNN**, *regions with CNN features*, joins them. The paper appeared in 2014. These are its steps:
#
# 1. **Regions.** Selective Search proposes about 2000 boxes (R-CNN 2.1).
# 2. **Warp.** Each region is cut out and stretched to a square of one size.
# 3. **Features.** A CNN turns each square into a vector, a row of numbers. These are the *features* of the region.
# 4. **Scores.** For each class a *support vector machine* (SVM) gives the vector a score.
# 5. **Boxes.** For each class a *box regressor* moves the box a little.
# 6. **Duplicates.** If two boxes show the same object, the one with the lower score goes (lesson 08).
#
# The course has such a detector. It is smaller than the one of the paper, so that you can run it here.
#
# | | paper | ours |
# |---|---|---|
# | CNN | AlexNet or VGG16, two networks of that time | SqueezeNet, as in lesson 00 |
# | square | 227 x 227 pixels (AlexNet) | 112 x 112 |
# | features | 4096 numbers | 192 |
# | classes | 20 (VOC) | 5 |
# | learned on | photos of PASCAL VOC | Scrapbook: 600 pictures of cut-outs, pasted on photos |

# %%
detector = load_weights("rcnn_scrapbook")
model, classes = detector.model, detector.spec.classes
print("classes:", ", ".join(classes))
print("square:", model.crop, "x", model.crop, "pixels")

# %% [markdown] tags=["core"]
# The photos of Wild are real, and the detector has never seen one. Here is one with five horses.
# Their regions were computed beforehand and stored.

# %%
photos = wild()
places = {name.removesuffix(".jpg"): place for place, (_, name) in enumerate(photos.images)}
regions = selective_search_boxes("wild")
horse = photos[places["horse"]]
found = regions[horse.id]
print("objects", len(horse.boxes), "· regions", len(found))

# %% jupyter={"source_hidden": true} rows="L1 predict"
predict(
    "How many squares does the CNN of R-CNN look at, for this one photo?",
    ["1", "5", "200", "1354"],
    lambda: str(len(found)),
    "One for each region.",
)

# %% [markdown] tags=["core"]
# We send the first 200 through the detector. (`no_grad` means: we only ask, nothing is learned. The photo is made
# smaller, 320 pixels wide, as in training.)

# %%
from rcnnlib.datasets.transforms import collate, resize

small = resize(horse._replace(proposals=found[:200]), detector.spec.longer_side)
batch = collate([small], seed=0, epoch=0, noise_length=512)  # the rest is for training
with torch.no_grad():
    stages = model.stages(batch.images, batch.sizes, batch.proposals)
    vectors = model.head.describe(stages.pooled)

# %% [markdown] tags=["core"]
# `stages` holds every step. Read the shapes: one photo, 200 regions.

# %%
print("features ", tuple(vectors.shape))
print("scores   ", tuple(stages.class_scores.shape), "  5 classes, after a 0 for the background")
print("boxes    ", tuple(stages.box_deltas.shape), "4 numbers for each class")

# %% [markdown] tags=["core"]
# **Look.** Four of the 200 regions, and what becomes of each.

# %%
shown = [128, 35, 46, 87]
crops = warp(batch.images[0], batch.proposals[0, shown], model.crop, context=model.context)
scores = stages.class_scores[0, shown, 1:].sigmoid()
fig, ax = figure(290, 188, alt=f"Five horses, and the regions number {shown}")
draw_boxes(show_image(ax, horse.image), found[shown], kind="proposal", labels=shown)
fig

# %% rows="L1 figure"
fig, axes = figure(640, 310, rows=3, columns=4, alt="Four regions in R-CNN;")
rows = zip(axes.T, shown, crops, vectors[0, shown], scores, strict=True)
for (top, middle, bottom), number, crop, vector, score in rows:
    show_image(top, crop).set_title(f"region {number}")
    show_map(middle, vector.view(8, 24)).set_title("features")
    bottom.barh(classes, score, color=LINES[0])
    bottom.set(xlim=(0, 1), title="scores")
    bottom.invert_yaxis()
    fig.alt += f" {number}: {classes[score.argmax()]} {score.max():.2f};"
fig

# %% [markdown] tags=["core"]
# From top to bottom this is R-CNN. (The *score* is the sigmoid of what the SVM says: between 0 and 1, and 0.5 is
# where the SVM changes from no to yes. It is no probability.)

# %% [markdown] tags=["core"]
# ## 2 · Every region becomes a square
#
# *core · 8 minutes*
#
# Regions have all sizes and shapes. But the last layers of a CNN are *fully connected*: they take a fixed number of
# inputs. So R-CNN stretches every region to the same square, whatever its shape. This is called to **warp**.
#
# It also shows some of the surroundings, the **context**: in the paper 16 pixels of the 227 on each side
# (R-CNN, appendix A).
#
# **Toy.** One row of a photo. Each pixel holds its own x. A region goes from x = 20 to x = 60.
# We warp it to 8 pixels, without context. At which x does each of the 8 look?

# %%
ruler = (torch.arange(100) + 0.5).expand(1, 40, 100)
region = torch.tensor([[20.0, 0, 60, 40]])
print(*(f"{x:.1f}" for x in warp(ruler, region, 8, context=0, fill=(0.0,))[0, 0, 4]))

# %% [markdown] tags=["core"]
# Steps of 5: 40 pixels of the photo are shared out among 8. Now with context 2. Two pixels of the crop on the left,
# and two on the right, belong to the surroundings. (A *crop* is a piece that was cut out.)

# %% jupyter={"source_hidden": true}
reach = warp(ruler, region, 8, context=2, fill=(0.0,))[0, 0, 4]
predict(
    "The crop still has 8 pixels. From which x to which does it reach now?",
    ["20 to 60", "18 to 62", "10 to 70", "0 to 80"],
    lambda: f"{reach[0] - (reach[1] - reach[0]) / 2:.0f} to {reach[-1] + (reach[1] - reach[0]) / 2:.0f}",
    "The region has only 4 pixels left. So each stands for 10 pixels of the photo, and the context is 2 x 10.",
)

# %%
print(*(f"{x:.1f}" for x in warp(ruler, region, 8, context=2, fill=(0.0,))[0, 0, 4]))

# %% [markdown] tags=["core"]
# The context counts pixels **of the crop**. So a large region shows many pixels of its surroundings, a small one few.
#
# ### Your turn: `my_warp`
#
# Warp one region: `image` is (C, H, W), `box` is (4,), the answer is (C, size, size).
# What lies outside the photo becomes grey, 0.5. (R-CNN takes the mean colour of all photos.)
# You may round: the check takes care that all edges fall on whole pixels.
#
# <details><summary>Hint 1: one step</summary>
# How many pixels of the photo is one pixel of the crop? The box has <code>size - 2 * context</code> pixels of the crop.
# Do it for x and for y: the two steps may differ.
# </details>
#
# <details><summary>Hint 2: what to cut out</summary>
# It begins <code>context</code> steps to the left of the box, and is <code>size</code> steps wide.
# </details>
#
# <details><summary>Hint 3: outside the photo</summary>
# Make a grey sheet of that size, <code>torch.full((C, high, wide), 0.5)</code>. Copy onto it what the photo has: in x
# from <code>max(left, 0)</code> to <code>min(left + wide, W)</code>, and the same in y.
# </details>
#
# <details><summary>Hint 4: stretch</summary>
# <code>interpolate(sheet[None], (size, size), mode="bilinear")[0]</code>. (<code>bilinear</code> mixes neighbours.)
# </details>


# %% tags=["exercise"] rows="L1 exercise"
def my_warp(image, box, size, context):
    """Return the region box (4,) of image (C, H, W), with context, as a crop (C, size, size)."""
    raise NotImplementedError


# %%
check_warp(my_warp)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: a grey sheet, the pixels that exist, one stretch.


# %% jupyter={"source_hidden": true}
def warp_by_hand(image, box, size, context):
    x1, y1, x2, y2 = box.tolist()
    step_x, step_y = (x2 - x1) / (size - 2 * context), (y2 - y1) / (size - 2 * context)
    left, top = round(x1 - context * step_x), round(y1 - context * step_y)
    sheet = torch.full((len(image), round(size * step_y), round(size * step_x)), 0.5)
    for row in range(sheet.shape[1]):
        for column in range(sheet.shape[2]):
            y, x = top + row, left + column
            if 0 <= y < image.shape[1] and 0 <= x < image.shape[2]:
                sheet[:, row, column] = image[:, y, x]
    return interpolate(sheet[None], (size, size), mode="bilinear")[0]


# %% [markdown] tags=["core"]
# **The library** has `warp`, for all regions of a photo at once. Do the two agree? Twenty random regions:

# %%
noise = torch.rand(3, 60, 80)
for _ in range(20):
    step, corner = torch.randint(1, 4, (2,)), torch.randint(0, 6, (2,))
    box = torch.cat((corner * step, (corner + 8) * step)).float()
    quick = warp(noise, box[None], 12, context=2, fill=(0.5, 0.5, 0.5))[0]
    assert torch.allclose(warp_by_hand(noise, box, 12, 2), quick, atol=1e-5)
print("loop and library agree")

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# For each pixel of each crop the library computes <b>where in the photo it looks</b>. All these places of all regions
# are one tall table. One call, <code>grid_sample</code>, looks them all up. Nothing is cut out, nothing is copied,
# and an edge may lie between two pixels.
# </details>
#
# **Look.** A long region and a high one.

# %%
shapes = {"narwhal": [20, 140, 352, 201], "owl": [340, 87, 511, 405]}
fig, axes = figure(520, 250, rows=2, columns=3, alt="Two regions, warped;")
for (left, middle, right), (name, box) in zip(axes, shapes.items(), strict=True):
    image, box = photos[places[name]].image, torch.tensor([box]).float()
    draw_boxes(show_image(left, image), box, kind="proposal")
    show_image(middle, warp(image, box, 227, context=0)[0]).set_title("context 0")
    show_image(right, warp(image, box, 227, context=16)[0]).set_title("context 16")
    width, height = (box[0, 2:] - box[0, :2]).tolist()
    fig.alt += f" {name}, {width / height:.2f} times as wide as high;"
fig

# %% [markdown] tags=["core"]
# The CNN never learns that the narwhal was long: it sees a square.
#
# **Move.** Below you will drag the orange region, and change the context. (Here the crop has 224 pixels.) You see the
# crop, two names from ImageNet, and the scores of our detector. At the start a duck fills the region. First predict.

# %%
from rcnnlib.models.backbone import squeezenet
from rcnnlib.view.explorers.warped_crop import WarpedCrop

duck = photos[places["duck"]]
start = torch.cat((torch.tensor([[72.0, 120, 528, 552]]), duck.boxes))
networks = {"net": squeezenet(), "model": model, "classes": classes}
exhibit = WarpedCrop(duck.image, start, **networks, alt="A duck, a region to drag")


# %%
def score_with_context(context):
    """The score of the class bird for the region as it lies at the start."""
    scores = exhibit.compute(boxes=start, context=context)["scores"]
    return scores[classes.index("bird")].item()


# %% jupyter={"source_hidden": true}
def trend(change, step):
    """Say in words whether a number rose or fell by more than a step."""
    if abs(change) <= step:
        return "changes less than that"
    return f"{'rises' if change > 0 else 'falls'} by more than {step}"


predict(
    "The context grows from 16 to 56 of 224 pixels. The score of “bird” ...",
    ["rises by more than 0.1", "changes less than that", "falls by more than 0.1"],
    lambda: trend(score_with_context(56) - score_with_context(16), 0.1),
    "The detector learned with 16 of 224. With 56, the region is only half as wide as the crop.",
)

# %%
for context in (0, 16, 32, 56):
    print(f"context {context:>2}: bird {score_with_context(context):.2f}")

# %% rows="L1 explorer"
exhibit

# %% [markdown] tags=["core"]
# Try these.
#
# 1. Make the region twice as wide as high, around the body. Is it still a bird? What do the names say?
# 2. Pull it around the head alone. Which of the two networks still knows what it is?
# 3. Move it to the water. Which class wins, and with which score?
#
# The paper tried other ways to crop, too. Warping with context was the best of them, by 3 to 5 points of *mAP*
# (R-CNN, appendix A; mAP, from 0 to 100, says how good a detector is: lesson 08).

# %% [markdown] tags=["core"]
# ## 3 · Three learners, three training sets
#
# *core · 6 minutes*
#
# Three things in R-CNN learn, one after the other:
#
# 1. the **CNN**. It comes from ImageNet and learns a little more on our classes. This is called *fine-tuning*.
# 2. an **SVM** for each class, on the features of the finished CNN.
# 3. a **box regressor** for each class, too.
#
# Each of them has a training set of its own. What decides is the IoU of a region with the objects (lesson 01).
#
# | learner | positive | negative | not used | paper |
# |---|---|---|---|---|
# | CNN, fine-tuning | IoU ≥ 0.5 | all others | – | 2.3 |
# | SVM of a class | the objects themselves | IoU < 0.3 with every object of the class | the rest | 2.3 |
# | regressor of a class | IoU > 0.6 | – | the rest | appendix C |
#
# **Toy.** The library has a function for each row of this table. We ask about a region with IoU 0.55.

# %%
from rcnnlib.models.svm import fine_tuning_set, regressor_set, svm_set

iou, real = torch.tensor([[0.55]]), torch.ones(1, dtype=torch.bool)  # one region, one object
label, own = torch.tensor([1]), torch.tensor([0])  # class of the object; the region is none
word = {1: "positive", 0: "negative", -1: "not used"}
roles = [
    word[fine_tuning_set(iou, real).status.item()],
    word[svm_set(iou, label, own, 1).item()],
    word[regressor_set(iou, real).status.item()],
]

# %% jupyter={"source_hidden": true} rows="L1 predict"
predict(
    "IoU 0.55. What is this region for the CNN, for the SVM, and for the regressor?",
    [
        "positive, positive, positive",
        "positive, negative, not used",
        "positive, not used, not used",
        "negative, not used, positive",
    ],
    lambda: ", ".join(roles),
    "0.55 is at least 0.5. But it is not below 0.3, not an object itself, and not above 0.6.",
)

# %% [markdown] tags=["core"]
# ### Your turn: `my_svm_label`
#
# Label regions for the SVM of **one** class. `iou` is (N, M): N regions against the M objects of that class.
# `is_object` is (N,): true where a region is itself one of the objects.
# Give 1 to the objects, 0 to the negatives, -1 to what is not used.
#
# <details><summary>Hint 1: one row</summary>
# A region is a negative if its <b>largest</b> IoU is below 0.3.
# </details>
#
# <details><summary>Hint 2: order</summary>
# First decide between 0 and -1 for all. Then write 1 where <code>is_object</code> is true.
# </details>


# %% tags=["exercise"]
def my_svm_label(iou, is_object):
    """Return (N,), for each region 1 (object), 0 (negative) or -1 (not used); iou is (N, M)."""
    raise NotImplementedError


# %%
check_svm_label(my_svm_label)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: the sentence of the paper, region by region.


# %% jupyter={"source_hidden": true}
def svm_label_by_hand(iou, is_object):
    labels = []
    for row, own in zip(iou, is_object, strict=True):
        if own:
            labels.append(1)
        elif all(value < 0.3 for value in row):
            labels.append(0)
        else:
            labels.append(-1)
    return torch.tensor(labels)


# %% [markdown] tags=["core"]
# **The library** labels for all classes at once. Here it gets one class, and 300 random rows.

# %%
table, own = torch.rand(300, 4) ** 3, torch.arange(300) >= 296
library = svm_set(table, torch.ones(4, dtype=torch.int64), own.long(), 1)[:, 0]
assert torch.equal(svm_label_by_hand(table, own), library)
print("loop and library agree:", {word[n]: (library == n).sum().item() for n in word})

# %% [markdown] tags=["core"]
# **Look.** The 1354 regions of the five horses. Which of them are positives? (Only every twelfth is drawn. The positives
# of the SVM are the five objects themselves.)

# %%
table, real = box_iou(found, horse.boxes), torch.ones(5, dtype=torch.bool)
teaches = {
    "CNN: IoU ≥ 0.5": found[fine_tuning_set(table, real).status == 1],
    "regressor: IoU > 0.6": found[regressor_set(table, real).status == 1],
}
fig, axes = figure(460, 170, columns=2, alt="Positives of two sets;")
for ax, (title, boxes) in zip(axes, teaches.items(), strict=True):
    draw_boxes(show_image(ax, horse.image), boxes[::12], kind="proposal")
    ax.set_title(f"{title}: {len(boxes)}")
    fig.alt += f" {title}: {len(boxes)};"
fig

# %% [markdown] tags=["core"]
# Why so different? The authors give reasons:
#
# - The CNN has many weights and few objects. Regions *around* an object give it about 30 times as many positives
#   (R-CNN, appendix B).
# - The SVM should say "here exactly", not "near here". So it learns from the exact boxes (appendix B).
# - The 0.3 was found by trying. With 0.5, mAP was 5 points lower, with 0 it was 4 points lower (2.3).
# - The regressor corrects a box. If the object is far away, there is nothing sensible to correct (appendix C).
#
# **Move.** Drag the orange region over a horse. The black line shows its IoU: in which sets is it?

# %% rows="L1 explorer"
from rcnnlib.view.explorers.training_sets import TrainingSets

TrainingSets(horse.image, [230, 150, 350, 350], horse.boxes, found, alt="Five horses")

# %% [markdown] tags=["core"]
# 1. Find a place where the region is positive for the CNN, and not used by the two others.
# 2. Look for a place where it is positive for the CNN, and a negative of the SVM. What do you find, and why?
# 3. Raise "fine-tuning from" to 0.7. How many positives are left of the 1354 regions?

# %% [markdown] tags=["core"]
# ## 4 · Scores: a support vector machine
#
# *core · 5 minutes*
#
# A *linear* SVM has one weight for each feature, and a bias: $\text{margin} = w \cdot x + b$.
# Above 0 it says yes, below 0 it says no. There is one SVM for each class, and they know nothing of each other.
#
# It learns with the **hinge loss**. A positive should have a margin of at least 1, a negative one of at most -1.
# What falls short of this is the loss:
#
# $$\text{positive: } \max(0,\ 1 - \text{margin}) \qquad \text{negative: } \max(0,\ 1 + \text{margin})$$
#
# **Toy.** Three positives with margins 2, 0.4 and -0.5:

# %%
(1 - torch.tensor([2.0, 0.4, -0.5])).clamp(min=0)

# %% jupyter={"source_hidden": true}
predict(
    "A negative has the margin -0.2. What is its hinge loss?",
    ["0", "0.2", "0.8", "1.2"],
    lambda: f"{max(0, 1 - 0.2):g}",
    "It lies on the right side of 0, but not far enough: 1 + (-0.2).",
)

# %% [markdown] tags=["core"]
# The first positive costs nothing at all. So the easy ones have no say, and the SVM can leave them out.
# This is why R-CNN can do with few negatives: it fits the SVM, looks for negatives with a margin above -1, adds them,
# and fits again. These are the **hard negatives** (R-CNN 2.3).
#
# We do it live, for the class *mammal*. Forty pictures of Scrapbook, some regions of each, all through our CNN.
# The first SVM learns from 20 of the negatives, the second also from the hard ones.

# %%
from rcnnlib.view.explorers.svm_margins import SvmMargins, collect_crops, svm_margins

MAMMAL = classes.index("mammal") + 1  # label 0 is the background
learn = collect_crops(model, "train", MAMMAL, pictures=40)
scale = 20 / learn.features.norm(dim=1).mean()  # vectors of length 20, as in the authors' code
positives, negatives = (scale * learn.features[learn.status == label] for label in (1, 0))
print(len(positives), "positives,", len(negatives), "negatives of", positives.shape[1], "features")

# %%
fits = [svm_margins(rounds, -3.0, positives=positives, negatives=negatives) for rounds in (0, 1)]
alarms, missed = ([fit[name] for fit in fits] for name in ("false alarms", "objects missed"))
print("20 negatives: more than 10 % are false alarms:", alarms[0] > 0.1)
print("and the hard ones: fewer than 2 % are:        ", alarms[1] < 0.02)
print("it misses more objects than before:           ", missed[1] > missed[0])

# %% [markdown] tags=["core"]
# (A *false alarm* is a negative with a margin above 0.)
#
# The first SVM had seen too few negatives. Its false alarms are what it must learn from. One round is enough here,
# as one pass over all pictures was in the paper (R-CNN 2.3). But the SVM has become more careful: a few more objects
# fall below 0.
#
# **Move.** An SVM also wants small weights $w$. The *cost* says how much a hinge loss of 1 counts against them.

# %% rows="L1 explorer"
SvmMargins(positives, negatives)

# %% [markdown] tags=["core"]
# 1. Set the rounds to 1. What moves more, the green columns or the blue ones?
# 2. Leave them at 1, and lower the cost to 10 to the -5. Every object is missed. Why? (The loss hardly counts any more.
#    The weights become tiny, only the bias is left, and it says no, because there are more negatives.)
#
# SVM or softmax? Lesson 06 compares them. Fast R-CNN will drop the SVM.

# %% [markdown] tags=["core"]
# ## 5 · Moving a box
#
# *core · 9 minutes*
#
# A region with IoU 0.6 may have the right score, but its edges are wrong. So R-CNN *corrects* the box.
# It does not predict four edges. It predicts four numbers, the **deltas**: how to get from the region to the object.
#
# The region has the centre $(x_a, y_a)$ and the size $w_a, h_a$, the object $(x, y)$ and $w, h$ (R-CNN, appendix C):
#
# $$t_x = \frac{x - x_a}{w_a} \qquad t_y = \frac{y - y_a}{h_a} \qquad t_w = \log\frac{w}{w_a} \qquad t_h = \log\frac{h}{h_a}$$
#
# To compute the deltas is to **encode**. To apply them is to **decode**.
#
# **Toy.** The proposal is dashed, orange: centre (30, 30), size 40 x 20. The object is solid, green: centre (60, 40),
# size 80 x 40.

# %%
proposal = torch.tensor([[10.0, 20, 50, 40]])
target = torch.tensor([[20.0, 20, 100, 60]])
fig, ax = figure(420, 260, alt="A proposal around (30, 30), an object around (60, 40)")
ax.set(xlim=(0, 110), ylim=(70, 0), aspect="equal", xlabel="x, pixels", ylabel="y, pixels")
draw_boxes(ax, proposal, kind="proposal")
draw_boxes(ax, target, kind="ground_truth")
ax.annotate("", (60, 40), (30, 30), arrowprops={"arrowstyle": "->", "lw": 2})
fig

# %%
from rcnnlib.ops.box_coder import decode, encode

# %% jupyter={"source_hidden": true}
predict(
    "The centre goes down by 10 pixels. How large is ty?",
    ["10", "0.5", "0.33", "0.25"],
    lambda: f"{encode(target, proposal)[0, 1]:g}",
    "10 pixels, divided by the height of the proposal, 20. Not by that of the object.",
)

# %%
print("deltas", [round(t, 4) for t in encode(target, proposal)[0].tolist()])
print("log 2 ", round(torch.tensor(2.0).log().item(), 4))

# %% [markdown] tags=["core"]
# ### Your turn: `my_encode`
#
# Boxes and proposals are both (N, 4), corners. Row n of the answer leads from proposal n to box n.
#
# <details><summary>Hint 1: centre and size</summary>
# <code>box_convert(boxes, "xyxy", "cxcywh")</code> from lesson 01 gives them
# (<code>from rcnnlib.ops.boxes import box_convert</code>). Or compute them from the four columns.
# </details>
#
# <details><summary>Hint 2: what divides what</summary>
# A detector knows the proposal, and not the object. So the proposal always stands below the line.
# </details>


# %% tags=["exercise"]
def my_encode(boxes, proposals):
    """Return the deltas tx, ty, tw, th (N, 4) that lead from proposals to boxes, (N, 4) both."""
    raise NotImplementedError


# %%
check_encode(my_encode)

# %% [markdown] tags=["core"]
# ### Your turn: `my_decode`
#
# Now the way back: deltas and proposals in, boxes out (corners).
#
# <details><summary>Hint 1: solve for x</summary>
# $t_x = (x - x_a) / w_a$. What is $x$?
# </details>
#
# <details><summary>Hint 2: solve for w</summary>
# The opposite of log is exp: <code>torch.exp</code>.
# </details>


# %% tags=["exercise"]
def my_decode(deltas, proposals):
    """Return the boxes (N, 4) that deltas (N, 4) = tx, ty, tw, th make of proposals (N, 4)."""
    raise NotImplementedError


# %%
check_decode(my_decode)

# %% [markdown] tags=["core"]
# **One solution** for each, collapsed: the formulas, row by row.


# %% jupyter={"source_hidden": true}
def encode_by_hand(boxes, proposals):
    rows = []
    for (x1, y1, x2, y2), (a1, b1, a2, b2) in zip(boxes, proposals, strict=True):
        tx = ((x1 + x2) / 2 - (a1 + a2) / 2) / (a2 - a1)
        ty = ((y1 + y2) / 2 - (b1 + b2) / 2) / (b2 - b1)
        tw = torch.log((x2 - x1) / (a2 - a1))
        th = torch.log((y2 - y1) / (b2 - b1))
        rows.append([tx, ty, tw, th])
    return torch.tensor(rows).reshape(-1, 4)


# %% jupyter={"source_hidden": true}
def decode_by_hand(deltas, proposals):
    rows = []
    for (tx, ty, tw, th), (a1, b1, a2, b2) in zip(deltas, proposals, strict=True):
        x, y = (a1 + a2) / 2 + tx * (a2 - a1), (b1 + b2) / 2 + ty * (b2 - b1)
        w, h = (a2 - a1) * torch.exp(tw), (b2 - b1) * torch.exp(th)
        rows.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return torch.tensor(rows).reshape(-1, 4)


# %% [markdown] tags=["core"]
# **The library** has `encode` and `decode`. A hundred random pairs; and decode must undo encode:


# %%
def random_boxes(count):
    """Boxes with sides from 5 to 45 pixels."""
    corner = torch.rand(count, 2) * 50
    return torch.cat((corner, corner + 5 + torch.rand(count, 2) * 40), dim=1)


# %%
boxes, starts = random_boxes(100), random_boxes(100)
deltas = encode(boxes, starts)
assert torch.allclose(encode_by_hand(boxes, starts), deltas, atol=1e-5)
assert torch.allclose(decode_by_hand(deltas, starts), decode(deltas, starts), atol=1e-4)
assert torch.allclose(decode(deltas, starts), boxes, atol=1e-4)
print("loops and library agree, and decode(encode(b, p), p) is b")
show_source(decode, docstring=False)

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker, and two details</summary>
#
# <code>unbind</code> takes whole columns: one call for all boxes. (What is called <code>anchors</code> are our
# proposals; lesson 10 explains the word.) Two things the formula does not say.
# <code>std</code> scales the deltas; it comes in lesson 06, here it is 1. And <code>clamp</code> stops the growth at
# 1000 / 16 = 62.5 times: exp of a large number would overflow, early in training.
# </details>
#
# **Look.** Why divide, and why the logarithm? The same deltas, on a large and a small proposal:

# %%
starts = torch.tensor([[20.0, 30, 180, 150], [230, 110, 262, 134]])
same = torch.tensor([[0.25, -0.125, 0.4, 0.0]]).expand(2, 4)
fig, ax = figure(560, 300, alt="The same deltas move a large box far and a small one little")
ax.set(xlim=(0, 320), ylim=(170, 0), aspect="equal")
draw_boxes(ax, starts, kind="proposal")
draw_boxes(ax, decode(same, starts), kind="detection", labels=["large", "small"])
fig

# %% [markdown] tags=["core"]
# - **Divided by the size**, a delta means the same for a large and a small box: "a quarter of the width to the right".
#   The network sees only squares. It could not know pixels: warping has taken the size away.
# - **With the logarithm**, twice as wide is +0.69 and half as wide is -0.69: the same distance. And whatever the
#   network says, exp makes the width positive.

# %%
half_and_double = torch.tensor([[0.0, 0, 20, 40], [0, 0, 80, 40]])
encode(half_and_double, torch.tensor([[0.0, 0, 40, 40]]).expand(2, 4))[:, 2]

# %% [markdown] tags=["core"]
# **Move.** Green is the object, orange the proposal: drag it. Four sliders are the four deltas.

# %%
from rcnnlib.view.explorers.box_deltas import BUGS, BoxDeltas, box_deltas

owl = photos[places["owl"]]
pair = torch.tensor([owl.boxes[0].tolist(), [260.0, 140, 450, 420]])
BoxDeltas(owl.image, pair, alt="An owl with a proposal to drag")

# %% [markdown] tags=["core"]
# 1. Bring the decoded box onto the owl with the sliders. Compare your deltas with those that `encode` says.
# 2. Click "encode": now the deltas are computed. Drag the proposal far away. Does the decoded box leave the owl?
# 3. Leave it on "encode", and **plant a bug**. First predict.

# %% jupyter={"source_hidden": true}
planted = {bug: box_deltas(pair, 0, 0, 0, 0, "encode", bug)["IoU after"] for bug in BUGS}
predict(
    "Encode divides tx and ty by the size of the object. With the boxes as above, the IoU after decoding?",
    ["1.00, as it should be", "between 0.7 and 0.99", "below 0.5"],
    lambda: "between 0.7 and 0.99" if 0.7 < planted[BUGS[2]] < 0.99 else "below 0.5",
    "The sizes come out right, only the shift is a little wrong. It still looks reasonable.",
)

# %%
for bug, iou in planted.items():
    print(f"{bug:>25}: IoU {iou:.4f}")

# %% [markdown] tags=["core"]
# Swapped axes shout. The wrong size whispers: the better the proposal, the smaller the error. Here it is
# at four proposals, from bad to good:

# %%
for share in (0, 0.5, 0.8, 0.95):
    near = torch.stack((pair[0], pair[1] + share * (pair[0] - pair[1])))
    numbers = box_deltas(near, 0, 0, 0, 0, "encode", BUGS[2])
    before, after = numbers["IoU before"], numbers["IoU after"]
    print(f"proposal with IoU {before:.2f}: after the round trip {after:.4f}, not 1")

# %% [markdown] tags=["core"]
# Such a bug can live long: nothing crashes, and the boxes look reasonable. The cure is one line of a test:
# `decode(encode(b, p), p)` must be `b`.

# %% [markdown] tags=["extra"]
# ## 6 · Who predicts the four numbers?
#
# *extra · 6 minutes*
#
# R-CNN has a **ridge regression** for each class. From the features of the CNN's last map (here 4608 numbers) it
# predicts the four deltas, as weighted sums. The weights minimise
#
# $$\sum \lVert t - W x \rVert^2 + \lambda \lVert W \rVert^2$$
#
# The first part wants the right deltas. The second wants small weights. λ is the *penalty*, 1000 in the paper
# (appendix C). No steps, no learning rate: it is one system of linear equations.
#
# **Toy.** One feature, two examples: x = -1 should give t = -3, and x = 1 should give t = 3. (The bias is 0 then.)
# Without penalty the weight is 3. With penalty λ it is $\sum x t / (\sum x^2 + \lambda) = 6 / (2 + \lambda)$.

# %%
from rcnnlib.models.svm import fit_ridge

x, t = torch.tensor([[-1.0], [1.0]]), torch.tensor([[-3.0], [3.0]])
for penalty in (0.0, 1.0, 4.0):
    print(f"penalty {penalty:g}: weight {fit_ridge(x, t, penalty=penalty)[0].item():.4f}")

# %% [markdown] tags=["extra"]
# Now with real crops. We have few: the regions near the mammals of our forty pictures. And there are 4608 weights for
# each delta.

# %%
from rcnnlib.view.explorers.box_regressor import BoxRegressor, Near, box_regressor

new = collect_crops(model, "val", MAMMAL, pictures=20)
norm = 20 / learn.grids.norm(dim=1).mean()
sides = [Near(norm * part.grids, part.regions, part.truth) for part in (learn, new)]
almost_none = box_regressor(0.6, 0.0, learn=sides[0], new=sides[1])
means = {name: almost_none[name].mean(dim=1).tolist() for name in ("known", "new")}

# %% jupyter={"source_hidden": true}
predict(
    "The penalty is only 1. What does the regressor do to the mean IoU of regions in new pictures?",
    ["it rises", "it changes by less than 0.03", "it falls"],
    lambda: "it falls" if means["new"][1] < means["new"][0] - 0.03 else "it changes by less than 0.03",
    "On the regions that it learned from it is almost perfect. It has learned them by heart.",
)

# %%
print("known regions, almost perfect after it:", means["known"][1] > 0.98)
print("new regions, worse after it than before:", means["new"][1] < means["new"][0] - 0.03)

# %%
BoxRegressor(*sides)

# %% [markdown] tags=["extra"]
# Raise the penalty and watch both squares. With regions from IoU 0.6 on, no penalty makes it help on new pictures: forty
# pictures are too few. In the paper, with thousands, it made mAP 3 to 4 points better (R-CNN 3.5).
#
# Does it help in our detector, which learned from 600 pictures? We ask it about the 200 regions of the horses.

# %%
truth_of = box_iou(found[:200], horse.boxes).argmax(dim=1)
moved = decode(stages.box_deltas[0, :, MAMMAL - 1], found[:200])
pairs = [box_iou(boxes, horse.boxes)[torch.arange(200), truth_of] for boxes in (found[:200], moved)]
for low, high in ((0.3, 0.5), (0.5, 0.7), (0.7, 1.0)):
    chosen = (pairs[0] >= low) & (pairs[0] < high)
    before, after = (ious[chosen].mean() for ious in pairs)
    print(f"IoU {low} to {high} before: on average {'better' if after > before else 'worse'} after")

# %% [markdown] tags=["extra"]
# It helps the bad regions and spoils the good ones. That fits what you saw: on unknown animals it knows roughly where an
# object should be, and not exactly.

# %% [markdown] tags=["core"]
# ## 7 · The whole detector
#
# *core · 3 minutes*
#
# Now all together: 200 regions of the horses. The deltas are relative, so they fit the large photo as well
# as the small one.

# %%
from rcnnlib.models.roi_heads import given_proposals
from rcnnlib.view.explorers.region_count import RegionCount

large = stages._replace(proposals=given_proposals(found[None, :200]))
objects = (horse.boxes, horse.labels)
exhibit = RegionCount(horse.image, large, model.head, *objects, classes, alt="Five horses")

# %% jupyter={"source_hidden": true}
predict(
    "From 64 regions to 200: can R-CNN find more objects, without having learned anything new?",
    ["yes", "no"],
    lambda: "yes" if exhibit.compute(200, 0.3)["objects found"] > exhibit.compute(64, 0.3)["objects found"] else "no",
    "An object that no region comes near cannot be found, however good the CNN is.",
)

# %% rows="L1 explorer"
exhibit

# %% [markdown] tags=["core"]
# Blue: objects that *some* region reaches with IoU 0.5. Dashed: objects that R-CNN finds. Raise the score, and it
# finds less.
#
# Set the regions to 40. More objects are found than were reached! How can this be?

# %%
few = exhibit.compute(40, 0.3)
print("reached by a region:", few["objects with a region"], "· found:", few["objects found"])
for name, boxes in {"best region": found[:40], "best detection": few["boxes"]}.items():
    best = box_iou(boxes, horse.boxes).amax(dim=0)
    print(f"{name:>15}, IoU with each horse:", *(f"{iou:.2f}" for iou in best))

# %% [markdown] tags=["core"]
# The box regressor has moved a region with an IoU below 0.5 over the limit. That is what it is for.
#
# **The full run.** The same detector was run on all photos of Wild with up to 2000 regions each, and the result was
# stored. (`python -m rcnnlib experiment rcnn_regions` made it. *Recall* is the share of the objects that a region
# reaches. *AP50*, from 0 to 1, is the quality of the detections, lesson 08.)

# %%
from rcnnlib.engine.experiments import read_result

full = read_result("rcnn_regions")

# %% jupyter={"source_hidden": true}
change = full.values["2000"]["AP50"][0] - full.values["64"]["AP50"][0]
predict(
    "All photos of Wild, 2000 regions instead of 64. AP50 ...",
    ["rises by more than 0.05", "changes less than that", "falls by more than 0.05"],
    lambda: trend(change, 0.05),
    "Look at the recall, too: how many objects do the first 64 regions reach already?",
)

# %%
print(full.table("recall", "AP50", "seconds"))

# %%
counts = [int(condition) for condition in full.values]
fig, ax = figure(620, 260, alt="Recall and AP50 over the number of regions;")
for name, colour in zip(("recall", "AP50"), LINES, strict=False):
    curve = [full.values[str(count)][name][0] for count in counts]
    ax.plot(counts, curve, color=colour, marker="o")
    name_line(ax, counts[-1], curve[-1], name, colour)
    fig.alt += f" {name} {', '.join(f'{value:.2f}' for value in curve)};"
ax.set(xlabel="regions", ylim=(0, 1.05), xlim=(0, 2350))
fig

# %% [markdown] tags=["core"]
# With 2000 regions almost every object is reached, and it takes many times as long. But AP50 stays far below the recall.
# So what is missing on Wild is not regions. It is a CNN that knows these animals. (The five horses were another case:
# there 64 regions were too few. How many are needed depends on the photo.)

# %% [markdown] tags=["core"]
# ## 8 · The bill: four shortcomings
#
# *core · 7 minutes*
#
# R-CNN was a great success: on VOC 2012 its mAP was more than 30 % higher, relative to the best before (R-CNN, abstract).
# But it has four shortcomings. We measure each.
#
# ### (1) One CNN pass for each region
#
# What does one photo cost? We take the time of each step, for 200 regions. (On the small photo.)

# %%
from time import perf_counter

from rcnnlib.ops.selective_search import selective_search


@torch.no_grad()
def seconds_of(action):
    """How long a call takes."""
    start = perf_counter()
    action()
    return perf_counter() - start


# %% tags=["nbval-ignore-output"] reason="seconds differ between machines"
steps = {
    "Selective Search": lambda: selective_search(batch.images[0]),
    "warp and CNN, 200 regions": lambda: model.pool(batch.images, batch.proposals, batch.sizes),
    "SVMs and box regressors": lambda: model.head(stages.pooled),
    "CNN, the whole photo once": lambda: model.trunk(batch.images),
}
seconds = {name: min(seconds_of(step) for _ in range(2)) for name, step in steps.items()}
for name, second in seconds.items():
    print(f"{name:<27}{second:7.3f} s")

# %%
assert seconds["warp and CNN, 200 regions"] > 10 * seconds["CNN, the whole photo once"]
print("200 regions cost more than ten times as much as the whole photo once")

# %% [markdown] tags=["core"]
# All 1354 regions cost almost 7 times that. And most of this work is done again and again, because the regions overlap.
# How often does the CNN look at the same pixel of the photo?

# %%
from rcnnlib.view.explorers.crop_cost import CropCost, times_seen

seen = times_seen(found, *horse.image.shape[-2:])

# %% jupyter={"source_hidden": true} rows="L2 predict"
predict(
    "1354 regions. How often is a pixel of the photo seen, on average?",
    ["about 3 times", "about 20 times", "about 60 times", "1354 times"],
    lambda: "about 60 times" if 50 < seen.mean() < 75 else "about 20 times",
    "Regions are large, and they lie on top of each other.",
)

# %% [markdown] tags=["core"]
# **Move.** The map shows how often each pixel is seen. The bars compare the work with one pass over the photo at the
# size of our detector. (The seconds come from a stored run. On your machine they will differ.)

# %%
stored = read_result("detectors").values["R-CNN"]
megapixels = sum(stored["regions"]) * model.crop**2 / 1e6
per_megapixel = sum(stored["features s"]) / megapixels
whole = batch.images[0, 0].numel()
print("one pass over the photo:", whole, "pixels")

# %% rows="L2 explorer"
CropCost(horse.image, found, pixels=whole, seconds=per_megapixel)

# %% [markdown] tags=["core"]
# Which slider changes the work more: from 200 to 1354 regions, or from 112 to 224 pixels? (Pixels count twice, across and
# down.)
#
# ### (2) Every region is warped
#
# How far does R-CNN stretch what it sees? For each region: the longer side divided by the shorter.

# %%
sides = (found[:, 2:] - found[:, :2]).clamp(min=1)
stretch = sides.amax(dim=1) / sides.amin(dim=1)
for limit in (1.5, 2, 3, 5):
    share = (stretch > limit).float().mean()
    print(f"stretched more than {limit:g} : 1   {share:.1%} of the regions")

# %% rows="L2 figure"
wide_or_high = torch.log2(sides[:, 0] / sides[:, 1])
fig, ax = figure(620, 260, alt=f"Shapes of regions; median {stretch.median():.2f} : 1")
ax.hist(wide_or_high, bins=[step / 4 for step in range(-12, 13)], color=LINES[0], rwidth=0.9)
ax.set_xticks(range(-3, 4), ["1 : 8", "1 : 4", "1 : 2", "square", "2 : 1", "4 : 1", "8 : 1"])
ax.set(xlabel="width : height of the region", ylabel="regions")
fig

# %% [markdown] tags=["core"]
# The CNN must recognise a horse at any stretch. SPP will accept a region of any shape (lesson 04).
#
# ### (3) Three programs, trained one after the other
#
# Fine-tuning ends with a softmax over our classes. Then the SVMs take over, and the softmax is thrown away. Is that
# really so? We delete it, and detect again.

# %%
few = batch.proposals[:, :40]
kept = model.head.softmax.weight.detach().clone()
with torch.no_grad():
    before = model(batch.images, batch.sizes, few)
    model.head.softmax.weight.zero_()
    after = model(batch.images, batch.sizes, few)
    model.head.softmax.weight.copy_(kept)
print("the same detections without it:", torch.equal(before.boxes, after.boxes))

# %% [markdown] tags=["core"]
# So the CNN was trained for a classifier that is not used, and the SVMs and regressors have to live with its
# features. There are three losses: cross entropy for the CNN, hinge for the SVMs, squares for the regressors. They never
# meet. If an SVM errs, the CNN never hears of it.
#
# ### (4) Not end to end
#
# *End to end* means: one loss, and its gradient reaches everything that learns. We compute the loss of fine-tuning, and
# look where its gradient arrives.

# %%
model.head.samples = 16  # regions, to be quick
model.losses(batch._replace(proposals=few)).total().backward()
parts = {
    "CNN": model.trunk,
    "fully connected": model.head.mlp,
    "softmax": model.head.softmax,
    "SVMs": model.head.svm,
    "box regressors": model.head.ridge,
}

# %% rows="L2 experiment"
for name, part in parts.items():
    numbers = sum(tensor.numel() for tensor in part.state_dict().values())
    gradients = [weight.grad for weight in part.parameters() if weight.grad is not None]
    reached = any(bool((gradient != 0).any()) for gradient in gradients)
    print(f"{name:<16}{numbers:>8,} numbers, gradient: {'yes' if reached else 'none'}")
reached = few.requires_grad
print(f"{'regions':<16}{few.numel():>8,} numbers, gradient: {'yes' if reached else 'none'}")

# %% [markdown] tags=["core"]
# SVMs and box regressors are fitted afterwards, and the regions come from a program that learns nothing.
# These four are what the next lessons repair. The course ticks them off in this table:

# %%
from rcnnlib.view.shortcomings import shortcomings

shortcomings("R-CNN")

# %% [markdown] tags=["core"]
# ## 9 · A question of the student
#
# *core · 3 minutes*
#
# > **Does R-CNN take 2000 RoIs out of one image?**
# > «R-CNN에서 하나의 이미지에서 RoI 하나를 2000장이나 뽑는다는 얘기인가?»
#
# (*RoI*, region of interest, is another word for region. The second half of the question, on Fast R-CNN, is
# answered in lesson 07.)
#
# First count. How many regions have the large photos of Wild?

# %%
from rcnnlib.datasets.coco import load_coco
from rcnnlib.datasets.paths import data_dir

file = load_coco(data_dir() / "wild" / "annotations.json")
large = [photo["id"] for photo in file["images"] if max(photo["width"], photo["height"]) == 640]
numbers = torch.tensor([len(regions[photo]) for photo in large])
print(len(large), "photos, 640 pixels long")
print(f"regions: {numbers.min()} to {numbers.max()}, median {numbers.median()}")

# %% [markdown] tags=["core"]
# So the answer for *detection* is yes, in the order of 2000. And for *learning*? One step of fine-tuning takes
# 128 regions: 32 with an IoU of at least 0.5, and 96 others. They are drawn **over all images** (R-CNN 2.3).
# We put the regions of all 600 training pictures into one bag.

# %%
from rcnnlib.ops.boxes import box_convert

file = load_coco(data_dir() / "scrapbook" / "annotations_train.json")
proposed, bag = selective_search_boxes("scrapbook_train"), []
for picture, boxes in proposed.items():
    rows = [note["bbox"] for note in file["annotations"] if note["image_id"] == picture]
    truth = box_convert(torch.tensor([[0.0] * 4, *rows]), "xywh", "xyxy")
    best = box_iou(boxes, truth).amax(dim=1)
    bag += [(picture, number, iou) for number, iou in enumerate(best.tolist())]

# %% rows="Q4 experiment"
shuffled = [bag[number] for number in torch.randperm(len(bag)).tolist()]
positive = [region for region in shuffled if region[2] >= 0.5]
others = [region for region in shuffled if region[2] < 0.5]
drawn = positive[:32] + others[:96]
print(f"{len(bag):,} regions in the bag, {len(positive) / len(bag):.1%} of them positive")
print("drawn:", len(drawn), "regions of", len({picture for picture, _, _ in drawn}), "pictures")

# %%
from rcnnlib.datasets.coco import scrapbook

data, side = scrapbook("train"), 36
at = {picture: place for place, (picture, _) in enumerate(data.images)}
tiles = []
for picture, number, _ in drawn:
    box = proposed[picture][number]
    tiles.append(warp(data[at[picture]].image, box[None], side, context=2)[0])
sheet = torch.stack(tiles).view(8, 16, 3, side, side)  # 8 rows of 16 crops
sheet = sheet.permute(2, 0, 3, 1, 4).reshape(3, 8 * side, 16 * side)

# %% rows="Q4 figure"
fig, ax = figure(410, 228, alt="One batch of R-CNN: 128 crops, the first 32 with an object")
show_image(ax, sheet).set_title("32 positives (framed), 96 background")
draw_boxes(ax, [[0, 0, 16 * side, 2 * side]], kind="ground_truth")
fig

# %% [markdown] tags=["core"]
# Almost every crop comes from another picture. So for 128 regions the program must open almost as many pictures, and
# nothing computed for one helps the next. Fast R-CNN turns this around: many regions of few pictures (lesson 07).
#
# > **답.** 네, 검출할 때는 사진 한 장에서 약 2000개의 영역(RoI)을 잘라 내고, 하나하나 CNN에 통과시킵니다.
# > 그러나 CNN을 학습(fine-tuning)할 때는 한 단계(mini-batch)마다 전체 학습 사진의 영역 중에서 무작위로 뽑은
# > 128개(positive 32개, background 96개)만 사용합니다.

# %% [markdown] tags=["core"]
# ### The paper said, we measured
#
# Fast R-CNN, Table 4 (VGG16, without the time for proposals): R-CNN takes 47.0 seconds for a picture, Fast R-CNN 0.32.
# Their machine, network and pictures are not ours. So we compare only the ratio: regions one by one, against all at
# once.

# %%
both = {name: read_result("detectors").values[name] for name in ("R-CNN", "Fast R-CNN")}
spent = {name: sum(found["features s"]) + sum(found["head s"]) for name, found in both.items()}
regions_each = sum(both["R-CNN"]["regions"]) / len(both["R-CNN"]["regions"])
print("paper  146 times, with about 2000 regions")
print(f"ours  {spent['R-CNN'] / spent['Fast R-CNN']:4.0f} times, with {regions_each:.0f} on average")

# %% [markdown] tags=["core"]
# Both times, one by one is slower by far. And the factor grows with the number of regions: a pass over the photo costs
# the same for ten regions and for two thousand.
#
# ## Summary
#
# - R-CNN = regions + warp + CNN + an SVM and a box regressor for each class.
# - Warping makes a square of any region. The context counts pixels of the crop.
# - Three learners, three training sets: IoU ≥ 0.5; objects against IoU < 0.3; IoU > 0.6.
# - Hard negatives are those with a hinge loss. Easy ones have none, and can be left out.
# - Deltas: shift divided by the size of the **proposal**, logarithm of the quotient of the sizes.
# - `decode(encode(b, p), p)` must be `b`. Test it.
# - Four shortcomings: one pass for each region, warping, trained apart, not end to end.
#
# ## Glossary
#
# | English | 한국어 | meaning |
# |---|---|---|
# | region, RoI | 관심 영역 | a box that may hold an object |
# | to warp | 와핑 (강제 크기 변환) | stretch a region to a fixed size |
# | context | 문맥 (주변 영역) | what a crop shows around the box |
# | feature vector | 특징 벡터 | the numbers that the CNN makes of a crop |
# | fine-tuning | 미세 조정 | to train a trained network a little more |
# | support vector machine | 서포트 벡터 머신 | a linear classifier with hinge loss |
# | margin | 마진 | what the SVM says: w · x + b |
# | hard negative | 하드 네거티브 (구별하기 어려운 배경) | a negative that the SVM takes for an object, or nearly |
# | box regressor | 박스 회귀 | predicts how to move a box |
# | delta | 델타 (변화량) | one of the four numbers tx, ty, tw, th |
# | ridge regression | 릿지 회귀 | linear regression with small weights |
# | end to end | 종단 간 학습 | one loss trains everything |
#
# ## References
#
# - Girshick, Donahue, Darrell, Malik: *Rich feature hierarchies ...* (R-CNN), 2014, [arXiv 1311.2524](https://arxiv.org/abs/1311.2524)
# - Girshick: *Fast R-CNN*, 2015, [arXiv 1504.08083](https://arxiv.org/abs/1504.08083)
# - Uijlings and others: *Selective Search for Object Recognition*, 2013
#
# The photos are public domain or CC0; `data/wild/CREDITS.csv` names their authors.
# The scenes are made of cut-outs of Tux Paint's stamps (GPL 2 or later); `data/scrapbook/CREDITS.csv` names their authors.
