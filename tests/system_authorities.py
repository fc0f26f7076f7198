"""The certificate authorities of the system, which vouch for no server of these tests."""

from __future__ import annotations

import ssl


def leave_out_system_authorities() -> None:
    """Let this process have none: reading them takes 30 ms of CPU for each service and relay that starts."""
    none = ssl.get_default_verify_paths()._replace(openssl_cafile="/nowhere", openssl_capath="/nowhere")
    setattr(ssl, "get_default_verify_paths", lambda: none)  # noqa: B010
