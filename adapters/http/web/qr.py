"""A QR code as SVG within the page, so no other server learns what is in it."""

from __future__ import annotations

import segno
from markupsafe import Markup

QUIET_MODULES = 4
"""The light margin that a scanner needs (ISO/IEC 18004)."""


def qr_code(content: str, title: str) -> Markup:
    """An `<svg>` of this content, dark on light whatever the page's colours are."""
    svg = segno.make(content, error="m", micro=False).svg_inline(
        border=QUIET_MODULES, omitsize=True, dark="#000", light="#fff", svgclass="qr", title=title
    )
    # Safe: segno draws the content as modules and writes no text of it.
    return Markup(svg)  # noqa: S704
