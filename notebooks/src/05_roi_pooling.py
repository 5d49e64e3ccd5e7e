# %% [markdown] tags=["core"]
# # 05 · RoI pooling
#
# **The question.** The fully connected layers of a detector want the same number of inputs every time.
# The regions of a picture have all sizes. *How does any region become a grid of 7 x 7 numbers?*
#
# **After this lesson you can**
#
# - tell four sizes apart that are easy to mix up: map, RoI, target, bin
# - divide any number of cells into any number of bins, and write RoI pooling yourself
# - say which cell receives the gradient of a bin
# - say what RoI pooling loses by rounding, and how RoI align mends it
# - recognise two classic bugs: the forgotten last cell, and bins that are empty
#
# | section | | minutes |
# |---|---|---|
# | 1 Four sizes | core | 8 |
# | 2 Where a bin begins and ends | core | 8 |
# | 3 RoI pooling | core | 8 |
# | 4 The path of the gradient | core | 5 |
# | 5 Small regions | core | 4 |
# | 6 RoI align | core | 9 |
# | 7 RoI align is an embedding bag | extra | 6 |
# | 8 Plant the bug | extra | 4 |
# | 9 The student's question, and the paper | core | 3 |
#
# You may leave out what is marked *extra*. Run the cells from top to bottom.

# %%
from rcnnlib.view.notebook import predict, setup

setup()

# %%
import math

import torch
import torchvision
from torch.nn.functional import embedding_bag

from rcnnlib.checks import check_bilinear, check_bins, check_roi_pool
from rcnnlib.datasets.coco import wild
from rcnnlib.datasets.proposals import selective_search_boxes
from rcnnlib.models.backbone import squeezenet
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.roi_ops import project, quantize, roi_align, roi_pool, roi_pool_bins
from rcnnlib.view.plotting import LINES, draw_boxes, figure, name_line, show_image, show_map

# %% [markdown] tags=["core"]
# ## 1 · Four sizes
#
# *core · 8 minutes*
#
# Lesson 04 put a box of the photo onto the **feature map**. It became a rectangle of cells: the **RoI**
# (*region of interest*). Each RoI has another size. A fully connected layer cannot take that.
# **RoI pooling** lays a grid over the RoI and keeps the largest number of each field.
#
# A student looked at the best-known drawing of it and asked:
#
# > «아래 그림은 Target grid size가 8x8 인데? 3by2 grid로 mining?»
# > *The target grid in the figure is 8x8? Pooled with a 3 by 2 grid?*
#
# We take the example of that drawing, with our own numbers. Here is the map.

# %%
paper = torch.tensor(
    [
        [12, 41, 7, 33, 58, 20, 64, 5],
        [36, 18, 72, 25, 49, 99, 11, 30],
        [9, 54, 28, 61, 15, 44, 23, 90],
        [31, 62, 17, 40, 26, 53, 35, 88],
        [22, 13, 45, 97, 38, 10, 59, 70],
        [50, 27, 34, 19, 66, 42, 16, 81],
        [14, 39, 75, 24, 48, 55, 29, 98],
        [43, 21, 32, 57, 37, 83, 46, 77.0],
    ]
)

# %% [markdown] tags=["core"]
# The RoI is the orange, dashed rectangle. A vertical and a horizontal line cut it into four fields.

# %% rows="L7 figure"
fig, (left, right) = figure(720, 360, columns=2, alt="Map 8x8, RoI 7x5, target 2x2, four bins")
show_map(left, paper, text=".0f").set_title("map 8 x 8, with the RoI of 7 x 5 cells")
left.plot([3, 3], [3, 8], [0, 7], [5, 5], color="white", linestyle="-", linewidth=3)
draw_boxes(left, [[0.08, 3, 7, 7.92]], kind="proposal")
show_map(right, torch.zeros(2, 2)).set_title("target 2 x 2: one number for each bin")
draw_boxes(right, [[0, 0, 1, 1], [1, 0, 2, 1], [0, 1, 1, 2], [1, 1, 2, 2]], kind="note")
for x, y, size in ((0, 0, "3 x 2"), (1, 0, "4 x 2"), (0, 1, "3 x 3"), (1, 1, "4 x 3")):
    right.text(x + 0.5, y + 0.5, f"maximum of\nbin {size}", ha="center", color="white")
fig

# %% [markdown] tags=["core"]
# Four different things, four sizes. We write width x height.
#
# | what | here | what decides its size |
# |---|---|---|
# | **map** | 8 x 8 cells | the photo, divided by the stride |
# | **RoI** | 7 x 5 cells | the box, different for each |
# | **target** | 2 x 2 numbers | **you**, once for all RoIs; Fast R-CNN takes 7 x 7 (for VGG16, section 2.2) |
# | **bin** | 3 x 2, 4 x 2, 3 x 3, 4 x 3 cells | RoI divided by target |
#
# So "8 x 8" is the map, and "3 by 2" is one of the bins. Now pool on paper.

# %% jupyter={"source_hidden": true} rows="L7 predict"
predict(
    "What does the upper left bin of the drawing give?",
    ["22", "45", "62", "97"],
    lambda: str(int(paper[3:5, 0:3].max())),
    "The largest of 31, 62, 17, 22, 13, 45. The 97 stands one column further to the right.",
)

# %% [markdown] tags=["core"]
# Half of 7 columns is 3.5. The drawing gave 3 columns to the left bin and 4 to the right one.
# The code of Fast R-CNN, torchvision's and ours do something else. **They round the start of a bin down and its
# end up.** The left bin begins at 0 and ends at 3.5, rounded up: 4. The right one begins at 3.5, rounded down: 3.
# So both hold column 3. (An end is always the first cell *after* the bin.)

# %%
box = torch.tensor([[0.0, 3.0, 6.0, 7.0]])  # first column, first row, last column, last row
top, bottom, left, right = roi_pool_bins(box, (8, 8), 2, spatial_scale=1.0)
print("columns, start and end of each bin:", torch.cat((left, right)).T.tolist())
print("rows, counted from the RoI's first:", (torch.cat((top, bottom)).T - 3).tolist())

# %% jupyter={"source_hidden": true}
predict(
    "With these bins, what is the target?",
    ["62 97 / 75 83", "97 97 / 75 83", "62 97 / 75 66", "97 99 / 75 98"],
    lambda: "{} {} / {} {}".format(*roi_pool(paper[None], box, 2, spatial_scale=1.0).int().flatten().tolist()),
    "Column 3 belongs to both upper bins now, so 97 is the maximum of both.",
)

# %% [markdown] tags=["core"]
# **Move.** First set "edges of bins" to `floor, floor`: that is the drawing. Then back to `floor, ceil`, the code.
# Which number of the target changes? Then move one slider at a time: which of the four sizes change?
# (Circles mark the winning cells. `last cell forgotten` is a bug, section 8.)

# %% rows="L7 explorer"
from rcnnlib.view.explorers.paper_bins import PaperBins, paper_bins

PaperBins(paper, corner=(0, 3), width=7, height=5)

# %% [markdown] tags=["core"]
# ## 2 · Where a bin begins and ends
#
# *core · 8 minutes*
#
# One axis is enough: columns and rows follow the same rule. Bin $i$ of $n$ over $L$ cells is
#
# $$\left[\ \lfloor i\,L / n \rfloor,\ \ \lceil (i+1)\,L / n \rceil\ \right)$$
#
# $\lfloor\ \rfloor$ (*floor*) rounds down, $\lceil\ \rceil$ (*ceil*) rounds up. $[a, b)$ holds a, but not b any more.
# The rule is SPPnet's (appendix A); Fast R-CNN 2.1 refers to it.
#
# **Toy.** 5 cells, 2 bins: $5/2 = 2.5$. The first bin is [0, 3), the second [2, 5). They share cell 2.
#
# Why overlap at all? Think of a small RoI: 5 cells, and a target of 7.
# Suppose both edges were rounded **down**, as in the drawing.

# %%
edges = [math.floor(i * 5 / 7) for i in range(8)]
print("edges, all rounded down:", edges)

# %% jupyter={"source_hidden": true}
predict(
    "7 bins between these edges: how many of them hold no cell?",
    ["0", "1", "2", "7"],
    lambda: str(sum(edges[i] == edges[i + 1] for i in range(7))),
    "Where two neighbouring edges are equal, nothing lies between them. A maximum of nothing does not exist.",
)

# %% [markdown] tags=["core"]
# Rounding the end up gives every bin at least one cell. The price is that bins overlap.
#
# ### Your turn: `my_bins`
#
# Take a number of cells and a number of bins. Return a tensor (bins, 2): for each bin its first cell,
# and the first cell after it.
#
# <details><summary>Hint 1: one bin</summary>
# <code>math.floor</code> and <code>math.ceil</code> round one number. Begin with bin 0 of 7 cells and 2 bins.
# </details>
#
# <details><summary>Hint 2: all bins</summary>
# A list of pairs becomes a tensor with <code>torch.tensor(pairs)</code>.
# </details>
#
# <details><summary>Hint 3: the order of operations</summary>
# First multiply, then divide, and round last. <code>cells // bins</code> would round too early.
# </details>


# %% tags=["exercise"] rows="L7 exercise"
def my_bins(cells, bins):
    """Return start and end (not included) of each bin, a tensor (bins, 2) of whole numbers."""
    raise NotImplementedError


# %%
check_bins(my_bins)

# %% [markdown] tags=["core"]
# **One solution**, collapsed.


# %% jupyter={"source_hidden": true}
def bins_by_hand(cells, bins):
    """The rule of SPPnet's appendix A, bin by bin."""
    rows = []
    for i in range(bins):
        rows.append([math.floor(i * cells / bins), math.ceil((i + 1) * cells / bins)])
    return torch.tensor(rows)


# %% [markdown] tags=["core"]
# **The library**: `roi_pool_bins` gives the bins of all RoIs at once, along both axes. Do they agree?

# %%
for cells in range(1, 41):
    for bins in range(1, 9):
        whole = torch.tensor([[0.0, 0.0, cells - 1, cells - 1]])
        start, end, _, _ = roi_pool_bins(whole, (cells, cells), bins, spatial_scale=1.0)
        assert torch.equal(torch.stack((start[0], end[0]), dim=1), bins_by_hand(cells, bins))
print("rule and library agree: 1 to 40 cells, 1 to 8 bins")

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# The loop treats one bin at a time. The library has one number L for each RoI, and multiplies the whole column of
# them by <code>torch.arange(bins + 1)</code>: all edges of all RoIs in one call. Then two more calls round them.
# </details>
#
# **Look.** Seven bins over 5, 7 and 12 cells. Each bar is a bin.


# %%
def draw_ranges(ax, cells):
    """Seven bins as bars over the cells that they hold."""
    for number, (start, end) in enumerate(bins_by_hand(cells, 7).tolist()):
        ax.barh(number, end - start, left=start, height=0.6, color=LINES[0])
    ax.set(xticks=range(0, cells + 1, 1 + cells // 8), yticks=range(7), ylim=(6.6, -0.6))
    ax.set(xlabel="cells", title=f"{cells} cells, 7 bins")
    ax.grid(axis="x", color="#BBBBBB")


# %%
fig, axes = figure(820, 230, columns=3, alt="Seven bins; cells that each of them holds:")
for ax, cells in zip(axes, (5, 7, 12), strict=True):
    draw_ranges(ax, cells)
    lengths = bins_by_hand(cells, 7).diff(dim=1).flatten().tolist()
    fig.alt += f" {cells} cells {lengths};"
axes[0].set(ylabel="bin")
fig

# %% [markdown] tags=["core"]
# 7 cells: one each, no overlap. 12 cells: 2 or 3 each, and neighbours share a cell. 5 cells: 1 or 2 each, never 0.
#
# **Move.** The same toy, now 5 x 5 cells and a target of 7. How many of the 49 bins are empty with `floor, floor`?
# Guess first, then switch and read "empty bins".

# %% rows="L7 explorer"
PaperBins(paper, corner=(0, 3), width=5, height=5, target=7)

# %% [markdown] tags=["core"]
# ## 3 · RoI pooling
#
# *core · 8 minutes*
#
# You have the bins. The rest is one sentence of the paper (Fast R-CNN 2.1): divide the RoI into a grid of
# sub-windows, and max-pool the values of each sub-window into the corresponding cell of the output.
# Each channel of the map is pooled for itself.
#
# ### Your turn: `my_roi_pool`
#
# One channel, one RoI. The RoI is (first column, first row, last column, last row), in cells.
# **The last cell belongs to it.** So columns 0 to 6 are 7 columns.
#
# <details><summary>Hint 1: sizes first</summary>
# How many columns has the RoI? From 0 to 6 it is 7, so <code>last - first + 1</code>.
# </details>
#
# <details><summary>Hint 2: two loops</summary>
# For each row of bins, for each column of bins: cut the piece out of the map and take <code>.max()</code>.
# <code>bins_by_hand(cells, bins)</code> of section 2 gives start and end of each.
# </details>
#
# <details><summary>Hint 3: where the bins are</summary>
# The rule counts cells from the corner of the RoI. In the map that corner is at (first row, first column).
# </details>


# %% tags=["exercise"] rows="L7 exercise"
def my_roi_pool(feature_map, roi, bins):
    """Return the maximum of each bin, a tensor (bins, bins); feature_map is (rows, columns)."""
    raise NotImplementedError


# %%
check_roi_pool(my_roi_pool)

# %% [markdown] tags=["core"]
# **One solution**, collapsed.


# %% jupyter={"source_hidden": true}
def roi_pool_by_hand(feature_map, roi, bins):
    """Bin by bin; the cells of a bin are those of its rows and of its columns."""
    left, top, right, bottom = roi
    pooled = torch.empty(bins, bins)
    for i, (a, b) in enumerate(bins_by_hand(bottom - top + 1, bins).tolist()):
        for j, (c, d) in enumerate(bins_by_hand(right - left + 1, bins).tolist()):
            pooled[i, j] = feature_map[top + a : top + b, left + c : left + d].max()
    return pooled


# %% [markdown] tags=["core"]
# **The library**: `roi_pool` takes all RoIs and all channels, and boxes in *pixels*. It projects and rounds them
# itself, as lesson 04 did. `spatial_scale` is 1 / stride; with 1.0, pixels and cells are the same.

# %%
random_map = torch.randn(3, 30, 40)
corners = (torch.rand(50, 2, 2) * torch.tensor([40, 30])).floor()
rois = torch.cat((corners.amin(1), corners.amax(1)), dim=1)
library = roi_pool(random_map, rois, 7, spatial_scale=1.0)
for roi, ours in zip(rois.int().tolist(), library, strict=True):
    for channel, one in zip(random_map, ours, strict=True):
        assert torch.equal(roi_pool_by_hand(channel, roi, 7), one)
print("loop and library agree:", len(rois), "RoIs,", len(random_map), "channels")

# %% [markdown] tags=["core"]
# Next, torchvision's RoI pooling, which many detectors use. *Bit for bit* means: not one digit differs.

# %%
pixels = torch.rand(200, 2, 2) * 500
pixels = torch.cat((pixels.amin(1), pixels.amax(1)), dim=1)
for target in range(1, 9):
    ours = roi_pool(random_map, pixels, target, spatial_scale=1 / 16)
    theirs = torchvision.ops.roi_pool(random_map[None], [pixels], target, 1 / 16)
    assert torch.equal(ours, theirs)
print("ours and torchvision's agree bit for bit:", len(pixels), "RoIs, targets 1 to 8")

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# A bin may hold many cells, and to visit them one by one takes long. The library first makes a table of maxima:
# of all windows of 1, 2, 4, 8, ... cells, on both axes. Each entry is the larger one of two earlier entries.
# A bin 6 cells wide is then two windows of 4 that overlap. That a cell is looked at twice does a maximum no harm.
# Two windows across and two down: **four look-ups a bin**, however large it is. See <code>_bin_maxima</code> in
# <code>rcnnlib/ops/roi_ops.py</code>.
# </details>
#
# **A real map.** SqueezeNet looks at a photo of 640 x 480 pixels, once. The map has 40 x 30 cells and 512 channels.

# %%
photos = wild()
places = {name: place for place, (_, name) in enumerate(photos.images)}
bear = photos[places["polar_bear.jpg"]]
with torch.no_grad():
    features = squeezenet().trunk(bear.image[None])[0]
tuple(features.shape)

# %%
truth = bear.boxes[:1]
pooled = roi_pool(features, truth, 7, spatial_scale=1 / 16)
cells = quantize(project(truth, 1 / 16))[0].tolist()
print("box", truth[0].tolist(), "-> columns", cells[0::2], "rows", cells[1::2])
print("pooled", tuple(pooled.shape), "that is RoIs, channels, 7, 7")

# %% [markdown] tags=["core"]
# **Look.** The photo, one channel of its map, and what the *head* gets from that channel.
# (The head is all that follows: the fully connected layers, lesson 06.)

# %% rows="L7 figure"
channel = 221  # one that answers to this animal
fig, axes = figure(740, 215, columns=3, alt=f"Polar bear, RoI {cells} in cells, target 7 x 7")
draw_boxes(show_image(axes[0], bear.image), truth, kind="proposal")
show_map(axes[1], features[channel]).set_title("channel 221, 40 x 30 cells")
draw_boxes(axes[1], [[cells[0], cells[1], cells[2] + 1, cells[3] + 1]], kind="proposal")
show_map(axes[2], pooled[0, channel]).set_title("target 7 x 7")
fig

# %% [markdown] tags=["core"]
# The target has the shape of a square, the RoI has not. RoI pooling squeezes the *map*, as R-CNN squeezed the pixels.
#
# **Move.** Drag the RoI on the photo, or use the sliders. In the middle is the part of the map around it, at the right
# what goes to the head. First predict.

# %% jupyter={"source_hidden": true}
predict(
    "The RoI is made half as wide. What happens to the 7 x 7 numbers of the target?",
    ["there are half as many", "as many, the bins are narrower", "as many, the bins are shorter"],
    "as many, the bins are narrower",
    "The target is fixed. Map and RoI give way: the bins.",
)

# %% rows="L7 explorer"
from rcnnlib.view.explorers.pooled_roi import PooledRoi

PooledRoi(bear.image, features, box=[154, 157, 541, 366], channel=channel, alt="A polar bear")

# %% [markdown] tags=["core"]
# Try these. (Leave "planted bug" at "none". Section 8 explains it.)
#
# 1. Show "winning cells". How many cells win? Why fewer than 49?
# 2. Set the target to 1. What is left of the bear's shape?
# 3. Make the RoI smaller than 7 cells. What do neighbouring bins share?
#
# <details><summary>What you should see</summary>
# 1. The line says 45: where bins overlap, one cell can win two of them. 2. Nothing: one number is left.
# 3. Cells. Seven bins, none empty, need more than there are.
# </details>
#
# > **What the notes said.** "SPP with pyramid level 1" is true of Fast R-CNN.
# > SPPnet itself joins several levels, 6x6, 3x3, 2x2 and 1x1.

# %%
from rcnnlib.ops.roi_ops import spatial_pyramid_pool

one_level = spatial_pyramid_pool(features, truth, (7,), spatial_scale=1 / 16)
several = spatial_pyramid_pool(features, truth, (6, 3, 2, 1), spatial_scale=1 / 16)
assert torch.equal(one_level, pooled.flatten(1))
print("RoI pooling is a pyramid of one level:", one_level.shape[1] // 512, "numbers a channel")
print("SPPnet's pyramid of four levels:      ", several.shape[1] // 512, "numbers a channel")

# %% [markdown] tags=["core"]
# ## 4 · The path of the gradient
#
# *core · 5 minutes*
#
# Training sends a gradient back: *by how much would the loss grow, if this number grew a little?*
# A maximum depends on one cell only, the winner. **So the whole gradient of a bin goes to its winning cell.**
# All other cells get nothing.
#
# **Toy.** The map of section 1. The head sends these gradients to the four bins: 1 and 2 above, 3 and 4 below.

# %%
paper_map = paper.clone().requires_grad_()
target = roi_pool(paper_map[None], box, 2, spatial_scale=1.0)[0, 0]
sent = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
(arrived,) = torch.autograd.grad(target, paper_map, sent)

# %% jupyter={"source_hidden": true}
predict(
    "The cell with the 97 is the maximum of both upper bins. How much gradient arrives there?",
    ["0", "1", "2", "3"],
    lambda: str(int(arrived[4, 3])),
    "1 from the left bin and 2 from the right one.",
)

# %%
where = arrived.nonzero()
print({f"row {r}, column {c}": arrived[r, c].item() for r, c in where.tolist()})
fig, ax = figure(330, 330, alt=f"Gradient: {len(where)} of 64 cells receive something")
show_map(ax, arrived, text=".0f")
draw_boxes(ax, [[0, 3, 7, 8]], kind="proposal")
fig

# %% [markdown] tags=["core"]
# A cell that wins several bins gets the **sum** (Fast R-CNN 2.3, equation 4).
#
# **Move.** The front half of the bear, 7 x 7 bins. Each bin sends a gradient of 1 back, in each of the 512 channels.
# Two sliders choose a bin. Left: one channel, the bin, and its winner. Right: what arrives at each cell, all channels
# added. (A channel that is 0 in the whole bin is left out: see *ties* below.) First predict.

# %% jupyter={"source_hidden": true}
predict(
    "One bin, 512 channels. Does the same cell win in all of them?",
    ["yes, the bin has one winner", "no, each channel has its own winner"],
    "no, each channel has its own winner",
    "Each channel looks for something else. So in the end many cells of a bin learn.",
)

# %% rows="L7 explorer"
from rcnnlib.view.explorers.gradient_road import GradientRoad

GradientRoad(features, (330, 170, 541, 330), channel=channel)

# %% [markdown] tags=["core"]
# Now set "gradient of" to "all bins". In the bright rows bins overlap, so a cell can win twice.
# (Columns do not overlap here: 14 make 7 bins of 2.)
#
# **Ties.** What if two cells of a bin hold the same maximum? Then one of them gets everything. Which one, the paper
# does not say, and programs differ. On a flat map every cell ties:

# %%
flat, square = torch.zeros(1, 4, 4, requires_grad=True), torch.tensor([[0.0, 0, 3, 3]])
ours = roi_pool(flat, square, 2, spatial_scale=1.0)
theirs = torchvision.ops.roi_pool(flat[None], [square], 2, 1.0)
for name, grid in (("ours       ", ours), ("torchvision", theirs)):
    (arrived,) = torch.autograd.grad(grid[0, 0], flat, sent)
    print(name, "cells", arrived[0].nonzero().tolist(), "sum", arrived.sum().item())

# %% [markdown] tags=["core"]
# Other cells, the same sum. Are ties rare? On a real map they are not. A *ReLU* made it, so many numbers are exactly 0.

# %%
zero = (pooled == 0).float().mean().item()
print("bins of the bear that are 0 in every cell, over all channels:", f"{100 * zero:.0f} %")

# %% [markdown] tags=["core"]
# There every cell ties. But it does no harm: where a ReLU gave 0, it stops the gradient.
# Tick the box in the explorer to see where those gradients would end.

# %% [markdown] tags=["core"]
# ## 5 · Small regions
#
# *core · 4 minutes*
#
# Our bear is 25 cells wide. Most regions are not. **Toy.** A RoI of 3 x 3 cells, pooled into 7 x 7:

# %%
tiny = roi_pool(paper[None], torch.tensor([[0.0, 3, 2, 5]]), 7, spatial_scale=1.0)[0, 0]
fig, (left, right) = figure(560, 280, columns=2, alt=f"7x7 maxima of 3x3 cells: {tiny[0].tolist()} ...")
show_map(left, paper[3:6, 0:3], text=".0f").set_title("RoI, 3 x 3 cells")
show_map(right, tiny, text=".0f").set_title("target, 7 x 7")
fig

# %% jupyter={"source_hidden": true}
small = bins_by_hand(3, 7)
predict(
    "Some of the 49 bins read exactly the same cells. If these count once, how many bins are left?",
    ["9", "25", "36", "49"],
    lambda: str(len(small.unique(dim=0)) ** 2),
    "Along one axis the bins are [0,1) twice, [0,2), [1,2), [1,3), [2,3) twice: 5 different ones. 5 x 5 = 25.",
)

# %% [markdown] tags=["core"]
# The target holds 49 numbers, but they come from only 9.
#
# How common is that? We count all regions that Selective Search found in the training pictures of Scrapbook
# (320 x 240 pixels, so 20 x 15 cells).

# %%
boxes = torch.cat(list(selective_search_boxes("scrapbook_train").values()))
cells = quantize(project(boxes, 1 / 16))
sides = cells[:, 2:] - cells[:, :2] + 1
print(len(boxes), "regions")
print(f"at least one side shorter than 7 cells: {100 * (sides < 7).any(1).float().mean():.1f} %")
print(f"both sides shorter than 7 cells:        {100 * (sides < 7).all(1).float().mean():.1f} %")

# %% [markdown] tags=["core"]
# **Move.** A bin *with a copy* reads exactly the same cells as another bin. What share of all bins has one?
# First predict, then move the target. Then enlarge the pictures: a region has more cells.

# %%
from rcnnlib.view.explorers.small_rois import SmallRois

small_ones = SmallRois(boxes, (240, 320))

# %% jupyter={"source_hidden": true}
count = small_ones.compute
copies = {n: count(target=n, enlarge=1.0)["bins with a copy"] for n in (3, 7)}
predict(
    "With a target of 3 x 3 instead of 7 x 7, the share of bins with a copy ...",
    ["grows", "stays the same", "falls to less than a third"],
    lambda: "falls to less than a third" if 3 * copies[3] < copies[7] else "grows",
    "Few regions have fewer than 3 cells. But the large ones get only 9 numbers a channel then.",
)

# %% rows="L7 explorer"
small_ones

# %% [markdown] tags=["core"]
# The papers work on pictures three times as large, about 1000 x 600. That helps, as the slider shows.
#
# **One exception.** "No bin is empty" holds *inside* the map. A box that ends at the right border, x = 320, rounds to
# column 20. But the columns are 0 to 19. Column 20 is cut off, and a bin with nothing left gives 0.

# %%
top, bottom, left, right = roi_pool_bins(boxes, (15, 20), 7, spatial_scale=1 / 16)
empty = (top == bottom)[:, :, None] | (left == right)[:, None]
print(f"{100 * empty.double().mean():.2f} % of all bins are empty, each of them at the border")
assert not empty[(cells[:, 2] < 20) & (cells[:, 3] < 15)].any()

# %% [markdown] tags=["core"]
# ## 6 · RoI align
#
# *core · 9 minutes*
#
# RoI pooling rounds twice: the box to whole cells, and the bins to whole cells. How well do the rounded cells fit
# the box? A cell stands for 16 x 16 pixels. So we take the IoU of the box and of the pixels of its rounded cells.


# %%
def cells_in_pixels(boxes):
    """The rectangle of pixels that the rounded cells of a RoI stand for."""
    cells = quantize(project(boxes, 1 / 16))
    return torch.cat((cells[:, :2], cells[:, 2:] + 1), dim=1).float() * 16


def kept_overlap(side):
    """IoU with a square box at all 256 places inside a cell: mean, worst, best."""
    shift = torch.cartesian_prod(torch.arange(16.0), torch.arange(16.0)) + 160
    boxes = torch.cat((shift, shift + side), dim=1)
    iou = box_iou(boxes, cells_in_pixels(boxes)).diagonal()
    return iou.mean().item(), iou.min().item(), iou.max().item()


# %% jupyter={"source_hidden": true}
predict(
    "A box of 32 x 32 pixels: what is its IoU with its rounded cells, on average?",
    ["about 0.9", "about 0.7", "about 0.4"],
    lambda: "about " + min(("0.9", "0.7", "0.4"), key=lambda text: abs(float(text) - kept_overlap(32)[0])),
    "Rounding and the last cell that counts make 3 x 3 cells of it, 48 x 48 pixels.",
)

# %%
lengths = list(range(16, 321, 16))
curve = torch.tensor([kept_overlap(side) for side in lengths])
for side in (32, 64, 128, 256):
    mean, worst, best = kept_overlap(side)
    print(f"{side:>3} pixels: IoU {mean:.4f} on average, from {worst:.4f} to {best:.4f}")

# %%
fig, ax = figure(640, 320, alt=f"IoU {curve[0, 0]:.4f} at 16 pixels, {curve[-1, 0]:.4f} at 320")
ax.fill_between(lengths, curve[:, 1], curve[:, 2], color=LINES[0], alpha=0.25, linewidth=0)
ax.plot(lengths, curve[:, 0], color=LINES[0])
ax.plot([16, 320], [1, 1], color=LINES[1])
name_line(ax, 150, 0.66, "RoI pooling: the rounded cells", LINES[0])
name_line(ax, 18, 0.95, "RoI align: the box itself, always", LINES[1])
ax.set(xlabel="side of the box, pixels", ylabel="IoU with what is pooled", ylim=(0, 1.05))
fig

# %% [markdown] tags=["core"]
# (The band shows the worst and the best place of the box.) The smaller the box, the worse the fit.
#
# **RoI align** (Mask R-CNN, section 3) does not round at all. A bin keeps its exact edges. Four points are spread
# evenly in it, and the map is read *at these points*. The bin is the mean of the four numbers.
#
# But a point lies between cells. What number stands there? **Bilinear interpolation** mixes the four cells around:
# the nearer a cell, the larger its weight.
#
# **Toy.** Four cells. The number of a cell stands at its centre. The point lies a quarter of the way to the right,
# and half of the way down.
#
# |  | column 0 | column 1 |
# |---|---|---|
# | **row 0** | 10 | 20 |
# | **row 1** | 30 | 40 |
#
# Upper row: 10 + 0.25 · (20 - 10) = 12.5. Lower row: 30 + 0.25 · (40 - 30) = 32.5.
# Mix these two half and half: 22.5.

# %% jupyter={"source_hidden": true}
four_cells = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
predict(
    "Now three quarters of the way to the right, half of the way down. What number stands there?",
    ["17.5", "22.5", "25", "27.5"],
    lambda: f"{roi_align(four_cells[None], torch.tensor([[1.25, 1.0] * 2]), 1, spatial_scale=1.0).item():g}",
    "Upper row 17.5, lower row 37.5, half and half 27.5. The right column is nearer, so it counts more.",
)

# %% [markdown] tags=["core"]
# ### Your turn: `my_bilinear`
#
# A map and a point. Cell (row i, column j) stands at x = j, y = i. The point may lie anywhere between the first and
# the last cell.
#
# <details><summary>Hint 1: which four cells</summary>
# The left column is <code>math.floor(x)</code>, the upper row <code>math.floor(y)</code>.
# </details>
#
# <details><summary>Hint 2: how much of each</summary>
# <code>dx = x - left</code> is how far the point has gone to the right. Left counts 1 - dx, right counts dx.
# </details>
#
# <details><summary>Hint 3: the last column</summary>
# At x = width - 1 there is no column to the right. Its weight is 0 anyway:
# <code>right = min(left + 1, width - 1)</code>.
# </details>


# %% tags=["exercise"] rows="L7 exercise"
def my_bilinear(feature_map, x, y):
    """Return the number between the cells of feature_map (rows, columns), at the point (x, y)."""
    raise NotImplementedError


# %%
check_bilinear(my_bilinear)

# %% [markdown] tags=["core"]
# **One solution**, collapsed. Below it: a whole bin of RoI align, four samples and their mean.


# %% jupyter={"source_hidden": true}
def bilinear_by_hand(feature_map, x, y):
    """Mix left and right in two rows, then mix the rows."""
    height, width = feature_map.shape
    left, top = math.floor(x), math.floor(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    dx, dy = x - left, y - top
    upper = (1 - dx) * feature_map[top, left] + dx * feature_map[top, right]
    lower = (1 - dx) * feature_map[bottom, left] + dx * feature_map[bottom, right]
    return (1 - dy) * upper + dy * lower


# %% jupyter={"source_hidden": true}
def samples_of_bin(roi, bins, i, j):
    """The four points of bin (row i, column j); roi is in cells, not rounded."""
    left, top, right, bottom = roi
    wide, high = (right - left) / bins, (bottom - top) / bins
    parts = (0.25, 0.75)
    # A cell reaches from j to j + 1 and its number stands in the middle: hence the 0.5.
    return [(left + (j + a) * wide - 0.5, top + (i + b) * high - 0.5) for b in parts for a in parts]


def roi_align_by_hand(feature_map, roi, bins):
    """The mean of the four samples of each bin."""
    pooled = torch.empty(bins, bins)
    for i in range(bins):
        for j in range(bins):
            points = samples_of_bin(roi, bins, i, j)
            pooled[i, j] = sum(bilinear_by_hand(feature_map, x, y) for x, y in points) / 4
    return pooled


# %% [markdown] tags=["core"]
# **The library** is `roi_align`. We compare it with the loop, and with torchvision's. There, `sampling_ratio=2` asks
# for 2 x 2 points a bin, and `aligned=True` for cells whose number stands in the middle.

# %%
inside = torch.rand(40, 2, 2) * torch.tensor([38, 28]) + 1
rois = torch.cat((inside.amin(1), inside.amax(1)), dim=1)
library = roi_align(random_map, rois, 7, spatial_scale=1.0)
for roi, one in zip(rois.tolist(), library[:, 0], strict=True):
    assert torch.allclose(roi_align_by_hand(random_map[0], roi, 7), one, atol=1e-5)
options = {"sampling_ratio": 2, "aligned": True}
theirs = torchvision.ops.roi_align(random_map[None], [rois], 7, 1.0, **options)
assert torch.allclose(library, theirs, atol=1e-5)
print("loop, library and torchvision agree:", len(rois), "RoIs")

# %% [markdown] tags=["core"]
# **Look.** The RoI of section 1, before it was rounded: from x = 0.3 to 6.3, from y = 3.1 to 7.3.
# The bins do not overlap, and each dot is a sample.

# %% rows="L7 figure"
exact = (0.3, 3.1, 6.3, 7.3)
aligned = roi_align_by_hand(paper, exact, 2)
says = ", ".join(f"{number:.4f}" for number in aligned.flatten().tolist())
fig, (left, right) = figure(640, 320, columns=2, alt=f"RoI align on the map 8x8: {says}")
show_map(left, paper, text=".0f").set_title("exact RoI, its bins, four samples each")
draw_boxes(left, [(x, y, x + 3, y + 2.1) for y in (3.1, 5.2) for x in (0.3, 3.3)], kind="note")
for x, y in (point for i in (0, 1) for j in (0, 1) for point in samples_of_bin(exact, 2, i, j)):
    left.scatter(x + 0.5, y + 0.5, s=30, color=LINES[1], edgecolor="white", zorder=5)
show_map(right, aligned, text=".1f").set_title("target: the means")
fig

# %% [markdown] tags=["core"]
# The 97 is not in the target. RoI align takes means, so a single large number counts less. That is another difference
# to RoI pooling, besides the rounding.
#
# **Move.** A RoI on the head of the bear moves sideways, pixel by pixel. 16 pixels are one cell. The chart follows one
# of its 49 bins: left, what both ways of pooling read for it; right, the number that comes out. First predict.

# %% jupyter={"source_hidden": true}
predict(
    "The RoI moves pixel by pixel. What does the number of RoI pooling do?",
    ["it changes a little each time", "mostly nothing, sometimes a jump", "it never changes"],
    "mostly nothing, sometimes a jump",
    "As long as the box rounds to the same cells, the maximum stays. Then, within one pixel, everything is read anew.",
)

# %% rows="L7 explorer"
from rcnnlib.view.explorers.subcell_shift import SubcellShift, subcell_shift

SubcellShift(features[channel : channel + 1], (464, 190))

# %% [markdown] tags=["core"]
# The blue curve has steps, the pink, dashed one has none. How large is the largest step for one pixel?

# %%
one_channel = features[channel : channel + 1]
numbers = subcell_shift(0, 112, 3, 3, features=one_channel, corner=(464, 190))
print(f"the step of RoI pooling is {numbers['jump'] / numbers['glide']:.0f} times as large")
for name, curve in zip(("RoI pooling", "RoI align"), numbers["curves"][1:], strict=True):
    print(f"{name}: {len(set(curve))} different values in {len(curve)} positions")

# %% [markdown] tags=["core"]
# Why does it matter? The head must say how far the box is off, to a pixel. If many boxes give the same numbers,
# it cannot know. The detectors of this course use RoI align unless told otherwise.

# %% [markdown] tags=["extra"]
# ## 7 · RoI align is an embedding bag
#
# *extra · 6 minutes*
#
# Four samples, each a mix of four cells: so a bin is **a weighted sum of 16 cells**. (Some may be the same cell.)
# You saw such weights in the explorer above. Take the RoI from (0.3, 3.1) to (6.3, 7.3) again, now as *one* bin.
# A sample at x = 1.3 gives column 1 the weight 0.70 and column 2 the rest. So each axis has 4 cells and 4 weights.
# The 16 weights are the products.

# %%
columns, rows = torch.tensor([1, 2, 4, 5]), torch.tensor([3, 4, 5, 6])
x_weights = torch.tensor([0.70, 0.30, 0.70, 0.30]) / 2  # samples at x = 1.3 and 4.3
y_weights = torch.tensor([0.35, 0.65, 0.25, 0.75]) / 2  # samples at y = 3.65 and 5.75
weights = y_weights[:, None] * x_weights
print(weights.numel(), "weights, their sum is", f"{weights.sum():.4f}")

# %%
on_map = torch.zeros(8, 8)
on_map[rows[:, None], columns] = weights
fig, ax = figure(400, 400, alt="16 of 64 cells have a weight, the largest in rows 4 and 6")
draw_boxes(show_map(ax, on_map), [exact], kind="proposal")
for row, column in on_map.nonzero().tolist():
    weight = on_map[row, column].item()
    colour = "black" if weight > 0.08 else "white"
    ax.text(column + 0.5, row + 0.5, f"{weight:.2f}", ha="center", va="center", color=colour)
fig

# %% [markdown] tags=["extra"]
# PyTorch has an operator for exactly this, made for text: `embedding_bag`. There, a *vocabulary* holds a vector for
# each word, and a sentence (a *bag* of words) is the weighted sum of its words' vectors.
# Here the words are the cells of the map, and the vector of a cell are its channels.

# %%
vocabulary = paper.reshape(64, 1)  # 64 cells, 1 channel
bag = (rows[:, None] * 8 + columns).reshape(1, 16)  # the numbers of the 16 cells
ours = embedding_bag(bag, vocabulary, mode="sum", per_sample_weights=weights.reshape(1, 16))
region = [torch.tensor([exact])]
one_bin = torchvision.ops.roi_align(paper[None, None], region, 1, **options)
print(f"embedding bag {ours.item():.4f}   torchvision's RoI align {one_bin.item():.4f}")

# %% [markdown] tags=["extra"]
# With 512 channels the weights are the same for all of them. So one bag reads 16 rows of 512 numbers that lie side by
# side in memory. torchvision's code for the CPU goes through the map once for each channel.
# Below, 0.5 would mean: ours takes half of torchvision's time.

# %%
some = selective_search_boxes("wild")[bear.id][:64]
learning = features.clone().requires_grad_()


def align_ours(maps):
    return roi_align(maps, some, 7, spatial_scale=1 / 16)


def align_theirs(maps):
    return torchvision.ops.roi_align(maps[None], [some], 7, 1 / 16, **options)


# %% tags=["nbval-ignore-output"] reason="timings differ between machines"
from rcnnlib.engine.benchmark import compare

forward = compare(lambda: align_ours(features), lambda: align_theirs(features), pairs=3)
steps = [lambda align=align: align(learning).sum().backward() for align in (align_ours, align_theirs)]
print(f"forward alone  {forward.ratio:.2f} of torchvision's time")
print(f"with backward  {compare(*steps, pairs=3).ratio:.2f} of torchvision's time")

# %%
assert torch.allclose(align_ours(features), align_theirs(features), atol=1e-3)
print("the same numbers from both,", len(some), "RoIs and", len(features), "channels")

# %% [markdown] tags=["extra"]
# The sum itself is one line: see `_weighted_sums` in `rcnnlib/ops/roi_ops.py`.

# %% [markdown] tags=["extra"]
# ## 8 · Plant the bug
#
# *extra · 4 minutes*
#
# Two bugs are common when people write RoI pooling. **The last cell forgotten**: a range in Python ends *before*
# its second number, so the RoI loses its last row and column. **Floor, floor**: the bins of the drawing.
# Here is the explorer again, on a part of the photo, with a RoI of 5 x 5 cells. `floor, floor` is planted.
# Switch to the others: which one would you notice?

# %%
front, its_cells = bear.image[:, 144:384, 400:640], features[:, 9:24, 25:40]
small_roi = PooledRoi(front, its_cells, box=[90, 71, 156, 134], channel=channel, alt="A bear")
small_roi.set(bug="floor, floor")

# %% [markdown] tags=["extra"]
# Empty bins are dark: 0, where there should be a bear. No error is raised. How many bins would be empty on Scrapbook?
# And how many numbers change if the last cell is forgotten? (Counted on the first 64 regions of the bear's photo.)

# %%
edges = [sides[:, axis, None] * torch.arange(8) // 7 for axis in (0, 1)]
empty_x, empty_y = ((edge[:, 1:] == edge[:, :-1]) for edge in edges)
empty = (empty_x[:, None] | empty_y[:, :, None]).double().mean().item()
print(f"floor, floor: {100 * empty:.1f} % of all bins would be empty")

# %%
right = quantize(project(some, 1 / 16)).float()
wrong = right - torch.tensor([0, 0, 1, 1])
answers = [roi_pool(features, cells, 7, spatial_scale=1.0) for cells in (right, wrong)]
changed = (answers[0] != answers[1]).float().mean().item()
print(f"last cell forgotten: {100 * changed:.0f} % of the numbers change")

# %% [markdown] tags=["extra"]
# The forgotten cell hides better: no number looks wrong. But layers that were trained with the right cells
# get other numbers now than those they learned from.

# %% [markdown] tags=["core"]
# ## 9 · The student's question, and the paper
#
# *core · 3 minutes*
#
# > **The text says the target grid is 7x7. But in the figure it is 8x8, pooled with a 3 by 2 grid?**
# > «아래 그림은 Target grid size가 8x8 인데? 3by2 grid로 mining?»
#
# By experiment: we begin with the figure, and change one of the sizes at a time.


# %%
def four_sizes(map_side, width, height, target, rule="floor, ceil"):
    """Say map, RoI, target and bins (width x height, of the first bin)."""
    values = torch.rand(map_side, map_side)
    numbers = paper_bins(target, width, height, rule, values=values, corner=(0, 0))
    first = f"first bin {numbers['bins wide'][0]} x {numbers['bins high'][0]}"
    return f"map {numbers['map']:<8} RoI {numbers['RoI']:<7} target {numbers['target']:<6} {first}"


# %% rows="Q2 experiment"
print("the figure, as drawn ", four_sizes(8, 7, 5, 2, rule="floor, floor"))
print("the figure, as coded ", four_sizes(8, 7, 5, 2))
print("another map          ", four_sizes(40, 7, 5, 2))
print("another RoI          ", four_sizes(40, 25, 14, 2))
print("another target       ", four_sizes(40, 25, 14, 7))

# %% [markdown] tags=["core"]
# The figure's 8 x 8 is the **map**. Its RoI is 7 x 5, its target 2 x 2 (not 7 x 7, so that it fits on a page), and
# "3 by 2" is the first **bin** as drawn. Map and RoI do not change the target: you choose it. RoI and target make
# the bins.
#
# > **답.** 그림의 8x8은 target이 아니라 feature map의 크기이고, target은 2x2이며 3x2는 RoI를 나눈 bin 하나의 크기입니다.
# > 실제 Fast R-CNN에서는 RoI의 크기와 상관없이 target이 항상 7x7이고, bin의 크기만 RoI에 따라 달라집니다.
#
# ### The paper said, we measured
#
# The paper's figure 2 gives the share of each layer in a forward pass of VGG16: RoI pooling takes 17 milliseconds,
# 5.4 % of it. (The *forward pass* is everything from the photo to the scores.)
# Our network and our computer are others, so we look at shares. The collapsed cell reads the clock between the parts.

# %% jupyter={"source_hidden": true}
from itertools import pairwise
from time import perf_counter

from rcnnlib.models.weights import load_weights

model, regions = load_weights("fast_rcnn_scrapbook").model, selective_search_boxes("wild")[bear.id]


@torch.inference_mode()
def forward_pass():
    """Return the pooled grids, and the seconds of convolutions, RoI pooling and head."""
    clock = [perf_counter()]
    reduced = model.head.reduce(model.trunk(bear.image[None])).relu()
    clock.append(perf_counter())
    grids = roi_pool(reduced, regions[None], 7, spatial_scale=1 / 16)
    clock.append(perf_counter())
    model.head(grids)
    clock.append(perf_counter())
    return grids, [end - begin for begin, end in pairwise(clock)]


# %% tags=["nbval-ignore-output"] reason="timings differ between machines"
forward_pass()  # the first time is slower
grids, seconds = forward_pass()
for name, part in zip(("convolutions", "RoI pooling", "head"), seconds, strict=True):
    print(f"{name:<13}{100 * part / sum(seconds):5.1f} %")

# %%
assert grids.shape == (1, len(regions), 128, 7, 7)
assert 0 < seconds[1] < sum(seconds)
print(len(regions), "regions of one photo, pooled into", tuple(grids.shape[2:]), "each")

# %% [markdown] tags=["core"]
# Our share is larger than the paper's. SqueezeNet's convolutions are far cheaper than VGG16's, and the regions are
# about as many. **Make one part cheap, and the others become the bottleneck.**

# %% [markdown] tags=["core"]
# ## Summary
#
# - Map, RoI, target and bin are four sizes. You choose the target. The bins follow.
# - Bin i of n over L cells is [floor(i L / n), ceil((i + 1) L / n)). Bins may overlap. Inside the map none is empty.
# - RoI pooling takes the maximum of each bin, channel by channel. The winning cell receives the whole gradient.
# - Most regions of small pictures are smaller than 7 cells. Then bins copy each other.
# - RoI pooling rounds, and small boxes suffer most. RoI align reads the map between the cells instead.
# - RoI align is a weighted sum of 16 cells, so `embedding_bag` computes it.
#
# ## Glossary
#
# | English | 한국어 | meaning |
# |---|---|---|
# | feature map | 특징 맵 | what the convolutions make of the photo |
# | cell | 셀 | one place of the map; it stands for 16 x 16 pixels |
# | RoI (region of interest) | 관심 영역 | a box on the map |
# | target grid | 목표 격자 | the fixed grid that comes out, 7 x 7 |
# | bin | 빈 (칸) | the cells that become one number of the target |
# | RoI pooling | RoI 풀링 | the maximum of each bin |
# | floor, ceil | 내림, 올림 | round down, round up |
# | gradient | 기울기 | how the loss would change with a number |
# | tie | 동점 | several cells hold the same maximum |
# | RoI align | RoI 정렬 (RoIAlign) | samples between the cells instead of rounding |
# | bilinear interpolation | 이중선형 보간 | a mix of the four cells around a point |
# | embedding bag | 임베딩 백 | a weighted sum of rows of a table |
#
# ## References
#
# - Girshick: *Fast R-CNN*, 2015, [arXiv 1504.08083](https://arxiv.org/abs/1504.08083), sections 2.1 to 2.3, figure 2
# - He, Zhang, Ren, Sun: *Spatial pyramid pooling ...* (SPPnet), 2014, [arXiv 1406.4729](https://arxiv.org/abs/1406.4729), appendix A
# - He, Gkioxari, Dollár, Girshick: *Mask R-CNN*, 2017, [arXiv 1703.06870](https://arxiv.org/abs/1703.06870), section 3
# - Code: torchvision, `torchvision/csrc/ops/cpu/roi_pool_kernel.cpp`; PyTorch, `torch.nn.functional.embedding_bag`
#
# The photos are public domain or CC0; `data/wild/CREDITS.csv` names their authors.
