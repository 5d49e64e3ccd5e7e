# %% [markdown] tags=["core"]
# # 00 · Start here
#
# **How does a network find things, and not only name them?**
#
# You know networks that *name* a picture: "dog". Such a network is a *classifier*. This course is about networks that
# also say *where* the dog is. Such a network is a *detector*, and its task is *object detection*.
#
# After this page you can
#
# - work with a lesson: run it, predict, write a function, have it checked;
# - drag a box over a photo and read three things: how well it fits, where it lies on the feature map, and the name
#   that a network gives to what is inside;
# - say in one sentence why naming is not yet finding;
# - read the map of the course.
#
# About 35 minutes. You need a little Python, and you should have seen a PyTorch tensor. You do not need a GPU.
# What is marked *extra* can wait for another evening.

# %% [markdown] tags=["core"]
# ## 1 · How to work through a lesson
#
# A page like this is a *notebook*. It is made of *cells*. A grey cell holds code.
#
# **Run one cell:** click into it, press **Shift + Enter**.
#
# **Run all cells:** menu *Run*, then *Run All Cells*. Do this now, and come back here. It takes less than a minute.
#
# > Do you see "model not found", or a still picture where something should move, or `( )` where you should be able to
# > click? Then the page has not been run yet. *Run All Cells* cures all three.
#
# Would you like to drag a box at once? Play at [*Move it*](#Move-it) for a minute, then come back here.
#
# The first code cell of each lesson is always the same. It fixes the random numbers, so that you see the numbers
# that we saw.

# %%
import torch

from rcnnlib.view.notebook import predict, setup, show_source

setup()

# %% [markdown] tags=["core"]
# Each idea comes in the same order. Let us try it on a small one: the area of a box.
#
# **Toy.** Numbers small enough for paper. A *box* (in full: *bounding box*) is four numbers: `x1, y1, x2, y2`.
# (x1, y1) is its upper left corner, (x2, y2) its lower right corner. **y grows downward**, as always in pictures.

# %%
from rcnnlib.view.plotting import draw_boxes, figure

fig, ax = figure(420, 260, alt="A box with the corners (10, 20) and (40, 60)")
draw_boxes(ax, [[10, 20, 40, 60]], kind="ground_truth", labels=["(10, 20, 40, 60)"])
ax.set(xlim=(0, 110), ylim=(70, 0), aspect="equal", xlabel="x, pixels", ylabel="y, pixels")
fig

# %% [markdown] tags=["core"]
# **Predict.** Answer before you look. A wrong guess costs nothing here, and nobody sees it.
# (The code of such a cell is folded, because it knows the answer.)

# %% jupyter={"source_hidden": true}
predict(
    "What is the area of the box (10, 20, 40, 60)?",
    ["1200", "2400", "70"],
    answer=lambda: str((40 - 10) * (60 - 20)),
    why="It is 40 - 10 = 30 wide and 60 - 20 = 40 high.",
)

# %% [markdown] tags=["core"]
# **Your turn.** Write the function. Replace the line `raise NotImplementedError`, then run the cell.
#
# Boxes come many at a time: `boxes` is a tensor of shape (N, 4), one box in each row. Return N areas: a tensor of
# shape (N,). If x2 < x1 or y2 < y1, the box is *inside out*. Its area is 0.


# %% tags=["exercise"]
def my_area(boxes):
    """Return the area of each box: (N, 4) -> (N,)."""
    raise NotImplementedError


# %% [markdown] tags=["core"]
# <details><summary>Hint 1</summary>
#
# `x1, y1, x2, y2 = boxes.unbind(1)` takes the four columns apart.
# </details>
# <details><summary>Hint 2</summary>
#
# `t.clamp(min=0)` turns every negative number of a tensor `t` into 0. Use it on the width, and on the height.
# </details>
#
# <br>
#
# **Check.** Run the next cell after each change. It says ○ not written yet, ✗ not right yet (and why), or ✓ right.
# Try a wrong answer too.

# %%
from rcnnlib.checks import check_area

check_area(my_area)

# %% [markdown] tags=["core"]
# **One solution.** The next cell is folded. Click on the three dots when you want to see it.


# %% jupyter={"source_hidden": true}
def area_by_loop(boxes):
    areas = [max(0.0, x2 - x1) * max(0.0, y2 - y1) for x1, y1, x2, y2 in boxes.tolist()]
    return torch.tensor(areas)


# %% [markdown] tags=["core"]
# **Library.** The course itself uses `box_area`. We give 1000 random boxes to it and to the folded solution.

# %%
from rcnnlib.ops.boxes import box_area, box_iou

boxes = torch.rand(1000, 4) * 100
assert torch.allclose(area_by_loop(boxes), box_area(boxes), atol=1e-2)
print(f"1000 boxes agree; {int((box_area(boxes) == 0).sum())} of them are inside out")
show_source(box_area, docstring=False)

# %% [markdown] tags=["core"]
# `Float[Tensor, "*B N 4"]` is a type hint: a tensor with N rows of 4 numbers. `*B` means that more dimensions may
# stand in front.
#
# After *toy*, *predict*, *your turn* and *library* come *look* (a figure) and *move* (something to drag). You will
# meet both below. Later cells never need your solution: skip an exercise whenever you like.
#
# **Your copy.** `make lab` opened this page from the folder `my_notebooks`. It is yours. Nothing overwrites it.
# To start a lesson afresh, type `make reset LESSON=00` in a terminal; your old page is kept beside the new one.
#
# **How far you are.** The next cell reads what the checks in your folder said last: ✓ right, ✗ wrong, ○ still open.
# Save a lesson before you look. In a terminal the same is `python -m rcnnlib progress my_notebooks`.

# %%
from rcnnlib.checks.progress import as_text, read_progress

print(as_text(read_progress(".")))

# %% [markdown] tags=["core"]
# ## 2 · What your machine has
#
# ○ is a note: the course works without it. ✗ must be mended, and the line below it says how.
# For the full report, type `make doctor` in a terminal.

# %% tags=["nbval-ignore-output"] reason="names the hardware, which differs between machines"
from rcnnlib.engine import doctor

checks = [doctor.check_packages("torch", ["torch>=2.6", "torchvision"])]
checks += [doctor.check_cpu(), doctor.check_gpu(), doctor.check_memory(), doctor.check_data()]
print(doctor.show(checks))

# %%
to_mend = [check.name for check in checks if check.state == "bad"]
assert not to_mend, f"mend this first: {to_mend}"
print("ready to go")

# %% [markdown] tags=["core"]
# ## 3 · First experience: one box on one photo
#
# **Look.** A photo, and a box that we drew by hand around the animal. Such a box is called *ground truth*: what we
# compare all answers with. In this course it is always a solid green line.

# %%
from rcnnlib.view.explorers.first_look import FirstLook, name_crop, open_photo, squeezenet
from rcnnlib.view.plotting import show_image

net = squeezenet()
dog = open_photo("dog", net)
fig, ax = figure(480, 360, alt=f"A German shepherd; ground truth {dog.boxes[0].tolist()}")
draw_boxes(show_image(ax, dog.image), dog.boxes, kind="ground_truth", labels=["ground truth"])
fig

# %% [markdown] tags=["core"]
# We also have a network, SqueezeNet [1]. It was trained on ImageNet [2]: more than a million photos, each
# with **one name out of 1000**. It knows names. It knows no boxes.
#
# So we do the simplest thing. Take the pixels inside a box: this is a *crop*. Stretch it to 224 x 224 pixels,
# whatever its shape. Ask the network for a name.

# %%
from rcnnlib.models.backbone import imagenet_classes


def say(photo, box):
    """Print the overlap of a box with the ground truth, and the best two names for its crop."""
    box = torch.tensor(box, dtype=torch.float32)
    share, index = name_crop(photo.image, box, net)[1].topk(2)
    names = [f"{imagenet_classes()[i]} {p:.2f}" for i, p in zip(index, share, strict=True)]
    print(f"IoU {box_iou(box[None], photo.boxes).max():.2f}   {', '.join(names)}")


say(dog, [24, 16, 568, 456])

# %% [markdown] tags=["core"]
# We gave it the pixels inside the ground truth. The line says two things:
#
# - **IoU**, *intersection over union*, says how well two boxes agree: here our box and the ground truth. It is 1 if
#   they are the same, and 0 if they share nothing. Lesson 01 is all about it.
# - **Names:** the best two. (A *malinois* is another shepherd dog.) The numbers after them are *probabilities*,
#   rounded. All 1000 of them add up to 1. So the network is sure.
#
# **Predict.** Now another box, the orange one. It holds only the head. For the whole dog it is far too small.

# %%
fig, ax = figure(420, 315, alt="The dog; the box (400, 16, 568, 240) holds its head")
draw_boxes(show_image(ax, dog.image), dog.boxes, kind="ground_truth", labels=["ground truth"])
draw_boxes(ax, [[400, 16, 568, 240]], kind="proposal", labels=["head"])
fig

# %% jupyter={"source_hidden": true}
predict(
    "What does the network say about the head alone?",
    ["it is unsure: below 0.50", "German shepherd, above 0.90", "nothing: this is only a part"],
    answer="German shepherd, above 0.90",
    why="A head is enough for a name. The numbers come below, under “What it said”.",
)

# %% [markdown] tags=["core"]
# **Predict.** And a box with no animal in it? On the next photo, the orange box holds only snow and twigs.

# %%
bear = open_photo("polar_bear", net)
fig, ax = figure(420, 315, alt="A polar bear; the box (0, 380, 640, 480) holds snow and twigs")
draw_boxes(show_image(ax, bear.image), bear.boxes, kind="ground_truth", labels=["ground truth"])
draw_boxes(ax, [[0, 380, 640, 480]], kind="proposal", labels=["snow and twigs"])
fig

# %% jupyter={"source_hidden": true}
predict(
    "What does the network say about a box of snow and twigs?",
    ["snow", "nothing", "the name of something that is not there"],
    answer="the name of something that is not there",
    why="It must choose one of its 1000 names, and none of them is “snow” or “nothing”.",
)

# %% [markdown] tags=["core"]
# **Library.** How do we ask the network? The last two lines do it. `warp` cuts and stretches; `CROP` is 224, and
# `context=0` means: no pixels from around the box. `softmax` turns the network's scores into probabilities.

# %%
show_source(name_crop, docstring=False)

# %% [markdown] tags=["core"]
# ### What it said
#
# The head alone:

# %%
say(dog, [400, 16, 568, 240])

# %% [markdown] tags=["core"]
# A sure name on a bad box. Now the other way round: a better box, without the head.

# %%
say(dog, [24, 180, 568, 456])

# %% [markdown] tags=["core"]
# A much better box with a wrong name. **A name tells us little about the box.** And the snow:

# %%
say(bear, [0, 380, 640, 480])
for word in ("snow", "nothing"):
    print(f"is {word} one of the {len(imagenet_classes())} names? {word in imagenet_classes()}")

# %% [markdown] tags=["core"]
# A detector therefore needs one more name, or *class*: **background**, which means "nothing to find here".
# It comes in lesson 06.

# %% [markdown] tags=["core"]
# ### Move it
#
# Drag the orange box in the photo below. Pull at a corner to change its size.
#
# - **Crop:** what the network is given. It is stretched: do you see it?
# - **Names:** its three best answers.
# - **Feature map:** what the network computes from the *whole* photo, just before it would choose a name. It is a grid
#   of *cells*. Each cell stands for 16 x 16 pixels. It holds 512 numbers, one for each *channel*. Bright means large.
# - **The box on the map:** your four numbers divided by 16. They end the line below the picture: `cells (...)`.
# - **Which channel you see:** *mean* is the average of all 512. *One channel* is the one that the slider *channel*
#   chooses. *Strongest in box* is the one that stands out most inside your box.
#
# **Without a mouse.** Click a picture, or reach it with Tab. The arrow keys move its box. Shift + arrow changes its
# size. Alt makes the steps ten times larger. Enter goes to the next box. The sliders do the same.
#
# Predict each answer, then try it:
#
# 1. Move the orange box about, all of it inside the green one. What does the IoU do?
# 2. The head was enough. How small can the box be, with *German shepherd* still on top?
# 3. A box with IoU 0.63 got a wrong name. Can you reach a larger IoU with a wrong name?
# 4. Take *jaguar*. What does the network say for the whole photo, and what for one animal alone?
# 5. Back to *dog*, and *strongest in box*. Move from the head to the tail. Is it the same channel?

# %%
FirstLook()

# %% [markdown] tags=["extra"]
# ### Plant the bug
#
# *extra* · (What we found in the questions above comes right after it.)
#
# A photo has three colours: red, green, blue. Swap red and blue, and nothing crashes. This is a classic bug
# when you use a network that others have trained. Set `BUG = False`, run the cell again, and compare.

# %%
BUG = True
image = dog.image.flip(0) if BUG else dog.image
say(dog._replace(image=image), [24, 16, 568, 456])

# %% [markdown] tags=["extra"]
# With the bug: the same box, the same dog, but another name, and the network is unsure.
# No error message tells you. Lesson 17 hides eight such bugs.

# %% [markdown] tags=["core"]
# ### What we found
#
# 1. The IoU stays the same. What the two boxes share is the whole orange box, wherever it lies.
# 2. We came down to 80 x 120 pixels around the face. The network is no longer sure, but the name is still on top.
# 3. Yes, a little larger.

# %%
say(dog, [480, 16, 560, 136])
say(dog, [24, 160, 568, 456])

# %% [markdown] tags=["core"]
# 4. The whole photo, then one animal alone:

# %%
jaguars = open_photo("jaguar", net)
say(jaguars, [0, 0, 640, 427])
say(jaguars, jaguars.boxes[0].tolist())

# %% [markdown] tags=["core"]
# The box changes the answer. The whole photo is named wrongly, one animal alone is named rightly.
# So finding the box helps the naming, too.
#
# 5. The strongest channel at the head, and at the tail:

# %%
from rcnnlib.view.explorers.first_look import choose_channel

for part, box in {"head": [400, 16, 568, 240], "tail": [24, 240, 180, 456]}.items():
    print(part, "channel", choose_channel(dog.features, torch.tensor(box) / 16))

# %% [markdown] tags=["core"]
# Two parts of the dog, two channels. Different channels react to different patterns.

# %% [markdown] tags=["core"]
# ### How many boxes would we have to try?
#
# We could try *all* boxes, and keep the best. How many are there?
#
# **Toy.** A row of 2 pixels has 3 upright edges: left, middle, right. A box starts at one and ends at another. That
# makes 3 choices: draw them. In general, 2 out of n edges can be chosen in n (n - 1) / 2 ways; Python calls this number
# `comb(n, 2)`. In a photo a box needs 2 upright edges **and** 2 level ones.

# %%
from math import comb


def count_boxes(width, height):
    return comb(width + 1, 2) * comb(height + 1, 2)


print(f"2 x 1 pixels: {count_boxes(2, 1)} boxes")
print(f"640 x 480 pixels: {count_boxes(640, 480):,} boxes")

# %% jupyter={"source_hidden": true}
predict(
    "And if edges may only lie at every 16th pixel (40 x 30 cells)?",
    ["about 4 thousand", "about 400 thousand", "about 40 million"],
    answer="about 400 thousand",
    why=f"It is {count_boxes(40, 30):,}: still far too many for one network pass each.",
)

# %% [markdown] tags=["core"]
# So a cheap method must first propose a few boxes: *region proposals*. R-CNN (2014) took about 2000 for each
# picture [3]. What do 2000 crops cost on your machine?

# %% tags=["nbval-ignore-output"] reason="seconds differ between machines"
from time import perf_counter

start = perf_counter()
for _ in range(5):
    name_crop(dog.image, dog.boxes[0], net)
one = (perf_counter() - start) / 5

start = perf_counter()
open_photo("dog", net)
whole = perf_counter() - start
print(f"one crop {one:.3f} s, 2000 crops {2000 * one:.0f} s, the whole photo once {whole:.1f} s")

# %%
assert 2000 * one > whole
print(f"2000 crops hold {2000 * 224 * 224 / (640 * 480):.0f} times the pixels of the photo")

# %% [markdown] tags=["core"]
# The crops overlap, so the network looks at the same pixels again and again. How to save this work is the story of
# this course:
#
# 1. **R-CNN:** propose regions, run the network on each crop. It works. It is slow.
# 2. **SPPnet:** run the network **once** over the photo, and cut the regions out of the feature map.
# 3. **Fast R-CNN:** do that, and train names and boxes together.
# 4. **Faster R-CNN:** let the network propose the regions, too.
#
# The paper on Fast R-CNN measured both: R-CNN takes 47.0 seconds for a picture, Fast R-CNN 0.32 ([4], Table 4; with
# VGG16, a large network, on a GPU; proposals not counted). Their seconds and yours cannot be compared. Their ratio:

# %%
print(f"R-CNN / Fast R-CNN: {47.0 / 0.32:.1f} times (the paper writes 146)")

# %% [markdown] tags=["core"]
# ### Where the course leads: a detector at work
#
# Here is the end of the staircase: a Faster R-CNN that you will have built by lesson 14. It knows five classes: bird,
# mammal, food, tool, vehicle.
#
# Two things to know before you judge it:
#
# - It learned from **pasted** pictures alone: cut-out animals and tools on travel photos. It has never seen a real photo
#   like these.
# - It gives each box a *score* from 0 to 1: how sure it is. You choose from which score on a box is shown.

# %% jupyter={"source_hidden": true}
predict(
    "In the photo below there are five horses, two of them foals. Will it find all five?",
    ["yes, all five", "some of them"],
    answer="some of them",
    why="They stand close together and hide each other. Run the next cell and read the line below the photo.",
)

# %% [markdown] tags=["core"]
# **Move it.** Before you move the slider, predict: what happens to the number of boxes when you *lower* the least score?
# And to the number of hand-drawn boxes found?

# %%
from rcnnlib.view.explorers.at_work import AtWork

AtWork()

# %% [markdown] tags=["core"]
# Lower the least score, and more of the horses are found, among more boxes that are wrong. Raise it, and most of the
# wrong boxes go, and more horses are missed. No score is right for everything. Lesson 08 makes one number out of all
# of them. *Found* means here: a box of the right class has an IoU of at least 0.5 with the one that a person drew.
#
# Then look at *koala*: among its cut-outs there was none. A detector knows what it was shown, and no more.
#
# **Your own photo.** Write its path between the quotation marks, for example `"~/Pictures/cat.jpg"`. Run the cell again.

# %%
from rcnnlib.datasets.paths import data_dir

MY_PHOTO = ""
AtWork([MY_PHOTO or data_dir() / "wild/images/pig.jpg"], score=0.3)

# %% [markdown] tags=["core"]
# In a terminal the same is `python -m rcnnlib detect PHOTO`. It draws the boxes and writes them to a file.

# %% [markdown] tags=["core"]
# ## 4 · The map of the course
#
# Four detectors, one staircase. Read each column from the bottom up. You need not know the words on it yet.

# %%
from rcnnlib.view.course_map import course_map

course_map()

# %% [markdown] tags=["core"]
# Each bar is a lesson. Click to open one:
#
# [01 boxes and IoU](01_boxes_and_iou.ipynb) ·
# [02 Selective Search](02_selective_search.ipynb) ·
# [03 R-CNN](03_rcnn.ipynb) ·
# [04 shared features](04_shared_features_and_roi_projection.ipynb) ·
# [05 RoI pooling](05_roi_pooling.ipynb) ·
# [06 heads and loss](06_heads_and_multi_task_loss.ipynb) ·
# [07 sampling](07_sampling_mini_batches.ipynb) ·
# [08 detections, AP](08_from_scores_to_detections.ipynb) ·
# [09 training Fast R-CNN](09_training_fast_rcnn.ipynb) ·
# [10 anchors](10_anchors.ipynb) ·
# [11 the RPN](11_rpn.ipynb) ·
# [12 RPN loss](12_rpn_targets_and_loss.ipynb) ·
# [13 proposals and NMS](13_proposals_and_nms.ipynb) ·
# [14 training Faster R-CNN](14_training_faster_rcnn.ipynb) ·
# [15 results and limits](15_results_and_limits.ipynb) ·
# [16 your own data](16_your_own_data.ipynb) ·
# [17 debug clinic](17_debug_clinic.ipynb)
#
# The course grew out of the notes of one student. These are the questions in those notes. Each gets its answer by an
# experiment, in the lesson that is named with it.
#
# - **Q1**, lesson 09. Does Fast R-CNN still use Selective Search?<br>
#   «Fast R-CNN에서도 Selective Search를 하는 건가?»
# - **Q2**, lesson 05. The target grid in the figure is 8x8? Pooled with a 3 by 2 grid?<br>
#   «아래 그림은 Target grid size가 8x8 인데? 3by2 grid로 mining?»
# - **Q3**, lesson 07. Why is the data set made up like this? Is such data given, or do we have to make it?<br>
#   «왜 Dataset을 이렇게 구성하는 걸까? Data를 이렇게 준다는 얘기인가? 구하라는 얘기인가?»
# - **Q4**, lesson 03, 07. Does R-CNN take 2000 RoIs out of one image? Does one training step of Fast R-CNN learn from
#   many RoIs of one image?<br>
#   «R-CNN에서 하나의 이미지에서 RoI 하나를 2000장이나 뽑는다는 얘기인가?
#   Fast R-CNN에서는 학습 한 번을 돌 때, 하나의 이미지에서 RoI 여러 장을 학습한다는 얘기인가?»
# - **Q5**, lesson 11. A 3x3 convolution makes the intermediate layer. Why?<br>
#   «(3by3 conv를 통해서 Intermediate layer 생성) 왜할까요?»
# - **Q6**, lesson 12. Why generate anchor boxes at each cell? Could the 1x1 convolution not make the boxes, as it
#   seems to do already?<br>
#   «각 셀마다 anchor box를 generator를 하는 이유는?
#   굳이 안해도 위에서처럼 1by1 conv layer를 통해서 만들 수 있지 않을까?»
# - **Q7**, lesson 13. Why is bb4 not removed?<br>
#   «bb4는 왜 안없애지?»
#
# You do not have to understand them yet. Words such as *RoI* and *anchor* get their own lessons.
#
# And this is the whole lecture, point by point: L1 to L25, and the questions. The table is read from the lessons
# themselves. It says how many cells there are to *look* at, to *move*, to *guess* before you see, to *write* yourself,
# and to find an answer by *trying*. A dash: none.

# %%
from rcnnlib.view.rows import read_marks, row_table

print(row_table(read_marks()))

# %% [markdown] tags=["extra"]
# ## 5 · Paper and course setting
#
# *extra · to look up later*
#
# The papers use large photos and large networks. We use small ones, so that every lesson runs on a laptop. **Our
# numbers therefore differ from the papers'.** This table says how. Its words come in their lessons.
#
# | | paper | course |
# |---|---|---|
# | picture | 1000 x 600 | 320 x 240 (to look at: 640 x 480 and more) |
# | cells at 16 pixels each | about 60 x 40 | 20 x 15 |
# | anchor scales | 128, 256, 512 | from the boxes of the data, about 32 to 192 |
# | anchors | "about 20,000" | 2,700 |
# | of these, wholly inside the picture | "about 6,000" | 1,420 with scales 32, 64, 128 |
# | proposals before NMS; after | 6000 (12000 in training); 300 (2000) | 600 to 1000; 100 to 200 |
# | Selective Search boxes | about 2000 | what a picture gives: some hundreds |
#
# Look at the last row. The course has stored these boxes for each of its pictures, so we can count them.

# %%
from rcnnlib.datasets.proposals import selective_search_boxes

for name, size in {"wild": "up to 640 x 640", "scrapbook_test": "320 x 240"}.items():
    counts = [len(boxes) for boxes in selective_search_boxes(name).values()]
    print(f"{name} ({size}): {sum(counts) / len(counts):.0f} boxes a picture, {min(counts)} to {max(counts)}")

# %% [markdown] tags=["extra"]
# The paper's two numbers of anchors are rounded. We count them, too.

# %%
from rcnnlib.ops.anchors import anchor_grid, cell_anchors
from rcnnlib.ops.boxes import is_inside


def count_anchors(width, height, scales):
    anchors = anchor_grid(cell_anchors(scales), (height // 16, width // 16), 16)
    inside = is_inside(anchors, torch.tensor([height, width])).sum()
    print(f"{width} x {height}: {width // 16} x {height // 16} cells", end=", ")
    print(f"{len(anchors):,} anchors, {inside:,} inside")
    return inside


paper = count_anchors(1000, 600, (128, 256, 512))
course = count_anchors(320, 240, (32, 64, 128))
print(f"inside, our count / the paper's: {paper / 6000:.2f}")

# %% [markdown] tags=["extra"]
# **The paper said, we counted.** Faster R-CNN [5] says "about 20,000" anchors and "about 6,000" inside. With whole
# cells of 16 pixels, and anchors centred on them, we count as above. The first number agrees. The second does not:
# ours is a third larger. So wherever a number depends on the setting, we say which one it is.

# %% [markdown] tags=["extra"]
# ## 6 · The pictures
#
# *extra*
#
# | set | what it is | for |
# |---|---|---|
# | **Wild** | real photos, boxes drawn by hand | looking, and honest tests |
# | **Treetops** | real photos from the air, in square *tiles*; tree crowns boxed by hand | small and crowded objects |
# | **Scrapbook** | cut-out photos **pasted** on other photos by a program | training, with exact boxes |
# | **Shapes** | circles, squares and triangles, drawn by code | training in seconds |
#
# Scrapbook is not real, and we never pretend that it is. Wild and Treetops stand beside it as the honest check.

# %%
from rcnnlib.datasets.coco import wild
from rcnnlib.datasets.voc import treetops

photos, crowns = wild(), treetops("train")
print(f"Wild: {len(photos)} photos; Treetops, training part: {len(crowns)} tiles")

# %%
names = [file for _, file in photos.images]
chosen = [photos[names.index(f"{name}.jpg")] for name in ("scarlet_macaw", "bison")]
chosen += [crowns[5], crowns[20]]
counts = [f"boxes {len(p.boxes)}, ignored {len(p.ignore)}" for p in chosen]
fig, axes = figure(850, 235, columns=4, alt=f"Two of Wild, two of Treetops: {counts}")
for ax, picture, title in zip(axes, chosen, counts, strict=True):
    draw_boxes(show_image(ax, picture.image), picture.ignore, kind="ignored")
    draw_boxes(ax, picture.boxes, kind="ground_truth").set_title(title)
fig

# %% [markdown] tags=["extra"]
# Green: what counts. Grey and dashed, as on the small animals far behind the bison: *ignored*. Nobody could say for
# sure what is there, or the edge of a tile cuts the crown; so it counts neither as right nor as wrong.

# %% [markdown] tags=["core"]
# ## 7 · The colours
#
# A colour means the same thing in every lesson. The kind of line says it again, for those who see colours
# differently.

# %%
kinds = ["ground_truth", "ignored", "anchor", "proposal", "detection", "note"]
fig, axes = figure(850, 150, columns=6, alt=f"Six kinds of boxes: {', '.join(kinds)}")
for ax, kind in zip(axes, kinds, strict=True):
    show_image(ax, torch.full((3, 60, 100), 0.35 if kind == "note" else 0.95))
    draw_boxes(ax, [[12, 12, 88, 48]], kind=kind)
    ax.set_title(kind.replace("_", " "))
fig

# %% [markdown] tags=["core"]
# | kind | meaning |
# |---|---|
# | ground truth | drawn by a person: the right answer |
# | ignored | a person could not say: neither right nor wrong |
# | anchor | a fixed box that a network starts from (lesson 10) |
# | proposal | "something may be here", not yet named. Your box above was one |
# | detection | the final answer: box, name and score |
# | note | anything else: an overlap, a cell |

# %% [markdown] tags=["core"]
# ## Summary
#
# - A classifier *names* a picture. A detector says *what* and *where*.
# - A sure name does not make a good box, and a good box does not make a right name.
# - A network that must choose one of 1000 names finds something in snow, too. Detectors need a class *background*.
# - Trying all boxes is hopeless. Proposals come first; then the work on each of them must become cheap.
#
# Next: **[01 Boxes and IoU](01_boxes_and_iou.ipynb)**.
#
# ## References
#
# 1. Iandola et al. 2016, *SqueezeNet*, arXiv 1602.07360 (we use version 1.1)
# 2. Russakovsky et al. 2015, *ImageNet Large Scale Visual Recognition Challenge*, arXiv 1409.0575
# 3. Girshick et al. 2014, *Rich feature hierarchies* (R-CNN), arXiv 1311.2524
# 4. Girshick 2015, *Fast R-CNN*, arXiv 1504.08083
# 5. Ren et al. 2015, *Faster R-CNN*, arXiv 1506.01497
#
# SPPnet: He et al. 2014, *Spatial pyramid pooling*, arXiv 1406.4729. The photos of this page: see `CREDITS.csv` in
# `data/wild` and `data/treetops`.
#
# ## Words
#
# | English | 한국어 | meaning |
# |---|---|---|
# | object detection | 객체 검출 | say what and where |
# | bounding box | 바운딩 박스 | a rectangle around a thing |
# | ground truth | 정답 (실제값) | what a person drew |
# | crop | 크롭, 잘라낸 영역 | the pixels inside a box |
# | IoU | 교집합 ÷ 합집합 | how well two boxes agree, 0 to 1 |
# | probability | 확률 | how sure, 0 to 1 |
# | feature map | 특징 맵 | what the network computed, cell by cell |
# | channel | 채널 | one of the 512 numbers of a cell |
# | region proposal | 영역 제안 | a box that may hold something |
# | background | 배경 | the class "nothing to find here" |
