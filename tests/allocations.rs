//! Steady training allocates nothing on one thread, neither in pretraining nor in pruning. On several each call that shares its work
//! allocates what its threads meet at, and nothing else.

use std::alloc::System;

use slth::data::Dataset;
use slth::run::{RunConfig, run};
use slth::training::{Phase, Progress, Scope, Step};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// More than there are in a step of any of these networks.
const SHARED_CALLS: usize = 60;

/// Counts the allocations between the steps of the second and later epochs.
#[derive(Default)]
struct Counter {
    /// Allocations made before the last step was reported.
    before: usize,
    epoch: usize,
    counted_steps: usize,
    per_phase: Vec<(Phase, usize)>,
}

impl Progress for Counter {
    fn begin(&mut self, phase: Phase, _epochs: usize, _images: usize) {
        self.per_phase.push((phase, 0));
        self.epoch = 0;
    }

    fn step(&mut self, step: &Step) {
        let stats = GLOBAL.stats();
        let now = stats.allocations + stats.reallocations;
        // The first epoch warms up: buffers grow to their size, threads make their queues.
        if self.epoch > 1 {
            self.counted_steps += 1;
            self.per_phase.last_mut().unwrap().1 += now - self.before;
        }
        self.epoch = step.epoch;
        self.before = now;
    }
}

#[test]
fn steps_do_not_allocate() {
    let mnist = Dataset::mnist().unwrap();
    let (layered, global) = (Scope::PerLayer, Scope::Global);
    for (network, scope, threads) in [
        ("784-64-33-10", layered, 1),
        ("784-64-33-10", layered, 2),
        ("784-64-33-10", global, 1),
        ("784-64-33-10", global, 2),
        ("lenet5", layered, 1),
        ("lenet5", layered, 2),
    ] {
        let config = RunConfig {
            scope,
            network: network.parse().unwrap(),
            train_images: Some(1000),
            validation: 100,
            batch: 64,
            pretrain_epochs: 4,
            prune_epochs: 4,
            threads: Some(threads),
            ..RunConfig::default()
        };
        let mut counter = Counter::default();
        counter.per_phase.reserve(2);
        run(&config, &mnist, &mut counter).unwrap();
        // 16 batches per epoch; counted from the second epoch's second step on, across the ends of epochs.
        assert_eq!(counter.counted_steps, 2 * (3 * 16 - 1));
        let most = if threads == 1 { 0 } else { SHARED_CALLS * counter.counted_steps / 2 };
        let phases = counter.per_phase.iter();
        assert_eq!(
            phases.clone().map(|&(phase, _)| phase).collect::<Vec<_>>(),
            [Phase::Pretrain, Phase::Prune]
        );
        for (phase, allocations) in phases {
            assert!(
                *allocations <= most,
                "{phase:?} of {network}, {scope}, {threads} threads: {allocations}"
            );
        }
    }
}
