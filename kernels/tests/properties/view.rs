//! Views: which sizes and strides are valid, and which elements a view has.

use proptest::prelude::*;
use slth_kernels::{KernelError, MatMut, MatRef};

use crate::support::{Guarded, cases, offset};

/// Sizes and strides: small ones, and those whose products overflow.
fn extreme(most: usize) -> impl Strategy<Value = usize> {
    prop_oneof![
        20 => 0..=most,
        1 => any::<usize>(),
        1 => prop::sample::select(vec![
            usize::MAX, usize::MAX / 2, usize::MAX / 2 + 1, usize::MAX / 4, usize::MAX / 8 + 1, 1 << 32, 1 << 31,
        ]),
    ]
}

/// The expected properties of a view.
struct Expected {
    /// Index of the last element, if there is one.
    last: Option<u128>,
    /// The offsets of all elements, if there are few.
    offsets: Option<Vec<usize>>,
}

impl Expected {
    fn new([rows, cols]: [usize; 2], [row_stride, col_stride]: [usize; 2]) -> Self {
        let wide = |x: usize| x as u128;
        let last = (rows > 0 && cols > 0)
            .then(|| (wide(rows - 1) * wide(row_stride)).saturating_add(wide(cols - 1) * wide(col_stride)));
        let few = wide(rows).saturating_mul(wide(cols)) <= 1 << 12 && last.is_none_or(|last| last < 1 << 20);
        let offsets = match last {
            None => Some(Vec::new()),
            Some(_) => few.then(|| {
                let row = |r| (0..cols).map(move |c| r * row_stride + c * col_stride);
                (0..rows).flat_map(row).collect()
            }),
        };
        Self { last, offsets }
    }

    /// The error expected for a read-only view of a slice of length `len`.
    fn error(&self, len: usize) -> Option<KernelError> {
        let needed = self.last?.saturating_add(1);
        if needed > isize::MAX as u128 / 4 {
            return Some(KernelError::Overflow { what: "view" });
        }
        let needed = needed as usize;
        (needed > len).then_some(KernelError::OutOfBounds { needed, found: len })
    }

    fn is_distinct(&self) -> bool {
        // Without a list there are more elements than the slice has, so some coincide.
        let Some(mut offsets) = self.offsets.clone() else { return self.last.is_none() };
        let all = offsets.len();
        offsets.sort_unstable();
        offsets.dedup();
        offsets.len() == all
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn views_are_made_of_distinct_elements_inside(
        sizes in [extreme(9), extreme(9)],
        strides in [extreme(14), extreme(14)],
        short in 0..3_usize,
        offset in offset(),
    ) {
        let expected = Expected::new(sizes, strides);
        let needed = expected.last.map_or(0, |last| last.saturating_add(1));
        // The needed length, or up to two elements less.
        let len = if needed < 1 << 12 { (needed as usize).saturating_sub(short) } else { 60 };
        let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
        let mut data = Guarded::of(&values, offset);
        let [rows, cols] = sizes;
        let [row_stride, col_stride] = strides;
        let error = expected.error(len);
        let read = MatRef::new(&data, rows, cols, row_stride, col_stride);
        prop_assert_eq!(read.as_ref().err(), error.as_ref());
        if let Ok(view) = read {
            prop_assert_eq!([view.rows(), view.cols(), view.row_stride(), view.col_stride()], [rows, cols, row_stride, col_stride]);
            let across = view.t();
            prop_assert_eq!([across.rows(), across.cols()], [cols, rows]);
            for (at, &offset) in expected.offsets.iter().flatten().enumerate() {
                let (r, c) = (at / cols, at % cols);
                prop_assert_eq!((view.get(r, c), across.get(c, r)), (values[offset], values[offset]));
            }
        }
        let distinct = expected.is_distinct();
        let written = MatMut::new(&mut data, rows, cols, row_stride, col_stride);
        let error = error.or_else(|| (!distinct).then_some(KernelError::Overlap));
        prop_assert_eq!(written.as_ref().err(), error.as_ref());
        if let (Ok(mut view), Some(offsets)) = (written, &expected.offsets) {
            view.fill(-1.0);
            prop_assert!(offsets.is_empty() || view.as_ref().get(rows - 1, cols - 1) == -1.0);
            prop_assert_eq!([view.reborrow().t().rows(), view.as_ref().cols()], [cols, cols]);
            for (at, (&found, &before)) in data.iter().zip(&values).enumerate() {
                prop_assert_eq!(found, if offsets.contains(&at) { -1.0 } else { before });
            }
        }
    }

    /// A view without strides needs a slice with exactly as many elements as the matrix.
    #[test]
    fn lengths_fit_or_are_errors(rows in extreme(9), cols in extreme(9), len in 0..90_usize, exact in any::<bool>()) {
        let product = rows.checked_mul(cols);
        let len = if exact { product.filter(|&n| n < 100).unwrap_or(len) } else { len };
        let mut data = vec![1.0; len];
        let error = match product {
            None => Some(KernelError::Overflow { what: "view" }),
            Some(expected) if expected != len => Some(KernelError::Length { what: "view", expected, found: len }),
            _ => None,
        };
        prop_assert_eq!(MatRef::row_major(&data, rows, cols).err(), error.clone());
        prop_assert_eq!(MatRef::col_major(&data, rows, cols).err(), error.clone());
        prop_assert_eq!(MatMut::row_major(&mut data, rows, cols).err(), error.clone());
        prop_assert_eq!(MatMut::col_major(&mut data, rows, cols).err(), error);
        if product == Some(len) {
            let [down, along] = [MatRef::col_major(&data, rows, cols), MatRef::row_major(&data, cols, rows)];
            let (down, along) = (down.unwrap(), along.unwrap().t());
            prop_assert_eq!([down.row_stride(), down.col_stride()], [along.row_stride(), along.col_stride()]);
        }
    }
}
