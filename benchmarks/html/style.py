"""How the page looks, light and dark, from a phone's width on."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root {
  --paper: #fff; --ink: #1b2129; --quiet: #5a6472; --rule: #dde2e8; --panel: #f5f7f9;
  --right: #157a3a; --wrong: #c02b24; --query: #2059b8; --warn: #8a4b00;
  --line0: #0b62c4; --line1: #c2410c; --line2: #127a45; --line3: #8b2fa0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12161b; --ink: #e6eaef; --quiet: #9ba6b4; --rule: #2d353f; --panel: #1a2027;
    --right: #4cc27a; --wrong: #ff7a70; --query: #79acff; --warn: #f0b35a;
    --line0: #6cb0ff; --line1: #ff9d5c; --line2: #55cf8b; --line3: #d796ea;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 0 16px 32px; max-width: 1040px; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
  overflow-wrap: break-word; -webkit-text-size-adjust: 100%;
}
header { padding-top: 28px; }
h1 { margin: 0 0 4px; font-size: 1.75rem; line-height: 1.2; letter-spacing: -0.01em; }
h2 { margin: 0 0 4px; font-size: 1.25rem; line-height: 1.3; }
p { margin: 0 0 12px; max-width: 72ch; }
header > p { font-size: 1.05rem; color: var(--quiet); }
section { margin-top: 36px; padding-top: 20px; border-top: 1px solid var(--rule); }
.quiet, caption, footer { color: var(--quiet); font-size: 0.875rem; }
.right { color: var(--right); font-weight: 600; }
.wrong { color: var(--wrong); font-weight: 600; }
.warning { padding: 8px 12px; border-left: 4px solid var(--warn); background: var(--panel); }
img { display: block; width: 100%; height: auto; }
figure { margin: 0; }

.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 20px 0 0; }
.facts div { padding: 12px 14px; border-radius: 8px; background: var(--panel); }
.facts dt { color: var(--quiet); font-size: 0.875rem; }
.facts dd { margin: 0; }
.facts strong { display: block; font-size: 1.6rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.facts span { color: var(--quiet); font-size: 0.8125rem; }

table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 6px; }
.scroll { overflow-x: auto; margin-bottom: 12px; }
.scroll th, .scroll td {
  padding: 6px 10px; border-bottom: 1px solid var(--rule); text-align: right; font-size: 0.9375rem;
}
.scroll td, .scroll tbody th { white-space: nowrap; }
.scroll thead th { color: var(--quiet); font-weight: 600; vertical-align: bottom; }
.scroll th:first-child { padding-left: 0; text-align: left; }
.scroll tbody th { font-weight: 600; }

.people { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 14px 28px; }
.people figcaption { color: var(--query); font-size: 0.8125rem; font-weight: 600; }
.people ol { display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 6px; }
.people li { display: flex; flex-direction: column; justify-content: flex-end; }
.people img { border-radius: 4px; }

ol[role="list"] { margin: 0; padding: 0; list-style: none; color: var(--quiet); font-size: 0.75rem; line-height: 1.4; }
.ranking { display: grid; grid-template-columns: 78px 1fr; gap: 4px 20px; margin-top: 18px; }
.ranking ol { display: grid; grid-template-columns: repeat(10, minmax(0, 1fr)); gap: 8px; }
.ranking > p { grid-column: 2; margin: 0; }
.ranking img { border: 3px solid var(--query); border-radius: 4px; }
.ranking .hit img { border-color: var(--right); }
.ranking .miss img { border-color: var(--wrong); border-style: dashed; }
.ranking figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; padding-top: 2px;
  font-size: 0.75rem; line-height: 1.3; color: var(--quiet); font-variant-numeric: tabular-nums; }
.ranking figcaption b { color: var(--query); }

.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 24px; }
.charts figure { max-width: 440px; }
.charts figcaption b { margin-right: 8px; }
.charts svg { display: block; width: 100%; height: auto; overflow: visible; }
.charts text { fill: var(--quiet); font-size: 11px; font-variant-numeric: tabular-nums; }
.grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line :not(polyline, line) { stroke-width: 1.5; fill: var(--paper); }
.line0 { stroke: var(--line0); } .line1 { stroke: var(--line1); }
.line2 { stroke: var(--line2); } .line3 { stroke: var(--line3); }
.legend { display: flex; flex-wrap: wrap; gap: 0 16px; margin: 2px 0 6px; font-size: 0.875rem; }
.legend .sample { display: inline-block; width: 28px; height: 12px; margin-right: 6px; }
summary { cursor: pointer; color: var(--quiet); font-size: 0.875rem; }

pre { margin: 4px 0 14px; padding: 10px 12px; border-radius: 6px; background: var(--panel); overflow-x: auto; }
code { font: 0.875rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.commands { padding-left: 1.4em; }
footer { margin-top: 36px; padding-top: 12px; border-top: 1px solid var(--rule); }

@media (max-width: 1000px) {
  .facts { grid-template-columns: repeat(3, 1fr); }
  .ranking { grid-template-columns: 64px 1fr; column-gap: 14px; }
  .ranking ol { gap: 5px; }
}
@media (max-width: 600px) {
  .facts { grid-template-columns: 1fr 1fr; }
  .facts strong { font-size: 1.3rem; }
  .scroll th, .scroll td { padding: 5px 6px; font-size: 0.8125rem; }
  .ranking { grid-template-columns: 1fr; }
  .ranking .query { display: flex; gap: 10px; }
  .ranking .query img { width: 64px; }
  .ranking .query figcaption { flex-direction: column; justify-content: flex-end; }
  .ranking > p { grid-column: 1; }
  .ranking ol { grid-template-columns: repeat(5, minmax(0, 1fr)); }
}
@media print { section { break-inside: avoid; } }
"""
