"""Render endoscopy-like scenes and ask Kvasir-VQA's questions about them.

The scenes are drawings: they prove that a pipeline works, not anything about medicine.
Everything follows from an integer seed. Questions and the form of the answers are those of
Kvasir-VQA (Gautam et al. 2024), spelling included; no picture or row of it is used.

    python -m data.demo.scenes --out data/demo/scenes

writes {train,val,test}.jsonl and the JPEG images {train,val,test}/NNNN.jpg beside them.
"""

import argparse
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = 224  # pixels; everything asked stays visible at 112
JPEG_QUALITY = 76

# No seed serves two purposes: a test scene is never seen before the test.
SEEDS = {
    "train": range(10_000),
    "val": range(10_000, 20_000),
    "test": range(20_000, 30_000),
    "pretrain": range(100_000, 200_000),
}
SPLIT_SCENES = {"train": 600, "val": 80, "test": 160}
QUESTIONS_PER_SCENE = 9

PROCEDURES = ("colonoscopy", "gastroscopy", "capsule endoscopy")
POLYP_COLORS = {
    "brown": (104, 62, 38),
    "pink": (250, 166, 182),
    "red": (176, 22, 34),
    "white": (240, 236, 228),
    "yellow": (234, 202, 70),
}
POLYP_SIZES = ("<5mm", "5-10mm", "11-20mm", ">20mm")
POLYP_RADII = (9, 15, 23, 32)  # pixels, radius of the disc of equal area
PARIS_TYPES = ("paris ip", "paris is", "paris iia")
INSTRUMENTS = ("biopsy forceps", "metal clip", "polyp snare", "tube")
ROWS, COLUMNS = ("upper", "center", "lower"), ("left", "center", "right")

# --------------------------------------------------------------------------------------
# The scene: what there is to see


@dataclass(frozen=True)
class Polyp:
    x: float  # pixels, centre of the head
    y: float
    color: str
    angle: float  # radians, long axis or direction of the stalk


@dataclass(frozen=True)
class Instrument:
    name: str
    tip: tuple[float, float]  # pixels
    angle: float  # radians, from the tip back along the shaft


@dataclass(frozen=True)
class Scene:
    """What there is to see. All polyps of a scene share size class and Paris type."""

    seed: int
    procedure: str
    size: int  # index into POLYP_SIZES
    paris: str
    polyps: tuple[Polyp, ...]
    instruments: tuple[Instrument, ...]
    box: str | None  # "green", "black"
    text: tuple[str, ...]  # overlay lines
    text_xy: tuple[int, int]

    @property
    def colors(self) -> list[str]:
        return sorted({p.color for p in self.polyps})

    @property
    def locations(self) -> list[str]:
        return sorted({cell_name(p.x, p.y) for p in self.polyps})

    @property
    def instrument_names(self) -> list[str]:
        return sorted(i.name for i in self.instruments)

    @property
    def easy(self) -> bool:
        """At least 11 mm, and raised or of a colour that stands out of the mucosa."""
        stands_out = bool(set(self.colors) & {"brown", "white", "yellow"})
        return self.size >= 2 and (self.paris != "paris iia" or stands_out)


def cell_name(x: float, y: float) -> str:
    """Name of the 3x3 grid cell of a pixel: center, upper-left, center-right ..."""
    row, column = ROWS[int(3 * y / SIZE)], COLUMNS[int(3 * x / SIZE)]
    return "center" if row == column == "center" else f"{row}-{column}"


# --------------------------------------------------------------------------------------
# Layout: every object is some discs (x, y, r), so one test keeps all of them apart


def _segment_discs(x, y, angle, length, r):
    t = np.arange(0, length, 8.0)
    return np.stack([x + t * np.cos(angle), y + t * np.sin(angle), np.full_like(t, r)], 1)


def _rectangle_discs(x0, y0, x1, y1):
    grid = np.mgrid[x0 : x1 + 1 : 8, y0 : y1 + 1 : 8].reshape(2, -1).T
    return np.column_stack([grid, np.full(len(grid), 4.0)])


def _polyp_discs(polyp, size, paris):
    r = POLYP_RADII[size]
    if paris == "paris ip":
        (hx, hy, hr), (sx, sy, sr) = _pedunculated(polyp, r)
        return np.array([[hx, hy, hr], [sx, sy, sr]])
    reach = 1.32 * r if paris == "paris iia" else 1.08 * r
    return np.array([[polyp.x, polyp.y, reach]])


def _pedunculated(polyp, r):
    """Head and stalk end as discs; the head shrinks so that both together cover pi r^2."""
    head = 0.88 * r
    dx, dy = np.cos(polyp.angle), np.sin(polyp.angle)
    return (polyp.x, polyp.y, head), (polyp.x + 1.45 * head * dx, polyp.y + 1.45 * head * dy, 0.4 * head)


def _instrument_discs(tool):
    x, y = tool.tip
    if tool.name == "metal clip":
        return _segment_discs(x, y, tool.angle, 30, 11)
    shaft = _segment_discs(x, y, tool.angle, 320, 14 if tool.name == "tube" else 7)
    tip = [[x - 14 * np.cos(tool.angle), y - 14 * np.sin(tool.angle), 20]]
    return shaft if tool.name == "tube" else np.vstack([shaft, tip])


def _apart(discs, others, gap=6.0):
    if not len(others):
        return True
    distance = np.hypot(*(discs[:, None, :2] - others[None, :, :2]).transpose(2, 0, 1))
    return bool((distance > discs[:, None, 2] + others[None, :, 2] + gap).all())


def scope_distance(x, y, procedure):
    """Distance from the optical axis, 1 on the edge of the visible field."""
    u, v = np.abs(np.asarray(x) / SIZE * 2 - 1), np.abs(np.asarray(y) / SIZE * 2 - 1)
    if procedure == "capsule endoscopy":
        return np.hypot(u, v) / 0.99
    return np.maximum(np.maximum(u, v), (u + v) / 1.42)


def _visible(discs, procedure):
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    x = discs[:, :1] + discs[:, 2:] * np.cos(turn)
    y = discs[:, 1:2] + discs[:, 2:] * np.sin(turn)
    return bool((scope_distance(x, y, procedure) < 0.97).all())


def _place_polyps(rng, count, size, paris, procedure, taken):
    """`count` polyps in different grid cells, apart from each other and from `taken`.

    Falls back to fewer polyps where they do not fit.
    """
    palette = rng.choice(list(POLYP_COLORS), 2, replace=False)
    colors = [str(palette[0])] * 3 if rng.random() < 0.6 else [str(palette[i]) for i in (0, 1, 0)]
    for attempt in range(400):
        wanted = max(count - attempt // 100, 0)
        cells = rng.permutation(9)[:wanted]
        polyps, discs = [], taken
        for cell, color in zip(cells, colors):
            x, y = (np.array([cell % 3, cell // 3]) + rng.uniform(0.16, 0.84, 2)) * SIZE / 3
            polyp = Polyp(float(x), float(y), color, float(rng.uniform(0, 2 * np.pi)))
            new = _polyp_discs(polyp, size, paris)
            if not (_visible(new, procedure) and _apart(new, discs)):
                break
            polyps.append(polyp)
            discs = np.vstack([discs, new])
        if len(polyps) == wanted:
            return tuple(polyps), discs
    return (), taken


def _place_instruments(rng, count, procedure, taken):
    tools = []
    for name in rng.permutation(INSTRUMENTS)[:count]:
        for _ in range(80):
            tip = rng.uniform(0.25, 0.75, 2) * SIZE
            tool = Instrument(str(name), (float(tip[0]), float(tip[1])), float(rng.uniform(0, 2 * np.pi)))
            discs = _instrument_discs(tool)
            if _apart(discs, taken) and (name != "metal clip" or _visible(discs, procedure)):
                tools.append(tool)
                taken = np.vstack([taken, discs])
                break
    return tuple(tools)


def _overlay_text(rng):
    clock = "{:02d}:{:02d}:{:02d}".format(*(int(n) for n in rng.integers(0, [24, 60, 60])))
    date = "{:02d}/{:02d}/{}".format(*(int(n) for n in rng.integers([1, 1, 2010], [29, 13, 2020])))
    lines = (date, clock, f"CVP:{rng.integers(1, 9)}")
    x, y = (int(v) for v in rng.choice([[5, 5], [5, 60], [SIZE - 66, 5]]))
    return lines, (x, y)


def sample_scene(seed: int) -> Scene:
    """Draw what there is to see; answers are kept about evenly spread."""
    rng = np.random.default_rng(seed)
    procedure = str(rng.choice(PROCEDURES))
    paris = str(rng.choice(PARIS_TYPES))
    # a stalk of 1 mm cannot be seen, so the smallest polyps have none
    size = int(rng.integers(1 if paris == "paris ip" else 0, 4))
    box = str(rng.choice(["green", "black"])) if rng.random() < 0.5 else None
    text, text_xy = _overlay_text(rng) if rng.random() < 0.5 else ((), (0, 0))
    taken = np.zeros((0, 3))
    if box:
        taken = np.vstack([taken, _rectangle_discs(0, SIZE - 58, 62, SIZE)])
    if text:
        taken = np.vstack([taken, _rectangle_discs(*text_xy, text_xy[0] + 60, text_xy[1] + 38)])
    polyps, taken = _place_polyps(rng, int(rng.choice([0, 1, 2, 3], p=[0.3, 0.26, 0.22, 0.22])), size, paris, procedure, taken)
    tools = _place_instruments(rng, int(rng.choice([0, 1, 2], p=[0.28, 0.36, 0.36])), procedure, taken)
    return Scene(seed, procedure, size, paris, polyps, tools, box, text, text_xy)


# --------------------------------------------------------------------------------------
# Drawing: float canvas (SIZE, SIZE, 3) in 0..255; an object's mask is where it is opaque

YY, XX = np.mgrid[:SIZE, :SIZE].astype(np.float32) + 0.5


def _noise(rng, cells):
    """Smooth noise (SIZE, SIZE), about -1..1, with `cells` bumps along a side."""
    grid = Image.fromarray(rng.uniform(-1, 1, (cells + 2, cells + 2)).astype(np.float32))
    return np.asarray(grid.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _smoothstep(x):
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _paint(canvas, color, alpha):
    """Lay `color` ((3,) or (SIZE, SIZE, 3)) over the canvas, in place."""
    canvas += alpha[..., None] * (np.asarray(color, np.float32) - canvas)


def _colon(rng):
    """Pale pink wall with vessels; ring folds around a dark lumen. -> colour, height, shade"""
    lx, ly = rng.uniform(-0.35, 0.35, 2)
    u, v = XX / SIZE * 2 - 1 - lx, YY / SIZE * 2 - 1 - ly
    rho = np.hypot(u, v) * (1 + 0.16 * _noise(rng, 4))
    # folds lie at equal distances along the bowel, so in perspective at equal steps of log rho
    rings = 0.5 + 0.5 * np.cos(2 * np.pi * (1.5 * np.log(rho + 0.15) + 0.22 * _noise(rng, 3) + rng.random()))
    height = 9 * rings**3 * (0.7 + 0.3 * _noise(rng, 3)) + 2.5 * _noise(rng, 9)
    color = np.full((SIZE, SIZE, 3), (222, 140, 122), np.float32)
    vessels = _smoothstep(1 - np.abs(_noise(rng, 6)) / 0.06) + 0.7 * _smoothstep(1 - np.abs(_noise(rng, 11)) / 0.08)
    _paint(color, (176, 70, 72), 0.4 * np.clip(vessels, 0, 1) * _smoothstep(0.4 + 1.2 * _noise(rng, 5)))
    _paint(color, (236, 166, 136), 0.4 * _smoothstep(0.3 + _noise(rng, 4)))
    return color, height, 0.22 + 0.78 * _smoothstep((rho - 0.02) / 0.5)


def _stomach(rng):
    """Brick red wall with long winding folds (rugae). -> colour, height, shade"""
    theta = rng.uniform(0, np.pi)
    across = (XX * np.cos(theta) + YY * np.sin(theta)) / SIZE
    ridges = 0.5 + 0.5 * np.cos(2 * np.pi * (3.6 * across + 0.42 * _noise(rng, 3) + rng.random()))
    height = 13 * ridges**1.3 + 2 * _noise(rng, 12)
    color = np.full((SIZE, SIZE, 3), (206, 92, 62), np.float32)
    _paint(color, (226, 128, 84), 0.5 * ridges)
    return color, height, 0.66 + 0.34 * ridges


def _small_bowel(rng):
    """Ochre wall with velvety villi, a little fluid and bubbles. -> colour, height, shade"""
    height = 7 * _noise(rng, 4) + 1.3 * _noise(rng, 38)
    color = np.full((SIZE, SIZE, 3), (186, 142, 78), np.float32)
    _paint(color, (142, 128, 62), 0.6 * _smoothstep(_noise(rng, 3) + 0.2))
    for x, y, r in np.column_stack([rng.uniform(20, 204, (6, 2)), rng.uniform(3, 7, 6)]):
        rim = np.clip(1 - np.abs(np.hypot(XX - x, YY - y) - r) / 1.1, 0, 1)
        _paint(color, (214, 196, 140), 0.55 * rim)
    return color, height, 0.8 + 0.2 * _noise(rng, 5)


WALLS = dict(zip(PROCEDURES, (_colon, _stomach, _small_bowel)))


def _draw_wall(rng, procedure):
    color, height, shade = WALLS[procedure](rng)
    gy, gx = np.gradient(height)
    light = 1 + 0.35 * (gx * (SIZE / 2 - XX) + gy * (SIZE / 2 - YY)) / (SIZE / 2) - 0.10 * (gx + gy)
    canvas = color * (shade * np.clip(light, 0.35, 1.5))[..., None]
    # wet glints: small, and only on slopes that face the lamp
    glint = _smoothstep((_noise(rng, 46) - 0.58) / 0.25) * _smoothstep((light - 1.06) / 0.2)
    _paint(canvas, (255, 250, 242), 0.85 * glint)
    return canvas


def _window(x, y, reach):
    """Slices of the canvas that hold everything within `reach` pixels of (x, y)."""
    low, high = np.clip([[y - reach, x - reach], [y + reach + 1, x + reach + 1]], 0, SIZE).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1])


def _draw_polyp(canvas, mask, label, polyp, size, paris, pits):
    r = POLYP_RADII[size]
    window = _window(polyp.x, polyp.y, 2 * r + 8)
    canvas, mask, pits = canvas[window], mask[window], pits[window]
    dx, dy = XX[window] - polyp.x, YY[window] - polyp.y
    along = dx * np.cos(polyp.angle) + dy * np.sin(polyp.angle)
    across = dy * np.cos(polyp.angle) - dx * np.sin(polyp.angle)
    flat = paris == "paris iia"
    a, b = {"paris ip": (0.88 * r, 0.88 * r), "paris is": (r, r), "paris iia": (1.25 * r, 0.8 * r)}[paris]
    theta = np.arctan2(dy, dx) + polyp.angle
    wobble = 1 + (0.08 if flat else 0.045) * (np.cos(3 * theta) + 0.6 * np.cos(5 * theta + 1))
    distance = np.hypot(along / a, across / b) * wobble  # 1 on the rim
    color = np.array(POLYP_COLORS[polyp.color], np.float32)

    lx, ly = (SIZE / 2 - polyp.x) / 190, (SIZE / 2 - polyp.y) / 190 - 0.25  # lamp on the axis, a little above
    shadow = np.exp(-(((np.hypot(dx + 5 * lx, dy + 5 * ly) / r - 1) / 0.22) ** 2))
    _paint(canvas, (60, 18, 14), (0.2 if flat else 0.42) * shadow)
    if paris == "paris ip":
        _draw_stalk(canvas, mask, label, along, across, a, color)
    z = np.sqrt(np.clip(1 - distance**2, 0, 1))
    slope = dx / a * lx + dy / a * ly
    shade = (0.84 + 0.22 * (0.3 * slope + z) if flat else 0.42 + 0.62 * (slope + z)) + 0.06 * pits
    alpha = np.clip((1 - distance) * b + 0.5, 0, 1)
    _paint(canvas, np.clip(color * np.clip(shade, 0.25, 1.12)[..., None], 0, 255), alpha)
    if not flat:
        spot = np.hypot(dx - 0.55 * lx * a, dy - 0.55 * ly * a + 0.12 * a) / (0.17 * a + 0.8)
        _paint(canvas, (255, 252, 246), 0.9 * _smoothstep(1.25 - spot))
    mask[alpha > 0.5] = label


def _draw_stalk(canvas, mask, label, along, across, head, color):
    t = along / head
    half = 0.3 * head * (1 + 1.2 * np.clip(t - 1.25, 0, 1) ** 2) + 0.8  # px, wider towards its foot
    alpha = np.clip(half - np.abs(across) + 0.5, 0, 1) * np.clip((1.95 - t) / 0.3, 0, 1) * (t > 0)
    roundness = np.sqrt(np.clip(1 - (across / half) ** 2, 0, 1))
    _paint(canvas, (0.6 * color + 0.4 * np.array([214, 120, 104])) * (0.42 + 0.5 * roundness)[..., None], alpha)
    mask[alpha > 0.5] = label


def _capsule(canvas, mask, label, start, angle, length, width, color, stripes=0.0, period=7.0, hollow=False):
    """A shaded cylinder of `width` pixels from `start` along `angle`, into mask where opaque."""
    ends = np.array([start, (start[0] + length * np.cos(angle), start[1] + length * np.sin(angle))])
    window = _window(*ends.mean(0), np.ptp(ends, 0).max() / 2 + width + 4)
    canvas, mask, dx, dy = canvas[window], mask[window], XX[window] - start[0], YY[window] - start[1]
    t = dx * np.cos(angle) + dy * np.sin(angle)
    s = dy * np.cos(angle) - dx * np.sin(angle)
    distance = np.hypot(t - np.clip(t, 0, length), s) / (width / 2)
    roundness = np.sqrt(np.clip(1 - (s / (width / 2)) ** 2, 0, 1))
    shade = 0.35 + 0.6 * roundness + 0.35 * np.exp(-(((s / (width / 2) + 0.35) / 0.16) ** 2))
    shade *= 1 - stripes * (np.cos(2 * np.pi * t / period) > 0.55)
    alpha = np.clip((1 - distance) * width / 2 + 0.5, 0, 1)
    contact = np.clip(1.35 - np.hypot(t - np.clip(t, 0, length) - 2, s - 3) / (width / 2), 0, 1)
    _paint(canvas, (40, 14, 12), 0.35 * contact)
    _paint(canvas, np.clip(np.asarray(color, np.float32) * shade[..., None], 0, 255), alpha)
    if hollow:
        opening = np.hypot(t / 0.55, s) / (0.34 * width)
        _paint(canvas, (34, 30, 30), _smoothstep((1.1 - opening) * 4))
    mask[alpha > 0.5] = label


def _draw_tube(canvas, mask, label, tip, angle):
    _capsule(canvas, mask, label, tip, angle, 320, 27, (226, 214, 176), stripes=0.55, period=46, hollow=True)


def _draw_forceps(canvas, mask, label, tip, angle):
    _capsule(canvas, mask, label, tip, angle, 320, 11, (168, 172, 180), stripes=0.4, period=5)
    for side in (-1, 1):
        _capsule(canvas, mask, label, tip, angle + np.pi + side * 0.62, 20, 8, (214, 218, 226))


def _draw_snare(canvas, mask, label, tip, angle):
    _capsule(canvas, mask, label, tip, angle, 320, 12, (54, 104, 206))
    cx, cy = tip[0] - 17 * np.cos(angle), tip[1] - 17 * np.sin(angle)
    t = (XX - cx) * np.cos(angle) + (YY - cy) * np.sin(angle)
    s = (YY - cy) * np.cos(angle) - (XX - cx) * np.sin(angle)
    wire = np.clip(2.6 - np.abs(np.hypot(t, s * 1.35) - 17), 0, 1)
    _paint(canvas, (222, 226, 236), wire)
    mask[wire > 0.5] = label


def _draw_clip(canvas, mask, label, tip, angle):
    for side in (-1, 1):
        _capsule(canvas, mask, label, tip, angle + side * 0.3, 28, 6, (196, 206, 222))
    end = (tip[0] - 4 * np.cos(angle), tip[1] - 4 * np.sin(angle))
    _capsule(canvas, mask, label, end, angle, 10, 11, (232, 178, 62))


DRAW_INSTRUMENT = dict(zip(INSTRUMENTS, (_draw_forceps, _draw_clip, _draw_snare, _draw_tube)))


def _draw_box(canvas, color, rng):
    """ScopeGuide-like picture in the lower left corner, or the black patch that hides it."""
    x0, y0, x1, y1 = 3, SIZE - 56, 58, SIZE - 4
    image = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((x0, y0, x1, y1), fill=(12, 120, 52) if color == "green" else (4, 4, 6), outline=(150, 156, 150), width=2)
    if color == "green":
        t = np.linspace(0, 1, 24)
        x = (x0 + x1) / 2 + 16 * np.sin(2 * np.pi * (t * rng.uniform(0.6, 1.2) + rng.random()))
        draw.line([(float(a), float(b)) for a, b in zip(x, y0 + 6 + t * 40)], fill=(150, 235, 165), width=4)
    canvas[:] = np.asarray(image, np.float32)


def _draw_text(canvas, mask, lines, xy):
    layer = Image.new("L", (SIZE, SIZE))
    draw = ImageDraw.Draw(layer)
    for k, line in enumerate(lines):
        draw.text((xy[0], xy[1] + 12 * k), line, fill=255, font=ImageFont.load_default(12), stroke_width=0)
    ink = np.asarray(layer, np.float32) / 255
    halo = np.asarray(layer.resize((SIZE // 2, SIZE // 2)).resize((SIZE, SIZE)), np.float32) / 255
    _paint(canvas, (16, 14, 18), np.clip(1.2 * halo, 0, 0.75))
    _paint(canvas, (250, 250, 250), np.clip(1.4 * ink, 0, 1))
    mask[ink > 0.5] = True


def render(seed: int) -> tuple[Scene, Image.Image, dict[str, np.ndarray]]:
    """Scene, RGB image (SIZE x SIZE) and masks, each (SIZE, SIZE) uint8, 0 where there is nothing.

    masks: polyp (1 + index into scene.polyps), instrument (1 + index into INSTRUMENTS),
    box (1), text (1), visible (1 inside the scope's field).
    """
    scene = sample_scene(seed)
    rng = np.random.default_rng([seed, 1])
    masks = {name: np.zeros((SIZE, SIZE), np.uint8) for name in ("polyp", "instrument", "box", "text")}
    rho = scope_distance(XX, YY, scene.procedure)
    masks["visible"] = (rho <= 1).astype(np.uint8)

    canvas = _draw_wall(rng, scene.procedure)
    pits = _noise(rng, 40)
    for k, polyp in enumerate(scene.polyps):
        _draw_polyp(canvas, masks["polyp"], k + 1, polyp, scene.size, scene.paris, pits)
    for tool in scene.instruments:
        label = 1 + INSTRUMENTS.index(tool.name)
        DRAW_INSTRUMENT[tool.name](canvas, masks["instrument"], label, tool.tip, tool.angle)
    canvas *= (1.08 - 0.34 * np.hypot(XX / SIZE * 2 - 1, YY / SIZE * 2 - 1) ** 2)[..., None]
    canvas *= np.clip((1 - rho) * SIZE / 3, 0, 1)[..., None]
    masks["instrument"] *= masks["visible"]
    if scene.box:
        _draw_box(canvas, scene.box, rng)
        masks["box"][SIZE - 56 : SIZE - 3, 3:59] = 1
    _draw_text(canvas, masks["text"], scene.text, scene.text_xy)
    return scene, Image.fromarray(canvas.clip(0, 255).astype(np.uint8)), masks


def encode_jpeg(image: Image.Image) -> bytes:
    """The image as it is stored: JPEG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return buffer.getvalue()


# --------------------------------------------------------------------------------------
# Questions and short answers, as in Kvasir-VQA


def _joined(labels) -> str:
    return "; ".join(labels) or "none"


def short_answers(scene: Scene) -> dict[str, str]:
    """Question -> answer, for every question but the multiple choice one."""
    n = len(scene.polyps)
    return {
        "Is there text?": "yes" if scene.text else "no",
        "Is there a green/black box artefact?": "yes" if scene.box else "no",
        "Is this finding easy to detect?": ("yes" if scene.easy else "no") if n else "not relevant",
        "How many polyps are in the image?": str(n),
        "How many instrumnets are in the image?": str(len(scene.instruments)),
        "What is the size of the polyp?": POLYP_SIZES[scene.size] if n else "none",
        "What type of polyp is present?": scene.paris if n else "none",
        "What color is the abnormality? If more than one separate with ;": _joined(scene.colors),
        "Where in the image is the abnormality?": _joined(scene.locations),
        "Are there any instruments in the image? Check all that are present.": _joined(scene.instrument_names),
    }


PROCEDURE_QUESTION = "What type of procedure is the image taken from?"


def procedure_row(scene: Scene, rng: np.random.Generator) -> dict:
    """The multiple choice question: shuffled options; the answer is an option's text or its letter."""
    options = [str(o) for o in rng.permutation(PROCEDURES)]
    letter = "ABC"[options.index(scene.procedure)]
    answer = letter if rng.random() < 0.5 else scene.procedure
    return {"question": PROCEDURE_QUESTION, "answer": answer, "options": options}


def questions(scene: Scene) -> list[dict]:
    """QUESTIONS_PER_SCENE rows {question, answer[, options]} of the pool, the same for a seed."""
    rng = np.random.default_rng([scene.seed, 2])
    pool = [{"question": q, "answer": a} for q, a in short_answers(scene).items()]
    pool.append(procedure_row(scene, rng))
    return [pool[i] for i in sorted(rng.permutation(len(pool))[:QUESTIONS_PER_SCENE])]


def write_split(out: Path, split: str, count: int) -> None:
    """Write `count` scenes as out/split/NNNN.jpg and their rows as out/split.jsonl."""
    (out / split).mkdir(parents=True, exist_ok=True)
    with open(out / f"{split}.jsonl", "w", encoding="utf-8", newline="\n") as f:
        for k, seed in enumerate(SEEDS[split][:count]):
            scene, image, _ = render(seed)
            name = f"{split}/{k:04d}.jpg"
            (out / name).write_bytes(encode_jpeg(image))
            for row in questions(scene):
                f.write(json.dumps({"image": name, **row}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write, e.g. data/demo/scenes")
    for split, count in SPLIT_SCENES.items():
        parser.add_argument(f"--{split}", type=int, default=count, help=f"{split} scenes (default {count})")
    args = parser.parse_args()
    for split in SPLIT_SCENES:
        write_split(args.out, split, getattr(args, split))
        print(f"{args.out / split}.jsonl: {getattr(args, split)} scenes", flush=True)


if __name__ == "__main__":
    main()
