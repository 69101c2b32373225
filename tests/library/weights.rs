//! Trained networks in safetensors files, and pruning of files.

use std::fs;

use safetensors::{Dtype, SafeTensors, serialize, tensor::TensorView};
use slth::Error;
use slth::network::Architecture;
use slth::output::Content;
use slth::prune::{PruneConfig, PrunedFile};
use slth::run::{StateDict, StateDictError, StateDictProblem};
use slth::tensors::{TensorFile, encode};
use slth::training::{PruneMethod, Scope};
use slth_kernels::Engine;

/// Arbitrary numbers; the first 101 have distinct magnitudes.
fn number(i: usize) -> f64 {
    (1.0 + (i * 37 % 101) as f64) / 64.0 * if i.is_multiple_of(3) { -1.0 } else { 1.0 }
}

type Tensor<'a> = (&'a str, &'a [usize], Dtype);

/// A file with these tensors; masks keep every other weight.
fn file(tensors: &[Tensor<'_>]) -> TensorFile {
    let bytes = |&(name, shape, kind): &Tensor<'_>| {
        let mut bytes = Vec::new();
        for i in 0..shape.iter().product() {
            let x = if name.ends_with("_mask") { (i % 2) as f64 } else { number(i) };
            match kind {
                Dtype::U8 | Dtype::BOOL => bytes.push(x as u8),
                Dtype::I64 => bytes.extend((i as i64).to_le_bytes()),
                kind => encode(kind, x, &mut bytes),
            }
        }
        bytes
    };
    let bytes: Vec<_> = tensors.iter().map(bytes).collect();
    let views = tensors.iter().zip(&bytes);
    let views = views
        .map(|(&(name, shape, kind), bytes)| (name, TensorView::new(kind, shape.to_vec(), bytes).unwrap()));
    TensorFile::parse(serialize(views, None).unwrap()).unwrap()
}

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| number(i) as f32).collect()
}

fn read(tensors: &[Tensor<'_>], network: Option<&str>, map: &[&str]) -> Result<StateDict, StateDictError> {
    let network: Option<Architecture> = network.map(|network| network.parse().unwrap());
    let map: Vec<String> = map.iter().map(|name| (*name).to_owned()).collect();
    StateDict::of(&file(tensors), network.as_ref(), Some(&*map).filter(|map| !map.is_empty()))
}

#[test]
fn types_masks_and_biases_are_understood() {
    for kind in [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64] {
        let found = read(
            &[("net.10.weight", &[2, 4], kind), ("net.2.weight", &[4, 3], kind), ("net.2.bias", &[4], kind)],
            None,
            &[],
        )
        .unwrap();
        assert_eq!(found.network.to_string(), "3-4-2");
        assert_eq!(found.names, ["net.2.weight", "net.10.weight"]);
        // All of these numbers are exact in every type.
        assert_eq!(found.parameters, [[numbers(12), numbers(4)].concat(), numbers(8)], "{kind}");
    }
    for mask in [Dtype::F32, Dtype::U8, Dtype::BOOL] {
        let pruned: [Tensor<'_>; 3] = [
            ("fc.weight_orig", &[2, 3], Dtype::F32),
            ("fc.weight_mask", &[2, 3], mask),
            ("fc.bias", &[2], Dtype::F32),
        ];
        let found = read(&pruned, None, &[]).unwrap();
        assert_eq!(found.names, ["fc.weight"]);
        let kept = numbers(6).into_iter().enumerate().map(|(i, x)| if i % 2 == 1 { x } else { 0.0 });
        assert_eq!(found.parameters, [kept.chain(numbers(2)).collect::<Vec<_>>()]);
    }
}

#[test]
fn a_map_names_the_layers_in_order() {
    let tensors: [Tensor<'_>; 6] = [
        ("classifier.weight", &[10, 4], Dtype::F32),
        ("classifier.bias", &[10], Dtype::F32),
        ("features.0.weight", &[4, 1, 3, 3], Dtype::F32),
        ("shift", &[4], Dtype::F32),
        ("count", &[], Dtype::I64),
        ("features.0.bias", &[4], Dtype::F32),
    ];
    let network = Some("3x3-4@3x3-10");
    let found = read(&tensors, network, &["features.0", "classifier.weight"]).unwrap();
    assert_eq!(found.names, ["features.0.weight", "classifier.weight"]);
    assert_eq!(found.parameters, [[numbers(36), numbers(4)].concat(), [numbers(40), numbers(10)].concat()]);
    let other = read(&tensors, network, &["features.0.weight+shift", "classifier"]).unwrap();
    assert_eq!(other.parameters, found.parameters);
}

/// The error names every tensor that does not fit.
#[test]
fn misfits_are_named() {
    let refused = |tensors: &[Tensor<'_>], network: Option<&str>, map: &[&str], words: &[&str]| {
        let error = read(tensors, network, map).unwrap_err();
        assert!(matches!(error.problem, StateDictProblem::Misfit(_)), "{error}");
        let text = error.to_string();
        words.iter().for_each(|word| assert!(text.contains(word), "{text}: {word}"));
    };
    let f = Dtype::F32;
    refused(&[], None, &[], &["no tensors"]);
    refused(
        &[("a.weight", &[3, 2], f), ("bn.weight", &[3], f), ("bn.num_batches", &[], Dtype::I64)],
        None,
        &[],
        &["`bn.weight` (F32 [3])", "`bn.num_batches` (I64 [])"],
    );
    refused(&[("w", &[3, 2], Dtype::U8)], None, &[], &["`w` (U8 [3, 2])"]);
    refused(&[("conv.weight", &[4, 1, 3, 3], f)], None, &[], &["`conv.weight`", "give the network"]);
    refused(&[("a", &[3, 2], f), ("b", &[2, 4], f)], None, &[], &["`b`", "3 outputs", "map"]);
    let both: [Tensor<'_>; 3] = [("a.weight", &[3, 2], f), ("a.bias", &[4], f), ("b.weight", &[2, 3], f)];
    refused(&both, None, &[], &["`a.bias` (F32 [4])", "layer 1", "[3]"]);
    refused(&both, Some("2-3"), &["a"], &["`a.bias`"]);
    refused(
        &both,
        Some("2-2-2"),
        &["a", "b"],
        &["`a.weight` (F32 [3, 2])", "[2, 2]", "`b.weight`", "layer 2"],
    );
    refused(&both, Some("2-3-2-2"), &["a.weight+b.weight", "b"], &["`b.weight` (F32 [2, 3])", "layer 3"]);
    refused(&[("a", &[3, 2], f), ("b", &[2, 3], f)], Some("2-3"), &[], &["`b` (F32 [2, 3])", "beyond"]);
    refused(&both, None, &["a", "c"], &["`c`"]);
    refused(&[("a", &[0, 2], f)], None, &[], &["width is 0"]);
}

fn prune(
    source: &TensorFile,
    change: impl FnOnce(&mut PruneConfig),
) -> Result<(Vec<usize>, TensorFile), Error> {
    let (method, scope) = (PruneMethod::Magnitude, Scope::PerLayer);
    let mut config = PruneConfig { sparsity: 0.29, method, scope, seed: 1, only: None, skip: None };
    change(&mut config);
    let pruned = PrunedFile::new(source, &config, Engine::serial())?;
    let written = tempfile::NamedTempFile::new().unwrap();
    pruned.write(&mut written.reopen().unwrap()).unwrap();
    SafeTensors::deserialize(&fs::read(written.path()).unwrap()).unwrap();
    let removed = pruned.weights.iter().map(|(_, mask)| mask.removed()).collect();
    Ok((removed, TensorFile::open(written.path()).unwrap()))
}

fn all(file: &TensorFile) -> Vec<(String, String, Vec<f32>)> {
    let floats = |tensor| file.floats(tensor, 0..tensor.elements()).unwrap();
    let tensors = file.tensors().iter();
    tensors
        .map(|t| (t.name.clone(), format!("{:?}", t.info), if t.is_float() { floats(t) } else { Vec::new() }))
        .collect()
}

#[test]
fn a_file_is_pruned_by_exact_counts_and_nothing_else_changes() {
    let tensors: [Tensor<'_>; 6] = [
        ("a", &[10, 10], Dtype::BF16),
        ("b", &[5, 3, 2, 1], Dtype::F64),
        ("c", &[7, 3], Dtype::F16),
        ("bias", &[9], Dtype::F32),
        ("index", &[4, 4], Dtype::I64),
        ("empty", &[0, 4], Dtype::F32),
    ];
    let source = file(&tensors);
    let (removed, written) = prune(&source, |_| ()).unwrap();
    assert_eq!(removed, [28, 8, 6, 0]); // int(0.29 · 100), of 30 and of 21
    for ((name, info, before), (other, same, after)) in all(&source).into_iter().zip(all(&written)) {
        assert_eq!((&name, info), (&other, same));
        let gone: Vec<_> = (0..before.len()).filter(|&i| after[i] != before[i]).collect();
        let smallest = before.iter().zip(&after).filter(|(b, a)| a == b).map(|(b, _)| b.abs());
        let smallest = smallest.fold(f32::INFINITY, f32::min);
        assert!(gone.iter().all(|&i| after[i] == 0.0 && before[i].abs() <= smallest), "{name}");
        let expected = match &*name {
            "a" => 28,
            "b" => 8,
            "c" => 6,
            _ => 0,
        };
        assert_eq!(gone.len(), expected, "{name}");
    }
    let (removed, _) = prune(&source, |config| config.scope = Scope::Global).unwrap();
    assert_eq!(removed.iter().sum::<usize>(), 43); // int(0.29 · 151)
    let (removed, _) = prune(&source, |config| config.skip = Some(vec!["b*".to_owned()])).unwrap();
    assert_eq!(removed, [28, 6, 0]);
    let random = |seed| {
        let set = |config: &mut PruneConfig| (config.method, config.seed) = (PruneMethod::Random, seed);
        let (removed, written) = prune(&source, set).unwrap();
        assert_eq!(removed, [28, 8, 6, 0]);
        all(&written)
    };
    assert_eq!(random(1), random(1));
    assert_ne!(random(1), random(2));
    // Invalid settings.
    let refused =
        |change: fn(&mut PruneConfig)| prune(&source, change).err().is_some_and(|error| error.is_bad_input());
    assert!(refused(|config| config.sparsity = 1.0) && refused(|config| config.sparsity = f64::NAN));
    assert!(refused(|config| config.method = PruneMethod::EdgePopup));
    assert!(refused(|config| config.only = Some(vec!["bias".to_owned()])));
    assert!(refused(|config| config.only = Some(vec!["nothing".to_owned()])));
}

#[test]
fn masks_of_pytorch_get_the_zeros() {
    for kind in [Dtype::F32, Dtype::BOOL] {
        let tensors: [Tensor<'_>; 2] = [("w_orig", &[10, 10], Dtype::F32), ("w_mask", &[10, 10], kind)];
        let source = file(&tensors);
        let (removed, written) = prune(&source, |config| config.sparsity = 0.8).unwrap();
        assert_eq!(removed, [80]);
        let [before, after] = [&source, &written].map(|file| {
            let [parameter] = file.parameters()[..] else { panic!() };
            (file.floats(parameter.tensor, 0..100).unwrap(), file.values(&parameter).unwrap())
        });
        assert_eq!(before.0, after.0);
        assert_eq!(after.1.iter().filter(|&&x| x != 0.0).count(), 20);
        assert!(before.1.iter().zip(&after.1).all(|(b, a)| a == b || *a == 0.0));
        // The mask has already removed more than asked for, so it stays unchanged.
        assert_eq!(prune(&source, |config| config.sparsity = 0.1).unwrap().0, [50]);
    }
}
