//! Preparing weights for products: from scratch, and rebuilt for another mask.

use std::hint::black_box;
use std::sync::Arc;

use slth_kernels::matmul::Workspace;
use slth_kernels::{PackedWeights, Strategy};

use super::masked_matmul::{Group, Inputs, LARGE, SMALL, SPARSITIES, TINY, each};
use crate::aligned::Aligned;
use crate::case::{Case, Scale};
use crate::check::ensure;
use crate::contestant::Contestant;
use crate::error::Error;
use crate::limits::read;
use crate::machinery::Machinery;
use crate::row::{Unit, Who};
use crate::task::LayerOperation::{self, Forward, InputGradient, Prepare, Rebuild};
use crate::task::Task;

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let groups: &[Group] = match scale {
        Scale::Smoke => &[(Rebuild, TINY, &[0.5]), (Prepare, TINY, &[0.5])],
        Scale::Quick => &[(Rebuild, SMALL, &[0.5, 0.9]), (Prepare, SMALL, &[0.5])],
        Scale::Full => &[
            (Rebuild, SMALL, &SPARSITIES),
            (Rebuild, LARGE, &[0.5, 0.9]),
            (Prepare, SMALL, &[0.5, 0.9]),
            (Prepare, [128, 1024, 1024], &[0.5, 0.9]),
            (Prepare, LARGE, &[0.5, 0.9]),
        ],
    };
    each(groups, contestants)
}

/// Building a format, beside reading all weights and copying them. At s = 0.5 copying moves about as many bytes as building.
/// Rebuilding alternates between two masks.
fn contestants(
    machinery: &Machinery,
    task: &Task,
    inputs: &Arc<Inputs>,
    operation: LayerOperation,
) -> Result<Vec<Contestant>, Error> {
    let (best, count) = (machinery.best(), inputs.weights.len() as f64);
    let mut contestants = read(machinery, &inputs.weights, Unit::Weight, count);
    let (weights, mut copy) = (inputs.weights.clone(), Aligned::filled(inputs.weights.len(), 0.0));
    contestants.push(machinery.contestant(Who::peer("memcpy", 1), Unit::Weight, count, move || {
        black_box(&mut copy[..]).copy_from_slice(&weights);
        Ok(())
    }));
    for (variant, gradient) in [("", false), ("both products", true)] {
        let options = inputs.options().input_gradient(gradient);
        let both = |layer: &mut PackedWeights, engine| -> Result<[Vec<f32>; 2], Error> {
            layer.rebuild(engine, &inputs.other_mask)?;
            let other = results(inputs, layer, machinery)?;
            layer.rebuild(engine, &inputs.mask)?;
            Ok([other, results(inputs, layer, machinery)?])
        };
        let mut dense = inputs.prepare(best, &options.strategy(Strategy::Dense))?;
        let expected = both(&mut dense, best)?;
        for engine in machinery.engines(true) {
            let who = Who::ours(engine).variant(variant);
            let (data, mut layer) = (inputs.clone(), inputs.prepare(engine, &options)?);
            ensure(results(inputs, &layer, machinery)? == expected[1], task, &who)?;
            contestants.push(if operation == Prepare {
                machinery.contestant(who, Unit::Weight, count, move || {
                    black_box(data.prepare(engine, &options)?);
                    Ok(())
                })
            } else {
                ensure(both(&mut layer, engine)? == expected, task, &who)?;
                let mut other = false;
                machinery.contestant(who, Unit::Weight, count, move || {
                    other = !other;
                    Ok(layer.rebuild(engine, if other { &data.other_mask } else { &data.mask })?)
                })
            });
        }
    }
    Ok(contestants)
}

/// The concatenated results of all products that the layer was prepared for.
fn results(inputs: &Inputs, layer: &PackedWeights, machinery: &Machinery) -> Result<Vec<f32>, Error> {
    let (best, workspace) = (machinery.best(), &mut Workspace::default());
    let mut all = vec![0.0; inputs.dy.len()];
    inputs.multiply(Forward, best, layer, &mut all, workspace)?;
    if layer.options().input_gradient {
        let mut dx = vec![0.0; inputs.x.len()];
        inputs.multiply(InputGradient, best, layer, &mut dx, workspace)?;
        all.append(&mut dx);
    }
    Ok(all)
}
