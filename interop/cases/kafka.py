"""Kafka between our program, the Collector and kcat: what one writes another reads, and a trace has one partition."""

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cases import Run
from cases import case
from programs import Failed
from programs import free_ports
from programs import outspan
from programs.collector import Collector
from programs.kafka import Kafka
from spans import compare
from spans import files
from spans import rich

SECONDS_MAX = 300
READ_SECONDS_MAX = 120
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def prepared(run: Run, topic: str) -> tuple[Kafka, list, object]:
    """Returns the broker with a topic, the rich set, and the file that it is in."""
    requests = rich.requests()
    file = run.folder / "spans.jsonl"
    files.write_json_lines(file, requests)
    broker = run.shared.get("kafka", Kafka)
    broker.create(topic)
    return broker, requests, file


def codec_case(codec: str) -> None:
    """Registers the case of one codec, read by kcat."""

    @case(
        f"kafka-kcat-{codec}",
        f"outspan send to Kafka, codec {codec}, read by kcat: all fields, a key for each trace",
        SECONDS_MAX,
    )
    def run_case(run: Run) -> None:
        topic = f"kcat-{codec}"
        broker, requests, file = prepared(run, topic)
        outspan.send_to_kafka(run.folder, file, f"kafka://{broker.brokers}/{topic}?key=trace_id&codec={codec}")
        found = []
        for message in broker.messages(topic):
            request = decoded(message.value)
            keys = {span["trace_id"] for span in compare.flat([request]).values()}
            if keys != {message.key}:
                raise compare.Different(f"a message with the key {message.key!r} has spans of the traces {keys}")
            found.append(request)
        compare.same(compare.flat(requests), compare.flat(found))


for each_codec in CODECS:
    codec_case(each_codec)


def decoded(value: bytes) -> ExportTraceServiceRequest:
    """Returns the request in a message."""
    try:
        return ExportTraceServiceRequest.FromString(value)
    except DecodeError as error:
        raise Failed(f"a message of {len(value)} bytes is no request: {error}") from error


def reader_case(encoding: str) -> None:
    """Registers the case in which the Collector reads what we write."""
    what = f"outspan send to Kafka, {encoding}, read by the Collector's receiver: all fields"

    @case(f"kafka-collector-reads-{encoding}", what, SECONDS_MAX)
    def run_case(run: Run) -> None:
        topic = f"collector-reads-{encoding}"
        broker, requests, file = prepared(run, topic)
        with Collector(run.folder, receiver(broker, topic, encoding)) as collector:
            outspan.send_to_kafka(run.folder, file, f"kafka://{broker.brokers}/{topic}?encoding={encoding}")
            received = collector.received(files.spans_of(requests), READ_SECONDS_MAX)
        compare.same(compare.flat(requests), compare.flat(received))


def writer_case(encoding: str) -> None:
    """Registers the case in which our agent reads what the Collector writes."""
    what = f"the Collector's Kafka exporter, {encoding}, read by the agent: all fields"

    @case(f"kafka-agent-reads-{encoding}", what, SECONDS_MAX)
    def run_case(run: Run) -> None:
        topic = f"agent-reads-{encoding}"
        broker, requests, file = prepared(run, topic)
        send_by_collector(run, broker, topic, file, {"encoding": encoding})
        listen = f"kafka://{broker.brokers}/{topic}?group=interop"
        with outspan.Agent(run.folder, [listen], program=outspan.kafka_binary()) as agent:
            found = agent.received(files.spans_of(requests), READ_SECONDS_MAX)
        compare.same(compare.flat(requests), compare.flat(found))


for each_encoding in ("otlp_proto", "otlp_json"):
    reader_case(each_encoding)
    writer_case(each_encoding)


@case("kafka-partitions", "a trace has the same key and partition from us and from the Collector", SECONDS_MAX)
def partitions(run: Run) -> None:
    broker, requests, file = prepared(run, "partitions-ours")
    broker.create("partitions-theirs")
    outspan.send_to_kafka(run.folder, file, f"kafka://{broker.brokers}/partitions-ours?key=trace_id")
    send_by_collector(run, broker, "partitions-theirs", file, {}, partition_traces_by_id=True)
    ours = {message.key: message.partition for message in broker.messages("partitions-ours")}
    theirs = {message.key: message.partition for message in broker.messages("partitions-theirs")}
    compare.same({"partitions": theirs}, {"partitions": ours})
    traces = {span["trace_id"] for span in compare.flat(requests).values()}
    if set(ours) != traces:
        raise compare.Different(f"expected messages of {len(traces)} traces, found the keys {sorted(ours)}")


@case("kafka-agent-goes-on", "the next agent of a group begins behind what the last one delivered", SECONDS_MAX)
def goes_on(run: Run) -> None:
    topic = "goes-on"
    broker, requests, file = prepared(run, topic)
    to = f"kafka://{broker.brokers}/{topic}"
    for turn in ("first", "second"):
        folder = run.folder / turn
        folder.mkdir()
        listen = f"{to}?group=goes-on"
        outspan.send_to_kafka(run.folder, file, to)
        with outspan.Agent(folder, [listen], program=outspan.kafka_binary()) as agent:
            found = agent.received(files.spans_of(requests), READ_SECONDS_MAX)
        compare.same(compare.flat(requests), compare.flat(found))
        for _, _, _, _, span in compare.each(requests):
            span.trace_id = bytes(byte ^ 0xFF for byte in span.trace_id)
        files.write_json_lines(file, requests)


def receiver(broker: Kafka, topic: str, encoding: str) -> dict:
    """Returns the Collector's receiver of a topic."""
    settings = {
        "brokers": [broker.brokers],
        "group_id": topic,
        "initial_offset": "earliest",
        "traces": {"topics": [topic], "encoding": encoding},
    }
    return {"kafka": settings}


def send_by_collector(run: Run, broker: Kafka, topic: str, file, traces: dict, **settings) -> None:
    """Has the Collector write the spans of a file to a topic; it has written them when it has stopped."""
    (port,) = free_ports(1)
    receivers = {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}}
    exporter = {"brokers": [broker.brokers], "traces": {"topic": topic, **traces}, **settings}
    with Collector(run.folder, receivers, {"kafka": exporter}):
        outspan.send(run.folder, file, f"http://127.0.0.1:{port}")
