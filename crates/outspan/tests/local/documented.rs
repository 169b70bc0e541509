//! What the specification wants said in the documentation.

/// The module's documentation in a file, as one line.
fn of_module(source: &str) -> String {
    join(source, "//!")
}

/// The documentation above the first line that begins like this, as one line.
fn above(source: &str, item: &str) -> String {
    let place = source.find(&format!("\n{item}"));
    let before = &source[..place.unwrap_or_else(|| panic!("there is no {item:?}"))];
    let lines = before.lines().rev();
    let documentation = lines.take_while(|line| line.starts_with("///") || line.starts_with("#["));
    let lines: Vec<_> = documentation.collect();
    let lines: Vec<_> = lines.into_iter().rev().collect();
    join(&lines.join("\n"), "///")
}

fn join(source: &str, mark: &str) -> String {
    let lines = source.lines().filter_map(|line| line.strip_prefix(mark));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_console_warns_that_its_format_is_not_stable_and_not_for_production() {
    let source = include_str!("../../src/exporters/stdout/mod.rs");
    let module = of_module(source);
    for words in [
        "not stable",
        "no program should take them apart",
        "not meant for production",
    ] {
        assert!(module.contains(words), "{words}: {module}");
    }
    for item in ["pub fn pretty", "pub fn compact", "pub fn trees"] {
        let words = above(source, item);
        assert!(words.contains("not stable"), "{item}: {words}");
    }
}

#[test]
fn export_says_what_it_needs_of_concurrency() {
    let export = above(include_str!("../../src/export/mod.rs"), "pub trait Export:");
    assert!(export.contains("Calls may run concurrently"), "{export}");
    let from_sdk = include_str!("../../src/sdk/from_sdk/mod.rs");
    let from_sdk = above(from_sdk, "pub struct FromSdk");
    assert!(from_sdk.contains("one call at a time"), "{from_sdk}");
}
