"""A worker's writer and librdkafka understand the same settings: TLS with a CA of one's own, PLAIN, SCRAM, certificates."""

import datetime as dt
import ipaddress
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from confluent_kafka.cimpl import NewTopic
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.local.kafka import KafkaCluster
from deploy.local.paths import cache_dir
from deploy.local.process import free_ports
from streams.protocol.record_batch import NO_HEADERS, Batches
from streams.writer.transaction import TransactionalWriter

_JAAS = "org.apache.kafka.common.security"


class _Secured(KafkaCluster):
    """One broker with a listener for passwords and one for certificates, both encrypted."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "kafka", folder / "logs", cache=cache_dir(), optimised=False)
        self.passwords, self.certificates = free_ports(2)
        self._pems = folder

    def _properties(self, number: int, identity: Any) -> None:
        super()._properties(number, identity)
        file = self._node(number) / "server.properties"
        own = dict(line.split("=", 1) for line in file.read_text().splitlines())
        doors = f",PASSWORDS://127.0.0.1:{self.passwords},CERTIFICATES://127.0.0.1:{self.certificates}"
        own["listeners"] += doors
        own["advertised.listeners"] += doors
        own["listener.security.protocol.map"] += ",PASSWORDS:SASL_SSL,CERTIFICATES:SSL"
        own["sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
        plain = f'{_JAAS}.plain.PlainLoginModule required user_ann="secret";'
        own["listener.name.passwords.plain.sasl.jaas.config"] = plain
        for size in (256, 512):
            scram = f"listener.name.passwords.scram-sha-{size}.sasl.jaas.config"
            own[scram] = f"{_JAAS}.scram.ScramLoginModule required;"
        own["ssl.keystore.type"] = own["ssl.truststore.type"] = "PEM"
        own["ssl.keystore.location"] = str(self._pems / "broker.pem")
        own["ssl.truststore.location"] = str(self._pems / "ca.pem")
        own["listener.name.certificates.ssl.client.auth"] = "required"
        file.write_text("".join(f"{key}={value}\n" for key, value in own.items()))


def _pems(folder: Path) -> None:
    """Write a CA, and certificates by it for the broker and a client, each with its key."""
    now = dt.datetime.now(dt.UTC)
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ca", "broker", "client")}
    names = {name: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in keys}
    for name, key in keys.items():
        certificate = (
            x509.CertificateBuilder()
            .subject_name(names[name])
            .issuer_name(names["ca"])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
            )
            .sign(keys["ca"], hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = certificate.public_bytes(serialization.Encoding.PEM)
        (folder / f"{name}.pem").write_bytes(public if name == "ca" else private + public)


@dataclass
class Doors:
    """What a client needs for each of the listeners."""

    passwords: dict[str, str]
    certificates: dict[str, str]
    topic: str


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    folder = tmp_path_factory.mktemp("secured")
    _pems(folder)
    cluster = _Secured(folder)
    try:
        cluster.start()
        admin, topic = AdminClient({"bootstrap.servers": cluster.bootstrap}), f"t-{uuid.uuid4().hex[:8]}"
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            known = UserScramCredentialUpsertion("ann", ScramCredentialInfo(mechanism, 4096), b"secret")
            admin.alter_user_scram_credentials([known])["ann"].result(30)
        ca = {"ssl.ca.location": str(folder / "ca.pem")}
        client = str(folder / "client.pem")
        yield Doors(
            ca
            | {
                "bootstrap.servers": f"127.0.0.1:{cluster.passwords}",
                "security.protocol": "SASL_SSL",
                "sasl.username": "ann",
                "sasl.password": "secret",
            },
            ca
            | {
                "bootstrap.servers": f"127.0.0.1:{cluster.certificates}",
                "security.protocol": "SSL",
                "ssl.certificate.location": client,
                "ssl.key.location": client,
            },
            topic,
        )
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _write(kafka: dict[str, str], topic: str, value: bytes) -> None:
    writer = TransactionalWriter(kafka, f"id-{uuid.uuid4().hex}", 10_000)
    try:
        writer.connect()
        batches = Batches()
        batches.add([(topic, value, b"key", 0, NO_HEADERS)])
        writer.begin(batches)
        writer.commit()
    finally:
        writer.close()


def _read(kafka: dict[str, str], topic: str, wanted: bytes) -> bool:
    reader = Consumer({**kafka, "group.id": "reader", "isolation.level": "read_committed"})
    reader.assign([TopicPartition(topic, 0, 0)])
    deadline = time.monotonic() + 30
    try:
        while time.monotonic() < deadline:
            if wanted in [record.value() for record in reader.consume(100, 0.2)]:
                return True
        return False
    finally:
        reader.close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", ""])
def test_one_set_of_settings_serves_both_clients(doors: Doors, mechanism: str) -> None:
    """Given a password by each mechanism, or a certificate, then what the writer commits is read by librdkafka, set up alike."""
    kafka = {**doors.passwords, "sasl.mechanism": mechanism} if mechanism else doors.certificates
    value = f"by {mechanism or 'certificate'}".encode()
    _write(kafka, doors.topic, value)
    assert _read(kafka, doors.topic, value)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        (
            {"sasl.mechanism": "SCRAM-SHA-512", "sasl.password": "wrong"},
            KafkaError.SASL_AUTHENTICATION_FAILED,
        ),
        ({"sasl.mechanism": "PLAIN", "sasl.password": "wrong"}, KafkaError.SASL_AUTHENTICATION_FAILED),
        ({"sasl.mechanism": "PLAIN", "ssl.ca.location": ""}, KafkaError._SSL),
    ],
)
def test_who_is_not_let_in_hears_it_at_once(doors: Doors, changed: dict[str, str], code: int) -> None:
    """Given a wrong password, or a broker that is not trusted, then nothing is tried again, and the password is not told."""
    kafka = {key: value for key, value in {**doors.passwords, **changed}.items() if value}
    begun = time.monotonic()
    with pytest.raises(KafkaException) as refused:
        _write(kafka, doors.topic, b"never")
    assert refused.value.args[0].code() == code
    assert kafka["sasl.password"] not in str(refused.value)
    assert time.monotonic() - begun < 10
