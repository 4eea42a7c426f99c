"""The page's style sheet: one column of cards, light or dark as the reader's system is."""

CSS = """
:root {
  color-scheme: light dark;
  --page: #f5f6f8; --card: #ffffff; --text: #1b2330; --soft: #5b6675; --rule: #dfe3e9; --code: #f0f2f5;
  --good: #0f7b4f; --bad: #b3261e; --mixed: #8a5a00; --open: #40536b;
  --line-0: #8a94a3; --line-1: #2563eb; --line-2: #d9730d; --line-3: #0f8a5f; --line-4: #c2255c;
  --line-5: #7048e8; --line-6: #0c8599; --line-7: #e8590c; --line-8: #5c940d; --line-9: #862e9c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161c; --card: #1b212a; --text: #e6eaf0; --soft: #a3aebd; --rule: #343d4a; --code: #242c37;
    --good: #4cc38a; --bad: #ff8a80; --mixed: #f0b54a; --open: #9fb3cc;
    --line-0: #8b97a8; --line-1: #6ea8fe; --line-2: #ffa94d; --line-3: #51cf9a; --line-4: #f783ac;
    --line-5: #b197fc; --line-6: #3bc9db; --line-7: #ff922b; --line-8: #a9e34b; --line-9: #da77f2;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 56px; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 12px; }
h3 { font-size: 1rem; margin: 18px 0 8px; }
p { margin: 0 0 10px; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
section, .verdict { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 18px 20px; margin: 16px 0; }
.verdict { border-left: 6px solid var(--open); }
.verdict strong { display: block; font-size: 1.15rem; color: var(--open); }
.verdict p:last-child { margin-bottom: 0; }
.verdict.good { border-left-color: var(--good); } .verdict.good strong { color: var(--good); }
.verdict.bad { border-left-color: var(--bad); } .verdict.bad strong { color: var(--bad); }
.verdict.mixed { border-left-color: var(--mixed); } .verdict.mixed strong { color: var(--mixed); }
.grid { display: grid; gap: 18px; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); }
.grid.small { grid-template-columns: repeat(auto-fit, minmax(min(250px, 100%), 1fr)); }
.grid.half { max-width: 460px; margin-top: 12px; }
figure { margin: 0; min-width: 0; }
figcaption b { color: var(--text); }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit !important; }
.tiles { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); margin: 16px 0; }
.tile { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 12px 14px; }
.tile b { display: block; font-size: 1.3rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .95rem; }
th, td { padding: 6px 10px; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { color: var(--soft); font-size: .85rem; }
tbody th { font-weight: 500; }
table.numbers tbody th { min-width: 7.5rem; }
table.numbers th + th, table.numbers td { text-align: right; }
table.numbers td { white-space: nowrap; }
table.numbers thead th { vertical-align: bottom; max-width: 12rem; }
table.words th { width: 15rem; overflow-wrap: anywhere; } table.words td { overflow-wrap: anywhere; }
.key { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 0 0 14px; padding: 0; list-style: none;
  font-size: .9rem; }
.key li { min-width: 0; overflow-wrap: anywhere; }
.key i { display: inline-block; width: 14px; height: 4px; border-radius: 2px; margin-right: 7px;
  vertical-align: middle; }
pre { background: var(--code); border-radius: 8px; padding: 10px 12px; margin: 0; white-space: pre-wrap;
  overflow-wrap: anywhere; font: 13px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { font: .92em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.voices { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(260px, 100%), 1fr)); }
.voices > div { min-width: 0; }
.voices b { font-size: .9rem; color: var(--soft); }
summary { cursor: pointer; font-weight: 600; padding: 4px 0; overflow-wrap: anywhere; }
details + details { margin-top: 6px; }
@media (max-width: 560px) {
  main { padding: 16px 10px 40px; } section, .verdict { padding: 14px 12px; }
  table { font-size: .87rem; } th, td { padding: 5px 7px; } table.words th { width: 8.5rem; }
  table.numbers tbody th { min-width: 6.5rem; }
}
@media print { body { background: none; } section, .verdict, .tile { break-inside: avoid; } }
"""
