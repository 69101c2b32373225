use super::bits::spread;
use super::*;
use crate::engine::Engine;

#[test]
fn transposes() {
    for (rows, columns) in [(1, 1), (3, 5), (64, 64), (65, 63), (70, 130), (1, 200), (200, 1), (0, 4)] {
        let mask = PackedMask::from_fn(rows * columns, |i| i * i % 7 < 3);
        let mut out = PackedMask::all_kept(rows * columns);
        mask.view().transpose_into(rows, columns, &mut out);
        let expected = PackedMask::from_fn(rows * columns, |i| mask.get(i % rows * columns + i / rows));
        assert_eq!(out, expected, "{rows}×{columns}");
    }
}

#[test]
fn words_begin_anywhere() {
    let mask = PackedMask::from_fn(200, |i| i % 3 == 0 || i % 7 == 0);
    for start in 0..200 {
        let expected =
            (0..64).filter(|i| start + i < 200 && mask.get(start + i)).fold(0, |b, i| b | 1_u64 << i);
        assert_eq!(mask.view().word(start), expected, "{start}");
    }
}

#[test]
fn the_tail_stays_clear() {
    for len in [0, 1, 63, 64, 65, 130] {
        assert_eq!(PackedMask::all_kept(len).kept(), len);
        let words = vec![u64::MAX; len.div_ceil(64)];
        assert_eq!(PackedMask::from_words(len, words), Ok(PackedMask::all_kept(len)));
    }
    assert!(PackedMask::from_words(65, vec![0]).is_err());
}

/// 0, 1, 2, multiples of a byte and a word and their neighbours, primes.
const LENGTHS: [usize; 16] = [0, 1, 2, 7, 8, 9, 63, 64, 65, 97, 127, 128, 129, 130, 193, 1009];

fn bools(len: usize) -> Vec<bool> {
    (0..len).map(|i| i * i % 7 < 3).collect()
}

/// The mask's words, with every bit after the last weight set.
fn dirty(keep: &[bool]) -> Vec<u64> {
    let mut words = vec![u64::MAX; keep.len().div_ceil(64)];
    for (i, _) in keep.iter().enumerate().filter(|&(_, &keep)| !keep) {
        words[i / 64] &= !(1 << (i % 64));
    }
    words
}

#[test]
fn booleans_and_back() {
    for len in LENGTHS {
        for keep in [bools(len), vec![false; len], vec![true; len]] {
            let mask = PackedMask::from_bools(&keep);
            assert_eq!(mask, PackedMask::from_words(len, dirty(&keep)).unwrap(), "{len}");
            assert_eq!(mask, PackedMask::from_fn(len, |i| keep[i]), "{len}");
            assert!((0..len).all(|i| mask.get(i) == keep[i]), "{len}");
            for before in [false, true] {
                let mut out = vec![before; len];
                mask.write_bools(&mut out).unwrap();
                assert_eq!(out, keep);
            }
        }
    }
}

#[test]
fn every_byte_of_a_word() {
    for byte in 0..=255_u8 {
        for at in 0..8 {
            let word = u64::from(byte) << (8 * at);
            assert_eq!(spread(word), core::array::from_fn(|i| word >> i & 1 != 0));
            assert_eq!(gather(&spread(word)), word);
            assert_eq!(gather(&spread(!word)), !word);
        }
    }
}

#[test]
fn another_length_writes_nothing() {
    for (len, found) in [(0, 1), (1, 0), (64, 63), (64, 65), (65, 64), (65, 128)] {
        let mut out = vec![true; found];
        let error = KernelError::Length { what: "booleans", expected: len, found };
        assert_eq!(PackedMask::none_kept(len).write_bools(&mut out), Err(error));
        assert!(out.iter().all(|&x| x));
    }
}

#[test]
fn a_function_is_called_in_order() {
    for len in LENGTHS {
        let mut calls = Vec::new();
        let mask = PackedMask::from_fn(len, |i| {
            calls.push(i);
            calls.len() % 2 == 1
        });
        assert!(calls.into_iter().eq(0..len));
        assert!(mask.kept_indices().eq((0..len).step_by(2)));
    }
}

#[test]
fn bits_after_the_last_weight_are_ignored() {
    for len in LENGTHS {
        for keep in [bools(len), vec![false; len], vec![true; len]] {
            let words = dirty(&keep);
            let mask = PackedMaskRef::from_words(len, &words).unwrap();
            let clear = PackedMask::from_bools(&keep);
            let kept: Vec<_> = (0..len).filter(|&i| keep[i]).collect();

            assert_eq!((mask.len(), mask.is_empty(), mask.words()), (len, len == 0, &words[..]));
            assert_eq!((mask.kept(), mask.removed()), (kept.len(), len - kept.len()));
            assert!((0..len).all(|i| mask.get(i) == keep[i]));
            assert!(mask.iter().eq(keep.iter().copied()));
            assert!(mask.kept_indices().eq(kept.iter().copied()));
            assert_eq!((mask, mask.to_owned()), (PackedMaskRef::from(&clear), clear.clone()));

            let mut out = vec![true; len];
            mask.write_bools(&mut out).unwrap();
            assert_eq!(out, keep);

            let mut values = vec![f32::NAN; len];
            mask.apply(&mut values).unwrap();
            assert!(values.iter().zip(&keep).all(|(x, &keep)| x.is_nan() == keep && (keep || *x == 0.0)));

            for start in 0..len + 130 {
                assert_eq!(mask.word(start), clear.view().word(start), "{start} of {len}");
                for count in [0, 1, 63, 64, 65, 200] {
                    let expected = kept.iter().filter(|&&i| (start..start + count).contains(&i)).count();
                    assert_eq!(mask.kept_in(start, count), expected, "{count} from {start} of {len}");
                }
            }
        }
    }
}

#[test]
fn transposes_without_the_bits_after_the_last_weight() {
    for (rows, columns) in [(1, 1), (3, 5), (7, 19), (65, 63), (13, 10), (1, 130), (130, 1), (0, 4)] {
        let keep = bools(rows * columns);
        let words = dirty(&keep);
        let mut out = PackedMask::all_kept(keep.len());
        PackedMaskRef::from_words(keep.len(), &words).unwrap().transpose_into(rows, columns, &mut out);
        let expected = PackedMask::from_fn(keep.len(), |i| keep[i % rows * columns + i / rows]);
        assert_eq!(out, expected, "{rows}×{columns}");
    }
}

#[test]
fn on_every_backend() {
    for backend in crate::Backend::available() {
        let engine = Engine::new(backend);
        for len in LENGTHS {
            let keep = bools(len);
            let words = dirty(&keep);
            let mask = PackedMaskRef::from_words(len, &words).unwrap();
            assert_eq!(mask.kept_on(engine), keep.iter().filter(|&&keep| keep).count());
            let mut values = vec![f32::NAN; len];
            mask.apply_on(engine, &mut values);
            assert!(values.iter().zip(&keep).all(|(x, &keep)| x.is_nan() == keep), "{backend:?} {len}");
        }
    }
}

#[test]
fn borrowed_masks_compare_by_their_weights() {
    let mask = |len, words| PackedMaskRef::from_words(len, words).unwrap();
    assert_eq!(mask(3, &[0b101]), mask(3, &[0b1_0101]));
    assert_ne!(mask(3, &[0b101]), mask(3, &[0b111]));
    assert_ne!(mask(3, &[0b101]), mask(4, &[0b101]));
    assert_ne!(mask(65, &[0, 0]), mask(65, &[1, 0]));
}

#[test]
#[should_panic(expected = "mask index 3 out of 3")]
fn no_bit_after_the_last_weight_is_read() {
    PackedMaskRef::from_words(3, &[u64::MAX]).unwrap().get(3);
}

#[test]
fn refuses_another_number_of_words() {
    for (len, count) in [(0_usize, 1), (1, 0), (64, 0), (64, 2), (65, 1), (65, 3)] {
        let error = KernelError::Length { what: "mask words", expected: len.div_ceil(64), found: count };
        assert_eq!(PackedMaskRef::from_words(len, &vec![0; count]), Err(error.clone()));
        assert_eq!(PackedMask::from_words(len, vec![0; count]), Err(error));
    }
}
