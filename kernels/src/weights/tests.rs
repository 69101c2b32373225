use super::*;
use crate::backend::Backend;
use crate::matmul::{Epilogue, Workspace, forward};
use crate::view::MatMut;

fn wave(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 37 % 101) as f32 / 7.0 - 6.0).collect()
}

fn sparse() -> PrepareOptions {
    PrepareOptions::default().strategy(Strategy::Sparse)
}

/// Options that select each of the sparse formats.
fn sparse_formats() -> [PrepareOptions; 3] {
    [sparse().max_batch(16), sparse().max_batch(128), sparse().strategy(Strategy::Bitmask)]
}

fn prepare(
    engine: Engine,
    weights: &[f32],
    rows: usize,
    mask: Option<&PackedMask>,
    options: &PrepareOptions,
) -> PackedWeights {
    let weights = MatRef::row_major(weights, rows, weights.len().checked_div(rows).unwrap_or(0)).unwrap();
    PackedWeights::prepare(engine, weights, mask, options).unwrap()
}

/// Checks that the format holds exactly the weights given by `weight`, each row's in order.
fn check(oriented: &Oriented, weight: &dyn Fn(usize, usize) -> Option<f32>) {
    let &Oriented { rows, columns, ref packed, .. } = oriented;
    let mut found = vec![Vec::new(); rows];
    let put = |row: usize, column: usize, weight: f32| found[row].push((column, weight));
    match packed {
        Packed::Blocked(blocked) => blocked.for_each(put),
        Packed::Interleaved(interleaved) => interleaved.for_each(put),
        Packed::Bitmask(bitmask) => bitmask.for_each(put),
        Packed::Source | Packed::Dense(_) | Packed::Panels(_) => panic!("a sparse format"),
    }
    for (row, found) in found.iter().enumerate() {
        let expected: Vec<_> = (0..columns).filter_map(|c| weight(row, c).map(|w| (c, w))).collect();
        assert_eq!(*found, expected, "{rows}×{columns} row {row}");
    }
}

/// Checks the weights and, if present, their transpose.
fn check_both(layer: &PackedWeights, weights: &[f32], mask: &PackedMask) {
    let (columns, storage) = (layer.inputs(), layer.options().storage);
    let kept = |at: usize| mask.get(at).then(|| storage.round(weights[at]));
    check(&layer.forward, &|r, c| kept(r * columns + c));
    if let Some(transpose) = &layer.transpose {
        check(&transpose.weights, &|r, c| kept(c * columns + r));
    }
}

#[test]
fn what_is_stored_are_the_kept_weights_in_order() {
    for backend in Backend::available() {
        for threads in [1, 2, 3, 7] {
            let engine = Engine::new(backend).with_threads(threads).share_from(0);
            let shapes = [(1, 1), (3, 7), (5, 96), (2, 97), (7, 193), (11, 400), (130, 1000), (1030, 40)];
            for (number, ((rows, columns), options)) in
                shapes.into_iter().flat_map(|s| sparse_formats().map(|o| (s, o))).enumerate()
            {
                let weights: Vec<f32> = (0..rows * columns).map(|i| i as f32 + 0.5).collect();
                // bf16 stores rounded weights, which `check_both` takes into account.
                let storage = [Storage::F32, Storage::Bf16][number / 2 % 2];
                let options = options.input_gradient(true).storage(storage);
                let mut layer = prepare(engine, &weights, rows, None, &options);
                check_both(&layer, &weights, &PackedMask::all_kept(weights.len()));
                for modulus in [1, 2, 3, 10, 97, 100_000] {
                    let mask = PackedMask::from_fn(rows * columns, |i| i * 7 % modulus == 0);
                    layer.rebuild(engine, &mask).unwrap();
                    assert_eq!(layer.kept(), mask.kept());
                    check_both(&layer, &weights, &mask);
                }
            }
        }
    }
}

#[test]
fn weights_prepared_on_one_backend_serve_every_other() {
    let (rows, columns, batch) = (21, 600, 150);
    let weights = wave(rows * columns);
    let x = wave(columns * batch);
    for modulus in [2, 3, 10] {
        let mask = PackedMask::from_fn(rows * columns, |i| i * 7 % modulus == 0);
        let mut first: Option<Vec<f32>> = None;
        for of in Backend::available() {
            let layer = prepare(Engine::new(of), &weights, rows, Some(&mask), &sparse());
            for on in Backend::available() {
                let mut y = vec![f32::NAN; rows * batch];
                let x = MatRef::row_major(&x, columns, batch).unwrap();
                let y_view = MatMut::row_major(&mut y, rows, batch).unwrap();
                let (engine, workspace) = (Engine::new(on), &mut Workspace::default());
                forward(engine, &layer, x, &Epilogue::default(), y_view, workspace).unwrap();
                let expected = first.get_or_insert_with(|| y.clone());
                assert_eq!(*expected, y, "{on} for {of}");
            }
        }
    }
}

/// A sequence of new masks and new weights for one layer, on changing backends.
#[test]
fn masks_and_weights_follow_each_other() {
    let (rows, columns) = (23, 700);
    let mut weights: Vec<f32> = (0..rows * columns).map(|i| i as f32 + 0.5).collect();
    let storages = [Storage::F32, Storage::Bf16];
    for (options, storage) in sparse_formats().into_iter().flat_map(|options| storages.map(|s| (options, s)))
    {
        let options = options.input_gradient(true).storage(storage);
        let mut layer = prepare(Engine::serial(), &weights, rows, None, &options);
        for step in 0..60_usize {
            let backends = Backend::available();
            let engine = Engine::new(backends[step / 3 % backends.len()]);
            let mask = PackedMask::from_fn(weights.len(), |i| i * 7 % (1 + step * 5 % 31) == 0);
            layer.rebuild(engine, &mask).unwrap();
            check_both(&layer, &weights, &mask);
            if step % 7 == 0 {
                weights.iter_mut().for_each(|w| *w += 1.0);
                layer.set_weights(engine, MatRef::row_major(&weights, rows, columns).unwrap()).unwrap();
                check_both(&layer, &weights, &mask);
            }
        }
    }
}

#[test]
fn the_table_chooses() {
    let engine = Engine::new(Backend::scalar());
    let format = |kept: usize, options: PrepareOptions| choose(engine, 100, kept, &options);
    let many = PrepareOptions::default();
    assert_eq!(format(85, many), Format::Dense);
    assert_eq!(format(84, many), Format::Blocked);
    for (max_batch, near, far, bf16, once) in [
        (0, 22, 66, 25, 20),
        (1, 22, 66, 25, 20),
        (2, 22, 66, 25, 30),
        (3, 22, 66, 22, 35),
        (4, 22, 66, 22, 35),
        (5, 30, 66, 28, 35),
        (8, 30, 66, 28, 35),
        (9, 55, 65, 48, 35),
        (16, 55, 65, 48, 35),
        (17, 55, 70, 55, 60),
        (32, 55, 70, 55, 60),
        (33, 60, 60, 60, 60),
        (63, 60, 60, 60, 60),
        (64, 85, 85, 85, 85),
    ] {
        let options = many.max_batch(max_batch);
        let sparse = if max_batch <= 32 { Format::Interleaved } else { Format::Blocked };
        let large = 100 << 13;
        for (weights, percent, options, sparse) in [
            (100_usize, near, options, sparse),
            (3 << 18, near, options, sparse),
            (large, far, options, sparse),
            (100, bf16, options.storage(Storage::Bf16), sparse),
            (large, bf16, options.storage(Storage::Bf16), sparse),
            (100, once, options.reuse(MaskReuse::Once), Format::Blocked),
            (large, once, options.reuse(MaskReuse::Once), Format::Blocked),
        ] {
            let kept = (weights * percent).div_ceil(100);
            assert_eq!(choose(engine, weights, kept, &options), Format::Dense, "{weights} {options:?}");
            assert_eq!(choose(engine, weights, kept - 1, &options), sparse, "{weights} {options:?}");
        }
    }
    assert_eq!(format(0, many.strategy(Strategy::Dense)), Format::Dense);
    assert_eq!(format(100, many.strategy(Strategy::Sparse)), Format::Blocked);
    assert_eq!(choose(engine, 0, 0, &many), Format::Dense);
    assert_eq!(format(100, many.strategy(Strategy::Bitmask)), Format::Bitmask);

    for backend in Backend::available() {
        let engine = Engine::new(backend);
        let weights = (3_usize << 18) + 100;
        let (least, many_columns) = ((weights * 30).div_ceil(100), (weights * 45).div_ceil(100));
        for (max_batch, kept, format) in [
            (1, least, Format::Bitmask),
            (4, least, Format::Bitmask),
            (4, least - 1, Format::Interleaved),
            (5, many_columns - 1, Format::Interleaved),
            (8, many_columns, Format::Bitmask),
            (9, many_columns, Format::Interleaved),
        ] {
            let format = if backend.name() == "avx512" { format } else { Format::Interleaved };
            let options = many.max_batch(max_batch);
            assert_eq!(choose(engine, weights, kept, &options), format, "{backend} {kept} {max_batch}");
        }
        let once = many.max_batch(1).reuse(MaskReuse::Once);
        assert_eq!(choose(engine, weights, weights / 10, &once), Format::Blocked);
    }
}

/// No format holds more memory than it needs.
#[test]
fn each_format_holds_what_it_needs() {
    let (engine, weights) = (Engine::serial(), wave(100 * 300));
    let mask = PackedMask::from_fn(weights.len(), |i| i % 10 == 0);
    let (all, kept, bits) = (4 * weights.len(), 8 * mask.kept(), size_of_val(mask.words()));
    let bytes = |options: &PrepareOptions| prepare(engine, &weights, 100, Some(&mask), options).bytes();
    // Row starts take little additional memory.
    let near =
        |found: usize, expected: usize| assert!((expected..expected + 8 * 1024).contains(&found), "{found}");
    near(bytes(&sparse()), all + kept + bits);
    near(bytes(&sparse().keep_source(false)), kept + bits);
    near(bytes(&sparse().input_gradient(true)), 2 * (all + kept + bits));
    near(bytes(&sparse().input_gradient(true).keep_source(false)), 2 * kept + bits);
    let few = sparse().max_batch(16).keep_source(false);
    near(bytes(&few), 6 * mask.kept() + bits);
    near(bytes(&few.storage(Storage::Bf16)), 4 * mask.kept() + bits);
    let dense = PrepareOptions::default().strategy(Strategy::Dense);
    near(bytes(&dense), 2 * all + bits);
    near(bytes(&dense.keep_source(false).input_gradient(true)), all + bits);
    near(prepare(engine, &weights, 100, None, &dense.input_gradient(true)).bytes(), all);
    // Memory of the sparse format is freed when a denser mask makes the format dense.
    let auto = PrepareOptions::default().max_batch(128).input_gradient(true);
    let mut layer = prepare(engine, &weights, 100, Some(&mask), &auto);
    layer.rebuild(engine, &PackedMask::all_kept(weights.len())).unwrap();
    assert_eq!(layer.format(), Format::Dense);
    near(layer.bytes(), 2 * all + bits);
    // Panels have 16 rows: 7 panels for the weights, 19 for their transpose.
    let few = dense.max_batch(16).keep_source(false);
    near(bytes(&few), 112 * 300 * 4 + bits);
    near(bytes(&few.storage(Storage::Bf16)), 112 * 300 * 2 + bits);
    near(bytes(&few.input_gradient(true)), (112 * 300 + 304 * 100) * 4 + bits);
    near(bytes(&few.keep_source(true).input_gradient(true)), 2 * (all + bits) + (112 * 300 + 304 * 100) * 4);
}

#[test]
fn rebuilding_reuses_the_memory() {
    let (engine, weights) = (Engine::serial(), wave(64 * 500));
    let mask = |modulus| PackedMask::from_fn(weights.len(), |i| i % modulus == 0);
    let mut layer = prepare(engine, &weights, 64, Some(&mask(2)), &sparse().input_gradient(true));
    let before = layer.bytes();
    for modulus in [3, 2, 50, 2] {
        layer.rebuild(engine, &mask(modulus)).unwrap();
    }
    // The number of row starts may differ between masks.
    assert!(layer.bytes() < before + 16 * 1024);

    // As many weights at other positions: the zeros that pad the last group's rows may differ in length.
    let weights = wave(61 * 500);
    let mask = |row: usize| PackedMask::from_fn(weights.len(), |i| i / 500 % 61 >= row && i / 500 < row + 8);
    let mut layer = prepare(engine, &weights, 61, Some(&mask(0)), &sparse().max_batch(16));
    let before = layer.bytes();
    for row in [53, 20, 53] {
        layer.rebuild(engine, &mask(row)).unwrap();
        assert_eq!(layer.bytes(), before);
    }
}

#[test]
fn without_their_source_weights_take_no_other_mask() {
    let (engine, weights) = (Engine::serial(), wave(12));
    let mask = PackedMask::from_fn(12, |i| i % 2 == 0);
    for strategy in [Strategy::Sparse, Strategy::Dense] {
        let options = PrepareOptions::default().strategy(strategy).keep_source(false);
        let mut layer = prepare(engine, &weights, 3, Some(&mask), &options);
        assert_eq!(layer.rebuild(engine, &mask), Err(KernelError::NoSource));
        layer.set_weights(engine, MatRef::row_major(&[1.0; 12], 3, 4).unwrap()).unwrap();
        assert_eq!(layer.kept(), 6);
    }
}

#[test]
fn bytes_bring_the_weights_back() {
    let weights = wave(23 * 70);
    let mask = PackedMask::from_fn(weights.len(), |i| i * i % 5 < 2);
    let x = wave(70 * 9);
    let engine = Engine::serial();
    for mask in [None, Some(&mask)] {
        for strategy in [Strategy::Auto, Strategy::Sparse, Strategy::Dense] {
            for (keep_source, storage, reuse) in [
                (true, Storage::F32, MaskReuse::Once),
                (false, Storage::F32, MaskReuse::Many),
                (true, Storage::Bf16, MaskReuse::Many),
                (false, Storage::Bf16, MaskReuse::Many),
            ] {
                let options = PrepareOptions::default()
                    .strategy(strategy)
                    .keep_source(keep_source)
                    .storage(storage)
                    .max_batch(9)
                    .reuse(reuse);
                let layer = prepare(engine, &weights, 23, mask, &options);
                let bytes = layer.to_bytes();
                let again = PackedWeights::from_bytes(engine, &bytes).unwrap();
                assert_eq!(again.to_bytes(), bytes);
                assert_eq!((again.kept(), again.format()), (layer.kept(), layer.format()));
                assert_eq!(again.options(), layer.options());
                let product = |layer: &PackedWeights| {
                    let mut y = vec![0.0; 23 * 9];
                    let x = MatRef::row_major(&x, 70, 9).unwrap();
                    let y_view = MatMut::row_major(&mut y, 23, 9).unwrap();
                    forward(engine, layer, x, &Epilogue::default(), y_view, &mut Workspace::default())
                        .unwrap();
                    y
                };
                assert_eq!(product(&again), product(&layer));
                // Every truncation is refused, and no value of a byte causes a panic.
                for len in 0..bytes.len() {
                    assert!(PackedWeights::from_bytes(engine, &bytes[..len]).is_err());
                }
                for at in 0..60.min(bytes.len()) {
                    for value in [0, 1, 2, 0x7f, 0xff] {
                        let mut other = bytes.clone();
                        other[at] = value;
                        let _ = PackedWeights::from_bytes(engine, &other);
                    }
                }
            }
        }
    }
}

#[test]
fn bytes_of_nothing_are_refused() {
    let (engine, weights) = (Engine::serial(), wave(3 * 40));
    let mask = PackedMask::from_fn(weights.len(), |i| i % 3 == 0);
    let layer = prepare(engine, &weights, 3, Some(&mask), &sparse().keep_source(false));
    let bytes = layer.to_bytes();
    let refused = |bytes: &[u8]| match PackedWeights::from_bytes(engine, bytes) {
        Ok(_) => "",
        Err(KernelError::Malformed { why, .. }) => why,
        Err(other) => panic!("{other}"),
    };
    let with = |at: usize, value: u8| {
        let mut other = bytes.clone();
        other[at] = value;
        refused(&other)
    };
    let (foreign, length) =
        ("none of packed weights, or of another version", "cut off, or longer than they say");
    let value = "a field has a value that is never written";
    // Magic and version.
    (0..8).for_each(|at| assert_eq!(with(at, bytes[at] + 1), foreign, "{at}"));
    // Strategy and flags follow after three sizes of 8 bytes.
    for (at, values) in (32..38).zip([4, 2, 2, 2, 2, 2]) {
        (values..=255).for_each(|byte| assert_eq!(with(at, byte), value, "{at} {byte}"));
    }
    // Flags that promise the source, or weights without a mask, need more bytes.
    assert_eq!(with(35, 1), length);
    assert_eq!(with(36, 0), length);
    // bf16 storage needs fewer bytes.
    assert_eq!(with(37, 1), length);
    // A mask that keeps another number of weights needs another length.
    assert_eq!(with(38, !bytes[38]), length);
    // The mask must not have bits after the last of the 120 weights.
    assert_eq!(with(38 + 15, bytes[38 + 15] | 0x80), value);
    assert_eq!(with(34, 1), "");
    for more in [1, 4, 8] {
        let longer = [&bytes[..], &vec![0; more]].concat();
        assert_eq!(refused(&longer), length);
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let engine = Engine::serial();
    let weights = MatRef::row_major(&[0.0; 6], 2, 3).unwrap();
    let mask = PackedMask::all_kept(7);
    let length = KernelError::Length { what: "mask", expected: 6, found: 7 };
    let options = PrepareOptions::default();
    assert_eq!(PackedWeights::prepare(engine, weights, Some(&mask), &options).unwrap_err(), length);
    for (rows, columns) in [(1 << (usize::BITS / 2), 1 << (usize::BITS / 2)), (usize::MAX, 1)] {
        let repeated = MatRef::new(&[1.0], rows, columns, 0, 0).unwrap();
        let overflow = KernelError::Overflow { what: "weights" };
        assert_eq!(PackedWeights::prepare(engine, repeated, None, &options).unwrap_err(), overflow);
    }
    let mut layer = PackedWeights::prepare(engine, weights, None, &options).unwrap();
    assert_eq!(layer.rebuild(engine, &mask), Err(length));
    let shape = KernelError::Shape { what: "weights", expected: [2, 3], found: [3, 2] };
    assert_eq!(layer.set_weights(engine, weights.t()), Err(shape));
}
