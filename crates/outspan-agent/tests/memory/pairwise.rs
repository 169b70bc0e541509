//! Few combinations that have every pair of values of two dimensions.

use std::collections::BTreeSet;

/// Numbers of the values, one for each dimension.
pub(crate) type Row = Vec<usize>;

/// A pair of values: their dimensions and numbers.
type Pair = (usize, usize, usize, usize);

fn pairs(row: &[usize]) -> impl Iterator<Item = Pair> {
    let all = row.iter().enumerate();
    all.flat_map(move |(one, first)| {
        let others = row.iter().enumerate().skip(one + 1);
        others.map(move |(other, second)| (one, *first, other, *second))
    })
}

/// Chooses of the rows so many that every pair of values that occurs in one of them occurs in a chosen one. The same rows give
/// the same choice: each time, the first row with the most pairs that are new.
pub(crate) fn choose(rows: &[Row]) -> Vec<Row> {
    let mut open: BTreeSet<Pair> = rows.iter().flat_map(|row| pairs(row)).collect();
    let mut chosen = Vec::new();
    while !open.is_empty() {
        let new = |row: &Row| pairs(row).filter(|pair| open.contains(pair)).count();
        // The first of several that are equally good: `max_by_key` takes the last.
        let Some(best) = rows.iter().rev().max_by_key(|row| new(row)) else {
            break;
        };
        pairs(best).for_each(|pair| {
            open.remove(&pair);
        });
        chosen.push(best.clone());
    }
    chosen
}

#[test]
fn every_pair_is_in_a_chosen_row() {
    let mut rows = Vec::new();
    for a in 0..3 {
        for b in 0..12 {
            for c in 0..5 {
                // Some combinations make no sense.
                if b < 10 || c < 2 {
                    rows.push(vec![a, b, c]);
                }
            }
        }
    }
    let chosen = choose(&rows);
    let all: BTreeSet<_> = rows.iter().flat_map(|row| pairs(row)).collect();
    let covered: BTreeSet<_> = chosen.iter().flat_map(|row| pairs(row)).collect();
    assert_eq!(all, covered);
    assert!(chosen.iter().all(|row| rows.contains(row)));
    // No fewer than the two largest dimensions have pairs, and not many more.
    assert!((54..=60).contains(&chosen.len()), "{}", chosen.len());
    assert_eq!(chosen, choose(&rows));
}
