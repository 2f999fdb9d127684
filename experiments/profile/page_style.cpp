#include "experiments/profile/page_style.h"

namespace surtsey::experiments {

const std::string_view kProfileStyle = R"css(
main { max-width: 1480px; }
.charts { margin-top: 16px; }
.wide { grid-column: 1 / -1; }
.strip { overflow-x: auto; }
.slice, .leaf { fill: var(--k); stroke: var(--card); stroke-width: .6; }
.leaf { fill-opacity: .8; } .slice:hover, .leaf:hover { stroke: var(--ink); stroke-width: 1.4; }
.frame { fill: none; stroke: var(--card); stroke-width: 2.5; pointer-events: none; }
.in { fill: #fff; font-size: 11px; pointer-events: none; }
.group { fill: var(--ink); font-size: 12px; font-weight: 600; }
.memory { fill: var(--s2); fill-opacity: .55; }
.phase { display: inline-block; width: 9px; height: 9px; border-radius: 2px; margin-right: 6px;
  background: var(--k); }
.bar { display: block; height: 3px; background: var(--k); border-radius: 2px; margin: 3px 0 0 auto; }
#kernels td small { max-width: 330px; overflow: hidden; text-overflow: ellipsis; }
#kernels { scroll-margin-top: 12px; }
#kernels td:first-child { position: sticky; left: 0; background: var(--card); z-index: 1; }
#kernels th:first-child { left: 0; z-index: 2; }
#kernels tbody tr:hover td, #kernels tr.open td { background: var(--head); }
th button { all: unset; cursor: pointer; } th button:focus-visible { outline: 2px solid var(--link); }
th[aria-sort=ascending] button::after { content: " ▲"; }
th[aria-sort=descending] button::after { content: " ▼"; }
.filters input { font: inherit; color: inherit; background: var(--card); padding: 4px 8px;
  border: 1px solid var(--rule); border-radius: 6px; width: 280px; }
.mark-slow { color: var(--fail); font-weight: 700; } .mark-fast { color: var(--pass); }
.columns { display: grid; gap: 16px; margin-top: 16px; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
#detail { position: fixed; inset: 0 0 0 auto; width: min(1280px, 92vw); background: var(--card);
  border-left: 1px solid var(--rule); box-shadow: 0 0 40px rgb(0 0 0 / .3); z-index: 10;
  display: flex; flex-direction: column; }
#detail[hidden] { display: none; }
#detail header { padding: 14px 18px 0; } #detail h2 { margin: 0; font-size: 17px; overflow-wrap: anywhere; }
#detail .facts { margin: 6px 0 10px; }
#detail nav { display: flex; gap: 4px; padding: 0 18px; border-bottom: 1px solid var(--rule); }
#detail nav button, #detail .close { font: inherit; color: var(--soft); background: none; border: 0;
  padding: 7px 12px; cursor: pointer; border-bottom: 2px solid transparent; }
#detail nav button[aria-selected=true] { color: var(--ink); border-bottom-color: var(--link); }
#detail .close { float: right; font-size: 15px; }
#detail .body { flex: 1; min-height: 0; overflow: auto; }
.pair { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1.15fr); height: 100%; }
.code { overflow: auto; margin: 0; padding: 6px 0; font: 12px/1.5 ui-monospace, "SF Mono", Menlo,
  "DejaVu Sans Mono", monospace; }
.pair .code + .code { border-left: 1px solid var(--rule); }
.code div { white-space: pre; padding: 0 12px 0 0; }
.code div > b { display: inline-block; width: 48px; padding-right: 10px; text-align: right;
  color: var(--soft); font-weight: 400; user-select: none; }
.code .linked > b { color: var(--link); cursor: pointer; }
.code .lit { background: var(--open-back); }
.code i { font-style: normal; color: var(--link); cursor: pointer; }
@media (max-width: 900px) { .pair { grid-template-columns: 1fr; height: auto; } }
)css";

const std::string_view kProfileScript = R"js(
(() => {
  const kernels = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("kernels");
  const rows = [...table.tBodies[0].rows];
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // ---- sorting: a button in every head ----
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = make("button", {type: "button"}, ...head.childNodes);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
      const numeric = rows.every((row) => row.cells[column].dataset.v !== undefined);
      const order = (a, b) =>
        numeric ? value(a) - value(b) : String(value(a)).localeCompare(String(value(b)));
      rows.sort((a, b) => (down ? order(b, a) : order(a, b)));
      table.tBodies[0].append(...rows);
    });
    head.append(button);
  });

  // ---- filters ----
  const words = make("input", {type: "search", placeholder: "kernel, scope, op, source line"});
  words.setAttribute("aria-label", "filter");
  const phase = make("select", {}, new Option("every phase", ""));
  phase.setAttribute("aria-label", "phase");
  for (const name of new Set(kernels.map((kernel) => kernel.phase))) phase.append(new Option(name, name));
  const count = make("span");
  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const kernel = kernels[row.dataset.kernel];
      const match = wanted.every((word) => kernel.words.includes(word));
      row.hidden = !match || (phase.value && kernel.phase !== phase.value);
      shown += !row.hidden;
    }
    count.textContent = shown + " of " + rows.length + " kernels";
  };
  words.addEventListener("input", filter);
  phase.addEventListener("change", filter);
  table.closest(".scroll").before(make("div", {className: "filters"}, words, phase, count));

  // ---- code with lines; `line` fills each ----
  const code = (text, line) => {
    const box = make("div", {className: "code"});
    text.replace(/\n$/, "").split("\n").forEach((content, index) => {
      const number = make("b", {textContent: index + 1});
      const element = make("div", {}, number);
      line(element, content, number, index);
      box.append(element);
    });
    return box;
  };
  const light = (box, elements, scroll) => {
    for (const old of box.querySelectorAll(".lit")) old.classList.remove("lit");
    for (const element of elements) element.classList.add("lit");
    if (scroll && elements.length) elements[0].scrollIntoView({block: "center"});
  };

  // GLSL beside SPIR-V: OpLine ties them, a click on a line number shows its other half; a click on
  // an id shows where it is defined.
  const sources = (kernel) => {
    const spirvOf = new Map(), glsl = [], definition = new Map();
    let from = 0;
    const pair = make("div", {className: "pair"});
    const right = code(kernel.spirv, (element, content, number) => {
      const line = /^\s*OpLine %\w+ (\d+)/.exec(content);
      if (line) from = Number(line[1]);
      if (/^\s*(OpNoLine|OpFunctionEnd)/.test(content)) from = 0;
      if (from) {
        element.className = "linked";
        const own = from;
        spirvOf.set(own, [...(spirvOf.get(own) ?? []), element]);
        number.title = "GLSL line " + own;
        number.addEventListener("click", () => {
          light(left, glsl[own] ? [glsl[own]] : [], true);
          light(right, [element], false);
        });
      }
      for (const piece of content.split(/(%\w+)/)) {
        if (!piece.startsWith("%")) {
          element.append(piece);
          continue;
        }
        const id = make("i", {textContent: piece});
        id.addEventListener("click", () => {
          const target = definition.get(piece);
          if (target) light(right, [target], true);
        });
        element.append(id);
      }
      const defined = /^\s*(%\w+) = /.exec(content);
      if (defined) definition.set(defined[1], element);
    });
    let depth = 0;
    const left = code(kernel.glsl, (element, content, number, index) => {
      const opens = content.split("{").length, closes = content.split("}").length;
      element.append("  ".repeat(Math.max(0, content.startsWith("}") ? depth - 1 : depth)) + content);
      depth += opens - closes;
      glsl[index + 1] = element;
      const other = spirvOf.get(index + 1);
      if (!other) return;
      element.className = "linked";
      number.title = other.length + " lines of SPIR-V";
      number.addEventListener("click", () => {
        light(right, other, true);
        light(left, [element], false);
      });
    });
    pair.append(left, right);
    return pair;
  };
  const grid = (heads, lines) => {
    const head = make("tr", {}, ...heads.map((text) => make("th", {className: "text", textContent: text})));
    const body = lines.map((line) =>
      make("tr", {}, ...line.map((text) => make("td", {className: "text wrap", textContent: text}))));
    return make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  };

  // ---- a kernel ----
  const detail = document.getElementById("detail");
  const show = (index) => {
    const kernel = kernels[index];
    const views = {
      "GLSL and SPIR-V": () => sources(kernel),
      "Graph nodes": () => grid(["node", "how", "scope", "source", "phase"], kernel.nodes),
      "Calls": () => grid(["dispatch", "scope"], kernel.calls),
    };
    for (const text of kernel.texts) views[text.name] = () => code(text.text, (e, line) => e.append(line));
    if (kernel.driver.length) views["Driver"] = () => grid(["statistic", "value", "meaning"], kernel.driver);
    const body = make("div", {className: "body"});
    const tabs = make("nav");
    for (const [name, view] of Object.entries(views)) {
      const tab = make("button", {type: "button", textContent: name});
      tab.addEventListener("click", () => {
        for (const other of tabs.children) other.setAttribute("aria-selected", other === tab);
        body.replaceChildren(view());
      });
      tabs.append(tab);
    }
    const close = make("button", {type: "button", className: "close", textContent: "close ✕"});
    close.addEventListener("click", leave);
    const facts = make("ul", {className: "facts"});
    for (const [name, value] of kernel.facts) facts.append(make("li", {}, name + " ", make("b", {}, value)));
    detail.replaceChildren(
      make("header", {}, close, make("h2", {textContent: kernel.name}), facts), tabs, body);
    detail.hidden = false;
    for (const row of rows) row.classList.toggle("open", row.dataset.kernel === String(index));
    tabs.firstChild.click();
    // The function rather than what a module declares before it.
    for (const line of detail.querySelectorAll(".pair .code:last-child div")) {
      if (!line.textContent.includes("= OpFunction ")) continue;
      line.scrollIntoView({block: "start"});
      break;
    }
  };
  const leave = () => {
    detail.hidden = true;
    for (const row of rows) row.classList.remove("open");
    history.replaceState(null, "", location.pathname + location.search);
  };
  const follow = () => {
    const hash = decodeURIComponent(location.hash);
    const kernel = /^#kernel-(\d+)$/.exec(hash);
    if (kernel && kernels[kernel[1]]) show(Number(kernel[1]));
    const scope = /^#scope-(.+)$/.exec(hash);
    if (!scope) return;
    words.value = scope[1];
    filter();
    table.scrollIntoView();
    history.replaceState(null, "", location.pathname + location.search);
  };
  for (const row of rows) {
    row.addEventListener("click", () => (location.hash = "kernel-" + row.dataset.kernel));
  }
  addEventListener("hashchange", follow);
  addEventListener("keydown", (event) => event.key === "Escape" && leave());
  filter();
  follow();
})();
)js";

}  // namespace surtsey::experiments
