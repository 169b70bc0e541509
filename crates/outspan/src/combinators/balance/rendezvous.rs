//! Which member a trace prefers.
//!
//! Each member gets a number from its name and the trace id; the highest wins. So a trace moves only when its own member
//! goes, or when a new member has a higher number for it: of n members, to one nth of the traces.

/// Chooses for a trace. `0` if there is nobody to choose.
pub(super) fn choose<'a>(
    members: impl Iterator<Item = (usize, &'a str)>,
    trace_id: [u8; 16],
) -> usize {
    let trace = u128::from_be_bytes(trace_id);
    let trace = mix((trace >> 64) as u64) ^ mix(trace as u64).rotate_left(1);
    members
        .map(|(place, name)| (mix(hash(name) ^ trace), place))
        .max()
        .map_or(0, |(_, place)| place)
}

/// FNV-1a, 64 bits: the same in every process and version, unlike the standard library's.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(members: &[&str], trace: u128) -> usize {
        choose(members.iter().copied().enumerate(), trace.to_be_bytes())
    }

    #[test]
    fn traces_are_spread_evenly() {
        let members = ["a:4317", "b:4317", "c:4317"];
        let mut counts = [0; 3];
        for trace in 0..30_000_u128 {
            counts[chosen(&members, trace << 17 | 5)] += 1;
        }
        for count in counts {
            assert!((9_500..10_500).contains(&count), "{counts:?}");
        }
    }

    #[test]
    fn only_the_traces_of_a_member_that_goes_move() {
        let all = ["a", "b", "c"];
        let left = ["a", "c"];
        for trace in 0..10_000_u128 {
            let before = all[chosen(&all, trace)];
            let after = left[chosen(&left, trace)];
            assert!(before == after || before == "b");
        }
    }

    #[test]
    fn the_choice_is_the_same_for_ever() {
        let members = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let choices: Vec<_> = (0..12).map(|trace| chosen(&members, trace)).collect();
        let pinned = [1, 2, 2, 5, 0, 5, 0, 0, 7, 4, 7, 7];
        assert_eq!(choices, pinned, "programs of two versions must agree");
    }
}
