"use strict";
// Charts answer to the pointer and to keys: values at a place, and a part of the chart on its own.
// Without this script the page shows the same pictures.
(() => {
  const node = (parent, name, attributes = {}, text = "") => {
    const space = parent.namespaceURI, made = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return parent.appendChild(made);
  };
  const tip = node(document.body, "div", {class: "tip", role: "status", hidden: ""});
  const written = (value, digits = 4) => {
    const size = Math.abs(value), short = +value.toPrecision(Math.min(digits, size < 1e-3 ? 3 : 4));
    return size && (size < 1e-3 || size >= 1e6) ? short.toExponential().replace("e+", "e") : `${short}`;
  };

  class Axis { // from places in the picture to values
    constructor(text) {
      const [from, to, low, high, scale, zero] = text.split(" ");
      Object.assign(this, {from: +from, to: +to, low: +low, high: +high, scale, zero: +zero});
      this.all = [this.low, this.high];
    }
    place(value) {
      return this.from + (value - this.low) / (this.high - this.low) * (this.to - this.from);
    }
    value(place) {
      return this.low + (place - this.from) / (this.to - this.from) * (this.high - this.low);
    }
    text(value, digits) {
      if (this.scale !== "log") return written(value);
      return value <= this.zero + 0.02 ? "0" : written(10 ** value, digits);
    }
    ticks() {
      const raw = (this.high - this.low) / 6, ten = 10 ** Math.floor(Math.log10(raw));
      const step = ten * [1, 2, 5, 10].find((part) => part * ten >= raw), found = [];
      for (let n = Math.ceil(this.low / step); n * step <= this.high; n++) found.push(n * step);
      return found;
    }
  }

  class Chart {
    constructor(svg) {
      this.svg = svg;
      this.box = svg.getAttribute("viewBox");
      if (svg.dataset.x) {
        this.axes = [new Axis(svg.dataset.x), new Axis(svg.dataset.y)];
        const moving = svg.querySelectorAll("path[clip-path], g[clip-path] > use");
        this.moving = [...moving].map((one) => [one, this.points(one)]);
        this.curves = new Map(); // by name: what is drawn last is on top
        for (const title of svg.querySelectorAll("g > title")) {
          const path = title.parentNode.querySelector("path[clip-path]");
          if (!path || this.axes[1].scale === "none") continue;
          this.curves.set(title.textContent, path);
          title.remove(); // what is shown here says more
        }
        this.cursor = node(svg, "g", {class: "cursor"});
      }
      svg.tabIndex = 0;
      const on = (name, act) => svg.addEventListener(name, act.bind(this));
      on("pointerdown", this.press);
      on("pointermove", this.move);
      on("pointerup", this.release);
      on("pointerleave", this.leave);
      on("blur", this.leave);
      on("dblclick", this.reset);
      on("keydown", this.key);
    }
    points(one) {
      if (one.tagName === "use") return [[+one.getAttribute("x"), +one.getAttribute("y")]];
      const pairs = one.getAttribute("d").matchAll(/(-?[\d.e+-]+) (-?[\d.e+-]+)/g);
      return [...pairs].map(([, x, y]) => [+x, +y]);
    }
    on(path, place) { // where a curve is at that place; undefined beside its ends
      let before, after;
      for (const point of this.points(path)) {
        if (point[0] <= place && !(point[0] < before?.[0])) before = point;
        if (point[0] >= place && !(point[0] >= after?.[0])) after = point;
      }
      const one = before ?? after;
      if (!before || !after) return one && Math.abs(one[0] - place) < 4 ? one : undefined;
      const part = after[0] === before[0] ? 0 : (place - before[0]) / (after[0] - before[0]);
      return [place, before[1] + part * (after[1] - before[1])];
    }
    at(event) {
      const point = new DOMPoint(event.clientX, event.clientY);
      return point.matrixTransform(this.svg.getScreenCTM().inverse());
    }
    press(event) {
      if (event.button || event.pointerType === "touch") return;
      event.preventDefault();
      this.svg.focus({preventScroll: true});
      this.start = this.at(event);
      this.svg.setPointerCapture(event.pointerId);
    }
    move(event) {
      const here = this.at(event);
      if (this.start) {
        const [x, y, width, height] = this.chosen(here);
        this.frame ??= node(this.svg, "rect", {class: "chosen"});
        for (const [key, value] of Object.entries({x, y, width, height}))
          this.frame.setAttribute(key, value);
        tip.hidden = true;
      } else if (this.axes) this.show(here.x, event.clientX, event.clientY);
    }
    chosen(here) { // a direction in which nothing is dragged is chosen whole
      const all = this.axes ? this.axes.map((axis) => [axis.from, axis.to].sort((a, b) => a - b))
        : [[0, Infinity], [0, Infinity]];
      const ends = ["x", "y"].map((side, i) => {
        const [a, b] = [this.start[side], here[side]].sort((a, b) => a - b);
        const fixed = this.axes && (b - a < 8 || this.axes[i].scale === "none");
        return fixed ? all[i] : [Math.max(a, all[i][0]), Math.min(b, all[i][1])];
      });
      const [[x, right], [y, bottom]] = ends;
      return [x, y, Math.max(0, right - x), Math.max(0, bottom - y)];
    }
    release(event) {
      const start = this.start, here = this.at(event);
      this.frame?.remove();
      this.frame = undefined;
      if (start && Math.hypot(here.x - start.x, here.y - start.y) >= 8) this.zoom(this.chosen(here));
      this.start = undefined;
    }
    zoom([x, y, width, height]) {
      if (!this.axes) {
        if (width && height) this.svg.setAttribute("viewBox", [x, y, width, height].join(" "));
        return;
      }
      const parts = [[x, x + width], [y + height, y]];
      const ends = this.axes.map((axis, i) => parts[i].map((place) => axis.value(place)));
      if (ends.some(([low, high]) => !(high > low))) return;
      this.axes.forEach((axis, i) => { [axis.low, axis.high] = ends[i]; });
      this.draw();
    }
    reset() {
      this.svg.setAttribute("viewBox", this.box);
      this.axes?.forEach((axis) => { [axis.low, axis.high] = axis.all; });
      if (this.axes) this.draw();
    }
    draw() {
      const [x, y] = this.axes, whole = (axis) => axis.low === axis.all[0] && axis.high === axis.all[1];
      const first = [x, y].map((axis) => Object.assign(new Axis("0 1 0 1 linear"), axis,
        {low: axis.all[0], high: axis.all[1]}));
      const there = (axis, i, place) => axis.place(first[i].value(place)).toFixed(2);
      for (const [one, points] of this.moving) {
        const now = points.map(([a, b]) => [there(x, 0, a), there(y, 1, b)]);
        if (one.tagName === "use") {
          one.setAttribute("x", now[0][0]);
          one.setAttribute("y", now[0][1]);
        } else {
          let n = 0;
          const d = one.getAttribute("d");
          one.setAttribute("d", d.replace(/-?[\d.e+-]+ -?[\d.e+-]+/g, () => now[n++].join(" ")));
        }
      }
      this.own?.remove();
      this.own = node(this.svg, "g", {class: "ticks"});
      [x, y].forEach((axis, i) => {
        const named = i ? "ytick_" : "xtick_", hide = !whole(axis);
        for (const tick of this.svg.querySelectorAll(`g[id*="${named}"]`))
          tick.style.display = hide ? "none" : "";
        if (hide) for (const tick of axis.ticks()) {
          const place = axis.place(tick), where = i ? {x: x.from - 5, y: place + 3, "text-anchor": "end"}
            : {x: place, y: y.from + 14, "text-anchor": "middle"};
          node(this.own, "text", where, axis.text(tick, 2));
          const line = i ? `M${x.from} ${place}H${x.to}` : `M${place} ${y.from}V${y.to}`;
          node(this.own, "path", {d: line});
        }
      });
      this.leave();
    }
    show(place, left, top) {
      const [x, y] = this.axes, lines = [];
      if (place < x.from || place > x.to) return this.leave();
      this.here = place;
      this.cursor.replaceChildren();
      node(this.cursor, "path", {d: `M${place} ${y.from}V${y.to}`});
      tip.replaceChildren();
      node(tip, "b", {}, x.text(x.value(place)));
      for (const [name, path] of y.scale === "none" ? [] : this.curves) {
        const best = this.on(path, place);
        if (!best) continue;
        const colour = getComputedStyle(path).stroke;
        const dot = node(this.cursor, "circle", {cx: best[0], cy: best[1], r: 3});
        dot.style.fill = colour;
        const line = node(tip, "div", {}, `${name ? `${name}: ` : ""}${y.text(y.value(best[1]))}`);
        line.style.borderLeftColor = colour;
      }
      tip.hidden = false;
      const wide = document.documentElement.clientWidth - tip.offsetWidth - 8;
      tip.style.left = `${Math.max(4, Math.min(left + 14, wide)) + scrollX}px`;
      tip.style.top = `${top + 14 + scrollY}px`;
    }
    leave() {
      tip.hidden = true;
      this.cursor?.replaceChildren();
    }
    key(event) {
      if (event.key === "Escape" || event.key === "-") return this.reset();
      if (!this.axes) return;
      const [x, y] = this.axes, step = (x.to - x.from) / 50;
      const here = this.here ?? (x.from + x.to) / 2;
      const goal = {ArrowLeft: here - step, ArrowRight: here + step, Home: x.from, End: x.to}[event.key];
      if (event.key === "+") {
        const half = (x.to - x.from) / 4, from = Math.max(x.from, Math.min(here - half, x.to - 2 * half));
        this.zoom([from, y.to, 2 * half, y.from - y.to]);
      } else if (goal !== undefined) {
        const place = Math.max(x.from, Math.min(goal, x.to)), box = this.svg.getScreenCTM();
        this.show(place, box.a * place + box.e, box.d * y.to + box.f);
      } else return;
      event.preventDefault();
    }
  }

  for (const svg of document.querySelectorAll("figure svg")) {
    if (svg.closest(".frames")) continue;
    const wake = () => { svg.chart ??= new Chart(svg); };
    svg.tabIndex = 0;
    svg.addEventListener("pointerenter", wake, {once: true});
    svg.addEventListener("focus", wake, {once: true});
  }

  // An inference by tick: what a slider says of boxes and arrows, on the first of the drawings.
  for (const figure of document.querySelectorAll("figure[data-frames]")) {
    const {times, boxes, arrows} = JSON.parse(figure.dataset.frames);
    const [first, ...others] = figure.querySelectorAll(".frames > div");
    for (const other of others) other.remove();
    const bar = node(figure, "p", {class: "player"});
    const play = node(bar, "button", {type: "button"}, "Play");
    const slider = node(bar, "input", {type: "range", min: 0, max: times.length - 1, value: 0,
      "aria-label": "simulated time"});
    const caption = first.querySelector("h4");
    const show = () => {
      const n = +slider.value;
      caption.textContent = times[n];
      for (const box of first.querySelectorAll("[data-box]")) {
        const [level, ...lines] = boxes[box.dataset.box][n];
        const frame = box.querySelector("rect"), inner = box.querySelector("rect.level");
        inner.setAttribute("width", frame.getAttribute("width") * level);
        [...box.querySelectorAll("text")].slice(1).forEach((text, i) => {
          text.textContent = lines[i];
        });
      }
      for (const arrow of first.querySelectorAll("[data-arrow]")) {
        const [width, text] = arrows[arrow.dataset.arrow][n];
        if (arrow.tagName === "text") arrow.textContent = text;
        else arrow.querySelector("path").setAttribute("stroke-width", width);
      }
    };
    let timer;
    const stop = () => { clearInterval(timer); timer = undefined; play.textContent = "Play"; };
    play.addEventListener("click", () => {
      if (timer) return stop();
      if (+slider.value === times.length - 1) slider.value = 0;
      play.textContent = "Pause";
      timer = setInterval(() => {
        slider.value = +slider.value + 1;
        show();
        if (+slider.value === times.length - 1) stop();
      }, Math.max(120, Math.min(700, 12000 / times.length)));
    });
    slider.addEventListener("input", () => { stop(); show(); });
    show();
  }
})();
