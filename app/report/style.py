"""The look of a page, and numbers for people."""

from __future__ import annotations

from html import escape

import numpy as np

STYLE = """
:root{color-scheme:light dark;--paper:#fbfbfa;--card:#ffffff;--ink:#1b1d22;--muted:#6d727c;--grid:#e7e8ec;--band:#f1f2f5;
--edge:#e3e5ea;--accent:#1f6fd1;--line0:#1f6fd1;--line1:#d9622b;--line2:#2f9e5b;--line3:#8a56c9;--line4:#c43c6b;
--line5:#8a7a2e}
@media (prefers-color-scheme:dark){:root{--paper:#14161a;--card:#1c1f25;--ink:#e8eaee;--muted:#9aa1ad;--grid:#2c3038;
--band:#23272e;--edge:#2c3038;--accent:#6ea8f0;--line0:#6ea8f0;--line1:#f08b58;--line2:#5cc887;--line3:#b48aeb;
--line4:#ec7ba0;--line5:#cdbb63}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;-webkit-font-smoothing:antialiased}
main{max-width:1180px;margin:0 auto;padding:40px 24px 72px}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 6px;letter-spacing:-.015em}
h2{font-size:1.15rem;margin:44px 0 14px;letter-spacing:-.005em}
h3{font-size:.95rem;margin:0 0 8px;font-weight:600}
.lead,.note,figcaption,.unit{color:var(--muted)}
.lead{margin:0;max-width:75ch}.note,figcaption{font-size:.85rem;margin:6px 0 0}
.state{display:inline-block;font-size:.8rem;font-weight:600;padding:1px 9px;border-radius:99px;border:1px solid var(--edge);
vertical-align:middle;margin-left:8px;white-space:nowrap}
.state.done{color:var(--line2)}.state.open{color:var(--line1)}
.numbers{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin:28px 0 0}
.card{background:var(--card);border:1px solid var(--edge);border-radius:12px;padding:14px 16px}
.number b{display:block;white-space:nowrap;font-size:1.4rem;line-height:1.25;font-weight:650;font-variant-numeric:tabular-nums;
letter-spacing:-.01em}
.number b .unit{font-size:.85rem;font-style:normal;font-weight:500}
.number span{font-size:.82rem;color:var(--muted);display:block}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:16px}
.three{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:16px}
.many{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px}
figure{margin:0}.plot,.slice{width:100%;height:auto;display:block}
.slice{max-height:620px}.plot *{stroke-linejoin:round;stroke-linecap:butt}
.key{display:flex;flex-wrap:wrap;gap:6px 18px;font-size:.88rem;margin:12px 0 0}
.key i{display:inline-block;width:12px;height:12px;border-radius:50%;margin-right:6px;vertical-align:-1px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:6px 14px 6px 0;border-bottom:1px solid var(--edge);vertical-align:top}
th{font-weight:600;color:var(--muted);font-size:.82rem}
td.n,th.n{text-align:right}tr:last-child td{border-bottom:0}
.bar{display:flex;height:26px;border-radius:7px;overflow:hidden;margin:0 0 14px}
.bar i{display:block;min-width:1px}
.dot{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:8px}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:5px 18px;margin:0;font-size:.9rem}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
details{margin-top:14px}summary{cursor:pointer;font-weight:600;font-size:.95rem}
pre{background:var(--band);border-radius:10px;padding:14px 16px;overflow:auto;font:13px/1.45 ui-monospace,SFMono-Regular,
Menlo,Consolas,monospace;max-height:520px}
code{font:.88em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
@media print{body{background:#fff}.card{break-inside:avoid}details{display:none}}
"""


def number(value, digits=4) -> str:
    """A number for people: significant digits, thin spaces between thousands, powers of ten for very large ones."""
    if value is None or not np.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e7 or size < 1e-4:
        power = int(np.floor(np.log10(size)))
        return f"{value / 10.0**power:.{max(digits - 2, 1)}f} × 10<sup>{power}</sup>".replace("-", "−")
    places = max(0, digits - 1 - int(np.floor(np.log10(size))))
    text = f"{value:,.{places}f}" if size >= 1e4 else f"{value:.{places}f}"
    return text.replace(",", "\u2009").replace("-", "−")


def seconds(value) -> str:
    if value < 120:
        return f"{number(value, 3)} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def tile_row(tiles) -> str:
    """Numbers in boxes beside one another; tiles: (value, unit, what it is)."""
    boxes = "".join(
        f'<div class="card number"><b>{value} <i class="unit">{unit}</i></b><span>{what}</span></div>'
        for value, unit, what in tiles
    )
    return f'<div class="numbers">{boxes}</div>'


def cards(figures) -> str:
    """Figures with their titles and captions; figures: (title, SVG, caption)."""
    return "".join(
        f'<figure class="card"><h3>{escape(title)}</h3>{svg}'
        + (f"<figcaption>{escape(caption)}</figcaption>" if caption else "")
        + "</figure>"
        for title, svg, caption in figures
    )


def table(head, rows) -> str:
    """A table; a column whose heading begins with '>' is set flush right. Cells are HTML."""
    right = [name.startswith(">") for name in head]
    names = "".join(f'<th class="n">{h[1:]}</th>' if r else f"<th>{h}</th>" for h, r in zip(head, right))
    lines = "".join(
        "<tr>" + "".join(f'<td class="n">{c}</td>' if r else f"<td>{c}</td>" for c, r in zip(row, right)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{names}</tr>{lines}</table></div>'


def document(title, body) -> str:
    """The whole page; body: a list of its parts."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )
