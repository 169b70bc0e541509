"""What `cargo xtask dist` packs, in the hands of Debian's tools, of shells and of systemd."""

import functools
import tarfile
from pathlib import Path

from cases import Run
from cases import case
from install import INTEROP
from install import machine
from programs import Failed
from programs import run as run_command

DIST = INTEROP.parent / "target" / "dist"
SECONDS_MAX = 300
STEP_SECONDS_MAX = 60

# How open a service may be, of 100 in all: systemd calls less than 20 of its tenths "OK".
EXPOSURE_MAX = 20


def packed(ending: str) -> Path:
    """Returns the one file of `target/dist` with this ending."""
    found = sorted(DIST.glob(f"*{ending}"))
    if len(found) != 1:
        raise Failed(f"{len(found)} files in target/dist end in {ending}: `cargo xtask dist` makes one")
    return found[0]


def unpacked(run: Run) -> Path:
    """Unpacks the Debian package as Debian does, and returns the folder."""
    folder = run.folder / "debian"
    run_command([machine.need("dpkg-deb"), "-x", packed(".deb"), folder], run.folder, STEP_SECONDS_MAX)
    return folder


@case("package-contents", "tarball and Debian package hold one program, and are what their checksums say", SECONDS_MAX)
def contents(run: Run) -> None:
    run_command(["sha256sum", "--check", "--strict", "SHA256SUMS"], DIST, STEP_SECONDS_MAX)
    debian = unpacked(run)
    with tarfile.open(packed(".tar.gz")) as archive:
        archive.extractall(run.folder, filter="data")
    (tarball,) = run.folder.glob("outspan-*")
    program = tarball / "outspan"
    if program.read_bytes() != (debian / "usr/bin/outspan").read_bytes():
        raise Failed("the two hold different programs")
    version = run_command([program, "--version"], run.folder, STEP_SECONDS_MAX).strip()
    if version != "outspan " + tarball.name.split("-")[1]:
        raise Failed(f"{tarball.name} holds {version}")
    demo = run_command([program, "demo", "--spans", "50", "--rate", "0", "--quiet"], run.folder, STEP_SECONDS_MAX)
    if "checkout" not in demo and "├" not in demo:
        raise Failed(f"the demo shows no tree: {demo[:200]!r}")
    fields = run_command(["dpkg-deb", "--field", packed(".deb"), "Version", "Depends"], run.folder, STEP_SECONDS_MAX)
    run.note = f"{version}, {program.stat().st_size / 2**20:.1f} MiB; {' '.join(fields.split())}"


@case("package-manual", "groff sets every page of the manual without a warning", SECONDS_MAX)
def manual(run: Run) -> None:
    debian = unpacked(run)
    pages = sorted(debian.glob("usr/share/man/man1/*.gz"))
    if not pages:
        raise Failed("there is no page")
    for page in pages:
        # The warnings are on standard error, and the page is not.
        command = f"{machine.need('man')} --warnings --encoding=UTF-8 --local-file '{page}' >page.txt"
        warnings = run_command(["sh", "-c", command], run.folder, STEP_SECONDS_MAX)
        name = page.name.removesuffix(".1.gz")
        if warnings.strip() or f"{name}(1)" not in (run.folder / "page.txt").read_text(encoding="utf-8"):
            raise Failed(f"{page.name}: {warnings.strip() or 'the page does not name itself'}")
    run.note = f"{len(pages)} pages"


@case("package-unit", "systemd finds nothing wrong with the unit, and the service well shut in", SECONDS_MAX)
def unit(run: Run) -> None:
    analyze = machine.need("systemd-analyze")
    debian = unpacked(run)
    text = (debian / "usr/lib/systemd/system/outspan.service").read_text(encoding="utf-8")
    # The program is not installed here, so the unit is told where it is.
    changed = text.replace("/usr/bin/outspan", str(debian / "usr/bin/outspan"))
    changed = changed.replace("/etc/default/outspan", str(debian / "etc/default/outspan"))
    file = run.folder / "outspan.service"
    file.write_text(changed, encoding="utf-8")
    said = run_command([analyze, "verify", "--man=no", file], run.folder, STEP_SECONDS_MAX)
    if said.strip():
        raise Failed(f"systemd says: {said.strip()}")
    threshold = f"--threshold={EXPOSURE_MAX}"
    said = run_command([analyze, "security", "--offline=true", "--no-pager", threshold, file], run.folder, STEP_SECONDS_MAX)
    run.note = said.strip().splitlines()[-1].strip("→ ")


def completes(shell: str):
    """Registers the case of a shell; the function returns what the shell offers after some words."""

    def register(offers):
        @case(f"package-{shell}", f"{shell} completes commands and options", SECONDS_MAX)
        @functools.wraps(offers)
        def run_case(run: Run) -> None:
            machine.need(shell)
            debian = unpacked(run)
            for words, expected in (
                (["ag"], {"agent"}),
                (["agent", "--listen-c"], {"--listen-cert", "--listen-client-ca"}),
                (["agent", "--color", "a"], {"auto", "always"}),
            ):
                found = offers(run, debian, words)
                if found != expected:
                    raise Failed(f"after {words} {shell} offers {sorted(found)}, and {sorted(expected)} was expected")

        return run_case

    return register


@completes("bash")
def bash(run: Run, debian: Path, words: list[str]) -> set[str]:
    script = f"""
        source '{debian}/usr/share/bash-completion/completions/outspan'
        COMP_WORDS=(outspan {' '.join(words)}) COMP_CWORD={len(words)}
        _outspan outspan {words[-1]} {words[-2] if len(words) > 1 else 'outspan'}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return set(run_command(["bash", "--norc", "-c", script], run.folder, STEP_SECONDS_MAX).split())


@completes("fish")
def fish(run: Run, debian: Path, words: list[str]) -> set[str]:
    # Completions come for programs that are there.
    script = f"""
        set -x PATH '{debian}/usr/bin' $PATH
        source '{debian}/usr/share/fish/vendor_completions.d/outspan.fish'
        complete -C 'outspan {' '.join(words)}'
    """
    printed = run_command(["fish", "--no-config", "-c", script], run.folder, STEP_SECONDS_MAX)
    return {line.split("\t")[0] for line in printed.splitlines()}


@completes("zsh")
def zsh(run: Run, debian: Path, words: list[str]) -> set[str]:
    # A shell within a shell, because zsh completes at a terminal only; what it would offer it prints between marks.
    inner = f"""
        fpath=('{debian}/usr/share/zsh/vendor-completions' $fpath)
        autoload -Uz compinit && compinit -u -D
        compadd () {{
            if [[ ${{@[1,(i)(-|--)]}} == *-(O|A|D)\\ * ]] {{ builtin compadd "$@"; return $? }}
            local -a offered
            builtin compadd -A offered "$@"
            [[ -n $offered ]] && print -l -- "<"${{^offered}}">"
        }}
        bindkey '^I' complete-word
        zstyle ':completion:*' list-grouped false
        PS1=ready
    """
    (run.folder / ".zshrc").write_text(inner, encoding="utf-8")
    script = f"""
        zmodload zsh/zpty
        zpty shell ZDOTDIR='{run.folder}' PATH='{debian}/usr/bin':$PATH zsh -i
        zpty -r shell said '*ready*'
        zpty -w -n shell 'outspan {' '.join(words)}'$'\\t'
        zpty -w -n shell $'\\x15'"print -r -- en''d"$'\\n'
        zpty -r shell said '*end*'
        print -r -- $said
        zpty -d shell
    """
    printed = run_command(["zsh", "-f", "-c", script], run.folder, STEP_SECONDS_MAX)
    offered = {part.split(">")[0] for part in printed.split("<")[1:] if ">" in part}
    return {word for word in offered if word.startswith(words[-1])}
