"""Real servers that refuse, die, or are not there: what was sent is what was found and what was counted as lost."""

import datetime
import re
import time

from cases import Run
from cases import case
from programs import Failed
from programs import Program
from programs import certificates
from programs import free_ports
from programs import outspan
from programs.collector import Collector
from spans import compare
from spans import files
from spans import rich

GENERATED_SPANS = 40_000
GENERATED_SPANS_A_SECOND = 10_000
DOWN_SECONDS = 1.5
MEMORY_LIMIT_MIB = 1  # less than the Collector has at rest, so that it always refuses


def no_server_case(transport: str) -> None:
    """Registers the case of a port on which nobody listens."""

    @case(
        f"fault-wrong-port-{transport}",
        f"outspan send to a port without a server, {transport}: every span counted as failed",
    )
    def run_case(run: Run) -> None:
        file, count = sent_file(run)
        (port,) = free_ports(1)
        expect_failed(run, file, count, f"{transport}://127.0.0.1:{port}", "cannot connect")


def expired_case(transport: str) -> None:
    """Registers the case of a server whose certificate has expired."""

    @case(
        f"fault-expired-certificate-{transport}",
        f"outspan send to a Collector whose certificate has expired, {transport}: every span counted as failed",
    )
    def run_case(run: Run) -> None:
        file, count = sent_file(run)
        yesterday = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
        made = certificates.make(run.folder, not_before=yesterday - datetime.timedelta(days=9), not_after=yesterday)
        (port,) = free_ports(1)
        tls = {"cert_file": str(made.server), "key_file": str(made.server_key)}
        receivers = {"otlp": {"protocols": {transport: {"endpoint": f"127.0.0.1:{port}", "tls": tls}}}}
        with Collector(run.folder, receivers) as collector:
            expect_failed(run, file, count, f"{transport}s://localhost:{port}", "xpired", "--ca", str(made.authority))
            found = files.count(collector.file)
        if found:
            raise Failed(f"{found} spans arrived over a connection that was not to be trusted")


def memory_case(transport: str) -> None:
    """Registers the case of a Collector whose memory limiter refuses everything."""

    @case(
        f"fault-memory-limiter-{transport}",
        f"outspan send to a Collector that refuses for its memory, {transport}: tried again, every span counted as failed",
    )
    def run_case(run: Run) -> None:
        file, count = sent_file(run)
        (port,) = free_ports(1)
        receivers = {"otlp": {"protocols": {transport: {"endpoint": f"127.0.0.1:{port}"}}}}
        limiter = {"memory_limiter": {"check_interval": "50ms", "limit_mib": MEMORY_LIMIT_MIB}}
        with Collector(run.folder, receivers, processors=limiter) as collector:
            collector.program.until_printed("Refusing data", outspan.SEND_SECONDS_MAX)
            printed = expect_failed(run, file, count, f"{transport}://127.0.0.1:{port}", "")
            found = files.count(collector.file)
        if "trying again" not in printed:
            raise Failed(f"not tried again: {printed}")
        if found:
            raise Failed(f"{found} spans arrived that were reported as failed")


for each_transport in ("grpc", "http"):
    no_server_case(each_transport)
    expired_case(each_transport)
    memory_case(each_transport)


def sent_file(run: Run) -> tuple:
    """Writes the rich set, and returns its file and how many spans it has."""
    requests = rich.requests()
    file = run.folder / "spans.jsonl"
    files.write_json_lines(file, requests)
    return file, files.spans_of(requests)


def expect_failed(run: Run, file, count: int, url: str, says: str, *options: str) -> str:
    """Sends a file that cannot arrive; fails unless every span is counted as failed. Returns what was printed."""
    arguments = [outspan.binary(), "send", file, "--to", url, "--max-elapsed", "8s", *options]
    with Program("send", arguments, run.folder) as program:
        program.process.wait(outspan.SEND_SECONDS_MAX)
        printed = program.output()
    if program.process.returncode != 1 or f"{count} spans failed" not in printed or says not in printed:
        raise Failed(
            f"expected {count} failed spans and {says!r}, and the exit status 1, got {program.process.returncode}: {printed}"
        )
    return printed


def restart_case(transport: str) -> None:
    """Registers the case of a Collector that is killed in the middle of a run, and comes back."""

    @case(
        f"fault-restart-{transport}",
        f"outspan generate while the Collector is killed and started again, {transport}: sent = found + counted",
    )
    def run_case(run: Run) -> None:
        (port, behind) = free_ports(2)
        # What is killed passes on at once and keeps nothing, so that what it acknowledged is in the file of the one behind it.
        exporter = {
            "otlp_http": {
                "endpoint": f"http://127.0.0.1:{behind}",
                "sending_queue": {"enabled": False},
                "retry_on_failure": {"enabled": False},
            }
        }
        front = {"otlp": {"protocols": {transport: {"endpoint": f"127.0.0.1:{port}"}}}}
        folders = [run.folder / name for name in ("behind", "first", "second")]
        for folder in folders:
            folder.mkdir()
        last = {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{behind}"}}}}
        with Collector(folders[0], last) as keeper:
            with Collector(folders[1], front, exporter) as first:
                load = ["--spans", GENERATED_SPANS, "--rate", GENERATED_SPANS_A_SECOND, "--max-elapsed", "40s"]
                arguments = [outspan.binary(), "generate", "--to", f"{transport}://127.0.0.1:{port}", *load]
                with Program("generate", arguments, run.folder) as generator:
                    keeper.program.until(
                        lambda: keeper.file.exists() and keeper.file.stat().st_size > 0,
                        "first spans",
                        outspan.SEND_SECONDS_MAX,
                    )
                    time.sleep(1)  # some load goes through; what is shown does not hang on how much
                    first.program.kill()
                    time.sleep(DOWN_SECONDS)  # the time that it is away
                    with Collector(folders[2], front, exporter):
                        generator.process.wait(outspan.SEND_SECONDS_MAX)
                    printed = generator.output()
            keeper.program.stop()
        compare_counts(run, printed, files.read_records(keeper.file))


for each_transport in ("grpc", "http"):
    restart_case(each_transport)


def compare_counts(run: Run, printed: str, requests: list) -> None:
    """Compares what the generator says with what was found, and notes the numbers."""
    numbers = re.search(r"= ([\d,]+) acknowledged \+ ([\d,]+) refused \+ ([\d,]+) failed", printed)
    if not numbers:
        raise Failed(f"no sum at the end: {printed}")
    acknowledged, refused, failed = (int(number.replace(",", "")) for number in numbers.groups())
    ids = [span.trace_id + span.span_id for *_, span in compare.each(requests)]
    found = len(set(ids))
    counts = f"{GENERATED_SPANS} sent = {acknowledged} acknowledged + {refused} refused + {failed} failed; {found} found, {len(ids) - found} of them twice"
    if acknowledged + refused + failed != GENERATED_SPANS or not acknowledged <= found <= GENERATED_SPANS - refused:
        raise compare.Different(counts)
    run.note = counts
