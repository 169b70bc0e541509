"""Everything that the SDK for Rust can say, by our exporter and by the SDK's own: what arrives of both is the same."""

from cases import Run
from cases import case
from cases.library import FORMS
from cases.library import all_fields
from cases.library import otlp_grpc
from install import users
from programs import free_ports
from programs import run as run_command
from programs.collector import Collector

SECONDS_MAX = 300
SEND_SECONDS_MAX = 120

# Kinds and statuses, values and what these link to, edges, and the span that exceeds limits.
SPANS = 5 + 2 + 3 + 1


def rich_case(form: str) -> None:
    """Registers the case of one of our exporters."""
    shown, receiver, path, compared = FORMS[form]
    kept = "all fields" if compared is all_fields else f"all that docs/{form.partition('-')[0]}.md keeps"

    @case(f"user-rich-{form}", f"spans of the SDK for Rust, {shown}, beside the SDK's own exporter: {kept}", SECONDS_MAX)
    def run_case(run: Run) -> None:
        program = users.ensure("rich")
        port, reference_port = free_ports(2)
        ours_folder, reference_folder = run.folder / "ours", run.folder / "reference"
        ours_folder.mkdir()
        reference_folder.mkdir()
        with (
            Collector(ours_folder, receiver(port)) as ours,
            Collector(reference_folder, otlp_grpc(reference_port)) as reference,
        ):
            endpoint = f"http://127.0.0.1:{port}{path}"
            arguments = [form, endpoint, f"http://127.0.0.1:{reference_port}"]
            run_command([program, *arguments], run.folder, SEND_SECONDS_MAX)
            expected = reference.received(SPANS)
            found = ours.received(SPANS)
        compared(expected, found)


for each_form in FORMS:
    rich_case(each_form)
