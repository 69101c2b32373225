//! After the first epoch, pretraining and pruning steps allocate nothing on one thread. On several threads, each call that
//! shares its work allocates only the state on which its threads synchronise.

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

/// Upper bound for the calls a step shares among threads, for every network tested here.
const SHARED_CALLS: usize = 60;

/// Counts the allocations between the steps of the second and later epochs, separately for each phase.
#[derive(Default)]
struct Counter(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    /// Allocations of the process when the previous step was reported.
    before: usize,
    epoch: usize,
    counted_steps: usize,
    /// Allocations counted in pretraining, then in pruning.
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
        // The first epoch is a warm-up: buffers reach their final size, threads create their queues.
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
        // Of 4 epochs with 16 batches each, counting begins with the second step of the second epoch.
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
