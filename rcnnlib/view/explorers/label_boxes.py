"""Draw boxes around the objects of your own photos, in the notebook, and keep them in a COCO file (lesson 16).

`Work` is what has been labelled so far: `read_work` takes it from a file, `to_coco` writes it back. Whatever the file
holds that cannot be shown here (other photos, crowds, unreadable boxes, further fields) is kept as it is.
Leaves out: outlines, and undoing (a deleted box is drawn anew).

Shapes: N boxes on the photo, ``(x1, y1, x2, y2)`` in its pixels
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ipywidgets
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from rcnnlib.datasets.coco import load_coco
from rcnnlib.datasets.transforms import read_image
from rcnnlib.datasets.voc import SUFFIXES
from rcnnlib.view.canvas import Canvas
from rcnnlib.view.explorers.base import Explorer, Line, choice, slider, switch

SHARE = 0.3  # of the photo's shorter side: a new box
LISTED = 8  # boxes under the photo; more are counted
OWN_FIELDS = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")  # of an annotation


class Labelled(NamedTuple):
    """One box and its class; ``more`` are further fields of its annotation."""

    box: tuple[float, ...]
    name: str
    more: dict[str, Any]


class Work(NamedTuple):
    """All that has been labelled: boxes by file name, photos that hold nothing, and the rest of the file as it was."""

    boxes: dict[str, list[Labelled]]
    empty: set[str]
    rest: dict[str, Any]


def read_work(file: Path, names: Sequence[str]) -> Work:
    """Return what ``file`` says about the photos called ``names``; without a file, nothing yet.

    Raises:
        ValueError: there is such a file, but it is no COCO file, so it must not be written over.
    """
    rest = load_coco(file) if file.is_file() else {"images": [], "annotations": [], "categories": []}
    work = Work({name: [] for name in names}, set(), rest)
    photos, classes = (
        {entry.get("id"): entry.get(key) for entry in rest[kind]}
        for kind, key in (("images", "file_name"), ("categories", "name"))
    )
    work.empty.update(name for name in photos.values() if name in work.boxes)
    kept = []
    for note in rest["annotations"]:
        photo, name = photos.get(note.get("image_id")), classes.get(note.get("category_id"))
        box = note.get("bbox")
        if photo in work.boxes and name and _is_box(box) and not note.get("iscrowd"):
            more = {key: value for key, value in note.items() if key not in OWN_FIELDS}
            x, y, width, height = box
            work.boxes[photo].append(Labelled((x, y, x + width, y + height), str(name), more))
            work.empty.discard(photo)
        else:
            kept.append(note)
    return work._replace(rest=rest | {"annotations": kept})


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(isinstance(n, int | float) and math.isfinite(n) for n in box)


def to_coco(work: Work, sizes: Mapping[str, tuple[int, int]], class_names: Sequence[str]) -> dict[str, Any]:
    """Return a COCO file of ``work``; ``sizes`` are width and height. Ids that the file had are kept."""
    categories = _extend(work.rest["categories"], "name", class_names)
    category_ids = {category["name"]: category["id"] for category in categories}
    done = [name for name in sizes if work.boxes[name] or name in work.empty]
    others = {note.get("image_id") for note in work.rest["annotations"]}
    dropped = {name for name in sizes if name not in done}  # unless a kept annotation stands on it
    images = [one for one in work.rest["images"] if one.get("file_name") not in dropped or one.get("id") in others]
    images = _extend(images, "file_name", done)
    for image in images:
        if image.get("file_name") in done:
            image["width"], image["height"] = sizes[image["file_name"]]
    ids = {image.get("file_name"): image.get("id") for image in images}
    annotations = list(work.rest["annotations"])
    number = max((note["id"] for note in annotations if isinstance(note.get("id"), int)), default=0)
    for photo in done:
        for (x1, y1, x2, y2), name, more in work.boxes[photo]:
            number += 1
            bbox = [round(float(edge), 2) for edge in (x1, y1, x2 - x1, y2 - y1)]
            own = {"id": number, "image_id": ids[photo], "category_id": category_ids[name], "bbox": bbox}
            annotations.append(own | {"area": round(bbox[2] * bbox[3], 2), "iscrowd": 0} | more)
    return work.rest | {"images": images, "annotations": annotations, "categories": categories}


def _extend(entries: Sequence[dict[str, Any]], key: str, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Return copies of the entries and, with ids after theirs, new ones for what is missing."""
    found = [dict(entry) for entry in entries]
    known = {entry.get(key) for entry in found}
    top = max((entry["id"] for entry in found if isinstance(entry.get("id"), int)), default=0)
    for number, name in enumerate((name for name in wanted if name not in known), start=top + 1):
        found.append({"id": number, key: name})
    return found


def label_boxes(
    photo: int, name: str, empty: bool, boxes: Float[Tensor, "N 4"], selected: int, *, names: Sequence[str], work: Work
) -> dict[str, Any]:
    """Return what is on a photo, and how much of the folder is done; ``name`` is the class of the selected box."""
    rows = []
    for number, (box, one) in enumerate(zip(boxes.tolist(), work.boxes[names[photo]], strict=True)):
        x1, y1, x2, y2 = (round(edge) for edge in box)
        rows.append(f"{number} {one.name}: x {x1}, y {y1}, {x2 - x1} wide, {y2 - y1} high")
    done = [one for one in names if work.boxes[one] or one in work.empty]
    return {
        "photo": names[photo],
        "boxes": len(rows),
        "selected": selected if 0 <= selected < len(rows) else "none",
        "class": name,
        "rows": rows,
        "for the file": f"{len(done)} of {len(names)} photos, {sum(len(work.boxes[one]) for one in names)} boxes"
        + (", this one holds nothing" if empty else ""),
    }


def read_photos(folder: Path) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """Return width and height of each photo of a folder by its name, and what is to be said of those unreadable."""
    sizes, problems = {}, []
    for path in sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES):
        try:
            height, width = read_image(path).shape[-2:]  # decoded, or a photo cut short would be met on its page
            sizes[path.name] = (width, height)
        except ValueError:
            problems.append(f"{path.name} cannot be read and is left out")
    return sizes, problems


class LabelBoxes(Explorer):
    """A photo whose boxes can be added, moved, named and deleted, with a list of them below it."""

    from_canvas = ("boxes", "selected")

    def __init__(
        self,
        folder: str | Path,
        file: str | Path,
        class_names: Sequence[str],
        *,
        suggested: Mapping[str, Sequence[tuple[Sequence[float], str]]] | None = None,
    ) -> None:
        """Label the photos of ``folder``; go on with ``file`` if there is one.

        ``suggested`` are boxes and classes to start from, by file name, for photos of which ``file`` says nothing.

        Raises:
            FileNotFoundError: the folder holds no photo that can be read.
            ValueError: ``file`` exists and is no COCO file.
        """
        self.folder, self.file, self.shown, self.picked, self.saved = Path(folder), Path(file), -1, -1, {}
        self.sizes, problems = read_photos(self.folder)
        if not self.sizes:
            raise FileNotFoundError(f"no photo in {folder}: put .jpg or .png files there, or give another folder")
        self.names = list(self.sizes)
        self.work = read_work(self.file, self.names)
        for name, rows in (suggested or {}).items():
            if name in self.sizes and not self.work.boxes[name] and name not in self.work.empty:
                self.work.boxes[name] += [Labelled(tuple(map(float, box)), label, {}) for box, label in rows]
        more = [str(category.get("name")) for category in self.work.rest["categories"]]
        more += [label for rows in (suggested or {}).values() for _, label in rows]
        self.class_names = list(dict.fromkeys([*class_names, *more]))
        self.compute = partial(label_boxes, names=self.names, work=self.work)
        self.message = Line(value="; ".join(problems))
        controls = {
            "photo": slider("photo", 0, 0, max(1, len(self.names) - 1), 1, slow=True),
            "name": choice("class", self.class_names),
            "empty": switch("nothing to label on this photo"),
        }
        canvas = Canvas(self._image(0), alt="", display_width=520)
        super().__init__(controls, canvas=canvas, title="Label boxes")
        self.children = [*self.children[:3], self._buttons(), *self.children[3:], self.message]

    def _buttons(self) -> ipywidgets.HBox:
        """Return the three buttons in a row; ``self.buttons`` has them by name."""
        self.buttons = {}
        for name, act in (("Add a box", self.add), ("Delete this box", self.delete), ("Save", self.save)):
            self.buttons[name] = ipywidgets.Button(description=name)
            self.buttons[name].on_click(lambda _button, act=act: act())
        self.buttons["Save"].button_style = "primary"
        return ipywidgets.HBox(list(self.buttons.values()), layout=ipywidgets.Layout(margin="0 0 4px 130px"))

    def _image(self, photo: int) -> UInt8[Tensor, "H W 3"]:
        """Read a photo, grey if it has gone since."""
        try:
            image = read_image(self.folder / self.names[photo])
        except (FileNotFoundError, ValueError):
            self.message.value = f"{self.names[photo]} cannot be read any more"
            image = torch.full((3, *reversed(self.sizes[self.names[photo]])), 0.5)
        return (image * 255).round().byte().permute(1, 2, 0)

    @property
    def rows(self) -> list[Labelled]:
        """The boxes of the photo shown."""
        return self.work.boxes[self.names[self.shown]]

    def update(self) -> None:
        """Turn to another photo or take over what was done to this one; then show it."""
        held, self._held = self._held, True  # what these two change is no new question
        photo = self.controls["photo"].value = min(self.controls["photo"].value, len(self.names) - 1)
        if photo != self.shown:
            self._turn_to(photo)
        else:
            self._take_over()
        self._held = held
        super().update()

    def _turn_to(self, photo: int) -> None:
        self.shown = photo
        self.controls["empty"].value = self.names[photo] in self.work.empty
        self.canvas.show(self._image(photo))
        self.canvas.alt = f"Photo {self.names[photo]} with boxes to draw"
        self._show_rows(0 if self.rows else -1)

    def _show_rows(self, selected: int) -> None:
        """Bring the boxes of the photo to the canvas and pick one of them."""
        held, self._held = self._held, True  # else the old class would be given to the box that is picked now
        boxes = [one.box for one in self.rows]
        self.canvas.clicked = None
        self.canvas.show(None, boxes, kinds="ground_truth", editable=range(len(boxes)))
        self.canvas.selected = self.picked = selected
        if selected >= 0:
            self.controls["name"].value = self.rows[selected].name
        self._held = held

    def _take_over(self) -> None:
        """Keep what the learner did: boxes moved, another one picked, another class, nothing to label."""
        rows, name = self.rows, self.controls["name"]
        for place, box in enumerate(self.canvas.boxes.tolist()[: len(rows)]):
            if max(abs(a - b) for a, b in zip(box, rows[place].box, strict=True)) > 1e-3:
                more = {key: value for key, value in rows[place].more.items() if key != "segmentation"}
                rows[place] = Labelled(tuple(box), rows[place].name, more)
        selected = self.canvas.selected if self.canvas.selected < len(rows) else -1
        if selected != self.picked and selected >= 0:
            name.value = rows[selected].name
        elif selected >= 0:
            rows[selected] = rows[selected]._replace(name=name.value)
        self.picked = selected
        self.controls["empty"].value &= not rows
        (self.work.empty.add if self.controls["empty"].value else self.work.empty.discard)(self.names[self.shown])

    def add(self) -> None:
        """Add a box of the chosen class where the learner has clicked, else in the middle, and pick it."""
        width, height = self.sizes[self.names[self.shown]]
        x, y = self.canvas.clicked or (width / 2, height / 2)
        half = SHARE / 2 * min(width, height)
        x, y = min(max(x, half), width - half), min(max(y, half), height - half)
        self.rows.append(Labelled((x - half, y - half, x + half, y + half), self.controls["name"].value, {}))
        self._show_rows(len(self.rows) - 1)
        self.update()

    def delete(self) -> None:
        """Delete the selected box; without one say so."""
        if self.picked < 0:
            self.message.value = "Click a box first: the selected one is deleted."
            return
        del self.rows[self.picked]
        self._show_rows(min(self.picked, len(self.rows) - 1))
        self.update()

    def save(self) -> None:
        """Write the file, all or nothing; a failure is said, and the boxes stay on the page."""
        content = to_coco(self.work, self.sizes, self.class_names)
        beside = self.file.with_name(self.file.name + ".part")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
            beside.replace(self.file)
        except OSError as error:
            self.message.value = f"NOT saved ({error.strerror}). Your boxes are still here: mend it and press Save."
            return
        self.saved, self.message.value = content, f"saved {self.file.name}: {self.numbers['for the file']}"

    def draw(self, numbers: dict[str, Any]) -> None:
        """Write number and class on each box; "saved" goes when it is no longer so."""
        self.canvas.labels = [f"{number} {one.name}" for number, one in enumerate(self.rows)]
        if self.saved and self.saved != to_coco(self.work, self.sizes, self.class_names):
            self.message.value, self.saved = "", {}  # what it says about the file no longer holds

    def tell(self, numbers: dict[str, Any]) -> str:
        """Say the counts in one line, then one line a box."""
        counts = super().tell({key: value for key, value in numbers.items() if key != "rows"})
        return "\n".join([counts, *numbers["rows"][:LISTED]])
