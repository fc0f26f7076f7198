"""A QR code as SVG within the page, so no other server learns the address of a sign-in or the key of an app."""

from __future__ import annotations

import segno
from markupsafe import Markup

QUIET_MODULES = 4
"""The light margin that a scanner needs (ISO/IEC 18004)."""


def qr_code(address: str, title: str) -> Markup:
    """An `<svg>` of this address, dark on light whatever the page's colours are; `title` says what it is."""
    svg = segno.make(address, error="m", micro=False).svg_inline(
        border=QUIET_MODULES, omitsize=True, dark="#000", light="#fff", svgclass="qr", title=title
    )
    # Safe: segno draws the address as modules and writes no text of it.
    return Markup(svg)  # noqa: S704
