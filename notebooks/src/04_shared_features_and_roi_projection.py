# %% [markdown] tags=["core"]
# # 04 · Shared features and RoI projection
#
# **The question.** R-CNN cuts about 2000 crops out of one photo and sends each through the network, one by one.
# The crops overlap, so the network looks at the same pixels again and again. *Is one look enough for all of them?*
#
# **After this lesson you can**
#
# - say how a photo becomes a feature map, and which pixels one cell of the map sees
# - find a region of the photo on the map, with the rounding of Fast R-CNN, and say what the rounding costs
# - turn a region of any shape into a vector of fixed length
# - say what you win, and what changes, when you cut out features and not pixels
# - recognise two classic bugs: the wrong rounding, and the forgotten scale
#
# | section | | minutes |
# |---|---|---|
# | 1 One look at the photo | core | 6 |
# | 2 What one cell sees | core | 12 |
# | 3 From the photo to the map | core | 10 |
# | 4 A vector of fixed length | core | 9 |
# | 5 Cut pixels or cut features? | core | 8 |
# | 6 Plant the bug | extra | 5 |
# | 7 Papers and code | extra | 5 |
#
# You may leave out what is marked *extra*. You need lesson 01 (boxes, IoU). Lesson 03 (R-CNN) helps.

# %%
from rcnnlib.view.notebook import predict, setup, show_source

setup()

# %%
import json
import math
from time import perf_counter

import torch

from rcnnlib.checks import check_pyramid, check_receptive_field, check_roi_projection
from rcnnlib.datasets.coco import wild
from rcnnlib.datasets.paths import data_dir
from rcnnlib.models.backbone import squeezenet
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.roi_ops import project, quantize, roi_pool, spatial_pyramid_pool, warp
from rcnnlib.view.plotting import LINES, draw_boxes, figure, show_image, show_map

# %% [markdown] tags=["core"]
# ## 1 · One look at the photo
#
# *core · 6 minutes*
#
# R-CNN stretches each crop to one size, because its network needs one: 224 x 224 pixels for VGG16.
#
# **Toy.** How much work is that? Let us count pixels: 200 crops of 224 x 224 against one photo of 640 x 480.

# %% jupyter={"source_hidden": true}
predict(
    "How many times as many pixels do the 200 crops have?",
    ["about 3", "about 33", "about 200", "about 330"],
    lambda: f"about {200 * 224 * 224 / (640 * 480):.0f}",
    "200 x 224 x 224 is 10 million. The photo has 307,200. R-CNN takes 2000 crops, so ten times that again.",
)

# %% [markdown] tags=["core"]
# The idea of SPPnet (2014) and Fast R-CNN (2015): send the **whole photo** through the network, **once**.
# For each region look at the result, not at the photo.
#
# What comes out of the convolutions is the **feature map**: a grid of **cells**, each with many numbers. The part of the
# network that makes it is called the **trunk** (or *backbone*). Ours is SqueezeNet, trained on ImageNet. The papers use VGG16.

# %%
photos = wild()
places = {name: place for place, (_, name) in enumerate(photos.images)}
cat = photos[places["cat.jpg"]]
trunk = squeezenet().trunk.requires_grad_(False)
print("photo", tuple(cat.image.shape), "   stride of the trunk:", trunk.stride)

# %% [markdown] tags=["core"]
# The **stride** of our trunk is 16, as that of VGG16: two neighbouring cells of the map stand for places 16 pixels apart.

# %% jupyter={"source_hidden": true} rows="L5 predict"
predict(
    "The photo is 640 pixels wide and 480 high. How many cells does its feature map have?",
    ["7 x 7", "16 x 16", "40 x 30", "640 x 480"],
    lambda: "{1} x {0}".format(*trunk(cat.image[None]).shape[2:]),
    "640 / 16 = 40 columns and 480 / 16 = 30 rows. (The papers' photos, about 1000 x 600, give about 60 x 40.)",
)

# %%
with torch.inference_mode():
    features = trunk(cat.image[None])[0]  # (512, 30, 40): channels, rows, columns
tuple(features.shape)

# %% [markdown] tags=["core"]
# Each cell holds 512 numbers, one for each **channel**. The cells lie as the pixels lie: what is on the right of the
# photo is on the right of the map. So a region of the photo *is* a region of the map.
#
# A region in which we look for an object is called **RoI**: *region of interest*. In R-CNN, SPPnet and Fast R-CNN these are
# the boxes of Selective Search (lesson 02). Here we draw our own.
#
# **Look.** This is the architecture of Fast R-CNN, drawn from real tensors.
# (A map has 512 channels. The pictures show the one that the cat's head excites most.)

# %%
head = torch.tensor([[112.0, 64, 328, 232]])  # our RoI: x1, y1, x2, y2 in pixels
on_map = project(head, 1 / 16)
x1, y1, x2, y2 = quantize(on_map)[0].tolist()  # whole numbers: section 3
cut = features[:, y1 : y2 + 1, x1 : x2 + 1]
channel = int((cut.mean((1, 2)) - features.mean((1, 2))).argmax())
grid = roi_pool(features, head, 7, spatial_scale=1 / 16)[0]
print("RoI in cells", on_map[0].tolist())
print("its cells", tuple(cut.shape), "  grid", tuple(grid.shape))  # channels, rows, columns

# %% rows="L5 figure"
names = ("photo 640 x 480", "→ map 40 x 30", "→ cells 15 x 12", "→ grid 7 x 7")
fig, axes = figure(880, 200, columns=4, alt="Fast R-CNN on real tensors: " + "; ".join(names))
axes[0].get_gridspec().set_width_ratios([4 / 3, 4 / 3, 15 / 12, 1])
draw_boxes(show_image(axes[0], cat.image), head, kind="proposal", labels=["RoI"])
draw_boxes(show_map(axes[1], features[channel]), on_map, kind="proposal")
show_map(axes[2], cut[channel])
show_map(axes[3], grid[channel])
for ax, name in zip(axes, names, strict=True):
    ax.set_title(name)
fig

# %% [markdown] tags=["core"]
# From left to right:
#
# 1. **photo → map**: one pass, for all RoIs together. This is the expensive part.
# 2. **RoI on the map**: divide by 16 and round. Section 3.
# 3. **cells → grid**: 15 x 12 cells become 7 x 7, whatever the RoI's shape. Section 4 does it as SPPnet did,
#    lesson 05 as Fast R-CNN does.
#
# After the grid come fully connected layers that say *what* it is and *where* exactly (lesson 06).
# Steps 2 and 3 are repeated for each RoI. They are cheap.

# %% [markdown] tags=["core"]
# ## 2 · What one cell sees
#
# *core · 12 minutes*
#
# A cell stands for 16 x 16 pixels. But it *sees* more: each convolution with a 3x3 **kernel** mixes a cell with its neighbours.
# All the pixels that can change a cell are its **receptive field**.
#
# **Toy.** One row of pixels and two layers. The first has kernel 3 and stride 2, the second kernel 3 and stride 1.
# Below, one cell of layer 2 is blue, and so are the cells of layer 1 that it sees.

# %% jupyter={"source_hidden": true}
toy = [(3, 2), (3, 1)]  # kernel, stride
fig, ax = figure(620, 170, alt="A row of pixels and two layers; one cell sees three")
rows_of = ((1, 17, ()), (2, 8, (3, 4, 5)), (2, 8, (4,)))  # distance, number, blue ones
for level, (jump, count, seen) in enumerate(rows_of):
    for place in range(count):
        colour = LINES[0] if place in seen else "#DDDDDD"
        ax.scatter(place * jump, level, s=230, marker="s", color=colour, edgecolor="white")
ax.set(xlim=(-1, 17), ylim=(-0.5, 2.5), xticks=[])
ax.set_yticks(range(3), ["pixels", "layer 1", "layer 2"])
ax.tick_params(length=0)
ax.spines[:].set_visible(False)
fig

# %% [markdown] tags=["core"]
# Two neighbours of layer 1 lie **2** pixels apart, because of the stride of this layer. This distance, in *pixels*, is called
# the **jump**. (The jump after the last layer is the stride of the whole trunk.)
# Each cell of layer 1 sees 3 pixels: the one below it, and one on each side. Put your finger on these pixels.

# %% jupyter={"source_hidden": true}
predict(
    "How many pixels does the blue cell at the top see?",
    ["3", "5", "6", "7", "9"],
    lambda: str(field_by_hand(toy)[-1].item()),
    "3 pixels for the cell in the middle, and 2 more on each side: 3 + 2 x 2.",
)

# %% [markdown] tags=["core"]
# ### Your turn: `my_receptive_field`
#
# Take a list of layers, `[(kernel, stride), ...]`, the first one first. For each layer give the size of the field *after* it.
# The toy gives `tensor([3, 7])`.
#
# <details><summary>Hint 1: two numbers to carry along</summary>
# Keep <code>size</code> (the field so far) and <code>jump</code> (pixels between two neighbours). Both begin with 1.
# </details>
#
# <details><summary>Hint 2: what a kernel adds</summary>
# A kernel of 3 reaches one step further on each side: 2 steps more, <code>kernel - 1</code>. A step is <code>jump</code> pixels.
# </details>
#
# <details><summary>Hint 3: the order</summary>
# The stride of a layer moves the cells of its <i>own</i> map apart; its kernel steps on the map <i>below</i>. So first add
# to size, then multiply jump by the stride.
# </details>


# %% tags=["exercise"]
def my_receptive_field(layers):
    """Return the size of the field after each layer: a tensor (L,) of whole numbers."""
    raise NotImplementedError


# %%
check_receptive_field(my_receptive_field)

# %% [markdown] tags=["core"]
# **One solution**, collapsed.


# %% jupyter={"source_hidden": true}
def field_by_hand(layers):
    """Layer by layer: a kernel adds steps, a stride makes the next steps longer."""
    size, jump, sizes = 1, 1, []
    for kernel, stride in layers:
        size = size + (kernel - 1) * jump
        jump = jump * stride
        sizes.append(size)
    return torch.tensor(sizes)


# %% [markdown] tags=["core"]
# **The real trunk.** Its layers, with the sizes by this formula. (*pool* is max pooling. A *fire* module is SqueezeNet's
# building block; its widest kernel is 3.)

# %%
from rcnnlib.view.explorers.receptive_field import ReceptiveField, layers_of, look_back

layers = layers_of(trunk)
sizes = field_by_hand([(layer.kernel, layer.stride) for layer in layers.values()])
for (name, layer), size in zip(layers.items(), sizes.tolist(), strict=True):
    window = f"kernel {layer.kernel}   stride {layer.stride}"
    print(f"{name}   {window}   jump {layer.jump:>2}   sees {size:>3} pixels")

# %% [markdown] tags=["core"]
# **Measured.** We need not believe a formula. PyTorch can tell which pixels a cell depends on: the **gradient** of the cell,
# with respect to the pixels. Where it is not zero, the pixel matters.
#
# We add up the 512 numbers of the cell in row 15, column 15, and go backward.

# %%
pixels = cat.image[None].clone().requires_grad_()
trunk(pixels)[0, :, 15, 15].sum().backward()
seen = pixels.grad[0].abs().sum(0)  # (480, 640): how strongly each pixel can change the cell
x, y = seen.sum(0).nonzero().flatten(), seen.sum(1).nonzero().flatten()
for name, at in (("x", x), ("y", y)):
    print(f"{name} from {at[0]} to {at[-1]}: {at[-1] - at[0] + 1} pixels")

# %%
for name, size in zip(layers, sizes.tolist(), strict=True):
    x1, y1, x2, y2 = look_back(15, 15, name, 0.5, trunk=trunk, image=cat.image)["seen"]
    assert (x2 - x1, y2 - y1) == (size, size)
print("formula and gradient agree after each of", len(layers), "layers")

# %% [markdown] tags=["core"]
# The middle of all these pixels is pixel number 248. A pixel is a square of width 1, so its middle lies at **x = 248.5**.
# The cell's own square reaches from 15 x 16 = 240 to 256; its middle is 248. In general:
#
# > What cell j sees is centred on 16 j + 8.5: the middle of its square, up to half a pixel.
#
# <details><summary>Why this is not a matter of course</summary>
#
# Each of the four layers with stride 2 has a kernel of 3. Padded on both sides, such a layer centres its output j on input
# 2 j. Four of them would centre cell j on pixel 16 j: the left <i>edge</i> of its square, half a stride off.
# So the last of the four is not padded on the left. It begins one cell later, and that is 8 pixels.
# </details>

# %% [markdown] tags=["core"]
# **How strong?** "Not zero" says nothing about *how much* a pixel matters. We take 12 cells and average their gradients. And
# we look for the smallest square around the centre that holds *half* of the gradient.

# %%
fields, squares = [], []
for column, row in [(column, row) for row in (9, 15, 21) for column in (9, 16, 23, 30)]:
    found = look_back(column, row, "fire9", 0.5, trunk=trunk, image=cat.image)
    x, y = found["point"]
    fields.append(found["gradient"][y - 103 : y + 104, x - 103 : x + 104])
    squares.append(found["square"])
strength = torch.stack(fields).mean(0)
half = sorted(squares)[6]  # the median

# %% jupyter={"source_hidden": true}
predict(
    "The whole field is 207 pixels wide. How wide is the square that holds half of the gradient?",
    ["about 70 pixels", "about 105 pixels", "about 145 pixels"],
    lambda: "about 70 pixels" if abs(half - 69) < 10 else "about 105 pixels",
    "A third of 207, and a third of a third is a ninth: half of the gradient comes from a ninth of the area.",
)

# %%
fig, axes = figure(700, 260, columns=2, alt=f"Mean gradient; half within {half} of 207 pixels")
show_map(axes[0], strength.sqrt()).set_title("mean of 12 cells (square root)")
low = (207 - half) / 2
draw_boxes(axes[0], [[low, low, 207 - low, 207 - low]], kind="note", labels=[f"half: {half}"])
profile = strength.sum(0) / strength.sum(0).max()
axes[1].plot(range(-103, 104), profile, color=LINES[0])
axes[1].set(xlabel="pixels from the centre of the cell", yticks=[], ylim=(0, 1.05))
axes[1].set_title("summed down the columns")
fig

# %% [markdown] tags=["core"]
# Roughly a bell. There are many ways through the layers from a pixel in the middle to the cell, and only one from a corner.
# The part that matters is called the **effective** receptive field. It is much smaller than the theoretical one.
#
# **Move.** Click on the photo, or use the sliders. "After layer" goes down into the trunk. Before you move it, predict.

# %% jupyter={"source_hidden": true}
predict(
    "The cell in column 0 lies at the left border. How many columns of pixels does it see?",
    ["16", "104", "112", "207"],
    lambda: f"{look_back(0, 15, 'fire9', 0.5, trunk=trunk, image=cat.image)['seen'][2]:.0f}",
    "Its field ends 103 pixels to the right of pixel 8, the middle one: columns 0 to 111. The rest lies outside.",
)

# %% rows="L5 explorer"
ReceptiveField(cat.image, trunk, (14, 9), alt="A kitten with a ball of wool")

# %% [markdown] tags=["core"]
# White squares: the cell, the square that holds half of the gradient, and all that it sees. On the right the gradient itself
# (again its square root), with the same square, dashed. Try these.
#
# 1. Go down to `conv1`. How many pixels does a cell see there? Does the centre move?
# 2. Click on the cat's nose. Does the cell see both ears? Does it see them *well*?
# 3. "Square holds" 0.95. Is the square nearly as large as the field?

# %% [markdown] tags=["core"]
# ## 3 · From the photo to the map
#
# *core · 10 minutes*
#
# A RoI is given in pixels of the photo. Where is it on the map? This step is called **RoI projection**.
#
# **Toy.** The RoI (102, 60, 299, 200), stride 16. Take a pencil and divide.
#
# | | x1 | y1 | x2 | y2 |
# |---|---|---|---|---|
# | pixels | 102 | 60 | 299 | 200 |
# | divided by 16 | 6.375 | 3.75 | 18.6875 | 12.5 |
#
# There is no cell number 6.375. So Fast R-CNN **rounds** to the nearest whole number. A half is rounded *up*, as the function
# `round` of the language C does. (For numbers below zero it goes down: "half away from zero".)

# %%
small = torch.tensor([[102.0, 60, 299, 200]])

# %% jupyter={"source_hidden": true}
predict(
    "Which four numbers come out?",
    ["6, 3, 18, 12", "6, 4, 19, 12", "6, 4, 19, 13", "7, 4, 19, 13"],
    lambda: ", ".join(map(str, projection_by_hand(small, 16)[0].tolist())),
    "6.375 is nearer to 6, and 12.5 goes up.",
)

# %% [markdown] tags=["core"]
# The four numbers are the **first and the last** cell, and *the last one belongs to the RoI*. So this RoI has
# the columns 6, 7, ..., 19.

# %% jupyter={"source_hidden": true}
predict(
    "How many columns are that?",
    ["12", "13", "14"],
    lambda: str((projection_by_hand(small, 16)[0, 2] - projection_by_hand(small, 16)[0, 0] + 1).item()),
    "19 - 6 + 1. The exact RoI is only 12.3 cells wide.",
)

# %% [markdown] tags=["core"]
# ### Your turn: `my_roi_projection`
#
# Take boxes (R, 4) in pixels and a stride. Give the first column, first row, last column and last row of each:
# whole numbers, rounded as above.
#
# <details><summary>Hint 1: beware of round</summary>
# Try <code>round(0.5)</code>, <code>round(1.5)</code> and <code>round(2.5)</code> in a cell. Python's <code>round</code> and
# <code>torch.round</code> take a half to the nearest <b>even</b> number.
# </details>
#
# <details><summary>Hint 2: from zero up</summary>
# Add 0.5, then cut the decimals off: 6.375 + 0.5 = 6.875 gives 6, and 12.5 + 0.5 = 13 gives 13.
# </details>
#
# <details><summary>Hint 3: below zero</summary>
# Do it with the number without its sign, <code>x.abs()</code>, and give the sign back: <code>x.sign()</code>.
# </details>
#
# <details><summary>Hint 4: whole numbers</summary>
# <code>.long()</code> turns a tensor into whole numbers.
# </details>


# %% tags=["exercise"] rows="L6 exercise"
def my_roi_projection(boxes, stride):
    """Return first column, first row, last column, last row of boxes (R, 4) in pixels."""
    raise NotImplementedError


# %%
check_roi_projection(my_roi_projection)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: number by number.


# %% jupyter={"source_hidden": true}
def projection_by_hand(boxes, stride):
    """Divide, round to the nearest, a half away from zero."""
    rows = []
    for box in boxes.tolist():
        exact = [edge / stride for edge in box]
        rows.append([int(math.copysign(math.floor(abs(e) + 0.5), e)) for e in exact])
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 4)


# %% [markdown] tags=["core"]
# **The library** does it in two steps: `project` divides, `quantize` rounds. We compare on random RoIs. Their corners are
# multiples of 4 pixels, so that halves occur.


# %%
def random_rois(count, side=None):
    """RoIs on 640 x 480 pixels, of any size or squares of ``side``."""
    if side is None:
        points = torch.rand(count, 2, 2) * torch.tensor([640.0, 480.0])
        return torch.cat((points.amin(1), points.amax(1)), dim=1)
    corner = torch.rand(count, 2) * (torch.tensor([640.0, 480.0]) - side)
    return torch.cat((corner, corner + side), dim=1)


# %%
boxes = (random_rois(500) / 4).round() * 4 - 32  # some begin outside of the photo
exact = project(boxes, 1 / 16)
assert torch.equal(projection_by_hand(boxes, 16), quantize(exact))
halves = int((exact.frac().abs() == 0.5).sum())
print("loop and library agree on", len(boxes), "RoIs;", halves, "of their edges are halves")
show_source(quantize, docstring=False)

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# <code>frac</code> is what stands behind the point, with the sign: -2.5 gives -0.5. Twice that, cut off, is 1 or -1 from a
# half on, and 0 below. A few calls round all edges of all RoIs at once.
# </details>

# %% [markdown] tags=["core"]
# **Look.** Three RoIs, dashed. White: the pixels that belong to the rounded cells.

# %%
rois = torch.tensor([[112.0, 64, 328, 232], [555, 218, 623, 288], [10, 335, 42, 367]])
last = torch.tensor([0, 0, 1, 1])  # the last cell counts as well, up to its far edge
covered = (quantize(project(rois, 1 / 16)) + last) * 16.0
ious = box_iou(rois, covered).diagonal()
sizes = [f"{x2 - x1:.0f} x {y2 - y1:.0f}" for x1, y1, x2, y2 in rois.tolist()]
for size, iou in zip(sizes, ious, strict=True):
    print(f"RoI of {size} pixels: IoU with its cells {iou:.4f}")

# %% rows="L6 figure"
fig, ax = figure(440, 330, alt=f"Three RoIs and their cells, IoU {[round(i.item(), 2) for i in ious]}")
draw_boxes(show_image(ax, cat.image), covered, kind="note")
names = [f"{size}: {iou:.2f}" for size, iou in zip(sizes, ious, strict=True)]
draw_boxes(ax, rois, kind="proposal", labels=names)
fig

# %% [markdown] tags=["core"]
# The head loses little. The end of the thread, 32 x 32 pixels, becomes a region more than twice as large.
#
# **Move.** Drag the RoI on the photo. Before you move it, predict.

# %% jupyter={"source_hidden": true} rows="L6 predict"
predict(
    "How far beyond the right edge of a RoI can its cells reach?",
    ["up to 8 pixels", "up to 16 pixels", "up to 24 pixels"],
    lambda: f"up to {round(((quantize(project(boxes, 1 / 16))[:, 2] + 1) * 16 - boxes[:, 2]).max().item())} pixels",
    "Rounding up gives at most half a cell, 8 pixels. And the last cell belongs to the RoI: 16 more.",
)

# %% rows="L6 explorer"
from rcnnlib.view.explorers.roi_projection import BUGS, RoIProjection, look_up

RoIProjection(cat.image, trunk, (116, 60, 204, 165), alt="A kitten with a ball of wool")

# %% [markdown] tags=["core"]
# White on the photo: the pixels of the rounded cells. Try these. (Leave "planted bug" at "none" for now.)
#
# 1. Move the RoI one pixel at a time. When do the cells jump?
# 2. Make the IoU as large as you can, without changing width and height.
# 3. Make the RoI 32 x 32. What is the best IoU now?
# 4. "Network sees" 320 x 240: the network gets a smaller copy of the photo. How many pixels of the *photo* is a cell now?
#
# How bad is it on average? We measure 2000 random squares of each size. ("+" means: too far to the right or down.)

# %% rows="L6 experiment"
for side in (32, 64, 128, 256):
    squares = random_rois(2000, side)
    cells = (quantize(project(squares, 1 / 16)) + last) * 16.0
    iou = box_iou(squares, cells).diagonal().mean()
    left, right = ((cells - squares)[:, edge].mean().round().int() for edge in (0, 2))
    print(f"{side:>3} pixels: left edge off by {left:+d}, right by {right:+d}, IoU {iou:.2f}")

# %% [markdown] tags=["core"]
# On average the left edge is where it should be. The right edge lies **16 pixels, one cell, too far**: that is the last cell.
# A large RoI does not mind. A small one drowns in its surroundings. Lesson 05 repairs this, with *RoI align*.

# %% [markdown] tags=["core"]
# ## 4 · A vector of fixed length
#
# *core · 9 minutes*
#
# RoIs have all shapes: 15 x 12 cells, 4 x 30 cells. But a fully connected layer needs the same number of inputs each time.
# R-CNN solves this by force: it **warps** each crop to one size. A long cat becomes a short one.
#
# SPPnet's answer is the **spatial pyramid**. Divide the RoI into 2 x 2 parts, called **bins**, whatever its size. Keep the
# *largest* number of each, in each channel. That is one **level** of the pyramid. Do the same with 1 x 1 bin, and join the
# numbers.
#
# **Toy.** A map of 4 x 4 cells, one channel, levels 2 and 1.

# %%
paper = torch.tensor([[1.0, 0, 2, 3], [5, 1, 0, 1], [0, 2, 7, 1], [2, 0, 4, 3]])
fig, ax = figure(260, 260, alt="A map of 4 x 4 numbers, cut into 2 x 2 bins")
show_map(ax, paper, text=".0f")
draw_boxes(ax, [[0, 0, 2, 2], [2, 0, 4, 2], [0, 2, 2, 4], [2, 2, 4, 4]], kind="note")
fig

# %% jupyter={"source_hidden": true} rows="L3 predict"
predict(
    "Which vector comes out of levels 2 and 1?",
    ["5, 3, 2, 7", "5, 3, 2, 7, 7", "5, 2, 3, 7, 7", "7, 7, 3, 2, 5"],
    lambda: ", ".join(f"{number:.0f}" for number in pyramid_by_hand(paper, (2, 1)).tolist()),
    "Four bins row by row: 5, 3, then 2, 7. The whole map is the fifth bin, and its largest number is 7.",
)

# %% [markdown] tags=["core"]
# Where the cells cannot be divided evenly, a bin is rounded **outward**. With L cells and p bins, bin i begins at
# `floor(i L / p)` and ends before `ceil((i + 1) L / p)`. So 5 cells in 2 bins give cells 0 to 2 and 2 to 4: cell 2 belongs to
# both.
#
# ### Your turn: `my_pyramid`
#
# Take a map (h, w) of one channel and a tuple of levels. Give the largest number of each bin: level after level, each one row
# by row.
#
# <details><summary>Hint 1: three loops</summary>
# Over the levels, over the rows of bins, over the columns of bins. Append one number each time.
# </details>
#
# <details><summary>Hint 2: the first and last row of a bin</summary>
# <code>top = i * h // p</code> is floor. For ceil use <code>math.ceil((i + 1) * h / p)</code>, or
# <code>-(-(i + 1) * h // p)</code>.
# </details>
#
# <details><summary>Hint 3: the end</summary>
# <code>features[top:bottom, left:right].max()</code> is one number, and <code>torch.stack(numbers)</code> joins a list of them.
# </details>


# %% tags=["exercise"] rows="L3 exercise"
def my_pyramid(features, levels):
    """Return the largest number of each bin of a map (h, w): p * p numbers for each level p."""
    raise NotImplementedError


# %%
check_pyramid(my_pyramid)

# %% [markdown] tags=["core"]
# **One solution**, collapsed.


# %% jupyter={"source_hidden": true}
def pyramid_by_hand(features, levels):
    """Bin by bin."""
    (h, w), numbers = features.shape, []
    for p in levels:
        for i in range(p):
            for j in range(p):
                top, bottom = i * h // p, math.ceil((i + 1) * h / p)
                left, right = j * w // p, math.ceil((j + 1) * w / p)
                numbers.append(features[top:bottom, left:right].max())
    return torch.stack(numbers)


# %% [markdown] tags=["core"]
# **The library.** `spatial_pyramid_pool` takes all channels, and RoIs in pixels. We give it random RoIs on the cat's map, and
# compare one channel.

# %%
levels, boxes = (6, 3, 2, 1), random_rois(100)
vectors = spatial_pyramid_pool(features, boxes, levels, spatial_scale=1 / 16)
for box, vector in zip(quantize(project(boxes, 1 / 16)).tolist(), vectors, strict=True):
    part = features[channel, box[1] : box[3] + 1, box[0] : box[2] + 1]
    grids = vector.split([512 * p * p for p in levels])
    ours = torch.cat([grid.view(512, -1)[channel] for grid in grids])
    assert torch.equal(pyramid_by_hand(part, levels), ours)
print("loop and library agree on", len(boxes), "RoIs; their vectors:", tuple(vectors.shape))

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# The loop visits every cell of every bin. The library first writes down the largest number of <i>all</i> windows of 1, 2, 4, 8,
# ... cells, for the whole map. Any bin is then covered by four such windows that may overlap: four look-ups, however large it is.
# Lesson 05 takes this apart.
# </details>

# %% [markdown] tags=["core"]
# **Look.** A long RoI and one that is nearly square, and one channel of their vectors: the channel that the whole cat excites most.

# %%
x1, y1, x2, y2 = quantize(project(cat.boxes, 1 / 16))[0].tolist()
inside = features[:, y1 : y2 + 1, x1 : x2 + 1].mean((1, 2))
cat_channel = int((inside - features.mean((1, 2))).argmax())
one_channel = features[cat_channel : cat_channel + 1]

# %% rows="L3 figure"
shapes = {"thread": torch.tensor([[8.0, 310, 380, 430]]), "head": head}
fig, axes = figure(720, 240, rows=2, columns=2, alt="Two RoIs, one channel of their vectors:")
for (ax, strip), (name, box) in zip(axes, shapes.items(), strict=True):
    vector = spatial_pyramid_pool(one_channel, box, levels, spatial_scale=1 / 16)
    draw_boxes(show_image(ax, cat.image), box, kind="proposal", labels=[name])
    show_map(strip, vector).set_aspect("auto")
    strip.set_title(f"{name}: 36 + 9 + 4 + 1 = {vector.shape[1]} numbers")
    fig.alt += f" {name} {vector.shape[1]} numbers;"
axes[0, 0].get_gridspec().set_width_ratios([1, 2.6])
fig

# %% [markdown] tags=["core"]
# Two shapes, one length. Nothing was warped.
#
# **Move.** Drag the RoI, make it long, make it tiny. Before you move it, predict.

# %% jupyter={"source_hidden": true}
predict(
    "The RoI shrinks to a single cell. How long is its vector of levels 6, 3, 2, 1?",
    ["512", "7,168", "25,600", "it has none: 36 bins do not fit into one cell"],
    lambda: (
        f"{spatial_pyramid_pool(features, torch.tensor([[40.0, 40, 44, 44]]), levels, spatial_scale=1 / 16).numel():,}"
    ),
    "(36 + 9 + 4 + 1) x 512. All 50 bins read the same cell.",
)

# %% rows="L3 explorer"
from rcnnlib.view.explorers.pyramid import Pyramid

words = "A kitten with a ball of wool"
Pyramid(cat.image, features, (112, 64, 176, 176), words, channel=cat_channel)

# %% [markdown] tags=["core"]
# White: the bins of the first level. Where they overlap, you see double lines. Try these.
#
# 1. Which of the two changes the length of the vector: the RoI, or the levels?
# 2. Make the RoI smaller than 6 x 6 cells. Which bins show the same colour?
# 3. Choose "7 (Fast R-CNN)". How many numbers?
#
# > **What the notes said.** "Pyramid level 1 only." That is right for **Fast R-CNN**: one level, one grid of 7 x 7
# > (Fast R-CNN 2.1). **SPPnet** itself uses several levels at once, 6, 3, 2 and 1 (SPPnet 4.1), 50 bins. Our SPPnet takes
# > 3, 2 and 1, because its first fully connected layer would be too large a file otherwise.

# %% [markdown] tags=["core"]
# SPPnet cures two of R-CNN's four shortcomings: one pass for all regions (1), and no warping (2).

# %%
from rcnnlib.view.shortcomings import shortcomings

shortcomings("SPPnet")

# %% [markdown] tags=["core"]
# (3) and (4) stay: it is trained in the same three pieces as R-CNN, and its convolutions are not trained at all.
# Fast R-CNN will change that, from lesson 06 on.

# %% [markdown] tags=["core"]
# ## 5 · Cut pixels or cut features?
#
# *core · 8 minutes*
#
# R-CNN cuts out pixels, then computes features. SPPnet computes features, then cuts them out. What does this save?
# We take 200 RoIs of the cat photo, both ways, and look at the clock.

# %% jupyter={"source_hidden": true}
predict(
    "How many times as fast is the shared map, for 200 RoIs?",
    ["2 to 4 times", "5 to 100 times", "more than 100 times"],
    "5 to 100 times",
    "The pixels say 33. Pooling 200 RoIs costs something too. And the more RoIs, the larger the factor.",
)

# %% tags=["nbval-ignore-output"] reason="timings differ between machines"
boxes = random_rois(200, 120)
with torch.inference_mode():
    start = perf_counter()
    for part in boxes.split(20):  # 20 crops at a time
        trunk(warp(cat.image, part, 224))
    middle = perf_counter()
    spatial_pyramid_pool(trunk(cat.image[None])[0], boxes, levels, spatial_scale=1 / 16)
apart, shared = middle - start, perf_counter() - middle
print(f"each crop alone: {apart:.2f} s;  one map: {shared:.3f} s;  {apart / shared:.0f} times")

# %%
assert apart > 5 * shared
print("more than 5 times as fast:", apart > 5 * shared)

# %% [markdown] tags=["core"]
# Is it also **the same**? We cut 16 x 16 cells, that is 256 x 256 pixels, out of the middle of the photo. Once as pixels: they go
# through the trunk alone, and give 16 x 16 cells. Once as cells of the map. Nothing is warped. Then we compare cell by cell.
#
# Remember section 2: a cell sees 103 pixels to each side of its middle pixel.

# %%
from rcnnlib.view.explorers.crop_or_share import CropOrShare, compare

with_trunk = {"trunk": trunk, "image": cat.image, "features": features}
numbers = compare(12, 7, 16, 16, 0, **with_trunk)

# %% jupyter={"source_hidden": true}
predict(
    "How many of the 256 cells are the same both ways?",
    ["256", "100", "16", "0"],
    lambda: str(numbers["same"]),
    "Six cells at each border see beyond the crop, where there is now nothing. 16 - 2 x 6 = 4, and 4 x 4 = 16.",
)

# %% [markdown] tags=["core"]
# To measure *how* different two cells are, take their vectors of 512 numbers and the **cosine** of the angle between them:
# 1 is the same direction, 0 is nothing in common. (No number of our map is below 0, so the cosine is not either.)

# %%
names = ("dog", "cat", "pig", "kangaroo", "polar_bear")
animals = [photos[places[f"{name}.jpg"]].image for name in names]
curve = dict.fromkeys((64, 128, 192, 256, 320, 384), 0.0)  # side of the crop: mean cosine
for image in animals:
    with_map = {"trunk": trunk, "image": image, "features": trunk(image[None])[0]}
    for pixels in curve:
        side = pixels // 16
        found = compare(20 - side // 2, 15 - side // 2, side, side, 0, **with_map)
        curve[pixels] += found["mean cosine"] / len(animals)
print("  ".join(f"{side} px: {cosine:.2f}" for side, cosine in curve.items()))

# %%
fig, ax = figure(560, 260, alt=f"Cosine of crop and map, sides of {list(curve)} pixels")
ax.plot(list(curve), list(curve.values()), color=LINES[0], marker="o")
ax.set(xlabel="side of the crop, pixels", ylabel="mean cosine, 5 photos")
ax.set(ylim=(0, 1), xticks=list(curve))
fig

# %% [markdown] tags=["core"]
# A small crop and the same cells of the map have little in common. The cells of the map know what stands *around* the
# RoI: the **context**. The crop alone cannot know it.
#
# **Move.** "Context" takes more photo along, around the crop (white); afterwards only the cells of the box are compared.
# Before you move it, predict: how many cells of context until all cells are the same?

# %% rows="L3 explorer"
CropOrShare(cat.image, trunk, features, (12, 7, 16, 16), alt="A kitten with a ball of wool")

# %% [markdown] tags=["core"]
# This is what you should find:

# %%
for context in (0, 2, 3, 6):
    found = compare(12, 7, 16, 16, context, **with_trunk)
    whole = "all cells are the same" if found["same"] == 256 else ""
    print(f"context of {context} cells: mean cosine {found['mean cosine']:.2f}  {whole}")

# %% [markdown] tags=["core"]
# Six cells, 96 pixels, and every cell is the same. (The centre of the outermost cell lies 8 pixels inside. It sees 103
# pixels far, so 95 beyond the box.) With three the difference can hardly be seen any more: the outer part of a receptive
# field counts little.
#
# So neither way is "the right one". Features from the shared map are cheap, and they know the surroundings. A crop is
# expensive, and it shows the network every object alone and at one size. A detector learns with the features that it will get.

# %% [markdown] tags=["extra"]
# ## 6 · Plant the bug
#
# *extra · 5 minutes*
#
# **Plant a bug**, that is, put one in on purpose. The first: Python's `round` takes a half to the *even* number.
# Does that ever happen? We take 100,000 RoIs with corners on whole pixels.

# %%
boxes = random_rois(100_000).round()
exact = project(boxes, 1 / 16)
edges = exact.round() != quantize(exact)
print(f"edges that differ: {edges.float().mean():.1%}")
print(f"RoIs with such an edge: {edges.any(1).float().mean():.0%}")

# %% [markdown] tags=["extra"]
# One edge in 32: a half, and an even number below it. One RoI in eight is a cell off, somewhere. No error, no warning.
# You find such a bug by comparing with a second program that was written in another way.
#
# The second: the **forgotten scale**. The network gets a copy of the photo, made smaller to 320 x 240. Its map has 20 x 15 cells.
# The RoI is still in pixels of the photo. You must make it smaller, too.

# %% jupyter={"source_hidden": true}
predict(
    "The RoI of the cat's tail begins at x1 = 440 of 640. Without the scale, where on the map does it land?",
    ["at the same place", "further left", "beyond the map, on the right"],
    lambda: (
        "beyond the map, on the right"
        if look_up(440, 224, 190, 130, 320, BUGS[2], size=(480, 640), stride=16)["exact"][0] > 20
        else "further left"
    ),
    "x1 = 440 gives column 27.5, and the map ends with column 19.",
)

# %%
with_bug = RoIProjection(cat.image, trunk, (240, 140, 160, 130), alt="A kitten with wool")
with_bug.set(bug=BUGS[2], longer_side=320)

# %%
for side in (640, 320):
    for bug in (BUGS[0], BUGS[2]):
        found = look_up(240, 140, 160, 130, side, bug, size=(480, 640), stride=16)
        cells = f"cells {found['cells']!s:>17}"
        print(f"network sees {side} pixels, bug: {bug:>15}   {cells}   IoU {found['IoU']:.4f}")

# %% [markdown] tags=["extra"]
# At full size the bug cannot be seen: the scale is 1. It waits until somebody feeds a larger photo. So test with a photo that is
# *not* as large as the network's input. In this library a batch carries `scales` for that reason.

# %% [markdown] tags=["extra"]
# ## 7 · Papers and code
#
# *extra · 5 minutes*
#
# **SPPnet rounds in another way** (SPPnet, appendix A): left and top `floor(x / S) + 1`, right and bottom `ceil(x / S) - 1`.
# Three rules, squares of 64 pixels:

# %%
squares = random_rois(2000, 64)
exact = squares / 16
rules = {
    "Fast R-CNN": quantize(exact),
    "SPPnet": torch.cat((exact[:, :2].floor() + 1, exact[:, 2:].ceil() - 1), dim=1),
    "Fast R-CNN, last cell left out": quantize(exact) - last,
}
for name, cells in rules.items():
    off = ((cells + last) * 16 - squares).mean(0).round().int()
    print(f"{name:>30}: left {off[0]:+d}, right {off[2]:+d} pixels on average")

# %% [markdown] tags=["extra"]
# Is SPPnet's rule 8 pixels off? Only on *our* map. On theirs what cell j sees is centred on 16 j, so its square begins 8
# pixels further left. Take 8 off, and both errors are 0: the rule takes the cells whose centres lie inside the RoI.
#
# Why does Fast R-CNN keep the last cell? Its code counts `end - start + 1` cells, as old code counted pixels (lesson 01,
# section 5). It has a good side: no RoI is ever empty.
#
# **VGG16**, the papers' trunk, has 13 convolutions with kernel 3 and, up to the map, four pools with kernel 2 and stride 2.

# %%
two, three, pool = [(3, 1)] * 2, [(3, 1)] * 3, [(2, 2)]
vgg = two + pool + two + pool + three + pool + three + pool + three
stride = math.prod(stride for _, stride in vgg)
print("VGG16: stride", stride, " field", field_by_hand(vgg)[-1].item(), "pixels")

# %% [markdown] tags=["extra"]
# **The paper said, we measured.** Fast R-CNN, Table 4, seconds for one photo at test time, without proposals: R-CNN 47.0,
# SPPnet 2.3. Ours are stored with our trained detectors, also without proposals, on small pictures. Only the *ratios* may be
# compared.

# %%
seconds = {}
for name in ("rcnn", "sppnet"):
    card = json.loads((data_dir() / "weights" / f"{name}_scrapbook.json").read_text())
    seconds[name] = card["figures"]["scrapbook_test"]["seconds_per_picture"]
ours = seconds["rcnn"] / seconds["sppnet"]
assert ours > 5
print(f"paper: {47.0 / 2.3:.0f} times as fast;  ours: {ours:.0f} times as fast")

# %% [markdown] tags=["extra"]
# The factor depends on the number of RoIs, and on the size of the crops and of the photo. (SPPnet's own abstract says 24 to
# 102.) The order is the same: the shared map wins by far.

# %% [markdown] tags=["core"]
# ## Summary
#
# - One pass over the whole photo gives a feature map: 640 x 480 pixels, 40 x 30 cells, 512 numbers each. All RoIs share it.
# - A cell sees 207 x 207 pixels, centred on its place. Half of the gradient comes from about a ninth of that area.
# - RoI projection: divide by the stride, round to the nearest, a half away from zero. The last cell belongs to the RoI.
# - Rounding costs a large RoI little and a small one much.
# - A spatial pyramid makes a vector of fixed length out of any RoI. SPPnet: several levels. Fast R-CNN: one, 7 x 7.
# - Features cut from the map know their surroundings; features of a crop do not.
# - SPPnet cures (1) one pass per region and (2) warping. (3) and (4) stay.
#
# ## Glossary
#
# | English | 한국어 | meaning |
# |---|---|---|
# | feature map | 특징 맵 | what the convolutions make of a photo: cells with many numbers each |
# | trunk, backbone | 백본 | the convolutions of a detector |
# | cell | 셀 | one place of the feature map |
# | channel | 채널 | one of the numbers of each cell |
# | stride, jump | 스트라이드 (보폭) | how many pixels two neighbours of a map lie apart |
# | kernel | 커널 | the small window of a convolution or a pool |
# | receptive field | 수용 영역 | all pixels that can change a cell |
# | effective receptive field | 유효 수용 영역 | the part of it that matters |
# | RoI (region of interest) | 관심 영역 | a region in which a detector looks for an object |
# | RoI projection | RoI 투영 | from pixels of the photo to cells of the map |
# | rounding | 반올림 | to the nearest whole number |
# | spatial pyramid | 공간 피라미드 | several grids of bins over one RoI |
# | bin | 빈 (칸) | one part of a grid; its largest number is kept |
# | warp | 와핑 (강제 크기 변환) | stretch a crop to one size |
# | context | 문맥 (주변 영역) | what stands around a region |
#
# ## References
#
# - He, Zhang, Ren, Sun: *Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition* (SPPnet), 2014,
#   [arXiv 1406.4729](https://arxiv.org/abs/1406.4729)
# - Girshick: *Fast R-CNN*, 2015, [arXiv 1504.08083](https://arxiv.org/abs/1504.08083)
# - Girshick, Donahue, Darrell, Malik: *Rich feature hierarchies ...* (R-CNN), 2014, [arXiv 1311.2524](https://arxiv.org/abs/1311.2524)
# - Luo, Li, Urtasun, Zemel: *Understanding the effective receptive field ...*, 2016, [arXiv 1701.04128](https://arxiv.org/abs/1701.04128)
# - Iandola and others: *SqueezeNet*, 2016, [arXiv 1602.07360](https://arxiv.org/abs/1602.07360)
#
# The photos are public domain or CC0; `data/wild/CREDITS.csv` names their authors.
