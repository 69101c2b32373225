//! The configuration of a run, its ticket, the revision of its bits.

use std::collections::HashMap;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use slth::Error;
use slth::data::{Normalisation, NormalisationRule};
use slth::network::LayerShape;
use slth::random::{Purpose, Stream};
use slth::run::{
    BITS_REVISION, DenseOutcome, Outcome, PrunedOutcome, RunConfig, Ticket, TicketKind, TicketProblem,
};
use slth::tensors::TensorProblem;
use slth::training::{Evaluation, KeepDense, Pattern, PruneMethod, PrunedLayer, Scope, Timing};
use slth_kernels::{Backend, PackedMask};

#[test]
fn json_leads_back() {
    let mut stream = Stream::new(1, Purpose::Weights, 0, 0);
    for epsilon in [0.0, 0.02, f32::INFINITY] {
        // Random fractions: the shortest decimal must parse to the same bits.
        for _ in 0..1000 {
            let sparsity = f64::from(stream.symmetric(1.0)).abs() * 0.999;
            let config = RunConfig { epsilon, sparsity, train_images: Some(9), ..RunConfig::default() };
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<RunConfig>(&json).unwrap(), config, "{json}");
        }
    }
    let json = serde_json::to_string(&RunConfig { epsilon: f32::INFINITY, ..RunConfig::default() }).unwrap();
    assert!(json.contains(r#""epsilon":"inf","sparsity":0.5"#), "{json}");
}

#[test]
fn senseless_values_are_refused() {
    let refused = |field: &str, change: fn(&mut RunConfig)| {
        let mut config = RunConfig::default();
        change(&mut config);
        match config.validate() {
            Err(Error::Config { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{field}: {other:?}"),
        }
    };
    refused("epsilon", |c| c.epsilon = -0.1);
    refused("epsilon", |c| c.epsilon = f32::NAN);
    refused("epsilon", |c| c.epsilon = f32::NEG_INFINITY);
    refused("sparsity", |c| c.sparsity = 1.0);
    refused("sparsity", |c| c.sparsity = -0.1);
    refused("sparsity", |c| c.sparsity = f64::NAN);
    refused("prune_epochs", |c| c.prune_epochs = 0);
    refused("rounds", |c| c.rounds = 0);
    refused("rewind_epoch", |c| (c.method, c.rewind_epoch) = (PruneMethod::Imp, 5));
    refused("halve_output_rate", |c| {
        (c.method, c.halve_output_rate, c.scope) = (PruneMethod::Imp, true, Scope::Global);
    });
    refused("keep_dense", |c| {
        (c.network, c.keep_dense) = ("784-10".parse().unwrap(), KeepDense::First);
    });
    refused("sparsity", |c| c.pattern = Some(Pattern { keep: 1, group: 4 }));
    refused("scope", |c| (c.pattern, c.scope) = (Some(Pattern { keep: 2, group: 4 }), Scope::Global));
    refused("pattern", |c| c.pattern = Some(Pattern { keep: 3, group: 6 }));
    refused("init_scale", |c| c.init_scale = 0.0);
    refused("init_scale", |c| c.init_scale = f64::INFINITY);
    refused("batch", |c| c.batch = 0);
    refused("threads", |c| c.threads = Some(0));
    refused("threads", |c| c.threads = Some(usize::MAX));
    refused("train_images", |c| c.train_images = Some(0));
    refused("pretrain_lr", |c| c.pretrain_lr = f32::NAN);
    refused("prune_lr", |c| c.prune_lr = f32::INFINITY);
    refused("weight_decay", |c| c.weight_decay = -1.0);
    refused("momentum", |c| c.momentum = 1.0);
    refused("pretrain_momentum", |c| c.pretrain_momentum = -0.5);
}

fn ticket() -> Ticket {
    let normalize = NormalisationRule::Given(Normalisation::new([0.25; 3], [0.5; 3]).unwrap());
    let config = RunConfig { network: "3-2-2".parse().unwrap(), normalize, ..RunConfig::default() };
    let layer = |shape: LayerShape| PrunedLayer {
        shape,
        weights: (0..shape.weights()).map(|i| i as f32 - 1.5).collect(),
        scores: (0..shape.weights()).map(|i| i as f32 * 0.1).collect(),
        mask: PackedMask::from_fn(shape.weights(), |i| i % 2 == 0),
        bias: Vec::new(),
    };
    let layers = config.network.layers().map(layer).collect();
    Ticket { config, layers }
}

fn bytes(ticket: &Ticket) -> Vec<u8> {
    bytes_of(ticket, TicketKind::Full)
}

fn bytes_of(ticket: &Ticket, kind: TicketKind) -> Vec<u8> {
    let NormalisationRule::Given(normalisation) = ticket.config.normalize else { unreachable!() };
    let (timing, test) = (Timing::default(), Evaluation { images: 1, correct: 1, loss: 0.0 });
    let outcome = Outcome {
        config: ticket.config.clone(),
        backend: Backend::best(),
        threads: 1,
        data_name: String::new(),
        normalisation,
        pretrain: DenseOutcome { max_change: 0.0, timing, validation: None, test },
        prune: PrunedOutcome { timing, validation: None, test },
        layers: ticket.layers.clone(),
        history: vec![],
    };
    let [(_, bytes), ..] = outcome.files(kind).unwrap();
    bytes
}

fn parse(change: impl FnOnce(&mut Ticket)) -> Result<Ticket, TicketProblem> {
    let mut ticket = ticket();
    change(&mut ticket);
    Ticket::parse(&bytes(&ticket))
}

#[test]
fn bytes_lead_back() {
    assert_eq!(parse(|_| ()).unwrap(), ticket());
    assert_eq!(bytes(&ticket()), bytes(&ticket()));
}

#[test]
fn compact_tickets_lead_back_to_what_is_kept() {
    let drawn = |ticket: &Ticket| -> Vec<Vec<f32>> {
        let Ticket { config, .. } = ticket;
        config.init.network(&config.network, config.init_scale, config.seed)
    };
    // One ticket with trained weights, one with the weights as drawn, which the file leaves out.
    let trained = ticket();
    let mut frozen = ticket();
    frozen.config.epsilon = 0.0;
    for (layer, weights) in frozen.layers.iter_mut().zip(drawn(&ticket())) {
        layer.weights = weights;
    }
    let mut bytes = [&trained, &frozen].map(|ticket| bytes_of(ticket, TicketKind::Compact));
    assert!(bytes[1].len() < bytes[0].len());
    for (ticket, bytes) in [&trained, &frozen].into_iter().zip(&bytes) {
        let found = Ticket::parse(bytes).unwrap();
        assert_eq!(found.config, ticket.config);
        for (found, layer) in found.layers.iter().zip(&ticket.layers) {
            assert_eq!((&found.mask, &found.bias), (&layer.mask, &layer.bias));
            assert!(layer.mask.kept_indices().all(|i| found.weights[i] == layer.weights[i]));
        }
        let full = Ticket::parse(&found.expanded()).unwrap();
        for (full, found) in full.layers.iter().zip(&found.layers) {
            assert!(
                (0..found.mask.len())
                    .all(|i| full.weights[i] == if found.mask.get(i) { found.weights[i] } else { 0.0 })
            );
        }
    }
    assert_eq!(Ticket::parse(&bytes[1]).unwrap().layers[0].weights, frozen.layers[0].weights);
    // The last byte belongs to the last mask, which has only four weights.
    *bytes[1].last_mut().unwrap() |= 0x10;
    assert!(
        matches!(Ticket::parse(&bytes[1]), Err(TicketProblem::MaskTooLong(name)) if name == "layer2.mask_bits")
    );
}

#[test]
fn every_cut_and_flip_is_an_error_or_harmless() {
    let kinds = [TicketKind::Full, TicketKind::Compact];
    kinds.map(|kind| bytes_of(&ticket(), kind)).iter().for_each(|bytes| cut_and_flip(bytes));
}

fn cut_and_flip(bytes: &[u8]) {
    for cut in 0..bytes.len() {
        assert!(Ticket::parse(&bytes[..cut]).is_err(), "{cut}");
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << bit;
            let _ = Ticket::parse(&damaged); // must not panic
        }
    }
}

#[test]
fn foreign_tensors_are_refused() {
    type P = TicketProblem;
    assert!(matches!(parse(|t| drop(t.layers.pop())), Err(P::Missing(name)) if name == "layer2.weight"));
    assert!(matches!(
        parse(|t| t.layers.push(t.layers[0].clone())),
        Err(P::Unexpected(name)) if name == "layer3.mask"
    ));
    assert!(matches!(
        parse(|t| t.config.network = "3-4-2".parse().unwrap()),
        Err(P::Tensor { name, .. }) if name == "layer1.weight"
    ));
    assert!(matches!(
        parse(|t| t.layers[1].weights[3] = f32::NAN),
        Err(P::File(TensorProblem::NotFinite { index: 3, .. }))
    ));
    assert!(matches!(
        parse(|t| t.layers[0].scores[2] = f32::INFINITY),
        Err(P::File(TensorProblem::NotFinite { index: 2, .. }))
    ));
    assert!(matches!(parse(|t| t.config.sparsity = 2.0), Err(P::Configuration(_))));
}

#[test]
fn other_files_are_refused() {
    let shape = || vec![1, 2];
    let view = TensorView::new(Dtype::F32, shape(), &[0; 8]).unwrap();
    let bytes = safetensors::serialize([("fc1.weight", view)], None).unwrap();
    assert!(matches!(Ticket::parse(&bytes), Err(TicketProblem::Foreign)));
    assert!(matches!(
        Ticket::parse(b"PK\x03\x04 something else"),
        Err(TicketProblem::File(TensorProblem::Format(_)))
    ));
    assert!(matches!(Ticket::parse(&[0xff; 100]), Err(TicketProblem::File(TensorProblem::Format(_)))));

    let json = serde_json::to_string(&RunConfig { network: "2-1".parse().unwrap(), ..RunConfig::default() });
    let metadata = || Some(HashMap::from([("configuration".to_owned(), json.as_ref().unwrap().clone())]));
    let with_mask = |kind, bytes: &[u8]| {
        let floats = || TensorView::new(Dtype::F32, shape(), &[0; 8]).unwrap();
        let mask = TensorView::new(kind, shape(), bytes).unwrap();
        let [weight, scores, name] = ["layer1.weight", "layer1.scores", "layer1.mask"];
        let all = [(weight, floats()), (scores, floats()), (name, mask)];
        Ticket::parse(&safetensors::serialize(all, metadata()).unwrap())
    };
    assert!(with_mask(Dtype::U8, &[0, 1]).is_ok());
    assert!(matches!(with_mask(Dtype::U8, &[1, 2]), Err(TicketProblem::NotAMask { index: 1, value: 2, .. })));
    assert!(matches!(with_mask(Dtype::I8, &[0, 1]), Err(TicketProblem::Tensor { .. })));
}

#[test]
fn every_change_of_bits_is_a_revision() {
    let changelog = include_str!("../../CHANGELOG.md");
    let sections = changelog.split("\n### Output bits\n").skip(1);
    let entries = sections.map(|section| {
        let section = section.split("\n#").next().unwrap_or_default();
        section.lines().filter(|line| line.starts_with("- ")).count()
    });
    assert_eq!(entries.sum::<usize>(), BITS_REVISION as usize, "BITS_REVISION counts the entries");
}
