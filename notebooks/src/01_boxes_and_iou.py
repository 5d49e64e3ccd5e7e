# %% [markdown] tags=["core"]
# # 01 · Boxes and IoU
#
# **The question.** A *detector* is a program that finds objects on a photo and draws a box around each.
# It has drawn one around an owl. *How good is that box?*
#
# **After this lesson you can**
#
# - read four numbers as a box, in three formats
# - compute IoU (a number that says how well two boxes agree) by hand, with a loop, and for many boxes at once
# - say what IoU 0.3, 0.5 and 0.7 look like
# - turn IoU into labels, as every detector of this course does
# - recognise two classic bugs: the wrong format, and the "+1"
#
# | section | | minutes |
# |---|---|---|
# | 1 Four numbers | core | 11 |
# | 2 IoU | core | 16 |
# | 3 Small boxes | core | 5 |
# | 4 Many boxes at once | core | 10 |
# | 5 The story of the +1 | extra | 7 |
# | 6 Boxes without area | extra | 3 |
# | 7 Papers and code | extra | 6 |
#
# You may leave out what is marked *extra*.
#
# Run the cells from top to bottom. Where the page asks you to predict, choose first. Then go on.
# (The code of these cells is collapsed, because it knows the answer.)

# %%
from rcnnlib.view.notebook import predict, setup, show_source

setup()

# %%
import torch

from rcnnlib.checks import check_best_match, check_convert, check_iou
from rcnnlib.datasets.coco import load_coco, wild
from rcnnlib.datasets.paths import data_dir
from rcnnlib.ops.boxes import box_area, box_convert, box_intersection, box_iou
from rcnnlib.view.plotting import LINES, STYLES, draw_boxes, figure, name_line, show_image, show_map

# %% [markdown] tags=["core"]
# ## 1 · Four numbers
#
# *core · 11 minutes*
#
# A **box** (in full: *bounding box*) is a rectangle that is not tilted. Four numbers are enough to place it.
# `x` counts pixels to the right. `y` counts pixels **down**. The point (0, 0) is the upper left corner of the photo.
#
# **Toy.** A box reaches from x = 20 to x = 60, and from y = 30 to y = 110.
# Draw it on paper. How wide is it? How high? Where is its centre?
#
# In code each box is one row. So one box is a tensor of shape (1, 4).

# %%
toy = torch.tensor([[20.0, 30.0, 60.0, 110.0]])

# %% jupyter={"source_hidden": true}
predict(
    "At which x lies the centre of the toy box?",
    ["20", "40", "60", "80"],
    lambda: str(int(box_convert(toy, "xyxy", "cxcywh")[0, 0])),
    "The centre is half way between 20 and 60.",
)

# %% [markdown] tags=["core"]
# The same box can be written in three **formats**.
#
# | format | the four numbers | where you meet it |
# |---|---|---|
# | `xyxy` | x and y of the upper left corner, x and y of the lower right corner | this course, torchvision |
# | `xywh` | x and y of the upper left corner, width, height | COCO files |
# | `cxcywh` | x and y of the **centre**, width, height | correcting a box (R-CNN, appendix C) |

# %%
for name in ("xyxy", "xywh", "cxcywh"):
    print(f"{name:>6}", box_convert(toy, "xyxy", name)[0].tolist())

# %% [markdown] tags=["core"]
# Now a real photo. We drew a box around each animal by hand.
# Such a box is called **ground truth**: the answer that a detector is compared with.
# The boxes lie in a COCO file. (COCO is a large public set of photos with boxes. Many others use its file format.)
# These are the four numbers of an owl, as the file writes them. You will see the owl soon.

# %%
file = load_coco(data_dir() / "wild" / "annotations.json")
owl_id = next(image["id"] for image in file["images"] if image["file_name"] == "owl.jpg")
next(note["bbox"] for note in file["annotations"] if note["image_id"] == owl_id)

# %%
photos = wild()
places = {name: place for place, (_, name) in enumerate(photos.images)}
owl = photos[places["owl.jpg"]]

# %% jupyter={"source_hidden": true}
predict(
    "At which x does the owl end on the right?",
    ["169", "171", "511", "658"],
    lambda: str(int(owl.boxes[0, 2])),
    "COCO writes x, y, width, height. So the right edge is x + width = 340 + 171.",
)

# %% [markdown] tags=["core"]
# ### Your turn: `my_convert`
#
# Write a function that takes boxes of shape (N, 4) in one format and gives them back in another.
# It should know all three formats. Then run the check below it.
#
# <details><summary>Hint 1: where to begin</summary>
# Nine pairs of formats are too many. Do it in two steps: first into corners, then out of corners.
# </details>
#
# <details><summary>Hint 2: take the numbers apart</summary>
# <code>a, b, c, d = boxes.unbind(1)</code> gives four tensors, one for each column.
# <code>torch.stack((a, b, c, d), dim=1)</code> puts them together again.
# </details>
#
# <details><summary>Hint 3: the centre</summary>
# From the centre to the left edge it is <b>half</b> of the width.
# </details>


# %% tags=["exercise"]
def my_convert(boxes, in_fmt, out_fmt):
    """Return boxes (N, 4) in another format; formats are "xyxy", "xywh", "cxcywh"."""
    raise NotImplementedError


# %%
check_convert(my_convert)

# %% [markdown] tags=["core"]
# **One solution.** The next cell is collapsed. Try first. Then click the three dots to open it.


# %% jupyter={"source_hidden": true}
def convert_by_hand(boxes, in_fmt, out_fmt):
    """One box after the other, always by way of its corners."""
    rows = []
    for a, b, c, d in boxes.tolist():
        if in_fmt == "cxcywh":
            a, b = a - c / 2, b - d / 2
        x1, y1, x2, y2 = (a, b, c, d) if in_fmt == "xyxy" else (a, b, a + c, b + d)
        first = ((x1 + x2) / 2, (y1 + y2) / 2) if out_fmt == "cxcywh" else (x1, y1)
        last = (x2, y2) if out_fmt == "xyxy" else (x2 - x1, y2 - y1)
        rows.append((*first, *last))
    return torch.tensor(rows).reshape(-1, 4)


# %% [markdown] tags=["core"]
# **The library** of this course, `rcnnlib`, does it for all boxes at once: `box_convert`.
# Do loop and library agree? We ask 100 random boxes.


# %%
def random_boxes(count, size=100):
    """Boxes with corners between 0 and ``size``."""
    points = torch.rand(count, 2, 2) * size
    return torch.cat((points.amin(1), points.amax(1)), dim=1)


# %%
formats = ("xyxy", "xywh", "cxcywh")
boxes = random_boxes(100)
for one in formats:
    for other in formats:
        slow, quick = convert_by_hand(boxes, one, other), box_convert(boxes, one, other)
        assert torch.allclose(slow, quick, atol=1e-4)
print("loop and library agree:", len(boxes), "boxes,", len(formats) ** 2, "pairs of formats")

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# The loop visits one box at a time, and Python is slow at that.
# The library takes whole **columns**: all first numbers are one tensor, all second numbers another.
# One addition of two columns is one call, however many boxes there are.
# </details>
#
# **Look.** One box, three ways to say it.


# %%
def draw_format(ax, name):
    """The owl with the points and lengths that a format writes down."""
    x1, y1, x2, y2 = owl.boxes[0].tolist()
    numbers = box_convert(owl.boxes, "xyxy", name)[0].tolist()
    draw_boxes(show_image(ax, owl.image), owl.boxes, kind="ground_truth")
    ax.scatter(*numbers[:2], s=60, color="white", edgecolor="black", zorder=3)
    if name == "xyxy":
        ax.scatter(x2, y2, s=60, color="white", edgecolor="black", zorder=3)
    else:
        arrow = {"arrowstyle": "<->", "color": "white", "lw": 2}
        ax.annotate("", (x1, y1 - 20), (x2, y1 - 20), arrowprops=arrow)
        ax.annotate("", (x2 + 25, y1), (x2 + 25, y2), arrowprops=arrow)
    ax.set_title(f"{name}: {', '.join(f'{number:g}' for number in numbers)}")


# %%
fig, axes = figure(860, 220, columns=3, alt="The box of the owl in three formats:")
for ax, name in zip(axes, formats, strict=True):
    draw_format(ax, name)
    fig.alt += f" {ax.get_title(loc='left')};"
fig

# %% [markdown] tags=["core"]
# **Move.** A file holds four numbers. It does not say how to read them. Below, you choose:
# click `xyxy`, `xywh` and `cxcywh` in turn. Then move a slider.
#
# Before you move anything, predict.

# %% jupyter={"source_hidden": true}
predict(
    "Read as cxcywh, the third number grows. Which edges move?",
    ["only the right edge", "left and right edge", "only the left edge", "all four edges"],
    "left and right edge",
    "The centre stays, so the new width is shared by both sides.",
)

# %%
from rcnnlib.view.explorers.box_formats import BoxFormats

BoxFormats(owl.image, (340, 87, 171, 318), alt="An owl on a branch")

# %% [markdown] tags=["core"]
# Read as `xyxy`, these numbers are *not a box*: the right edge (171) lies to the left of the left edge (340).
# Only one of the three readings fits the owl. **A wrong format raises no error.** The box is simply in the wrong place.
# So look at your boxes on the photo before you train anything.

# %% [markdown] tags=["core"]
# ## 2 · IoU
#
# *core · 16 minutes*
#
# A detector found the owl, but its box is a little off. (The box of a detector is called a **detection**.)
# We want **one number** that says how well two boxes agree.
#
# **Toy.** Two squares of 10 by 10 pixels. The second one lies 5 pixels further to the right.
# Below, each pixel says how many of the squares cover it. Solid green: the first square. Dashed orange: the second.

# %%
paper = torch.zeros(2, 12, 17, dtype=torch.bool)
paper[0, 1:11, 1:11] = True
paper[1, 1:11, 6:16] = True
fig, ax = figure(500, 350, alt="Two squares on paper; they share 5 columns of 10 pixels")
show_map(ax, paper.sum(0), text=".0f")
draw_boxes(ax, [[1, 1, 11, 11]], kind="ground_truth")
draw_boxes(ax, [[6, 1, 16, 11]], kind="detection")
fig

# %%
shared, covered = (paper[0] & paper[1]).sum().item(), (paper[0] | paper[1]).sum().item()

# %% jupyter={"source_hidden": true}
predict(
    "What fraction of all covered pixels do both squares cover?",
    ["1/2", "1/3", "1/4", "2/3"],
    lambda: f"{1}/{covered // shared}",
    "Each square has half of its pixels in the overlap. But the overlap is only a third of all that is covered.",
)

# %% [markdown] tags=["core"]
# Count them. The pixels that **both** cover are the **intersection**.
# The pixels that **at least one** covers are the **union**.

# %%
print("intersection", shared, "pixels")
print("union       ", covered, "pixels")
print(f"IoU          {shared / covered:.4f}")

# %% [markdown] tags=["core"]
# This quotient is the **IoU**, *intersection over union*:
#
# $$\text{IoU} = \frac{\text{area of the intersection}}{\text{area of the union}}$$
#
# 0 means apart, 1 means equal. The unit is gone: it does not matter whether you count pixels or centimetres.
#
# ### Your turn: `my_iou`
#
# Compare every box of `boxes1` with every box of `boxes2`. N boxes and M boxes give a table of N rows and M columns.
# Do not count pixels: a corner may lie at 3.7. Compute with the corners.
# Two boxes without area have union 0. Let their IoU be 0.
#
# <details><summary>Hint 1: the overlap of two boxes</summary>
# The overlap is a box too. Its left edge is the one of the two left edges that lies further right.
# </details>
#
# <details><summary>Hint 2: boxes that lie apart</summary>
# Then this left edge lies to the right of the right edge. The width would be negative. It should be 0.
# </details>
#
# <details><summary>Hint 3: the union</summary>
# Add the two areas. You have now counted the overlap twice.
# </details>
#
# <details><summary>Hint 4: a start</summary>
# Two loops are fine: <code>table = torch.zeros(len(boxes1), len(boxes2))</code>, then fill <code>table[n, m]</code>.
# </details>


# %% tags=["exercise"]
def my_iou(boxes1, boxes2):
    """Return the table (N, M) of IoUs of boxes (N, 4) and (M, 4), rows x1, y1, x2, y2."""
    raise NotImplementedError


# %%
check_iou(my_iou)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: the definition as a loop.


# %% jupyter={"source_hidden": true}
def iou_by_hand(boxes1, boxes2):
    """The definition, pair by pair."""
    table = torch.zeros(len(boxes1), len(boxes2))
    for n, (x1, y1, x2, y2) in enumerate(boxes1.tolist()):
        for m, (left, top, right, bottom) in enumerate(boxes2.tolist()):
            width = max(0, min(x2, right) - max(x1, left))
            height = max(0, min(y2, bottom) - max(y1, top))
            shared = width * height
            union = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - shared
            table[n, m] = shared / union if union > 0 else 0
    return table


# %% [markdown] tags=["core"]
# **The library** has `box_iou`. We compare on random boxes, and on the hard ones:
# boxes that touch, a box inside another, a box without area.

# %%
hard = torch.tensor([[0, 0, 10, 10], [10, 0, 20, 10], [2, 2, 7, 7], [5, 5, 5, 5.0]])
ours = torch.cat((hard, random_boxes(60, size=20)))
theirs = torch.cat((hard, random_boxes(40, size=20)))
assert torch.allclose(iou_by_hand(ours, theirs), box_iou(ours, theirs), atol=1e-5)
print("loop and library agree on", len(ours), "x", len(theirs), "pairs")
box_iou(hard, hard)

# %% [markdown] tags=["core"]
# Row 0 against column 1: they touch, so 0. Row 0 against column 2: one lies inside the other, so 25 / 100.
# The last box has no area: 0, even with itself.
#
# How much quicker is the library? The same 40,000 pairs, first with the loop, then with the library.
# (Print `ratio` to see the number of your machine. It differs from run to run.)

# %% tags=["nbval-ignore-output"] reason="timings differ between machines"
from time import perf_counter

many, more = random_boxes(200), random_boxes(200)
start = perf_counter()
slow = iou_by_hand(many, more)
middle = perf_counter()
quick = box_iou(many, more)
ratio = (middle - start) / (perf_counter() - middle)
print("more than 20 times as quick:", ratio > 20)

# %%
assert torch.allclose(slow, quick, atol=1e-5)
print("and says the same:", tuple(quick.shape), "numbers, largest difference below 0.00001")

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# Three tricks, all in <code>box_intersection</code>, shown below.
#
# 1. **No loop.** A column of shape (N, 1) against a row of shape (1, M) gives a table (N, M).
#    PyTorch repeats the column M times and the row N times, without copying. This is called *broadcasting*.
# 2. **Contiguous columns.** Boxes lie in memory as x1 y1 x2 y2, x1 y1 x2 y2, ...
#    The library writes all x1 side by side, then all y1. The processor then takes several numbers in one step.
# 3. **In place.** <code>sub_</code>, <code>clamp_</code> and <code>mul_</code> write into the table that is there.
# </details>
#
# **Broadcasting, in small.** Two boxes have their left edges at 0 and 4, three others at 1, 5 and 9.
# Which left edge has the overlap of each pair? One call gives the table (2, 3).

# %%
lefts1, lefts2 = torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0, 5.0, 9.0]])
print(tuple(lefts1.shape), "against", tuple(lefts2.shape))
torch.maximum(lefts1, lefts2)

# %% [markdown] tags=["core"]
# And this is how the library does it. Look for `torch.maximum(x1, left)`: it is the call that you have just seen.
# (`*B` stands for further dimensions, for example the photos of a batch. Here there are none.)

# %%
show_source(box_intersection, docstring=False)

# %% [markdown] tags=["core"]
# ### What does 0.5 look like?
#
# Numbers are easy to say and hard to see. First try it with your eyes.

# %% jupyter={"source_hidden": true}
predict(
    "A box is shifted to the right by a third of its width. IoU?",
    ["0.67", "0.50", "0.33", "0.25"],
    lambda: f"{box_iou(torch.tensor([[0.0, 0, 3, 1]]), torch.tensor([[1.0, 0, 4, 1]])).item():.2f}",
    "Two thirds are shared, four thirds are covered.",
)

# %% [markdown] tags=["core"]
# Now we build boxes with a *given* IoU $t$.
#
# - **Shift** a box of width $w$ by $d$: intersection $w - d$, union $w + d$ (both times the height).
#   We solve $(w - d) / (w + d) = t$ and get $d = w\,(1 - t) / (1 + t)$.
# - **Shrink** it about its centre: then IoU is the quotient of the areas. So each side is multiplied by $\sqrt t$.


# %%
def shifted(box, iou):
    """The same box, moved to the right until the IoU with the old place is ``iou``."""
    width = box[2] - box[0]
    return box + torch.tensor([1, 0, 1, 0]) * width * (1 - iou) / (1 + iou)


def shrunk(box, iou):
    """A smaller box with the same centre and that IoU."""
    x, y, w, h = box_convert(box[None], "xyxy", "cxcywh")[0]
    small = torch.stack((x, y, w * iou**0.5, h * iou**0.5))
    return box_convert(small[None], "cxcywh", "xyxy")[0]


# %%
fig, axes = figure(740, 360, rows=2, columns=3, alt="The owl's box and a second one;")
truth = owl.boxes[0]
for column, wanted in enumerate((0.3, 0.5, 0.7)):
    for ax, make in zip(axes[:, column], (shifted, shrunk), strict=True):
        detection = make(truth, wanted)
        iou = box_iou(truth[None], detection[None]).item()
        draw_boxes(show_image(ax, owl.image), truth, kind="ground_truth")
        draw_boxes(ax, detection, kind="detection")
        ax.set_title(f"IoU {iou:.2f}, {make.__name__}")
        fig.alt += f" {make.__name__} to IoU {iou:.4f};"
fig

# %% [markdown] tags=["core"]
# Solid: ground truth. Dashed: detection. Would you accept the middle column?
# Fast R-CNN, one of the detectors of this course, does: when it learns, 0.5 is enough (section 7).
# Two boxes with the *same* IoU can be wrong in very different ways: compare the rows.
#
# Two limits, called **thresholds**, cut IoU into three labels. They decide what a detector learns from a box:
#
# - **positive**: the IoU is at least the upper threshold. "This is an owl."
# - **background**: the IoU is below the lower threshold. "This is no animal."
# - **ignored**: between the two. The detector learns nothing from it.

# %% jupyter={"source_hidden": true}
predict(
    "The detection has the same centre, but half the width and half the height. IoU?",
    ["0.50", "0.25", "0.71", "0.33"],
    lambda: f"{box_iou(truth[None], shrunk(truth, 0.25)[None]).item():.2f}",
    "Half times half is a quarter of the area, and all of it lies inside.",
)

# %% [markdown] tags=["core"]
# **Move.** Drag either box, or use the sliders. Arrow keys work too: click a box first.

# %%
from rcnnlib.view.explorers.two_boxes import BUGS, TwoBoxes, two_boxes

TwoBoxes(owl.image, [truth.tolist(), [375, 130, 560, 395]], alt="An owl on a branch")

# %% [markdown] tags=["core"]
# Try these. (Leave "planted bug" at "none". Section 5 explains it, and also "program sees".)
#
# 1. Make the label *positive*. How many pixels may an edge be off?
# 2. Move the detection next to the owl, edge to edge. What is the intersection?
# 3. Lower "positive from" to 0.5, as Fast R-CNN does. How much easier is it now?

# %% [markdown] tags=["core"]
# ## 3 · Small boxes
#
# *core · 5 minutes*
#
# A mistake of 4 pixels: is it large or small? Here are two bison on one photo. One stands near, one far away.

# %%
bison = photos[places["bison.jpg"]]
areas = box_area(bison.boxes)
near, far = bison.boxes[areas.argmax()], bison.boxes[areas.argmin()]
for name, box in (("near", near), ("far", far)):
    print(f"{name:>4}: {box[2] - box[0]:.0f} pixels wide, {box[3] - box[1]:.0f} high")

# %%
fig, ax = figure(400, 300, alt="Nine bison; the boxes of two are drawn, near and far")
show_image(ax, bison.image)
draw_boxes(ax, torch.stack((near, far)), kind="ground_truth", labels=["near", ""])
ax.text(far[0] - 8, far[3], "far", ha="right", bbox={"facecolor": "white", "edgecolor": "none"})
fig


# %%
def iou_after(box, shift):
    """IoU of a box with itself, moved right and down by ``shift`` pixels."""
    return box_iou(box[None], box[None] + shift).item()


# %% jupyter={"source_hidden": true}
predict(
    "Both boxes are moved 4 pixels to the right and 4 down. IoU of the far one with its old place?",
    ["0.95", "0.75", "0.46", "0.10"],
    lambda: f"{iou_after(far, 4):.2f}",
    "The near one keeps 0.95. Four pixels are nothing to it, and a quarter of the height to the far one.",
)

# %%
shifts = range(17)
curves = {
    "near": [iou_after(near, shift) for shift in shifts],
    "far": [iou_after(far, shift) for shift in shifts],
}
for shift in (1, 2, 4, 8):
    print(f"{shift} px   near {curves['near'][shift]:.4f}   far {curves['far'][shift]:.4f}")

# %%
fig, ax = figure(620, 320, alt="IoU after a shift of 0 to 16 pixels;")
for (name, curve), colour in zip(curves.items(), LINES, strict=False):
    ax.plot(shifts, curve, color=colour)
    name_line(ax, 6, curve[6] + 0.05, name, colour)
    fig.alt += f" {name} falls to {curve[-1]:.4f};"
ax.axhline(0.5, color="black", linestyle=":")
ax.set(xlabel="moved right and down by ... pixels", ylabel="IoU", ylim=(0, 1.02))
fig

# %%
for name, curve in curves.items():
    passed = [shift for shift in shifts if curve[shift] >= 0.5]
    print(f"{name:>4}: IoU is at least 0.5 up to a shift of {passed[-1]} pixels (of 16 tried)")

# %% [markdown] tags=["core"]
# (The dotted line in the chart is IoU 0.5.)
#
# IoU is relative to the size of the box. For small objects it is unforgiving.
# Keep this in mind when a detector "cannot find" small things. A few pixels may be all that is missing.

# %% [markdown] tags=["core"]
# ## 4 · Many boxes at once
#
# *core · 10 minutes*
#
# A detector looks at many boxes. A box that *may* hold an object is called a **proposal**.
# Here are six of them on four chickens. Green, number in the middle: ground truths.
# Orange, number at the corner: proposals.

# %%
birds = photos[places["chicken.jpg"]]
proposals = torch.tensor(
    [
        [30, 90, 150, 330],
        [225, 95, 365, 325],
        [235, 60, 450, 345],
        [425, 60, 635, 400],
        [150, 200, 230, 400],
        [340, 250, 450, 348.0],
    ]
)


# %%
def draw_birds(ax):
    """The photo and its ground truths, each with its number in the middle."""
    draw_boxes(show_image(ax, birds.image), birds.boxes, kind="ground_truth")
    green = {"facecolor": STYLES["ground_truth"].colour, "edgecolor": "none", "pad": 2}
    for number, (x, y, _, _) in enumerate(box_convert(birds.boxes, "xyxy", "cxcywh").tolist()):
        ax.text(x, y, number, ha="center", bbox=green)


# %%
fig, ax = figure(430, 287, alt="Four chickens with ground truths 0 to 3, six proposals 0 to 5")
draw_birds(ax)
draw_boxes(ax, proposals, kind="proposal", labels=range(len(proposals)))
fig

# %% [markdown] tags=["core"]
# Six proposals and four ground truths make a table of 6 rows and 4 columns. One call fills it.

# %%
table = box_iou(proposals, birds.boxes)
fig, ax = figure(420, 400, alt=f"A table of 6 x 4 IoUs; the largest is {table.max():.4f}")
show_map(ax, table, text=".2f").set_title("ground truth", pad=22)
for row in range(len(proposals)):
    ax.text(-0.1, row + 0.5, f"proposal {row}", ha="right", va="center")
for column in range(len(birds.boxes)):
    ax.text(column + 0.5, -0.15, column, ha="center")
fig

# %% jupyter={"source_hidden": true}
predict(
    "How many of the six proposals are positive, if IoU 0.5 is enough?",
    ["2", "3", "4", "5"],
    lambda: str(int((table.amax(dim=1) >= 0.5).sum())),
    "Go row by row. One number of 0.5 or more is enough.",
)

# %% [markdown] tags=["core"]
# A row asks: *which ground truth does this proposal stand for?*
# A column asks: *which proposal is best for this ground truth?*

# %%
best_iou, best_truth = table.max(dim=1)
for row in range(len(proposals)):
    best, iou = best_truth[row], best_iou[row]
    print(f"proposal {row}: best is ground truth {best}, IoU {iou:.4f}")

# %%
best_iou, best_proposal = table.max(dim=0)
for column in range(len(birds.boxes)):
    best, iou = best_proposal[column], best_iou[column]
    print(f"ground truth {column}: best is proposal {best}, IoU {iou:.4f}")

# %% [markdown] tags=["core"]
# Proposal 4 holds grass. Its largest IoU is 0, and still it has a "best" ground truth. So the best alone says nothing:
# we need a threshold as well.
#
# ### Your turn: `my_best_match`
#
# Take a table of IoUs and a threshold. For each row give the column of the largest IoU.
# If that IoU is below the threshold, give -1.
#
# <details><summary>Hint 1: largest and its place</summary>
# <code>iou.max(dim=1)</code> gives two tensors: the largest number of each row, and its column.
# </details>
#
# <details><summary>Hint 2: choose</summary>
# <code>torch.where(condition, a, b)</code> takes <code>a</code> where the condition holds, else <code>b</code>.
# </details>
#
# <details><summary>Hint 3: equality</summary>
# An IoU <b>equal</b> to the threshold is not below it.
# </details>


# %% tags=["exercise"]
def my_best_match(iou, threshold):
    """Return the column of the largest number of each row of iou (N, M), or -1."""
    raise NotImplementedError


# %%
check_best_match(my_best_match)


# %% [markdown] tags=["core"]
# **One solution**, collapsed: row by row.


# %% jupyter={"source_hidden": true}
def best_match_by_hand(iou, threshold):
    """Row by row, column by column."""
    answer = []
    for row in iou:
        best = 0
        for column in range(len(row)):
            if row[column] > row[best]:
                best = column
        answer.append(best if row[best] >= threshold else -1)
    return torch.tensor(answer, dtype=torch.int64)


# %% [markdown] tags=["core"]
# **The library** calls it `match_proposals`. It also says which proposals are background:
# `status` is 1 for positive, 0 for background. `all_real` says that all four ground truths are real
# (in a batch some may be empty places, section 6).

# %%
from rcnnlib.ops.matcher import match_proposals

all_real = torch.ones(len(birds.boxes), dtype=torch.bool)
boxes = random_boxes(300, size=500)
ious = box_iou(boxes, birds.boxes)
match = match_proposals(ious, all_real, positive=0.5, background_low=0)
library = torch.where(match.status == 1, match.matches, -1)
assert torch.equal(best_match_by_hand(ious, 0.5), library)
print("loop and library agree;", (library >= 0).sum().item(), "of", len(boxes), "are positive")

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# <code>iou.max(dim=1)</code> searches all rows in one call. <code>torch.where</code> decides for all rows in one call.
# Nothing asks "is this one positive?" in Python, so a GPU never has to wait for the answer.
# </details>
#
# **Look.** The same six proposals after matching at 0.5.

# %%
labels = best_match_by_hand(table, 0.5)
found, names = labels >= 0, [f"is {label}" for label in labels.tolist() if label >= 0]
fig, ax = figure(430, 287, alt=f"The six proposals after matching at 0.5: {labels.tolist()}")
draw_birds(ax)
draw_boxes(ax, proposals[found], kind="proposal", labels=names)
draw_boxes(ax, proposals[~found], kind="note", labels=["background"] * 2)
fig

# %% [markdown] tags=["core"]
# **Move.** Here are three new proposals. Number 0 covers chickens 1 and 2 together. Before you drag one, predict.

# %%
three = torch.tensor([[203.0, 80, 445, 335], [60, 200, 120, 300], [470, 130, 625, 400]])
three_ious = box_iou(three, birds.boxes)
for chicken in (1, 2):
    print(f"proposal 0 and chicken {chicken}: IoU {three_ious[0, chicken]:.2f}")

# %% jupyter={"source_hidden": true}
predict(
    "The threshold is lowered to 0.4. What does proposal 0 stand for?",
    ["chickens 1 and 2", "only chicken 1", "only chicken 2", "nothing, it is background"],
    lambda: f"only chicken {best_match_by_hand(three_ious, 0.4)[0]}",
    "Both IoUs pass, but a row has only one largest number.",
)

# %%
from rcnnlib.view.explorers.iou_table import IouTable

IouTable(birds.image, birds.boxes, three, alt="Four chickens on grass")

# %% [markdown] tags=["core"]
# Lower "positive from" to 0.4 and see. Then drag the proposals and watch their rows.
#
# A proposal stands for one object at most. So an object can be left over: before you drag, no proposal stands
# for chicken 1, whatever the threshold. Section 7 shows what Faster R-CNN does about that.

# %% [markdown] tags=["extra"]
# ## 5 · The story of the +1
#
# *extra · 7 minutes*
#
# Four pixel columns stand side by side: 2, 3, 4, 5. How wide are they together? Four.
#
# - **Pixels as squares** (*continuous pixels*). They reach from x = 2 to x = 6. The width is 6 - 2 = 4.
#   The course writes `x2 = 6`.
# - **Pixels by their number.** The first is 2, the last is 5. The width is 5 - 2 **+ 1** = 4.
#   Old code wrote `x2 = 5`.
#
# Both are right. The trouble starts when one program uses both. The first Faster R-CNN code for Python did:
# it measured the width with + 1, and forgot the 1 on the way back.


# %%
def old_round_trip(box):
    """Into centre and size and back, as py-faster-rcnn's bbox_transform.py did."""
    size = box[2:] - box[:2] + 1
    centre = box[:2] + 0.5 * size
    return torch.cat((centre - 0.5 * size, centre + 0.5 * size))


# %%
columns = torch.tensor([2.0, 2.0, 5.0, 5.0])

# %% jupyter={"source_hidden": true}
predict(
    "The box 2, 2, 5, 5 goes through this function once. What comes out?",
    ["2, 2, 5, 5", "2, 2, 6, 6", "1, 1, 6, 6", "1.5, 1.5, 5.5, 5.5"],
    lambda: ", ".join(f"{number:g}" for number in old_round_trip(columns)),
    "It should come back unchanged. It has grown by one pixel, to the right and down.",
)

# %%
from rcnnlib.ops.box_coder import decode, encode

box = columns
for turn in range(1, 4):
    box = old_round_trip(box)
    print("old code, turn", turn, box.tolist())
ours = torch.tensor([[2.0, 2.0, 6.0, 6.0]])
print("course, any turn ", decode(encode(ours, ours), ours)[0].tolist())

# %% [markdown] tags=["extra"]
# `encode(b, p)` says how to get from box `p` to box `b`: this is what a detector learns. `decode` goes that way.
# So `decode(encode(b, p), p)` must be `b`. (Here `p` is `b` itself, as in the old function.)
# Detectron, the program that followed, took the 1 off again, with the comment "don't be fooled by the asymmetry".
#
# **Continuous pixels** need no + 1 anywhere, so nobody can forget it. And they survive a change of size.
# We make the photo half as large:

# %%
wide = torch.tensor([2.0, 6.0])  # left and right edge, as squares
print("as squares: half as large, width", (wide[1] / 2 - wide[0] / 2).item())
print("with +1:    half as large, width", (5 / 2 - 2 / 2 + 1))

# %% [markdown] tags=["extra"]
# Half of 4 is 2. With + 1 it became 2.5.
#
# **Plant a bug**, that is, put one in on purpose. Below you can choose which. The photo still shows what *you* drew.
# The chart shows what the *program* sees. Predict first.

# %%
# Only the upper right corner of the photo, where the far bison stands.
pair = torch.stack((far, far + 3)) - torch.tensor([480.0, 0, 480, 0])
ious = {bug: two_boxes(pair, 0.7, 0.3, bug)["IoU"] for bug in BUGS}

# %% jupyter={"source_hidden": true}
predict(
    "The detection is 3 pixels off. What does the + 1 do to the IoU of the far bison?",
    ["it falls", "it stays the same", "it grows a little"],
    lambda: "it grows a little" if 0 < ious["+1"] - ious["none"] < 0.1 else "it falls",
    "Both boxes look larger than they are, and so does their overlap.",
)

# %%
TwoBoxes(bison.image[:, :120, 480:], pair, alt="Bison, far away").set(bug="+1")

# %%
for bug, iou in ious.items():
    print(f"{bug:>16}: IoU {iou:.4f}")

# %% [markdown] tags=["extra"]
# The + 1 hides: the number looks reasonable, and it is wrong. The format bug shouts: the IoU is 0.
# A bug that hides is worse. That is why the course compares
# every function with a second one that is written in another way.

# %% [markdown] tags=["extra"]
# ## 6 · Boxes without area
#
# *extra · 3 minutes*
#
# In a batch every photo gets room for the same number of boxes. Unused places hold the box 0, 0, 0, 0.
# So the IoU of two *empty* boxes is asked for all the time. Its definition says 0 / 0.

# %%
import torchvision

empty = torch.zeros(1, 4)
print("course     ", box_iou(empty, empty).item())
print("torchvision", torchvision.ops.box_iou(empty, empty).item())

# %%
some = torch.cat((hard[:3], random_boxes(50)))
assert torch.allclose(box_iou(some, some), torchvision.ops.box_iou(some, some), atol=1e-5)
print("on", len(some), "boxes with area the two agree")

# %% [markdown] tags=["extra"]
# NaN (*not a number*) is contagious: NaN plus 1 is NaN, and soon the loss is NaN. So ours is 0.
# It is the one difference between our IoU and torchvision's, and it is on purpose.

# %% [markdown] tags=["extra"]
# ## 7 · Papers and code
#
# *extra · 6 minutes*
#
# Every detector of this course cuts IoU with thresholds. Here they are, with the sections of the papers.
# Many names in the first column are new. Each has its lesson.
#
# | who learns | positive | background | the rest | source |
# |---|---|---|---|---|
# | R-CNN, fine-tuning | IoU ≥ 0.5 | below | – | R-CNN 2.3 |
# | R-CNN, SVMs | the ground truth itself | IoU < 0.3 | ignored | R-CNN 2.3 |
# | Fast R-CNN, head | IoU ≥ 0.5 | 0.1 ≤ IoU < 0.5 | ignored | Fast R-CNN 2.3 |
# | Faster R-CNN, RPN | IoU > 0.7, **or the best for an object** | IoU < 0.3 | ignored | Faster R-CNN 3.1.2 |
#
# (*Fine-tuning* and *SVMs* are two steps in the training of R-CNN. The *RPN* is the part of Faster R-CNN that makes
# proposals; the *head* is the part that judges them.)
#
# "Or the best for an object" is the answer to section 4: an object that no box reaches with 0.7 still gets one.
#
# What happens **exactly at** the threshold? The papers hardly care, but a program must decide.
# We build such boxes and ask our program.

# %%
from rcnnlib.ops.matcher import match_anchors
from rcnnlib.ops.nms import nms

whole = torch.tensor([[0.0, 0, 10, 10]])


def at_exactly(iou):
    """A box that has this IoU with ``whole``; and ``whole`` itself, as the best one."""
    return torch.tensor([[0.0, 0, 10, 10 * iou], [0, 0, 10, 10]])


# %%
word = {1: "positive", 0: "background", -1: "ignored"}
real = torch.ones(1, dtype=torch.bool)
cases = [("head", 0.5), ("head", 0.1), ("RPN", 0.7), ("RPN", 0.3)]
for name, iou in cases:
    matcher = {"head": match_proposals, "RPN": match_anchors}[name]
    status = matcher(box_iou(at_exactly(iou), whole), real).status[0].item()
    print(f"{name:>4} at exactly {iou}: {word[status]}")

# %% [markdown] tags=["extra"]
# For the RPN the paper says "higher than 0.7". Ours also takes exactly 0.7, as torchvision does.
#
# One more threshold. *NMS* removes a box that overlaps a better one too much. (It has its own lesson.)

# %%
kept = nms(at_exactly(0.7), torch.tensor([0.5, 0.9]), 0.7)
print("NMS at exactly 0.7 keeps", len(kept), "of 2 boxes")

# %% [markdown] tags=["extra"]
# > **What the notes said.** The lecture notes behind this course say "IoU > 0.5" and "0.1 < IoU < 0.5" for Fast R-CNN.
# > The paper says "at least 0.5" and the interval [0.1, 0.5). The notes also let NMS remove boxes with IoU ≥ 0.7;
# > torchvision and this course remove > 0.7, as the cell above shows.
#
# ### A question of the student
#
# > **Why is the data set put together like this? Is it given to us like this, or do we have to make it?**
# > «왜 Dataset을 이렇게 구성하는 걸까? Data를 이렇게 준다는 얘기인가? 구하라는 얘기인가?»
#
# (The notes speak of a mix: 25 % positive boxes and 75 % background.)
# We try it. What does the file hold? And what do 2000 random boxes on the photo of the chickens become?

# %%
print("one box in the file:", ", ".join(file["annotations"][0]))
corner = torch.rand(2000, 2) * torch.tensor([540.0, 327.0])
boxes = torch.cat((corner, corner + 20 + torch.rand(2000, 2) * 200), dim=1)
status = match_proposals(box_iou(boxes, birds.boxes), all_real).status
for value, name in word.items():
    print(f"{name:>10}: {(status == value).sum().item()} of 2000")

# %% [markdown] tags=["extra"]
# The file gives the ground truth only. We make the labels *positive* and *background*, with IoU and thresholds.
# Of random boxes very few are positive. A batch drawn blindly would be almost all background, so the papers
# draw a quarter on purpose (Fast R-CNN 2.3). The lesson on sampling does it.
#
# > **답.** 데이터 파일에는 정답 박스(ground truth)만 있고, positive와 background 라벨은 우리가 IoU로 직접 만듭니다.
# > 무작위로 뽑은 박스는 거의 모두 배경이므로, 물체도 충분히 배우도록 25 %와 75 %로 섞어 뽑습니다.

# %% [markdown] tags=["core"]
# ## Summary
#
# - A box is four numbers **and** a format. A wrong format raises no error.
# - IoU = intersection / union. Two squares that overlap by half have IoU 1/3.
# - The same few pixels cost a small box far more than a large one.
# - `box_iou` makes a table: rows are proposals, columns are ground truths. Best of a row, best of a column.
# - Thresholds turn IoU into positive, background, ignored. These labels are made, not given.
# - Continuous pixels, width = x2 - x1, no + 1.
#
# ## Glossary
#
# | English | 한국어 | meaning |
# |---|---|---|
# | bounding box | 바운딩 박스 | an upright rectangle around an object |
# | ground truth | 정답 (실제값) | the box that people drew |
# | detection | 검출 결과 | the box that a detector gives |
# | intersection | 교집합 | what both boxes cover |
# | union | 합집합 | what at least one box covers |
# | area | 넓이 | width times height |
# | IoU | 교집합 ÷ 합집합 | intersection over union, from 0 to 1 |
# | threshold | 임곗값 | the limit from which something counts |
# | proposal | 후보 영역 | a box that may hold an object |
# | positive, background | 양성, 배경 | what a detector learns from a proposal: object, no object |
# | broadcasting | 브로드캐스팅 | (N, 1) against (1, M) gives (N, M) |
#
# ## References
#
# - Girshick, Donahue, Darrell, Malik: *Rich feature hierarchies ...* (R-CNN), 2014, [arXiv 1311.2524](https://arxiv.org/abs/1311.2524)
# - Girshick: *Fast R-CNN*, 2015, [arXiv 1504.08083](https://arxiv.org/abs/1504.08083)
# - Ren, He, Girshick, Sun: *Faster R-CNN*, 2015, [arXiv 1506.01497](https://arxiv.org/abs/1506.01497)
# - Lin and others: *Microsoft COCO*, 2014, [arXiv 1405.0312](https://arxiv.org/abs/1405.0312)
# - Code: py-faster-rcnn, `lib/fast_rcnn/bbox_transform.py`; Detectron, `detectron/utils/boxes.py`
#
# The photos are public domain or CC0; `data/wild/CREDITS.csv` names their authors.
