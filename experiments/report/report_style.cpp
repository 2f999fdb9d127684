#include "experiments/report/report_style.h"

namespace surtsey::experiments {

const std::string_view kReportStyle = R"css(
:root {
  color-scheme: light dark;
  --page: #f6f7f8; --card: #ffffff; --ink: #16202b; --soft: #5a6672; --rule: #dfe3e8;
  --grid: #eceff2; --head: #f1f4f6; --link: #1d5fb0;
  --pass: #14733f; --pass-back: #dff3e6; --fail: #b3261e; --fail-back: #fbe4e2;
  --open: #80570a; --open-back: #fbf0d4;
  --c0: #1f6fd0; --c1: #d4581c; --c2: #0c8f78; --c3: #8350c4; --c4: #bf3671; --c5: #787a18;
  --s0: #b9cfe9; --s1: #93b7e2; --s2: #6d9eda; --s3: #4785cf; --s4: #286bb9; --s5: #194f8e;
  --s6: #0d3362;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #10151b; --card: #181f27; --ink: #e6ebf0; --soft: #9aa6b2; --rule: #2c3641;
    --grid: #232c36; --head: #1f2831; --link: #82b4f2;
    --pass: #6fd497; --pass-back: #173524; --fail: #ff9c94; --fail-back: #46201e;
    --open: #f0c566; --open-back: #3d3013;
    --c0: #62a4f5; --c1: #f48b57; --c2: #3fc7ab; --c3: #b58df0; --c4: #ef7aa9; --c5: #c5c455;
    --s0: #2c4767; --s1: #365d8c; --s2: #4274b0; --s3: #568dcd; --s4: #78a8e0; --s5: #a0c4ee;
    --s6: #cfe2f9;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -.01em; }
h2 { font-size: 19px; margin: 40px 0 12px; }
h3 { font-size: 15px; margin: 0; }
p { margin: 0 0 8px; max-width: 78ch; }
a { color: var(--link); }
.question { font-size: 17px; color: var(--soft); margin-bottom: 14px; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0; padding: 0; list-style: none;
  color: var(--soft); font-size: 13px; }
.facts b { color: var(--ink); font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 14px;
  margin: 22px 0 0; }
.tile, .chart, .claim, .note, .study { background: var(--card); border: 1px solid var(--rule);
  border-radius: 10px; }
.tile { padding: 14px 16px; border-top: 3px solid var(--rule); }
.tile.c0 { border-top-color: var(--c0); } .tile.c1 { border-top-color: var(--c1); }
.tile.c2 { border-top-color: var(--c2); } .tile.c3 { border-top-color: var(--c3); }
.tile strong { display: block; font-size: 28px; line-height: 1.2; font-weight: 650;
  font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; display: block; }
.claims { display: grid; gap: 10px; padding: 0; margin: 0; list-style: none; }
.claim { display: grid; grid-template-columns: 136px 1fr; gap: 4px 16px; padding: 14px 16px; }
.claim p { margin: 0; } .claim .evidence { color: var(--soft); font-size: 14px; }
.badge { justify-self: start; align-self: start; font-size: 12px; font-weight: 700;
  letter-spacing: .04em; padding: 3px 10px; border-radius: 20px; white-space: nowrap; }
.badge.pass { color: var(--pass); background: var(--pass-back); }
.badge.fail { color: var(--fail); background: var(--fail-back); }
.badge.inconclusive { color: var(--open); background: var(--open-back); }
.demonstration .badge { background: none; outline: 1px dashed currentColor; outline-offset: -1px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr));
  gap: 16px; }
.chart { margin: 0; padding: 14px 16px 8px; display: flex; flex-direction: column; }
.chart figcaption p { color: var(--soft); font-size: 13px; margin: 2px 0 4px; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 6px 0 4px; padding: 0;
  list-style: none; font-size: 13px; }
.legend svg { margin-right: 6px; vertical-align: middle; }
.plot { width: 100%; height: auto; display: block; margin-top: auto; }
.grid { stroke: var(--grid); } .axis, .notch { stroke: var(--rule); }
.tick { fill: var(--soft); font-size: 12px; } .name { fill: var(--soft); font-size: 12.5px; }
.reference { stroke: var(--soft); stroke-dasharray: 2 4; }
.line { fill: none; stroke: var(--k); stroke-width: 2; stroke-linejoin: round; }
.dashed { stroke-dasharray: 6 4; }
.band { fill: var(--k); opacity: .16; }
.live { margin-top: auto; position: relative; } .live .u-over { overflow: visible; }
.tip { position: absolute; transform: translate(12px, -50%); background: var(--card); z-index: 2;
  color: var(--ink); border: 1px solid var(--rule); border-radius: 6px; padding: 6px 10px;
  font-size: 12.5px; line-height: 1.4; white-space: pre; pointer-events: none;
  box-shadow: 0 2px 8px rgb(0 0 0 / .15); }
.tip.flip { transform: translate(calc(-100% - 12px), -50%); } .tip[hidden] { display: none; }
th.sorts { cursor: pointer; } th[aria-sort="ascending"]::after { content: " ↑"; }
th[aria-sort="descending"]::after { content: " ↓"; }
.switch { cursor: pointer; user-select: none; } .switch.off { opacity: .4; }
.dot { fill: var(--k); stroke: var(--card); stroke-width: 1.5; }
.faint { fill: none; stroke: var(--k); stroke-width: 1.3; opacity: .5; }
.whisker { fill: none; stroke: var(--k); stroke-width: 1.4; opacity: .75; }
.hit { fill: transparent; }
.mark:hover .dot { stroke: var(--ink); }
.c0 { --k: var(--c0); } .c1 { --k: var(--c1); } .c2 { --k: var(--c2); } .c3 { --k: var(--c3); }
.c4 { --k: var(--c4); } .c5 { --k: var(--c5); }
.s0 { --k: var(--s0); } .s1 { --k: var(--s1); } .s2 { --k: var(--s2); } .s3 { --k: var(--s3); }
.s4 { --k: var(--s4); } .s5 { --k: var(--s5); } .s6 { --k: var(--s6); }
.grid-table { margin-top: 16px; } .grid-table h3 { font-size: 17px; }
.grid-table .scroll { border: 0; border-radius: 0; margin-bottom: 8px; }
.grid-table th, .grid-table td { white-space: normal; padding: 6px 8px; vertical-align: middle; }
.grid-table td.text { font-weight: 600; min-width: 84px; } th.across { text-align: center; }
td.way { background: color-mix(in srgb, var(--k) 22%, var(--card)); text-align: center; }
.legend .way span { display: inline-block; width: 12px; height: 12px; margin-right: 6px;
  border-radius: 3px; background: color-mix(in srgb, var(--k) 45%, var(--card)); }
.scroll { overflow: auto; background: var(--card); border: 1px solid var(--rule);
  border-radius: 10px; }
.scroll.tall { max-height: 560px; }
table { border-collapse: collapse; width: 100%; font-size: 13px;
  font-variant-numeric: tabular-nums; }
th, td { padding: 7px 12px; text-align: right; white-space: nowrap; vertical-align: top;
  border-bottom: 1px solid var(--rule); }
tr:last-child td { border-bottom: 0; }
th { background: var(--head); color: var(--soft); font-weight: 600; position: sticky; top: 0;
  z-index: 1; }
th.text, td.text { text-align: left; }
td small { display: block; color: var(--soft); font-size: 12px; }
td.wrap { white-space: normal; } td.chosen { font-weight: 700; } tr.dim td { color: var(--soft); }
.mono { font-family: ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace;
  font-size: 12.5px; }
.right { color: var(--pass); } .wrong { color: var(--fail); }
.note { padding: 12px 16px; margin: 14px 0; border-left: 4px solid var(--rule); }
.note.bad { border-left-color: var(--fail); } .note p:last-child { margin: 0; }
.caveats { padding-left: 20px; margin: 0; max-width: 90ch; } .caveats li { margin-bottom: 6px; }
.filters { display: flex; flex-wrap: wrap; gap: 12px; margin: 0 0 10px; font-size: 13px;
  align-items: center; }
.filters select { font: inherit; color: inherit; background: var(--card); padding: 4px 8px;
  border: 1px solid var(--rule); border-radius: 6px; }
.study { padding: 18px 20px; margin-bottom: 18px; display: grid; gap: 8px 24px;
  grid-template-columns: minmax(0, 1fr) minmax(0, 1.1fr); }
.study .chart { border: 0; padding: 0; align-self: start; } .study h2 { margin: 0; }
.study .claims { margin-top: 10px; } .study .claim { border: 0; padding: 0; }
header .facts { margin-bottom: 16px; }
footer { margin-top: 48px; color: var(--soft); font-size: 13px; }
@media (max-width: 720px) { .study, .claim { grid-template-columns: 1fr; } }
@media print { .filters { display: none; } .scroll.tall { max-height: none; } }
)css";

}  // namespace surtsey::experiments
