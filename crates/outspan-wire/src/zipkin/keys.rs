//! Finding a key among the tags of one span.

use std::hash::BuildHasher;
use std::hash::Hasher;
use std::hash::RandomState;

/// How many slots a table has at first; the usual span has up to 30 tags.
const SLOTS_AT_FIRST: usize = 64;

/// How many slots a table keeps from span to span.
const SLOTS_KEPT_MAX: usize = 1 << 12;

/// A hash table of numbers, of which each stands for a key that the caller keeps.
///
/// It is emptied by counting on, and so costs nothing but the insertions. The hash is seeded, because keys come from the
/// network.
#[derive(Debug)]
pub(super) struct KeyTable {
    seed: u64,
    epoch: u32,
    slots: Vec<Slot>,
    len: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The epoch in which it was filled; 0 never is.
    epoch: u32,
    number: u32,
    hash: u64,
}

impl KeyTable {
    pub(super) fn new() -> Self {
        Self {
            seed: RandomState::new().build_hasher().finish(),
            epoch: 1,
            slots: vec![Slot::default(); SLOTS_AT_FIRST],
            len: 0,
        }
    }

    /// Forgets all keys.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        match self.epoch.checked_add(1) {
            Some(epoch) if self.slots.len() <= SLOTS_KEPT_MAX => self.epoch = epoch,
            _ => {
                self.slots = vec![Slot::default(); SLOTS_AT_FIRST];
                self.epoch = 1;
            }
        }
    }

    /// Returns the number of an equal key, or else takes `number` for this one and returns `None`.
    #[inline]
    pub(super) fn insert(
        &mut self,
        hash: u64,
        number: usize,
        is_equal: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if 2 * self.len >= self.slots.len() {
            self.grow();
        }
        let place = match self.find_slot(hash, is_equal) {
            Ok(number) => return Some(number),
            Err(place) => place,
        };
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = Slot {
                epoch: self.epoch,
                number: number as u32,
                hash,
            };
            self.len += 1;
        }
        None
    }

    /// Returns the number of an equal key.
    pub(super) fn find(&self, hash: u64, is_equal: impl Fn(usize) -> bool) -> Option<usize> {
        self.find_slot(hash, is_equal).ok()
    }

    /// Returns the number of an equal key, or else the place where it belongs.
    #[inline]
    fn find_slot(&self, hash: u64, is_equal: impl Fn(usize) -> bool) -> Result<usize, usize> {
        let mask = self.slots.len() - 1;
        let mut place = hash as usize & mask;
        // Half of the slots are free, so this ends.
        while let Some(slot) = self.slots.get(place) {
            if slot.epoch != self.epoch {
                break;
            }
            if slot.hash == hash && is_equal(slot.number as usize) {
                return Ok(slot.number as usize);
            }
            place = (place + 1) & mask;
        }
        Err(place)
    }

    #[cold]
    fn grow(&mut self) {
        let doubled = vec![Slot::default(); 2 * self.slots.len()];
        let mask = doubled.len() - 1;
        let old = std::mem::replace(&mut self.slots, doubled);
        for slot in old.into_iter().filter(|slot| slot.epoch == self.epoch) {
            let mut place = slot.hash as usize & mask;
            while self.slots.get(place).is_some_and(|taken| taken.epoch != 0) {
                place = (place + 1) & mask;
            }
            if let Some(free) = self.slots.get_mut(place) {
                *free = slot;
            }
        }
    }

    /// Hashes a key: eight bytes at a time, multiplied and folded.
    #[inline]
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut hash = self.seed ^ key.len() as u64;
        let (words, rest) = key.as_chunks::<8>();
        for word in words {
            hash = fold(hash ^ u64::from_le_bytes(*word), FACTOR);
        }
        let mut last = 0;
        for &byte in rest {
            last = last << 8 | u64::from(byte);
        }
        fold(hash ^ last, FACTOR)
    }
}

#[inline]
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_inserted_and_nothing_after_clearing() {
        let keys: Vec<String> = (0..10_000).map(|number| format!("key.{number}")).collect();
        let mut table = KeyTable::new();
        for _ in 0..3 {
            for (number, key) in keys.iter().enumerate() {
                let hash = table.hash(key.as_bytes());
                assert_eq!(
                    table.insert(hash, number, |other| keys[other] == *key),
                    None
                );
            }
            for (number, key) in keys.iter().enumerate() {
                let hash = table.hash(key.as_bytes());
                let found = table.find(hash, |other| keys[other] == *key);
                assert_eq!(found, Some(number));
                let again = table.insert(hash, 0, |other| keys[other] == *key);
                assert_eq!(again, Some(number));
            }
            let hash = table.hash(b"another");
            assert_eq!(table.find(hash, |other| keys[other] == "another"), None);
            table.clear();
            let hash = table.hash(b"key.1");
            assert_eq!(table.find(hash, |_| true), None);
        }
    }

    #[test]
    fn keys_with_equal_hashes_are_told_apart() {
        let keys = ["a", "b", "c"];
        let mut table = KeyTable::new();
        for (number, key) in keys.iter().enumerate() {
            assert_eq!(table.insert(7, number, |other| keys[other] == *key), None);
        }
        for (number, key) in keys.iter().enumerate() {
            assert_eq!(table.find(7, |other| keys[other] == *key), Some(number));
        }
    }
}
