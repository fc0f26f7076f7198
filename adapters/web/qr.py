"""A QR code as a picture within the page: nobody else is asked to draw what stands for a sign-in."""

from __future__ import annotations

import segno
from markupsafe import Markup

from adapters.web.texts import text

QUIET_MODULES = 4
"""The light margin a reader needs (ISO/IEC 18004)."""


def qr_code(address: str) -> Markup:
    """An `<svg>` of this address, dark on light whatever the page's colours are."""
    svg = segno.make(address, error="m", micro=False).svg_inline(
        border=QUIET_MODULES, omitsize=True, dark="#000", light="#fff", svgclass="qr", title=text("attempt.qr")
    )
    # segno writes nothing of the address into the picture but its modules.
    return Markup(svg)  # noqa: S704
