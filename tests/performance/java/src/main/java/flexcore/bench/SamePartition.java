package flexcore.bench;

import java.util.Optional;
import java.util.Set;
import org.apache.kafka.streams.processor.StreamPartitioner;

/** Sends results to the partition of the command they answer; asked in the thread that forwards. */
final class SamePartition implements StreamPartitioner<byte[], byte[]> {
    private static final ThreadLocal<Optional<Set<Integer>>> CURRENT = new ThreadLocal<>();

    static void set(int partition) {
        CURRENT.set(Optional.of(Set.of(partition)));
    }

    @Override
    public Optional<Set<Integer>> partitions(String topic, byte[] key, byte[] value, int count) {
        return CURRENT.get();
    }
}
