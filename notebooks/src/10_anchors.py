# %% [markdown] tags=["core"]
# # 10 · Anchors
#
# **The question.** Fast R-CNN still gets its regions from outside, from Selective Search.
# We want the network to propose them. But a network has a fixed number of outputs, and objects come in any number,
# anywhere, in any size. *How can a fixed number of outputs describe any number of boxes?*
#
# The answer of Faster R-CNN: start from **anchors**. An anchor is a box that is always there, at every cell of the
# feature map. The network only says "this one" and "move it a little".
#
# **After this lesson you can**
#
# - build the nine anchors of a cell, and those of a whole map
# - say how many there are, and how many cross the border of the picture
# - see which objects no anchor reaches, and choose scales from the boxes of a data set
# - say in which unit a correction of an anchor is measured, and why
#
# | section | | minutes |
# |---|---|---|
# | 1 One cell, nine boxes | core | 12 |
# | 2 Which objects are reached? | core | 12 |
# | 3 Scales from your data | core | 8 |
# | 4 Anchors that cross the border | core | 6 |
# | 5 The unit of a correction | core | 6 |
# | 6 Larger than what the cell sees | extra | 5 |
# | 7 Papers and code | extra | 5 |

# %%
from rcnnlib.view.notebook import predict, setup, show_source

setup()

# %%
import torch

from rcnnlib.checks import check_anchor_scales, check_anchors, check_inside
from rcnnlib.datasets.coco import scrapbook, wild
from rcnnlib.datasets.transforms import resize
from rcnnlib.datasets.voc import treetops
from rcnnlib.ops.anchors import anchor_grid, cell_anchors
from rcnnlib.ops.boxes import box_iou, is_inside
from rcnnlib.view.plotting import draw_boxes, figure, show_image, show_map

# %% [markdown] tags=["core"]
# ## 1 · One cell, nine boxes
#
# *core · 12 minutes*
#
# The feature map has one cell for every 16 x 16 pixels (lesson 04: the *stride* is 16).
# At each cell we place the same few boxes. Two lists say which:
#
# - **scales**: the side of a square, in pixels. The paper has three: 128, 256, 512.
# - **ratios**: height divided by width. The paper has three: 1/2, 1, 2. A ratio changes the shape and **keeps the area**.
#
# Three scales times three ratios make **k = 9** anchors a cell.
#
# **Toy.** Scale 32, ratio 4. The area is 32 x 32 = 1024 pixels, and the height is 4 times the width. How wide is it?

# %% jupyter={"source_hidden": true}
predict(
    "How wide is the anchor with scale 32 and ratio 4?",
    ["8", "16", "32", "64"],
    lambda: str(int((cell_anchors((32,), (4.0,))[0, 2] - cell_anchors((32,), (4.0,))[0, 0]).item())),
    "16 wide and 64 high: 16 x 64 = 1024, and 64 / 16 = 4.",
)

# %% [markdown] tags=["core"]
# In general: width = scale / √ratio, height = scale · √ratio. Multiply them: the root goes, scale² remains.

# %%
for ratio in (0.5, 1.0, 2.0):
    x1, y1, x2, y2 = cell_anchors((64,), (ratio,))[0].tolist()
    width, height = x2 - x1, y2 - y1
    print(f"ratio {ratio}: {width:.1f} wide, {height:.1f} high, area {width * height:.0f}")

# %% [markdown] tags=["core"]
# Where do we put them? On the **centre** of the cell. Cell (row i, column j) covers the pixels from 16 j to 16 (j + 1).
# Its centre is x = 16 (j + 0.5), y = 16 (i + 0.5).

# %% jupyter={"source_hidden": true}
predict(
    "Stride 16. What is the centre (x, y) of the cell in row 0, column 2?",
    ["(32, 0)", "(40, 8)", "(8, 40)", "(48, 16)"],
    "(40, 8)",
    "Column 2 covers x = 32 to 48, row 0 covers y = 0 to 16. x belongs to the column.",
)

# %% [markdown] tags=["core"]
# ### Your turn: `my_anchors`
#
# Make the anchors of a whole map of `height` x `width` cells. Give them as rows x1, y1, x2, y2 in pixels.
#
# **The order matters**, because the network's outputs come in the same order: row by row; in a row cell by cell;
# in a cell ratio by ratio; for each ratio scale by scale.
#
# <details><summary>Hint 1: how many rows</summary>
# <code>height * width * len(ratios) * len(scales)</code>. Four loops inside each other are fine.
# </details>
#
# <details><summary>Hint 2: one anchor</summary>
# From the centre it reaches half its width to the left and half to the right: <code>x - w / 2</code>, <code>x + w / 2</code>.
# </details>
#
# <details><summary>Hint 3: the end</summary>
# Collect lists of four numbers, then <code>torch.tensor(rows)</code>.
# </details>


# %% tags=["exercise"] rows="L14 exercise"
def my_anchors(scales, ratios, height, width, stride):
    """Return the anchors (A, 4) of height x width cells, row by row; a ratio is height / width."""
    raise NotImplementedError


# %%
check_anchors(my_anchors)

# %% [markdown] tags=["core"]
# **One solution**, collapsed.


# %% jupyter={"source_hidden": true}
def anchors_by_hand(scales, ratios, height, width, stride):
    """The sentence of the paper as four loops."""
    rows = []
    for i in range(height):
        for j in range(width):
            x, y = (j + 0.5) * stride, (i + 0.5) * stride
            for ratio in ratios:
                for scale in scales:
                    w, h = scale / ratio**0.5, scale * ratio**0.5
                    rows.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return torch.tensor(rows)


# %% [markdown] tags=["core"]
# **The library** does it in two steps: `cell_anchors` makes the k boxes around (0, 0), `anchor_grid` adds every centre.

# %%
scales, ratios = (48, 96, 192), (0.5, 1.0, 2.0)
slow = anchors_by_hand(scales, ratios, 15, 20, 16)
quick = anchor_grid(cell_anchors(scales, ratios), (15, 20), 16)
assert torch.allclose(slow, quick, atol=1e-3)
print("loop and library agree on", len(quick), "anchors: 15 x 20 cells, 9 each")

# %%
show_source(anchor_grid, docstring=False)

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# The last line adds two tensors of different shape: (15, 20, 1, 4) centres and (9, 4) boxes. PyTorch repeats both where
# they have to fit (*broadcasting*), without a loop. Anchors depend on the size of the map alone, not on the picture.
# They have no weights, and nothing is learned here.
# </details>
#
# **Look.** The nine anchors of one cell. The white square is the cell.

# %% rows="L14 figure"
photos = wild()
names = [name for _, name in photos.images]
bison, chickens, cows = (photos[names.index(f"{n}.jpg")] for n in ("bison", "chicken", "cow"))
base = cell_anchors((64, 128, 256), ratios)
centre = torch.tensor([20.5 * 16, 13.5 * 16]).repeat(2)
sizes = base[:, 2:].mul(2).int().tolist()
fig, axes = figure(860, 210, columns=3, alt=f"Nine anchors of one cell, by ratio: {sizes}")
for ax, group, ratio in zip(axes, base.split(3), ("1/2", "1", "2"), strict=True):
    draw_boxes(show_image(ax, bison.image), group + centre, kind="anchor")
    draw_boxes(ax, [[320, 208, 336, 224]], kind="note").set_title(f"ratio {ratio}")
fig

# %% [markdown] tags=["core"]
# ## 2 · Which objects are reached?
#
# *core · 12 minutes*
#
# An anchor need not fit an object exactly: the network will correct it. But it must lie *near* it.
# We say that an object is **reached** if some anchor has an IoU of at least 0.5 with it. (Lesson 12 makes labels out of
# this, with stricter numbers.)
#
# **Move.** One bison is near, the others are far away. Click any place in the photo to see the anchors of that cell.
# The bars show, for each bison, the best IoU of *all* anchors, at all cells.
#
# Before you move anything, predict.


# %%
def best_iou(photo, scales, ratios, stride=16):
    """The best IoU that any anchor has with each object of a photo."""
    height, width = photo.image.shape[-2:]
    cells = (-(-height // stride), -(-width // stride))  # rounded up
    anchors = anchor_grid(cell_anchors(scales, ratios), cells, stride)
    return box_iou(photo.boxes, anchors).amax(dim=1)


# %% jupyter={"source_hidden": true}
predict(
    "One square anchor of side 256 at each cell. How many of the nine bison are reached?",
    ["none", "one", "three", "all nine"],
    lambda: {0: "none", 1: "one", 3: "three", 9: "all nine"}[int((best_iou(bison, (256,), (1.0,)) >= 0.5).sum())],
    "Only the near one. Set *smallest scale* to 256, *scales* to 1 and the ratio to 1, and look at the bars.",
)

# %% rows="L14 explorer"
from rcnnlib.view.explorers.anchors_at_cell import AnchorsAtCell

AnchorsAtCell(bison.image, bison.boxes, alt="One bison near, eight far away")

# %% [markdown] tags=["core"]
# Try this:
#
# 1. Lower *smallest scale* to 16. Who is found, and who is lost? (The largest scale is 4 times the smallest.)
# 2. Still from 16: take four scales. Is anybody lost now?
# 3. Set the stride to 32: a quarter of the cells. Then 8: four times as many. Who gains?
# 4. Raise *reached from IoU* to 0.7. How many are left?
#
# What we saw, computed:


# %%
def reached(photo, *anchors, at=0.5):
    """How many objects some anchor reaches."""
    best = best_iou(photo, *anchors)
    return f"{int((best >= at).sum())} of {len(best)}, mean best IoU {best.mean():.2f}"


three, one = (0.5, 1.0, 2.0), (1.0,)
for sides in ((64, 128, 256), (16, 32, 64), (16, 32, 64, 128)):
    print(f"{sides}: {reached(bison, sides, three)}")
for stride in (32, 8):
    print(f"the last, stride {stride}: {reached(bison, (16, 32, 64, 128), three, stride)}")
print("the last, at IoU 0.7:", reached(bison, (16, 32, 64, 128), three, at=0.7))

# %% [markdown] tags=["core"]
# Now four chickens. They stand upright: each box is about twice as high as it is wide.

# %% jupyter={"source_hidden": true}
predict(
    "Scales 64, 128, 256, but the ratio 1 alone. How many of the four chickens are reached?",
    ["one", "two", "three", "four"],
    lambda: ["none", "one", "two", "three", "four"][int((best_iou(chickens, (64, 128, 256), one) >= 0.5).sum())],
    "A square misses much of a tall box. With the ratio 2 all four are reached: see the next cell.",
)

# %%
print("ratio 1 alone:", reached(chickens, (64, 128, 256), one))
print("three ratios: ", reached(chickens, (64, 128, 256), three))

# %% [markdown] tags=["core"]
# So an object needs an anchor of about its size **and** its shape. The grid matters most for the small ones: between two
# anchors of side 16 with stride 32 lies a gap.
#
# ### Three data sets
#
# One photo proves little. We ask all objects of three sets: Scrapbook (pasted cut-outs), Wild (real photos, scaled to a
# longer side of 320 pixels) and Treetops (crowns of trees from the air). How many are reached with 1 or 3 scales and
# 1 or 3 ratios?

# %%
wild_320 = [resize(photo, 320) for photo in photos]
sets = {"Scrapbook": scrapbook("test"), "Wild": wild_320, "Treetops": treetops("train")}
objects = {
    name: [(picture.boxes, tuple(picture.image.shape[-2:])) for picture in pictures] for name, pictures in sets.items()
}
for name, found in objects.items():
    print(f"{name:<10} {sum(len(boxes) for boxes, _ in found)} objects")

# %%
from rcnnlib.view.explorers.anchor_recall import AnchorRecall, best_ious

square = (1.0,)
choices = {
    "1 x 1": ((96,), square),
    "1 x 3": ((96,), ratios),
    "3 x 1": (scales, square),
    "3 x 3": (scales, ratios),
}


def recall(data, anchors, at=0.5):
    """Which part of the objects of a data set some anchor reaches."""
    return (best_ious(objects[data], *anchors) >= at).float().mean().item()


# %% jupyter={"source_hidden": true} rows="L14 predict"
predict(
    "We start from one scale (96) and one ratio. What reaches more objects of Scrapbook?",
    ["two more ratios", "two more scales"],
    lambda: max(
        ("two more ratios", "two more scales"),
        key=lambda words: recall("Scrapbook", choices["1 x 3" if "ratios" in words else "3 x 1"]),
    ),
    "The table is next. The sizes of objects differ far more than their shapes.",
)

# %%
print("part of the objects reached at IoU 0.5 (at 0.7)")
print(" " * 12 + "".join(name.ljust(16) for name in choices))
for data in objects:
    cells = [f"{recall(data, each):.2f} ({recall(data, each, 0.7):.2f})" for each in choices.values()]
    print(f"{data:<12}" + "".join(cell.ljust(16) for cell in cells))

# %% [markdown] tags=["core"]
# Read it row by row. In all three sets more scales bring more than more ratios do. For Treetops even 3 x 3 leaves
# many out: these scales were chosen for Scrapbook, and tree crowns are smaller.

# %% [markdown] tags=["core"]
# ## 3 · Scales from your data
#
# *core · 8 minutes*
#
# Nobody has to guess the scales. The boxes of the **training** set say how large objects are. (Here we choose and
# measure on the same boxes, to keep it short. In your own project choose on the training set and measure on
# another.) The **side** of a box is the
# root of its area: the square that has as many pixels.
#
# **Toy.** Seven boxes with the sides 10, 20, 30, ..., 70. We want three scales. Cut the way from the smallest to
# the largest into three equal parts, and stop in the middle of each: after 1/6, 1/2 and 5/6 of the way. The way has
# six steps, so we stop after 1, 3 and 5 steps: at 20, 40, 60.
#
# ### Your turn: `my_anchor_scales`
#
# Return `count` scales: the sides at the quantiles (i + 0.5) / count, for i = 0, 1, ... The quantile 1/2 is the median:
# half of the boxes are smaller.
#
# <details><summary>Hint 1: the sides</summary>
# Width times height, then <code>.sqrt()</code>.
# </details>
#
# <details><summary>Hint 2: quantiles</summary>
# <code>sides.quantile(q)</code> takes a tensor of several quantiles, <code>(torch.arange(count) + 0.5) / count</code>.
# </details>


# %% tags=["exercise"] rows="L14 exercise"
def my_anchor_scales(boxes, count):
    """Return count scales (count,) for boxes (N, 4): the sides at the quantiles (i + 0.5) / count."""
    raise NotImplementedError


# %%
check_anchor_scales(my_anchor_scales)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: sort the sides, and walk to each place.


# %% jupyter={"source_hidden": true}
def scales_by_hand(boxes, count):
    """Sort the sides; walk to the place (i + 0.5) / count of the way, between two sides if need be."""
    sides = sorted(((x2 - x1) * (y2 - y1)) ** 0.5 for x1, y1, x2, y2 in boxes.tolist())
    found = []
    for group in range(count):
        place = (group + 0.5) / count * (len(sides) - 1)
        low = int(place)
        high = min(low + 1, len(sides) - 1)
        found.append(sides[low] + (place - low) * (sides[high] - sides[low]))
    return torch.tensor(found)


# %%
from rcnnlib.checks.anchors import anchor_scales

for data, found in objects.items():
    boxes = torch.cat([boxes for boxes, _ in found])
    chosen = anchor_scales(boxes, 3)
    assert torch.allclose(chosen, scales_by_hand(boxes, 3), atol=1e-2)
    new, old = recall(data, (chosen.tolist(), ratios)), recall(data, (scales, ratios))
    print(f"{data:<10} {chosen.round().int().tolist()}: {new:.2f}; with {list(scales)}: {old:.2f}")

# %% [markdown] tags=["core"]
# For Treetops the rule helps much. For the other two it costs a little: it forgets the smallest and the largest
# objects. How far may a square object be from a scale? A factor √2 = 1.41, up or down: then IoU is 1 / 1.41² = 0.5,
# if the centres agree. So each scale may be twice the one before, and no size between them is lost. The course uses
# 48, 96, 192. A rule is a start; the recall
# decides.
#
# **Move.** Find better anchors with at most nine a cell. Above: how large the objects are, and your scales. Below: recall.
# Before you move it, predict: which slider does *Treetops* need?

# %% rows="L14 explorer"
AnchorRecall(objects)

# %% [markdown] tags=["core"]
# For Treetops we found *smallest scale* 24, *next scale: times* 1.7, ratio 1: three anchors a cell instead of nine, and more
# crowns reached. Tree crowns are round, so two more ratios bring little, for three times as many anchors.

# %%
crowns = [24 * 1.7**number for number in range(3)]
for name, shapes in {"ratio 1": one, "three ratios": three}.items():
    print(f"Treetops, {name}: {recall('Treetops', (crowns, shapes)):.2f}")

# %% [markdown] tags=["core"]
# ## 4 · Anchors that cross the border
#
# *core · 6 minutes*
#
# At the edge of a picture an anchor hangs over the border. The paper leaves all of these out **in training**: they
# "introduce large, difficult to correct error terms", and training "does not converge" (Faster R-CNN, 3.3).
#
# **Toy.** One row of 20 cells, stride 16: the picture is 320 wide. Each cell has one anchor, 96 wide. (Forget the
# height.) The centres are at 8, 24, 40, 56, ..., 312.

# %% jupyter={"source_hidden": true}
predict(
    "How many of the 20 anchors lie wholly inside?",
    ["20", "17", "14", "10"],
    lambda: str(int(sum(48 <= 16 * j + 8 <= 272 for j in range(20)))),
    "A centre must stay 48 pixels away from both ends: 8, 24, 40 are too close, and three on the right.",
)

# %% [markdown] tags=["core"]
# ### Your turn: `my_inside`
#
# Say for each anchor whether it lies wholly in a picture of `height` x `width` pixels. One that only touches the border
# is inside.
#
# <details><summary>Hint</summary>
# Four conditions, joined with <code>&amp;</code>. Put each of them in brackets.
# </details>


# %% tags=["exercise"] rows="L14 exercise"
def my_inside(anchors, height, width):
    """Return True for each anchor (A, 4) that lies wholly in the picture: (A,)."""
    raise NotImplementedError


# %%
check_inside(my_inside)


# %% [markdown] tags=["core"]
# **One solution**, collapsed. Then the library's, and a map: how many of the nine anchors of each cell are inside?


# %% jupyter={"source_hidden": true}
def inside_by_hand(anchors, height, width):
    """One anchor after the other."""
    rows = [x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height for x1, y1, x2, y2 in anchors.tolist()]
    return torch.tensor(rows, dtype=torch.bool)


# %%
grid = anchor_grid(cell_anchors(scales, ratios), (15, 20), 16)
kept = is_inside(grid, torch.tensor([240.0, 320.0]))
assert torch.equal(kept, inside_by_hand(grid, 240, 320))
print(f"course setting: {int(kept.sum())} of {len(grid)} anchors are inside")

# %% rows="L14 figure"
counts = kept.reshape(15, 20, 9).sum(-1)
fig, ax = figure(620, 420, alt=f"Anchors inside, cell by cell; middle row {counts[7].tolist()}")
show_map(ax, counts, text=".0f").set_title("anchors inside, of nine (320 x 240 pixels)")
fig

# %% [markdown] tags=["core"]
# Near the border the large ones go first. So an object at the edge of a photo has few anchors to learn from. Even
# in the middle it is 8, not 9: the tall anchor of scale 192 is 272 pixels high, and the picture only 240. It is
# **never** trained. That is a
# price of the rule. (When the detector is *used*, all anchors take part, and the boxes are clipped to the picture.)

# %% [markdown] tags=["core"]
# ## 5 · The unit of a correction
#
# *core · 6 minutes*
#
# The network says: this anchor, but moved. It does not say it in pixels. Lesson 03 had the formula of R-CNN, and it is the
# same here, with the anchor in the place of the proposal:
#
# $$t_x = (x - x_a) / w_a \qquad t_w = \log (w / w_a)$$
#
# x and w are the centre and the width of the box, x_a and w_a those of the anchor. For y and h it is the same, with
# the height. So the shift is measured **in widths of the anchor**, and the size as a factor (its logarithm).
#
# **Toy.** A box lies 16 pixels to the right of its anchor. The anchor is 64 wide. So t_x = 16 / 64 = 0.25.

# %% jupyter={"source_hidden": true}
predict(
    "The same 16 pixels, but the anchor is 256 wide. What is t_x?",
    ["1", "0.25", "0.0625", "16"],
    lambda: str(16 / 256),
    "16 / 256. For a large anchor 16 pixels are a small mistake.",
)

# %%
from rcnnlib.view.explorers.delta_frame import DeltaFrame

DeltaFrame()

# %% [markdown] tags=["core"]
# **Move** *side of the anchor* and watch t_x fall while the pixels stay. Why is this good?
#
# - The numbers stay of one size: "a quarter of a width to the right" is 0.25 for a mouse and for a bear. In pixels
#   the large anchors would have the large errors, and the loss would hear little else.
# - IoU does not count in pixels either. A mistake of a tenth of a width costs the same IoU at every size:

# %%
for side in (32, 128, 512):
    anchor = torch.tensor([[0.0, 0, side, side]])
    moved = [anchor + torch.tensor([shift, 0, shift, 0]) for shift in (side / 10, 8.0)]
    tenth, pixels = (box_iou(anchor, box).item() for box in moved)
    print(f"side {side:>3}: off by a tenth, IoU {tenth:.4f}; off by 8 pixels, IoU {pixels:.4f}")

# %% [markdown] tags=["core"]
# ### Plant the bug
#
# Two classic bugs, and both raise no error. Below, the second one is planted. Choose *none*, then the others, and
# look at the bars.
#
# - **Corner of the cell:** somebody forgot the 0.5. Every anchor is half a stride, 8 pixels, too far to the upper left.
# - **x and y swapped:** row and column were taken for each other. On a square map the bars would not change, but
#   the order of the list would be wrong.

# %% rows="L14 explorer"
explorer = AnchorsAtCell(cows.image, cows.boxes, alt="One cow near, two far away")
explorer.set(bug="x and y swapped")

# %%
right = anchor_grid(cell_anchors((64, 128, 256), three), (30, 40), 16)
corner = anchor_grid(cell_anchors((64, 128, 256), three), (30, 40), 16, offset=0)
swapped = right[:, [1, 0, 3, 2]]
for name, anchors in {"right": right, "corner": corner, "swapped": swapped}.items():
    best = box_iou(cows.boxes, anchors).amax(dim=1)
    print(f"{name:<8}", [f"{iou:.2f}" for iou in best.tolist()])

# %% [markdown] tags=["core"]
# Swapped, no anchor has its centre to the right of x = 472, and the cow there is lost. The corner is harder to see:
# here two IoUs fall, and no cow is lost. But a cell sees an area around its own centre, so the network would have
# to learn the same shift for every anchor. It can, if it is trained that way; but load weights that were trained
# with the other
# convention, and every box is 8 pixels off. (torchvision uses the corner. Our converter takes care of it.)

# %% [markdown] tags=["extra"]
# ## 6 · Larger than what the cell sees
#
# *extra · 5 minutes*
#
# The *receptive field* of a cell is the part of the picture that it can see at all (lesson 04). We measure that of the RPN:
# the trunk, and a 3x3 convolution on top (here a mean over 3x3 cells). Which pixels of a random picture change the
# number in the middle cell?

# %%
from rcnnlib.models.backbone import backbone

trunk = backbone("squeezenet", pretrained=True).eval()
picture = torch.rand(1, 3, 480, 640).requires_grad_()
middle = trunk(picture)[0, :, 14:17, 19:22].mean()  # the 3x3 cells around the middle one
(gradient,) = torch.autograd.grad(middle, picture)
rows, columns = gradient[0].abs().sum(0).nonzero().unbind(1)
for name, seen in {"wide": columns, "high": rows}.items():
    print(f"{int(seen.max() - seen.min()) + 1} pixels {name}")

# %%
biggest = cell_anchors(scales, ratios)[[2, 5, 8]]
for x1, y1, x2, y2 in biggest.tolist():
    print(f"anchor of scale {scales[2]}: {x2 - x1:.0f} x {y2 - y1:.0f}")

# %% [markdown] tags=["extra"]
# Two of our largest anchors are longer than what the cell sees. **The paper said** so of its own: VGG's RPN sees 228
# pixels (3.1), and its largest anchor has the side 512. "Such predictions are not impossible": from the middle of an object one may guess how far
# it goes (Faster R-CNN, 3.3).

# %% [markdown] tags=["extra"]
# The same by arithmetic. Each layer adds (kernel - 1) times the distance between its inputs:

# %%
two, once = (3, 2), (3, 1)  # kernel and stride: stem and pools; fire modules and the RPN
field, jump = 1, 1
for kernel, stride in [two, two, once, once, two, once, once, two, *[once] * 4, once]:
    field, jump = field + (kernel - 1) * jump, jump * stride
print("by the kernels:", field, "pixels; stride", jump)

# %% [markdown] tags=["extra"]
# ## 7 · Papers and code
#
# *extra · 5 minutes*
#
# **The paper said, we counted.** "Roughly 20000" anchors on a 1000 x 600 picture, "about 6000" of them inside
# (Faster R-CNN, 3.3). With whole cells of 16 pixels:


# %%
def count(name, cells, size, sides):
    grid = anchor_grid(cell_anchors(sides, ratios), cells, 16)
    print(f"{name}: {len(grid):,} anchors, {int(is_inside(grid, torch.tensor(size)).sum()):,} inside")


count("paper ", (37, 62), (600.0, 1000.0), (128, 256, 512))
count("course", (15, 20), (240.0, 320.0), scales)

# %% [markdown] tags=["extra"]
# The first number agrees, the second does not: ours is a third larger. How the paper counted those inside, it does
# not say.
#
# **The paper said, we measured.** Table 8 of the paper changes the anchors and measures mAP on VOC: 1 scale and 1 ratio
# 65.8 to 66.7, 1 scale and 3 ratios 67.9 to 68.8, 3 scales and 1 ratio 69.8, 3 and 3 69.9. So there, too, the scales
# bring more than the ratios. We count objects reached, not mAP, so only the **order** can be compared:

# %%
for data in ("Scrapbook", "Wild"):
    found = {name: recall(data, each) for name, each in choices.items()}
    assert found["1 x 1"] < found["1 x 3"] < found["3 x 1"] < found["3 x 3"]
    print(f"{data}: " + " < ".join(sorted(found, key=found.get)), "  (scales x ratios)")

# %% [markdown] tags=["extra"]
# **Other programs.** torchvision rounds its anchors to whole pixels and centres them on the corner of the cell. The first
# code of the authors built them from a box 0, 0, 15, 15 with "+ 1" (lesson 01). So look at *one* anchor on *one*
# picture before you train.

# %% [markdown] tags=["core"]
# ## Summary
#
# - Anchors are fixed boxes, the same k at every cell. 3 scales x 3 ratios = 9. They have no weights.
# - width = scale / √ratio, height = scale · √ratio. The area stays.
# - Centre of cell (i, j): ((j + 0.5) stride, (i + 0.5) stride). x belongs to the column.
# - Scales matter more than ratios. Look at the boxes of your data, then at the recall.
# - Anchors that cross the border sit out in training.
# - A correction is measured in widths and heights of the anchor, so small and large anchors count alike.
#
# Next: **11 The RPN**, which gives each anchor two scores and four corrections.
#
# ## Glossary
#
# | English | 한국어 | meaning |
# |---|---|---|
# | anchor | 앵커 (기준 박스) | a fixed box at a cell, from which the network starts |
# | scale | 스케일, 크기 | the side of a square anchor, in pixels |
# | aspect ratio | 가로세로 비율 | height divided by width |
# | stride | 스트라이드, 보폭 | pixels from one cell to the next |
# | recall | 재현율 | the part of the objects that is reached |
# | quantile | 분위수 | the number below which a given part of the data lies |
# | receptive field | 수용 영역 | the pixels that a cell can see |
# | cross-boundary anchor | 경계를 넘는 앵커 | an anchor that is not wholly in the picture |
#
# ## References
#
# - Ren, He, Girshick, Sun: *Faster R-CNN*, 2015, [arXiv 1506.01497](https://arxiv.org/abs/1506.01497), sections 3.1.1 and 3.3,
#   Table 8
# - Girshick and others: *R-CNN*, 2014, [arXiv 1311.2524](https://arxiv.org/abs/1311.2524), appendix C (the deltas)
#
# The photos are public domain or CC0; `data/wild/CREDITS.csv` names their authors.
