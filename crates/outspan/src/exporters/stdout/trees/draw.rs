//! Draws a trace.

use outspan_wire::otlp::Hex;

use super::super::text;
use super::super::text::push;
use super::forest::Trace;
use super::grow::Row;
use super::grow::Tree;
use super::node::Detail;
use super::node::Node;
use super::width;

/// Deeper levels are drawn at this one.
const LEVELS_MAX: usize = 24;
const SERVICE_COLUMNS_MAX: usize = 20;
const NAME_COLUMNS_MIN: usize = 24;
const BAR_COLUMNS_MIN: usize = 8;
const BAR_COLUMNS_MAX: usize = 40;
const GAP: &str = "  ";

/// How traces are drawn.
#[derive(Debug)]
pub(super) struct Drawing {
    pub(super) with_times: bool,
    pub(super) with_colors: bool,
    pub(super) width: usize,
}

/// The columns of one trace.
#[derive(Debug, Default)]
struct Columns {
    left: usize,
    service: usize,
    duration: usize,
    bar: usize,
    /// When the bars begin and end, in nanoseconds since 1970.
    start: u64,
    end: u64,
}

/// Which levels go on below the current row.
#[derive(Debug, Default)]
struct Branches {
    goes_on: Vec<bool>,
}

/// SGR parameters (ECMA-48, 8.3.117).
#[derive(Clone, Copy, Debug)]
enum Style {
    Plain,
    Bold,
    Dim,
    Red,
    Service(u8),
}

impl Drawing {
    /// Draws a trace, with an empty line after it. `is_rest` says that a part of it was shown before.
    pub(super) fn draw(&self, trace: &Trace, is_rest: bool) -> String {
        let tree = Tree::grow(trace.nodes());
        let columns = self.columns(trace, &tree);
        let mut out = String::new();
        self.push_head(&mut out, trace, is_rest);
        let mut branches = Branches::default();
        for row in tree.rows() {
            branches.enter(row);
            match trace.nodes().get(row.entry) {
                Some(node) => self.push_span(&mut out, node, row, &tree, &branches, &columns),
                None => self.push_missing(&mut out, row, &tree),
            }
        }
        out.push('\n');
        out
    }

    fn columns(&self, trace: &Trace, tree: &Tree) -> Columns {
        let mut columns = Columns {
            start: trace.start(),
            end: trace.end(),
            ..Columns::default()
        };
        let mut longest_status = 0;
        for row in tree.rows() {
            let Some(node) = trace.nodes().get(row.entry) else {
                continue;
            };
            let name = prefix_columns(row.depth) + width::of(&self.name_of(node, row, tree));
            columns.left = columns.left.max(name);
            columns.service = columns.service.max(width::of(&node.service));
            columns.duration = columns.duration.max(width::of(&duration_of(node)));
            let status = node
                .status
                .as_ref()
                .map_or(0, |status| GAP.len() + width::of(&status.text));
            longest_status = longest_status.max(status);
        }
        columns.left = columns.left.min(self.width * 9 / 20);
        columns.service = columns.service.min(SERVICE_COLUMNS_MAX);
        // A long status goes beyond the line, and not at the cost of every bar.
        let status = longest_status.min(self.width / 4);
        let taken = columns.left + columns.service + columns.duration + 4 * GAP.len() + status;
        let left_over = self.width.saturating_sub(taken);
        columns.bar = left_over.clamp(BAR_COLUMNS_MIN, BAR_COLUMNS_MAX);
        columns
    }

    fn push_head(&self, out: &mut String, trace: &Trace, is_rest: bool) {
        let mut head = format!("trace {}", Hex(&trace.id()));
        let start = trace.start();
        if self.with_times && start != 0 {
            head.push_str(" · ");
            text::push_short_time(&mut head, start);
            if trace.end() != 0 {
                let took = text::duration(text::nanos_between(start, trace.end()));
                push(&mut head, format_args!(" · {took}"));
            }
        }
        let services: std::collections::HashSet<_> =
            trace.nodes().iter().map(|node| &node.service).collect();
        push_count(&mut head, trace.nodes().len(), "span");
        push_count(&mut head, services.len(), "service");
        self.push(out, Style::Bold, &head);
        let errors = trace.nodes().iter().filter(|node| node.is_error()).count();
        if errors > 0 {
            let mut words = String::new();
            push_count(&mut words, errors, "error");
            self.push(out, Style::Red, &words);
        }
        if let Some(words) = what_is_missing(trace, is_rest) {
            self.push(out, Style::Bold, &format!(" · {words}"));
        }
        out.push('\n');
    }

    fn push_missing(&self, out: &mut String, row: Row, tree: &Tree) {
        let Some(id) = tree.missing_parent(row.entry) else {
            return;
        };
        let words = format!("{GAP}(span {} has not come)", Hex(&id));
        self.push(out, Style::Dim, &words);
        out.push('\n');
    }

    fn push_span(
        &self,
        out: &mut String,
        node: &Node,
        row: Row,
        tree: &Tree,
        branches: &Branches,
        columns: &Columns,
    ) {
        let line_start = out.len();
        let prefix = branches.prefix(row);
        out.push_str(GAP);
        self.push(out, Style::Dim, &prefix);
        let taken = width::of(&prefix);
        let mut name = self.name_of(node, row, tree);
        width::cut(
            &mut name,
            columns.left.saturating_sub(taken).max(NAME_COLUMNS_MIN),
        );
        let style = if node.is_error() {
            Style::Red
        } else {
            Style::Plain
        };
        self.push(out, style, &name);
        width::pad(out, taken + width::of(&name), columns.left);
        out.push_str(GAP);
        self.push_service(out, node, columns.service);
        if self.with_times {
            self.push_times(out, node, columns);
        }
        if let Some(status) = &node.status {
            let style = if status.is_error {
                Style::Red
            } else {
                Style::Dim
            };
            if self.with_times {
                width::pad(out, columns.end_of_bar(node), columns.bar);
            }
            out.push_str(GAP);
            self.push(out, style, &status.text);
        }
        let line_end = line_start
            + out
                .get(line_start..)
                .map_or(0, |line| line.trim_end().len());
        out.truncate(line_end);
        out.push('\n');
        let has_children = !tree.children_of(row.entry).is_empty();
        let below = branches.prefix_below(row, has_children);
        for detail in &node.details {
            self.push_detail(out, node, detail, &below);
        }
    }

    fn name_of(&self, node: &Node, row: Row, tree: &Tree) -> String {
        let mut name = match row.depth > LEVELS_MAX {
            true => format!("(level {}) {}", row.depth, node.name),
            false => node.name.clone(),
        };
        if node.name.is_empty() {
            name.push_str("(no name)");
        }
        if tree.breaks_circle(row.entry) {
            name.push_str(" (its parents form a circle)");
        }
        name
    }

    fn push_service(&self, out: &mut String, node: &Node, columns: usize) {
        let mut service = node.service.to_string();
        width::cut(&mut service, columns);
        self.push(out, Style::Service(color_of(&node.service)), &service);
        width::pad(out, width::of(&service), columns);
    }

    fn push_times(&self, out: &mut String, node: &Node, columns: &Columns) {
        let duration = duration_of(node);
        out.push_str(GAP);
        width::pad(out, width::of(&duration), columns.duration);
        out.push_str(&duration);
        out.push_str(GAP);
        let style = if node.is_error() {
            Style::Red
        } else {
            Style::Service(color_of(&node.service))
        };
        self.push(out, style, &columns.bar_text(node));
    }

    fn push_detail(&self, out: &mut String, node: &Node, detail: &Detail, prefix: &str) {
        out.push_str(GAP);
        self.push(out, Style::Dim, prefix);
        let mut words = String::new();
        if let Some(time) = detail.time {
            words.push_str("· ");
            if self.with_times && time != 0 && node.start != 0 {
                let offset = text::nanos_between(node.start, time);
                let sign = if offset < 0 { "" } else { "+" };
                push(
                    &mut words,
                    format_args!("{sign}{} ", text::duration(offset)),
                );
            }
        }
        words.push_str(&detail.text);
        let style = if detail.is_error {
            Style::Red
        } else {
            Style::Dim
        };
        self.push(out, style, &words);
        out.push('\n');
    }

    fn push(&self, out: &mut String, style: Style, words: &str) {
        let code = match style {
            Style::Plain => 0,
            Style::Bold => 1,
            Style::Dim => 2,
            Style::Red => 31,
            Style::Service(color) => color,
        };
        match self.with_colors && code != 0 && !words.trim().is_empty() {
            true => push(out, format_args!("\x1b[{code}m{words}\x1b[0m")),
            false => out.push_str(words),
        }
    }
}

impl Columns {
    /// Where the span's bar begins and ends, on the scale of the trace; `None` if its times make no sense.
    fn bar(&self, node: &Node) -> Option<(usize, usize)> {
        if node.start == 0 || node.end < node.start {
            return None;
        }
        let total = u128::from(self.end.saturating_sub(self.start)).max(1);
        let scale = |time: u64| {
            let passed = u128::from(time.saturating_sub(self.start)) * self.bar as u128;
            usize::try_from(passed / total).unwrap_or(self.bar)
        };
        let from = scale(node.start).min(self.bar.saturating_sub(1));
        Some((from, scale(node.end).clamp(from, self.bar)))
    }

    /// How many columns the bar takes, the room in front of it included.
    fn end_of_bar(&self, node: &Node) -> usize {
        match self.bar(node) {
            None => 0,
            Some((from, to)) => to.max(from + 1),
        }
    }

    fn bar_text(&self, node: &Node) -> String {
        let Some((from, to)) = self.bar(node) else {
            return String::new();
        };
        let mut bar = " ".repeat(from);
        match to - from {
            0 => bar.push('▏'),
            length => bar.push_str(&"█".repeat(length)),
        }
        bar
    }
}

impl Branches {
    fn enter(&mut self, row: Row) {
        // Levels beyond the last that is drawn need no memory.
        self.goes_on.truncate(row.depth.min(LEVELS_MAX + 1));
        if row.depth <= LEVELS_MAX {
            self.goes_on.push(!row.is_last);
        }
    }

    /// What stands in front of a row's name.
    fn prefix(&self, row: Row) -> String {
        let level = row.depth.min(LEVELS_MAX);
        let mut prefix = self.lines(level.saturating_sub(1));
        if level > 0 {
            prefix.push_str(if row.is_last { "└─ " } else { "├─ " });
        }
        prefix
    }

    /// What stands in front of the lines that belong to a row.
    fn prefix_below(&self, row: Row, has_children: bool) -> String {
        let mut prefix = self.lines(row.depth.min(LEVELS_MAX));
        prefix.push_str(if has_children { "│  " } else { "   " });
        prefix
    }

    fn lines(&self, levels: usize) -> String {
        let levels = self.goes_on.iter().skip(1).take(levels);
        levels
            .map(|goes_on| if *goes_on { "│  " } else { "   " })
            .collect()
    }
}

fn prefix_columns(depth: usize) -> usize {
    3 * depth.min(LEVELS_MAX)
}

fn duration_of(node: &Node) -> String {
    match node.start == 0 || node.end == 0 {
        true => "?".to_owned(),
        false => text::duration(text::nanos_between(node.start, node.end)),
    }
}

fn push_count(out: &mut String, count: usize, what: &str) {
    let plural = if count == 1 { "" } else { "s" };
    push(out, format_args!(" · {count} {what}{plural}"));
}

fn what_is_missing(trace: &Trace, is_rest: bool) -> Option<String> {
    if is_rest {
        return Some("continued".to_owned());
    }
    match (trace.missing_parents(), trace.has_root()) {
        (0, true) => None,
        (0, false) => Some("incomplete: no root".to_owned()),
        (1, _) => Some("incomplete: a parent has not come".to_owned()),
        (missing, _) => Some(format!("incomplete: {missing} parents have not come")),
    }
}

/// Gives a service the same colour each time.
fn color_of(service: &str) -> u8 {
    const COLORS: [u8; 10] = [32, 33, 34, 35, 36, 92, 93, 94, 95, 96];

    // FNV-1a, which is the same in every run, where the standard hasher is not.
    let hash = service
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let place = usize::try_from(hash % COLORS.len() as u64).unwrap_or(0);
    COLORS.get(place).copied().unwrap_or(36)
}
