//! How long stages take on several workers.

use std::collections::{BTreeMap, BinaryHeap};

/// A stage that is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Task {
    /// How long it takes, 0 or more and finite.
    pub seconds: f64,
    /// The tasks that must be done before, as smaller indices.
    pub needs: Vec<usize>,
    /// Whether no two such tasks run at once.
    pub alone: bool,
}

/// For each task, the longest chain of tasks that begins with it, in seconds.
pub(super) fn chains(tasks: &[Task]) -> Vec<f64> {
    let mut after = vec![0.0f64; tasks.len()];
    let mut chains = vec![0.0; tasks.len()];
    for (index, task) in tasks.iter().enumerate().rev() {
        chains[index] = task.seconds + after[index];
        for need in &task.needs {
            after[*need] = after[*need].max(chains[index]);
        }
    }
    chains
}

/// The time until all tasks are done, if each of the workers takes the task that begins the longest chain whenever it is
/// free. It is at least the longest chain and at least the sum divided by the workers, and at most the sum.
pub(super) fn makespan(tasks: &[Task], workers: usize) -> f64 {
    let chains = chains(tasks);
    let mut missing: Vec<usize> = tasks.iter().map(|task| task.needs.len()).collect();
    let mut dependents: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, task) in tasks.iter().enumerate() {
        for need in &task.needs {
            dependents.entry(*need).or_default().push(index);
        }
    }
    let entry = |index: usize| Ready {
        chain: chains[index],
        index,
    };
    // Tasks that run alone wait apart: one that cannot run must not keep a worker from the others.
    let (mut ready, mut ready_alone) = (BinaryHeap::new(), BinaryHeap::new());
    let add = |index: usize, ready: &mut BinaryHeap<Ready>, alone: &mut BinaryHeap<Ready>| {
        let heap = if tasks[index].alone { alone } else { ready };
        heap.push(entry(index));
    };
    for index in (0..tasks.len()).filter(|index| missing[*index] == 0) {
        add(index, &mut ready, &mut ready_alone);
    }
    let mut running: Vec<(f64, usize)> = vec![];
    let (mut now, mut is_measuring) = (0.0f64, false);
    loop {
        while running.len() < workers.max(1) {
            let lone = ready_alone.peek().filter(|_| !is_measuring);
            let next = if lone.is_some() && lone >= ready.peek() {
                is_measuring = true;
                ready_alone.pop()
            } else {
                ready.pop()
            };
            let Some(Ready { index, .. }) = next else {
                break;
            };
            running.push((now + tasks[index].seconds, index));
        }
        let first = (0..running.len()).min_by(|a, b| running[*a].0.total_cmp(&running[*b].0));
        let Some(first) = first else {
            return now;
        };
        let (end, done) = running.swap_remove(first);
        now = now.max(end);
        is_measuring &= !tasks[done].alone;
        for index in dependents.remove(&done).unwrap_or_default() {
            missing[index] -= 1;
            if missing[index] == 0 {
                add(index, &mut ready, &mut ready_alone);
            }
        }
    }
}

/// A task that can begin; the greatest begins the longest chain, the first of equal ones.
struct Ready {
    chain: f64,
    index: usize,
}

impl Ord for Ready {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let by_chain = self.chain.total_cmp(&other.chain);
        by_chain.then(other.index.cmp(&self.index))
    }
}

impl PartialOrd for Ready {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ready {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ready {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn task(seconds: f64, needs: &[usize]) -> Task {
        Task {
            seconds,
            needs: needs.to_vec(),
            alone: false,
        }
    }

    #[test]
    fn students_share_the_workers_once_their_teacher_is_there() {
        let tasks = [
            task(10.0, &[]),
            task(4.0, &[0]),
            task(4.0, &[0]),
            task(4.0, &[0]),
            task(1.0, &[1]),
        ];
        assert_eq!(chains(&tasks), [15.0, 5.0, 4.0, 4.0, 1.0]);
        let times = [1, 2, 9].map(|workers| makespan(&tasks, workers));
        assert_eq!(times.to_vec(), vec![23.0, 18.0, 15.0]);
        assert_eq!(Some(makespan(&[], 2)), Some(0.0));
    }

    #[test]
    fn measurements_wait_for_each_other_and_keep_nobody_waiting() {
        let alone = Task {
            alone: true,
            ..task(5.0, &[])
        };
        let tasks = [alone.clone(), alone, task(1.0, &[]), task(1.0, &[])];
        let times = [2, 4].map(|workers| makespan(&tasks, workers));
        assert_eq!(times.to_vec(), vec![10.0, 10.0]);
    }

    /// Tasks that need earlier ones.
    fn any_tasks() -> impl Strategy<Value = Vec<Task>> {
        let one = (
            0u16..100,
            proptest::collection::vec(any::<proptest::sample::Index>(), 0..3),
            proptest::bool::weighted(0.2),
        );
        proptest::collection::vec(one, 0..25).prop_map(|tasks| {
            let tasks = tasks.into_iter().enumerate();
            tasks
                .map(|(index, (seconds, needs, alone))| {
                    let mut needs: Vec<usize> = needs
                        .iter()
                        .filter(|_| index > 0)
                        .map(|need| need.index(index))
                        .collect();
                    needs.sort_unstable();
                    needs.dedup();
                    Task {
                        seconds: f64::from(seconds),
                        needs,
                        alone,
                    }
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn no_plan_beats_the_longest_chain_or_the_workers(tasks in any_tasks(), workers in 1usize..6) {
            let total: f64 = tasks.iter().map(|task| task.seconds).sum();
            let alone: f64 = tasks.iter().filter(|task| task.alone).map(|task| task.seconds).sum();
            let chain = chains(&tasks).into_iter().fold(0.0, f64::max);
            let time = makespan(&tasks, workers);
            let least = chain.max(alone).max(total / workers as f64);
            prop_assert!(time >= least - 1e-9, "{time} < {least}");
            prop_assert!(time <= total + 1e-9, "{time} > {total}");
            prop_assert!((makespan(&tasks, 1) - total).abs() < 1e-9);
        }
    }
}
