// A picture with boxes that can be dragged, resized, nudged and picked (see canvas.py, which says what the traits mean).
// Everything is redrawn here at once; the kernel hears of it once per animation frame.

const HANDLE = 9; // CSS pixels, side of a handle
const REACH = { mouse: 8, pen: 10, touch: 18 }; // how far from an edge still counts as on it
const SETTLE = 400; // milliseconds until the kernel may move a box that the learner has just moved
const CURSORS = { nw: "nwse-resize", se: "nwse-resize", ne: "nesw-resize", sw: "nesw-resize",
                  n: "ns-resize", s: "ns-resize", w: "ew-resize", e: "ew-resize", move: "move" };

const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));

// Black or white, whichever can be read on a colour (relative luminance of WCAG 2).
function readableOn(colour) {
  const [r, g, b] = [1, 3, 5].map((i) => ((parseInt(colour.slice(i, i + 2), 16) / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000000" : "#ffffff";
}

function readBoxes(model) {
  const bytes = model.get("boxes");
  const flat = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  return Array.from({ length: flat.length / 4 }, (_, i) => Array.from(flat.subarray(4 * i, 4 * i + 4)));
}

// The edge or corner of a box that lies under the pointer, "move" for its inside, "" for neither.
function gripAt([x1, y1, x2, y2], x, y, reach) {
  if (x < x1 - reach || x > x2 + reach || y < y1 - reach || y > y2 + reach) return "";
  const nearer = (a, b, v) => (Math.abs(v - a) <= Math.abs(v - b) ? -1 : 1);
  const inner = (size) => Math.min(reach, size / 4); // a small box keeps an inside to drag it by
  const onLeft = x < x1 + inner(x2 - x1), onRight = x > x2 - inner(x2 - x1);
  const onTop = y < y1 + inner(y2 - y1), onBottom = y > y2 - inner(y2 - y1);
  const vertical = onTop || onBottom ? (nearer(y1, y2, y) < 0 ? "n" : "s") : "";
  const horizontal = onLeft || onRight ? (nearer(x1, x2, x) < 0 ? "w" : "e") : "";
  return vertical + horizontal || "move";
}

// A box moved or resized by (dx, dy), kept inside the picture and not smaller than `least`.
function changed([x1, y1, x2, y2], grip, dx, dy, width, height, least) {
  if (grip === "move") {
    dx = clamp(dx, -x1, width - x2);
    dy = clamp(dy, -y1, height - y2);
    return [x1 + dx, y1 + dy, x2 + dx, y2 + dy];
  }
  if (grip.includes("w")) x1 = clamp(x1 + dx, 0, x2 - least);
  if (grip.includes("e")) x2 = clamp(x2 + dx, x1 + least, width);
  if (grip.includes("n")) y1 = clamp(y1 + dy, 0, y2 - least);
  if (grip.includes("s")) y2 = clamp(y2 + dy, y1 + least, height);
  return [x1, y1, x2, y2];
}

function render({ model, el }) {
  const canvas = document.createElement("canvas");
  canvas.className = "rcnn-canvas";
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.dataset.lmSuppressShortcuts = "true"; // arrow keys are ours here, not JupyterLab's
  el.append(canvas);
  const context = canvas.getContext("2d");
  let boxes = readBoxes(model), picture = null, drag = null, pending = 0, settling = 0, hover = -1;

  const width = () => model.get("width"), height = () => model.get("height");
  const scale = () => canvas.clientWidth / width() || 1; // CSS pixels for a pixel of the picture
  const isEditable = (i) => model.get("editable").includes(i);

  function draw() {
    const ratio = window.devicePixelRatio || 1, zoom = scale();
    const wide = Math.round(width() * zoom * ratio), high = Math.round(height() * zoom * ratio);
    if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (picture) context.drawImage(picture, 0, 0, width() * zoom, height() * zoom);
    const marked = model.get("selected");
    for (const movable of [false, true]) { // those that can be moved lie on top, the selected one above all
      boxes.forEach((_, i) => i !== marked && isEditable(i) === movable && drawBox(i, zoom, false));
    }
    if (boxes[marked]) drawBox(marked, zoom, true);
  }

  function drawBox(i, zoom, isSelected) {
    const style = model.get("styles")[model.get("kinds")[i]];
    const [x1, y1, x2, y2] = boxes[i].map((v) => v * zoom);
    const grow = isSelected && !isEditable(i) ? 1.5 : 0;
    const stroke = (colour, lineWidth, dash) => {
      context.setLineDash(dash);
      Object.assign(context, { strokeStyle: colour, lineWidth });
      context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    };
    if (isSelected) {
      context.fillStyle = style.colour + "2a";
      context.fillRect(x1, y1, x2 - x1, y2 - y1);
    }
    stroke(style.name === "note" ? "#00000080" : "#ffffff80", style.width + grow + 2, []);
    stroke(style.colour, style.width + grow, style.dash);
    context.setLineDash([]);
    if (isEditable(i)) {
      const half = HANDLE / 2 + (isSelected || hover === i ? 1.5 : 0);
      for (const x of [x1, x2]) for (const y of [y1, y2]) {
        Object.assign(context, { fillStyle: "#ffffff", strokeStyle: "#000000", lineWidth: 1.5 });
        context.fillRect(x - half, y - half, 2 * half, 2 * half);
        context.strokeRect(x - half, y - half, 2 * half, 2 * half);
      }
    }
    const text = model.get("labels")[i];
    if (text) {
      context.font = "13px system-ui, sans-serif";
      const long = context.measureText(text).width + 8, offset = isEditable(i) ? 7 : 2;
      const left = clamp(x1, 0, canvas.clientWidth - long);
      const top = y1 - 18 - offset >= 0 ? y1 - 18 - offset : y1 + offset;
      context.fillStyle = style.colour;
      context.fillRect(left, top, long, 18);
      context.fillStyle = readableOn(style.colour);
      context.fillText(text, left + 4, top + 13.5);
    }
  }

  // Boxes from the kernel. While the learner moves one, its answers are late: they may move all boxes but that one.
  function receive() {
    const next = readBoxes(model), busy = drag || settling;
    const held = (i) => i < next.length && i < boxes.length;
    if (busy) for (const i of model.get("editable")) if (held(i)) next[i] = boxes[i];
    boxes = next;
    draw();
  }

  // Draw now, tell the kernel at the next frame, listen to it again when the learner has paused.
  function tell() {
    draw();
    clearTimeout(settling);
    settling = setTimeout(() => { settling = 0; receive(); }, SETTLE);
    pending ||= requestAnimationFrame(() => {
      pending = 0;
      model.set("boxes", new DataView(new Float32Array(boxes.flat()).buffer));
      model.save_changes();
    });
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / scale(), (event.clientY - box.top) / scale()];
  }

  // The editable box under the pointer with its grip: the selected one first, then those on top.
  function find(event) {
    const [x, y] = place(event), reach = (REACH[event.pointerType] || 8) / scale();
    const order = [model.get("selected"), ...[...model.get("editable")].reverse()];
    const found = order.filter((i) => isEditable(i) && boxes[i]).map((i) => [i, gripAt(boxes[i], x, y, reach)]);
    // A handle counts before the inside of any box.
    return found.find(([, grip]) => grip && grip !== "move") || found.find(([, grip]) => grip) || [-1, ""];
  }

  // The smallest box that holds the point, which is the one that people mean.
  function smallestAt([x, y]) {
    const area = (i) => (boxes[i][2] - boxes[i][0]) * (boxes[i][3] - boxes[i][1]);
    const inside = ([x1, y1, x2, y2]) => x >= x1 && x <= x2 && y >= y1 && y <= y2;
    const held = boxes.map((_, i) => i).filter((i) => inside(boxes[i]));
    return held.sort((a, b) => area(a) - area(b))[0] ?? -1;
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    const [index, grip] = find(event);
    drag = { index, grip, from: place(event), box: boxes[index], moved: false };
    if (index >= 0) model.set("selected", index);
    draw();
  });

  canvas.addEventListener("pointermove", (event) => {
    if (!drag) {
      const [index, grip] = find(event);
      canvas.style.cursor = CURSORS[grip] || (smallestAt(place(event)) >= 0 ? "pointer" : "crosshair");
      if (hover !== index) { hover = index; draw(); }
      return;
    }
    const [x, y] = place(event), dx = x - drag.from[0], dy = y - drag.from[1];
    if (!drag.moved && Math.hypot(dx, dy) * scale() < 3) return; // a click trembles
    drag.moved = true;
    if (drag.index < 0) return;
    boxes[drag.index] = changed(drag.box, drag.grip, dx, dy, width(), height(), model.get("min_size"));
    tell();
  });

  function release(event) {
    if (!drag) return;
    if (!drag.moved && event.type === "pointerup") {
      const point = place(event);
      model.set("clicked", [clamp(point[0], 0, width()), clamp(point[1], 0, height())]);
      if (drag.index < 0) model.set("selected", smallestAt(point));
    }
    drag = null;
    tell();
  }
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => { hover = -1; draw(); });

  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const editable = model.get("editable"), selected = model.get("selected");
    if (event.key === "Enter" && boxes.length) {
      model.set("selected", (selected + 1) % boxes.length); // the next box, without a mouse
    } else if (step && editable.length) {
      const index = isEditable(selected) ? selected : editable[0];
      const grip = event.shiftKey ? "se" : "move", far = event.altKey ? 10 : 1;
      model.set("selected", index);
      boxes[index] = changed(boxes[index], grip, far * step[0], far * step[1], width(), height(), model.get("min_size"));
    } else return;
    event.preventDefault();
    event.stopPropagation();
    tell();
  });

  const describe = () => canvas.setAttribute("aria-label", model.get("alt") + (model.get("editable").length
    ? ". Arrow keys move the selected box, Shift and arrows resize it, Enter goes to the next box." : ""));
  const resize = () => Object.assign(canvas.style, { // the layout of the widget says how wide
    aspectRatio: `${width()} / ${height()}`, touchAction: model.get("editable").length ? "none" : "auto" });
  async function load() {
    const bytes = model.get("picture");
    const next = await createImageBitmap(new Blob([bytes], { type: model.get("mime") }));
    if (bytes === model.get("picture")) picture = next; // the old one stays until the new one is ready: no flicker
    resize();
    draw();
  }
  model.on("change:boxes", receive);
  model.on("change:picture", load);
  model.on("change:kinds change:labels change:editable change:selected", () => { resize(); describe(); receive(); });
  const observer = new ResizeObserver(draw);
  observer.observe(canvas);
  resize();
  describe();
  load();
  return () => { observer.disconnect(); clearTimeout(settling); };
}

export default { render };
