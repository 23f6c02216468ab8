"""How the writer's connections agree with a broker: versions, signing in, and what is told when they cannot."""

import io
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from kio.schema.api_versions.v3.request import ApiVersionsRequest
from kio.schema.api_versions.v3.response import ApiVersion, ApiVersionsResponse, FinalizedFeatureKey
from kio.schema.errors import ErrorCode
from kio.schema.sasl_authenticate.v2.request import SaslAuthenticateRequest
from kio.schema.sasl_authenticate.v2.response import SaslAuthenticateResponse
from kio.schema.sasl_handshake.v1.request import SaslHandshakeRequest
from kio.schema.sasl_handshake.v1.response import SaslHandshakeResponse
from kio.serial import entity_reader, entity_writer

from streams.protocol import messages
from streams.protocol.connection import Connection
from streams.protocol.security import Security, UnsupportedSecurity

NO_TIME: Any = timedelta()
KINDS: Any = {18: ApiVersionsRequest, 17: SaslHandshakeRequest, 36: SaslAuthenticateRequest}


def versions(level: int = 2, produce: int = 12) -> Any:
    """Return what a broker of this level says it speaks."""
    api: Any = ApiVersion
    known = {int(key): int(most) for key, most in messages.NEEDED.items()} | {0: produce}
    feature: Any = FinalizedFeatureKey
    answer: Any = ApiVersionsResponse
    return answer(
        error_code=ErrorCode.none,
        api_keys=tuple(api(api_key=key, min_version=0, max_version=most) for key, most in known.items()),
        throttle_time=NO_TIME,
        finalized_features_epoch=1,
        finalized_features=(
            feature(name="transaction.version", max_version_level=level, min_version_level=0),
        ),
    )


@contextmanager
def broker(answer: Callable[[Any], Any]) -> Iterator[int]:
    """Yield the port of a broker of one connection, which answers each request by what ``answer`` makes of it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as file:
            while length := file.read(4):
                data = file.read(struct.unpack(">i", length)[0])
                key, _, correlation = struct.unpack_from(">hhi", data)
                kind = KINDS[key]
                _, size = entity_reader(kind.__header_schema__)(data, 0)
                told = answer(entity_reader(kind)(data, size)[0])
                if told is None:
                    return
                out = io.BytesIO()
                head = type(told).__header_schema__
                entity_writer(head)(out, head(correlation_id=correlation))
                entity_writer(type(told))(out, told)
                connection.sendall(struct.pack(">i", out.tell()) + out.getvalue())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        thread.join(10)


@pytest.mark.parametrize(("level", "produce"), [(1, 12), (0, 12), (2, 11)])
def test_a_broker_without_transactions_version_2_is_refused_with_what_mends_it(
    level: int, produce: int
) -> None:
    """Given an older cluster, or one whose feature was never raised, then the error says which command raises it."""
    with broker(lambda _: versions(level, produce)) as port, pytest.raises(KafkaException) as refused:
        Connection("127.0.0.1", port, Security(), "c", 5)
    cause = refused.value.args[0]
    assert cause.code() == KafkaError.UNSUPPORTED_VERSION
    assert "kafka-features.sh upgrade --feature transaction.version=2" in cause.str()


def test_a_broker_that_hangs_up_or_says_nothing_is_told_apart() -> None:
    """Both may be tried again; whoever reads the log should know which it was."""
    with broker(lambda _: None) as port, pytest.raises(KafkaException) as ended:
        Connection("127.0.0.1", port, Security(), "c", 5)
    assert ended.value.args[0].code() == KafkaError._TRANSPORT
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, pytest.raises(KafkaException) as nothing:
        Connection("127.0.0.1", silent.getsockname()[1], Security(), "c", 0.1)
    assert nothing.value.args[0].code() == KafkaError._TIMED_OUT


def test_what_is_no_broker_is_recognised() -> None:
    """Given something that speaks another protocol, then its first bytes are no length of an answer."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.close()

    threading.Thread(target=serve, daemon=True).start()
    with listener, pytest.raises(KafkaException, match="is this a Kafka broker"):
        Connection("127.0.0.1", listener.getsockname()[1], Security(), "c", 5)


def _signing(known: tuple[str, ...], error: int, life_ms: int = 0) -> Callable[[Any], Any]:
    handshake: Any = SaslHandshakeResponse
    authenticated: Any = SaslAuthenticateResponse

    def answer(request: Any) -> Any:
        if isinstance(request, ApiVersionsRequest):
            return versions()
        if isinstance(request, SaslHandshakeRequest):
            return handshake(error_code=ErrorCode(0 if request.mechanism in known else 33), mechanisms=known)
        assert request.auth_bytes == b"\0ann\0secret"
        said = "no such user" if error else None
        return authenticated(
            error_code=ErrorCode(error),
            error_message=said,
            auth_bytes=b"",
            session_lifetime=timedelta(milliseconds=life_ms),
        )

    return answer


PLAIN = Security(None, "PLAIN", "ann", "secret")


def test_signing_in_is_renewed_before_it_ends() -> None:
    """Given a broker that lets a sign-in last for a moment, then the connection is used up before that."""
    with broker(_signing(("PLAIN",), 0)) as port:
        connection = Connection("127.0.0.1", port, PLAIN, "c", 5)
        assert connection.fresh
        connection.close()
    with broker(_signing(("PLAIN",), 0, life_ms=1)) as port:
        connection = Connection("127.0.0.1", port, PLAIN, "c", 5)
        threading.Event().wait(0.002)
        assert not connection.fresh
        connection.close()


@pytest.mark.parametrize(
    ("known", "error", "said"), [((), 0, "knows no PLAIN"), (("PLAIN",), 58, "no such user")]
)
def test_who_may_not_sign_in_is_told_why(known: tuple[str, ...], error: int, said: str) -> None:
    """Given a broker without the mechanism, or a wrong password, then the error says so, not the password."""
    with broker(_signing(known, error)) as port, pytest.raises(KafkaException, match=said) as refused:
        Connection("127.0.0.1", port, PLAIN, "c", 5)
    assert refused.value.args[0].code() == KafkaError.SASL_AUTHENTICATION_FAILED
    assert "secret" not in str(refused.value)


def test_librdkafka_s_settings_are_understood(tmp_path: Any) -> None:
    """TLS is on where the protocol says so; checks are on unless they are switched off; what is not spoken is refused."""
    assert Security.of({}) == Security()
    found = Security.of(
        {
            "security.protocol": "sasl_ssl",
            "sasl.mechanisms": "SCRAM-SHA-512",
            "sasl.username": "ann",
            "sasl.password": "x",
        }
    )
    assert (found.mechanism, found.username, found.password) == ("SCRAM-SHA-512", "ann", "x")
    assert found.tls is not None
    assert found.tls.check_hostname
    assert "x" not in repr(found).split("mechanism")[1].replace("x509", "")
    unnamed = Security.of({"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": "none"}).tls
    assert unnamed is not None
    assert not unnamed.check_hostname
    assert unnamed.verify_mode.name == "CERT_REQUIRED"
    unverified = Security.of({"security.protocol": "SSL", "enable.ssl.certificate.verification": "false"}).tls
    assert unverified is not None
    assert unverified.verify_mode.name == "CERT_NONE"
    for settings, named in (
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}, "sasl.mechanism is OAUTHBEARER"),
        ({"security.protocol": "SASL_PLAINTEXT"}, "sasl.mechanism is GSSAPI"),
        ({"security.protocol": "TLS"}, "security.protocol is TLS"),
        (
            {"security.protocol": "SSL", "ssl.keystore.location": "k.p12"},
            "ssl.keystore.location is not for a worker",
        ),
    ):
        with pytest.raises(UnsupportedSecurity, match=named):
            Security.of(settings)
