# %% [markdown] tags=["core"]
# # 02 · Selective Search
#
# **The question.** R-CNN, the first detector of this course, looks at about 2000 boxes of a photo.
# *Who chooses these boxes?* Nobody has told it yet where the objects are.
#
# **After this lesson you can**
#
# - say why a detector cannot simply try all boxes
# - build *Selective Search*, step by step: cut, compare, merge, collect boxes
# - write its two central lines yourself: the *fill* measure and the merge of two regions
# - measure how many objects a set of boxes finds (*recall*)
# - say which objects are easy for it, which are hard, and how long it takes
#
# | section | | minutes |
# |---|---|---|
# | 1 Too many boxes | core | 3 |
# | 2 From pixels to regions | core | 5 |
# | 3 How alike are two regions? | core | 10 |
# | 4 Merge, again and again | core | 12 |
# | 5 From trees to proposals | core | 4 |
# | 6 How many objects are found? | core | 7 |
# | 7 Easy and hard | core | 4 |
# | 8 Which measure matters? | extra | 5 |
# | 9 The paper said, we measured | extra | 4 |
#
# Run the cells from top to bottom. Where the page asks you to predict, choose first. Then go on.

# %%
from rcnnlib.view.notebook import predict, setup, show_source

setup()

# %%
import torch

from rcnnlib.checks import check_fill, check_merge, check_recall
from rcnnlib.datasets.coco import wild
from rcnnlib.ops.boxes import box_area, box_iou
from rcnnlib.view.plotting import LINES, draw_boxes, figure, show_image, show_map

# %% [markdown] tags=["core"]
# ## 1 · Too many boxes
#
# *core · 3 minutes*
#
# A box that *may* hold an object is called a **proposal**. The simplest way to make proposals: take *every* box.
# How many are there?
#
# **Toy.** A picture is 3 pixels wide and 1 pixel high. It has 4 grid lines from left to right: 0, 1, 2, 3.
# A box chooses two of them. That gives 6 boxes: 0-1, 1-2, 2-3, 0-2, 1-3, 0-3.


# %%
def count_boxes(width, height):
    """How many boxes with whole numbers as corners: two grid lines along x, two along y."""
    return (width * (width + 1) // 2) * (height * (height + 1) // 2)


count_boxes(3, 1)

# %% jupyter={"source_hidden": true}
predict(
    "How many boxes has a photo of 640 x 480 pixels?",
    ["300 thousand", "2 million", "24 billion"],
    lambda: f"{count_boxes(640, 480) / 1e9:.0f} billion",
    "640 x 641 / 2 ways to choose left and right, times 480 x 481 / 2 ways to choose top and bottom.",
)

# %%
years = count_boxes(640, 480) * 0.01 / (3600 * 24 * 365)
print(f"with 10 milliseconds for each box: {years:.1f} years for one photo")

# %% [markdown] tags=["core"]
# So we need *few* boxes, and *good* ones. Few means: about 2000. Good means: for each object there is one that fits.
#
# **The idea of Selective Search.** An object is not just any rectangle. It looks different from what is around it.
# So first find *regions*, pieces of the photo that look alike inside. Then put a box around each.
#
# 1. **Cut** the photo into many small regions.
# 2. **Compare** neighbours. **Merge** the two that are most alike.
# 3. Go on until one region is left: the whole photo.
# 4. Every region that you met on the way gives **one box**.
#
# Nothing is learned here. There are no weights and no classes. Here is the photo that we shall cut.

# %%
photos = wild()
places = {name: place for place, (_, name) in enumerate(photos.images)}
cow = photos[places["cow.jpg"]]
fig, ax = figure(300, 225, alt=f"A near cow and two far ones, {len(cow.boxes)} ground truths")
draw_boxes(show_image(ax, cow.image), cow.boxes, kind="ground_truth")
fig

# %% [markdown] tags=["core"]
# ## 2 · From pixels to regions
#
# *core · 5 minutes*
#
# The first cut is a **graph segmentation** (Felzenszwalb and Huttenlocher, 2004). Each pixel begins as a region of
# its own. Between neighbours there is a **step**: how much the brightness changes. The rule visits all steps,
# **the smallest first**, and asks each time: *may the two regions on both sides be joined?*
#
# Each of the two regions has a limit: the largest step *inside* it, **plus k / size**. Size is its number of pixels,
# and k is a number that we choose. The two are joined if the step is **not larger than either limit**.
# The bonus $k / \text{size}$ helps small regions: a single pixel has no step inside, and without it would stay alone.
#
# **Toy.** A row of six pixels, with brightness 10, 12, 11, 60, 62, 61. Take k = 30. The smallest step is 1, from 12 to 11.
# Both regions are single pixels: the limit of each is 0 + 30 / 1 = 30. So they are joined. Go on on paper.

# %%
row = [10, 12, 11, 60, 62, 61]


# %%
def segment_row(values, k):
    """The rule on a row of pixels: the smallest steps first."""
    label, inner = list(range(len(values))), [0.0] * len(values)
    steps = [(abs(values[i + 1] - values[i]), i) for i in range(len(values) - 1)]
    for step, i in sorted(steps):
        a, b = label[i], label[i + 1]
        if step <= min(inner[a] + k / label.count(a), inner[b] + k / label.count(b)):
            label = [a if one == b else one for one in label]
            inner[a] = step  # the steps grow, so the newest is the largest
    return label


# %% jupyter={"source_hidden": true}
predict(
    "With k = 30, how many regions has the row 10, 12, 11, 60, 62, 61?",
    ["1", "2", "3", "6"],
    lambda: str(len(set(segment_row(row, 30)))),
    "Each half is joined: largest step inside 2, bonus 30 / 3 = 10, so its limit is 12. The step from 11 to 60 is 49.",
)

# %%
for k in (0, 3, 30, 300):
    print(f"k {k:>3}: {segment_row(row, k)}")

# %% [markdown] tags=["core"]
# (Equal numbers: the same region.) **A larger k gives larger regions.** With k = 300 the limit of each half is 102,
# and 49 is crossed.
#
# **The library** calls it `segment`. It does the same in two dimensions, with three colour channels.
# On rows of one channel, loop and library agree. (The library needs numbers from 0 to 1.)

# %%
from rcnnlib.ops.selective_search import segment

for _ in range(50):
    values, k = torch.rand(20) * 255, torch.rand(1).item() * 400
    picture = torch.cat((values[None, None] / 255, torch.zeros(2, 1, 20)))
    ours = torch.tensor(segment_row(values.tolist(), k)).unique(return_inverse=True)[1]
    theirs = segment(picture, scale=k, sigma=0, min_size=1)[0]
    assert torch.equal(ours[:, None] == ours, theirs[:, None] == theirs)  # who is with whom
print("loop and library agree on 50 random rows")

# %% [markdown] tags=["core"]
# **Look.** The cows, cut with three values of k. Every region is painted in its mean colour.
# (First the photo is turned from red, green, blue into **HSV**: *hue*, the name of the colour; *saturation*,
# how strong it is; *value*, how bright it is. Regions smaller than 100 pixels are joined to a neighbour.)

# %%
from rcnnlib.ops.selective_search import to_hsv
from rcnnlib.view.explorers.merge_steps import MergeSteps, paint_regions

hsv = to_hsv(cow.image)
cuts = {k: segment(hsv, scale=k, min_size=100) for k in (100, 300, 1000)}

# %% rows="L4 figure"
fig, axes = figure(760, 210, columns=3, alt="The cows, cut into regions;")
for ax, (k, cut) in zip(axes, cuts.items(), strict=True):
    show_image(ax, paint_regions(cow.image, cut)).set_title(f"k = {k}: {cut.max() + 1} regions")
    fig.alt += f" {ax.get_title(loc='left')};"
fig

# %% [markdown] tags=["core"]
# No value of k gives *one region for each cow*. The near cow has white and black parts, and
# the cut follows the colours. That is why we cut **too finely** on purpose, and merge afterwards.
# From here on we use k = 100.

# %% [markdown] tags=["core"]
# ## 3 · How alike are two regions?
#
# *core · 10 minutes*
#
# Selective Search adds up four numbers, each from 0 (different) to 1 (alike):
#
# $$s = s_\text{colour} + s_\text{texture} + s_\text{size} + s_\text{fill}$$
#
# **Colour.** A **histogram** counts how many pixels fall into each *bin* (each range of values),
# divided so that all bins together give 1. The similarity is what two histograms **share**:
# in each bin the smaller of the two, then the sum.
#
# **Toy.** Four bins. Region A: half of its pixels in bin 0, half in bin 1. Region B as below.

# %%
a = torch.tensor([0.5, 0.5, 0.0, 0.0])
b = torch.tensor([0.25, 0.25, 0.5, 0.0])

# %% jupyter={"source_hidden": true}
predict(
    "How much do the two histograms share?",
    ["0.25", "0.50", "0.75", "1.00"],
    lambda: f"{torch.minimum(a, b).sum():.2f}",
    "0.25 in bin 0, 0.25 in bin 1, nothing in bins 2 and 3.",
)

# %%
torch.minimum(a, b), torch.minimum(a, b).sum()

# %% [markdown] tags=["core"]
# On a photo there are three channels with 25 bins each: 75 numbers for a region.
#
# **Texture** is the same with other bins. It does not ask which value a pixel has, but how steeply the values
# climb there: in 8 directions, 10 bins each, for 3 channels. That makes 240 numbers.
#
# **Size** is 1 minus the part of the photo that both cover together. So **small regions merge first**.
#
# **Fill** asks whether two regions *fit into each other*. Put one box around both. What stays empty inside it?
#
# $$s_\text{fill} = 1 - \frac{\text{area of the common box} - \text{size}_a - \text{size}_b}{\text{area of the photo}}$$
#
# **Toy.** The photo has 6 x 6 = 36 pixels. Region 1 is an L of 12 pixels, region 2 a square of 4.
# Zeros: the rest of the photo. Orange: the common box.

# %%
notch = torch.tensor([[1, 1, 2, 2, 0, 0]] * 2 + [[1, 1, 1, 1, 0, 0]] * 2 + [[0] * 6] * 2)
apart = notch.masked_fill(notch == 2, 0)
apart[4:, 4:] = 2
fig, axes = figure(560, 270, columns=2, alt="An L of 12 pixels; a square of 4 in its notch, at its corner")
for ax, paper, corner in zip(axes, (notch, apart), (4, 6), strict=True):
    show_map(ax, paper, text="d").set(xlim=(-0.3, 6.3), ylim=(6.3, -0.3))
    draw_boxes(ax, [[0, 0, corner, corner]], kind="proposal")
axes[0].set_title("in the notch")
axes[1].set_title("at the corner")
fig

# %% jupyter={"source_hidden": true}
predict(
    "What is the fill similarity of the pair on the right (at the corner)?",
    ["1 - 0/36", "1 - 16/36", "1 - 20/36", "1 - 36/36"],
    lambda: f"1 - {6 * 6 - 12 - 4}/36",
    "The common box has 36 pixels, and 16 of them are filled. On the left nothing stays empty: 1.",
)

# %% [markdown] tags=["core"]
# ### Your turn: `my_fill`
#
# Compute the fill similarity of N pairs at once. You get the boxes of both regions, each (N, 4), their sizes in pixels,
# each (N,), and the area of the photo. Return (N,).
#
# <details><summary>Hint 1: the common box</summary>
# Its left edge is the smaller of the two left edges: <code>torch.minimum</code>. Its right edge is the larger of the two.
# </details>
#
# <details><summary>Hint 2: columns</summary>
# <code>boxes_a[:, :2]</code> holds x1 and y1 of all boxes, <code>boxes_a[:, 2:]</code> holds x2 and y2.
# <code>.prod(dim=1)</code> multiplies the two numbers of each row.
# </details>
#
# <details><summary>Hint 3: size is not the area of a box</summary>
# The L lies in a box of 16 pixels, but it has only 12. That is why the sizes are given.
# </details>


# %% tags=["exercise"] rows="L4 exercise"
def my_fill(boxes_a, sizes_a, boxes_b, sizes_b, area):
    """Return the fill similarity (N,) of N pairs of regions."""
    raise NotImplementedError


# %%
check_fill(my_fill)


# %% [markdown] tags=["core"]
# **One solution.** The next cell is collapsed. Try first. Then click the three dots to open it.


# %% jupyter={"source_hidden": true}
def fill_by_hand(boxes_a, sizes_a, boxes_b, sizes_b, area):
    """The formula, pair by pair."""
    answers = []
    both = (sizes_a + sizes_b).tolist()
    for a, b, size in zip(boxes_a.tolist(), boxes_b.tolist(), both, strict=True):
        width = max(a[2], b[2]) - min(a[0], b[0])
        height = max(a[3], b[3]) - min(a[1], b[1])
        answers.append(1 - (width * height - size) / area)
    return torch.tensor(answers)


# %% [markdown] tags=["core"]
# **The library** measures all regions of the photo once (`describe_regions`): size, box, the two histograms, and which
# regions touch. Then `fill_similarity` takes many pairs in one call. Loop and library, on all neighbours of the photo:

# %%
from rcnnlib.ops.selective_search import colour_planes, describe_regions, texture_planes

labels = cuts[100]
planes = colour_planes(hsv), texture_planes(hsv)
regions = describe_regions(labels, *planes)
print(len(regions.sizes), "regions,", len(regions.pairs), "pairs of neighbours")

# %%
from rcnnlib.ops.selective_search import fill_similarity

left, right = regions.pairs.T
boxes, sizes = torch.from_numpy(regions.boxes), torch.from_numpy(regions.sizes)
ours = fill_by_hand(boxes[left], sizes[left], boxes[right], sizes[right], regions.area)
theirs = torch.from_numpy(fill_similarity(regions, left, right)).float()
assert torch.allclose(ours, theirs, atol=1e-5)
print("loop and library agree on", len(ours), "pairs")

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# The loop asks one pair at a time. The library indexes whole columns: <code>boxes[left]</code> are the first boxes of
# all pairs. And no measure ever looks at a pixel again: size, box and two histograms say all that is needed.
# </details>
#
# **Move.** Here the photo is down to 40 regions, so that you can click on them. (Section 4 shows how we got there.)
# Region A (blue, solid line) is the white flank of the cow, region B (pink, dashed) the black patch on it.
# Right: their two histograms; grey is what they share.

# %%
from rcnnlib.ops.selective_search import MEASURES, hierarchical_grouping, regions_after

tree = hierarchical_grouping(regions)
coarse = regions_after(tree, labels, 266).unique(return_inverse=True)[1]
forty = describe_regions(coarse, *planes)
flank, patch = coarse[214, 316].item(), coarse[224, 394].item()  # the regions at two pixels

# %% jupyter={"source_hidden": true}
predict(
    "White flank and black patch of the same cow: which similarity is the lowest?",
    ["colour", "texture", "size", "fill"],
    lambda: min(MEASURES, key=lambda name: MEASURES[name](forty, flank, patch)),
    "Black and white share few bins. The other three are high, and will bring the two together.",
)

# %% rows="L4 explorer"
from rcnnlib.view.explorers.region_pair import RegionPair

RegionPair(paint_regions(cow.image, coarse), coarse, forty, a=flank, b=patch, alt="Cows")

# %% [markdown] tags=["core"]
# Try these. ("Place 1" is the pair that would be merged next.)
#
# 1. Let B be the grass (choose "a click chooses: B", then click on the grass). Which measure falls most? Why?
# 2. Let A be the front of the cow (head and leg) and B the black patch again. The sum is larger than that of any
#    pair that touches! But these two do not touch, so they are never compared.
# 3. Watch the texture of many pairs. It is nearly always high: most pixels have almost no slope,
#    so most of the histogram lies in the same bins (the tall bars, cut off at the top). Texture says little here.
#
# <details><summary>What you should have seen in 1</summary>
# <b>Size</b> falls most. The grass covers more than a third of the photo, so it has to wait until the end.
# </details>

# %% [markdown] tags=["core"]
# ## 4 · Merge, again and again
#
# *core · 12 minutes*
#
# Now take the most similar pair of neighbours, make *one* region of the two, and look again.
# This is called **greedy**: always the best step now, and no way back.
#
# **Toy.** Four regions in a row, with 1, 2, 3 and 4 pixels. Only *size* counts: $1 - (\text{size}_a + \text{size}_b) / 10$.

# %%
toy = torch.tensor([[0, 1, 1, 2, 2, 2, 3, 3, 3, 3]])
fig, ax = figure(520, 80, alt="Ten pixels: regions 0, 1, 2, 3 have 1, 2, 3, 4")
show_map(ax, toy, text="d")
fig

# %% jupyter={"source_hidden": true}
predict(
    "Regions 0 and 1 merge first, into region 4. Which pair merges next?",
    ["1 and 2", "2 and 3", "4 and 2", "4 and 3"],
    lambda: "4 and 2" if (1 + 2) + 3 < 3 + 4 else "2 and 3",
    "4 and 2 have 3 + 3 = 6 pixels, 2 and 3 have 3 + 4 = 7. (4 and 3 are no neighbours yet.)",
)

# %% [markdown] tags=["core"]
# What do we know about the new region, **without looking at its pixels**? Its size, its box, and its histogram:
#
# - the **sizes** are added;
# - the **box** is the common box;
# - the **histogram** is the mean of the two histograms, **weighted by size** (paper, eq. 2):
#
# $$C_t = \frac{\text{size}_a\, C_a + \text{size}_b\, C_b}{\text{size}_a + \text{size}_b}$$
#
# ### Your turn: `my_merge`
#
# Each region is a row: size, x1, y1, x2, y2, then its histogram (as many bins as you like).
# Take all rows and two row numbers a and b. Return the row of the merged region.
#
# <details><summary>Hint 1: take the rows apart</summary>
# <code>rows[a, 0]</code> is the size, <code>rows[a, 1:3]</code> x1 and y1, <code>rows[a, 3:5]</code> x2 and y2,
# <code>rows[a, 5:]</code> the histogram.
# </details>
#
# <details><summary>Hint 2: check the weights</summary>
# One pixel of bin 0 and three pixels of bin 1: the histogram must be (0.25, 0.75).
# </details>
#
# <details><summary>Hint 3: put them together</summary>
# <code>torch.cat((size[None], corner1, corner2, histogram))</code>. <code>[None]</code> turns one number into a row of one.
# </details>


# %% tags=["exercise"] rows="L4 exercise"
def my_merge(rows, a, b):
    """Return size, box and histogram of regions a and b together; rows is (R, 5 + bins)."""
    raise NotImplementedError


# %%
check_merge(my_merge)


# %% [markdown] tags=["core"]
# **One solution**, collapsed.


# %% jupyter={"source_hidden": true}
def merge_by_hand(rows, a, b):
    """Number by number: sizes are added, the box holds both, the histogram is a mean by size."""
    one, two = rows[a].tolist(), rows[b].tolist()
    size = one[0] + two[0]
    low = [min(one[n], two[n]) for n in (1, 2)]
    high = [max(one[n], two[n]) for n in (3, 4)]
    histogram = [(one[0] * p + two[0] * q) / size for p, q in zip(one[5:], two[5:], strict=True)]
    return torch.tensor([size, *low, *high, *histogram], dtype=rows.dtype)


# %% [markdown] tags=["core"]
# **The library** keeps sizes, boxes and histograms apart, and writes the merged region into row `new`:

# %%
from rcnnlib.ops.selective_search import merge_regions

show_source(merge_regions, docstring=False)

# %% [markdown] tags=["core"]
# **The whole algorithm** is then a short loop (paper, 3.1, algorithm 1). Pairs are sets of two ids.
# When a and b become `new`, every pair that named one of them now names `new`.


# %%
def group_by_hand(rows, pairs, similar):
    """Merge the most similar neighbours until one region is left; return all rows and the merges."""
    pairs, merges = {frozenset(pair) for pair in pairs}, []
    while pairs:
        ordered = sorted(sorted(pair) for pair in pairs)  # of equal pairs the first counts
        a, b = max(ordered, key=lambda pair: similar(rows[pair[0]], rows[pair[1]]))
        new = len(rows)
        rows = torch.cat((rows, merge_by_hand(rows, a, b)[None]))
        renamed = {frozenset(new if one in (a, b) else one for one in pair) for pair in pairs}
        pairs = renamed - {frozenset((new,))}  # a and b themselves are one region now
        merges.append([a, b])
    return rows, merges


# %%
rows = torch.tensor([[1, 0, 0, 1, 1], [2, 1, 0, 3, 1], [3, 3, 0, 6, 1], [4, 6, 0, 10, 1.0]])
every, merges = group_by_hand(rows, [(0, 1), (1, 2), (2, 3)], lambda a, b: 1 - (a[0] + b[0]) / 10)
print("merges", merges)
print("boxes ", every[:, 1:5].int().tolist())

# %% [markdown] tags=["core"]
# Four regions gave three merges, so **seven boxes**. The last one is the whole row.

# %% jupyter={"source_hidden": true} rows="L4 predict"
predict(
    "The cows were cut into 306 regions. How many boxes does the whole tree give?",
    ["306", "611", "612", "about 47 thousand"],
    lambda: str(len(tree.boxes)),
    "Each merge takes two regions away and adds one: 305 merges until one is left. 306 + 305 = 611.",
)

# %% [markdown] tags=["core"]
# **The library** calls it `hierarchical_grouping`, because the merges form a tree. Does it agree with our loop?
# We try a smaller photo, of a hammer, with all four measures.
# (Colour and texture are both "what is shared", so one sum over all 315 bins does both.)

# %%
from rcnnlib.view.explorers.merge_steps import open_start

hammer = open_start("hammer7", 100).regions
columns = [torch.from_numpy(values).reshape(len(values), -1) for values in hammer[:4]]
rows = torch.cat(columns, dim=1)
print(tuple(rows.shape), "regions, and 1 + 4 + 75 + 240 numbers for each")


# %%
def similar(one, two):
    """All four measures, from two rows."""
    sides = torch.maximum(one[3:5], two[3:5]) - torch.minimum(one[1:3], two[1:3])
    size = one[0] + two[0]
    shared = torch.minimum(one[5:], two[5:]).sum()
    return shared + (1 - size / hammer.area) + 1 - (sides.prod() - size) / hammer.area


# %%
every, merges = group_by_hand(rows, hammer.pairs.tolist(), similar)
library = hierarchical_grouping(hammer)
assert merges == library.merges.tolist()
assert torch.allclose(every[:, 1:5].float(), library.boxes)
print("loop and library agree:", len(merges), "merges,", len(library.boxes), "boxes")

# %% [markdown] tags=["core"]
# <details><summary>Why the library is quicker</summary>
#
# The loop compares <b>all</b> pairs again after each merge. The library keeps all pairs in a <i>heap</i>, a list from
# which the best can be taken without searching. After a merge it compares only the new region with its neighbours.
# Old entries stay in the heap. When one comes out whose region is gone, it is thrown away.
#
# It still goes one merge after the other, because every merge changes the next.
# So this is work for a CPU, and a GPU cannot help.
# </details>
#
# **Look.** The tree of the cows at four moments.

# %% rows="L4 figure"
fig, axes = figure(860, 185, columns=4, alt="The cows while regions merge;")
for ax, left_over in zip(axes, (306, 100, 30, 12), strict=True):
    now = regions_after(tree, labels, 306 - left_over)
    show_image(ax, paint_regions(cow.image, now)).set_title(f"{now.unique().numel()} regions")
    fig.alt += f" {ax.get_title(loc='left')};"
fig

# %% [markdown] tags=["core"]
# With 12 regions left the near cow is *one* region, black and white together. The far cow on the left is gone:
# it was a region of its own earlier, and then it joined what is behind it. **That does no harm: its box was kept.**
# So objects of every size are found, each at its own moment.
#
# One prediction before you move it: what if we leave the *size* measure out? A box is **huge** here if it covers
# more than half of the photo.


# %%
def large_share(tree):
    """Which part of the boxes made by merges covers more than half of the photo."""
    made = tree.boxes[len(regions.sizes) :]
    return (box_area(made) > regions.area / 2).float().mean().item()


no_size = hierarchical_grouping(regions, measures=("colour", "texture", "fill"))

# %% jupyter={"source_hidden": true}
predict(
    "Without “size”, which boxes will the merges make?",
    ["more huge boxes", "more tiny boxes", "the same boxes in another order"],
    lambda: "more huge boxes" if large_share(no_size) > 2 * large_share(tree) else "more tiny boxes",
    "Nothing keeps a large region from eating its neighbours one by one. Each bite gives one more huge box.",
)

# %% [markdown] tags=["core"]
# **Move.** Drag "merges". Left: the regions, with each object (green) and the best box so far (orange).
# Right: all boxes so far, and how the best IoU of each object rises, one line for each.

# %% rows="L4 explorer"
MergeSteps(merges=230)

# %% [markdown] tags=["core"]
# Try these.
#
# 1. Find the merge at which the near cow becomes one region. What does its best IoU do?
# 2. Untick "size". Look at the boxes on the right. Then leave only "colour", then only "texture".
# 3. Choose the photo "giraffe" and drag to the end. Why is there no good box for the front giraffe?
# 4. Choose k = 300. The far cow on the right is lost **before the first merge**. No merge can bring it back.
#
# <details><summary>What you should have seen</summary>
# 1: at 270 merges its best IoU jumps from about 0.7 to 0.96. 2: huge boxes, one around the other; the next cell counts
# them. 3: its light upper half becomes one region, but its dark legs join the other giraffe.
# </details>

# %%
for name, one in (("all four", tree), ("without size", no_size)):
    best = box_iou(cow.boxes, one.boxes).amax(dim=1)
    print(f"{name:>12}: huge boxes {large_share(one):.2f}, best IoU of the near cow {best[0]:.2f}")

# %% [markdown] tags=["core"]
# ### Plant the bug
#
# The explorer has a switch, "planted bug". Each is a mistake of one line.
#
# - *plain mean*: the new histogram is $(C_a + C_b) / 2$. Somebody forgot the weights.
# - *least similar first*: somebody sorted the wrong way round.
#
# Neither raises an error. Both give exactly 611 boxes. Predict what happens.

# %%
from rcnnlib.view.explorers.merge_steps import BUGS, grow

trees = {bug: grow("cow", 100, tuple(MEASURES), bug) for bug in BUGS}
fits = {bug: box_iou(cow.boxes, one.boxes).amax(dim=1) for bug, one in trees.items()}

# %% jupyter={"source_hidden": true}
predict(
    "With the plain mean: what happens to the best IoU of the near cow?",
    ["it stays about the same", "it falls below 0.7", "it rises"],
    lambda: "it falls below 0.7" if fits["plain mean"][0] < 0.7 else "it stays about the same",
    "A patch of 100 pixels changes the colour of a whole flank, which then looks like something else.",
)

# %%
for bug, one in trees.items():
    numbers = ", ".join(f"{iou:.2f}" for iou in fits[bug])
    print(f"{bug:>19}: {len(one.boxes)} boxes, best IoU {numbers}, huge {large_share(one):.2f}")

# %%
fig, axes = figure(840, 240, columns=3, alt="The cows with 12 regions left, three programs;")
for ax, (bug, one) in zip(axes, trees.items(), strict=True):
    show_image(ax, paint_regions(cow.image, regions_after(one, labels, 294))).set_title(bug)
    draw_boxes(ax, cow.boxes, kind="ground_truth")
    best = box_iou(cow.boxes, one.boxes).argmax(dim=1)
    draw_boxes(ax, one.boxes[best], kind="proposal")
    fig.alt += f" {bug}: best IoU of the near cow {fits[bug][0]:.2f};"
fig

# %% [markdown] tags=["core"]
# *Least similar first* is loud: one region eats all, and most boxes are huge. *Plain mean* is quiet:
# the far cows are as good as before, only the large object suffers.
# The number of boxes shows neither mistake. A comparison with the ground truth shows both.

# %% [markdown] tags=["core"]
# ## 5 · From trees to proposals
#
# *core · 4 minutes*
#
# One tree has one opinion. If the cut was wrong at the start, or two colours happened to be close, an object is lost.
# So the paper grows **several different trees** and takes the boxes of all. Its *fast mode*, which R-CNN used, has eight:
#
# - 2 **colour spaces**: HSV and Lab (brightness, green to red, blue to yellow)
# - 2 **cuts**: a fine one and a coarse one (two values of k)
# - 2 **sums of measures**: all four; or texture + size + fill, without colour
#
# We grow them, with a watch. (`FAST_MEASURES` holds the two sums. The seconds differ from run to run.)

# %%
from time import perf_counter

from rcnnlib.ops.selective_search import FAST_MEASURES, rank_boxes, to_lab

# %% tags=["nbval-ignore-output"] reason="timings differ between machines"
start, eight = perf_counter(), []
for convert in (to_hsv, to_lab):
    picture = convert(cow.image)
    bins = colour_planes(picture), texture_planes(picture)
    for k in (100, 300):
        parts = describe_regions(segment(picture, scale=k, min_size=100), *bins)
        eight += [hierarchical_grouping(parts, measures=measures) for measures in FAST_MEASURES]
boxes = rank_boxes(eight)
seconds = perf_counter() - start
print(f"{len(boxes)} boxes in {seconds:.1f} seconds, on one thread")

# %% [markdown] tags=["core"]
# `rank_boxes` mixes the trees: boxes from their tops (large regions) come first, and a box that several
# trees propose is kept once. The library calls this loop `selective_search`; it also drops boxes narrower than 10 pixels.
#
# A second or more for one photo, and a GPU is no help for merging. Keep this number in mind for lesson 09.
# Because of it, the course computed the boxes of all its pictures once, and **stored** them.

# %%
from rcnnlib.datasets.proposals import selective_search_boxes

stored = selective_search_boxes("wild")
again = box_iou(stored[cow.id], boxes).amax(dim=1) > 0.99
assert len(eight) == 8
assert 800 < len(boxes) < 3000
print("nearly all stored boxes are found again:", again.float().mean().item() > 0.95)

# %% [markdown] tags=["core"]
# **Look.** Are eight trees worth it? Four chickens, with the best box of each: one tree on the left, eight on the right.

# %%
chicken = photos[places["chicken.jpg"]]
both = {"one tree": grow("chicken", 100, tuple(MEASURES)).boxes, "eight trees": stored[chicken.id]}
for name, found in both.items():
    best = box_iou(chicken.boxes, found).amax(dim=1)
    print(f"{name:>11}: {len(found):>4} boxes, best IoU {', '.join(f'{iou:.2f}' for iou in best)}")

# %%
fig, axes = figure(600, 215, columns=2, alt="Four chickens, the best boxes of one tree and of eight")
for ax, (name, found) in zip(axes, both.items(), strict=True):
    draw_boxes(show_image(ax, chicken.image), chicken.boxes, kind="ground_truth")
    best, place = box_iou(chicken.boxes, found).max(dim=1)
    draw_boxes(ax, found[place], kind="proposal", labels=[f"{iou:.2f}" for iou in best])
    ax.set_title(f"{name}, {len(found)} boxes")
fig

# %% [markdown] tags=["core"]
# The chickens touch, and they have the same colour. In the one tree, the two in the middle are joined too early:
# neither ever gets a good box of its own. Among the other trees there is a better box for each.

# %% [markdown] tags=["core"]
# ## 6 · How many objects are found?
#
# *core · 7 minutes*
#
# A detector can only find what a proposal covers. So we ask: **for which part of the objects is there a box with IoU of
# at least 0.5** (or 0.7)? This part is called **recall**. It does not ask how many boxes are wrong.
#
# **Toy.** Three objects (rows), four proposals (columns), best first.

# %%
table = torch.tensor([[0.1, 0.5, 0.8, 0.9], [0.3, 0.2, 0.1, 0.6], [0.0, 0.1, 0.75, 0.0]])

# %% jupyter={"source_hidden": true}
predict(
    "Only the first 3 proposals may be used. Recall at IoU 0.7?",
    ["1/3", "2/3", "2/4", "3/3"],
    lambda: f"{int((table[:, :3] >= 0.7).any(dim=1).sum())}/3",
    "Object 0 is found by proposal 2 (0.8), and object 2 as well (0.75). For object 1 the best of the three is 0.3.",
)

# %% [markdown] tags=["core"]
# ### Your turn: `my_recall`
#
# Take a table of IoUs (objects x proposals), a count and a threshold. Use the first `count` proposals.
# Return a tensor with one number.
#
# <details><summary>Hint 1: columns</summary>
# <code>iou[:, :count]</code> keeps the first columns. If there are fewer, it keeps all.
# </details>
#
# <details><summary>Hint 2: one answer a row</summary>
# <code>(...).any(dim=1)</code> says for each row whether at least one entry is true.
# </details>
#
# <details><summary>Hint 3: a part</summary>
# The mean of zeros and ones is the part of ones. Booleans need <code>.float()</code> first.
# </details>


# %% tags=["exercise"] rows="L4 exercise"
def my_recall(iou, count, threshold):
    """Return which part of the rows of iou (G, P) the first count columns reach."""
    raise NotImplementedError


# %%
check_recall(my_recall)


# %% [markdown] tags=["core"]
# **One solution**, collapsed.


# %% jupyter={"source_hidden": true}
def recall_by_hand(iou, count, threshold):
    """Object by object: is there one good box?"""
    found = 0
    for row in iou[:, :count]:
        if any(one >= threshold for one in row):
            found += 1
    return torch.tensor(found / len(iou))


# %% [markdown] tags=["core"]
# **The library** has `proposal_recall`, which takes many pictures. We compare on the cows.

# %%
from rcnnlib.engine.metrics import proposal_recall

found, at = stored[cow.id], torch.tensor([0.5])
for count in (10, 100, 1000):
    ours = recall_by_hand(box_iou(cow.boxes, found), count, 0.5)
    theirs = proposal_recall([found], [cow.boxes], thresholds=at, count=count)
    assert torch.isclose(ours.double(), theirs)
    print(f"first {count:>4} boxes: recall {ours:.4f}")

# %% [markdown] tags=["core"]
# The first boxes are the largest regions. So the near cow is found by the first ten boxes, and the far cows are not.
#
# Now three data sets, with the stored boxes of every picture:
#
# - **Wild**: real photos of animals and tools. Mostly one large object.
# - **Scrapbook** (test): scenes of 320 x 240 pixels into which small cut-outs were pasted.
# - **Treetops** (test): trees in a forest, seen from above. About 40 pixels each, many, and close together.

# %%
from rcnnlib.view.explorers.recall_by_count import RecallByCount, open_sets

sets = open_sets()
for name, found in sets.items():
    truths, pictures = torch.cat(found.truths), len(found.proposals)
    side, boxes = box_area(truths).sqrt().median(), sum(map(len, found.proposals)) / pictures
    print(f"{name:>9}: {len(truths)} objects, median side {side:.0f}, {boxes:.0f} boxes a picture")

# %%
at = torch.tensor([0.5, 0.7])
recalls = {name: proposal_recall(one.proposals, one.truths, thresholds=at) for name, one in sets.items()}

# %% jupyter={"source_hidden": true}
predict(
    "With all stored boxes, at IoU 0.5: which set has the lowest recall, and how low is it?",
    ["Scrapbook, about 0.4", "Treetops, about 0.7", "Treetops, about 0.1", "Wild, about 0.9"],
    lambda: f"{min(recalls, key=lambda name: recalls[name][0])}, about {recalls['Treetops'][0]:.1f}",
    "One crown in three has no box at all that is good enough, whatever the detector does afterwards.",
)

# %%
for name, (half, strict) in recalls.items():
    print(f"{name:>9}: recall {half:.4f} at IoU 0.5, {strict:.4f} at IoU 0.7")

# %% [markdown] tags=["core"]
# **Move.** Two sliders: how many boxes, and how good a box must be. *Large regions first* is the stored order.
# There are two more.
# *Times a random number*: each place in the list is multiplied by a random number, as the paper does.
# *Random boxes*: as many boxes, drawn blindly.

# %% rows="L4 explorer"
RecallByCount(sets)

# %% [markdown] tags=["core"]
# Try these.
#
# 1. From how many boxes on does Scrapbook hardly gain any more? And Treetops?
# 2. Set 100 boxes, at IoU 0.5. Compare *large regions first* with *times a random number*. Which sets gain, and why?
# 3. Set 100 boxes and choose *random boxes*. On Wild, recall at IoU 0.5 looks good! Now go to IoU 0.7.
#    **A large object in the middle is easily hit by half. It is not easily hit well.**
#
# <details><summary>What you should have seen</summary>
# 1: Scrapbook from about 500 boxes on, Treetops from about 1000. 2: Scrapbook and Treetops gain. Their objects are
# small, and in the plain order all large regions come first. 3: recall at 0.7 is about 0.26 with random boxes, and 0.83
# with Selective Search.
# </details>

# %% [markdown] tags=["core"]
# ## 7 · Easy and hard
#
# *core · 4 minutes*
#
# Four pictures. Green: objects. Orange: the best box for each.

# %%
from rcnnlib.datasets.coco import scrapbook
from rcnnlib.datasets.voc import treetops

pasted, crowns = scrapbook("test"), treetops("test")
giraffe = photos[places["giraffe.jpg"]]
examples = {
    "Wild: cows": (cow, stored[cow.id]),
    "Wild: giraffes": (giraffe, stored[giraffe.id]),
    "Scrapbook": (pasted[129], selective_search_boxes("scrapbook_test")[pasted[129].id]),
    "Treetops": (crowns[15], selective_search_boxes("treetops_test")[15]),
}

# %% rows="L4 figure"
fig, axes = figure(560, 440, rows=2, columns=2, alt="Objects and the best box for each;")
for ax, (name, (example, found)) in zip(axes.flat, examples.items(), strict=True):
    best, place = box_iou(example.boxes, found).max(dim=1)
    draw_boxes(show_image(ax, example.image), example.boxes, kind="ground_truth")
    draw_boxes(ax, found[place], kind="proposal")
    ax.set_title(f"{name}, IoU {best.min():.2f} to {best.max():.2f}")
    fig.alt += f" {ax.get_title(loc='left')};"
fig

# %% [markdown] tags=["core"]
# - **Cows: easy.** They differ from the meadow in colour, and each stands alone. Even the small ones have a good box.
# - **Giraffes: hard.** They overlap, and the dark legs of the front one join the other. So it is cut in two.
# - **Scrapbook.** Plain shapes are easy. Hard are objects that hide each other, and *thin* ones.
# - **Treetops: hardest.** Every neighbour looks the same. Shadow and light differ more than tree and tree.
#
# Is it only that crowns are *small*? We test it: only objects with a side of 20 to 60 pixels, in all three sets.


# %%
def best_ious(found):
    """Best IoU and side of every object of a data set."""
    pairs = zip(found.truths, found.proposals, strict=True)
    best = [box_iou(truths, proposals).amax(dim=1) for truths, proposals in pairs]
    return torch.cat(best), box_area(torch.cat(found.truths)).sqrt()


# %% rows="L4 experiment"
for name, found in sets.items():
    best, side = best_ious(found)
    small = best[(side >= 20) & (side < 60)]
    print(f"{name:>9}: {len(small):>3} such objects, mean best IoU {small.mean():.2f}")

# %% [markdown] tags=["core"]
# At the same size, the cut-outs of Scrapbook have clearly better boxes than the crowns. (Wild has too few such objects
# to say much.) **Small alone does not explain it.** A crown has neighbours that look like it; a cut-out seldom has.
#
# And thin objects? Scrapbook has five classes:

# %%
labels_of = torch.cat([pasted[index].labels for index in range(len(pasted))])
best, _ = best_ious(sets["Scrapbook"])
for label, name in enumerate(pasted.class_names, start=1):
    print(f"{name:>8}: mean best IoU {best[labels_of == label].mean():.2f}")

# %% [markdown] tags=["core"]
# Tools are the worst: pliers, hammers, screwdrivers. A likely reason: a thin object has a long border and few pixels,
# and a small piece of background that joins it changes its box a lot.

# %% [markdown] tags=["extra"]
# ## 8 · Which measure matters?
#
# *extra · 5 minutes*
#
# We grow one tree for each of eleven photos of Wild (at half size, to save time): with each measure alone, and with all.
# For each object we take the best IoU, then the mean. (The paper takes the mean of each class first: *mean average
# best overlap*.)

# %%
from torch.nn.functional import interpolate


def half_size(example):
    """Regions and ground truths of a photo at half of its size."""
    small = to_hsv(interpolate(example.image[None], scale_factor=0.5, mode="area")[0])
    cut = segment(small, scale=100, min_size=100)
    return describe_regions(cut, colour_planes(small), texture_planes(small)), example.boxes / 2


# %%
large = [photos[index] for index in range(len(photos))]
large = [example for example in large if max(example.image.shape) == 640 and len(example.boxes)]
cases = [half_size(example) for example in large[::2]]
print(len(cases), "photos,", sum(len(truths) for _, truths in cases), "objects")


# %%
def score(measures):
    """Mean best IoU, and the part of boxes larger than half of the photo."""
    best, big = [], []
    for one, truths in cases:
        grown = hierarchical_grouping(one, measures=measures).boxes
        best.append(box_iou(truths, grown).amax(dim=1))
        big.append((box_area(grown[len(one.sizes) :]) > one.area / 2).float().mean())
    return torch.cat(best).mean().item(), torch.stack(big).mean().item()


# %%
choices = {name: (name,) for name in MEASURES} | {"all four": tuple(MEASURES)}
scores = {name: score(measures) for name, measures in choices.items()}
for name, (best, big) in scores.items():
    print(f"{name:>8}: mean best IoU {best:.2f}, huge boxes {big:.2f}")

# %%
fig, ax = figure(560, 230, alt="Huge boxes: colour and texture alone have the long bars")
names, values = list(scores)[::-1], [big for _, big in scores.values()][::-1]
ax.barh(names, values, color=[LINES[0]] + [LINES[1]] * 4)
for place, value in enumerate(values):
    ax.text(value + 0.01, place, f"{value:.2f}", va="center")
ax.set(xlim=(0, 1), xlabel="huge boxes, as a part of all merges")
fig

# %% [markdown] tags=["extra"]
# **The huge boxes differ clearly.** *Size* and *fill* know how much of the photo a region takes, so they keep large regions
# waiting. *Colour* and *texture* do not know it. Texture alone is the worst: nearly all regions share nearly all of it,
# as you saw, so it hardly says whom to merge.
#
# **The best IoUs do not differ clearly.** All four together and colour alone are 0.02 apart, on 31 objects.
# From this you cannot say which is better. You would need many more photos.

# %%
huge = {name: big for name, (_, big) in scores.items()}
assert min(huge["colour"], huge["texture"]) > 2 * max(huge["size"], huge["fill"], huge["all four"])
print("colour or texture alone: more than twice as many huge boxes as with size or fill")

# %% [markdown] tags=["extra"]
# ## 9 · The paper said, we measured
#
# *extra · 4 minutes*
#
# The paper is Uijlings and others, *Selective Search for Object Recognition*, 2013. Its numbers belong to PASCAL VOC 2007,
# ours to 63 photos. So we compare **orders**, never values.
#
# | | the paper | we |
# |---|---|---|
# | all four measures together are better than one | yes | 31 objects are too few to tell (section 8) |
# | the size term keeps one region from eating all others | says so (3.2) | without it, several times as many huge boxes (section 4) |
# | several trees find more than one | yes | yes (the chickens, section 5) |
# | boxes of the fast mode | about 2000 a picture (R-CNN paper) | next cell (photos of 640 pixels) |
# | time | 1.5 s a picture (Faster R-CNN paper) | the same order (section 5) |
# | more boxes are always better for a detector | no: Fast R-CNN saw the score rise a little, then fall | not measured here |

# %%
counts = torch.tensor([len(stored[example.id]) for example in large]).float()
print(f"{len(large)} photos: {counts.min():.0f} to {counts.max():.0f} boxes, mean {counts.mean():.0f}")

# %% [markdown] tags=["extra"]
# **Where ours departs from the paper**
#
# - k is 100 and 300, not 50 and 100. Larger first regions give fewer boxes.
# - No random number in the rank, so that every run gives the same list. (`noise` brings it back, and section 6 shows
#   what it does.)
# - No *quality mode*: many more trees, and about 10,000 boxes.
# - R-CNN makes every picture 500 pixels wide first, and drops boxes narrower than 20. We keep the size, and drop below 10.
#
# **Look ahead.** R-CNN (lesson 03) sends each of these boxes through a network. Does *Fast* R-CNN still use
# Selective Search? Lesson 09 answers with a clock in its hand.

# %% [markdown] tags=["core"]
# ## Summary
#
# - All boxes of a photo are billions. Selective Search proposes one or two thousand, without learning anything.
# - **Cut** into regions (smallest steps first, bonus k / size), **compare** neighbours, **merge** the most similar, repeat.
# - Similarity = colour + texture + size + fill. A merged region is known from two rows of numbers, without its pixels.
# - n regions give n - 1 merges and 2n - 1 boxes. Objects appear at their own moment, and their boxes stay.
# - Size keeps one region from eating all. Weights keep a large region what it is.
# - Several different trees find what one tree loses.
# - Recall: which part of the objects has a good box. What no proposal covers, no detector can find.
# - Easy: objects unlike their surroundings, small or large. Hard: look-alike neighbours, overlap, thin things.
# - It takes about a second or more a photo, one step after the other, on the CPU.
#
# ## Glossary
#
# | English | 한국어 | meaning |
# |---|---|---|
# | proposal | 후보 영역 | a box that may hold an object |
# | region | 영역 | connected pixels that belong together |
# | segmentation | 분할 | cutting a photo into regions |
# | neighbours | 이웃 | regions that share the edge of a pixel |
# | histogram | 히스토그램 | which part of the pixels falls into each bin |
# | texture | 질감 | how the brightness changes from pixel to pixel |
# | similarity | 유사도 | how alike two regions are |
# | merge | 병합 | make one region of two |
# | greedy | 탐욕적 | always the best step now, no way back |
# | hierarchy, tree | 계층, 트리 | which regions were merged into which |
# | recall | 재현율 | the part of the objects that is found |
# | ground truth | 정답 (실제값) | the box that people drew |
#
# ## References
#
# - Uijlings, van de Sande, Gevers, Smeulders: *Selective Search for Object Recognition*, IJCV 104, 2013
# - Felzenszwalb, Huttenlocher: *Efficient Graph-Based Image Segmentation*, IJCV 59, 2004
# - Girshick and others: *Rich feature hierarchies ...* (R-CNN), 2014, [arXiv 1311.2524](https://arxiv.org/abs/1311.2524)
# - Girshick: *Fast R-CNN*, 2015, [arXiv 1504.08083](https://arxiv.org/abs/1504.08083)
# - The cut is `skimage.segmentation.felzenszwalb` of scikit-image.
#
# The photos are public domain or CC0; `data/wild/CREDITS.csv` names their authors.
# The scenes are made of cut-outs of Tux Paint's stamps (GPL 2 or later); `data/scrapbook/CREDITS.csv` names their authors.
# The crowns of trees are from DeepForest (MIT): `data/treetops/CREDITS.csv`.
