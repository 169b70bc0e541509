"""Our exporters into the Collector over OTLP: what its file exporter wrote is what was sent, field by field."""

import base64
import socket

from cases import Run
from cases import case
from programs import certificates
from programs import free_address
from programs import free_ports
from programs import outspan
from programs.collector import Collector
from spans import compare
from spans import files
from spans import jaeger
from spans import rich
from spans import zipkin

TRANSPORTS = {"grpc": "grpc", "http": "http", "json": "http"}
COMPRESSIONS = ("none", "gzip", "zstd")
TOKEN = "a-token-of-interop"
PASSWORD = "a-password-of-interop"


def otlp_case(transport: str, compression: str) -> None:
    """Registers the case of one transport with one compression."""
    name = f"collector-otlp-{transport}" + ("" if compression == "none" else f"-{compression}")
    what = f"outspan send to the Collector, {shown(transport)}, compression {compression}: all fields"

    @case(name, what)
    def run_case(run: Run) -> None:
        send_and_compare(run, transport, {}, "--compression", compression)


def shown(transport: str) -> str:
    """Returns how people write a transport."""
    return {"grpc": "OTLP/gRPC", "http": "OTLP/HTTP protobuf", "json": "OTLP/HTTP JSON"}[transport]


def secure_case(transport: str, kind: str, what: str, seconds_max: int = 60):
    """Registers a case over one transport with something about security."""
    return case(
        f"collector-otlp-{transport}-{kind}", f"outspan send to the Collector, {shown(transport)}, {what}", seconds_max
    )


for each_transport in TRANSPORTS:
    for each_compression in COMPRESSIONS:
        otlp_case(each_transport, each_compression)


def tls_cases(transport: str) -> None:
    """Registers the cases with TLS, tokens and passwords over one transport."""

    @secure_case(transport, "tls", "TLS: all fields; without our trust nothing is sent")
    def tls(run: Run) -> None:
        made = certificates.make(run.folder)
        server = {"tls": {"cert_file": str(made.server), "key_file": str(made.server_key)}}
        send_and_compare(run, transport, server, "--ca", str(made.authority), refused=((), "certificate"))

    @secure_case(transport, "mtls", "mutual TLS: all fields; without a certificate nothing is sent")
    def mtls(run: Run) -> None:
        made = certificates.make(run.folder)
        files_of_server = {"cert_file": made.server, "key_file": made.server_key, "client_ca_file": made.authority}
        server = {"tls": {key: str(path) for key, path in files_of_server.items()}}
        trust = ("--ca", str(made.authority))
        shown_to_it = ("--cert", str(made.client), "--key", str(made.client_key))
        send_and_compare(run, transport, server, *trust, *shown_to_it, refused=(trust, "ertificate"))

    @secure_case(transport, "bearer", "bearer token: all fields; with a wrong one nothing is sent")
    def bearer(run: Run) -> None:
        extensions = {"bearertokenauth": {"token": TOKEN}}
        server = {"auth": {"authenticator": "bearertokenauth"}}
        right = ("--header", f"authorization=Bearer {TOKEN}")
        wrong = ("--header", "authorization=Bearer wrong")
        send_and_compare(run, transport, server, *right, refused=(wrong, ""), extensions=extensions)

    @secure_case(transport, "basic", "basic auth: all fields; with a wrong password nothing is sent")
    def basic(run: Run) -> None:
        extensions = {"basicauth": {"htpasswd": {"inline": f"shop:{PASSWORD}"}}}
        server = {"auth": {"authenticator": "basicauth"}}
        right = ("--header", f"authorization={basic_header(PASSWORD)}")
        wrong = ("--header", f"authorization={basic_header('wrong')}")
        send_and_compare(run, transport, server, *right, refused=(wrong, ""), extensions=extensions)


for each_transport in ("grpc", "http"):
    tls_cases(each_transport)


def basic_header(password: str) -> str:
    """Returns the value of the header for the user `shop`."""
    return "Basic " + base64.b64encode(f"shop:{password}".encode()).decode()


def send_and_compare(run: Run, transport: str, server: dict, *options: str, refused=None, extensions=None) -> None:
    """Sends the rich set to a Collector with the settings `server`, and compares what it wrote.

    `refused` has options with which sending must fail first, and a text that the error must say.
    """
    requests = rich.requests()
    file = run.folder / "spans.jsonl"
    files.write_json_lines(file, requests)
    (port,) = free_ports(1)
    protocol = TRANSPORTS[transport]
    receivers = {"otlp": {"protocols": {protocol: {"endpoint": f"127.0.0.1:{port}", **server}}}}
    scheme = f"{protocol}s" if "tls" in server else protocol
    url = f"{scheme}://localhost:{port}"
    if transport == "json":
        options += ("--protocol", "json")
    with Collector(run.folder, receivers, extensions=extensions or {}) as collector:
        if refused:
            outspan.send_in_vain(run.folder, file, url, *refused[0], says=refused[1])
        outspan.send(run.folder, file, url, *options)
        received = collector.received(files.spans_of(requests))
    compare.same(compare.flat(requests), compare.flat(received))


def zipkin_case(protocol: str) -> None:
    """Registers the case of Zipkin in one form."""

    @case(
        f"collector-zipkin-{protocol}",
        f"outspan send to the Collector, Zipkin {protocol}: all that docs/zipkin.md keeps",
    )
    def run_case(run: Run) -> None:
        requests = rich.requests()
        file = run.folder / "spans.jsonl"
        files.write_json_lines(file, requests)
        (port,) = free_ports(1)
        with Collector(run.folder, {"zipkin": {"endpoint": f"127.0.0.1:{port}"}}) as collector:
            outspan.send(run.folder, file, f"zipkin+http://localhost:{port}", "--protocol", protocol)
            received = collector.received(files.spans_of(requests))
        expected = zipkin.as_the_collector_reads(zipkin.from_otlp(requests))
        compare.same(expected, zipkin.with_marks_read(compare.flat(received)))


for each_protocol in ("json", "protobuf"):
    zipkin_case(each_protocol)


BINARY_PORT = 6832
JAEGER_FORMS = {
    "http": ("thrift_http", "jaeger+http", "Thrift over HTTP", ()),
    "udp-compact": ("thrift_compact", "jaeger+udp", "compact Thrift over UDP", ("--batch-spans", "4")),
    "udp-binary": ("thrift_binary", "jaeger+udp", "binary Thrift over UDP", ("--batch-spans", "4")),
}


def jaeger_case(form: str) -> None:
    """Registers the case of Jaeger's Thrift in one form."""
    protocol, scheme, shown_form, options = JAEGER_FORMS[form]

    @case(f"collector-jaeger-{form}", f"outspan send to the Collector, {shown_form}: all that docs/jaeger.md keeps")
    def run_case(run: Run) -> None:
        requests = rich.requests()
        file = run.folder / "spans.jsonl"
        files.write_json_lines(file, requests)
        url, endpoint = jaeger_url(form, scheme)
        receivers = {"jaeger": {"protocols": {protocol: {"endpoint": endpoint}}}}
        with Collector(run.folder, receivers) as collector:
            outspan.send(run.folder, file, url, *options)
            received = collector.received(files.spans_of(requests))
        expected = jaeger.as_the_collector_reads(jaeger.from_otlp(requests))
        compare.same(expected, jaeger.with_marks_read(compare.flat(received)))


def jaeger_url(form: str, scheme: str) -> tuple[str, str]:
    """Returns our URL and the Collector's endpoint for a form.

    Binary Thrift over UDP is what our program sends to port 6832 and to no other; so that takes an address of its own.
    """
    if form == "udp-binary":
        address = f"{free_address(BINARY_PORT)}:{BINARY_PORT}"
    else:
        (port,) = free_ports(1, socket.SOCK_DGRAM if form.startswith("udp") else socket.SOCK_STREAM)
        address = f"127.0.0.1:{port}"
    return f"{scheme}://{address}", address


for each_form in JAEGER_FORMS:
    jaeger_case(each_form)
