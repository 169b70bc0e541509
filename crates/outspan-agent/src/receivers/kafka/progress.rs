//! Which offsets may be committed: those before which everything is settled.

use std::collections::HashMap;
use std::collections::VecDeque;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Partition {
    pub(super) topic: String,
    pub(super) number: i32,
}

/// Follows what was read from each partition until it is settled.
///
/// Messages are handed over in groups, and groups are settled in any order. An offset may be committed when every group with a
/// message before it is settled, because whoever reads the partition next begins there.
#[derive(Debug, Default)]
pub(super) struct Progress {
    partitions: HashMap<Partition, VecDeque<Stretch>>,
}

/// A stretch of a partition, all of one group.
#[derive(Debug)]
struct Stretch {
    group: u64,
    /// The offset behind its last message.
    next: i64,
    is_settled: bool,
}

impl Progress {
    /// Notes that a message was read and belongs to a group. Groups come in order.
    pub(super) fn read(&mut self, partition: Partition, offset: i64, group: u64) {
        let stretches = self.partitions.entry(partition).or_default();
        let next = offset.saturating_add(1);
        match stretches.back_mut() {
            Some(last) if last.group == group => last.next = next,
            _ => stretches.push_back(Stretch {
                group,
                next,
                is_settled: false,
            }),
        }
    }

    /// Notes that nothing of a group is held any more.
    pub(super) fn settle(&mut self, group: u64) {
        for stretches in self.partitions.values_mut() {
            let of_group = stretches.iter_mut().find(|one| one.group == group);
            if let Some(stretch) = of_group {
                stretch.is_settled = true;
            }
        }
    }

    /// Takes the offsets that may be committed since the last time, each with its partition.
    pub(super) fn take_due(&mut self) -> Vec<(Partition, i64)> {
        let mut due = Vec::new();
        for (partition, stretches) in &mut self.partitions {
            let mut next = None;
            while stretches.front().is_some_and(|first| first.is_settled) {
                next = stretches.pop_front().map(|stretch| stretch.next);
            }
            due.extend(next.map(|next| (partition.clone(), next)));
        }
        due
    }

    /// Forgets a partition that is somebody else's now. What is settled of it later says nothing about its next reader.
    pub(super) fn forget(&mut self, partition: &Partition) {
        self.partitions.remove(partition);
    }

    /// Whether everything that was read is settled.
    pub(super) fn is_settled(&self) -> bool {
        let mut stretches = self.partitions.values().flatten();
        stretches.all(|stretch| stretch.is_settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> Partition {
        Partition {
            topic: "t".to_owned(),
            number,
        }
    }

    fn due(progress: &mut Progress) -> Vec<(i32, i64)> {
        let due = progress.take_due().into_iter();
        let mut due: Vec<_> = due
            .map(|(partition, next)| (partition.number, next))
            .collect();
        due.sort_unstable();
        due
    }

    #[test]
    fn an_offset_waits_for_everything_before_it() {
        let mut progress = Progress::default();
        progress.read(partition(0), 10, 1);
        progress.read(partition(0), 11, 1);
        progress.read(partition(0), 12, 2);
        progress.read(partition(0), 14, 3);
        assert_eq!(due(&mut progress), []);
        progress.settle(2);
        assert_eq!(due(&mut progress), [], "the first is open");
        progress.settle(1);
        assert_eq!(due(&mut progress), [(0, 13)]);
        assert!(!progress.is_settled());
        progress.settle(3);
        assert_eq!(due(&mut progress), [(0, 15)]);
        assert_eq!(due(&mut progress), [], "it was taken");
        assert!(progress.is_settled());
    }

    #[test]
    fn a_group_may_be_of_many_partitions() {
        let mut progress = Progress::default();
        progress.read(partition(0), 5, 1);
        progress.read(partition(1), 7, 1);
        progress.read(partition(1), 8, 2);
        progress.settle(1);
        assert_eq!(due(&mut progress), [(0, 6), (1, 8)]);
    }

    #[test]
    fn what_is_settled_late_says_nothing_about_a_partition_that_came_back() {
        let mut progress = Progress::default();
        progress.read(partition(0), 5, 1);
        progress.forget(&partition(0));
        // It came back, and is read again from where the last commit was.
        progress.read(partition(0), 3, 2);
        progress.settle(1);
        assert_eq!(due(&mut progress), []);
        progress.settle(2);
        assert_eq!(due(&mut progress), [(0, 4)]);
        progress.read(partition(0), 4, 3);
        progress.settle(3);
        progress.forget(&partition(0));
        assert_eq!(due(&mut progress), []);
    }
}
