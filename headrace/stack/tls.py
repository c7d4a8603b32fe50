"""A self-signed certificate for the embedded broker, made with Java's own keytool."""

import asyncio
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from headrace.stack.errors import KafkaStartError
from headrace.stack.ports import LOOPBACK

# A development certificate that outlives the data directory it lies in.
VALID_DAYS = 3650
KEYTOOL_DEADLINE_S = 30.0


@dataclass(frozen=True)
class Certificate:
    """The broker's key store with its password, and the certificate that clients trust (PEM)."""

    keystore: Path
    password: str
    certificate: Path


async def ensure_certificate(keytool: Path, folder: Path) -> Certificate:
    """The certificate in this folder, made when it is not there; for `127.0.0.1` and `localhost`."""
    keystore, password_file, certificate = folder / "broker.p12", folder / "broker.password", folder / "broker.pem"
    # Exported last, so its presence means that all three are complete.
    if _prepare(certificate, keystore, password_file):
        store = ["-keystore", str(keystore), "-storetype", "PKCS12", "-storepass:file", str(password_file)]
        subject = ["-dname", "CN=localhost", "-ext", f"san=ip:{LOOPBACK},dns:localhost", "-validity", str(VALID_DAYS)]
        await _run(
            keytool, "-genkeypair", "-alias", "broker", "-keyalg", "EC", "-groupname", "secp256r1", *subject, *store
        )
        await _run(keytool, "-exportcert", "-rfc", "-alias", "broker", "-file", str(certificate), *store)
    return Certificate(keystore, password_file.read_text(), certificate)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _prepare(certificate: Path, keystore: Path, password_file: Path) -> bool:
    if certificate.exists():
        return False
    certificate.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    keystore.unlink(missing_ok=True)
    write_private(password_file, secrets.token_hex(16))
    return True


async def _run(keytool: Path, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        keytool,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), KEYTOOL_DEADLINE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise KafkaStartError(f"keytool {arguments[0]} failed: {output.decode(errors='replace').strip()}")
