# %% [markdown] tags=["core"]
# # 11 · The region proposal network
#
# **The question.** Lesson 10 placed nine anchors on every cell: thousands of boxes, most of them on nothing.
# *How does a network pick the good ones and mend them, without much extra work?*
#
# The **region proposal network**, in short **RPN**, is three small layers. With it the network makes its own
# regions: nobody has to bring them from outside.
#
# **After this lesson you can**
#
# - say what the RPN puts out: 2k scores and 4k corrections at each cell, and what they mean
# - find any number of its map in the flat list of anchors, and see the bug when somebody flattens it wrongly
# - say why "a small network slides over the map" and "a convolution" are the same
# - watch an RPN learn, and say what the 3x3 layer is for
#
# | section | | minutes |
# |---|---|---|
# | 1 Where the regions come from | core | 5 |
# | 2 A small network that slides | core | 8 |
# | 3 The map and the list | core | 12 |
# | 4 Two scores or one? | core | 6 |
# | 5 Watch it learn | core | 8 |
# | 6 Why the 3x3? | core | 6 |
# | 7 Papers and code | extra | 4 |

# %%
from rcnnlib.view.notebook import predict, setup, show_source

setup()

# %%
import inspect

import torch
from torch.nn.functional import conv2d, unfold

from rcnnlib.checks import check_objectness, check_rpn_head
from rcnnlib.datasets.coco import scrapbook, wild
from rcnnlib.datasets.transforms import resize
from rcnnlib.models.backbone import backbone
from rcnnlib.models.fast_rcnn import FastRCNN
from rcnnlib.models.faster_rcnn import FasterRCNN
from rcnnlib.models.rpn import RPNHead
from rcnnlib.models.weights import load_rpn_checkpoints
from rcnnlib.view.plotting import draw_boxes, figure, show_image

# %% [markdown] tags=["core"]
# ## 1 · Where the regions come from
#
# *core · 5 minutes*
#
# Fast R-CNN and Faster R-CNN differ in one place. Ask the code: what must be given to each?

# %% rows="L13 experiment"
for detector in (FastRCNN, FasterRCNN):
    names = list(inspect.signature(detector.stages).parameters)
    print(f"{detector.__name__:<11}", ", ".join(names[1:]))

# %% [markdown] tags=["core"]
# `regions` is gone. (`rounds` belongs to NMS: leave it aside.) Fast R-CNN wants regions from outside, from Selective Search.
# Faster R-CNN makes them itself. From what?

# %% jupyter={"source_hidden": true} rows="L13 predict"
predict(
    "What does the RPN read?",
    ["the photo", "the feature map that the trunk has made", "the boxes of Selective Search"],
    "the feature map that the trunk has made",
    "The next cell shows it: self.rpn(features). The expensive part, the trunk, runs once for both.",
)

# %% [markdown] tags=["core"]
# Two lines stand between the feature map and the pooling:

# %%
lines = inspect.getsource(FasterRCNN.stages).splitlines()[2:6]
print("\n".join(line.strip() for line in lines))

# %% [markdown] tags=["core"]
# **Look.** A real picture on its way: photo, its map (the mean of the 512 channels), and what a trained RPN
# proposes.

# %%
trunk, moments = backbone("squeezenet").eval(), load_rpn_checkpoints()
scenes, photos = scrapbook("test"), wild()
horses = resize(photos[[name for _, name in photos.images].index("horse.jpg")], 320)
scene, other = scenes[16], scenes[27]

# %% rows="L13 figure"
from rcnnlib.view.explorers.watch_it_learn import look

seen = look(moments[800], trunk, scene)
with torch.no_grad():
    features = trunk(scene.image[None])
size = tuple(features.shape[1:])
fig, axes = figure(860, 240, columns=3, alt=f"Photo, a map of {size}, and 8 proposals")
show_image(axes[0], scene.image).set_title("photo, 240 x 320 pixels")
axes[1].imshow(features[0].mean(0).numpy())
axes[1].set_axis_off()
axes[1].set_title("map, 512 x 15 x 20: the mean")
draw_boxes(show_image(axes[2], scene.image), seen.proposals[:8], kind="proposal")
axes[2].set_title("the 8 best proposals")
fig

# %% [markdown] tags=["core"]
# Eight are not enough: most of them are too large here. A detector takes some hundreds. (Section 5 shows why large ones
# come first.)

# %% [markdown] tags=["core"]
# ## 2 · A small network that slides
#
# *core · 8 minutes*
#
# The paper says: "we slide a small network over the convolutional feature map" (Faster R-CNN, 3.1). At each place the small
# network sees a **window** of 3 x 3 cells. It has one hidden layer, and two outputs:
#
# - **2k scores**: for each of the k anchors one number for *background* and one for *object*
# - **4k corrections**: for each anchor t_x, t_y, t_w, t_h (lesson 10)
#
# **Toy.** k = 9 anchors. How many numbers does the RPN put out at one cell?

# %% jupyter={"source_hidden": true}
predict(
    "k = 9. How many numbers at one cell, scores and corrections together?",
    ["9", "18", "36", "54"],
    lambda: str(2 * 9 + 4 * 9),
    "2 x 9 scores and 4 x 9 corrections.",
)

# %% [markdown] tags=["core"]
# Does a network that slides need a loop? We try both ways. First the loop in one line: `unfold` cuts out all windows and
# lays each of them out as a row. Then the small network, a plain matrix, works on every row.

# %%
head = RPNHead(512, 9, channels=128)
windows = unfold(features, 3, padding=1)[0].T
print("windows:", tuple(windows.shape), "= 15 x 20 places, 512 x 3 x 3 numbers each")
by_windows = windows @ head.conv.weight.flatten(1).T + head.conv.bias

# %% [markdown] tags=["core"]
# And the same weights as a 3x3 convolution:

# %%
by_convolution = conv2d(features, head.conv.weight, head.conv.bias, padding=1)
same = torch.allclose(by_windows, by_convolution[0].flatten(1).T, rtol=1e-4, atol=1e-3)
print("map:", tuple(by_convolution.shape[1:]), "- the same numbers:", same)

# %% [markdown] tags=["core"]
# So "a small network slides over the map" **is** a convolution. And the two outputs, which look at one cell only, are 1x1
# convolutions. These are the three layers, with k = 9:

# %%
head

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# `unfold` copies each cell nine times, once for each window that it lies in. The convolution reads the map where it is.
# </details>
#
# ## 3 · The map and the list
#
# *core · 12 minutes*
#
# The scores come as a **map** of shape (2k, h, w). The anchors of lesson 10 are a **list**: h · w · k boxes, row by row,
# cell by cell, anchor by anchor. The map must become a list in *the same* order, (h · w · k, 2): one **entry** for
# each anchor, with two numbers.
#
# Channel 0 says "background" for anchor 0, channel 1 says "object" for anchor 0. Channels 2 and 3 belong to anchor 1.
#
# **Toy.** A map of 3 x 4 cells, k = 3. We ask for channel 3 at row 1, column 2.

# %% jupyter={"source_hidden": true}
predict(
    "3 x 4 cells, k = 3. In which entry of the list is channel 3 of the cell in row 1, column 2? (All from 0.)",
    ["6", "18", "19", "21"],
    lambda: str((1 * 4 + 2) * 3 + 3 // 2),
    "The cell is number 1 x 4 + 2 = 6. Six cells with 3 anchors come before it: 18. Channel 3 is anchor 1: 18 + 1.",
)

# %% [markdown] tags=["core"]
# **Move.** Above: the six channels. Below: the list, lying on its side. Choose a channel, and its numbers light up
# in the list. The black frame is one number: the chosen channel at the chosen cell. Before you move it, predict:
# where do the entries of *one* channel stand in the list?

# %% rows="L15 explorer"
from rcnnlib.view.explorers.map_and_list import MapAndList

MapAndList()

# %% [markdown] tags=["core"]
# One channel is **every third entry**, always in the same half (bg or obj): one for each cell. One cell is three
# entries side by side.
#
# ### Your turn: `my_rpn_head`
#
# Write the score half of the RPN, from the feature map to the flat list. The weights are given: a 3x3 convolution with
# padding 1, a ReLU, a 1x1 convolution. Then the list.
#
# <details><summary>Hint 1: the layers</summary>
# <code>conv2d(x, weight, bias, padding=1)</code> and <code>torch.relu(x)</code>.
# </details>
#
# <details><summary>Hint 2: the list</summary>
# In the list the channel changes fastest. So the channels must come last before you flatten.
# </details>
#
# <details><summary>Hint 3</summary>
# <code>permute</code> names the old dimensions in their new order: (1, 2k, h, w) should become (1, h, w, 2k). Then
# <code>reshape</code>.
# </details>


# %% tags=["exercise"] rows="L15 exercise"
def my_rpn_head(features, conv_weight, conv_bias, score_weight, score_bias):
    """Return the scores (h w k, 2) of a feature map (1, C, h, w)."""
    raise NotImplementedError


# %%
check_rpn_head(my_rpn_head)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: entry by entry, without any reshape.


# %% jupyter={"source_hidden": true}
def list_by_hand(score_map):
    """Walk through the list and fetch every entry from the map."""
    channels, height, width = score_map.shape
    rows = []
    for i in range(height):
        for j in range(width):
            for anchor in range(channels // 2):
                background, objects = score_map[2 * anchor, i, j], score_map[2 * anchor + 1, i, j]
                rows.append([background.item(), objects.item()])
    return torch.tensor(rows)


def head_by_hand(features, conv_weight, conv_bias, score_weight, score_bias):
    """Two convolutions with a ReLU between them; then the list."""
    hidden = torch.relu(conv2d(features, conv_weight, conv_bias, padding=1))
    return list_by_hand(conv2d(hidden, score_weight, score_bias)[0])


# %%
with torch.no_grad():
    scores, deltas = head(features)
    score_map = head.scores(torch.relu(by_convolution))[0]
    by_hand = head_by_hand(features, *head.conv.parameters(), *head.scores.parameters())
assert torch.allclose(by_hand, scores[0], atol=1e-4)
print("map", tuple(score_map.shape), "-> list", tuple(scores[0].shape))
print("corrections", tuple(deltas[0].shape))

# %% [markdown] tags=["core"]
# And this is the whole RPN in the library. (`Float[Tensor, ...]` names the shapes.)

# %%
show_source(RPNHead, docstring=False)

# %% [markdown] tags=["core"]
# ### Plant the bug
#
# The classic mistake: `reshape(-1, 2)` without the permute. It has the right shape, and no error comes. In the explorer
# above choose *reshape alone*: the twelve cells of a channel land in **six entries side by side**. An entry
# should hold background and object of one anchor. Now it holds two neighbouring cells of one channel.
#
# On a trained RPN it looks like this. The softmax compares numbers that do not belong together:

# %%
from rcnnlib.ops.boxes import box_iou, clip_boxes
from rcnnlib.view.explorers.map_and_list import RESHAPES, flatten

rpn = moments[800]
with torch.no_grad():
    anchors, scores, deltas = rpn(features)
hidden = torch.relu(rpn.head.conv(features))
best = {}
for way in RESHAPES:
    objectness = flatten(rpn.head.scores(hidden)[0], way).softmax(-1)[:, 1]
    best[way] = anchors[objectness.topk(12).indices]

# %% rows="L15 figure"
hits = [int((box_iou(scene.boxes, boxes).amax(1) >= 0.5).sum()) for boxes in best.values()]
fig, axes = figure(760, 290, columns=2, alt=f"The 12 best anchors; they reach {hits} of 3 objects")
for ax, (way, boxes), hit in zip(axes, best.items(), hits, strict=True):
    boxes = clip_boxes(boxes, torch.tensor([240.0, 320.0]))
    draw_boxes(show_image(ax, scene.image), boxes, kind="anchor")
    draw_boxes(ax, scene.boxes, kind="ground_truth").set_title(f"{way}: {hit} of 3 reached")
fig

# %% [markdown] tags=["core"]
# ## 4 · Two scores or one?
#
# *core · 6 minutes*
#
# For each anchor the paper has two scores, *background* and *object*. A softmax makes probabilities of them. The
# probability of *object* is called **objectness**. It does not say *which* object: that is the work of the Fast
# R-CNN head, later.
#
# **Toy.** The scores are 0 and log 3. After exp: 1 and 3. So the objectness is 3 / (1 + 3) = 0.75.

# %% jupyter={"source_hidden": true}
predict(
    "We add 100 to both scores of an anchor. What happens to its objectness?",
    ["it grows", "it stays the same", "it falls"],
    lambda: (
        "it stays the same"
        if torch.allclose(torch.tensor([0.0, 1]).softmax(0), torch.tensor([100.0, 101]).softmax(0))
        else "it grows"
    ),
    "exp(a + 100) = exp(a) · exp(100), and the second factor cancels. Only the difference counts.",
)

# %% [markdown] tags=["core"]
# ### Your turn: `my_objectness`
#
# From the list (A, 2) to one probability for each anchor. Mind large scores: exp(200) is infinite in float32.
#
# <details><summary>Hint 1</summary>
# <code>torch.softmax</code> is allowed. Over which dimension?
# </details>
#
# <details><summary>Hint 2: without a softmax</summary>
# Only the difference counts. The function that turns a difference into a probability is the sigmoid.
# </details>


# %% tags=["exercise"] rows="L15 exercise"
def my_objectness(scores):
    """Return the probability of an object (A,) for scores (A, 2): background, object."""
    raise NotImplementedError


# %%
check_objectness(my_objectness)


# %% [markdown] tags=["core"]
# **One solution**, collapsed.


# %% jupyter={"source_hidden": true}
def objectness_by_hand(scores):
    """The sigmoid of the difference; where exp is infinite, 1 / inf = 0 is right."""
    difference = scores[:, 1] - scores[:, 0]
    return 1 / (1 + torch.exp(-difference))


# %%
two = scores[0].softmax(-1)[:, 1]
assert torch.allclose(objectness_by_hand(scores[0]), two, atol=1e-5)
print("softmax of two scores = sigmoid of their difference, for", len(two), "anchors")

# %% [markdown] tags=["core"]
# So k scores would do. The paper says so itself, and takes 2k "for simplicity". Later programs (torchvision, Detectron2)
# have k scores and a sigmoid. We keep the paper's 2k.

# %% [markdown] tags=["core"]
# ## 5 · Watch it learn
#
# *core · 8 minutes*
#
# Here is one RPN at six moments of its training: after 0, 10, 30, 100, 300 and 800 steps. The slider *moment* goes from
# one to the next. (The trunk is frozen, the hidden layer has 24 channels, and the data is Scrapbook. Training took
# a minute or two; `data/build/rpn_checkpoints.py` does it again.)
#
# - Left: the best proposals, after correction and NMS (lesson 13 takes this apart).
# - Right: the objectness of the nine anchors, cell by cell. Rows: ratios 1/2, 1, 2. Columns: scales 48, 96, 192.
#   Bright means "object".

# %% jupyter={"source_hidden": true}
predict(
    "What will the RPN learn first?",
    ["where the objects are", "to say 'background' nearly everywhere", "to move the boxes"],
    "to say 'background' nearly everywhere",
    "Most anchors lie on background. Drag the moment to 30 steps and look at the maps.",
)

# %% rows="L15 explorer, L13 explorer"
from rcnnlib.view.explorers.watch_it_learn import WatchItLearn

pictures = {"scene 1": scene, "scene 2": other, "photo": horses}
WatchItLearn(moments, trunk, pictures, alt="A scene of Scrapbook, or a photo with horses")

# %% [markdown] tags=["core"]
# Try this:
#
# 1. From 0 to 30: what happens to all nine maps?
# 2. At 800: which anchors light up on a large object, and which on small ones?
# 3. How many proposals do you need until all objects are reached? At 800 steps, and at 0? (There may be too few.)
# 4. *photo*: the RPN has never seen a real photo. Does it find the horses?

# %%
for steps, moment in moments.items():
    found = look(moment, trunk, scene)
    hit = int((box_iou(scene.boxes, found.proposals[:30]).amax(1) >= 0.5).sum())
    mean = found.objectness.mean()
    print(f"{steps:>3} steps: mean objectness {mean:.2f}, 30 proposals reach {hit} of 3")

# %% [markdown] tags=["core"]
# First it learns that nearly everything is background: eight of the nine maps go dark. Then the right cells come
# back, and each scale answers to objects of its size. No line of code says so: it follows from the labels (lesson
# 12).
#
# And the map at the lower right, which stays bright? Its anchor is 272 pixels high and never fits into 240. It crosses the
# border at every cell and takes no part in training (lesson 10). Nobody ever told it "background".
#
# One scene proves little. `data/weights/README.md` has the figures for all 150 test scenes: there, too, the RPN gets worse
# before it gets better.

# %% [markdown] tags=["core"]
# ## 6 · Why the 3x3?
#
# *core · 6 minutes*
#
# > **A 3x3 convolution makes the intermediate layer. Why?**
# > «(3by3 conv를 통해서 Intermediate layer 생성) 왜할까요?»
#
# A 1x1 layer would be cheaper. What does the window of 3x3 cells add? We took it away and measured. Three RPNs, each
# trained five times on Scrapbook, always on the same pictures: with 3x3, with 1x1, and with a 1x1 that has as many
# weights in its first layer as the 3x3.

# %% rows="Q5 experiment"
from rcnnlib.engine.experiments import read_result

result = read_result("rpn_3x3_vs_1x1")
print("recall at IoU 0.5: mean of five seeds (lowest to highest)")
print(result.table("recall 0.5 at 300", "recall 0.5 at 100", "recall 0.5 at 30", decimals=2))

# %%
for measure in ("recall 0.5 at 300", "recall 0.5 at 100"):
    values = {name: torch.tensor(each[measure]) for name, each in result.values.items()}
    for name in ("1x1", "1x1, as many weights"):
        gain = values["3x3"] - values[name]  # seed by seed: same pictures, same order
        wins = f"better in {int((gain > 0).sum())} of {len(gain)} seeds"
        print(f"{measure}, 3x3 against {name}: {wins}, by {gain.mean():.2f} on average")

# %% [markdown] tags=["core"]
# **Answer.** A 1x1 layer judges each cell alone. With 3x3 a cell also sees its eight neighbours, and can tell whether the
# object goes on there or ends. That is the idea; now the numbers. With 300 proposals 3x3 and the plain 1x1 hardly
# differ. With 100, where the *order* of the proposals counts, 3x3 was better in most seeds. More weights alone do
# not do it: the 1x1 layer with as many was the worst of the three. (We do not know why; perhaps it needs longer
# training.) So the window helps, but an RPN works without it. (The trunk below has looked at neighbours already:
# one cell sees 207
# pixels, lesson 04.)
#
# > **답.** 3x3 합성곱은 한 셀뿐 아니라 이웃한 여덟 셀까지 함께 보므로, 물체가 어디까지 이어지는지 판단하는 데 도움이 됩니다.
# > 우리 실험에서는 제안이 300개일 때 단순한 1x1과 차이가 거의 없었지만, 100개일 때는 대부분의 시드에서 3x3이 더 좋았습니다.

# %% [markdown] tags=["extra"]
# ## 7 · Papers and code
#
# *extra · 4 minutes*
#
# | | Faster R-CNN (VGG16) | this course | torchvision |
# |---|---|---|---|
# | first layer | 3x3, 512 channels | 3x3, 128 channels | 3x3, as many as the map |
# | scores | 2k, softmax | 2k, softmax | k, sigmoid |
# | corrections | 4k | 4k | 4k |
#
# **The paper said, we counted.** The paper calls its RPN a "small network". Beside VGG16 it is. And beside our
# trunk?

# %%
parts = {"trunk": trunk, "RPN, 128 channels": RPNHead(512, 9, channels=128)}
for name, part in parts.items():
    print(f"{name:<18}{sum(parameter.numel() for parameter in part.parameters()):>9,} weights")

# %% [markdown] tags=["extra"]
# Not so small: our trunk is small itself, and most weights of the RPN are in its 3x3 layer.

# %% [markdown] tags=["extra"]
# > **What the notes said.** The notes call the RPN's score "class score". It is objectness: two classes, object or not.
# > Which class it is comes from the Fast R-CNN head.

# %% [markdown] tags=["core"]
# ## Summary
#
# - The RPN reads the shared feature map: a 3x3 convolution, then two 1x1 convolutions.
# - At each cell: 2k scores and 4k corrections, for k anchors.
# - "A small network slides over the map" and "a convolution" are the same.
# - The map becomes a list in the order of the anchors: channels to the end, then reshape. A reshape alone mixes cells up.
# - Objectness = softmax of two scores = sigmoid of their difference.
# - It learns "background" first, then where the objects are.
#
# Next: **12 RPN targets and loss**: which anchors it learns from.
#
# ## Glossary
#
# | English | 한국어 | meaning |
# |---|---|---|
# | region proposal network (RPN) | 영역 제안 네트워크 | the layers that propose regions |
# | objectness | 객체성 (물체일 확률) | the probability that an anchor holds an object |
# | intermediate layer | 중간층 | the 3x3 layer between map and outputs |
# | sliding window | 슬라이딩 윈도우 | a small window that visits every cell |
# | flatten | 평탄화 | turn a map into a list |
# | softmax, sigmoid | 소프트맥스, 시그모이드 | turn scores into probabilities |
#
# ## References
#
# - Ren, He, Girshick, Sun: *Faster R-CNN*, 2015, [arXiv 1506.01497](https://arxiv.org/abs/1506.01497), section 3.1
#
# The scenes are made of cut-outs of Tux Paint's stamps; `data/scrapbook/CREDITS.csv` names their authors. The photo of the
# horses is public domain or CC0.
