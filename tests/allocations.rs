//! Steady training allocates nothing on one thread, neither in pretraining nor in pruning. On several each call that shares its work
//! allocates what its threads meet at, and nothing else.

use std::alloc::System;
use std::sync::Mutex;

use slth::data::Dataset;
use slth::progress::{Progress, Step};
use slth::run::{Experiment, RunConfig};
use slth::training::Scope;
use slth_kernels::Engine;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// More than there are in a step of any of these networks.
const SHARED_CALLS: usize = 60;

/// Counts the allocations between the steps of the second and later epochs.
#[derive(Default)]
struct Counter(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    /// Allocations made before the last step was reported.
    before: usize,
    epoch: usize,
    counted_steps: usize,
    /// Of pretraining and of pruning.
    per_phase: Vec<usize>,
}

impl Progress for Counter {
    fn begin(&self, _task: &str, _images: usize) {
        let mut counts = self.0.lock().unwrap();
        counts.per_phase.push(0);
        counts.epoch = 0;
    }

    fn step(&self, step: &Step) {
        let stats = GLOBAL.stats();
        let now = stats.allocations + stats.reallocations;
        let mut counts = self.0.lock().unwrap();
        // The first epoch warms up: buffers grow to their size, threads make their queues.
        if counts.epoch > 1 {
            counts.counted_steps += 1;
            let before = counts.before;
            *counts.per_phase.last_mut().unwrap() += now - before;
        }
        counts.epoch = step.epoch;
        counts.before = now;
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
            bias: scope == global,
            network: network.parse().unwrap(),
            train_images: Some(1000),
            validation: 100,
            batch: 64,
            pretrain_epochs: 4,
            prune_epochs: 4,
            ..RunConfig::default()
        };
        let counter = Counter::default();
        counter.0.lock().unwrap().per_phase.reserve(2);
        let engine = Engine::detect().unwrap().with_threads(threads);
        let experiment = Experiment::new(&config, &mnist, engine).unwrap();
        let (pretrained, _) = experiment.pretrain(&counter).unwrap();
        experiment.prune(&pretrained, config.sparsity, &counter).unwrap();
        let counts = counter.0.into_inner().unwrap();
        // 16 batches per epoch; counted from the second epoch's second step on, across the ends of epochs.
        assert_eq!(counts.counted_steps, 2 * (3 * 16 - 1));
        let most = if threads == 1 { 0 } else { SHARED_CALLS * counts.counted_steps / 2 };
        assert_eq!(counts.per_phase.len(), 2);
        assert!(
            counts.per_phase.iter().all(|&allocations| allocations <= most),
            "{network}, {scope}, {threads} threads: {:?}",
            counts.per_phase
        );
    }
}
