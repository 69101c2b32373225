//! Tickets, and networks to approximate; what is read is evaluated and approximated where it is small.

use slth::approximate::{ApproximateConfig, Approximator, Draw, Target};
use slth::progress::NoProgress;
use slth::run::Ticket;
use slth::tensors::TensorFile;

pub(super) fn run(data: &[u8]) {
    let Some((what, rest)) = super::split(data) else { return };
    let with_length;
    let file = if what & 2 == 0 {
        rest
    } else {
        // The header up to a 0, its length put in front: else nearly everything fails for its length.
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
        assert_eq!([layer.weights.len(), layer.scores.len(), layer.mask.len()], [shape.weights(); 3]);
        assert!(layer.weights.iter().chain(&layer.scores).all(|x| x.is_finite()));
    }
    let network = &config.network;
    if network.activations() < 1000 {
        let shape = network.image().unwrap_or([1, 1, network.inputs()]);
        let classes = u8::try_from(network.outputs()).unwrap_or(255).clamp(1, 255);
        let Some(data) = super::blank(shape, classes) else { return };
        // Outputs beyond f32 are an error.
        let _ = Ticket { config, layers }.evaluate(&data, None, Some(1));
    }
}

fn target(file: &[u8], draw: Draw) {
    let Ok(tensors) = TensorFile::parse(file.to_vec()) else { return };
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
