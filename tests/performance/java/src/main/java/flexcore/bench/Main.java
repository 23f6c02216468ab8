package flexcore.bench;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.state.Stores;

/** {@code Main BOOTSTRAP PREFIX COMMANDS STATE_FOLDER COMMIT_MS POLL_MS LINGER_MS EVENT_SCHEMA OUTCOME_SCHEMA} */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) throws InterruptedException {
        long begun = cpuNs();
        String prefix = arguments[1];
        long commands = Long.parseLong(arguments[2]);
        AtomicLong processed = new AtomicLong();
        Topology topology = topology(
                prefix, Integer.parseInt(arguments[7]), Integer.parseInt(arguments[8]), processed);
        KafkaStreams streams = new KafkaStreams(topology, settings(arguments));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
        streams.start();
        while (processed.get() < commands) {
            Thread.sleep(20);
        }
        streams.close(Duration.ofSeconds(30)); // commits what is open
        System.out.printf("{\"cpu_s\": %.3f}%n", (cpuNs() - begun) / 1e9);
    }

    private static Topology topology(String prefix, int eventSchema, int outcomeSchema, AtomicLong processed) {
        String own = prefix + ".kafka_streams";
        ByteArraySerializer write = new ByteArraySerializer();
        ByteArrayDeserializer read = new ByteArrayDeserializer();
        return new Topology()
                .addSource("commands", read, read, prefix + ".account.commands")
                .addProcessor("decide", () -> new AccountProcessor(prefix, eventSchema, outcomeSchema, processed), "commands")
                .addStateStore(
                        Stores.keyValueStoreBuilder(
                                Stores.persistentKeyValueStore(AccountProcessor.STORE), Serdes.ByteArray(), Serdes.ByteArray()),
                        "decide")
                .addSink(AccountProcessor.EVENTS, own + ".account.events", write, write, new SamePartition(), "decide")
                .addSink(AccountProcessor.OUTCOMES, own + ".account.outcomes", write, write, new SamePartition(), "decide");
    }

    private static Properties settings(String[] arguments) {
        Properties settings = new Properties();
        settings.put("application.id", arguments[1] + ".kafka_streams");
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("processing.guarantee", "exactly_once_v2");
        settings.put("num.stream.threads", "1");
        settings.put("state.dir", arguments[3]);
        settings.put("commit.interval.ms", arguments[4]);
        settings.put("poll.ms", arguments[5]);
        settings.put("producer.linger.ms", arguments[6]);
        settings.put("producer.compression.type", "lz4");
        settings.put("consumer.auto.offset.reset", "earliest");
        settings.put("consumer.session.timeout.ms", "6000");
        settings.put("consumer.heartbeat.interval.ms", "1500");
        return settings;
    }

    private static long cpuNs() {
        return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }
}
