//! Puts the spans of a trace in their places, whatever they claim about their parents.

use std::collections::HashMap;

use super::node::Node;
use super::node::SpanId;

/// The spans of a trace as a tree, or as several.
///
/// Spans are numbered as they came; the parents that are missing follow, one number each.
#[derive(Debug)]
pub(super) struct Tree {
    /// The entries without a parent here, in the order of their start.
    tops: Vec<usize>,
    /// The children of each entry, in the order of their start.
    children: Vec<Vec<usize>>,
    /// The ids of the missing parents.
    missing: Vec<SpanId>,
    /// The spans that were made a top to break a circle of parents.
    broken_circles: Vec<usize>,
    spans: usize,
}

/// An entry on its way from top to bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) entry: usize,
    /// How many parents are above it.
    pub(super) depth: usize,
    /// Whether it is the last child of its parent.
    pub(super) is_last: bool,
}

/// The entries of a tree from top to bottom.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    tree: &'a Tree,
    stack: Vec<Row>,
}

impl Tree {
    pub(super) fn grow(nodes: &[Node]) -> Self {
        let mut tree = Self {
            tops: Vec::new(),
            children: vec![Vec::new(); nodes.len()],
            missing: Vec::new(),
            broken_circles: Vec::new(),
            spans: nodes.len(),
        };
        let parents = tree.attach(nodes);
        tree.break_circles(nodes, &parents);
        tree.sort(nodes);
        tree
    }

    /// Gives every span its parent, and returns the parents.
    fn attach(&mut self, nodes: &[Node]) -> Vec<Option<usize>> {
        let mut by_id = HashMap::with_capacity(nodes.len());
        for (entry, node) in nodes.iter().enumerate() {
            // A span that came twice is shown twice; its children stay with the first.
            by_id.entry(node.id).or_insert(entry);
        }
        let mut parents = vec![None; nodes.len()];
        for (entry, node) in nodes.iter().enumerate() {
            let Some(parent_id) = node.parent else {
                self.tops.push(entry);
                continue;
            };
            let parent = *by_id.entry(parent_id).or_insert_with(|| {
                self.missing.push(parent_id);
                self.children.push(Vec::new());
                self.tops.push(self.children.len() - 1);
                self.children.len() - 1
            });
            if let Some(children) = self.children.get_mut(parent) {
                children.push(entry);
            }
            if let Some(place) = parents.get_mut(entry) {
                *place = Some(parent);
            }
        }
        parents
    }

    /// Makes one span of each circle of parents a top, so that every span is reached.
    fn break_circles(&mut self, nodes: &[Node], parents: &[Option<usize>]) {
        let mut is_reached = vec![false; self.children.len()];
        for top in self.tops.clone() {
            self.reach(top, &mut is_reached);
        }
        let mut visits = vec![None; nodes.len()];
        for entry in 0..nodes.len() {
            if is_reached.get(entry) != Some(&false) {
                continue;
            }
            let top = earliest_of_circle(entry, nodes, parents, &mut visits);
            let parent = parents.get(top).copied().flatten();
            if let Some(children) = parent.and_then(|parent| self.children.get_mut(parent)) {
                children.retain(|child| *child != top);
            }
            self.tops.push(top);
            self.broken_circles.push(top);
            self.reach(top, &mut is_reached);
        }
    }

    fn reach(&self, top: usize, is_reached: &mut [bool]) {
        let mut stack = vec![top];
        while let Some(entry) = stack.pop() {
            match is_reached.get_mut(entry) {
                Some(reached) if !*reached => *reached = true,
                _ => continue,
            }
            stack.extend(self.children_of(entry));
        }
    }

    fn sort(&mut self, nodes: &[Node]) {
        let start_of = |entry: &usize| nodes.get(*entry).map_or(0, |node| node.start);
        for children in &mut self.children {
            children.sort_by_key(start_of);
        }
        let children = &self.children;
        self.tops.sort_by_key(|top| match nodes.get(*top) {
            Some(node) => node.start,
            None => children
                .get(*top)
                .and_then(|children| children.first())
                .map_or(0, start_of),
        });
        self.broken_circles.sort_unstable();
    }

    pub(super) fn children_of(&self, entry: usize) -> &[usize] {
        self.children.get(entry).map_or(&[], Vec::as_slice)
    }

    /// The id of a parent that is missing; `None` for spans.
    pub(super) fn missing_parent(&self, entry: usize) -> Option<SpanId> {
        let number = entry.checked_sub(self.spans)?;
        self.missing.get(number).copied()
    }

    /// Whether the span stands on top only because its parents go round in a circle.
    pub(super) fn breaks_circle(&self, entry: usize) -> bool {
        self.broken_circles.binary_search(&entry).is_ok()
    }

    /// The entries from top to bottom, each child below its parent.
    pub(super) fn rows(&self) -> Rows<'_> {
        let mut rows = Rows {
            tree: self,
            stack: Vec::new(),
        };
        rows.push(&self.tops, 0);
        rows
    }
}

/// Follows the parents of `entry` into their circle, and returns the span of it that began first.
///
/// `visits` remembers who was met on the way from which entry, so that no way is longer than what hangs on its circle.
fn earliest_of_circle(
    entry: usize,
    nodes: &[Node],
    parents: &[Option<usize>],
    visits: &mut [Option<usize>],
) -> usize {
    let parent_of = |entry: usize| parents.get(entry).copied().flatten();
    let start_of = |entry: usize| nodes.get(entry).map_or(0, |node| node.start);
    let mut on_circle = entry;
    while let Some(visit) = visits.get_mut(on_circle)
        && *visit != Some(entry)
    {
        *visit = Some(entry);
        on_circle = parent_of(on_circle).unwrap_or(on_circle);
    }
    let mut earliest = on_circle;
    let mut next = parent_of(on_circle);
    while let Some(entry) = next.filter(|entry| *entry != on_circle) {
        if start_of(entry) < start_of(earliest) {
            earliest = entry;
        }
        next = parent_of(entry);
    }
    earliest
}

impl Rows<'_> {
    fn push(&mut self, entries: &[usize], depth: usize) {
        for (from_last, entry) in entries.iter().rev().enumerate() {
            self.stack.push(Row {
                entry: *entry,
                depth,
                is_last: from_last == 0,
            });
        }
    }
}

impl Iterator for Rows<'_> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let row = self.stack.pop()?;
        let tree = self.tree;
        self.push(tree.children_of(row.entry), row.depth + 1);
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes spans of id and parent; `0` is no parent.
    fn nodes(spans: &[(u64, u64)]) -> Vec<Node> {
        let node = |(start, (id, parent)): (usize, &(u64, u64))| Node {
            id: id.to_be_bytes(),
            parent: (*parent != 0).then(|| parent.to_be_bytes()),
            name: id.to_string(),
            service: "shop".into(),
            start: 1_000_000 - start as u64,
            end: 2_000_000,
            status: None,
            details: Vec::new(),
        };
        spans.iter().enumerate().map(node).collect()
    }

    /// Draws the entries with their depth in front.
    fn drawn(spans: &[(u64, u64)]) -> Vec<String> {
        let nodes = nodes(spans);
        let tree = Tree::grow(&nodes);
        tree.rows()
            .map(|row| match tree.missing_parent(row.entry) {
                Some(id) => format!("{} missing {}", row.depth, u64::from_be_bytes(id)),
                None => {
                    let circle = if tree.breaks_circle(row.entry) {
                        " circle"
                    } else {
                        ""
                    };
                    format!("{} {}{circle}", row.depth, nodes[row.entry].name)
                }
            })
            .collect()
    }

    #[test]
    fn children_stand_below_their_parents_in_the_order_of_their_start() {
        // Later entries of the list start earlier.
        assert_eq!(
            drawn(&[(4, 2), (3, 1), (2, 1), (1, 0)]),
            ["0 1", "1 2", "2 4", "1 3"]
        );
    }

    #[test]
    fn missing_parents_get_a_place_and_two_roots_one_each() {
        assert_eq!(
            drawn(&[(5, 9), (4, 9), (3, 8), (2, 0), (1, 0)]),
            [
                "0 1",
                "0 2",
                "0 missing 8",
                "1 3",
                "0 missing 9",
                "1 4",
                "1 5"
            ]
        );
    }

    #[test]
    fn circles_are_broken_at_the_earliest_span_and_everybody_is_shown_once() {
        assert_eq!(drawn(&[(1, 1)]), ["0 1 circle"]);
        assert_eq!(
            drawn(&[(5, 4), (4, 1), (3, 2), (2, 1), (1, 3)]),
            ["0 1 circle", "1 2", "2 3", "1 4", "2 5"]
        );
        assert_eq!(
            drawn(&[(5, 2), (4, 3), (3, 4), (2, 1), (1, 2)]),
            ["0 1 circle", "1 2", "2 5", "0 3 circle", "1 4"]
        );
    }

    #[test]
    fn a_span_that_came_twice_is_shown_twice() {
        assert_eq!(drawn(&[(2, 1), (1, 0), (1, 0)]), ["0 1", "0 1", "1 2"]);
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_is_no_trouble() {
        let spans: Vec<_> = (1..=100_000).map(|id| (id, id - 1)).collect();
        let nodes = nodes(&spans);
        let tree = Tree::grow(&nodes);
        let deepest = tree.rows().map(|row| row.depth).max();
        assert_eq!(deepest, Some(99_999));
    }
}
