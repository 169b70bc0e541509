"""The Collector's queue and retries in front of our agent, which has no room, or is away: nothing is lost."""

import signal
from pathlib import Path

from cases import Run
from cases import case
from cases.overload import fill
from cases.overload import listeners
from cases.overload import otlp_http
from cases.receive import COLLECTOR_EXPORTERS
from programs import free_ports
from programs import numbered
from programs import outspan
from programs.collector import Collector
from spans import compare
from spans import files
from spans import rich

SECONDS_MAX = 300
ARRIVE_SECONDS_MAX = 120
RETRY = {"initial_interval": "100ms", "max_interval": "1s", "max_elapsed_time": "0s"}  # 0: without end


def full_case(transport: str) -> None:
    """Registers the case of an agent that has no room for a while."""
    exporter, listen, _ = COLLECTOR_EXPORTERS[transport]

    @case(
        f"queue-full-{transport}",
        f"the Collector's {exporter} exporter, {transport}, into an agent without room: it comes back later, all fields",
        SECONDS_MAX,
    )
    def run_case(run: Run) -> None:
        front, behind = free_ports(2)
        folders = folders_in(run, "front", "behind")
        with (
            Collector(folders["behind"], otlp_http(behind)) as destination,
            outspan.Relay(run.folder, listeners(), f"http://127.0.0.1:{behind}", "--memory", "16MiB") as agent,
            Collector(folders["front"], otlp_http(front), to(agent.port(listen), transport)),
        ):
            destination.program.process.send_signal(signal.SIGSTOP)
            try:
                fill(run, agent)
                refused_before = agent.requests("deferred")
                sent = send_rich(run, front)
                agent.program.until(lambda: agent.requests("deferred") > refused_before, "refusal", ARRIVE_SECONDS_MAX)
            finally:
                destination.program.process.send_signal(signal.SIGCONT)
            agent.program.until(
                lambda: sent.keys() <= read(destination.file).keys(), "delivery of what was refused", ARRIVE_SECONDS_MAX
            )
            refusals = agent.requests("deferred") - refused_before
        compare.same(sent, only(sent, read(destination.file)))
        run.note = f"the Collector's {exporter} exporter, {transport}: told {refusals} times to come back; all fields"


def away_case(transport: str) -> None:
    """Registers the case of an agent that is killed, and started again when there are spans for it."""
    exporter, listen, _ = COLLECTOR_EXPORTERS[transport]

    @case(
        f"queue-away-{transport}",
        f"the Collector's {exporter} exporter, {transport}, while the agent is killed and started again: all fields, none lost",
        SECONDS_MAX,
    )
    def run_case(run: Run) -> None:
        front, port = free_ports(2)
        folders = folders_in(run, "front", "one", "other")
        url = f"{listen}://127.0.0.1:{port}"
        with Collector(folders["front"], otlp_http(front), to(port, transport)) as collector:
            with outspan.Agent(folders["one"], [url]) as agent:
                first = send_rich(run, front)
                agent.program.until(lambda: files.count(agent.file) >= len(first), "first spans", ARRIVE_SECONDS_MAX)
                agent.program.kill()
            second = send_rich(run, front)
            collector.program.until_printed("Exporting failed. Will retry", ARRIVE_SECONDS_MAX)
            with outspan.Agent(folders["other"], [url]) as again:
                again.program.until(lambda: second.keys() <= read(again.file).keys(), "others", ARRIVE_SECONDS_MAX)
        compare.same(first, read(agent.file))
        compare.same(second, only(second, read(again.file)))


for each_transport in COLLECTOR_EXPORTERS:
    full_case(each_transport)
    away_case(each_transport)


def folders_in(run: Run, *names: str) -> dict[str, Path]:
    """Makes folders for programs of one case."""
    folders = {name: run.folder / name for name in names}
    for folder in folders.values():
        folder.mkdir()
    return folders


def to(port: int, transport: str) -> dict:
    """Returns the exporter of a Collector to an agent, which tries again without end."""
    exporter, listen, options = COLLECTOR_EXPORTERS[transport]
    scheme = "" if listen == "grpc" else "http://"
    endpoint = {"endpoint": f"{scheme}127.0.0.1:{port}", "tls": {"insecure": True}}
    return {exporter: {**endpoint, "retry_on_failure": RETRY, **options}}


def send_rich(run: Run, port: int) -> dict:
    """Sends a rich set of its own to a Collector, and returns it as it is to arrive."""
    requests = rich.requests()
    file = numbered(run.folder, "spans.jsonl")
    files.write_json_lines(file, requests)
    outspan.send(run.folder, file, f"http://127.0.0.1:{port}")
    return compare.flat(requests)


def read(file: Path) -> dict:
    """Returns the spans of a file; those that came twice count once, because to come back may mean to come again."""
    found = {}
    for request in files.read_whole(file):
        found |= compare.flat([request])
    return found


def only(wanted: dict, found: dict) -> dict:
    """Returns the spans that are among the wanted ones."""
    return {key: span for key, span in found.items() if key in wanted}
