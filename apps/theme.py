"""The suite's look: own colours on Gradio's base theme, system fonts only, AA contrast in light and dark."""

from __future__ import annotations

from pathlib import Path

from gradio.themes import Base, Color, sizes

CSS_FILE = Path(__file__).with_name("theme.css")
FAVICON = Path(__file__).with_name("favicon.svg")

PINE = Color(
    name="pine",
    c50="#edf8f7",
    c100="#d3efec",
    c200="#a9dfda",
    c300="#76c9c3",
    c400="#45afa9",
    c500="#1c8a86",
    c600="#0f6d6c",
    c700="#0d595a",
    c800="#0e4849",
    c900="#0e3a3c",
    c950="#062325",
)
SLATE = Color(
    name="slate-green",
    c50="#f5f7f7",
    c100="#eaeeee",
    c200="#d9e0e1",
    c300="#bfc9cc",
    c400="#9aa8ad",
    c500="#63727a",
    c600="#4c5a61",
    c700="#38444a",
    c800="#222c31",
    c900="#161e22",
    c950="#0e1417",
)
SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")


class QuartetTheme(Base):
    """Pine accent on cool neutrals; every text and background pair used here reaches 4.5:1."""

    def __init__(self) -> None:
        super().__init__(
            primary_hue=PINE,
            secondary_hue=PINE,
            neutral_hue=SLATE,
            radius_size=sizes.radius_md,
            font=SANS,
            font_mono=MONO,
        )
        self.name = "quartet"
        # Gradio has no dark accent of its own; the light one would sink into a dark background.
        self.color_accent_dark = "*primary_400"
        self._surfaces()
        self._text()
        self._controls()
        self._buttons()

    def _surfaces(self) -> None:
        self.set(
            body_background_fill="*neutral_50",
            body_background_fill_dark="*neutral_950",
            background_fill_primary_dark="*neutral_900",
            background_fill_secondary_dark="*neutral_950",
            block_background_fill="white",
            block_background_fill_dark="*neutral_900",
            block_label_background_fill_dark="*neutral_900",
            block_radius="*radius_md",
            border_color_primary="*neutral_200",
            border_color_primary_dark="*neutral_700",
            panel_background_fill="white",
            panel_background_fill_dark="*neutral_900",
            table_even_background_fill_dark="*neutral_900",
            table_odd_background_fill_dark="*neutral_800",
            color_accent="*primary_600",
            color_accent_soft_dark="*primary_900",
            code_background_fill="*neutral_100",
            code_background_fill_dark="*neutral_800",
        )

    def _text(self) -> None:
        self.set(
            body_text_color="*neutral_900",
            body_text_color_dark="*neutral_100",
            body_text_color_subdued="*neutral_600",
            body_text_color_subdued_dark="*neutral_300",
            block_title_text_color="*neutral_800",
            block_title_text_color_dark="*neutral_100",
            block_title_text_weight="600",
            block_label_text_color="*neutral_700",
            block_label_text_color_dark="*neutral_200",
            link_text_color="*primary_700",
            link_text_color_dark="*primary_300",
            link_text_color_hover="*primary_800",
            link_text_color_hover_dark="*primary_200",
            link_text_color_active="*primary_800",
            link_text_color_active_dark="*primary_200",
            link_text_color_visited="*primary_700",
            link_text_color_visited_dark="*primary_300",
        )

    def _controls(self) -> None:
        self.set(
            input_background_fill="white",
            input_background_fill_dark="*neutral_800",
            input_border_width="1px",
            # 3:1 against the page, so that the edge of a field can be seen (WCAG 1.4.11).
            input_border_color="*neutral_500",
            input_border_color_dark="*neutral_500",
            input_border_color_focus="*primary_600",
            input_border_color_focus_dark="*primary_400",
            input_placeholder_color="*neutral_500",
            input_placeholder_color_dark="*neutral_400",
            checkbox_border_color="*neutral_500",
            checkbox_border_color_dark="*neutral_500",
            checkbox_label_background_fill="white",
            checkbox_label_background_fill_dark="*neutral_800",
            checkbox_label_background_fill_selected="*primary_50",
            checkbox_label_background_fill_selected_dark="*primary_900",
            checkbox_label_border_color_selected="*primary_600",
            checkbox_label_border_color_selected_dark="*primary_400",
            stat_background_fill="*primary_200",
            stat_background_fill_dark="*primary_700",
        )

    def _buttons(self) -> None:
        self.set(
            button_primary_background_fill="*primary_600",
            button_primary_background_fill_dark="*primary_600",
            button_primary_background_fill_hover="*primary_700",
            button_primary_background_fill_hover_dark="*primary_700",
            button_primary_border_color="*primary_600",
            button_primary_border_color_dark="*primary_600",
            button_secondary_background_fill="white",
            button_secondary_background_fill_dark="*neutral_800",
            button_secondary_background_fill_hover="*neutral_100",
            button_secondary_background_fill_hover_dark="*neutral_700",
            button_secondary_border_color="*neutral_500",
            button_secondary_border_color_dark="*neutral_500",
            button_secondary_border_color_hover="*neutral_700",
            button_secondary_border_color_hover_dark="*neutral_300",
            button_secondary_text_color="*neutral_900",
            button_secondary_text_color_dark="*neutral_100",
        )
