package flexcore.bench;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Instant;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * One command: decode, look its id up, decide, keep the state, send an event with envelope and 15 headers and an outcome.
 * The state of an account is version, balance and the ids of its last 32 commands.
 */
final class AccountProcessor extends ContextualProcessor<byte[], byte[], byte[], byte[]> {
    static final String STORE = "accounts";
    static final String EVENTS = "events";
    static final String OUTCOMES = "outcomes";
    private static final int REMEMBERED_MAX = 32;
    private static final int ID_BYTES = 16;
    private static final byte[] ACCOUNT = "account".getBytes(UTF_8);
    private static final byte[] DEPOSIT = "Deposit".getBytes(UTF_8);
    private static final byte[] DEPOSITED = "Deposited".getBytes(UTF_8);
    private static final byte[] ACCEPTED = "accepted".getBytes(UTF_8);
    private static final byte[] REJECTED = "rejected".getBytes(UTF_8);
    private static final byte[] INVALID = "invalid".getBytes(UTF_8);
    private static final byte[] NOT_POSITIVE = "the amount must be positive".getBytes(UTF_8);
    private static final byte[] ANONYMOUS = "anonymous".getBytes(UTF_8);
    private static final byte[] SPECIFICATION = "1.0".getBytes(UTF_8);
    private static final byte[] CONTENT = "application/avro".getBytes(UTF_8);
    private static final byte[] NOTHING = {};

    private final byte[] source;
    private final byte[] writer;
    private final int eventSchema;
    private final int outcomeSchema;
    private final AtomicLong processed;
    private final MessageDigest sha1 = digest("SHA-1");
    private final MessageDigest sha256 = digest("SHA-256");
    private final Avro avro = new Avro();
    private KeyValueStore<byte[], byte[]> store;
    private long sequence;
    private long position;
    private long timeMs = -1;
    private byte[] time = NOTHING;

    AccountProcessor(String cluster, int eventSchema, int outcomeSchema, AtomicLong processed) {
        this.source = ("/" + cluster + "/account").getBytes(UTF_8);
        this.writer = (cluster + "/kafka-streams").getBytes(UTF_8);
        this.eventSchema = eventSchema;
        this.outcomeSchema = outcomeSchema;
        this.processed = processed;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        super.init(context);
        store = context.getStateStore(STORE);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        processed.incrementAndGet();
        RecordMetadata metadata = context().recordMetadata().orElseThrow();
        SamePartition.set(metadata.partition());
        Avro.Reader body = new Avro.Reader(record.value(), 5);
        long amount = body.number();
        long sentAt = body.number();
        byte[] commandId = record.headers().lastHeader("command-id").value();
        byte[] rawId = HexFormat.of().parseHex(new String(commandId, UTF_8).replace("-", ""));
        byte[] before = store.get(record.key());
        long version = 0;
        long balance = 0;
        int ids = 0;
        if (before != null) {
            Avro.Reader state = new Avro.Reader(before, 0);
            version = state.number();
            balance = state.number();
            ids = state.at;
            for (int at = ids; at < before.length; at += ID_BYTES) {
                if (Arrays.equals(before, at, at + ID_BYTES, rawId, 0, ID_BYTES)) {
                    return;
                }
            }
        }
        boolean accepted = amount > 0;
        long own = ++sequence;
        if (accepted) {
            version++;
            balance += amount;
            position = ++sequence;
            event(record, commandId, rawId, metadata.offset(), version, amount, balance, sentAt);
        }
        store.put(record.key(), state(version, balance, rawId, before, ids));
        outcome(record, commandId, metadata, accepted ? version : 0, own, bodyHash(amount, sentAt), accepted);
    }

    private byte[] state(long version, long balance, byte[] rawId, byte[] before, int ids) {
        avro.clear().number(version).number(balance);
        if (before != null) {
            int from = Math.max(ids, before.length - (REMEMBERED_MAX - 1) * ID_BYTES);
            avro.raw(before, from, before.length - from);
        }
        return avro.raw(rawId).bytes();
    }

    private void event(
            Record<byte[], byte[]> record, byte[] commandId, byte[] rawId, long offset,
            long version, long amount, long balance, long sentAt) {
        byte[] eventId = derived(rawId, "0");
        byte[] at = time(record.timestamp());
        begin(eventSchema, eventId, record.key()).number(version).number(sequence).text(commandId)
                .number(0).text(commandId).text(ANONYMOUS).number(offset).text(writer).number(record.timestamp()).flag(0);
        byte[] value = avro.number(amount).number(balance).number(sentAt).bytes();
        RecordHeaders headers = new RecordHeaders();
        headers.add("ce_specversion", SPECIFICATION);
        headers.add("ce_source", source);
        headers.add("ce_type", DEPOSITED);
        headers.add("content-type", CONTENT);
        headers.add("writer", writer);
        headers.add("command-id", commandId);
        headers.add("causation-id", NOTHING);
        headers.add("correlation-id", commandId);
        headers.add("actor", ANONYMOUS);
        headers.add("source-offset", Long.toString(offset).getBytes(UTF_8));
        headers.add("ce_time", at);
        headers.add("ce_id", eventId);
        headers.add("ce_subject", record.key());
        headers.add("sequence", Long.toString(sequence).getBytes(UTF_8));
        headers.add("version", Long.toString(version).getBytes(UTF_8));
        context().forward(new Record<>(eventKey(record.key(), version, eventId), value, record.timestamp(), headers), EVENTS);
    }

    private void outcome(
            Record<byte[], byte[]> record, byte[] commandId, RecordMetadata metadata,
            long version, long own, byte[] bodyHash, boolean accepted) {
        avro.begin(outcomeSchema).text(commandId).text(DEPOSIT);
        place(record.key());
        if (accepted) {
            avro.text(ACCEPTED).flag(0).flag(0);
        } else {
            avro.text(REJECTED).flag(2).text(INVALID).flag(2).text(NOT_POSITIVE);
        }
        byte[] value = avro.number(version).number(version).number(metadata.partition()).number(own).number(position)
                .text(bodyHash).text(ANONYMOUS).text(commandId).number(record.timestamp()).flag(1).flag(0).bytes();
        RecordHeaders headers = new RecordHeaders();
        headers.add("command-id", commandId);
        headers.add("source-offset", Long.toString(metadata.offset()).getBytes(UTF_8));
        headers.add("writer", writer);
        context().forward(new Record<>(commandId, value, record.timestamp(), headers), OUTCOMES);
    }

    private Avro begin(int schema, byte[] id, byte[] key) {
        avro.begin(schema).text(id);
        return place(key);
    }

    /** Tenant, aggregate and aggregate id. */
    private Avro place(byte[] key) {
        int slash = 0;
        while (key[slash] != '/') {
            slash++;
        }
        return avro.text(key, 0, slash).text(ACCOUNT).text(key, slash + 1, key.length - slash - 1);
    }

    private static byte[] eventKey(byte[] key, long version, byte[] eventId) {
        byte[] made = Arrays.copyOf(key, key.length + 22 + eventId.length);
        Arrays.fill(made, key.length, made.length, (byte) '0');
        made[key.length] = '/';
        int at = key.length + 20;
        for (long left = version; left > 0; left /= 10) {
            made[at--] = (byte) ('0' + left % 10);
        }
        made[key.length + 21] = '/';
        System.arraycopy(eventId, 0, made, key.length + 22, eventId.length);
        return made;
    }

    private byte[] bodyHash(long amount, long sentAt) {
        byte[] canonical = ("Deposit{\"amount\":" + amount + ",\"sent_at\":" + sentAt + "}").getBytes(UTF_8);
        return HexFormat.of().formatHex(sha256.digest(canonical), 0, 8).getBytes(UTF_8);
    }

    /** A version 5 UUID as text. */
    private byte[] derived(byte[] namespace, String name) {
        sha1.update(namespace);
        byte[] raw = sha1.digest(name.getBytes(UTF_8));
        raw[6] = (byte) (raw[6] & 0x0F | 0x50);
        raw[8] = (byte) (raw[8] & 0x3F | 0x80);
        String hex = HexFormat.of().formatHex(raw, 0, 16);
        return (hex.substring(0, 8) + "-" + hex.substring(8, 12) + "-" + hex.substring(12, 16) + "-"
                + hex.substring(16, 20) + "-" + hex.substring(20)).getBytes(UTF_8);
    }

    private byte[] time(long ms) {
        if (ms != timeMs) {
            timeMs = ms;
            time = Instant.ofEpochMilli(ms).toString().getBytes(UTF_8);
        }
        return time;
    }

    private static MessageDigest digest(String name) {
        try {
            return MessageDigest.getInstance(name);
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException(error);
        }
    }
}
