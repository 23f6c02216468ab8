package flexcore.bench;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** The few pieces of Avro's binary encoding that the records need: longs, strings, and reading longs back. */
final class Avro {
    private byte[] buffer = new byte[1024];
    private int length;

    Avro clear() {
        length = 0;
        return this;
    }

    /** Begin a value in Confluent framing. */
    Avro begin(int schemaId) {
        length = 0;
        room(5);
        buffer[length++] = 0;
        buffer[length++] = (byte) (schemaId >> 24);
        buffer[length++] = (byte) (schemaId >> 16);
        buffer[length++] = (byte) (schemaId >> 8);
        buffer[length++] = (byte) schemaId;
        return this;
    }

    Avro number(long value) {
        room(10);
        long left = value << 1 ^ value >> 63;
        while ((left & ~0x7FL) != 0) {
            buffer[length++] = (byte) (left & 0x7F | 0x80);
            left >>>= 7;
        }
        buffer[length++] = (byte) left;
        return this;
    }

    Avro raw(byte[] bytes) {
        return raw(bytes, 0, bytes.length);
    }

    Avro raw(byte[] bytes, int from, int count) {
        room(count);
        System.arraycopy(bytes, from, buffer, length, count);
        length += count;
        return this;
    }

    Avro text(byte[] utf8) {
        return number(utf8.length).raw(utf8);
    }

    Avro text(byte[] utf8, int from, int count) {
        return number(count).raw(utf8, from, count);
    }

    Avro text(String value) {
        return text(value.getBytes(StandardCharsets.UTF_8));
    }

    /** The branch of a union, or a boolean. */
    Avro flag(int value) {
        room(1);
        buffer[length++] = (byte) value;
        return this;
    }

    byte[] bytes() {
        return Arrays.copyOf(buffer, length);
    }

    private void room(int count) {
        if (length + count > buffer.length) {
            buffer = Arrays.copyOf(buffer, 2 * (length + count));
        }
    }

    /** Reads what {@link Avro} wrote. */
    static final class Reader {
        private final byte[] bytes;
        int at;

        Reader(byte[] bytes, int at) {
            this.bytes = bytes;
            this.at = at;
        }

        long number() {
            long found = 0;
            for (int shift = 0; ; shift += 7) {
                byte next = bytes[at++];
                found |= (long) (next & 0x7F) << shift;
                if (next >= 0) {
                    return found >>> 1 ^ -(found & 1);
                }
            }
        }
    }
}
