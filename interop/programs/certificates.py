"""Makes certificates for loopback: an authority, a server and a client, as files of PEM."""

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificates:
    """Paths of what both sides of a TLS connection need."""

    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def make(folder: Path, **server_options) -> Certificates:
    """Makes new ones in `folder`; the options are those of the server's certificate, such as `not_after`."""
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1", **server_options)
    client = authority.issue_cert("client@example.com")
    paths = Certificates(
        *(folder / name for name in ("ca.pem", "server.pem", "server.key", "client.pem", "client.key"))
    )
    authority.cert_pem.write_to_path(str(paths.authority))
    write(server, paths.server, paths.server_key)
    write(client, paths.client, paths.client_key)
    return paths


def write(issued, certificate: Path, key: Path) -> None:
    """Writes a certificate with its chain, and its key."""
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
