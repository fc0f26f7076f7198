import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest

from adapters.practice.ca import PracticeCA


def server_of(ca: PracticeCA, *names: str) -> int:
    """Serve one TLS handshake, and return the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    context = ca.issue(*names).ssl_context()

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def shake_hands(ca_file: Path, port: int, name: str) -> None:
    context = ssl.create_default_context(cafile=ca_file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as raw,
        context.wrap_socket(raw, server_hostname=name),
    ):
        pass


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_a_certificate_is_good_for_every_name_of_the_loopback(tmp_path: Path, name: str) -> None:
    ca = PracticeCA.create(tmp_path)
    shake_hands(ca.ca_file, server_of(ca), name)


def test_a_certificate_is_good_for_no_other_name(tmp_path: Path) -> None:
    ca = PracticeCA.create(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for 'localhost'"):
        shake_hands(ca.ca_file, server_of(ca, "mail.contoso.com"), "localhost")


def test_another_authority_s_certificate_is_not_trusted(tmp_path: Path) -> None:
    ours, theirs = PracticeCA.create(tmp_path / "ours"), PracticeCA.create(tmp_path / "theirs")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(ours.ca_file, server_of(theirs), "localhost")


def test_only_their_owner_can_read_the_key_files(tmp_path: Path) -> None:
    ca = PracticeCA.create(tmp_path / "new")
    issued = [ca.issue(), ca.issue("localhost")]
    assert {stat.S_IMODE(certificate.key_file.stat().st_mode) for certificate in issued} == {0o600}
    assert len({certificate.key_file for certificate in issued}) == 2


def test_the_authority_s_own_key_is_never_written(tmp_path: Path) -> None:
    PracticeCA.create(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["ca.pem"]
