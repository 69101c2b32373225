//! Tickets, trained networks and targets of approximation. Small ones are also evaluated, pruned and approximated.

use std::io::{Read, Seek};

use slth::approximate::{ApproximateConfig, Approximator, Draw, Target};
use slth::output::Content;
use slth::progress::NoProgress;
use slth::prune::{PruneConfig, PrunedFile};
use slth::run::{StateDict, Ticket};
use slth::tensors::TensorFile;
use slth::training::{PruneMethod, Scope};
use slth_kernels::Engine;

pub(super) fn run(data: &[u8]) {
    let Some((what, rest)) = super::split(data) else { return };
    let with_length;
    let file = if what & 2 == 0 {
        rest
    } else {
        // Prepend the length of the header, which ends at a 0; otherwise nearly every input fails at the length.
        let end = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
        let tensors = rest.get(end + 1..).unwrap_or_default();
        with_length = [&(end as u64).to_le_bytes()[..], &rest[..end], tensors].concat();
        &with_length
    };
    if what & 1 == 0 {
        ticket(file);
    } else {
        target(file, if what & 4 == 0 { Draw::PerRow } else { Draw::PerWeight });
    }
}

fn ticket(file: &[u8]) {
    let Ok(Ticket { config, layers }) = Ticket::parse(file) else { return };
    config.validate().expect("only what makes sense is taken");
    assert_eq!(layers.len(), config.network.layers().len());
    for (layer, shape) in layers.iter().zip(config.network.layers()) {
        assert_eq!([layer.weights.len(), layer.mask.len()], [shape.weights(); 2]);
        assert!(layer.scores.is_empty() || layer.scores.len() == shape.weights());
        assert!(layer.bias.is_empty() || layer.bias.len() == shape.outputs);
        assert!(layer.weights.iter().chain(&layer.scores).chain(&layer.bias).all(|x| x.is_finite()));
    }
    let network = &config.network;
    if network.activations() < 1000 {
        let shape = network.image().unwrap_or([1, 1, network.inputs()]);
        let classes = u8::try_from(network.outputs()).unwrap_or(255).clamp(1, 255);
        let Some(data) = super::blank(shape, classes) else { return };
        // Outputs beyond f32 give an error.
        let _ = Ticket { config, layers }.evaluate(&data, None, Some(1));
    }
}

/// A pruned file has the same tensors, each with at least the requested fraction removed.
fn prune(tensors: &TensorFile) {
    for (method, scope) in [(PruneMethod::Magnitude, Scope::Global), (PruneMethod::Random, Scope::PerLayer)] {
        let config = PruneConfig { sparsity: 0.7, method, scope, seed: 1, only: None, skip: None };
        let Ok(pruned) = PrunedFile::new(tensors, &config, Engine::serial()) else { return };
        let mut file = tempfile::tempfile().expect("a file");
        pruned.write(&mut file).expect("written");
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("read");
        let written = TensorFile::parse(bytes).expect("what is written can be read");
        for (a, b) in tensors.tensors().iter().zip(written.tensors()) {
            assert_eq!((&a.name, a.info.dtype, &a.info.shape), (&b.name, b.info.dtype, &b.info.shape));
        }
        if scope == Scope::PerLayer {
            for (_, mask) in &pruned.weights {
                assert!(mask.removed() >= (0.7 * mask.len() as f64) as usize);
            }
        }
    }
}

fn target(file: &[u8], draw: Draw) {
    let Ok(tensors) = TensorFile::parse(file.to_vec()) else { return };
    let names: Vec<_> = tensors.parameters().iter().map(|parameter| parameter.name.to_owned()).collect();
    for map in [None, Some(&*names)] {
        let Ok(StateDict { network, parameters, .. }) = StateDict::of(&tensors, None, map) else { continue };
        assert_eq!(parameters.len(), network.layers().len());
        for (layer, shape) in parameters.iter().zip(network.layers()) {
            assert!([shape.weights(), shape.weights() + shape.outputs].contains(&layer.len()));
        }
        let again = StateDict::of(&tensors, Some(&network), map).expect("it fits the network that it is");
        assert_eq!(again.names.len(), parameters.len());
    }
    let convolutions = "2x2-2@1x1-pool2-2".parse().expect("a network");
    let _ = StateDict::of(&tensors, Some(&convolutions), None);
    prune(&tensors);
    if let Ok(target) = Target::of(&tensors) {
        let shapes: Vec<_> = target.network.layers().map(|shape| shape.weights()).collect();
        assert_eq!(target.weights.iter().map(Vec::len).collect::<Vec<_>>(), shapes);
    }
    if tensors.tensors().iter().map(|tensor| tensor.elements()).sum::<usize>() < 100 {
        for eta_relative in [false, true] {
            let config = ApproximateConfig {
                candidates: Some(6),
                draw,
                eta_relative,
                threads: Some(1),
                ..ApproximateConfig::default()
            };
            let Ok(approximator) = Approximator::new(&config, &tensors) else { return };
            for epsilon in [0.0, 0.01] {
                if let Ok((_, check)) = approximator.approximate(epsilon, true, &mut |_| Ok(()), &NoProgress)
                {
                    assert_eq!(check.expect("asked for").beyond, 0);
                }
            }
        }
    }
}
