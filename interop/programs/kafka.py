"""One broker of Apache Kafka that is its own controller (KRaft), and kcat to look into it."""

from dataclasses import dataclass
from pathlib import Path

from install import kafka
from install import kcat
from install import machine
from programs import Program
from programs import free_ports
from programs import run

# Sixteen bytes in base64, the same in each run: one that begins with `-` would be taken for an option.
CLUSTER = "b3V0c3Bhbi1pbnRlcm9wIQ"
START_SECONDS_MAX = 120
COMMAND_SECONDS_MAX = 120
PARTITIONS = 4


@dataclass(frozen=True)
class Message:
    """A message as kcat read it."""

    partition: int
    key: str
    value: bytes


class Kafka:
    """A running broker."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port, controller = free_ports(2)
        self.brokers = f"127.0.0.1:{self.port}"
        properties = folder / "kraft.properties"
        properties.write_text(self.settings(controller), encoding="utf-8")
        logging = folder / "log4j2.properties"
        logging.write_text(
            "rootLogger.level = warn\nrootLogger.appenderRef.out.ref = out\nappender.out.type = Console\nappender.out.name = out\n",
            encoding="utf-8",
        )
        classes = f"{kafka.ensure()}/*"
        java = [
            machine.need("java"),
            "-Xmx384m",
            "-XX:ActiveProcessorCount=2",
            "-XX:TieredStopAtLevel=1",
            f"-Dlog4j2.configurationFile={logging}",
            "-cp",
            classes,
        ]
        run([*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", properties], folder, COMMAND_SECONDS_MAX)
        self.program = Program("kafka", [*java, "kafka.Kafka", properties], folder)

    def settings(self, controller: int) -> str:
        """Returns the broker's properties."""
        return "\n".join(
            (
                "process.roles=broker,controller",
                "node.id=1",
                f"controller.quorum.voters=1@127.0.0.1:{controller}",
                f"listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
                f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}",
                "controller.listener.names=CONTROLLER",
                "inter.broker.listener.name=PLAINTEXT",
                "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
                f"log.dirs={self.folder / 'data'}",
                f"num.partitions={PARTITIONS}",
                "offsets.topic.num.partitions=1",
                "offsets.topic.replication.factor=1",
                "transaction.state.log.replication.factor=1",
                "transaction.state.log.min.isr=1",
                "share.coordinator.state.topic.replication.factor=1",
                "share.coordinator.state.topic.min.isr=1",
                "group.initial.rebalance.delay.ms=0",
                "",
            )
        )

    def __enter__(self) -> "Kafka":
        try:
            self.program.until_listening([self.port], START_SECONDS_MAX)
            self.program.until(self.answers, "metadata", START_SECONDS_MAX)
        except BaseException:
            self.program.stop()
            raise
        return self

    def __exit__(self, *_error) -> None:
        self.program.stop()

    def answers(self) -> bool:
        """Tells whether the broker gives out its metadata."""
        return "1 brokers" in self.kcat("-L")

    def create(self, topic: str) -> None:
        """Makes a topic, by asking for it."""
        self.program.until(
            lambda: f"with {PARTITIONS} partitions" in self.kcat("-L", "-t", topic), f"topic {topic}", START_SECONDS_MAX
        )

    def messages(self, topic: str) -> list[Message]:
        """Returns the messages of a topic at this moment."""
        listed = self.kcat("-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%p %o %k\\n")
        return [self.message(topic, *line.split(" ")) for line in listed.splitlines()]

    def message(self, topic: str, partition: str, offset: str, key: str) -> Message:
        """Reads the value of one message, which is not text and so goes through a file."""
        path = self.folder / "value"
        program, environment = kcat.ensure()
        one = ("-C", "-t", topic, "-p", partition, "-o", offset, "-c", "1", "-q", "-D", "")
        shell = 'output=$1; shift; exec "$@" > "$output"'
        run(
            ["sh", "-c", shell, "sh", path, program, "-b", self.brokers, *one],
            self.folder,
            COMMAND_SECONDS_MAX,
            environment,
        )
        return Message(int(partition), key, path.read_bytes())

    def kcat(self, *arguments) -> str:
        """Runs kcat and returns what it printed."""
        program, environment = kcat.ensure()
        return run([program, "-b", self.brokers, *arguments], self.folder, COMMAND_SECONDS_MAX, environment)
