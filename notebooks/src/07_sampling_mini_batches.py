# %% [markdown] tags=["core"]
# # 07 · Sampling mini-batches
#
# **The question.** Selective Search gives a photo more than a thousand boxes. A training step of Fast R-CNN looks at
# 64 of them. *Which 64, and out of how many photos?*
#
# **After this lesson you can**
#
# - turn IoU into three labels with two limits, and say what the lower limit is for
# - draw a mini-batch with a fixed mix, and say what happens when a photo cannot fill it
# - say from measurements what a quarter of positives changes, and what it does not
# - count what a step costs if its RoIs come from 1, 2 or 128 photos
# - recognise the classic bugs of a sampler
#
# | section | | minutes |
# |---|---|---|
# | 1 Three kinds of proposals | core | 9 |
# | 2 Drawing a mini-batch | core | 12 |
# | 3 Where the dice lie | extra | 6 |
# | 4 Adding the objects themselves | core | 3 |
# | 5 Why this mix? | core | 10 |
# | 6 Many RoIs of few pictures | core | 11 |
# | 7 Questions, papers, notes | extra | 7 |
#
# You may leave out what is marked *extra*.

# %%
from rcnnlib.view.notebook import predict, setup

setup()

# %%
import torch

from rcnnlib.checks import check_epoch_cost, check_label_proposals, check_sampler
from rcnnlib.datasets.coco import scrapbook, wild
from rcnnlib.datasets.proposals import WithProposals, selective_search_boxes
from rcnnlib.datasets.transforms import collate, uniform_noise
from rcnnlib.ops.boxes import box_iou
from rcnnlib.ops.matcher import Match, match_proposals
from rcnnlib.ops.sampler import sample
from rcnnlib.view.plotting import LINES, draw_boxes, figure, show_image

# %% [markdown] tags=["core"]
# ## 1 · Three kinds of proposals
#
# *core · 9 minutes*
#
# A **proposal** is a box that may hold an object (lesson 02). Here are our own Selective Search boxes,
# computed once and stored. How many are there on the photo of the owl? And how many boxes did people draw?

# %%
photos = WithProposals(wild(), selective_search_boxes("wild"))
places = {name.removesuffix(".jpg"): place for place, (_, name) in enumerate(wild().images)}
owl = photos[places["owl"]]
print(len(owl.proposals), "proposals,", len(owl.boxes), "box drawn by hand")

# %% [markdown] tags=["core"]
# The head of Fast R-CNN (lesson 06) learns from proposals. It must be told what each one is: an object, or background.
# Nobody wrote that down. We **make** these labels, from the IoU with the best object (Fast R-CNN 2.3):
#
# | IoU with the best object | label | code |
# |---|---|---|
# | at least 0.5 | **positive**: learn the class of that object | 1 |
# | in [0.1, 0.5) | **background** | 0 |
# | below 0.1 | **ignored**: learn nothing from it | -1 |
#
# [0.1, 0.5) means: 0.1 belongs to it, 0.5 does not.
#
# **Toy.** Five proposals (rows), two objects (columns). Write down five labels before you go on.

# %%
toy = torch.tensor([[0.72, 0.05], [0.00, 0.50], [0.34, 0.40], [0.10, 0.00], [0.08, 0.06]])

# %% jupyter={"source_hidden": true} rows="L10 predict"
predict(
    "How many of the five are background?",
    ["1", "2", "3", "4"],
    lambda: str(int((match_proposals(toy, torch.ones(2, dtype=torch.bool)).status == 0).sum())),
    "Rows 2 and 3 (counted from 0). Row 3 has exactly 0.10, which is in [0.1, 0.5).",
)

# %% [markdown] tags=["core"]
# ### Your turn: `my_label_proposals`
#
# Take a table of IoUs (N, G), the limit `positive` and the limit `low`. Give one label for each row: 1, 0 or -1.
#
# <details><summary>Hint 1: one number a row</summary>
# The best object decides. <code>iou.amax(dim=1)</code> is the largest number of each row.
# </details>
#
# <details><summary>Hint 2: choose</summary>
# <code>torch.where(condition, 1, other)</code> takes 1 where the condition holds, else <code>other</code>.
# Two of them, one inside the other, make three labels.
# </details>
#
# <details><summary>Hint 3: equality</summary>
# Exactly <code>positive</code> is positive, exactly <code>low</code> is background.
# </details>


# %% tags=["exercise"] rows="L10 exercise"
def my_label_proposals(iou, positive, low):
    """Return 1 (positive), 0 (background) or -1 (ignored) for each row of iou (N, G)."""
    raise NotImplementedError


# %%
check_label_proposals(my_label_proposals)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: row by row.


# %% jupyter={"source_hidden": true}
def label_by_hand(iou, positive, low):
    """The sentence of the paper, proposal by proposal."""
    labels = []
    for row in iou:
        if row.max() >= positive:
            labels.append(1)
        elif row.max() >= low:
            labels.append(0)
        else:
            labels.append(-1)
    return torch.tensor(labels, dtype=torch.int64)


# %% [markdown] tags=["core"]
# **The library** calls it `match_proposals`. It also gives the number of the best object, in `matches`.

# %%
table = torch.rand(500, 3) ** 2
match = match_proposals(table, torch.ones(3, dtype=torch.bool), positive=0.5, background_low=0.1)
assert torch.equal(label_by_hand(table, 0.5, 0.1), match.status)
print("loop and library agree on", len(table), "proposals")
print("the toy:", label_by_hand(toy, 0.5, 0.1).tolist())

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# The library searches all rows in one call (<code>max</code>), and decides for all rows with two calls
# (<code>torch.where</code>). It starts with "all ignored", then writes background over it, then positive.
# Positive is written last, so it wins where the two limits cross.
# </details>
#
# Now the owl. Guess first.


# %%
def label(photo, low=0.1):
    """Labels, matches and IoUs of all proposals of a photo."""
    batch = collate([photo], seed=0, epoch=0)  # a batch of one photo
    match = match_proposals(box_iou(batch.proposals, batch.boxes), batch.valid, background_low=low)
    return Match(*(row[0] for row in match))


# %%
KINDS = {"positive": 1, "background": 0, "ignored": -1}
owl_status = label(owl).status
counts = {name: int((owl_status == code).sum()) for name, code in KINDS.items()}

# %% jupyter={"source_hidden": true} rows="L10 predict"
predict(
    "What share of the proposals on the owl is positive?",
    ["about 3 %", "about 12 %", "about 25 %", "about 50 %"],
    lambda: f"about {100 * counts['positive'] / len(owl_status):.0f} %",
    "Selective Search does not look for owls. It proposes every patch of the photo.",
)

# %%
fig, axes = figure(560, 155, columns=3, alt=f"The owl's {len(owl.proposals)} proposals;")
for ax, name, kind in zip(axes, KINDS, ("proposal", "note", "ignored"), strict=True):
    chosen = owl.proposals[owl_status == KINDS[name]][:40]
    draw_boxes(show_image(ax, owl.image), chosen, kind=kind)
    ax.set_title(f"{name}: {counts[name]}")
    fig.alt += f" {ax.get_title(loc='left')};"
fig

# %% [markdown] tags=["core"]
# (At most 40 of each kind are drawn.) Here background does not mean "far from the owl". With the lower limit of 0.1,
# it is a piece of the owl, or the owl with too much around it. Far away is *ignored*.
#
# **Move.** Two limits, four photos. Before you move one, predict.

# %% jupyter={"source_hidden": true}
predict(
    "“positive from” goes from 0.5 to 0.7. What happens to the number of ignored proposals?",
    ["it grows", "it stays the same", "it falls"],
    lambda: "it stays the same",
    "What is no longer positive becomes background. The lower limit alone says what is ignored.",
)

# %% rows="L10 explorer"
from rcnnlib.view.explorers.proposal_kinds import ProposalKinds

ProposalKinds({name: photos[places[name]] for name in ("owl", "bison", "hammer1", "crocodile")})

# %% [markdown] tags=["core"]
# The bars are on a logarithmic scale: each number on the left is ten times the one below. Look at `crocodile`.
# The classes of our data are bird, mammal, food, tool and vehicle, so a crocodile is no object here. No proposal can
# reach 0.1: **everything is ignored.** Keep it in mind for section 2.

# %% [markdown] tags=["core"]
# ## 2 · Drawing a mini-batch
#
# *core · 12 minutes*
#
# The boxes that one training step learns from are a **mini-batch**. Fast R-CNN takes 64 from each photo.
# Let us first draw 64 *blindly* from all proposals of the owl.

# %%
blind = uniform_noise(len(owl.proposals), seed=0, epoch=0, id=owl.id).argsort()[:64]
print("positive among 64 drawn blindly:", (owl_status[blind] == 1).sum().item())
print(f"on average: {64 * counts['positive'] / len(owl_status):.4f}")

# %% [markdown] tags=["core"]
# About two positives in a batch of 64. So Fast R-CNN fixes the mix (section 2.3), as R-CNN did:
#
# 1. **At most 25 %** of the rows are positive, drawn at random.
# 2. **The rest** is background, drawn at random.
# 3. Too few positives? Then background fills their places.
# 4. Too few of both? Then rows stay **empty**: they carry the label -1, and the loss leaves them out.
#
# (The paper says: 25 % are positive, the rest is background. "At most", 3 and 4 are what a program must decide.)
#
# How does one draw at random? Each proposal gets a random number between 0 and 1, its **noise**.
# Of each kind, **the smallest numbers win**.
#
# **Toy.** Eight proposals, a mini-batch of 4 rows. A quarter of 4 is one positive.

# %%
status = torch.tensor([1, 0, 0, -1, 1, 0, 1, 0])
noise = torch.tensor([0.9, 0.4, 0.7, 0.1, 0.2, 0.8, 0.3, 0.5])
for place, (one, number) in enumerate(zip(status.tolist(), noise.tolist(), strict=True)):
    print(f"proposal {place}: label {one:2d}, noise {number:.1f}")

# %%
one_class = torch.ones(1, dtype=torch.int64)


def draw(status, noise, size, fraction):
    """The library's sampler for one photo with one object, number 0. (It does not look at the IoU.)"""
    match = Match(status, matches=status * 0, iou=noise)
    return sample(match, one_class, noise, size=size, positive_fraction=fraction)


# %% jupyter={"source_hidden": true} rows="L10 predict"
predict(
    "Which proposals are drawn?",
    ["3, 4, 6, 1", "4, 1, 7, 2", "0, 1, 2, 5", "4, 6, 1, 7"],
    lambda: ", ".join(map(str, draw(status, noise, 4, 0.25).index.tolist())),
    "The positive with the smallest number is 4. The backgrounds with the smallest numbers are 1, 7 and 2.",
)

# %% [markdown] tags=["core"]
# ### Your turn: `my_sampler`
#
# Take labels, noise, the number of rows and the fraction. Give the places of the drawn proposals, smallest place first.
# If there are too few of both kinds, give fewer than `size`.
#
# <details><summary>Hint 1: how many positives</summary>
# At most <code>int(size * fraction)</code>, and no more than there are.
# </details>
#
# <details><summary>Hint 2: the smallest numbers</summary>
# <code>noise.argsort()</code> gives all places, smallest number first. Go through them and keep those with label 1.
# Do it again for label 0.
# </details>
#
# <details><summary>Hint 3: how many backgrounds</summary>
# As many as rows are left: <code>size</code> minus the positives that you <b>have</b>, not minus those you wanted.
# </details>


# %% tags=["exercise"] rows="L10 exercise"
def my_sampler(status, noise, size, fraction):
    """Return the places of the drawn proposals, smallest first."""
    raise NotImplementedError


# %%
check_sampler(my_sampler)

# %% [markdown] tags=["core"]
# **One solution**, collapsed.


# %% jupyter={"source_hidden": true}
def draw_by_hand(status, noise, size, fraction):
    """Positives first, then negatives, each kind by its smallest numbers."""
    order = noise.argsort().tolist()
    positives = [place for place in order if status[place] == 1][: int(size * fraction)]
    negatives = [place for place in order if status[place] == 0][: size - len(positives)]
    return torch.tensor(sorted(positives + negatives), dtype=torch.int64)


# %% [markdown] tags=["core"]
# **The library** has `sample`. It always gives `size` rows, positives first. An empty row has the label -1.

# %%
for _ in range(100):
    random_status, random_noise = torch.randint(-1, 2, (50,)), torch.rand(50)
    drawn = draw(random_status, random_noise, 32, 0.25)
    used = drawn.index[drawn.labels >= 0].sort().values
    assert torch.equal(draw_by_hand(random_status, random_noise, 32, 0.25), used)
print("loop and library agree in 100 random draws of 32 rows")

# %% [markdown] tags=["core"]
# <details><summary>Why this is quicker</summary>
#
# The library sorts <b>once</b>. A positive keeps its noise (0 to 1), a background gets noise + 1 (1 to 2), all others
# get 3, also the positives beyond the quota. After sorting, the positives stand first, then the backgrounds, then
# what takes no part. Cut off after <code>size</code> rows, done. All photos of a batch go through in the same call.
# Python never looks at a value on the way, so a GPU never has to wait for it.
# </details>
#
# The trick of the library, on the toy. Of the positives 0, 4 and 6 only one may come; 4 has the smallest noise:

# %%
key = torch.where(status == 1, noise, torch.where(status == 0, noise + 1, 3.0))
key[[0, 6]] = 3.0  # the positives beyond the quota
for place in key.argsort()[:4].tolist():
    print(f"proposal {place}: label {status[place]}, key {key[place]:.1f}")

# %% [markdown] tags=["core"]
# **Look.** The mini-batch of the owl, as a page of thumbnails. Each is stretched to a square, as R-CNN would do.
# The first row, framed, are the positives.

# %%
from rcnnlib.view.explorers.pictures_and_rois import COLUMNS, SIDE, mosaic, thumbnails

owl_match = label(owl)
owl_noise = uniform_noise(len(owl.proposals), seed=0, epoch=0, id=owl.id)
owl_drawn = sample(owl_match, one_class, owl_noise, size=64, positive_fraction=0.25)


# %%
def show_tiles(ax, tiles, labels):
    """Thumbnails in rows of sixteen; positives are framed."""
    places = torch.arange(len(labels))[labels > 0]
    x, y = places % COLUMNS * SIDE, places // COLUMNS * SIDE
    show_image(ax, mosaic(tiles)).images[0].set_interpolation("bilinear")
    frames = torch.stack((x + 2, y + 2, x + SIDE - 2, y + SIDE - 2), dim=1)
    return draw_boxes(ax, frames, kind="proposal")


# %% rows="L10 figure"
count = (owl_drawn.labels == 1).sum()
fig, ax = figure(460, 130, alt=f"A mini-batch of the owl: {count} positives of 64 RoIs")
show_tiles(ax, thumbnails(owl, owl.proposals[owl_drawn.index]), owl_drawn.labels)
fig

# %% [markdown] tags=["core"]
# **A sampler can starve.** `hammer1` is a small photo with few proposals. Count first.

# %%
hammer = photos[places["hammer1"]]
hammer_match = label(hammer)
kinds = [int((hammer_match.status == code).sum()) for code in (1, 0, -1)]
print("hammer: {} positive, {} background, {} ignored".format(*kinds))

# %% jupyter={"source_hidden": true} rows="L10 predict"
predict(
    "A mini-batch of 64 with at most 25 % positives. How many rows stay empty?",
    ["0", "10", "24", "38"],
    lambda: str(int((sample(hammer_match, one_class, torch.rand(kinds[0] + kinds[1] + kinds[2]), size=64,
                            positive_fraction=0.25).labels == -1).sum())),
    "16 positives (capped, though there are more) and all 38 backgrounds make 54.",
)  # fmt: skip

# %% [markdown] tags=["core"]
# So 16 of the 54 rows in use are positive: 0.30 and not 0.25. **The wanted and the realised mix differ.**
#
# **Move.** Left: what was drawn. Orange dashed: positive. White: background. Green: ground truth.
# Right: every proposal is a dot, at its IoU and at its random number. The lowest of each kind win.
#
# Before you move anything: the photo is `crocodile`, where everything is ignored. What is in its mini-batch?

# %% jupyter={"source_hidden": true}
predict(
    "The mini-batch of the crocodile (64 rows, background from 0.1)",
    ["64 backgrounds", "64 empty rows", "16 positives, 48 backgrounds"],
    lambda: "64 empty rows" if not (label(photos[places["crocodile"]]).status >= 0).any() else "64 backgrounds",
    "No proposal reaches 0.1. So this photo teaches nothing. With “background from 0” it teaches 64 backgrounds.",
)

# %% rows="L10 explorer"
from rcnnlib.view.explorers.mini_batch import BUGS, MiniBatch

test_scenes = WithProposals(scrapbook("test"), selective_search_boxes("scrapbook_test"))
exhibits = {name: photos[places[name]] for name in ("owl", "bison", "hammer1", "crocodile")}
exhibits["scene 26"] = test_scenes[26]
MiniBatch(exhibits)

# %% [markdown] tags=["core"]
# Try these.
#
# 1. Move `epoch`. Other proposals are drawn, the counts stay.
# 2. Photo `hammer1`, then "batch R" to 128, and back to 32. When is the batch full?
# 3. Photo `scene 26`: one object, and no proposal fits it. How many positives? And with "add the objects themselves"?
# 4. "positive, at most" to 1. What is the positive share of `bison` now? And of `owl`?
#
# <details><summary>Answers</summary>
#
# 2: from 48 rows downward. 12 positives and 36 of the 38 backgrounds fill them.
# 3: none; then one, the object itself.
# 4: 1 for the bison, which have more than 64 positives. The owl has only 47, and background fills the other rows: 0.73.
# </details>
#
# ### Plant the bug
#
# Two mistakes that are easily made. Neither raises an error.
#
# - **ignored taken for background**: somebody wrote `status != 1` for "background". (Or let -1 become 0.)
# - **positives not capped**: somebody forgot the quota.
#
# A row is *wrong* if its label is not the one that the rule gives. Predict, then plant the bugs in the explorer above.
# Wrong rows are grey in the photo, × in the chart.

# %% jupyter={"source_hidden": true} rows="L10 predict"
from rcnnlib.view.explorers.mini_batch import mini_batch

predict(
    "The owl, R = 64. Somebody takes ignored for background. How many of its 48 backgrounds are wrong?",
    ["about 5", "about 20", "about 40"],
    lambda: "about 40" if mini_batch("owl", 0.5, 0.1, 0.25, 64, 0, False, BUGS[1], pictures=exhibits)["wrong labels"] > 30
    else "about 20",
    "Most proposals are ignored ones, so most of what is drawn now is ignored, too.",
)  # fmt: skip

# %%
state = {"positive": 0.5, "background": 0.1, "fraction": 0.25, "rows": 64, "epoch": 0, "truth": False}
for name in ("owl", "bison"):
    for bug in BUGS:
        numbers = mini_batch(name, **state, bug=bug, pictures=exhibits)
        after = ", ".join(f"{count} {kind}" for kind, count in numbers["after"].items() if count)
        print(f"{name:>5}, {bug}: {after}; wrong labels {numbers['wrong labels']}")

# %% [markdown] tags=["core"]
# For the owl "ignored taken for background" looks harmless: far away there *is* background. It is the same as
# "background from 0".
# It does harm where *ignored* means "we do not know": in COCO a crowd of people gets one ignored region.
# Every person in it would be taught as background.
#
# With "positives not capped" the bison have not one row of background. No error, no warning.

# %% [markdown] tags=["extra"]
# ## 3 · Where the dice lie
#
# *extra · 6 minutes*
#
# Our sampler does not roll dice. It is *handed* random numbers, `noise`. Why not simply call `torch.rand` inside?
#
# Because `torch.rand` has a memory, the **generator**. What it gives depends on all that was drawn before.
# Two photos, the owl and the bison. The same seed, twice. Only their order in the batch differs.

# %%
bison = photos[places["bison"]]


def first_numbers(order):
    """The first random number that each photo gets from a hidden generator."""
    torch.manual_seed(7)
    return {photo.id: round(torch.rand(len(photo.proposals))[0].item(), 4) for photo in order}


# %% jupyter={"source_hidden": true}
predict(
    "Same seed, other order of the photos. Does the owl get the same mini-batch?",
    ["yes", "no"],
    lambda: "yes" if first_numbers([owl, bison])[owl.id] == first_numbers([bison, owl])[owl.id] else "no",
    "Whoever comes first gets the first numbers.",
)

# %%
print("owl first:  ", first_numbers([owl, bison])[owl.id])
print("bison first:", first_numbers([bison, owl])[owl.id])

# %% [markdown] tags=["extra"]
# With two processes, with another batch size, or after a crash and a restart, the order differs too. Then the same
# command gives another training, and a bug that you saw once may not come back.
#
# The course computes the numbers from **(seed, epoch, number of the photo)**, and from nothing else.


# %%
def own_numbers(order, epoch):
    """The numbers of each photo, from (seed, epoch, its own number)."""
    return {one.id: uniform_noise(len(one.proposals), seed=7, epoch=epoch, id=one.id) for one in order}


one, other = own_numbers([owl, bison], epoch=3), own_numbers([bison, owl], epoch=3)
print("another order, same numbers:  ", torch.equal(one[owl.id], other[owl.id]))
print("after a restart, same numbers:", torch.equal(one[owl.id], own_numbers([owl], epoch=3)[owl.id]))
print("another epoch, same numbers:  ", torch.equal(one[owl.id], own_numbers([owl], epoch=4)[owl.id]))

# %% [markdown] tags=["extra"]
# How is that done? `uniform_noise` is a counter that is scrambled (Philox). The counter starts at a place that
# belongs to this photo. It needs no memory.
#
# There is a second gain. A function that draws inside cannot be tested on paper. Ours could: you did it with the toy.

# %% [markdown] tags=["core"]
# ## 4 · Adding the objects themselves
#
# *core · 3 minutes*
#
# The hand-drawn box is a perfect proposal: its IoU is 1. So the authors' code puts the ground truth among the
# proposals **while it trains**. (The paper does not say so.) Our `RoIHead.sample` does it, too. What does it change?
# We count over 170 scenes of Scrapbook, the set that we train on.

# %%
scenes = WithProposals(scrapbook("train"), selective_search_boxes("scrapbook_train"))
pictures = [scenes[place] for place in range(170)]

# %%
objects, positives, left_out = 0, 0, 0
for picture in pictures:
    match = label(picture)
    hit = match.matches[match.status == 1].unique()  # objects with at least one positive proposal
    objects, left_out = objects + len(picture.boxes), left_out + len(picture.boxes) - len(hit)
    positives += int((match.status == 1).sum())

# %% jupyter={"source_hidden": true}
predict(
    "In 170 scenes, how many objects have no positive proposal at all?",
    ["none", "some, below 10 %", "about a third"],
    lambda: "none" if left_out == 0 else "some, below 10 %" if left_out < objects / 10 else "about a third",
    "Selective Search misses few objects, but it does miss some.",
)

# %%
print(f"{objects} objects, {positives} positives; {left_out} objects have none")
print(f"with the objects added: {positives + objects} positives; no object has none")
print(f"{100 * objects / positives:.0f} % more positives")

# %% [markdown] tags=["core"]
# So it does not change much for Selective Search. It gives each object at least **one** positive. In Faster R-CNN
# it matters more: there the proposals come from a network that knows nothing at the start.
#
# It is for training only. At test time nobody gives us the boxes.

# %% [markdown] tags=["core"]
# ## 5 · Why this mix?
#
# *core · 10 minutes*
#
# **Toy.** Take 100 proposals: 6 positives, 94 backgrounds. A lazy classifier says "background" every time.

# %% jupyter={"source_hidden": true}
predict(
    "What is the accuracy of the lazy classifier?",
    ["6 %", "50 %", "94 %"],
    lambda: "94 %",
    "It is right 94 times, and it finds no object.",
)

# %% [markdown] tags=["core"]
# Now a real head, trained twice, here and now. The features come from the ImageNet trunk of lesson 04, which stays
# as it is. Each scene gives 64 RoIs:
#
# - **in the mix**: 25 % positive, background from 0.1;
# - **as they come**: 64 of all proposals, drawn blindly.
#
# (The objects themselves are among the proposals of both, as in section 4.)

# %%
from rcnnlib.engine.studies import MIXES, draw_mix
from rcnnlib.models.backbone import squeezenet
from rcnnlib.ops.roi_ops import roi_align

trunk = squeezenet().trunk
with torch.no_grad():
    maps = [trunk(picture.image[None])[0] for picture in pictures]


# %%
def describe(place, boxes):
    """One vector for each RoI: 3 x 3 cells of 512 channels."""
    return roi_align(maps[place], boxes, 3, spatial_scale=1 / 16).flatten(1) / 10  # small numbers


def training_set(mix):
    """Features and labels of 64 RoIs from each of the first 128 scenes."""
    drawn = [draw_mix(collate([one], seed=0, epoch=0), 64, *MIXES[mix]) for one in pictures[:128]]
    features = [describe(place, one.boxes[0]) for place, one in enumerate(drawn)]
    return torch.cat(features), torch.cat([one.labels[0] for one in drawn])


# %%
sets = {"in the mix": training_set("25 %, from 0.1"), "as they come": training_set("as they come")}
for name, (_, labels) in sets.items():
    used = labels[labels >= 0]
    print(f"{name:>12}: {len(used)} RoIs, {(used > 0).float().mean():.2f} positive")

# %% [markdown] tags=["core"]
# They are tested on the other 42 scenes, on 200 proposals each. Nobody mixes those: at test time proposals always
# come as they come. All below 0.5 count as background.

# %%
tests = []
for place, picture in list(enumerate(pictures))[128:]:
    match, batch = label(picture, low=0), collate([picture], seed=0, epoch=0)
    names = torch.where(match.status == 1, batch.labels[0][match.matches], 0)
    tests.append((describe(place, picture.proposals[:200]), names[:200]))
test_features, test_labels = (torch.cat(part) for part in zip(*tests, strict=True))
lazy = (test_labels == 0).float().mean()
print(f"{len(test_labels)} proposals; the lazy classifier is right for {lazy:.2f} of them")


# %%
from torch.nn.functional import cross_entropy


def train_head(features, labels, seed):
    """A softmax layer over 5 classes and background, 150 steps of 128 RoIs."""
    torch.manual_seed(seed)
    head = torch.nn.Linear(features.shape[1], 6)
    optimizer = torch.optim.Adam(head.parameters(), 1e-3)
    for _ in range(150):
        chosen = torch.randint(len(features), (128,))
        loss = cross_entropy(head(features[chosen]), labels[chosen], ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head


# %% jupyter={"source_hidden": true}
predict(
    "Which head finds more of the positives, and which has the better accuracy?",
    ["the mix wins both, clearly", "the mix finds more, accuracy is about equal", "no difference in either"],
    lambda: "the mix finds more, accuracy is about equal",
    "Accuracy counts backgrounds, and there are many. It hides what we care about.",
)

# %%
found, right = {}, {}
objects_only = test_labels > 0
for name, (features, labels) in sets.items():
    heads = [train_head(features, labels, seed) for seed in range(3)]
    answers = [head(test_features).argmax(dim=1) for head in heads]
    found[name] = [(answer[objects_only] > 0).float().mean().item() for answer in answers]
    right[name] = [(answer == test_labels).float().mean().item() for answer in answers]

# %%
pairs = list(zip(*found.values(), strict=True))
gaps = [abs(a - b) for a, b in zip(*right.values(), strict=True)]
print("runs in which the mix finds more of the positives:", sum(a > b for a, b in pairs), "of 3")
print("on average it finds at least a tenth more:", sum(a - 1.1 * b for a, b in pairs) > 0)
print("accuracies differ by less than 0.03:", max(gaps) < 0.03)

# %% [markdown] tags=["core"]
# **Accuracy hides it, recall shows it.** (*Recall*: the share of the positives that is found.)
#
# But be careful: we chose these 150 steps after trying 60 and 300 too, and there one of the three seeds showed no gain,
# so the effect depends on how long you train. Change the number in `train_head` and look.
#
# Does the whole detector get better, too? That takes minutes, so it was run beforehand:
# the head of a Fast R-CNN, four mixes, several seeds each. The command is
# `python -m rcnnlib experiment sampling_mix`. *AP50* is a mark for the whole detector, from 0 to 1 (lesson 08 builds it).
# It looks at the **order** of the scores only. The other columns look at boxes with a score of at least 0.5:
# how many of the objects get a right box, and how many boxes a scene lie on background.

# %% rows="Q3 experiment"
from rcnnlib.engine.experiments import read_result

mixes = read_result("sampling_mix")
print(*mixes.setting.split(", "), sep="\n")
for mix, values in mixes.values.items():
    drawn = values["positives a picture"]
    print(f"{mix:<15} {sum(drawn) / len(drawn):4.1f} positives among the 64")
print(mixes.table("AP50", "right boxes shown", "background shown", decimals=2))

# %% [markdown] tags=["core"]
# All mixes of a seed see the same scenes in the same order. So we may compare seed by seed.

# %%
mix, blind = mixes.values["25 %, from 0.1"], mixes.values["as they come"]
for key in ("AP50", "right boxes shown", "background shown"):
    wins = sum(one > other for one, other in zip(mix[key], blind[key], strict=True))
    print(f"{key}: higher with the mix in {wins} of {len(mix[key])} seeds")

# %% rows="L10 figure"
fig, axes = figure(860, 220, columns=3, alt="Four mixes, a point for each seed;")
for ax, key in zip(axes, ("AP50", "right boxes shown", "background shown"), strict=True):
    for row, (mix, values) in enumerate(mixes.values.items()):
        ax.scatter(values[key], [row] * len(values[key]), color=LINES[0], s=40, alpha=0.7)
        fig.alt += f" {key}, {mix}: {sum(values[key]) / len(values[key]):.2f};"
    ax.set(yticks=range(4), yticklabels=list(mixes.values) if ax is axes[0] else [""] * 4, title=key)
    largest = max(max(values[key]) for values in mixes.values.values())
    ax.set(xlim=(0, 1.15 * largest), ylim=(3.5, -0.5))
fig

# %% [markdown] tags=["core"]
# Read it honestly.
#
# - **AP50 is no better with the mix.** The four rows overlap; count the seeds above.
#   So here the mix does not help the head to put its boxes in a good *order*.
# - **The scores move.** A head that meets few objects in training learns that objects are rare, and gives low scores.
#   So fewer right boxes pass 0.5, and less background does. With 50 % positives it is the other way round.
# - **The bound of 0.1** makes the head more careful: less background is shown, and fewer right boxes.
#   AP50 hardly moves. Faster R-CNN drops the bound (lesson 14).
#
# Then why did the papers mix? R-CNN 2.3 says: because positives "are extremely rare compared to background".
# On our scenes "as they come" still brings a few positives in 64, more than on the owl. The rarer they are,
# the more steps pass without an object. With the mix you need not wait: each step brings several times as many.
#
# Remember it for your own data: **the mix is a choice, not a law.** Try two, and look at more than one number.

# %% [markdown] tags=["core"]
# ### Hard negatives
#
# What is the lower bound for? Fast R-CNN 2.3: it "appears to act as a heuristic for hard example mining".
# A *hard* negative is a background box on which the head errs. The class loss (lesson 06)
# says how much: $-\log p(\text{background})$.
#
# We take a detector that was trained **without** the bound, the course's Faster R-CNN, and give its head all
# Selective Search boxes of 20 test scenes. We keep the background boxes, those below IoU 0.5.

# %%
from rcnnlib.models.weights import load_weights

detector = load_weights("faster_rcnn_scrapbook").model
exams = [one for one in (test_scenes[place] for place in range(24)) if len(one.boxes)][:20]


# %%
@torch.no_grad()
def background_loss(scene):
    """IoU with the best object, and loss as background, of every proposal of a scene."""
    batch = collate([scene], seed=0, epoch=0)
    maps = detector.trunk(batch.images, batch.sizes)
    pooled = detector.head.pool(maps, batch.proposals, batch.sizes)
    scores, _ = detector.head(pooled)
    return label(scene).iou, -scores[0].log_softmax(dim=-1)[:, 0]


# %%
iou, loss = (torch.cat(part) for part in zip(*map(background_loss, exams), strict=True))
iou, loss = iou[iou < 0.5], loss[iou < 0.5]
for low in (0.0, 0.1, 0.2, 0.3, 0.4):
    inside = (iou >= low) & (iou < low + 0.1)
    print(f"IoU from {low}: {inside.sum():5d} boxes, mean loss {loss[inside].mean():.2f}")

# %% jupyter={"source_hidden": true}
from rcnnlib.view.explorers.hard_negatives import HardNegatives, hard_negatives

shares_kept = hard_negatives(0.1, iou=iou, loss=loss)
predict(
    "The bound of 0.1 throws two thirds of these boxes away. What share of the loss stays?",
    ["about a third", "about 60 %", "nearly all"],
    lambda: "about 60 %" if 0.5 < shares_kept["loss kept"] < 0.72 else "nearly all",
    "What is left is harder: nearer to an object, with a higher loss.",
)

# %% rows="L10 explorer"
HardNegatives(iou, loss)

# %% [markdown] tags=["core"]
# The curves start with a drop: many boxes touch no object at all, their IoU is exactly 0.
#
# So the bound is a cheap trick: without asking the network, it drops mostly easy boxes and keeps more than half of the
# loss. But it also drops every hard box far away from an object: a cloud that looks like a sheep.
# (To choose by the loss itself came later: OHEM, see the references.)
#
# Move the bound to 0.4. Few boxes stay, with a much higher mean loss. A head that learned from these alone
# would hardly ever see grass and sky.

# %% [markdown] tags=["core"]
# ## 6 · Many RoIs of few pictures
#
# *core · 11 minutes*
#
# Both R-CNN and Fast R-CNN learn from 128 RoIs a step: 32 positives and 96 backgrounds.
# They differ in **where these come from**.
#
# - **R-CNN** puts the RoIs of all pictures on one heap and draws from the heap.
# - **Fast R-CNN** draws **2 pictures**, then 64 RoIs from each. This is *hierarchical sampling*: first pictures, then RoIs.
#
# We draw one batch of each. The heap is that of 128 scenes. (In our library `SVMHead.sample` is R-CNN's way,
# `RoIHead.sample` Fast R-CNN's.)

# %%
from rcnnlib.models.roi_heads import RoIHead, given_proposals
from rcnnlib.models.svm_head import SVMHead

heap = collate(pictures[:128], seed=0, epoch=1)
proposals = given_proposals(heap.proposals)
rcnn = SVMHead(512, 3, classes=5).sample(proposals.boxes, proposals.valid, heap)

# %%
pair = [one for one in pictures if len(one.boxes) >= 2][:2]
two = collate(pair, seed=0, epoch=1)
proposals = given_proposals(two.proposals)
head = RoIHead(512, 5, 16, background_low=0.1)
fast = head.sample(proposals.boxes, proposals.valid, two, start=0)

# %%
owners = [pictures[place] for place in rcnn.pictures]
rcnn_tiles = [thumbnails(one, box[None]) for one, box in zip(owners, rcnn.boxes, strict=True)]
fast_tiles = [thumbnails(one, boxes) for one, boxes in zip(pair, fast.boxes, strict=True)]
scenes_used = len(rcnn.pictures.unique())

# %% jupyter={"source_hidden": true} rows="L11 predict"
predict(
    "R-CNN's 128 RoIs come from how many of the 128 scenes?",
    ["2", "about 30", "about 80", "all 128"],
    lambda: "about 80" if 60 < scenes_used < 100 else "about 30",
    "Some scenes are drawn several times, some never.",
)

# %% rows="L11 figure, Q4 experiment"
import numpy as np

print("R-CNN:      128 RoIs of", scenes_used, "scenes,", (rcnn.labels > 0).sum().item(), "positive")
fig, ax = figure(460, 242, alt=f"One batch of R-CNN: 128 RoIs of {scenes_used} scenes")
show_tiles(ax, np.concatenate(rcnn_tiles), rcnn.labels)
fig

# %% rows="L11 figure, Q4 experiment"
print("Fast R-CNN: 128 RoIs of", len(pair), "scenes,", (fast.labels > 0).sum().item(), "positive")
fig, ax = figure(460, 242, alt=f"One batch of Fast R-CNN: 128 RoIs of {len(pair)} scenes")
show_tiles(ax, np.concatenate(fast_tiles), fast.labels.flatten())
fig

# %% [markdown] tags=["core"]
# The same number of RoIs, the same mix. But Fast R-CNN's are cut from two scenes: look how alike they are.
#
# **What is gained?** The trunk runs once for each *picture*, and all RoIs of that picture share its feature map
# (lesson 04). The backward pass shares it, too. R-CNN needs the trunk for each crop. SPPnet draws from the heap as well:
# nearly every RoI brings another picture. Training the trunk that way is slow, and SPPnet left it frozen.
#
# **Toy.** A pass of the trunk takes 0.1 s a picture. The head takes 0.001 s a RoI. A step has 64 RoIs from 2 pictures:
# 2 x 0.1 + 64 x 0.001 = 0.264 s.
#
# ### Your turn: `my_epoch_cost`
#
# How many seconds does it take to learn from `total` RoIs, with `rois` in each step, out of `pictures` pictures a step?
# `pictures` is a tensor of several numbers to compare, so the answer is one, too.
#
# <details><summary>Hint 1: one step</summary>
# The trunk runs once for each picture of the step, the head once for each RoI of the step.
# </details>
#
# <details><summary>Hint 2: how many steps</summary>
# <code>total / rois</code>.
# </details>


# %% tags=["exercise"] rows="L11 exercise"
def my_epoch_cost(pictures, rois, total, trunk, head):
    """Return seconds (M,) for each number of pictures (M,) a step."""
    raise NotImplementedError


# %%
check_epoch_cost(my_epoch_cost)

# %% [markdown] tags=["core"]
# **One solution**, collapsed: step by step.


# %% jupyter={"source_hidden": true}
def cost_by_hand(pictures, rois, total, trunk, head):
    """Go through all steps, and in each through its pictures and RoIs."""
    answer = []
    for count in pictures.tolist():
        seconds = 0.0
        for _ in range(total // rois):
            seconds += count * trunk  # once for each picture
            seconds += rois * head  # once for each RoI
        answer.append(seconds)
    return torch.tensor(answer)


# %% [markdown] tags=["core"]
# **The library** multiplies. And the paper's sentence: "when using N = 2 and R = 128, the proposed training scheme is
# roughly 64x faster than sampling one RoI from 128 different images" (Fast R-CNN 2.3). Where do the 64 come from?

# %%
from rcnnlib.checks import epoch_cost

ways = torch.tensor([2.0, 128.0])
slow, quick = (way(ways, 128, 1280, 0.1, 0.001) for way in (cost_by_hand, epoch_cost))
assert torch.allclose(slow, quick, atol=1e-4)
for head_seconds in (0.0, 0.001, 0.01):
    few, many = epoch_cost(ways, 128, 1280, 0.1, head_seconds).tolist()
    print(f"head {head_seconds} s a RoI: {many / few:.1f} times as fast with 2 pictures")

# %% [markdown] tags=["core"]
# 64 = 128 / 2. It counts passes of the trunk only. The more the head costs, the smaller the gain.
#
# **Measure it.** A training step, forward and backward, of the course's Fast R-CNN: 64 RoIs out of 1, 2, 8 and 16 scenes.
# (Timings differ between machines. The cell after it says what must hold on any.)

# %%
from time import perf_counter

model = load_weights("fast_rcnn_scrapbook").model.requires_grad_(True)


def train_step(count, rois):
    """Forward and backward with so many RoIs out of so many pictures; return the seconds."""
    images = torch.stack([one.image for one in pictures[:count]])
    boxes = torch.stack([one.proposals[: rois // count] for one in pictures[:count]])
    start = perf_counter()
    sizes = torch.tensor([[240.0, 320.0]]).expand(count, 2)
    scores, deltas = model.head(model.head.pool(model.trunk(images, sizes), boxes, sizes))
    (scores.sum() + deltas.sum()).backward()
    return perf_counter() - start


# %% tags=["nbval-ignore-output"] reason="timings differ between machines"
train_step(1, 64)  # the first step is slow: memory is fetched
seconds = {count: min(train_step(count, 64) for _ in range(3)) for count in (1, 2, 8, 16)}
for count, measured in seconds.items():
    print(f"N = {count:2d}, {64 // count:2d} RoIs of each: {1000 * measured:6.0f} ms")

# %%
assert seconds[16] > 2 * seconds[1]
print("the same 64 RoIs out of 16 pictures take more than twice as long as out of 1")

# %% [markdown] tags=["core"]
# **Memory.** The backward pass needs what the forward pass computed, so PyTorch keeps it. PyTorch lets us look:
# we add up every tensor that it keeps. (How, is collapsed.)

# %% jupyter={"source_hidden": true}
from torch.autograd.graph import saved_tensors_hooks


def kept_mb(run):
    """Megabytes that are kept for the backward pass of run(), without the weights; and its result."""
    weights, kept = {one.data_ptr() for one in model.parameters()}, {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        result = run()
    return sum(size for place, size in kept.items() if place not in weights) / 1e6, result


# %%
image, size = pictures[0].image[None], torch.tensor([[240.0, 320.0]])
picture_mb, features = kept_mb(lambda: model.trunk(image, size))
boxes = pictures[0].proposals[None, :64]
rois_mb, _ = kept_mb(lambda: model.head(model.head.pool(features, boxes, size)))
print(f"the feature map of a picture: {features.numel() * 4 / 1e6:.1f} MB")
print(f"kept for a picture: {picture_mb:.0f} MB; for 64 RoIs: {rois_mb:.0f} MB")
for count in (1, 2, 8, 16, 64):
    print(f"N = {count:2d}, 64 RoIs in all: {count * picture_mb + rois_mb:5.0f} MB")

# %% [markdown] tags=["core"]
# **What is lost?** RoIs of one picture are alike: the same things, the same light. How alike? Statistics has a number
# for it, the *intraclass correlation*. We call it **likeness** $r$. 0: RoIs of one picture are as different as RoIs of
# different pictures. 1: they are all the same. Then $m$ RoIs of one picture are worth $m / (1 + (m - 1)\,r)$ independent
# ones. Check it: $r = 0$ gives $m$, and $r = 1$ gives 1.
#
# What should be alike? What a RoI teaches: its gradient. For a softmax layer that is *(probability - truth)* times the
# features of the RoI. We measure the layer of section 5 at its **first step**, when every class has probability 1/6.

# %%
from rcnnlib.view.explorers.pictures_and_rois import likeness_of

features, labels = (part.unflatten(0, (-1, 64)) for part in sets["in the mix"])
full = (labels >= 0).all(dim=1)  # scenes that fill their 64 rows
features, truth = features[full], torch.nn.functional.one_hot(labels[full], 6)
likeness = round(likeness_of(1 / 6 - truth, features), 2)
worth = 64 / (1 + 63 * likeness)
print(f"first step: likeness {likeness:.2f}; 64 RoIs of one scene are worth {worth:.1f} independent ones")

# %%
head = train_head(*sets["in the mix"], seed=0)
probability = head(features).softmax(dim=-1).detach()
later = likeness_of(probability - truth, features)
print("after 150 steps it is less than half of that:", later < likeness / 2)

# %% [markdown] tags=["core"]
# So this likeness belongs to the first step, and **it shrinks with training**. Later the RoIs of one picture are worth
# more than that.
#
# **Move.** Left: the RoIs of the batch. Right: what a step costs, and how many independent RoIs a second brings.
# Seconds and megabytes are those that your machine has just measured, the likeness is that of the first step.
# Before you move it, predict.

# %% jupyter={"source_hidden": true} rows="L11 predict"
predict(
    "128 RoIs from 2 or from 128 pictures: which brings more independent RoIs a second?",
    ["2 pictures", "128 pictures", "about equal"],
    lambda: "2 pictures",
    "128 pictures give better RoIs, but each costs a pass of the trunk. Two pictures give many cheap ones.",
)

# %% tags=["nbval-ignore-output"] reason="says seconds that were measured on this machine" rows="L11 explorer"
from rcnnlib.view.explorers.pictures_and_rois import Cost, PicturesAndRois, pictures_and_rois
from rcnnlib.view.explorers.proposal_kinds import best_iou

picture_seconds = (seconds[16] - seconds[1]) / 15
roi_seconds = max(seconds[1] - picture_seconds, 0.001) / 64
cost = Cost(picture_seconds, roi_seconds, picture_mb, rois_mb / 64)
useful = [(one, one.proposals[best_iou(one) >= 0.1]) for one in pictures]
useful.sort(key=lambda two: -len(two[1]))  # the first picture must have 128 of them
PicturesAndRois(*zip(*useful[:128], strict=True), cost, likeness)

# %%
few, many = (pictures_and_rois(count, 128, likeness, cost=cost) for count in (2, 128))
assert few["worth"] < many["worth"]
assert few["worth a second"] > many["worth a second"]
print("2 pictures:", few["trunk passes"], "passes; 128 pictures:", many["trunk passes"], "passes")
print(f"worth {few['worth']:.0f} and {many['worth']:.0f} independent RoIs a step")
print("2 pictures bring more independent RoIs a second")

# %% [markdown] tags=["core"]
# The paper worries about this, too: RoIs of one image are correlated, and that could slow training down. It finds that
# "this concern does not appear to be a practical issue" (2.3).
#
# Set "likeness" to 1. Then all RoIs of a picture are the same. How does the lower curve look, and why?
#
# <details><summary>Answer</summary>
# It no longer falls. A second RoI of the same picture brings nothing then, so N passes of the trunk bring N independent
# RoIs. (How much the curve rises depends on what the head costs on your machine.) With likeness 0 one picture is best.
# The truth lies between, and nearer to 0.
# </details>

# %% [markdown] tags=["extra"]
# ## 7 · Questions, papers, notes
#
# *extra · 7 minutes*
#
# ### Two questions of the student
#
# > **Why is the data set put together like this? Is it given to us like this, or do we have to make it?**
# > «왜 Dataset을 이렇게 구성하는 걸까? Data를 이렇게 준다는 얘기인가? 구하라는 얘기인가?»
#
# We ask the file, then the photo, then the experiment.

# %% rows="Q3 experiment"
from rcnnlib.datasets.coco import load_coco
from rcnnlib.datasets.paths import data_dir

note = load_coco(data_dir() / "wild" / "annotations.json")["annotations"][0]
print("given, for each object: ", ", ".join(sorted(note)))
print("made, for the owl:      ", ", ".join(f"{count} {name}" for name, count in counts.items()))
drawn = {name: int((owl_drawn.labels == code).sum()) for name, code in KINDS.items()}
print("drawn in a mini-batch:  ", f"{drawn['positive']} positive, {drawn['background']} background")

# %% [markdown] tags=["extra"]
# The file gives boxes and classes of objects, nothing else. Labels and mix are **made** while training, anew in every step.
# Blind draws are nearly all background. In section 5 a head found fewer positives that way after 150 steps, though its
# accuracy was about the same. In the longer runs AP50 was no worse without the mix, but fewer right boxes got a score
# of 0.5. The limits are choices, too: the one at 0.1 only drops easy background.
#
# > **답.** 파일에는 물체의 박스만 들어 있고, positive·background·ignored 라벨(경계는 IoU 0.5와 0.1)과 25 : 75 비율은
# > 학습하면서 우리가 직접 만듭니다. 그냥 뽑으면 거의 모두 배경이라 물체를 배울 기회가 적으므로, 물체를 최대 4분의 1까지 일부러 뽑아 넣습니다.
#
# > **In one step, does Fast R-CNN learn from many RoIs of one image?**
# > «Fast R-CNN에서는 학습 한 번을 돌 때, 하나의 이미지에서 RoI 여러 장을 학습한다는 얘기인가?»
#
# (The first half of this question, about 2000 RoIs and R-CNN, is answered in lesson 03.)

# %% rows="Q4 experiment"
fast_owners = torch.tensor([0, 1]).repeat_interleave(64)
for name, owners in (("R-CNN", rcnn.pictures), ("Fast R-CNN", fast_owners)):
    each = owners.bincount()
    each = each[each > 0]
    print(f"{name:>10}: {len(each)} scenes, RoIs from each:", each.unique().tolist())

# %% [markdown] tags=["extra"]
# Yes: 64 RoIs from each of two images. They share one pass of the trunk for each image, forward and backward.
#
# > **답.** 네, Fast R-CNN은 한 스텝에서 이미지 2장을 고르고 이미지마다 RoI 64개씩, 모두 128개를 학습합니다.
# > 같은 이미지의 RoI들은 feature map을 함께 쓰므로, 128장의 이미지에서 하나씩 뽑을 때보다 backbone 계산이 64분의 1로 줄어듭니다.
#
# ### The paper said, we measured
#
# | | the paper | this page |
# |---|---|---|
# | passes of the trunk, N = 2 against 128 (R = 128) | "roughly 64x faster" | 64 times fewer passes; in seconds less, for the head has to run, too |
# | mix | 25 % positive | more positives found after 150 steps, more right boxes above 0.5; AP50 no better |
# | lower bound 0.1 | "a heuristic for hard example mining" | drops most background boxes, keeps more than half of the loss |
# | RoIs of one image are correlated | no practical issue | yes, they are; but 2 pictures still bring more a second |
#
# > **What the notes said.** The lecture notes say that a batch of Fast R-CNN holds the RoIs of *one* image. The paper takes
# > N = 2 images and R = 128 RoIs, 64 from each. (One image a step is the later choice of Faster R-CNN.)
# > The notes also say "IoU > 0.5" and "0.1 < IoU < 0.5". The paper says "at least 0.5" and the interval [0.1, 0.5).

# %% [markdown] tags=["core"]
# ## Summary
#
# - The file gives boxes. Positive, background and ignored are labels that we make, with two limits.
# - A mini-batch: at most a quarter positive, the rest background, both drawn by the smallest noise. Empty rows get -1.
# - A sampler can starve. Count the realised mix, not the wanted one.
# - Noise comes in as an argument, from (seed, epoch, photo). Then order, batch and restart change nothing.
# - The mix brings more objects into each step. It moves the scores more than the order of the boxes.
# - The lower bound of 0.1 drops easy background, and is only a heuristic.
# - Few pictures, many RoIs: the trunk runs N times and not R times. The RoIs are alike, and it pays all the same.
#
# ## Glossary
#
# | English | 한국어 | meaning |
# |---|---|---|
# | mini-batch | 미니배치 | what one training step learns from |
# | sampler | 샘플러 | the code that draws it |
# | positive, background | 양성, 배경 | object, no object |
# | ignored | 무시 | takes no part in the loss |
# | realised mix | 실제 비율 | the mix that a batch really has |
# | noise | 난수 | a random number for each proposal |
# | seed | 시드 | the number from which random numbers are computed |
# | hard negative | 하드 네거티브 (구별하기 어려운 배경) | background that the head takes for an object |
# | recall | 재현율 | the share of the objects (or positives) that is found |
# | hierarchical sampling | 계층적 샘플링 | first draw images, then RoIs of them |
# | intraclass correlation | 급내 상관 | how alike the members of one group are |
#
# ## References
#
# - Girshick: *Fast R-CNN*, 2015, section 2.3, [arXiv 1504.08083](https://arxiv.org/abs/1504.08083)
# - Girshick, Donahue, Darrell, Malik: R-CNN, 2014, section 2.3, [arXiv 1311.2524](https://arxiv.org/abs/1311.2524)
# - Shrivastava, Gupta, Girshick: *Training region-based object detectors with online hard example mining*, 2016,
#   [arXiv 1604.03540](https://arxiv.org/abs/1604.03540)
# - Salmon and others: *Parallel random numbers: as easy as 1, 2, 3*, 2011 (Philox)
#
# The photos are public domain or CC0; `data/wild/CREDITS.csv` names their authors.
# The scenes are made of cut-outs of Tux Paint's stamps (GPL 2 or later); `data/scrapbook/CREDITS.csv` names their authors.
