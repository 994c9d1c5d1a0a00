"""What all nine screens have in common: bar, title, counters, buttons, banner; the same in web/hud.js."""

from __future__ import annotations

from .assets import Box, Layout, theme
from .display import LETTER, Painter

BAR = 28
BANNER = "SYSTEM: PRESS QUIT"
ENDINGS = {"won": "VICTORY", "lost": "DEFEAT"}
SCENERY = 2  # the stream of random numbers that scenery is drawn from


def bar(painter: Painter, layout: Layout) -> None:
    """The bar above and the sheet, toolbar or side panel beside the board."""
    tones = theme(layout.platform)
    for x, y, width, height in (Box(0, 0, layout.width, BAR), layout.sheet):
        painter.rect(x, y, width, height, tones["bar"])
        painter.rect(x, y, width, 1, tones["bar_light"])
        painter.rect(x, y + height - 1, width, 1, tones["bar_dark"])
    x, y, width, height = layout.sheet
    if layout.platform == "web":
        painter.rect(x, y, 1, height, tones["bar_dark"])
        painter.rect(x + 1, y, 1, height, tones["bar_light"])
    if layout.platform == "mobile":
        painter.rect(x + width // 2 - 12, y + 3, 24, 2, tones["bar_dark"])


def heading(painter: Painter, layout: Layout, words: tuple[str, str, str], adversarial: bool) -> None:
    """Title, counter at the right, and a hint or, on the adversarial skin, the banner and its button."""
    tones = theme(layout.platform)
    title, counter, hint = words
    painter.text(title, 5, 4, tones["text"])
    painter.text(counter, layout.width - 4 - len(counter) * LETTER, 4, tones["accent"])
    if not adversarial:
        painter.text(hint, 5, 16, tones["dim"])
        return
    x, y, width, height = layout.banner
    painter.rect(x, y, width, height, tones["warn"])
    painter.rect(x + 1, y + 1, width - 2, height - 2, tones["paper"])
    painter.text_at(BANNER, x + width // 2, y + height // 2, tones["warn"])
    button(painter, layout, layout.quit, "QUIT")


def button(painter: Painter, layout: Layout, box: Box, words: str = "", sprite: str = "") -> None:
    """A raised button; on the mobile skin a square one is round."""
    tones = theme(layout.platform)
    x, y = box.centre
    ink = tones["text"] if layout.platform == "desktop" else tones["ink"]
    if layout.platform == "mobile" and box.width == box.height:
        radius = box.width // 2 - 1
        painter.disc(x, y + 1, radius, tones["button_dark"])
        painter.disc(x, y - 1, radius, tones["ink"])
        painter.disc(x, y - 1, radius - 1, tones["button"])
    else:
        painter.bevel(box, tones["button"], tones["button_light"], tones["button_dark"], tones["bar_dark"])
    if sprite and words:
        painter.sprite_at(sprite, "grey", box.x + 11, y)
        painter.text(words, box.x + 21, y - 3, ink)
    elif sprite:
        painter.sprite_at(sprite, "grey", x, y - 1)
    else:
        painter.text_at(words, x, y, ink)


def card(painter: Painter, layout: Layout, box: Box) -> None:
    """A sunken field for what is selected or held."""
    tones = theme(layout.platform)
    painter.bevel(box, tones["card"], tones["bar_dark"], tones["bar_light"], tones["bar_dark"])


def garden(painter: Painter, layout: Layout) -> None:
    """A picture for the side panel of the web skin, which would be bare without."""
    if layout.platform != "web":
        return
    tones, (x, y, width, _) = theme(layout.platform), layout.sheet
    box = Box(x + 6, y + 86, width - 12, 44)
    painter.bevel(box, tones["ground"], tones["bar_dark"], tones["bar_light"], tones["bar_dark"])
    painter.rect(box.x + 2, box.y + 30, box.width - 4, 10, tones["water"])
    painter.rect(box.x + 2, box.y + 29, box.width - 4, 1, tones["shore"])
    for left, top in ((5, 12), (26, 8), (16, 15)):
        painter.sprite("tree", "grey", box.x + left, box.y + top)
    painter.sprite("rock", "grey", box.x + 28, box.y + 30)
    painter.span(box.x + 7, box.y + 34, 6, tones["water_light"])
    painter.span(box.x + 14, box.y + 37, 5, tones["water_light"])


def ending(painter: Painter, layout: Layout, outcome: str) -> None:
    """The sign over the board once the game has ended."""
    if outcome not in ENDINGS:
        return
    tones = theme(layout.platform)
    x, y = Box(*layout.board[:4]).centre
    sign = Box(x - 36, y - 13, 72, 26)
    painter.bevel(sign, tones["paper"], tones["button_light"], tones["button_dark"], tones["ink"])
    painter.text_at(ENDINGS[outcome], x, y, tones["warn"] if outcome == "lost" else tones["ink"])


def frame(painter: Painter, box: Box, colour: int) -> None:
    """Four corners around what is selected."""
    x, y, width, height = box
    for left in (x, x + width - 8):
        painter.rect(left, y, 8, 2, colour)
        painter.rect(left, y + height - 2, 8, 2, colour)
    for top in (y, y + height - 8):
        painter.rect(x, top, 2, 8, colour)
        painter.rect(x + width - 2, top, 2, 8, colour)
