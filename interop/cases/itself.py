"""The comparison itself: whatever is changed in the rich set is found, so that no case passes because nothing is compared."""

import ease
from cases import Run
from cases import case
from cases import table
from programs import Failed
from spans import compare
from spans import files
from spans import rich


@case("itself-every-change-is-found", "the comparison finds a change of any field of any span")
def every_change(run: Run) -> None:
    (request,) = rich.requests()
    expected = compare.flat([request])
    changes = 0
    for what, message, field, index in leaves(request, ""):
        changed, restore = change(message, field, index)
        if not changed:
            continue
        try:
            differences = list(compare.between(expected, compare.flat([request])))
        except compare.Different as error:
            differences = [str(error)]
        restore()
        if not differences:
            raise Failed(f"a change of {what} is not found")
        changes += 1
    compare.same(expected, compare.flat([request]))
    run.note = f"{changes} changes, all found"


@case("itself-files-keep-everything", "OTLP JSON as the cases write and read it keeps every field")
def files_keep_everything(run: Run) -> None:
    requests = rich.requests()
    file = run.folder / "spans.jsonl"
    files.write_json_lines(file, requests)
    compare.same(compare.flat(requests), compare.flat(files.read_json_lines(file)))


@case("itself-page", "docs/compatibility.md has every case, and the versions that run")
def page(run: Run) -> None:
    if not table.is_true():
        raise Failed(f"{table.PAGE.name} is not true any more: `interop/run --table` writes it anew")


@case("itself-ease", "docs/ease.md has the lines, dependencies and packages of the programs as they are")
def ease_page(run: Run) -> None:
    if differences := list(ease.untrue()):
        raise Failed(f"{ease.PAGE.name} is not true any more, `interop/run --ease` writes it anew: {'; '.join(differences)}")


def leaves(message, path: str):
    """Yields every field of a message and of those within that is set and no message itself."""
    for field, value in message.ListFields():
        name = f"{path}.{field.name}"
        values = list(value) if field.is_repeated else [value]
        for index, each in enumerate(values):
            if field.message_type:
                yield from leaves(each, f"{name}[{index}]")
            else:
                yield name, message, field.name, index if field.is_repeated else None


def change(message, field: str, index: int | None) -> tuple:
    """Changes one field; returns whether it could, and how to restore it."""
    if index is not None:
        return False, None
    before = getattr(message, field)
    setattr(message, field, other(before))
    return getattr(message, field) != before, lambda: setattr(message, field, before)


def other(value):
    """Returns another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return value - 1 if value > 0 else value + 1
        case float():
            return 1.0 if value != 1.0 else 2.0
        case bytes():
            return bytes([value[0] ^ 1]) + value[1:] if value else b"x"
    return value + "x"
