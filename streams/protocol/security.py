"""TLS and SASL of a worker's own connections, by the same settings as librdkafka's."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scramp import ScramClient
from scramp.core import ScramException

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_TLS = (
    "ssl.ca.location", "ssl.ca.pem", "ssl.certificate.location", "ssl.key.location", "ssl.key.password",
    "ssl.endpoint.identification.algorithm",
)  # fmt: skip


class UnsupportedSecurity(ValueError):
    """A setting asks for what a worker does not speak; the text names it and what it does speak."""


@dataclass(frozen=True, slots=True)
class Security:
    """How connections are secured: ``tls`` unless they are not encrypted, ``mechanism`` unless nobody signs in."""

    tls: ssl.SSLContext | None = None
    mechanism: str = ""
    username: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, kafka: Mapping[str, str]) -> "Security":
        """Return what librdkafka's settings say. Raises :class:`UnsupportedSecurity`, and ``OSError`` for files that
        cannot be read.
        """
        protocol = kafka.get("security.protocol", "PLAINTEXT").upper()
        if protocol not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
            raise UnsupportedSecurity(
                f"security.protocol is {protocol}: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
            )
        tls = _tls(kafka) if protocol.endswith("SSL") else None
        if not protocol.startswith("SASL"):
            return cls(tls)
        mechanism = (kafka.get("sasl.mechanism") or kafka.get("sasl.mechanisms") or "GSSAPI").upper()
        if mechanism not in MECHANISMS:
            raise UnsupportedSecurity(
                f"sasl.mechanism is {mechanism}: a worker signs in by {', '.join(MECHANISMS)}"
            )
        return cls(tls, mechanism, kafka.get("sasl.username", ""), kafka.get("sasl.password", ""))

    def sign_in(self, exchange: Callable[[bytes], bytes]) -> None:
        """Prove who we are; ``exchange`` sends bytes to the broker and returns its answer. Raises ``PermissionError`` when the
        broker does not know the password either (SCRAM, RFC 5802).
        """
        if self.mechanism == "PLAIN":
            exchange(f"\0{self.username}\0{self.password}".encode())
            return
        client = ScramClient([self.mechanism], self.username, self.password)
        try:
            client.set_server_first(exchange(client.get_client_first().encode()).decode())
            client.set_server_final(exchange(client.get_client_final().encode()).decode())
        except ScramException as error:
            raise PermissionError(f"the broker cannot be trusted: {error}") from error


def _tls(kafka: Mapping[str, str]) -> ssl.SSLContext:
    if strangers := sorted(key for key in kafka if key.startswith("ssl.") and key not in _TLS):
        raise UnsupportedSecurity(
            f"{strangers[0]} is not for a worker; it takes PEM files: {', '.join(_TLS)}"
        )
    place = kafka.get("ssl.ca.location", "probe")  # librdkafka's word for: where the system has them
    file, folder = (
        (None, None) if place == "probe" else (None, place) if Path(place).is_dir() else (place, None)
    )
    context = ssl.create_default_context(cafile=file, capath=folder, cadata=kafka.get("ssl.ca.pem"))
    if certificate := kafka.get("ssl.certificate.location"):
        context.load_cert_chain(certificate, kafka.get("ssl.key.location"), kafka.get("ssl.key.password"))
    named = kafka.get("ssl.endpoint.identification.algorithm", "https") == "https"
    verified = kafka.get("enable.ssl.certificate.verification", "true") == "true"
    context.check_hostname = named and verified
    if not verified:
        context.verify_mode = ssl.CERT_NONE
    return context
